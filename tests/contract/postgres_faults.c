/* io/postgres while things go wrong: servers that die, freeze, refuse and lie, and connections cut where it hurts. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cut_proxy.h"
#include "postgres_server.h"
#include "postgres_world.h"

static const struct postgres_statement add_row = { "add_row",
	"insert into rows (id) values ($1::int8) on conflict do nothing", 1 };
static const struct postgres_statement doze = { "doze", "select pg_sleep($1::float8)", 1 };
static const struct postgres_statement *const usual[] = { &add_row, &doze, NULL };

static struct postgres_server *server;

static void ask_row(struct asked *asked, struct world *world, size_t number)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, &add_row);
	postgres_put_int8(&asked->group, (int64_t)number);
	asked_submit(asked);
}

static void ask_to_doze(struct asked *asked, struct world *world, size_t number, double seconds)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, &doze);
	postgres_put_float8(&asked->group, seconds);
	asked_submit(asked);
}

static void check_rows(const char *expected)
{
	char *rows = postgres_server_query(server, "select string_agg(id::text, ' ' order by id) from rows");
	CHECK_STR(rows, expected);
	free(rows);
	free(postgres_server_query(server, "truncate rows"));
}

/* Waits until the server runs what was asked. */
static void wait_until_dozing(struct world *world)
{
	static const char sql[] = "select count(*) from pg_stat_activity where state = 'active' and query like "
				  "'%pg_sleep($1%' and pid <> pg_backend_pid()";
	for (bool is_dozing = false; !is_dozing && !world->late;) {
		world_deadline(world, WORLD_DEADLINE_MS);
		uv_run(&world->loop, UV_RUN_NOWAIT);
		char *count = postgres_server_query(server, sql);
		is_dozing = strcmp(count, "1") == 0;
		free(count);
	}
	world_deadline(world, 0);
}

static void world_up(struct world *world, const char *conninfo)
{
	world_open(world, conninfo, usual);
	world_start(world);
	REQUIRE(WAIT(world, world->up));
}

TEST(server_starts)
{
	server = postgres_server_start("fsync = off\n");
	free(postgres_server_query(server, "create table rows (id int8 primary key)"));
}

/* === the server dies === */

static void lose_the_server(void (*lose)(struct postgres_server *server), const char *conninfo)
{
	struct world world;
	struct asked asked[5];
	world_up(&world, conninfo);
	ask_row(&asked[0], &world, 0);
	WAIT(&world, world.answered == 1);
	ask_to_doze(&asked[1], &world, 1, 600);
	ask_row(&asked[2], &world, 2);
	wait_until_dozing(&world);
	lose(server);
	WAIT(&world, world.answered == 3 && world.downs >= 1);
	CHECK_INT(asked[0].group.outcome, POSTGRES_OK);
	CHECK_INT(asked[1].group.outcome, POSTGRES_UNKNOWN);
	CHECK_INT(asked[2].group.outcome, POSTGRES_UNKNOWN);
	CHECK(asked[1].group.err.message[0]);
	CHECK_INT(world.order[1], 1);
	CHECK_INT(world.order[2], 2);
	ask_row(&asked[3], &world, 3);
	CHECK_INT(world.answered, 3);
	WAIT(&world, world.answered == 4);
	CHECK_INT(asked[3].group.outcome, POSTGRES_NOT_SENT);
	CHECK_INT(postgres_in_flight(world.postgres), 0);
	postgres_server_restart(server);
	WAIT(&world, world.ups == 2);
	ask_row(&asked[4], &world, 4);
	WAIT(&world, world.answered == 5);
	CHECK_INT(asked[4].group.outcome, POSTGRES_OK);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
	check_rows("0 4");
}

TEST(a_killed_server_leaves_what_was_sent_unknown)
{
	lose_the_server(postgres_server_kill, postgres_server_conninfo(server));
}

TEST(a_server_shut_down_too)
{
	lose_the_server(postgres_server_shut_down, postgres_server_tcp_conninfo(server));
}

