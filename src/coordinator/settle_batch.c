/* The settle batch: what each attempt has to be written is one group of it. The store has one range of its groups at
 * a time: at first all.
 *
 *   whole batch ─refused─► its first half, then the second ─refused─► … ─► one attempt's ─refused─► deferred, alone, to a later time
 *
 * So an outcome that the store cannot hold keeps no other from being written. After some refusals of it alone all
 * that came from outside is dropped and its end becomes a fault of ours, which is retried as such
 * (outcome_unwritable). */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "base/json.h"

#define REFUSALS_OF_ONE 3 /* then it is written without what came from outside */
#define DEFER_US (200 * US_PER_MS)
#define DEFER_US_MAX (5 * US_PER_S)

/* ---- forming ---- */

static struct transition *transition_add(struct coordinator *c)
{
	if (c->settle.transition_count == c->settle.transition_capacity) {
		size_t capacity = c->settle.transition_capacity ? c->settle.transition_capacity * 2 : 64;
		c->settle.transitions = realloc_array(c->settle.transitions, capacity, sizeof(*c->settle.transitions));
		c->settle.transition_capacity = capacity;
	}
	struct transition *transition = &c->settle.transitions[c->settle.transition_count++];
	*transition = (struct transition){ 0 };
	return transition;
}

static void chunk_add(struct coordinator *c, const struct output_chunk *chunk)
{
	if (c->settle.chunk_count == c->settle.chunk_capacity) {
		size_t capacity = c->settle.chunk_capacity ? c->settle.chunk_capacity * 2 : 64;
		c->settle.chunks = realloc_array(c->settle.chunks, capacity, sizeof(*c->settle.chunks));
		c->settle.chunk_capacity = capacity;
	}
	c->settle.chunks[c->settle.chunk_count++] = *chunk;
}

