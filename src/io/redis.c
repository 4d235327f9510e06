/* A struct redis lives as long as its owner; each attempt to connect has a struct connection of its own, which is given
 * up as a whole: its socket is closed at once, its memory freed when its poll handle has been closed. Callbacks of
 * libuv that come for a connection that was given up find that it is no longer redis->connection.
 *
 * One function touches an established connection: connection_pump() writes what is to be written, reads what there is,
 * and gives answers to their owners. What the owner asks for is only appended to the output and leaves before the loop
 * sleeps (a prepare handle), so that nobody is called from within a call. */
#include "io/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/text.h"
#include "io/redis_secure.h"

#define CONNECT_MS 5000 /* all addresses of the host, TLS and the greeting together */
#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 5000
#define TICK_MS (REDIS_PATIENCE_MS / 2)
#define IDLE_TICKS 3 /* then PING */
#define READS_AT_ONCE 8 /* of 16 KiB, so that a busy connection does not hold up the loop */
#define EXPECTED_INITIAL 64

enum state { DOWN, RESOLVING, CONNECTING, SECURING, GREETING, UP, BACKOFF };

/* What an answer is to, in the order of the commands. */
enum expected_kind { EXPECT_HELLO, EXPECT_AUTH, EXPECT_SELECT, EXPECT_PROBE, EXPECT_PING, EXPECT_ANSWER };

struct expected {
	uint64_t tag;
	uint32_t size; /* of the command */
	uint8_t kind;
};

struct connection {
	struct redis *redis;
	uv_poll_t poll;
	redisContext *context; /* owned, with the socket; NULL until it is connected, and again when given up */
	struct ssl_st *session; /* the context's */
	int fd; /* -1 once closed */
	int polled; /* events that are waited for */
	bool resp2;
};

struct lookup {
	uv_getaddrinfo_t request;
	struct redis *redis; /* NULL: nobody waits for it any more */
};

struct redis {
	struct redis_options options;
	enum state state;
	struct connection *connection; /* owned; NULL while there is none */
	struct lookup *lookup; /* owned by libuv while it runs */
	struct addrinfo *addresses; /* owned; of the host */
	struct addrinfo *next_address; /* to be tried */
	uv_timer_t timer; /* of the state: CONNECT_MS, TICK_MS or the back-off */
	uv_prepare_t before_sleep; /* runs while there is something to write */
	bool lost; /* on_state is to be told of `why` */
	struct err why;
	uint64_t delay_ms;
	int quiet_ticks; /* without a byte from the server */
	struct expected *expected; /* owned ring */
	size_t expected_capacity, expected_first, expected_count;
	size_t in_flight;
	int handles_left;
	void (*on_closed)(void *owner);
	void *closed_owner;
};

static void connect_next(struct redis *redis);
static void on_timer(uv_timer_t *timer);

/* ---- giving up ---- */

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void connection_drop(struct redis *redis)
{
	struct connection *connection = STEAL(redis->connection);
	redis->expected_count = redis->in_flight = 0;
	uv_prepare_stop(&redis->before_sleep);
	if (!connection)
		return;
	/* The handle lets go of the descriptor before that is closed. */
	uv_close((uv_handle_t *)&connection->poll, on_poll_closed);
	if (connection->context)
		redisFree(STEAL(connection->context));
	else
		close(connection->fd);
	connection->fd = -1;
}

static void addresses_free(struct redis *redis)
{
	if (redis->addresses)
		uv_freeaddrinfo(redis->addresses);
	redis->addresses = redis->next_address = NULL;
}

static void lookup_forget(struct redis *redis)
{
	if (!redis->lookup)
		return;
	uv_cancel((uv_req_t *)&redis->lookup->request);
	STEAL(redis->lookup)->redis = NULL;
}