TEST(a_killed_backend_is_noticed_while_nothing_is_asked)
{
	struct world world;
	world_up(&world, postgres_server_conninfo(server));
	free(postgres_server_query(server,
		"select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'assay test'"));
	WAIT(&world, world.downs == 1);
	CHECK(!world.fatal);
	WAIT(&world, world.ups == 2);
	world_close(&world);
}

TEST(a_server_that_says_nothing_is_given_up)
{
	struct world world;
	struct asked asked[2];
	world_open(&world, postgres_server_conninfo(server), usual);
	world.options.silence_ms = 400;
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	postgres_server_freeze(server);
	ask_row(&asked[0], &world, 0);
	ask_row(&asked[1], &world, 1);
	WAIT(&world, world.answered == 2);
	CHECK_INT(asked[0].group.outcome, POSTGRES_UNKNOWN);
	CHECK_INT(asked[1].group.outcome, POSTGRES_UNKNOWN);
	CHECK(strstr(asked[0].group.err.message, "has not answered for 400 ms"));
	postgres_server_thaw(server);
	WAIT(&world, world.ups == 2);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
	free(postgres_server_query(server, "truncate rows"));
}

/* More than the sockets and libpq hold, to a server that takes nothing: what is said not to have been sent must not be
 * there later. */
TEST(what_was_not_sent_is_not_there)
{
	enum { COUNT = 200, SIZE = 100000 };
	static const struct postgres_statement add = { "add_large",
		"insert into rows (id) select $1::int8 where length($2::text) > 0", 2 };
	static const struct postgres_statement *const statements[] = { &add, NULL };
	struct world world;
	struct asked *asked = alloc_array(COUNT, sizeof(*asked));
	char *text = alloc(SIZE), sql[128];
	size_t unknown = 0;
	memset(text, 'x', SIZE);
	world_open(&world, postgres_server_tcp_conninfo(server), statements);
	world.options.silence_ms = 400;
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	postgres_server_freeze(server);
	for (size_t i = 0; i < COUNT; i++) {
		asked_init(&asked[i], &world, i);
		postgres_group_add(&asked[i].group, &add);
		postgres_put_int8(&asked[i].group, (int64_t)i);
		postgres_put_text(&asked[i].group, (struct bytes){ text, SIZE });
		asked_submit(&asked[i]);
	}
	WAIT(&world, world.answered == COUNT);
	while (unknown < COUNT && asked[unknown].group.outcome == POSTGRES_UNKNOWN)
		unknown++;
	CHECK(unknown > 0 && unknown < COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		CHECK_INT(asked[i].group.outcome, i < unknown ? POSTGRES_UNKNOWN : POSTGRES_NOT_SENT);
		CHECK_INT(world.order[i], i);
		postgres_group_fini(&asked[i].group);
	}
	postgres_server_thaw(server);
	WAIT(&world, world.ups == 2);
	world_close(&world);
	/* What the old connection had sent is done when its process has gone. */
	for (bool is_there = true; is_there;) {
		char *count = postgres_server_query(
			server, "select count(*) from pg_stat_activity where application_name = 'assay test'");
		is_there = strcmp(count, "0") != 0;
		free(count);
	}
	snprintf(sql, sizeof(sql), "select count(*) from rows where id >= %zu", unknown);
	char *count = postgres_server_query(server, sql);
	CHECK_STR(count, "0");
	free(count);
	free(postgres_server_query(server, "truncate rows"));
	free(text);
	free(asked);
}

TEST(an_idle_connection_is_not_given_up)
{
	struct world world;
	struct asked asked;
	uint64_t begin;
	world_open(&world, postgres_server_conninfo(server), usual);
	world.options.silence_ms = 3000;
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	begin = uv_now(&world.loop);
	WAIT(&world, uv_now(&world.loop) > begin + 7000); /* it is asked twice whether it is there */
	CHECK_INT(world.downs, 0);
	ask_row(&asked, &world, 0);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_OK);
	postgres_group_fini(&asked.group);
	world_close(&world);
	free(postgres_server_query(server, "truncate rows"));
}

/* === servers that are none === */

/* A socket that takes connections, by the kernel, and never says a word. */
static int listen_mutely(uint16_t *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 16) == 0);
	getsockname(fd, (struct sockaddr *)&address, &len);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

