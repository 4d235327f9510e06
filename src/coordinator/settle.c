/* Transitions of running attempts: gathered while the last batch is in flight, written as one compare-and-set with
 * the output that goes with them, and told to the bus once that has committed.
 *
 * That code has started is written within STARTED_WAIT_MS, in company of something more urgent where there is such:
 * for a short job that is its own end, and saves it a commit.
 *
 * One batch is in flight at a time, so that the transitions of a task keep their order. Where the store is away, or
 * its answer was lost, the same is handed in again until its outcome is known; what the store refuses for what it is,
 * settle_batch.c takes apart. */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "base/text.h"

#define STARTED_WAIT_MS 10
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define UNSETTLED_MAX 2048 /* attempts that have ended and are not written yet, before nothing more is started */
#define DEFERRED_MAX 16 /* attempts whose outcome the store refuses, before nothing more is started */

/* Something in the queue, or deferred, is due. */
static void on_due(uv_timer_t *timer)
{
	settle_pump(timer->data);
}

/* ---- forming a batch ---- */

static void take_due_output(struct coordinator *c)
{
	int64_t now = clock_monotonic_us();
	LIST_EACH (&c->settle.unsaved_output, link) {
		struct attempt *attempt = LIST_ENTRY(link, struct attempt, output_link);
		if (!attempt->deferred && !attempt->disowned && output_due_at(attempt) <= now)
			batch_add_attempt(c, attempt);
	}
}

static void take_queue(struct coordinator *c)
{
	for (int taken = 0; taken < SETTLE_BATCH_MAX && !list_empty(&c->settle.queue); taken++) {
		struct attempt *attempt = LIST_ENTRY(list_pop_front(&c->settle.queue), struct attempt, settle_link);
		if (attempt->disowned) {
			if (attempt->phase == ATTEMPT_SETTLING)
				attempt_free(attempt);
			continue;
		}
		batch_add_attempt(c, attempt);
	}
	c->settle.urgent = !list_empty(&c->settle.queue);
	c->settle.started_due_us = 0;
}

/* Alone, so that what it brings keeps no other waiting. */
static bool take_deferred(struct coordinator *c)
{
	int64_t now = clock_monotonic_us(), next = INT64_MAX;
	struct attempt *due = NULL;
	LIST_EACH (&c->settle.deferred, link) {
		struct attempt *attempt = LIST_ENTRY(link, struct attempt, settle_link);
		if (!due && attempt->deferred_until_us <= now)
			due = attempt;
		else if (attempt->deferred_until_us < next)
			next = attempt->deferred_until_us;
	}
	if (due) {
		list_remove(&due->settle_link);
		due->deferred = false;
		c->settle.deferred_count--;
		if (due->disowned && due->phase == ATTEMPT_SETTLING)
			attempt_free(due);
		else if (!due->disowned)
			batch_add_attempt(c, due);
	}
	if (next != INT64_MAX)
		uv_timer_start(&c->settle.deferred_timer, on_due,
			next > now ? (uint64_t)((next - now) / US_PER_MS + 1) : 1, 0);
	return c->settle.group_count > 0;
}

static void arm_output_timer(struct coordinator *c);

void settle_pump(struct coordinator *c)
{
	if (c->settle.in_flight || !c->store_available)
		return;
	c->settle.transition_count = c->settle.chunk_count = c->settle.group_count = 0;
	if (!take_deferred(c)) {
		if (c->settle.urgent || (c->settle.started_due_us && c->settle.started_due_us <= clock_monotonic_us()))
			take_queue(c);
		take_due_output(c);
	}
	if (!c->settle.group_count) {
		arm_output_timer(c);
		return;
	}
	c->settle.settle.publisher = bytes_of(c->locked_by);
	c->settle.ranges[0] = (struct settle_range){ 0, c->settle.group_count };
	c->settle.range_count = 1;
	c->settle.in_flight = true;
	c->settle.write_class = republish_write_begun(c);
	c->settle.formed++;
	c->statistics.store_batches[2]++;
	c->statistics.store_rows[2] += c->settle.transition_count;
	batch_hand_in(c);
}

