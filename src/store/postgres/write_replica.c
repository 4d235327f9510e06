/* Incarnations: they tell that they live and what turns they gave, learn what the others did, and take up what dead
 * ones left running. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define TAKEN_AT_ONCE 1000
#define SILENCES_PER_LEASE 6
#define SILENCE_MIN_MS 1500

/* As `published` keeps it; length 0 where it is NULL. */
static struct cursor cursor_get(const PGresult *result, int row, int column)
{
	struct bytes bytes = postgres_get_text(result, row, column);
	struct cursor cursor = { 0 };
	if (bytes.len > 0 && bytes.len <= sizeof(cursor.bytes)) {
		cursor.length = (uint8_t)bytes.len;
		memcpy(cursor.bytes, bytes.data, bytes.len);
	}
	return cursor;
}

/* ---- heartbeat: BEAT ─► it is dead: done ; it lives: SHARE ─► done, and an errand of its own: UPKEEP ---- */

static struct store_heartbeat *heartbeat_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_heartbeat, operation);
}

struct beating {
	int64_t now_us; /* the database's */
};

static int compare_turns(const void *left, const void *right)
{
	const struct fair_turn *a = *(const struct fair_turn *const *)left,
			       *b = *(const struct fair_turn *const *)right;
	size_t shorter = a->executor.len < b->executor.len ? a->executor.len : b->executor.len;
	int order = shorter ? memcmp(a->executor.data, b->executor.data, shorter) : 0;
	if (order == 0)
		order = (a->executor.len > b->executor.len) - (a->executor.len < b->executor.len);
	if (order == 0)
		order = (a->priority > b->priority) - (a->priority < b->priority);
	if (order)
		return order;
	shorter = a->tenant.len < b->tenant.len ? a->tenant.len : b->tenant.len;
	order = shorter ? memcmp(a->tenant.data, b->tenant.data, shorter) : 0;
	return order ? order : (a->tenant.len > b->tenant.len) - (a->tenant.len < b->tenant.len);
}

/* In the order of their keys, so that replicas do not deadlock; of equal keys the greatest. */
static void put_turns(struct errand *errand, const struct store_heartbeat *heartbeat)
{
	struct postgres_group *group = &errand->group;
	size_t count = 0;
	const struct fair_turn **turns = arena_array(&errand->arena, heartbeat->turn_count, sizeof(struct fair_turn *));
	for (size_t i = 0; i < heartbeat->turn_count; i++)
		turns[i] = &heartbeat->turns[i];
	qsort(turns, heartbeat->turn_count, sizeof(turns[0]), compare_turns);
	for (size_t i = 0; i < heartbeat->turn_count; i++) {
		if (count > 0 && compare_turns(&turns[count - 1], &turns[i]) == 0) {
			if (turns[i]->turn > turns[count - 1]->turn)
				turns[count - 1] = turns[i];
		} else {
			turns[count++] = turns[i];
		}
	}
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < count; i++)
		postgres_array_text(&array, turns[i]->executor);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_INT2);
	for (size_t i = 0; i < count; i++)
		postgres_array_int2(&array, (int16_t)turns[i]->priority);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < count; i++)
		postgres_array_text(&array, turns[i]->tenant.data ? turns[i]->tenant : BYTES_LITERAL(""));
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_FLOAT8);
	for (size_t i = 0; i < count; i++)
		postgres_array_float8(&array, turns[i]->turn);
	postgres_array_end(&array);
	postgres_put_text(group, heartbeat->locked_by);
}

static void read_turns(struct store_heartbeat *heartbeat, const PGresult *result)
{
	struct arena *arena = &heartbeat->operation.arena;
	heartbeat->latest_count = (size_t)PQntuples(result);
	heartbeat->latest = arena_array(arena, heartbeat->latest_count, sizeof(heartbeat->latest[0]));
	for (size_t i = 0; i < heartbeat->latest_count; i++) {
		struct bytes tenant = row_text(result, (int)i, 2, arena);
		heartbeat->latest[i] = (struct fair_turn){
			.executor = row_text(result, (int)i, 0, arena),
			.priority = (int)postgres_get_int(result, (int)i, 1),
			.tenant = tenant.len > 0 ? tenant : BYTES_NONE,
			.turn = postgres_get_float8(result, (int)i, 3),
		};
	}
}

