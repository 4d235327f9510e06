/* What the coordinator's files share. Nobody outside this folder includes it.
 *
 * Everything hangs on struct coordinator, one per process. An attempt is a task that this replica runs: made when a row is claimed,
 * born running or taken over; it owns its job and all its memory (one arena); it leaves the table when its end has been settled. */
#ifndef ASSAY_COORDINATOR_INTERNAL_H
#define ASSAY_COORDINATOR_INTERNAL_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/table.h"
#include "coordinator/coordinator.h"
#include "task/forms.h"
#include "task/job_name.h"

#define LOCKED_BY_SIZE 160
#define CLAIM_LANES_MAX 8
#define SETTLE_BATCH_MAX 512 /* attempts */
#define SETTLE_RANGES_MAX 64 /* a batch halved so often has one attempt left */
#define UNKNOWN_AGAIN_MS 100 /* before a batch whose outcome is not known is handed in again */
#define TAKE_BATCH_MAX 256
#define FOUND_BATCH 256
#define TOLD_AT_ONCE 16 /* dead replicas named by one heartbeat */

/* One executor and what the coordinator has given it. */
struct lane {
	struct executor *executor; /* borrowed */
	bool internal; /* runs only what is no evaluation */
	int occupied; /* attempts that the executor has not ended */
	int reserved; /* slots promised to rows being written as born running, and to the claim in flight */
	int queued_on_way; /* rows being written that a claim is to give, so that nothing may be born before them */
	bool queue_empty; /* the last claim left nothing due, and no work was heard of since */
	bool work_heard; /* … while a claim was in flight */
	int64_t next_due_us; /* earliest run_after that the last claim saw; 0: none */
};

enum test_state { TEST_WAITING, TEST_COMPARING, TEST_DONE };

/* What became of one entry of tests[]. */
struct test_outcome {
	enum test_state state;
	bool ran;
	bool passed;
	struct step_end end;
	struct buffer output; /* standard output, kept for the comparison only */
	struct bytes diff; /* in the attempt's arena */
};

struct pending_chunk {
	struct list link; /* in its attempt's chunks or chunks_in_flight */
	struct output_chunk chunk; /* data follows the struct */
	size_t capacity; /* of data */
	char data[];
};

struct pending_step {
	struct list link; /* in its attempt's steps or steps_in_flight */
	struct bytes event_data; /* in the attempt's arena */
	int64_t at_us;
};

enum attempt_phase {
	ATTEMPT_WAITING, /* given to the executor, not started */
	ATTEMPT_STARTED,
	ATTEMPT_ENDED, /* the executor has forgotten it; comparisons may be on their way */
	ATTEMPT_SETTLING, /* its last transition waits for, or is in, a settle batch */
};

/* What an attempt came to. */
struct attempt_end {
	struct job_end job;
	struct transition transition;
};

struct attempt {
	struct table_node node; /* in coordinator->attempts, key: id; only the newest of a task stands there */
	struct attempt *
		older; /* of the same task: the row was claimed again before we heard that this one is settled, or it is disowned */
	struct list link; /* in coordinator->all_attempts */
	struct coordinator *coordinator;
	struct lane *lane; /* NULL: its executor is not one of ours */
	struct arena arena;
	enum attempt_phase phase;
	struct task task; /* the row as we know it; strings in the arena */
	struct evaluation evaluation;
	struct job job;
	char job_name[JOB_NAME_SIZE];

	bool cancel_requested; /* somebody wants it ended */
	bool hand_back; /* we kill it for our own reasons: drain, cut-off */
	bool unbegun; /* adopted, though this process, which claimed it, did not start it */
	bool disowned; /* the row is another's: settle nothing */
	bool in_flight; /* named in the settle batch that the store has */
	bool deferred; /* … which the store refused for what we wanted of it: it waits in settle.deferred */
	bool written; /* its end is in the store */
	bool bare; /* its end says no more than that its outcome could not be written */
	int refusals; /* of it alone, since something of it was last written */
	int64_t deferred_until_us; /* monotonic */

