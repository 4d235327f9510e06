/* Submissions become rows. What arrives in one turn of the loop is written as one batch, and so is what arrives while
 * as many batches are in flight as the store writes side by side, or is too little to go beside them; each client is
 * answered when its commit is.
 *
 * A row is born RUNNING, saving the claim, only where nobody would be overtaken: the lane's last claim saw its queue
 * empty, no work was heard of since or is being written, nothing that waited has come due, the row itself is due, and
 * a slot is free, which is then reserved until the row is written. */
#include "coordinator/internal.h"

#include <stdlib.h>

#define SUBMIT_BATCH_MAX 4096

static bool pump(struct coordinator *c);
static void on_turn_end(uv_check_t *check);

bool coordinator_queue_full(struct coordinator *c, struct bytes tenant)
{
	const struct coordinator_settings *settings = &c->options.settings;
	if (settings->queue_max && c->statistics.waiting >= settings->queue_max) {
		c->statistics.refused_queue++;
		return true;
	}
	bool full = tenant_queue_full(c, tenant);
	c->statistics.refused_tenant_queue += full;
	return full;
}

/* ---- answers ---- */

static void admission_progress(struct admission *admission)
{
	if (--admission->open == 0)
		admission->done(admission);
}

static struct task task_born(
	const struct submission *submission, const struct submit_result *result, struct bytes locked_by)
{
	return (struct task){
		.id = submission->id,
		.status = TASK_RUNNING,
		.run = 1,
		.attempt = 1,
		.max_attempts = submission->max_attempts,
		.priority = submission->priority,
		.sequence = result->event.sequence,
		.locked_by = locked_by,
		.tenant = submission->tenant,
		.type = submission->type,
		.queue = submission->queue,
		.executor = submission->executor,
		.eval_id = submission->eval_id,
		.idempotency_key = submission->idempotency_key,
		.batch_id = submission->batch_id,
		.description = submission->description,
		.domain = submission->domain,
		.drift_score = submission->drift_score,
		.turn = submission->turn,
		.created_at_us = result->created_at_us,
		.updated_at_us = result->created_at_us,
		.queued_at_us = result->created_at_us,
		.locked_at_us = result->created_at_us,
		.image = submission->image,
		.traceparent = submission->traceparent,
		.metadata = submission->metadata,
		.callback_url = submission->callback_url,
		.params = submission->params,
	};
}

/* A row of ours was written: run it, or let the queue know of it. */
static void submission_created(struct coordinator *c, const struct submission *submission, struct bytes locked_by,
	struct lane *reserved, const struct submit_result *result)
{
	c->statistics.submitted++;
	if (reserved && !coordinator_is_own_name(c, locked_by))
		return;
	if (result->task_status == TASK_RUNNING && reserved) {
		struct err err = { 0 };
		struct task task = task_born(submission, result, locked_by);
		struct attempt *attempt = attempt_new(c, &task, &err);
		c->statistics.born_running++;
		duration_observe(&c->statistics.queue_wait, 0);
		fair_served(c, submission->executor, submission->priority, submission->turn);
		if (attempt && reaper_may_start(c))
			attempts_run(c, attempt->lane, &attempt, 1);
		else if (attempt)
			attempt_return(attempt);
		return;
	}
	if (reserved)
		tenant_waiting_add(c, submission->tenant, 1);
	struct lane *lane = router_lane(c, submission->executor);
	if (!lane)
		return;
	if (submission->run_after_us > clock_wall_us()) {
		if (!lane->next_due_us || submission->run_after_us < lane->next_due_us)
			lane->next_due_us = submission->run_after_us;
		dispatch_pump(c);
	} else if (!tenant_full(c, submission->tenant)) {
		dispatch_work(c, lane);
	}
}

static void slot_answer(struct coordinator *c, const struct admission_slot *slot, const struct submit_result *from)
{
	static const enum admission_status status[] = {
		[SUBMIT_CREATED] = ADMISSION_CREATED,
		[SUBMIT_EXISTS] = ADMISSION_EXISTS,
		[SUBMIT_CONFLICT] = ADMISSION_CONFLICT,
		[SUBMIT_DISAGREE] = ADMISSION_DISAGREE,
		[SUBMIT_INVALID] = ADMISSION_INVALID,
	};
	struct admission *admission = slot->admission;
	struct admission_result *result = &admission->results[slot->index];
	*result = (struct admission_result){
		.status = status[from->status],
		.id = from->id,
		.task_status = from->task_status,
		.created_at_us = from->created_at_us,
		.error = arena_string(&admission->arena, from->error),
	};
	admission_progress(admission);
}

