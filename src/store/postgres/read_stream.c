/* Reads of streams: events by cursor, output by offset.
 *
 *   events: the EVENTS, without what was printed ─► terminal ones that printed something: their OUTPUT ─► done
 *
 * The stream of all tasks is in the order of (xid, id), which is not the order in which transactions commit: what
 * can be seen is given out, and what comes late is given when it comes, to a reader that says where it stands
 * (position.h). The events of one task are in the order of their sequence, which the row's lock keeps. */
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/position.h"
#include "store/postgres/row.h"

#define EXAMINED_AT_ONCE 10000 /* events looked at by one operation, whatever its filters let through */
#define RETURNED_AT_ONCE 5000
#define EVENTS_BYTES_MOST (4 << 20) /* an operation's results: then `more` */

/* ---- events ---- */

static void send_all(struct errand *errand);

struct reading {
	struct position from; /* of one task the sequence of its place alone counts */
	size_t limit, bytes_most;
	size_t *ends; /* results that printed something */
	size_t end_count;
};

/* Places of $event_columns, with what stands behind them, from the first on. */
enum {
	COLUMN_TASK,
	COLUMN_KIND,
	COLUMN_SEQUENCE,
	COLUMN_RUN,
	COLUMN_ATTEMPT,
	COLUMN_AT,
	COLUMN_DATA,
	COLUMN_XID,
	COLUMN_ID,
	COLUMN_TENANT,
	COLUMN_EVAL_ID,
	COLUMN_BATCH_ID,
	COLUMN_SIZE,
	COLUMN_PUBLISHER,
};

static struct read_events *events_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_events, operation);
}

static void output_answered(struct errand *errand)
{
	struct read_events *read = events_of(errand);
	const struct reading *w = errand->work;
	struct arena *arena = &read->operation.arena;
	const PGresult *result = errand_result(errand);
	for (int i = 0; i < PQntuples(result); i++) {
		struct event *event = &read->results[w->ends[postgres_get_int(result, i, 0) - 1]];
		struct bytes output = row_text(result, i, 1, arena), error = row_text(result, i, 2, arena);
		event->output = output.data ? output : BYTES_LITERAL("");
		event->error = error.data ? error : BYTES_LITERAL("");
		event->output_truncated = postgres_get_bool(result, i, 3);
	}
	errand_done(errand, STORE_OK);
}

static void finish_events(struct errand *errand)
{
	const struct read_events *read = events_of(errand);
	const struct reading *w = errand->work;
	if (w->end_count == 0) {
		errand_done(errand, STORE_OK);
		return;
	}
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[READ_EVENTS_OUTPUT]);
	struct postgres_array array = postgres_array_begin(&errand->group, POSTGRES_UUID);
	for (size_t i = 0; i < w->end_count; i++)
		postgres_array_uuid(&array, &read->results[w->ends[i]].task_id);
	postgres_array_end(&array);
	array = postgres_array_begin(&errand->group, POSTGRES_INT4);
	for (size_t i = 0; i < w->end_count; i++)
		postgres_array_int4(&array, read->results[w->ends[i]].attempt);
	postgres_array_end(&array);
	errand_send(errand, output_answered);
}

static struct stream_place place_of(const PGresult *result, int row, int column)
{
	return (struct stream_place){
		.xid = (uint64_t)postgres_get_int(result, row, column + COLUMN_XID),
		.id = postgres_get_int(result, row, column + COLUMN_ID),
		.sequence = (uint32_t)postgres_get_int(result, row, column + COLUMN_SEQUENCE),
	};
}

/* Reads the events that begin at `column`, as many as fit. Gives the row of the last one that was taken; -1: none was. */
static int read_rows(struct errand *errand, const PGresult *result, int column, const struct stream_place *bound)
{
	struct read_events *read = events_of(errand);
	struct reading *w = errand->work;
	struct arena *arena = &read->operation.arena;
	size_t rows = (size_t)PQntuples(result), size = 0;
	int last = -1;
	read->results = arena_array(arena, rows, sizeof(read->results[0]));
	w->ends = arena_array(&errand->arena, rows, sizeof(w->ends[0]));
	for (size_t k = 0; k < rows; k++) {
		int i = (int)k;
		if (postgres_get_null(result, i, column + COLUMN_TASK))
			break; /* nothing came through */
		if (read->result_count == w->limit || size > w->bytes_most) {
			read->more = true;
			break;
		}
		struct stream_place place = place_of(result, i, column);
		struct event *event = &read->results[read->result_count];
		*event = (struct event){
			.kind = (enum event_kind)postgres_get_int(result, i, column + COLUMN_KIND),
			.task_id = postgres_get_uuid(result, i, column + COLUMN_TASK),
			.sequence = place.sequence,
			.run = (int)postgres_get_int(result, i, column + COLUMN_RUN),
			.attempt = (int)postgres_get_int(result, i, column + COLUMN_ATTEMPT),
			.timestamp_us = postgres_get_time(result, i, column + COLUMN_AT),
			.cursor = cursor_within(&place, bound),
			.tenant = row_text(result, i, column + COLUMN_TENANT, arena),
			.eval_id = row_text(result, i, column + COLUMN_EVAL_ID, arena),
			.batch_id = postgres_get_uuid(result, i, column + COLUMN_BATCH_ID),
			.data = row_members(result, i, column + COLUMN_DATA, arena),
			.publisher = row_text(result, i, column + COLUMN_PUBLISHER, arena),
		};
		int64_t printed = postgres_get_int(result, i, column + COLUMN_SIZE);
		if (event->kind >= EVENT_COMPLETED && event->kind <= EVENT_CANCELLED)
			event->output = event->error = BYTES_LITERAL("");
		if (printed > 0)
			w->ends[w->end_count++] = read->result_count;
		size += (size_t)printed + event->data.len + sizeof(*event);
		read->result_count++;
		last = i;
	}
	return last;
}

