/* What leaves a connection: gathered under the cork, written at once as far as the client takes it, the rest in one
 * block that the transport is sending and one buffer behind it. */

#include "io/http_connection.h"

#define CORK_MAX 65536
#define PARTS_MAX 4

bool http_connection_has_unsent(const struct http_connection *connection)
{
	return connection->sending > 0 || connection->waiting.len > 0;
}

size_t http_connection_unsent(const struct http_connection *connection)
{
	const struct http_core *core = connection->core;
	return (connection->sending > 0 ? core->transport->unsent(connection) : 0) + connection->waiting.len +
	       (core->corked == connection ? core->out.len : 0);
}

static void send_failed(struct http_connection *connection)
{
	connection->broken = true;
	buffer_fini(&connection->waiting);
	http_core_defer(connection);
}

/* Sends what waits to be sent, past the cork. */
static void send_now(struct http_connection *connection, const uv_buf_t *bufs, unsigned count)
{
	const struct http_transport *transport = connection->core->transport;
	size_t taken = 0, total = 0;
	for (unsigned i = 0; i < count; i++)
		total += bufs[i].len;
	if (!http_connection_has_unsent(connection)) {
		ssize_t result = transport->try_write(connection, bufs, count);
		if (result < 0) {
			send_failed(connection);
			return;
		}
		taken = (size_t)result;
		if (taken == total)
			return;
	}
	for (unsigned i = 0; i < count; i++) {
		size_t skip = taken < bufs[i].len ? taken : bufs[i].len;
		taken -= skip;
		buffer_append(&connection->waiting, bufs[i].base + skip, bufs[i].len - skip);
	}
	if (connection->waiting.failed) {
		send_failed(connection);
		return;
	}
	if (connection->sending == 0) {
		connection->sending = connection->waiting.len;
		struct buffer block = connection->waiting;
		connection->waiting = (struct buffer){ 0 };
		transport->write(connection, block.data, block.len);
	}
}

void http_connection_flush(struct http_connection *connection)
{
	struct http_core *core = connection->core;
	if (core->out.len > 0 && !connection->broken && connection->state != HTTP_STATE_CLOSED) {
		uv_buf_t buf = { .base = core->out.data, .len = core->out.len };
		send_now(connection, &buf, 1);
	}
	buffer_clear(&core->out);
}

void http_connection_send(struct http_connection *connection, const struct bytes *parts, unsigned count)
{
	struct http_core *core = connection->core;
	uv_buf_t bufs[PARTS_MAX];
	unsigned used = 0;
	size_t total = 0;
	if (connection->broken || connection->state == HTTP_STATE_CLOSED)
		return;
	for (unsigned i = 0; i < count; i++)
		total += parts[i].len;
	core->statistics.bytes_out += total;
	if (core->corked == connection && total <= CORK_MAX) {
		if (core->out.len > CORK_MAX - total)
			http_connection_flush(connection);
		for (unsigned i = 0; i < count; i++)
			buffer_append_bytes(&core->out, parts[i]);
		if (core->out.failed)
			send_failed(connection);
		return;
	}
	if (core->corked == connection)
		http_connection_flush(connection);
	if (connection->broken)
		return;
	for (unsigned i = 0; i < count; i++)
		if (parts[i].len > 0)
			bufs[used++] = (uv_buf_t){ .base = (char *)parts[i].data, .len = parts[i].len };
	if (used > 0)
		send_now(connection, bufs, used);
}