	/* Output: what is kept for the logs, in the order it was read. */
	uint64_t offset;
	uint64_t offset_stored; /* up to here an earlier owner has written it: it comes again, to be left out */
	uint64_t stream_offset[2];
	struct list chunks, chunks_in_flight; /* struct pending_chunk, not yet in the store */
	size_t chunk_bytes; /* their memory: many small pieces count for more than what was printed */
	struct list output_link; /* in coordinator->settle.unsaved_output */
	int64_t output_saved_at_us; /* monotonic; when it last went into a batch */
	int64_t output_began_at_us; /* monotonic; first output */
	bool output_followed; /* somebody waits for it: write at once */
	int64_t output_wanted_until_us; /* monotonic: another replica follows it, write at once until then */
	struct buffer head[2]; /* the first EVENT_OUTPUT_MAX bytes of each stream, for events */
	bool truncated[2];
	struct buffer compile_output;

	/* Outcome. */
	struct step_end last; /* the step that decided */
	bool has_last;
	struct attempt_end *end; /* in the arena; NULL: it has not ended */
	bool start_published; /* by the job itself */
	struct task_usage usage;
	struct test_outcome *tests; /* evaluation.test_count of them */
	size_t tests_ended;
	size_t comparing;

	/* Transitions to be made, in this order. */
	bool started_pending;
	struct list steps, steps_in_flight; /* struct pending_step */
	bool end_pending;
	struct list settle_link; /* in settle.queue or settle.deferred */
};

/* What one attempt has in the settle batch: everything from where the group before it ends. */
struct settle_group {
	struct attempt *attempt;
	size_t transitions_end, chunks_end;
	bool started, ended; /* what was pending before */
};

struct settle_range {
	size_t begin, end; /* groups */
};

struct flush_waiter {
	struct list link;
	uint64_t batch; /* done when this settle batch has been committed */
	void (*done)(void *owner);
	void *owner;
};

struct cancel_note {
	struct table_node node;
	struct uuid id;
};

/* Start-time fair queueing (Goyal, Vin, Cheng 1996): virtual time of an executor and priority, and the last turn of a tenant there. */
struct fair_tag {
	struct table_node node; /* key: priority, executor, and tenant where it is a tenant's */
	struct list link; /* in fair.grown or fair.told; in none: the store knows it */
	struct bytes executor, tenant; /* in the key; no tenant: the virtual time */
	int priority;
	bool later; /* a tenant's line of what is not due yet; this process's alone */
	double turn;
	char key[];
};

struct admission_slot { /* one submission of a batch in flight */
	struct admission *admission;
	size_t index;
	struct lane *reserved; /* a slot is held for it, and its tenant's promise: born running */
	struct lane *queued; /* it is one of this lane's queued_on_way */
};

#define SUBMITS_MAX 4 /* batches in flight, and one that is answered */

enum admission_batch_state {
	BATCH_FREE,
	BATCH_IN_FLIGHT,
	BATCH_WRITTEN, /* it is answered when the next one has been sent */
};

struct admission_batch {
	struct coordinator *coordinator;
	enum admission_batch_state state;
	struct store_submit submit;
	int write_class; /* republish.c */
	int64_t formed_at_us; /* wall clock */
	struct submit_item *items; /* owned */
	struct admission_slot *slots; /* owned, parallel to items */
	size_t capacity;
	uv_timer_t again; /* hands it in again, its outcome not being known */
	bool unsure; /* handed in again after STORE_UNKNOWN: that it cannot be handed in now says nothing of then */
};

struct coordinator {
	struct coordinator_options options;
	struct log *log;
	enum coordinator_phase phase;
	/* The present incarnation, in `names`: operations on their way may still bear an earlier one. */
	const char *locked_by;
	struct arena names;
	struct lane *lanes; /* the executors in order, then the internal one */
	size_t lane_count;
	struct table attempts; /* struct attempt, the newest of each task */
	struct list all_attempts;
	size_t attempt_count;
	struct list commands; /* struct command_call */
	struct table cancel_notes;
	struct coordinator_statistics statistics;
	/* Runs once when the callbacks of this turn of the loop are done: what many of them want is one batch. */
	uv_idle_t turn;
	bool settle_wanted;
	bool store_available;
	bool recovered;

