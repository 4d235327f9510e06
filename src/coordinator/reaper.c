/* Keeps this replica alive in the eyes of the others, and takes up what the dead have left.
 *
 * Each tick: heartbeat → counts → (rows of dead replicas, or own rows that are strange to us) → a step of retention.
 * Leases are judged by the store's clock. After the store was away nothing is reaped until one lease has passed since
 * our own reconnect. A replica without a confirmed heartbeat for two thirds of the lease starts nothing and kills what
 * cannot outlive it; one whose row was marked dead forgets all it runs and goes on under a new name. Embedded there is
 * nobody to judge: the data directory's lock is the lease. */
#include "coordinator/internal.h"

#include <stdlib.h>

#define TRIM_INTERVAL_US (60 * US_PER_S)
#define TRIM_STEP 500
#define RECONCILE_INTERVAL_US (300 * US_PER_S)

static void take_next(struct coordinator *c, enum take_kind kind);

/* ---- rows of others, or strange ones of our own ---- */

/* What this process claimed, under whichever of its names, and did not start is no crash: neither charged nor
 * delayed. */
static bool was_never_started(const struct coordinator *c, const struct task *task, struct bytes former)
{
	if (task->started_at_us || (c->reaper.take.kind != TAKE_OWN && !republish_is_own(c, former)))
		return false;
	/* It may have been, and killed before that was written. */
	for (const struct attempt *at = attempt_find(c, &task->id); at; at = at->older)
		if (at->task.attempt == task->attempt && at->task.started_at_us)
			return false;
	return true;
}

static void row_taken(struct coordinator *c, const struct task *task, struct bytes former, uint64_t output_end)
{
	struct err err = { 0 };
	if (attempt_known(c, task))
		return;
	bool never_started = was_never_started(c, task, former);
	struct attempt *attempt = attempt_new(c, task, &err);
	c->statistics.recovered++;
	if (!attempt)
		return;
	attempt->offset_stored = output_end;
	attempt->unbegun = never_started;
	if (attempt_outlives_service(attempt))
		attempt_adopt(attempt);
	else if (never_started)
		attempt_return(attempt);
	else
		outcome_lost(attempt, REASON_WORKER_CRASH, "the service that ran it is gone");
}

static void on_taken(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct store_take *take = &c->reaper.take;
	enum take_kind kind = take->kind;
	bool ok = operation->outcome == STORE_OK;
	bool more = ok && take->more;
	c->reaper.taking = false;
	if (ok) {
		for (size_t i = 0; i < take->dead_count; i++)
			republish_dead(c, take->dead[i], &take->watermarks[i]);
		if (take->count)
			log_event(c->log, LOG_INFO, "rows taken up", L_INT("rows", (int64_t)take->count));
		if (kind == TAKE_OWN)
			c->reaper.take_own = false;
		size_t known = c->attempt_count;
		bool own = coordinator_is_own_name(c, take->locked_by);
		for (size_t i = 0; i < take->count && own; i++)
			row_taken(c, &take->tasks[i], take->former[i], take->output_ends[i]);
		more &= kind != TAKE_OWN || c->attempt_count > known;
	} else {
		/* Rows may be ours by now, so that the next take of others' would not see them. */
		c->reaper.take_own |= operation->outcome == STORE_UNKNOWN;
		log_event(c->log, LOG_WARNING, "rows left by others could not be taken", L_ERR(&operation->err));
	}
	store_operation_fini(operation);
	if (more)
		take_next(c, kind);
	else if (ok && !c->recovered)
		coordinator_recovered(c);
	republish_pump(c);
	dispatch_pump(c);
	coordinator_drained_check(c);
}

static void take_next(struct coordinator *c, enum take_kind kind)
{
	struct store_take *take = &c->reaper.take;
	if (c->reaper.taking)
		return;
	take->kind = kind;
	take->locked_by = bytes_of(c->locked_by);
	take->lease_us = c->options.settings.lease_us;
	/* Own rows stay where they are: those we know are given each time, beside the strange ones. */
	take->limit = TAKE_BATCH_MAX + (kind == TAKE_OWN ? c->attempt_count : 0);
	c->reaper.taking = true;
	c->options.store->ops->take(c->options.store, take);
}

/* Rows that a claim or a submission on its way makes ours, each with its slot, would seem strange. While own rows are
 * to be looked for neither begins. */
static bool rows_on_their_way(const struct coordinator *c)
{
	int reserved = 0;
	for (size_t i = 0; i < c->lane_count; i++)
		reserved += c->lanes[i].reserved;
	return reserved > 0;
}

