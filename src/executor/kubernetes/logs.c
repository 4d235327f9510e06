/* What the pods' logs hold that no report brings (kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1, "get read
 * log of the specified Pod"):
 *
 *   the image runs as it is      everything it prints; followed while it runs, as far as there is room, and read once more at its end
 *   no attempt listener          everything the code prints: the wrapper copies it there; followed likewise where there is one step, else
 *                                read at the end
 *   the wrapper's last frame     what the listener did not take: the wrapper leaves those frames there as lines (wrap/report.h);
 *   did not come                 read at the end
 *
 *   (nothing) ─running─► WAITING ─room─► FOLLOWING ─its end, a cut, the pod's end─► FOLLOWED
 *       └──────────────────┴──────────────the pod has ended─────────────────────────────┴─────► READING ─► DONE
 *
 * Where it cannot be had the end is told all the same, and that something is missing. Only an end that is the code's own waits for
 * it: whoever is evicted or loses its node is run again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "executor/kubernetes/internal.h"
#include "task/lifecycle.h"

#define READ_DEADLINE_US (30 * US_PER_S)
#define SLACK_BYTES 65536 /* beyond what was asked for the server may send some */
#define LEFT_MAX ((uint64_t)2 << 20) /* of frames that a wrapper leaves: it keeps less than 1 MiB of them */

enum step { UNASKED, WAITING, FOLLOWING, FOLLOWED, READING, DONE };

struct kube_log {
	struct kubernetes *kubernetes; /* borrowed: it outlives our call */
	struct kube_attempt *attempt; /* borrowed: it owns us; NULL: forgotten, and gone when the call is over */
	enum step step;
	struct list link; /* WAITING: in kubernetes->log_waiting */
	uint64_t told; /* bytes that were followed */
	char *pod; /* owned: the object of the pod that has ended; NULL: it has not, or that was gone on with */
	bool timed_out; /* … or its time is up */
	struct kube_call call;
	struct buffer path; /* of the call */
};

static void log_free(struct kube_log *log)
{
	kube_call_fini(&log->call);
	buffer_fini(&log->path);
	free(log->pod);
	free(log);
}

static struct kube_log *log_of(struct kube_attempt *attempt)
{
	if (!attempt->log) {
		attempt->log = alloc(sizeof(*attempt->log));
		attempt->log->kubernetes = attempt->kubernetes;
		attempt->log->attempt = attempt;
	}
	return attempt->log;
}

static void on_done(struct kube_call *call);

static void log_call(struct kube_log *log, uint64_t limit, bool (*on_data)(struct kube_call *call, struct bytes data))
{
	struct kubernetes *k = log->kubernetes;
	buffer_clear(&log->path);
	buffer_printf(&log->path,
		"/api/v1/namespaces/%s/pods/%s/log?container=" MANIFEST_CONTAINER "&limitBytes=%llu%s", k->namespace,
		log->attempt->pod_name, (unsigned long long)limit, on_data ? "&follow=true" : "");
	buffer_append_char(&log->path, '\0');
	kube_call_fini(&log->call);
	log->call = (struct kube_call){ .method = "GET",
		.path = log->path.data,
		.deadline_us = on_data ? 0 : READ_DEADLINE_US,
		.answer_max = (size_t)limit + SLACK_BYTES,
		.on_data = on_data,
		.done = on_done,
		.owner = log };
	kube_client_call(k->client, &log->call);
}

/* One byte more than what is kept: so it is seen that there is more. */
static uint64_t limit_of(const struct kube_log *log)
{
	return log->attempt->job->limits.output_bytes + 1;
}

/* ---- following ---- */

static bool on_followed(struct kube_call *call, struct bytes data)
{
	struct kube_log *log = call->owner;
	if (!log->attempt)
		return false;
	log->told += data.len;
	account_log(&log->attempt->account, data);
	return true;
}

static void follow(struct kube_log *log)
{
	log->kubernetes->log_streams++;
	log->step = FOLLOWING;
	log_call(log, limit_of(log), on_followed);
}

static void follow_next(struct kubernetes *k)
{
	while (k->log_streams < k->options.log_streams && !list_empty(&k->log_waiting))
		follow(LIST_ENTRY(list_pop_front(&k->log_waiting), struct kube_log, link));
}

static void want_stream(struct kube_attempt *attempt)
{
	if (attempt->log || attempt->kubernetes->options.log_streams == 0)
		return;
	struct kube_log *log = log_of(attempt);
	log->step = WAITING;
	list_push_back(&attempt->kubernetes->log_waiting, &log->link);
	follow_next(attempt->kubernetes);
}

/* ---- reading ---- */

/* What comes after it is to begin: the end of a stream, or at once. */
static void read_soon(struct kube_log *log)
{
	list_remove(&log->link);
	if (log->step == FOLLOWING) {
		kube_client_cancel(&log->call);
	} else if (log->step != READING) {
		log->step = READING;
		log_call(log, plain_is(log->attempt) || log->attempt->account.silent ? limit_of(log) : LEFT_MAX, NULL);
	}
}

