#include "cli/safe_text.h"

#include "base/alloc.h"
#include "test.h"

/* Whole, and then byte by byte: both must give the same. */
static void check(enum safe_mode mode, struct bytes text, const char *expected)
{
	struct buffer whole = { 0 }, pieces = { 0 };
	struct safe_text safe = { .mode = mode };
	safe_text_append(&safe, &whole, text);
	safe_text_finish(&safe, &whole);
	safe = (struct safe_text){ .mode = mode };
	for (size_t i = 0; i < text.len; i++)
		safe_text_append(&safe, &pieces, (struct bytes){ text.data + i, 1 });
	safe_text_finish(&safe, &pieces);
	buffer_append_string(&whole, "");
	buffer_append_string(&pieces, "");
	CHECK(bytes_equal(buffer_bytes(&whole), bytes_of(expected)));
	if (!bytes_equal(buffer_bytes(&whole), bytes_of(expected)))
		test_show("whole", buffer_bytes(&whole));
	CHECK(bytes_equal(buffer_bytes(&pieces), bytes_of(expected)));
	if (!bytes_equal(buffer_bytes(&pieces), bytes_of(expected)))
		test_show("pieces", buffer_bytes(&pieces));
	buffer_fini(&whole);
	buffer_fini(&pieces);
}
#define TEXT(s) BYTES_LITERAL(s)

TEST(plain_text_stays)
{
	check(SAFE_PROGRAM, TEXT("a\tb\nc"), "a\tb\nc");
	check(SAFE_PROGRAM, TEXT("größe 漢字 🎈 עברית"), "größe 漢字 🎈 עברית");
	check(SAFE_LINE, TEXT("größe"), "größe");
	check(SAFE_PROGRAM, TEXT(""), "");
}

TEST(escape_sequences_are_spelled_out)
{
	check(SAFE_PROGRAM, TEXT("\x1b[31mred\x1b]0;title\a"), "\\x1b[31mred\\x1b]0;title\\x07");
	check(SAFE_PROGRAM, TEXT("a\bb\x7f\0c"), "a\\x08b\\x7f\\x00c");
}

TEST(c1_controls_are_spelled_out_as_bytes_and_as_characters)
{
	check(SAFE_PROGRAM,
		TEXT("\x9b"
		     "31m"),
		"\\x9b31m");
	check(SAFE_PROGRAM,
		TEXT("\xc2\x9b"
		     "31m"),
		"\\u009b31m");
}

TEST(carriage_returns)
{
	check(SAFE_PROGRAM, TEXT("a\r\nb\rc\r"), "a\r\nb\\rc\\r");
	check(SAFE_PROGRAM, TEXT("a\r\r\n"), "a\\r\r\n");
	check(SAFE_LINE, TEXT("a\r\nb\tc"), "a\\r\\nb\\tc");
}

TEST(what_reorders_or_hides_text_is_spelled_out)
{
	check(SAFE_PROGRAM,
		TEXT("a\xe2\x80\xae"
		     "b\xe2\x81\xa6"
		     "c"),
		"a\\u202eb\\u2066c");
	check(SAFE_PROGRAM, TEXT("\xe2\x80\xa8"), "\\u2028");
	check(SAFE_PROGRAM, TEXT("\xf3\xa0\x81\x81"), "\\U000e0041");
}

TEST(ill_formed_utf8)
{
	check(SAFE_PROGRAM,
		TEXT("a\xff"
		     "b"),
		"a\\xffb");
	check(SAFE_PROGRAM, TEXT("\xc3"), "\\xc3");
	check(SAFE_PROGRAM, TEXT("\xe2\x82"), "\\xe2\\x82");
	check(SAFE_PROGRAM, TEXT("\xe2\x82z"), "\\xe2\\x82z");
	check(SAFE_PROGRAM, TEXT("\xe2\xe2\x82\xac"), "\\xe2€");
	check(SAFE_PROGRAM, TEXT("\xf0\x9f\x8e\xf0\x9f\x8e\x88"), "\\xf0\\x9f\\x8e🎈");
	check(SAFE_PROGRAM, TEXT("\xc0\xaf"), "\\xc0\\xaf"); /* overlong */
	check(SAFE_PROGRAM, TEXT("\xe0\x80\xaf"), "\\xe0\\x80\\xaf"); /* overlong */
	check(SAFE_PROGRAM, TEXT("\xed\xa0\x80"), "\\xed\\xa0\\x80"); /* a surrogate */
	check(SAFE_PROGRAM, TEXT("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
}

TEST(json_stays_json)
{
	check(SAFE_JSON, TEXT("{\"a\": \"\xc2\x9b\x7f\"}\n"), "{\"a\": \"\\u009b\\u007f\"}\n");
	check(SAFE_JSON, TEXT("\xf3\xa0\x80\x81"), "\\udb40\\udc01");
	check(SAFE_JSON, TEXT("\xff"), "\\ufffd");
}

TEST_MAIN()
