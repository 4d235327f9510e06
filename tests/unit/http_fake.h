/* A client without sockets and a clock that stands still: one connection of the HTTP engine over memory. What the
 * engine is given is a copy that is freed right after, so that AddressSanitizer sees what it kept of it. */
#ifndef ASSAY_TESTS_UNIT_HTTP_FAKE_H
#define ASSAY_TESTS_UNIT_HTTP_FAKE_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/http_connection.h"

struct fake {
	struct http_core core;
	struct http_connection *connection; /* owned until closed */
	struct log log;
	uint64_t now;
	uint64_t timer_due; /* UINT64_MAX: no timer runs */
	size_t takes; /* bytes the client still takes; SIZE_MAX: any number */
	int write_error; /* 0, or what the next write gives */
	bool woken, reading, shut, closing, reset, closed;
	char *block; /* owned: being written */
	size_t block_len, block_at;
	struct buffer out; /* what the client has got */
	struct buffer requests; /* what the handler saw, as text */
	struct http_exchange *exchange; /* the one that is to be answered later */
	unsigned handled, aborted, drained, writes;
	size_t body_limit;
	void (*handle)(struct fake *fake, struct http_exchange *exchange);
};

static inline struct fake *fake_of(const struct http_core *core)
{
	return CONTAINER_OF(core, struct fake, core);
}

static inline uint64_t fake_now(struct http_core *core)
{
	return fake_of(core)->now;
}

static inline void fake_wake(struct http_core *core)
{
	fake_of(core)->woken = true;
}

static inline void fake_set_timer(struct http_core *core, uint64_t due)
{
	fake_of(core)->timer_due = due;
}

static inline size_t fake_take(struct fake *fake, const char *data, size_t len)
{
	size_t taken = len < fake->takes ? len : fake->takes;
	buffer_append(&fake->out, data, taken);
	if (fake->takes != SIZE_MAX)
		fake->takes -= taken;
	return taken;
}

static inline ssize_t fake_try_write(struct http_connection *connection, const uv_buf_t *bufs, unsigned count)
{
	struct fake *fake = fake_of(connection->core);
	size_t total = 0;
	assert(!fake->closing && !fake->shut && !fake->block);
	fake->writes++;
	if (fake->write_error)
		return fake->write_error;
	for (unsigned i = 0; i < count; i++) {
		size_t taken = fake_take(fake, bufs[i].base, bufs[i].len);
		total += taken;
		if (taken < bufs[i].len)
			break;
	}
	return (ssize_t)total;
}

static inline void fake_write(struct http_connection *connection, char *data, size_t len)
{
	struct fake *fake = fake_of(connection->core);
	assert(!fake->closing && !fake->shut && !fake->block && len > 0);
	fake->block = data;
	fake->block_len = len;
	fake->block_at = 0;
}

static inline size_t fake_unsent(const struct http_connection *connection)
{
	const struct fake *fake = fake_of(connection->core);
	return fake->block_len - fake->block_at;
}

static inline void fake_read(struct http_connection *connection, bool on)
{
	struct fake *fake = fake_of(connection->core);
	assert(!fake->closing && fake->reading != on);
	fake->reading = on;
}

static inline void fake_shutdown(struct http_connection *connection)
{
	struct fake *fake = fake_of(connection->core);
	assert(!fake->closing && !fake->shut && !fake->block);
	fake->shut = true;
}

static inline void fake_close(struct http_connection *connection, bool reset)
{
	struct fake *fake = fake_of(connection->core);
	assert(!fake->closing);
	fake->closing = true;
	fake->reset = reset;
}

static const struct http_transport fake_transport = {
	.now = fake_now,
	.wake = fake_wake,
	.set_timer = fake_set_timer,
	.try_write = fake_try_write,
	.write = fake_write,
	.unsent = fake_unsent,
	.read = fake_read,
	.shutdown = fake_shutdown,
	.close = fake_close,
};

static inline size_t fake_body_limit(void *owner, const struct http_request *request)
{
	return ((struct fake *)owner)->body_limit;
}