/* Told from the timer, which is due at once: whoever failed may stand in a call of the owner. */
static void lose(struct redis *redis, const struct err *why)
{
	if (redis->state == DOWN || redis->state == BACKOFF)
		return;
	connection_drop(redis);
	lookup_forget(redis);
	addresses_free(redis);
	redis->state = BACKOFF;
	redis->why = *why;
	redis->lost = true;
	uv_timer_start(&redis->timer, on_timer, 0, 0);
}

static void back_off(struct redis *redis)
{
	uint8_t jitter;
	random_bytes(&jitter, 1);
	uint64_t delay = redis->delay_ms ? redis->delay_ms * 2 : BACKOFF_MS_MIN;
	redis->delay_ms = delay < BACKOFF_MS_MAX ? delay : BACKOFF_MS_MAX;
	uv_timer_start(&redis->timer, on_timer, redis->delay_ms / 2 + redis->delay_ms * jitter / 512, 0);
	redis->lost = false;
	redis->options.on_state(redis->options.owner, false, &redis->why);
}

/* ---- writing ---- */

static void poll_for(struct connection *connection, int events);
static void connection_write(struct connection *connection);

static void on_before_sleep(uv_prepare_t *handle)
{
	struct redis *redis = handle->data;
	uv_prepare_stop(handle);
	if (redis->connection)
		connection_write(redis->connection);
}

static void expect(struct redis *redis, enum expected_kind kind, uint64_t tag, size_t size)
{
	if (redis->expected_count == redis->expected_capacity) {
		size_t capacity = redis->expected_capacity ? redis->expected_capacity * 2 : EXPECTED_INITIAL;
		struct expected *ring = alloc_array(capacity, sizeof(*ring));
		for (size_t i = 0; i < redis->expected_count; i++)
			ring[i] = redis->expected[(redis->expected_first + i) & (redis->expected_capacity - 1)];
		free(redis->expected);
		redis->expected = ring;
		redis->expected_first = 0;
		redis->expected_capacity = capacity;
	}
	if (redis->expected_count == 0)
		redis->quiet_ticks = 0; /* patience begins with the question */
	size_t last = (redis->expected_first + redis->expected_count++) & (redis->expected_capacity - 1);
	redis->expected[last] = (struct expected){ .tag = tag, .size = (uint32_t)size, .kind = (uint8_t)kind };
	redis->in_flight += size;
}

static void append(struct redis *redis, enum expected_kind kind, uint64_t tag, struct bytes command)
{
	redisContext *context = redis->connection->context;
	/* Without memory the context keeps the error, and the next write finds it. */
	redisAppendFormattedCommand(context, command.data, command.len);
	expect(redis, kind, tag, command.len);
	uv_prepare_start(&redis->before_sleep, on_before_sleep);
}

void redis_format(struct buffer *to, const struct bytes *words, size_t count)
{
	buffer_printf(to, "*%zu\r\n", count);
	for (size_t i = 0; i < count; i++) {
		buffer_printf(to, "$%zu\r\n", words[i].len);
		buffer_append_bytes(to, words[i]);
		buffer_append(to, "\r\n", 2);
	}
}

static void append_words(
	struct redis *redis, enum expected_kind kind, uint64_t tag, const struct bytes *words, size_t count)
{
	struct buffer command = { 0 };
	redis_format(&command, words, count);
	append(redis, kind, tag, buffer_bytes(&command));
	buffer_fini(&command);
}

static void lose_by_context(struct redis *redis)
{
	struct err why;
	const redisContext *context = redis->connection->context;
	err_set(&why, -ECONNRESET, "the connection was lost: %s", context->errstr);
	lose(redis, &why);
}

static void connection_write(struct connection *connection)
{
	int done = 1;
	if (connection->redis->state < GREETING)
		return;
	if (connection->session)
		redis_secure_prepare();
	if (redisBufferWrite(connection->context, &done) != REDIS_OK) {
		lose_by_context(connection->redis);
		return;
	}
	poll_for(connection, done ? UV_READABLE : UV_READABLE | UV_WRITABLE);
}

/* ---- the greeting: HELLO, or AUTH; SELECT; PING ---- */