	/* admission.c */
	struct {
		struct list waiting; /* struct admission */
		size_t waiting_count; /* submissions in them that no batch has taken */
		struct admission_batch batches[SUBMITS_MAX];
		/* As many the store writes side by side, fewer than there are batches; and what one has at least that goes beside another. */
		size_t parallel, parallel_rows;
		size_t next; /* the first admission's next submission */
		uv_check_t turn_end; /* takes all that came in one turn of the loop as one batch */
		uv_idle_t answers; /* keeps the loop from sleeping while a batch waits to be answered */
	} admission;

	/* fair.c */
	struct {
		struct table tags; /* struct fair_tag */
		struct list grown; /* … that the store has not been told of */
		struct list told; /* … with the heartbeat under way */
		struct arena telling; /* what that heartbeat names */
	} fair;

	/* tenant.c. What waits in all is statistics.waiting: as of the last count, kept up in between. */
	struct {
		const struct tenants *settings; /* borrowed; may be NULL */
		struct table loads; /* struct tenant_load */
		struct list all; /* the same */
		struct arena full; /* names that the claim under way passes over */
		uint64_t changes, changes_at_count; /* of what waits; and how many there were when counting began */
		bool moving_at_count; /* rows were on their way then */
		bool counted; /* the figures are those of a count, kept up since */
		int counts_passed_over;
		bool pass_next; /* the next claim passes over tenants that may run fewer than it asks for */
		bool passed; /* the claim under way does */
	} tenants;

	/* follow_output.c */
	struct {
		struct table table; /* struct followed */
		struct list all; /* the same */
	} outputs;

	/* dispatch.c */
	struct {
		bool in_flight;
		struct store_claim claim;
		struct claim_lane lanes[CLAIM_LANES_MAX];
		struct lane *asked[CLAIM_LANES_MAX];
		uv_timer_t
			timer; /* the earliest run_after, a failed claim's next try, and the net under lost notices */
		int64_t net_at_us; /* wall clock, as all of these */
		int64_t retry_at_us; /* no claim before it */
		uint64_t retry_ms;
	} dispatch;

	/* settle.c */
	struct {
		struct list queue; /* struct attempt, with transitions to be made */
		bool urgent; /* something in the queue does not wait for company */
		int64_t started_due_us; /* monotonic: when what has started is written even alone; 0: nothing waits */
		uv_timer_t started_timer;
		bool in_flight;
		uint64_t formed, committed; /* numbers of settle batches, 1 the first */
		struct store_settle settle;
		int write_class; /* republish.c, of the batch in flight */
		struct list deferred; /* struct attempt, refused alone, each with its time to be tried again */
		size_t deferred_count;
		uv_timer_t deferred_timer;
		/* The batch in flight, all owned. */
		struct transition *transitions;
		size_t transition_count, transition_capacity;
		struct output_chunk *chunks;
		size_t chunk_count, chunk_capacity;
		struct settle_group *groups;
		size_t group_count, group_capacity;
		struct settle_range ranges[SETTLE_RANGES_MAX]; /* what is left of it; the last is what the store has */
		size_t range_count;
		struct list unsaved_output; /* struct attempt, with chunks that no batch has taken */
		uv_timer_t output_timer; /* when output is due to be written */
		uv_timer_t retry_timer; /* hands the same batch in again */
		uint64_t retry_ms;
		struct list flush_waiters;
	} settle;

	/* reaper.c */
	struct {
		uv_timer_t timer;
		bool beating, counting, taking, trimming;
		bool take_own; /* rows may be ours that we do not know of */
		struct store_heartbeat heartbeat;
		struct replica_lane lanes[CLAIM_LANES_MAX];
		struct read_counts counts;
		struct store_take take;
		struct store_trim trim;
		int64_t sent_at_us; /* boot time, as the next two: of the heartbeat under way */
		int64_t confirmed_at_us; /* … of the sending of the last one that was confirmed */
		int64_t available_at_us; /* … of the last (re)connect of the store */
		int64_t trimmed_at_us; /* monotonic, as the next */
		int64_t reconciled_at_us; /* own rows were looked through */
		bool cut_off; /* what runs here was killed, for want of a heartbeat */
	} reaper;

