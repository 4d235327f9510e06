/* io/postgres over TLS, with certificates made for the occasion by the openssl program. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "postgres_server.h"
#include "postgres_world.h"

static const struct postgres_statement echo = { "echo", "select $1::text, repeat('y', 1000000)", 1 };
static const struct postgres_statement rows_of_9k = { "rows_of_9k",
	"select repeat('z', 9000) from generate_series(1, $1::int8)", 1 };
static const struct postgres_statement is_encrypted = { "is_encrypted",
	"select ssl from pg_stat_ssl where pid = pg_backend_pid()", 0 };
static const struct postgres_statement *const usual[] = { &echo, &rows_of_9k, &is_encrypted, NULL };

static struct postgres_server *server;
static char *directory; /* of the certificate */
static char conninfo[512];

static void make_certificate(void)
{
	const char *const arguments[] = { "/usr/bin/openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-newkey",
		"ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost", "-addext",
		"subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem", NULL };
	int status = -1;
	pid_t pid = postgres_server_spawn(directory, "log", arguments);
	waitpid(pid, &status, 0);
	REQUIRE(status == 0);
}

TEST(server_starts)
{
	char settings[1024];
	directory = postgres_server_make_directory();
	make_certificate();
	snprintf(settings, sizeof(settings),
		"fsync = off\nssl = on\nssl_cert_file = '%s/certificate.pem'\nssl_key_file = '%s/key.pem'\n", directory,
		directory);
	server = postgres_server_start(settings);
	snprintf(conninfo, sizeof(conninfo),
		"host=localhost port=%u user=assay dbname=postgres sslmode=verify-full sslrootcert=%s/certificate.pem",
		postgres_server_port(server), directory);
}

static void ask(struct asked *asked, struct world *world, size_t number, const struct postgres_statement *statement)
{
	asked_init(asked, world, number);
	postgres_group_add(&asked->group, statement);
}

TEST(it_is_encrypted_and_the_host_is_verified)
{
	struct world world;
	struct asked asked;
	world_open(&world, conninfo, usual);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	ask(&asked, &world, 0, &is_encrypted);
	asked_submit(&asked);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_OK);
	CHECK(asked.group.results[0] && postgres_get_bool(asked.group.results[0], 0, 0));
	postgres_group_fini(&asked.group);
	world_close(&world);
}

/* Rows larger than what libpq reads at once, both ways, many at a time. */
TEST(large_rows_pass_both_ways_at_once)
{
	enum { COUNT = 40, SIZE = 1000000 };
	struct world world;
	struct asked *asked = alloc_array(COUNT, sizeof(*asked));
	char *text = alloc(SIZE);
	memset(text, 'x', SIZE);
	world_open(&world, conninfo, usual);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	for (size_t i = 0; i < COUNT; i++) {
		ask(&asked[i], &world, i, &echo);
		postgres_put_text(&asked[i].group, (struct bytes){ text, SIZE });
		asked_submit(&asked[i]);
	}
	WAIT(&world, world.answered == COUNT);
	for (size_t i = 0; i < COUNT; i++) {
		const PGresult *result = asked[i].group.results[0];
		CHECK_INT(asked[i].group.outcome, POSTGRES_OK);
		CHECK(result && bytes_equal(postgres_get_text(result, 0, 0), (struct bytes){ text, SIZE }));
		CHECK(result && postgres_get_text(result, 0, 1).len == 1000000);
		postgres_group_fini(&asked[i].group);
	}
	world_close(&world);
	free(text);
	free(asked);
}

/* One answer at a time, of every size around those of records and of libpq's buffer: bytes that OpenSSL has decrypted and libpq has not asked for
 * are told of by nobody, and the answer would never come. */
TEST(no_answer_stays_in_the_buffers)
{
	struct world world;
	struct asked asked;
	world_open(&world, conninfo, usual);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	for (int count = 1; count <= 120; count++) {
		int before = world.answered;
		ask(&asked, &world, 0, &rows_of_9k);
		postgres_put_int8(&asked.group, count);
		asked_submit(&asked);
		REQUIRE(WAIT(&world, world.answered == before + 1));
		CHECK_INT(asked.group.outcome, POSTGRES_OK);
		CHECK(asked.group.results[0] && PQntuples(asked.group.results[0]) == count);
		postgres_group_fini(&asked.group);
	}
	world_close(&world);
}

TEST(another_name_than_the_certificates_is_refused)
{
	struct world world;
	char other[512];
	snprintf(other, sizeof(other), "%s host=127.0.0.1", conninfo);
	world_open(&world, other, usual);
	world_start(&world);
	WAIT(&world, world.downs == 1);
	if (!CHECK(strstr(world.why_not.message, "127.0.0.1")))
		printf("# %s\n", world.why_not.message);
	world_close(&world);
}

TEST(a_server_that_dies_in_the_middle_is_noticed)
{
	struct world world;
	struct asked asked;
	world_open(&world, conninfo, usual);
	world_start(&world);
	REQUIRE(WAIT(&world, world.up));
	ask(&asked, &world, 0, &rows_of_9k);
	postgres_put_int8(&asked.group, 100000);
	asked_submit(&asked);
	uv_run(&world.loop, UV_RUN_ONCE);
	uv_run(&world.loop, UV_RUN_ONCE);
	postgres_server_kill(server);
	WAIT(&world, world.answered == 1);
	CHECK_INT(asked.group.outcome, POSTGRES_UNKNOWN);
	postgres_group_fini(&asked.group);
	postgres_server_restart(server);
	WAIT(&world, world.ups == 2);
	world_close(&world);
}

TEST(server_stops)
{
	postgres_server_stop(server);
	postgres_server_remove_directory(directory);
	free(directory);
}

TEST_MAIN()
