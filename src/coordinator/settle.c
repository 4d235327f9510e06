/* Transitions of running attempts: gathered while the last batch is in flight, written as one compare-and-set with the output that
 * goes with them, and told to the bus once that has committed.
 *
 * That code has started is written within STARTED_WAIT_MS, in company of something more urgent where there is such: for a short
 * job that is its own end, and saves it a commit.
 *
 * One batch is in flight at a time, so that the transitions of a task keep their order. A batch that fails is handed in again, the
 * same, until its outcome is known: after a back-off where nothing was changed, at once where it may have been. */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/text.h"

#define STARTED_WAIT_MS 10
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000

static void hand_in(struct coordinator *c)
{
	c->options.store->ops->settle(c->options.store, &c->settle.settle);
}

/* ---- forming a batch ---- */

static struct transition *transition_add(struct coordinator *c, struct attempt *attempt)
{
	struct store_settle *settle = &c->settle.settle;
	if (settle->count == c->settle.capacity) {
		size_t capacity = c->settle.capacity ? c->settle.capacity * 2 : 64;
		c->settle.transitions = realloc_array(c->settle.transitions, capacity, sizeof(*c->settle.transitions));
		c->settle.owners = realloc_array(c->settle.owners, capacity, sizeof(struct attempt *));
		c->settle.capacity = capacity;
	}
	c->settle.owners[settle->count] = attempt;
	struct transition *transition = &c->settle.transitions[settle->count++];
	*transition = (struct transition){ 0 };
	return transition;
}

static struct bytes started_data(struct attempt *attempt)
{
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	json_member_string(&json, "executor", attempt->task.executor);
	if (attempt->task.node.data)
		json_member_string(&json, "node", attempt->task.node);
	if (attempt->task.pod.data)
		json_member_string(&json, "pod", attempt->task.pod);
	struct bytes data = arena_bytes(&attempt->arena, buffer_bytes(&text));
	buffer_fini(&text);
	return data;
}

static void transition_guard(struct coordinator *c, struct attempt *attempt, struct transition *transition)
{
	transition->guard = (struct task_guard){
		.id = attempt->task.id,
		.status = TASK_RUNNING,
		.attempt = attempt->task.attempt,
		.locked_by = attempt->task.locked_by,
	};
	if (!attempt->started_pending)
		return;
	attempt->started_pending = false;
	transition->started_at_us = attempt->task.started_at_us;
	transition->started_data = started_data(attempt);
	transition->node = attempt->task.node;
	transition->pod = attempt->task.pod;
	transition->image = attempt->task.image;
}

static void attempt_take(struct coordinator *c, struct attempt *attempt)
{
	attempt->in_flight = true;
	while (!list_empty(&attempt->steps)) {
		struct list *link = list_pop_front(&attempt->steps);
		struct pending_step *step = LIST_ENTRY(link, struct pending_step, link);
		struct transition *transition = transition_add(c, attempt);
		transition->kind = TRANSITION_STEP;
		transition->event_kind = EVENT_TEST;
		transition->event_data = step->event_data;
		transition->at_us = step->at_us;
		transition_guard(c, attempt, transition);
		list_push_back(&c->settle.steps_in_flight, link);
	}
	if (attempt->end_pending) {
		struct transition *transition = transition_add(c, attempt);
		*transition = attempt->end_transition;
		transition_guard(c, attempt, transition);
		attempt->end_pending = false;
	} else if (attempt->started_pending) {
		struct transition *transition = transition_add(c, attempt);
		transition->kind = TRANSITION_STARTED;
		transition->at_us = attempt->task.started_at_us;
		transition_guard(c, attempt, transition);
	}
	output_take_chunks(c, attempt);
}

static void take_due_output(struct coordinator *c)
{
	int64_t now = clock_monotonic_us();
	LIST_EACH (&c->settle.unsaved_output, link) {
		struct attempt *attempt = LIST_ENTRY(link, struct attempt, output_link);
		if (output_due_at(attempt) <= now)
			output_take_chunks(c, attempt);
	}
}

