/* What was committed and has not left: this replica's own events after the bus was away, and those of the dead. Both are read from the store and
 * handed to the bus, one batch at a time, each when the one before has left (bus.h); own ones first.
 *
 * The watermark is the place in the stream of events up to which every event of this replica has left. It is told with each heartbeat, and
 * whoever finds this replica dead goes on from there. The places are those before which no event will be written (the horizon that a
 * heartbeat brings), or, of a store whose cursors are final, that of the last event that has left. Another one that committed before it may not even be
 * known here yet. So a place becomes the watermark only when every write that was under way at its time has been answered, and everything
 * published until then has left:
 *
 *   PROPOSED (a place, a time) ─ all writes begun before are done ─► DONE ─ all that was taken by then has left ─► watermark
 *
 * Writes are counted in two classes, those begun before and since the proposal. The watermark lags behind by a heartbeat or two, which costs some events being
 * sent twice after a death, and none being lost.
 *
 * The store keeps of each dead replica whether its events have been told: until they have, its watermark holds everybody's frontier, and if
 * we die before, another takes them over. */
#include "coordinator/internal.h"

#include <stdlib.h>

#define STEP 500 /* events of one batch */

static void pump(struct coordinator *c);

/* ---- the watermark ---- */

static void propose(struct coordinator *c, const struct cursor *place)
{
	if (c->republish.proposed)
		return;
	c->republish.proposed = true;
	c->republish.done = false;
	c->republish.place = *place;
	c->republish.class = !c->republish.class;
}

static void done_check(struct coordinator *c)
{
	struct bus_status status;
	if (!c->republish.proposed || c->republish.done || c->republish.open[!c->republish.class] > 0)
		return;
	c->options.bus->ops->status(c->options.bus, &status);
	c->republish.done = true;
	c->republish.taken = status.taken;
}

/* What stands for it is the count in its class, here and in frontier.c. */
int republish_write_begun(struct coordinator *c)
{
	c->republish.open[c->republish.class]++;
	return c->republish.class | frontier_write_begun(c) << 1;
}

void republish_write_prolonged(struct coordinator *c, int class)
{
	c->republish.open[class & 1]++;
	frontier_write_prolonged(c, class >> 1);
}

void republish_write_done(struct coordinator *c, int class)
{
	c->republish.open[class & 1]--;
	done_check(c);
	frontier_write_done(c, class >> 1);
}

void republish_horizon(struct coordinator *c, const struct cursor *horizon)
{
	c->republish.horizon = *horizon;
	if (!horizon->length)
		return;
	propose(c, horizon);
	done_check(c);
}

struct cursor republish_watermark(struct coordinator *c)
{
	struct bus_status status;
	c->options.bus->ops->status(c->options.bus, &status);
	propose(c, c->republish.horizon.length ? &c->republish.horizon : &status.published);
	done_check(c);
	if (c->republish.done && status.left >= c->republish.taken) {
		c->republish.proposed = false;
		if (c->republish.place.length)
			c->republish.watermark = c->republish.place;
	}
	return c->republish.watermark;
}

/* ---- own names: operations under way may still bear an earlier one ---- */

void republish_name(struct coordinator *c, const char *name)
{
	size_t count = ARRAY_SIZE(c->republish.names);
	memmove(c->republish.names + 1, c->republish.names, (count - 1) * sizeof(c->republish.names[0]));
	c->republish.names[0] = name;
	/* The gap of the same name is read on. */
	if (c->republish.job == REPUBLISH_GAP && c->republish.name + 1 < count)
		c->republish.name++;
}

bool republish_is_own(const struct coordinator *c, struct bytes publisher)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->republish.names); i++)
		if (c->republish.names[i] && bytes_is(publisher, c->republish.names[i]))
			return true;
	return false;
}

/* ---- batches ---- */

static bool job_is_own_gap(const struct coordinator *c)
{
	return c->republish.job == REPUBLISH_GAP;
}

