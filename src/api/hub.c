/* Topics live in one table, keyed by one byte of kind and the key; a topic exists while somebody follows it. While a
 * topic's followers are told, they stand in a list of the teller's and are put back one by one, so that any of them may
 * leave meanwhile; `busy` keeps the topic alive.
 *
 * The timer for the comments on idle streams runs only while there are followers. */
#include "api/hub.h"

#include <stdlib.h>
#include <string.h>

#include "api/status_cache.h"
#include "base/alloc.h"
#include "base/table.h"
#include "coordinator/coordinator.h"
#include "io/sse.h"
#include "task/forms.h"
#include "task/lifecycle.h"

#define RENDERED_KEPT (64 * 1024)

struct topic {
	struct table_node node;
	struct list followers;
	enum topic_kind kind;
	int busy;
	char key[];
};

struct hub {
	struct bus *bus; /* borrowed */
	struct coordinator *coordinator; /* borrowed */
	struct status_cache *cache; /* borrowed */
	struct bus_subscriber subscriber;
	struct table topics;
	size_t topic_counts[4]; /* by kind: look-ups in vain are spared */
	struct list all; /* followers */
	uv_timer_t tick;
	uint64_t tick_ms;
	struct cursor latest, frontier;
	struct buffer rendered, bare, payload; /* text with an id, and without */
	bool is_rendered, is_bare_rendered;
	struct hub_figures figures;
	void (*on_freed)(void *owner);
	void *owner;
};

/* ---- topics ---- */

static struct bytes key_write(char *to, enum topic_kind kind, struct bytes key)
{
	to[0] = (char)('0' + kind);
	if (key.len > 0)
		memcpy(to + 1, key.data, key.len);
	return (struct bytes){ to, key.len + 1 };
}

static struct topic *topic_find(struct hub *hub, enum topic_kind kind, struct bytes key)
{
	char text[1024];
	if (hub->topic_counts[kind] == 0 || key.len + 1 > sizeof(text))
		return NULL;
	struct table_node *node = table_find(&hub->topics, key_write(text, kind, key));
	return node ? CONTAINER_OF(node, struct topic, node) : NULL;
}

static struct topic *topic_new(struct hub *hub, enum topic_kind kind, struct bytes key)
{
	struct topic *topic = alloc(sizeof(*topic) + key.len + 1);
	topic->kind = kind;
	topic->node.key = key_write(topic->key, kind, key);
	list_init(&topic->followers);
	table_insert(&hub->topics, &topic->node);
	hub->topic_counts[kind]++;
	return topic;
}

static void topic_free_if_unused(struct hub *hub, struct topic *topic)
{
	if (topic->busy > 0 || !list_empty(&topic->followers))
		return;
	table_remove(&hub->topics, &topic->node);
	hub->topic_counts[topic->kind]--;
	free(topic);
}

/* ---- telling ---- */

typedef void (*tell_fn)(struct follower *follower, const void *what);

static void tell_topic(struct hub *hub, struct topic *topic, tell_fn tell, const void *what)
{
	if (!topic)
		return;
	struct list pending, *node;
	list_init(&pending);
	list_splice_back(&pending, &topic->followers);
	topic->busy++;
	while ((node = list_pop_front(&pending))) {
		list_push_back(&topic->followers, node);
		tell(LIST_ENTRY(node, struct follower, in_topic), what);
	}
	topic->busy--;
	topic_free_if_unused(hub, topic);
}

static void tell_all(struct hub *hub, tell_fn tell)
{
	struct list pending, *node;
	list_init(&pending);
	list_splice_back(&pending, &hub->all);
	while ((node = list_pop_front(&pending))) {
		list_push_back(&hub->all, node);
		tell(LIST_ENTRY(node, struct follower, in_all), NULL);
	}
}

static void tell_event(struct follower *follower, const void *what)
{
	follower->ops->on_event(follower, what);
}

static void tell_live(struct follower *follower, const void *what)
{
	if (follower->ops->on_live)
		follower->ops->on_live(follower, what);
}

