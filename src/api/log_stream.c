/* Output goes from the store to the client, and once all of that is out, as it is published (api/stream.h). Reading
 * begins with coordinator_flush_output(), so that the store has all that was printed; what is published goes out where
 * it follows directly on what was sent. So a follower costs the same however much is printed, and loses nothing.
 *
 * Positions count both streams together, for this alone tells whether something lies between two pieces; a stream by
 * itself is picked out here. */
#include "api/log_stream.h"

#include <stdlib.h>

#include "api/hub.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/stream.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "coordinator/coordinator.h"
#include "io/sse.h"
#include "task/forms.h"
#include "task/lifecycle.h"

#define READ_MAX ((size_t)64 * 1024)

struct log_stream {
	struct stream stream; /* first */
	struct output_follower output; /* where another replica runs the task */
	struct uuid task_id;
	struct bytes tenant; /* for the events; borrowed: interned */
	uint64_t next; /* position behind what was looked at */
	uint64_t skip; /* bytes of the wanted output still to leave out: the client's offset */
	int attempt; /* 0: none yet */
	int newer_attempt; /* the task has gone on to this one */
	int run;
	int wanted; /* stream 1 or 2; 0: both */
	bool attempt_fixed, sse;
};

struct log_read {
	struct stream_read out;
	struct read_output read;
};

static struct log_stream *of_stream(struct stream *stream)
{
	return CONTAINER_OF(stream, struct log_stream, stream);
}

static struct log_stream *of_follower(struct follower *follower)
{
	return CONTAINER_OF(follower, struct log_stream, stream.follower);
}

static void step(struct stream *base);

/* ---- writing ---- */

static void write_bytes(struct log_stream *stream, int from, uint64_t position, struct bytes data, int64_t timestamp_us)
{
	if (!stream->sse) {
		stream_write(&stream->stream, data);
		return;
	}
	struct live_event event = {
		.kind = EVENT_LOG,
		.task_id = stream->task_id,
		.run = stream->run,
		.attempt = stream->attempt,
		.timestamp_us = timestamp_us,
		.tenant = stream->tenant,
		.eval_id = stream->stream.eval_id,
		.stream = from,
		.offset = position,
		.data = data,
	};
	stream_write(&stream->stream, hub_own_live_text(stream->stream.api->hub, &event));
}

/* A piece that begins at `position` and was not looked at before. */
static void take_piece(struct log_stream *stream, int from, uint64_t position, struct bytes data, int64_t timestamp_us)
{
	stream->next = position + data.len;
	if (stream->wanted != 0 && from != stream->wanted)
		return;
	size_t skip = stream->skip < data.len ? (size_t)stream->skip : data.len;
	stream->skip -= skip;
	data.data += skip;
	data.len -= skip;
	if (data.len > 0)
		write_bytes(stream, from, position + skip, data, timestamp_us);
}

/* ---- reading ---- */

static void take_read(struct log_stream *stream, const struct read_output *read)
{
	if (stream->attempt == 0)
		stream->attempt = read->attempt_read;
	for (size_t i = 0; i < read->result_count; i++)
		take_piece(stream, read->results[i].stream, read->results[i].offset, read->results[i].data,
			clock_wall_us());
	stream->stream.missed |= stream->next < read->end && read->result_count > 0;
	step(&stream->stream);
}

static void on_read(struct store_operation *operation)
{
	struct log_read *read = CONTAINER_OF(operation, struct log_read, read.operation);
	struct stream *stream = stream_read_end(&read->out);
	struct api *api = read->out.api;
	if (stream && operation->outcome == STORE_OK)
		take_read(of_stream(stream), &read->read);
	else if (stream && !stream->follower.topic)
		stream_cut(stream);
	else if (stream)
		stream->missed = true; /* again at the next tick */
	store_operation_fini(operation);
	free(read);
	api_release(api);
}

static void on_flushed(void *owner)
{
	struct log_read *read = owner;
	struct api *api = read->out.api;
	if (!read->out.stream) {
		free(read);
		api_release(api);
		return;
	}
	const struct log_stream *stream = of_stream(read->out.stream);
	read->read.operation.done = on_read;
	read->read.task_id = stream->task_id;
	read->read.attempt = stream->attempt;
	read->read.offset = stream->next;
	read->read.limit = READ_MAX;
	api->store->ops->read_output(api->store, &read->read);
}

