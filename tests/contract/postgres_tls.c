/* io/postgres over TLS, with certificates made for the occasion by the openssl program. */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
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

/* One answer at a time, of every size around those of records and of libpq's buffer: bytes that OpenSSL has decrypted
 * and libpq has not asked for are told of by nobody, and the answer would never come. */
static void ask_for_many_sizes(void)
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

TEST(no_answer_stays_in_the_buffers)
{
	ask_for_many_sizes();
}

/* === a server that fills its records === */

/* PostgreSQL before 17 never puts more than 8 KiB into a record of TLS; this relay before it fills each up to the 16
 * KiB that there may be. */
static SSL *accept_tls(SSL_CTX *context, int listener)
{
	char request[8]; /* SSLRequest */
	int fd = accept(listener, NULL, NULL);
	SSL *ssl = SSL_new(context);
	SSL_set_fd(ssl, fd);
	if (recv(fd, request, sizeof(request), MSG_WAITALL) == sizeof(request) && send(fd, "S", 1, 0) == 1 &&
		SSL_accept(ssl) == 1)
		return ssl;
	SSL_free(ssl);
	close(fd);
	return NULL;
}

static void relay(SSL *ssl, int server_fd)
{
	char data[16384];
	struct pollfd fds[] = { { .fd = SSL_get_fd(ssl), .events = POLLIN }, { .fd = server_fd, .events = POLLIN } };
	while (SSL_pending(ssl) > 0 || poll(fds, 2, -1) > 0) {
		if (SSL_pending(ssl) > 0 || fds[0].revents) {
			int len = SSL_read(ssl, data, sizeof(data));
			if (len <= 0 || send(server_fd, data, (size_t)len, MSG_NOSIGNAL) != len)
				return;
		} else if (fds[1].revents) {
			/* Gathers until the server waits for its client, or the record is full. */
			int len = 0;
			for (;;) {
				ssize_t more = recv(server_fd, data + len, sizeof(data) - (size_t)len, 0);
				if (more <= 0)
					return;
				len += (int)more;
				if (len == sizeof(data) || poll(&fds[1], 1, 20) <= 0)
					break;
			}
			if (SSL_write(ssl, data, len) != len)
				return;
		}
	}
}

static void __attribute__((noreturn)) serve_full_records(int listener)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[512];
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.%u", postgres_server_directory(server),
		postgres_server_port(server));
	snprintf(path, sizeof(path), "%s/certificate.pem", directory);
	SSL_CTX_use_certificate_file(context, path, SSL_FILETYPE_PEM);
	snprintf(path, sizeof(path), "%s/key.pem", directory);
	SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM);
	for (;;) {
		SSL *ssl = accept_tls(context, listener);
		if (!ssl)
			continue;
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			relay(ssl, fd);
		close(fd);
		close(SSL_get_fd(ssl));
		SSL_free(ssl);
	}
}

TEST(no_answer_stays_in_the_buffers_when_records_are_full)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char direct[sizeof(conninfo)];
	REQUIRE(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 4) == 0);
	getsockname(listener, (struct sockaddr *)&address, &len);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0)
		serve_full_records(listener);
	close(listener);
	snprintf(direct, sizeof(direct), "%s", conninfo);
	snprintf(conninfo, sizeof(conninfo),
		"host=localhost hostaddr=127.0.0.1 port=%u user=assay dbname=postgres sslmode=verify-full "
		"sslrootcert=%s/certificate.pem",
		ntohs(address.sin_port), directory);
	ask_for_many_sizes();
	snprintf(conninfo, sizeof(conninfo), "%s", direct);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
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
