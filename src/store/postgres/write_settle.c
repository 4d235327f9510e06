/* Settlements: what became of running tasks.
 *
 *   RUNNING ──STARTED, STEP──► RUNNING
 *           ──END──► COMPLETED, FAILED, CANCELLED
 *           ──RETRY──► RETRY, or CANCELLED where that was asked for
 *           ──HAND_BACK──► QUEUED, or CANCELLED likewise
 *
 * The transitions of one task are folded into one row of the statement's input; the statement makes those whose guard
 * holds, with their events, and the counts. Where nobody makes a step, a plainer statement does for what is as it is expected
 * to be, and passes over the rest. A guard that does not hold may have been overtaken by this very settlement,
 * whose answer was lost, and a step or a start can have been said before: these are looked up (settle_again.c).
 *
 *   ROUND ─► all known: done
 *         ─► some not: LOOK UP ─► done
 *                              ─► a guard holds now that another of the same batch had hidden, or that was passed over:
 *                                 the next ROUND */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/row.h"
#include "store/postgres/settle.h"
#include "task/lifecycle.h"

_Static_assert(REASON_CANCELLED == 19 && EVENT_CANCELLED == 7 && EVENT_RUNNING == 1 && EVENT_QUEUED == 0,
	"write.sql has these numbers");

static const struct store_settle *settle_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_settle, operation);
}

int64_t settle_publisher(const struct store_settle *settle, const struct transition *t)
{
	return row_hash(settle->publisher.data ? settle->publisher : t->guard.locked_by);
}

struct event *settle_add_event(struct settle_result *result, const struct event *event)
{
	result->events[result->event_count] = *event;
	return &result->events[result->event_count++];
}

static bool leaves(const struct transition *t)
{
	return t->kind != TRANSITION_STARTED && t->kind != TRANSITION_STEP;
}

static bool starts(const struct transition *t)
{
	return t->kind == TRANSITION_STARTED || t->started_at_us != 0;
}

static int64_t start_of(const struct transition *t)
{
	return t->started_at_us ? t->started_at_us : t->at_us;
}

static struct bytes start_data(const struct transition *t)
{
	return t->kind == TRANSITION_STARTED && !t->started_data.data ? t->event_data : t->started_data;
}

static bool guards_equal(const struct transition *a, const struct transition *b)
{
	return a->guard.attempt == b->guard.attempt && bytes_equal(a->guard.locked_by, b->guard.locked_by);
}

/* ---- folding ---- */

static void fold(struct errand *errand)
{
	const struct store_settle *settle = settle_of(errand);
	struct settling *w = errand->work;
	struct fold *at = NULL;
	bool closed = true;
	size_t members = 0;
	w->fold_count = 0;
	for (size_t i = 0; i < settle->count; i++) {
		size_t index = w->order[i];
		const struct transition *t = &settle->transitions[index];
		bool same = at && uuid_compare(&at->id, &t->guard.id) == 0;
		if (!same) {
			at = NULL;
			closed = false;
		}
		if (w->settled[index])
			continue;
		if (t->guard.status != TASK_RUNNING || (at && !guards_equal(at->first, t)))
			closed = closed || at;
		if (closed || t->guard.status != TASK_RUNNING)
			continue;
		if (!at) {
			at = &w->folds[w->fold_count++];
			*at = (struct fold){ .id = t->guard.id, .first = t, .members = &w->members[members] };
		}
		at->members[at->member_count++] = index;
		members++;
		at->step_count += t->kind == TRANSITION_STEP;
		if (starts(t) && !at->start)
			at->start = t;
		if (leaves(t)) {
			at->leave = t;
			closed = true;
		}
	}
}

/* ---- the answer ---- */

struct changed {
	enum task_status status;
	int attempts, run;
	uint32_t before, sequence;
	int64_t run_after_us;
	bool begins, cancelled, callback;
	struct bytes tenant, eval_id; /* in the operation's arena */
	struct uuid batch_id;
	uint64_t horizon;
};

enum {
	CHANGED_ID,
	CHANGED_STATUS,
	CHANGED_ATTEMPTS,
	CHANGED_SEQUENCE,
	CHANGED_RUN_AFTER,
	CHANGED_BEFORE,
	CHANGED_BEGINS,
	CHANGED_CANCELLED,
	CHANGED_RUN,
	CHANGED_TENANT,
	CHANGED_EVAL_ID,
	CHANGED_BATCH_ID,
	CHANGED_EXECUTOR,
	CHANGED_PRIORITY,
	CHANGED_TURN,
	CHANGED_CALLBACK,
	CHANGED_HORIZON,
};

