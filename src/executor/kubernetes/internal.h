/* What the files of the Kubernetes executor share. Nobody else includes this. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_INTERNAL_H
#define ASSAY_EXECUTOR_KUBERNETES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include <yyjson.h>

#include "assay/executor.h"
#include "base/arena.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/table.h"
#include "executor/kubernetes/account.h"
#include "executor/kubernetes/client.h"
#include "executor/kubernetes/kubernetes.h"
#include "executor/kubernetes/plan.h"
#include "executor/kubernetes/watch.h"
#include "io/http_server.h"
#include "task/job_name.h"

#define KEY_SIZE (16 + sizeof(int32_t))
#define DELETE_OPTIONS "{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\",\"propagationPolicy\":\"Foreground\"}"

enum kube_stage {
	KUBE_STARTING, /* its code has not started */
	KUBE_RUNNING,
	KUBE_ENDING, /* its end was reported, its Job goes */
};
#define KUBE_STAGE_COUNT 3

/* Lists that what we know is compared with: those of the watches, and the slow one of Jobs. */
enum kube_look { LOOK_JOBS, LOOK_JOBS_SLOWLY, LOOK_PODS };
#define KUBE_LOOK_COUNT 3
#define KUBE_LAG_BUCKETS 13
#define KUBE_CHECKS_MAX 5

struct kube_exchange;

/* A pod's log is both streams in one, and holds no more than one run. */
#define NO_TESTS "it has neither an attempt listener nor a Redis that reports come by"

/* What every event of its pod looks at comes first, together: there are ten thousand of them, and an event finds none in the processor's
 * cache. */
struct kube_attempt {
	struct table_node node; /* in kubernetes->attempts */
	char key[KEY_SIZE];
	enum kube_stage stage; /* as it is counted */
	struct kubernetes *kubernetes; /* borrowed: it owns us */
	struct job *job; /* the coordinator's; NULL once its end was reported */
	uint64_t pod_uid; /* hash_bytes() of it; 0: no pod yet */
	enum task_reason leaving; /* the pod, when it was seen last */
	bool told_to_end; /* the pod, when it was seen last */
	bool has_run; /* a container of it */
	bool ended; /* to be reported */
	bool must_delete; /* when the call that is on its way is over */
	/* See sweep.c: the number of the first list that its Job and its pod must be in (0: not there yet), of the last ones that they
	 * were in, and how many lists of Jobs in a row had another opinion of it. */
	uint32_t job_since, pod_since;
	uint32_t seen[KUBE_LOOK_COUNT];
	int strange;
	char *pod_name, *node_name; /* owned; NULL: not known yet */
	struct kube_log *log; /* of its pod, owned; NULL: nobody has asked for it */
	struct list podless_link; /* in kubernetes->podless, or in none */
	struct heap_node deadline; /* in kubernetes->deadlines, or none; key: monotonic, then it has taken too long */
	char *overdue_message; /* owned */
	enum task_reason overdue; /* for what */
	enum job_wait_for waits; /* what the job was told … */
	char *waits_message; /* … and, owned, its words */
	struct account account;
	struct list link; /* in kubernetes->list */
	struct list due_link; /* in kubernetes->due, in kubernetes->refused_calls, or alone */
	const struct language *language; /* of its job; NULL: not in the file (any more) */
	bool is_fetched; /* its plan is too large for the Secret */
	bool deleted; /* its Job is gone, or somebody else's to delete */
	bool settled; /* its end needs us no more: it goes when its Job has */
	bool disowned; /* another's: not in the table any more */
	bool must_repeat; /* the wrapper has sent something to another listener that we want, too */
	bool go_on_known, go_on; /* the coordinator's answer to the question whether the next run may begin */
	bool finished; /* so the Job said when it was listed last */
	uint32_t allowed; /* runs that may begin */
	char name[JOB_NAME_SIZE];
	char *job_uid; /* owned; until its Secret and its pod are there */
	int refusals; /* of calls that are made again */
	int64_t look_at_us; /* monotonic: when the Job's Events are to be read */
	int looks; /* how often they were, in vain */
	struct report_decoder decoder;
	/* The wrapper asks whether to go on, or has told of its end and goes when that is settled. */
	struct http_exchange *held;
	struct list hold_link; /* in kubernetes->holds where it asks */
	int64_t hold_until_us; /* monotonic; then it is told to wait on */
	struct list publish_link; /* in kubernetes->publishing, where its image publishes by itself */
	bool publish_waits; /* it is created when somebody hears what it will publish */
	struct kube_exchange *exchange; /* owned: the call on its way; NULL: none */
	/* When the API server said that the Job was made, until the watch has told of it; monotonic, 0: not, or told already. */
	int64_t created_at_us;
	bool heard; /* the watch has told of it */
};