static struct dead_replica *first_dead(const struct coordinator *c)
{
	return LIST_ENTRY(c->republish.dead.next, struct dead_replica, link);
}

/* Whoever follows is to hear of an earlier incarnation's events before those of a later one. */
static size_t oldest_name(const struct coordinator *c)
{
	size_t name = ARRAY_SIZE(c->republish.names) - 1;
	while (name > 0 && !c->republish.names[name])
		name--;
	return name;
}

static void walk_from(struct coordinator *c, const struct cursor *after)
{
	c->republish.after = *after;
	buffer_clear(&c->republish.position);
}

/* The gap of one name has been read to its end: that of the name after it, from the same place. */
static bool next_name(struct coordinator *c)
{
	if (c->republish.name == 0)
		return false;
	c->republish.name--;
	walk_from(c, &c->republish.watermark);
	return true;
}

static void on_read(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	struct read_events *read = &c->republish.read;
	struct bus *bus = c->options.bus;
	bool ok = operation->outcome == STORE_OK && !c->stop.stopping;
	c->republish.reading = false;
	if (ok && c->republish.gap && !job_is_own_gap(c))
		c->republish.job = REPUBLISH_NOTHING; /* own ones first */
	else if (ok && !c->republish.again) {
		walk_from(c, &read->last);
		buffer_append_bytes(&c->republish.position, read->next);
		c->republish.more = read->more;
		if (job_is_own_gap(c) && !read->more) {
			/* That of the name which is read first lies before those of the others. */
			if (!c->republish.end.length)
				c->republish.end = read->last;
			c->republish.more = next_name(c);
		}
		c->republish.sent = true;
		bus->ops->republish(bus, read->results, read->result_count, job_is_own_gap(c) && !c->republish.more);
	}
	store_operation_fini(operation);
	if (ok)
		pump(c);
	coordinator_drained_check(c);
}

static void read_next(struct coordinator *c)
{
	struct read_events *read = &c->republish.read;
	read->after = c->republish.after;
	read->position = buffer_bytes(&c->republish.position);
	read->publisher =
		job_is_own_gap(c) ? bytes_of(c->republish.names[c->republish.name]) : first_dead(c)->locked_by;
	read->limit = STEP;
	c->republish.reading = true;
	c->options.store->ops->read_events(c->options.store, read);
}

static void begin(struct coordinator *c)
{
	c->republish.again = false;
	if (c->republish.gap) {
		c->republish.job = REPUBLISH_GAP;
		c->republish.name = oldest_name(c);
		walk_from(c, &c->republish.watermark);
		c->republish.end = (struct cursor){ 0 };
	} else if (!list_empty(&c->republish.dead)) {
		c->republish.job = REPUBLISH_DEAD;
		walk_from(c, &first_dead(c)->after);
	}
}

/* What the store did not give is asked for again with the next heartbeat. */
static void pump(struct coordinator *c)
{
	if (c->republish.reading || c->republish.sent || c->stop.stopping || !c->store_available)
		return;
	if (c->republish.job == REPUBLISH_NOTHING || c->republish.again)
		begin(c);
	if (c->republish.job != REPUBLISH_NOTHING)
		read_next(c);
}

/* ---- the bus ---- */

void republish_on_behind(void *owner)
{
	struct coordinator *c = owner;
	c->republish.gap = c->republish.again = true;
	c->republish.sent = false;
	pump(c);
}

void republish_on_republished(void *owner)
{
	struct coordinator *c = owner;
	if (!c->republish.sent)
		return;
	c->republish.sent = false;
	if (!job_is_own_gap(c))
		first_dead(c)->after = c->republish.after;
	if (!c->republish.more && job_is_own_gap(c)) {
		c->republish.gap = false;
		if (c->republish.end.length)
			c->republish.watermark = c->republish.end;
		c->republish.proposed = false; /* it lies before */
		c->republish.job = REPUBLISH_NOTHING;
		log_event(c->log, LOG_INFO, "events that had waited in the store have been published");
	} else if (!c->republish.more) {
		struct dead_replica *dead = first_dead(c);
		list_remove(&dead->link);
		list_push_back(&c->republish.told, &dead->link);
		c->republish.job = REPUBLISH_NOTHING;
	}
	pump(c);
}