static struct changed read_changed(struct errand *errand, const PGresult *result, int row)
{
	struct arena *arena = &errand->operation->arena;
	return (struct changed){
		.status = row_status(result, row, CHANGED_STATUS),
		.attempts = (int)postgres_get_int(result, row, CHANGED_ATTEMPTS),
		.sequence = (uint32_t)postgres_get_int(result, row, CHANGED_SEQUENCE),
		.run_after_us = postgres_get_time(result, row, CHANGED_RUN_AFTER),
		.before = (uint32_t)postgres_get_int(result, row, CHANGED_BEFORE),
		.begins = postgres_get_bool(result, row, CHANGED_BEGINS),
		.cancelled = postgres_get_bool(result, row, CHANGED_CANCELLED),
		.run = (int)postgres_get_int(result, row, CHANGED_RUN),
		.tenant = row_text(result, row, CHANGED_TENANT, arena),
		.eval_id = row_text(result, row, CHANGED_EVAL_ID, arena),
		.batch_id = postgres_get_uuid(result, row, CHANGED_BATCH_ID),
		.callback = postgres_get_bool(result, row, CHANGED_CALLBACK),
		.horizon = (uint64_t)postgres_get_int(result, row, CHANGED_HORIZON),
	};
}

static void add_event(struct errand *errand, struct settle_result *result, const struct changed *row,
	const struct transition *t, enum event_kind kind, uint32_t sequence, int64_t at_us, struct bytes data)
{
	struct event event = {
		.kind = kind,
		.task_id = t->guard.id,
		.sequence = sequence,
		.run = row->run,
		.attempt = t->guard.attempt,
		.timestamp_us = at_us,
		.cursor = cursor_safe(row->horizon, 0, sequence, row->horizon),
		.tenant = row->tenant,
		.eval_id = row->eval_id,
		.batch_id = row->batch_id,
		.data = arena_bytes(&errand->operation->arena, data),
		.delivery = row->callback && event_kind_terminal(kind),
	};
	settle_add_event(result, &event);
}

/* A row that waits again can be claimed by others, or later. */
static void handed_on(struct errand *errand, const struct changed *row, const PGresult *result, int at)
{
	struct bytes executor = postgres_get_text(result, at, CHANGED_EXECUTOR);
	if (row->status != TASK_QUEUED && row->status != TASK_RETRY)
		return;
	if (row->run_after_us != 0) {
		marks_delayed(errand->store, executor);
		return;
	}
	int priority = (int)postgres_get_int(result, at, CHANGED_PRIORITY);
	double turn = postgres_get_float8(result, at, CHANGED_TURN);
	marks_lower(errand->store, executor, priority, turn);
	notices_work(errand->store, executor, priority, turn);
}

/* The fold was made. Its events were numbered in their order: the start, the steps, the end. */
static void tell_fold(struct errand *errand, const struct fold *fold, const struct changed *row)
{
	const struct store_settle *settle = settle_of(errand);
	struct settling *w = errand->work;
	bool told_end = row->status != TASK_RUNNING && row->status != TASK_QUEUED;
	uint32_t sequence = row->before + row->begins, steps = row->sequence - sequence - told_end;
	bool all_steps = steps == fold->step_count; /* else some had been written before */
	for (size_t i = 0; i < fold->member_count; i++) {
		size_t index = fold->members[i];
		const struct transition *t = &settle->transitions[index];
		struct settle_result *result = &settle->results[index];
		bool unclear = (t->kind == TRANSITION_STARTED && !(row->begins && t == fold->start)) ||
			       (t->kind == TRANSITION_STEP && !all_steps);
		*result = (struct settle_result){
			.status = SETTLE_APPLIED,
			.task_status = row->status,
			.attempt = t->guard.attempt,
			.attempts = row->attempts,
			.run_after_us = row->run_after_us,
			.sequence = row->sequence,
		};
		w->settled[index] = !unclear;
		if (row->begins && t == fold->start)
			add_event(errand, result, row, t, EVENT_RUNNING, row->before + 1, start_of(t), start_data(t));
		if (unclear)
			w->again[w->again_count++] = index;
		else if (t->kind == TRANSITION_STEP)
			add_event(errand, result, row, t, t->event_kind, ++sequence, t->at_us, t->event_data);
		else if (leaves(t) && told_end)
			add_event(errand, result, row, t,
				task_status_ended(row->status) ? task_terminal_event(row->status) : EVENT_RETRYING,
				row->sequence, t->at_us, row->cancelled ? t->cancelled_data : t->event_data);
	}
	w->wrote_events |= row->sequence != row->before;
}

