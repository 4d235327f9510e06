/* Start, stop and the small questions. Stopping, in this order, each step begun when the one before has ended:
 *
 *   claims end ─► what runs ends by itself, or is killed when the drain time is up, and is settled
 *     ─► executors stop ─► store stops ─► timers close ─► on_stopped */
#include "coordinator/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"

/* After the kill, for the store to take the last outcomes. What it does not take is recovered at the next start. */
#define STOP_FORCED_AFTER_MS 5000

const double coordinator_bucket_bounds[16] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30,
	300, 3600, __builtin_inf() };

void duration_observe(struct duration_histogram *histogram, int64_t us)
{
	double seconds = us > 0 ? (double)us / US_PER_S : 0;
	size_t bucket = 0;
	while (seconds > coordinator_bucket_bounds[bucket])
		bucket++;
	histogram->buckets[bucket]++;
	histogram->sum_s += seconds;
}

void coordinator_new_incarnation(struct coordinator *c)
{
	uint64_t random;
	random_bytes(&random, sizeof(random));
	char name[LOCKED_BY_SIZE];
	snprintf(name, sizeof(name), "%.120s#%016llx", c->options.replica, (unsigned long long)random);
	c->locked_by = arena_string(&c->names, name);
	republish_name(c, c->locked_by);
}

bool coordinator_is_own_name(const struct coordinator *c, struct bytes locked_by)
{
	return locked_by.data == c->locked_by;
}

static void on_turn_end(uv_idle_t *idle)
{
	struct coordinator *c = idle->data;
	uv_idle_stop(idle);
	bool settle = c->settle_wanted;
	c->settle_wanted = false;
	if (settle)
		settle_pump(c);
	dispatch_claim(c);
}

void coordinator_at_turn_end(struct coordinator *c, bool settle)
{
	c->settle_wanted |= settle;
	if (!uv_is_closing((uv_handle_t *)&c->turn))
		uv_idle_start(&c->turn, on_turn_end);
}

struct coordinator *coordinator_new(const struct coordinator_options *options)
{
	struct coordinator *c = alloc(sizeof(*c));
	c->options = *options;
	c->log = options->log;
	c->lane_count = options->executor_count;
	c->lanes = alloc_array(options->executor_count + 1, sizeof(*c->lanes));
	bool internal_listed = false;
	for (size_t i = 0; i < options->executor_count; i++) {
		c->lanes[i].executor = options->executors[i];
		internal_listed |= options->executors[i] == options->internal;
	}
	if (!internal_listed)
		c->lanes[c->lane_count++] = (struct lane){ .executor = options->internal, .internal = true };
	coordinator_new_incarnation(c);
	list_init(&c->all_attempts);
	list_init(&c->commands);
	fair_init(c);
	outputs_init(c);
	tenants_init(c);
	admission_init(c);
	dispatch_init(c);
	settle_init(c);
	reaper_init(c);
	uv_idle_init(options->loop, &c->turn);
	c->turn.data = c;
	republish_init(c);
	frontier_init(c);
	follow_init(c);
	found_init(c);
	uv_timer_init(options->loop, &c->stop.timer);
	c->stop.timer.data = c;
	return c;
}

/* ---- notices of the store ---- */

static void on_work(void *owner)
{
	dispatch_work(owner, NULL);
}

void coordinator_cancel_wanted(struct coordinator *c, const struct uuid *id)
{
	struct attempt *attempt = attempt_find(c, id);
	if (!attempt || attempt->cancel_requested)
		return;
	attempt->cancel_requested = true;
	attempt_kill(attempt);
}

static void on_cancel(void *owner, const struct uuid *id)
{
	coordinator_cancel_wanted(owner, id);
}

static void on_output(void *owner, const struct uuid *id)
{
	outputs_written(owner, id);
}

static void on_output_wanted(void *owner, const struct uuid *id)
{
	outputs_wanted(owner, id);
}

static void on_available(void *owner, bool available, const struct err *why_not)
{
	struct coordinator *c = owner;
	c->store_available = available;
	if (available)
		log_event(c->log, LOG_INFO, "store is available");
	else
		log_event(c->log, LOG_ERROR, "store is away", L_ERR(why_not));
	if (available) {
		republish_pump(c);
		follow_pump(c);
		found_pump(c);
	}
	reaper_available(c, available);
	if (available) {
		settle_pump(c);
		dispatch_work(c, NULL);
	}
}

static void on_events(void *owner)
{
	follow_pump(owner);
}

