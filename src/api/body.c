/* The threshold between the loop and the thread pool is the only policy here. A body that goes to a thread is taken
 * from its exchange first, so that nothing of the exchange is touched by the thread. */
#include "api/body.h"

#include <stdlib.h>
#include <string.h>

#include "api/problem.h"
#include "base/alloc.h"
#include "base/text.h"

static bool ends_with(struct bytes text, struct bytes end)
{
	return text.len >= end.len &&
	       text_equal_ignore_case((struct bytes){ text.data + text.len - end.len, end.len }, end);
}

bool body_kind(struct call *call, bool ndjson, enum body_kind *ret_kind)
{
	struct bytes header = http_request_header(call->request, "content-type");
	const char *semicolon = header.len ? memchr(header.data, ';', header.len) : NULL;
	struct bytes type =
		text_trim((struct bytes){ header.data, semicolon ? (size_t)(semicolon - header.data) : header.len });
	if (type.len > 0) {
		if (text_equal_ignore_case(type, BYTES_LITERAL("application/json")) ||
			(type.len > 17 && ends_with(type, BYTES_LITERAL("+json")))) {
			*ret_kind = BODY_KIND_JSON;
			return true;
		}
		if (ndjson && (text_equal_ignore_case(type, BYTES_LITERAL("application/x-ndjson")) ||
				      text_equal_ignore_case(type, BYTES_LITERAL("application/ndjson")))) {
			*ret_kind = BODY_KIND_NDJSON;
			return true;
		}
	}
	char said[128];
	size_t len = type.len < sizeof(said) - 1 ? type.len : sizeof(said) - 1;
	if (len > 0)
		memcpy(said, type.data, len);
	said[len] = 0;
	problem(call, 415, "media-type", "the body must be sent as Content-Type: application/json%s, and came %s%s",
		ndjson ? " or application/x-ndjson" : "", len > 0 ? "as " : "without a Content-Type", said);
	return false;
}

/* ---- parsing ---- */

#define MEMORY_PER_BYTE 4
#define MEMORY_AT_LEAST ((size_t)16 << 20)

struct body_memory body_memory_for(struct bytes body)
{
	return (struct body_memory){ body.len * MEMORY_PER_BYTE + MEMORY_AT_LEAST };
}

static bool take_memory(struct body_memory *memory, size_t size)
{
	if (size > memory->left)
		return false;
	memory->left -= size;
	return true;
}

static void *on_malloc(void *memory, size_t size)
{
	return take_memory(memory, size) ? malloc(size) : NULL;
}

static void *on_realloc(void *memory, void *old, size_t old_size, size_t size)
{
	return size <= old_size || take_memory(memory, size - old_size) ? realloc(old, size) : NULL;
}

/* Nothing is given back to the budget, which is gone by the time that documents are freed. */
static void on_free(void *memory, void *block)
{
	free(block);
}

yyjson_doc *body_parse(struct bytes text, struct body_memory *memory, yyjson_read_err *ret_fault)
{
	const yyjson_alc allocator = { on_malloc, on_realloc, on_free, memory };
	/* Without YYJSON_READ_INSITU the text is only read, whatever the type of the parameter says. */
	yyjson_doc *document = yyjson_read_opts((char *)(uintptr_t)text.data, text.len, 0, &allocator, ret_fault);
	if (!document && ret_fault->code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
		ret_fault->msg = "too many values for its length";
	else if (!document && !text.len)
		ret_fault->msg = "it is empty";
	return document;
}

/* ---- the thread pool ---- */

struct work {
	uv_work_t request;
	struct call *call;
	void (*work)(void *data);
	void *data;
	void (*after)(struct call *call);
};

static void on_work(uv_work_t *request)
{
	struct work *work = request->data;
	work->work(work->data);
}

static void on_worked(uv_work_t *request, int status)
{
	struct work *work = request->data;
	if (call_back(work->call))
		work->after(work->call);
}

static void queue(struct call *call, void (*run)(void *data), void *data, void (*after)(struct call *call))
{
	struct work *work = arena_alloc(&call->arena, sizeof(*work));
	*work = (struct work){ .call = call, .work = run, .data = data, .after = after };
	work->request.data = work;
	call->heavy = true;
	call_out(call);
	uv_queue_work(call->api->loop, &work->request, on_work, on_worked);
}

void call_work(struct call *call, size_t size, void (*work)(void *data), void *data, void (*after)(struct call *call))
{
	if (size > BODY_INLINE_MAX) {
		queue(call, work, data, after);
		return;
	}
	work(data);
	after(call);
}

static void free_body(void *data)
{
	buffer_fini(data);
}

void body_work(struct call *call, struct bytes *ret_body, void (*work)(void *data), void *data,
	void (*after)(struct call *call))
{
	*ret_body = call->request->body;
	if (ret_body->len <= BODY_INLINE_MAX) {
		work(data);
		after(call);
		return;
	}
	/* The client may go away, and the exchange's memory with it, while the thread reads: so the body becomes the
	 * call's. */
	struct buffer *taken = arena_alloc(&call->arena, sizeof(*taken));
	http_exchange_take_body(call->exchange, taken);
	call_cleanup(call, free_body, taken);
	*ret_body = buffer_bytes(taken);
	queue(call, work, data, after);
}
