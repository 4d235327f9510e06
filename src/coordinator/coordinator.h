/* The queue's heart: takes submissions in, keeps executors full, settles what they report, recovers what was lost. It
 * knows only the doors: not whether rows live in SQLite or PostgreSQL, nor where jobs run, nor who listens.
 *
 *   admission ──► store.submit ──► dispatch ◄── store.claim
 *                                     │ run
 *                                  executor
 *                                     │ started, output, step_ended, ended
 *                                   settle ──► store.settle ──► bus.publish
 *   reaper: heartbeat, lease, take over, retention */
#ifndef ASSAY_COORDINATOR_COORDINATOR_H
#define ASSAY_COORDINATOR_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "assay/bus.h"
#include "assay/executor.h"
#include "assay/store.h"
#include "assay/task.h"
#include "base/err.h"
#include "base/log.h"
#include "task/evaluation.h"
#include "task/language.h"
#include "task/lifecycle.h"
#include "task/tenants.h"

struct coordinator;

struct coordinator_settings {
	int64_t heartbeat_us; /* 5 s */
	int64_t lease_us; /* 15 s */
	struct retry_policy retry; /* 30 s, 10 */
	int64_t queue_max; /* waiting tasks in all; 0: no limit */
	uint64_t output_kept; /* bytes per stream, 1 MiB */
	int64_t retention_us; /* finished tasks kept, 7 days; 0: for ever */
	int64_t disk_bytes; /* 256 MiB */
	int64_t processes; /* 64 */
	int64_t total_timeout_us; /* 3,600 s */
	bool embedded; /* alone on its store: at start every RUNNING row is an orphan */
};

struct coordinator_options {
	uv_loop_t *loop; /* borrowed, like all that follows: outlives the coordinator */
	struct log *log;
	struct store *store; /* not started yet: the coordinator starts and listens to it */
	struct bus *bus; /* started by the owner, with coordinator_bus_notices */
	struct executor *const *executors; /* not started yet; the first is the default for evaluations */
	size_t executor_count;
	/* Runs tasks of type `test` (and nothing else unless it is among `executors` too); not started yet. */
	struct executor *internal;
	const struct languages *languages;
	const struct tenants *tenants; /* may be NULL: no limits, equal weights. See coordinator_set_tenants() */
	struct uuid_generator *ids;
	const char *replica; /* name of this replica, without the incarnation */
	struct coordinator_settings settings;
	void (*on_ready)(
		void *owner); /* the store is there and what was lost has been recovered: work is taken. Once */
	/* Another replica runs an ended task again; nil: any may have been. May be NULL. */
	void (*on_reopened)(void *owner, const struct uuid *id);
	/* The store cannot serve, and no waiting mends it; before on_ready. May be NULL. */
	void (*on_failed)(void *owner, const struct err *err);
	void *owner;
};

/* What the bus tells the coordinator, which is their owner. */
extern const struct bus_notices coordinator_bus_notices;

struct coordinator *coordinator_new(const struct coordinator_options *options);
/* Starts the store and the executors. An error is one that no waiting mends. */
int coordinator_start(struct coordinator *coordinator, struct err *err) MUST_CHECK;
/* Claims nothing more; what runs may go on for drain_us, then is killed and handed back, uncharged. Submissions,
 * commands and reads are still served. A second call with a smaller drain_us shortens the wait. */
void coordinator_drain(struct coordinator *coordinator, int64_t drain_us);
/* Drains, then stops executors and store, and calls on_stopped once. Nothing may be asked of the coordinator or the
 * store from this call on. */
void coordinator_stop(struct coordinator *coordinator, int64_t drain_us, void (*on_stopped)(void *owner), void *owner);
/* What tenants may have has changed: `tenants`, which outlives the coordinator or the next call, replaces what was
 * there. */
void coordinator_set_tenants(struct coordinator *coordinator, const struct tenants *tenants);
void coordinator_free(struct coordinator *coordinator); /* after on_stopped, or never started */

/* ---- admission ---- */
enum admission_status {
	ADMISSION_CREATED,
	ADMISSION_EXISTS,
	ADMISSION_CONFLICT,
	ADMISSION_DISAGREE,
	ADMISSION_INVALID,
	ADMISSION_QUEUE_FULL, /* 429: the queue, or what the tenant may have in it */
	ADMISSION_AWAY, /* the store could not be reached: not accepted, 503 */
};

struct admission_result {
	enum admission_status status;
	struct uuid id;
	enum task_status task_status;
	int64_t created_at_us;
	const char *error; /* ADMISSION_INVALID; lives as long as the admission */
	int retry_after_s; /* ADMISSION_QUEUE_FULL */
};

