/* Fairness between tenants within a queue and priority: start-time fair queueing (P. Goyal, H. Vin, H. Cheng, "Start-time Fair
 * Queueing", 1996). A row's turn is max(V, its tenant's last turn) + 1, where V is the turn of the row last served there. So a tenant
 * with 100,000 rows waiting stands behind one that brings its first. All weights are 1. */
#include "coordinator/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define FAIR_TAGS_MAX 20000
#define FAIR_KEY_SIZE 512

static struct bytes fair_key(char key[static FAIR_KEY_SIZE], struct bytes queue, int priority, struct bytes tenant)
{
	int length = snprintf(key, FAIR_KEY_SIZE, "%d/%.*s/%.*s", priority, (int)queue.len, queue.data, (int)tenant.len,
		tenant.data ? tenant.data : "");
	return (struct bytes){ key, length < FAIR_KEY_SIZE ? (size_t)length : FAIR_KEY_SIZE - 1 };
}

static struct fair_tag *fair_tag(struct coordinator *c, struct bytes key)
{
	struct table_node *node = table_find(&c->admission.fair, key);
	if (node)
		return CONTAINER_OF(node, struct fair_tag, node);
	struct fair_tag *tag = alloc(sizeof(*tag) + key.len + 1);
	memcpy(tag->key, key.data, key.len);
	tag->node.key = (struct bytes){ tag->key, key.len };
	table_insert(&c->admission.fair, &tag->node);
	return tag;
}

/* Forgetting all tags only makes the next rows of every tenant equal again. */
static void fair_bound(struct coordinator *c)
{
	if (c->admission.fair.count > FAIR_TAGS_MAX)
		fair_dispose(c);
}

double fair_next_turn(struct coordinator *c, struct bytes queue, int priority, struct bytes tenant)
{
	char key[FAIR_KEY_SIZE];
	fair_bound(c);
	double virtual_time = fair_tag(c, fair_key(key, queue, priority, BYTES_NONE))->turn;
	struct fair_tag *last = fair_tag(c, fair_key(key, queue, priority, tenant));
	last->turn = (last->turn > virtual_time ? last->turn : virtual_time) + 1;
	return last->turn;
}

void fair_served(struct coordinator *c, struct bytes queue, int priority, double turn)
{
	char key[FAIR_KEY_SIZE];
	struct fair_tag *virtual_time = fair_tag(c, fair_key(key, queue, priority, BYTES_NONE));
	if (turn > virtual_time->turn)
		virtual_time->turn = turn;
}

void fair_dispose(struct coordinator *c)
{
	struct table_node *node = table_next(&c->admission.fair, NULL);
	while (node) {
		struct table_node *next = table_next(&c->admission.fair, node);
		free(CONTAINER_OF(node, struct fair_tag, node));
		node = next;
	}
	table_fini(&c->admission.fair);
	c->admission.fair = (struct table){ 0 };
}
