/* Lists of deadlines, one per kind; see the header for why they are sorted. */
#include "io/http_timeouts.h"

void http_timeouts_init(struct http_timeouts *timeouts, const uint64_t lengths[static HTTP_TIMEOUT_KINDS])
{
	for (int kind = 0; kind < HTTP_TIMEOUT_KINDS; kind++) {
		list_init(&timeouts->lists[kind]);
		timeouts->lengths[kind] = lengths[kind];
	}
}

void http_timeout_arm(
	struct http_timeouts *timeouts, struct http_timeout *timeout, enum http_timeout_kind kind, uint64_t now)
{
	list_remove(&timeout->node);
	timeout->kind = kind;
	timeout->due = now + timeouts->lengths[kind];
	list_push_back(&timeouts->lists[kind], &timeout->node);
}

void http_timeout_disarm(struct http_timeout *timeout)
{
	list_remove(&timeout->node);
	timeout->kind = HTTP_TIMEOUT_NONE;
}

static struct http_timeout *first(const struct http_timeouts *timeouts, int kind)
{
	const struct list *list = &timeouts->lists[kind];
	return list_empty(list) ? NULL : LIST_ENTRY(list->next, struct http_timeout, node);
}

uint64_t http_timeouts_due(const struct http_timeouts *timeouts)
{
	uint64_t due = UINT64_MAX;
	for (int kind = HTTP_TIMEOUT_NONE + 1; kind < HTTP_TIMEOUT_KINDS; kind++) {
		const struct http_timeout *timeout = first(timeouts, kind);
		if (timeout && timeout->due < due)
			due = timeout->due;
	}
	return due;
}

struct http_timeout *http_timeouts_expired(
	struct http_timeouts *timeouts, uint64_t now, enum http_timeout_kind *ret_kind)
{
	for (int kind = HTTP_TIMEOUT_NONE + 1; kind < HTTP_TIMEOUT_KINDS; kind++) {
		struct http_timeout *timeout = first(timeouts, kind);
		if (timeout && timeout->due <= now) {
			*ret_kind = timeout->kind;
			http_timeout_disarm(timeout);
			return timeout;
		}
	}
	return NULL;
}