/* The frames that the wrapper left there. */
static void take_lines(struct kube_attempt *attempt, struct bytes text)
{
	uint8_t *frame = alloc(REPORT_FRAME_MAX);
	while (text.len > 0) {
		const char *end = memchr(text.data, '\n', text.len);
		size_t len = end ? (size_t)(end - text.data) : text.len, used = len + (end != NULL);
		size_t size = report_line_take(text.data, len, frame);
		if (size > 0)
			listener_take_published(attempt, (struct bytes){ (const char *)frame, size });
		text = (struct bytes){ text.data + used, text.len - used };
	}
	free(frame);
}

/* The end waited for this. */
static void go_on(struct kube_log *log)
{
	struct kube_attempt *attempt = log->attempt;
	char *text = STEAL(log->pod);
	if (!text) {
		kube_attempt_lost(attempt, REASON_TIMEOUT, attempt->overdue_message);
		return;
	}
	yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
	kubernetes_pod_changed(log->kubernetes, KUBE_MODIFIED, yyjson_doc_get_root(doc));
	yyjson_doc_free(doc);
	free(text);
}

static void read_over(struct kube_log *log)
{
	struct kube_attempt *attempt = log->attempt;
	struct account *account = &attempt->account;
	/* One that is too long came as far as it was wanted. */
	bool came = log->call.err.code == 0 || log->call.err.code == -EMSGSIZE;
	struct bytes text = came ? kube_call_answer(&log->call) : BYTES_NONE;
	log->step = DONE;
	if (!came)
		log_event(log->kubernetes->options.log, LOG_WARNING, "a pod's log could not be read",
			L_STR("job", attempt->name), L_ERR(&log->call.err));
	if (!account->watched && !account->silent)
		take_lines(attempt, text);
	else if (text.len > log->told)
		account->log = (struct bytes){ text.data + log->told, (size_t)(text.len - log->told) };
	if (!came || (!account->watched && !account->silent && !account->closed))
		account_cut(account);
	go_on(log);
	account->log = BYTES_NONE;
	kube_call_fini(&log->call);
}

static void on_done(struct kube_call *call)
{
	struct kube_log *log = call->owner;
	struct kubernetes *k = log->kubernetes;
	bool was_followed = log->step == FOLLOWING;
	k->log_streams -= was_followed;
	if (!log->attempt) {
		log_free(log);
	} else if (k->state == STATE_STOPPING || !log->attempt->job) {
		log->step = DONE;
	} else if (!was_followed) {
		read_over(log);
	} else {
		log->step = FOLLOWED;
		if (log->pod || log->timed_out)
			read_soon(log);
	}
	if (was_followed && k->state == STATE_RUNNING)
		follow_next(k);
}

/* ---- what an attempt asks for ---- */

static bool is_of_code(const struct pod *pod)
{
	return pod->stage == POD_SUCCEEDED ||
	       (pod->stage == POD_FAILED && task_reason_fault(pod->reason) == FAULT_USER);
}

/* All that it prints is of its one step, and comes no other way: an image that tells of itself tells what it printed too. */
static bool is_followed(const struct kube_attempt *attempt)
{
	const struct account *account = &attempt->account;
	if (account->watched)
		return !account->tells;
	return account->silent && !account->has_compile && attempt->job->run_count == 1;
}

bool logs_hold(struct kube_attempt *attempt, const struct pod *pod, bool gone, yyjson_val *object)
{
	struct account *account = &attempt->account;
	struct kube_log *log = attempt->log;
	if (account->end)
		return false;
	if (log && (log->pod || (log->timed_out && log->step != DONE)))
		return true;
	if (!gone && pod->stage == POD_RUNNING && is_followed(attempt))
		want_stream(attempt);
	if (!is_of_code(pod) || pod->started_at_us == 0 || !account_wants_log(account) || (log && log->step == DONE))
		return false;
	if (gone) {
		account_cut(account);
		return false;
	}
	log = log_of(attempt);
	log->pod = yyjson_val_write(object, 0, NULL);
	if (log->pod)
		read_soon(log);
	return log->pod != NULL;
}

bool logs_hold_timeout(struct kube_attempt *attempt)
{
	struct kube_log *log = log_of(attempt);
	if (attempt->account.end || log->step == DONE)
		return false;
	log->timed_out = true;
	read_soon(log);
	return true;
}

bool logs_have_end(const struct kube_attempt *attempt)
{
	return attempt->log && attempt->log->pod;
}

void logs_forget(struct kube_attempt *attempt)
{
	struct kube_log *log = STEAL(attempt->log);
	if (!log)
		return;
	list_remove(&log->link);
	log->attempt = NULL;
	if (log->call.request)
		kube_client_cancel(&log->call);
	else
		log_free(log);
}
