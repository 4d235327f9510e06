/* Output of tasks that other replicas run: who follows it here asks the store for a sign when there is more (with
 * each heartbeat anew, so that a wish ends with who had it), and reads it there. And the other side of it: output of
 * a task of ours that another replica follows is written at once. */
#include "coordinator/internal.h"

#include <stdlib.h>

#define WANTED_HEARTBEATS 3 /* a wish that is not repeated ends */

struct followed {
	struct table_node node; /* key: id */
	struct list link; /* in outputs.all */
	struct uuid id;
	struct list followers; /* struct output_follower */
	bool telling; /* its followers stand in a list of the teller's */
};

static struct followed *followed_find(const struct coordinator *c, const struct uuid *id)
{
	struct table_node *node =
		table_find(&c->outputs.table, (struct bytes){ (const char *)id->bytes, sizeof(id->bytes) });
	return node ? CONTAINER_OF(node, struct followed, node) : NULL;
}

static void followed_free_if_unused(struct coordinator *c, struct followed *followed)
{
	if (followed->telling || !list_empty(&followed->followers))
		return;
	table_remove(&c->outputs.table, &followed->node);
	list_remove(&followed->link);
	free(followed);
}

/* What runs here is heard of on the bus, and read after coordinator_flush_output(). */
static void ask(struct coordinator *c, const struct followed *followed)
{
	if (!attempt_find(c, &followed->id))
		c->options.store->ops->follow_output(c->options.store, &followed->id);
}

void coordinator_follow_output(struct coordinator *c, struct output_follower *follower)
{
	struct followed *followed = followed_find(c, &follower->id);
	if (!followed) {
		followed = alloc(sizeof(*followed));
		followed->id = follower->id;
		followed->node.key = (struct bytes){ (const char *)followed->id.bytes, sizeof(followed->id.bytes) };
		list_init(&followed->followers);
		table_insert(&c->outputs.table, &followed->node);
		list_push_back(&c->outputs.all, &followed->link);
		ask(c, followed);
	}
	list_push_back(&followed->followers, &follower->link);
}

void coordinator_unfollow_output(struct coordinator *c, struct output_follower *follower)
{
	if (!list_linked(&follower->link))
		return;
	list_remove(&follower->link);
	followed_free_if_unused(c, followed_find(c, &follower->id));
}

void outputs_beat(struct coordinator *c)
{
	LIST_EACH (&c->outputs.all, link)
		ask(c, LIST_ENTRY(link, struct followed, link));
}

/* Any of them may leave meanwhile. */
void outputs_written(struct coordinator *c, const struct uuid *id)
{
	struct followed *followed = followed_find(c, id);
	struct list pending, *node;
	if (!followed || followed->telling)
		return;
	list_init(&pending);
	list_splice_back(&pending, &followed->followers);
	followed->telling = true;
	while ((node = list_pop_front(&pending))) {
		struct output_follower *follower = LIST_ENTRY(node, struct output_follower, link);
		list_push_back(&followed->followers, node);
		follower->on_output(follower);
	}
	followed->telling = false;
	followed_free_if_unused(c, followed);
}

void outputs_wanted(struct coordinator *c, const struct uuid *id)
{
	for (struct attempt *attempt = attempt_find(c, id); attempt; attempt = attempt->older) {
		attempt->output_wanted_until_us =
			clock_monotonic_us() + WANTED_HEARTBEATS * c->options.settings.heartbeat_us;
		if (!list_empty(&attempt->chunks))
			settle_output_due(attempt);
	}
}

void outputs_init(struct coordinator *c)
{
	list_init(&c->outputs.all);
}

void outputs_dispose(struct coordinator *c)
{
	LIST_EACH (&c->outputs.all, link)
		free(LIST_ENTRY(link, struct followed, link));
	table_fini(&c->outputs.table);
}