	/* republish.c */
	struct {
		struct cursor watermark; /* everything that this replica was to publish up to here has left */
		bool proposed, done; /* a place that is to become the watermark; the writes begun before it are done */
		struct cursor place;
		uint64_t taken; /* by the bus when they were */
		int class; /* of the writes that begin now: 0 or 1 */
		size_t open[2]; /* writes under way, by class */
		const char *names[4]; /* own incarnations, the present one first; in c->names */
		enum { REPUBLISH_NOTHING, REPUBLISH_GAP, REPUBLISH_DEAD } job;
		bool gap; /* the bus is behind */
		bool again; /* the job is to begin anew */
		bool begun; /* where the stream ended before this process is known */
		bool reading, counting; /* operations under way */
		bool sent; /* a batch is with the bus */
		bool more; /* … and another is to follow */
		size_t name; /* GAP: whose events are read */
		struct cursor after, end;
		struct buffer position; /* `after` exactly; empty at the begin of a walk */
		struct cursor horizon; /* … as of the last heartbeat */
		struct list dead; /* struct dead_replica, whose events are to be published */
		struct list told; /* … that have been, and of which the store is to be told */
		struct bytes telling[TOLD_AT_ONCE]; /* … by the heartbeat under way */
		struct read_events read;
		struct read_counts counts;
	} republish;

	/* order.c */
	struct {
		struct table named; /* struct named: tasks that a write under way may give events to */
	} order;

	/* frontier.c */
	struct {
		bool final; /* the store's cursors are: nothing to do */
		struct cursor told; /* to the bus's subscribers, last */
		bool proposed; /* from the store: a place up to which others' events have been told */
		struct cursor place;
		int class; /* of the writes that begin now: 0 or 1 */
		size_t open[2]; /* writes under way, by class */
		bool heard; /* the bus brings them */
	} frontier;

	/* follow.c */
	struct {
		bool wanted; /* somebody follows, or did a moment ago */
		bool deaf; /* the bus does not bring what others publish */
		bool tailing; /* it is read from the store */
		bool placed; /* … from `after` on */
		bool again; /* there may be more */
		bool reading, counting; /* operations under way */
		struct cursor after;
		struct buffer position; /* … exactly */
		struct read_events read;
		struct read_counts counts;
		uv_timer_t linger;
	} follow;

	/* found.c */
	struct {
		struct table table; /* struct found, by task and attempt */
		struct list waiting, asked; /* … whose rows are to be read, are being read */
		bool reading;
		struct uuid ids[FOUND_BATCH];
		struct read_task read;
	} found;

	/* coordinator.c: stopping */
	struct {
		uv_timer_t timer;
		bool forced; /* its time is over: not everything will be settled */
		size_t comparing; /* comparisons in the pool, which touch their attempts: waited for in any case */
		bool requested; /* the doors may be stopped when all is settled */
		bool killed, stopping;
		size_t executors_left;
		int handles_left;
		void (*on_stopped)(void *owner);
		void *owner;
	} stop;
};

struct tenant_load {
	struct table_node node;
	struct list link; /* in tenants.all */
	const struct tenant_limits *limits;
	int64_t waiting; /* QUEUED and RETRY, as far as we know */
	int64_t running; /* here */
	int64_t promised; /* rows being written as born running here */
	int64_t elsewhere; /* running, as of the last count */
	int64_t running_share; /* until the next count no more may run here */
	int64_t waiting_share; /* … wait, as far as we know */
	int64_t arriving; /* rows being written to wait, of those that wait */
	int64_t arrived; /* … when counting began, and since */
	int64_t running_at_count; /* here, or asked for by a claim, when counting began */
	bool was_full;
	bool passed; /* over, by the last claim */
	char name[];
};

struct dead_replica {
	struct list link;
	struct cursor after;
	struct bytes locked_by;
	char name[LOCKED_BY_SIZE];
};