/* Which rows are to be looked for now. */
static void take_due(struct coordinator *c)
{
	bool embedded = c->options.settings.embedded;
	if (c->phase == COORDINATOR_DRAINING || c->phase == COORDINATOR_CUT_OFF || c->reaper.taking)
		return;
	if (!c->recovered && embedded) {
		take_next(c, TAKE_ALL);
	} else if (c->reaper.take_own) {
		if (!rows_on_their_way(c))
			take_next(c, TAKE_OWN);
	} else if (!embedded && clock_boottime_us() - c->reaper.available_at_us > c->options.settings.lease_us) {
		take_next(c, TAKE_DEAD);
	}
}

void reaper_slots_released(struct coordinator *c)
{
	if (c->reaper.take_own)
		take_due(c);
}

/* ---- retention ---- */

static void trim_next(struct coordinator *c)
{
	c->reaper.trimming = true;
	c->reaper.trim.finished_before_us = clock_wall_us() - c->options.settings.retention_us;
	c->reaper.trim.limit = TRIM_STEP;
	c->options.store->ops->trim(c->options.store, &c->reaper.trim);
}

static void on_trimmed(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	bool more = operation->outcome == STORE_OK && c->reaper.trim.more;
	if (operation->outcome == STORE_OK && c->reaper.trim.deleted)
		log_event(c->log, LOG_DEBUG, "old tasks deleted", L_INT("rows", (int64_t)c->reaper.trim.deleted));
	c->reaper.trimming = false;
	store_operation_fini(operation);
	if (more && c->phase == COORDINATOR_RUNNING)
		trim_next(c);
	coordinator_drained_check(c);
}

static void trim_due(struct coordinator *c)
{
	int64_t now = clock_monotonic_us();
	if (!c->options.settings.retention_us || c->reaper.trimming || c->phase != COORDINATOR_RUNNING ||
		now - c->reaper.trimmed_at_us < TRIM_INTERVAL_US)
		return;
	c->reaper.trimmed_at_us = now;
	trim_next(c);
}

/* ---- heartbeat ---- */

static void on_counted(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	c->reaper.counting = false;
	if (operation->outcome == STORE_OK) {
		c->statistics.oldest_waiting_at_us = c->reaper.counts.oldest_waiting_at_us;
		tenants_counted(c, &c->reaper.counts);
		/* Others may have queued it before they knew of us, whose notice therefore nobody sent. */
		if (c->statistics.oldest_waiting_at_us && c->statistics.replicas > 1)
			dispatch_work(c, NULL);
	}
	store_operation_fini(operation);
	coordinator_drained_check(c);
}

static void count_due(struct coordinator *c)
{
	if (c->reaper.counting)
		return;
	c->reaper.counting = true;
	tenants_counting(c);
	c->options.store->ops->read_counts(c->options.store, &c->reaper.counts);
}

/* Leases are judged by the store: who has just begun has nothing to recover before others have had time to tell that
 * they live. */
static void first_confirmed(struct coordinator *c)
{
	if (!c->recovered && !c->options.settings.embedded)
		coordinator_recovered(c);
}

/* The net under lost answers. */
static void reconcile_due(struct coordinator *c)
{
	int64_t now = clock_monotonic_us();
	if (!c->recovered || now - c->reaper.reconciled_at_us < RECONCILE_INTERVAL_US)
		return;
	c->reaper.reconciled_at_us = now;
	c->reaper.take_own = true;
}

/* Does the last confirmed heartbeat tell, by now, that we live? */
static bool lease_holds(const struct coordinator *c)
{
	const struct coordinator_settings *settings = &c->options.settings;
	return settings->embedded || clock_boottime_us() - c->reaper.confirmed_at_us < settings->lease_us * 2 / 3;
}

static void lease_regained(struct coordinator *c)
{
	if (!c->reaper.cut_off || !lease_holds(c))
		return;
	c->reaper.cut_off = false;
	c->reaper.take_own = true;
	/* Others may have been held up by what held us up. */
	c->reaper.available_at_us = clock_boottime_us();
	if (c->phase == COORDINATOR_CUT_OFF)
		c->phase = COORDINATOR_RUNNING;
	log_event(c->log, LOG_INFO, "no longer cut off from the store");
}

static void declared_dead(struct coordinator *c)
{
	log_event(c->log, LOG_ERROR, "this replica was declared dead: what it runs is dropped",
		L_STR("replica", c->locked_by));
	coordinator_kill_all(c, /* disown= */ true);
	coordinator_new_incarnation(c);
	log_event(c->log, LOG_INFO, "incarnation", L_STR("replica", c->locked_by));
}