static void greet_probe(struct redis *redis)
{
	append_words(redis, EXPECT_PROBE, 0, &BYTES_LITERAL("PING"), 1);
}

static void greet_select(struct redis *redis)
{
	char text[16];
	if (!redis->options.address->database) {
		greet_probe(redis);
		return;
	}
	snprintf(text, sizeof(text), "%d", redis->options.address->database);
	append_words(redis, EXPECT_SELECT, 0, (struct bytes[]){ BYTES_LITERAL("SELECT"), bytes_of(text) }, 2);
}

static void greet_login(struct redis *redis)
{
	const struct redis_address *address = redis->options.address;
	struct bytes words[3] = { BYTES_LITERAL("AUTH") };
	size_t count = 1;
	redis->connection->resp2 = true;
	if (!address->password[0] && !address->user[0]) {
		greet_select(redis);
		return;
	}
	if (address->user[0])
		words[count++] = bytes_of(address->user);
	words[count++] = bytes_of(address->password);
	append_words(redis, EXPECT_AUTH, 0, words, count);
}

static void greet(struct redis *redis)
{
	const struct redis_address *address = redis->options.address;
	char name[64];
	snprintf(name, sizeof(name), "assay-%s", redis->options.purpose);
	struct bytes words[7] = { BYTES_LITERAL("HELLO"), BYTES_LITERAL("3") };
	size_t count = 2;
	redis->state = GREETING;
	if (address->protocol < 3) {
		greet_login(redis);
		return;
	}
	if (address->password[0] || address->user[0]) {
		words[count++] = BYTES_LITERAL("AUTH");
		words[count++] = address->user[0] ? bytes_of(address->user) : BYTES_LITERAL("default");
		words[count++] = bytes_of(address->password);
	}
	words[count++] = BYTES_LITERAL("SETNAME");
	words[count++] = bytes_of(name);
	append_words(redis, EXPECT_HELLO, 0, words, count);
}

static bool begins(struct bytes text, const char *with)
{
	size_t len = strlen(with);
	return text.len >= len && memcmp(text.data, with, len) == 0;
}

static void refused(struct redis *redis, const char *what, struct bytes error)
{
	struct err why;
	err_set(&why, -EACCES, "%s: %.*s", what, (int)(error.len < 160 ? error.len : 160), error.data);
	lose(redis, &why);
}

static void greeted(struct redis *redis, enum expected_kind kind, struct bytes error)
{
	if (kind == EXPECT_HELLO && (begins(error, "NOPROTO") || begins(error, "ERR unknown command")))
		greet_login(redis);
	else if ((kind == EXPECT_HELLO || kind == EXPECT_AUTH) && error.data)
		refused(redis, "the login was refused", error);
	else if (kind == EXPECT_HELLO || kind == EXPECT_AUTH)
		greet_select(redis);
	else if (kind == EXPECT_SELECT && error.data)
		refused(redis, "the database was refused", error);
	else if (kind == EXPECT_SELECT)
		greet_probe(redis);
	else if (error.data && !begins(error, "NOPERM")) /* a user that may publish need not be one that may ping */
		refused(redis, "it does not serve", error);
	else {
		redis->state = UP;
		addresses_free(redis);
		uv_timer_start(&redis->timer, on_timer, TICK_MS, TICK_MS);
		redis->options.on_state(redis->options.owner, true, NULL);
	}
}

/* ---- reading ---- */

static struct bytes text_of(const redisReply *reply)
{
	bool text = reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ||
		    reply->type == REDIS_REPLY_ERROR || reply->type == REDIS_REPLY_VERB;
	return text ? (struct bytes){ reply->str, reply->len } : BYTES_NONE;
}

/* What a channel brings is a push in RESP3, an array in RESP2; nothing else that we ask for is answered by an array of
 * that form. */
