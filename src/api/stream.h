/* What streams of events and of output have in common: they follow the hub, answer one exchange, and go between reading
 * the store and hearing what is published.
 *
 *   READING ◄── missed ── LIVE          READING: an operation of the store is out (`read`), again until nothing is missed
 *      └── nothing missed ──┘           LIVE: what the hub tells is sent as it comes
 *
 * What comes while a stream is READING, or while its client is slow (`blocked`), is not kept: it is noted that there is
 * more (`missed`), and the store is read from where the client is. So a slow client costs no memory beyond its
 * connection's write queue, and misses nothing.
 *
 * A stream embeds `struct stream` first, is allocated as one piece and owned by its exchange: it goes with it. An
 * operation that is out when its stream goes owns itself: it embeds `struct stream_read`, which then no longer names a
 * stream. */
#ifndef ASSAY_API_STREAM_H
#define ASSAY_API_STREAM_H

#include <stdbool.h>

#include "api/call.h"
#include "api/hub.h"
#include "base/bytes.h"

struct api;
struct http_exchange;
struct stream;

struct stream_read {
	struct stream *stream; /* NULL: it has gone meanwhile */
	struct api *api;
};

struct stream {
	struct follower follower; /* its topic is set where it follows one */
	struct api *api; /* borrowed */
	struct http_exchange *exchange; /* borrowed: the stream is its data */
	void (*step)(
		struct stream *stream); /* does what is to be done, if the client can take more; may free the stream */
	struct stream_read *read; /* the one that is out; NULL: not READING */
	void (*on_gone)(struct stream *stream); /* undoes what the embedding struct did elsewhere; may be NULL */
	bool blocked; /* the client takes no more for now */
	bool missed; /* there is more in the store */
	bool ended; /* the store has all there will be */
	struct bytes eval_id; /* behind the struct that embeds this one; absent: none */
};

/* `size` is that of the struct that embeds it; the text of eval_id, which may be absent, is copied behind it. */
struct stream *stream_new(struct call *call, size_t size, struct bytes eval_id, const struct follower_ops *ops,
	void (*step)(struct stream *stream)) __attribute__((returns_nonnull));
/* Ends the call: its exchange begins to answer, and is the stream's. False: it was a HEAD request, and stream and
 * exchange have ended. */
bool stream_open(struct stream *stream, struct call *call, const char *content_type);
void stream_write(struct stream *stream, struct bytes bytes);
void stream_end(struct stream *stream); /* frees it */
void stream_cut(struct stream *stream); /* frees it; the client sees that something is missing */

/* The stream is READING from now on. The api lives until stream_read_end(), which gives the stream that still waits for
 * it, or NULL. */
void stream_read_begin(struct stream *stream, struct stream_read *read);
struct stream *stream_read_end(struct stream_read *read);

/* What is published cannot go out at once. */
static inline bool stream_must_wait(const struct stream *stream)
{
	return stream->read || stream->blocked || stream->missed;
}

/* Two of a follower's callbacks that are the same for all. */
void stream_on_gap(struct follower *follower);
void stream_on_drain(struct follower *follower);

#endif