static int compare_fold(const void *key, const void *fold)
{
	return uuid_compare(key, &((const struct fold *)fold)->id);
}

static void round_answered(struct errand *errand)
{
	const struct store_settle *settle = settle_of(errand);
	struct settling *w = errand->work;
	w->again_count = 0;
	errand->unknown_before = true; /* so much is done */
	if (w->fold_count > 0) {
		const PGresult *result = errand->group.results[w->settle_at];
		for (int i = 0; i < PQntuples(result); i++) {
			struct uuid id = postgres_get_uuid(result, i, CHANGED_ID);
			const struct fold *fold = bsearch(&id, w->folds, w->fold_count, sizeof(*fold), compare_fold);
			if (!fold)
				continue;
			struct changed row = read_changed(errand, result, i);
			tell_fold(errand, fold, &row);
			handed_on(errand, &row, result, i);
		}
	}
	size_t unclear = w->again_count;
	for (size_t i = 0; i < settle->count; i++) {
		bool known = w->settled[i];
		for (size_t k = 0; k < unclear && !known; k++)
			known = w->again[k] == i;
		if (!known)
			w->again[w->again_count++] = i;
	}
	if (w->again_count > 0)
		settle_again(errand);
	else
		settle_finish(errand);
}

void settle_finish(struct errand *errand)
{
	const struct settling *w = errand->work;
	if (w->wrote_events)
		notices_events(errand->store);
	notices_output(errand->store, settle_of(errand));
	errand_done(errand, STORE_OK);
}

/* ---- the statement ---- */

static const char *target_of(const struct fold *fold)
{
	if (!fold->leave)
		return "RUNNING";
	switch (fold->leave->kind) {
	case TRANSITION_END:
		return task_status_name(fold->leave->target);
	case TRANSITION_RETRY:
		return "RETRY";
	default:
		return "QUEUED";
	}
}

/* What the statement's input says of one task, besides the fold. */
struct input {
	bool ends, faulty, tells_why;
	int charge, kind; /* kind -1: no event */
};

static struct input input_of(const struct fold *fold)
{
	const struct transition *t = fold->leave;
	struct input in = { .kind = -1 };
	if (!t)
		return in;
	in.ends = t->kind == TRANSITION_END;
	in.faulty = !in.ends || t->charged;
	in.tells_why = in.ends || t->kind == TRANSITION_RETRY;
	in.charge = t->kind == TRANSITION_RETRY || t->charged;
	if (in.tells_why)
		in.kind = in.ends ? (int)task_terminal_event(t->target) : EVENT_RETRYING;
	return in;
}

#define PUT_FOLDS(type, statement) \
	do { \
		struct postgres_array array = postgres_array_begin(group, (type)); \
		for (size_t i_ = 0; i_ < w->fold_count; i_++) { \
			const struct fold *f = &w->folds[i_]; \
			const struct transition *t = f->leave; \
			struct input in = input_of(f); \
			(void)t; \
			(void)in; \
			statement; \
		} \
		postgres_array_end(&array); \
	} while (0)

/* The place, node and image that the last transition with one knows. */
static struct bytes last_of(const struct store_settle *settle, const struct fold *fold, size_t offset)
{
	struct bytes last = BYTES_NONE;
	for (size_t i = 0; i < fold->member_count; i++) {
		const struct transition *t = &settle->transitions[fold->members[i]];
		struct bytes value = *(const struct bytes *)((const char *)t + offset);
		/* As each would be made alone: a step tells none. */
		if (value.data && (leaves(t) || starts(t)))
			last = value;
	}
	return last;
}