static bool is_message(const redisReply *reply)
{
	return (reply->type == REDIS_REPLY_PUSH || reply->type == REDIS_REPLY_ARRAY) && reply->elements == 3 &&
	       bytes_is(text_of(reply->element[0]), "message") && text_of(reply->element[1]).data &&
	       text_of(reply->element[2]).data;
}

/* Of a subscription to one channel: the answer to a SUBSCRIBE or an UNSUBSCRIBE, though RESP3 makes it a push. */
static bool is_answer(const redisReply *reply)
{
	struct bytes word = reply->elements == 3 ? text_of(reply->element[0]) : BYTES_NONE;
	return reply->type != REDIS_REPLY_PUSH || bytes_is(word, "subscribe") || bytes_is(word, "unsubscribe");
}

static void answered(struct redis *redis, const redisReply *reply)
{
	struct err why;
	if (!redis->expected_count) {
		if (reply->type == REDIS_REPLY_ERROR)
			refused(redis, "it does not serve", text_of(reply));
		else
			lose(redis, (err_set(&why, -EPROTO, "an answer that nobody had asked for"), &why));
		return;
	}
	struct expected expected = redis->expected[redis->expected_first];
	redis->expected_first = (redis->expected_first + 1) & (redis->expected_capacity - 1);
	redis->expected_count--;
	redis->in_flight -= expected.size;
	struct bytes error = reply->type == REDIS_REPLY_ERROR ? text_of(reply) : BYTES_NONE;
	if (expected.kind < EXPECT_PING)
		greeted(redis, (enum expected_kind)expected.kind, error);
	else if (expected.kind == EXPECT_ANSWER) {
		if (!error.data)
			redis->delay_ms = 0;
		redis->options.on_answer(redis->options.owner, expected.tag, error);
	}
}

static void take_reply(struct redis *redis, const redisReply *reply)
{
	if (!is_message(reply)) {
		if (is_answer(reply))
			answered(redis, reply);
	} else if (redis->options.on_message) {
		redis->options.on_message(redis->options.owner, text_of(reply->element[1]), text_of(reply->element[2]));
	}
}

/* All whole replies that have been read. */
static void take_replies(struct connection *connection)
{
	struct redis *redis = connection->redis;
	while (redis->connection == connection) {
		void *reply = NULL;
		if (redisGetReplyFromReader(connection->context, &reply) != REDIS_OK) {
			lose_by_context(redis);
			return;
		}
		if (!reply)
			break;
		take_reply(redis, reply);
		freeReplyObject(reply);
	}
	struct err why;
	if (redis->connection == connection && connection->context->reader->len > REDIS_ANSWER_MAX)
		lose(redis, (err_set(&why, -EPROTO, "it sends an answer that is too long"), &why));
}

static void connection_read(struct connection *connection)
{
	struct redis *redis = connection->redis;
	for (int i = 0; i < READS_AT_ONCE && redis->connection == connection; i++) {
		size_t before = connection->context->reader->len;
		if (connection->session)
			redis_secure_prepare();
		if (redisBufferRead(connection->context) != REDIS_OK) {
			lose_by_context(redis);
			return;
		}
		if (connection->context->reader->len == before)
			return;
		redis->quiet_ticks = 0;
		take_replies(connection);
	}
}

/* ---- connecting ---- */

static void connection_secure(struct connection *connection)
{
	struct redis *redis = connection->redis;
	struct err err;
	bool write;
	int result = redis_secure_step(connection->session, &write, &err);
	if (result < 0)
		lose(redis, &err);
	else if (result == 0)
		poll_for(connection, write ? UV_WRITABLE : UV_READABLE);
	else
		greet(redis);
}