/* Attempts lie side by side: ten thousand of them on as few pages as can be, for every event touches another one. */
#define KUBE_ATTEMPTS_AT_ONCE 64
struct kube_attempts {
	struct kube_attempts *next; /* owned */
	struct kube_attempt attempts[KUBE_ATTEMPTS_AT_ONCE];
};

enum state { STATE_NEW, STATE_RUNNING, STATE_STOPPING };

struct kubernetes {
	struct executor executor; /* first */
	struct kubernetes_executor_options options;
	struct kube_client *client; /* owned */
	struct manifest *manifest; /* owned */
	char *namespace; /* owned */
	char *listener; /* owned: where pods report to; NULL: nowhere, empty: it is not known yet */
	uint16_t
		learnt_port; /* the listener is at this port of the address that we reach the API server from; 0: it is told */
	char fallback[64]; /* an address that leads to any replica's attempt listener; empty: none, or not known yet */
	uv_getaddrinfo_t lookup;
	bool is_looking_up;
	struct http_server *server; /* owned; NULL: no attempt listener */
	struct kube_watch *jobs, *pods; /* owned, while running */
	struct list log_waiting; /* logs that are to be followed when there is room */
	int log_streams; /* those that are followed now */
	struct redis *redis; /* owned: brings what images publish; NULL: there is none */
	struct redis
		*reports; /* owned: brings what wrappers report; NULL: they report to the listener, or not at all */
	bool reports_away;
	struct list publishing; /* attempts whose image publishes by itself */
	size_t subscribed; /* channels that it has confirmed */
	bool is_deaf; /* it is away: what is published now is not heard */
	const struct executor_listener *told;
	void *owner;
	enum state state;
	struct table attempts;
	struct list list; /* all of them */
	struct kube_attempts *storage; /* owned: what they, and those in `spare`, are part of */
	struct list spare; /* by their `link`: in use again before there are more */
	int staged[KUBE_STAGE_COUNT]; /* of them, by stage */
	struct list due; /* those whose end is to be reported */
	struct list refused_calls; /* those of which a call was refused that is made again */
	struct heap deadlines;
	struct list holds; /* attempts whose wrapper asks whether to go on, the first to be answered first */
	uv_timer_t later, deadline, refused, look_up_again, hold, quota, wait, again;
	uv_timer_t news; /* the coordinator is to be told that something has changed: once, however much */
	struct executor_status status;
	struct executor_language *languages; /* owned */
	char detail[256];
	struct err jobs_err, pods_err;
	bool jobs_up, pods_up, is_refused, is_listing; /* is_listing: the watch of Jobs */
	bool is_full; /* a quota is used up: nothing is begun for a while */
	bool is_asked_to_wait; /* by the API server: likewise */
	int quota_failures; /* in a row */
	uint64_t forged;
	struct {
		uint64_t buckets[KUBE_LAG_BUCKETS];
		double sum_s;
	} lag; /* of the watch: metrics.c */
	struct executor_check checks[KUBE_CHECKS_MAX];

