/* The way of an attempt:
 *
 *   run() ──► CREATING ──the Job is there──► SECURING ──its Secret too──► WATCHING ──► (account is over) ──► DELETING ──► gone
 *                │   ▲                          │                            ▲
 *                │   └─ AlreadyExists: FINDING ─┘     adopt() ──► FINDING ───┘ ──► LOOKING: which pod has it by now?
 *                └─ refused, or nobody knows: DELETING, handed back
 *
 * An attempt has one call to the API server on its way at a time (`exchange`). It is the coordinator's until `ended` has been reported,
 * which leaves by the `later` timer, never from within a call into the executor. Its Job stays, and its wrapper waits for the
 * last answer, until that end is in the store: whoever adopts it before would find all of it. Names are those of task,
 * attempt and nothing else: what is created twice is the same. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/poison.h"
#include "executor/kubernetes/internal.h"

#define CALL_DEADLINE_US (30 * US_PER_S)
/* What was refused is asked for again, after pauses: an API server that has just started refuses for a moment what it allows. A Job
 * whose deletion was refused so often is left to the sweep. */
#define REFUSALS_MAX 8
#define REFUSED_PAUSE_US (1 * US_PER_S)
#define REFUSED_PAUSE_MAX_US (60 * US_PER_S)

/* A call to the API server on its way, with what it borrows. Whoever has answered it frees it. */
struct kube_exchange {
	struct kube_attempt *attempt; /* borrowed: it outlives us */
	void (*done)(struct kube_attempt *attempt, struct kube_call *call);
	struct buffer path, body;
	struct kube_call call;
};

/* ---- attempts ---- */

static void on_later(uv_timer_t *timer);
static void kube_attempt_let_go(struct kube_attempt *attempt);

static void put_key(char key[static KEY_SIZE], const struct uuid *task_id, int attempt)
{
	const int32_t number = attempt;
	memcpy(key, task_id->bytes, 16);
	memcpy(key + 16, &number, sizeof(number));
}

struct kube_attempt *kube_attempt_find(const struct kubernetes *k, const struct uuid *task_id, int attempt)
{
	char key[KEY_SIZE];
	put_key(key, task_id, attempt);
	struct table_node *node = table_find(&k->attempts, (struct bytes){ key, KEY_SIZE });
	return node ? CONTAINER_OF(node, struct kube_attempt, node) : NULL;
}

const struct language *kube_attempt_language(const struct kube_attempt *attempt)
{
	return attempt->language;
}

static void kube_attempt_key(
	const struct bytes *service_key, const struct kube_attempt *attempt, uint8_t ret_key[REPORT_KEY_SIZE])
{
	report_attempt_key(service_key->data, service_key->len, attempt->job->task_id.bytes,
		(uint32_t)attempt->job->attempt, ret_key);
}

/* What is spare has no content but its link: a sanitized build tells of who still looks at it. */
static void poison_spare(struct kube_attempt *attempt)
{
	poison(attempt, offsetof(struct kube_attempt, link));
	poison(&attempt->link + 1, sizeof(*attempt) - offsetof(struct kube_attempt, link) - sizeof(attempt->link));
}

static struct kube_attempt *take_spare(struct kubernetes *k)
{
	if (list_empty(&k->spare)) {
		struct kube_attempts *more = alloc(sizeof(*more));
		more->next = k->storage;
		k->storage = more;
		for (size_t i = 0; i < KUBE_ATTEMPTS_AT_ONCE; i++) {
			list_push_back(&k->spare, &more->attempts[i].link);
			poison_spare(&more->attempts[i]);
		}
	}
	struct kube_attempt *attempt = LIST_ENTRY(list_pop_front(&k->spare), struct kube_attempt, link);
	unpoison(attempt, sizeof(*attempt));
	*attempt = (struct kube_attempt){ 0 };
	return attempt;
}

void kube_attempts_fini(struct kubernetes *k)
{
	while (k->storage) {
		struct kube_attempts *next = k->storage->next;
		free(k->storage);
		k->storage = next;
	}
}

