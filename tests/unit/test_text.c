#include "base/text.h"

#include "test.h"

/* As whoever shows foreign bytes does it: every maximal ill-formed part replaced by U+FFFD; true when nothing was
 * replaced. */
static bool append_lossy(struct buffer *buffer, struct bytes text)
{
	bool whole = true;
	while (text.len > 0) {
		size_t valid = utf8_valid_prefix(text);
		buffer_append(buffer, text.data, valid);
		text.data += valid;
		text.len -= valid;
		if (text.len == 0)
			break;
		size_t bad = utf8_ill_formed_part(text);
		buffer_append_string(buffer, UTF8_REPLACEMENT);
		text.data += bad;
		text.len -= bad;
		whole = false;
	}
	return whole;
}

#define LOSSY(from, to, is_whole) \
	do { \
		struct buffer buffer_ = { 0 }; \
		CHECK_INT(append_lossy(&buffer_, BYTES_LITERAL(from)), is_whole); \
		CHECK_BYTES(buffer_bytes(&buffer_), to); \
		buffer_fini(&buffer_); \
	} while (0)
#define R UTF8_REPLACEMENT

TEST(utf8_of_every_code_point)
{
	for (unsigned c = 0; c < 0x110000; c++) {
		char text[4];
		size_t len = 0;
		if (c < 0x80) {
			text[len++] = (char)c;
		} else if (c < 0x800) {
			text[len++] = (char)(0xc0 | c >> 6);
			text[len++] = (char)(0x80 | (c & 63));
		} else if (c < 0x10000) {
			text[len++] = (char)(0xe0 | c >> 12);
			text[len++] = (char)(0x80 | (c >> 6 & 63));
			text[len++] = (char)(0x80 | (c & 63));
		} else {
			text[len++] = (char)(0xf0 | c >> 18);
			text[len++] = (char)(0x80 | (c >> 12 & 63));
			text[len++] = (char)(0x80 | (c >> 6 & 63));
			text[len++] = (char)(0x80 | (c & 63));
		}
		bool surrogate = c >= 0xd800 && c <= 0xdfff;
		if (utf8_valid((struct bytes){ text, len }) == surrogate) {
			CHECK_INT(c, -1);
			break;
		}
		/* Every shorter start is not whole. */
		for (size_t part = 1; part < len; part++)
			REQUIRE(utf8_valid_prefix((struct bytes){ text, part }) == 0);
	}
}

TEST(utf8_prefixes)
{
	CHECK_INT(utf8_valid_prefix(BYTES_NONE), 0);
	CHECK(utf8_valid(BYTES_NONE));
	CHECK_INT(utf8_valid_prefix(BYTES_LITERAL("plain ascii, longer than a word")), 31);
	CHECK_INT(utf8_valid_prefix(BYTES_LITERAL("abcdefgh\xffijklmnopq")), 8);
	CHECK_INT(utf8_valid_prefix(BYTES_LITERAL("gr\xc3\xbcn \xe6\xbc")), 6);
	CHECK_INT(utf8_valid_prefix(BYTES_LITERAL("\xf0\x9f\x98\x80")), 4);
	CHECK_INT(utf8_ill_formed_part(BYTES_LITERAL("a")), 0);
	CHECK_INT(utf8_ill_formed_part(BYTES_NONE), 0);
	CHECK_INT(utf8_ill_formed_part(BYTES_LITERAL("\xf0\x9f\x98")), 3);
}

TEST(utf8_replacement_by_maximal_subparts)
{
	/* The examples of the Unicode standard, tables 3-8 to 3-11. */
	LOSSY("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A", false);
	LOSSY("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A", false);
	LOSSY("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B", false);
	LOSSY("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A", false);
	LOSSY("", "", true);
	LOSSY("fine \xc3\xbc", "fine \xc3\xbc", true);
	LOSSY("cut \xe2\x82", "cut " R, false);
}

TEST(base64_examples)
{
	static const char *const pairs[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" } };
	struct arena arena = { 0 };
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct buffer buffer = { 0 };
		base64_append(&buffer, bytes_of(pairs[i][0]));
		CHECK_BYTES(buffer_bytes(&buffer), pairs[i][1]);
		CHECK_BYTES(base64_decode(&arena, bytes_of(pairs[i][1])), pairs[i][0]);
		buffer_fini(&buffer);
	}
	arena_fini(&arena);
}

TEST(base64_of_every_byte)
{
	struct arena arena = { 0 };
	char every[256];
	for (int i = 0; i < 256; i++)
		every[i] = (char)(i * 7 + 3);
	for (size_t len = 0; len <= sizeof(every); len++) {
		struct buffer buffer = { 0 };
		base64_append(&buffer, (struct bytes){ every, len });
		CHECK_BYTES(base64_decode(&arena, buffer_bytes(&buffer)), ((struct bytes){ every, len }));
		buffer_fini(&buffer);
	}
	arena_fini(&arena);
}

