/* Rendered status objects of ended tasks, least recently used first out, bounded in bytes. Filled by who has read an
 * ended row, emptied of a task when it is run again.
 *
 * A row may be read as ended just before it is run again: who fills gives the generation at which it began to read. */
#ifndef ASSAY_API_STATUS_CACHE_H
#define ASSAY_API_STATUS_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/uuid.h"

struct status_cache;

struct status_entry {
	struct bytes body; /* borrowed until the cache is changed */
	struct bytes tenant;
	int attempt; /* executions of the task */
};

/* max_age_us: an entry is given out no longer than this, since another process may run its task again and the word of
 * it be lost; 0: for ever, where nobody else can. */
struct status_cache *status_cache_new(size_t max_bytes, int64_t max_age_us);
void status_cache_free(struct status_cache *cache);

/* NULL when it is not there. */
const struct status_entry *status_cache_find(struct status_cache *cache, const struct uuid *id);
uint64_t status_cache_generation(const struct status_cache *cache);
/* Copies body and tenant. Does nothing when a task was dropped since `generation`. */
void status_cache_put(
	struct status_cache *cache, const struct uuid *id, struct status_entry entry, uint64_t generation);
void status_cache_drop(struct status_cache *cache, const struct uuid *id);
/* All of them: something may have been missed. */
void status_cache_clear(struct status_cache *cache);

struct status_cache_figures {
	uint64_t hits, misses;
	size_t bytes, count;
};
struct status_cache_figures status_cache_figures(const struct status_cache *cache);

#endif