/* Gives the slot back that was held for it. A row that does not come to be gives its place in the queue back, too. */
static void slot_release(struct coordinator *c, const struct admission_slot *slot, bool created)
{
	struct bytes tenant = slot->admission->submissions[slot->index].tenant;
	if (slot->queued)
		slot->queued->queued_on_way--;
	/* What it kept from being claimed, or from being born, may be now. */
	if (!created)
		dispatch_pump(c);
	if (slot->reserved) {
		slot->reserved->reserved--;
		tenant_promised_add(c, tenant, -1);
	} else {
		tenant_arriving_add(c, tenant, -1);
		if (!created)
			tenant_waiting_add(c, tenant, -1);
	}
}

/* The last turn first: that before it is then the tenant's last. */
static void turns_give_back(struct admission_batch *batch, bool written)
{
	const struct store_submit *submit = &batch->submit;
	for (size_t i = submit->count; i-- > 0;)
		if (!written || submit->results[i].status != SUBMIT_CREATED)
			fair_give_back(batch->coordinator, submit->items[i].submission, batch->formed_at_us);
}

static void batch_written(struct admission_batch *batch)
{
	struct coordinator *c = batch->coordinator;
	struct store_submit *submit = &batch->submit;
	turns_give_back(batch, /* written= */ true);
	for (size_t i = 0; i < submit->count; i++) {
		struct admission_slot *slot = &batch->slots[i];
		struct submit_result *result = &submit->results[i];
		if (result->status == SUBMIT_CREATED) {
			result->event.publisher = submit->locked_by;
			order_publish(c, &result->event, 1, batch->write_class);
			submission_created(c, submit->items[i].submission, submit->locked_by, slot->reserved, result);
		}
		/* After what it became was counted: its tenant, full with it, is not to seem to have room in between. */
		slot_release(c, slot, result->status == SUBMIT_CREATED);
		order_write_done(c, &submit->items[i].submission->id);
		slot_answer(c, slot, result);
	}
}

static void batch_away(struct admission_batch *batch)
{
	struct store_submit *submit = &batch->submit;
	turns_give_back(batch, /* written= */ false);
	for (size_t i = 0; i < submit->count; i++) {
		struct admission_slot *slot = &batch->slots[i];
		slot_release(batch->coordinator, slot, false);
		order_write_done(batch->coordinator, &submit->items[i].submission->id);
		slot->admission->results[slot->index] = (struct admission_result){ .status = ADMISSION_AWAY };
		slot->admission->err = submit->operation.err;
		admission_progress(slot->admission);
	}
}

static void hand_in(struct admission_batch *batch)
{
	struct store *store = batch->coordinator->options.store;
	store->ops->submit(store, &batch->submit);
}

static void on_again(uv_timer_t *timer)
{
	hand_in(timer->data);
}

static void batch_answer(struct admission_batch *batch)
{
	struct coordinator *c = batch->coordinator;
	struct store_operation *operation = &batch->submit.operation;
	if (operation->outcome == STORE_OK) {
		batch_written(batch);
	} else {
		log_event(c->log, LOG_WARNING, "submissions could not be written", L_ERR(&operation->err),
			L_INT("rows", (int64_t)batch->submit.count));
		batch_away(batch);
	}
	republish_write_done(c, batch->write_class);
	store_operation_fini(operation);
	batch->state = BATCH_FREE;
	reaper_slots_released(c);
	pump(c);
	coordinator_drained_check(c);
}

static void on_answers_wait(uv_idle_t *idle)
{
	/* Its being there is what it is for. */
}

/* What waits is sent first: the store is not to be idle while those who asked are answered. */
static void batch_end(struct admission_batch *batch)
{
	struct coordinator *c = batch->coordinator;
	batch->state = BATCH_WRITTEN;
	batch->unsure = false;
	if (batch->submit.operation.outcome != STORE_OK || !pump(c)) {
		batch_answer(batch);
		return;
	}
	uv_idle_start(&c->admission.answers, on_answers_wait);
	uv_check_start(&c->admission.turn_end, on_turn_end);
}