struct kube_attempt *kube_attempt_new(struct kubernetes *k, struct job *job)
{
	struct kube_attempt *attempt = take_spare(k);
	uint8_t key[REPORT_KEY_SIZE], previous[REPORT_KEY_SIZE];
	attempt->kubernetes = k;
	attempt->job = job;
	put_key(attempt->key, &job->task_id, job->attempt);
	attempt->node.key = (struct bytes){ attempt->key, KEY_SIZE };
	table_insert(&k->attempts, &attempt->node);
	list_push_back(&k->list, &attempt->link);
	list_init(&attempt->due_link);
	list_init(&attempt->hold_link);
	k->staged[attempt->stage]++;
	snprintf(attempt->name, sizeof(attempt->name), "%.*s", (int)job->name.len, job->name.data);
	attempt->allowed = job->ask_before_next ? 1 : UINT32_MAX;
	const struct language *language = attempt->language = languages_find(k->options.languages, job->language);
	account_init(&attempt->account, job, language && language->compile, plain_is(attempt), k->told, k->owner);
	attempt->account.silent = !k->listener;
	kube_attempt_key(&k->options.key, attempt, key);
	if (k->options.previous_key.len > 0)
		kube_attempt_key(&k->options.previous_key, attempt, previous);
	report_decoder_init(&attempt->decoder, job->task_id.bytes, (uint32_t)job->attempt, key,
		k->options.previous_key.len > 0 ? previous : NULL, REPORT_UPTO_UNKNOWN);
	job->executor_data = attempt;
	publish_join(attempt);
	reports_join(attempt);
	kubernetes_count(k);
	return attempt;
}

/* Nothing that comes from outside is for it any more. */
static void kube_attempt_leave(struct kube_attempt *attempt)
{
	table_remove(&attempt->kubernetes->attempts, &attempt->node);
	logs_forget(attempt);
	publish_leave(attempt);
	reports_leave(attempt);
}

void kube_attempt_free(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	listener_answer_held(attempt);
	if (!attempt->disowned)
		kube_attempt_leave(attempt);
	list_remove(&attempt->link);
	list_remove(&attempt->due_link);
	heap_remove(&k->deadlines, &attempt->deadline);
	events_forget(attempt);
	k->staged[attempt->stage]--;
	free(attempt->waits_message);
	account_fini(&attempt->account);
	report_decoder_fini(&attempt->decoder);
	free(attempt->job_uid);
	free(attempt->pod_name);
	free(attempt->node_name);
	free(attempt->overdue_message);
	list_push_front(&k->spare, &attempt->link);
	poison_spare(attempt);
}

void kube_attempt_staged(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	enum kube_stage stage = !attempt->job ? KUBE_ENDING : attempt->account.started ? KUBE_RUNNING : KUBE_STARTING;
	if (stage == attempt->stage)
		return;
	k->staged[attempt->stage]--;
	k->staged[stage]++;
	attempt->stage = stage;
	kubernetes_count(k);
}

void kube_attempt_over(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	if (attempt->ended || !attempt->job)
		return;
	kube_attempt_waits(attempt, JOB_WAIT_NONE, NULL);
	events_forget(attempt);
	attempt->ended = true;
	kube_attempt_no_deadline(attempt);
	list_remove(&attempt->due_link);
	list_push_back(&k->due, &attempt->due_link);
	uv_timer_start(&k->later, on_later, 0, 0);
}

void kube_attempt_lost(struct kube_attempt *attempt, enum task_reason reason, const char *message)
{
	if (logs_have_end(attempt) || (reason == REASON_TIMEOUT && logs_hold_timeout(attempt)))
		return;
	account_lost(&attempt->account, reason, message);
	kube_attempt_over(attempt);
}

void kube_attempt_gone(struct kube_attempt *attempt, const char *message)
{
	kube_attempt_lost(attempt, attempt->leaving ? attempt->leaving : REASON_DELETED, message);
}

void kube_attempt_waits(struct kube_attempt *attempt, enum job_wait_for what, const char *message)
{
	const char *text = message && message[0] != '\0' ? message : NULL, *before = attempt->waits_message;
	bool same = text && before ? strcmp(text, before) == 0 : !text && !before;
	if (!attempt->job || attempt->ended || (same && attempt->waits == what))
		return;
	free(attempt->waits_message);
	attempt->waits = what;
	attempt->waits_message = string_copy(text);
	attempt->job->waiting = (struct job_waiting){ what, attempt->waits_message };
}

static void kube_attempt_hand_back(struct kube_attempt *attempt, const struct err *err, enum job_wait_for wanted)
{
	bool known = attempt->account.end != NULL;
	kube_attempt_lost(attempt, REASON_API_ERROR, err->message);
	if (known || !attempt->account.end)
		return;
	attempt->account.end->never_started = !attempt->account.cancelled && !attempt->account.started;
	attempt->account.end->wanted = wanted;
}

