/* Claims: the first rows of the claim's index become RUNNING, those of all lanes in one statement.
 *
 * The index holds only what is due. Rows whose run_after lies ahead stand in an index of their own and are moved over
 * before the claim when there are any, a bounded number at a time. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define CLAIMED_AT_ONCE 2000 /* of one executor: a caller with more slots claims again */

/* Lanes of the same executor are searched as one. */
struct search {
	struct queue_marks *marks; /* borrowed */
	struct passed_marks *passed; /* in marks; NULL: nothing is passed over. Until the claim is sent */
	double sent[PRIORITY_COUNT]; /* the marks that the claim was sent with */
	int64_t slots;
	bool left;
};

struct claiming {
	struct search *searches;
	size_t count;
	size_t *search_of; /* per lane */
	size_t promote, last; /* the statements' places in the group; 0: none */
	uint64_t filter; /* a hash of what is passed over; 0: nothing is */
};

static void put_texts(struct postgres_group *group, const struct bytes *texts, size_t count)
{
	if (count == 0) {
		postgres_put_null(group);
		return;
	}
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < count; i++)
		postgres_array_text(&array, texts[i]);
	postgres_array_end(&array);
}

static double mark_of(const struct claiming *w, size_t search, int at)
{
	const struct search *s = &w->searches[search];
	return s->passed && s->passed->marks[at] > s->marks->marks[at] ? s->passed->marks[at] : s->marks->marks[at];
}

/* The parameters that all of them begin with. */
static void put_lanes(struct errand *errand, const struct claiming *w)
{
	struct postgres_group *group = &errand->group;
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < w->count; i++)
		postgres_array_text(&array, w->searches[i].marks->executor);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_INT8);
	for (size_t i = 0; i < w->count; i++)
		postgres_array_int8(&array, w->searches[i].slots);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_FLOAT8);
	for (size_t i = 0; i < w->count; i++)
		for (int k = 0; k < PRIORITY_COUNT; k++)
			postgres_array_float8(&array, mark_of(w, i, k));
	postgres_array_end(&array);
}

/* The parameters that the claim and the look at what is left share. */
static void put_searches(struct errand *errand, const struct store_claim *claim, const struct claiming *w)
{
	struct postgres_group *group = &errand->group;
	put_lanes(errand, w);
	/* An empty list of queues names none. */
	if (claim->queues && claim->queue_count == 0)
		put_texts(group, &BYTES_LITERAL(""), 1);
	else
		put_texts(group, claim->queues, claim->queues ? claim->queue_count : 0);
	put_texts(group, claim->tenants_full, claim->tenant_full_count);
	postgres_put_text(group, claim->locked_by);
}

/* ---- the answer ---- */

struct claimed {
	size_t search;
	int priority, row;
	double turn;
	struct uuid id;
};

static int compare(const void *left, const void *right)
{
	const struct claimed *a = left, *b = right;
	if (a->search != b->search)
		return a->search < b->search ? -1 : 1;
	if (a->priority != b->priority)
		return a->priority > b->priority ? -1 : 1;
	if (a->turn != b->turn)
		return a->turn < b->turn ? -1 : 1;
	return uuid_compare(&a->id, &b->id);
}

/* Places of $task_columns. */
enum { COLUMN_ID = 0, COLUMN_PRIORITY = 6, COLUMN_TURN = 7, COLUMN_EXECUTOR = 12 };

static size_t search_of(const struct claiming *w, struct bytes executor)
{
	for (size_t i = 0; i < w->count; i++)
		if (bytes_equal(w->searches[i].marks->executor, executor))
			return i;
	return 0; /* the statement gives rows of its lanes alone */
}