void settle_enqueue(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	if (!list_linked(&attempt->settle_link))
		list_push_back(&c->settle.queue, &attempt->settle_link);
	c->settle.urgent = true;
	coordinator_at_turn_end(c, /* settle= */ true);
}

void settle_enqueue_started(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	if (!list_linked(&attempt->settle_link))
		list_push_back(&c->settle.queue, &attempt->settle_link);
	if (c->settle.started_due_us)
		return;
	c->settle.started_due_us = clock_monotonic_us() + STARTED_WAIT_MS * US_PER_MS;
	/* The loop's clock stands still within a turn: one more, so that the timer does not come too early. */
	uv_update_time(c->options.loop);
	uv_timer_start(&c->settle.started_timer, on_due, STARTED_WAIT_MS + 1, 0);
}

/* ---- a batch has committed ---- */

static void count_end(struct coordinator *c, const struct attempt *attempt, enum task_reason reason)
{
	c->statistics.ended[reason]++;
	if (attempt->task.started_at_us)
		duration_observe(&c->statistics.duration, attempt->task.finished_at_us - attempt->task.started_at_us);
}

static void attempt_refused(struct coordinator *c, struct attempt *attempt)
{
	if (attempt->disowned)
		return;
	c->statistics.refused_settles++;
	log_event(c->log, LOG_WARNING, "task is another's, its attempt here is dropped", L_TASK(&attempt->task.id),
		L_INT("attempt", attempt->task.attempt));
	attempt_disown(attempt);
}

static void attempt_ended(struct coordinator *c, struct attempt *attempt, const struct transition *transition,
	const struct settle_result *result)
{
	enum task_reason reason = result->task_status == TASK_CANCELLED && transition->target != TASK_CANCELLED
					  ? REASON_CANCELLED
					  : transition->reason;
	if (task_status_ended(result->task_status)) {
		count_end(c, attempt, result->task_status == TASK_COMPLETED ? REASON_NONE : reason);
	} else {
		if (result->task_status == TASK_RETRY)
			c->statistics.retried++;
		else
			c->statistics.handed_back++;
		tenant_waiting_add(c, attempt->task.tenant, 1);
		if (attempt->lane && (!attempt->lane->next_due_us || attempt->lane->next_due_us > result->run_after_us))
			attempt->lane->next_due_us = result->run_after_us;
		dispatch_work(c, attempt->lane);
	}
	log_event(c->log, LOG_INFO, "attempt settled", L_TASK(&attempt->task.id),
		L_INT("attempt", attempt->task.attempt), L_STR("status", task_status_name(result->task_status)),
		L_STR("reason", task_reason_name(reason)),
		L_SECONDS(
			"seconds", attempt->task.started_at_us ? transition->at_us - attempt->task.started_at_us : 0));
}

/* The job itself has told the world of it. */
static bool was_published(const struct attempt *attempt, enum event_kind kind)
{
	if (kind == EVENT_RUNNING)
		return attempt->start_published;
	return (kind == EVENT_COMPLETED || kind == EVENT_FAILED) && attempt->end->job.published;
}

/* The events of one result, terminal ones with what the attempt printed. */
static void publish(struct coordinator *c, struct attempt *attempt, struct settle_result *result)
{
	for (int i = 0; i < result->event_count; i++) {
		struct event *event = &result->events[i];
		event->publisher = c->settle.settle.publisher;
		event->published = was_published(attempt, event->kind);
		if (event->kind != EVENT_COMPLETED && event->kind != EVENT_FAILED && event->kind != EVENT_CANCELLED)
			continue;
		event->output = buffer_bytes(&attempt->head[0]);
		event->error = buffer_bytes(&attempt->head[1]);
		event->output_truncated = attempt->truncated[0] || attempt->truncated[1] ||
					  attempt->stream_offset[0] > attempt->head[0].len ||
					  attempt->stream_offset[1] > attempt->head[1].len;
	}
	if (result->event_count)
		order_publish(c, result->events, (size_t)result->event_count, c->settle.write_class);
}

