/* Deliveries to callback URLs: leased to who sends them, settled with a record of each attempt, and read. They are
 * written by the statements that end a run (settle, cancel). Being rare and in no hurry they share the connection of
 * the slow reads. */
#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define RUNS_MOST 100

/* ---- claim ---- */

static struct store_delivery_claim *claim_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_delivery_claim, operation);
}

static void claim_answered(struct errand *errand)
{
	struct store_delivery_claim *claim = claim_of(errand);
	struct arena *arena = &claim->operation.arena;
	const PGresult *rows = errand->group.results[1], *left = errand->group.results[2];
	claim->count = (size_t)PQntuples(rows);
	claim->deliveries = arena_array(arena, claim->count, sizeof(claim->deliveries[0]));
	for (size_t i = 0; i < claim->count; i++) {
		int row = (int)i;
		claim->deliveries[i] = (struct delivery){
			.task_id = postgres_get_uuid(rows, row, 0),
			.run = (int)postgres_get_int(rows, row, 1),
			.attempt = (int)postgres_get_int(rows, row, 2),
			.attempts = (int)postgres_get_int(rows, row, 3),
			.created_at_us = postgres_get_time(rows, row, 4),
			.origin = row_text(rows, row, 5, arena),
			.url = row_text(rows, row, 6, arena),
		};
	}
	claim->more = claim->count == claim->limit;
	claim->next_due_in_us = postgres_get_null(left, 0, 0) ? -1 : postgres_get_int(left, 0, 0);
	if (claim->count_waiting)
		claim->waiting = postgres_get_int(errand->group.results[3], 0, 0);
	errand_done(errand, STORE_OK);
}

/* The parameters that both statements of a claim begin with. */
static void put_claim(struct errand *errand, const struct store_delivery_claim *claim)
{
	struct postgres_group *group = &errand->group;
	postgres_put_text(group, claim->locked_by);
	postgres_put_int8(group, claim->lease_us);
	postgres_put_int4(group, claim->origin_limit);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < claim->origin_count; i++)
		postgres_array_text(&array, claim->origins[i].origin);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_INT4);
	for (size_t i = 0; i < claim->origin_count; i++)
		postgres_array_int4(&array, claim->origins[i].busy);
	postgres_array_end(&array);
}

void begin_delivery_claim(struct errand *errand)
{
	const struct store_delivery_claim *claim = claim_of(errand);
	const struct postgres_statement *write = errand->store->write;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &write[WRITE_DELIVERY_CLAIM]);
	put_claim(errand, claim);
	postgres_put_int8(&errand->group, (int64_t)claim->limit);
	errand_add(errand, &write[WRITE_DELIVERY_LEFT]);
	put_claim(errand, claim);
	if (claim->count_waiting)
		errand_add(errand, &write[WRITE_DELIVERY_WAITING]);
	errand_send(errand, claim_answered);
}

/* ---- settle ---- */

static struct store_delivery_settle *settle_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_delivery_settle, operation);
}

static void settle_answered(struct errand *errand)
{
	struct store_delivery_settle *settle = settle_of(errand);
	const PGresult *result = errand_result(errand);
	settle->results = arena_array(&settle->operation.arena, settle->count, sizeof(settle->results[0]));
	for (int i = 0; i < PQntuples(result); i++)
		settle->results[postgres_get_int(result, i, 0) - 1] =
			postgres_get_bool(result, i, 1) ? SETTLE_APPLIED : SETTLE_REFUSED;
	errand_done(errand, STORE_OK);
}

static enum delivery_status status_after(enum delivery_verdict verdict)
{
	switch (verdict) {
	case DELIVERY_SENT:
		return DELIVERY_DELIVERED;
	case DELIVERY_STOP:
		return DELIVERY_GIVEN_UP;
	case DELIVERY_AGAIN:
	case DELIVERY_HAND_BACK:
		break;
	}
	return DELIVERY_WAITING;
}

#define PUT_OUTCOMES(type, statement) \
	do { \
		struct postgres_array array = postgres_array_begin(group, (type)); \
		for (size_t i_ = 0; i_ < settle->count; i_++) { \
			const struct delivery_outcome *o = &settle->outcomes[i_]; \
			statement; \
		} \
		postgres_array_end(&array); \
	} while (0)

