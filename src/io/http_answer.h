/* The text of answers: heads, refusals as application/problem+json (RFC 9457), chunks. No I/O. */
#ifndef ASSAY_IO_HTTP_ANSWER_H
#define ASSAY_IO_HTTP_ANSWER_H

#include <stdint.h>

#include "base/buffer.h"
#include "io/http_server.h"

#define HTTP_DATE_LINE 37

/* The Date line, made anew when its second is over. Zero-initialised is valid. */
struct http_date {
	char line[HTTP_DATE_LINE + 1];
	uint64_t until_ms; /* on the caller's clock */
};

/* The line for `now_ms`, a monotonic clock that may lag behind by what one turn of the loop takes. */
const char *http_date_line(struct http_date *date, uint64_t now_ms);

enum http_answer_length {
	HTTP_LENGTH_KNOWN, /* Content-Length */
	HTTP_LENGTH_CHUNKED,
	HTTP_LENGTH_NONE /* nothing is said: no body, or one that lasts until the connection's end */
};

enum http_answer_connection {
	HTTP_CONNECTION_PERSISTS, /* nothing is said */
	HTTP_CONNECTION_KEEP_ALIVE, /* said to HTTP/1.0 */
	HTTP_CONNECTION_CLOSE
};

struct http_answer {
	int status;
	const char *content_type; /* borrowed; NULL: none */
	const struct http_header *headers; /* borrowed: those the server writes itself are left out */
	size_t header_count;
	enum http_answer_length length;
	uint64_t content_length;
	enum http_answer_connection connection;
	const char *date_line; /* borrowed: from http_date_line() */
};

/* Appends the status line, the headers and the empty line. Control characters in what the caller gave become spaces:
 * a value can be wrong, but not end its line. */
void http_answer_head(struct buffer *buffer, const struct http_answer *answer);
/* Appends the body of a refusal. `detail` holds nothing that JSON escapes. */
void http_answer_problem(struct buffer *buffer, int status, const char *detail);
const char *http_status_reason(int status);

#define HTTP_CHUNK_HEAD 20
/* Writes the line before `len` (> 0) bytes of a chunk; gives its length. */
size_t http_chunk_head(char line[static HTTP_CHUNK_HEAD], size_t len);

#endif
