/* Bodies of POST /execute: what is taken, what is refused and where, the normalised form, the digest. */
#include <errno.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "task/evaluation.h"
#include "test.h"

static const char *const images[] = { "repo/*", "plain" };
static const struct evaluation_limits defaults = {
	.source_max = 2 << 20,
	.timeout_max_us = 3600 * US_PER_S,
	.memory_max = INT64_C(8) << 30,
	.cpu_max = 4000,
	.max_attempts_max = 25,
	.max_attempts_default = 3,
	.priority_default = 5,
	.timeout_default_us = 300 * US_PER_S,
	.images = images,
	.image_count = ARRAY_SIZE(images),
};

struct reading {
	struct arena arena;
	yyjson_doc *document;
	struct evaluation_request request;
	struct field_errors errors;
	uint8_t digest[EVALUATION_DIGEST_SIZE];
	bool good;
};

static void reading_start(struct reading *reading, const char *text, size_t len, const struct evaluation_limits *limits)
{
	*reading = (struct reading){ 0 };
	reading->document = yyjson_read(text, len, 0);
	REQUIRE(reading->document);
	reading->good = evaluation_read(yyjson_doc_get_root(reading->document), "", limits, &reading->arena,
		&reading->request, &reading->errors);
	if (reading->good)
		CHECK(evaluation_digest(yyjson_doc_get_root(reading->document), reading->digest));
	CHECK(reading->good == (reading->errors.count == 0));
}

static void reading_end(struct reading *reading)
{
	yyjson_doc_free(reading->document);
	arena_fini(&reading->arena);
}

/* One fault, at this place. */
static void refused(const char *text, const char *pointer)
{
	struct reading reading;
	reading_start(&reading, text, strlen(text), &defaults);
	if (!CHECK(!reading.good) || !CHECK_INT(reading.errors.count, 1) ||
		!CHECK_STR(reading.errors.items[0].pointer, pointer))
		printf("# body: %s\n# detail: %s\n", text, reading.good ? "-" : reading.errors.items[0].detail);
	reading_end(&reading);
}

static bool taken(const char *text)
{
	struct reading reading;
	reading_start(&reading, text, strlen(text), &defaults);
	bool good = reading.good;
	if (!good)
		printf("# %s: %s %s\n", text, reading.errors.items[0].pointer, reading.errors.items[0].detail);
	reading_end(&reading);
	return good;
}

TEST(the_smallest_body_gets_the_defaults)
{
	struct reading reading;
	static const char body[] = "{\"code\":\"print(1)\"}";
	reading_start(&reading, body, strlen(body), &defaults);
	REQUIRE(reading.good);
	const struct evaluation *evaluation = &reading.request.evaluation;
	CHECK_BYTES(evaluation->language, "python");
	CHECK_INT(evaluation->file_count, 1);
	CHECK_BYTES(evaluation->files[0].path, "");
	CHECK_BYTES(evaluation->files[0].content, "print(1)");
	CHECK_BYTES(evaluation->stdin_data, BYTES_NONE);
	CHECK_INT(evaluation->timeout_us, 300 * US_PER_S);
	CHECK_INT(evaluation->memory_bytes, 512 << 20);
	CHECK_INT(evaluation->cpu_millis, 500);
	CHECK_INT(reading.request.priority, 5);
	CHECK_INT(reading.request.max_attempts, 3);
	CHECK_INT(reading.request.run_after_us, 0);
	CHECK_BYTES(reading.request.eval_id, BYTES_NONE);
	CHECK_INT(reading.digest[0], 1);
	reading_end(&reading);
}