TEST(a_mute_host_costs_its_deadline_and_the_next_is_tried)
{
	struct world world;
	char conninfo[256];
	uint16_t port;
	int fd = listen_mutely(&port);
	snprintf(conninfo, sizeof(conninfo),
		"host=127.0.0.1,127.0.0.1 port=%u,%u user=assay dbname=postgres connect_timeout=4", port,
		postgres_server_port(server));
	world_up(&world, conninfo);
	CHECK_INT(world.downs, 0);
	world_close(&world);
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%u user=assay connect_timeout=1", port);
	world_open(&world, conninfo, usual);
	world_start(&world);
	WAIT(&world, world.downs == 1);
	CHECK(!world.fatal);
	CHECK_STR(world.why_not.message, "127.0.0.1: no connection within 1 s");
	world_close(&world);
	close(fd);
}

/* What a server that lets anybody in says first. */
#define HELLO \
	"R\0\0\0\x08\0\0\0\0" \
	"S\0\0\0\x18server_version\0" \
	"15.1\0" \
	"K\0\0\0\x0c\0\0\0\x07\0\0\0\x07" \
	"Z\0\0\0\x05I"
#define READY "Z\0\0\0\x05I"

/* One piece is sent after each time that the client has said something. */
struct script {
	bool stays; /* keeps the connection open afterwards */
	bool gets_up;
	size_t count;
	struct bytes pieces[3];
};

#define SAY_FIRST(stays, up, a) \
	{ \
		stays, up, 1, \
		{ \
			BYTES_LITERAL(a) \
		} \
	}
#define SAY_AFTER_HELLO(stays, up, a) \
	{ \
		stays, up, 2, \
		{ \
			BYTES_LITERAL(HELLO), BYTES_LITERAL(a) \
		} \
	}
#define SAY_WHEN_UP(stays, a) \
	{ \
		stays, true, 3, \
		{ \
			BYTES_LITERAL(HELLO), BYTES_LITERAL(READY), BYTES_LITERAL(a) \
		} \
	}

static void __attribute__((noreturn)) play(int listener, const struct script *script)
{
	char data[65536];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		for (size_t i = 0; i < script->count && read(fd, data, sizeof(data)) > 0; i++)
			if (write(fd, script->pieces[i].data, script->pieces[i].len) < 0 ||
				(i + 1 < script->count && script->pieces[i + 1].len == 0))
				break;
		while (script->stays && read(fd, data, sizeof(data)) > 0)
			continue;
		close(fd);
	}
}