static void shared(struct errand *errand)
{
	struct store_heartbeat *heartbeat = heartbeat_of(errand);
	const struct beating *w = errand->work;
	struct postgres_store *store = errand->store;
	read_turns(heartbeat, errand_result(errand));
	store->beaten = true;
	store->turns_learned_us = w->now_us;
	errand_done(errand, STORE_OK);
}

static void send_share(struct errand *errand)
{
	const struct store_heartbeat *heartbeat = heartbeat_of(errand);
	struct postgres_store *store = errand->store;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	if (heartbeat->turn_count > 0) {
		postgres_group_add(group, &store->write[WRITE_TELL_TURNS]);
		put_turns(errand, heartbeat);
	}
	errand_add(errand, &store->write[WRITE_LEARN_TURNS]);
	postgres_put_text(group, heartbeat->locked_by);
	postgres_put_time(group, store->beaten ? store->turns_learned_us : 0);
	errand_send(errand, shared);
}

/* ---- upkeep: what need not be done for the lease to be kept, and may take its time ---- */

static void upkept(struct errand *errand)
{
	struct postgres_store *store = errand->store;
	const PGresult *promoted = errand_result(errand);
	for (int i = 0; i < PQntuples(promoted); i++) {
		struct bytes executor = postgres_get_text(promoted, i, 0);
		int priority = (int)postgres_get_int(promoted, i, 1);
		double turn = postgres_get_float8(promoted, i, 2);
		marks_lower(store, executor, priority, turn);
		notices_work(store, executor, priority, turn);
	}
	errand_done(errand, STORE_OK);
}

void begin_upkeep(struct errand *errand)
{
	struct postgres_store *store = errand->store;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	postgres_group_add(group, &store->write[WRITE_FOLD_COUNTS]);
	postgres_put_int8(group, row_hash(bytes_of(store->options.schema)) ^ 1);
	/* What came due while no slot was free is counted as waiting, too. */
	errand_add(errand, &store->write[WRITE_PROMOTE]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < store->upkeep_executor_count; i++)
		postgres_array_text(&array, store->upkeep_executors[i]);
	postgres_array_end(&array);
	postgres_put_int8(group, PROMOTED_AT_ONCE);
	errand_send(errand, upkept);
}

/* What failed is done with the next heartbeat. */
static void on_upkept(struct store_operation *operation)
{
	CONTAINER_OF(operation, struct postgres_store, upkeep)->upkeep_running = false;
}

static void start_upkeep(struct postgres_store *store, const struct store_heartbeat *heartbeat)
{
	if (store->upkeep_running || store->state != STATE_RUNNING)
		return;
	struct arena *arena = &store->upkeep_arena;
	arena_fini(arena);
	store->upkeep_executors = arena_array(arena, heartbeat->lane_count, sizeof(store->upkeep_executors[0]));
	store->upkeep_executor_count = heartbeat->lane_count;
	for (size_t i = 0; i < heartbeat->lane_count; i++)
		store->upkeep_executors[i] = arena_bytes(arena, heartbeat->lanes[i].executor);
	store->upkeep_running = true;
	store->upkeep = (struct store_operation){ .done = on_upkept };
	errand_hand_in(store, LANE_KEEP, &store->upkeep, begin_upkeep);
}

