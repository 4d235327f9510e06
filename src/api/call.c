/* The life of a call. Calls are taken from and given back to a short list of spare ones, so that the busy routes
 * allocate nothing. */
#include "api/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/problem.h"
#include "base/alloc.h"
#include "base/text.h"

#define SCRATCH_KEPT (256 * 1024)

static void on_abort(struct http_exchange *exchange);

struct call *call_new(struct api *api, struct http_exchange *exchange)
{
	struct call *call = api->spare_calls;
	if (call) {
		api->spare_calls = call->next_spare;
		api->spare_count--;
		call->next_spare = NULL;
	} else {
		call = alloc(sizeof(*call));
	}
	call->api = api;
	call->exchange = exchange;
	call->request = http_exchange_request(exchange);
	return call;
}

static void run_cleanups(struct cleanup *cleanups, struct arena *arena)
{
	for (struct cleanup *cleanup = cleanups; cleanup; cleanup = cleanup->next)
		cleanup->run(cleanup->data);
	arena_fini(arena);
}

/* What a large request leaves behind: ten thousand documents and their strings are not freed in passing. */
struct burial {
	uv_work_t work;
	struct api *api;
	struct cleanup *cleanups;
	struct arena arena;
};

static void on_bury(uv_work_t *work)
{
	struct burial *burial = work->data;
	run_cleanups(burial->cleanups, &burial->arena);
}

static void on_buried(uv_work_t *work, int status)
{
	struct burial *burial = work->data;
	struct api *api = burial->api;
	free(burial);
	api_release(api);
}

static void bury(struct call *call)
{
	struct burial *burial = alloc(sizeof(*burial));
	burial->work.data = burial;
	burial->api = call->api;
	burial->cleanups = call->cleanups;
	burial->arena = call->arena;
	api_hold(call->api);
	uv_queue_work(call->api->loop, &burial->work, on_bury, on_buried);
}

static void call_free(struct call *call)
{
	struct api *api = call->api;
	if (call->heavy)
		bury(call);
	else
		run_cleanups(call->cleanups, &call->arena);
	memset(call, 0, sizeof(*call));
	if (api->spare_count < CALLS_KEPT) {
		call->next_spare = api->spare_calls;
		api->spare_calls = call;
		api->spare_count++;
	} else {
		free(call);
	}
}

void call_cleanup(struct call *call, void (*run)(void *data), void *data)
{
	struct cleanup *cleanup = arena_alloc(&call->arena, sizeof(*cleanup));
	*cleanup = (struct cleanup){ call->cleanups, run, data };
	call->cleanups = cleanup;
}

/* ---- going out and coming back ---- */

void call_out(struct call *call)
{
	call->out = true;
	api_hold(call->api);
	if (call->exchange && http_exchange_data(call->exchange) != call) {
		http_exchange_set_data(call->exchange, call);
		http_exchange_on_abort(call->exchange, on_abort);
	}
}

bool call_back(struct call *call)
{
	struct api *api = call->api;
	call->out = false;
	bool there = call->exchange != NULL;
	if (!there)
		call_free(call);
	api_release(api);
	return there;
}

static void on_abort(struct http_exchange *exchange)
{
	struct call *call = http_exchange_data(exchange);
	call->exchange = NULL;
	call->request = NULL;
	if (call->out)
		return;
	if (call->on_gone)
		call->on_gone(call);
	call_free(call);
}

/* ---- answers ---- */

static void count(struct call *call, int status)
{
	size_t index = call->route ? route_index(call->route) : ROUTE_COUNT_MAX;
	call->api->answers[index][status / 100]++;
	log_event(call->api->log, LOG_DEBUG, "request answered", L_BYTES("method", call->request->method_name),
		L_STR("route", call->route ? call->route->pattern : ""), L_INT("status", status),
		L_BYTES("tenant", call->who.tenant));
}

void call_respond(struct call *call, int status, const char *content_type, struct bytes body,
	const struct http_header *headers, size_t header_count)
{
	count(call, status);
	struct http_exchange *exchange = STEAL(call->exchange);
	http_exchange_on_abort(exchange, NULL);
	http_respond(exchange, status, content_type, body, headers, header_count);
	call_free(call);
}

void call_respond_json(struct call *call, int status)
{
	struct buffer *buffer = &call->api->scratch;
	if (buffer->failed) {
		problem(call, 500, "internal", "there is not enough memory for the answer");
		return;
	}
	call_respond(call, status, "application/json", buffer_bytes(buffer), NULL, 0);
}

