/* Several replicas on one database, and what only PostgreSQL can get wrong: deadlocks, stale statistics, notices. */
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/postgres/row.h"
#include "tests/contract/store_postgres_world.h"

static struct node two;
static struct harness *const h = &one.harness, *const h2 = &two.harness;

static void open_both(void)
{
	open_one();
	node_up(&two, loop, postgres_server_conninfo(server), own_schema);
}

static void close_both(void)
{
	node_close(&one);
	node_close(&two);
}

static size_t claim_some(struct harness *harness, const char *locked_by, int slots, struct uuid *ret_first)
{
	struct claim_lane lane = { BYTES_LITERAL("noop"), slots };
	struct store_claim claim = { .locked_by = bytes_of(locked_by), .lanes = &lane, .lane_count = 1 };
	REQUIRE(do_claim(harness, &claim) == STORE_OK);
	size_t count = claim.count;
	if (count > 0 && ret_first)
		*ret_first = claim.tasks[0].id;
	store_operation_fini(&claim.operation);
	return count;
}

static struct store_heartbeat beat(struct harness *harness, const char *locked_by)
{
	struct store_heartbeat heartbeat = { .locked_by = bytes_of(locked_by), .lease_us = 15 * US_PER_S };
	REQUIRE(do_heartbeat(harness, &heartbeat) == STORE_OK);
	return heartbeat;
}

/* ---- plans ---- */

static char *server_log(void)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/log", postgres_server_directory(server));
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	REQUIRE(fseek(file, 0, SEEK_END) == 0);
	long size = ftell(file);
	char *text = alloc((size_t)size + 1);
	REQUIRE(fseek(file, 0, SEEK_SET) == 0);
	REQUIRE(fread(text, 1, (size_t)size, file) == (size_t)size);
	REQUIRE(fclose(file) == 0);
	return text;
}

/* The plan of the last statement that begins so, up to the next line of the log. */
static char *last_plan(const char *statement)
{
	char *log = server_log(), *at = log, *last = NULL;
	while ((at = strstr(at, statement)))
		last = at++;
	REQUIRE(last);
	char *end = strstr(last, "\n20");
	if (end)
		*end = '\0';
	char *plan = string_copy(last);
	free(log);
	return plan;
}

TEST(claims_after_a_bulk_load_need_no_statistics)
{
	char sql[64];
	struct uuid id;
	open_one();
	/* Statistics that say that there is nothing. */
	snprintf(sql, sizeof(sql), "VACUUM ANALYZE %s.tasks", own_schema);
	free(postgres_server_query(server, sql));
	struct submission s = submission_of(h);
	submit_one(h, &s);
	/* The plans are made, and kept, while the table is all but empty. */
	CHECK_INT(claim_some(h, "me#1", 10, &id), 1);
	struct transition end = { .kind = TRANSITION_END,
		.guard = guard_of(&id, 1, "me#1"),
		.target = TASK_COMPLETED,
		.at_us = clock_wall_us() };
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	struct submission again = s;
	submit_one(h, &again);
	task_of(h, &id);
	query("INSERT INTO tasks (id, status, place, max_attempts, run_attempts, priority, sequence, turn, tenant, "
	      "queue, "
	      "executor, type) SELECT gen_random_uuid(), 'QUEUED', 1, 3, 3, i % 10, 1, i, 't', 'default', 'noop', "
	      "'test' "
	      "FROM generate_series(1, 200000) i");
	for (int i = 0; i < 2; i++) {
		CHECK_INT(claim_some(h, "me#1", 500, NULL), 500);
		char *plan = last_plan("WITH picked AS MATERIALIZED");
		CHECK(strstr(plan, "Index Scan using tasks_due"));
		CHECK(!strstr(plan, "Sort"));
		CHECK(!strstr(plan, "Bitmap"));
		CHECK(!strstr(plan, "Seq Scan"));
		CHECK(!strstr(plan, "Hash Join"));
		if (strstr(plan, "Sort") || strstr(plan, "Bitmap") || strstr(plan, "Seq Scan"))
			printf("# %s\n", plan);
		free(plan);
		/* What settles and reads looks rows up one by one. */
		claim_some(h, "me#1", 1, &id);
		end.guard = guard_of(&id, 1, "me#1");
		struct transition step = {
			.kind = TRANSITION_STEP, .guard = end.guard, .at_us = end.at_us, .event_kind = EVENT_TEST
		};
		CHECK_INT(settle_one(h, &step).status, SETTLE_APPLIED);
		CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
		CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
		task_of(h, &id);
		again = submission_of(h);
		again.id = id;
		submit_one(h, &again);
		static const char *const statements[] = { "WITH changed AS (", "WITH held AS MATERIALIZED",
			"SELECT t.id, t.status, t.run, t.attempt, t.attempts, t.sequence, t.run_after, t.settled_by",
			"SELECT i.number, t.id, t.status", "SELECT i.number, f.*" };
		for (size_t k = 0; k < ARRAY_SIZE(statements); k++) {
			plan = last_plan(statements[k]);
			CHECK(!strstr(plan, "Seq Scan"));
			CHECK(!strstr(plan, "tasks_tenant"));
			CHECK(strstr(plan, "Index Cond: (id = "));
			CHECK(!strstr(plan, "Join Filter: (t"));
			free(plan);
		}
		struct read_events read = { .limit = 10 };
		REQUIRE(do_read_events(h, &read) == STORE_OK);
		store_operation_fini(&read.operation);
		plan = last_plan("WITH publishers AS MATERIALIZED");
		CHECK(strstr(plan, "Index Scan using events_stream"));
		CHECK(!strstr(plan, "Seq Scan on events"));
		free(plan);
		node_close(&one);
		node_up(&one, loop, postgres_server_conninfo(server), own_schema); /* and by sessions that begin now */
	}
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	CHECK(counts.oldest_waiting_at_us > 0);
	store_operation_fini(&counts.operation);
	char *plan = last_plan("SELECT ( WITH RECURSIVE known");
	CHECK(!strstr(plan, "Seq Scan"));
	CHECK(!strstr(plan, "Sort"));
	free(plan);
	node_close(&one);
}

