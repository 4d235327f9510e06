/* GET /events and GET /tasks/{id}/events: Server-Sent Events.
 *
 * A stream follows first and reads then, so that nothing falls in between (api/stream.h). Of durable events a slow
 * client loses none.
 *
 * `cursor` is where the stream would go on reading, and what the client comes back with: everything before it has
 * been sent. What the store gives, the events of one task (whose sequence has no gaps), and all where the store's
 * cursors are final, carry their own. Other live events may overtake what has committed before them, on another
 * replica or another connection: with them the cursor moves as far as the hub's frontier. What was read from the
 * store beyond it is held in `position`, so that the store does not give it again: a stream that goes on from there
 * comes to the end also while a transaction stays open that may yet write events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "api/hub.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/stream.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/text.h"
#include "coordinator/coordinator.h"
#include "io/sse.h"
#include "task/forms.h"
#include "task/lifecycle.h"

#define READ_EVENTS 32
#define READ_BYTES 65536
#define ALL_KINDS ((1u << EVENT_KIND_COUNT) - 1)
#define DURABLE_KINDS ((1u << EVENT_KIND_DURABLE_COUNT) - 1)
#define TERMINAL_KINDS (1u << EVENT_COMPLETED | 1u << EVENT_FAILED | 1u << EVENT_CANCELLED)

struct event_stream {
	struct stream stream; /* first */
	struct bytes tenant; /* absent: all; borrowed: interned */
	struct uuid task_id, batch_id; /* nil: any */
	struct cursor cursor; /* everything before it has been sent */
	struct cursor read_to; /* what lies up to there was read from the store, whatever is told of it afterwards */
	struct buffer position; /* what has been sent besides (store.h, read_events); empty: nothing, or nobody knows */
	uint32_t kinds; /* 1 << enum event_kind */
	uint32_t sequence; /* of one task: of the last event sent */
	int run; /* of one task: the run whose end ends the stream */
	bool one_task;
	bool own_cursors; /* of live events are good for reading on */
	bool cursor_told; /* the client has it */
};

struct event_read {
	struct stream_read out;
	struct read_events read;
	struct arena arena; /* of what is asked for */
};

static struct event_stream *of_stream(struct stream *stream)
{
	return CONTAINER_OF(stream, struct event_stream, stream);
}

static struct event_stream *of_follower(struct follower *follower)
{
	return CONTAINER_OF(follower, struct event_stream, stream.follower);
}

/* ---- sending ---- */

static bool wants(const struct event_stream *stream, enum event_kind kind, const struct uuid *task_id,
	const struct uuid *batch_id, struct bytes eval_id, struct bytes tenant)
{
	if (stream->tenant.data && !bytes_equal(stream->tenant, tenant))
		return false;
	if (!uuid_is_nil(&stream->task_id) && uuid_compare(&stream->task_id, task_id) != 0)
		return false;
	if (!uuid_is_nil(&stream->batch_id) && uuid_compare(&stream->batch_id, batch_id) != 0)
		return false;
	if (stream->stream.eval_id.data && !bytes_equal(stream->stream.eval_id, eval_id))
		return false;
	return stream->kinds & 1u << kind;
}

static void write_id(struct event_stream *stream, const char *end)
{
	char id[CURSOR_TEXT_SIZE], line[CURSOR_TEXT_SIZE + 8];
	int len = snprintf(line, sizeof(line), "id: %s%s", cursor_format(&stream->cursor, id), end);
	stream_write(&stream->stream, (struct bytes){ line, (size_t)len });
	stream->cursor_told = true;
}

static void cursor_set(struct event_stream *stream, const struct cursor *cursor, bool told)
{
	stream->cursor = *cursor;
	stream->cursor_told = told;
	buffer_fini(&stream->position);
}

/* Notes an event that bears the cursor behind it. True when it ends the stream. */
static bool note_event(struct event_stream *stream, const struct event *event)
{
	cursor_set(stream, &event->cursor, /* told= */ true);
	if (!stream->one_task)
		return false;
	stream->sequence = event->sequence;
	if (event->run > stream->run)
		stream->run = event->run;
	return (1u << event->kind & TERMINAL_KINDS) && event->run >= stream->run;
}

