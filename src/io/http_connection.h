/* The protocol of one connection, without sockets and clocks: bytes come in by http_connection_data(), leave by the
 * transport's operations. The server puts libuv under it; unit tests and the fuzz target put arrays under it. */
#ifndef ASSAY_IO_HTTP_CONNECTION_H
#define ASSAY_IO_HTTP_CONNECTION_H

#include <netinet/in.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "base/list.h"
#include "io/http_answer.h"
#include "io/http_message.h"
#include "io/http_server.h"
#include "io/http_timeouts.h"

struct http_connection;
struct http_core;

/* What a connection needs of the world. None of these calls back into the connection before it returns. */
struct http_transport {
	uint64_t (*now)(struct http_core *core); /* monotonic, ms */
	void (*wake)(struct http_core *core); /* call http_core_run_deferred() soon */
	void (*set_timer)(
		struct http_core *core, uint64_t due); /* http_core_run_timeouts() at `due`; UINT64_MAX: not */
	/* Gives at most what the peer takes at once: bytes taken (0: none now), or a negative errno. */
	ssize_t (*try_write)(struct http_connection *connection, const uv_buf_t *bufs, unsigned count);
	/* Writes `data` (owned from now on, from malloc) and then calls http_connection_written(). One at a time. */
	void (*write)(struct http_connection *connection, char *data, size_t len);
	size_t (*unsent)(const struct http_connection *connection); /* bytes of write() not yet taken */
	void (*read)(struct http_connection *connection, bool on);
	void (*shutdown)(struct http_connection *connection); /* ends our direction */
	/* http_connection_closed() follows; `reset`: the peer sees a broken connection, not an orderly end. */
	void (*close)(struct http_connection *connection, bool reset);
};

/* What all connections of a server share. */
struct http_core {
	const struct http_transport *transport;
	struct log *log; /* borrowed */
	struct http_limits limits; /* no zeros */
	void *owner; /* borrowed */
	size_t (*body_limit)(void *owner, const struct http_request *request);
	void (*on_request)(void *owner, struct http_exchange *exchange);
	struct http_server_statistics statistics;
	bool stopping; /* no connection is kept alive */

	/* private */
	struct list connections;
	struct list deferred;
	struct http_timeouts timeouts;
	uint64_t timer_due;
	struct http_connection *corked; /* borrowed: whose answers are gathered in `out` */
	struct buffer out;
	struct buffer scratch; /* a head or a problem that is being made */
	struct http_message *spare; /* owned, a list */
	unsigned spare_count;
	struct http_date date;
};

struct http_exchange {
	void *data; /* borrowed: the handler's */
	void (*on_abort)(struct http_exchange *exchange);
	void (*on_drained)(struct http_exchange *exchange);
};

/* The states, and what moves between them:
 *
 *	HEAD ──► BODY ──► HANDLING ──► STREAMING
 *	 ▲ └───────────────▲ │             │
 *	 └───────────────────┴─────────────┘   the answer is complete and the connection persists
 *	any ──► LINGER ──► CLOSED              the last answer is flushed; then, where the client may still be
 *	                                       sending, our direction is ended and what comes is dropped
 *	any ──► CLOSED                         the client went away, or a deadline passed */
enum http_connection_state {
	HTTP_STATE_HEAD, /* idle as long as there is no message */
	HTTP_STATE_BODY,
	HTTP_STATE_HANDLING,
	HTTP_STATE_STREAMING,
	HTTP_STATE_LINGER,
	HTTP_STATE_CLOSED
};

/* Embedded by the transport. What is large lives in `message`, and only while a request is received or handled. */
struct http_connection {
	struct http_exchange exchange;
	struct http_core *core; /* borrowed: outlives us */
	struct list node; /* of core->connections */
	struct list deferred;
	struct http_timeout timeout;
	struct http_message *message; /* owned */
	struct buffer input; /* came while it could not be used; from input_at on */
	size_t input_at;
	struct buffer waiting; /* goes to the transport when `sending` is done */
	size_t sending; /* bytes given to the transport's write(), 0 when that is done */
	size_t stalled_at; /* bytes unsent when the write timeout was armed */
	size_t counted; /* in statistics.body_memory */
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} peer;
	enum http_connection_state state : 8;
	unsigned line_ends : 8; /* bytes of empty lines before a request */
	bool reading : 1; /* the transport reads */
	bool eof : 1; /* the client sends no more */
	bool broken : 1; /* the transport failed; what waits in `deferred` will end us */
	bool keep_alive : 1, http10 : 1, head_only : 1; /* of the request that is handled */
	bool hungry : 1; /* http_stream_write() returned false */
	bool linger : 1; /* the client may still be sending */
	bool is_shut : 1; /* our direction is ended */
};

/* Options with their defaults filled in. */
void http_core_init(
	struct http_core *core, const struct http_transport *transport, const struct http_server_options *options);
void http_core_fini(struct http_core *core); /* no connection may be left */
void http_core_run_deferred(struct http_core *core);
void http_core_run_timeouts(struct http_core *core);
void http_core_stop(struct http_core *core); /* see http_server_stop() */
void http_core_abort(struct http_core *core); /* see http_server_abort() */

/* The connection is zeroed but for `peer`. It begins to read. */
void http_connection_init(struct http_connection *connection, struct http_core *core);
void http_connection_data(struct http_connection *connection, const char *data, size_t len);
void http_connection_eof(struct http_connection *connection);
void http_connection_failed(struct http_connection *connection); /* the transport cannot read any more */
void http_connection_written(struct http_connection *connection, int status);
void http_connection_closed(struct http_connection *connection); /* after this its memory may go */

/* Between http_core.c, http_connection.c, http_output.c and http_exchange.c. */
struct http_message *http_core_take_message(struct http_core *core);
void http_core_give_message(struct http_core *core, struct http_message *message);
/* Has http_connection_resume() called in the next turn of the loop (or, if broken, http_connection_failed()). */
void http_core_defer(struct http_connection *connection);
void http_core_update_timer(struct http_core *core); /* after deadlines were armed or disarmed */
void http_connection_resume(struct http_connection *connection);
void http_connection_timed_out(struct http_connection *connection, enum http_timeout_kind kind);
void http_connection_stop(struct http_connection *connection);
struct http_connection *http_connection_of(const struct http_exchange *exchange);
/* Sends the parts (at most 4), at once or when the cork is drawn. */
void http_connection_send(struct http_connection *connection, const struct bytes *parts, unsigned count);
void http_connection_flush(struct http_connection *connection); /* sends what is gathered under the cork */
bool http_connection_has_unsent(const struct http_connection *connection); /* what is under the cork apart */
size_t http_connection_unsent(const struct http_connection *connection);
void http_connection_release_message(struct http_connection *connection);
void http_connection_answered(struct http_connection *connection); /* the exchange has ended */
void http_connection_cut(struct http_connection *connection);
/* Puts timers and reading right for the state; does nothing within http_connection_data(), which does it itself. */
void http_connection_rest(struct http_connection *connection);

#endif
