/* io/postgres behind PgBouncer in transaction mode, each transaction on whichever connection of the server is free: the
 * release of Debian 12 knows nothing of prepared statements. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "postgres_server.h"
#include "postgres_world.h"

#define PGBOUNCER "/usr/sbin/pgbouncer"

static const struct postgres_statement add_row = { "add_row", "insert into rows (id) values ($1::int8)", 1 };
static const struct postgres_statement count_rows = { "count_rows", "select count(*) from rows where id <= $1::int8",
	1 };
static const struct postgres_statement doze = { "doze", "select pg_sleep($1::float8)", 1 };
static const struct postgres_statement *const usual[] = { &add_row, &count_rows, &doze, NULL };

static struct postgres_server *server;
static char *directory;
static char conninfo[512];
static pid_t pooler;

/* From 1.21 on it can be told to know nothing of prepared statements; before it cannot, and does not. */
static bool knows_prepared_statements(void)
{
	FILE *pipe = popen(PGBOUNCER " --version", "r");
	int major = 0, minor = 0;
	REQUIRE(pipe && fscanf(pipe, "PgBouncer %d.%d", &major, &minor) == 2);
	pclose(pipe);
	return major > 1 || minor >= 21;
}

static void write_settings(void)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/pgbouncer.ini", directory);
	FILE *file = fopen(path, "w");
	REQUIRE(file);
	fprintf(file,
		"[databases]\npostgres = host=%s port=%u user=assay\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
		"unix_socket_dir = %s\nunix_socket_mode = 0777\nauth_type = any\npool_mode = "
		"transaction\ndefault_pool_size = 4\n"
		"server_round_robin = 1\nmax_client_conn = 50\n%s",
		postgres_server_directory(server), postgres_server_port(server), directory,
		knows_prepared_statements() ? "max_prepared_statements = 0\n" : "");
	REQUIRE(fclose(file) == 0);
	snprintf(conninfo, sizeof(conninfo), "host=%s port=6432 user=assay dbname=postgres", directory);
}

TEST(servers_start)
{
	const char *const arguments[] = { PGBOUNCER, "pgbouncer.ini", NULL };
	server = postgres_server_start("fsync = off\n");
	free(postgres_server_query(server, "create table rows (id int8 primary key)"));
	directory = postgres_server_make_directory();
	write_settings();
	pooler = postgres_server_spawn(directory, "log", arguments);
}

static void world_up(struct world *world)
{
	world_open(world, conninfo, usual);
	world_start(world); /* the pooler may still be starting: it is tried until it is there */
	REQUIRE(WAIT(world, world->up));
}

static void ask(struct asked *asked, struct world *world, size_t number, const struct postgres_statement *statement)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, statement);
}

/* What was prepared is known to the one connection of the server that the pooler had then, which another client now
 * keeps for itself. */
TEST(a_group_refused_for_its_name_is_done_again)
{
	struct world world;
	struct asked asked[3];
	world_up(&world);
	PGconn *other = PQconnectdb(conninfo);
	PQclear(PQexec(other, "begin"));
	REQUIRE(PQtransactionStatus(other) == PQTRANS_INTRANS);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		ask(&asked[i], &world, i, &add_row);
		postgres_put_int8(&asked[i].group, 1000 + (int64_t)i);
		postgres_group_add(&asked[i].group, &count_rows);
		postgres_put_int8(&asked[i].group, 10000);
		asked_submit(&asked[i]);
	}
	WAIT(&world, world.answered == 3);
	PQfinish(other);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		CHECK_INT(asked[i].times, 1);
		if (!CHECK_INT(asked[i].group.outcome, POSTGRES_OK))
			printf("# %s %s\n", asked[i].group.sqlstate, asked[i].group.err.message);
		CHECK(!asked[i].group.sent_named);
		CHECK_INT(world.order[i], i);
		postgres_group_fini(&asked[i].group);
	}
	CHECK_INT(world.ups, 1);
	world_close(&world);
	free(postgres_server_query(server, "truncate rows"));
}

/* Two connections of ours over four of the pooler's: what one prepared the other does not find, or finds twice. */
TEST(groups_are_done_once_on_any_connection_of_the_pool)
{
	enum { COUNT = 300 };
	struct world worlds[2];
	struct asked *asked = alloc_array(COUNT, sizeof(*asked));
	struct asked dozing[2];
	for (size_t i = 0; i < ARRAY_SIZE(worlds); i++) {
		world_up(&worlds[i]);
		/* Keeps one of the pool's connections busy, so that the others get something to do. */
		ask(&dozing[i], &worlds[i], 0, &doze);
		postgres_put_float8(&dozing[i].group, 0.05);
		asked_submit(&dozing[i]);
		WAIT(&worlds[i], worlds[i].answered == 1);
		CHECK_INT(dozing[i].group.outcome, POSTGRES_OK);
		postgres_group_fini(&dozing[i].group);
	}
	for (size_t i = 0; i < COUNT; i++) {
		ask(&asked[i], &worlds[i % 2], i, &add_row);
		postgres_put_int8(&asked[i].group, (int64_t)i);
		postgres_group_add(&asked[i].group, &count_rows);
		postgres_put_int8(&asked[i].group, 1000);
		asked_submit(&asked[i]);
		if (i % 7 == 0)
			for (size_t k = 0; k < 2; k++)
				uv_run(&worlds[k].loop, UV_RUN_NOWAIT);
	}
	for (size_t k = 0; k < 2; k++)
		WAIT(&worlds[k], worlds[k].answered == 1 + COUNT / 2);
	for (size_t i = 0; i < COUNT; i++) {
		CHECK_INT(asked[i].times, 1);
		if (!CHECK_INT(asked[i].group.outcome, POSTGRES_OK))
			printf("# %s %s\n", asked[i].group.sqlstate, asked[i].group.err.message);
		postgres_group_fini(&asked[i].group);
	}
	char *count = postgres_server_query(server, "select count(*) from rows");
	CHECK_STR(count, "300");
	free(count);
	for (size_t k = 0; k < 2; k++) {
		CHECK_INT(worlds[k].ups, 1);
		world_close(&worlds[k]);
	}
	free(asked);
}

TEST(an_error_is_still_an_error)
{
	struct world world;
	struct asked asked;
	world_up(&world);
	ask(&asked, &world, 0, &add_row);
	postgres_put_int8(&asked.group, 1);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_FAILED);
	CHECK_STR(asked.group.sqlstate, "23505");
	postgres_group_fini(&asked.group);
	world_close(&world);
}

TEST(a_pooler_that_goes_away_is_come_back_to)
{
	const char *const arguments[] = { PGBOUNCER, "pgbouncer.ini", NULL };
	struct world world;
	world_up(&world);
	kill(pooler, SIGKILL);
	waitpid(pooler, NULL, 0);
	WAIT(&world, world.downs >= 1);
	pooler = postgres_server_spawn(directory, "log", arguments);
	WAIT(&world, world.ups == 2);
	world_close(&world);
}

TEST(servers_stop)
{
	kill(pooler, SIGKILL);
	waitpid(pooler, NULL, 0);
	postgres_server_stop(server);
	postgres_server_remove_directory(directory);
	free(directory);
}

TEST_MAIN()