static void on_later(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	for (struct list *link; (link = list_pop_front(&k->due));) {
		struct kube_attempt *attempt = CONTAINER_OF(link, struct kube_attempt, due_link);
		struct job *job = attempt->account.job;
		const struct job_end end = *attempt->account.end;
		list_init(&attempt->due_link);
		logs_forget(attempt);
		attempt->job = NULL;
		job->executor_data = NULL;
		kube_attempt_staged(attempt);
		bool is_disowned = attempt->disowned;
		k->told->on_ended(k->owner, job, &end);
		if (is_disowned) /* nobody will say that it is settled */
			kube_attempt_let_go(attempt);
	}
}

/* ---- deadlines ---- */

static void on_deadline(uv_timer_t *timer);

/* The timer is that of the earliest. */
static void deadline_set(struct kubernetes *k)
{
	const struct heap_node *first = k->deadlines.first;
	if (!first) {
		uv_timer_stop(&k->deadline);
		return;
	}
	int64_t in_us = first->key - clock_monotonic_us();
	uv_timer_start(&k->deadline, on_deadline, in_us > 0 ? (uint64_t)(in_us / US_PER_MS + 1) : 0, 0);
}

static void on_deadline(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	int64_t now_us = clock_monotonic_us();
	while (k->deadlines.first && k->deadlines.first->key <= now_us) {
		struct kube_attempt *attempt = CONTAINER_OF(k->deadlines.first, struct kube_attempt, deadline);
		heap_remove(&k->deadlines, &attempt->deadline);
		kube_attempt_lost(attempt, attempt->overdue, attempt->overdue_message);
	}
	deadline_set(k);
}

void kube_attempt_deadline(struct kube_attempt *attempt, enum task_reason reason, int64_t in_us, const char *message)
{
	struct kubernetes *k = attempt->kubernetes;
	if (attempt->ended || !attempt->job)
		return;
	free(attempt->overdue_message);
	attempt->overdue_message = string_copy(message);
	if (heap_linked(&attempt->deadline) && attempt->overdue == reason)
		return;
	heap_remove(&k->deadlines, &attempt->deadline);
	attempt->overdue = reason;
	attempt->deadline.key = clock_monotonic_us() + in_us;
	heap_insert(&k->deadlines, &attempt->deadline);
	deadline_set(k);
}

void kube_attempt_no_deadline(struct kube_attempt *attempt)
{
	heap_remove(&attempt->kubernetes->deadlines, &attempt->deadline);
	free(STEAL(attempt->overdue_message));
}

/* ---- calls ---- */

/* Of the call that is made next; kube_attempt_call() sends it. */
static struct kube_exchange *exchange_new(const char *format, ...) PRINTF_LIKE(1, 2);

static struct kube_exchange *exchange_new(const char *format, ...)
{
	struct kube_exchange *exchange = alloc(sizeof(*exchange));
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buffer_append_string(&exchange->path, text);
	return exchange;
}

static void exchange_free(struct kube_exchange *exchange)
{
	kube_call_fini(&exchange->call);
	buffer_fini(&exchange->path);
	buffer_fini(&exchange->body);
	free(exchange);
}

static void on_deleted(struct kube_attempt *attempt, struct kube_call *call);
static void on_secured(struct kube_attempt *attempt, struct kube_call *call);

/* Its end was reported: it waits for being settled, then its Job goes, then it. */
static void kube_attempt_let_go(struct kube_attempt *attempt)
{
	if (!attempt->settled || attempt->exchange)
		return;
	if (attempt->deleted || attempt->kubernetes->state == STATE_STOPPING)
		kube_attempt_free(attempt);
	else
		kube_attempt_delete(attempt);
}

void kube_attempt_settled(struct kube_attempt *attempt)
{
	attempt->settled = true;
	listener_answer_held(attempt);
	kube_attempt_let_go(attempt);
}

void kube_attempt_disown(struct kube_attempt *attempt)
{
	kube_attempt_leave(attempt);
	attempt->disowned = attempt->settled = attempt->deleted = true;
	listener_send_away(attempt);
	if (attempt->job)
		kube_attempt_lost(attempt, REASON_EXECUTOR_LOST, "it is another's now");
	else
		kube_attempt_let_go(attempt);
}

