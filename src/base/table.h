/* An intrusive hash table: entries embed a node, the table owns only its slots. Hashing is keyed with a
 * random key of the process, so that no client can choose collisions. */
#ifndef ASSAY_BASE_TABLE_H
#define ASSAY_BASE_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct table_node {
	struct table_node *next; /* borrowed */
	struct bytes key; /* borrowed from the entry; must not change while it is in the table */
	uint64_t hash;
};

struct table {
	struct table_node **slots; /* owned */
	size_t slot_count; /* 0 or a power of two */
	size_t count;
};

struct table_node *table_find(const struct table *table, struct bytes key); /* or NULL */
/* The caller has made sure that no entry has this key. node->key must be set. */
void table_insert(struct table *table, struct table_node *node);
void table_remove(struct table *table, struct table_node *node); /* node must be in the table */
/* Walks all entries in no order: start with NULL, ends with NULL. The node just given may be removed
 * before the next call if `next` was fetched first; insertion during a walk is forbidden. */
struct table_node *table_next(const struct table *table, const struct table_node *after);
void table_fini(struct table *table); /* frees the slots, not the entries */

uint64_t hash_bytes(struct bytes bytes); /* keyed SipHash-like; stable for the life of the process */

#endif