/* ---- several writers ---- */

#define ITEMS 200

struct writer {
	struct store_submit submit;
	struct submission submissions[ITEMS];
	struct submit_item items[ITEMS];
	char keys[ITEMS][2][16];
	bool done;
};

static void on_written(struct store_operation *operation)
{
	((struct writer *)operation->owner)->done = true;
}

/* The same keys in an order of its own; every third by id alone, which both have made alike. */
static void fill(struct writer *w, struct harness *harness, int round, uint32_t seed)
{
	*w = (struct writer){ .done = false };
	for (int i = 0; i < ITEMS; i++) {
		int at = (int)((uint32_t)i * seed % ITEMS);
		struct submission *s = &w->submissions[at];
		*s = submission_of(harness);
		snprintf(w->keys[at][0], sizeof(w->keys[at][0]), "e%d-%d", round, i);
		snprintf(w->keys[at][1], sizeof(w->keys[at][1]), "k%d-%d", round, ITEMS - i);
		if (i % 3 == 0) {
			memset(&s->id, 0, sizeof(s->id));
			s->id.bytes[0] = 1;
			s->id.bytes[6] = 0x70;
			s->id.bytes[13] = (uint8_t)round;
			s->id.bytes[14] = (uint8_t)(i >> 8);
			s->id.bytes[15] = (uint8_t)i;
		} else {
			s->eval_id = bytes_of(w->keys[at][0]);
			s->idempotency_key = i % 3 == 1 ? bytes_of(w->keys[at][1]) : BYTES_NONE;
		}
		w->items[at] = (struct submit_item){ .submission = s, .born_running = i % 2 };
	}
	w->submit = (struct store_submit){ .operation = { .done = on_written, .owner = w },
		.items = w->items,
		.count = ITEMS,
		.locked_by = BYTES_LITERAL("me#1") };
}

