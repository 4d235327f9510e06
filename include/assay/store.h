/* The store door: where rows live.
 *
 * Every operation is a struct that the caller owns, fills and hands in; it is given back by its `done` exactly once, on
 * the loop's thread, never before the call that started it has returned, also when the store stops or fails. Until
 * then neither the struct nor what it points to may change. Results live in the operation's arena, which the caller
 * frees with store_operation_fini() when it has read them. All operations are batches: one row is a batch of one.
 *
 * Operations that write are atomic: all of the batch's effects with their events, or none. Bad data in one item
 * fails that item alone. An operation whose outcome is STORE_UNKNOWN may or may not have happened: the caller hands it in again,
 * unchanged but for its results, until the outcome is known; every writing operation is made so that repeating it does no
 * harm and reports what is true. Operations of one kind are executed in the order they came, but for submissions, of which some may be on their way together (parallel_submits); those of different kinds
 * may overtake each other, but what a `done` reported is seen by everything that is handed in after it. */
#ifndef ASSAY_STORE_H
#define ASSAY_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/task.h"
#include "base/arena.h"
#include "base/err.h"

struct store;
struct store_operation;

enum store_outcome {
	STORE_OK,
	STORE_FAILED, /* nothing was changed; err says why (a defect, a full disk) */
	STORE_AWAY, /* nothing was changed; the store cannot be reached now, or is stopping */
	STORE_UNKNOWN, /* the connection died between the commit and its answer: hand it in again */
};

/* The head of every operation. */
struct store_operation {
	void (*done)(struct store_operation *operation); /* set by the caller */
	void *owner; /* the caller's */
	enum store_outcome outcome;
	struct err err; /* when outcome is not STORE_OK */
	struct arena arena; /* owned: the results */
	struct store_operation *next; /* the store's, while it has it */
	int kind; /* the store's */
};

/* Frees the results, leaving the request as it was, so that it can be handed in again. */
void store_operation_fini(struct store_operation *operation);

/* ---- submit ---- */
enum submit_status {
	SUBMIT_CREATED, /* also when this very submission (same id) had been committed before */
	SUBMIT_EXISTS, /* a key of it points at an older task with the same digest: nothing written */
	SUBMIT_CONFLICT, /* … with another digest: nothing written */
	SUBMIT_DISAGREE, /* eval_id and idempotency_key point at different tasks: nothing written */
	SUBMIT_INVALID, /* the store cannot hold this item; `error` says why */
};

struct submit_item {
	const struct submission *submission; /* borrowed */
	bool born_running; /* written as RUNNING, attempt 1, owned by locked_by, instead of QUEUED */
};

struct submit_result {
	enum submit_status status;
	struct uuid id; /* of the created or existing task */
	struct uuid other_id; /* SUBMIT_DISAGREE: the second one */
	enum task_status task_status; /* as it is now */
	int64_t created_at_us;
	struct event event; /* SUBMIT_CREATED: the `queued` event, sequence 1 */
	const char *error; /* SUBMIT_INVALID */
};

/* Two items of one batch with the same key: the first is created, the second exists or conflicts. */
struct store_submit {
	struct store_operation operation;
	const struct submit_item *items;
	size_t count;
	struct bytes locked_by;
	struct submit_result *results; /* count of them, in order */
};

/* ---- claim ---- */
struct claim_lane {
	struct bytes executor; /* rows routed to this executor … */
	int slots; /* … at most so many */
};

/* Moves due QUEUED and RETRY rows to RUNNING, attempt + 1, owned by locked_by: highest priority first, then smallest
 * turn, then oldest id; all queues together, or only those named. */
struct store_claim {
	struct store_operation operation;
	struct bytes locked_by;
	const struct claim_lane *lanes;
	size_t lane_count;
	const struct bytes *queues; /* NULL: all */
	size_t queue_count;
	/* Their rows are passed over, and do not keep a lane from being exhausted: they run as many as they may. */
	const struct bytes *tenants_full;
	size_t tenant_full_count;
	struct task *tasks; /* with params */
	size_t count;
	bool *exhausted; /* per lane: nothing due that may be claimed was left behind */
	int64_t next_due_us; /* the earliest run_after of waiting rows of these lanes; 0: none */
};

