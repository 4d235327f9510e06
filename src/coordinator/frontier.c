/* The frontier: the place in the stream up to which every event, whoever wrote it, has been told to this process's followers. That all
 * before an event's cursor has committed does not mean that it has arrived here: who left a follower and came back with that cursor would skip what
 * was on its way. So the frontier is what a follower may go on from. Where the store's cursors are final there is none.
 *
 * It is told through the bus, behind what it is about, and comes from one of two sources:
 *
 *   - the store is read for the followers (follow.c): the end of what was read, once every write of our own that was under way then has been
 *     answered, and so published. Writes are counted in two classes as in republish.c;
 *   - the bus brings what others publish: the least watermark of all replicas as a heartbeat learns it. What lies before it had been
 *     published by then, and the bus tells the frontier behind that. Only what was learnt while the bus was heard counts: whatever it did not
 *     bring comes as a gap when it is heard again. */
#include "coordinator/internal.h"

static void advance(struct coordinator *c, const struct cursor *to)
{
	struct bus *bus = c->options.bus;
	if (!to->length || cursor_compare(to, &c->frontier.told) <= 0)
		return;
	c->frontier.told = *to;
	bus->ops->frontier(bus, to);
}

/* ---- from the store ---- */

static void done_check(struct coordinator *c)
{
	if (!c->frontier.proposed || c->frontier.open[!c->frontier.class] > 0)
		return;
	c->frontier.proposed = false;
	advance(c, &c->frontier.place);
}

int frontier_write_begun(struct coordinator *c)
{
	c->frontier.open[c->frontier.class]++;
	return c->frontier.class;
}

void frontier_write_prolonged(struct coordinator *c, int class)
{
	c->frontier.open[class]++;
}

void frontier_write_done(struct coordinator *c, int class)
{
	c->frontier.open[class]--;
	done_check(c);
}

void frontier_tailed(struct coordinator *c, const struct cursor *end)
{
	if (c->frontier.final || c->frontier.proposed)
		return;
	c->frontier.proposed = true;
	c->frontier.place = *end;
	c->frontier.class = !c->frontier.class;
	done_check(c);
}

/* ---- from the bus ---- */

void frontier_heard(struct coordinator *c, bool heard)
{
	c->frontier.heard = heard;
}

void frontier_learnt(struct coordinator *c, const struct cursor *frontier)
{
	if (!c->frontier.final && c->frontier.heard)
		advance(c, frontier);
}

void frontier_init(struct coordinator *c)
{
	struct store_status status;
	c->options.store->ops->status(c->options.store, &status);
	c->frontier.final = status.cursors_final;
}