static void on_called(struct kube_call *call)
{
	struct kube_exchange *exchange = call->owner;
	struct kube_attempt *attempt = exchange->attempt;
	attempt->exchange = NULL;
	if (attempt->kubernetes->state != STATE_STOPPING) {
		if ((attempt->job && !attempt->disowned) || exchange->done == on_deleted)
			exchange->done(attempt, call);
		else
			kube_attempt_let_go(attempt);
	}
	exchange_free(exchange);
}

static void kube_attempt_call(struct kube_attempt *attempt, const char *method, struct kube_exchange *exchange,
	void (*done)(struct kube_attempt *attempt, struct kube_call *call))
{
	buffer_append_char(&exchange->path, '\0');
	exchange->attempt = attempt;
	exchange->done = done;
	exchange->call = (struct kube_call){ .method = method,
		.path = exchange->path.data,
		.body = exchange->body.len > 0 ? buffer_bytes(&exchange->body) : BYTES_NONE,
		.again = KUBE_AGAIN_ALWAYS, /* names make sure that it is the same */
		.urgent = done == on_secured, /* pods wait for it; the Jobs that are to come can */
		.deadline_us = CALL_DEADLINE_US,
		.done = on_called,
		.owner = exchange };
	attempt->exchange = exchange;
	kube_client_call(attempt->kubernetes->client, &exchange->call);
}

/* ---- what was refused and is tried again ---- */

/* With a job that nobody cancelled it is asked whether it runs; else its Job is to be deleted. */
static void on_again(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	struct list waiting;
	list_init(&waiting);
	list_splice_back(&waiting, &k->refused_calls);
	for (struct list *link; (link = list_pop_front(&waiting));) {
		struct kube_attempt *attempt = CONTAINER_OF(link, struct kube_attempt, due_link);
		list_init(link);
		if (!attempt->job || attempt->account.cancelled)
			kube_attempt_delete(attempt);
		else if (!attempt->exchange)
			kube_attempt_get(attempt);
	}
}

static void call_again(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	int64_t pause_us = kube_pause_us(++attempt->refusals, REFUSED_PAUSE_US, REFUSED_PAUSE_MAX_US);
	uint64_t pause_ms = (uint64_t)(pause_us / US_PER_MS);
	list_remove(&attempt->due_link);
	list_push_back(&k->refused_calls, &attempt->due_link);
	if (!uv_is_active((uv_handle_t *)&k->again) || uv_timer_get_due_in(&k->again) > pause_ms)
		uv_timer_start(&k->again, on_again, pause_ms, 0);
}

/* ---- deleting ---- */

static void on_deleted(struct kube_attempt *attempt, struct kube_call *call)
{
	struct kubernetes *k = attempt->kubernetes;
	if (attempt->disowned) {
		if (!attempt->job)
			kube_attempt_let_go(attempt);
		return;
	}
	bool refused = call->err.code != 0 && call->err.code != -ENOENT && call->err.code != -ECANCELED;
	attempt->deleted = !refused || attempt->refusals >= REFUSALS_MAX;
	bool wanted_quota = attempt->account.end && attempt->account.end->wanted == JOB_WAIT_QUOTA;
	if (call->err.code == 0 && !wanted_quota)
		kubernetes_not_full(k);
	if (call->err.code == -ENOENT)
		sweep_owned(k, attempt->name, attempt->pod_name);
	if (refused)
		log_event(k->options.log, LOG_WARNING, "a Job could not be deleted", L_STR("job", attempt->name),
			L_ERR(&call->err));
	bool is_told = attempt->job && attempt->ended; /* its end is on its way, and the Job goes after that */
	if (!attempt->deleted && !is_told) {
		call_again(attempt);
		return;
	}
	if (!attempt->job) {
		kube_attempt_let_go(attempt);
		return;
	}
	/* It was cancelled: its pod says when it is over. Without a pod it is over now. */
	if (call->err.code == -ENOENT || !attempt->pod_uid)
		kube_attempt_lost(attempt, REASON_DELETED, "the Job is gone");
	else
		kube_attempt_deadline(attempt, REASON_NODE_LOST,
			k->options.manifest.grace_us + k->options.gone_grace_us,
			"the pod did not end when it was told to");
}

