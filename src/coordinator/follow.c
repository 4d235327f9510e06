/* Events of other replicas, for the followers of this one: from the bus where it hears them, else from the store's
 * events, read on its notice. The store gives each once to who says where it stands, also those whose transactions
 * end late (store.h, read_events).
 *
 *   nobody follows ─► bus.follow ─► the bus hears ─► nothing to do here
 *                          └──────► it does not ─► counts.latest, then read_events on each notice, and with each heartbeat */
#include "coordinator/internal.h"

#define STEP 500
#define LINGER_MS 10000 /* followers come and go */

static void read_next(struct coordinator *c);

/* ---- reading ---- */

static void on_read(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct read_events *read = &c->follow.read;
	struct bus *bus = c->options.bus;
	c->follow.reading = false;
	if (operation->outcome == STORE_OK && c->follow.tailing) {
		for (size_t i = 0; i < read->result_count; i++)
			if (!republish_is_own(c, read->results[i].publisher))
				bus->ops->tell(bus, &read->results[i], 1);
		c->follow.after = read->last;
		buffer_clear(&c->follow.position);
		buffer_append_bytes(&c->follow.position, read->next);
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
	c->follow.read.position = buffer_bytes(&c->follow.position);
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
		buffer_clear(&c->follow.position);
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
	c->follow.counts.latest_only = true;
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
	buffer_fini(&c->follow.position);
}