TEST(a_server_that_lies_is_survived)
{
	static const struct script scripts[] = {
		SAY_FIRST(true, false, "garbage from the first byte on\n"),
		SAY_FIRST(false, false, ""),
		/* an unknown way to authenticate; a length that cannot be */
		SAY_FIRST(true, false, "R\0\0\0\x08\0\0\0\x63"),
		SAY_FIRST(true, false, "R\xff\xff\xff\xff\0\0\0\0"),
		SAY_FIRST(false, false, HELLO),
		SAY_AFTER_HELLO(true, false, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
		/* ready twice; the end of a command that nobody gave */
		SAY_AFTER_HELLO(true, true, READY READY),
		SAY_AFTER_HELLO(true, true, "C\0\0\0\x0bSELECT\0" READY),
		SAY_WHEN_UP(false, "1\0\0\0\x04" READY),
		/* no result before the Sync's answer */
		SAY_WHEN_UP(true, READY),
		/* a row of nothing; more columns than were announced; 2 GiB to come */
		SAY_WHEN_UP(true, "D\0\0\0\x0b\0\x01\0\0\0\x01x" READY),
		SAY_WHEN_UP(true, "T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01"
				  "D\0\0\0\x0b\0\x05\0\0\0\x01x" READY),
		SAY_WHEN_UP(false, "D\x7f\xff\xff\xff\0\x01"),
		/* COPY out and both */
		SAY_WHEN_UP(true, "H\0\0\0\x07\0\0\0G\0\0\0\x0b\0\0\0\0\0\0\0" READY),
		SAY_WHEN_UP(true, "W\0\0\0\x07\0\0\0" READY),
		/* two ends of one command */
		SAY_WHEN_UP(true, "2\0\0\0\x04"
				  "C\0\0\0\x0dINSERT 0 1\0"
				  "C\0\0\0\x0dINSERT 0 1\0" READY),
		/* an error that says nothing; a notice of nothing */
		SAY_WHEN_UP(true, "E\0\0\0\x05\0" READY),
		SAY_WHEN_UP(true, "A\0\0\0\x06\0\0"),
	};
	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		struct world world;
		struct asked asked[2];
		char conninfo[256];
		uint16_t port;
		int listener = listen_mutely(&port);
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0)
			play(listener, &scripts[i]);
		close(listener);
		snprintf(conninfo, sizeof(conninfo),
			"host=127.0.0.1 port=%u user=assay sslmode=disable connect_timeout=4", port);
		world_open(&world, conninfo, NULL);
		world.options.silence_ms = 200;
		world_start(&world);
		WAIT(&world, world.up || world.downs);
		if (!CHECK_INT(world.up, scripts[i].gets_up))
			printf("# script %zu: %s\n", i, world.why_not.message);
		if (world.up) {
			ask_row(&asked[0], &world, 0);
			ask_row(&asked[1], &world, 1);
			WAIT(&world, world.answered == 2);
			for (size_t k = 0; k < 2; k++) {
				CHECK_INT(asked[k].times, 1);
				/* An error is an error, whoever says it; but nobody's group is ever done by this. */
				if (!CHECK(asked[k].group.outcome != POSTGRES_OK))
					printf("# script %zu\n", i);
				postgres_group_fini(&asked[k].group);
			}
		}
		world_close(&world);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

/* === stopping === */

TEST(it_stops_in_every_state)
{
	uint16_t port;
	int fd = listen_mutely(&port);
	char mute[256], refused[256];
	snprintf(mute, sizeof(mute), "host=127.0.0.1 port=%u", port);
	snprintf(refused, sizeof(refused), "host=127.0.0.1 port=%u", postgres_server_free_port());
	const char *const conninfos[] = { mute, refused, "host=no-such-host.invalid", postgres_server_conninfo(server),
		postgres_server_tcp_conninfo(server), "nonsense" };
	for (size_t i = 0; i < ARRAY_SIZE(conninfos); i++)
		for (int turns = 0; turns < 12; turns++) {
			struct world world;
			struct asked asked;
			world_open(&world, conninfos[i], usual);
			world_start(&world);
			for (int k = 0; k < turns; k++)
				uv_run(&world.loop, UV_RUN_NOWAIT);
			ask_row(&asked, &world, 0);
			postgres_stop(world.postgres, WORLD_DEADLINE_MS, world_on_stopped, &world);
			CHECK(!world.stopped);
			CHECK_INT(world.answered, 0);
			WAIT(&world, world.stopped);
			CHECK_INT(world.answered, 1);
			CHECK_INT(asked.group.outcome, POSTGRES_NOT_SENT);
			postgres_group_fini(&asked.group);
			world_close(&world);
		}
	close(fd);
	struct world never;
	world_open(&never, mute, usual);
	never.postgres = postgres_new(&never.options);
	never.stopped = true;
	world_close(&never);
}

TEST(stopping_waits_for_answers)
{
	struct world world;
	struct asked asked[3];
	world_up(&world, postgres_server_conninfo(server));
	ask_to_doze(&asked[0], &world, 0, 0.2);
	uv_run(&world.loop, UV_RUN_NOWAIT); /* it is sent */
	ask_row(&asked[1], &world, 1);
	postgres_stop(world.postgres, WORLD_DEADLINE_MS, world_on_stopped, &world);
	ask_row(&asked[2], &world, 2);
	WAIT(&world, world.stopped);
	CHECK_INT(world.answered, 3);
	CHECK_INT(asked[0].group.outcome, POSTGRES_OK);
	CHECK_INT(asked[1].group.outcome, POSTGRES_NOT_SENT);
	CHECK_INT(asked[2].group.outcome, POSTGRES_NOT_SENT);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
}

TEST(stopping_waits_no_longer_than_it_may)
{
	struct world world;
	struct asked asked;
	world_up(&world, postgres_server_conninfo(server));
	ask_to_doze(&asked, &world, 0, 600);
	wait_until_dozing(&world);
	postgres_stop(world.postgres, 50, world_on_stopped, &world);
	WAIT(&world, world.stopped);
	CHECK_INT(asked.group.outcome, POSTGRES_UNKNOWN);
	postgres_group_fini(&asked.group);
	world_close(&world);
	free(postgres_server_query(server, "select pg_terminate_backend(pid) from pg_stat_activity where query like "
					   "'%pg_sleep($1%' and pid <> pg_backend_pid()"));
}

static void stop_at_the_answer(struct world *world, size_t number)
{
	postgres_stop(world->postgres, WORLD_DEADLINE_MS, world_on_stopped, world);
	world->on_answer = NULL;
}

TEST(it_may_be_stopped_from_an_answer)
{
	struct world world;
	struct asked asked[3];
	world_up(&world, postgres_server_conninfo(server));
	world.on_answer = stop_at_the_answer;
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		ask_row(&asked[i], &world, i);
	WAIT(&world, world.stopped);
	CHECK_INT(world.answered, 3);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		CHECK_INT(asked[i].group.outcome, POSTGRES_OK);
		postgres_group_fini(&asked[i].group);
	}
	world_close(&world);
	check_rows("0 1 2");
}