/* admission.c */
void admission_drain_over(struct coordinator *c); /* what waits to be handed in again waits no longer */
void admission_init(struct coordinator *c);
bool admission_in_flight(const struct coordinator *c);
bool admission_idle(const struct coordinator *c);
void admission_close(struct coordinator *c, uv_close_cb on_closed);
void admission_dispose(struct coordinator *c);

/* fair.c */
void fair_init(struct coordinator *c);
double fair_next_turn(struct coordinator *c, const struct submission *submission, int64_t now_us);
/* No row came of it: the submission's turn is the tenant's again, if it was the last it got. At the same time as it was given. */
void fair_give_back(struct coordinator *c, const struct submission *submission, int64_t now_us);
void fair_served(struct coordinator *c, struct bytes executor, int priority, double turn);
/* A heartbeat tells what grew here; its answer brings what grew elsewhere. */
void fair_tell(struct coordinator *c, struct store_heartbeat *heartbeat);
void fair_told(struct coordinator *c, const struct store_heartbeat *heartbeat, bool confirmed);
void fair_dispose(struct coordinator *c);

/* tenant.c */
void tenants_init(struct coordinator *c);
/* Rows of a tenant began (positive) or ceased (negative) to wait; to run here; to be written as born running. */
void tenant_waiting_add(struct coordinator *c, struct bytes tenant, int64_t rows);
void tenant_running_add(struct coordinator *c, struct bytes tenant, int64_t rows);
void tenant_promised_add(struct coordinator *c, struct bytes tenant, int64_t rows);
/* Of those that wait: they began or ceased to be written. */
void tenant_arriving_add(struct coordinator *c, struct bytes tenant, int64_t rows);
bool tenant_queue_full(struct coordinator *c, struct bytes tenant);
/* Its rows that wait, those being written twice, or are to be born running; false: nobody has counted them yet. */
bool tenant_in_line(struct coordinator *c, struct bytes tenant, int64_t *ret_rows);
/* It runs as many as it may, wherever they run, or as many as this replica may run of it until the next count. */
bool tenant_full(struct coordinator *c, struct bytes tenant);
/* The same, with the figures; false also for one that is not known here. */
bool tenant_running(const struct coordinator *c, struct bytes tenant, int64_t *ret_running, int64_t *ret_limit);
/* Names the tenants that a claim passes over, or lowers what it asks of the free slots to what they may still run. */
void tenants_claim(struct coordinator *c, struct store_claim *claim, struct claim_lane *lanes);
void tenants_claimed(struct coordinator *c); /* the claim has come back */
void tenants_counting(struct coordinator *c); /* the store is about to count */
void tenants_counted(struct coordinator *c, const struct read_counts *counts);
void tenants_dispose(struct coordinator *c);

/* router.c */
struct lane *router_lane(const struct coordinator *c, struct bytes executor);
int lane_free_slots(const struct lane *lane);

/* dispatch.c */
void dispatch_init(struct coordinator *c);
void dispatch_work(struct coordinator *c, struct lane *lane); /* there may be work for it (NULL: for all) */
void dispatch_pump(struct coordinator *c); /* a slot may be free: at the end of the turn */
void dispatch_claim(struct coordinator *c); /* the turn ends */
void dispatch_dispose(struct coordinator *c);

/* attempt.c */
/* Copies the row; params are read. NULL with err: the row cannot be run (altered by hand). */
struct attempt *attempt_new(struct coordinator *c, const struct task *task, struct err *err);
/* The newest of that task. */
struct attempt *attempt_find(const struct coordinator *c, const struct uuid *id);
/* This very execution, or a later one, is ours already. */
bool attempt_known(const struct coordinator *c, const struct task *task);
/* The row is another's: it is forgotten, and its job killed unless it outlives the service and so is the other's too. */
void attempt_disown(struct attempt *attempt);
/* Hands jobs to their executor; all of one lane. */
void attempts_run(struct coordinator *c, struct lane *lane, struct attempt **attempts, size_t count);
void attempt_adopt(struct attempt *attempt);
/* Its job runs on without this process, and can be adopted. */
bool attempt_outlives_service(const struct attempt *attempt);
void attempt_end(
	struct attempt *attempt, const struct job_end *end); /* as the executor has reported it, or in its place */