/* The statement's first columns. */
enum {
	ALL_NEXT,
	ALL_OPEN,
	ALL_LATE,
	ALL_TRIMMED_XID,
	ALL_TRIMMED_ID,
	ALL_REACHED_XID,
	ALL_REACHED_ID,
	ALL_EVENT,
};

static void all_answered(struct errand *errand)
{
	struct read_events *read = events_of(errand);
	struct reading *w = errand->work;
	const PGresult *result = errand_result(errand);
	const struct stream_place *place = &w->from.place;
	uint64_t trimmed_xid = (uint64_t)postgres_get_int(result, 0, ALL_TRIMMED_XID);
	int64_t trimmed_id = postgres_get_int(result, 0, ALL_TRIMMED_ID);
	struct position_view view = {
		.next = (uint64_t)postgres_get_int(result, 0, ALL_NEXT),
		.late = postgres_get_bool(result, 0, ALL_LATE),
	};
	if (place->xid > view.next) { /* of another database: what it had seen is not known */
		w->from = (struct position){ 0 };
		read->gap = true;
		send_all(errand);
		return;
	}
	bool older = place->xid < trimmed_xid || (place->xid == trimmed_xid && place->id < trimmed_id);
	read->gap = read->gap || (read->after.length > 0 && older);
	position_read_open(postgres_get_text(result, 0, ALL_OPEN), &errand->arena, &view);
	const struct stream_place bound = position_bound(&w->from, &view);
	int last = read_rows(errand, result, ALL_EVENT, &bound);
	struct position after = w->from;
	view.cut = read->more || !postgres_get_null(result, 0, ALL_REACHED_XID);
	if (read->more && last >= 0) {
		view.reached = place_of(result, last, ALL_EVENT);
	} else if (view.cut) {
		view.reached.xid = (uint64_t)postgres_get_int(result, 0, ALL_REACHED_XID);
		view.reached.id = postgres_get_int(result, 0, ALL_REACHED_ID);
	}
	if (w->limit > 0)
		position_advance(&w->from, &view, &errand->arena, &after);
	const struct stream_place cursor = position_cursor(&after);
	read->last = cursor_of(&cursor);
	read->next = position_write(&after, &read->operation.arena);
	read->more = view.cut || view.late;
	finish_events(errand);
}

static void task_answered(struct errand *errand)
{
	struct read_events *read = events_of(errand);
	const struct reading *w = errand->work;
	const PGresult *result = errand_result(errand);
	uint64_t horizon = PQntuples(result) > 0 ? (uint64_t)postgres_get_int(result, 0, 0) : w->from.place.xid;
	read_rows(errand, result, 1, &(struct stream_place){ .xid = horizon });
	/* Of one task's stream the sequence alone counts. */
	struct stream_place place = w->from.place;
	if (read->result_count > 0 && !cursor_read(&read->results[read->result_count - 1].cursor, &place))
		place = (struct stream_place){ 0 };
	read->last = cursor_of(&place);
	finish_events(errand);
}

static void put_filters(struct postgres_group *group, const struct read_events *read)
{
	postgres_put_int4(group, (int32_t)read->kind_mask);
	if (read->publisher.data)
		postgres_put_int8(group, row_hash(read->publisher));
	else
		postgres_put_null(group);
	postgres_put_text(group, read->tenant);
	postgres_put_text(group, read->eval_id);
	if (uuid_is_nil(&read->batch_id))
		postgres_put_null(group);
	else
		postgres_put_uuid(group, &read->batch_id);
}

