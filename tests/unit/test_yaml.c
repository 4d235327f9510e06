#include "base/yaml.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "test.h"

/* The document as JSON, or the error's message; valid until the next call. */
static const char *read_as(struct bytes text)
{
	static char *last;
	struct err err = { 0 };
	yyjson_doc *doc = NULL;
	free(last);
	if (yaml_read(text, &doc, &err) < 0) {
		CHECK(doc == NULL);
		last = string_copy(err.message);
	} else {
		last = yyjson_write(doc, 0, NULL);
		yyjson_doc_free(doc);
	}
	return last;
}

#define READS(yaml, expected) CHECK_STR(read_as(BYTES_LITERAL(yaml)), expected)

TEST(plain_scalars_by_the_core_schema)
{
	READS("[null, Null, NULL, ~, ]", "[null,null,null,null]");
	READS("[true, True, TRUE, false, False, FALSE]", "[true,true,true,false,false,false]");
	READS("[0, -5, +7, 007, 0o17, 0xfF]", "[0,-5,7,7,15,255]");
	READS("[1.5, .5, 1., -1e3, 6.02e+23]", "[1.5,0.5,1.0,-1000.0,6.02e23]");
	READS("[9223372036854775807, -9223372036854775808, 18446744073709551615]",
		"[9223372036854775807,-9223372036854775808,18446744073709551615]");
	READS("[nULL, yes, no, on, off, y, tRUE, 0x, 0o8, 1_000, 1e, ., e3, 12:30:45, 2026-11-21, -, 0b1]",
		"[\"nULL\",\"yes\",\"no\",\"on\",\"off\",\"y\",\"tRUE\",\"0x\",\"0o8\",\"1_000\",\"1e\",\".\",\"e3\","
		"\"12:30:45\",\"2026-11-21\",\"-\",\"0b1\"]");
}

TEST(quoted_and_block_scalars_are_strings)
{
	READS("['1', \"true\", '', \"a\\n\\0\"]", "[\"1\",\"true\",\"\",\"a\\n\\u0000\"]");
	READS("a: |\n  12\n  34\nb: >-\n  1\n  2\n", "{\"a\":\"12\\n34\\n\",\"b\":\"1 2\"}");
	READS("gr\xc3\xbcn", "\"gr\xc3\xbcn\"");
}

TEST(core_tags)
{
	READS("[!!str 1, !!int 1, !!float 1, !!bool true, !!null , ! 1, !!str , !!int '5']",
		"[\"1\",1,1.0,true,null,\"1\",\"\",5]");
	READS("!!map {a: !!seq [1]}", "{\"a\":[1]}");
	READS("a: 1\nb: !!int x", "line 2: a value that does not fit its tag");
	READS("a: !custom x", "line 1: a tag that is not of YAML's core schema");
	READS("a: !!binary x", "line 1: a value that does not fit its tag");
	READS("a: !!set {x}", "line 1: a tag that is not of YAML's core schema");
}

TEST(collections)
{
	READS("a:\n  - 1\n  - b: {}\n    c: []\nd: {e: [f, {g: h}]}\n",
		"{\"a\":[1,{\"b\":{},\"c\":[]}],\"d\":{\"e\":[\"f\",{\"g\":\"h\"}]}}");
	READS("1: a\ntrue: b\n'': c\n", "{\"1\":\"a\",\"true\":\"b\",\"\":\"c\"}");
	READS("a:\nb:\n", "{\"a\":null,\"b\":null}");
	READS("", "null");
	READS("# nothing\n", "null");
	READS("--- 1\n...\n", "1");
	READS("{\"json\": [1, \"two\", null]}", "{\"json\":[1,\"two\",null]}");
}

TEST(refusals_name_the_line)
{
	READS("a: &x 1\n", "line 1: anchors are not taken");
	READS("a: 1\nb: *x\n", "line 2: aliases are not taken");
	READS("a: 1\n\n*x : 1\n", "line 3: aliases are not taken");
	READS("<<: {a: 1}\n", "line 1: merge keys are not taken");
	READS("'<<': 1\n", "{\"<<\":1}");
	READS("a: 1\nb: 2\na: 3\n", "line 3: a key that the mapping has already");
	READS("? [a]\n: 1\n", "line 1: a key that is not a scalar");
	READS("a: .inf\n", "line 1: infinity and not-a-number are not taken");
	READS("a: 1e999\n", "line 1: a number too large; quote it if it is a text");
	READS("a: 18446744073709551616\n", "line 1: an integer beyond 64 bits; quote it if it is a text");
	READS("a: -9223372036854775809\n", "line 1: an integer beyond 64 bits; quote it if it is a text");
	READS("--- 1\n--- 2\n", "line 2: a second document");
	READS("a: b: c\n", "line 1: mapping values are not allowed in this context");
	READS("a: [1\nb: 2\n", "line 2: did not find expected ',' or ']', while parsing a flow sequence");
	READS("a: \xff", "not a text in UTF-8");
	CHECK(strncmp(read_as(BYTES_LITERAL("a: \x01\n")), "byte ", 5) == 0);
}

TEST(bounds)
{
	struct buffer buffer = { 0 };
	for (int i = 0; i < YAML_MAX_DEPTH; i++)
		buffer_append_char(&buffer, '[');
	for (int i = 0; i < YAML_MAX_DEPTH; i++)
		buffer_append_char(&buffer, ']');
	CHECK_BYTES(read_as(buffer_bytes(&buffer)), buffer_bytes(&buffer));
	buffer_clear(&buffer);
	for (int i = 0; i < 10000; i++)
		buffer_append_char(&buffer, '[');
	CHECK_STR(read_as(buffer_bytes(&buffer)), "line 1: nested too deeply");
	buffer_clear(&buffer);
	for (int i = 0; i <= YAML_MAX_KEYS; i++)
		buffer_printf(&buffer, "k%d: 1\n", i);
	CHECK_STR(read_as(buffer_bytes(&buffer)), "line 4097: too many keys in one mapping");
	buffer_clear(&buffer);
	for (int i = 0; i < YAML_MAX_NODES; i++)
		buffer_append_string(&buffer, "- 1\n");
	CHECK_STR(read_as(buffer_bytes(&buffer)), "line 200000: too many values");
	memset(buffer_reserve(&buffer, YAML_MAX_BYTES + 1), ' ', YAML_MAX_BYTES + 1);
	buffer.len = YAML_MAX_BYTES + 1;
	CHECK_STR(read_as(buffer_bytes(&buffer)), "more than 4194304 bytes of YAML");
	buffer_fini(&buffer);
}

TEST_MAIN()
