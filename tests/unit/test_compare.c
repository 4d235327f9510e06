/* Comparison of outputs. */
#include <errno.h>

#include "base/text.h"
#include "task/compare.h"
#include "test.h"

static struct comparison last;

static bool matches(enum test_compare how, struct bytes expected, struct bytes actual)
{
	compare_output(how, expected, actual, &last);
	CHECK(last.diff_len <= COMPARE_DIFF_MAX);
	CHECK(strlen(last.diff) == last.diff_len);
	CHECK(utf8_valid((struct bytes){ last.diff, last.diff_len }));
	CHECK(last.match == (last.diff_len == 0));
	return last.match;
}

#define MATCHES(how, expected, actual) matches(how, BYTES_LITERAL(expected), BYTES_LITERAL(actual))

TEST(exact_means_every_byte)
{
	CHECK(MATCHES(COMPARE_EXACT, "a\0b\n", "a\0b\n"));
	CHECK(!MATCHES(COMPARE_EXACT, "a\n", "a"));
	CHECK_STR(last.diff, "first difference at line 1, column 2\n"
			     "  - 1 | a\\n\n"
			     "  + 1 | a(no line end)\n");
	CHECK(!MATCHES(COMPARE_EXACT, "", "x"));
	CHECK(matches(COMPARE_EXACT, BYTES_NONE, BYTES_LITERAL("")));
}

TEST(trimmed_forgives_white_space_at_ends)
{
	CHECK(MATCHES(COMPARE_TRIMMED, "1 2\n3\n", "1 2  \r\n3\t\n\n \n"));
	CHECK(MATCHES(COMPARE_TRIMMED, "", "\n\n"));
	CHECK(MATCHES(COMPARE_TRIMMED, "a\n\nb", "a\n \nb\n"));
	CHECK(!MATCHES(COMPARE_TRIMMED, "a b", " a b"));
	CHECK(!MATCHES(COMPARE_TRIMMED, "a\nb", "a\n\nb"));
	CHECK(!MATCHES(COMPARE_TRIMMED, "a b", "a  b"));
}

TEST(a_diff_shows_the_lines_around)
{
	CHECK(!MATCHES(COMPARE_TRIMMED, "one\ntwo\nthree\nfour\n", "one\ntwo\nthree\nfive\n"));
	CHECK_STR(last.diff, "first difference at line 4, column 2\n"
			     "    2 | two\n"
			     "    3 | three\n"
			     "  - 4 | four\n"
			     "  + 4 | five\n");
	CHECK(!MATCHES(COMPARE_TRIMMED, "one\ntwo\n", "one\n"));
	CHECK_STR(last.diff, "first difference at line 2, column 1\n"
			     "    1 | one\n"
			     "  - 2 | two\n"
			     "  + 2 | (nothing: the text ends here)\n");
	CHECK(!MATCHES(COMPARE_TRIMMED, "one", "one\ntwo"));
	CHECK_STR(last.diff, "first difference at line 2, column 1\n"
			     "    1 | one\n"
			     "  - 2 | (nothing: the text ends here)\n"
			     "  + 2 | two\n");
	CHECK(!MATCHES(COMPARE_TRIMMED, "x", ""));
}

TEST(a_diff_is_bounded_and_text)
{
	static char expected[100000], actual[100000];
	memset(expected, '\xff', sizeof(expected));
	memcpy(actual, expected, sizeof(actual));
	actual[70000] = 0x1b;
	struct bytes a = { expected, sizeof(expected) }, b = { actual, sizeof(actual) };
	CHECK(!matches(COMPARE_EXACT, a, b));
	CHECK(strstr(last.diff, "\\x1b"));
	CHECK(strstr(last.diff, "column 70001"));
	memset(expected, '\x01', sizeof(expected));
	CHECK(!matches(COMPARE_NUMERIC, a, b));
	for (size_t i = 0; i + 1 < sizeof(expected); i += 2)
		memcpy(expected + i, "\xc3\xa9", 2);
	memcpy(actual, expected, sizeof(actual));
	memcpy(actual + 50000, "\xc3\xa8", 2);
	CHECK(!matches(COMPARE_TRIMMED, a, b));
	CHECK(!strstr(last.diff, "\xef\xbf\xbd"));
	CHECK(!matches(COMPARE_REGEX, BYTES_LITERAL("^x"), b));
}

