/* What the groups of routes share. Owned by api.c. */
#ifndef ASSAY_API_STATE_H
#define ASSAY_API_STATE_H

#include "api/access.h"
#include "api/api.h"
#include "api/hub.h"
#include "api/loop_lag.h"
#include "api/rate.h"
#include "api/route.h"
#include "api/status_cache.h"
#include "api/wait.h"
#include "base/buffer.h"

#define CALLS_KEPT 256

struct call;

struct api {
	uv_loop_t *loop; /* borrowed */
	struct log *log; /* borrowed */
	struct coordinator *coordinator; /* borrowed */
	struct store *store; /* borrowed */
	struct bus *bus; /* borrowed */
	struct webhooks *webhooks; /* borrowed; NULL: none */
	struct executor *const *executors; /* borrowed */
	size_t executor_count;
	struct uuid_generator *ids; /* borrowed */
	const struct evaluation_limits *evaluation_limits; /* borrowed */
	struct http_server *server; /* borrowed; NULL: none */
	struct api_settings settings; /* defaults filled in */
	bool metrics_open;
	bool cursors_final; /* the store's */
	bool draining;
	int64_t started_at_us;
	struct access *access; /* owned */
	struct hub *hub; /* owned */
	struct waiters *waiters; /* owned */
	struct status_cache *status_cache; /* owned */
	struct loop_lag *loop_lag; /* owned */
	struct rate *rate; /* owned */
	const struct tenants *tenants; /* borrowed; may be NULL */
	uint64_t refused_rate; /* requests beyond what their tenant may send */
	struct buffer scratch; /* for an answer that is written within one callback */
	struct call *spare_calls; /* owned: ended calls, to be used again */
	size_t spare_count;
	/* Operations, worker jobs and streams that still point here: api_free() waits for them. */
	size_t open;
	uint64_t answers[ROUTE_COUNT_MAX + 1][6]; /* by route (the last: no route) and first digit of the status */
	void (*on_freed)(void *owner);
	void *owner;
	int closing_parts; /* parts whose handles are still closing */
};

/* An operation begins, or has come back. The last one of an api that is being freed frees it. */
void api_hold(struct api *api);
void api_release(struct api *api);

#endif
