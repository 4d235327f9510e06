#include "cli/detect.h"

#include "base/alloc.h"
#include "test.h"

static struct languages *builtin(void)
{
	struct languages *languages = NULL;
	struct err err;
	REQUIRE(languages_parse(languages_builtin(), "languages.yaml", &languages, &err) == 0);
	return languages;
}

TEST(by_extension)
{
	static const struct {
		const char *path, *name;
	} cases[] = {
		{ "a.py", "python" },
		{ "dir.c/a.py", "python" },
		{ "/x/y/main.js", "javascript" },
		{ "a.mjs", "javascript" },
		{ "a.sh", "bash" },
		{ "a.c", "c" },
		{ "a.cpp", "cpp" },
		{ "a.cc", "cpp" },
		{ "a.tar.py", "python" },
		{ "a", NULL },
		{ ".py", NULL },
		{ "a.", NULL },
		{ "a.py/b", NULL },
		{ "a.xyz", NULL },
		{ "", NULL },
	};
	struct languages *languages = builtin();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct language *language = language_of_path(languages, cases[i].path);
		CHECK_STR(language ? language->name : NULL, cases[i].name);
	}
	languages_free(languages);
}

TEST(by_first_line)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{ "#!/usr/bin/python3\nprint(1)\n", "python" },
		{ "#!/usr/bin/env python3\n", "python" },
		{ "#!/usr/bin/env -S python3 -u\n", "python" },
		{ "#! /bin/bash", "bash" },
		{ "#!/usr/bin/python3.11\r\n", "python" },
		{ "#!/usr/bin/env", NULL },
		{ "#!\n", NULL },
		{ "#!", NULL },
		{ "", NULL },
		{ "print(1)", NULL },
		{ "#!/opt/what/ever\n", NULL },
	};
	struct languages *languages = builtin();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct language *language = language_of_first_line(languages, bytes_of(cases[i].text));
		CHECK_STR(language ? language->name : NULL, cases[i].name);
	}
	languages_free(languages);
}

TEST_MAIN()