/* Where nothing is left out, no more is looked at than is wanted. */
static int64_t examined_most(const struct read_events *read, size_t limit)
{
	const unsigned all = (1u << EVENT_KIND_DURABLE_COUNT) - 1;
	bool is_filtered = (read->kind_mask != 0 && (read->kind_mask & all) != all) || read->publisher.data ||
			   read->tenant.data || read->eval_id.data || !uuid_is_nil(&read->batch_id);
	return is_filtered || limit >= EXAMINED_AT_ONCE ? EXAMINED_AT_ONCE : (int64_t)limit + 1;
}

static void send_all(struct errand *errand)
{
	const struct read_events *read = events_of(errand);
	const struct reading *w = errand->work;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[READ_EVENTS_ALL]);
	postgres_put_int8(group, (int64_t)w->from.place.xid);
	postgres_put_int8(group, w->from.place.id);
	postgres_put_int8(group, examined_most(read, w->limit));
	postgres_put_int8(group, (int64_t)w->limit + 1);
	put_filters(group, read);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_XID8);
	for (size_t i = 0; i < w->from.hole_count; i++)
		postgres_array_int8(&array, (int64_t)w->from.holes[i].xid);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_INT8);
	for (size_t i = 0; i < w->from.hole_count; i++)
		postgres_array_int8(&array, w->from.holes[i].id);
	postgres_array_end(&array);
	errand_send(errand, all_answered);
}

void begin_read_events(struct errand *errand)
{
	struct read_events *read = events_of(errand);
	struct reading *w = arena_alloc(&errand->arena, sizeof(*w));
	struct postgres_group *group = &errand->group;
	bool one_task = !uuid_is_nil(&read->task_id);
	bool known = (!one_task && position_read(read->position, &errand->arena, &w->from)) ||
		     cursor_read(&read->after, &w->from.place);
	read->results = NULL;
	read->result_count = 0;
	read->more = false;
	read->gap = !known && !one_task;
	read->next = BYTES_NONE;
	w->bytes_most = read->bytes_most && read->bytes_most < EVENTS_BYTES_MOST ? read->bytes_most : EVENTS_BYTES_MOST;
	w->limit = read->limit > RETURNED_AT_ONCE ? RETURNED_AT_ONCE : read->limit;
	errand->work = w;
	if (one_task) {
		errand_group(errand);
		errand_planner(errand);
		errand_add(errand, &errand->store->read[READ_EVENTS_TASK]);
		postgres_put_uuid(group, &read->task_id);
		postgres_put_int4(group, (int32_t)w->from.place.sequence);
		postgres_put_int8(group, (int64_t)w->limit + 1);
		put_filters(group, read);
		errand_send(errand, task_answered);
		return;
	}
	send_all(errand);
}

/* ---- output ---- */

static struct read_output *output_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_output, operation);
}

static void chunks_answered(struct errand *errand)
{
	struct read_output *read = output_of(errand);
	struct arena *arena = &read->operation.arena;
	const PGresult *result = errand_result(errand);
	size_t rows = (size_t)PQntuples(result), left = read->limit;
	read->results = arena_array(arena, rows, sizeof(read->results[0]));
	read->attempt_read = rows > 0 ? (int)postgres_get_int(result, 0, 0) : 0;
	read->end = rows > 0 ? (uint64_t)postgres_get_int(result, 0, 1) : 0;
	for (size_t k = 0; k < rows && left > 0; k++) {
		int i = (int)k;
		if (postgres_get_null(result, i, 2))
			break; /* nothing behind the offset */
		uint64_t offset = (uint64_t)postgres_get_int(result, i, 2);
		uint64_t stream_offset = (uint64_t)postgres_get_int(result, i, 3);
		uint64_t begin = read->stream == 0 ? offset : stream_offset;
		uint64_t skip = read->offset > begin ? read->offset - begin : 0;
		struct bytes data = postgres_get_text(result, i, 5);
		if (skip >= data.len)
			continue;
		data.data += skip;
		data.len -= skip;
		data.len = data.len > left ? left : data.len;
		left -= data.len;
		read->results[read->result_count++] = (struct output_chunk){
			.task_id = read->task_id,
			.attempt = read->attempt_read,
			.stream = (int)postgres_get_int(result, i, 4),
			.offset = offset + skip,
			.stream_offset = stream_offset + skip,
			.data = arena_bytes(arena, data),
		};
	}
	errand_done(errand, STORE_OK);
}

void begin_read_output(struct errand *errand)
{
	struct read_output *read = output_of(errand);
	struct postgres_group *group = &errand->group;
	read->results = NULL;
	read->result_count = 0;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->read[READ_OUTPUT]);
	postgres_put_uuid(group, &read->task_id);
	postgres_put_int4(group, read->attempt);
	postgres_put_int4(group, read->stream);
	postgres_put_int8(group, read->offset > INT64_MAX ? INT64_MAX : (int64_t)read->offset);
	postgres_put_int8(group, read->limit > INT32_MAX ? INT32_MAX : (int64_t)read->limit);
	errand_send(errand, chunks_answered);
}
