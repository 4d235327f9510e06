/* Calls to a Kubernetes API server: authentication, manners, and what its answers mean (kubernetes.io
 * /docs/reference/using-api/api-concepts/, and "Status" in
 * /docs/reference/kubernetes-api/common-definitions/status/).
 *
 * A call is the caller's struct: handed in, and given back by its `done` exactly once, never from within the
 * function that began or cancelled it. Calls may be handed in from any callback of the client's, also from
 * on_data.
 *
 *   (handed in) ──► QUEUED ──a connection and a token───► SENDING ──answer──► done
 *                     ▲  ▲                                 │     └──401──► REREADING ──a newer token──► QUEUED, once
 *                     │  └──────────time is up── PAUSING ◄─┘ 429, 5xx, no answer: where it may be sent again
 *                     └ in the order of their coming; the urgent, and who was there before, stand before the others
 *
 * A call is sent again within its deadline, after a pause that doubles, is jittered, and is never shorter than
 * what the server asks for: 429 always; 5xx and lost connections where the peer cannot have got the request, or
 * sending it again does no harm (enum kube_again). Where the deadline would be over by then, the last answer is
 * the outcome. When the server is away calls fail so, each at its deadline; nothing is kept beyond. What waits is
 * bounded by the deadlines of those who call. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_CLIENT_H
#define ASSAY_EXECUTOR_KUBERNETES_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "executor/kubernetes/access.h"
#include "io/http_client.h"

struct kube_client;
struct kube_request;

struct kube_client_options {
	uv_loop_t *loop; /* borrowed: outlives the client */
	struct kube_access *access; /* owned from now on, also where the client cannot be made */
	double rate; /* requests per second in the long run; 0: no limit */
	int burst; /* … and so many at once; at least 1 where there is a rate */
	size_t connections_max; /* 0: no bound. Watches hold one each */
	int64_t pause_us, pause_max_us; /* before the first further try, and at most; 0: 100 ms, 10 s */
};

enum kube_content { KUBE_JSON, KUBE_MERGE_PATCH, KUBE_STRATEGIC_PATCH };

/* Whether a request of which nobody knows whether it was carried out is sent again. */
enum kube_again {
	KUBE_AGAIN_IDEMPOTENT, /* GET, PUT and DELETE are (RFC 9110, 9.2.2), POST and PATCH not */
	/* Any: a POST that names its object, or a PATCH that says what shall be. 409 AlreadyExists (404 of a
	 * DELETE) may then mean an earlier try of the same call, and is for the caller. */
	KUBE_AGAIN_ALWAYS,
	KUBE_AGAIN_NEVER, /* only after a 401; all else the caller does himself */
};

/* What the answer's object of the kind Status says; empty where it was none. */
struct kube_status {
	char reason[64]; /* "AlreadyExists", "Expired", … */
	char message[1024]; /* cut where it is longer */
	int code;
	int64_t retry_after_us; /* details.retryAfterSeconds, or the head's Retry-After; 0: not said */
};

struct kube_call {
	/* Set by the caller, unchanged until `done`; all borrowed. */
	const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
	const char *path; /* with its query, percent-encoded, begins with '/' */
	struct bytes body; /* absent: none */
	enum kube_content content; /* of the body */
	enum kube_again again;
	bool urgent; /* before all that wait for the rate limit or a connection: what a watch lives on, what is few */
	int64_t deadline_us; /* all tries and pauses together; 0: none, and no further try but after a 401 */
	int64_t idle_us; /* see http_call: for streams */
	size_t answer_max; /* bytes; 0: 4 MiB */
	/* For answers that come as a stream, of the status 2xx alone. See http_call, but calls may be handed in
	 * from both. Such a call is not sent again after a lost connection. May be NULL. */
	void (*on_head)(struct kube_call *call);
	bool (*on_data)(struct kube_call *call, struct bytes data);
	void (*done)(struct kube_call *call);
	void *owner;

	/* The outcome. */
	/* 0: the answer's status is 2xx. Else a cause fit to show, and a code: -EACCES (401), -EPERM (403),
	 * -ENOENT (404), -EEXIST (409 AlreadyExists), -EBUSY (another 409), -ESTALE (410), -EAGAIN (429), -EINVAL
	 * (other 4xx), -EIO (5xx, and what is no answer of an API server's), -EMSGSIZE (2xx, but longer than
	 * answer_max), -ECANCELED, -ETIMEDOUT; or http_call's, where the answer did not come, or not to its end. */
	struct err err;
	int status; /* of HTTP; 0: there was no answer */
	struct kube_status said; /* where the status is not 2xx */
	int tries; /* requests sent */
	struct http_call http; /* the client's; its answer is the caller's to read and, by kube_call_fini, to free */

	struct kube_request *request; /* the client's, while it has the call */
};

/* NULL where libcurl cannot be used: *err says why. */
struct kube_client *kube_client_new(const struct kube_client_options *options, struct err *err);
void kube_client_call(struct kube_client *client, struct kube_call *call);
/* `done` follows with -ECANCELED. Nothing for a call that the client does not have. */
void kube_client_cancel(struct kube_call *call);
/* The answer's body, until the call is handed in again or kube_call_fini(). */
struct bytes kube_call_answer(const struct kube_call *call);
void kube_call_fini(struct kube_call *call);
const struct kube_access *kube_client_access(const struct kube_client *client);
/* Ours, which the API server's last answer came to (http_client.h). */
const char *kube_client_local_address(const struct kube_client *client);
/* Cancels what it has, closes all connections, then calls on_closed once and is gone; never from within this call.
 * Nothing is handed in after it, but from within `done`, and then it is cancelled too. */
void kube_client_close(struct kube_client *client, void (*on_closed)(void *owner), void *owner);

/* For metrics, since the start. */
struct kube_request_count {
	/* As Kubernetes has them: "list", "pods". A resource that is not one of a namespace is "other". */
	char verb[8], resource[24];
	int status; /* 0: there was no answer */
	uint64_t count; /* tries */
};
struct kube_client_figures {
	uint64_t throttled; /* requests that waited for the rate limit */
	uint64_t retries; /* tries beyond a call's first */
	uint64_t queued; /* calls that wait for the rate limit, or a connection, now */
	uint64_t open; /* calls that the client has now */
	const struct kube_request_count *requests; /* borrowed until the next turn of the loop */
	size_t request_count;
};
struct kube_client_figures kube_client_figures(const struct kube_client *client);

/* The pause before the try after `failures` of them: doubles from `first` up to `most`, half of it by chance. */
int64_t kube_pause_us(int failures, int64_t first_us, int64_t most_us);
/* Percent-encodes what may not stand in a query as it is (RFC 3986, all but unreserved). */
void kube_query_append(struct buffer *buffer, struct bytes text);

#endif