/* The pod ends within its grace period; the Job goes when the pod has gone. */
void kube_attempt_delete(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	if (attempt->exchange) {
		attempt->must_delete = true;
		return;
	}
	if (k->state == STATE_STOPPING)
		return;
	attempt->must_delete = false;
	if (!attempt->ended || !attempt->job)
		list_remove(&attempt->due_link);
	struct kube_exchange *exchange =
		exchange_new("/apis/batch/v1/namespaces/%s/jobs/%s", k->namespace, attempt->name);
	buffer_append_string(&exchange->body, DELETE_OPTIONS);
	kube_attempt_call(attempt, "DELETE", exchange, on_deleted);
}

/* ---- creating ---- */

static void on_found(struct kube_attempt *attempt, struct kube_call *call);
static void kube_attempt_secure(struct kube_attempt *attempt);

/* Kept until its Secret is there. `ret_created_us` may be NULL; 0: it does not say. */
static bool take_job(struct kube_attempt *attempt, struct bytes answer, int64_t *ret_created_us)
{
	yyjson_doc *doc = yyjson_read(answer.data, answer.len, 0);
	yyjson_val *job = yyjson_doc_get_root(doc), *metadata = yyjson_obj_get(job, "metadata");
	const char *uid = yyjson_get_str(yyjson_obj_get(metadata, "uid"));
	const char *created = yyjson_get_str(yyjson_obj_get(metadata, "creationTimestamp"));
	if (ret_created_us && !clock_parse(bytes_of(created), ret_created_us))
		*ret_created_us = 0;
	attempt->finished = sweep_has_finished(job);
	free(attempt->job_uid);
	attempt->job_uid = uid && uid[0] ? string_copy(uid) : NULL;
	attempt->job_since = attempt->kubernetes->sweep.lists + 1;
	yyjson_doc_free(doc);
	return attempt->job_uid != NULL;
}

static bool is_to_be_fetched(const struct kube_attempt *attempt);

void kube_attempt_get(struct kube_attempt *attempt)
{
	attempt->is_fetched = kube_attempt_language(attempt) && is_to_be_fetched(attempt);
	kube_attempt_call(attempt, "GET",
		exchange_new("/apis/batch/v1/namespaces/%s/jobs/%s", attempt->kubernetes->namespace, attempt->name),
		on_found);
}

/* Of a 403: it is this object that was refused, by who admits objects; not a lack of rights (k8s.io/apiserver,
 * pkg/endpoints/handlers/responsewriters, forbiddenMessage), not a namespace that goes, and not something on the way to the API server. */
static bool is_of_object(const struct kube_call *call)
{
	const char *said = call->said.message;
	bool lacks_rights = strstr(said, "User \"") && strstr(said, "\" cannot ");
	return said[0] && !lacks_rights && !strstr(said, "because it is being terminated");
}

/* What a call that failed means for the attempt: it is to wait, or not to be had. */
static void kube_attempt_failed(struct kube_attempt *attempt, const struct kube_call *call)
{
	bool is_forbidden = call->err.code == -EPERM;
	bool is_quota = is_forbidden && pod_quota_refuses(bytes_of(call->said.message));
	bool is_ours = call->err.code == -EACCES || (is_forbidden && !is_quota && !is_of_object(call));
	if (is_ours)
		kubernetes_refused(attempt->kubernetes, &call->err);
	if (call->err.code == -EINVAL || (is_forbidden && !is_quota && !is_ours))
		kube_attempt_lost(attempt, REASON_API_ERROR, call->err.message);
	else
		kube_attempt_hand_back(attempt, &call->err, is_quota ? JOB_WAIT_QUOTA : JOB_WAIT_NONE);
	if (is_quota)
		kubernetes_full(attempt->kubernetes);
	else if (call->status == 429 && call->said.retry_after_us > 0) /* more than the call had time for */
		kubernetes_wait(attempt->kubernetes, call->said.retry_after_us);
}

/* For the lag of the watch. */
static void kube_attempt_made(struct kube_attempt *attempt)
{
	if (attempt->heard)
		kubernetes_lag_observe(attempt->kubernetes, 0);
	else
		attempt->created_at_us = clock_monotonic_us();
}

