/* The executor behind the door: its health, what the watches tell it, its start and stop. What becomes of an attempt is in
 * attempt.c, what its wrapper reports in listener.c. */
#include "executor/kubernetes/kubernetes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "executor/kubernetes/internal.h"
#include "io/redis.h"

#define CONNECTIONS 64 /* to the API server, those of the watches included, but not of the logs that are followed */
#define REFUSED_PAUSE_MS 30000 /* before the API server is asked again for what it has refused us */
#define QUOTA_PAUSE_US (1 * US_PER_S) /* before something is begun again where a quota is used up: doubles, up to … */
#define QUOTA_PAUSE_MAX_US (30 * US_PER_S)
#define WAIT_MAX_US (300 * US_PER_S)

static struct kubernetes *kubernetes_of(const struct executor *executor)
{
	return CONTAINER_OF((struct executor *)executor, struct kubernetes, executor);
}

/* ---- status ---- */

static void on_news(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	k->told->on_changed(k->owner, &k->executor);
}

static void news(struct kubernetes *k)
{
	if (k->state == STATE_RUNNING)
		uv_timer_start(&k->news, on_news, 0, 0);
}

void kubernetes_count(struct kubernetes *k)
{
	int busy = k->staged[KUBE_STARTING] + k->staged[KUBE_RUNNING];
	int room = k->options.slots - busy,
	    may_start = k->is_full || k->is_asked_to_wait ? 0 : k->options.starting_max - k->staged[KUBE_STARTING];
	int before = k->status.slots - k->status.busy;
	k->status.busy = busy;
	k->status.slots = busy + (room < may_start ? MAX(room, 0) : MAX(may_start, 0));
	if (k->status.slots - busy > before)
		news(k);
}

void kubernetes_changed(struct kubernetes *k)
{
	const struct err *why = !k->jobs_up ? &k->jobs_err : !k->pods_up ? &k->pods_err : NULL;
	bool is_unknown = listener_is_unknown(k);
	k->status.health = why || is_unknown || k->is_refused ? EXECUTOR_UNAVAILABLE : EXECUTOR_HEALTHY;
	if (why)
		snprintf(k->detail, sizeof(k->detail), "%s", why->message);
	else if (is_unknown && !k->is_refused)
		snprintf(k->detail, sizeof(k->detail),
			"attempt_address: pods do not reach us at %s, the address that the API server is reached from",
			kube_client_local_address(k->client));
	else if (!k->is_refused)
		snprintf(k->detail, sizeof(k->detail), "namespace %s of %s", k->namespace,
			kube_access_description(kube_client_access(k->client)));
	k->status.detail = bytes_of(k->detail);
	kubernetes_check(k, why);
	news(k);
}

static void on_refused_over(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	k->is_refused = false;
	kubernetes_changed(k);
}

void kubernetes_refused(struct kubernetes *k, const struct err *err)
{
	k->is_refused = true;
	snprintf(k->detail, sizeof(k->detail), "%s", err->message);
	uv_timer_start(&k->refused, on_refused_over, REFUSED_PAUSE_MS, 0);
	kubernetes_changed(k);
}

static void on_quota_over(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	k->is_full = false;
	kubernetes_count(k);
}

void kubernetes_full(struct kubernetes *k)
{
	if (k->is_full)
		return;
	k->is_full = true;
	int64_t pause_us = kube_pause_us(++k->quota_failures, QUOTA_PAUSE_US, QUOTA_PAUSE_MAX_US);
	uv_timer_start(&k->quota, on_quota_over, (uint64_t)(pause_us / US_PER_MS), 0);
	kubernetes_count(k);
}

static void on_wait_over(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	k->is_asked_to_wait = false;
	kubernetes_count(k);
}

void kubernetes_wait(struct kubernetes *k, int64_t pause_us)
{
	uint64_t pause_ms = (uint64_t)(MIN(pause_us, WAIT_MAX_US) / US_PER_MS);
	if (k->is_asked_to_wait && uv_timer_get_due_in(&k->wait) > pause_ms)
		return;
	k->is_asked_to_wait = true;
	uv_timer_start(&k->wait, on_wait_over, pause_ms, 0);
	kubernetes_count(k);
}

