/* Claims: the first rows of the claim's index become RUNNING, those of all lanes in one statement.
 *
 * The index holds only what is due. Rows whose run_after lies ahead stand in an index of their own and are moved over before the claim when
 * there are any, a bounded number at a time. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define PROMOTED_AT_ONCE 1000
#define CLAIMED_AT_ONCE 2000 /* of one executor: a caller with more slots claims again */

/* Lanes of the same executor are searched as one. */
struct search {
	struct queue_marks *marks; /* borrowed */
	double sent[PRIORITY_COUNT]; /* the marks that the claim was sent with */
	int64_t slots;
	bool left;
};

struct claiming {
	struct search *searches;
	size_t count;
	size_t *search_of; /* per lane */
	size_t promote; /* the statement's place in the group; 0: none */
	bool filtered;
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

/* The parameters that the claim and the look at what is left share. */
static void put_searches(struct errand *errand, const struct store_claim *claim, const struct claiming *w)
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
			postgres_array_float8(&array, w->searches[i].marks->marks[k]);
	postgres_array_end(&array);
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
		if (first && !w->filtered)
			marks_raise(w->searches[order[i].search].marks, order[i].priority, order[i].turn);
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
	for (size_t i = 0; i < claim->lane_count; i++)
		claim->exhausted[i] = !w->searches[w->search_of[i]].left && all_promoted;
	errand_done(errand, STORE_OK);
}

static void prepare(struct errand *errand, struct store_claim *claim)
{
	struct claiming *w = arena_alloc(&errand->arena, sizeof(*w));
	w->searches = arena_array(&errand->arena, claim->lane_count, sizeof(w->searches[0]));
	w->search_of = arena_array(&errand->arena, claim->lane_count, sizeof(w->search_of[0]));
	w->filtered = claim->queues || claim->tenant_full_count > 0;
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
		memcpy(search->sent, search->marks->marks, sizeof(search->sent));
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
