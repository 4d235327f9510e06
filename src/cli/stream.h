/* Answers that go on: event streams and followed logs, taken up again where they broke off.
 *
 *             on_connect               200
 *   WAITING ─────────────► CONNECTED ──────► on_data* ──► on_end ──► ENDED
 *      ▲                       │                             │
 *      └── jittered back-off ──┴── 429, 503, lost ───────────┘ STREAM_AGAIN
 *
 * Back-off is exponential from 250 ms to 5 s, each delay between half and the whole of that, from the start again once
 * data came. A service that stays away for five minutes is given up; one that was never reached is given up at once. */
#ifndef ASSAY_CLI_STREAM_H
#define ASSAY_CLI_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

enum stream_next { STREAM_DONE, STREAM_AGAIN };

struct stream {
	const char *accept;
	/* Before each connection: from where to go on. The last event id, if there is one, is borrowed for the call. */
	void (*on_connect)(struct stream *stream, struct buffer *path, struct bytes *ret_last_event_id);
	/* Bytes of a good answer. False: enough, on_end follows. */
	bool (*on_data)(struct stream *stream, struct bytes data);
	/* The answer ended as it should (or on_data said so), or it broke off. May ask the service. With STREAM_DONE it
	 * may set `code`. */
	enum stream_next (*on_end)(struct stream *stream, bool orderly);
	void *owner;
	bool reached; /* the service is known to be there */
	int64_t retry_ms; /* the shortest delay the service asked for; 0: none */
	/* The stream's: */
	struct cli *cli;
	struct transfer transfer;
	enum { STREAM_WAITING, STREAM_CONNECTED, STREAM_ENDED } state;
	struct buffer refusal; /* owned: body of an answer other than 200 */
	unsigned failures; /* since data came */
	int64_t next_at_us; /* when WAITING */
	int64_t away_since_us; /* 0: not away */
	int code; /* exit code, when ENDED */
};

/* Runs all to their end, or until one fails for good or the user interrupts. Returns an exit code; what went wrong has
 * been said. `on_tick` (may be NULL) is called at least every 100 ms. */
int stream_run(struct cli *cli, struct stream *const *streams, size_t count, void (*on_tick)(void *owner), void *owner);

/* The delay before the next try, in microseconds; `random` is any number. */
int64_t stream_backoff_us(unsigned failures, int64_t at_least_ms, uint32_t random);

#endif