static void start_reading(struct log_stream *stream)
{
	struct log_read *read = alloc(sizeof(*read));
	stream_read_begin(&stream->stream, &read->out);
	coordinator_flush_output(stream->stream.api->coordinator, &stream->task_id, on_flushed, read);
}

static void step(struct stream *base)
{
	struct log_stream *stream = of_stream(base);
	if (base->read || base->blocked)
		return;
	if (base->missed) {
		start_reading(stream);
		return;
	}
	if (stream->newer_attempt > stream->attempt && !stream->attempt_fixed) {
		stream->attempt = stream->newer_attempt;
		stream->next = stream->skip = 0;
		start_reading(stream);
		return;
	}
	if (base->ended)
		stream_end(base);
}

/* ---- the hub ---- */

static void on_event(struct follower *follower, const struct event *event)
{
	struct log_stream *stream = of_follower(follower);
	bool terminal = event->kind == EVENT_COMPLETED || event->kind == EVENT_FAILED || event->kind == EVENT_CANCELLED;
	if (terminal && event->run >= stream->run)
		stream->stream.ended = true;
	else if (event->kind == EVENT_RETRYING && stream->attempt_fixed && event->attempt >= stream->attempt)
		stream->stream.ended = true;
	else if (event->kind == EVENT_RUNNING && event->attempt > stream->attempt) {
		stream->newer_attempt = event->attempt;
		stream->stream.ended |= stream->attempt_fixed;
	} else
		return;
	stream->stream.missed = true;
	step(&stream->stream);
}

static void on_live(struct follower *follower, const struct live_event *event)
{
	struct log_stream *stream = of_follower(follower);
	if (event->kind != EVENT_LOG || event->attempt < stream->attempt)
		return;
	if (event->attempt > stream->attempt) {
		stream->newer_attempt = event->attempt;
		stream->stream.ended |= stream->attempt_fixed;
		stream->stream.missed = true;
		step(&stream->stream);
		return;
	}
	if (stream_must_wait(&stream->stream) || event->offset > stream->next || !event->data.data) {
		stream->stream.missed = true;
		step(&stream->stream);
		return;
	}
	uint64_t known = stream->next - event->offset;
	if (known >= event->data.len)
		return;
	struct bytes data = { event->data.data + known, event->data.len - (size_t)known };
	take_piece(stream, event->stream, stream->next, data, event->timestamp_us);
}

/* Another replica wrote output. Where the bus brings it as well, offsets tell what was sent already. */
static void on_output(struct output_follower *follower)
{
	struct log_stream *stream = CONTAINER_OF(follower, struct log_stream, output);
	stream->stream.missed = true;
	step(&stream->stream);
}

static void on_gone(struct stream *base)
{
	coordinator_unfollow_output(base->api->coordinator, &of_stream(base)->output);
}

static void on_tick(struct follower *follower)
{
	struct log_stream *stream = of_follower(follower);
	if (stream->sse && !stream->stream.blocked)
		stream_write(&stream->stream, hub_comment());
	step(&stream->stream);
}

static const struct follower_ops ops = { .on_event = on_event,
	.on_live = on_live,
	.on_gap = stream_on_gap,
	.on_tick = on_tick,
	.on_drain = stream_on_drain };

void log_stream_start(struct call *call, const struct log_range *range, const struct task *task, bool follow)
{
	struct log_stream *stream = of_stream(stream_new(call, sizeof(*stream), task->eval_id, &ops, step));
	stream->task_id = range->task_id;
	stream->tenant = call->who.tenant;
	stream->attempt = range->attempt;
	stream->attempt_fixed = range->attempt != 0;
	stream->wanted = range->stream;
	if (range->stream == 0)
		stream->next = range->offset;
	else
		stream->skip = range->offset;
	stream->run = task->run;
	stream->sse = follow && call_accepts(call, "text/event-stream");
	/* An attempt before the last prints no more. */
	stream->stream.ended =
		!follow || task_status_ended(task->status) || (range->attempt != 0 && range->attempt < task->attempt);
	stream->stream.on_gone = on_gone;
	stream->output = (struct output_follower){ .id = range->task_id, .on_output = on_output };
	if (!stream->stream.ended)
		coordinator_follow_output(call->api->coordinator, &stream->output);
	if (!stream->stream.ended)
		hub_follow(call->api->hub, &stream->stream.follower, TOPIC_TASK,
			(struct bytes){ (const char *)stream->task_id.bytes, 16 });
	if (stream_open(&stream->stream, call, stream->sse ? SSE_CONTENT_TYPE : "text/plain; charset=utf-8"))
		start_reading(stream);
}