TEST(every_field_is_read)
{
	struct reading reading;
	static const char body[] =
		"{\"eval_id\":\"e 1\",\"files\":[{\"path\":\"a/b.c\",\"content\":\"AAE=\",\"encoding\":\"base64\"},"
		"{\"path\":\"main.c\",\"content\":\"x\"}],\"language\":\"c\",\"entrypoint\":\"main.c\",\"timeout\":1.5,"
		"\"memory_limit\":\"1Gi\",\"cpu_limit\":0.1,\"stdin\":\"/w==\",\"stdin_encoding\":\"base64\","
		"\"args\":[\"-v\",\"\"],\"env\":{\"A\":\"1\",\"B_2\":\"\"},\"fail_fast\":true,\"priority\":9,"
		"\"queue\":\"q-1\",\"executor\":\"sandbox\",\"image\":\"repo/x:1\",\"max_attempts\":25,"
		"\"run_after\":\"2030-01-01T00:00:00+01:00\",\"metadata\":{\"k\":[1.0,null]},"
		"\"tests\":[{},{\"name\":\"n\",\"stdin\":\"\",\"args\":[],\"expected\":\"e\",\"compare\":\"numeric\","
		"\"points\":0.5,\"timeout\":2,\"hidden\":true,\"files\":[{\"path\":\"main.c\",\"content\":\"y\"}]}]}";
	reading_start(&reading, body, strlen(body), &defaults);
	REQUIRE(reading.good);
	const struct evaluation_request *request = &reading.request;
	const struct evaluation *evaluation = &request->evaluation;
	CHECK_BYTES(request->eval_id, "e 1");
	CHECK_BYTES(request->queue, "q-1");
	CHECK_BYTES(request->executor, "sandbox");
	CHECK_INT(request->priority, 9);
	CHECK_INT(request->max_attempts, 25);
	CHECK_INT(request->run_after_us, INT64_C(1893452400) * US_PER_S);
	CHECK_BYTES(request->metadata, "{\"k\":[1.0,null]}");
	CHECK_INT(evaluation->file_count, 2);
	CHECK_BYTES(evaluation->files[0].content, BYTES_LITERAL("\0\1"));
	CHECK_BYTES(evaluation->entrypoint, "main.c");
	CHECK_INT(evaluation->timeout_us, 1500000);
	CHECK_INT(evaluation->memory_bytes, 1 << 30);
	CHECK_INT(evaluation->cpu_millis, 100);
	CHECK_BYTES(evaluation->stdin_data, BYTES_LITERAL("\xff"));
	CHECK_INT(evaluation->arg_count, 2);
	CHECK_BYTES(evaluation->args[1], "");
	CHECK_INT(evaluation->env_count, 2);
	CHECK_BYTES(evaluation->env[0], "A=1");
	CHECK_BYTES(evaluation->env[1], "B_2=");
	CHECK(evaluation->fail_fast);
	CHECK_BYTES(evaluation->image, "repo/x:1");
	REQUIRE(evaluation->test_count == 2);
	const struct evaluation_test *test = evaluation->tests;
	CHECK_BYTES(test[0].name, "test 1");
	CHECK_BYTES(test[0].expected, BYTES_NONE);
	CHECK_INT(test[0].compare, COMPARE_TRIMMED);
	CHECK(test[0].points == 1);
	CHECK_INT(test[0].run.timeout_us, 1500000);
	CHECK_INT(test[0].run.arg_count, 2);
	CHECK_BYTES(test[0].run.stdin_data, BYTES_LITERAL("\xff"));
	CHECK_BYTES(test[1].run.stdin_data, "");
	CHECK_INT(test[1].run.arg_count, 0);
	CHECK_INT(test[1].run.file_count, 1);
	CHECK_INT(test[1].compare, COMPARE_NUMERIC);
	CHECK(test[1].points == 0.5);
	CHECK(test[1].hidden);
	reading_end(&reading);
}