static void form_chunks(struct coordinator *c)
{
	struct store_settle *settle = &c->settle.settle;
	LIST_EACH (&c->settle.chunks_in_flight, link) {
		if (settle->chunk_count == c->settle.chunk_capacity) {
			c->settle.chunk_capacity = c->settle.chunk_capacity ? c->settle.chunk_capacity * 2 : 64;
			c->settle.chunks =
				realloc_array(c->settle.chunks, c->settle.chunk_capacity, sizeof(*c->settle.chunks));
		}
		c->settle.chunks[settle->chunk_count++] = LIST_ENTRY(link, struct pending_chunk, link)->chunk;
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
		attempt_take(c, attempt);
	}
	c->settle.urgent = !list_empty(&c->settle.queue);
	c->settle.started_due_us = 0;
}

static void arm_output_timer(struct coordinator *c);

void settle_pump(struct coordinator *c)
{
	if (c->settle.in_flight || !c->store_available)
		return;
	struct store_settle *settle = &c->settle.settle;
	settle->count = settle->chunk_count = 0;
	if (c->settle.urgent || (c->settle.started_due_us && c->settle.started_due_us <= clock_monotonic_us()))
		take_queue(c);
	take_due_output(c);
	form_chunks(c);
	if (!settle->count && !settle->chunk_count) {
		arm_output_timer(c);
		return;
	}
	settle->publisher = bytes_of(c->locked_by);
	settle->transitions = c->settle.transitions;
	settle->chunks = c->settle.chunks;
	c->settle.in_flight = true;
	c->settle.write_class = republish_write_begun(c);
	c->settle.formed++;
	c->statistics.store_batches[2]++;
	c->statistics.store_rows[2] += settle->count;
	hand_in(c);
}

void settle_enqueue(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	if (!list_linked(&attempt->settle_link))
		list_push_back(&c->settle.queue, &attempt->settle_link);
	c->settle.urgent = true;
	settle_pump(c);
}