static void connection_established(struct connection *connection)
{
	struct redis *redis = connection->redis;
	struct err err;
	int cause = 0;
	socklen_t size = sizeof(cause);
	getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &cause, &size);
	if (cause) {
		err_set(&redis->why, -cause, "cannot connect: %s", strerror(cause));
		connection_drop(redis);
		connect_next(redis);
		return;
	}
	redisOptions options = {
		.type = REDIS_CONN_USERFD, .endpoint.fd = connection->fd, .options = REDIS_OPT_NONBLOCK
	};
	connection->context = redisConnectWithOptions(&options);
	if (!connection->context || connection->context->err) {
		err_set(&err, -ENOMEM, "without memory for a connection");
		lose(redis, &err);
		return;
	}
	poll_for(connection, UV_READABLE);
	if (!redis->options.address->tls) {
		greet(redis);
		return;
	}
	redis->state = SECURING;
	if (redis_secure_begin(redis->options.address, connection->context, &connection->session, &err) < 0)
		lose(redis, &err);
	else
		connection_secure(connection);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct connection *connection = poll->data;
	struct redis *redis = connection->redis;
	if (redis->connection != connection)
		return;
	/* With an error of the poll itself, reading tells which. */
	if (redis->state == CONNECTING)
		connection_established(connection);
	else if (redis->state == SECURING)
		connection_secure(connection);
	else {
		if (status < 0 || events & UV_READABLE)
			connection_read(connection);
		if (redis->connection == connection && events & UV_WRITABLE)
			connection_write(connection);
	}
}

static void poll_for(struct connection *connection, int events)
{
	if (connection->polled == events)
		return;
	connection->polled = events;
	uv_poll_start(&connection->poll, events, on_poll);
}

static int socket_connect(const struct sockaddr *address, socklen_t size)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (address->sa_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int));
	}
	if (connect(fd, address, size) == 0 || errno == EINPROGRESS)
		return fd;
	int cause = errno;
	close(fd);
	return -cause;
}

static bool connect_to(struct redis *redis, const struct sockaddr *address, socklen_t size)
{
	int fd = socket_connect(address, size);
	if (fd < 0) {
		err_set(&redis->why, fd, "cannot connect: %s", strerror(-fd));
		return false;
	}
	struct connection *connection = alloc(sizeof(*connection));
	int result = uv_poll_init(redis->options.loop, &connection->poll, fd);
	if (result < 0) {
		err_set(&redis->why, result, "cannot connect: %s", uv_strerror(result));
		close(fd);
		free(connection);
		return false;
	}
	connection->redis = redis;
	connection->poll.data = connection;
	connection->fd = fd;
	redis->connection = connection;
	poll_for(connection, UV_WRITABLE);
	return true;
}

/* Tries the next address; the last one's failure is what is told. */
static void connect_next(struct redis *redis)
{
	redis->state = CONNECTING;
	while (redis->next_address) {
		const struct addrinfo *at = redis->next_address;
		redis->next_address = at->ai_next;
		if (connect_to(redis, at->ai_addr, at->ai_addrlen))
			return;
	}
	const struct err why = redis->why;
	lose(redis, &why);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
	struct lookup *lookup = CONTAINER_OF(request, struct lookup, request);
	struct redis *redis = lookup->redis;
	free(lookup);
	if (!redis) {
		uv_freeaddrinfo(addresses);
		return;
	}
	redis->lookup = NULL;
	if (status < 0) {
		struct err why;
		lose(redis, (err_set(&why, -ENOENT, "%.100s cannot be resolved: %s", redis->options.address->host,
				     uv_strerror(status)),
				    &why));
		return;
	}
	redis->addresses = redis->next_address = addresses;
	connect_next(redis);
}

static void resolve(struct redis *redis)
{
	char port[8];
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct err why;
	snprintf(port, sizeof(port), "%u", redis->options.address->port);
	struct lookup *lookup = alloc(sizeof(*lookup));
	lookup->redis = redis;
	redis->state = RESOLVING;
	int result = uv_getaddrinfo(
		redis->options.loop, &lookup->request, on_resolved, redis->options.address->host, port, &hints);
	if (result == 0) {
		redis->lookup = lookup;
		return;
	}
	free(lookup);
	lose(redis, (err_set(&why, result, "cannot resolve: %s", uv_strerror(result)), &why));
}