void kubernetes_not_full(struct kubernetes *k)
{
	k->quota_failures = 0;
	if (!k->is_full)
		return;
	uv_timer_stop(&k->quota);
	on_quota_over(&k->quota);
}

/* ---- what the watches see ---- */

static void take_message(struct kube_attempt *attempt, const struct pod *pod)
{
	uint8_t scratch[REPORT_TEXT_MAX];
	struct report_frame frame;
	const struct job_started where = { .node = pod->node, .pod = pod->name, .image = pod->image };
	if (pod->report.len == 0 || attempt->account.end)
		return;
	if (report_text_parse(&attempt->decoder, pod->report.data, pod->report.len, scratch, &frame))
		account_frame(&attempt->account, &frame, &where);
	else if (!attempt->account.watched && report_text_is_ours(pod->report.data, pod->report.len))
		attempt->kubernetes->forged++;
}

static void tell_waiting(struct kube_attempt *attempt, const struct pod *pod)
{
	enum job_wait_for what = JOB_WAIT_NONE;
	if (pod->stage == POD_WAITING && pod->message[0] != '\0')
		what = JOB_WAIT_CAPACITY;
	else if (pod->stage == POD_STUCK && pod->reason == REASON_IMAGE_PULL)
		what = JOB_WAIT_IMAGE;
	bool waits = pod->stage == POD_WAITING || pod->stage == POD_STUCK;
	kube_attempt_waits(attempt, what, waits ? pod->message : NULL);
}

static void told_to_end(struct kube_attempt *attempt, enum task_reason reason, const char *message)
{
	const struct kubernetes_executor_options *options = &attempt->kubernetes->options;
	kube_attempt_deadline(attempt, reason, options->manifest.grace_us + options->gone_grace_us, message);
}

/* What is left of the one run's time. Its beginning is told in whole seconds, rounded down (metav1.Time): nobody loses the rest of one. */
static int64_t time_left_us(const struct kube_attempt *attempt)
{
	const struct job *job = attempt->job;
	int64_t began_us = job->started_at_us > 0 ? job->started_at_us : attempt->account.started_at_us;
	int64_t all_us = job->runs[0].timeout_us,
		left_us = began_us > 0 ? all_us - (clock_wall_us() - began_us - US_PER_S) : all_us;
	return left_us < 0 ? 0 : MIN(left_us, all_us);
}

static void kube_attempt_pod(struct kube_attempt *attempt, const struct pod *pod, bool gone)
{
	struct kubernetes *k = attempt->kubernetes;
	bool has_ended = pod->stage == POD_SUCCEEDED || pod->stage == POD_FAILED;
	if (has_ended)
		take_message(attempt, pod);
	account_pod(&attempt->account, pod);
	attempt->leaving = pod->leaving;
	attempt->told_to_end = pod->deleted_at_us > 0;
	tell_waiting(attempt, pod);
	if (attempt->account.end)
		kube_attempt_over(attempt);
	else if (gone)
		kube_attempt_gone(attempt, "the pod was deleted");
	else if (attempt->told_to_end || attempt->account.cancelled)
		told_to_end(
			attempt, REASON_NODE_LOST, "the pod was told to end, and its node does not say that it did");
	else if (pod->stage == POD_STUCK)
		kube_attempt_deadline(attempt, pod->reason,
			pod->reason == REASON_IMAGE_PULL ? k->options.image_grace_us
							 : k->options.manifest.start_timeout_us,
			pod->message);
	else if (pod->stage == POD_PREPARING)
		kube_attempt_deadline(attempt, REASON_START_TIMEOUT, k->options.manifest.start_timeout_us,
			"it had a node, but did not start in time");
	else if (pod->stage == POD_RUNNING && attempt->account.watched)
		kube_attempt_deadline(attempt, REASON_TIMEOUT, time_left_us(attempt), "");
	else
		kube_attempt_no_deadline(attempt);
	kube_attempt_staged(attempt);
}

