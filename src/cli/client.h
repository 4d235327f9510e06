/* The service as a client sees it: where it is, who we are, one request at a time, and transfers side by side.
 *
 * A transfer is one HTTP request whose answer comes by a callback; client_step() moves all started transfers on.
 * client_request() is the simple case: one request, the whole answer. Retries are the caller's decision, since only it
 * knows what may be sent twice. */
#ifndef ASSAY_CLI_CLIENT_H
#define ASSAY_CLI_CLIENT_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"

#define CLIENT_DEFAULT_URL "http://127.0.0.1:8090"
#define CLIENT_ANSWER_MAX (256 << 20) /* bytes of one answer that is kept whole */

struct client {
	char *url; /* owned; without a final slash */
	const char *url_from; /* "--url", "ASSAY_URL", …: for messages */
	char *authorization; /* owned; the header, or NULL */
	CURLM *multi; /* owned */
	int signal_fd; /* owned; -1 until client_catch_interrupts() */
	bool interrupted;
	bool loopback;
};

/* url NULL: from the environment or the default. A token file that cannot be read and a URL that is none are errors
 * (-EINVAL). */
int client_init(struct client *client, const char *url, struct err *err) MUST_CHECK;
void client_fini(struct client *client);
/* From now on SIGINT and SIGTERM end what waits, with client->interrupted, instead of ending the process. */
int client_catch_interrupts(struct client *client, struct err *err) MUST_CHECK;

struct request {
	const char *method; /* NULL: GET, which has no body */
	const char *path; /* with its query, escaped */
	struct bytes body; /* may be absent */
	const char *content_type; /* NULL: application/json */
	const char *accept; /* NULL: application/json */
	const char *idempotency_key; /* NULL: none */
	struct bytes last_event_id; /* absent: none */
	int64_t timeout_ms; /* of the whole exchange; 0: none */
};

enum transfer_result {
	TRANSFER_OK, /* an answer came, whatever its status */
	TRANSFER_UNREACHABLE, /* no connection: nothing was sent */
	TRANSFER_BROKEN, /* the connection was lost: it may have been carried out or not */
	TRANSFER_STOPPED, /* on_body said so */
	TRANSFER_INTERRUPTED, /* by the user */
};

struct transfer {
	/* Bytes of the answer's body, when the status is known; false ends the transfer. */
	bool (*on_body)(struct transfer *transfer, struct bytes data);
	void *owner;
	long status; /* 0 until it is known */
	int64_t retry_after_s; /* 0: the service did not say */
	bool done;
	enum transfer_result result; /* when done */
	char message[CURL_ERROR_SIZE]; /* when result is UNREACHABLE or BROKEN */
	/* The client's: */
	CURL *easy;
	struct curl_slist *headers;
};

/* Starts; the request is copied. An error in starting comes as a transfer that is done. */
void transfer_start(struct client *client, struct transfer *transfer, const struct request *request);
void transfer_fini(
	struct client *client, struct transfer *transfer); /* also one that is under way or was never started */
/* Waits at most timeout_ms for something to happen, and does what there is to do. */
void client_step(struct client *client, int64_t timeout_ms);

struct response {
	enum transfer_result result;
	long status;
	int64_t retry_after_s;
	struct buffer body; /* owned */
	char message[CURL_ERROR_SIZE];
};

/* One request, the whole answer. The response is valid for response_fini() in any case. */
enum transfer_result client_request(
	struct client *client, const struct request *request, struct response *ret_response);
void response_fini(struct response *response);

/* Appends text percent-encoded, as one segment of a path or one value of a query (RFC 3986). */
void url_escape_append(struct buffer *to, struct bytes text);

#endif
