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

TEST(server_stops)
{
	postgres_server_stop(server);
}

TEST_MAIN()