static void tell_gap(struct follower *follower, const void *what)
{
	follower->ops->on_gap(follower);
}

static void tell_tick(struct follower *follower, const void *what)
{
	if (follower->ops->on_tick)
		follower->ops->on_tick(follower);
}

static void tell_drain(struct follower *follower, const void *what)
{
	follower->ops->on_drain(follower);
}

static void tell(struct hub *hub, const struct uuid *task_id, const struct uuid *batch_id, struct bytes eval_id,
	tell_fn tell_one, const void *what)
{
	hub->is_rendered = hub->is_bare_rendered = false;
	struct bytes task = { (const char *)task_id->bytes, 16 }, batch = { (const char *)batch_id->bytes, 16 };
	tell_topic(hub, topic_find(hub, TOPIC_TASK, task), tell_one, what);
	tell_topic(hub, topic_find(hub, TOPIC_BATCH, batch), tell_one, what);
	if (eval_id.data)
		tell_topic(hub, topic_find(hub, TOPIC_EVALUATION, eval_id), tell_one, what);
	tell_topic(hub, topic_find(hub, TOPIC_ALL, BYTES_NONE), tell_one, what);
}

/* ---- the bus ---- */

static void on_events(void *owner, const struct event *events, size_t count)
{
	struct hub *hub = owner;
	hub->figures.events += count;
	for (size_t i = 0; i < count; i++) {
		const struct event *event = &events[i];
		if (event->cursor.length > 0)
			hub->latest = event->cursor;
		if (event->kind == EVENT_QUEUED && event->run > 1)
			status_cache_drop(hub->cache, &event->task_id);
		if (!list_empty(&hub->all))
			tell(hub, &event->task_id, &event->batch_id, event->eval_id, tell_event, event);
	}
}

static void on_live(void *owner, const struct live_event *events, size_t count)
{
	struct hub *hub = owner;
	hub->figures.live_events += count;
	for (size_t i = 0; i < count && !list_empty(&hub->all); i++)
		tell(hub, &events[i].task_id, &events[i].batch_id, events[i].eval_id, tell_live, &events[i]);
}

static void on_frontier(void *owner, const struct cursor *frontier)
{
	((struct hub *)owner)->frontier = *frontier;
}

static void on_gap(void *owner)
{
	struct hub *hub = owner;
	status_cache_clear(hub->cache);
	tell_all(hub, tell_gap);
}

void hub_reopened(struct hub *hub, const struct uuid *id)
{
	if (uuid_is_nil(id))
		status_cache_clear(hub->cache);
	else
		status_cache_drop(hub->cache, id);
}

/* ---- followers ---- */

static void on_tick(uv_timer_t *timer)
{
	tell_all(timer->data, tell_tick);
}

void hub_follow(struct hub *hub, struct follower *follower, enum topic_kind kind, struct bytes key)
{
	follower->topic = topic_find(hub, kind, key);
	if (!follower->topic)
		follower->topic = topic_new(hub, kind, key);
	list_push_back(&follower->topic->followers, &follower->in_topic);
	list_push_back(&hub->all, &follower->in_all);
	if (hub->figures.followers++ > 0)
		return;
	uv_timer_start(&hub->tick, on_tick, hub->tick_ms, hub->tick_ms);
	coordinator_follow_events(hub->coordinator, true);
}

void hub_leave(struct hub *hub, struct follower *follower)
{
	if (!follower->topic)
		return;
	struct topic *topic = STEAL(follower->topic);
	list_remove(&follower->in_topic);
	list_remove(&follower->in_all);
	topic_free_if_unused(hub, topic);
	if (--hub->figures.followers > 0)
		return;
	uv_timer_stop(&hub->tick);
	coordinator_follow_events(hub->coordinator, false);
}

void hub_drain(struct hub *hub)
{
	tell_all(hub, tell_drain);
}

const struct cursor *hub_latest(const struct hub *hub)
{
	return &hub->latest;
}

const struct cursor *hub_frontier(const struct hub *hub)
{
	return &hub->frontier;
}

