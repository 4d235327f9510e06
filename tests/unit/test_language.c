/* The language file. */
#include <errno.h>

#include "base/err.h"
#include "task/language.h"
#include "test.h"

static void refused(const char *text, const char *message)
{
	struct languages *languages = NULL;
	struct err err = { 0 };
	if (!CHECK(languages_parse(bytes_of(text), "l.yaml", &languages, &err) < 0) || !CHECK_STR(err.message, message))
		printf("# file: %s\n", text);
	languages_free(languages);
}

TEST(the_definitions_that_come_with_the_program_hold)
{
	struct languages *languages = NULL;
	struct err err = { 0 };
	if (!CHECK_INT(languages_parse(languages_builtin(), "languages.yaml", &languages, &err), 0))
		printf("# %s\n", err.message);
	REQUIRE(languages);
	static const char *const tested[] = { "python", "javascript", "bash", "c", "cpp" };
	for (size_t i = 0; i < sizeof(tested) / sizeof(tested[0]); i++) {
		const struct language *language = languages_find(languages, bytes_of(tested[i]));
		REQUIRE(language);
		CHECK_STR(language->name, tested[i]);
		CHECK(language->source && language->run && language->run[0] && language->package);
	}
	CHECK(languages_find(languages, BYTES_LITERAL("py")) == languages_find(languages, BYTES_LITERAL("python")));
	CHECK(languages_find(languages, BYTES_LITERAL("cobol-1959")) == NULL);
	CHECK(languages_find(languages, BYTES_LITERAL("")) == NULL);
	languages_free(languages);
}

TEST(every_key_is_read)
{
	static const char text[] =
		"x:\n  aliases: [x1, \"x2\"]\n  source: m.x\n  compile: [/bin/xc, -o, '{binary}', '{sources:.x}']\n"
		"  run: ['{binary}', '--file={entrypoint}']\n  env: {A: b, C: \"1=2\"}\n  package: xpkg\n  image: i:1\n"
		"y: {source: m.y, run: [/bin/y], package: p}\n";
	struct languages *languages = NULL;
	struct err err = { 0 };
	if (!CHECK_INT(languages_parse(bytes_of(text), "l.yaml", &languages, &err), 0))
		printf("# %s\n", err.message);
	REQUIRE(languages);
	CHECK_INT(languages_count(languages), 2);
	const struct language *x = languages_at(languages, 0), *y = languages_at(languages, 1);
	CHECK(languages_find(languages, BYTES_LITERAL("x2")) == x);
	CHECK_STR(x->source, "m.x");
	CHECK_STR(x->compile[3], "{sources:.x}");
	CHECK(x->compile[4] == NULL);
	CHECK_STR(x->run[1], "--file={entrypoint}");
	CHECK_STR(x->env[1], "C=1=2");
	CHECK(x->env[2] == NULL);
	CHECK_STR(x->image, "i:1");
	CHECK_STR(y->name, "y");
	CHECK(y->compile == NULL && y->env == NULL && y->image == NULL && y->aliases[0] == NULL);
	CHECK_INT(x->report, LANGUAGE_REPORT_WRAPPER);
	languages_free(languages);
}

TEST(an_image_may_run_as_it_is)
{
	static const char text[] = "a: {source: m.x, image: i, report: watch}\n"
				   "b: {source: m.x, image: i, report: publish, run: [x, '{entrypoint}']}\n"
				   "c: {source: m.x, image: i, report: wrapper, run: [x], package: p}\n";
	struct languages *languages = NULL;
	struct err err = { 0 };
	if (!CHECK_INT(languages_parse(bytes_of(text), "l.yaml", &languages, &err), 0))
		printf("# %s\n", err.message);
	REQUIRE(languages);
	const struct language *a = languages_at(languages, 0), *b = languages_at(languages, 1);
	CHECK_INT(a->report, LANGUAGE_REPORT_WATCH);
	CHECK(a->run && a->run[0] == NULL && a->package == NULL);
	CHECK_INT(b->report, LANGUAGE_REPORT_PUBLISH);
	CHECK_STR(b->run[0], "x");
	CHECK_INT(languages_at(languages, 2)->report, LANGUAGE_REPORT_WRAPPER);
	languages_free(languages);
	refused("x: {source: a, report: watch}", "l.yaml: language x: image is missing");
	refused("x: {source: a, image: i, report: watch, compile: [c]}",
		"l.yaml: language x: compile needs the wrapper: an image that runs as it is has one step");
	refused("x: {source: a, image: i, report: look}",
		"l.yaml: language x: report must be wrapper, watch or publish");
	refused("x: {source: a, image: i, report: wrapper}", "l.yaml: language x: run is missing");
}

TEST(faults_name_file_and_place)
{
	refused("", "l.yaml: must map names of languages to their definitions");
	refused("[a]", "l.yaml: must map names of languages to their definitions");
	refused("x:\n  source: [", "l.yaml: line 3: did not find expected node content, while parsing a flow node");
	refused("x:\n  source: a\n  run: [b]\n", "l.yaml: language x: package is missing");
	refused("x:\n  source: a\n  colour: b\n", "l.yaml: language x: unknown key \"colour\"");
	refused("x:\n  source: a\n  source: b\n", "l.yaml: line 3: a key that the mapping has already");
	refused("x: {source: a/b, run: [c], package: p}",
		"l.yaml: language x: source must be the name of a file, without directories");
	refused("x: {source: a, run: c, package: p}", "l.yaml: language x: run must be a list of strings");
	refused("x: {source: a, run: [], package: p}", "l.yaml: language x: run must have 1 to 256 strings");
	refused("x: {source: a, run: [''], package: p}",
		"l.yaml: language x: run must be a string that is not empty (quote what looks like a number)");
	refused("x: {source: a, run: ['{binary}'], package: p}",
		"l.yaml: language x: {binary} without a compile command");
	refused("x: {source: a, run: ['{file}'], package: p}",
		"l.yaml: language x: \"{file}\" has an unknown word in braces");
	refused("x: {source: a, run: ['{sources:.c}x'], package: p}",
		"l.yaml: language x: \"{sources:.c}x\" must be like {sources:.c}, a word of its own");
	refused("x: {source: a, run: [b], package: p, env: [A=1]}", "l.yaml: language x: env must map names to values");
	refused("x: {source: a, run: [b], package: p}\ny: {source: a, run: [b], package: p, aliases: [x]}",
		"l.yaml: language y: the name x is taken already");
	refused("X: {source: a, run: [b], package: p}",
		"l.yaml: language X: a name has 1 to 64 visible ASCII characters, no capital letters");
	refused("x: 1", "l.yaml: language x: must map keys to values");
	refused("\"a\\0b\": 1", "l.yaml: a language's name is too long, or has a zero byte");
	refused("x: &x {source: a, run: [b], package: p}", "l.yaml: line 1: anchors are not taken");
}

TEST_MAIN()
