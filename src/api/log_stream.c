/* Output goes from the store to the client, and once all of that is out, as it is published:
 *
 *   READING ◄── missed ── LIVE          READING: coordinator_flush_output(), then store.read_output(), again until the end
 *      └── nothing missed ──┘           LIVE: what the bus tells, where it follows directly on what was sent
 *
 * What is published while it is READING, or while the client is slow (`blocked`), is not kept here: it is only noted that there is more, and the
 * store is read again from where the client is. So a follower costs the same however much is printed, and loses nothing.
 *
 * Positions count both streams together, for this alone tells whether something lies between two pieces; a stream by itself is picked out
 * here. */
#include "api/log_stream.h"

#include <stdlib.h>
#include <string.h>

#include "api/hub.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/coordinator.h"
#include "io/sse.h"
#include "task/forms.h"
#include "task/lifecycle.h"

#define READ_MAX ((size_t)64 * 1024)

struct log_stream {
	struct follower follower;
	struct api *api; /* borrowed */
	struct http_exchange *exchange; /* borrowed; NULL once it is over */
	struct log_read *read; /* owned; NULL: not READING */
	struct uuid task_id;
	struct bytes tenant; /* for the events; borrowed: interned */
	uint64_t next; /* position behind what was looked at */
	uint64_t skip; /* bytes of the wanted output still to leave out: the client's offset */
	int attempt; /* 0: none yet */
	int newer_attempt; /* the task has gone on to this one */
	int run;
	int stream;
	bool attempt_fixed, sse, blocked;
	bool missed; /* there is more in the store */
	bool ended; /* no more will be printed: ends with what the store has */
	struct bytes eval_id; /* behind the struct; absent: none */
	char eval_id_text[];
};

struct log_read {
	struct read_output read;
	struct log_stream *stream; /* NULL: it has gone meanwhile */
	struct api *api;
};

static void step(struct log_stream *stream);

/* ---- ending ---- */

/* Forgets the exchange, which has ended or is about to. */
static void stream_free(struct log_stream *stream)
{
	hub_leave(stream->api->hub, &stream->follower);
	if (stream->read)
		stream->read->stream = NULL;
	free(stream);
}

static void stream_end(struct log_stream *stream)
{
	struct http_exchange *exchange = stream->exchange;
	stream_free(stream);
	http_exchange_on_abort(exchange, NULL);
	http_stream_end(exchange);
}

/* So that the client sees that something is missing. */
static void stream_cut(struct log_stream *stream)
{
	struct http_exchange *exchange = stream->exchange;
	stream_free(stream);
	http_exchange_cut(exchange);
}

static void on_abort(struct http_exchange *exchange)
{
	stream_free(http_exchange_data(exchange));
}

/* ---- writing ---- */

static void write_bytes(struct log_stream *stream, int from, uint64_t position, struct bytes data, int64_t timestamp_us)
{
	if (!stream->sse) {
		stream->blocked |= !http_stream_write(stream->exchange, data);
		return;
	}
	struct live_event event = {
		.kind = EVENT_LOG,
		.task_id = stream->task_id,
		.run = stream->run,
		.attempt = stream->attempt,
		.timestamp_us = timestamp_us,
		.tenant = stream->tenant,
		.eval_id = stream->eval_id,
		.stream = from,
		.offset = position,
		.data = data,
	};
	stream->blocked |= !http_stream_write(stream->exchange, hub_own_live_text(stream->api->hub, &event));
}

/* A piece that begins at `position` and was not looked at before. */
static void take_piece(struct log_stream *stream, int from, uint64_t position, struct bytes data, int64_t timestamp_us)
{
	stream->next = position + data.len;
	if (stream->stream != 0 && from != stream->stream)
		return;
	size_t skip = stream->skip < data.len ? (size_t)stream->skip : data.len;
	stream->skip -= skip;
	data.data += skip;
	data.len -= skip;
	if (data.len > 0)
		write_bytes(stream, from, position + skip, data, timestamp_us);
}

/* ---- reading ---- */

static void on_read(struct store_operation *operation)
{
	struct log_read *read = CONTAINER_OF(operation, struct log_read, read.operation);
	struct log_stream *stream = read->stream;
	struct api *api = read->api;
	if (stream) {
		stream->read = NULL;
		if (operation->outcome == STORE_OK) {
			if (stream->attempt == 0)
				stream->attempt = read->read.attempt_read;
			for (size_t i = 0; i < read->read.result_count; i++)
				take_piece(stream, read->read.results[i].stream, read->read.results[i].offset,
					read->read.results[i].data, clock_wall_us());
			stream->missed |= stream->next < read->read.end && read->read.result_count > 0;
			step(stream);
		} else if (!stream->follower.topic) {
			stream_cut(stream);
		} else {
			stream->missed = true; /* again at the next tick */
		}
	}
	store_operation_fini(operation);
	free(read);
	api_release(api);
}

static void on_flushed(void *owner)
{
	struct log_read *read = owner;
	struct api *api = read->api;
	if (!read->stream) {
		free(read);
		api_release(api);
		return;
	}
	read->read.operation.done = on_read;
	read->read.task_id = read->stream->task_id;
	read->read.attempt = read->stream->attempt;
	read->read.offset = read->stream->next;
	read->read.limit = READ_MAX;
	api->store->ops->read_output(api->store, &read->read);
}