/* By what its status says. Of a success the wrapper says so itself. */
static bool ended_by_itself(const struct kube_attempt *attempt, const struct pod *pod)
{
	return (pod->stage == POD_SUCCEEDED && attempt->account.watched) ||
	       (pod->stage == POD_FAILED && (pod->reason == REASON_EXIT_CODE || pod->reason == REASON_SIGNAL));
}

void kubernetes_pod_changed(struct kubernetes *k, enum kube_change change, yyjson_val *object)
{
	struct pod pod;
	if (!pod_read(object, &pod) || pod.attempt == 0)
		return;
	struct kube_attempt *attempt = kube_attempt_find(k, &pod.task_id, pod.attempt);
	bool is_read = attempt && attempt->job && (pod.stage == POD_SUCCEEDED || pod.stage == POD_FAILED);
	if (change != KUBE_DELETED && !is_read) /* its log may be wanted; it goes when the attempt does */
		sweep_orphan(k, &pod, object);
	if (!attempt || !attempt->job)
		return;
	attempt->seen[LOOK_PODS] = k->sweep.look[LOOK_PODS];
	if (!attempt->pod_uid && attempt->job->pod.len > 0 && !bytes_equal(pod.name, attempt->job->pod)) {
		kube_attempt_gone(attempt, "the pod was replaced by another");
		return;
	}
	uint64_t uid = hash_bytes(pod.uid);
	if (!attempt->pod_uid) {
		attempt->pod_uid = uid;
		attempt->pod_name = bytes_copy_string(pod.name);
		attempt->pod_since = k->sweep.lists + 1;
	}
	events_forget(attempt);
	if (attempt->pod_uid != uid) {
		kube_attempt_gone(attempt, "the pod was replaced by another");
		return;
	}
	if (!attempt->node_name && pod.node.len > 0) /* once a pod has one it keeps it */
		attempt->node_name = bytes_copy_string(pod.node);
	attempt->has_run |= pod.started_at_us > 0;
	/* Whatever it exited with: it was to. The node's clock may say something else. */
	if (attempt->told_to_end && ended_by_itself(attempt, &pod)) {
		pod.stage = POD_FAILED;
		pod.reason = attempt->leaving;
	}
	if (!logs_hold(attempt, &pod, change == KUBE_DELETED, object))
		kube_attempt_pod(attempt, &pod, change == KUBE_DELETED);
}

static void on_pod(void *owner, enum kube_change change, yyjson_val *object)
{
	kubernetes_pod_changed(owner, change, object);
}

static void kube_attempt_job_deleted(struct kube_attempt *attempt)
{
	if (!attempt->pod_uid)
		kube_attempt_lost(attempt, REASON_DELETED, "the Job was deleted");
	else if (!attempt->leaving) /* else it is known already that the pod goes */
		told_to_end(attempt, REASON_DELETED, "the Job was deleted");
}

/* The watch tells that its Job was made. */
static void kube_attempt_heard(struct kube_attempt *attempt)
{
	if (attempt->created_at_us > 0)
		kubernetes_lag_observe(attempt->kubernetes, clock_monotonic_us() - attempt->created_at_us);
	attempt->created_at_us = 0;
	attempt->heard = true;
}

static void on_job(void *owner, enum kube_change change, yyjson_val *object)
{
	struct kubernetes *k = owner;
	struct uuid task_id;
	int number;
	const char *name = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(object, "metadata"), "name"));
	if (k->is_listing) {
		sweep_job(k, LOOK_JOBS, object);
		return;
	}
	if (change == KUBE_MODIFIED || !name || !job_name_parse(bytes_of(name), &task_id, &number))
		return;
	struct kube_attempt *attempt = kube_attempt_find(k, &task_id, number ? number : 1);
	if (attempt && change == KUBE_ADDED)
		kube_attempt_heard(attempt);
	else if (attempt && attempt->job)
		kube_attempt_job_deleted(attempt);
}