TEST(each_bad_field_is_named)
{
	refused("[]", "");
	refused("{}", "");
	refused("{\"code\":\"\",\"files\":[{\"path\":\"a\",\"content\":\"\"}]}", "");
	refused("{\"code\":1}", "/code");
	refused("{\"code\":null}", "/code");
	refused("{\"code\":\"\",\"co/d~e\":1}", "/co~1d~0e");
	refused("{\"code\":\"\",\"callback_url\":\"http://x\"}", "/callback_url");
	refused("{\"code\":\"\",\"trusted\":true}", "/trusted");
	refused("{\"code\":\"\",\"priority\":1,\"priority\":1}", "/priority");
	refused("{\"code\":\"*\",\"code_encoding\":\"base64\"}", "/code");
	refused("{\"code\":\"\",\"code_encoding\":\"utf16\"}", "/code_encoding");
	refused("{\"code\":\"\",\"stdin_encoding\":\"utf8\"}", "/stdin_encoding");
	refused("{\"files\":[{\"path\":\"a\",\"content\":\"\"}],\"code_encoding\":\"utf8\"}", "/code_encoding");
	refused("{\"code\":\"\",\"language\":\"\"}", "/language");
	refused("{\"code\":\"\",\"language\":\"p\\u0000\"}", "/language");
	refused("{\"code\":\"\",\"eval_id\":\"\"}", "/eval_id");
	refused("{\"code\":\"\",\"eval_id\":\"a\\nb\"}", "/eval_id");
	refused("{\"code\":\"\",\"eval_id\":\"\\u0085\"}", "/eval_id");
	refused("{\"code\":\"\",\"timeout\":0}", "/timeout");
	refused("{\"code\":\"\",\"timeout\":3600.1}", "/timeout");
	refused("{\"code\":\"\",\"timeout\":\"5\"}", "/timeout");
	refused("{\"code\":\"\",\"memory_limit\":\"1Mi\"}", "/memory_limit");
	refused("{\"code\":\"\",\"memory_limit\":\"lots\"}", "/memory_limit");
	refused("{\"code\":\"\",\"memory_limit\":\"9Gi\"}", "/memory_limit");
	refused("{\"code\":\"\",\"memory_limit\":1e300}", "/memory_limit");
	refused("{\"code\":\"\",\"cpu_limit\":\"0\"}", "/cpu_limit");
	refused("{\"code\":\"\",\"cpu_limit\":true}", "/cpu_limit");
	refused("{\"code\":\"\",\"priority\":10}", "/priority");
	refused("{\"code\":\"\",\"priority\":4.5}", "/priority");
	refused("{\"code\":\"\",\"max_attempts\":0}", "/max_attempts");
	refused("{\"code\":\"\",\"max_attempts\":26}", "/max_attempts");
	refused("{\"code\":\"\",\"queue\":\"A\"}", "/queue");
	refused("{\"code\":\"\",\"executor\":\"\"}", "/executor");
	refused("{\"code\":\"\",\"image\":\"a b\"}", "/image");
	refused("{\"code\":\"\",\"image\":\"other/x:1\"}", "/image");
	refused("{\"code\":\"\",\"image\":\"plainer\"}", "/image");
	refused("{\"code\":\"\",\"run_after\":\"tomorrow\"}", "/run_after");
	refused("{\"code\":\"\",\"run_after\":-1}", "/run_after");
	refused("{\"code\":\"\",\"args\":\"-v\"}", "/args");
	refused("{\"code\":\"\",\"args\":[\"a\",\"\\u0000\"]}", "/args/1");
	refused("{\"code\":\"\",\"env\":[\"A=1\"]}", "/env");
	refused("{\"code\":\"\",\"env\":{\"A\":1}}", "/env/A");
	refused("{\"code\":\"\",\"env\":{\"A=B\":\"1\"}}", "/env/A=B");
	refused("{\"code\":\"\",\"env\":{\"A\":\"1\",\"A\":\"2\"}}", "/env/A");
	refused("{\"code\":\"\",\"metadata\":{\"\\u0000\":1}}", "/metadata");
	refused("{\"code\":\"\",\"fail_fast\":1}", "/fail_fast");
	refused("{\"code\":\"\",\"tests\":[]}", "/tests");
	refused("{\"code\":\"\",\"tests\":[{},1]}", "/tests/1");
	refused("{\"code\":\"\",\"tests\":[{\"x\":1}]}", "/tests/0/x");
	refused("{\"code\":\"\",\"tests\":[{\"compare\":\"fuzzy\"}]}", "/tests/0/compare");
	refused("{\"code\":\"\",\"tests\":[{\"points\":-1}]}", "/tests/0/points");
	refused("{\"code\":\"\",\"tests\":[{\"compare\":\"regex\",\"expected\":\"(\"}]}", "/tests/0/expected");
	refused("{\"code\":\"\",\"tests\":[{\"expected_encoding\":\"utf8\"}]}", "/tests/0/expected_encoding");
	refused("{\"code\":\"\",\"tests\":[{\"timeout\":4000}]}", "/tests/0/timeout");
}