static void start_reading(struct log_stream *stream)
{
	struct log_read *read = alloc(sizeof(*read));
	read->stream = stream;
	read->api = stream->api;
	stream->read = read;
	stream->missed = false;
	api_hold(stream->api);
	coordinator_flush_output(stream->api->coordinator, &stream->task_id, on_flushed, read);
}

/* Goes on with what is to be done, if the client can take more. May free the stream. */
static void step(struct log_stream *stream)
{
	if (stream->read || stream->blocked)
		return;
	if (stream->missed) {
		start_reading(stream);
		return;
	}
	if (stream->newer_attempt > stream->attempt && !stream->attempt_fixed) {
		stream->attempt = stream->newer_attempt;
		stream->next = stream->skip = 0;
		start_reading(stream);
		return;
	}
	if (stream->ended)
		stream_end(stream);
}

static void on_drained(struct http_exchange *exchange)
{
	struct log_stream *stream = http_exchange_data(exchange);
	stream->blocked = false;
	step(stream);
}

/* ---- the hub ---- */

static void on_event(struct follower *follower, const struct event *event)
{
	struct log_stream *stream = CONTAINER_OF(follower, struct log_stream, follower);
	bool terminal = event->kind == EVENT_COMPLETED || event->kind == EVENT_FAILED || event->kind == EVENT_CANCELLED;
	if (terminal && event->run >= stream->run)
		stream->ended = true;
	else if (event->kind == EVENT_RETRYING && stream->attempt_fixed && event->attempt >= stream->attempt)
		stream->ended = true;
	else if (event->kind == EVENT_RUNNING && event->attempt > stream->attempt) {
		stream->newer_attempt = event->attempt;
		stream->ended |= stream->attempt_fixed;
	} else
		return;
	stream->missed = true;
	step(stream);
}

static void on_live(struct follower *follower, const struct live_event *event)
{
	struct log_stream *stream = CONTAINER_OF(follower, struct log_stream, follower);
	if (event->kind != EVENT_LOG || event->attempt < stream->attempt)
		return;
	if (event->attempt > stream->attempt) {
		stream->newer_attempt = event->attempt;
		stream->ended |= stream->attempt_fixed;
		stream->missed = true;
		step(stream);
		return;
	}
	if (stream->read || stream->blocked || stream->missed || event->offset > stream->next) {
		stream->missed = true;
		step(stream);
		return;
	}
	uint64_t known = stream->next - event->offset;
	if (known >= event->data.len)
		return;
	struct bytes data = { event->data.data + known, event->data.len - (size_t)known };
	take_piece(stream, event->stream, stream->next, data, event->timestamp_us);
}

static void on_gap(struct follower *follower)
{
	struct log_stream *stream = CONTAINER_OF(follower, struct log_stream, follower);
	stream->missed = true;
	step(stream);
}

static void on_tick(struct follower *follower)
{
	struct log_stream *stream = CONTAINER_OF(follower, struct log_stream, follower);
	if (stream->sse && !stream->blocked)
		stream->blocked |= !http_stream_write(stream->exchange, hub_comment());
	step(stream);
}

static void on_drain(struct follower *follower)
{
	stream_end(CONTAINER_OF(follower, struct log_stream, follower));
}

static const struct follower_ops ops = {
	.on_event = on_event, .on_live = on_live, .on_gap = on_gap, .on_tick = on_tick, .on_drain = on_drain
};

void log_stream_start(struct call *call, const struct log_range *range, const struct task *task, bool follow)
{
	struct log_stream *stream = alloc(sizeof(*stream) + task->eval_id.len);
	if (task->eval_id.data) {
		memcpy(stream->eval_id_text, task->eval_id.data, task->eval_id.len);
		stream->eval_id = (struct bytes){ stream->eval_id_text, task->eval_id.len };
	}
	stream->follower.ops = &ops;
	stream->api = call->api;
	stream->task_id = range->task_id;
	stream->tenant = call->who.tenant;
	stream->attempt = range->attempt;
	stream->attempt_fixed = range->attempt != 0;
	stream->stream = range->stream;
	if (range->stream == 0)
		stream->next = range->offset;
	else
		stream->skip = range->offset;
	stream->run = task->run;
	stream->sse = follow && call_accepts(call, "text/event-stream");
	/* An attempt before the last prints no more. */
	stream->ended =
		!follow || task_status_ended(task->status) || (range->attempt != 0 && range->attempt < task->attempt);
	if (!stream->ended)
		hub_follow(stream->api->hub, &stream->follower, TOPIC_TASK,
			(struct bytes){ (const char *)stream->task_id.bytes, 16 });

	static const struct http_header headers[] = {
		{ BYTES_LITERAL("Cache-Control"), BYTES_LITERAL("no-store") },
		{ BYTES_LITERAL("X-Accel-Buffering"), BYTES_LITERAL("no") },
	};
	bool head_only = call->request->method == HTTP_METHOD_HEAD;
	stream->exchange = call_detach(call);
	http_exchange_set_data(stream->exchange, stream);
	http_exchange_on_abort(stream->exchange, on_abort);
	http_stream_on_drained(stream->exchange, on_drained);
	http_stream_start(stream->exchange, 200, stream->sse ? SSE_CONTENT_TYPE : "text/plain; charset=utf-8", headers,
		ARRAY_SIZE(headers));
	if (head_only)
		stream_end(stream);
	else
		start_reading(stream);
}