/* What has been sent is left out, and so is what is not wanted. True when it ends the stream. */
static bool send_stored(struct event_stream *stream, const struct event *event)
{
	if (stream->one_task && event->sequence <= stream->sequence)
		return false;
	if (stream->kinds & 1u << event->kind)
		stream_write(&stream->stream, hub_own_event_text(stream->stream.api->hub, event));
	return note_event(stream, event);
}

static bool send_live(struct event_stream *stream, const struct event *event)
{
	struct hub *hub = stream->stream.api->hub;
	if (stream->own_cursors) {
		if (stream->kinds & 1u << event->kind)
			stream_write(&stream->stream, hub_event_text(hub, event));
		return note_event(stream, event);
	}
	if (cursor_compare(hub_frontier(hub), &stream->cursor) > 0)
		cursor_set(stream, hub_frontier(hub), /* told= */ false);
	if (!stream->cursor_told && stream->cursor.length > 0)
		write_id(stream, "\n"); /* the first line of what follows */
	stream_write(&stream->stream, hub_bare_event_text(hub, event));
	return false;
}

/* ---- reading ---- */

static void step(struct stream *base);

static void send_read(struct event_stream *stream, const struct read_events *read)
{
	if (read->gap) {
		struct buffer gap = BUFFER_MAX(256);
		sse_append(&gap, BYTES_LITERAL("gap"), BYTES_NONE, BYTES_LITERAL("{\"kind\":\"gap\"}"));
		stream_write(&stream->stream, buffer_bytes(&gap));
		buffer_fini(&gap);
	}
	for (size_t i = 0; i < read->result_count; i++) {
		/* Where an event's cursor does not say what has been sent the page goes out whole: it is small. */
		if (stream->stream.blocked && stream->own_cursors) {
			stream->stream.missed = true;
			return;
		}
		if (send_stored(stream, &read->results[i])) {
			stream_end(&stream->stream);
			return;
		}
	}
	stream->read_to = read->last;
	bool told = stream->cursor_told && read->more; /* between two pages it is not worth telling */
	cursor_set(stream, &read->last, told);
	buffer_append_bytes(&stream->position, read->next);
	stream->stream.missed |= read->more;
	step(&stream->stream);
}

static void on_read(struct store_operation *operation)
{
	struct event_read *read = CONTAINER_OF(operation, struct event_read, read.operation);
	struct stream *stream = stream_read_end(&read->out);
	struct api *api = read->out.api;
	if (stream && operation->outcome == STORE_OK)
		send_read(of_stream(stream), &read->read);
	else if (stream)
		stream->missed = true; /* again at the next tick */
	store_operation_fini(operation);
	arena_fini(&read->arena);
	free(read);
	api_release(api);
}

static void start_reading(struct event_stream *stream)
{
	struct event_read *read = alloc(sizeof(*read));
	struct store *store = stream->stream.api->store;
	read->read.operation.done = on_read;
	read->read.after = stream->cursor;
	read->read.task_id = stream->task_id;
	read->read.batch_id = stream->batch_id;
	read->read.tenant = stream->tenant;
	/* These lie in the stream, which may go while the store reads. */
	read->read.eval_id = arena_bytes(&read->arena, stream->stream.eval_id);
	read->read.position = arena_bytes(&read->arena, buffer_bytes(&stream->position));
	/* Of one task all kinds are read: it ends with the terminal one, wanted or not. */
	read->read.kind_mask = stream->one_task ? 0 : stream->kinds & DURABLE_KINDS;
	read->read.limit = READ_EVENTS;
	read->read.bytes_most = READ_BYTES;
	stream_read_begin(&stream->stream, &read->out);
	store->ops->read_events(store, &read->read);
}

