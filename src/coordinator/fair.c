/* Fairness between tenants within an executor and priority: start-time fair queueing (P. Goyal, H. Vin, H. Cheng,
 * "Start-time Fair Queueing", 1996). A row's turn is max(V, its tenant's last turn) + 1/weight, where V is the turn
 * of the row last claimed there. So a tenant with 100,000 rows waiting stands behind one that brings its first.
 *
 * A turn is for work. What comes to nothing (a key that is known, a store that is away) gives its turn back; and
 * whatever else a tenant withdrew, its last turn is never counted for more than V + what it has in line. Rows that
 * are not due yet have a line of their own per tenant: they stand as far apart as others, but do not move what the
 * tenant brings meanwhile to behind them. That line is this process's, and forgotten with it: who comes due has
 * waited, and is before most others anyway.
 *
 * A claim takes all queues of an executor together, so that turns are comparable there, and not by queue. What grew
 * here is told to the store with the heartbeat, which brings what others told: so turns are comparable between
 * replicas too, and outlive the process. */
#include "coordinator/internal.h"

#include <math.h>
#include <stdlib.h>

#define FAIR_TAGS_MAX 20000
#define FAIR_TOLD_MAX 1000 /* with one heartbeat; the others go with the next */
#define FAIR_KEY_SIZE 512
#define FAIR_LATER 64 /* in a key, above all priorities: the line of what is not due yet */

/* An absent tenant: the virtual time. Neither name holds U+0000. */
static struct bytes fair_key(
	char key[static FAIR_KEY_SIZE], struct bytes executor, int priority, struct bytes tenant, bool later)
{
	size_t room = FAIR_KEY_SIZE - 1, length = 0;
	key[length++] = (char)(priority + (later ? FAIR_LATER : 0));
	executor.len = executor.len < room / 2 ? executor.len : room / 2;
	memcpy(key + length, executor.data, executor.len);
	length += executor.len;
	if (!tenant.data)
		return (struct bytes){ key, length };
	key[length++] = 0;
	tenant.len = tenant.len < FAIR_KEY_SIZE - length ? tenant.len : FAIR_KEY_SIZE - length;
	memcpy(key + length, tenant.data, tenant.len);
	return (struct bytes){ key, length + tenant.len };
}

static struct fair_tag *fair_tag(
	struct coordinator *c, struct bytes executor, int priority, struct bytes tenant, bool later)
{
	char buffer[FAIR_KEY_SIZE];
	struct bytes key = fair_key(buffer, executor, priority, tenant, later);
	struct table_node *node = table_find(&c->fair.tags, key);
	if (node)
		return CONTAINER_OF(node, struct fair_tag, node);
	struct fair_tag *tag = alloc(sizeof(*tag) + key.len + 1);
	memcpy(tag->key, key.data, key.len);
	tag->node.key = (struct bytes){ tag->key, key.len };
	tag->priority = priority;
	tag->later = later;
	size_t executor_end = 1 + strnlen(tag->key + 1, key.len - 1);
	tag->executor = (struct bytes){ tag->key + 1, executor_end - 1 };
	if (tenant.data)
		tag->tenant = (struct bytes){ tag->key + executor_end + 1, key.len - executor_end - 1 };
	table_insert(&c->fair.tags, &tag->node);
	return tag;
}

static void tag_free(struct coordinator *c, struct fair_tag *tag)
{
	table_remove(&c->fair.tags, &tag->node);
	list_remove(&tag->link);
	free(tag);
}

static void tag_grow(struct coordinator *c, struct fair_tag *tag, double turn)
{
	if (turn <= tag->turn)
		return;
	tag->turn = turn;
	list_remove(&tag->link);
	if (!tag->later)
		list_push_back(&c->fair.grown, &tag->link);
}

/* A tenant's turn that time has overtaken says nothing. Where too many others are left they are forgotten as well:
 * the next row of such a tenant only stands where that of a new one would. */
static void fair_bound(struct coordinator *c)
{
	if (c->fair.tags.count <= FAIR_TAGS_MAX)
		return;
	for (int pass = 0; pass < 2; pass++) {
		struct table_node *node = table_next(&c->fair.tags, NULL), *next;
		for (; node; node = next) {
			struct fair_tag *tag = CONTAINER_OF(node, struct fair_tag, node);
			next = table_next(&c->fair.tags, node);
			if (!tag->tenant.data)
				continue;
			char buffer[FAIR_KEY_SIZE];
			struct bytes key = fair_key(buffer, tag->executor, tag->priority, BYTES_NONE, false);
			struct table_node *time = table_find(&c->fair.tags, key);
			if (pass > 0 || (time && tag->turn <= CONTAINER_OF(time, struct fair_tag, node)->turn))
				tag_free(c, tag);
		}
		if (c->fair.tags.count <= FAIR_TAGS_MAX / 2)
			return;
	}
}

