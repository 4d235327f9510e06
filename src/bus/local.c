/* Events are copied into the arena of the turn's batch and delivered by a timer that is due at once, so that nobody is called from within
 * publish(). Order is that of publication, across durable and live ones. Without subscribers nothing is copied. */
#include "bus/local.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "task/event.h"

enum entry_kind { ENTRY_EVENT, ENTRY_LIVE, ENTRY_GAP, ENTRY_FRONTIER };

struct entry {
	struct list link;
	enum entry_kind kind;
	union {
		struct event event;
		struct live_event live_event;
		struct cursor frontier;
	};
};

struct batch {
	struct list entries;
	size_t count;
	struct arena arena; /* the entries and what they point to */
};

struct local_bus {
	struct bus bus;
	uv_timer_t deliver;
	struct list subscribers; /* struct bus_subscriber */
	struct list *next; /* of a delivery under way: who comes next; moved on when that one unsubscribes */
	struct bus_subscriber *current; /* … whose turn it is; NULL once it has unsubscribed, and may be gone */
	struct batch batch;
	struct cursor published;
	uint64_t taken;
	void (*on_stopped)(void *owner);
	void *owner;
};

static struct local_bus *local(const struct bus *bus)
{
	return CONTAINER_OF((struct bus *)bus, struct local_bus, bus);
}

static void deliver_to(struct local_bus *bus, struct bus_subscriber *subscriber, struct batch *batch)
{
	bus->current = subscriber;
	LIST_EACH (&batch->entries, link) {
		struct entry *entry = LIST_ENTRY(link, struct entry, link);
		if (entry->kind == ENTRY_EVENT)
			subscriber->on_events(subscriber->owner, &entry->event, 1);
		else if (entry->kind == ENTRY_LIVE && subscriber->on_live)
			subscriber->on_live(subscriber->owner, &entry->live_event, 1);
		else if (entry->kind == ENTRY_GAP && subscriber->on_gap)
			subscriber->on_gap(subscriber->owner);
		else if (entry->kind == ENTRY_FRONTIER && subscriber->on_frontier)
			subscriber->on_frontier(subscriber->owner, &entry->frontier);
		if (!bus->current)
			return;
	}
}

static void on_deliver(uv_timer_t *timer)
{
	struct local_bus *bus = timer->data;
	struct batch batch = { .arena = bus->batch.arena };
	list_init(&batch.entries);
	list_splice_back(&batch.entries, &bus->batch.entries);
	bus->batch.arena = (struct arena){ 0 };
	bus->batch.count = 0;
	/* Who subscribes during the delivery goes to the end of the list behind this mark, and gets what comes later. */
	struct list mark = { 0 };
	list_push_back(&bus->subscribers, &mark);
	bus->next = bus->subscribers.next;
	while (bus->next != &mark) {
		struct bus_subscriber *subscriber = LIST_ENTRY(bus->next, struct bus_subscriber, link);
		bus->next = bus->next->next;
		deliver_to(bus, subscriber, &batch);
	}
	bus->next = NULL;
	bus->current = NULL;
	list_remove(&mark);
	arena_fini(&batch.arena);
}

static struct entry *entry_add(struct local_bus *bus)
{
	struct entry *entry = arena_alloc(&bus->batch.arena, sizeof(*entry));
	list_push_back(&bus->batch.entries, &entry->link);
	if (bus->batch.count++ == 0)
		uv_timer_start(&bus->deliver, on_deliver, 0, 0);
	return entry;
}

void local_bus_gap(struct bus *self)
{
	struct local_bus *bus = local(self);
	if (!list_empty(&bus->subscribers))
		entry_add(bus)->kind = ENTRY_GAP;
}

static void local_tell(struct bus *self, const struct event *events, size_t count)
{
	struct local_bus *bus = local(self);
	if (!count)
		local_bus_gap(self);
	if (list_empty(&bus->subscribers))
		return;
	for (size_t i = 0; i < count; i++) {
		struct entry *entry = entry_add(bus);
		entry->event = event_copy(&bus->batch.arena, &events[i]);
	}
}

