#include "base/heap.h"

#include "base/alloc.h"
#include "test.h"

#define COUNT 2000

struct item {
	struct heap_node node;
	bool inside;
};

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Every child's key is no less than its parent's, every link leads back, and none is lost. */
static size_t count_below(const struct heap_node *parent)
{
	size_t count = 0;
	const struct heap_node *before = parent;
	for (const struct heap_node *node = parent->child; node; before = node, node = node->next) {
		CHECK(node->prev == before);
		CHECK(node->key >= parent->key);
		count += 1 + count_below(node);
	}
	return count;
}

static size_t count_of(const struct heap *heap)
{
	if (!heap->first)
		return 0;
	CHECK(heap->first->prev == heap->first);
	CHECK(heap->first->next == NULL);
	return 1 + count_below(heap->first);
}

TEST(the_least_is_first)
{
	struct heap heap = { 0 };
	struct heap_node nodes[] = { { .key = 5 }, { .key = -3 }, { .key = 7 }, { .key = 5 }, { .key = 0 } };
	const int64_t sorted[] = { -3, 0, 5, 5, 7 };
	CHECK(!heap_linked(&nodes[0]));
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		heap_insert(&heap, &nodes[i]);
		CHECK(heap_linked(&nodes[i]));
		CHECK_INT(count_of(&heap), (intmax_t)i + 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
		struct heap_node *first = heap.first;
		REQUIRE(first);
		CHECK_INT(first->key, sorted[i]);
		heap_remove(&heap, first);
		CHECK(!heap_linked(first));
	}
	CHECK(heap.first == NULL);
}

TEST(one_that_is_in_no_heap_is_not_removed)
{
	struct heap heap = { 0 };
	struct heap_node inside = { .key = 1 }, outside = { .key = 0 };
	heap_insert(&heap, &inside);
	heap_remove(&heap, &outside);
	CHECK(heap.first == &inside);
	heap_remove(&heap, &inside);
	heap_remove(&heap, &inside);
	CHECK(heap.first == NULL);
}

/* Against the plainest way to find the least: to look at all. */
TEST(any_order_of_coming_and_going)
{
	struct heap heap = { 0 };
	struct item *items = alloc_array(COUNT, sizeof(items[0]));
	uint32_t state = 4711;
	size_t count = 0;
	for (int step = 0; step < 20 * COUNT; step++) {
		struct item *item = &items[next_random(&state) % COUNT];
		if (item->inside) {
			heap_remove(&heap, &item->node);
		} else {
			item->node.key = next_random(&state) % 100;
			heap_insert(&heap, &item->node);
		}
		item->inside = !item->inside;
		count += item->inside ? 1 : -1;
		if (step % COUNT == 0)
			CHECK_INT(count_of(&heap), (intmax_t)count);
	}
	int64_t last = -1;
	for (size_t left = count; left > 0; left--) {
		struct heap_node *first = heap.first;
		REQUIRE(first);
		CHECK(first->key >= last);
		last = first->key;
		heap_remove(&heap, first);
		CONTAINER_OF(first, struct item, node)->inside = false;
	}
	CHECK(heap.first == NULL);
	for (size_t i = 0; i < COUNT; i++)
		CHECK(!items[i].inside && !heap_linked(&items[i].node));
	free(items);
}

TEST_MAIN()
