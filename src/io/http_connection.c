/* The protocol engine: takes bytes, hands requests to the handler one at a time, sends what it answers.
 *
 * While one read is worked through, the connection is "corked": its answers are gathered in core->out, which all
 * connections share, and leave with one write at the end. What the kernel does not take becomes memory of the
 * connection's own: one block that the transport is sending, one buffer behind it. As long as there is any, no
 * further request is begun, so that a client which does not read costs one answer at most.
 *
 * Bytes that come while a request is handled are kept in `input`, up to a bound at which reading stops; what
 * follows from them is done later, from http_core_run_deferred(), never from within a call of the handler's. The
 * same way goes a write that failed: the handler hears of it by on_abort, later.
 *
 * A connection is freed by its transport after http_connection_closed() only, so that every function here may use it
 * after it called the handler; it has to look at the state again. */
#include "io/http_connection.h"

#include "base/alloc.h"

#define REQUESTS_PER_TURN 64 /* of one connection, before others get the loop */
#define LINE_ENDS_MAX 8 /* bytes of empty lines before a request line: RFC 9112, section 2.2 */

struct http_connection *http_connection_of(const struct http_exchange *exchange)
{
	return CONTAINER_OF(exchange, struct http_connection, exchange);
}

static bool has_input(const struct http_connection *connection)
{
	return connection->input.len > connection->input_at;
}

/* Brings the count of memory that clients have made us hold up to date. */
static void account(struct http_connection *connection)
{
	size_t holds =
		connection->input.capacity + (connection->message ? http_message_body_memory(connection->message) : 0);
	connection->core->statistics.body_memory += holds - connection->counted;
	connection->counted = holds;
}

static bool has_memory_for(const struct http_core *core, uint64_t more)
{
	uint64_t used = core->statistics.body_memory, max = core->limits.body_memory_max;
	return used <= max && more <= max - used;
}

void http_connection_release_message(struct http_connection *connection)
{
	struct http_message *message = STEAL(connection->message);
	if (!message)
		return;
	account(connection);
	http_core_give_message(connection->core, message);
}

static void drop_input(struct http_connection *connection)
{
	buffer_fini(&connection->input);
	connection->input_at = 0;
	account(connection);
}

static void close_connection(struct http_connection *connection, bool reset)
{
	struct http_core *core = connection->core;
	if (connection->state == HTTP_STATE_CLOSED)
		return;
	connection->state = HTTP_STATE_CLOSED;
	http_connection_release_message(connection);
	drop_input(connection);
	buffer_fini(&connection->waiting);
	http_timeout_disarm(&connection->timeout);
	list_remove(&connection->deferred);
	core->transport->close(connection, reset);
	http_core_update_timer(core);
}

/* The client is gone, or is treated as if it were. */
static void gone(struct http_connection *connection)
{
	enum http_connection_state state = connection->state;
	if (state == HTTP_STATE_CLOSED)
		return;
	connection->broken = true;
	if (state == HTTP_STATE_HANDLING || state == HTTP_STATE_STREAMING) {
		connection->state = HTTP_STATE_LINGER;
		if (connection->exchange.on_abort)
			connection->exchange.on_abort(&connection->exchange);
	}
	close_connection(connection, false);
}

static void refuse(struct http_connection *connection, int status, const char *detail)
{
	struct http_core *core = connection->core;
	const struct http_message *message = connection->message;
	bool head_only = message && message->head_done && message->request.method == HTTP_METHOD_HEAD;
	struct buffer problem = BUFFER_MAX(1024);
	const struct http_header retry = { BYTES_LITERAL("Retry-After"), BYTES_LITERAL("1") };
	http_answer_problem(&problem, status, detail);
	buffer_clear(&core->scratch);
	http_answer_head(
		&core->scratch, &(struct http_answer){ .status = status,
					.content_type = "application/problem+json",
					.content_length = problem.len,
					.connection = HTTP_CONNECTION_CLOSE,
					.headers = &retry,
					.header_count = status == 503,
					.date_line = http_date_line(&core->date, core->transport->now(core)) });
	const struct bytes parts[] = { buffer_bytes(&core->scratch), buffer_bytes(&problem) };
	http_connection_send(connection, parts, head_only ? 1 : 2);
	buffer_fini(&problem);
	core->statistics.refused++;
	log_event(core->log, LOG_DEBUG, "request refused", L_INT("status", status), L_STR("detail", detail));
	http_connection_release_message(connection);
	connection->state = HTTP_STATE_LINGER;
	connection->linger = true;
}

