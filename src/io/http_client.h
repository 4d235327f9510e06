/* An HTTP/1.1 client on one libuv loop: libcurl's multi interface, driven by its sockets and timer
 * (https://curl.se/libcurl/c/libcurl-multi.html, "multi_socket").
 *
 * A call is the caller's struct. It is handed in, and given back by its `done` exactly once, on the loop's thread,
 * never from within http_client_call() or http_client_cancel(). Connections are kept and used again; one that the peer
 * has closed meanwhile is replaced, and the request sent again where nothing of an answer had come (RFC 9112, 9.3.1).
 * Redirects are never followed, proxies of the environment are not used, nothing but http and https is spoken. Names
 * are resolved by libcurl's threads: nothing blocks the loop, also when a call ends while its name is still being
 * looked up.
 *
 * A client is for one kind of peer: what its options allow holds for every connection it keeps. */
#ifndef ASSAY_IO_HTTP_CLIENT_H
#define ASSAY_IO_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "io/http_server.h"

struct http_client;
struct http_transfer;

/* PEM, in files (read again for each new connection; authorities at least every minute) or in memory, which counts
 * where both are given. Neither: the system's authorities; no certificate of our own. A key that wants a pass
 * phrase is refused, nobody is asked for one. */
struct http_tls {
	const char *ca_file;
	const char *certificate_file, *key_file;
	struct bytes ca, certificate, key;
	const char *server_name; /* told to the peer (SNI) and looked for in its certificate; NULL: the URL's host */
	bool insecure; /* any certificate will do */
};

struct http_client_options {
	uv_loop_t *loop; /* borrowed: outlives the client */
	struct http_tls tls; /* copied */
	size_t connections_max; /* open at a time; further calls wait within their deadline. 0: no bound */
	size_t connections_per_host_max; /* likewise */
	size_t idle_connections_max; /* as many, with those in use, are kept for further calls; 0: 8 */
	/* Asked before a socket is made for this address; false refuses it. A name may have several addresses: others
	 * are tried. NULL: all are allowed. Must not call the client. */
	bool (*allow_peer)(void *owner, const struct sockaddr *address);
	void *owner; /* borrowed: given to allow_peer */
};

struct http_call {
	/* Set by the caller, unchanged until `done`; all borrowed. */
	const char *method; /* "GET", "POST", … */
	const char *url; /* absolute */
	const struct http_header
		*headers; /* without Host and Content-Length; a body needs its Content-Type; no CR or LF in them */
	size_t header_count;
	struct bytes body; /* absent: none */
	int64_t deadline_us; /* from the call to the last byte; 0: none */
	int64_t idle_us; /* without a byte of the answer: for streams that have no deadline; 0: for ever */
	size_t answer_max; /* bytes kept in `answer` where there is no on_data; what is more is not read: `cut` */
	/* The answer's status and headers are there. May be NULL. */
	void (*on_head)(struct http_call *call);
	/* A part of the body, borrowed for the call; false ends the call: `cut`. Neither this nor on_head may call the
	 * client, but for http_client_cancel(). NULL: the body is gathered in `answer`. */
	bool (*on_data)(struct http_call *call, struct bytes data);
	/* May hand in further calls, this very one too. */
	void (*done)(struct http_call *call);
	void *owner;

	/* The answer. */
	/* 0: a whole answer came, or one that we cut. Else -ETIMEDOUT, -ECANCELED, -EACCES (allow_peer refused every
	 * address), -ENOENT (the name is not known), -EPROTO (no HTTP), -EKEYREJECTED (TLS), -EMSGSIZE (too large a
	 * head), -EINVAL (the URL), -EIO (all else). */
	struct err err;
	int status; /* of the answer, also where its body came to no good end; 0: there was none */
	bool cut; /* the body was longer than what was read of it */
	bool sent; /* something of the request has gone out: the peer may have acted on it */
	struct buffer head; /* the answer's lines as they came */
	struct buffer answer;

	struct http_transfer *transfer; /* the client's, while it has the call */
};

/* NULL where libcurl cannot be used: *err says why. */
struct http_client *http_client_new(const struct http_client_options *options, struct err *err);
void http_client_call(struct http_client *client, struct http_call *call);
/* `done` follows with -ECANCELED. Nothing for a call that the client does not have. */
void http_client_cancel(struct http_call *call);
/* Calls from now on go over connections that are made from now on: a certificate of ours that was replaced is read and shown. */
void http_client_renew(struct http_client *client);
/* The IP address of ours that the last answer came to; empty before the first. Borrowed until the next answer. */
const char *http_client_local_address(const struct http_client *client);
/* Frees the answer; the call can be handed in again. */
void http_call_fini(struct http_call *call);
/* The value of the answer's first header of that name (compared without case), or absent. Borrowed from `head`. */
struct bytes http_call_header(const struct http_call *call, const char *name);
/* How long the answer's Retry-After asks to wait (RFC 9110, 10.2.3: seconds or a date); 0: it does not say. */
int64_t http_call_retry_after_us(const struct http_call *call);
/* When the server says that it answered (its Date), to the second; 0: it does not say. */
int64_t http_call_date_us(const struct http_call *call);
/* Ends what is under way (-ECANCELED), closes all connections, then calls on_closed once and is gone; never from within
 * this call. */
void http_client_close(struct http_client *client, void (*on_closed)(void *owner), void *owner);

#endif