/* ---- the dead ---- */

static bool is_listed(const struct list *list, struct bytes locked_by)
{
	LIST_EACH (list, link)
		if (bytes_equal(LIST_ENTRY(link, struct dead_replica, link)->locked_by, locked_by))
			return true;
	return false;
}

void republish_dead(struct coordinator *c, struct bytes locked_by, const struct cursor *watermark)
{
	struct bus_status status;
	c->options.bus->ops->status(c->options.bus, &status);
	if (locked_by.len >= LOCKED_BY_SIZE || is_listed(&c->republish.dead, locked_by) ||
		is_listed(&c->republish.told, locked_by))
		return;
	struct dead_replica *dead = alloc(sizeof(*dead));
	memcpy(dead->name, locked_by.data, locked_by.len);
	dead->locked_by = (struct bytes){ dead->name, locked_by.len };
	dead->after = *watermark;
	/* Where nothing leaves, everybody reads it from the store. */
	list_push_back(status.remote ? &c->republish.dead : &c->republish.told, &dead->link);
}

void republish_tell(struct coordinator *c, struct store_heartbeat *heartbeat)
{
	heartbeat->told = c->republish.telling;
	heartbeat->told_count = 0;
	LIST_EACH (&c->republish.told, link) {
		if (heartbeat->told_count == TOLD_AT_ONCE)
			break;
		c->republish.telling[heartbeat->told_count++] = LIST_ENTRY(link, struct dead_replica, link)->locked_by;
	}
}

void republish_told(struct coordinator *c, const struct store_heartbeat *heartbeat, bool confirmed)
{
	for (size_t i = 0; confirmed && i < heartbeat->told_count; i++)
		free(LIST_ENTRY(list_pop_front(&c->republish.told), struct dead_replica, link));
}

void republish_pump(struct coordinator *c)
{
	pump(c);
}

/* ---- life ---- */

static void on_counted(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	bool ok = operation->outcome == STORE_OK;
	c->republish.counting = false;
	if (ok) {
		c->republish.begun = true;
		c->republish.watermark = c->republish.counts.latest;
	} else if (!c->stop.stopping) {
		log_event(c->log, LOG_WARNING, "where the stream of events ends is not known yet: no work is taken",
			L_ERR(&operation->err));
	}
	store_operation_fini(operation);
	if (ok && !c->stop.stopping)
		reaper_beat(c);
	coordinator_drained_check(c);
}

bool republish_begin(struct coordinator *c)
{
	struct bus_status status;
	c->options.bus->ops->status(c->options.bus, &status);
	if (!status.remote || c->republish.begun)
		return true;
	if (!c->republish.counting && !c->stop.stopping) {
		c->republish.counting = true;
		c->options.store->ops->read_counts(c->options.store, &c->republish.counts);
	}
	return false;
}

void republish_init(struct coordinator *c)
{
	list_init(&c->republish.dead);
	list_init(&c->republish.told);
	c->republish.read.operation.done = on_read;
	c->republish.counts.operation.done = on_counted;
	c->republish.counts.latest_only = true;
	c->republish.read.operation.owner = c->republish.counts.operation.owner = c;
}

bool republish_idle(const struct coordinator *c)
{
	return !c->republish.reading && !c->republish.counting;
}

void republish_dispose(struct coordinator *c)
{
	buffer_fini(&c->republish.position);
	while (!list_empty(&c->republish.dead))
		free(LIST_ENTRY(list_pop_front(&c->republish.dead), struct dead_replica, link));
	while (!list_empty(&c->republish.told))
		free(LIST_ENTRY(list_pop_front(&c->republish.told), struct dead_replica, link));
}