/* Hands a row back that was never given to an executor. */
void attempt_return(struct attempt *attempt);
/* Publishes what is told live; the caller sets kind, stream, offset and data. */
void attempt_tell_live(const struct attempt *attempt, struct live_event event);
void attempt_kill(struct attempt *attempt);
void attempt_free(struct attempt *attempt);
extern const struct executor_listener attempt_listener;

/* outcome.c */
void outcome_step_ended(struct attempt *attempt, const struct step_end *end);
void outcome_job_ended(struct attempt *attempt); /* decides, once no comparison is under way */
/* Settles a row that could not be made an attempt, as an infrastructure fault. */
void outcome_lost(struct attempt *attempt, enum task_reason reason, const char *message);

/* What the error of a row begins with that was handed back for want of a quota; why.c looks for it. */
#define WANTED_QUOTA "quota: "

/* The store does not take what an attempt brings: all that came from outside is dropped, and an end becomes a fault of ours. */
void outcome_unwritable(struct attempt *attempt, const struct err *why);

/* output.c */
#define OUTPUT_QUIET_US (1 * US_PER_S) /* younger attempts write their output with their end */
#define OUTPUT_INTERVAL_US (250 * US_PER_MS) /* between two writings of one attempt's output */
#define OUTPUT_PENDING_MAX 262144 /* bytes; more are written at once */
void output_append(struct attempt *attempt, int stream, struct bytes data);
void output_skip(struct attempt *attempt, int stream, uint64_t bytes); /* they are lost */
/* Moves its chunks into chunks_in_flight: the settle batch that is being formed has them. */
void output_take_chunks(struct attempt *attempt);
/* When its output is to be written: monotonic time. */
int64_t output_due_at(const struct attempt *attempt);
void output_dispose(struct attempt *attempt);

/* settle_batch.c */
/* Puts all that an attempt has to be written into the batch that is being formed. */
void batch_add_attempt(struct coordinator *c, struct attempt *attempt);
void batch_hand_in(struct coordinator *c); /* the last of its ranges */
/* The store refused the last range: it is halved, or, if it is one attempt's, that is deferred. False: no range is left. */
bool batch_refused(struct coordinator *c, const struct err *why);
/* What was in flight of an attempt has been written, or is never to be. */
void batch_forget(struct attempt *attempt);
void batch_dispose(struct coordinator *c);

/* settle.c */
void settle_init(struct coordinator *c);
void settle_enqueue(struct attempt *attempt);
/* The same for an attempt whose code has just started: it may wait a moment for its end, or for others. */
void settle_enqueue_started(struct attempt *attempt);
void settle_pump(struct coordinator *c); /* at once */
void settle_output_due(struct attempt *attempt);
void settle_drain_over(struct coordinator *c); /* what waits for output to be written waits no longer */
/* The store did not take the last outcomes, or takes them more slowly than they come: nothing more is to be started, or what has ended would
 * pile up. */
bool settle_behind(const struct coordinator *c);
bool settle_idle(const struct coordinator *c);
void settle_dispose(struct coordinator *c);

/* found.c */
void found_init(struct coordinator *c);
/* An executor has found an attempt: it is adopted, discarded or left alone, as its row says. */
void found_add(struct coordinator *c, struct executor *executor, const struct uuid *id, int attempt);
void found_pump(struct coordinator *c); /* the store may be asked */
bool found_idle(const struct coordinator *c);
void found_dispose(struct coordinator *c);

/* follow_output.c */
void outputs_init(struct coordinator *c);
void outputs_beat(struct coordinator *c); /* a heartbeat is sent: wishes are repeated */
void outputs_written(struct coordinator *c, const struct uuid *id); /* by another replica */
void outputs_wanted(struct coordinator *c, const struct uuid *id); /* by another replica */
void outputs_dispose(struct coordinator *c);

/* reaper.c */
void reaper_init(struct coordinator *c);
/* Asked before anything is started or claimed: by the clock of now, which a timer may be late to tell of, we are known to live. */
bool reaper_may_start(struct coordinator *c);
void reaper_beat(struct coordinator *c); /* unless one is under way */
void reaper_available(struct coordinator *c, bool available);
/* Slots that were promised are free, or a strange row of our own was heard of: own rows that are to be looked for may be by now. */
void reaper_slots_released(struct coordinator *c);
bool reaper_idle(const struct coordinator *c);

