/* Attempts that executors have found and nobody here runs: their rows say who does.
 *
 *   waiting ──read_task──► the attempt is over, or there is no row ──► discard()
 *                        ► ours, and strange to us ──► own rows are looked for, and it is adopted
 *                        ► another's ──► nothing: that replica lives, or the reaper takes up its rows
 *
 * An attempt has its row before an executor hears of it, and no two have the same number, so what is over by its row is over for
 * good. What could not be asked for is found again. */
#include "coordinator/internal.h"

#include <stdlib.h>

struct found {
	struct table_node node; /* in found.table, key: `what` */
	struct list link; /* in found.waiting or found.asked */
	struct executor *executor; /* borrowed */
	struct {
		struct uuid id;
		int32_t attempt;
	} what;
};

static void found_free(struct coordinator *c, struct found *found)
{
	table_remove(&c->found.table, &found->node);
	list_remove(&found->link);
	free(found);
}

static bool is_ours(const struct coordinator *c, const struct found *found)
{
	for (const struct attempt *at = attempt_find(c, &found->what.id); at; at = at->older)
		if (at->task.attempt == found->what.attempt && !at->disowned)
			return true;
	return false;
}

/* `task`: the row; NULL: there is none. */
static void judge(struct coordinator *c, const struct found *found, const struct task *task)
{
	bool over = !task || task->status != TASK_RUNNING || task->attempt > found->what.attempt;
	if (is_ours(c, found))
		return;
	if (over)
		found->executor->ops->discard(found->executor, &found->what.id, found->what.attempt);
	else if (task->attempt == found->what.attempt && bytes_is(task->locked_by, c->locked_by))
		c->reaper.take_own = true;
}

static void on_read(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	bool ok = operation->outcome == STORE_OK;
	size_t i = 0;
	LIST_EACH (&c->found.asked, link) {
		struct found *found = LIST_ENTRY(link, struct found, link);
		if (ok)
			judge(c, found, c->found.read.results[i++]);
		found_free(c, found);
	}
	c->found.reading = false; /* what was found meanwhile waits for the next reading */
	store_operation_fini(operation);
	reaper_slots_released(c);
	found_pump(c);
	coordinator_drained_check(c);
}

void found_pump(struct coordinator *c)
{
	if (c->found.reading || list_empty(&c->found.waiting) || !c->store_available || c->stop.requested)
		return;
	size_t count = 0;
	while (count < FOUND_BATCH && !list_empty(&c->found.waiting)) {
		struct list *link = list_pop_front(&c->found.waiting);
		c->found.ids[count++] = LIST_ENTRY(link, struct found, link)->what.id;
		list_push_back(&c->found.asked, link);
	}
	c->found.read.ids = c->found.ids;
	c->found.read.count = count;
	c->found.reading = true;
	c->options.store->ops->read_task(c->options.store, &c->found.read);
}

void found_add(struct coordinator *c, struct executor *executor, const struct uuid *id, int attempt)
{
	struct found *found = alloc(sizeof(*found));
	found->executor = executor;
	found->what.id = *id;
	found->what.attempt = attempt;
	found->node.key = (struct bytes){ (const char *)&found->what, sizeof(found->what) };
	if (is_ours(c, found) || table_find(&c->found.table, found->node.key)) {
		free(found);
		return;
	}
	table_insert(&c->found.table, &found->node);
	list_push_back(&c->found.waiting, &found->link);
	found_pump(c);
}

bool found_idle(const struct coordinator *c)
{
	return !c->found.reading;
}

void found_init(struct coordinator *c)
{
	list_init(&c->found.waiting);
	list_init(&c->found.asked);
	c->found.read.operation.done = on_read;
	c->found.read.operation.owner = c;
}

void found_dispose(struct coordinator *c)
{
	LIST_EACH (&c->found.waiting, link)
		found_free(c, LIST_ENTRY(link, struct found, link));
	LIST_EACH (&c->found.asked, link)
		found_free(c, LIST_ENTRY(link, struct found, link));
	table_fini(&c->found.table);
}