TEST(replicas_with_overlapping_keys_do_not_deadlock)
{
	static struct writer a, b;
	open_both();
	int created = 0;
	for (int round = 0; round < 20; round++) {
		fill(&a, h, round, 7);
		fill(&b, h2, round, 33);
		h->store->ops->submit(h->store, &a.submit);
		h2->store->ops->submit(h2->store, &b.submit);
		node_wait(&one, &a.done);
		node_wait(&two, &b.done);
		CHECK_INT(a.submit.operation.outcome, STORE_OK);
		CHECK_INT(b.submit.operation.outcome, STORE_OK);
		for (int i = 0; i < ITEMS && a.submit.results && b.submit.results; i++) {
			enum submit_status status[] = { a.submit.results[i].status, b.submit.results[i].status };
			for (int k = 0; k < 2; k++) {
				bool by_id = !(k ? b : a).submissions[i].eval_id.data;
				created += status[k] == SUBMIT_CREATED && !by_id;
				CHECK(status[k] == SUBMIT_CREATED || (!by_id && status[k] == SUBMIT_EXISTS));
			}
		}
		store_operation_fini(&a.submit.operation);
		store_operation_fini(&b.submit.operation);
	}
	/* Each key was created once, whoever came first. */
	CHECK_INT(created, 20 * (ITEMS - (ITEMS + 2) / 3));
	CHECK_STR(query("SELECT count(*) FROM tasks"), "4000");
	CHECK_STR(query("SELECT sum(size) FROM events"), "4000");
	CHECK_STR(query("SELECT sum(queued + running) FROM tenant_counts"), "4000");
	close_both();
}

TEST(a_value_that_the_database_refuses_fails_its_item_alone)
{
	open_one();
	struct submission s[64];
	struct submit_item items[64];
	for (int i = 0; i < 64; i++) {
		s[i] = submission_of(h);
		items[i] = (struct submit_item){ .submission = &s[i] };
	}
	s[13].params = BYTES_LITERAL("{\"a\":\"\\u0000\"}");
	s[40].params = BYTES_LITERAL("{\"a\":");
	s[63].metadata = BYTES_LITERAL("\xff");
	struct store_submit submit = { .items = items, .count = 64, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	for (int i = 0; i < 64; i++) {
		bool bad = i == 13 || i == 40 || i == 63;
		CHECK_INT(submit.results[i].status, bad ? SUBMIT_INVALID : SUBMIT_CREATED);
		CHECK(!bad || submit.results[i].error[0]);
	}
	CHECK(strstr(submit.results[13].error, "Unicode escape"));
	CHECK(strstr(submit.results[40].error, "json"));
	CHECK(strstr(submit.results[63].error, "byte sequence"));
	store_operation_fini(&submit.operation);
	CHECK_STR(query("SELECT count(*) FROM tasks"), "61");
	/* What the service makes itself of foreign text never stops a settlement. */
	struct submission r = submission_of(h);
	submit_running(h, &r, "me#1");
	struct transition end = { .kind = TRANSITION_END,
		.guard = guard_of(&r.id, 1, "me#1"),
		.target = TASK_COMPLETED,
		.at_us = clock_wall_us(),
		.event_data = BYTES_LITERAL("\"m\":\"a\\u0000b\""),
		.result = BYTES_LITERAL("{\"m\":\"a\\u0000b\\\\u0000\\\\\\u0000\"}") };
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	CHECK(same_json(task_of(h, &r.id).result, "{\"m\":\"a\xef\xbf\xbd"
						  "b\\\\u0000\\\\\xef\xbf\xbd\"}"));
	node_close(&one);
}

/* ---- the oldest that waits ---- */

static int64_t oldest_waiting(void)
{
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	int64_t at_us = counts.oldest_waiting_at_us;
	store_operation_fini(&counts.operation);
	return at_us;
}

/* Executors that are claimed for here, and others around them. */
TEST(the_oldest_waiting_is_found_in_every_queue)
{
	static const char *const executors[] = { "a", "b", "noop", "x", "y", "z" };
	open_one();
	for (size_t i = 0; i < ARRAY_SIZE(executors); i++) {
		struct submission s = submission_of(h);
		s.executor = bytes_of(executors[i]);
		s.priority = 3;
		submit_one(h, &s);
		s = submission_of(h);
		s.executor = bytes_of(executors[i]);
		s.priority = 7;
		submit_one(h, &s);
	}
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(executors); i++) {
			for (int priority = 3; priority <= 7; priority += 4) {
				char sql[256];
				snprintf(sql, sizeof(sql),
					"UPDATE tasks SET queued_at = timestamptz 'epoch' + interval '%d s' WHERE "
					"executor = "
					"'%s' AND priority = %d",
					(int)(1000 - 100 * round - 10 * (int)i - priority), executors[i], priority);
				query(sql);
				CHECK_INT(oldest_waiting(), (1000 - 100 * round - 10 * (int)i - priority) * US_PER_S);
			}
		}
		/* Of some of them there are marks now. */
		struct claim_lane lanes[] = { { BYTES_LITERAL("y"), 0 }, { BYTES_LITERAL("b"), 0 },
			{ BYTES_LITERAL("noop"), 0 } };
		struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = lanes, .lane_count = 3 };
		REQUIRE(do_claim(h, &claim) == STORE_OK);
		CHECK_INT(claim.count, 0);
		store_operation_fini(&claim.operation);
	}
	node_close(&one);
}

