/* The HTTP server over real sockets: listening, aborts, back-pressure, the most connections, the end. The loop and
 * the clients take turns in one thread; waiting is for events, with a deadline that only a broken server meets. */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/http_server.h"
#include "test.h"

#define DEADLINE_MS 120000
#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"

struct bed {
	uv_loop_t loop;
	struct log log;
	struct http_server *server;
	uint16_t port;
	unsigned handled, aborted, drained, stopped;
	struct http_exchange *exchange; /* the last one kept */
	enum { ANSWER, KEEP, STREAM } mode;
	char peer[INET6_ADDRSTRLEN];
};

static void on_abort(struct http_exchange *exchange)
{
	((struct bed *)http_exchange_data(exchange))->aborted++;
}

static void on_drained(struct http_exchange *exchange)
{
	((struct bed *)http_exchange_data(exchange))->drained++;
}

static void on_stopped(void *owner)
{
	((struct bed *)owner)->stopped++;
}

static void on_request(void *owner, struct http_exchange *exchange)
{
	struct bed *bed = owner;
	const struct http_request *request = http_exchange_request(exchange);
	bed->handled++;
	uv_ip_name(request->peer, bed->peer, sizeof(bed->peer));
	http_exchange_set_data(exchange, bed);
	if (bed->mode == ANSWER) {
		http_respond(exchange, 200, NULL, request->path, NULL, 0);
		return;
	}
	bed->exchange = exchange;
	http_exchange_on_abort(exchange, on_abort);
	if (bed->mode == STREAM) {
		http_stream_start(exchange, 200, NULL, NULL, 0);
		http_stream_on_drained(exchange, on_drained);
	}
}

static void bed_prepare(struct bed *bed, struct http_limits limits)
{
	*bed = (struct bed){ .log = { .fd = -1, .level = LOG_ERROR } };
	REQUIRE(uv_loop_init(&bed->loop) == 0);
	bed->server = http_server_new(&(struct http_server_options){
		.loop = &bed->loop, .log = &bed->log, .limits = limits, .owner = bed, .on_request = on_request });
}

static void bed_start(struct bed *bed, struct http_limits limits)
{
	struct err err = { 0 };
	bed_prepare(bed, limits);
	REQUIRE(http_server_listen(bed->server, "127.0.0.1", 0, &bed->port, &err) == 0);
}

static void bed_finish(struct bed *bed)
{
	http_server_free(bed->server);
	uv_run(&bed->loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&bed->loop), 0);
}

static void bed_stop(struct bed *bed)
{
	http_server_stop(bed->server, on_stopped, bed);
	http_server_abort(bed->server);
	CHECK_INT(bed->stopped, 0);
	uv_run(&bed->loop, UV_RUN_DEFAULT);
	CHECK_INT(bed->stopped, 1);
	CHECK_INT(http_server_statistics(bed->server).connections, 0);
	CHECK_INT(http_server_statistics(bed->server).body_memory, 0);
	bed_finish(bed);
}

static uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000;
}

/* One turn of the loop, and a short rest if it had nothing to do. */
static void turn(struct bed *bed)
{
	struct pollfd poll_on = { .fd = uv_backend_fd(&bed->loop), .events = POLLIN };
	poll(&poll_on, 1, 1);
	uv_run(&bed->loop, UV_RUN_NOWAIT);
}

#define UNTIL(bed, condition) \
	do { \
		uint64_t until_ = now_ms() + DEADLINE_MS; \
		while (!(condition) && now_ms() < until_) \
			turn(bed); \
		CHECK(condition); \
	} while (0)

static int client_to(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(fd >= 0);
	REQUIRE(connect(fd, address, len) == 0);
	return fd;
}

static int client_new(const struct bed *bed)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(bed->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	return client_to((struct sockaddr *)&address, sizeof(address));
}