static void on_jobs_listed(void *owner, bool end)
{
	struct kubernetes *k = owner;
	k->is_listing = !end;
	sweep_listed(k, LOOK_JOBS, end);
}

static void on_pods_listed(void *owner, bool end)
{
	sweep_listed(owner, LOOK_PODS, end);
}

static void on_listed_job(void *owner, enum kube_change change, yyjson_val *object)
{
	sweep_job(owner, LOOK_JOBS_SLOWLY, object);
}

static void on_listed_slowly(void *owner, bool end)
{
	sweep_listed(owner, LOOK_JOBS_SLOWLY, end);
}

static void on_jobs_state(void *owner, bool up, const struct err *cause)
{
	struct kubernetes *k = owner;
	k->jobs_up = up;
	listener_learn_address(k);
	if (!up)
		k->jobs_err = *cause;
	kubernetes_changed(k);
}

static void on_pods_state(void *owner, bool up, const struct err *cause)
{
	struct kubernetes *k = owner;
	k->pods_up = up;
	if (!up)
		k->pods_err = *cause;
	kubernetes_changed(k);
}

/* ---- operations ---- */

static void run(struct executor *executor, struct job *const *jobs, size_t job_count)
{
	struct kubernetes *k = kubernetes_of(executor);
	for (size_t i = 0; i < job_count; i++)
		kube_attempt_create(kube_attempt_new(k, jobs[i]));
}

static void adopt(struct executor *executor, struct job *job)
{
	struct kubernetes *k = kubernetes_of(executor);
	kube_attempt_get(kube_attempt_new(k, job));
}

static void discard(struct executor *executor, const struct uuid *task_id, int attempt)
{
	sweep_discard(kubernetes_of(executor), task_id, attempt);
}

static void proceed(struct executor *executor, struct job *job, bool go_on)
{
	struct kube_attempt *attempt = job->executor_data;
	if (!attempt)
		return;
	attempt->go_on_known = true;
	attempt->go_on = go_on;
	attempt->allowed += go_on;
	listener_answer_held(attempt);
}

static void cancel(struct executor *executor, struct job *job)
{
	struct kube_attempt *attempt = job->executor_data;
	if (!attempt || attempt->account.cancelled || attempt->ended)
		return;
	attempt->account.cancelled = true;
	listener_answer_held(attempt);
	kube_attempt_delete(attempt);
}

static void settled(struct executor *executor, const struct uuid *task_id, int number)
{
	struct kube_attempt *attempt = kube_attempt_find(kubernetes_of(executor), task_id, number);
	if (attempt && !attempt->job)
		kube_attempt_settled(attempt);
}

static void disown(struct executor *executor, const struct uuid *task_id, int number)
{
	struct kube_attempt *attempt = kube_attempt_find(kubernetes_of(executor), task_id, number);
	if (attempt)
		kube_attempt_disown(attempt);
}

static const struct executor_status *status(const struct executor *executor)
{
	return &kubernetes_of(executor)->status;
}

/* ---- start and stop ---- */

/* Listeners of the watches. */
static const struct kube_watch_listener jobs_listener = { on_job, on_jobs_listed, on_jobs_state, NULL };
static const struct kube_watch_listener pods_listener = { on_pod, on_pods_listed, on_pods_state, NULL };
static const struct kube_watch_listener slow_listener = { on_listed_job, on_listed_slowly, NULL, NULL };

static struct kube_watch *watch(struct kubernetes *k, const char *group, const char *resource, int64_t list_every_us,
	const struct kube_watch_listener *listener)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/namespaces/%s/%s", group, k->namespace, resource);
	struct kube_watch_options options = { .loop = k->options.loop,
		.client = k->client,
		.path = path,
		.label_selector = manifest_selector(k->manifest),
		.list_every_us = list_every_us,
		.listener = *listener };
	options.listener.owner = k;
	return kube_watch_start(&options);
}