static size_t claim_past(const struct bytes *full, size_t full_count, int slots)
{
	struct claim_lane lane = { BYTES_LITERAL("noop"), slots };
	struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"),
		.lanes = &lane,
		.lane_count = 1,
		.tenants_full = full,
		.tenant_full_count = full_count };
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	size_t count = claim.count;
	store_operation_fini(&claim.operation);
	return count;
}

TEST(what_was_passed_over_is_not_walked_over_again)
{
	const struct bytes full[] = { BYTES_LITERAL("full"), BYTES_LITERAL("other") };
	open_one();
	query("INSERT INTO tasks (id, status, place, max_attempts, run_attempts, priority, sequence, turn, tenant, "
	      "queue, executor, type) SELECT gen_random_uuid(), 'QUEUED', 1, 3, 3, 5, 1, i, 'full', 'default', 'noop', "
	      "'test' FROM generate_series(1, 20000) i");
	for (int i = 0; i < 2; i++) {
		CHECK_INT(claim_past(full, 1, 10), 0);
		char *plan = last_plan("WITH picked AS MATERIALIZED"),
		     *removed = strstr(plan, "Rows Removed by Filter: ");
		/* Of ten priorities, on the average. */
		CHECK(removed && atoi(removed + strlen("Rows Removed by Filter: ")) == (i == 0 ? 2000 : 0));
		free(plan);
	}
	/* One that comes in among them is found, with those that pass and those that do not. */
	struct submission s = submission_of(h);
	s.tenant = BYTES_LITERAL("other");
	s.priority = 5;
	s.turn = 100.5;
	submit_one(h, &s);
	CHECK_INT(claim_past(full, 2, 10), 0);
	CHECK_INT(claim_past(full, 1, 10), 1);
	CHECK_INT(claim_past(full, 2, 10), 0);
	CHECK_INT(claim_past(NULL, 0, 10), 10);
	CHECK_INT(claim_past(full + 1, 1, 10), 10);
	node_close(&one);
}

/* ---- notices ---- */

static void hear(struct node *node, bool *flag)
{
	node_wait(node, flag);
	CHECK(*flag);
	*flag = false;
}