static void on_submitted(struct store_operation *operation)
{
	struct admission_batch *batch = operation->owner;
	struct coordinator *c = batch->coordinator;
	batch->unsure = operation->outcome == STORE_UNKNOWN || (batch->unsure && operation->outcome == STORE_AWAY);
	if (batch->unsure && !c->stop.killed) {
		store_operation_fini(operation);
		uv_timer_start(&batch->again, on_again, UNKNOWN_AGAIN_MS, 0);
		return;
	}
	batch_end(batch);
}

/* What is not known by then nobody waits for any more: the connections of those who asked have been cut. */
void admission_drain_over(struct coordinator *c)
{
	for (size_t i = 0; i < SUBMITS_MAX; i++) {
		struct admission_batch *batch = &c->admission.batches[i];
		if (uv_is_active((uv_handle_t *)&batch->again)) {
			uv_timer_stop(&batch->again);
			batch_end(batch);
		}
	}
}

/* ---- forming a batch ---- */

static bool may_be_born_running(struct coordinator *c, const struct lane *lane, const struct submission *submission)
{
	if (!lane || !lane->queue_empty || lane->queued_on_way || submission->run_after_us != 0)
		return false;
	if (lane->next_due_us && lane->next_due_us <= clock_wall_us())
		return false;
	return reaper_may_start(c) && !c->reaper.taking && !c->reaper.take_own && !settle_behind(c) &&
	       lane_free_slots(lane) > 0;
}

static void batch_add(struct admission_batch *batch, struct admission *admission, size_t index)
{
	struct coordinator *c = batch->coordinator;
	struct submission *submission = &admission->submissions[index];
	struct store_submit *submit = &batch->submit;
	if (submit->count == batch->capacity) {
		batch->capacity = batch->capacity ? batch->capacity * 2 : 64;
		batch->items = realloc_array(batch->items, batch->capacity, sizeof(*batch->items));
		batch->slots = realloc_array(batch->slots, batch->capacity, sizeof(*batch->slots));
	}
	struct lane *lane = router_lane(c, submission->executor);
	submission->turn = fair_next_turn(c, submission, batch->formed_at_us); /* before it is in line itself */
	bool full = tenant_full(c, submission->tenant);
	bool born = !full && may_be_born_running(c, lane, submission);
	struct lane *queued = NULL;
	if (born) {
		lane->reserved++;
		tenant_promised_add(c, submission->tenant, 1);
	} else {
		/* What comes after it must not overtake it, unless it may not run anyway. It takes its place in the
		 * queue now, so that one batch cannot overrun the limit. */
		if (lane && !full) {
			lane->queue_empty = false;
			queued = submission->run_after_us <= batch->formed_at_us ? lane : NULL;
		}
		if (queued)
			queued->queued_on_way++;
		tenant_waiting_add(c, submission->tenant, 1);
		tenant_arriving_add(c, submission->tenant, 1);
	}
	batch->items[submit->count] = (struct submit_item){ .submission = submission, .born_running = born };
	batch->slots[submit->count] = (struct admission_slot){
		.admission = admission, .index = index, .reserved = born ? lane : NULL, .queued = queued
	};
	submit->count++;
}

/* The batch that what waits may go with, NULL: it waits for more. A transaction costs as much as a good many rows, and so do
 * two of them that take the processor from each other: one goes beside another only when it is large, and no smaller. */
static struct admission_batch *batch_free(struct coordinator *c)
{
	struct admission_batch *batch = NULL;
	size_t least = 1, in_flight = 0;
	for (size_t i = 0; i < SUBMITS_MAX; i++) {
		struct admission_batch *other = &c->admission.batches[i];
		if (other->state == BATCH_FREE)
			batch = other;
		/* What waits for the outcome of another batch keeps nobody from being told that the store is away. */
		if (other->state == BATCH_IN_FLIGHT && !other->unsure) {
			in_flight++;
			least = MAX(least, MAX(other->submit.count, c->admission.parallel_rows));
		}
	}
	return in_flight < c->admission.parallel && c->admission.waiting_count >= least ? batch : NULL;
}