static inline void fake_on_request(void *owner, struct http_exchange *exchange)
{
	struct fake *fake = owner;
	const struct http_request *request = http_exchange_request(exchange);
	struct bytes host = http_request_header(request, "host");
	struct buffer *seen = &fake->requests;
	buffer_append_bytes(seen, request->method_name);
	buffer_append_char(seen, ' ');
	buffer_append_bytes(seen, request->path);
	if (request->query.data) {
		buffer_append_char(seen, '?');
		buffer_append_bytes(seen, request->query);
	}
	buffer_append_string(seen, " @");
	buffer_append_bytes(seen, host);
	if (request->body.len > 0) {
		buffer_append_string(seen, " <");
		buffer_append_bytes(seen, request->body);
		buffer_append_char(seen, '>');
	}
	buffer_append_char(seen, '\n');
	fake->handled++;
	fake->handle(fake, exchange);
}

/* Handlers. */
static inline void fake_answer(struct fake *fake, struct http_exchange *exchange)
{
	http_respond(exchange, 200, "text/plain", http_exchange_request(exchange)->path, NULL, 0);
}

static inline void fake_on_abort(struct http_exchange *exchange)
{
	struct fake *fake = http_exchange_data(exchange);
	fake->aborted++;
	fake->exchange = NULL;
}

static inline void fake_keep(struct fake *fake, struct http_exchange *exchange)
{
	assert(!fake->exchange);
	fake->exchange = exchange;
	http_exchange_set_data(exchange, fake);
	http_exchange_on_abort(exchange, fake_on_abort);
}

static inline void fake_start_with(struct fake *fake, struct http_limits limits)
{
	*fake = (struct fake){ .log = { .fd = -1, .level = LOG_ERROR },
		.now = 1000000,
		.timer_due = UINT64_MAX,
		.takes = SIZE_MAX,
		.body_limit = 1000,
		.handle = fake_answer };
	http_core_init(&fake->core, &fake_transport,
		&(struct http_server_options){ .log = &fake->log,
			.limits = limits,
			.owner = fake,
			.body_limit = fake_body_limit,
			.on_request = fake_on_request });
	fake->connection = alloc(sizeof(*fake->connection));
	http_connection_init(fake->connection, &fake->core);
}

static inline void fake_start(struct fake *fake)
{
	fake_start_with(fake, (struct http_limits){ 0 });
}

/* Lets happen what the loop would do next, until nothing is left to do. */
static inline void fake_run(struct fake *fake)
{
	for (bool again = true; again && !fake->closed;) {
		again = false;
		if (fake->closing) {
			if (fake->block)
				http_connection_written(fake->connection, UV_ECANCELED);
			free(STEAL(fake->block));
			fake->block_len = fake->block_at = 0;
			http_connection_closed(fake->connection);
			free(STEAL(fake->connection));
			fake->closed = true;
			break;
		}
		if (fake->woken) {
			fake->woken = false;
			http_core_run_deferred(&fake->core);
			again = true;
		}
		if (fake->block && fake->takes > 0 && !fake->closing) {
			fake->block_at +=
				fake_take(fake, fake->block + fake->block_at, fake->block_len - fake->block_at);
			if (fake->block_at == fake->block_len) {
				free(STEAL(fake->block));
				fake->block_len = fake->block_at = 0;
				http_connection_written(fake->connection, 0);
			}
			again = true;
		}
		again = again || fake->closing;
	}
}

/* The client sends bytes, as far as they are read. */
static inline void fake_send(struct fake *fake, struct bytes bytes)
{
	if (bytes.len == 0 || !fake->reading || fake->closing || fake->closed)
		return;
	char *copy = malloc(bytes.len);
	if (!copy)
		abort();
	memcpy(copy, bytes.data, bytes.len);
	http_connection_data(fake->connection, copy, bytes.len);
	free(copy);
	fake_run(fake);
}

/* The client sends no more. */
static inline void fake_send_end(struct fake *fake)
{
	if (fake->closing || fake->closed)
		return;
	http_connection_eof(fake->connection);
	fake_run(fake);
}

static inline void fake_pass(struct fake *fake, uint64_t ms)
{
	fake->now += ms;
	while (fake->timer_due <= fake->now) {
		fake->timer_due = UINT64_MAX;
		http_core_run_timeouts(&fake->core);
		fake_run(fake);
	}
}

/* Ends everything. Whether memory is left is LeakSanitizer's to say; whether it is still counted is told here. */
static inline uint64_t fake_stop(struct fake *fake)
{
	http_core_abort(&fake->core);
	fake->woken = false;
	fake_run(fake);
	uint64_t left = fake->core.statistics.body_memory + fake->core.statistics.connections;
	http_core_fini(&fake->core);
	buffer_fini(&fake->out);
	buffer_fini(&fake->requests);
	return left;
}

#endif
