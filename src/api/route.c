/* The table is short and its parts are compared by length first: a look-up costs less than reading the request's
 * headers did. The busiest routes stand first. */
#include "api/route.h"

#include <string.h>

#include "api/handlers.h"
#include "base/alloc.h"

#define GET HTTP_METHOD_GET
#define POST HTTP_METHOD_POST

/* clang-format off */
const struct route routes[] = {
	{ GET, "/status/{id}", { "status", "" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_status },
	{ POST, "/execute", { "execute" }, ROLE_SUBMIT, BODY_ORDINARY, true, { "wait" }, handle_execute },
	{ POST, "/execute/batch", { "execute", "batch" }, ROLE_SUBMIT, BODY_BATCH, true, { 0 }, handle_execute_batch },
	{ POST, "/batches/{id}/cancel", { "batches", "", "cancel" }, ROLE_SUBMIT, BODY_SMALL, false, { 0 }, handle_batch_cancel },
	{ GET, "/logs/{id}", { "logs", "" }, ROLE_READ, BODY_NONE, false, { "offset", "stream", "attempt", "follow" }, handle_logs },
	{ POST, "/tasks", { "tasks" }, ROLE_SUBMIT, BODY_ORDINARY, true, { 0 }, handle_task_create },
	{ GET, "/tasks", { "tasks" }, ROLE_READ, BODY_NONE, false, { "status", "type", "queue", "batch", "eval_id", "limit", "cursor" }, handle_task_list },
	{ GET, "/tasks/{id}", { "tasks", "" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_task_get },
	{ GET, "/tasks/{id}/status", { "tasks", "", "status" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_status },
	{ GET, "/tasks/{id}/events", { "tasks", "", "events" }, ROLE_READ, BODY_NONE, false, { "kind", "cursor" }, handle_task_events },
	{ GET, "/tasks/{id}/logs", { "tasks", "", "logs" }, ROLE_READ, BODY_NONE, false, { "offset", "stream", "attempt", "follow" }, handle_logs },
	{ GET, "/tasks/{id}/why", { "tasks", "", "why" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_task_why },
	{ GET, "/tasks/{id}/deliveries", { "tasks", "", "deliveries" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_task_deliveries },
	{ POST, "/tasks/{id}/run", { "tasks", "", "run" }, ROLE_SUBMIT, BODY_SMALL, true, { 0 }, handle_task_run },
	{ POST, "/tasks/{id}/cancel", { "tasks", "", "cancel" }, ROLE_SUBMIT, BODY_SMALL, false, { 0 }, handle_task_cancel },
	{ GET, "/events", { "events" }, ROLE_READ, BODY_NONE, false, { "eval_id", "batch", "kind", "cursor" }, handle_events },
	{ GET, "/health", { "health" }, ROLE_NONE, BODY_NONE, false, { 0 }, handle_health },
	{ GET, "/readyz", { "readyz" }, ROLE_NONE, BODY_NONE, false, { 0 }, handle_ready },
	{ GET, "/coordinator/health", { "coordinator", "health" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_coordinator_health },
	{ GET, "/metrics", { "metrics" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_metrics },
	{ GET, "/openapi.json", { "openapi.json" }, ROLE_READ, BODY_NONE, false, { 0 }, handle_openapi },
};
/* clang-format on */
const size_t route_count = ARRAY_SIZE(routes);
_Static_assert(ARRAY_SIZE(routes) <= ROUTE_COUNT_MAX, "state.h counts answers by route");

size_t route_index(const struct route *route)
{
	return (size_t)(route - routes);
}

/* At most ROUTE_PARTS_MAX parts; 0 where the path has more, or an empty one. */
static size_t split(struct bytes path, struct bytes parts[static ROUTE_PARTS_MAX])
{
	size_t count = 0;
	while (path.len > 0) {
		path.data++;
		path.len--;
		const char *slash = path.len ? memchr(path.data, '/', path.len) : NULL;
		size_t len = slash ? (size_t)(slash - path.data) : path.len;
		if (len == 0 || count == ROUTE_PARTS_MAX)
			return 0;
		parts[count++] = (struct bytes){ path.data, len };
		path.data += len;
		path.len -= len;
	}
	return count;
}

static bool matches(const struct route *route, const struct bytes *parts, size_t count, struct bytes *ret_argument)
{
	for (size_t i = 0; i < ROUTE_PARTS_MAX; i++) {
		const char *wanted = route->parts[i];
		if (!wanted || i == count)
			return !wanted && i == count;
		if (!*wanted)
			*ret_argument = parts[i];
		else if (!bytes_is(parts[i], wanted))
			return false;
	}
	return true;
}

struct route_match route_find(enum http_method method, struct bytes path)
{
	struct route_match match = { 0 };
	if (path.len > 5 && memcmp(path.data, "/api/", 5) == 0) {
		path.data += 4;
		path.len -= 4;
	}
	struct bytes parts[ROUTE_PARTS_MAX];
	size_t count = split(path, parts);
	if (count == 0)
		return match;
	if (method == HTTP_METHOD_HEAD)
		method = HTTP_METHOD_GET;
	for (size_t i = 0; i < route_count; i++) {
		struct bytes argument = BYTES_NONE;
		if (!matches(&routes[i], parts, count, &argument))
			continue;
		match.methods |= 1u << routes[i].method;
		if (routes[i].method == method) {
			match.route = &routes[i];
			match.argument = argument;
			break;
		}
	}
	return match;
}

const char *route_allow(unsigned methods)
{
	bool get = methods & 1u << GET, post = methods & 1u << POST;
	if (get && post)
		return "GET, HEAD, POST, OPTIONS";
	return get ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct bytes percent_decode(struct arena *arena, struct bytes text, bool query)
{
	bool plain = !memchr(text.data, '%', text.len) && !(query && memchr(text.data, '+', text.len));
	if (plain)
		return text;
	char *to = arena_alloc(arena, text.len + 1);
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];
		if (c == '%') {
			if (i + 2 >= text.len)
				return BYTES_NONE;
			int high = hex_value(text.data[i + 1]), low = hex_value(text.data[i + 2]);
			if (high < 0 || low < 0)
				return BYTES_NONE;
			to[len++] = (char)(high << 4 | low);
			i += 2;
		} else {
			to[len++] = query && c == '+' ? ' ' : c;
		}
	}
	return (struct bytes){ to, len };
}
