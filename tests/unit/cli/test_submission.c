#include "cli/submission.h"

#include <errno.h>

#include "base/alloc.h"
#include "test.h"

static const struct submission_options defaults = { .priority = -1, .max_attempts = -1 };

static struct source_file file(const char *path, struct bytes content)
{
	struct source_file made = { .path = string_copy(path) };
	buffer_append_bytes(&made.content, content);
	return made;
}

/* Takes the files over. Expects the body, or, where expected does not begin with a brace, the error. */
static void check(const struct submission_options *options, bool is_directory, struct source_file *files, size_t count,
	const char *expected)
{
	struct languages *languages = NULL;
	struct err err;
	REQUIRE(languages_parse(languages_builtin(), "languages.yaml", &languages, &err) == 0);
	struct source source = { .is_directory = is_directory, .count = count };
	source.files = alloc_array(count, sizeof(*files));
	memcpy(source.files, files, count * sizeof(*files));
	struct buffer body = { 0 };
	int result = submission_write(options, &source, languages, &body, &err);
	if (expected[0] == '{') {
		CHECK_INT(result, 0);
		CHECK_BYTES(buffer_bytes(&body), expected);
	} else {
		CHECK_INT(result, -EINVAL);
		CHECK_STR(err.message, expected);
	}
	buffer_fini(&body);
	source_fini(&source);
	languages_free(languages);
}

static void check_one(
	const struct submission_options *options, const char *path, struct bytes content, const char *expected)
{
	struct source_file one = file(path, content);
	check(options, false, &one, 1, expected);
}

static void check_two(const struct submission_options *options, const char *a, const char *b, const char *expected)
{
	struct source_file two[] = { file(a, BYTES_LITERAL("1")), file(b, BYTES_LITERAL("2")) };
	check(options, true, two, 2, expected);
}

TEST(one_file)
{
	check_one(&defaults, "a.py", BYTES_LITERAL("print(\"ä\")\n"),
		"{\"language\":\"python\",\"code\":\"print(\\\"ä\\\")\\n\"}");
	check_one(
		&defaults, "x", BYTES_LITERAL("#!/bin/bash\n"), "{\"language\":\"bash\",\"code\":\"#!/bin/bash\\n\"}");
	check_one(&defaults, "-", BYTES_LITERAL("1"), "{\"code\":\"1\"}");
	check_one(&defaults, "a.py", BYTES_LITERAL(""), "{\"language\":\"python\",\"code\":\"\"}");
}

TEST(what_is_no_text_goes_as_base64)
{
	check_one(&defaults, "a.py", BYTES_LITERAL("\xff\x00\x01"),
		"{\"language\":\"python\",\"code\":\"/wAB\",\"code_encoding\":\"base64\"}");
	check_one(&defaults, "a.py", BYTES_LITERAL("a\0b"),
		"{\"language\":\"python\",\"code\":\"YQBi\",\"code_encoding\":\"base64\"}");
}

TEST(a_language_must_be_known_or_said)
{
	struct submission_options options = defaults;
	check_one(&options, "a.what", BYTES_LITERAL("1"),
		"a.what does not tell its language by its name or its first line: say it with --language");
	options.language = "zig";
	check_one(&options, "a.what", BYTES_LITERAL("1"), "{\"language\":\"zig\",\"code\":\"1\"}");
}

TEST(a_directory)
{
	struct submission_options options = defaults;
	check_two(&options, "lib.py", "main.py",
		"{\"language\":\"python\",\"files\":[{\"path\":\"lib.py\",\"content\":\"1\"},{\"path\":\"main.py\","
		"\"content\":\"2\"}]}");
	check_two(&options, "a.py", "b.py",
		"there is no main.py in the directory: say which file to run with --entrypoint");
	check_two(&options, "a.c", "b.c",
		"{\"language\":\"c\",\"files\":[{\"path\":\"a.c\",\"content\":\"1\"},{\"path\":\"b.c\",\"content\":"
		"\"2\"}]}");
	check_two(
		&options, "a.py", "b.c", "the files do not tell which language to run them in: say it with --language");
	check_two(&options, "main.py", "main.c",
		"the files do not tell which language to run them in: say it with --language");
	options.entrypoint = "b.py";
	check_two(&options, "a.c", "b.py",
		"{\"language\":\"python\",\"files\":[{\"path\":\"a.c\",\"content\":\"1\"},{\"path\":\"b.py\","
		"\"content\":\"2\"}],"
		"\"entrypoint\":\"b.py\"}");
	check_two(&options, "a.py", "c.py", "there is no file b.py in the directory");
	check_one(
		&options, "b.py", BYTES_LITERAL("1"), "--entrypoint chooses a file of a directory; b.py is run itself");
}

TEST(all_options)
{
	const char *args[] = { "a b", "" };
	const char *env[] = { "A=1", "B=x=\"y\"" };
	struct submission_options options = {
		.language = "python",
		.memory = "64Mi",
		.cpu = "250m",
		.queue = "q",
		.executor = "sandbox",
		.image = "i",
		.eval_id = "e-1",
		.args = args,
		.arg_count = 2,
		.env = env,
		.env_count = 2,
		.timeout_s = 1.5,
		.priority = 0,
		.max_attempts = 2,
		.has_stdin = true,
		.fail_fast = true,
		.run_after = "2026-11-21T18:00:00Z",
	};
	buffer_append_string(&options.tests, "[{\"name\":\"t\"}]");
	buffer_append_string(&options.metadata, "{\"k\":1}");
	check_one(&options, "a.py", BYTES_LITERAL("1"),
		"{\"language\":\"python\",\"code\":\"1\",\"eval_id\":\"e-1\",\"memory_limit\":\"64Mi\",\"cpu_limit\":"
		"\"250m\","
		"\"queue\":\"q\",\"executor\":\"sandbox\",\"image\":\"i\",\"run_after\":\"2026-11-21T18:00:00Z\","
		"\"timeout\":1.5,"
		"\"priority\":0,\"max_attempts\":2,\"stdin\":\"\",\"args\":[\"a "
		"b\",\"\"],\"env\":{\"A\":\"1\",\"B\":\"x=\\\"y\\\"\"},"
		"\"tests\":[{\"name\":\"t\"}],\"fail_fast\":true,\"metadata\":{\"k\":1}}");
	buffer_fini(&options.tests);
	buffer_fini(&options.metadata);
}

TEST_MAIN()