static void on_beaten(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct store_heartbeat *heartbeat = &c->reaper.heartbeat;
	c->reaper.beating = false;
	bool ok = operation->outcome == STORE_OK;
	bool alive = ok && heartbeat->alive;
	fair_told(c, heartbeat, ok);
	republish_told(c, heartbeat, ok);
	if (alive) {
		/* Notes wait for claims under way; with none under way they are about rows that are no longer ours. */
		if (!rows_on_their_way(c))
			coordinator_clear_cancel_notes(c);
		c->reaper.confirmed_at_us = c->reaper.sent_at_us;
		c->statistics.heartbeat_at_us = clock_wall_us();
		c->statistics.replicas = (int64_t)heartbeat->replica_count;
		for (size_t i = 0; i < heartbeat->cancelled_count; i++)
			coordinator_cancel_wanted(c, &heartbeat->cancelled[i]);
		republish_horizon(c, &heartbeat->horizon);
		frontier_learnt(c, &heartbeat->frontier);
		lease_regained(c);
	} else if (!ok) {
		log_event(c->log, LOG_WARNING, "no heartbeat", L_ERR(&operation->err));
	}
	store_operation_fini(operation);
	if (ok && !alive) {
		declared_dead(c);
		reaper_beat(c);
	} else if (alive && !lease_holds(c)) {
		reaper_beat(c); /* its answer was too long on its way */
	} else if (alive) {
		first_confirmed(c);
		reconcile_due(c);
		count_due(c);
		take_due(c);
		trim_due(c);
		republish_pump(c);
		follow_pump(c);
		dispatch_pump(c);
	}
	coordinator_drained_check(c);
}

void reaper_beat(struct coordinator *c)
{
	if (c->reaper.beating || !c->store_available || !republish_begin(c))
		return;
	struct store_heartbeat *heartbeat = &c->reaper.heartbeat;
	heartbeat->locked_by = bytes_of(c->locked_by);
	heartbeat->address = BYTES_LITERAL("");
	heartbeat->draining = c->phase == COORDINATOR_DRAINING;
	heartbeat->lease_us = c->options.settings.lease_us;
	heartbeat->published = republish_watermark(c);
	heartbeat->lane_count = 0;
	for (size_t i = 0; i < c->lane_count && i < CLAIM_LANES_MAX; i++) {
		struct executor *executor = c->lanes[i].executor;
		c->reaper.lanes[heartbeat->lane_count++] = (struct replica_lane){
			.executor = executor->ops->status(executor)->name,
			.free_slots = lane_free_slots(&c->lanes[i]),
		};
	}
	heartbeat->lanes = c->reaper.lanes;
	outputs_beat(c);
	fair_tell(c, heartbeat);
	republish_tell(c, heartbeat);
	c->reaper.beating = true;
	c->reaper.sent_at_us = clock_boottime_us();
	c->options.store->ops->heartbeat(c->options.store, heartbeat);
}

static void cut_off_check(struct coordinator *c)
{
	bool begun = c->phase == COORDINATOR_RUNNING || c->phase == COORDINATOR_DRAINING;
	if (!begun || c->reaper.cut_off || !c->reaper.confirmed_at_us || lease_holds(c))
		return;
	log_event(c->log, LOG_ERROR, "cut off from the store: nothing is started, what runs here is killed");
	c->reaper.cut_off = true;
	if (c->phase == COORDINATOR_RUNNING)
		c->phase = COORDINATOR_CUT_OFF;
	coordinator_kill_all(c, /* disown= */ false);
}

bool reaper_may_start(struct coordinator *c)
{
	cut_off_check(c);
	return c->phase == COORDINATOR_RUNNING;
}

static void on_tick(uv_timer_t *timer)
{
	struct coordinator *c = timer->data;
	cut_off_check(c);
	reaper_beat(c);
}

void reaper_available(struct coordinator *c, bool available)
{
	if (!available)
		return;
	c->reaper.available_at_us = clock_boottime_us();
	if (!c->reaper.confirmed_at_us)
		c->reaper.confirmed_at_us = c->reaper.available_at_us;
	c->reaper.take_own |= c->recovered;
	c->reaper.reconciled_at_us = clock_monotonic_us();
	reaper_beat(c);
}

void reaper_init(struct coordinator *c)
{
	c->reaper.heartbeat.operation.done = on_beaten;
	c->reaper.counts.operation.done = on_counted;
	c->reaper.take.operation.done = on_taken;
	c->reaper.trim.operation.done = on_trimmed;
	c->reaper.heartbeat.operation.owner = c->reaper.counts.operation.owner = c->reaper.take.operation.owner = c;
	c->reaper.trim.operation.owner = c;
	uv_timer_init(c->options.loop, &c->reaper.timer);
	c->reaper.timer.data = c;
	uint64_t interval_ms = (uint64_t)(c->options.settings.heartbeat_us / US_PER_MS);
	uv_timer_start(&c->reaper.timer, on_tick, interval_ms, interval_ms);
}

bool reaper_idle(const struct coordinator *c)
{
	return !c->reaper.beating && !c->reaper.counting && !c->reaper.taking && !c->reaper.trimming;
}