static void local_frontier(struct bus *self, const struct cursor *frontier)
{
	struct local_bus *bus = local(self);
	if (list_empty(&bus->subscribers))
		return;
	struct entry *entry = entry_add(bus);
	entry->kind = ENTRY_FRONTIER;
	entry->frontier = *frontier;
}

static void local_publish(struct bus *self, const struct event *events, size_t count)
{
	struct local_bus *bus = local(self);
	bus->taken += count;
	if (count)
		bus->published = events[count - 1].cursor;
	if (count)
		local_tell(self, events, count);
}

static void local_publish_live(struct bus *self, const struct live_event *events, size_t count)
{
	struct local_bus *bus = local(self);
	if (list_empty(&bus->subscribers))
		return;
	for (size_t i = 0; i < count; i++) {
		struct entry *entry = entry_add(bus);
		struct arena *arena = &bus->batch.arena;
		entry->kind = ENTRY_LIVE;
		entry->live_event = events[i];
		entry->live_event.tenant = arena_bytes(arena, events[i].tenant);
		entry->live_event.eval_id = arena_bytes(arena, events[i].eval_id);
		entry->live_event.data = arena_bytes(arena, events[i].data);
		entry->live_event.publisher = arena_bytes(arena, events[i].publisher);
		entry->live_event.payload = arena_bytes(arena, events[i].payload);
	}
}

static void local_subscribe(struct bus *self, struct bus_subscriber *subscriber)
{
	struct local_bus *bus = local(self);
	list_push_back(&bus->subscribers, &subscriber->link);
}

static void local_unsubscribe(struct bus *self, struct bus_subscriber *subscriber)
{
	struct local_bus *bus = local(self);
	if (bus->next == &subscriber->link)
		bus->next = bus->next->next;
	if (bus->current == subscriber)
		bus->current = NULL;
	list_remove(&subscriber->link);
}

static void local_republish(struct bus *self, const struct event *events, size_t count, bool last)
{
	/* Nothing leaves this process, so nothing was left behind. */
}

static void local_follow(struct bus *self, bool wanted)
{
	/* Nobody else publishes here. */
}

static int local_start(struct bus *self, const struct bus_notices *notices, void *owner, struct err *err)
{
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct local_bus *bus = handle->data;
	if (bus->batch.count)
		on_deliver(&bus->deliver);
	if (bus->on_stopped)
		bus->on_stopped(bus->owner);
}

static void local_stop(struct bus *self, void (*on_stopped)(void *owner), void *owner)
{
	struct local_bus *bus = local(self);
	bus->on_stopped = on_stopped;
	bus->owner = owner;
	uv_close((uv_handle_t *)&bus->deliver, on_closed);
}

static void local_free(struct bus *self)
{
	arena_fini(&local(self)->batch.arena);
	free(local(self));
}

static void local_status(const struct bus *self, struct bus_status *ret_status)
{
	*ret_status = (struct bus_status){ .kind = "local",
		.healthy = true,
		.published = local(self)->published,
		.taken = local(self)->taken,
		.left = local(self)->taken };
	snprintf(ret_status->description, sizeof(ret_status->description), "within this process");
}

static const struct bus_ops ops = {
	.start = local_start,
	.stop = local_stop,
	.free = local_free,
	.status = local_status,
	.publish = local_publish,
	.publish_live = local_publish_live,
	.republish = local_republish,
	.tell = local_tell,
	.frontier = local_frontier,
	.follow = local_follow,
	.subscribe = local_subscribe,
	.unsubscribe = local_unsubscribe,
};

struct bus *local_bus_new(uv_loop_t *loop)
{
	struct local_bus *bus = alloc(sizeof(*bus));
	bus->bus.ops = &ops;
	list_init(&bus->subscribers);
	list_init(&bus->batch.entries);
	uv_timer_init(loop, &bus->deliver);
	bus->deliver.data = bus;
	return &bus->bus;
}
