/* Reads of tasks: by id, by short id, lists; positions and counts. */
#include <string.h>

#include "base/text.h"
#include "store/postgres/internal.h"
#include "store/postgres/row.h"
#include "task/lifecycle.h"

#define COUNTED_MOST 10000
#define MATCHED_MOST 21

/* ---- by id ---- */

static struct read_task *task_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_task, operation);
}

static void task_answered(struct errand *errand)
{
	struct read_task *read = task_of(errand);
	struct arena *arena = &read->operation.arena;
	const PGresult *result = errand_result(errand);
	for (int i = 0; i < PQntuples(result); i++) {
		struct task *task = arena_alloc(arena, sizeof(*task));
		int column = row_read_task(result, i, 1, arena, task);
		if (read->with_params)
			task->params = row_text(result, i, column, arena);
		read->results[postgres_get_int(result, i, 0) - 1] = task;
	}
	errand_done(errand, STORE_OK);
}

void begin_read_task(struct errand *errand)
{
	struct read_task *read = task_of(errand);
	read->results = arena_array(&read->operation.arena, read->count, sizeof(read->results[0]));
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[read->with_params ? READ_TASK_BY_ID_WITH_PARAMS : READ_TASK_BY_ID]);
	struct postgres_array array = postgres_array_begin(&errand->group, POSTGRES_UUID);
	for (size_t i = 0; i < read->count; i++)
		postgres_array_uuid(&array, &read->ids[i]);
	postgres_array_end(&array);
	postgres_put_text(&errand->group, read->tenant);
	errand_send(errand, task_answered);
}

/* ---- short ids ---- */

static struct read_match *match_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_match, operation);
}

static void match_answered(struct errand *errand)
{
	struct read_match *read = match_of(errand);
	for (size_t i = 1; i < errand->group.call_count; i++) {
		const PGresult *result = errand->group.results[i];
		for (int k = 0; k < PQntuples(result) && read->result_count < MATCHED_MOST; k++) {
			struct uuid id = postgres_get_uuid(result, k, 0);
			size_t at = 0;
			while (at < read->result_count && uuid_compare(&read->results[at], &id) != 0)
				at++;
			if (at == read->result_count)
				read->results[read->result_count++] = id;
		}
	}
	errand_done(errand, STORE_OK);
}

/* The range of ids that begin so; false where none can. */
static bool range_of(struct bytes text, struct uuid *ret_from, struct uuid *ret_to, size_t *ret_length)
{
	char low[32], high[32];
	size_t length = 0;
	memset(low, '0', sizeof(low));
	memset(high, 'f', sizeof(high));
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '-')
			continue;
		if (length == sizeof(low))
			return false; /* longer than an id: nobody's */
		low[length] = high[length] = text.data[i];
		length++;
	}
	*ret_length = length;
	return length >= 4 &&
	       hex_decode((struct bytes){ low, sizeof(low) }, ret_from->bytes, sizeof(ret_from->bytes)) &&
	       hex_decode((struct bytes){ high, sizeof(high) }, ret_to->bytes, sizeof(ret_to->bytes));
}

void begin_read_match(struct errand *errand)
{
	static const int suffix_searches[] = { READ_MATCH_SUFFIX_NEWEST, READ_MATCH_SUFFIX_WAITING };
	struct read_match *read = match_of(errand);
	struct postgres_group *group = &errand->group;
	struct uuid from, to;
	size_t length;
	read->results = arena_array(&read->operation.arena, MATCHED_MOST, sizeof(read->results[0]));
	read->result_count = 0;
	errand_group(errand);
	errand_planner(errand);
	bool possible = range_of(read->text, &from, &to, &length);
	if (possible) {
		errand_add(errand, &errand->store->read[READ_MATCH_PREFIX]);
		postgres_put_uuid(group, &from);
		postgres_put_uuid(group, &to);
		postgres_put_text(group, read->tenant);
	}
	for (size_t i = 0; i < ARRAY_SIZE(suffix_searches) && possible && length == 8; i++) {
		errand_add(errand, &errand->store->read[suffix_searches[i]]);
		postgres_put_text(group, (struct bytes){ (const char *)from.bytes, 4 });
		postgres_put_text(group, read->tenant);
	}
	errand_send(errand, match_answered);
}