static void read_tasks(struct errand *errand, struct store_claim *claim, struct claiming *w, const PGresult *result)
{
	struct arena *arena = &claim->operation.arena;
	size_t count = (size_t)PQntuples(result);
	struct claimed *order = arena_array(&errand->arena, count, sizeof(order[0]));
	for (size_t i = 0; i < count; i++)
		order[i] = (struct claimed){
			.search = search_of(w, postgres_get_text(result, (int)i, COLUMN_EXECUTOR)),
			.priority = (int)postgres_get_int(result, (int)i, COLUMN_PRIORITY),
			.turn = postgres_get_float8(result, (int)i, COLUMN_TURN),
			.id = postgres_get_uuid(result, (int)i, COLUMN_ID),
			.row = (int)i,
		};
	qsort(order, count, sizeof(order[0]), compare);
	struct task *tasks = arena_array(arena, count, sizeof(tasks[0]));
	for (size_t i = 0; i < count; i++) {
		int column = row_read_task(result, order[i].row, 0, arena, &tasks[i]);
		tasks[i].params = row_text(result, order[i].row, column, arena);
		bool first =
			i == 0 || order[i].search != order[i - 1].search || order[i].priority != order[i - 1].priority;
		/* What was passed over stands before it. */
		struct queue_marks *marks = w->searches[order[i].search].marks;
		if (first && w->filter)
			marks_pass(marks, w->filter, order[i].priority, order[i].turn);
		else if (first)
			marks_raise(marks, order[i].priority, order[i].turn);
	}
	claim->tasks = tasks;
	claim->count = count;
}

/* Rows that came before the marks that the claim was sent with were not seen by it: there is more to claim. */
static void promoted(struct postgres_store *store, struct claiming *w, const PGresult *result)
{
	for (int i = 0; i < PQntuples(result); i++) {
		struct bytes executor = postgres_get_text(result, i, 0);
		int priority = (int)postgres_get_int(result, i, 1);
		double turn = postgres_get_float8(result, i, 2);
		struct search *search = &w->searches[search_of(w, executor)];
		if (priority >= 0 && priority < PRIORITY_COUNT)
			search->left |= turn < search->sent[PRIORITY_COUNT - 1 - priority];
		marks_lower(store, executor, priority, turn);
		notices_work(store, executor, priority, turn);
	}
}

static void answered(struct errand *errand)
{
	struct store_claim *claim = CONTAINER_OF(errand->operation, struct store_claim, operation);
	struct claiming *w = errand->work;
	const PGresult *left = errand_result(errand);
	bool all_promoted = true;
	marks_claimed(errand->store);
	read_tasks(errand, claim, w, errand->group.results[errand->main - 1]);
	if (w->promote > 0) {
		const PGresult *result = errand->group.results[w->promote];
		all_promoted = PQntuples(result) < PROMOTED_AT_ONCE;
		promoted(errand->store, w, result);
	}
	for (int i = 0; i < PQntuples(left); i++) {
		struct search *search = &w->searches[postgres_get_int(left, i, 0) - 1];
		int64_t due_us = postgres_get_time(left, i, 2);
		search->left |= postgres_get_bool(left, i, 1);
		search->marks->none_delayed = due_us == 0;
		if (due_us != 0 && (claim->next_due_us == 0 || due_us < claim->next_due_us))
			claim->next_due_us = due_us;
	}
	const PGresult *last = w->last > 0 ? errand->group.results[w->last] : NULL;
	for (int i = 0; last && i < PQntuples(last); i++) {
		const struct search *search = &w->searches[postgres_get_int(last, i, 0) - 1];
		if (!search->left)
			marks_pass(search->marks, w->filter, (int)postgres_get_int(last, i, 1),
				postgres_get_float8(last, i, 2));
	}
	for (size_t i = 0; i < claim->lane_count; i++)
		claim->exhausted[i] = !w->searches[w->search_of[i]].left && all_promoted;
	errand_done(errand, STORE_OK);
}

static uint64_t hash_text(uint64_t hash, struct bytes text)
{
	/* The hash of each is one that cannot be aimed at. */
	return hash * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)row_hash(text) + 1;
}