TEST(replicas_tell_each_other)
{
	open_both();
	struct store_heartbeat beats[] = { beat(h, "one#1"), beat(h2, "two#1"), beat(h, "one#1") };
	CHECK_INT(beats[0].replica_count, 1);
	CHECK_INT(beats[2].replica_count, 2);
	for (int i = 0; i < 3; i++)
		store_operation_fini(&beats[i].operation);
	h2->store->ops->follow_events(h2->store, true);
	hear(&two, &two.events); /* the answer: there may be some that were not told */
	struct submission s = submission_of(h);
	s.turn = 5;
	submit_one(h, &s);
	hear(&two, &two.works);
	hear(&two, &two.events);
	CHECK(!one.works && !one.events); /* its own are not told */
	struct uuid claimed, running = s.id;
	CHECK_INT(claim_some(h2, "two#1", 1, &claimed), 1);
	CHECK(uuid_compare(&claimed, &running) == 0);
	/* A mark stands at turn 5 now: what comes before it is found by its notice. */
	struct submission early = submission_of(h);
	early.turn = 2;
	submit_one(h, &early);
	hear(&two, &two.works);
	CHECK_INT(claim_some(h2, "two#1", 5, &claimed), 1);
	CHECK(uuid_compare(&claimed, &early.id) == 0);
	struct store_command command = {
		.kind = COMMAND_CANCEL, .ids = &running, .count = 1, .at_us = clock_wall_us()
	};
	REQUIRE(do_command(h, &command) == STORE_OK);
	CHECK_INT(command.results[0].status, COMMAND_REQUESTED);
	CHECK_BYTES(command.results[0].locked_by, "two#1");
	store_operation_fini(&command.operation);
	hear(&two, &two.cancels);
	CHECK(uuid_compare(&two.about, &running) == 0);
	/* Output is told only of tasks that somebody asked for. */
	h->store->ops->follow_output(h->store, &running);
	hear(&two, &two.outputs_wanted);
	CHECK(uuid_compare(&two.about, &running) == 0);
	struct output_chunk chunk = { running, 1, 1, 0, 0, BYTES_LITERAL("out") };
	struct store_settle settle = { .chunks = &chunk, .chunk_count = 1 };
	REQUIRE(do_settle(h2, &settle) == STORE_OK);
	store_operation_fini(&settle.operation);
	hear(&one, &one.outputs);
	CHECK(uuid_compare(&one.about, &running) == 0);
	struct transition end = { .kind = TRANSITION_END,
		.guard = guard_of(&running, 1, "two#1"),
		.target = TASK_CANCELLED,
		.at_us = clock_wall_us() };
	CHECK_INT(settle_one(h2, &end).status, SETTLE_APPLIED);
	command = (struct store_command){ .kind = COMMAND_RUN, .ids = &running, .count = 1, .at_us = clock_wall_us() };
	REQUIRE(do_command(h, &command) == STORE_OK);
	store_operation_fini(&command.operation);
	hear(&two, &two.reopens);
	CHECK(uuid_compare(&two.about, &running) == 0);
	/* Of what was told while nobody could hear, anything may have been. */
	two.works = two.events = two.reopens = false;
	query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'assay listen'");
	hear(&two, &two.works);
	hear(&two, &two.events);
	hear(&two, &two.reopens);
	CHECK(uuid_is_nil(&two.about));
	close_both();
}

TEST(turns_are_told_by_heartbeats)
{
	open_both();
	const struct fair_turn turns[] = {
		{ .executor = BYTES_LITERAL("noop"), .tenant = BYTES_LITERAL("t"), .priority = 5, .turn = 7 },
		{ .executor = BYTES_LITERAL("noop"), .priority = 5, .turn = 3 },
		{ .executor = BYTES_LITERAL("noop"), .tenant = BYTES_LITERAL("t"), .priority = 5, .turn = 9 },
	};
	struct store_heartbeat first = beat(h2, "two#1");
	CHECK_INT(first.latest_count, 0);
	store_operation_fini(&first.operation);
	struct store_heartbeat told = {
		.locked_by = BYTES_LITERAL("one#1"), .lease_us = 15 * US_PER_S, .turns = turns, .turn_count = 3
	};
	REQUIRE(do_heartbeat(h, &told) == STORE_OK);
	store_operation_fini(&told.operation);
	struct store_heartbeat heard = beat(h2, "two#1");
	CHECK_INT(heard.latest_count, 2);
	for (size_t i = 0; i < heard.latest_count; i++) {
		CHECK_BYTES(heard.latest[i].executor, "noop");
		CHECK_INT(heard.latest[i].priority, 5);
		CHECK(heard.latest[i].turn == (heard.latest[i].tenant.data ? 9 : 3));
	}
	store_operation_fini(&heard.operation);
	/* A lesser one changes nothing; a new incarnation hears all. */
	struct fair_turn less = turns[0];
	told = (struct store_heartbeat){
		.locked_by = BYTES_LITERAL("two#1"), .lease_us = 15 * US_PER_S, .turns = &less, .turn_count = 1
	};
	REQUIRE(do_heartbeat(h2, &told) == STORE_OK);
	store_operation_fini(&told.operation);
	heard = beat(h2, "two#2");
	CHECK_INT(heard.latest_count, 2);
	store_operation_fini(&heard.operation);
	close_both();
}

/* ---- what all have published ---- */

static struct cursor place(uint8_t number)
{
	return (struct cursor){ .length = 2, .bytes = { 7, number } };
}

#define PLACE_SIZE 19 /* of a cursor that the store has made */

