/* An intrusive heap: the node with the least key is at hand. Entries embed a node; nothing is allocated. A pairing heap
 * (Fredman, Sedgewick, Sleator, Tarjan 1986): to insert is constant, to take out amortised O(log n). */
#ifndef ASSAY_BASE_HEAP_H
#define ASSAY_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
	int64_t key; /* set by the owner; must not change while it is in a heap */
	/* Borrowed. prev: the parent of a first child, else the left sibling, itself at the root; NULL: in no heap. */
	struct heap_node *child, *next, *prev;
};

struct heap {
	struct heap_node *first; /* borrowed: one with the least key; NULL: empty */
};

static inline bool heap_linked(const struct heap_node *node)
{
	return node->prev != NULL;
}

/* The node is in no heap, and its key is set. */
void heap_insert(struct heap *heap, struct heap_node *node);
/* Does nothing for a node that is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

#endif