/* === connections cut where it hurts === */

TEST(a_cut_after_the_commit_leaves_the_outcome_unknown_and_the_row_there)
{
	struct world world;
	struct asked asked[4];
	struct cut_proxy *proxy = cut_proxy_start(postgres_server_directory(server), postgres_server_port(server));
	world_up(&world, cut_proxy_conninfo(proxy));
	cut_proxy_arm(proxy, CUT_AFTER_COMMIT, "test", 2);
	for (size_t i = 0; i < 3; i++)
		ask_row(&asked[i], &world, i);
	WAIT(&world, world.answered == 3);
	CHECK(cut_proxy_wait(proxy, 1));
	CHECK_INT(asked[0].group.outcome, POSTGRES_OK);
	CHECK_INT(asked[1].group.outcome, POSTGRES_UNKNOWN);
	CHECK_INT(asked[2].group.outcome, POSTGRES_UNKNOWN);
	WAIT(&world, world.ups == 2);
	for (size_t i = 1; i < 3; i++)
		asked_submit(&asked[i]);
	WAIT(&world, world.answered == 5);
	CHECK_INT(asked[1].group.outcome, POSTGRES_OK);
	if (asked[1].group.results[0])
		CHECK_STR(PQcmdTuples(asked[1].group.results[0]), "0"); /* it had been there */
	CHECK_INT(asked[2].group.outcome, POSTGRES_OK);
	CHECK_INT(cut_proxy_count(proxy), 1);
	for (size_t i = 0; i < 3; i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
	cut_proxy_stop(proxy);
	check_rows("0 1 2");
}

TEST(a_cut_before_the_sync_leaves_the_outcome_unknown_and_no_row)
{
	struct world world;
	struct asked asked[2];
	struct cut_proxy *proxy = cut_proxy_start(postgres_server_directory(server), postgres_server_port(server));
	world_up(&world, cut_proxy_conninfo(proxy));
	cut_proxy_arm(proxy, CUT_BEFORE_SYNC, "another", 1);
	ask_row(&asked[0], &world, 0);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked[0].group.outcome, POSTGRES_OK);
	cut_proxy_arm(proxy, CUT_BEFORE_SYNC, NULL, 1);
	ask_row(&asked[1], &world, 1);
	WAIT(&world, world.answered == 2);
	CHECK(cut_proxy_wait(proxy, 1));
	CHECK_INT(asked[1].group.outcome, POSTGRES_UNKNOWN);
	for (size_t i = 0; i < 2; i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
	cut_proxy_stop(proxy);
	check_rows("0");
}

TEST(a_black_hole_is_noticed_and_left)
{
	struct world world;
	struct asked asked[2];
	struct cut_proxy *proxy = cut_proxy_start(postgres_server_directory(server), postgres_server_port(server));
	world_open(&world, cut_proxy_conninfo(proxy), usual);
	world.options.silence_ms = 200;
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	cut_proxy_arm(proxy, CUT_BLACK_HOLE, NULL, 0);
	ask_row(&asked[0], &world, 0);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked[0].group.outcome, POSTGRES_UNKNOWN);
	cut_proxy_cut_all(proxy);
	cut_proxy_arm(proxy, CUT_REFUSE, NULL, 0);
	int before = world.downs;
	WAIT(&world, world.downs > before || strstr(world.why_not.message, "closed"));
	cut_proxy_arm(proxy, CUT_NOT, NULL, 0);
	WAIT(&world, world.ups == 2);
	postgres_set_silence(world.postgres, 10000);
	ask_row(&asked[1], &world, 1);
	WAIT(&world, world.answered == 2);
	CHECK_INT(asked[1].group.outcome, POSTGRES_OK);
	for (size_t i = 0; i < 2; i++)
		postgres_group_fini(&asked[i].group);
	world_close(&world);
	cut_proxy_stop(proxy);
	free(postgres_server_query(server, "truncate rows"));
}

