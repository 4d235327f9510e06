#include "base/table.h"

#include "base/alloc.h"
#include "test.h"

struct entry {
	struct table_node node;
	int number;
	bool seen;
	char name[24];
};

static struct entry *entries_new(int count)
{
	struct entry *entries = alloc_array((size_t)count, sizeof(*entries));
	for (int i = 0; i < count; i++) {
		entries[i].number = i;
		snprintf(entries[i].name, sizeof(entries[i].name), "entry-%d", i);
		entries[i].node.key = bytes_of(entries[i].name);
	}
	return entries;
}

TEST(empty)
{
	struct table table = { 0 };
	CHECK(table_find(&table, BYTES_LITERAL("x")) == NULL);
	CHECK(table_next(&table, NULL) == NULL);
	table_fini(&table);
}

TEST(finds_what_was_put_in)
{
	enum { COUNT = 10000 };
	struct table table = { 0 };
	struct entry *entries = entries_new(COUNT);
	for (int i = 0; i < COUNT; i++)
		table_insert(&table, &entries[i].node);
	CHECK_INT(table.count, COUNT);
	for (int i = 0; i < COUNT; i++) {
		char name[24];
		snprintf(name, sizeof(name), "entry-%d", i);
		REQUIRE(table_find(&table, bytes_of(name)) == &entries[i].node);
	}
	CHECK(table_find(&table, BYTES_LITERAL("entry-10000")) == NULL);
	CHECK(table_find(&table, BYTES_LITERAL("")) == NULL);
	for (int i = 0; i < COUNT; i += 2)
		table_remove(&table, &entries[i].node);
	CHECK_INT(table.count, COUNT / 2);
	for (int i = 0; i < COUNT; i++)
		REQUIRE((table_find(&table, entries[i].node.key) != NULL) == (i % 2 == 1));
	table_fini(&table);
	CHECK(table_find(&table, BYTES_LITERAL("entry-1")) == NULL);
	free(entries);
}

TEST(walks_over_each_once_and_may_remove)
{
	enum { COUNT = 1000 };
	struct table table = { 0 };
	struct entry *entries = entries_new(COUNT);
	for (int i = 0; i < COUNT; i++)
		table_insert(&table, &entries[i].node);
	int visited = 0;
	for (struct table_node *node = table_next(&table, NULL), *next; node; node = next) {
		struct entry *entry = CONTAINER_OF(node, struct entry, node);
		next = table_next(&table, node);
		CHECK(!entry->seen);
		entry->seen = true;
		visited++;
		if (entry->number % 3 == 0)
			table_remove(&table, node);
	}
	CHECK_INT(visited, COUNT);
	CHECK_INT(table.count, COUNT - 334);
	table_fini(&table);
	free(entries);
}

TEST(an_empty_key_is_a_key)
{
	struct table table = { 0 };
	struct table_node node = { .key = BYTES_LITERAL("") };
	table_insert(&table, &node);
	CHECK(table_find(&table, BYTES_LITERAL("")) == &node);
	CHECK(table_find(&table, BYTES_NONE) == &node);
	table_fini(&table);
}

TEST(hashes_depend_on_every_byte_and_the_length)
{
	char text[64] = { 0 };
	uint64_t seen[65];
	for (size_t len = 0; len <= sizeof(text); len++) {
		seen[len] = hash_bytes((struct bytes){ text, len });
		CHECK(seen[len] == hash_bytes((struct bytes){ text, len }));
		for (size_t i = 0; i < len; i++)
			CHECK(seen[i] != seen[len]);
	}
	for (size_t i = 0; i < sizeof(text); i++) {
		text[i] = 1;
		CHECK(hash_bytes((struct bytes){ text, sizeof(text) }) != seen[64]);
		text[i] = 0;
	}
}

TEST(the_low_bits_spread)
{
	enum { SLOTS = 256, KEYS = 256 * 64 };
	int counts[SLOTS] = { 0 }, most = 0, least = KEYS;
	for (int i = 0; i < KEYS; i++)
		counts[hash_bytes((struct bytes){ (const char *)&i, sizeof(i) }) % SLOTS]++;
	for (int i = 0; i < SLOTS; i++) {
		most = counts[i] > most ? counts[i] : most;
		least = counts[i] < least ? counts[i] : least;
	}
	/* 64 expected with a deviation of 8: seven deviations do not happen. */
	CHECK(most < 120);
	CHECK(least > 8);
}

TEST_MAIN()
