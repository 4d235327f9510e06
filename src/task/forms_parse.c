/* Payloads of events read back: see forms.h. Nothing that stands in them is trusted for more than to tell followers:
 * what is wrong in one member makes the whole text none of ours. */
#include <math.h>
#include <yyjson.h>

#include "task/forms.h"
#include "task/lifecycle.h"

#define TEXT_MAX 1024 /* of names within a payload */

static bool read_text(yyjson_val *object, const char *key, struct arena *arena, bool required, struct bytes *ret_text)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	if (!required && (!value || yyjson_is_null(value))) {
		*ret_text = BYTES_NONE;
		return true;
	}
	struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
	if (!yyjson_is_str(value) || !text.len || text.len > TEXT_MAX || memchr(text.data, 0, text.len))
		return false;
	*ret_text = arena_bytes(arena, text);
	return true;
}

static bool read_count(yyjson_val *object, const char *key, int64_t max, int64_t *ret_count)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	if (!yyjson_is_int(value) || (yyjson_is_uint(value) && yyjson_get_uint(value) > (uint64_t)max) ||
		yyjson_get_sint(value) < 0)
		return false;
	*ret_count = yyjson_get_sint(value);
	return true;
}

/* What durable and live events have in common. */
struct head {
	enum event_kind kind;
	struct uuid task_id, batch_id;
	int64_t run, attempt, timestamp_us;
	struct bytes tenant, eval_id, publisher;
};

/* Its members, as an initializer of either. */
#define OF_HEAD(head) \
	.kind = (head).kind, .task_id = (head).task_id, .batch_id = (head).batch_id, .run = (int)(head).run, \
	.attempt = (int)(head).attempt, .timestamp_us = (head).timestamp_us, .tenant = (head).tenant, \
	.eval_id = (head).eval_id, .publisher = (head).publisher

static bool read_uuid(yyjson_val *value, struct uuid *ret_uuid)
{
	struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
	return text.data && uuid_parse(text, ret_uuid);
}

static bool read_kind(yyjson_val *value, bool durable, enum event_kind *ret_kind)
{
	struct bytes name = { yyjson_get_str(value), yyjson_get_len(value) };
	return name.data && event_kind_parse(name, ret_kind) && (*ret_kind < EVENT_KIND_DURABLE_COUNT) == durable;
}

static bool read_head(yyjson_val *root, bool durable, struct arena *arena, struct head *head)
{
	yyjson_val *batch = yyjson_obj_get(root, "batch_id"), *timestamp = yyjson_obj_get(root, "timestamp");
	double seconds = yyjson_get_num(timestamp);
	if (!read_kind(yyjson_obj_get(root, "kind"), durable, &head->kind) ||
		!read_uuid(yyjson_obj_get(root, "task_id"), &head->task_id) ||
		(batch && !read_uuid(batch, &head->batch_id)) || !yyjson_is_num(timestamp) || !(seconds >= 0) ||
		seconds > 1e11 || !read_count(root, "run", INT32_MAX, &head->run) ||
		!read_count(root, "attempt", INT32_MAX, &head->attempt) ||
		!read_text(root, "tenant", arena, false, &head->tenant) ||
		!read_text(root, "replica", arena, true, &head->publisher) ||
		!read_text(root, "eval_id", arena, true, &head->eval_id))
		return false;
	head->timestamp_us = llround(seconds * 1e6);
	/* Where a task has none, its id stands there. */
	struct uuid same;
	if (uuid_parse(head->eval_id, &same) && uuid_compare(&same, &head->task_id) == 0)
		head->eval_id = BYTES_NONE;
	return true;
}

static bool read_event(yyjson_val *root, struct arena *arena, struct event *event)
{
	struct head head = { 0 };
	struct cursor cursor;
	struct bytes digits;
	int64_t sequence;
	if (!read_head(root, true, arena, &head) || !read_count(root, "sequence", UINT32_MAX, &sequence) ||
		!read_text(root, "cursor", arena, true, &digits) || !cursor_parse(digits, &cursor))
		return false;
	*event = (struct event){ OF_HEAD(head), .sequence = (uint32_t)sequence, .cursor = cursor };
	return true;
}

static bool read_live_event(yyjson_val *root, struct arena *arena, struct live_event *event)
{
	struct head head = { 0 };
	int64_t offset;
	yyjson_val *stream = yyjson_obj_get(root, "stream"), *data = yyjson_obj_get(root, "data");
	if (!read_head(root, false, arena, &head) || !read_count(root, "offset", INT64_MAX, &offset))
		return false;
	*event = (struct live_event){ OF_HEAD(head), .offset = (uint64_t)offset };
	if (yyjson_equals_str(stream, "stdout"))
		event->stream = 1;
	else if (yyjson_equals_str(stream, "stderr"))
		event->stream = 2;
	else if (head.kind == EVENT_LOG)
		return false;
	if (head.kind == EVENT_LOG) {
		if (!yyjson_is_str(data))
			return false;
		/* Where something was replaced, its length tells no longer how much was printed. */
		if (!yyjson_obj_get(root, "encoding"))
			event->data = arena_bytes(arena, (struct bytes){ yyjson_get_str(data), yyjson_get_len(data) });
	}
	return true;
}

bool form_event_parse(struct bytes text, struct arena *arena, struct event *ret_event)
{
	struct event event = { 0 };
	yyjson_doc *document = yyjson_read(text.data, text.len, 0);
	bool ours = read_event(yyjson_doc_get_root(document), arena, &event);
	yyjson_doc_free(document);
	if (!ours)
		return false;
	event.payload = arena_bytes(arena, text);
	*ret_event = event;
	return true;
}

bool form_live_event_parse(struct bytes text, struct arena *arena, struct live_event *ret_event)
{
	struct live_event event = { 0 };
	yyjson_doc *document = yyjson_read(text.data, text.len, 0);
	bool ours = read_live_event(yyjson_doc_get_root(document), arena, &event);
	yyjson_doc_free(document);
	if (!ours)
		return false;
	event.payload = arena_bytes(arena, text);
	*ret_event = event;
	return true;
}