TEST(a_black_hole_is_noticed_by_who_only_listens)
{
	struct world world;
	struct cut_proxy *proxy = cut_proxy_start(postgres_server_directory(server), postgres_server_port(server));
	world_open(&world, cut_proxy_conninfo(proxy), NULL);
	world.options.silence_ms = 200;
	world.options.setup = "listen something";
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	cut_proxy_arm(proxy, CUT_BLACK_HOLE, NULL, 0);
	WAIT(&world, world.downs == 1);
	CHECK(strstr(world.why_not.message, "has not answered"));
	CHECK_INT(postgres_in_flight(world.postgres), 0);
	cut_proxy_arm(proxy, CUT_NOT, NULL, 0);
	WAIT(&world, world.ups == 2);
	world_close(&world);
	cut_proxy_stop(proxy);
}

/* === connections that end at any byte === */

/* All that a server says to a connection that prepares nothing and asks for one row; the pieces wait for the client as
 * in a script. */
#define ANSWER \
	"2\0\0\0\x04" \
	"T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\x01" \
	"D\0\0\0\x0b\0\x01\0\0\0\x01x" \
	"C\0\0\0\x0dSELECT 1\0" READY

TEST(a_connection_may_end_at_every_byte)
{
	static const struct script whole = SAY_WHEN_UP(false, ANSWER);
	size_t total = 0;
	for (size_t i = 0; i < whole.count; i++)
		total += whole.pieces[i].len;
	for (size_t end = 0; end <= total; end++) {
		struct script cut = whole;
		struct world world;
		struct asked asked;
		char conninfo[256];
		uint16_t port;
		size_t left = end;
		for (size_t i = 0; i < cut.count; i++) {
			cut.pieces[i].len = cut.pieces[i].len < left ? cut.pieces[i].len : left;
			left -= cut.pieces[i].len;
		}
		int listener = listen_mutely(&port);
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0)
			play(listener, &cut);
		close(listener);
		snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%u user=assay sslmode=disable", port);
		world_open(&world, conninfo, NULL);
		world_start(&world);
		WAIT(&world, world.up || world.downs);
		CHECK_INT(world.up, end >= total - (sizeof(ANSWER) - 1));
		ask_row(&asked, &world, 0);
		WAIT(&world, world.answered == 1);
		/* Only the last byte makes it sure. */
		if (!CHECK_INT(asked.group.outcome, end == total     ? POSTGRES_OK
						    : world.ups == 1 ? POSTGRES_UNKNOWN
								     : POSTGRES_NOT_SENT))
			printf("# %zu of %zu bytes: %s\n", end, total, asked.group.err.message);
		postgres_group_fini(&asked.group);
		world_close(&world);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

TEST(server_stops)
{
	postgres_server_stop(server);
}

TEST_MAIN()