TEST(numbers_are_equal_within_a_millionth)
{
	CHECK(MATCHES(COMPARE_NUMERIC, "1.0 2e3", "1 2000.0000001\n"));
	CHECK(MATCHES(COMPARE_NUMERIC, "0", "0.0000009"));
	CHECK(MATCHES(COMPARE_NUMERIC, "1e20", "100000000000000000001"));
	CHECK(MATCHES(COMPARE_NUMERIC, "x = 3", "x = 3.0"));
	CHECK(MATCHES(COMPARE_NUMERIC, "nan 1e999", "nan 1e999"));
	CHECK(!MATCHES(COMPARE_NUMERIC, "1", "1.00001"));
	CHECK(!MATCHES(COMPARE_NUMERIC, "1e999", "2e999"));
	CHECK(!MATCHES(COMPARE_NUMERIC, "16", "0x10"));
	CHECK(!MATCHES(COMPARE_NUMERIC, "1", "nan"));
	CHECK(!MATCHES(COMPARE_NUMERIC, "1 2", "1\n3"));
	CHECK_STR(last.diff, "first difference at token 2 (line 2 of the output): expected \"2\", got \"3\"\n");
	CHECK(!MATCHES(COMPARE_NUMERIC, "1 2", "1"));
	CHECK_STR(last.diff, "first difference at token 2 (line 1 of the output): expected \"2\", got nothing more\n");
	CHECK(!MATCHES(COMPARE_NUMERIC, "1", "1 2"));
}

TEST(a_pattern_is_searched_for)
{
	CHECK(MATCHES(COMPARE_REGEX, "wor.d", "hello world\n"));
	CHECK(MATCHES(COMPARE_REGEX, "^\\d+$", "123\n"));
	CHECK(MATCHES(COMPARE_REGEX, "^\\x{e9}.$", "\xc3\xa9\xc3\xa8"));
	CHECK(MATCHES(COMPARE_REGEX, "b",
		"\xff\xfe"
		"b"));
	CHECK(!MATCHES(COMPARE_REGEX, "^\\d+$", "12a"));
	CHECK(!MATCHES(COMPARE_REGEX, "x", ""));
	CHECK(MATCHES(COMPARE_REGEX, "", ""));
}

TEST(bad_patterns_are_refused)
{
	struct err err = { 0 };
	char longest[COMPARE_PATTERN_MAX + 1];
	memset(longest, 'a', sizeof(longest));
	CHECK_INT(compare_check_pattern((struct bytes){ longest, COMPARE_PATTERN_MAX }, &err), 0);
	CHECK_INT(compare_check_pattern((struct bytes){ longest, COMPARE_PATTERN_MAX + 1 }, &err), -EINVAL);
	CHECK_INT(compare_check_pattern(BYTES_LITERAL("(a"), &err), -EINVAL);
	CHECK(strstr(err.message, "at byte 2"));
	CHECK_INT(compare_check_pattern(BYTES_LITERAL("\\C"), &err), -EINVAL);
	CHECK_INT(compare_check_pattern(BYTES_LITERAL("\xff"), &err), -EINVAL);
	CHECK_INT(compare_check_pattern(BYTES_LITERAL("((((a{1,999}){1,999}){1,999}){1,999})"), &err), -EINVAL);
}

TEST(costly_patterns_come_to_an_end)
{
	static char text[1 << 20];
	struct bytes actual = { text, sizeof(text) };
	memset(text, 'a', sizeof(text));
	static const char *const costly[] = {
		"(a*)*b",
		"(a+)+$b",
		"a*a*a*a*b",
		"(?:a|aa)+$(?=b)",
		"(.*)\\1\\1b",
		"(?=(a+))a*b\\1",
		"(?R)?b|a(?R)",
		"[^b]*[^c]*b",
	};
	for (size_t i = 0; i < sizeof(costly) / sizeof(costly[0]); i++)
		CHECK(!matches(COMPARE_REGEX, bytes_of(costly[i]), actual));
	memset(text, 'x', sizeof(text) - 1);
	CHECK(matches(COMPARE_REGEX, BYTES_LITERAL("^x*a$"), actual));
	CHECK(matches(COMPARE_REGEX, BYTES_LITERAL("(?s)^.*a$"), actual));
	CHECK(matches(COMPARE_REGEX, BYTES_LITERAL("^(x|y)+a$"), actual) || strstr(last.diff, "limit"));
}

TEST_MAIN()
