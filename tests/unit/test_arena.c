#include "base/arena.h"

#include "test.h"

TEST(memory_is_zeroed_aligned_and_apart)
{
	struct arena arena = { 0 };
	unsigned char *blocks[200];
	for (size_t i = 0; i < 200; i++) {
		size_t size = i * 37 % 900;
		unsigned any = 0;
		blocks[i] = arena_alloc(&arena, size);
		CHECK_INT((uintptr_t)blocks[i] % 16, 0);
		for (size_t j = 0; j < size; j++)
			any |= blocks[i][j];
		CHECK_INT(any, 0);
		memset(blocks[i], (int)i, size);
	}
	for (size_t i = 0; i < 200; i++)
		for (size_t j = 0; j < i * 37 % 900; j++)
			REQUIRE(blocks[i][j] == (unsigned char)i);
	arena_fini(&arena);
}

TEST(what_is_large_does_not_end_the_block_in_use)
{
	struct arena arena = { 0 };
	char *first = arena_alloc(&arena, 16);
	char *large = arena_alloc(&arena, 1 << 20);
	char *second = arena_alloc(&arena, 16);
	CHECK(second == first + 16);
	memset(large, 1, 1 << 20);
	CHECK_INT(arena.used, 16 + (1 << 20) + 16);
	arena_fini(&arena);
}

TEST(a_first_block_of_another_size)
{
	struct arena arena = { 0 };
	arena_begin(&arena, 64);
	CHECK_INT(arena.used, 0);
	char *first = arena_alloc(&arena, 48), *second = arena_alloc(&arena, 16), *third = arena_alloc(&arena, 16);
	CHECK(second == first + 48);
	CHECK(third != second + 16); /* it is full: what follows it is not ours */
	arena_begin(&arena, 4096);
	CHECK(arena_alloc(&arena, 16) == (void *)(third + 16));
	arena_fini(&arena);
}

TEST(an_empty_arena_can_be_used_again)
{
	struct arena arena = { 0 };
	arena_fini(&arena);
	arena_alloc(&arena, 10);
	arena_fini(&arena);
	CHECK_INT(arena.used, 0);
	CHECK(arena.head == NULL);
	int *numbers = arena_array(&arena, 10, sizeof(*numbers));
	numbers[9] = 1;
	arena_fini(&arena);
}

TEST(copies)
{
	struct arena arena = { 0 };
	struct bytes copy = arena_bytes(&arena, (struct bytes){ "a\0bc", 3 });
	CHECK_BYTES(copy, ((struct bytes){ "a\0b", 3 }));
	CHECK_INT(copy.data[3], 0);
	CHECK_BYTES(arena_bytes(&arena, BYTES_NONE), BYTES_NONE);
	CHECK_BYTES(arena_bytes(&arena, BYTES_LITERAL("")), BYTES_LITERAL(""));
	CHECK_STR(arena_string(&arena, "text"), "text");
	CHECK_STR(arena_string(&arena, NULL), NULL);
	arena_fini(&arena);
}

TEST(printing)
{
	struct arena arena = { 0 };
	CHECK_STR(arena_printf(&arena, "%d-%s", 7, "x"), "7-x");
	char *wide = arena_printf(&arena, "%*d", 10000, 1);
	CHECK_INT(strlen(wide), 10000);
	arena_fini(&arena);
}

TEST_MAIN()