static void connect_start(struct redis *redis)
{
	uv_timer_start(&redis->timer, on_timer, CONNECT_MS, 0);
	if (redis->options.address->host[0]) {
		resolve(redis);
		return;
	}
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", redis->options.address->path);
	redis->state = CONNECTING;
	if (!connect_to(redis, (const struct sockaddr *)&address, sizeof(address))) {
		const struct err why = redis->why;
		lose(redis, &why);
	}
}

/* ---- time ---- */

static void on_tick(struct redis *redis)
{
	struct err why;
	redis->quiet_ticks++;
	if (redis->expected_count && redis->quiet_ticks > 2)
		lose(redis, (err_set(&why, -ETIMEDOUT, "it does not answer"), &why));
	else if (!redis->expected_count && redis->quiet_ticks >= IDLE_TICKS)
		append_words(redis, EXPECT_PING, 0, &BYTES_LITERAL("PING"), 1);
}

static void on_timer(uv_timer_t *timer)
{
	struct redis *redis = timer->data;
	struct err why;
	if (redis->state == UP)
		on_tick(redis);
	else if (redis->state == BACKOFF && redis->lost)
		back_off(redis);
	else if (redis->state == BACKOFF)
		connect_start(redis);
	else if (redis->state == RESOLVING)
		lose(redis, (err_set(&why, -ETIMEDOUT, "%.100s cannot be resolved in %d s",
				     redis->options.address->host, CONNECT_MS / 1000),
				    &why));
	else
		lose(redis, (err_set(&why, -ETIMEDOUT, "it cannot be reached in %d s", CONNECT_MS / 1000), &why));
}

/* ---- life ---- */

struct redis *redis_new(const struct redis_options *options)
{
	struct redis *redis = alloc(sizeof(*redis));
	redis->options = *options;
	uv_timer_init(options->loop, &redis->timer);
	uv_prepare_init(options->loop, &redis->before_sleep);
	redis->timer.data = redis->before_sleep.data = redis;
	return redis;
}

void redis_open(struct redis *redis)
{
	if (redis->state != DOWN)
		return;
	/* From the timer, as every later attempt. */
	redis->state = BACKOFF;
	redis->lost = false;
	redis->delay_ms = 0;
	uv_timer_start(&redis->timer, on_timer, 0, 0);
}

void redis_close(struct redis *redis)
{
	connection_drop(redis);
	lookup_forget(redis);
	addresses_free(redis);
	uv_timer_stop(&redis->timer);
	redis->state = DOWN;
	redis->lost = false;
}

void redis_fail(struct redis *redis, const struct err *why)
{
	lose(redis, why);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct redis *redis = handle->data;
	if (--redis->handles_left)
		return;
	void (*on_closed)(void *owner) = redis->on_closed;
	void *owner = redis->closed_owner;
	free(redis->expected);
	free(redis);
	on_closed(owner);
}

void redis_free(struct redis *redis, void (*on_closed)(void *owner), void *owner)
{
	redis_close(redis);
	redis->on_closed = on_closed;
	redis->closed_owner = owner;
	redis->handles_left = 2;
	uv_close((uv_handle_t *)&redis->timer, on_handle_closed);
	uv_close((uv_handle_t *)&redis->before_sleep, on_handle_closed);
}

bool redis_is_up(const struct redis *redis)
{
	return redis->state == UP;
}

int redis_protocol(const struct redis *redis)
{
	return redis->state != UP ? 0 : redis->connection->resp2 ? 2 : 3;
}

void redis_command(struct redis *redis, uint64_t tag, const struct bytes *words, size_t count)
{
	if (redis->state == UP)
		append_words(redis, EXPECT_ANSWER, tag, words, count);
}

void redis_command_formatted(struct redis *redis, uint64_t tag, struct bytes command)
{
	if (redis->state == UP)
		append(redis, EXPECT_ANSWER, tag, command);
}

size_t redis_in_flight(const struct redis *redis)
{
	return redis->in_flight;
}