/* The last byte of the frontier that its answer brings; 0: it is where somebody began; -1: it is not known. */
static int frontier_of(struct harness *harness, const char *locked_by, int published, const char *told)
{
	const struct bytes names[] = { bytes_of(told) };
	struct store_heartbeat heartbeat = { .locked_by = bytes_of(locked_by),
		.lease_us = 15 * US_PER_S,
		.published = published ? place((uint8_t)published) : (struct cursor){ 0 },
		.told = names,
		.told_count = told != NULL };
	REQUIRE(do_heartbeat(harness, &heartbeat) == STORE_OK);
	CHECK(heartbeat.alive);
	CHECK(heartbeat.horizon.length > 0);
	CHECK(heartbeat.frontier.length == 2 || heartbeat.frontier.length == PLACE_SIZE);
	int least = heartbeat.frontier.length == 2 ? heartbeat.frontier.bytes[1] : heartbeat.frontier.length ? 0 : -1;
	store_operation_fini(&heartbeat.operation);
	return least;
}

/* Whom a take names, "" if nobody: one at most. */
static const char *found_dead(struct harness *harness, const char *locked_by, int *ret_published)
{
	static char name[32];
	struct store_take take = {
		.kind = TAKE_DEAD, .locked_by = bytes_of(locked_by), .lease_us = 15 * US_PER_S, .limit = 10
	};
	REQUIRE(do_take(harness, &take) == STORE_OK);
	CHECK(take.dead_count <= 1);
	name[0] = '\0';
	*ret_published = 0;
	if (take.dead_count > 0) {
		snprintf(name, sizeof(name), "%.*s", (int)take.dead[0].len, take.dead[0].data);
		*ret_published = take.watermarks[0].length ? take.watermarks[0].bytes[1] : -1;
	}
	store_operation_fini(&take.operation);
	return name;
}

TEST(the_frontier_is_the_least_that_anyone_has_published)
{
	int published;
	open_both();
	CHECK_INT(frontier_of(h, "one#1", 0, NULL), 0);
	CHECK_INT(frontier_of(h, "one#1", 5, NULL), 5);
	CHECK_INT(frontier_of(h2, "two#1", 0, NULL), 0);
	CHECK_INT(frontier_of(h, "one#1", 5, NULL), 0);
	CHECK_INT(frontier_of(h2, "two#1", 3, NULL), 3);
	CHECK_INT(frontier_of(h, "one#1", 6, NULL), 3);
	/* The dead hold it until others have what they had not published. */
	query("UPDATE replicas SET heartbeat_at = now() - interval '1 hour' WHERE incarnation = 'two#1'");
	CHECK_STR(found_dead(h, "one#1", &published), "two#1");
	CHECK_INT(published, 3);
	CHECK_STR(found_dead(h, "one#1", &published), "");
	CHECK_INT(frontier_of(h, "one#1", 7, NULL), 3);
	/* Who found it dies as well: another takes over both. */
	query("UPDATE replicas SET heartbeat_at = now() - interval '1 hour' WHERE incarnation = 'one#1'");
	CHECK_INT(frontier_of(h2, "two#2", 9, NULL), 3);
	CHECK_STR(found_dead(h2, "two#2", &published), "one#1");
	CHECK_INT(published, 7);
	CHECK_STR(found_dead(h2, "two#2", &published), "two#1");
	CHECK_INT(published, 3);
	CHECK_STR(found_dead(h2, "two#2", &published), "");
	CHECK_INT(frontier_of(h2, "two#2", 9, "one#1"), 3);
	CHECK_INT(frontier_of(h2, "two#2", 9, "two#1"), 9);
	/* Of one that lives nobody can say so. */
	CHECK_INT(frontier_of(h, "one#2", 4, "two#2"), 4);
	CHECK_INT(frontier_of(h, "one#2", 10, NULL), 9);
	close_both();
}