static void on_created(struct kube_attempt *attempt, struct kube_call *call)
{
	if (call->err.code == 0)
		kube_attempt_made(attempt);
	if (call->err.code == -EEXIST)
		kube_attempt_get(attempt);
	else if (call->err.code != 0)
		kube_attempt_failed(attempt, call);
	else if (attempt->must_delete)
		kube_attempt_delete(attempt);
	else if (take_job(attempt, kube_call_answer(call), NULL))
		kube_attempt_secure(attempt);
	else
		kube_attempt_lost(attempt, REASON_API_ERROR, "the API server's answer names no Job");
}

struct kube_plan_options kubernetes_plan_options(const struct kubernetes *k)
{
	return (struct kube_plan_options){ .listener = k->listener,
		.fallback = k->fallback,
		.box = MANIFEST_WORK,
		.temporary = MANIFEST_TEMPORARY,
		.own_users = manifest_own_users(k->manifest),
		.grace_us = k->options.manifest.grace_us,
		.patience_us = k->options.patience_us,
		.progress_us = k->options.progress_us };
}

/* Into `text`, where the init container gets the plan; NULL: it comes in the Secret. */
static const char *listeners_of(const struct kube_attempt *attempt, char *text, size_t size)
{
	const struct kubernetes *k = attempt->kubernetes;
	if (!attempt->is_fetched)
		return NULL;
	snprintf(text, size, "%s%s%s", k->listener, k->fallback[0] ? "," : "", k->fallback);
	return text;
}

/* With nobody to fetch it from, or nothing of ours in the pod that could, a large one is refused when it is written. */
static bool is_to_be_fetched(const struct kube_attempt *attempt)
{
	const struct kubernetes *k = attempt->kubernetes;
	return k->server && k->options.manifest.wrapper_image && !plain_is(attempt) && kube_plan_is_large(attempt->job);
}

static struct bytes image_of(const struct kube_attempt *attempt)
{
	const struct language *language = attempt->language;
	return attempt->job->image.len > 0 ? attempt->job->image : bytes_of(language ? language->image : NULL);
}

void kube_attempt_create(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	struct bytes image = image_of(attempt);
	const char *why = !attempt->language || image.len == 0 ? "the language has no image" : plain_unfit(attempt);
	if (why) {
		kube_attempt_lost(attempt, REASON_API_ERROR, why);
		return;
	}
	if (publish_holds(attempt))
		return;
	char listeners[192];
	struct arena arena = { 0 };
	attempt->is_fetched = is_to_be_fetched(attempt);
	attempt->account.since_us = clock_wall_us();
	struct kube_exchange *exchange = exchange_new("/apis/batch/v1/namespaces/%s/jobs", k->namespace);
	manifest_job(k->manifest, attempt->job, image, plain_of(attempt, &arena),
		listeners_of(attempt, listeners, sizeof(listeners)), &exchange->body);
	arena_fini(&arena);
	kube_attempt_call(attempt, "POST", exchange, on_created);
}

static void on_secured(struct kube_attempt *attempt, struct kube_call *call)
{
	if (call->err.code == 0)
		kubernetes_not_full(attempt->kubernetes);
	if (call->err.code != 0 && call->err.code != -EEXIST)
		kube_attempt_failed(attempt, call);
	else if (attempt->must_delete)
		kube_attempt_delete(attempt);
	else if (attempt->pod_uid)
		free(STEAL(attempt->job_uid));
	else
		events_await_pod(attempt);
}

/* The wrapper's plan and its key. */
static int put_plan(struct kube_attempt *attempt, struct arena *arena, struct buffer *body, struct err *err)
{
	struct kubernetes *k = attempt->kubernetes;
	struct buffer plan = { 0 };
	uint8_t key[REPORT_KEY_SIZE];
	struct kube_plan_options options = kubernetes_plan_options(k);
	options.channel = reports_channel(attempt, arena);
	int result = attempt->is_fetched ? 0 : kube_plan_write(&options, attempt->language, attempt->job, &plan, err);
	if (result == 0) {
		char text[2 * SHA256_SIZE + 1];
		kube_attempt_key(&k->options.key, attempt, key);
		sha256_format(key, text);
		manifest_secret(k->manifest, attempt->job, bytes_of(attempt->job_uid), buffer_bytes(&plan),
			bytes_of(text), body);
	}
	buffer_fini(&plan);
	return result;
}

