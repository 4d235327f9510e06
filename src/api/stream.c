#include "api/stream.h"

#include <stdlib.h>
#include <string.h>

#include "api/state.h"
#include "base/alloc.h"
#include "io/http_server.h"

struct stream *stream_new(struct call *call, size_t size, struct bytes eval_id, const struct follower_ops *ops,
	void (*step)(struct stream *stream))
{
	struct stream *stream = alloc(size + eval_id.len);
	stream->follower.ops = ops;
	stream->api = call->api;
	stream->step = step;
	if (eval_id.data) {
		char *text = (char *)stream + size;
		memcpy(text, eval_id.data, eval_id.len);
		stream->eval_id = (struct bytes){ text, eval_id.len };
	}
	return stream;
}

/* Forgets the exchange, which has ended or is about to. */
static void stream_free(struct stream *stream)
{
	hub_leave(stream->api->hub, &stream->follower);
	if (stream->on_gone)
		stream->on_gone(stream);
	if (stream->read)
		stream->read->stream = NULL;
	free(stream);
}

void stream_end(struct stream *stream)
{
	struct http_exchange *exchange = stream->exchange;
	stream_free(stream);
	http_exchange_on_abort(exchange, NULL);
	http_stream_end(exchange);
}

void stream_cut(struct stream *stream)
{
	struct http_exchange *exchange = stream->exchange;
	stream_free(stream);
	http_exchange_cut(exchange);
}

static void on_abort(struct http_exchange *exchange)
{
	stream_free(http_exchange_data(exchange));
}

static void on_drained(struct http_exchange *exchange)
{
	struct stream *stream = http_exchange_data(exchange);
	stream->blocked = false;
	stream->step(stream);
}

bool stream_open(struct stream *stream, struct call *call, const char *content_type)
{
	static const struct http_header headers[] = {
		{ BYTES_LITERAL("Cache-Control"), BYTES_LITERAL("no-store") },
		{ BYTES_LITERAL("X-Accel-Buffering"), BYTES_LITERAL("no") },
	};
	bool head_only = call->request->method == HTTP_METHOD_HEAD;
	stream->exchange = call_detach(call);
	http_exchange_set_data(stream->exchange, stream);
	http_exchange_on_abort(stream->exchange, on_abort);
	http_stream_on_drained(stream->exchange, on_drained);
	http_stream_start(stream->exchange, 200, content_type, headers, ARRAY_SIZE(headers));
	if (head_only)
		stream_end(stream);
	return !head_only;
}

void stream_write(struct stream *stream, struct bytes bytes)
{
	stream->blocked |= !http_stream_write(stream->exchange, bytes);
}

void stream_read_begin(struct stream *stream, struct stream_read *read)
{
	read->stream = stream;
	read->api = stream->api;
	stream->read = read;
	stream->missed = false;
	api_hold(stream->api);
}

struct stream *stream_read_end(struct stream_read *read)
{
	struct stream *stream = read->stream;
	if (stream)
		stream->read = NULL;
	return stream;
}

void stream_on_gap(struct follower *follower)
{
	struct stream *stream = CONTAINER_OF(follower, struct stream, follower);
	stream->missed = true;
	stream->step(stream);
}

void stream_on_drain(struct follower *follower)
{
	stream_end(CONTAINER_OF(follower, struct stream, follower));
}
