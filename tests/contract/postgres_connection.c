/* io/postgres against a real server: what it does while nothing is wrong. */
#include "base/alloc.h"
#include "base/clock.h"
#include "postgres_server.h"
#include "postgres_world.h"

static const struct postgres_statement select_number = { "select_number", "select $1::int8 + 1", 1 };
static const struct postgres_statement add_row = { "add_row", "insert into rows (id, note) values ($1::int8, $2::text)",
	2 };
static const struct postgres_statement *const usual[] = { &select_number, &add_row, NULL };

static void world_up(struct world *world, const char *conninfo)
{
	world_open(world, conninfo, usual);
	world_start(world);
	REQUIRE(WAIT(world, world->up));
}

static void ask_number(struct asked *asked, struct world *world, size_t number)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, &select_number);
	postgres_put_int8(&asked->group, (int64_t)number);
	asked_submit(asked);
}

static void ask_row(struct asked *asked, struct world *world, size_t number, const char *note)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, &add_row);
	postgres_put_int8(&asked->group, (int64_t)number);
	postgres_put_text(&asked->group, bytes_of(note));
	postgres_group_add(&asked->group, &select_number);
	postgres_put_int8(&asked->group, (int64_t)number);
	asked_submit(asked);
}

static struct postgres_server *server; /* of all tests that leave it as it is */

TEST(server_starts)
{
	server = postgres_server_start("fsync = off\n");
	free(postgres_server_query(server, "create table rows (id int8 primary key, note text)"));
}

TEST(groups_are_answered_in_order)
{
	struct world world;
	enum { COUNT = 2000 };
	struct asked *asked = alloc_array(COUNT, sizeof(*asked));
	world_up(&world, postgres_server_conninfo(server));
	CHECK(postgres_server_version(world.postgres) >= 130000);
	for (size_t i = 0; i < COUNT; i++)
		ask_number(&asked[i], &world, i);
	CHECK_INT(world.answered, 0);
	CHECK_INT(postgres_in_flight(world.postgres), COUNT);
	WAIT(&world, world.answered == COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		CHECK_INT(asked[i].group.outcome, POSTGRES_OK);
		CHECK_INT(asked[i].times, 1);
		CHECK_INT(world.order[i], i);
		if (asked[i].group.results[0])
			CHECK_INT(postgres_get_int(asked[i].group.results[0], 0, 0), i + 1);
		postgres_group_fini(&asked[i].group);
	}
	CHECK_INT(postgres_in_flight(world.postgres), 0);
	world_close(&world);
	free(asked);
}

TEST(an_error_leaves_the_neighbours_alone)
{
	struct world world;
	struct asked asked[4];
	world_up(&world, postgres_server_tcp_conninfo(server));
	ask_row(&asked[0], &world, 1, "first");
	ask_row(&asked[1], &world, 1, "the same key");
	ask_row(&asked[2], &world, 2, NULL);
	ask_number(&asked[3], &world, 3);
	WAIT(&world, world.answered == 4);
	CHECK_INT(asked[0].group.outcome, POSTGRES_OK);
	CHECK_INT(asked[1].group.outcome, POSTGRES_FAILED);
	CHECK_STR(asked[1].group.sqlstate, "23505");
	CHECK(strstr(asked[1].group.err.message, "duplicate key"));
	CHECK_INT(asked[2].group.outcome, POSTGRES_OK);
	CHECK_INT(asked[3].group.outcome, POSTGRES_OK);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		CHECK_INT(world.order[i], asked[i].number == 1 ? 1 : asked[i].number);
		postgres_group_fini(&asked[i].group);
	}
	char *rows = postgres_server_query(server, "select count(*) from rows where id <= 2");
	CHECK_STR(rows, "2");
	free(rows);
	world_close(&world);
}

TEST(what_is_answered_can_be_handed_in_again)
{
	struct world world;
	struct asked asked;
	world_up(&world, postgres_server_conninfo(server));
	ask_number(&asked, &world, 41);
	for (int i = 0; i < 3; i++) {
		WAIT(&world, world.answered == i + 1);
		CHECK_INT(asked.group.outcome, POSTGRES_OK);
		CHECK_INT(postgres_get_int(asked.group.results[0], 0, 0), 42);
		if (i < 2)
			asked_submit(&asked);
	}
	postgres_group_reset(&asked.group);
	postgres_group_add(&asked.group, &select_number);
	postgres_put_int8(&asked.group, 1);
	asked_submit(&asked);
	WAIT(&world, world.answered == 4);
	CHECK_INT(postgres_get_int(asked.group.results[0], 0, 0), 2);
	postgres_group_fini(&asked.group);
	world_close(&world);
}