TEST(base64_refuses)
{
	static const char *const refused[] = { "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm 9v", "Zm9-",
		"Zm9_", "Zh==", "Zm9=", "=Zm9", "Zm=v", "Zm\xff\xff" };
	struct arena arena = { 0 };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (base64_decode(&arena, bytes_of(refused[i])).data)
			CHECK_STR(refused[i], "refused");
	CHECK_BYTES(base64_decode(&arena, BYTES_NONE), BYTES_NONE);
	arena_fini(&arena);
}

TEST(hex)
{
	uint8_t decoded[3] = { 9, 9, 9 };
	struct buffer buffer = { 0 };
	hex_append(&buffer, BYTES_LITERAL("\x00\x7f\xff"));
	CHECK_BYTES(buffer_bytes(&buffer), "007fff");
	buffer_fini(&buffer);
	CHECK(!hex_decode(BYTES_LITERAL("007fff0"), decoded, 3));
	CHECK(!hex_decode(BYTES_LITERAL("007f"), decoded, 3));
	CHECK(!hex_decode(BYTES_LITERAL("007ffg"), decoded, 3));
	CHECK_INT(decoded[0], 9);
	CHECK(hex_decode(BYTES_LITERAL("00aFFf"), decoded, 3));
	CHECK_BYTES(((struct bytes){ (const char *)decoded, 3 }), ((struct bytes){ "\x00\xaf\xff", 3 }));
}

TEST(integers)
{
	int64_t value = 0;
	CHECK(text_to_int(BYTES_LITERAL("-9223372036854775808"), INT64_MIN, INT64_MAX, &value));
	CHECK_INT(value, INT64_MIN);
	CHECK(text_to_int(BYTES_LITERAL("9223372036854775807"), INT64_MIN, INT64_MAX, &value));
	CHECK_INT(value, INT64_MAX);
	CHECK(text_to_int(BYTES_LITERAL("007"), 0, 10, &value));
	CHECK_INT(value, 7);
	static const char *const refused[] = { "", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "--1",
		"9223372036854775808", "-9223372036854775809", "99999999999999999999999999" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (text_to_int(bytes_of(refused[i]), INT64_MIN, INT64_MAX, &value))
			CHECK_STR(refused[i], "refused");
	CHECK(!text_to_int(BYTES_LITERAL("11"), 0, 10, &value));
	CHECK(!text_to_int(BYTES_LITERAL("-1"), 0, 10, &value));
	CHECK(!text_to_int(BYTES_NONE, 0, 10, &value));
	CHECK_INT(value, 7);
}

TEST(case_and_white_space)
{
	CHECK(text_equal_ignore_case(BYTES_LITERAL("Content-TYPE"), BYTES_LITERAL("content-type")));
	CHECK(!text_equal_ignore_case(BYTES_LITERAL("a["), BYTES_LITERAL("A{")));
	CHECK(!text_equal_ignore_case(BYTES_LITERAL("ab"), BYTES_LITERAL("abc")));
	CHECK_BYTES(text_trim(BYTES_LITERAL(" \t\r\n a b \v\f")), "a b");
	CHECK_BYTES(text_trim(BYTES_LITERAL("  ")), "");
	CHECK_BYTES(text_trim(BYTES_LITERAL("")), "");
	CHECK_BYTES(text_trim(BYTES_NONE), BYTES_NONE);
}

TEST(sha256_examples)
{
	/* FIPS 180-2, appendix B. */
	static const char *const pairs[][2] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		uint8_t digest[SHA256_SIZE];
		struct buffer buffer = { 0 };
		sha256(bytes_of(pairs[i][0]), digest);
		hex_append(&buffer, (struct bytes){ (const char *)digest, sizeof(digest) });
		CHECK_BYTES(buffer_bytes(&buffer), pairs[i][1]);
		buffer_fini(&buffer);
	}
	uint8_t digest[SHA256_SIZE], same[SHA256_SIZE];
	sha256(BYTES_NONE, digest);
	sha256(BYTES_LITERAL(""), same);
	CHECK_INT(memcmp(digest, same, sizeof(digest)), 0);
}

TEST(random_bytes_differ)
{
	uint8_t a[1000] = { 0 }, b[1000] = { 0 };
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	CHECK(memcmp(a, b, sizeof(a)) != 0);
	CHECK(memcmp(a + 900, (char[100]){ 0 }, 100) != 0);
	random_bytes(NULL, 0);
}

TEST_MAIN()
