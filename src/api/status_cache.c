/* Each entry is one block: the struct and the body behind it. The list is in order of use, the newest first. The tenant
 * is copied behind the body, since rows come with tenants of their own. */
#include "api/status_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/table.h"

struct node {
	struct table_node table;
	struct list link;
	struct uuid id;
	struct status_entry entry;
	size_t size;
	int64_t put_at_us; /* monotonic */
	char bytes[]; /* body, then tenant */
};

struct status_cache {
	struct table table;
	struct list used; /* most recently used first */
	size_t max_bytes;
	int64_t max_age_us; /* 0: no limit */
	uint64_t generation;
	struct status_cache_figures figures;
};

struct status_cache *status_cache_new(size_t max_bytes, int64_t max_age_us)
{
	struct status_cache *cache = alloc(sizeof(*cache));
	cache->max_bytes = max_bytes;
	cache->max_age_us = max_age_us;
	list_init(&cache->used);
	return cache;
}

static struct bytes key_of(const struct uuid *id)
{
	return (struct bytes){ (const char *)id->bytes, sizeof(id->bytes) };
}

static void drop(struct status_cache *cache, struct node *node)
{
	table_remove(&cache->table, &node->table);
	list_remove(&node->link);
	cache->figures.bytes -= node->size;
	cache->figures.count--;
	free(node);
}

void status_cache_clear(struct status_cache *cache)
{
	cache->generation++;
	while (!list_empty(&cache->used))
		drop(cache, LIST_ENTRY(cache->used.next, struct node, link));
}

void status_cache_free(struct status_cache *cache)
{
	if (!cache)
		return;
	status_cache_clear(cache);
	table_fini(&cache->table);
	free(cache);
}

static struct node *find(struct status_cache *cache, const struct uuid *id)
{
	struct table_node *found = table_find(&cache->table, key_of(id));
	return found ? CONTAINER_OF(found, struct node, table) : NULL;
}

const struct status_entry *status_cache_find(struct status_cache *cache, const struct uuid *id)
{
	struct node *node = find(cache, id);
	if (node && cache->max_age_us && clock_monotonic_us() - node->put_at_us >= cache->max_age_us) {
		drop(cache, node);
		node = NULL;
	}
	if (!node) {
		cache->figures.misses++;
		return NULL;
	}
	cache->figures.hits++;
	list_remove(&node->link);
	list_push_front(&cache->used, &node->link);
	return &node->entry;
}

uint64_t status_cache_generation(const struct status_cache *cache)
{
	return cache->generation;
}

void status_cache_put(struct status_cache *cache, const struct uuid *id, struct status_entry entry, uint64_t generation)
{
	size_t size = sizeof(struct node) + entry.body.len + entry.tenant.len;
	/* One object may not push out a large part of the others. */
	if (generation != cache->generation || size > cache->max_bytes / 16)
		return;
	struct node *old = find(cache, id);
	if (old)
		drop(cache, old);
	while (cache->figures.bytes + size > cache->max_bytes)
		drop(cache, LIST_ENTRY(cache->used.prev, struct node, link));

	struct node *node = alloc(size);
	node->id = *id;
	node->size = size;
	node->put_at_us = clock_monotonic_us();
	memcpy(node->bytes, entry.body.data, entry.body.len);
	memcpy(node->bytes + entry.body.len, entry.tenant.data, entry.tenant.len);
	node->entry.body = (struct bytes){ node->bytes, entry.body.len };
	node->entry.tenant = (struct bytes){ node->bytes + entry.body.len, entry.tenant.len };
	node->entry.attempt = entry.attempt;
	node->table.key = key_of(&node->id);
	table_insert(&cache->table, &node->table);
	list_push_front(&cache->used, &node->link);
	cache->figures.bytes += size;
	cache->figures.count++;
}

void status_cache_drop(struct status_cache *cache, const struct uuid *id)
{
	cache->generation++;
	struct node *node = find(cache, id);
	if (node)
		drop(cache, node);
}

struct status_cache_figures status_cache_figures(const struct status_cache *cache)
{
	return cache->figures;
}