static void beaten(struct errand *errand)
{
	struct store_heartbeat *heartbeat = heartbeat_of(errand);
	struct beating *w = errand->work;
	struct postgres_store *store = errand->store;
	const PGresult *beat = errand->group.results[errand->main - 1], *learnt = errand_result(errand);
	heartbeat->alive = PQntuples(beat) > 0;
	heartbeat->replica_count = (size_t)postgres_get_int(learnt, 0, 0);
	if (!heartbeat->alive) {
		errand_done(errand, STORE_OK);
		return;
	}
	const struct stream_place horizon = { .xid = (uint64_t)postgres_get_int(learnt, 0, 2) };
	heartbeat->horizon = cursor_of(&horizon);
	heartbeat->frontier = cursor_get(learnt, 0, 3);
	w->now_us = postgres_get_time(beat, 0, 0);
	store->others = heartbeat->replica_count > 0 ? heartbeat->replica_count - 1 : 0;
	store->followers = (size_t)postgres_get_int(learnt, 0, 1);
	heartbeat->cancelled_count = (size_t)PQntuples(errand->group.results[errand->main - 2]);
	heartbeat->cancelled =
		arena_array(&heartbeat->operation.arena, heartbeat->cancelled_count, sizeof(struct uuid));
	for (size_t i = 0; i < heartbeat->cancelled_count; i++)
		heartbeat->cancelled[i] = postgres_get_uuid(errand->group.results[errand->main - 2], (int)i, 0);
	errand->unknown_before = true;
	start_upkeep(store, heartbeat);
	send_share(errand);
}

void begin_heartbeat(struct errand *errand)
{
	struct store_heartbeat *heartbeat = heartbeat_of(errand);
	struct postgres_group *group = &errand->group;
	int64_t free_slots = 0;
	for (size_t i = 0; i < heartbeat->lane_count; i++)
		free_slots += heartbeat->lanes[i].free_slots > 0 ? heartbeat->lanes[i].free_slots : 0;
	heartbeat->alive = false;
	heartbeat->cancelled = NULL;
	heartbeat->latest = NULL;
	heartbeat->cancelled_count = heartbeat->replica_count = heartbeat->latest_count = 0;
	heartbeat->frontier = heartbeat->horizon = (struct cursor){ 0 };
	errand->work = arena_alloc(&errand->arena, sizeof(struct beating));
	/* A connection that is silent is to be missed, made anew and used before two thirds of the lease are over. */
	int64_t silence_ms = heartbeat->lease_us / SILENCES_PER_LEASE / US_PER_MS;
	silence_ms = silence_ms > POSTGRES_SILENCE_MS ? POSTGRES_SILENCE_MS : silence_ms;
	postgres_set_silence(errand->lane->postgres, silence_ms < SILENCE_MIN_MS ? SILENCE_MIN_MS : (int)silence_ms);
	if (!bytes_equal(errand->store->registered, heartbeat->locked_by))
		errand->store->beaten = false; /* another incarnation than before */
	errand_group(errand);
	errand_register(errand, heartbeat->locked_by);
	errand_planner(errand);
	if (heartbeat->told_count > 0) {
		postgres_group_add(group, &errand->store->write[WRITE_TOLD]);
		struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
		for (size_t i = 0; i < heartbeat->told_count; i++)
			postgres_array_text(&array, heartbeat->told[i]);
		postgres_array_end(&array);
	}
	postgres_group_add(group, &errand->store->write[WRITE_CANCEL_REQUESTS]);
	postgres_put_text(group, heartbeat->locked_by);
	postgres_group_add(group, &errand->store->write[WRITE_BEAT]);
	postgres_put_text(group, heartbeat->locked_by);
	postgres_put_text(group, heartbeat->address);
	postgres_put_bool(group, heartbeat->draining);
	postgres_put_int4(group, free_slots > INT32_MAX ? INT32_MAX : (int32_t)free_slots);
	postgres_put_text(
		group, (struct bytes){ (const char *)heartbeat->published.bytes, heartbeat->published.length });
	postgres_put_bool(group, errand->store->follows);
	errand_add(errand, &errand->store->write[WRITE_BEAT_LEARN]);
	postgres_put_text(group, heartbeat->locked_by);
	postgres_put_int8(group, heartbeat->lease_us);
	errand_send(errand, beaten);
}

/* ---- take ---- */