static void step(struct stream *base)
{
	struct event_stream *stream = of_stream(base);
	if (base->read || base->blocked)
		return;
	if (!stream->one_task && !(stream->kinds & DURABLE_KINDS))
		base->missed = false; /* what it wants is not kept */
	if (base->missed)
		start_reading(stream);
	else if (base->ended)
		stream_end(base);
}

/* ---- the hub ---- */

static void on_event(struct follower *follower, const struct event *event)
{
	struct event_stream *stream = of_follower(follower);
	bool seen = stream->one_task ||
		    wants(stream, event->kind, &event->task_id, &event->batch_id, event->eval_id, event->tenant);
	if (!seen)
		return;
	if (event->run > stream->run)
		stream->stream.ended = false; /* it is run again */
	if (stream->one_task ? event->sequence <= stream->sequence
			     : stream->own_cursors && cursor_compare(&event->cursor, &stream->read_to) <= 0)
		return;
	if (stream_must_wait(&stream->stream)) {
		stream->stream.missed = true;
	} else if (stream->one_task && event->sequence > stream->sequence + 1) {
		/* It has overtaken another, or the stream goes on from a cursor and does not know its sequence. */
		stream->stream.missed = true;
		step(&stream->stream);
	} else if (send_live(stream, event)) {
		stream_end(&stream->stream);
	}
}

/* What is not kept is for who keeps up. */
static void on_live(struct follower *follower, const struct live_event *event)
{
	struct event_stream *stream = of_follower(follower);
	if (!stream_must_wait(&stream->stream) &&
		wants(stream, event->kind, &event->task_id, &event->batch_id, event->eval_id, event->tenant))
		stream_write(&stream->stream, hub_live_text(stream->stream.api->hub, event));
}

static void on_tick(struct follower *follower)
{
	struct stream *stream = &of_follower(follower)->stream;
	if (!stream->blocked)
		stream_write(stream, hub_comment());
	step(stream);
}

static const struct follower_ops ops = { .on_event = on_event,
	.on_live = on_live,
	.on_gap = stream_on_gap,
	.on_tick = on_tick,
	.on_drain = stream_on_drain };

/* ---- starting ---- */

struct events_request {
	struct uuid batch_id;
	struct bytes eval_id;
	uint32_t kinds;
	struct cursor cursor;
	bool has_cursor;
	struct read_counts counts;
};

/* A comma-separated list of kinds; all where none is given. */
static bool read_kinds(struct call *call, uint32_t *ret_kinds)
{
	struct bytes list = call_query(call, "kind");
	*ret_kinds = list.data ? 0 : ALL_KINDS;
	while (list.len > 0) {
		const char *comma = memchr(list.data, ',', list.len);
		struct bytes name = { list.data, comma ? (size_t)(comma - list.data) : list.len };
		enum event_kind kind;
		if (!event_kind_parse(name, &kind)) {
			problem_parameter(call, "kind", "\"%.*s\" is no kind of event",
				(int)(name.len < 32 ? name.len : 32), name.data);
			return false;
		}
		*ret_kinds |= 1u << kind;
		size_t used = name.len + (comma ? 1 : 0);
		list.data += used;
		list.len -= used;
	}
	if (*ret_kinds)
		return true;
	problem_parameter(call, "kind", "kind must name at least one kind of event");
	return false;
}

/* Last-Event-ID, which a browser sends by itself, before the parameter, which was in the URL from the beginning. */
static bool read_cursor(struct call *call, struct events_request *request)
{
	struct bytes header = http_request_header(call->request, "last-event-id");
	struct bytes text = header.len > 0 ? header : call_query(call, "cursor");
	request->has_cursor = text.len > 0;
	if (!request->has_cursor || cursor_parse(text, &request->cursor))
		return true;
	if (header.len > 0)
		problem_header(call, "Last-Event-ID", "this is no cursor that this service has given");
	else
		problem_parameter(call, "cursor", "this is no cursor that this service has given");
	return false;
}

static void on_gone(struct stream *stream)
{
	buffer_fini(&of_stream(stream)->position);
}