/* Submissions that are answered together: one of POST /execute, many of a batch. The caller owns the struct, the
 * submissions and the results array until `done`, which comes once and never before coordinator_admit() has
 * returned. */
struct admission {
	struct submission *submissions;
	size_t count;
	struct admission_result *results; /* room for count */
	struct err err; /* the cause, where results say ADMISSION_AWAY */
	void (*done)(struct admission *admission);
	void *owner;
	/* The coordinator's: */
	struct list link;
	struct arena arena;
	size_t open;
};

/* Whether one more task of this tenant may wait; if not, that is counted. For what comes to wait again without a
 * submission. */
bool coordinator_queue_full(struct coordinator *coordinator, struct bytes tenant);
#define ADMISSION_RETRY_AFTER_S 5 /* where the queue is full */

void coordinator_admit(struct coordinator *coordinator, struct admission *admission);
void admission_fini(struct admission *admission); /* frees what results point to */

/* Which executor a task of this kind would go to. `wanted` absent: the default; `evaluation` is NULL where it is none. Returns NULL
 * and a field error's text (in err) where there is none, it does not know the language, or it is not available there (with what to
 * install), or the language's image cannot take what the evaluation brings. */
struct executor *coordinator_route(struct coordinator *coordinator, struct bytes type, struct bytes wanted,
	const struct evaluation *evaluation, const char **ret_field, struct err *err);

/* ---- commands and reads ---- */
/* As store->ops->command(), and what follows of it: running tasks of this replica are killed, events published, work
 * dispatched. */
void coordinator_command(struct coordinator *coordinator, struct store_command *command);

/* Whether somebody follows events here, so that those of other replicas are wanted: from the bus, or where it does
 * not bring them from the store. */
void coordinator_follow_events(struct coordinator *coordinator, bool wanted);

/* The task as this replica runs it, at least as new as its row; NULL when it does not. Borrowed for the loop turn.
 * Without params. */
const struct task *coordinator_find(const struct coordinator *coordinator, const struct uuid *id);

/* Calls done once everything printed so far by that task is in the store (or, for tasks of others, at once), never
 * from within. */
void coordinator_flush_output(
	struct coordinator *coordinator, const struct uuid *id, void (*done)(void *owner), void *owner);

/* Who follows the output of a task that may run on another replica. The caller's; it must outlive the following. */
struct output_follower {
	struct uuid id;
	void (*on_output)(struct output_follower *follower); /* the store has more; may leave from within */
	struct list link; /* the coordinator's; zero before */
};
void coordinator_follow_output(struct coordinator *coordinator, struct output_follower *follower);
void coordinator_unfollow_output(struct coordinator *coordinator, struct output_follower *follower); /* or nothing */

/* ---- state, for health, metrics, why ---- */
struct duration_histogram {
	double sum_s;
	uint64_t buckets[16];
};

struct coordinator_statistics {
	uint64_t submitted, claimed, born_running, started, handed_back, retried, recovered, refused_settles;
	uint64_t refused_queue, refused_tenant_queue; /* submissions beyond a limit */
	uint64_t ended[TASK_REASON_COUNT]; /* REASON_NONE: completed */
	uint64_t store_batches[3], store_rows[3]; /* submit, claim, settle */
	int64_t waiting, running;
	int64_t replicas; /* that live, this one included, as of the last heartbeat */
	int64_t oldest_waiting_at_us; /* as of the last heartbeat */
	int64_t heartbeat_at_us;
	struct duration_histogram queue_wait; /* from due to claimed; 0 for what was born running */
	struct duration_histogram duration; /* from started to ended */
};
/* Upper bounds of the 16 buckets in seconds, the last is infinity. */
extern const double coordinator_bucket_bounds[16];
const struct coordinator_statistics *coordinator_statistics(const struct coordinator *coordinator);

enum coordinator_phase {
	COORDINATOR_STARTING,
	COORDINATOR_RUNNING,
	COORDINATOR_CUT_OFF,
	COORDINATOR_DRAINING,
	COORDINATOR_STOPPED
};
enum coordinator_phase coordinator_phase(const struct coordinator *coordinator);
/* The store has been there, and may be asked; it may be away now, or all this may be stopping. */
bool coordinator_was_ready(const struct coordinator *coordinator);
const char *coordinator_locked_by(const struct coordinator *coordinator);

/* The word of the closed vocabulary for a task that waits, and a sentence. */
struct wait_reason {
	const char *
		word; /* position, waiting_for_capacity, tenant_limit, backoff, executor_unhealthy, image_pulling, quota, cancelled, starting, running, ended */
	char words[400];
};
struct wait_reason coordinator_why(
	const struct coordinator *coordinator, const struct task *task, const struct read_position *position);

#endif