/* ---- settle ---- */
enum transition_kind {
	TRANSITION_STARTED, /* stays RUNNING, started_at_us set: event running */
	TRANSITION_STEP, /* stays RUNNING: event test or stage, with event_data */
	TRANSITION_END, /* to COMPLETED, FAILED or CANCELLED (target): event of that kind */
	TRANSITION_RETRY, /* to RETRY, attempts + 1, due after delay_us: event retrying. CANCELLED if a cancel was requested */
	TRANSITION_HAND_BACK, /* to QUEUED, uncharged, due after delay_us: no event. CANCELLED if a cancel was requested */
};

struct transition {
	enum transition_kind kind;
	struct task_guard guard; /* status is TASK_RUNNING: the others never transit by this operation */
	enum task_status target; /* TRANSITION_END */
	int64_t at_us; /* when it happened, by the clock of the service */
	int64_t started_at_us; /* if not 0 and the row has none yet: sets it and writes event running first */
	int64_t delay_us;
	bool charged; /* TRANSITION_END by an infrastructure fault: attempts + 1. CANCELLED, uncharged, if a cancel was requested */
	enum task_reason reason, cause;
	enum event_kind event_kind; /* TRANSITION_STEP */
	struct bytes event_data; /* members of the event's JSON object */
	struct bytes started_data; /* the same for the `running` event */
	struct bytes result; /* TRANSITION_END: JSON for the row */
	/* Replaces `result` and `event_data` where the row ends as CANCELLED although the transition did not say so. */
	struct bytes cancelled_result, cancelled_data;
	struct bytes error;
	struct bytes node, pod, image;
};

enum settle_status {
	SETTLE_APPLIED, /* also when this very transition had been committed before */
	SETTLE_REFUSED, /* the guard did not hold: somebody else owns or has ended the row */
};

struct settle_result {
	enum settle_status status;
	enum task_status task_status; /* as it is now; TASK_QUEUED with attempt 0 where the row is gone */
	int attempt, attempts;
	int64_t run_after_us;
	uint32_t sequence;
	struct event events[2]; /* what was written, in order; without output and error */
	int event_count;
};

/* One compare-and-set for the batch; several transitions of one task are made in the order given. Output chunks are
 * written in the same transaction, whatever becomes of the transitions (they are keyed by attempt). */
struct store_settle {
	struct store_operation operation;
	const struct transition *transitions;
	size_t count;
	const struct output_chunk *chunks;
	size_t chunk_count;
	struct bytes publisher; /* the incarnation that will publish the events */
	struct settle_result *results; /* count of them, in order */
};

/* ---- command ---- */
enum command_kind { COMMAND_CANCEL, COMMAND_RUN };

enum command_status {
	COMMAND_DONE, /* cancel: ended at once; run: waiting, and due */
	COMMAND_REQUESTED, /* cancel of a running task: its owner is to kill it */
	COMMAND_CONFLICT, /* cancel of an ended task; run of a running one */
	COMMAND_NOT_FOUND,
};

struct command_result {
	enum command_status status;
	struct uuid id;
	enum task_status task_status; /* as it is now */
	int attempt;
	struct bytes locked_by; /* COMMAND_REQUESTED */
	struct bytes executor;
	struct event event; /* has_event: cancelled, or queued for a new run */
	bool has_event;
};

/* COMMAND_CANCEL: waiting → CANCELLED at once with its event; RUNNING → cancel_requested_at set (once).
 * COMMAND_RUN: waiting → run_after cleared; ended → QUEUED, run + 1, max_attempts grown by run_attempts, outcome fields and
 * cancel request cleared, event queued. Ids name tasks, or one batch id names all of its tasks that have not ended
 * (those it does not touch are not in the results). */
struct store_command {
	struct store_operation operation;
	enum command_kind kind;
	const struct uuid *ids;
	size_t count;
	struct uuid batch_id; /* not nil: instead of ids */
	struct bytes tenant; /* rows of others are not found; absent: all tenants */
	int64_t at_us;
	struct bytes
		event_data; /* for rows that end here as CANCELLED (their result stays NULL): members of the event */
	struct bytes publisher; /* the incarnation that will publish the events */
	struct command_result *results;
	size_t result_count;
};

/* ---- reads ---- */
struct read_task { /* by id: results[i] belongs to ids[i], or is NULL */
	struct store_operation operation;
	const struct uuid *ids;
	size_t count;
	struct bytes tenant; /* absent: all */
	bool with_params;
	const struct task **results;
};

struct read_match { /* short ids: prefix of at least four hex digits, or a suffix of exactly eight; both united */
	struct store_operation operation;
	struct bytes text; /* hex digits, with or without the dashes of a UUID; lower case */
	struct bytes tenant;
	struct uuid *results; /* at most 21: with the 21st it is known that there are more than 20 */
	size_t result_count;
};