static void put_folds(struct errand *errand, const struct store_settle *settle, const struct settling *w)
{
	struct postgres_group *group = &errand->group;
	struct arena *arena = &errand->arena;
	PUT_FOLDS(POSTGRES_UUID, postgres_array_uuid(&array, &f->id));
	PUT_FOLDS(POSTGRES_INT4, postgres_array_int4(&array, f->first->guard.attempt));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, f->first->guard.locked_by));
	PUT_FOLDS(POSTGRES_TIMESTAMPTZ, postgres_array_time(&array, f->start ? start_of(f->start) : 0));
	PUT_FOLDS(POSTGRES_JSON,
		postgres_array_text(&array, row_object(f->start ? start_data(f->start) : BYTES_NONE, arena)));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, bytes_of(target_of(f))));
	PUT_FOLDS(POSTGRES_BOOL, postgres_array_bool(&array, in.faulty));
	PUT_FOLDS(POSTGRES_INT4, postgres_array_int4(&array, in.charge));
	PUT_FOLDS(POSTGRES_INT8, postgres_array_int8(&array, t && !in.ends ? t->delay_us : 0));
	PUT_FOLDS(POSTGRES_INT2,
		in.kind < 0 ? postgres_array_null(&array) : postgres_array_int2(&array, (int16_t)in.kind));
	PUT_FOLDS(POSTGRES_TIMESTAMPTZ, postgres_array_time(&array, t ? t->at_us : 0));
	PUT_FOLDS(POSTGRES_JSON, postgres_array_text(&array, row_object(t ? t->event_data : BYTES_NONE, arena)));
	PUT_FOLDS(POSTGRES_INT2, postgres_array_int2(&array, in.tells_why ? (int16_t)t->reason : 0));
	PUT_FOLDS(POSTGRES_INT2, postgres_array_int2(&array, in.tells_why ? (int16_t)t->cause : 0));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, t ? t->error : BYTES_NONE));
	PUT_FOLDS(POSTGRES_JSONB, postgres_array_text(&array, in.ends ? row_json(t->result, arena) : BYTES_NONE));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, last_of(settle, f, offsetof(struct transition, node))));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, last_of(settle, f, offsetof(struct transition, pod))));
	PUT_FOLDS(POSTGRES_TEXT, postgres_array_text(&array, last_of(settle, f, offsetof(struct transition, image))));
	PUT_FOLDS(POSTGRES_INT8, postgres_array_int8(&array, settle_publisher(settle, f->first)));
	if (w->plain)
		return;
	PUT_FOLDS(POSTGRES_JSONB,
		postgres_array_text(&array, in.faulty ? row_json(t->cancelled_result, arena) : BYTES_NONE));
	PUT_FOLDS(POSTGRES_JSON,
		postgres_array_text(&array, row_object(in.faulty ? t->cancelled_data : BYTES_NONE, arena)));
}

#define PUT_STEPS(type, statement) \
	do { \
		struct postgres_array array = postgres_array_begin(group, (type)); \
		for (size_t i_ = 0; i_ < w->fold_count; i_++) { \
			for (size_t k_ = 0; k_ < w->folds[i_].member_count; k_++) { \
				const struct transition *s = &settle->transitions[w->folds[i_].members[k_]]; \
				if (s->kind == TRANSITION_STEP) \
					statement; \
			} \
		} \
		postgres_array_end(&array); \
	} while (0)

static size_t most_steps(const struct settling *w)
{
	size_t most = 0;
	for (size_t i = 0; i < w->fold_count; i++)
		most = w->folds[i].step_count > most ? w->folds[i].step_count : most;
	return most;
}

#define STEPS_LOOKED_BACK \
	64 /* events that can have been written since the steps of a settlement whose answer was lost */

static void put_steps(struct errand *errand, const struct store_settle *settle, const struct settling *w)
{
	struct postgres_group *group = &errand->group;
	size_t most = most_steps(w);
	PUT_STEPS(POSTGRES_UUID, postgres_array_uuid(&array, &s->guard.id));
	PUT_STEPS(POSTGRES_INT2, postgres_array_int2(&array, (int16_t)s->event_kind));
	PUT_STEPS(POSTGRES_TIMESTAMPTZ, postgres_array_time(&array, s->at_us));
	PUT_STEPS(POSTGRES_JSON, postgres_array_text(&array, row_object(s->event_data, &errand->arena)));
	postgres_put_int4(group, (int32_t)most + STEPS_LOOKED_BACK);
}

