/* What the files of the PostgreSQL store share. Nobody else includes this. */
#ifndef ASSAY_STORE_POSTGRES_INTERNAL_H
#define ASSAY_STORE_POSTGRES_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "assay/store.h"
#include "base/arena.h"
#include "base/list.h"
#include "base/table.h"
#include "io/postgres.h"
#include "store/postgres/postgres_store.h"
#include "store/postgres/sql.h"

#define PRIORITY_COUNT 10
#define PARALLEL_SUBMITS 2
#define PIPELINED_ROWS 8 /* a batch of fewer does not follow one that is on its way */
#define PARALLEL_ROWS 128 /* one of as many goes beside it, over a connection of its own */
#define PROMOTED_AT_ONCE 1000 /* rows that came due, by one statement */

/* ---- lanes: one connection each ---- */

enum lane_name {
	LANE_SUBMIT,
	LANE_SUBMIT_LAST = LANE_SUBMIT + PARALLEL_SUBMITS - 1,
	LANE_CLAIM,
	LANE_SETTLE,
	LANE_BEAT,
	LANE_READ,
	LANE_SCAN,
	LANE_KEEP,
	LANE_COUNT,
};

struct lane {
	struct postgres_store *store; /* borrowed: it owns us */
	struct postgres *postgres; /* owned */
	const struct postgres_statement *statements[32]; /* what it uses; NULL-terminated */
	struct list waiting; /* errands */
	size_t running, depth; /* errands on their way, and how many may be */
	enum lane_name name;
	bool vital; /* without it the store is away */
	bool given_up; /* it is down, and has been waited for */
	bool up;
	struct err err; /* why not */
};

struct errand;
typedef void errand_fn(struct errand *errand);

/* One operation on its way. Made when it is handed in, freed when it is given back. */
struct errand {
	struct postgres_store *store; /* borrowed */
	struct lane *lane; /* borrowed */
	struct store_operation *operation; /* borrowed: the caller's */
	struct list link; /* in lane->waiting or store->refused */
	errand_fn *begin; /* fills the first group and sends it; may be called again after a deadlock */
	errand_fn *answered; /* the group was answered with POSTGRES_OK */
	errand_fn *refused; /* the server refused a statement; NULL: the usual */
	struct postgres_group group;
	size_t main; /* the statement of the group whose result counts */
	struct arena arena; /* for the way; the results are in the operation's */
	void *work; /* of the kind, in the arena */
	int tries;
	bool unknown_before; /* an earlier hand-in of this operation may have been carried out */
	bool registers; /* the group registers the incarnation … */
	struct bytes incarnation; /* … of this name */
};

/* ---- what claims know of an executor's queue ---- */

#define PASSED_MOST 4

struct passed_marks {
	uint64_t filter; /* a hash of what is passed over; 0: none */
	double marks[PRIORITY_COUNT]; /* no row that is let through stands before this turn */
};

struct queue_marks {
	struct list link; /* in store->marks */
	struct bytes executor; /* owned, behind the struct */
	double marks[PRIORITY_COUNT]; /* of priority 9 first: no due row stands before this turn */
	double lowered[PRIORITY_COUNT]; /* the least that came in while a claim was on its way */
	bool none_delayed; /* no row of it waits for its time */
	struct passed_marks passed[PASSED_MOST]; /* of claims that pass over tenants or queues */
	size_t passed_next; /* the one to be given up next */
};

/* ---- notices that wait to be sent ---- */

struct work_notice {
	struct bytes executor; /* in the notifier's arena */
	int priority;
	double turn;
};

#define NOTICE_SIZE 64
#define OUTPUT_WANTED_MAX 1024

struct output_wanted { /* somebody elsewhere follows the output of this task */
	struct table_node node;
	struct uuid id;
	int64_t until_us; /* monotonic */
};

struct notifier {
	struct postgres *postgres; /* owned: the LISTEN connection */
	const struct postgres_statement *statements[2];
	struct postgres_group group;
	bool in_flight, up, was_up;
	uv_timer_t timer; /* the pause between two sendings */
	struct arena arena; /* of what is pending */
	struct work_notice *work;
	size_t work_count, work_capacity;
	char (*texts)[NOTICE_SIZE];
	size_t text_count, text_capacity;
	bool events;
	struct table wanted; /* struct output_wanted */
};

/* ---- the store ---- */

enum state { STATE_NEW, STATE_RUNNING, STATE_STOPPING, STATE_STOPPED };

struct postgres_store {
	struct store store; /* first: what callers see */
	struct postgres_store_options options; /* its strings: owned */
	char *setup; /* owned: what the LISTEN connection runs first */
	char place[100]; /* where it is, for people */
	struct postgres_statement write[WRITE_COUNT], read[READ_COUNT]; /* their SQL: owned */
	enum state state;
	struct store_notices notices;
	void *owner; /* borrowed: of the notices */
	void (*on_stopped)(void *owner);
	void *stop_owner;
	struct lane lanes[LANE_COUNT];
	struct notifier notifier;
	struct list refused; /* errands to be given back */
	uv_timer_t turn; /* gives them back */
	uv_timer_t drain; /* how long stop waits */
	uv_timer_t patience; /* how long errands wait for a lane that is not vital */
	size_t errands; /* not given back yet */
	int connections_open, handles_open;
	bool is_pooled; /* the lanes' connections do not go where LISTEN goes */
	bool connections_stopped, lanes_started, told_once, told_available, told_failed, schema_wrong;
	struct err why_not;

