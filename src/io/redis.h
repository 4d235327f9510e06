/* One connection to Redis on the loop: hiredis for the protocol (RESP3, or RESP2 where the server knows no HELLO) and
 * TLS, libuv for the rest.
 *
 *   DOWN ─► RESOLVING ─► CONNECTING ─► (SECURING) ─► GREETING ─► UP ─► (lost) ─► BACKOFF ─► RESOLVING …
 *
 * Commands are pipelined: all that is handed in during one turn of the loop leaves with one write, answers come in the
 * order of the commands. When the connection is lost, what was not answered may or may not have been done; nobody is
 * told of each, on_state tells of all. A connection that does not answer for REDIS_PATIENCE_MS is lost; an idle one is
 * asked (PING) whether it lives. It is made again with jittered exponential back-off (100 ms to 5 s) for ever.
 *
 * hiredis' own asynchronous layer (async.c) is not used: it asserts on what a server says, frees itself from within
 * callbacks, and resolves names in the loop. The program must ignore SIGPIPE. What is used is its context without
 * blocking: reader, output buffer and TLS. */
#ifndef ASSAY_IO_REDIS_H
#define ASSAY_IO_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "io/redis_address.h"

struct redis;

#define REDIS_PATIENCE_MS 10000
#define REDIS_ANSWER_MAX (16 << 20) /* bytes; a server that sends a longer one is left */

struct redis_options {
	uv_loop_t *loop; /* borrowed, as all of these */
	struct log *log;
	const struct redis_address *address;
	const char *purpose; /* "publish", "subscribe": for the log */
	/* All are called on the loop's thread, never from within a call into this module; all may call into it. */
	void (*on_state)(void *owner, bool up, const struct err *why_not);
	/* The answer to a command, with the tag it was given; error absent: it was done. Borrowed for the call. */
	void (*on_answer)(void *owner, uint64_t tag, struct bytes error);
	/* Something was published on a channel that was subscribed to. May be NULL. */
	void (*on_message)(void *owner, struct bytes channel, struct bytes payload);
	void *owner;
};

struct redis *redis_new(const struct redis_options *options);
/* Connects. Nothing while it is connected, or about to be. */
void redis_open(struct redis *redis);
/* Drops the connection, and makes no new one. No callback comes any more until it is opened again. */
void redis_close(struct redis *redis);
/* Drops the connection because of what the owner has seen, and makes a new one after the back-off: on_state follows. */
void redis_fail(struct redis *redis, const struct err *why);
/* Closes and calls on_closed once; then the struct is gone. */
void redis_free(struct redis *redis, void (*on_closed)(void *owner), void *owner);

bool redis_is_up(const struct redis *redis);
int redis_protocol(const struct redis *redis); /* that is spoken: 3 or 2; 0 while not up */
/* Appends one command to the pipeline. Only while up. */
void redis_command(struct redis *redis, uint64_t tag, const struct bytes *words, size_t count);
/* The same for one that is in the protocol's form already: an array of bulk strings (Redis serialization protocol
 * specification). */
void redis_command_formatted(struct redis *redis, uint64_t tag, struct bytes command);
/* Writes `words` in that form. */
struct buffer;
void redis_format(struct buffer *to, const struct bytes *words, size_t count);
/* Bytes of commands that have not been answered. */
size_t redis_in_flight(const struct redis *redis);

#endif