/* republish.c */
void republish_init(struct coordinator *c);
/* Every operation that writes events, from being handed in first until its outcome is known; done() gets what begun() gave. */
int republish_write_begun(struct coordinator *c);
void republish_write_done(struct coordinator *c, int class);
/* What such a write brought is not published yet: done() is to be called once more. */
void republish_write_prolonged(struct coordinator *c, int class);
/* No event will be written that lies before this place. */
void republish_horizon(struct coordinator *c, const struct cursor *horizon);
/* Names those whose events have been published for them; what the store was told is forgotten. */
void republish_tell(struct coordinator *c, struct store_heartbeat *heartbeat);
void republish_told(struct coordinator *c, const struct store_heartbeat *heartbeat, bool confirmed);
/* Everything that this replica was to publish up to here has left. */
struct cursor republish_watermark(struct coordinator *c);
void republish_name(struct coordinator *c, const char *name); /* a new incarnation */
bool republish_is_own(const struct coordinator *c, struct bytes publisher);
/* What lies above its watermark is to be published; begun by republish_pump(). */
void republish_dead(struct coordinator *c, struct bytes locked_by, const struct cursor *watermark);
void republish_pump(struct coordinator *c);
/* False: where the stream of events ends before this process has written anything is being asked for, and reaper_beat() follows.
 * Nothing of its own lies before, and what it wrote sooner would not be looked for. */
bool republish_begin(struct coordinator *c);
void republish_on_behind(void *owner);
void republish_on_republished(void *owner);
bool republish_idle(const struct coordinator *c);
void republish_dispose(struct coordinator *c);

/* order.c */
/* Every write names the tasks that it may give events to, from being handed in first until its outcome is known and what it brought was handed to
 * order_publish(). One may name a task several times. */
void order_write_begun(struct coordinator *c, const struct uuid *task);
/* At least one event, all of one task that this write names: to the bus, when no other write names it. */
void order_publish(struct coordinator *c, const struct event *events, size_t count, int write_class);
void order_write_done(struct coordinator *c, const struct uuid *task);
void order_dispose(struct coordinator *c);

/* frontier.c */
void frontier_init(struct coordinator *c);
int frontier_write_begun(struct coordinator *c);
void frontier_write_prolonged(struct coordinator *c, int class);
void frontier_write_done(struct coordinator *c, int class);
void frontier_tailed(
	struct coordinator *c, const struct cursor *end); /* up to here others' events have been told from the store */
void frontier_heard(struct coordinator *c, bool heard); /* whether the bus brings them */
void frontier_learnt(struct coordinator *c, const struct cursor *frontier); /* a heartbeat's answer */

/* follow.c */
void follow_init(struct coordinator *c);
void follow_pump(struct coordinator *c); /* other replicas may have written events */
void follow_on_heard(void *owner, bool heard);
bool follow_idle(const struct coordinator *c);
void follow_dispose(struct coordinator *c);

/* coordinator.c */
/* A negative duration, of clocks that disagree, counts as none. */
void duration_observe(struct duration_histogram *histogram, int64_t us);
void coordinator_new_incarnation(struct coordinator *c);
/* Was an operation done under the name that we bear now? If not, its rows are left to who takes those of the dead. */
bool coordinator_is_own_name(const struct coordinator *c, struct bytes locked_by);
/* Claims, and settles if that is wanted, at the end of this turn of the loop. */
void coordinator_at_turn_end(struct coordinator *c, bool settle);
void coordinator_drained_check(struct coordinator *c);
/* Kills what runs here, but for jobs that outlive the service: to be handed back, or, disowned, to be forgotten. */
void coordinator_kill_all(struct coordinator *c, bool disown);
void coordinator_recovered(struct coordinator *c);
/* Somebody asked to cancel a task that this replica may run. */
void coordinator_cancel_wanted(struct coordinator *c, const struct uuid *id);
void coordinator_clear_cancel_notes(struct coordinator *c);

#endif