static int start(struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err)
{
	struct kubernetes *k = kubernetes_of(executor);
	k->told = listener;
	k->owner = owner;
	k->state = STATE_RUNNING;
	if (k->reports)
		redis_open(k->reports);
	k->jobs = watch(k, "/apis/batch/v1", "jobs", 0, &jobs_listener);
	k->pods = watch(k, "/api/v1", "pods", 0, &pods_listener);
	if (k->options.reconcile_us > 0)
		k->sweep.slow = watch(k, "/apis/batch/v1", "jobs", k->options.reconcile_us, &slow_listener);
	listener_look_up(k);
	return 0;
}

void kubernetes_part_stopped(void *owner)
{
	struct kubernetes *k = owner;
	if (--k->open > 0)
		return;
	k->on_stopped(k->stop_owner);
}

static void on_timer_closed(uv_handle_t *handle)
{
	kubernetes_part_stopped(handle->data);
}

static void client_close(struct kubernetes *k)
{
	kube_client_close(k->client, kubernetes_part_stopped, k);
	k->client = NULL;
}

static void watch_stopped(void *owner)
{
	struct kubernetes *k = owner;
	if (--k->watching == 0)
		client_close(k);
}

static void stop(struct executor *executor, void (*on_stopped)(void *owner), void *owner)
{
	struct kubernetes *k = kubernetes_of(executor);
	uv_timer_t *const timers[] = { &k->later, &k->deadline, &k->refused, &k->look_up_again, &k->hold, &k->news,
		&k->quota, &k->wait, &k->again, &k->events.timer };
	struct kube_watch **const watches[] = { &k->jobs, &k->pods, &k->sweep.slow };
	k->on_stopped = on_stopped;
	k->stop_owner = owner;
	k->state = STATE_STOPPING;
	k->watching = 0;
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++)
		k->watching += *watches[i] != NULL;
	k->open = (int)ARRAY_SIZE(timers) + 1 + (k->server != NULL) + k->is_looking_up + (k->redis != NULL) +
		  (k->reports != NULL);
	if (k->is_looking_up)
		uv_cancel((uv_req_t *)&k->lookup);
	for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
		uv_close((uv_handle_t *)timers[i], on_timer_closed);
	if (k->server) {
		http_server_stop(k->server, kubernetes_part_stopped, k);
		http_server_abort(k->server);
	}
	if (k->redis)
		redis_free(STEAL(k->redis), kubernetes_part_stopped, k);
	if (k->reports)
		redis_free(STEAL(k->reports), kubernetes_part_stopped, k);
	for (size_t i = 0; i < ARRAY_SIZE(watches); i++)
		if (*watches[i])
			kube_watch_stop(STEAL(*watches[i]), watch_stopped, k);
	if (k->watching == 0)
		client_close(k);
}

static void free_executor(struct executor *executor)
{
	struct kubernetes *k = kubernetes_of(executor);
	while (!list_empty(&k->list))
		kube_attempt_free(LIST_ENTRY(k->list.next, struct kube_attempt, link));
	table_fini(&k->attempts);
	kube_attempts_fini(k);
	sweep_fini(k);
	kube_call_fini(&k->events.call);
	buffer_fini(&k->events.path);
	http_server_free(k->server);
	manifest_free(k->manifest);
	free(k->languages);
	free(k->namespace);
	free(k->listener);
	free(k);
}

static const struct executor_ops ops = {
	.start = start,
	.stop = stop,
	.free = free_executor,
	.status = status,
	.run = run,
	.proceed = proceed,
	.cancel = cancel,
	.adopt = adopt,
	.settled = settled,
	.disown = disown,
	.discard = discard,
	.write_metrics = kubernetes_write_metrics,
};

/* ---- made ---- */