static struct event_stream *event_stream_new(struct call *call, const struct events_request *request)
{
	struct event_stream *stream = of_stream(stream_new(call, sizeof(*stream), request->eval_id, &ops, step));
	stream->stream.on_gone = on_gone;
	stream->tenant = principal_scope(&call->who);
	stream->batch_id = request->batch_id;
	stream->kinds = request->kinds;
	stream->cursor = request->cursor;
	stream->cursor_told = request->has_cursor;
	stream->own_cursors = call->api->cursors_final;
	return stream;
}

static void start(struct event_stream *stream, struct call *call)
{
	if (!stream_open(&stream->stream, call, SSE_CONTENT_TYPE))
		return;
	/* An id without data is no event, but what a client that is cut before the first one comes back with. */
	if (!stream->cursor_told && stream->cursor.length > 0)
		write_id(stream, "\n\n");
	step(&stream->stream);
}

static struct bytes uuid_key(const struct uuid *id)
{
	return (struct bytes){ (const char *)id->bytes, sizeof(id->bytes) };
}

static void on_task(struct call *call, const struct task *task)
{
	struct event_stream *stream = event_stream_new(call, call->data);
	stream->one_task = stream->own_cursors = true;
	stream->task_id = call->id;
	stream->run = task->run;
	stream->stream.ended = task_status_ended(task->status);
	stream->stream.missed = true;
	hub_follow(call->api->hub, &stream->stream.follower, TOPIC_TASK, uuid_key(&stream->task_id));
	start(stream, call);
}

static void on_resolved(struct call *call)
{
	call_read_task(call, false, on_task);
}

void handle_task_events(struct call *call)
{
	struct events_request *request = arena_alloc(&call->arena, sizeof(*request));
	call->data = request;
	if (read_kinds(call, &request->kinds) && read_cursor(call, request))
		call_resolve(call, on_resolved);
}

static void start_events(struct call *call, bool missed)
{
	struct event_stream *stream = event_stream_new(call, call->data);
	struct follower *follower = &stream->stream.follower;
	struct hub *hub = call->api->hub;
	stream->stream.missed = missed;
	if (stream->stream.eval_id.data)
		hub_follow(hub, follower, TOPIC_EVALUATION, stream->stream.eval_id);
	else if (!uuid_is_nil(&stream->batch_id))
		hub_follow(hub, follower, TOPIC_BATCH, uuid_key(&stream->batch_id));
	else
		hub_follow(hub, follower, TOPIC_ALL, BYTES_NONE);
	start(stream, call);
}

static void on_counts(struct store_operation *operation)
{
	struct events_request *request = CONTAINER_OF(operation, struct events_request, counts.operation);
	struct call *call = operation->owner;
	if (!call_back(call) || !call_operation_ok(call, operation))
		return;
	request->cursor = request->counts.latest;
	/* Between that end of the stream and this moment there may have been some. */
	start_events(call, true);
}

void handle_events(struct call *call)
{
	struct events_request *request = arena_alloc(&call->arena, sizeof(*request));
	call->data = request;
	request->eval_id = call_query(call, "eval_id");
	if (request->eval_id.data && !evaluation_key_valid(request->eval_id)) {
		problem_parameter(call, "eval_id", "an eval_id has 1 to 200 printable characters");
		return;
	}
	if (!call_query_uuid(call, "batch", &request->batch_id) || !read_kinds(call, &request->kinds) ||
		!read_cursor(call, request))
		return;
	if (request->has_cursor) {
		start_events(call, true);
		return;
	}
	const struct cursor *latest = hub_latest(call->api->hub);
	if (latest->length > 0 && call->api->cursors_final) {
		/* What was published so far is the past; what comes from now on is heard. */
		request->cursor = *latest;
		start_events(call, false);
		return;
	}
	request->eval_id = arena_bytes(&call->arena, request->eval_id);
	call_operation(call, &request->counts.operation, on_counts);
	call_out(call);
	call->api->store->ops->read_counts(call->api->store, &request->counts);
}