TEST(paths_stay_inside)
{
	static const char *const bad[] = { "/a", "", ".", "..", "a/../b", "a//b", "a/", "./a", "a/.", "\\u0000",
		"a\\u0000b" };
	char body[2000];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(body, sizeof(body), "{\"files\":[{\"path\":\"%s\",\"content\":\"\"}]}", bad[i]);
		refused(body, "/files/0/path");
	}
	char long_part[257];
	memset(long_part, 'a', 256);
	long_part[256] = '\0';
	snprintf(body, sizeof(body), "{\"files\":[{\"path\":\"%s\",\"content\":\"\"}]}", long_part);
	refused(body, "/files/0/path");
	snprintf(body, sizeof(body), "{\"files\":[{\"path\":\"%s\",\"content\":\"\"}]}", long_part + 1);
	CHECK(taken(body));
	refused("{\"files\":[]}", "/files");
	refused("{\"files\":[{\"path\":\"a\"}]}", "/files/0/content");
	refused("{\"files\":[{\"content\":\"\"}]}", "/files/0/path");
	refused("{\"files\":[{\"path\":\"a\",\"content\":\"\"}],\"entrypoint\":\"b\"}", "/entrypoint");
	CHECK(taken("{\"files\":[{\"path\":\"...\",\"content\":\"\"},{\"path\":\"a b/\\u00e9\",\"content\":\"\"}]}"));
}

#define FILE_OF(path) "{\"path\":\"" path "\",\"content\":\"\"}"

TEST(no_file_is_a_directory_of_another)
{
	refused("{\"files\":[" FILE_OF("a") "," FILE_OF("b") "," FILE_OF("a") "]}", "/files");
	refused("{\"files\":[" FILE_OF("a/b") "," FILE_OF("a-") "," FILE_OF("a!") "," FILE_OF("a") "]}", "/files");
	CHECK(taken("{\"files\":[" FILE_OF("a/b") "," FILE_OF("a-") "," FILE_OF("a!") "," FILE_OF("ab/c") "]}"));
#define BASE "{\"files\":[" FILE_OF("d/f") "," FILE_OF("d!") "," FILE_OF("d-/x") "],\"tests\":[{\"files\":["
	refused(BASE FILE_OF("d") "]}]}", "/tests/0/files");
	refused(BASE FILE_OF("d/f/g/h") "]}]}", "/tests/0/files");
	refused(BASE FILE_OF("d!/a") "]}]}", "/tests/0/files");
	CHECK(taken(BASE FILE_OF("d/f") "," FILE_OF("d/g") "," FILE_OF("d-/y") "]}]}"));
}

TEST(callbacks_follow_the_policy)
{
	static const struct {
		enum callback_policy policy;
		const char *url;
		bool good;
	} cases[] = { { CALLBACK_OFF, "https://x/", false }, { CALLBACK_HTTPS, "https://x/", true },
		{ CALLBACK_HTTPS, "http://x/", false }, { CALLBACK_HTTP_TOO, "http://x/", true },
		{ CALLBACK_HTTP_TOO, "http://u:p@x/", false } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reading reading;
		struct evaluation_limits limits = defaults;
		char body[128];
		limits.callbacks = cases[i].policy;
		snprintf(body, sizeof(body), "{\"code\":\"1\",\"callback_url\":\"%s\"}", cases[i].url);
		reading_start(&reading, body, strlen(body), &limits);
		CHECK_INT(reading.errors.count, !cases[i].good);
		if (!cases[i].good && reading.errors.count == 1)
			CHECK_STR(reading.errors.items[0].pointer, "/callback_url");
		if (!i && reading.errors.count == 1)
			CHECK(strstr(reading.errors.items[0].detail, "ASSAY_WEBHOOK_SECRET"));
		reading_end(&reading);
	}
}

