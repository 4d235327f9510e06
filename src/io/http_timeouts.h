/* Deadlines of many connections with one timer. Each kind of timeout has one length, so a list per kind to which
 * what is armed is appended is sorted by deadline: arming, disarming and finding the next are a few stores. */
#ifndef ASSAY_IO_HTTP_TIMEOUTS_H
#define ASSAY_IO_HTTP_TIMEOUTS_H

#include <stdint.h>

#include "base/list.h"

enum http_timeout_kind {
	HTTP_TIMEOUT_NONE,
	HTTP_TIMEOUT_IDLE, /* no byte of a request yet */
	HTTP_TIMEOUT_HEAD, /* a head has begun */
	HTTP_TIMEOUT_BODY, /* a body is coming */
	HTTP_TIMEOUT_WRITE, /* the client is to take what is queued */
	HTTP_TIMEOUT_LINGER, /* all is said, the client is to close */
	HTTP_TIMEOUT_KINDS
};

/* Embedded by who waits. Zero-initialised is valid: not armed. */
struct http_timeout {
	struct list node;
	uint64_t due; /* ms */
	enum http_timeout_kind kind; /* NONE while not armed */
};

struct http_timeouts {
	struct list lists[HTTP_TIMEOUT_KINDS];
	uint64_t lengths[HTTP_TIMEOUT_KINDS]; /* ms */
};

void http_timeouts_init(struct http_timeouts *timeouts, const uint64_t lengths[static HTTP_TIMEOUT_KINDS]);
/* Arms anew, from `now` on, whatever was armed before. */
void http_timeout_arm(
	struct http_timeouts *timeouts, struct http_timeout *timeout, enum http_timeout_kind kind, uint64_t now);
void http_timeout_disarm(struct http_timeout *timeout);
/* The earliest deadline in ms, or UINT64_MAX when nothing is armed. */
uint64_t http_timeouts_due(const struct http_timeouts *timeouts);
/* Takes out one that is due at `now`, in ret_kind what it was armed for; NULL when there is none. */
struct http_timeout *http_timeouts_expired(
	struct http_timeouts *timeouts, uint64_t now, enum http_timeout_kind *ret_kind);

#endif
