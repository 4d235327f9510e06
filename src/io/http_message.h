/* One request on its way in: from bytes, cut anywhere, to struct http_request. No I/O, no clock.
 *
 * llhttp, strict, frames and validates; a second look at the finished head splits it into headers and decides what
 * llhttp leaves open (RFC 9112, sections 2.2, 3, 5 and 6): see http_message.c. */
#ifndef ASSAY_IO_HTTP_MESSAGE_H
#define ASSAY_IO_HTTP_MESSAGE_H

#include <llhttp.h>

#include "base/buffer.h"
#include "io/http_server.h"

enum http_message_result {
	HTTP_MESSAGE_MORE, /* all bytes were taken, and more are needed */
	HTTP_MESSAGE_DONE, /* the head (or the body) is complete */
	HTTP_MESSAGE_REFUSED /* status and detail say why; the connection cannot be used further */
};

struct http_message {
	struct http_request request; /* but for peer; complete when head and body are */
	struct arena arena; /* the handler's */
	struct http_message *next; /* borrowed: for who keeps spare ones */

	/* What the head says; valid once it is complete. */
	bool http10; /* the version is 1.0 */
	bool keep_alive;
	bool chunked;
	bool expects_continue;
	uint64_t content_length; /* of the body, 0 without one */

	size_t body_max; /* bytes; to be set before http_message_body() */
	int status; /* of the refusal */
	const char *detail; /* of the refusal: a literal without characters that JSON escapes */

	/* private */
	llhttp_t parser;
	struct buffer head; /* the bytes of the head: what request points into */
	struct buffer body;
	uint64_t framing; /* bytes of a chunked body that are not its content */
	size_t head_max, header_count_max;
	bool head_done, body_done;
	struct http_header headers[]; /* header_count_max of them */
};

struct http_message *http_message_new(const struct http_limits *limits);
void http_message_free(struct http_message *message); /* NULL is fine */
/* Makes it as new, keeping some memory for the next request. */
void http_message_reset(struct http_message *message);
/* Takes bytes of the head: ret_used of them when it is done, what follows belongs to the body or the next request.
 * Line ends before the request line are the caller's to skip. */
enum http_message_result http_message_head(
	struct http_message *message, const char *data, size_t len, size_t *ret_used) MUST_CHECK;
bool http_message_has_body(const struct http_message *message);
/* Takes bytes of the body; to be called when there is one. Trailer fields are checked and dropped. */
enum http_message_result http_message_body(
	struct http_message *message, const char *data, size_t len, size_t *ret_used) MUST_CHECK;
/* Bytes of memory that the body holds. */
size_t http_message_body_memory(const struct http_message *message);

#endif