/* ---- text ---- */

static void forget_large(struct buffer *buffer)
{
	if (buffer->capacity > RENDERED_KEPT)
		buffer_fini(buffer);
	buffer_clear(buffer);
}

struct bytes hub_own_event_text(struct hub *hub, const struct event *event)
{
	char id[CURSOR_TEXT_SIZE];
	hub->is_rendered = hub->is_bare_rendered = false;
	forget_large(&hub->rendered);
	forget_large(&hub->payload);
	form_event(&hub->payload, event);
	sse_append(&hub->rendered, bytes_of(event_kind_name(event->kind)), bytes_of(cursor_format(&event->cursor, id)),
		buffer_bytes(&hub->payload));
	return buffer_bytes(&hub->rendered);
}

struct bytes hub_own_live_text(struct hub *hub, const struct live_event *event)
{
	hub->is_rendered = hub->is_bare_rendered = false;
	forget_large(&hub->rendered);
	forget_large(&hub->payload);
	form_live_event(&hub->payload, event);
	/* No id: what is not kept cannot be gone back to. */
	sse_append(&hub->rendered, bytes_of(event_kind_name(event->kind)), BYTES_NONE, buffer_bytes(&hub->payload));
	return buffer_bytes(&hub->rendered);
}

struct bytes hub_event_text(struct hub *hub, const struct event *event)
{
	if (!hub->is_rendered)
		hub_own_event_text(hub, event);
	hub->is_rendered = true;
	return buffer_bytes(&hub->rendered);
}

struct bytes hub_bare_event_text(struct hub *hub, const struct event *event)
{
	if (!hub->is_bare_rendered) {
		forget_large(&hub->bare);
		forget_large(&hub->payload);
		form_event(&hub->payload, event);
		sse_append(&hub->bare, bytes_of(event_kind_name(event->kind)), BYTES_NONE, buffer_bytes(&hub->payload));
	}
	hub->is_bare_rendered = true;
	return buffer_bytes(&hub->bare);
}

struct bytes hub_live_text(struct hub *hub, const struct live_event *event)
{
	if (!hub->is_rendered)
		hub_own_live_text(hub, event);
	hub->is_rendered = true;
	return buffer_bytes(&hub->rendered);
}

struct bytes hub_comment(void)
{
	return BYTES_LITERAL(": still here\n\n");
}

struct hub_figures hub_figures(const struct hub *hub)
{
	return hub->figures;
}

/* ---- life ---- */

struct hub *hub_new(uv_loop_t *loop, struct bus *bus, struct coordinator *coordinator, struct status_cache *cache,
	int64_t keepalive_us)
{
	struct hub *hub = alloc(sizeof(*hub));
	hub->bus = bus;
	hub->coordinator = coordinator;
	hub->cache = cache;
	hub->tick_ms = (uint64_t)(keepalive_us / 1000);
	list_init(&hub->all);
	uv_timer_init(loop, &hub->tick);
	hub->tick.data = hub;
	hub->subscriber = (struct bus_subscriber){
		.on_events = on_events,
		.on_live = on_live,
		.on_gap = on_gap,
		.on_frontier = on_frontier,
		.owner = hub,
	};
	bus->ops->subscribe(bus, &hub->subscriber);
	return hub;
}

static void on_closed(uv_handle_t *handle)
{
	struct hub *hub = handle->data;
	void (*on_freed)(void *owner) = hub->on_freed;
	void *owner = hub->owner;
	free(hub);
	on_freed(owner);
}

void hub_free(struct hub *hub, void (*on_freed)(void *owner), void *owner)
{
	hub->on_freed = on_freed;
	hub->owner = owner;
	hub->bus->ops->unsubscribe(hub->bus, &hub->subscriber);
	table_fini(&hub->topics);
	buffer_fini(&hub->rendered);
	buffer_fini(&hub->bare);
	buffer_fini(&hub->payload);
	uv_close((uv_handle_t *)&hub->tick, on_closed);
}