void http_connection_answered(struct http_connection *connection)
{
	http_connection_release_message(connection);
	connection->exchange = (struct http_exchange){ 0 };
	connection->hungry = false;
	if (connection->keep_alive && !connection->core->stopping) {
		connection->state = HTTP_STATE_HEAD;
	} else {
		connection->state = HTTP_STATE_LINGER;
		connection->linger = has_input(connection) || connection->core->stopping;
	}
	http_connection_rest(connection);
}

void http_connection_cut(struct http_connection *connection)
{
	connection->exchange = (struct http_exchange){ 0 };
	if (connection->core->corked == connection)
		http_connection_flush(connection); /* the answers to earlier requests */
	/* Only a chunked answer shows by itself that its end is missing. */
	close_connection(connection, connection->http10);
}

static void dispatch(struct http_connection *connection)
{
	struct http_core *core = connection->core;
	struct http_message *message = connection->message;
	connection->state = HTTP_STATE_HANDLING;
	connection->keep_alive = message->keep_alive;
	connection->http10 = message->http10;
	connection->head_only = message->request.method == HTTP_METHOD_HEAD;
	http_timeout_disarm(&connection->timeout);
	core->statistics.requests++;
	core->on_request(core->owner, &connection->exchange);
}

static void on_head(struct http_connection *connection, bool more_in_hand)
{
	struct http_core *core = connection->core;
	struct http_message *message = connection->message;
	message->request.peer = &connection->peer.any;
	if (!http_message_has_body(message)) {
		dispatch(connection);
		return;
	}
	message->body_max = core->body_limit(core->owner, &message->request);
	if (message->content_length > message->body_max || message->body_max == 0) {
		refuse(connection, 413, "The body is larger than this request may have.");
		return;
	}
	if (!has_memory_for(core, message->content_length)) {
		refuse(connection, 503, "Too many requests are being received. Try again later.");
		return;
	}
	connection->state = HTTP_STATE_BODY;
	if (message->expects_continue && !more_in_hand) {
		const struct bytes go_on = BYTES_LITERAL("HTTP/1.1 100 Continue\r\n\r\n");
		http_connection_send(connection, &go_on, 1);
	}
}

/* Takes empty lines before a request; 0 and a refusal if they are no lines. Gives the bytes taken. */
static size_t skip_line_ends(struct http_connection *connection, const char *data, size_t len)
{
	size_t at = 0;
	while (at < len && (data[at] == '\r' || data[at] == '\n' || connection->line_ends % 2)) {
		if (data[at] != "\r\n"[connection->line_ends % 2] || connection->line_ends == LINE_ENDS_MAX) {
			refuse(connection, 400, "There is no request line.");
			return at;
		}
		connection->line_ends++;
		at++;
	}
	return at;
}

static size_t parse_head(struct http_connection *connection, const char *data, size_t len)
{
	size_t skipped = 0, used = 0;
	if (!connection->message) {
		skipped = skip_line_ends(connection, data, len);
		if (skipped == len || connection->state != HTTP_STATE_HEAD)
			return skipped;
		connection->line_ends = 0;
		connection->message = http_core_take_message(connection->core);
	}
	struct http_message *message = connection->message;
	switch (http_message_head(message, data + skipped, len - skipped, &used)) {
	case HTTP_MESSAGE_REFUSED:
		refuse(connection, message->status, message->detail);
		break;
	case HTTP_MESSAGE_DONE:
		on_head(connection, skipped + used < len);
		break;
	case HTTP_MESSAGE_MORE:
		break;
	}
	return skipped + used;
}