/* Rows that one read_list looks at, whatever its filters let through: rare ones come by pages that may be empty. */
#define READ_LIST_EXAMINED 20000

struct read_list { /* newest first */
	struct store_operation operation;
	struct bytes tenant; /* absent: all */
	uint32_t status_mask; /* 1 << enum task_status; 0: all */
	struct bytes type, queue, eval_id; /* absent: all */
	struct uuid batch_id; /* nil: all */
	size_t limit;
	struct uuid before; /* nil: from the newest; else those older than this id: the cursor of the page before */
	const struct task *results; /* without params */
	size_t result_count;
	bool more; /* there may be older ones, … */
	struct uuid next; /* … from here on: `before` of the next page */
};

struct read_events { /* in the order of the stream */
	struct store_operation operation;
	struct cursor after;
	/* Absent, or what the read that gave `after` as its `last` gave as `next`: then nothing comes again that has
	 * been given. */
	struct bytes position;
	struct uuid task_id; /* nil: all */
	struct uuid batch_id; /* nil: all */
	struct bytes eval_id; /* absent: all */
	struct bytes tenant; /* absent: all */
	uint32_t kind_mask; /* 1 << enum event_kind; 0: all durable kinds */
	struct bytes publisher; /* the incarnation (locked_by) that was to publish them; absent: all */
	size_t limit;
	size_t bytes_most; /* of output and data, about, and one event more; 0: what the store takes for enough */
	struct event *results; /* terminal ones with output and error */
	size_t result_count;
	/* Go on from here: moves also when filters let nothing through. Everything before it has been given. */
	struct cursor last;
	/* Where cursors are not final some of what has been given may lie behind `last`: this says exactly what.
	 * Opaque, in the operation's arena, good within this process. Absent: nothing does. A walk that goes on
	 * without it may not come to its end. */
	struct bytes next;
	bool more; /* ask again at once: a limit was reached, or something came late */
	bool gap; /* `after` is older than what is kept: results begin with the oldest there is */
};

struct read_output {
	struct store_operation operation;
	struct uuid task_id;
	int attempt; /* 0: the last */
	int stream; /* 0: both in the order they were read; 1, 2: one */
	uint64_t offset; /* within what `stream` says */
	size_t limit; /* bytes */
	struct output_chunk *results; /* the first may begin inside a chunk: offsets are those of its data */
	size_t result_count;
	int attempt_read;
	uint64_t end; /* bytes that exist behind `offset`'s origin */
};

struct read_position { /* why a task waits */
	struct store_operation operation;
	struct uuid id;
	int64_t ahead; /* due rows of its queue and executor that come before it, counted up to 10,000 */
	int64_t queued; /* due rows of its queue and executor, counted up to 10,000 */
};

struct tenant_count {
	struct bytes tenant;
	int64_t waiting; /* QUEUED and RETRY */
	int64_t running;
};

struct read_counts {
	struct store_operation operation;
	bool latest_only; /* set by the caller, who needs `latest` alone: nothing is counted */
	int64_t by_status[TASK_STATUS_COUNT];
	int64_t oldest_waiting_at_us; /* queued_at of the oldest due row; 0: none waits */
	struct cursor latest; /* the end of the stream of events: "from now on" */
	struct tenant_count *tenants; /* those with something waiting or running */
	size_t tenant_count;
};

/* ---- replicas ---- */
struct replica_lane {
	struct bytes executor;
	int free_slots;
};

/* A turn of start-time fair queueing: the last one that was given to a tenant on an executor and priority, or, where tenant is absent, the
 * virtual time: the turn of the row last claimed there. */
struct fair_turn {
	struct bytes executor, tenant;
	int priority;
	double turn;
};

/* Tells the store that this incarnation lives, and learns what the others want of it. */
struct store_heartbeat {
	struct store_operation operation;
	struct bytes locked_by;
	struct bytes address; /* for people */
	bool draining;
	const struct replica_lane *lanes;
	size_t lane_count;
	struct cursor published; /* watermark: all own events up to here have been sent */
	int64_t lease_us;
	const struct bytes *told; /* incarnations found dead, whose events have since been published again */
	size_t told_count;
	const struct fair_turn
		*turns; /* that grew here since the last heartbeat; kept by the store as the greatest ever told */
	size_t turn_count;
	bool alive; /* false: the row was marked dead; kill all, take a new incarnation */
	struct uuid *cancelled; /* own RUNNING rows with a cancel request */
	size_t cancelled_count;
	size_t replica_count; /* that are alive, this one included */
	/* The least `published` of all incarnations that live, or are dead and not told of. length 0: one is not known, or cursors are final. */
	struct cursor frontier;
	/* The end of the stream now: no event will be written that lies before it. length 0: cursors are final. */
	struct cursor horizon;
	struct fair_turn *
		latest; /* turns that others told since this incarnation's last heartbeat; at its first one, all that are kept */
	size_t latest_count;
};