static void client_send(int fd, const char *text)
{
	CHECK_INT(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

struct received {
	char data[1 << 16];
	size_t len; /* what came in all; data holds the beginning of it */
	bool ended;
	int error;
};

static void client_take(int fd, struct received *received)
{
	static char data[65536];
	ssize_t len;
	while ((len = recv(fd, data, sizeof(data), MSG_DONTWAIT)) > 0) {
		size_t room = received->len < sizeof(received->data) ? sizeof(received->data) - received->len : 0;
		if (room > 0)
			memcpy(received->data + received->len, data, (size_t)len < room ? (size_t)len : room);
		received->len += (size_t)len;
	}
	if (len == 0)
		received->ended = true;
	else if (errno != EAGAIN)
		received->error = errno;
}

static bool got(int fd, struct received *received, const char *text)
{
	client_take(fd, received);
	size_t len = received->len < sizeof(received->data) ? received->len : sizeof(received->data);
	return memmem(received->data, len, text, strlen(text)) != NULL;
}

static bool ended(int fd, struct received *received)
{
	client_take(fd, received);
	return received->ended;
}

TEST(a_request_over_a_socket)
{
	struct bed bed;
	struct received received = { 0 };
	bed_start(&bed, (struct http_limits){ 0 });
	turn(&bed);
	CHECK_INT(uv_backend_timeout(&bed.loop), -1); /* without connections no timer runs */
	int fd = client_new(&bed);
	client_send(fd, GET);
	UNTIL(&bed, got(fd, &received, "\r\n\r\n/a"));
	CHECK_STR(bed.peer, "127.0.0.1");
	CHECK(uv_backend_timeout(&bed.loop) > 60000);
	close(fd);
	UNTIL(&bed, http_server_statistics(bed.server).connections == 0);
	CHECK_INT(uv_backend_timeout(&bed.loop), -1);
	CHECK_INT(http_server_statistics(bed.server).requests, 1);
	CHECK_INT(http_server_statistics(bed.server).bytes_in, sizeof(GET) - 1);
	CHECK_INT(http_server_statistics(bed.server).bytes_out, received.len);
	bed_stop(&bed);
}

TEST(listening_can_fail)
{
	struct bed bed, other;
	struct err err = { 0 };
	char expected[100];
	uint16_t port;
	bed_start(&bed, (struct http_limits){ 0 });
	bed_prepare(&other, (struct http_limits){ 0 });
	CHECK_INT(http_server_listen(other.server, "localhost", bed.port, &port, &err), -EADDRINUSE);
	snprintf(expected, sizeof(expected), "localhost:%u: address already in use", bed.port);
	CHECK_STR(err.message, expected);
	bed_finish(&other);

	bed_prepare(&other, (struct http_limits){ 0 });
	CHECK_INT(http_server_listen(other.server, "example.org", 1, &port, &err), -EINVAL);
	CHECK_STR(err.message, "example.org:1: not a numeric address");
	http_server_stop(other.server, on_stopped, &other);
	CHECK_INT(other.stopped, 0);
	uv_run(&other.loop, UV_RUN_DEFAULT);
	CHECK_INT(other.stopped, 1);
	bed_finish(&other);
	bed_stop(&bed);
}

TEST(ipv6)
{
	struct bed bed;
	struct err err = { 0 };
	struct received received = { 0 };
	bed_prepare(&bed, (struct http_limits){ 0 });
	if (http_server_listen(bed.server, "::1", 0, &bed.port, &err) == 0) {
		struct sockaddr_in6 address = {
			.sin6_family = AF_INET6, .sin6_port = htons(bed.port), .sin6_addr = in6addr_loopback
		};
		int fd = client_to((struct sockaddr *)&address, sizeof(address));
		client_send(fd, GET);
		UNTIL(&bed, got(fd, &received, "\r\n\r\n/a"));
		CHECK_STR(bed.peer, "::1");
		close(fd);
	} else {
		printf("# not here: %s\n", err.message);
		CHECK(memcmp(err.message, "[::1]:0: ", 9) == 0);
	}
	bed_stop(&bed);
}

TEST(who_closes_aborts)
{
	struct bed bed;
	bed_start(&bed, (struct http_limits){ 0 });
	for (int reset = 0; reset < 2; reset++) {
		struct linger linger = { .l_onoff = reset };
		bed.mode = reset ? STREAM : KEEP;
		int fd = client_new(&bed);
		client_send(fd, GET);
		UNTIL(&bed, bed.handled == 1 + (unsigned)reset);
		CHECK_INT(bed.aborted, reset);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(fd);
		UNTIL(&bed, bed.aborted == 1 + (unsigned)reset);
		UNTIL(&bed, http_server_statistics(bed.server).connections == 0);
	}
	bed_stop(&bed);
}

TEST(a_slow_reader_bounds_the_queue)
{
	struct bed bed;
	struct received received = { 0 };
	char block[1000];
	unsigned blocks = 0;
	bed_start(&bed, (struct http_limits){ 0 });
	bed.mode = STREAM;
	memset(block, 'x', sizeof(block));
	int fd = client_new(&bed);
	client_send(fd, GET);
	UNTIL(&bed, bed.handled == 1);
	CHECK_INT(uv_backend_timeout(&bed.loop), -1); /* a follower that waits wakes nobody */
	for (int round = 0; round < 3; round++) {
		do
			blocks++;
		while (http_stream_write(bed.exchange, (struct bytes){ block, sizeof(block) }));
		size_t queued = http_stream_queued(bed.exchange);
		CHECK(queued > 65536 && queued < 65536 + 2000);
		CHECK_INT(bed.drained, round);
		CHECK(uv_backend_timeout(&bed.loop) >= 0);
		UNTIL(&bed, (client_take(fd, &received), bed.drained == (unsigned)round + 1));
		CHECK_INT(http_stream_queued(bed.exchange), 0);
	}
	http_stream_end(bed.exchange);
	const char *body = memmem(received.data, 1000, "\r\n\r\n", 4);
	REQUIRE(body);
	size_t head = (size_t)(body + 4 - received.data);
	UNTIL(&bed, (client_take(fd, &received), received.len == head + blocks * 1007UL + 5));
	client_send(fd, GET); /* the connection persists */
	UNTIL(&bed, bed.handled == 2);
	close(fd);
	bed_stop(&bed);
	CHECK_INT(bed.aborted, 1);
}

TEST(a_stalled_reader_is_given_up)
{
	struct bed bed;
	bed_start(&bed, (struct http_limits){ .write_timeout_ms = 50 });
	bed.mode = STREAM;
	int fd = client_new(&bed);
	client_send(fd, GET);
	UNTIL(&bed, bed.handled == 1);
	char block[1000] = { 0 };
	while (http_stream_write(bed.exchange, (struct bytes){ block, sizeof(block) }))
		;
	UNTIL(&bed, bed.aborted == 1);
	UNTIL(&bed, http_server_statistics(bed.server).connections == 0);
	close(fd);
	bed_stop(&bed);
	CHECK_INT(bed.aborted, 1);
}

TEST(connections_beyond_the_most_wait)
{
	struct bed bed;
	int fds[5];
	struct received received[5] = { 0 };
	bed_start(&bed, (struct http_limits){ .connections_max = 2 });
	for (int i = 0; i < 5; i++) {
		fds[i] = client_new(&bed);
		client_send(fds[i], GET);
	}
	for (int i = 0; i < 5; i++) {
		UNTIL(&bed, got(fds[i], &received[i], "\r\n\r\n/a"));
		CHECK(i > 0 ? bed.handled == (unsigned)i + 1 : bed.handled <= 2);
		CHECK(http_server_statistics(bed.server).connections <= 2);
		if (i >= 1)
			close(fds[i - 1]);
	}
	close(fds[4]);
	CHECK_INT(http_server_statistics(bed.server).accepted, 5);
	bed_stop(&bed);
}

static int client_from(const struct bed *bed, uint32_t own)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(own) }, to = {
		.sin_family = AF_INET, .sin_port = htons(bed->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
	REQUIRE(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

static void check_served(struct bed *bed, int fd)
{
	struct received received = { 0 };
	client_send(fd, GET);
	UNTIL(bed, got(fd, &received, "\r\n\r\n/a"));
}

static void check_turned_away(struct bed *bed, int fd)
{
	struct received received = { 0 };
	UNTIL(bed, got(fd, &received, "HTTP/1.1 503 ") && ended(fd, &received));
	close(fd);
}

TEST(a_peer_has_so_many_connections_and_no_more)
{
	struct bed bed;
	int own[3], other;
	bed_start(&bed, (struct http_limits){ .connections_per_peer_max = 3 });
	for (int i = 0; i < 3; i++)
		check_served(&bed, own[i] = client_new(&bed));
	check_turned_away(&bed, client_new(&bed));
	check_turned_away(&bed, client_new(&bed));
	check_served(&bed, other = client_from(&bed, INADDR_LOOPBACK + 1));
	close(own[0]);
	UNTIL(&bed, http_server_statistics(bed.server).connections == 3);
	check_served(&bed, own[0] = client_new(&bed));
	check_turned_away(&bed, client_new(&bed));
	CHECK_INT(http_server_statistics(bed.server).crowded, 3);
	CHECK_INT(http_server_statistics(bed.server).accepted, 5);
	for (int i = 0; i < 3; i++)
		close(own[i]);
	close(other);
	UNTIL(&bed, http_server_statistics(bed.server).connections == 0);
	/* Nothing of a peer is kept when it has gone. */
	check_served(&bed, own[0] = client_new(&bed));
	close(own[0]);
	bed_stop(&bed);
}

/* Connections that wait because there are too many in all are looked at when they are accepted. */
TEST(who_waited_may_be_one_too_many)
{
	struct bed bed;
	bed_start(&bed, (struct http_limits){ .connections_max = 2, .connections_per_peer_max = 1 });
	int one = client_from(&bed, INADDR_LOOPBACK + 1), two = client_from(&bed, INADDR_LOOPBACK + 2);
	check_served(&bed, one);
	check_served(&bed, two);
	int more = client_from(&bed, INADDR_LOOPBACK + 1), third = client_from(&bed, INADDR_LOOPBACK + 3);
	close(two);
	check_turned_away(&bed, more);
	check_served(&bed, third);
	close(one);
	close(third);
	bed_stop(&bed);
}

TEST(one_peer_by_both_versions_of_ip)
{
	struct bed bed;
	struct err err = { 0 };
	bed_prepare(&bed, (struct http_limits){ .connections_per_peer_max = 1 });
	if (http_server_listen(bed.server, "::", 0, &bed.port, &err) == 0) {
		struct sockaddr_in6 mapped = { .sin6_family = AF_INET6, .sin6_port = htons(bed.port) }, six = mapped;
		REQUIRE(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr) == 1);
		six.sin6_addr = in6addr_loopback;
		int four = client_new(&bed);
		check_served(&bed, four);
		check_turned_away(&bed, client_to((struct sockaddr *)&mapped, sizeof(mapped)));
		int other = client_to((struct sockaddr *)&six, sizeof(six));
		check_served(&bed, other);
		close(four);
		close(other);
	} else {
		printf("# not here: %s\n", err.message);
	}
	bed_stop(&bed);
}

/* The client goes on sending a body that was refused: it must get the answer, not a reset. */
TEST(a_refusal_reaches_a_client_that_is_still_sending)
{
	struct bed bed;
	struct received received = { 0 };
	char block[65536] = { 0 };
	bed_start(&bed, (struct http_limits){ 0 });
	int fd = client_new(&bed);
	client_send(fd, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
	int64_t began_us = clock_monotonic_us();
	for (int i = 0; i < 100; i++) {
		ssize_t sent = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);
		CHECK(sent > 0 || errno == EAGAIN);
		turn(&bed);
		if (clock_monotonic_us() - began_us > US_PER_S / 2)
			break; /* for it does not listen for ever */
	}
	UNTIL(&bed, ended(fd, &received));
	CHECK_INT(received.error, 0);
	CHECK(memcmp(received.data, "HTTP/1.1 413 ", 13) == 0);
	close(fd);
	UNTIL(&bed, http_server_statistics(bed.server).connections == 0);
	bed_stop(&bed);
}

TEST(stopping_waits_for_what_is_in_flight)
{
	struct bed bed;
	struct received idle = { 0 }, busy = { 0 };
	bed_start(&bed, (struct http_limits){ 0 });
	int idle_fd = client_new(&bed), busy_fd = client_new(&bed);
	bed.mode = KEEP;
	client_send(busy_fd, GET);
	UNTIL(&bed, bed.handled == 1 && http_server_statistics(bed.server).connections == 2);
	http_server_stop(bed.server, on_stopped, &bed);
	UNTIL(&bed, ended(idle_fd, &idle));
	CHECK_INT(idle.len, 0);
	CHECK_INT(bed.stopped, 0);
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(bed.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(connect(late, (struct sockaddr *)&address, sizeof(address)) < 0);
	close(late);
	http_respond(bed.exchange, 200, NULL, BYTES_LITERAL("done"), NULL, 0);
	UNTIL(&bed, got(busy_fd, &busy, "Connection: close\r\n\r\ndone"));
	UNTIL(&bed, ended(busy_fd, &busy));
	close(busy_fd);
	close(idle_fd);
	UNTIL(&bed, bed.stopped == 1);
	bed_finish(&bed);
	CHECK_INT(bed.stopped, 1);
	CHECK_INT(bed.aborted, 0);
}

TEST(aborting_ends_what_is_in_flight)
{
	struct bed bed;
	struct received received = { 0 };
	bed_start(&bed, (struct http_limits){ 0 });
	bed.mode = STREAM;
	int fd = client_new(&bed);
	client_send(fd, GET);
	UNTIL(&bed, bed.handled == 1);
	bed_stop(&bed);
	CHECK_INT(bed.aborted, 1);
	while (!received.ended && !received.error)
		client_take(fd, &received);
	close(fd);
}

#define FOLLOWERS 500

TEST(followers_cost_little_memory)
{
	struct bed bed;
	static int fds[FOLLOWERS];
	struct rlimit limit;
	bed_start(&bed, (struct http_limits){ 0 });
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	bed.mode = STREAM;
	int first = client_new(&bed);
	client_send(first, GET);
	UNTIL(&bed, bed.handled == 1);
	size_t before = mallinfo2().uordblks;
	for (int i = 0; i < FOLLOWERS; i++) {
		fds[i] = client_new(&bed);
		client_send(fds[i], GET);
		UNTIL(&bed, bed.handled == 2 + (unsigned)i);
		http_stream_write(bed.exchange, BYTES_LITERAL("data: x\n\n"));
	}
	size_t each = (mallinfo2().uordblks - before) / FOLLOWERS;
	printf("# a follower costs %zu bytes\n", each); /* 0 under a sanitizer's malloc */
	CHECK(each < 1024);
	for (int i = 0; i < FOLLOWERS; i++)
		close(fds[i]);
	close(first);
	bed_stop(&bed);
	CHECK_INT(bed.aborted, FOLLOWERS + 1);
}

TEST_MAIN()