/* When the drain time is up nobody waits for a store that may be away. */
static void wake_flush_waiters(struct coordinator *c)
{
	LIST_EACH (&c->settle.flush_waiters, link) {
		struct flush_waiter *waiter = LIST_ENTRY(link, struct flush_waiter, link);
		if (waiter->batch > c->settle.committed && !c->stop.killed)
			continue;
		list_remove(&waiter->link);
		waiter->done(waiter->owner);
		free(waiter);
	}
}

/* True: this was its last, and nobody needs it any more. */
static bool group_committed(struct coordinator *c, struct attempt *attempt, const struct transition *transitions,
	size_t first, size_t count)
{
	bool over = false;
	attempt->refusals = 0;
	batch_forget(attempt);
	for (size_t i = 0; i < count; i++) {
		struct settle_result *result = &c->settle.settle.results[first + i];
		const struct transition *transition = &transitions[i];
		over |= transition->kind >= TRANSITION_END;
		attempt->written |= transition->kind >= TRANSITION_END && result->status != SETTLE_REFUSED;
		if (result->status == SETTLE_REFUSED) {
			attempt_refused(c, attempt);
			continue;
		}
		attempt->task.sequence = result->sequence;
		publish(c, attempt, result);
		if (transition->kind >= TRANSITION_END)
			attempt_ended(c, attempt, transition, result);
	}
	order_write_done(c, &attempt->task.id);
	/* A refused one goes when its executor has let go. */
	return over || (attempt->disowned && attempt->phase == ATTEMPT_SETTLING);
}

static void range_committed(struct coordinator *c)
{
	struct settle_range range = c->settle.ranges[--c->settle.range_count];
	const struct transition *transitions = c->settle.settle.transitions;
	size_t before = range.begin ? c->settle.groups[range.begin - 1].transitions_end : 0, first = 0;
	for (size_t i = range.begin; i < range.end; i++) {
		const struct settle_group *group = &c->settle.groups[i];
		size_t count = group->transitions_end - before;
		before = group->transitions_end;
		if (group_committed(c, group->attempt, transitions + first, first, count))
			attempt_free(group->attempt);
		first += count;
	}
}

static void batch_over(struct coordinator *c)
{
	c->settle.in_flight = false;
	republish_write_done(c, c->settle.write_class);
	c->settle.committed = c->settle.formed;
	wake_flush_waiters(c);
	settle_pump(c);
	dispatch_pump(c);
	coordinator_drained_check(c);
}

static void on_retry(uv_timer_t *timer)
{
	batch_hand_in(timer->data);
}

/* The store is away: nothing was changed, the same is handed in again by and by. */
static void retry_later(struct coordinator *c, const struct err *why)
{
	uint64_t *delay = &c->settle.retry_ms;
	*delay = *delay ? (*delay * 2 < RETRY_MS_MAX ? *delay * 2 : RETRY_MS_MAX) : RETRY_MS_MIN;
	uint8_t jitter;
	random_bytes(&jitter, 1);
	log_event(c->log, LOG_WARNING, "outcomes could not be written, they wait", L_ERR(why),
		L_INT("rows", (int64_t)c->settle.settle.count), L_INT("retry_ms", (int64_t)*delay));
	uv_timer_start(&c->settle.retry_timer, on_retry, *delay / 2 + *delay * jitter / 512, 0);
}

static void on_settled(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	enum store_outcome outcome = operation->outcome;
	struct err why = operation->err;
	bool more = true;
	if (outcome == STORE_OK) {
		c->settle.retry_ms = 0;
		range_committed(c);
		more = c->settle.range_count > 0;
	}
	store_operation_fini(operation);
	if (outcome == STORE_UNKNOWN) {
		uv_timer_start(&c->settle.retry_timer, on_retry, UNKNOWN_AGAIN_MS, 0);
		return;
	}
	if (c->stop.stopping)
		return;
	if (outcome == STORE_AWAY) {
		retry_later(c, &why);
		return;
	}
	if (outcome == STORE_FAILED)
		more = batch_refused(c, &why);
	if (more)
		batch_hand_in(c);
	else
		batch_over(c);
}

/* ---- output that is due ---- */

static void on_output_timer(uv_timer_t *timer)
{
	struct coordinator *c = timer->data;
	wake_flush_waiters(c);
	settle_pump(c);
	arm_output_timer(c);
}