	struct store_operation upkeep; /* what follows a heartbeat, on a lane of its own */
	struct arena upkeep_arena;
	struct bytes *upkeep_executors; /* in it */
	size_t upkeep_executor_count;
	bool upkeep_running;

	struct list marks; /* struct queue_marks */
	int64_t marks_until_us; /* monotonic: dropped then */
	int64_t marks_begun_us; /* monotonic: when the claim under way began */
	bool marks_dropped; /* no claim has raised them since */
	struct bytes registered; /* owned: the incarnation whose row is known to be there */
	bool beaten; /* a heartbeat of it was answered */
	int64_t turns_learned_us; /* by the database's clock */
	size_t others, followers; /* other replicas alive, and those that follow events */
	bool follows; /* this one does */
	bool take_lost; /* one was not */
	struct uuid trim_floor, trim_at; /* nothing to trim below; where the present walk stands */
	bool trim_walking, trim_kept;
};

static inline struct postgres_store *postgres_store_of(struct store *store)
{
	return CONTAINER_OF(store, struct postgres_store, store);
}

/* postgres_store.c */
void postgres_store_turn(
	struct postgres_store *store); /* what was refused is given back, and the end looked for, soon */

/* An errand saw that the connection is gone, before the connection told. */
void postgres_store_lost(struct lane *lane, const struct err *why);

/* errand.c */
void errand_hand_in(
	struct postgres_store *store, enum lane_name lane, struct store_operation *operation, errand_fn *begin);
void errand_group(struct errand *errand); /* an empty group */
void errand_add(struct errand *errand, const struct postgres_statement *statement);
/* The planner's switches, before statements that depend on an index; for reads with a limit of time. */
void errand_planner(struct errand *errand);
/* Its row is there, or will be with this group. */
void errand_register(struct errand *errand, struct bytes incarnation);
void errand_send(struct errand *errand, errand_fn *answered);
void errand_done(struct errand *errand, enum store_outcome outcome);
void errand_fail(struct errand *errand); /* as the group's outcome says */
const PGresult *errand_result(const struct errand *errand); /* of the main statement */
void errand_pump(struct lane *lane); /* begins what waits there, as far as it may */
void errand_refuse_all(struct lane *lane); /* what waits there is STORE_AWAY */

/* marks.c */
struct queue_marks *marks_of(struct postgres_store *store, struct bytes executor); /* made where it is new */
void marks_begin(struct postgres_store *store); /* a claim begins */
void marks_claimed(struct postgres_store *store); /* … and has been answered */
void marks_raise(struct queue_marks *marks, int priority, double turn);
void marks_lower(struct postgres_store *store, struct bytes executor, int priority, double turn);
/* Those of claims that pass over this, made where they are new; they may lie behind marks->marks. */
struct passed_marks *marks_passed(struct queue_marks *marks, uint64_t filter);
void marks_pass(struct queue_marks *marks, uint64_t filter, int priority, double turn);
void marks_delayed(struct postgres_store *store, struct bytes executor);
void marks_drop(struct postgres_store *store);
void marks_free(struct postgres_store *store);

/* notices.c */
void notices_on_notice(void *owner, const struct postgres_notice *notice);
void notices_on_up(struct postgres_store *store); /* the LISTEN connection is there (again) */
void notices_work(struct postgres_store *store, struct bytes executor, int priority, double turn);
void notices_events(struct postgres_store *store);
void notices_about(struct postgres_store *store, char what, const struct uuid *id);
void notices_output(struct postgres_store *store, const struct store_settle *settle);
void notices_follow(struct postgres_store *store, bool wanted);
void notices_stop(struct postgres_store *store);
void notices_free(struct postgres_store *store);

/* The operations. */
void begin_submit(struct errand *errand);
void begin_claim(struct errand *errand);
void begin_settle(struct errand *errand);
void begin_command(struct errand *errand);
void begin_heartbeat(struct errand *errand);
void begin_upkeep(struct errand *errand);
void begin_take(struct errand *errand);
void begin_trim(struct errand *errand);
void begin_read_task(struct errand *errand);
void begin_read_match(struct errand *errand);
void begin_read_list(struct errand *errand);
void begin_read_events(struct errand *errand);
void begin_read_output(struct errand *errand);
void begin_read_position(struct errand *errand);
void begin_read_counts(struct errand *errand);
void begin_delivery_claim(struct errand *errand);
void begin_delivery_settle(struct errand *errand);
void begin_read_deliveries(struct errand *errand);

#endif