/* ---- lists ---- */

static struct read_list *list_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_list, operation);
}

static void list_answered(struct errand *errand)
{
	struct read_list *read = list_of(errand);
	struct arena *arena = &read->operation.arena;
	const PGresult *result = errand_result(errand);
	size_t count = (size_t)PQntuples(result);
	int last = PQfnumber(result, "last");
	if (last >= 0 && count == 1 && postgres_get_null(result, 0, 0))
		count = 0; /* it is there for the sake of `last` */
	bool is_full = count > read->limit;
	count = is_full ? read->limit : count;
	struct task *tasks = arena_array(arena, count, sizeof(tasks[0]));
	for (size_t i = 0; i < count; i++)
		row_read_task(result, (int)i, 0, arena, &tasks[i]);
	read->results = tasks;
	read->result_count = count;
	read->more = is_full || (last >= 0 && !postgres_get_null(result, 0, last));
	if (is_full && count > 0)
		read->next = tasks[count - 1].id;
	else if (read->more && !is_full)
		read->next = postgres_get_uuid(result, 0, last);
	errand_done(errand, STORE_OK);
}

static void put_statuses(struct postgres_group *group, uint32_t mask)
{
	if (mask == 0) {
		postgres_put_null(group);
		return;
	}
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (int status = 0; status < TASK_STATUS_COUNT; status++)
		if (mask & 1u << status)
			postgres_array_text(&array, bytes_of(task_status_name((enum task_status)status)));
	postgres_array_end(&array);
}

/* Rows may be left out that the index leads to. */
static bool is_filtered(const struct read_list *read, bool by_tenant)
{
	return read->status_mask != 0 || read->type.data || read->queue.data || (read->tenant.data && !by_tenant);
}

void begin_read_list(struct errand *errand)
{
	static const struct uuid last = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff } };
	struct read_list *read = list_of(errand);
	struct postgres_group *group = &errand->group;
	bool by_batch = !uuid_is_nil(&read->batch_id);
	/* One index leads, the other filters are looked at row by row. */
	bool by_tenant = read->tenant.data && !bytes_equal(read->tenant, BYTES_LITERAL(TENANT_DEFAULT));
	int index = read->eval_id.data ? READ_LIST_EVAL_ID
		    : by_batch         ? READ_LIST_BATCH
		    : by_tenant        ? READ_LIST_TENANT
				       : READ_LIST_ALL;
	read->results = NULL;
	read->result_count = 0;
	read->next = (struct uuid){ 0 };
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[index]);
	postgres_put_uuid(group, uuid_is_nil(&read->before) ? &last : &read->before);
	put_statuses(group, read->status_mask);
	postgres_put_text(group, read->type);
	postgres_put_text(group, read->queue);
	postgres_put_int8(group, (int64_t)read->limit + 1);
	if (index == READ_LIST_EVAL_ID)
		postgres_put_text(group, read->eval_id);
	else if (index == READ_LIST_BATCH)
		postgres_put_uuid(group, &read->batch_id);
	else
		postgres_put_text(group, read->tenant);
	if (index == READ_LIST_TENANT || index == READ_LIST_ALL)
		postgres_put_int8(group, is_filtered(read, index == READ_LIST_TENANT) ? READ_LIST_EXAMINED : 0);
	if (index == READ_LIST_EVAL_ID || index == READ_LIST_BATCH)
		postgres_put_text(group, read->tenant);
	if (index == READ_LIST_EVAL_ID && by_batch)
		postgres_put_uuid(group, &read->batch_id);
	else if (index == READ_LIST_EVAL_ID)
		postgres_put_null(group);
	errand_send(errand, list_answered);
}

/* ---- why a task waits ---- */

static struct read_position *position_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_position, operation);
}

static int64_t at_most(int64_t count)
{
	return count > COUNTED_MOST ? COUNTED_MOST : count;
}

