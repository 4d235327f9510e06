/* Events of other replicas, for the followers of this one: from the bus where it hears them, else from the store's events, read on its notice. What the
 * store gives may come again: the end of the stream is not settled while transactions are under way, so what was told lately is remembered.
 *
 *   nobody follows ─► bus.follow ─► the bus hears ─► nothing to do here
 *                          └──────► it does not ─► counts.latest, then read_events on each notice, and with each heartbeat */
#include "coordinator/internal.h"

#include <stdlib.h>

#define STEP 500
#define TOLD_MAX 8192 /* events remembered */
#define LINGER_MS 10000 /* followers come and go */

static void read_next(struct coordinator *c);

/* ---- what was told lately ---- */

struct told {
	struct table_node node;
	char key[16 + sizeof(uint32_t)]; /* task, sequence */
};

static bool told_before(struct coordinator *c, const struct event *event)
{
	char key[sizeof(((struct told *)NULL)->key)];
	memcpy(key, event->task_id.bytes, 16);
	memcpy(key + 16, &event->sequence, sizeof(event->sequence));
	if (table_find(&c->follow.told, (struct bytes){ key, sizeof(key) }))
		return true;
	if (!c->follow.told_ring)
		c->follow.told_ring = alloc_array(TOLD_MAX, sizeof(*c->follow.told_ring));
	struct told *told = &c->follow.told_ring[c->follow.told_next++ % TOLD_MAX];
	if (told->node.key.data)
		table_remove(&c->follow.told, &told->node);
	memcpy(told->key, key, sizeof(key));
	told->node.key = (struct bytes){ told->key, sizeof(key) };
	table_insert(&c->follow.told, &told->node);
	return false;
}

static void told_forget(struct coordinator *c)
{
	table_fini(&c->follow.told);
	free(STEAL(c->follow.told_ring));
	c->follow.told = (struct table){ 0 };
	c->follow.told_next = 0;
}

/* ---- reading ---- */

static void on_read(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct read_events *read = &c->follow.read;
	struct bus *bus = c->options.bus;
	c->follow.reading = false;
	if (operation->outcome == STORE_OK && c->follow.tailing) {
		for (size_t i = 0; i < read->result_count; i++)
			if (!republish_is_own(c, read->results[i].publisher) && !told_before(c, &read->results[i]))
				bus->ops->tell(bus, &read->results[i], 1);
		c->follow.after = read->last;
		c->follow.again |= read->more;
		if (!read->more)
			frontier_tailed(c, &read->last);
	}
	store_operation_fini(operation);
	read_next(c);
	coordinator_drained_check(c);
}

static void read_next(struct coordinator *c)
{
	if (!c->follow.again || !c->follow.tailing || !c->follow.placed || c->follow.reading || c->stop.stopping ||
		!c->store_available)
		return;
	c->follow.again = false;
	c->follow.reading = true;
	c->follow.read.after = c->follow.after;
	c->follow.read.limit = STEP;
	c->options.store->ops->read_events(c->options.store, &c->follow.read);
}

/* From here on; what followers missed until now they read themselves. */
static void on_counted(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct bus *bus = c->options.bus;
	c->follow.counting = false;
	if (operation->outcome == STORE_OK && c->follow.tailing && !c->follow.placed) {
		c->follow.placed = c->follow.again = true;
		c->follow.after = c->follow.counts.latest;
		bus->ops->tell(bus, NULL, 0);
	}
	store_operation_fini(operation);
	read_next(c);
	coordinator_drained_check(c);
}

static void place(struct coordinator *c)
{
	if (c->follow.counting || c->follow.placed || !c->follow.tailing || c->stop.stopping || !c->store_available)
		return;
	c->follow.counting = true;
	c->options.store->ops->read_counts(c->options.store, &c->follow.counts);
}

/* ---- who wants what ---- */

static void update(struct coordinator *c)
{
	bool tail = c->follow.wanted && c->follow.deaf && !c->options.settings.embedded;
	if (tail == c->follow.tailing || c->stop.stopping)
		return;
	c->follow.tailing = tail;
	c->follow.placed = false;
	c->options.store->ops->follow_events(c->options.store, tail);
	if (tail)
		place(c);
	else
		told_forget(c);
}

static void wanted_set(struct coordinator *c, bool wanted)
{
	struct bus_status status;
	if (wanted == c->follow.wanted || c->stop.stopping)
		return;
	c->follow.wanted = wanted;
	frontier_heard(c, false);
	c->options.bus->ops->status(c->options.bus, &status);
	c->follow.deaf =
		!status.remote || !status.healthy; /* else the bus will hear in a moment, or say that it does not */
	c->options.bus->ops->follow(c->options.bus, wanted);
	update(c);
}

static void on_linger_over(uv_timer_t *timer)
{
	wanted_set(timer->data, false);
}

void coordinator_follow_events(struct coordinator *c, bool wanted)
{
	if (c->phase == COORDINATOR_STOPPED || c->stop.stopping)
		return;
	if (!wanted) {
		uv_timer_start(&c->follow.linger, on_linger_over, LINGER_MS, 0);
		return;
	}
	uv_timer_stop(&c->follow.linger);
	wanted_set(c, true);
}

void follow_on_heard(void *owner, bool heard)
{
	struct coordinator *c = owner;
	c->follow.deaf = !heard;
	frontier_heard(c, heard);
	update(c);
}

void follow_pump(struct coordinator *c)
{
	c->follow.again = true;
	place(c);
	read_next(c);
}

/* ---- life ---- */

void follow_init(struct coordinator *c)
{
	c->follow.read.operation.done = on_read;
	c->follow.counts.operation.done = on_counted;
	c->follow.read.operation.owner = c->follow.counts.operation.owner = c;
	uv_timer_init(c->options.loop, &c->follow.linger);
	c->follow.linger.data = c;
}

bool follow_idle(const struct coordinator *c)
{
	return !c->follow.reading && !c->follow.counting;
}

void follow_dispose(struct coordinator *c)
{
	told_forget(c);
}
