/* The way to the attempt listener: a queue of frames and one HTTP connection, which never blocks.
 *
 *   DOWN ──► CONNECTING ──► READY ──► SENDING ──► ANSWER ──► READY
 *     ▲          └────────────┴──────────┴───────────┴─ failure, after a pause that grows, with chance in it
 *     └───────────────────────────────────────────────┘
 *
 * A frame stays in the queue until the listener has answered for it, and then for as long as its room is not needed: another
 * listener, which has heard nothing of us, may ask for all once more. Output has a bound there: post_output_room() says
 * when it is reached. Everything else always has room. The caller polls with post_poll() and calls post_turn() each time
 * around, at the latest at post_wake_us(). Times are CLOCK_MONOTONIC microseconds.
 *
 * Of two addresses the first is used until it fails, then mostly the second: behind it there may be several listeners,
 * of which one is the right one. */
#ifndef ASSAY_WRAP_POST_H
#define ASSAY_WRAP_POST_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "wrap/post_redis.h"
#include "wrap/report.h"

#define POST_ADDRESSES 2
#define POST_PATH_MAX 96
#define POST_OUTPUT_MAX (768 << 10) /* bytes of queued frames from where on there is no room for output */

enum post_state { POST_DOWN, POST_CONNECTING, POST_READY, POST_SENDING, POST_ANSWER };

struct post_address {
	const char *text; /* borrowed: outlives this */
	struct sockaddr_storage to;
	socklen_t len;
};

struct post {
	const struct report_signer *signer; /* borrowed: outlives this */
	struct post_address addresses[POST_ADDRESSES];
	size_t address_count, address; /* the one in use */
	char path[POST_PATH_MAX];
	struct post_redis redis;
	bool known; /* on this connection we have said who we are */
	enum post_state state;
	int fd; /* or -1 */
	uint8_t *queue;
	size_t capacity, len;
	size_t taken; /* bytes at its beginning that were answered for */
	uint64_t kept; /* sequence of the first frame in the queue */
	uint64_t first; /* sequence of the first one that was not answered for */
	uint64_t next; /* sequence of the next frame that is made */
	bool open; /* the last frame is output, not signed yet, and may grow: */
	size_t open_at;
	struct report_output output;
	size_t flight; /* bytes behind those taken that are in the request under way */
	bool asking; /* it ends with a FRAME_ASK */
	uint8_t passing[REPORT_OVERHEAD + REPORT_PROGRESS_SIZE]; /* post_pass() */
	size_t passing_len; /* 0: none */
	bool passes; /* the request under way is that */
	char head[1536];
	size_t head_len, sent; /* of head, flight and what follows it together */
	char in[2048];
	size_t in_len;
	int64_t deadline_us; /* of the state; 0: none */
	int64_t again_us; /* when to connect again */
	unsigned failures; /* since the last good answer */
	int64_t contact_us; /* of the last good answer */
	int64_t progress_us; /* when something last moved */
	bool answered; /* at least one answer came: */
	struct report_answer answer; /* the last */
};

/* "10.1.2.3:8091", "[fd00::1]:8091"; false for anything else. */
bool post_address_parse(struct post_address *address, const char *text);

/* The value of a header, NULL where there is none; it ends where its line does. `head` ends with a line's end. */
const char *post_header(const char *head, const char *name);
void post_path(const struct report_signer *signer, const char *what, char path[POST_PATH_MAX]); /* "frames", "plan" */

/* `listeners`: 1 to POST_ADDRESSES addresses; `channel`: as PLAN_CHANNEL has it, changed, or NULL. False where one is none, or there
 * is no memory. */
bool post_init(struct post *post, const struct report_signer *signer, const char *const *listeners, size_t count,
	char *channel, int64_t now_us);

/* Puts a frame into the queue; its sequence is set here. Not for output. */
void post_add(struct post *post, struct report_frame *frame);
/* A frame that is worth nothing once there is another one: beside the queue, in a request of its own, once or not at all: not
 * before the first frame was answered for, nor before frames that were sent in vain. */
void post_pass(struct post *post, struct report_frame *frame);
/* Where output may be put, and how much of it; 0: the queue is full. Then post_output_added() what was put there. */
uint8_t *post_output_room(struct post *post, bool compile, uint32_t run, int stream, uint64_t offset, size_t *ret_room);
void post_output_added(struct post *post, size_t len);
bool post_has_room(const struct post *post); /* for output */
/* The listener takes frames at the moment, so that waiting for room is worth the while. */
bool post_moves(const struct post *post, int64_t now_us);
/* For so long, until `now_us`, nobody looked whether it moves: that is not the listener's time. */
void post_not_looked_at(struct post *post, int64_t us, int64_t now_us);
bool post_is_empty(const struct post *post); /* all was answered for */
/* The frames that are there, those too that were, from *at = 0 on; NULL: there is none left. For the end, when nobody waits for answers any
 * more. */
const uint8_t *post_next_left(struct post *post, size_t *at, size_t *ret_len);

void post_poll(const struct post *post, struct pollfd *polled);
/* When post_turn() wants to be called; INT64_MAX: only when something happens. */
int64_t post_wake_us(const struct post *post, int64_t now_us);
void post_turn(struct post *post, short revents, int64_t now_us);
void post_close(struct post *post);

#endif