static void on_reopened(void *owner, const struct uuid *id)
{
	struct coordinator *c = owner;
	if (c->options.on_reopened)
		c->options.on_reopened(c->options.owner, id);
}

static void on_failed(void *owner, const struct err *err)
{
	struct coordinator *c = owner;
	if (c->options.on_failed)
		c->options.on_failed(c->options.owner, err);
}

const struct bus_notices coordinator_bus_notices = {
	.on_behind = republish_on_behind,
	.on_republished = republish_on_republished,
	.on_heard = follow_on_heard,
};

static const struct store_notices notices = {
	.on_work = on_work,
	.on_cancel = on_cancel,
	.on_events = on_events,
	.on_output = on_output,
	.on_output_wanted = on_output_wanted,
	.on_reopened = on_reopened,
	.on_failed = on_failed,
	.on_available = on_available,
};

/* The store first: it holds what proves that no other service of this name lives, and executors kill what earlier
 * ones left. */
int coordinator_start(struct coordinator *c, struct err *err)
{
	log_event(c->log, LOG_INFO, "incarnation", L_STR("replica", c->locked_by));
	int result = c->options.store->ops->start(c->options.store, &notices, c, err);
	for (size_t i = 0; i < c->lane_count && result == 0; i++)
		result = c->lanes[i].executor->ops->start(c->lanes[i].executor, &attempt_listener, c, err);
	return result;
}

/* Who is stopped before is never ready: nobody would stop what on_ready starts. */
void coordinator_recovered(struct coordinator *c)
{
	c->recovered = true;
	if (c->phase != COORDINATOR_STARTING)
		return;
	c->phase = COORDINATOR_RUNNING;
	c->options.on_ready(c->options.owner);
	dispatch_work(c, NULL);
}

/* ---- stop ---- */

static void on_handle_closed(uv_handle_t *handle)
{
	struct coordinator *c = handle->data;
	if (--c->stop.handles_left)
		return;
	c->phase = COORDINATOR_STOPPED;
	c->stop.on_stopped(c->stop.owner);
}

static void on_store_stopped(void *owner)
{
	struct coordinator *c = owner;
	uv_handle_t *handles[] = { (uv_handle_t *)&c->stop.timer, (uv_handle_t *)&c->dispatch.timer,
		(uv_handle_t *)&c->settle.output_timer, (uv_handle_t *)&c->settle.retry_timer,
		(uv_handle_t *)&c->settle.started_timer, (uv_handle_t *)&c->settle.deferred_timer,
		(uv_handle_t *)&c->reaper.timer, (uv_handle_t *)&c->turn, (uv_handle_t *)&c->admission.turn_end,
		(uv_handle_t *)&c->admission.answers, (uv_handle_t *)&c->follow.linger };
	c->stop.handles_left = ARRAY_SIZE(handles) + SUBMITS_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
		uv_close(handles[i], on_handle_closed);
	admission_close(c, on_handle_closed);
}

static void on_executor_stopped(void *owner)
{
	struct coordinator *c = owner;
	if (--c->stop.executors_left)
		return;
	/* What they reported last goes to the store before it stops. */
	settle_pump(c);
	c->options.store->ops->stop(c->options.store, on_store_stopped, c);
}

static void stop_doors(struct coordinator *c)
{
	c->stop.stopping = true;
	uv_timer_stop(&c->reaper.timer);
	uv_timer_stop(&c->dispatch.timer);
	uv_timer_stop(&c->settle.retry_timer);
	uv_timer_stop(&c->stop.timer);
	c->stop.executors_left = c->lane_count;
	for (size_t i = 0; i < c->lane_count; i++)
		c->lanes[i].executor->ops->stop(c->lanes[i].executor, on_executor_stopped, c);
}

/* Jobs that outlive the service are nobody's to wait for: their rows stay RUNNING until they are adopted. */
static bool all_settled(const struct coordinator *c)
{
	LIST_EACH (&c->all_attempts, link) {
		const struct attempt *attempt = LIST_ENTRY(link, struct attempt, link);
		if (attempt->phase > ATTEMPT_STARTED || !attempt_outlives_service(attempt))
			return false;
	}
	return true;
}

void coordinator_drained_check(struct coordinator *c)
{
	if (!c->stop.requested || c->stop.stopping)
		return;
	bool drained = !c->dispatch.in_flight && admission_idle(c) && settle_idle(c) && reaper_idle(c) &&
		       republish_idle(c) && follow_idle(c) && found_idle(c) && all_settled(c);
	if ((drained || c->stop.forced) && c->stop.comparing == 0)
		stop_doors(c);
}