static void position_answered(struct errand *errand)
{
	struct read_position *read = position_of(errand);
	const PGresult *result = errand_result(errand);
	read->ahead = read->queued = 0;
	if (PQntuples(result) > 0) {
		int64_t place = postgres_get_int(result, 0, 0);
		/* Those that are due but have not been moved into the claim's index yet count, too. */
		read->queued = at_most(postgres_get_int(result, 0, 1) + postgres_get_int(result, 0, 4));
		if (place == 1 || place == 2)
			read->ahead = at_most(postgres_get_int(result, 0, 2) + postgres_get_int(result, 0, 3) +
					      postgres_get_int(result, 0, 5));
	}
	errand_done(errand, STORE_OK);
}

void begin_read_position(struct errand *errand)
{
	const struct read_position *read = position_of(errand);
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[READ_POSITION]);
	postgres_put_uuid(&errand->group, &read->id);
	errand_send(errand, position_answered);
}

/* ---- counts ---- */

static struct read_counts *counts_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_counts, operation);
}

static void counts_answered(struct errand *errand)
{
	struct read_counts *read = counts_of(errand);
	struct arena *arena = &read->operation.arena;
	uint64_t horizon = (uint64_t)postgres_get_int(errand_result(errand), 0, 0);
	read->latest = cursor_safe(horizon, 0, 0, horizon);
	if (read->latest_only) {
		errand_done(errand, STORE_OK);
		return;
	}
	const PGresult *tenants = errand->group.results[1], *oldest = errand->group.results[2];
	/* As the columns stand. */
	static const enum task_status statuses[] = { TASK_QUEUED, TASK_RUNNING, TASK_COMPLETED, TASK_FAILED, TASK_RETRY,
		TASK_CANCELLED };
	read->tenants = arena_array(arena, (size_t)PQntuples(tenants), sizeof(read->tenants[0]));
	for (int i = 0; i < PQntuples(tenants); i++) {
		int64_t counts[TASK_STATUS_COUNT] = { 0 };
		for (int k = 0; k < TASK_STATUS_COUNT; k++)
			counts[statuses[k]] = postgres_get_int(tenants, i, 1 + k);
		for (int k = 0; k < TASK_STATUS_COUNT; k++)
			read->by_status[k] += counts[k];
		int64_t waiting = counts[TASK_QUEUED] + counts[TASK_RETRY];
		if (waiting != 0 || counts[TASK_RUNNING] != 0)
			read->tenants[read->tenant_count++] = (struct tenant_count){
				.tenant = row_text(tenants, i, 0, arena),
				.waiting = waiting,
				.running = counts[TASK_RUNNING],
			};
	}
	read->oldest_waiting_at_us = postgres_get_time(oldest, 0, 0);
	errand_done(errand, STORE_OK);
}

static void put_marks(struct errand *errand)
{
	struct postgres_store *store = errand->store;
	struct postgres_array array = postgres_array_begin(&errand->group, POSTGRES_TEXT);
	LIST_EACH (&store->marks, link)
		postgres_array_text(&array, LIST_ENTRY(link, struct queue_marks, link)->executor);
	postgres_array_end(&array);
	array = postgres_array_begin(&errand->group, POSTGRES_FLOAT8);
	LIST_EACH (&store->marks, link)
		for (int i = 0; i < PRIORITY_COUNT; i++)
			postgres_array_float8(&array, LIST_ENTRY(link, struct queue_marks, link)->marks[i]);
	postgres_array_end(&array);
}

void begin_read_counts(struct errand *errand)
{
	struct read_counts *read = counts_of(errand);
	memset(read->by_status, 0, sizeof(read->by_status));
	read->tenant_count = 0;
	errand_group(errand);
	errand_planner(errand);
	if (!read->latest_only) {
		errand_add(errand, &errand->store->read[READ_COUNTS]);
		errand_add(errand, &errand->store->read[READ_OLDEST_WAITING]);
		put_marks(errand);
	}
	errand_add(errand, &errand->store->read[READ_STREAM_END]);
	errand_send(errand, counts_answered);
}