/* True: a batch was handed in. */
static bool pump(struct coordinator *c)
{
	struct admission_batch *batch = batch_free(c);
	if (!batch)
		return false;
	struct store_submit *submit = &batch->submit;
	submit->count = 0;
	batch->formed_at_us = clock_wall_us();
	while (submit->count < SUBMIT_BATCH_MAX && !list_empty(&c->admission.waiting)) {
		struct admission *admission = LIST_ENTRY(c->admission.waiting.next, struct admission, link);
		size_t index = c->admission.next++;
		c->admission.waiting_count--;
		bool last = index + 1 == admission->count;
		if (last) {
			list_remove(&admission->link);
			c->admission.next = 0;
		}
		if (!coordinator_queue_full(c, admission->submissions[index].tenant)) {
			batch_add(batch, admission, index);
			continue;
		}
		admission->results[index] = (struct admission_result){ .status = ADMISSION_QUEUE_FULL,
			.retry_after_s = ADMISSION_RETRY_AFTER_S };
		admission_progress(admission);
	}
	if (!submit->count)
		return false;
	submit->items = batch->items;
	submit->locked_by = bytes_of(c->locked_by);
	for (size_t i = 0; i < submit->count; i++)
		order_write_begun(c, &submit->items[i].submission->id);
	batch->state = BATCH_IN_FLIGHT;
	batch->write_class = republish_write_begun(c);
	c->statistics.store_batches[0]++;
	c->statistics.store_rows[0] += submit->count;
	hand_in(batch);
	return true;
}

static void on_turn_end(uv_check_t *check)
{
	struct coordinator *c = check->data;
	uv_check_stop(check);
	uv_idle_stop(&c->admission.answers);
	for (size_t i = 0; i < SUBMITS_MAX; i++)
		if (c->admission.batches[i].state == BATCH_WRITTEN)
			batch_answer(&c->admission.batches[i]);
	pump(c);
}

void coordinator_admit(struct coordinator *c, struct admission *admission)
{
	admission->open = admission->count;
	admission->arena = (struct arena){ 0 };
	list_push_back(&c->admission.waiting, &admission->link);
	c->admission.waiting_count += admission->count;
	if (batch_free(c))
		uv_check_start(&c->admission.turn_end, on_turn_end);
}

void admission_fini(struct admission *admission)
{
	arena_fini(&admission->arena);
}

bool admission_in_flight(const struct coordinator *c)
{
	for (size_t i = 0; i < SUBMITS_MAX; i++)
		if (c->admission.batches[i].state != BATCH_FREE)
			return true;
	return false;
}

bool admission_idle(const struct coordinator *c)
{
	return !admission_in_flight(c) && list_empty(&c->admission.waiting);
}

void admission_init(struct coordinator *c)
{
	struct store_status status;
	c->options.store->ops->status(c->options.store, &status);
	c->admission.parallel =
		status.parallel_submits < SUBMITS_MAX ? (size_t)status.parallel_submits : SUBMITS_MAX - 1;
	c->admission.parallel_rows = status.parallel_rows;
	list_init(&c->admission.waiting);
	for (size_t i = 0; i < SUBMITS_MAX; i++) {
		struct admission_batch *batch = &c->admission.batches[i];
		batch->coordinator = c;
		batch->submit.operation.done = on_submitted;
		batch->submit.operation.owner = batch;
		uv_timer_init(c->options.loop, &batch->again);
		batch->again.data = batch;
	}
	uv_check_init(c->options.loop, &c->admission.turn_end);
	c->admission.turn_end.data = c;
	uv_idle_init(c->options.loop, &c->admission.answers);
	c->admission.answers.data = c;
}

void admission_close(struct coordinator *c, uv_close_cb on_closed)
{
	for (size_t i = 0; i < SUBMITS_MAX; i++) {
		c->admission.batches[i].again.data = c;
		uv_close((uv_handle_t *)&c->admission.batches[i].again, on_closed);
	}
}

void admission_dispose(struct coordinator *c)
{
	for (size_t i = 0; i < SUBMITS_MAX; i++) {
		struct admission_batch *batch = &c->admission.batches[i];
		store_operation_fini(&batch->submit.operation);
		free(batch->items);
		free(batch->slots);
	}
}
