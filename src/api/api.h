/* The HTTP API: everything between io/http_server and the coordinator.
 *
 *   http_server ──► api: who is it, which route ──► coordinator (admit, command) ──► store
 *                    ▲                                store (reads)
 *                    └── hub ◄── bus: followers (SSE, logs) and waiters (?wait) of tasks, batches, evaluations
 *
 * All calls are made on the loop's thread. Nothing here blocks it: what is large is parsed in libuv's thread pool. */
#ifndef ASSAY_API_API_H
#define ASSAY_API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "assay/bus.h"
#include "assay/executor.h"
#include "assay/store.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/uuid.h"
#include "io/http_server.h"
#include "task/evaluation.h"

struct api;
struct coordinator;
struct tenants;
struct webhooks;

/* Rights within a tenant; each includes those before it. ROLE_ADMIN sees and changes the tasks of all tenants. */
enum api_role { ROLE_NONE, ROLE_READ, ROLE_SUBMIT, ROLE_ADMIN };

/* A 0 means the default. */
struct api_settings {
	size_t body_max; /* bytes of one request; 4 MiB */
	size_t batch_body_max; /* 64 MiB */
	size_t batch_items_max; /* 10,000 */
	size_t status_cache_max; /* bytes of rendered status objects of ended tasks; 4 MiB */
	int64_t status_age_max_us; /* … given out no longer than this; 0: for ever, where no other process has the store */
	int64_t keepalive_us; /* between two comments on an idle stream of events; 15 s */
};

struct api_access {
	/* No token is asked for: everybody is tenant "default" with ROLE_ADMIN. For loopback without tokens, and where
	 * authentication was switched off in so many words. */
	bool open;
	/* The server listens on loopback: refuse a foreign Host or Origin, so that no web page can reach it through the
	 * user's browser. */
	bool loopback;
	const char *const *host_names; /* further names that Host and Origin may bear; NULL-terminated, may be NULL */
	bool metrics_open; /* GET /metrics needs no token */
	enum api_role anonymous_role; /* of clients without a token, tenant "anonymous"; ROLE_NONE: they are refused */
	const char *anonymous_from; /* CIDR,… that they may come from; NULL: from anywhere */
};

struct api_options {
	uv_loop_t *loop; /* borrowed, like all that follows: outlives the api */
	struct log *log;
	struct coordinator *coordinator;
	struct store *store;
	struct bus *bus; /* started by the owner before the first request */
	struct webhooks *webhooks; /* for /metrics; NULL: there are none */
	struct executor *const *executors; /* for /readyz, /metrics */
	size_t executor_count;
	struct uuid_generator *ids;
	const struct evaluation_limits *evaluation_limits;
	const struct tenants *tenants; /* may be NULL: no limits. See api_set_tenants() */
	struct api_settings settings;
	struct api_access access; /* its strings are needed during api_new() only */
};

/* An error means that the settings make no sense: the message names which. */
int api_new(const struct api_options *options, struct api **ret_api, struct err *err) MUST_CHECK;

/* The file of tokens, as text: one `sha256hex tenant role [name]` per line, role one of read, submit, admin; empty
 * lines and those that begin with # are skipped. The hash is that of the bearer token. Replaces what was there; on an
 * error nothing is changed. */
int api_load_tokens(struct api *api, struct bytes text, struct err *err) MUST_CHECK;

/* What tenants may have has changed: `tenants`, which outlives the api or the next call, replaces what was there. */
void api_set_tenants(struct api *api, const struct tenants *tenants);

/* For struct http_server_options; the owner is the api. */
size_t api_body_limit(void *api, const struct http_request *request);
void api_on_request(void *api, struct http_exchange *exchange);

/* Whose figures /metrics shows; NULL before it exists and after it is gone. */
void api_set_http_server(struct api *api, struct http_server *server);

/* Another replica runs an ended task again; nil: any may have been. */
void api_reopened(struct api *api, const struct uuid *id);

/* New work is refused with 503 from now on, who waits for an end is answered 202, streams end: so that the server can
 * stop. */
void api_drain(struct api *api);

/* Frees everything; on_freed is called when the last handle is closed and the last operation has come back, never from
 * within. The server has stopped before: no exchange is open. Store, coordinator and bus must still exist, and may be
 * stopping or stopped. */
void api_free(struct api *api, void (*on_freed)(void *owner), void *owner);

#endif
