#include "base/buffer.h"

#include "test.h"

TEST(empty_is_not_absent)
{
	struct buffer buffer = { 0 };
	CHECK_BYTES(buffer_bytes(&buffer), BYTES_LITERAL(""));
	buffer_append(&buffer, NULL, 0);
	CHECK_BYTES(buffer_bytes(&buffer), BYTES_LITERAL(""));
	buffer_fini(&buffer);
}

TEST(everything_is_appended_in_order)
{
	struct buffer buffer = { 0 };
	buffer_append(&buffer, "ab", 2);
	buffer_append_bytes(&buffer, BYTES_LITERAL("cd"));
	buffer_append_bytes(&buffer, BYTES_NONE);
	buffer_append_string(&buffer, "ef");
	buffer_append_char(&buffer, 'g');
	buffer_printf(&buffer, "%d%s", 12, "!");
	CHECK_BYTES(buffer_bytes(&buffer), "abcdefg12!");
	buffer_fini(&buffer);
	CHECK(buffer.data == NULL);
}

TEST(it_grows)
{
	struct buffer buffer = { 0 };
	for (int i = 0; i < 100000; i++)
		buffer_append_char(&buffer, (char)i);
	CHECK_INT(buffer.len, 100000);
	for (int i = 0; i < 100000; i++)
		REQUIRE(buffer.data[i] == (char)i);
	buffer_fini(&buffer);
}

TEST(the_maximum_holds_to_the_byte)
{
	struct buffer buffer = BUFFER_MAX(5);
	buffer_append_string(&buffer, "12345");
	CHECK(!buffer.failed);
	buffer_append(&buffer, "", 0);
	CHECK(!buffer.failed);
	buffer_append_char(&buffer, '6');
	CHECK(buffer.failed);
	CHECK_BYTES(buffer_bytes(&buffer), "12345");
	buffer_consume(&buffer, 3);
	buffer_append_char(&buffer, '6');
	CHECK(buffer.failed);
	CHECK_BYTES(buffer_bytes(&buffer), "45");
	buffer_clear(&buffer);
	CHECK(!buffer.failed);
	buffer_printf(&buffer, "%s", "12345");
	CHECK(!buffer.failed);
	buffer_printf(&buffer, "%s", "");
	CHECK(!buffer.failed);
	buffer_printf(&buffer, "%d", 6);
	CHECK(buffer.failed);
	CHECK_BYTES(buffer_bytes(&buffer), "12345");
	buffer_fini(&buffer);
	CHECK_INT(buffer.max, 5);
	CHECK(!buffer.failed);
}

TEST(printing_past_the_memory_at_hand)
{
	struct buffer buffer = { 0 };
	buffer_append_string(&buffer, "x");
	buffer_printf(&buffer, "%*d", 5000, 1);
	CHECK_INT(buffer.len, 5001);
	CHECK_INT(buffer.data[5000], '1');
	buffer_fini(&buffer);
}

TEST(sizes_that_overflow_fail)
{
	struct buffer buffer = { 0 };
	buffer_append_char(&buffer, 'x');
	CHECK(buffer_reserve(&buffer, SIZE_MAX) == NULL);
	CHECK(buffer.failed);
	CHECK_BYTES(buffer_bytes(&buffer), "x");
	buffer_fini(&buffer);
}

TEST(reserve_gives_room_to_write_in)
{
	struct buffer buffer = BUFFER_MAX(100);
	buffer_append_string(&buffer, "a");
	char *room = buffer_reserve(&buffer, 99);
	REQUIRE(room != NULL);
	memset(room, 'b', 99);
	buffer.len += 99;
	CHECK_INT(buffer.data[0], 'a');
	CHECK_INT(buffer.data[99], 'b');
	CHECK(buffer_reserve(&buffer, 0) != NULL);
	buffer_fini(&buffer);
}

TEST(consume_drops_the_front)
{
	struct buffer buffer = { 0 };
	buffer_consume(&buffer, 0);
	buffer_append_string(&buffer, "abcdef");
	buffer_consume(&buffer, 0);
	CHECK_BYTES(buffer_bytes(&buffer), "abcdef");
	buffer_consume(&buffer, 2);
	CHECK_BYTES(buffer_bytes(&buffer), "cdef");
	buffer_consume(&buffer, 100);
	CHECK_INT(buffer.len, 0);
	buffer_fini(&buffer);
}

TEST_MAIN()
