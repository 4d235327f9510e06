/* The one subscription of the API at the bus, and who hears of what: followers of one task, of one batch, of one
 * evaluation, or of all. A follower is embedded in a stream or a waiter; it costs no memory of its own but an entry per
 * topic that somebody follows.
 *
 * A follower that must not miss anything follows first, and reads the store then. */
#ifndef ASSAY_API_HUB_H
#define ASSAY_API_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "assay/bus.h"
#include "assay/task.h"
#include "base/buffer.h"
#include "base/list.h"

struct hub;
struct topic;
struct follower;
struct coordinator;
struct status_cache;

/* All are called from the loop, never from within a call into the hub. A follower may leave, or others may, from
 * within. */
struct follower_ops {
	void (*on_event)(struct follower *follower, const struct event *event);
	void (*on_live)(struct follower *follower, const struct live_event *event); /* may be NULL */
	void (*on_gap)(struct follower *follower); /* events may have been missed: read the store */
	void (*on_tick)(struct follower *follower); /* from time to time; may be NULL */
	void (*on_drain)(struct follower *follower); /* end what you do: the service stops */
};

struct follower {
	const struct follower_ops *ops; /* borrowed */
	struct topic *topic; /* the hub's; NULL: not following */
	struct list in_topic, in_all; /* the hub's */
};

enum topic_kind { TOPIC_ALL, TOPIC_TASK, TOPIC_BATCH, TOPIC_EVALUATION };

/* `cache` hears first when an ended task is run again. The coordinator is told whether there are followers: then events
 * of other replicas are wanted. */
struct hub *hub_new(uv_loop_t *loop, struct bus *bus, struct coordinator *coordinator, struct status_cache *cache,
	int64_t keepalive_us);
/* There are no followers any more. */
void hub_free(struct hub *hub, void (*on_freed)(void *owner), void *owner);

/* `key`: the 16 bytes of the task's or batch's id, the text of the eval_id, or empty. Copied. */
void hub_follow(struct hub *hub, struct follower *follower, enum topic_kind kind, struct bytes key);
/* Does nothing for one that does not follow. */
void hub_leave(struct hub *hub, struct follower *follower);
void hub_drain(struct hub *hub);
/* Another replica runs an ended task again; nil: any may have been. */
void hub_reopened(struct hub *hub, const struct uuid *id);

/* The end of the stream of events as far as the bus told of it; empty when it has not yet. */
const struct cursor *hub_latest(const struct hub *hub);

/* What a follower that has missed nothing may go on from, where the store's cursors are not final; empty while it is
 * not known. */
const struct cursor *hub_frontier(const struct hub *hub);

/* The event as text for Server-Sent Events, made once for all followers of one event, with its own cursor as id, or
 * without an id. Valid within on_event or on_live. */
struct bytes hub_event_text(struct hub *hub, const struct event *event);
struct bytes hub_bare_event_text(struct hub *hub, const struct event *event);
struct bytes hub_live_text(struct hub *hub, const struct live_event *event);
/* The same for one that the caller made: valid until the next call. */
struct bytes hub_own_event_text(struct hub *hub, const struct event *event);
struct bytes hub_own_live_text(struct hub *hub, const struct live_event *event);
/* A comment, which clients ignore. */
struct bytes hub_comment(void);

struct hub_figures {
	size_t followers;
	uint64_t events, live_events;
};
struct hub_figures hub_figures(const struct hub *hub);

#endif