static void list_languages(struct kubernetes *k)
{
	size_t language_count = languages_count(k->options.languages);
	k->languages = alloc_array(language_count, sizeof(k->languages[0]));
	for (size_t i = 0; i < language_count; i++) {
		const struct language *language = languages_at(k->options.languages, i);
		bool cannot_publish = language->report == LANGUAGE_REPORT_PUBLISH && !k->redis;
		k->languages[i] = (struct executor_language){ .name = bytes_of(language->name),
			.available = language->image != NULL && !cannot_publish,
			.version = bytes_of(language->image),
			.remedy = cannot_publish
					  ? BYTES_LITERAL("set REDIS_URL, and ASSAY_KUBE_PUBLISH_URL for its pods")
					  : BYTES_LITERAL("name an image for it in the file of languages") };
	}
	k->status.languages = k->languages;
	k->status.language_count = language_count;
}

struct executor *kubernetes_executor_new(const struct kubernetes_executor_options *options, struct err *err)
{
	struct kubernetes *k = alloc(sizeof(*k));
	struct kube_access *access;
	k->executor.ops = &ops;
	k->options = *options;
	list_init(&k->list);
	list_init(&k->spare);
	list_init(&k->due);
	list_init(&k->holds);
	list_init(&k->refused_calls);
	list_init(&k->events.podless);
	list_init(&k->log_waiting);
	list_init(&k->publishing);
	sweep_init(k);
	if (kube_access_new(&options->access, &access, err) < 0) {
		free(k);
		return NULL;
	}
	const char *namespace =
		options->manifest.namespace ? options->manifest.namespace : kube_access_namespace(access);
	k->namespace = string_copy(namespace ? namespace : "default");
	const struct kube_client_options client = { .loop = options->loop,
		.access = access,
		.rate = options->rate,
		.burst = options->burst,
		.connections_max = CONNECTIONS + (size_t)options->log_streams };
	k->client = kube_client_new(&client, err);
	k->options.manifest.namespace = k->namespace;
	k->options.manifest.patience_us = options->patience_us;
	if (!k->client || manifest_new(&k->options.manifest, &k->manifest, err) < 0 || listener_start(k, err) < 0) {
		/* The client, which owns the access, ends with the program, which does not go on. */
		free_executor(&k->executor);
		return NULL;
	}
	const bool fetches = k->server && options->manifest.wrapper_image;
	k->status = (struct executor_status){ .name = BYTES_LITERAL("kubernetes"),
		.health = EXECUTOR_UNAVAILABLE,
		.detail = BYTES_LITERAL("has not reached the API server yet"),
		.isolation = BYTES_LITERAL("a pod of the restricted profile per attempt"),
		.outlives_service = true,
		.input_max = fetches ? KUBE_FETCH_MAX : KUBE_PLAN_INPUT_MAX,
		.input_why =
			fetches ? NULL : "without an attempt listener and a wrapper image it is what a Secret holds",
		.no_tests = k->listener ? NULL : NO_TESTS,
		.slots = options->slots };
	err_set(&k->jobs_err, -ENOTCONN, "has not reached the API server yet");
	k->pods_err = k->jobs_err;
	publish_init(k);
	list_languages(k);
	uv_timer_init(options->loop, &k->later);
	uv_timer_init(options->loop, &k->deadline);
	uv_timer_init(options->loop, &k->refused);
	uv_timer_init(options->loop, &k->look_up_again);
	uv_timer_init(options->loop, &k->hold);
	uv_timer_init(options->loop, &k->news);
	uv_timer_init(options->loop, &k->quota);
	uv_timer_init(options->loop, &k->wait);
	uv_timer_init(options->loop, &k->again);
	uv_timer_init(options->loop, &k->events.timer);
	k->later.data = k->deadline.data = k->refused.data = k->news.data = k;
	k->quota.data = k->wait.data = k->again.data = k->events.timer.data = k;
	k->look_up_again.data = k->lookup.data = k->hold.data = k;
	kubernetes_count(k);
	kubernetes_check(k, &k->jobs_err);
	return &k->executor;
}
