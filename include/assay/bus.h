/* The bus door: where events go.
 *
 * What committed is published here, in order, each event with its publisher, by which a bus tells what comes back to it from what others sent; whoever follows (SSE, waiters, other replicas) subscribes here. Delivery is at
 * least once; a follower that must not miss anything reads the store from its cursor first (api/follow). Callbacks run on the loop's thread, never
 * from within publish() or subscribe(). */
#ifndef ASSAY_BUS_H
#define ASSAY_BUS_H

#include <stdbool.h>
#include <stddef.h>

#include "assay/task.h"
#include "base/err.h"
#include "base/list.h"

struct bus;

/* One batch of what was published, of this replica or another; borrowed for the call. */
struct bus_subscriber {
	void (*on_events)(void *owner, const struct event *events, size_t count);
	void (*on_live)(void *owner, const struct live_event *events, size_t count); /* may be NULL */
	/* Events may have been missed (the connection was away): read the store. May be NULL. */
	void (*on_gap)(void *owner);
	/* Every event up to here, whoever wrote it, has been told before, or on_gap after it was. Never goes back. May be NULL. */
	void (*on_frontier)(void *owner, const struct cursor *frontier);
	void *owner;
	struct list link; /* the bus's */
};

struct bus_status {
	const char *kind; /* "local", "redis" */
	bool healthy;
	bool remote; /* events leave this process: what a dead replica had not published yet must be published by another */
	struct err err; /* when not */
	struct cursor published; /* of the last event that has left, in the order of publication */
	uint64_t taken,
		left; /* events ever handed to publish() and republish(); how many of them, from the first on, have left */
	uint64_t heard; /* events, ephemeral ones too, that other replicas published and this one was brought */
	uint64_t foreign; /* messages that came where those come, and were none */
	uint64_t
		gaps; /* times that the other side was away with something unsent, which then had to be read from the store */
	char description[160];
};

struct bus_notices {
	/* The other side was away and is there again, and some of what was published, at the least what `left` does not count, has not left. The listener
	 * reads the events that this replica was to publish from the store, from a place before all of those on, and hands them to republish(), batch by
	 * batch, each when the one before has left. Told anew, and the listener begins anew, when the other side was away again meanwhile; and, after
	 * on_republished of the last batch, when too much was published before that had left: from the end of what it had read. */
	void (*on_behind)(void *owner);
	/* What republish() was handed has left. Not told when on_behind comes first. */
	void (*on_republished)(void *owner);
	/* Whether events of other replicas are heard, while they are wanted (follow). Told again and again while it fails. */
	void (*on_heard)(void *owner, bool heard);
};

struct bus_ops {
	int (*start)(struct bus *bus, const struct bus_notices *notices, void *owner, struct err *err);
	/* Sends what it has, then calls on_stopped once. */
	void (*stop)(struct bus *bus, void (*on_stopped)(void *owner), void *owner);
	void (*free)(struct bus *bus);
	void (*status)(const struct bus *bus, struct bus_status *ret_status);
	/* Copies what it needs before it returns. Never fails towards the caller: what cannot be sent now is sent from the store later. */
	void (*publish)(struct bus *bus, const struct event *events, size_t count);
	void (*publish_live)(struct bus *bus, const struct live_event *events, size_t count);
	/* Events out of the store that had not left: of this replica's gap or of a dead one's, in order. Sent, but not told to
	 * this process's subscribers again. `last`: the gap is closed up to here; what was published meanwhile follows. on_republished, or on_behind,
	 * follows; until then no further call. While the other side is away nothing is sent and nothing told. */
	void (*republish)(struct bus *bus, const struct event *events, size_t count, bool last);
	/* Events of others, read from the store: told to this process's subscribers, and not sent. None at all: some may have been missed. */
	void (*tell)(struct bus *bus, const struct event *events, size_t count);
	/* on_frontier, behind all that was published and told before: also by others, where they are heard. Nothing follows where that cannot be
	 * known, and one that comes later stands for it. */
	void (*frontier)(struct bus *bus, const struct cursor *frontier);
	/* Whether events of other replicas are wanted: on_heard. Nothing where there are none. */
	void (*follow)(struct bus *bus, bool wanted);
	/* The subscriber is the caller's and must outlive the subscription. It gets all that is published after this call, and
	 * perhaps what was published just before. May unsubscribe
	 * itself or others from within a callback. */
	void (*subscribe)(struct bus *bus, struct bus_subscriber *subscriber);
	void (*unsubscribe)(struct bus *bus, struct bus_subscriber *subscriber);
};

/* An implementation embeds this first. */
struct bus {
	const struct bus_ops *ops;
};

#endif