void coordinator_kill_all(struct coordinator *c, bool disown)
{
	/* Killing reports nothing from within, so the list does not change under the walk. */
	LIST_EACH (&c->all_attempts, link) {
		struct attempt *attempt = LIST_ENTRY(link, struct attempt, link);
		if (disown) {
			attempt_disown(attempt);
		} else if (!attempt_outlives_service(attempt)) {
			attempt->hand_back = true;
			attempt_kill(attempt);
		}
	}
}

static void on_forced(uv_timer_t *timer)
{
	struct coordinator *c = timer->data;
	if (c->stop.stopping || !c->stop.requested)
		return;
	log_event(c->log, LOG_WARNING, "stopping although not everything was settled",
		L_INT("attempts", (int64_t)c->attempt_count));
	c->stop.forced = true;
	coordinator_drained_check(c);
}

static void commands_drain_over(struct coordinator *c);

static void on_drain_over(uv_timer_t *timer)
{
	struct coordinator *c = timer->data;
	if (c->stop.killed)
		return;
	c->stop.killed = true;
	if (c->attempt_count)
		log_event(c->log, LOG_INFO, "drain time is up, what runs is killed and handed back",
			L_INT("attempts", (int64_t)c->attempt_count));
	coordinator_kill_all(c, /* disown= */ false);
	settle_drain_over(c);
	admission_drain_over(c);
	commands_drain_over(c);
	uv_timer_start(&c->stop.timer, on_forced, STOP_FORCED_AFTER_MS, 0);
	coordinator_drained_check(c);
}

void coordinator_drain(struct coordinator *c, int64_t drain_us)
{
	c->phase = COORDINATOR_DRAINING;
	uint64_t drain_ms = (uint64_t)(drain_us / US_PER_MS);
	bool shorter = !uv_is_active((uv_handle_t *)&c->stop.timer) || uv_timer_get_due_in(&c->stop.timer) > drain_ms;
	if (!c->stop.killed && !c->stop.stopping && shorter)
		uv_timer_start(&c->stop.timer, on_drain_over, drain_ms, 0);
}

void coordinator_stop(struct coordinator *c, int64_t drain_us, void (*on_stopped)(void *owner), void *owner)
{
	coordinator_drain(c, drain_us);
	c->stop.on_stopped = on_stopped;
	c->stop.owner = owner;
	c->stop.requested = true;
	/* The time for the last outcomes may have passed before anybody asked. */
	if (c->stop.killed && !c->stop.stopping && !uv_is_active((uv_handle_t *)&c->stop.timer))
		uv_timer_start(&c->stop.timer, on_forced, 0, 0);
	coordinator_drained_check(c);
}

void coordinator_clear_cancel_notes(struct coordinator *c)
{
	struct table_node *node;
	while ((node = table_next(&c->cancel_notes, NULL))) {
		table_remove(&c->cancel_notes, node);
		free(CONTAINER_OF(node, struct cancel_note, node));
	}
}

void coordinator_free(struct coordinator *c)
{
	if (!c)
		return;
	c->stop.requested = false;
	LIST_EACH (&c->all_attempts, link)
		attempt_free(LIST_ENTRY(link, struct attempt, link));
	table_fini(&c->attempts);
	coordinator_clear_cancel_notes(c);
	table_fini(&c->cancel_notes);
	fair_dispose(c);
	outputs_dispose(c);
	tenants_dispose(c);
	admission_dispose(c);
	dispatch_dispose(c);
	settle_dispose(c);
	order_dispose(c);
	republish_dispose(c);
	follow_dispose(c);
	found_dispose(c);
	arena_fini(&c->names);
	free(c->lanes);
	free(c);
}

/* ---- commands ---- */

struct command_call {
	struct list link; /* in coordinator->commands */
	struct coordinator *coordinator;
	struct store_command *command; /* borrowed: the caller's */
	void (*done)(struct store_operation *operation);
	void *owner;
	struct buffer event_data;
	int write_class; /* republish.c */
	uv_timer_t again; /* after an outcome that is not known */
};

static void cancel_requested(struct coordinator *c, const struct command_result *result)
{
	struct attempt *attempt = attempt_find(c, &result->id);
	if (attempt && attempt->task.attempt >= result->attempt) {
		attempt->cancel_requested = true;
		attempt_kill(attempt);
		return;
	}
	if (!bytes_is(result->locked_by, c->locked_by))
		return;
	/* Ours, but its claim has not been reported yet. */
	struct cancel_note *note = alloc(sizeof(*note));
	note->id = result->id;
	note->node.key = (struct bytes){ (const char *)note->id.bytes, sizeof(note->id.bytes) };
	if (table_find(&c->cancel_notes, note->node.key))
		free(note);
	else
		table_insert(&c->cancel_notes, &note->node);
}

