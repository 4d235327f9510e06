/* What a handler does with an exchange: look at the request, answer it. */
#include <assert.h>
#include <strings.h>

#include "io/http_connection.h"

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
	const struct http_connection *connection = http_connection_of(exchange);
	assert(connection->message);
	return &connection->message->request;
}

struct bytes http_request_header(const struct http_request *request, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; i < request->header_count; i++) {
		const struct http_header *header = &request->headers[i];
		if (header->name.len == len && strncasecmp(header->name.data, name, len) == 0)
			return header->value;
	}
	return BYTES_NONE;
}

struct arena *http_exchange_arena(struct http_exchange *exchange)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->message);
	return &connection->message->arena;
}

void http_exchange_take_body(struct http_exchange *exchange, struct buffer *ret_body)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->message);
	struct buffer *body = &connection->message->body;
	*ret_body = *body;
	*body = BUFFER_MAX(body->max);
}

void http_exchange_set_data(struct http_exchange *exchange, void *data)
{
	exchange->data = data;
}

void *http_exchange_data(const struct http_exchange *exchange)
{
	return exchange->data;
}

void http_exchange_on_abort(struct http_exchange *exchange, void (*on_abort)(struct http_exchange *exchange))
{
	exchange->on_abort = on_abort;
}

/* Sends a head, and the body that belongs to it. */
static void send_answer(struct http_connection *connection, struct http_answer *answer, struct bytes body)
{
	struct http_core *core = connection->core;
	if (core->stopping)
		connection->keep_alive = false;
	answer->connection = !connection->keep_alive ? HTTP_CONNECTION_CLOSE
			     : connection->http10    ? HTTP_CONNECTION_KEEP_ALIVE
						     : HTTP_CONNECTION_PERSISTS;
	answer->date_line = http_date_line(&core->date, core->transport->now(core));
	buffer_clear(&core->scratch);
	http_answer_head(&core->scratch, answer);
	const struct bytes parts[] = { buffer_bytes(&core->scratch), body };
	http_connection_send(connection, parts, body.len > 0 ? 2 : 1);
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type, struct bytes body,
	const struct http_header *headers, size_t header_count)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->state == HTTP_STATE_HANDLING);
	bool is_bodiless = status == 204 || status == 304;
	struct http_answer answer = { .status = status,
		.content_type = content_type,
		.headers = headers,
		.header_count = header_count,
		.length = is_bodiless ? HTTP_LENGTH_NONE : HTTP_LENGTH_KNOWN,
		.content_length = body.len };
	send_answer(connection, &answer, is_bodiless || connection->head_only ? BYTES_NONE : body);
	http_connection_answered(connection);
}

void http_stream_start(struct http_exchange *exchange, int status, const char *content_type,
	const struct http_header *headers, size_t header_count)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->state == HTTP_STATE_HANDLING);
	if (connection->http10)
		connection->keep_alive = false; /* the end of the connection is the end of the answer */
	struct http_answer answer = { .status = status,
		.content_type = content_type,
		.headers = headers,
		.header_count = header_count,
		.length = connection->http10 ? HTTP_LENGTH_NONE : HTTP_LENGTH_CHUNKED };
	send_answer(connection, &answer, BYTES_NONE);
	connection->state = HTTP_STATE_STREAMING;
	http_connection_release_message(connection);
	http_connection_rest(connection);
}

bool http_stream_write(struct http_exchange *exchange, struct bytes bytes)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->state == HTTP_STATE_STREAMING);
	if (connection->head_only || bytes.len == 0 || connection->broken)
		return true;
	if (connection->http10) {
		http_connection_send(connection, &bytes, 1);
	} else {
		char line[HTTP_CHUNK_HEAD];
		const struct bytes parts[] = { { line, http_chunk_head(line, bytes.len) }, bytes,
			BYTES_LITERAL("\r\n") };
		http_connection_send(connection, parts, 3);
	}
	http_connection_rest(connection);
	if (http_connection_unsent(connection) <= connection->core->limits.write_queue_max)
		return true;
	connection->hungry = true;
	return false;
}

void http_stream_on_drained(struct http_exchange *exchange, void (*on_drained)(struct http_exchange *exchange))
{
	exchange->on_drained = on_drained;
}

size_t http_stream_queued(const struct http_exchange *exchange)
{
	return http_connection_unsent(http_connection_of(exchange));
}

void http_stream_end(struct http_exchange *exchange)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->state == HTTP_STATE_STREAMING);
	if (!connection->head_only && !connection->http10) {
		const struct bytes last = BYTES_LITERAL("0\r\n\r\n");
		http_connection_send(connection, &last, 1);
	}
	http_connection_answered(connection);
}

void http_exchange_cut(struct http_exchange *exchange)
{
	struct http_connection *connection = http_connection_of(exchange);
	assert(connection->state == HTTP_STATE_HANDLING || connection->state == HTTP_STATE_STREAMING);
	http_connection_cut(connection);
}