static struct settle_group *group_add(struct coordinator *c)
{
	if (c->settle.group_count == c->settle.group_capacity) {
		size_t capacity = c->settle.group_capacity ? c->settle.group_capacity * 2 : 64;
		c->settle.groups = realloc_array(c->settle.groups, capacity, sizeof(*c->settle.groups));
		c->settle.group_capacity = capacity;
	}
	return &c->settle.groups[c->settle.group_count++];
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

static void transition_guard(struct attempt *attempt, struct transition *transition)
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

static void add_steps(struct coordinator *c, struct attempt *attempt)
{
	list_splice_back(&attempt->steps_in_flight, &attempt->steps);
	LIST_EACH (&attempt->steps_in_flight, link) {
		const struct pending_step *step = LIST_ENTRY(link, struct pending_step, link);
		struct transition *transition = transition_add(c);
		transition->kind = TRANSITION_STEP;
		transition->event_kind = EVENT_TEST;
		transition->event_data = step->event_data;
		transition->at_us = step->at_us;
		transition_guard(attempt, transition);
	}
}

void batch_add_attempt(struct coordinator *c, struct attempt *attempt)
{
	struct settle_group *group = group_add(c);
	*group = (struct settle_group){
		.attempt = attempt,
		.started = attempt->started_pending,
		.ended = attempt->end_pending,
	};
	attempt->in_flight = true;
	order_write_begun(c, &attempt->task.id);
	add_steps(c, attempt);
	if (attempt->end_pending) {
		struct transition *transition = transition_add(c);
		*transition = attempt->end->transition;
		transition_guard(attempt, transition);
		attempt->end_pending = false;
	} else if (attempt->started_pending) {
		struct transition *transition = transition_add(c);
		transition->kind = TRANSITION_STARTED;
		transition->at_us = attempt->task.started_at_us;
		transition_guard(attempt, transition);
	}
	output_take_chunks(attempt);
	LIST_EACH (&attempt->chunks_in_flight, link)
		chunk_add(c, &LIST_ENTRY(link, struct pending_chunk, link)->chunk);
	group->transitions_end = c->settle.transition_count;
	group->chunks_end = c->settle.chunk_count;
}

/* Where the first so many groups end. */
static struct settle_group groups_end(const struct coordinator *c, size_t count)
{
	return count ? c->settle.groups[count - 1] : (struct settle_group){ 0 };
}

void batch_hand_in(struct coordinator *c)
{
	struct store_settle *settle = &c->settle.settle;
	const struct settle_range *range = &c->settle.ranges[c->settle.range_count - 1];
	struct settle_group begin = groups_end(c, range->begin), end = groups_end(c, range->end);
	settle->transitions = c->settle.transitions + begin.transitions_end;
	settle->count = end.transitions_end - begin.transitions_end;
	settle->chunks = c->settle.chunks + begin.chunks_end;
	settle->chunk_count = end.chunks_end - begin.chunks_end;
	c->options.store->ops->settle(c->options.store, settle);
}

void batch_forget(struct attempt *attempt)
{
	attempt->in_flight = false;
	while (!list_empty(&attempt->chunks_in_flight))
		free(LIST_ENTRY(list_pop_front(&attempt->chunks_in_flight), struct pending_chunk, link));
	while (!list_empty(&attempt->steps_in_flight))
		free(LIST_ENTRY(list_pop_front(&attempt->steps_in_flight), struct pending_step, link));
}

/* ---- refusals ---- */

/* What was in flight is pending again, before what came meanwhile. */
static void group_restore(const struct settle_group *group)
{
	struct attempt *attempt = group->attempt;
	attempt->in_flight = false;
	order_write_done(attempt->coordinator, &attempt->task.id);
	attempt->started_pending |= group->started;
	attempt->end_pending |= group->ended;
	list_splice_back(&attempt->steps_in_flight, &attempt->steps);
	list_splice_back(&attempt->steps, &attempt->steps_in_flight);
	list_splice_back(&attempt->chunks_in_flight, &attempt->chunks);
	list_splice_back(&attempt->chunks, &attempt->chunks_in_flight);
}

static void defer(struct coordinator *c, struct attempt *attempt)
{
	int64_t wait_us = attempt->refusals * DEFER_US;
	wait_us = wait_us < DEFER_US_MAX ? wait_us : DEFER_US_MAX;
	attempt->deferred = true;
	attempt->deferred_until_us = clock_monotonic_us() + wait_us;
	list_remove(&attempt->settle_link);
	list_remove(&attempt->output_link);
	list_push_back(&c->settle.deferred, &attempt->settle_link);
	c->settle.deferred_count++;
}

static void group_refused(struct coordinator *c, const struct settle_group *group, const struct err *why)
{
	struct attempt *attempt = group->attempt;
	group_restore(group);
	if (attempt->disowned) {
		if (attempt->phase == ATTEMPT_SETTLING)
			attempt_free(attempt);
		return;
	}
	attempt->refusals++;
	log_event(c->log, LOG_ERROR, "the store refuses what an attempt brings", L_TASK(&attempt->task.id),
		L_INT("attempt", attempt->task.attempt), L_INT("refusals", attempt->refusals), L_ERR(why));
	if (attempt->refusals % REFUSALS_OF_ONE == 0)
		outcome_unwritable(attempt, why);
	defer(c, attempt);
}

bool batch_refused(struct coordinator *c, const struct err *why)
{
	struct settle_range *range = &c->settle.ranges[c->settle.range_count - 1];
	if (range->end - range->begin == 1) {
		group_refused(c, &c->settle.groups[range->begin], why);
		return --c->settle.range_count > 0;
	}
	size_t middle = range->begin + (range->end - range->begin) / 2;
	c->settle.ranges[c->settle.range_count++] = (struct settle_range){ range->begin, middle };
	range->begin = middle;
	return true;
}

void batch_dispose(struct coordinator *c)
{
	free(c->settle.transitions);
	free(c->settle.chunks);
	free(c->settle.groups);
}