enum take_kind {
	TAKE_DEAD, /* replicas whose lease is over by the store's clock: marked dead, then their RUNNING rows */
	TAKE_ALL, /* embedded start: every RUNNING row, whoever owns it, since the data directory's lock proves them dead */
	TAKE_OWN, /* own RUNNING rows: to find those that are strange to this process after a lost answer */
};

/* Takes rows up: locked_by becomes the caller's, nothing else changes; the caller then adopts or settles each. TAKE_OWN changes nothing. */
struct store_take {
	struct store_operation operation;
	enum take_kind kind;
	struct bytes locked_by;
	int64_t lease_us;
	size_t limit;
	const struct task *tasks; /* with params; at most limit */
	struct bytes *former; /* per task: its owner before */
	uint64_t *output_ends; /* per task: where what its attempt has printed ends, of what is stored */
	size_t count;
	bool more;
	/* TAKE_DEAD, TAKE_ALL: of each incarnation found dead, and of those whose finder died before their events were told of (store_heartbeat):
	 * what lies above is to be published again. The same may be given again. */
	struct cursor *watermarks;
	struct bytes *dead;
	size_t dead_count;
};

/* ---- webhooks ---- */
/* A delivery is the terminal event of one run on its way to the task's callback_url. The transaction that ends a run (settle, a cancel
 * of what waits) writes it if and only if the task has a callback_url; (task, run) names it. Retention deletes it with its task. */
enum delivery_status {
	DELIVERY_WAITING, /* due, or to be tried again, or under way */
	DELIVERY_DELIVERED,
	DELIVERY_GIVEN_UP,
};

struct delivery {
	struct uuid task_id;
	int run;
	int attempt; /* numbers the claims of it, this one included, and guards its settlement */
	int attempts; /* recorded before this one */
	int64_t created_at_us; /* when the run ended, by the store's clock */
	struct bytes url;
	struct bytes origin; /* of the url: task/callback.h */
};

struct delivery_origin {
	struct bytes origin;
	int busy; /* deliveries to it that the caller has under way */
};

/* Leases due deliveries to locked_by: whoever settles one in time keeps it, and when the lease is over it is due again, so that those of a
 * dead process are taken up by another. So are those of a claim whose answer was lost. */
struct store_delivery_claim {
	struct store_operation operation;
	struct bytes locked_by;
	int64_t lease_us;
	size_t limit;
	int origin_limit; /* at most so many under way to one origin … */
	const struct delivery_origin *origins; /* … counting these */
	size_t origin_count;
	bool count_waiting;
	struct delivery *deliveries; /* the longest due first */
	size_t count;
	bool more; /* the limit was reached: there may be others */
	int64_t next_due_in_us; /* until the earliest of those left, to origins below their limit, is due; -1: none is left */
	int64_t waiting; /* count_waiting: those that are neither delivered nor given up, counted up to 10,000 */
};

enum delivery_verdict {
	DELIVERY_SENT, /* the receiver has it */
	DELIVERY_AGAIN, /* recorded, and due again after delay_us */
	DELIVERY_STOP, /* recorded, and never tried again */
	DELIVERY_HAND_BACK, /* not tried: due at once, no record */
};

/* What came of one attempt. */
struct delivery_outcome {
	struct uuid task_id;
	int run, attempt; /* as claimed */
	enum delivery_verdict verdict;
	int64_t at_us; /* when the attempt began, by the service's clock */
	int64_t duration_us;
	int http_status; /* 0: no answer came */
	struct bytes error; /* for people; absent: none */
	int64_t delay_us;
};

struct store_delivery_settle {
	struct store_operation operation;
	struct bytes locked_by;
	const struct delivery_outcome *outcomes;
	size_t count;
	/* count of them. REFUSED: the lease was over and another has claimed it, or it is gone; nothing was recorded. */
	enum settle_status *results;
};

struct delivery_attempt {
	int attempt;
	int64_t at_us, duration_us;
	int http_status; /* 0: no answer came */
	struct bytes error;
};

