/* The PostgreSQL store against the contract of stores: each test has a schema of its own on one server, behind a proxy
 * that cuts connections between a commit and its answer. The clock is the server's: the search path of the store's
 * connections leads it to functions of the test's own.
 *
 * With ASSAY_TEST_POOLER set, PgBouncer in transaction mode stands between proxy and server; the clock is the real one
 * then. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "store/postgres/postgres_store.h"
#include "tests/contract/cut_proxy.h"
#include "tests/contract/postgres_server.h"
#include "tests/contract/store_harness.h"
#include "tests/contract/store_suite.h"

#define POOLER "/usr/sbin/pgbouncer"
#define POOLER_PORT 6432

static struct {
	struct postgres_server *server;
	struct cut_proxy *proxy;
	int number;
	const char *clock; /* words for the conninfo */
	char *pooler; /* directory of PgBouncer; owned */
	pid_t pooler_pid;
	struct log log;
} world;

static void run(const char *sql)
{
	free(postgres_server_query(world.server, sql));
}

static struct store *open_store(struct store_suite_fixture *fixture, bool empty)
{
	char url[512], listen_url[512], schema[32];
	world.number += empty;
	snprintf(schema, sizeof(schema), "assay_%d", world.number);
	snprintf(url, sizeof(url), "%s%s", cut_proxy_conninfo(world.proxy), world.clock);
	snprintf(listen_url, sizeof(listen_url), "%s%s", postgres_server_conninfo(world.server), world.clock);
	struct postgres_store_options options = {
		.loop = fixture->loop,
		.log = &world.log,
		.url = url,
		.listen_url = listen_url,
		.schema = schema,
	};
	return postgres_store_new(&options);
}

static void cut(struct store_suite_fixture *fixture, enum store_suite_cut when)
{
	cut_proxy_arm(world.proxy, when == SUITE_CUT_BEFORE_COMMIT ? CUT_BEFORE_SYNC : CUT_AFTER_COMMIT, NULL, 1);
}

static int64_t now_us(struct store_suite_fixture *fixture)
{
	char *text =
		postgres_server_query(world.server, "SELECT (extract(epoch FROM fake.now()) * 1000000)::bigint::text");
	int64_t us = strtoll(text, NULL, 10);
	free(text);
	return us;
}

static void advance(struct store_suite_fixture *fixture, int64_t us)
{
	char sql[128];
	snprintf(sql, sizeof(sql), "UPDATE fake.clock SET ahead = ahead + %" PRId64 " * interval '1 microsecond'", us);
	run(sql);
}

static void start_clock(void)
{
	world.clock = " options='-c search_path=fake,pg_catalog'";
	run("CREATE SCHEMA fake");
	run("CREATE TABLE fake.clock AS SELECT interval '0' AS ahead");
	run("CREATE FUNCTION fake.now() RETURNS timestamptz LANGUAGE sql STABLE AS "
	    "'SELECT pg_catalog.now() + ahead FROM fake.clock'");
	run("CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
	    "'SELECT pg_catalog.clock_timestamp() + ahead FROM fake.clock'");
}

static void start_pooler(void)
{
	static const char *const arguments[] = { POOLER, "pgbouncer.ini", NULL };
	char path[512];
	world.clock = "";
	world.pooler = postgres_server_make_directory();
	snprintf(path, sizeof(path), "%s/pgbouncer.ini", world.pooler);
	FILE *file = fopen(path, "w");
	if (!file) {
		printf("Bail out! no settings for the pooler\n");
		exit(1);
	}
	fprintf(file,
		"[databases]\npostgres = host=%s port=%u user=assay\n[pgbouncer]\nlisten_addr =\nlisten_port = %d\n"
		"unix_socket_dir = %s\nunix_socket_mode = 0777\nauth_type = any\npool_mode = transaction\n"
		"default_pool_size = 3\nserver_round_robin = 1\n",
		postgres_server_directory(world.server), postgres_server_port(world.server), POOLER_PORT, world.pooler);
	fclose(file);
	world.pooler_pid = postgres_server_spawn(world.pooler, "log", arguments);
}

static void stop_pooler(void)
{
	if (!world.pooler)
		return;
	kill(world.pooler_pid, SIGKILL);
	waitpid(world.pooler_pid, NULL, 0);
	postgres_server_remove_directory(world.pooler);
	free(world.pooler);
}

int main(int argc, char **argv)
{
	struct store_suite_fixture fixture = {
		.loop = uv_default_loop(),
		.open = open_store,
		.cut = cut,
		.now_us = now_us,
		.advance = advance,
		.reconnects = true,
	};
	if (!postgres_server_programs() || (getenv("ASSAY_TEST_POOLER") && access(POOLER, X_OK) < 0)) {
		printf("1..0 # SKIP there is no PostgreSQL server, or no pooler, here\n");
		return 0;
	}
	world.log = (struct log){ .fd = STDERR_FILENO, .level = LOG_ERROR };
	world.server = postgres_server_start("fsync = off\n");
	if (getenv("ASSAY_TEST_POOLER")) {
		start_pooler();
		fixture.now_us = NULL;
		fixture.advance = NULL;
	} else {
		start_clock();
	}
	world.proxy = world.pooler ? cut_proxy_start(world.pooler, POOLER_PORT)
				   : cut_proxy_start(postgres_server_directory(world.server),
					     postgres_server_port(world.server));
	int failed = store_suite_run(argc, argv, &fixture);
	cut_proxy_stop(world.proxy);
	stop_pooler();
	postgres_server_stop(world.server);
	uv_loop_close(fixture.loop);
	return failed;
}