static void on_call_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_command_again(uv_timer_t *timer)
{
	struct command_call *call = timer->data;
	struct store *store = call->coordinator->options.store;
	store->ops->command(store, call->command);
}

/* Of a whole batch its tasks are known only now. */
static void publish_commanded(struct command_call *call, const struct event *event)
{
	order_write_begun(call->coordinator, &event->task_id);
	order_publish(call->coordinator, event, 1, call->write_class);
	order_write_done(call->coordinator, &event->task_id);
}

static void command_end(struct command_call *call)
{
	struct coordinator *c = call->coordinator;
	struct store_command *command = call->command;
	struct store_operation *operation = &command->operation;
	if (operation->outcome == STORE_OK) {
		for (size_t i = 0; i < command->result_count; i++) {
			struct command_result *result = &command->results[i];
			result->event.publisher = command->publisher;
			if (result->has_event)
				publish_commanded(call, &result->event);
			if (result->status == COMMAND_REQUESTED)
				cancel_requested(c, result);
			else if (command->kind == COMMAND_CANCEL && result->status == COMMAND_DONE)
				tenant_waiting_add(c, result->has_event ? result->event.tenant : BYTES_NONE, -1);
			else if (command->kind == COMMAND_RUN && result->has_event)
				tenant_waiting_add(c, result->event.tenant, 1); /* it had ended, and waits again */
		}
		if (command->kind == COMMAND_RUN)
			dispatch_work(c, NULL);
	}
	for (size_t i = 0; i < command->count; i++)
		order_write_done(c, &command->ids[i]);
	republish_write_done(c, call->write_class);
	operation->done = call->done;
	operation->owner = call->owner;
	buffer_fini(&call->event_data);
	list_remove(&call->link);
	uv_close((uv_handle_t *)&call->again, on_call_closed);
	operation->done(operation);
}

static void on_commanded(struct store_operation *operation)
{
	struct command_call *call = operation->owner;
	if (operation->outcome != STORE_UNKNOWN || call->coordinator->stop.killed) {
		command_end(call);
		return;
	}
	store_operation_fini(operation);
	uv_timer_start(&call->again, on_command_again, UNKNOWN_AGAIN_MS, 0);
}

/* As with submissions: whose outcome is not known by then nobody waits for any more. */
static void commands_drain_over(struct coordinator *c)
{
	LIST_EACH (&c->commands, link) {
		struct command_call *call = LIST_ENTRY(link, struct command_call, link);
		if (!uv_is_active((uv_handle_t *)&call->again))
			continue;
		uv_timer_stop(&call->again);
		command_end(call);
	}
}

void coordinator_command(struct coordinator *c, struct store_command *command)
{
	struct command_call *call = alloc(sizeof(*call));
	uv_timer_init(c->options.loop, &call->again);
	call->again.data = call;
	call->coordinator = c;
	call->command = command;
	call->done = command->operation.done;
	call->owner = command->operation.owner;
	const struct attempt_record record = {
		.status = TASK_CANCELLED,
		.reason = REASON_CANCELLED,
		.exit_code = -1,
		.finished_at_us = command->at_us,
	};
	const struct task task = { .status = TASK_CANCELLED };
	form_terminal_data(&call->event_data, &task, &record);
	command->event_data = buffer_bytes(&call->event_data);
	command->publisher = bytes_of(c->locked_by);
	command->operation.done = on_commanded;
	command->operation.owner = call;
	for (size_t i = 0; i < command->count; i++)
		order_write_begun(c, &command->ids[i]);
	call->write_class = republish_write_begun(c);
	list_push_back(&c->commands, &call->link);
	c->options.store->ops->command(c->options.store, command);
}

/* ---- questions ---- */

const struct task *coordinator_find(const struct coordinator *c, const struct uuid *id)
{
	const struct attempt *attempt = attempt_find(c, id);
	return attempt && !attempt->disowned ? &attempt->task : NULL;
}

const struct coordinator_statistics *coordinator_statistics(const struct coordinator *c)
{
	return &c->statistics;
}

enum coordinator_phase coordinator_phase(const struct coordinator *c)
{
	return c->phase;
}

bool coordinator_was_ready(const struct coordinator *c)
{
	return c->recovered;
}

const char *coordinator_locked_by(const struct coordinator *c)
{
	return c->locked_by;
}