static struct asked *chain;

static void ask_the_next(struct world *world, size_t number)
{
	if (number < 100)
		ask_number(&chain[number + 1], world, number + 1);
}

TEST(groups_may_be_handed_in_from_an_answer)
{
	struct world world;
	chain = alloc_array(101, sizeof(*chain));
	world_up(&world, postgres_server_conninfo(server));
	world.on_answer = ask_the_next;
	ask_number(&chain[0], &world, 0);
	WAIT(&world, world.answered == 101);
	for (size_t i = 0; i <= 100; i++) {
		CHECK_INT(chain[i].group.outcome, POSTGRES_OK);
		postgres_group_fini(&chain[i].group);
	}
	world_close(&world);
	free(chain);
}

static const struct postgres_statement echo = { "echo", "select $1::text, repeat('x', 100000)", 1 };

/* Both sides have more to say than the sockets hold: who only wrote would wait for ever. */
static void exchange_much(const char *conninfo)
{
	enum { COUNT = 60, SIZE = 500000 };
	static const struct postgres_statement *const statements[] = { &echo, NULL };
	struct world world;
	struct asked *asked = alloc_array(COUNT, sizeof(*asked));
	char *text = alloc(SIZE);
	world_open(&world, conninfo, statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	for (size_t i = 0; i < COUNT; i++) {
		memset(text, 'a' + (int)(i % 26), SIZE);
		asked_init(&asked[i], &world, i);
		postgres_group_add(&asked[i].group, &echo);
		postgres_put_text(&asked[i].group, (struct bytes){ text, SIZE });
		asked_submit(&asked[i]);
	}
	WAIT(&world, world.answered == COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		const PGresult *result = asked[i].group.results[0];
		CHECK_INT(asked[i].group.outcome, POSTGRES_OK);
		memset(text, 'a' + (int)(i % 26), SIZE);
		CHECK(result && bytes_equal(postgres_get_text(result, 0, 0), (struct bytes){ text, SIZE }));
		CHECK(result && postgres_get_text(result, 0, 1).len == 100000);
		postgres_group_fini(&asked[i].group);
	}
	world_close(&world);
	free(text);
	free(asked);
}

TEST(large_rows_pass_both_ways_at_once)
{
	exchange_much(postgres_server_conninfo(server));
	exchange_much(postgres_server_tcp_conninfo(server));
}

TEST(types_make_the_round_trip)
{
	static const struct postgres_statement scalars = { "scalars",
		"select $1::bool, $2::int2, $3::int4, $4::int8, $5::float8, $6::uuid, $7::text, $8::timestamptz, "
		"$9::jsonb, $10::bytea,"
		" $11::json, $12::text, $13::timestamptz, '{\"b\": 1}'::jsonb -> 'b', 'infinity'::timestamptz, "
		"'1970-01-01 00:00:01+00'::timestamptz",
		13 };
	static const struct postgres_statement *const statements[] = { &scalars, NULL };
	struct world world;
	struct asked asked;
	struct uuid_generator generator = { 0 };
	const struct uuid id = uuid_new(&generator);
	const int64_t now = clock_wall_us();
	world_open(&world, postgres_server_conninfo(server), statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	asked_init(&asked, &world, 0);
	struct postgres_group *group = &asked.group;
	postgres_group_add(group, &scalars);
	postgres_put_bool(group, true);
	postgres_put_int2(group, -2);
	postgres_put_int4(group, -40000);
	postgres_put_int8(group, INT64_MIN);
	postgres_put_float8(group, -0.1);
	postgres_put_uuid(group, &id);
	postgres_put_text(group, BYTES_LITERAL("z\xc3\xbcge"));
	postgres_put_time(group, now);
	postgres_put_jsonb(group, BYTES_LITERAL("{\"a\":[1]}"));
	postgres_put_text(group, BYTES_LITERAL("\0\xff\n"));
	postgres_put_text(group, BYTES_LITERAL("[ 1 ]"));
	postgres_put_text(group, BYTES_NONE);
	postgres_put_time(group, 0);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_STR(group->err.message, "");
	REQUIRE(group->outcome == POSTGRES_OK);
	const PGresult *row = group->results[0];
	CHECK(postgres_get_bool(row, 0, 0));
	CHECK_INT(postgres_get_int(row, 0, 1), -2);
	CHECK_INT(postgres_get_int(row, 0, 2), -40000);
	CHECK_INT(postgres_get_int(row, 0, 3), INT64_MIN);
	CHECK(postgres_get_float8(row, 0, 4) == -0.1);
	const struct uuid got = postgres_get_uuid(row, 0, 5);
	CHECK(uuid_compare(&got, &id) == 0);
	CHECK_BYTES(postgres_get_text(row, 0, 6), "z\xc3\xbcge");
	CHECK_INT(postgres_get_time(row, 0, 7), now);
	CHECK_BYTES(postgres_get_text(row, 0, 8), "{\"a\": [1]}");
	CHECK_BYTES(postgres_get_text(row, 0, 9), BYTES_LITERAL("\0\xff\n"));
	CHECK_BYTES(postgres_get_text(row, 0, 10), "[ 1 ]");
	CHECK_BYTES(postgres_get_text(row, 0, 11), BYTES_NONE);
	CHECK(postgres_get_null(row, 0, 11));
	CHECK_INT(postgres_get_time(row, 0, 12), 0);
	CHECK_BYTES(postgres_get_text(row, 0, 13), "1");
	CHECK_INT(postgres_get_time(row, 0, 14), INT64_MAX);
	CHECK_INT(postgres_get_time(row, 0, 15), US_PER_S);
	/* A NULL of any type is nothing. */
	CHECK_INT(postgres_get_int(row, 0, 11), 0);
	CHECK(!postgres_get_bool(row, 0, 11));
	const struct uuid none = postgres_get_uuid(row, 0, 11);
	CHECK(uuid_is_nil(&none));
	postgres_group_fini(group);
	world_close(&world);
}

TEST(arrays_make_the_round_trip)
{
	enum { ROWS = 500 };
	static const struct postgres_statement columns = { "columns",
		"select * from unnest($1::bool[], $2::int2[], $3::int4[], $4::int8[], $5::float8[], $6::uuid[], "
		"$7::text[], $8::timestamptz[],"
		" $9::jsonb[], $10::bytea[], $11::json[]) with ordinality order by ordinality",
		11 };
	static const struct postgres_statement empty = { "empty", "select cardinality($1::text[])", 1 };
	static const struct postgres_statement *const statements[] = { &columns, &empty, NULL };
	static const enum postgres_type types[] = { POSTGRES_BOOL, POSTGRES_INT2, POSTGRES_INT4, POSTGRES_INT8,
		POSTGRES_FLOAT8, POSTGRES_UUID, POSTGRES_TEXT, POSTGRES_TIMESTAMPTZ, POSTGRES_JSONB, POSTGRES_BYTEA,
		POSTGRES_JSON };
	struct world world;
	struct asked asked;
	char text[32];
	world_open(&world, postgres_server_conninfo(server), statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	asked_init(&asked, &world, 0);
	struct postgres_group *group = &asked.group;
	postgres_group_add(group, &columns);
	for (size_t column = 0; column < ARRAY_SIZE(types); column++) {
		struct postgres_array array = postgres_array_begin(group, types[column]);
		for (int i = 0; i < ROWS; i++) {
			struct uuid id = { { 1, (uint8_t)i, (uint8_t)(i >> 8) } };
			snprintf(text, sizeof(text), column >= 8 && column != 9 ? "{\"n\": %d}" : "n%d", i);
			if (i % 10 == 3) {
				postgres_array_null(&array);
				continue;
			}
			switch (types[column]) {
			case POSTGRES_BOOL:
				postgres_array_bool(&array, i % 2);
				break;
			case POSTGRES_INT2:
				postgres_array_int2(&array, (int16_t)-i);
				break;
			case POSTGRES_INT4:
				postgres_array_int4(&array, -i * 1000);
				break;
			case POSTGRES_INT8:
				postgres_array_int8(&array, i * INT64_C(1000000000000));
				break;
			case POSTGRES_FLOAT8:
				postgres_array_float8(&array, i / 3.0);
				break;
			case POSTGRES_UUID:
				postgres_array_uuid(&array, &id);
				break;
			case POSTGRES_TIMESTAMPTZ:
				postgres_array_time(&array, i * US_PER_S + 1);
				break;
			default:
				postgres_array_text(&array, bytes_of(text));
				break;
			}
		}
		postgres_array_end(&array);
	}
	postgres_group_add(group, &empty);
	struct postgres_array none = postgres_array_begin(group, POSTGRES_TEXT);
	postgres_array_end(&none);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_STR(group->err.message, "");
	REQUIRE(group->outcome == POSTGRES_OK);
	const PGresult *rows = group->results[0];
	CHECK_INT(PQntuples(rows), ROWS);
	CHECK_INT(postgres_get_int(group->results[1], 0, 0), 0);
	for (int i = 0; i < PQntuples(rows); i++) {
		struct uuid id = { { 1, (uint8_t)i, (uint8_t)(i >> 8) } };
		if (i % 10 == 3) {
			for (int column = 0; column < (int)ARRAY_SIZE(types); column++)
				CHECK(postgres_get_null(rows, i, column));
			continue;
		}
		const struct uuid got = postgres_get_uuid(rows, i, 5);
		CHECK(postgres_get_bool(rows, i, 0) == i % 2);
		CHECK_INT(postgres_get_int(rows, i, 1), -i);
		CHECK_INT(postgres_get_int(rows, i, 2), -i * 1000);
		CHECK_INT(postgres_get_int(rows, i, 3), i * INT64_C(1000000000000));
		CHECK(postgres_get_float8(rows, i, 4) == i / 3.0);
		CHECK(uuid_compare(&got, &id) == 0);
		snprintf(text, sizeof(text), "n%d", i);
		CHECK_BYTES(postgres_get_text(rows, i, 6), text);
		CHECK_BYTES(postgres_get_text(rows, i, 9), text);
		CHECK_INT(postgres_get_time(rows, i, 7), i * US_PER_S + 1);
		snprintf(text, sizeof(text), "{\"n\": %d}", i);
		CHECK_BYTES(postgres_get_text(rows, i, 8), text);
		CHECK_BYTES(postgres_get_text(rows, i, 10), text);
	}
	postgres_group_fini(group);
	world_close(&world);
}

TEST(an_error_of_the_commit_is_an_error_of_the_group)
{
	static const struct postgres_statement add = { "add_late", "insert into late (id) values ($1::int8)", 1 };
	static const struct postgres_statement *const statements[] = { &add, NULL };
	struct world world;
	struct asked asked[2];
	free(postgres_server_query(
		server, "create table late (id int8, constraint once unique (id) deferrable initially deferred)"));
	world_open(&world, postgres_server_conninfo(server), statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	for (size_t i = 0; i < 2; i++) {
		asked_init(&asked[i], &world, i);
		for (size_t k = 0; k < 2; k++) {
			postgres_group_add(&asked[i].group, &add);
			postgres_put_int8(&asked[i].group, i == 0 ? 7 : (int64_t)k);
		}
		asked_submit(&asked[i]);
	}
	WAIT(&world, world.answered == 2);
	CHECK_INT(asked[0].group.outcome, POSTGRES_FAILED);
	CHECK_STR(asked[0].group.sqlstate, "23505");
	CHECK_INT(asked[1].group.outcome, POSTGRES_OK);
	char *rows = postgres_server_query(server, "select string_agg(id::text, ' ' order by id) from late");
	CHECK_STR(rows, "0 1");
	free(rows);
	for (size_t i = 0; i < 2; i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
}

TEST(what_is_larger_than_postgresql_takes_is_refused)
{
	struct world world;
	struct asked asked;
	world_up(&world, postgres_server_conninfo(server));
	asked_init(&asked, &world, 0);
	postgres_group_add(&asked.group, &add_row);
	asked.group.values.max = 1000; /* for 1 GiB */
	postgres_put_int8(&asked.group, 1);
	struct postgres_array array = postgres_array_begin(&asked.group, POSTGRES_INT8);
	for (int i = 0; i < 1000; i++)
		postgres_array_int8(&array, i);
	postgres_array_end(&array);
	asked_submit(&asked);
	CHECK_INT(world.answered, 0);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_FAILED);
	CHECK_STR(asked.group.sqlstate, "54000");
	postgres_group_fini(&asked.group);
	world_close(&world);
}

TEST(notices_come_from_others_and_oneself)
{
	static const struct postgres_statement tell = { "tell", "select pg_notify($1::text, $2::text)", 2 };
	static const struct postgres_statement *const statements[] = { &tell, NULL };
	struct world world;
	struct asked asked;
	world_open(&world, postgres_server_conninfo(server), statements);
	world.options.setup = "listen first; listen second";
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	free(postgres_server_query(server, "notify second, 'from outside'"));
	WAIT(&world, world.notices == 1);
	CHECK_STR(world.channel, "second");
	CHECK_STR(world.payload, "from outside");
	CHECK(!world.own);
	asked_init(&asked, &world, 0);
	postgres_group_add(&asked.group, &tell);
	postgres_put_text(&asked.group, BYTES_LITERAL("first"));
	postgres_put_text(&asked.group, BYTES_LITERAL("from within"));
	asked_submit(&asked);
	WAIT(&world, world.answered == 1 && world.notices == 2);
	CHECK_STR(world.channel, "first");
	CHECK_STR(world.payload, "from within");
	CHECK(world.own);
	postgres_group_fini(&asked.group);
	world_close(&world);
}

TEST(a_table_altered_under_a_statement_costs_a_reconnect)
{
	static const struct postgres_statement all = { "all_changing", "select * from changing where id = $1::int8",
		1 };
	static const struct postgres_statement *const statements[] = { &all, NULL };
	struct world world;
	struct asked asked;
	free(postgres_server_query(server, "create table changing (id int8); insert into changing values (1)"));
	world_open(&world, postgres_server_conninfo(server), statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	asked_init(&asked, &world, 0);
	postgres_group_add(&asked.group, &all);
	postgres_put_int8(&asked.group, 1);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_OK);
	free(postgres_server_query(server, "alter table changing add note text default 'new'"));
	asked_submit(&asked);
	WAIT(&world, world.answered == 2);
	CHECK_INT(asked.group.outcome, POSTGRES_NOT_SENT);
	WAIT(&world, world.ups == 2);
	asked_submit(&asked);
	WAIT(&world, world.answered == 3);
	CHECK_INT(asked.group.outcome, POSTGRES_OK);
	CHECK(asked.group.results[0] && bytes_is(postgres_get_text(asked.group.results[0], 0, 1), "new"));
	postgres_group_fini(&asked.group);
	world_close(&world);
}

TEST(each_connect_sets_up_and_prepares_anew)
{
	static const struct postgres_statement settings = { "settings",
		"select current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout')", 0 };
	static const struct postgres_statement *const statements[] = { &settings, NULL };
	struct world world;
	struct asked asked;
	world_open(&world, postgres_server_tcp_conninfo(server), statements);
	world.options.setup = POSTGRES_SETUP_KEEPALIVE "listen first";
	world_start(&world);
	for (int round = 1; round <= 3; round++) {
		REQUIRE(WAIT(&world, world.ups == round));
		free(postgres_server_query(server, "notify first"));
		asked_init(&asked, &world, 0);
		postgres_group_add(&asked.group, &settings);
		asked_submit(&asked);
		WAIT(&world, world.notices == round && world.answered == round);
		CHECK_INT(asked.group.outcome, POSTGRES_OK);
		if (asked.group.results[0]) {
			CHECK_BYTES(postgres_get_text(asked.group.results[0], 0, 0), "10");
			CHECK_BYTES(postgres_get_text(asked.group.results[0], 0, 1), "20000");
		}
		postgres_group_fini(&asked.group);
		free(postgres_server_query(server, "select pg_terminate_backend(pid) from pg_stat_activity where "
						   "application_name = 'assay test'"));
		WAIT(&world, world.downs == round);
	}
	world_close(&world);
}

/* === ways in === */

static void check_way_in(const char *conninfo, const char *application)
{
	static const struct postgres_statement name = { "name", "select current_setting('application_name')", 0 };
	static const struct postgres_statement *const statements[] = { &name, NULL };
	struct world world;
	struct asked asked;
	world_open(&world, conninfo, statements);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	asked_init(&asked, &world, 0);
	postgres_group_add(&asked.group, &name);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_OK);
	if (asked.group.results[0])
		CHECK_BYTES(postgres_get_text(asked.group.results[0], 0, 0), application);
	postgres_group_fini(&asked.group);
	world_close(&world);
}

TEST(all_forms_of_conninfo_lead_in)
{
	char conninfo[1024], path[512];
	const char *directory = postgres_server_directory(server);
	const unsigned port = postgres_server_port(server), closed = postgres_server_free_port();
	check_way_in(postgres_server_conninfo(server), "assay test");
	snprintf(conninfo, sizeof(conninfo), "postgresql://assay@localhost:%u/postgres?application_name=mine", port);
	check_way_in(conninfo, "mine");
	snprintf(conninfo, sizeof(conninfo), "postgresql://assay@/postgres?host=%s&port=%u", directory, port);
	check_way_in(conninfo, "assay test");
	snprintf(conninfo, sizeof(conninfo),
		"host=no-such-host.invalid,127.0.0.1,%s,localhost port=%u,%u,%u,%u user=assay dbname=postgres",
		directory, closed, closed, closed, port);
	check_way_in(conninfo, "assay test");
	snprintf(conninfo, sizeof(conninfo),
		"host=some-name.invalid hostaddr=127.0.0.1 port=%u user=assay dbname=postgres", port);
	check_way_in(conninfo, "assay test");
	/* A service file and the environment. */
	snprintf(path, sizeof(path), "%s/services", directory);
	FILE *file = fopen(path, "w");
	REQUIRE(file);
	fprintf(file, "[here]\nhost=localhost\nport=%u\nuser=assay\n", port);
	fclose(file);
	setenv("PGSERVICEFILE", path, 1);
	setenv("PGDATABASE", "postgres", 1);
	check_way_in("service=here", "assay test");
	unsetenv("PGSERVICEFILE");
	unsetenv("PGDATABASE");
}

TEST(what_keeps_it_out_is_told)
{
	static const struct postgres_statement bad = { "bad", "select nonsense from nowhere", 0 };
	static const struct postgres_statement *const statements[] = { &bad, NULL };
	static const struct {
		const char *more, *setup, *message;
		bool fatal, bad;
	} cases[] = {
		{ "user=guarded password=wrong", NULL, "password authentication failed for user \"guarded\"", true,
			false },
		{ "user=guarded", NULL, "no password supplied", true, false },
		{ "dbname=nowhere", NULL, "database \"nowhere\" does not exist", true, false },
		{ "user=nobody_of_that_name", NULL, "does not exist", true, false },
		{ "", "listen x; select nonsense", "column \"nonsense\" does not exist", true, false },
		{ "", NULL, "relation \"nowhere\" does not exist", true, true },
		{ "port=1", NULL, "No such file or directory", false, false },
		{ "host=127.0.0.1 port=1", NULL, "Connection refused", false, false },
		{ "host=no-such-host.invalid", NULL, "no-such-host.invalid: ", false, false },
		{ "nonsense", NULL, "missing \"=\" after \"\"", true, false },
		{ "service=unheard_of", NULL, "unheard_of", false, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct world world;
		struct asked asked;
		char conninfo[512];
		snprintf(conninfo, sizeof(conninfo), "%s %s", postgres_server_conninfo(server), cases[i].more);
		world_open(&world, conninfo, cases[i].bad ? statements : usual);
		world.options.setup = cases[i].setup;
		world_start(&world);
		CHECK_INT(world.downs, 0);
		WAIT(&world, world.downs > 0);
		CHECK_INT(world.fatal, cases[i].fatal);
		if (!CHECK(strstr(world.why_not.message, cases[i].message)))
			printf("# %zu: %s\n", i, world.why_not.message);
		CHECK(!strchr(world.why_not.message, '\n'));
		CHECK(!postgres_is_up(world.postgres));
		ask_number(&asked, &world, 0);
		WAIT(&world, world.answered == 1);
		CHECK_INT(asked.group.outcome, POSTGRES_NOT_SENT);
		CHECK_STR(asked.group.err.message, world.why_not.message);
		postgres_group_fini(&asked.group);
		world_close(&world);
	}
}

TEST(what_kept_it_out_may_be_mended)
{
	static const struct postgres_statement late = { "late_table", "select count(*) from not_there_yet", 0 };
	static const struct postgres_statement *const statements[] = { &late, NULL };
	struct world world;
	world_open(&world, postgres_server_conninfo(server), statements);
	world_start(&world);
	WAIT(&world, world.downs == 1);
	CHECK(world.fatal);
	free(postgres_server_query(server, "create table not_there_yet ()"));
	WAIT(&world, world.up);
	CHECK(!world.fatal);
	world_close(&world);
}

TEST(server_stops)
{
	postgres_server_stop(server);
}

TEST_MAIN()