struct delivery_record {
	int run;
	enum delivery_status status;
	int64_t created_at_us;
	int64_t due_at_us; /* DELIVERY_WAITING: the next attempt; while one is under way the end of its lease */
	bool under_way;
	const struct delivery_attempt *attempts; /* in their order */
	size_t attempt_count;
};

struct read_deliveries { /* of one task, the newest 100 runs, the newest first */
	struct store_operation operation;
	struct uuid task_id;
	struct bytes tenant; /* absent: all */
	bool found; /* there is such a task */
	struct bytes url; /* absent: it has no callback_url */
	struct delivery_record *results;
	size_t result_count;
};

/* ---- housekeeping ---- */
struct store_trim { /* one small step of retention */
	struct store_operation operation;
	int64_t finished_before_us;
	size_t limit;
	size_t deleted;
	bool more;
};

/* What the store tells unasked, on the loop's thread, never from within a call into it. */
struct store_notices {
	void (*on_work)(void *owner); /* rows may have become claimable by other hands than the listener's own */
	void (*on_cancel)(void *owner, const struct uuid *id); /* somebody asked to cancel a running task */
	void (*on_events)(void *owner); /* other replicas wrote events */
	void (*on_output)(
		void *owner, const struct uuid *id); /* another replica wrote output of a task followed here */
	void (*on_output_wanted)(
		void *owner, const struct uuid *id); /* another replica follows the output of this task */
	void (*on_reopened)(void *owner,
		const struct uuid *id); /* another replica runs an ended task again; nil: any may have been */
	/* What no waiting mends, before the store was available for the first time: wrong password, no rights, a schema that is not ours. */
	void (*on_failed)(void *owner, const struct err *err);
	void (*on_available)(void *owner, bool available,
		const struct err *why_not); /* first when it can be used, then at each change */
};

struct store_status {
	const char *kind; /* "sqlite", "postgres" */
	bool available;
	struct err err; /* when not */
	bool schema_wrong; /* it answers, but cannot serve */
	bool cursors_final; /* behind an event's cursor lies what commits after it; else what commits later may lie before it */
	int parallel_submits; /* as many are taken before the first is answered, at least 1; the same for a store's whole life */
	size_t parallel_rows; /* … where the later one has so many: fewer gain more by waiting for company */
	char description[160]; /* for people: where, and by which settings */
};

struct store_ops {
	/* Opens, migrates, becomes available (or goes on trying where the other side may come back). A failure that no waiting mends (corrupt
	 * file, no rights, a directory that another daemon holds) is returned here. */
	int (*start)(struct store *store, const struct store_notices *notices, void *owner, struct err *err);
	/* Completes what it has, refuses what comes (STORE_AWAY), then calls on_stopped once. */
	void (*stop)(struct store *store, void (*on_stopped)(void *owner), void *owner);
	void (*free)(struct store *store);
	void (*status)(const struct store *store, struct store_status *ret_status);

	void (*submit)(struct store *store, struct store_submit *submit);
	void (*claim)(struct store *store, struct store_claim *claim);
	void (*settle)(struct store *store, struct store_settle *settle);
	void (*command)(struct store *store, struct store_command *command);
	void (*heartbeat)(struct store *store, struct store_heartbeat *heartbeat);
	void (*take)(struct store *store, struct store_take *take);
	void (*trim)(struct store *store, struct store_trim *trim);
	void (*delivery_claim)(struct store *store, struct store_delivery_claim *claim);
	void (*delivery_settle)(struct store *store, struct store_delivery_settle *settle);

	/* Events of other replicas are wanted from now on, or no longer: on_events. Where a store serves one process alone, nothing. */
	void (*follow_events)(struct store *store, bool wanted);
	/* The same for the output of one task, which another replica may run: on_output. Asked for again at least every heartbeat while it is wanted. */
	void (*follow_output)(struct store *store, const struct uuid *id);

	void (*read_task)(struct store *store, struct read_task *read);
	void (*read_match)(struct store *store, struct read_match *read);
	void (*read_list)(struct store *store, struct read_list *read);
	void (*read_events)(struct store *store, struct read_events *read);
	void (*read_output)(struct store *store, struct read_output *read);
	void (*read_position)(struct store *store, struct read_position *read);
	void (*read_counts)(struct store *store, struct read_counts *read);
	void (*read_deliveries)(struct store *store, struct read_deliveries *read);
};

/* An implementation embeds this first. */
struct store {
	const struct store_ops *ops;
};

#endif
