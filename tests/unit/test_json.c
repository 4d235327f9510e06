#include "base/json.h"

#include <float.h>
#include <math.h>
#include <yyjson.h>

#include "test.h"

#define WRITES(expected, ...) \
	do { \
		struct buffer buffer_ = { 0 }; \
		struct json json = JSON_TO(&buffer_); \
		__VA_ARGS__; \
		CHECK_BYTES(buffer_bytes(&buffer_), expected); \
		buffer_fini(&buffer_); \
	} while (0)

TEST(commas_place_themselves)
{
	WRITES("{}", json_object(&json); json_object_end(&json));
	WRITES("[]", json_array(&json); json_array_end(&json));
	WRITES("[1,true,[],{},null,\"x\"]", json_array(&json); json_int(&json, 1); json_bool(&json, true);
		json_array(&json); json_array_end(&json); json_object(&json); json_object_end(&json); json_null(&json);
		json_string(&json, BYTES_LITERAL("x")); json_array_end(&json));
	WRITES("{\"a\":{\"b\":[1,2]},\"c\":false}", json_object(&json); json_key(&json, "a"); json_object(&json);
		json_key(&json, "b"); json_array(&json); json_int(&json, 1); json_int(&json, 2); json_array_end(&json);
		json_object_end(&json); json_key(&json, "c"); json_bool(&json, false); json_object_end(&json));
}

TEST(members)
{
	WRITES("{\"s\":\"x\",\"n\":null,\"i\":-5,\"b\":true,\"d\":0.5,\"z\":null,\"r\":[1],\"t\":"
	       "\"2026-11-21T13:20:00.123Z\",\"never\":null}",
		json_object(&json);
		json_member_string(&json, "s", BYTES_LITERAL("x")); json_member_string(&json, "n", BYTES_NONE);
		json_member_int(&json, "i", -5); json_member_bool(&json, "b", true);
		json_member_double(&json, "d", 0.5); json_member_null(&json, "z");
		json_member_raw(&json, "r", BYTES_LITERAL("[1]"));
		json_member_time(&json, "t", INT64_C(1795267200123000)); json_member_time(&json, "never", 0);
		json_object_end(&json));
}

TEST(integers)
{
	WRITES("0", json_int(&json, 0));
	WRITES("-9223372036854775808", json_int(&json, INT64_MIN));
	WRITES("9223372036854775807", json_int(&json, INT64_MAX));
}

TEST(doubles_are_short_and_come_back)
{
	WRITES("0.1", json_double(&json, 0.1));
	WRITES("0.3", json_double(&json, 0.3));
	WRITES("0.30000000000000004", json_double(&json, 0.1 + 0.2));
	WRITES("1", json_double(&json, 1.0));
	WRITES("-0", json_double(&json, -0.0));
	WRITES("1e+300", json_double(&json, 1e300));
	WRITES("null", json_double(&json, NAN));
	WRITES("null", json_double(&json, -INFINITY));
	const double values[] = { DBL_MAX, DBL_MIN, DBL_TRUE_MIN, 1.0 / 3, 1795267200.123456, 123456789012345678.0 };
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct buffer buffer = { 0 };
		struct json json = JSON_TO(&buffer);
		json_double(&json, values[i]);
		buffer_append_char(&buffer, '\0');
		CHECK(strtod(buffer.data, NULL) == values[i]);
		buffer_fini(&buffer);
	}
}

TEST(strings_are_escaped)
{
	bool whole = false;
	WRITES("\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"",
		whole = json_string(&json, BYTES_LITERAL("a\"b\\c/\b\f\n\r\t\x01\x1f\x7f")));
	CHECK(whole);
	WRITES("\"a\\u0000b\"", whole = json_string(&json, BYTES_LITERAL("a\0b")));
	CHECK(whole);
	WRITES("\"\"", whole = json_string(&json, BYTES_LITERAL("")));
	CHECK(whole);
	WRITES("null", json_string(&json, BYTES_NONE));
	WRITES("\"grün 漢 😀\"", whole = json_string(&json, BYTES_LITERAL("grün 漢 😀")));
	CHECK(whole);
}

TEST(every_byte_at_every_place)
{
	/* Runs of eight bytes are looked at together: no place in them may be missed, no other byte be hit. */
	for (unsigned c = 0; c < 0x80; c++) {
		for (size_t at = 0; at < 20; at++) {
			char text[20], expected[40];
			bool letter = c == '\b' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
			size_t grown = c == '"' || c == '\\' || letter ? 1 : c < 0x20 ? 5 : 0;
			memset(text, 'x', sizeof(text));
			text[at] = (char)c;
			struct buffer buffer = { 0 };
			json_string(&JSON_TO(&buffer), (struct bytes){ text, sizeof(text) });
			REQUIRE(buffer.len == sizeof(text) + 2 + grown);
			memset(expected, 'x', sizeof(expected));
			REQUIRE(memcmp(buffer.data + 1, expected, at) == 0);
			REQUIRE(memcmp(buffer.data + 1 + at + 1 + grown, expected, sizeof(text) - at - 1) == 0);
			REQUIRE(buffer.data[1 + at] == (grown ? '\\' : (char)c));
			buffer_fini(&buffer);
		}
	}
	WRITES("\"ﾀ漢字漢字\x7f\xc2\x80\"", json_string(&json, BYTES_LITERAL("ﾀ漢字漢字\x7f\xc2\x80")));
}

TEST(ill_formed_text_is_replaced_and_told)
{
	bool whole = true;
	WRITES("\"a\xef\xbf\xbd\"", whole = json_string(&json, BYTES_LITERAL("a\xe2\x82")));
	CHECK(!whole);
	WRITES("\"\xef\xbf\xbd\xef\xbf\xbd\\n\"", whole = json_string(&json, BYTES_LITERAL("\xff\xc0\n")));
	CHECK(!whole);
}

TEST(another_reader_agrees)
{
	char every[256];
	for (int i = 0; i < 256; i++)
		every[i] = (char)i;
	struct buffer buffer = { 0 };
	struct json json = JSON_TO(&buffer);
	json_object(&json);
	json_member_string(&json, "ascii", (struct bytes){ every, 128 });
	json_member_string(&json, "every", (struct bytes){ every, 256 });
	json_member_double(&json, "pi", 3.141592653589793);
	json_object_end(&json);
	yyjson_doc *doc = yyjson_read(buffer.data, buffer.len, 0);
	REQUIRE(doc != NULL);
	yyjson_val *root = yyjson_doc_get_root(doc), *ascii = yyjson_obj_get(root, "ascii");
	CHECK_BYTES(((struct bytes){ yyjson_get_str(ascii), yyjson_get_len(ascii) }), ((struct bytes){ every, 128 }));
	CHECK_INT(yyjson_get_len(yyjson_obj_get(root, "every")), 128 + 128 * 3);
	CHECK(yyjson_get_real(yyjson_obj_get(root, "pi")) == 3.141592653589793);
	yyjson_doc_free(doc);
	buffer_fini(&buffer);
}

TEST(a_full_buffer_says_so)
{
	struct buffer buffer = BUFFER_MAX(10);
	struct json json = JSON_TO(&buffer);
	json_object(&json);
	json_member_string(&json, "key", BYTES_LITERAL("far too long"));
	json_object_end(&json);
	CHECK(buffer.failed);
	CHECK(buffer.len <= 10);
	buffer_fini(&buffer);
}

TEST_MAIN()
