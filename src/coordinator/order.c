/* Events go to the bus in the order of their sequence, those of one task.
 *
 * A row can be seen as soon as its transaction has committed, and the answer may come later: it may have to read something more, or is lost and
 * asked for again. So a task may be claimed and ended, each on a connection of its own, before its submission has been answered, and what
 * is answered first is not what was written first. Therefore every write names the tasks that it may give events to, from being handed in until its
 * outcome is known; and what is answered while another write names the same task waits for that. When nothing names the task any
 * more all of its events are known, and go in their order. As a rule one write names a task at a time, and nothing waits.
 *
 * An event that waits is to the watermark and to the frontier what a write under way is (republish.c, frontier.c). */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "task/event.h"

struct named {
	struct table_node node; /* key: id */
	struct uuid id;
	size_t writes; /* under way, that name it */
	struct list waiting; /* struct waiting, by their sequence */
};

struct waiting {
	struct list link;
	struct arena arena; /* of the event */
	struct event event;
	int write_class; /* republish.c, of the write that it came with */
};

static struct named *find(const struct coordinator *c, const struct uuid *task)
{
	struct table_node *node =
		table_find(&c->order.named, (struct bytes){ (const char *)task->bytes, sizeof(task->bytes) });
	return node ? CONTAINER_OF(node, struct named, node) : NULL;
}

void order_write_begun(struct coordinator *c, const struct uuid *task)
{
	struct named *named = find(c, task);
	if (!named) {
		named = alloc(sizeof(*named));
		named->id = *task;
		named->node.key = (struct bytes){ (const char *)named->id.bytes, sizeof(named->id.bytes) };
		list_init(&named->waiting);
		table_insert(&c->order.named, &named->node);
	}
	named->writes++;
}

static void wait_for_others(struct coordinator *c, struct named *named, const struct event *event, int write_class)
{
	struct waiting *waiting = alloc(sizeof(*waiting));
	waiting->event = event_copy(&waiting->arena, event);
	waiting->write_class = write_class;
	republish_write_prolonged(c, write_class);
	struct list *before = named->waiting.prev;
	while (before != &named->waiting && LIST_ENTRY(before, struct waiting, link)->event.sequence > event->sequence)
		before = before->prev;
	list_push_front(before, &waiting->link);
}

void order_publish(struct coordinator *c, const struct event *events, size_t count, int write_class)
{
	struct named *named = find(c, &events[0].task_id);
	if (named->writes == 1 && list_empty(&named->waiting)) {
		c->options.bus->ops->publish(c->options.bus, events, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		wait_for_others(c, named, &events[i], write_class);
}

static struct waiting *pop(struct named *named)
{
	return LIST_ENTRY(list_pop_front(&named->waiting), struct waiting, link);
}

static void waiting_free(struct waiting *waiting)
{
	arena_fini(&waiting->arena);
	free(waiting);
}

void order_write_done(struct coordinator *c, const struct uuid *task)
{
	struct named *named = find(c, task);
	if (--named->writes)
		return;
	while (!list_empty(&named->waiting)) {
		struct waiting *waiting = pop(named);
		c->options.bus->ops->publish(c->options.bus, &waiting->event, 1);
		republish_write_done(c, waiting->write_class);
		waiting_free(waiting);
	}
	table_remove(&c->order.named, &named->node);
	free(named);
}

/* What waits is in the store, and above the watermark. */
void order_dispose(struct coordinator *c)
{
	struct table_node *node;
	while ((node = table_next(&c->order.named, NULL))) {
		struct named *named = CONTAINER_OF(node, struct named, node);
		table_remove(&c->order.named, node);
		while (!list_empty(&named->waiting))
			waiting_free(pop(named));
		free(named);
	}
	table_fini(&c->order.named);
}