TEST(limits_hold)
{
	struct reading reading;
	struct evaluation_limits limits = defaults;
	limits.source_max = 10;
	limits.callbacks = CALLBACK_HTTPS;
	static const char body[] = "{\"code\":\"123456\",\"callback_url\":\"https://x/\",\"tests\":"
				   "[{\"files\":[{\"path\":\"a\",\"content\":\"12345\"}]}]}";
	reading_start(&reading, body, strlen(body), &limits);
	CHECK_INT(reading.errors.count, 1);
	CHECK_STR(reading.errors.items[0].pointer, "/tests/0/files/0/content");
	CHECK_BYTES(reading.request.callback_url, "https://x/");
	reading_end(&reading);

	/* 200 characters, whatever their bytes. */
	struct buffer text = BUFFER_MAX(0);
	for (int over = 0; over < 2; over++) {
		buffer_clear(&text);
		buffer_append_string(&text, "{\"code\":\"\",\"eval_id\":\"");
		for (int i = 0; i < 200 + over; i++)
			buffer_append_string(&text, "\xf0\x9f\x99\x82");
		buffer_append_string(&text, "\"}");
		reading_start(&reading, text.data, text.len, &defaults);
		CHECK_INT(reading.good, !over);
		reading_end(&reading);
	}
	for (int over = 0; over < 2; over++) {
		buffer_clear(&text);
		buffer_append_string(&text, "{\"code\":\"\",\"tests\":[{}");
		for (int i = 1; i < 1000 + over; i++)
			buffer_append_string(&text, ",{}");
		buffer_append_string(&text, "]}");
		reading_start(&reading, text.data, text.len, &defaults);
		CHECK_INT(reading.good, !over);
		reading_end(&reading);
	}
	for (int over = 0; over < 2; over++) {
		buffer_clear(&text);
		buffer_append_string(&text, "{\"code\":\"\",\"metadata\":\"");
		for (int i = 0; i < 16 * 1024 - 2 + over; i++)
			buffer_append_char(&text, 'm');
		buffer_append_string(&text, "\"}");
		reading_start(&reading, text.data, text.len, &defaults);
		CHECK_INT(reading.good, !over);
		reading_end(&reading);
	}
	buffer_clear(&text);
	buffer_append_string(&text, "{\"code\":\"\",\"metadata\":");
	for (int i = 0; i < 8000; i++)
		buffer_append_char(&text, '[');
	for (int i = 0; i < 8000; i++)
		buffer_append_char(&text, ']');
	buffer_append_char(&text, '}');
	reading_start(&reading, text.data, text.len, &defaults);
	CHECK_STR(reading.errors.items[0].pointer, "/metadata");
	reading_end(&reading);
	buffer_fini(&text);
}

TEST(faults_are_gathered_and_bounded)
{
	struct reading reading;
	static const char body[] = "{\"code\":1,\"timeout\":-1,\"queue\":2,\"tests\":[{\"name\":\"\"}],\"zzz\":0}";
	reading_start(&reading, body, strlen(body), &defaults);
	CHECK_INT(reading.errors.count, 5);
	reading_end(&reading);
	struct buffer text = BUFFER_MAX(0);
	buffer_append_string(&text, "{\"code\":\"\"");
	for (int i = 0; i < 1000; i++)
		buffer_printf(&text, ",\"u%d\":0", i);
	buffer_append_char(&text, '}');
	reading_start(&reading, text.data, text.len, &defaults);
	CHECK_INT(reading.errors.count, 32);
	reading_end(&reading);
	buffer_fini(&text);
}

TEST(a_prefix_goes_before_pointers)
{
	struct arena arena = { 0 };
	struct evaluation_request request;
	struct field_errors errors = { 0 };
	yyjson_doc *document = yyjson_read("{\"code\":3}", 10, 0);
	CHECK(!evaluation_read(yyjson_doc_get_root(document), "/params", &defaults, &arena, &request, &errors));
	CHECK_STR(errors.items[0].pointer, "/params/code");
	field_errors_add(&errors, &arena, "/type", "is %s", "unknown");
	CHECK_STR(errors.items[1].pointer, "/type");
	CHECK_STR(errors.items[1].detail, "is unknown");
	yyjson_doc_free(document);
	arena_fini(&arena);
}

