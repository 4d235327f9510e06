/* An HTTP/1.1 server (RFC 9112) on one libuv loop, parsed by llhttp.
 *
 * A connection carries one exchange at a time; pipelined requests wait in order. The handler gets an exchange when
 * the request is complete (head and body) and answers it once, at once or later: either with http_respond(), or with
 * http_stream_start(), any number of http_stream_write() and http_stream_end(). If the client goes away first, the
 * exchange's on_abort is called once and the exchange is gone; nothing else may be called with it then.
 *
 * The server bounds everything: size of head and body, memory of all bodies together, connections, those of one peer, time for a head,
 * time for a body, idle time, time without progress of a reader. What it refuses by itself it answers with
 * application/problem+json. */
#ifndef ASSAY_IO_HTTP_SERVER_H
#define ASSAY_IO_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"

struct http_server;
struct http_exchange;

enum http_method {
	HTTP_METHOD_GET,
	HTTP_METHOD_HEAD,
	HTTP_METHOD_POST,
	HTTP_METHOD_PUT,
	HTTP_METHOD_PATCH,
	HTTP_METHOD_DELETE,
	HTTP_METHOD_OPTIONS,
	HTTP_METHOD_OTHER
};

struct http_header {
	struct bytes name; /* as sent; compare without case */
	struct bytes value; /* outer white space removed */
};

/* Valid from on_request (or body_limit) until the exchange is answered, a stream started or aborted. */
struct http_request {
	enum http_method method;
	struct bytes method_name;
	struct bytes path; /* raw, still percent-encoded, begins with '/' */
	struct bytes query; /* raw, without '?'; absent when there is none */
	struct bytes body;
	const struct http_header *headers;
	size_t header_count;
	const struct sockaddr *peer; /* of the connection */
};

struct http_limits {
	size_t head_max; /* bytes of request line and headers; default 16 KiB */
	size_t header_count_max; /* default 64 */
	size_t connections_max; /* default 10,000; further ones wait in the listen backlog */
	/* Connections from one address, IPv4 within IPv6 being the same; further ones are answered 503 and closed at once.
	 * 0: no bound. */
	size_t connections_per_peer_max;
	size_t body_memory_max; /* of all connections together; beyond: 503. Default 256 MiB */
	size_t write_queue_max; /* bytes a connection may have unsent before http_stream_write says so; 64 KiB */
	uint64_t head_timeout_ms; /* from the first byte to the end of the head; default 10 s */
	uint64_t body_timeout_ms; /* without a byte of the body coming; default 30 s */
	uint64_t idle_timeout_ms; /* between requests; default 75 s */
	uint64_t write_timeout_ms; /* without the client taking a byte of what is queued; default 30 s */
};

struct http_server_options {
	uv_loop_t *loop; /* borrowed: outlives the server */
	struct log *log; /* borrowed: outlives the server */
	struct http_limits limits; /* a 0 means the default, where there is one */
	void *owner; /* borrowed: given to the callbacks */
	/* The largest body this request may have, looked at when its head is complete; beyond: 413. It sees no body.
	 * It may refuse early by returning 0 for requests that take none. */
	size_t (*body_limit)(void *owner, const struct http_request *request);
	/* The request is complete. May answer at once. */
	void (*on_request)(void *owner, struct http_exchange *exchange);
};

struct http_server *http_server_new(const struct http_server_options *options);
/* Binds and listens on host:port (numeric address or "localhost"; IPv6 in brackets was taken off before). Port 0 takes
 * a free one. ret_port is the port in use. On failure the message names address and cause ("127.0.0.1:8090: address
 * already in use"). */
int http_server_listen(
	struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port, struct err *err) MUST_CHECK;
/* Stops accepting, closes idle connections at once and the others when their exchange ends (answers carry `Connection:
 * close`). `on_stopped` is called once, when the last connection is closed; not from within this call. */
void http_server_stop(struct http_server *server, void (*on_stopped)(void *owner), void *owner);
/* Closes what is still open, now; on_stopped follows. For the end of the drain time. */
void http_server_abort(struct http_server *server);
void http_server_free(struct http_server *server); /* after on_stopped, or before any listen; NULL is fine */

struct http_server_statistics {
	uint64_t connections; /* open now */
	uint64_t accepted, requests, refused; /* since the start */
	uint64_t crowded; /* connections that were one too many of their peer's; not among those accepted */
	uint64_t bytes_in, bytes_out;
	uint64_t body_memory;
};
struct http_server_statistics http_server_statistics(const struct http_server *server);

const struct http_request *http_exchange_request(const struct http_exchange *exchange);
/* The value of the first header of that name (compared without case), or absent. */
struct bytes http_request_header(const struct http_request *request, const char *name);
/* Makes the request's body the caller's: ret_body is to be given to buffer_fini(), at any time, also after the exchange
 * is gone. */
void http_exchange_take_body(struct http_exchange *exchange, struct buffer *ret_body);
/* Memory that lives as long as the exchange. */
struct arena *http_exchange_arena(struct http_exchange *exchange);
/* One pointer of the handler's. */
void http_exchange_set_data(struct http_exchange *exchange, void *data);
void *http_exchange_data(const struct http_exchange *exchange);
/* Called once if the client goes away (or the server is aborted, or a write timed out) before the exchange ended. The
 * exchange is invalid after the callback returns. Replaces an earlier one; NULL removes it. */
void http_exchange_on_abort(struct http_exchange *exchange, void (*on_abort)(struct http_exchange *exchange));

/* Answers and ends the exchange. `headers` beyond Content-Type, Content-Length, Date and Connection, which the server
 * writes; names and values are trusted (no CR, LF). All bytes are copied. A HEAD request gets the head alone; 204 and
 * 304 carry no body. content_type NULL: none. */
void http_respond(struct http_exchange *exchange, int status, const char *content_type, struct bytes body,
	const struct http_header *headers, size_t header_count);
/* Begins an answer of unknown length (chunked for HTTP/1.1, to the end of the connection for 1.0). The request and its
 * arena are released: the exchange keeps only what streaming needs. */
void http_stream_start(struct http_exchange *exchange, int status, const char *content_type,
	const struct http_header *headers, size_t header_count);
/* Queues bytes (copied). Returns false when more than write_queue_max bytes now wait for the client: the caller stops
 * writing until on_drained. A HEAD request swallows them. */
bool http_stream_write(struct http_exchange *exchange, struct bytes bytes);
/* Called each time the queue has gone empty after http_stream_write returned false. */
void http_stream_on_drained(struct http_exchange *exchange, void (*on_drained)(struct http_exchange *exchange));
size_t http_stream_queued(const struct http_exchange *exchange); /* bytes not yet taken by the kernel */
void http_stream_end(struct http_exchange *exchange);
/* Ends the exchange and the connection without a proper end of the answer, so that the client sees a cut. on_abort is
 * not called. */
void http_exchange_cut(struct http_exchange *exchange);

#endif