TEST(heartbeats_fold_the_counts)
{
	open_one();
	for (int i = 0; i < 10; i++) {
		struct submission s = submission_of(h);
		s.tenant = bytes_of(i % 2 ? "t" : "u");
		submit_one(h, &s);
	}
	CHECK_STR(query("SELECT count(*) FROM tenant_counts"), "10");
	struct store_heartbeat heartbeat = beat(h, "me#1");
	store_operation_fini(&heartbeat.operation);
	/* It is done behind the heartbeat, and before what is asked for after that. */
	struct store_trim trim = { .finished_before_us = 1 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	store_operation_fini(&trim.operation);
	CHECK_STR(query("SELECT count(*) || ' ' || sum(queued) FROM tenant_counts"), "2 10");
	node_close(&one);
}

TEST(the_last_task_of_a_batch_takes_the_list_of_them_along)
{
	open_one();
	struct submission submissions[3];
	struct submit_item items[2];
	struct uuid batch = uuid_new(&h->ids);
	for (int i = 0; i < 3; i++) {
		submissions[i] = submission_of(h);
		submissions[i].batch_id = batch;
		if (i < 2)
			items[i] = (struct submit_item){ .submission = &submissions[i] };
	}
	struct store_submit submit = { .items = items, .count = 2, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	store_operation_fini(&submit.operation);
	submit_one(h, &submissions[2]);
	struct uuid ids[3];
	REQUIRE(claim_ids(h, 3, ids) == 3);
	static const struct {
		int ends;
		const char *lists;
	} steps[] = { { 0, "2" }, { 2, "1" }, { 1, "0" } };
	for (int i = 0; i < 3; i++) {
		struct transition end = { .kind = TRANSITION_END,
			.guard = guard_of(&submissions[steps[i].ends].id, 1, "me#1"),
			.target = TASK_COMPLETED,
			.at_us = 1000 };
		CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
		struct store_trim trim = { .finished_before_us = 5000, .limit = 10 };
		REQUIRE(do_trim(h, &trim) == STORE_OK);
		CHECK_INT(trim.deleted, 1);
		store_operation_fini(&trim.operation);
		CHECK_STR(query("SELECT count(*) FROM batches"), steps[i].lists);
	}
	node_close(&one);
}

TEST(one_replica_trims_at_a_time)
{
	char sql[80];
	open_one();
	struct submission s = submission_of(h);
	struct uuid id = submit_running(h, &s, "me#1");
	struct transition end = {
		.kind = TRANSITION_END, .guard = guard_of(&id, 1, "me#1"), .target = TASK_COMPLETED, .at_us = 1000
	};
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	PGconn *other = PQconnectdb(postgres_server_conninfo(server));
	snprintf(sql, sizeof(sql), "SELECT pg_advisory_lock(%" PRId64 ")", row_hash(bytes_of(own_schema)) ^ 2);
	PQclear(PQexec(other, sql));
	for (int i = 0; i < 2; i++) {
		struct store_trim trim = { .finished_before_us = 5000, .limit = 10 };
		REQUIRE(do_trim(h, &trim) == STORE_OK);
		CHECK_INT(trim.deleted, i);
		CHECK(!trim.more);
		store_operation_fini(&trim.operation);
		PQclear(PQexec(other, "SELECT pg_advisory_unlock_all()"));
	}
	PQfinish(other);
	node_close(&one);
}

TEST(rows_of_full_tenants_are_passed_over)
{
	open_one();
	struct uuid ids[6];
	for (int i = 0; i < 6; i++) {
		struct submission s = submission_of(h);
		s.tenant = bytes_of(i < 4 ? "full" : "t");
		s.turn = i;
		ids[i] = submit_one(h, &s);
	}
	const struct bytes full = BYTES_LITERAL("full");
	struct claim_lane lane = { BYTES_LITERAL("noop"), 10 };
	struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"),
		.lanes = &lane,
		.lane_count = 1,
		.tenants_full = &full,
		.tenant_full_count = 1 };
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	REQUIRE(claim.count == 2);
	CHECK(uuid_compare(&claim.tasks[0].id, &ids[4]) == 0);
	CHECK(claim.exhausted[0]);
	store_operation_fini(&claim.operation);
	/* They were not passed for good. */
	struct uuid first;
	CHECK_INT(claim_some(h, "me#1", 10, &first), 4);
	CHECK(uuid_compare(&first, &ids[0]) == 0);
	node_close(&one);
}

STORE_POSTGRES_MAIN("fsync = off\nautovacuum = off\nsession_preload_libraries = 'auto_explain'\n"
		    "auto_explain.log_min_duration = 0\nauto_explain.log_analyze = on\nlog_min_messages = log\n")
