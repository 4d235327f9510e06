#include "base/heap.h"

/* Of two trees without siblings one becomes the first child of the other, which is returned. */
static struct heap_node *meld(struct heap_node *one, struct heap_node *other)
{
	if (!one || !other)
		return one ? one : other;
	struct heap_node *less = other->key < one->key ? other : one, *more = less == one ? other : one;
	more->next = less->child;
	if (more->next)
		more->next->prev = more;
	more->prev = less;
	less->child = more;
	return less;
}

static struct heap_node *next_taken(struct heap_node *node)
{
	struct heap_node *next = node->next;
	node->next = NULL;
	return next;
}

/* Of siblings one tree: in pairs from the left, then these from the right. */
static struct heap_node *meld_siblings(struct heap_node *node)
{
	struct heap_node *pairs = NULL, *all = NULL;
	while (node) {
		struct heap_node *second = next_taken(node), *rest = second ? next_taken(second) : NULL;
		node = meld(node, second);
		node->next = pairs;
		pairs = node;
		node = rest;
	}
	while (pairs) {
		struct heap_node *rest = next_taken(pairs);
		all = meld(all, pairs);
		pairs = rest;
	}
	return all;
}

static void set_first(struct heap *heap, struct heap_node *node)
{
	heap->first = node;
	if (node)
		node->prev = node;
}

void heap_insert(struct heap *heap, struct heap_node *node)
{
	node->child = node->next = NULL;
	set_first(heap, meld(heap->first, node));
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	if (!node->prev)
		return;
	struct heap_node *below = meld_siblings(node->child);
	if (heap->first == node) {
		set_first(heap, below);
	} else {
		if (node->prev->child == node)
			node->prev->child = node->next;
		else
			node->prev->next = node->next;
		if (node->next)
			node->next->prev = node->prev;
		set_first(heap, meld(heap->first, below));
	}
	node->child = node->next = node->prev = NULL;
}