static size_t parse_body(struct http_connection *connection, const char *data, size_t len)
{
	struct http_message *message = connection->message;
	size_t used = 0;
	uint64_t coming = message->chunked ? len : message->content_length - message->body.len;
	if (!has_memory_for(connection->core, coming < len ? coming : len)) {
		refuse(connection, 503, "Too many requests are being received. Try again later.");
		return 0;
	}
	enum http_message_result result = http_message_body(message, data, len, &used);
	account(connection);
	switch (result) {
	case HTTP_MESSAGE_REFUSED:
		refuse(connection, message->status, message->detail);
		break;
	case HTTP_MESSAGE_DONE:
		dispatch(connection);
		break;
	case HTTP_MESSAGE_MORE:
		http_timeout_disarm(&connection->timeout); /* to be armed anew: the body gets on */
		break;
	}
	return used;
}

/* Works through bytes until they are used up, a request waits for its answer, or others should have the loop. Gives
 * the number of bytes used. */
static size_t parse(struct http_connection *connection, const char *data, size_t len)
{
	size_t at = 0;
	uint64_t begun = connection->core->statistics.requests;
	while (at < len && !connection->broken) {
		if (connection->state == HTTP_STATE_BODY)
			at += parse_body(connection, data + at, len - at);
		else if (connection->state == HTTP_STATE_HEAD && !http_connection_has_unsent(connection) &&
			 connection->core->statistics.requests - begun < REQUESTS_PER_TURN)
			at += parse_head(connection, data + at, len - at);
		else
			break;
	}
	return at;
}

static void keep_input(struct http_connection *connection, const char *data, size_t len)
{
	if (connection->state == HTTP_STATE_LINGER)
		connection->linger = true;
	if (connection->broken || connection->state == HTTP_STATE_LINGER || connection->state == HTTP_STATE_CLOSED)
		return;
	buffer_consume(&connection->input, connection->input_at);
	connection->input_at = 0;
	if (has_memory_for(connection->core, len))
		buffer_append(&connection->input, data, len);
	else
		connection->input.failed = true;
	account(connection);
	if (connection->input.failed)
		gone(connection);
}

static void cork(struct http_connection *connection)
{
	connection->core->corked = connection;
}

static void uncork(struct http_connection *connection)
{
	http_connection_flush(connection);
	connection->core->corked = NULL;
}

/* What follows when bytes have left, or a read was worked through. */
static void settle(struct http_connection *connection)
{
	if (connection->hungry && !connection->broken && connection->state == HTTP_STATE_STREAMING &&
		!http_connection_has_unsent(connection)) {
		connection->hungry = false;
		if (connection->exchange.on_drained)
			connection->exchange.on_drained(&connection->exchange);
	}
	http_connection_rest(connection);
}

void http_connection_resume(struct http_connection *connection)
{
	if (has_input(connection)) {
		cork(connection);
		connection->input_at += parse(connection, connection->input.data + connection->input_at,
			connection->input.len - connection->input_at);
		uncork(connection);
		if (!has_input(connection) || connection->state == HTTP_STATE_LINGER ||
			connection->state == HTTP_STATE_CLOSED)
			drop_input(connection);
	}
	settle(connection);
}

static void linger(struct http_connection *connection)
{
	if (connection->eof || !connection->linger) {
		close_connection(connection, false);
	} else if (!connection->is_shut) {
		connection->is_shut = true;
		connection->core->transport->shutdown(connection);
	}
}

static enum http_timeout_kind timeout_of(const struct http_connection *connection)
{
	if (http_connection_has_unsent(connection))
		return HTTP_TIMEOUT_WRITE;
	switch (connection->state) {
	case HTTP_STATE_HEAD:
		if (has_input(connection))
			return HTTP_TIMEOUT_NONE;
		return connection->message ? HTTP_TIMEOUT_HEAD : HTTP_TIMEOUT_IDLE;
	case HTTP_STATE_BODY:
		return HTTP_TIMEOUT_BODY;
	case HTTP_STATE_LINGER:
		return HTTP_TIMEOUT_LINGER;
	default:
		return HTTP_TIMEOUT_NONE;
	}
}