static void on_started_timer(uv_timer_t *timer)
{
	settle_pump(timer->data);
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
	uv_timer_start(&c->settle.started_timer, on_started_timer, STARTED_WAIT_MS + 1, 0);
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
	attempt->disowned = true;
	c->statistics.refused_settles++;
	log_event(c->log, LOG_WARNING, "task is another's, its attempt here is dropped", L_TASK(&attempt->task.id),
		L_INT("attempt", attempt->task.attempt));
	attempt_kill(attempt);
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
		admission_waiting_add(c, attempt->task.tenant, 1);
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

/* The events of one result, terminal ones with what the attempt printed. */
static void publish(struct coordinator *c, struct attempt *attempt, struct settle_result *result)
{
	for (int i = 0; i < result->event_count; i++) {
		struct event *event = &result->events[i];
		event->publisher = c->settle.settle.publisher;
		if (event->kind != EVENT_COMPLETED && event->kind != EVENT_FAILED && event->kind != EVENT_CANCELLED)
			continue;
		event->output = buffer_bytes(&attempt->head[0]);
		event->error = buffer_bytes(&attempt->head[1]);
		event->output_truncated = attempt->truncated[0] || attempt->truncated[1] ||
					  attempt->stream_offset[0] > attempt->head[0].len ||
					  attempt->stream_offset[1] > attempt->head[1].len;
	}
	if (result->event_count)
		c->options.bus->ops->publish(c->options.bus, result->events, (size_t)result->event_count);
}

static void free_in_flight(struct coordinator *c)
{
	while (!list_empty(&c->settle.chunks_in_flight))
		free(LIST_ENTRY(list_pop_front(&c->settle.chunks_in_flight), struct pending_chunk, link));
	while (!list_empty(&c->settle.steps_in_flight))
		free(LIST_ENTRY(list_pop_front(&c->settle.steps_in_flight), struct pending_step, link));
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

static void batch_committed(struct coordinator *c)
{
	struct store_settle *settle = &c->settle.settle;
	c->settle.in_flight = false;
	republish_write_done(c, c->settle.write_class);
	c->settle.committed = c->settle.formed;
	bool had_failed = settle_refused(c);
	c->settle.retry_ms = 0;
	for (size_t i = 0; i < settle->count; i++) {
		struct attempt *attempt = c->settle.owners[i];
		struct settle_result *result = &settle->results[i];
		const struct transition *transition = &settle->transitions[i];
		attempt->in_flight = false;
		if (result->status == SETTLE_REFUSED) {
			attempt_refused(c, attempt);
			continue;
		}
		attempt->task.sequence = result->sequence;
		publish(c, attempt, result);
		if (transition->kind >= TRANSITION_END)
			attempt_ended(c, attempt, transition, result);
	}
	/* Freed last: several transitions of the batch may be one attempt's. A refused one goes when its executor has let go. */
	for (size_t i = 0; i < settle->count; i++) {
		struct attempt *attempt = c->settle.owners[i];
		bool last_of_attempt = i + 1 == settle->count || c->settle.owners[i + 1] != attempt;
		bool over = settle->transitions[i].kind >= TRANSITION_END ||
			    (attempt->disowned && attempt->phase == ATTEMPT_SETTLING);
		if (last_of_attempt && over)
			attempt_free(attempt);
	}
	free_in_flight(c);
	store_operation_fini(&settle->operation);
	wake_flush_waiters(c);
	settle_pump(c);
	if (had_failed)
		dispatch_pump(c);
	coordinator_drained_check(c);
}

static void on_retry(uv_timer_t *timer)
{
	hand_in(timer->data);
}

static void on_settled(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	if (operation->outcome == STORE_OK) {
		batch_committed(c);
		return;
	}
	if (operation->outcome == STORE_UNKNOWN) {
		store_operation_fini(operation);
		uv_timer_start(&c->settle.retry_timer, on_retry, UNKNOWN_AGAIN_MS, 0);
		return;
	}
	if (c->stop.stopping) {
		store_operation_fini(operation);
		return;
	}
	uint64_t *delay = &c->settle.retry_ms;
	*delay = *delay ? (*delay * 2 < RETRY_MS_MAX ? *delay * 2 : RETRY_MS_MAX) : RETRY_MS_MIN;
	uint8_t jitter;
	random_bytes(&jitter, 1);
	log_event(c->log, LOG_WARNING, "outcomes could not be written, they wait", L_ERR(&operation->err),
		L_INT("rows", (int64_t)c->settle.settle.count), L_INT("retry_ms", (int64_t)*delay));
	store_operation_fini(operation);
	uv_timer_start(&c->settle.retry_timer, on_retry, *delay / 2 + *delay * jitter / 512, 0);
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
		int64_t due = output_due_at(LIST_ENTRY(link, struct attempt, output_link));
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
		settle_pump(c);
	else if (!listed && !uv_is_active((uv_handle_t *)&c->settle.output_timer))
		arm_output_timer(c);
}

void coordinator_flush_output(struct coordinator *c, const struct uuid *id, void (*done)(void *owner), void *owner)
{
	struct flush_waiter *waiter = alloc(sizeof(*waiter));
	waiter->done = done;
	waiter->owner = owner;
	struct attempt *attempt = attempt_find(c, id);
	if (attempt && !list_empty(&attempt->chunks)) {
		attempt->output_followed = true;
		waiter->batch = c->settle.formed + 1;
	} else if (attempt && c->settle.in_flight) {
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
	list_init(&c->settle.chunks_in_flight);
	list_init(&c->settle.steps_in_flight);
	list_init(&c->settle.unsaved_output);
	list_init(&c->settle.flush_waiters);
	c->settle.settle.operation.done = on_settled;
	c->settle.settle.operation.owner = c;
	uv_timer_init(c->options.loop, &c->settle.output_timer);
	uv_timer_init(c->options.loop, &c->settle.retry_timer);
	uv_timer_init(c->options.loop, &c->settle.started_timer);
	c->settle.started_timer.data = c;
	c->settle.output_timer.data = c->settle.retry_timer.data = c;
}

bool settle_refused(const struct coordinator *c)
{
	return c->settle.retry_ms > 0;
}

bool settle_idle(const struct coordinator *c)
{
	return !c->settle.in_flight && list_empty(&c->settle.queue) && list_empty(&c->settle.unsaved_output);
}

void settle_dispose(struct coordinator *c)
{
	free_in_flight(c);
	while (!list_empty(&c->settle.flush_waiters)) {
		struct flush_waiter *waiter =
			LIST_ENTRY(list_pop_front(&c->settle.flush_waiters), struct flush_waiter, link);
		waiter->done(waiter->owner);
		free(waiter);
	}
	store_operation_fini(&c->settle.settle.operation);
	free(c->settle.transitions);
	free(c->settle.owners);
	free(c->settle.chunks);
}