	/* events.c */
	struct {
		struct list podless; /* whose Job has no pod, and nobody has said why; in the order of look_at_us */
		uv_timer_t timer;
		struct kube_attempt *attempt; /* borrowed: whose Events are being read; NULL: nobody's */
		struct kube_call call;
		struct buffer path;
	} events;

	/* sweep.c */
	struct {
		struct kube_watch *slow; /* owned, while running; NULL: there is none */
		uint32_t lists; /* begun, of all kinds */
		uint32_t look[KUBE_LOOK_COUNT]; /* the number of the last one */
		struct list waiting; /* struct leftover: Jobs to be deleted */
		int deleting; /* calls on their way */
		uint64_t deleted, lost; /* Jobs that nobody wanted; attempts whose Job or pod had gone unheard */
	} sweep;
	int watching; /* watches that have not stopped yet: the client outlives them */
	int open; /* parts that have not stopped yet */
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

/* kubernetes.c */
void kubernetes_count(
	struct kubernetes *k); /* slots and what is busy, anew; where slots became free the coordinator is told */
void kubernetes_changed(struct kubernetes *k); /* health anew: the coordinator is told */
/* The API server does not let us: neither waiting nor another attempt helps, but an administrator may. Nothing is begun for a
 * while. */
void kubernetes_refused(struct kubernetes *k, const struct err *err);
/* The quota of the namespace is used up: nothing is begun until one of ours has gone, or for a while. */
void kubernetes_full(struct kubernetes *k);
/* The API server asks to be left alone for so long: nothing is begun meanwhile, at most for some minutes. */
void kubernetes_wait(struct kubernetes *k, int64_t pause_us);
void kubernetes_not_full(struct kubernetes *k);
void kubernetes_pod_changed(struct kubernetes *k, enum kube_change change, yyjson_val *object);
void kubernetes_part_stopped(void *owner);

/* attempt.c */
struct kube_attempt *kube_attempt_new(struct kubernetes *k, struct job *job);
void kube_attempt_free(struct kube_attempt *attempt);
void kube_attempts_fini(struct kubernetes *k); /* when there are none */
struct kube_attempt *kube_attempt_find(const struct kubernetes *k, const struct uuid *task_id, int attempt);
void kube_attempt_create(struct kube_attempt *attempt); /* its Job and its Secret */
void kube_attempt_get(struct kube_attempt *attempt); /* the Job is there, or it is lost */
void kube_attempt_delete(
	struct kube_attempt *attempt); /* its Job, at once or when the call that is on its way is over */
void kube_attempt_settled(
	struct kube_attempt *attempt); /* its end is in the store: its Job is deleted, and it is forgotten */
void kube_attempt_disown(struct kube_attempt *attempt); /* its Job, its reports and its end are another's */
void kube_attempt_staged(struct kube_attempt *attempt); /* something may have moved it on: it is counted anew */
void kube_attempt_over(struct kube_attempt *attempt); /* its end is known: to be reported soon */
void kube_attempt_lost(struct kube_attempt *attempt, enum task_reason reason, const char *message);
/* It is lost for that reason if nothing else comes in time. A deadline for the same reason that runs already goes on. */
void kube_attempt_deadline(struct kube_attempt *attempt, enum task_reason reason, int64_t in_us, const char *message);
void kube_attempt_no_deadline(struct kube_attempt *attempt);

/* What it waits for, for those who ask; `message` is copied and may be NULL. Nothing once its end is known. */
void kube_attempt_waits(struct kube_attempt *attempt, enum job_wait_for what, const char *message);
/* Its pod is not there any more, and did not say how it ended. */
void kube_attempt_gone(struct kube_attempt *attempt, const char *message);

struct kube_plan_options kubernetes_plan_options(const struct kubernetes *k);
const struct language *kube_attempt_language(const struct kube_attempt *attempt);

/* events.c */
void events_await_pod(struct kube_attempt *attempt); /* its Job is there, and has no pod that we know of */
void events_forget(struct kube_attempt *attempt); /* it has one, or is over */

/* plain.c */
bool plain_is(const struct kube_attempt *attempt); /* its image runs as it is */
/* Why it cannot be run in the way that its language and our settings want; NULL: it can. */
const char *plain_unfit(const struct kube_attempt *attempt);
/* In the arena; NULL: by the wrapper. */
const struct manifest_plain *plain_of(const struct kube_attempt *attempt, struct arena *arena);

/* logs.c: what pods print, where no report brings it. A pod that runs as it is, is followed while there is room for it. */
/* True: the end that this pod has come to is to wait for its log; kubernetes_pod_changed() follows with the same object. `gone`: it was
 * deleted, and its log with it. */
bool logs_hold(struct kube_attempt *attempt, const struct pod *pod, bool gone, yyjson_val *object);
/* The same before a pod that runs as it is has timed out: kube_attempt_lost() follows. */
bool logs_hold_timeout(struct kube_attempt *attempt);
bool logs_have_end(
	const struct kube_attempt *attempt); /* its pod has ended, which is told when its log has been read */
void logs_forget(struct kube_attempt *attempt);

/* publish.c: images that publish their events by themselves (seed 003). */
void publish_init(struct kubernetes *k);
void publish_join(struct kube_attempt *attempt); /* nothing, where its image does not */
void publish_leave(struct kube_attempt *attempt);
/* True: nobody hears it yet; kube_attempt_create() follows. */
bool publish_holds(struct kube_attempt *attempt);

/* reports.c: reports over a Redis. */
int reports_init(struct kubernetes *k, struct err *err);
void reports_join(struct kube_attempt *attempt);
void reports_leave(struct kube_attempt *attempt);
/* PLAN_CHANNEL, in the arena; NULL: it reports otherwise. */
const char *reports_channel(const struct kube_attempt *attempt, struct arena *arena);

/* listener.c */
int listener_start(struct kubernetes *k, struct err *err);
/* Takes frames of the attempt, whichever way they came. `kept`: the sequence from which on the wrapper has what it sent; UINT64_MAX:
 * what comes first is all that there is. False: it is not all of this attempt. */
bool listener_take(struct kube_attempt *attempt, struct bytes body, uint64_t kept, bool *ret_asks);
/* The same of frames that nobody can be asked for again: what is missing before them is lost. */
void listener_take_published(struct kube_attempt *attempt, struct bytes frames);
/* Where nobody has named the listener's address: pods reach us where the API server does. */
void listener_learn_address(struct kubernetes *k);
bool listener_is_unknown(const struct kubernetes *k); /* … and that is not known */
void listener_look_up(struct kubernetes *k); /* the address behind the fallback's name, now and every few minutes */
void listener_answer_held(struct kube_attempt *attempt); /* the wrapper that waits for its answer, if it does */
void listener_send_away(struct kube_attempt *attempt); /* the same, to look for the attempt elsewhere */

/* metrics.c */
void kubernetes_lag_observe(struct kubernetes *k, int64_t us);
void kubernetes_write_metrics(const struct executor *executor, struct buffer *to);
void kubernetes_check(
	struct kubernetes *k, const struct err *why); /* checks anew; why: a watch does not work, NULL: all do */

/* sweep.c */
void sweep_init(struct kubernetes *k);
void sweep_listed(struct kubernetes *k, enum kube_look look, bool end);
void sweep_job(struct kubernetes *k, enum kube_look look, yyjson_val *job); /* one of a list */
void sweep_discard(struct kubernetes *k, const struct uuid *task_id, int attempt);
/* The Job is gone, and not by us: deletes what it owned, where that was let live. `pod`: its name, copied; NULL: not known. */
void sweep_owned(struct kubernetes *k, const char *job, const char *pod);
/* The same where it is a pod without an owner. */
void sweep_orphan(struct kubernetes *k, const struct pod *pod, yyjson_val *object);
bool sweep_has_finished(yyjson_val *job);
void sweep_fini(struct kubernetes *k);

#endif