static struct store_take *take_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_take, operation);
}

/* Its own rows are as many as it has slots: what is not known among them stands behind all that is. */
static size_t limit_of(const struct store_take *take)
{
	return take->kind != TAKE_OWN && take->limit > TAKEN_AT_ONCE ? TAKEN_AT_ONCE : take->limit;
}

static void read_buried(struct errand *errand, const PGresult *result)
{
	struct store_take *take = take_of(errand);
	struct arena *arena = &take->operation.arena;
	take->dead_count = (size_t)PQntuples(result);
	take->dead = arena_array(arena, take->dead_count, sizeof(take->dead[0]));
	take->watermarks = arena_array(arena, take->dead_count, sizeof(take->watermarks[0]));
	for (size_t i = 0; i < take->dead_count; i++) {
		take->dead[i] = row_text(result, (int)i, 0, arena);
		take->watermarks[i] = cursor_get(result, (int)i, 1);
	}
}

static void taken(struct errand *errand)
{
	struct store_take *take = take_of(errand);
	struct arena *arena = &take->operation.arena;
	const PGresult *result = errand_result(errand);
	bool own = take->kind == TAKE_OWN;
	size_t limit = limit_of(take), count = (size_t)PQntuples(result);
	if (!own) {
		read_buried(errand, errand->group.results[errand->main - 1]);
		errand->store->take_lost = false;
	}
	/* Behind the columns of a task, its former owner, params and output: how many there were, of which not all may
	 * have fitted. */
	size_t there = own || count == 0 ? count : (size_t)postgres_get_int(result, 0, PQnfields(result) - 1);
	take->more = own ? count > limit : count > 0 && (there > count || there == limit);
	count = count > limit ? limit : count;
	struct task *tasks = arena_array(arena, count, sizeof(tasks[0]));
	take->former = arena_array(arena, count, sizeof(take->former[0]));
	take->output_ends = arena_array(arena, count, sizeof(take->output_ends[0]));
	for (size_t i = 0; i < count; i++) {
		int column = row_read_task(result, (int)i, 0, arena, &tasks[i]);
		take->former[i] = row_text(result, (int)i, column, arena);
		tasks[i].params = row_text(result, (int)i, column + 1, arena);
		take->output_ends[i] = (uint64_t)postgres_get_int(result, (int)i, column + 2);
	}
	take->tasks = tasks;
	take->count = count;
	errand_done(errand, STORE_OK);
}

void begin_take(struct errand *errand)
{
	struct store_take *take = take_of(errand);
	struct postgres_group *group = &errand->group;
	struct postgres_store *store = errand->store;
	size_t limit = limit_of(take);
	take->tasks = NULL;
	take->former = take->dead = NULL;
	take->output_ends = NULL;
	take->watermarks = NULL;
	take->count = take->dead_count = 0;
	take->more = false;
	errand_group(errand);
	errand_register(errand, take->locked_by);
	errand_planner(errand);
	if (take->kind == TAKE_OWN) {
		errand_add(errand, &store->write[WRITE_TAKE_OWN]);
		postgres_put_text(group, take->locked_by);
		postgres_put_int8(group, (int64_t)limit + 1);
		errand_send(errand, taken);
		return;
	}
	if (take->kind == TAKE_ALL)
		postgres_group_add(group, &store->write[WRITE_DELIVERY_RELEASE]);
	postgres_group_add(group, &store->write[WRITE_BURY]);
	postgres_put_text(group, take->locked_by);
	if (take->kind == TAKE_ALL)
		postgres_put_null(group);
	else
		postgres_put_int8(group, take->lease_us);
	/* Of a take whose answer was lost the dead are told again. */
	postgres_put_bool(group, store->take_lost);
	store->take_lost = true; /* until it is answered */
	errand_add(errand, &store->write[WRITE_TAKE_DEAD]);
	postgres_put_text(group, take->locked_by);
	postgres_put_int8(group, (int64_t)limit);
	errand_send(errand, taken);
}