static void kube_attempt_secure(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	struct arena arena = { 0 };
	struct err err = { 0 };
	int result = 0;
	const struct manifest_plain *plain = plain_of(attempt, &arena);
	/* Of a Job that was found there may be an answer before the watch has one. */
	listener_learn_address(k);
	if (!plain && listener_is_unknown(k)) {
		arena_fini(&arena);
		call_again(attempt);
		return;
	}
	struct kube_exchange *exchange = exchange_new("/api/v1/namespaces/%s/secrets", k->namespace);
	if (plain)
		manifest_plain_secret(k->manifest, attempt->job, bytes_of(attempt->job_uid), plain, &exchange->body);
	else
		result = put_plan(attempt, &arena, &exchange->body, &err);
	arena_fini(&arena);
	if (result == 0) {
		kube_attempt_call(attempt, "POST", exchange, on_secured);
		return;
	}
	exchange_free(exchange);
	kube_attempt_lost(attempt, REASON_API_ERROR, err.message);
}

/* ---- what is there already ---- */

/* The API server did not say whether the attempt runs: it is asked again, since handed back the task might run a second time
 * beside it. */
static bool has_no_answer(struct kube_attempt *attempt, const struct kube_call *call)
{
	bool is_refused = call->err.code == -EACCES || call->err.code == -EPERM;
	if (call->err.code == 0)
		attempt->refusals = 0;
	if (call->err.code == 0 || call->err.code == -EINVAL)
		return false;
	if (attempt->must_delete) { /* whether it runs or not */
		kube_attempt_delete(attempt);
		return true;
	}
	if (is_refused)
		kubernetes_refused(attempt->kubernetes, &call->err);
	if (!attempt->ended) /* else it need not be known any more */
		call_again(attempt);
	return true;
}

static void on_looked(struct kube_attempt *attempt, struct kube_call *call)
{
	struct kubernetes *k = attempt->kubernetes;
	if (has_no_answer(attempt, call))
		return;
	if (call->err.code != 0) {
		kube_attempt_failed(attempt, call);
		return;
	}
	struct bytes answer = kube_call_answer(call);
	yyjson_doc *doc = yyjson_read(answer.data, answer.len, 0);
	size_t index, count_;
	yyjson_val *pod;
	yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "items"), index, count_, pod)
		kubernetes_pod_changed(k, KUBE_ADDED, pod);
	yyjson_doc_free(doc);
	if (attempt->finished && !attempt->pod_uid)
		kube_attempt_lost(attempt, REASON_DELETED, "the Job has ended, and its pod is gone");
	if (attempt->must_delete)
		kube_attempt_delete(attempt);
	else if (attempt->job_uid && !attempt->ended &&
		 !attempt->has_run) /* what has run, or waits for its pod, has its Secret */
		kube_attempt_secure(attempt);
}

/* Of a Job that was there already, which may have begun before we asked for it; by our clock. */
static void take_since(struct kube_attempt *attempt, int64_t created_us, int64_t server_now_us)
{
	int64_t *since_us = &attempt->account.since_us;
	int64_t ahead_us = server_now_us > 0 ? clock_wall_us() - server_now_us : 0;
	if (created_us > 0 && (*since_us == 0 || created_us + ahead_us < *since_us))
		*since_us = created_us + ahead_us;
}

static void on_found(struct kube_attempt *attempt, struct kube_call *call)
{
	char task[UUID_TEXT_SIZE];
	int64_t created_us;
	if (call->err.code == -ENOENT) {
		kube_attempt_lost(attempt, REASON_WORKER_CRASH, "there is no Job of this attempt");
	} else if (has_no_answer(attempt, call)) {
		return;
	} else if (call->err.code != 0) {
		kube_attempt_failed(attempt, call);
	} else if (!take_job(attempt, kube_call_answer(call), &created_us)) {
		kube_attempt_lost(attempt, REASON_API_ERROR, "the API server's answer names no Job");
	} else {
		take_since(attempt, created_us, http_call_date_us(&call->http));
		struct buffer selector = { 0 };
		buffer_printf(&selector, LABEL_TASK "=%s," LABEL_ATTEMPT "=%d",
			uuid_format(&attempt->job->task_id, task), attempt->job->attempt);
		struct kube_exchange *exchange =
			exchange_new("/api/v1/namespaces/%s/pods?labelSelector=", attempt->kubernetes->namespace);
		kube_query_append(&exchange->path, buffer_bytes(&selector));
		buffer_fini(&selector);
		kube_attempt_call(attempt, "GET", exchange, on_looked);
	}
}