/* Runs only while there is output that no batch has taken. While a batch is in flight its end looks after what is due. */
static void arm_output_timer(struct coordinator *c)
{
	int64_t earliest = INT64_MAX;
	LIST_EACH (&c->settle.unsaved_output, link) {
		const struct attempt *attempt = LIST_ENTRY(link, struct attempt, output_link);
		if (attempt->deferred || attempt->disowned)
			continue;
		int64_t due = output_due_at(attempt);
		earliest = due < earliest ? due : earliest;
	}
	if (earliest == INT64_MAX || c->settle.in_flight)
		return;
	int64_t wait = earliest - clock_monotonic_us();
	uv_timer_start(&c->settle.output_timer, on_output_timer, wait > 0 ? (uint64_t)(wait / US_PER_MS + 1) : 1, 0);
}

void settle_output_due(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	bool listed = list_linked(&attempt->output_link);
	if (!listed)
		list_push_back(&c->settle.unsaved_output, &attempt->output_link);
	if (output_due_at(attempt) <= clock_monotonic_us())
		coordinator_at_turn_end(c, /* settle= */ true);
	else if (!listed && !uv_is_active((uv_handle_t *)&c->settle.output_timer))
		arm_output_timer(c);
}

void coordinator_flush_output(struct coordinator *c, const struct uuid *id, void (*done)(void *owner), void *owner)
{
	struct flush_waiter *waiter = alloc(sizeof(*waiter));
	waiter->done = done;
	waiter->owner = owner;
	for (struct attempt *attempt = attempt_find(c, id); attempt; attempt = attempt->older) {
		bool pending = !list_empty(&attempt->chunks);
		attempt->output_followed |= pending;
		if (pending)
			waiter->batch = c->settle.formed + 1;
		else if (c->settle.in_flight && waiter->batch < c->settle.formed)
			waiter->batch = c->settle.formed;
	}
	list_push_back(&c->settle.flush_waiters, &waiter->link);
	/* A batch that commits wakes it; without one, or where there is nothing to wait for, the timer does. */
	if (!c->settle.in_flight || waiter->batch <= c->settle.committed || c->stop.killed)
		uv_timer_start(&c->settle.output_timer, on_output_timer, 0, 0);
}

void settle_drain_over(struct coordinator *c)
{
	uv_timer_start(&c->settle.output_timer, on_output_timer, 0, 0);
}

void settle_init(struct coordinator *c)
{
	list_init(&c->settle.queue);
	list_init(&c->settle.deferred);
	list_init(&c->settle.unsaved_output);
	list_init(&c->settle.flush_waiters);
	c->settle.settle.operation.done = on_settled;
	c->settle.settle.operation.owner = c;
	uv_timer_init(c->options.loop, &c->settle.output_timer);
	uv_timer_init(c->options.loop, &c->settle.retry_timer);
	uv_timer_init(c->options.loop, &c->settle.started_timer);
	uv_timer_init(c->options.loop, &c->settle.deferred_timer);
	c->settle.started_timer.data = c->settle.deferred_timer.data = c;
	c->settle.output_timer.data = c->settle.retry_timer.data = c;
}

bool settle_behind(const struct coordinator *c)
{
	size_t executed = 0;
	for (size_t i = 0; i < c->lane_count; i++)
		executed += (size_t)c->lanes[i].occupied;
	return c->settle.retry_ms > 0 || c->settle.deferred_count > DEFERRED_MAX ||
	       c->attempt_count > executed + UNSETTLED_MAX;
}

bool settle_idle(const struct coordinator *c)
{
	return !c->settle.in_flight && list_empty(&c->settle.queue) && list_empty(&c->settle.deferred) &&
	       list_empty(&c->settle.unsaved_output);
}

void settle_dispose(struct coordinator *c)
{
	while (!list_empty(&c->settle.flush_waiters)) {
		struct flush_waiter *waiter =
			LIST_ENTRY(list_pop_front(&c->settle.flush_waiters), struct flush_waiter, link);
		waiter->done(waiter->owner);
		free(waiter);
	}
	store_operation_fini(&c->settle.settle.operation);
	batch_dispose(c);
}