void http_connection_rest(struct http_connection *connection)
{
	struct http_core *core = connection->core;
	if (core->corked == connection || connection->broken || connection->state == HTTP_STATE_CLOSED)
		return;
	bool is_receiving = connection->state == HTTP_STATE_HEAD || connection->state == HTTP_STATE_BODY;
	if (is_receiving && has_input(connection)) {
		if (!http_connection_has_unsent(connection))
			http_core_defer(connection);
	} else if (is_receiving && connection->eof) {
		http_connection_release_message(connection);
		connection->state = HTTP_STATE_LINGER;
	}
	if (connection->state == HTTP_STATE_LINGER && !http_connection_has_unsent(connection)) {
		linger(connection);
		if (connection->state == HTTP_STATE_CLOSED)
			return;
	}
	bool should_read = !connection->eof && connection->input.len - connection->input_at < core->limits.head_max;
	if (should_read != connection->reading) {
		connection->reading = should_read;
		core->transport->read(connection, should_read);
	}
	enum http_timeout_kind kind = timeout_of(connection);
	if (kind == HTTP_TIMEOUT_NONE) {
		http_timeout_disarm(&connection->timeout);
	} else if (kind != connection->timeout.kind) {
		http_timeout_arm(&core->timeouts, &connection->timeout, kind, core->transport->now(core));
		if (kind == HTTP_TIMEOUT_WRITE)
			connection->stalled_at = core->transport->unsent(connection);
	}
	http_core_update_timer(core);
}

void http_connection_init(struct http_connection *connection, struct http_core *core)
{
	connection->core = core;
	list_push_back(&core->connections, &connection->node);
	core->statistics.connections++;
	core->statistics.accepted++;
	http_connection_rest(connection);
}

void http_connection_data(struct http_connection *connection, const char *data, size_t len)
{
	connection->core->statistics.bytes_in += len;
	if (!has_input(connection) && !connection->broken) {
		cork(connection);
		size_t used = parse(connection, data, len);
		if (used < len)
			keep_input(connection, data + used, len - used);
		uncork(connection);
	} else {
		keep_input(connection, data, len);
	}
	settle(connection);
}

void http_connection_eof(struct http_connection *connection)
{
	connection->eof = true;
	/* A client that ends its direction before it has its answer does not wait for it: that cannot be told from one
	 * that has gone away. */
	if (connection->state == HTTP_STATE_HANDLING || connection->state == HTTP_STATE_STREAMING)
		gone(connection);
	else
		http_connection_rest(connection);
}

void http_connection_failed(struct http_connection *connection)
{
	gone(connection);
}

void http_connection_written(struct http_connection *connection, int status)
{
	connection->sending = 0;
	if (connection->state == HTTP_STATE_CLOSED)
		return;
	if (status < 0 || connection->broken) {
		gone(connection);
		return;
	}
	http_timeout_disarm(&connection->timeout); /* to be armed anew: the client gets on */
	if (connection->waiting.len > 0) {
		struct buffer block = connection->waiting;
		connection->waiting = (struct buffer){ 0 };
		connection->sending = block.len;
		connection->core->transport->write(connection, block.data, block.len);
	}
	settle(connection);
}

void http_connection_closed(struct http_connection *connection)
{
	list_remove(&connection->node);
	connection->core->statistics.connections--;
}

void http_connection_timed_out(struct http_connection *connection, enum http_timeout_kind kind)
{
	size_t unsent;
	switch (kind) {
	case HTTP_TIMEOUT_HEAD:
		refuse(connection, 408, "The head of the request did not come in time.");
		break;
	case HTTP_TIMEOUT_BODY:
		refuse(connection, 408, "The body of the request did not come in time.");
		break;
	case HTTP_TIMEOUT_WRITE:
		unsent = connection->core->transport->unsent(connection);
		if (unsent >= connection->stalled_at)
			gone(connection);
		break; /* otherwise the client takes what it gets, slowly: armed anew */
	default:
		close_connection(connection, false);
		break;
	}
	http_connection_rest(connection);
}

/* Idle connections end at once, the others when they have answered. */
void http_connection_stop(struct http_connection *connection)
{
	if (connection->state != HTTP_STATE_HEAD || connection->message || has_input(connection))
		return;
	connection->state = HTTP_STATE_LINGER;
	http_connection_rest(connection);
}