struct http_exchange *call_detach(struct call *call)
{
	count(call, 200);
	struct http_exchange *exchange = STEAL(call->exchange);
	http_exchange_on_abort(exchange, NULL);
	call_free(call);
	return exchange;
}

struct buffer *call_buffer(struct call *call)
{
	struct buffer *buffer = &call->api->scratch;
	if (buffer->capacity > SCRATCH_KEPT)
		buffer_fini(buffer);
	buffer_clear(buffer);
	return buffer;
}

/* ---- the query and the headers ---- */

struct bytes call_query(const struct call *call, const char *name)
{
	for (size_t i = 0; call->route->query[i]; i++)
		if (strcmp(call->route->query[i], name) == 0)
			return call->query[i];
	return BYTES_NONE;
}

bool call_query_int(struct call *call, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *ret_value)
{
	struct bytes text = call_query(call, name);
	if (!text.data) {
		*ret_value = fallback;
		return true;
	}
	if (text_to_int(text, min, max, ret_value))
		return true;
	problem_parameter(
		call, name, "%s must be a whole number from %lld to %lld", name, (long long)min, (long long)max);
	return false;
}

bool call_query_bool(struct call *call, const char *name, bool *ret_value)
{
	struct bytes text = call_query(call, name);
	if (!text.data || bytes_is(text, "0") || bytes_is(text, "false") || bytes_is(text, "no")) {
		*ret_value = false;
		return true;
	}
	if (text.len == 0 || bytes_is(text, "1") || bytes_is(text, "true") || bytes_is(text, "yes")) {
		*ret_value = true;
		return true;
	}
	problem_parameter(call, name, "%s must be 1 or 0", name);
	return false;
}

bool call_query_uuid(struct call *call, const char *name, struct uuid *ret_value)
{
	struct bytes text = call_query(call, name);
	*ret_value = (struct uuid){ 0 };
	if (!text.data || uuid_parse(text, ret_value))
		return true;
	problem_parameter(call, name, "%s must be a UUID", name);
	return false;
}

/* True when `item` ("text/plain; q=0.5") is for this media type and is not refused by q=0. */
static bool accepts_item(struct bytes item, struct bytes media_type)
{
	const char *semicolon = memchr(item.data, ';', item.len);
	struct bytes type =
		text_trim((struct bytes){ item.data, semicolon ? (size_t)(semicolon - item.data) : item.len });
	if (!text_equal_ignore_case(type, media_type))
		return false;
	if (!semicolon)
		return true;
	struct bytes rest = text_trim((struct bytes){ semicolon + 1, item.len - (size_t)(semicolon + 1 - item.data) });
	return !(bytes_is(rest, "q=0") || bytes_is(rest, "q=0.0") || bytes_is(rest, "q=0.00") ||
		 bytes_is(rest, "q=0.000"));
}

bool call_accepts(const struct call *call, const char *media_type)
{
	struct bytes accept = http_request_header(call->request, "accept");
	while (accept.len > 0) {
		const char *comma = memchr(accept.data, ',', accept.len);
		struct bytes item = { accept.data, comma ? (size_t)(comma - accept.data) : accept.len };
		if (accepts_item(item, bytes_of(media_type)))
			return true;
		size_t used = item.len + (comma ? 1 : 0);
		accept.data += used;
		accept.len -= used;
	}
	return false;
}

/* ---- operations of the store ---- */

static void operation_fini(void *data)
{
	store_operation_fini(data);
}

void call_operation(struct call *call, struct store_operation *operation, void (*done)(struct store_operation *))
{
	operation->done = done;
	operation->owner = call;
	call_cleanup(call, operation_fini, operation);
}

bool call_operation_ok(struct call *call, const struct store_operation *operation)
{
	switch (operation->outcome) {
	case STORE_OK:
		return true;
	case STORE_FAILED:
		if (operation->err.code == -ETIMEDOUT) {
			problem_away(call, "the store would need too long for this: ask for less, or try again later");
			return false;
		}
		if (operation->err.code == -ENOSPC) {
			problem_away(call, "the store's disk is full; what was accepted is safe, try again later");
			return false;
		}
		log_event(call->api->log, LOG_ERROR, "store operation failed", L_ERR(&operation->err),
			L_STR("route", call->route->pattern));
		problem(call, 500, "internal", "the store could not do this: %s", operation->err.message);
		return false;
	case STORE_AWAY:
	case STORE_UNKNOWN:
		break;
	}
	problem_away(call, "the store is away; what was accepted is safe, try again soon");
	return false;
}