#define PUT_CHUNKS(type, statement) \
	do { \
		struct postgres_array array = postgres_array_begin(group, (type)); \
		for (size_t i_ = 0; i_ < settle->chunk_count; i_++) { \
			const struct output_chunk *c = &settle->chunks[i_]; \
			if (c->data.len > 0) \
				statement; \
		} \
		postgres_array_end(&array); \
	} while (0)

static void put_chunks(struct errand *errand, const struct store_settle *settle)
{
	struct postgres_group *group = &errand->group;
	postgres_group_add(group, &errand->store->write[WRITE_SETTLE_OUTPUT]);
	PUT_CHUNKS(POSTGRES_UUID, postgres_array_uuid(&array, &c->task_id));
	PUT_CHUNKS(POSTGRES_INT4, postgres_array_int4(&array, c->attempt));
	PUT_CHUNKS(POSTGRES_INT8, postgres_array_int8(&array, (int64_t)c->offset));
	PUT_CHUNKS(POSTGRES_INT2, postgres_array_int2(&array, (int16_t)c->stream));
	PUT_CHUNKS(POSTGRES_INT8, postgres_array_int8(&array, (int64_t)c->stream_offset));
	PUT_CHUNKS(POSTGRES_BYTEA, postgres_array_text(&array, c->data));
	if (settle->publisher.data) {
		postgres_put_text(group, settle->publisher);
		postgres_put_int8(group, row_hash(settle->publisher));
	} else {
		postgres_put_null(group);
		postgres_put_null(group);
	}
}

/* A step is known to be there already by its event, which the transaction that wrote it may be about to commit. */
static void put_lock(struct errand *errand, const struct settling *w)
{
	struct postgres_group *group = &errand->group;
	if (most_steps(w) == 0)
		return;
	postgres_group_add(group, &errand->store->write[WRITE_SETTLE_LOCK]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_UUID);
	for (size_t i = 0; i < w->fold_count; i++)
		if (w->folds[i].step_count > 0)
			postgres_array_uuid(&array, &w->folds[i].id);
	postgres_array_end(&array);
}

void settle_round(struct errand *errand)
{
	const struct store_settle *settle = settle_of(errand);
	struct settling *w = errand->work;
	fold(errand);
	errand_group(errand);
	errand_planner(errand);
	w->plain = w->rounds == 0 && most_steps(w) == 0;
	if (w->fold_count > 0) {
		put_lock(errand, w);
		errand_add(errand, &errand->store->write[w->plain ? WRITE_SETTLE_PLAIN : WRITE_SETTLE]);
		w->settle_at = errand->main;
		put_folds(errand, settle, w);
		if (!w->plain)
			put_steps(errand, settle, w);
	}
	if (w->rounds++ == 0 && settle->chunk_count > 0)
		put_chunks(errand, settle);
	errand_send(errand, round_answered);
}

static int compare_transitions(const void *left, const void *right, void *owner)
{
	const struct store_settle *settle = owner;
	size_t a = *(const size_t *)left, b = *(const size_t *)right;
	int order = uuid_compare(&settle->transitions[a].guard.id, &settle->transitions[b].guard.id);
	return order ? order : (a > b) - (a < b);
}

void begin_settle(struct errand *errand)
{
	struct store_settle *settle = CONTAINER_OF(errand->operation, struct store_settle, operation);
	struct settling *w = arena_alloc(&errand->arena, sizeof(*w));
	settle->results = arena_array(&settle->operation.arena, settle->count, sizeof(settle->results[0]));
	w->order = arena_array(&errand->arena, settle->count, sizeof(w->order[0]));
	w->settled = arena_array(&errand->arena, settle->count, sizeof(w->settled[0]));
	w->members = arena_array(&errand->arena, settle->count, sizeof(w->members[0]));
	w->folds = arena_array(&errand->arena, settle->count, sizeof(w->folds[0]));
	w->again = arena_array(&errand->arena, settle->count, sizeof(w->again[0]));
	for (size_t i = 0; i < settle->count; i++)
		w->order[i] = i;
	qsort_r(w->order, settle->count, sizeof(w->order[0]), compare_transitions, (void *)settle);
	errand->work = w;
	settle_round(errand);
}