void begin_delivery_settle(struct errand *errand)
{
	const struct store_delivery_settle *settle = settle_of(errand);
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[WRITE_DELIVERY_SETTLE]);
	postgres_put_text(group, settle->locked_by);
	PUT_OUTCOMES(POSTGRES_UUID, postgres_array_uuid(&array, &o->task_id));
	PUT_OUTCOMES(POSTGRES_INT4, postgres_array_int4(&array, o->run));
	PUT_OUTCOMES(POSTGRES_INT4, postgres_array_int4(&array, o->attempt));
	PUT_OUTCOMES(POSTGRES_INT2, postgres_array_int2(&array, (int16_t)status_after(o->verdict)));
	PUT_OUTCOMES(POSTGRES_BOOL, postgres_array_bool(&array, o->verdict != DELIVERY_HAND_BACK));
	PUT_OUTCOMES(POSTGRES_INT8, postgres_array_int8(&array, o->verdict == DELIVERY_AGAIN ? o->delay_us : 0));
	PUT_OUTCOMES(POSTGRES_TIMESTAMPTZ, postgres_array_time(&array, o->at_us));
	PUT_OUTCOMES(POSTGRES_INT8, postgres_array_int8(&array, o->duration_us));
	PUT_OUTCOMES(POSTGRES_INT2, postgres_array_int2(&array, (int16_t)o->http_status));
	PUT_OUTCOMES(POSTGRES_TEXT, postgres_array_text(&array, o->error));
	errand_send(errand, settle_answered);
}

/* ---- read ---- */

static struct read_deliveries *read_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct read_deliveries, operation);
}

/* The attempts of all runs stand in the order of the runs. Returns where those of the next run begin. */
static int read_attempts(struct read_deliveries *read, const PGresult *rows, int at, struct delivery_record *record)
{
	struct arena *arena = &read->operation.arena;
	int end = at;
	while (end < PQntuples(rows) && postgres_get_int(rows, end, 0) == record->run)
		end++;
	struct delivery_attempt *attempts = arena_array(arena, (size_t)(end - at), sizeof(attempts[0]));
	for (int i = at; i < end; i++)
		attempts[record->attempt_count++] = (struct delivery_attempt){
			.attempt = (int)postgres_get_int(rows, i, 1),
			.at_us = postgres_get_time(rows, i, 2),
			.duration_us = postgres_get_int(rows, i, 3),
			.http_status = (int)postgres_get_int(rows, i, 4),
			.error = row_text(rows, i, 5, arena),
		};
	record->attempts = attempts;
	return end;
}

static void read_answered(struct errand *errand)
{
	struct read_deliveries *read = read_of(errand);
	const PGresult *task = errand->group.results[1], *rows = errand->group.results[2];
	const PGresult *attempts = errand->group.results[3];
	int at = 0;
	read->found = PQntuples(task) == 1;
	read->url = read->found ? row_text(task, 0, 0, &read->operation.arena) : BYTES_NONE;
	read->result_count = read->found ? (size_t)PQntuples(rows) : 0;
	read->results = arena_array(&read->operation.arena, read->result_count, sizeof(read->results[0]));
	for (size_t i = 0; i < read->result_count; i++) {
		int row = (int)i;
		read->results[i] = (struct delivery_record){
			.run = (int)postgres_get_int(rows, row, 0),
			.status = (enum delivery_status)postgres_get_int(rows, row, 1),
			.created_at_us = postgres_get_time(rows, row, 2),
			.due_at_us = postgres_get_time(rows, row, 3),
			.under_way = postgres_get_bool(rows, row, 4),
		};
		at = read_attempts(read, attempts, at, &read->results[i]);
	}
	errand_done(errand, STORE_OK);
}

void begin_read_deliveries(struct errand *errand)
{
	const struct read_deliveries *read = read_of(errand);
	const struct postgres_statement *statements = errand->store->read;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &statements[READ_CALLBACK_OF]);
	postgres_put_uuid(&errand->group, &read->task_id);
	postgres_put_text(&errand->group, read->tenant);
	errand_add(errand, &statements[READ_DELIVERIES]);
	postgres_put_uuid(&errand->group, &read->task_id);
	postgres_put_int8(&errand->group, RUNS_MOST);
	errand_add(errand, &statements[READ_DELIVERY_ATTEMPTS]);
	postgres_put_uuid(&errand->group, &read->task_id);
	postgres_put_int8(&errand->group, RUNS_MOST);
	errand_send(errand, read_answered);
}
