/* One request on its way through the API, from the routing to its answer.
 *
 * A call owns its memory (its arena and what was registered with call_cleanup()), apart from the exchange's: the client
 * may go away while an operation of the call is in the store. Such an operation brackets its flight with call_out() and
 * call_back():
 *
 *   handler ── call_out() ──► store … done ──► call_back() ── true: go on ──► call_respond(): the call is gone
 *                                                   └── false: the client had gone, and so is the call now
 *
 * At most one operation is out at a time. What an operation points to lives in the call's arena. */
#ifndef ASSAY_API_CALL_H
#define ASSAY_API_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "api/access.h"
#include "api/route.h"
#include "api/state.h"
#include "assay/store.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "io/http_server.h"

struct cleanup {
	struct cleanup *next;
	void (*run)(void *data);
	void *data;
};

struct call {
	struct api *api; /* borrowed */
	struct http_exchange *exchange; /* borrowed; NULL once the client has gone */
	const struct http_request *request; /* borrowed; valid while exchange is */
	const struct route *route; /* NULL: none matched */
	struct principal who;
	struct bytes argument; /* of the route: decoded, in the request or the arena */
	struct bytes query[ROUTE_QUERY_MAX]; /* by the route's query names; absent where not given */
	struct arena arena; /* owned */
	struct cleanup *cleanups; /* in the arena; run when the call ends, last first */
	bool out;
	bool heavy; /* large enough that freeing it takes time: done on a thread of the pool */
	/* The client goes while no operation is out: undo what is registered elsewhere. The call is freed
	 * afterwards. */
	void (*on_gone)(struct call *call);
	/* What call_resolve() found. */
	struct uuid id;
	int attempt; /* of a job name with a suffix, else 0 */
	void (*next)(struct call *call); /* where it goes on */
	void *data; /* the handler's, in the arena */
	struct call *next_spare;
};

struct call *call_new(struct api *api, struct http_exchange *exchange);

/* Brackets an operation, see above. */
void call_out(struct call *call);
bool call_back(struct call *call) MUST_CHECK;

/* Runs when the call ends, whichever way; of a heavy call on a thread of the pool: it may only free. */
void call_cleanup(struct call *call, void (*run)(void *data), void *data);

/* Answers and ends the call: it and its arena are gone. Everything is copied. */
void call_respond(struct call *call, int status, const char *content_type, struct bytes body,
	const struct http_header *headers, size_t header_count);
/* With what stands in the scratch buffer, as application/json. */
void call_respond_json(struct call *call, int status);
/* Hands the exchange over to a stream: ends the call without answering it, counted as status 200. */
struct http_exchange *call_detach(struct call *call);

/* An empty buffer for an answer; valid within one callback. */
struct buffer *call_buffer(struct call *call);

/* The value of one of the route's query parameters, or absent. */
struct bytes call_query(const struct call *call, const char *name);
/* Asks for an integer; absent is `fallback`. On an error the call has been answered with 422, and false is returned. */
bool call_query_int(
	struct call *call, const char *name, int64_t min, int64_t max, int64_t fallback, int64_t *ret_value) MUST_CHECK;
/* True for 1, true, yes and the empty value. Anything but those and 0, false, no is answered with 422, and false
 * returned. */
bool call_query_bool(struct call *call, const char *name, bool *ret_value) MUST_CHECK;
/* A batch's id; nil where not given. */
bool call_query_uuid(struct call *call, const char *name, struct uuid *ret_value) MUST_CHECK;

/* True when the Accept header names this media type, with a q that is not 0. */
bool call_accepts(const struct call *call, const char *media_type);

/* Readies an operation of the store for this call: its results are freed when the call ends. */
void call_operation(struct call *call, struct store_operation *operation, void (*done)(struct store_operation *));
/* True when the operation succeeded; otherwise the call has been answered (503, 500). */
bool call_operation_ok(struct call *call, const struct store_operation *operation) MUST_CHECK;

#endif