static void digest_of(const char *body, uint8_t digest[33])
{
	struct reading reading;
	reading_start(&reading, body, strlen(body), &defaults);
	CHECK(reading.good);
	memcpy(digest, reading.digest, 33);
	reading_end(&reading);
}

static bool same_digest(const char *a, const char *b)
{
	uint8_t x[33], y[33];
	digest_of(a, x);
	digest_of(b, y);
	return memcmp(x, y, 33) == 0;
}

TEST(the_digest_sees_meaning_and_not_spelling)
{
	CHECK(same_digest("{\"code\":\"a\",\"timeout\":1}", "{ \"timeout\" : 1.0, \"code\" : \"\\u0061\" }"));
	CHECK(same_digest("{\"code\":\"a\",\"timeout\":10}", "{\"code\":\"a\",\"timeout\":1e1}"));
	CHECK(same_digest("{\"code\":\"\",\"metadata\":0}", "{\"code\":\"\",\"metadata\":-0.0}"));
	CHECK(same_digest("{\"code\":\"\",\"metadata\":{\"a\":1,\"aa\":2,\"b\":3}}",
		"{\"metadata\":{\"b\":3,\"aa\":2,\"a\":1},\"code\":\"\"}"));
	CHECK(!same_digest("{\"code\":\"a\"}", "{\"code\":\"a\",\"language\":\"python\"}"));
	CHECK(!same_digest("{\"code\":\"a\"}", "{\"code\":\"a \"}"));
	CHECK(!same_digest("{\"code\":\"\",\"args\":[\"ab\",\"c\"]}", "{\"code\":\"\",\"args\":[\"a\",\"bc\"]}"));
	CHECK(!same_digest("{\"code\":\"\",\"metadata\":[1,[2]]}", "{\"code\":\"\",\"metadata\":[[1],2]}"));
	CHECK(!same_digest("{\"code\":\"\",\"metadata\":\"1\"}", "{\"code\":\"\",\"metadata\":1}"));
	CHECK(!same_digest("{\"code\":\"\",\"metadata\":1.5}", "{\"code\":\"\",\"metadata\":1}"));
	CHECK(!same_digest("{\"code\":\"\",\"metadata\":18446744073709551615}", "{\"code\":\"\",\"metadata\":-1}"));
	CHECK(!same_digest("{\"code\":\"\",\"metadata\":null}", "{\"code\":\"\"}"));
	/* Many members take the other way of sorting. */
	struct buffer up = BUFFER_MAX(0), down = BUFFER_MAX(0);
	buffer_append_string(&up, "{\"code\":\"\",\"metadata\":{\"\":0");
	buffer_append_string(&down, "{\"code\":\"\",\"metadata\":{");
	for (int i = 0; i < 100; i++) {
		buffer_printf(&up, ",\"k%d\":%d", i, i);
		buffer_printf(&down, "\"k%d\":%d,", 99 - i, 99 - i);
	}
	buffer_append(&up, "}}", 3);
	buffer_append(&down, "\"\":0}}", 7);
	CHECK(same_digest(up.data, down.data));
	buffer_fini(&up);
	buffer_fini(&down);
}

/* Keys that were given out must stay valid: a change of the canonical form needs another version. */
TEST(the_digest_of_version_1_does_not_change)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t digest[33];
	char text[67] = "";
	digest_of("{\"eval_id\":\"e\",\"code\":\"print(1)\\n\",\"timeout\":2.5,\"args\":[\"a\"],\"fail_fast\":true,"
		  "\"metadata\":{\"n\":null,\"f\":false,\"i\":-7,\"u\":18446744073709551615}}",
		digest);
	for (size_t i = 0; i < 33; i++) {
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	CHECK_STR(text, "011c11232eaf470b37446719bf28c446f51c65b05b1729997a03ef2baa2b651aef");
}