/* In any order, tenants give the same. */
static uint64_t filter_of(const struct store_claim *claim)
{
	uint64_t queues = claim->queues ? 1 : 0, tenants = 0;
	if (!claim->queues && claim->tenant_full_count == 0)
		return 0;
	for (size_t i = 0; claim->queues && i < claim->queue_count; i++)
		queues = hash_text(queues, claim->queues[i]);
	for (size_t i = 0; i < claim->tenant_full_count; i++)
		tenants += hash_text(1, claim->tenants_full[i]);
	uint64_t filter = queues * UINT64_C(0xC2B2AE3D27D4EB4F) + tenants;
	return filter ? filter : 1;
}

static void prepare(struct errand *errand, struct store_claim *claim)
{
	struct claiming *w = arena_alloc(&errand->arena, sizeof(*w));
	w->searches = arena_array(&errand->arena, claim->lane_count, sizeof(w->searches[0]));
	w->search_of = arena_array(&errand->arena, claim->lane_count, sizeof(w->search_of[0]));
	w->filter = filter_of(claim);
	for (size_t i = 0; i < claim->lane_count; i++) {
		const struct claim_lane *lane = &claim->lanes[i];
		struct queue_marks *marks = marks_of(errand->store, lane->executor);
		size_t at = 0;
		while (at < w->count && w->searches[at].marks != marks)
			at++;
		if (at == w->count)
			w->searches[w->count++].marks = marks;
		w->search_of[i] = at;
		struct search *search = &w->searches[at];
		search->slots += lane->slots > 0 ? lane->slots : 0;
		search->slots = search->slots > CLAIMED_AT_ONCE ? CLAIMED_AT_ONCE : search->slots;
	}
	errand->work = w;
}

static void put_promote(struct errand *errand, const struct claiming *w)
{
	struct postgres_group *group = &errand->group;
	postgres_group_add(group, &errand->store->write[WRITE_PROMOTE]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < w->count; i++)
		if (!w->searches[i].marks->none_delayed)
			postgres_array_text(&array, w->searches[i].marks->executor);
	postgres_array_end(&array);
	postgres_put_int8(group, PROMOTED_AT_ONCE);
}

static void send_claim(struct errand *errand)
{
	struct store_claim *claim = CONTAINER_OF(errand->operation, struct store_claim, operation);
	struct claiming *w = errand->work;
	claim->tasks = NULL;
	claim->count = 0;
	claim->next_due_us = 0;
	claim->exhausted = arena_array(&claim->operation.arena, claim->lane_count, sizeof(claim->exhausted[0]));
	marks_begin(errand->store);
	for (size_t i = 0; i < w->count; i++) {
		struct search *search = &w->searches[i];
		search->left = false;
		search->passed = w->filter ? marks_passed(search->marks, w->filter) : NULL;
		for (int k = 0; k < PRIORITY_COUNT; k++)
			search->sent[k] = mark_of(w, i, k);
	}
	errand_group(errand);
	errand_register(errand, claim->locked_by);
	errand_planner(errand);
	w->promote = 0;
	for (size_t i = 0; i < w->count; i++)
		if (!w->searches[i].marks->none_delayed)
			w->promote = errand->group.call_count;
	if (w->promote > 0)
		put_promote(errand, w);
	w->last = 0;
	if (w->filter) {
		w->last = errand->group.call_count;
		postgres_group_add(&errand->group, &errand->store->write[WRITE_CLAIM_LAST]);
		put_lanes(errand, w);
	}
	errand_add(errand, &errand->store->write[WRITE_CLAIM]);
	put_searches(errand, claim, w);
	errand_add(errand, &errand->store->write[WRITE_CLAIM_LEFT]);
	put_searches(errand, claim, w);
	errand_send(errand, answered);
}

void begin_claim(struct errand *errand)
{
	struct store_claim *claim = CONTAINER_OF(errand->operation, struct store_claim, operation);
	if (!errand->work)
		prepare(errand, claim);
	send_claim(errand);
}