static double step_of(const struct coordinator *c, const struct submission *submission)
{
	return 1 / tenants_find(c->tenants.settings, submission->tenant)->weight;
}

double fair_next_turn(struct coordinator *c, const struct submission *submission, int64_t now_us)
{
	fair_bound(c);
	double virtual_time = fair_tag(c, submission->executor, submission->priority, BYTES_NONE, false)->turn;
	double step = step_of(c, submission);
	bool later = submission->run_after_us > now_us;
	struct fair_tag *last = fair_tag(c, submission->executor, submission->priority, submission->tenant, later);
	int64_t in_line;
	if (tenant_in_line(c, submission->tenant, &in_line) && last->turn > virtual_time + (double)in_line * step)
		last->turn = virtual_time + (double)in_line * step;
	tag_grow(c, last, (last->turn > virtual_time ? last->turn : virtual_time) + step);
	return last->turn;
}

void fair_give_back(struct coordinator *c, const struct submission *submission, int64_t now_us)
{
	char buffer[FAIR_KEY_SIZE];
	bool later = submission->run_after_us > now_us;
	struct bytes key = fair_key(buffer, submission->executor, submission->priority, submission->tenant, later);
	struct table_node *node = table_find(&c->fair.tags, key);
	struct fair_tag *last = node ? CONTAINER_OF(node, struct fair_tag, node) : NULL;
	double step = step_of(c, submission);
	/* Turns are whole steps apart, but for rounding. */
	if (last && fabs(last->turn - submission->turn) < step / 2)
		last->turn -= step;
}

void fair_served(struct coordinator *c, struct bytes executor, int priority, double turn)
{
	tag_grow(c, fair_tag(c, executor, priority, BYTES_NONE, false), turn);
}

/* ---- the heartbeat ---- */

void fair_tell(struct coordinator *c, struct store_heartbeat *heartbeat)
{
	struct arena *arena = &c->fair.telling;
	struct fair_turn *turns = arena_array(arena, FAIR_TOLD_MAX, sizeof(*turns));
	size_t count = 0;
	/* Copied: a tag may be freed while the store has the heartbeat. */
	for (struct list *link; count < FAIR_TOLD_MAX && (link = list_pop_front(&c->fair.grown)); count++) {
		struct fair_tag *tag = LIST_ENTRY(link, struct fair_tag, link);
		list_push_back(&c->fair.told, link);
		turns[count] = (struct fair_turn){
			.executor = arena_bytes(arena, tag->executor),
			.tenant = arena_bytes(arena, tag->tenant),
			.priority = tag->priority,
			.turn = tag->turn,
		};
	}
	heartbeat->turns = turns;
	heartbeat->turn_count = count;
}

void fair_told(struct coordinator *c, const struct store_heartbeat *heartbeat, bool confirmed)
{
	struct list *link;
	if (!confirmed)
		list_splice_back(&c->fair.grown, &c->fair.told);
	while ((link = list_pop_front(&c->fair.told)))
		;
	arena_fini(&c->fair.telling);
	for (size_t i = 0; confirmed && i < heartbeat->latest_count; i++) {
		const struct fair_turn *turn = &heartbeat->latest[i];
		/* Of executors that are not ours nothing is submitted and nothing claimed here. */
		if (!router_lane(c, turn->executor))
			continue;
		struct fair_tag *tag = fair_tag(c, turn->executor, turn->priority, turn->tenant, false);
		tag->turn = turn->turn > tag->turn ? turn->turn : tag->turn;
	}
	fair_bound(c);
}

void fair_init(struct coordinator *c)
{
	list_init(&c->fair.grown);
	list_init(&c->fair.told);
}

void fair_dispose(struct coordinator *c)
{
	struct table_node *node = table_next(&c->fair.tags, NULL), *next;
	for (; node; node = next) {
		next = table_next(&c->fair.tags, node);
		tag_free(c, CONTAINER_OF(node, struct fair_tag, node));
	}
	table_fini(&c->fair.tags);
	arena_fini(&c->fair.telling);
}
