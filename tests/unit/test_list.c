#include "base/list.h"

#include "test.h"

struct item {
	int number;
	struct list node;
};

/* The numbers in the list as one decimal number. */
static int numbers(struct list *head)
{
	int all = 0;
	LIST_EACH (head, node)
		all = all * 10 + LIST_ENTRY(node, struct item, node)->number;
	return all;
}

TEST(order)
{
	struct list head;
	struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
	list_init(&head);
	CHECK(list_empty(&head));
	CHECK(list_pop_front(&head) == NULL);
	CHECK(!list_linked(&items[0].node));
	list_push_back(&head, &items[1].node);
	list_push_back(&head, &items[2].node);
	list_push_front(&head, &items[0].node);
	list_push_back(&head, &items[3].node);
	CHECK_INT(numbers(&head), 1234);
	CHECK(list_linked(&items[0].node));
	list_remove(&items[1].node);
	list_remove(&items[1].node);
	CHECK_INT(numbers(&head), 134);
	CHECK(list_pop_front(&head) == &items[0].node);
	CHECK(!list_linked(&items[0].node));
	CHECK_INT(numbers(&head), 34);
}

TEST(removal_while_walking)
{
	struct list head;
	struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
	list_init(&head);
	for (int i = 0; i < 4; i++)
		list_push_back(&head, &items[i].node);
	LIST_EACH (&head, node)
		if (LIST_ENTRY(node, struct item, node)->number % 2 == 0)
			list_remove(node);
	CHECK_INT(numbers(&head), 13);
}

TEST(splicing)
{
	struct list a, b;
	struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
	list_init(&a);
	list_init(&b);
	list_splice_back(&a, &b);
	CHECK(list_empty(&a));
	list_push_back(&b, &items[0].node);
	list_push_back(&b, &items[1].node);
	list_splice_back(&a, &b);
	CHECK(list_empty(&b));
	CHECK_INT(numbers(&a), 12);
	list_push_back(&b, &items[2].node);
	list_push_back(&b, &items[3].node);
	list_splice_back(&a, &b);
	CHECK_INT(numbers(&a), 1234);
}

TEST_MAIN()