static void round_trip(const char *body)
{
	struct reading reading;
	struct arena arena = { 0 };
	struct evaluation loaded;
	struct err err = { 0 };
	struct buffer first = BUFFER_MAX(0), second = BUFFER_MAX(0);
	reading_start(&reading, body, strlen(body), &defaults);
	REQUIRE(reading.good);
	evaluation_write(&reading.request.evaluation, &first);
	if (!CHECK_INT(evaluation_load(buffer_bytes(&first), &arena, &loaded, &err), 0))
		printf("# %s\n# %.*s\n", err.message, (int)first.len, first.data);
	reading_end(&reading);
	evaluation_write(&loaded, &second);
	CHECK_BYTES(buffer_bytes(&first), buffer_bytes(&second));
	/* It is a body itself, and PostgreSQL's jsonb takes it. */
	buffer_append_char(&first, '\0');
	CHECK(!strstr(first.data, "\\u0000"));
	CHECK(taken(first.data));
	buffer_fini(&first);
	buffer_fini(&second);
	arena_fini(&arena);
}

TEST(what_was_written_is_loaded)
{
	struct reading reading;
	struct buffer buffer = BUFFER_MAX(0);
	static const char body[] = "{\"code\":\"a\\u0000\",\"timeout\":0.25,\"eval_id\":\"e\"}";
	reading_start(&reading, body, strlen(body), &defaults);
	evaluation_write(&reading.request.evaluation, &buffer);
	CHECK_BYTES(buffer_bytes(&buffer), "{\"language\":\"python\",\"code_encoding\":\"base64\",\"code\":\"YQA=\","
					   "\"timeout\":0.25,\"memory_limit\":536870912,\"cpu_limit\":\"500m\"}");
	buffer_fini(&buffer);
	reading_end(&reading);
	round_trip("{\"code\":\"\"}");
	round_trip(
		"{\"code\":\"\\u00e9\\n\\\"\",\"stdin\":\"/w==\",\"stdin_encoding\":\"base64\",\"timeout\":0.000001}");
	round_trip("{\"code\":\"x\",\"entrypoint\":\"src/Main.java\",\"language\":\"java\"}");
	round_trip(
		"{\"code\":\"\",\"code_encoding\":\"base64\",\"stdin\":\"\",\"args\":[\"\"],\"env\":{\"A\":\"=\\\"\"},"
		"\"tests\":[{\"stdin\":\"\",\"args\":[]},{\"stdin\":\"x\",\"expected\":\"\"},{},"
		"{\"stdin\":\"\",\"stdin_encoding\":\"base64\",\"expected\":\"^a\",\"compare\":\"regex\",\"points\":0."
		"1,"
		"\"hidden\":true,\"timeout\":3600,\"files\":[" FILE_OF(
			"in.txt") "]}],\"fail_fast\":true,"
				  "\"image\":\"repo/a/b\",\"memory_limit\":\"7Gi\",\"cpu_limit\":\"1.5\"}");
	round_trip("{\"files\":[" FILE_OF("a/b") "," FILE_OF("c") "],\"entrypoint\":\"c\",\"fail_fast\":false}");
}

TEST(a_row_altered_by_hand_is_an_error)
{
	struct arena arena = { 0 };
	struct evaluation evaluation;
	struct err err = { 0 };
	CHECK_INT(evaluation_load(BYTES_LITERAL("{\"code\":1}"), &arena, &evaluation, &err), -EINVAL);
	CHECK(strstr(err.message, "/code"));
	CHECK_INT(
		evaluation_load(BYTES_LITERAL("{\"code\":\"\",\"queue\":\"q\"}"), &arena, &evaluation, &err), -EINVAL);
	CHECK_INT(evaluation_load(BYTES_LITERAL("{"), &arena, &evaluation, &err), -EINVAL);
	CHECK_INT(evaluation_load(BYTES_LITERAL(""), &arena, &evaluation, &err), -EINVAL);
	CHECK_INT(evaluation_load(BYTES_LITERAL("[]"), &arena, &evaluation, &err), -EINVAL);
	arena_fini(&arena);
}

TEST_MAIN()
