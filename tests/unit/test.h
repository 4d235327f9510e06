/* Unit tests that speak TAP (https://testanything.org/tap-version-13-specification.html).
 *
 *	TEST(empty_text_is_refused)
 *	{
 *		CHECK_INT(parse(BYTES_NONE), -EINVAL);
 *	}
 *	TEST_MAIN()
 *
 * Every TEST of the file runs, in the order of the file; TEST_MAIN may list names for the reader's sake. With
 * arguments the program runs only the tests of those names. A CHECK that fails prints both sides, and the test
 * goes on; REQUIRE ends the program, for what the rest of a test cannot do without. */
#ifndef ASSAY_TESTS_UNIT_TEST_H
#define ASSAY_TESTS_UNIT_TEST_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define TEST_MOST 256

struct test_case {
	const char *name;
	void (*run)(void);
};

static struct test_case test_cases[TEST_MOST];
static int test_count;
static int test_failures; /* checks of the current test, raised from any thread */

static inline void test_register(const char *name, void (*run)(void))
{
	if (test_count == TEST_MOST) {
		printf("Bail out! more than %d tests\n", TEST_MOST);
		exit(1);
	}
	test_cases[test_count++] = (struct test_case){ name, run };
}

#define TEST(name) \
	static void test_##name(void); \
	static void __attribute__((constructor)) test_register_##name(void) \
	{ \
		test_register(#name, test_##name); \
	} \
	static void test_##name(void)

static inline bool test_failed_at(const char *file, int line, const char *what)
{
	__atomic_add_fetch(&test_failures, 1, __ATOMIC_RELAXED);
	printf("# %s:%d: %s\n", file, line, what);
	return false;
}

static inline bool test_true(const char *file, int line, const char *what, bool condition)
{
	return condition || test_failed_at(file, line, what);
}

static inline bool test_int(const char *file, int line, const char *what, intmax_t a, intmax_t b)
{
	if (a == b)
		return true;
	test_failed_at(file, line, what);
	printf("#   left  %jd\n#   right %jd\n", a, b);
	return false;
}

/* A value with what is not printable escaped, on one line. */
static inline void test_show(const char *label, struct bytes value)
{
	if (!value.data) {
		printf("#   %s absent\n", label);
		return;
	}
	printf("#   %s (%zu) \"", label, value.len);
	for (size_t i = 0; i < value.len && i < 1000; i++) {
		unsigned char c = (unsigned char)value.data[i];
		if (c >= ' ' && c < 0x7f && c != '"' && c != '\\')
			putchar(c);
		else
			printf("\\x%02x", c);
	}
	printf("\"%s\n", value.len > 1000 ? " and more" : "");
}

static inline bool test_bytes(const char *file, int line, const char *what, struct bytes a, struct bytes b)
{
	if (!a.data == !b.data && bytes_equal(a, b))
		return true;
	test_failed_at(file, line, what);
	test_show("left ", a);
	test_show("right", b);
	return false;
}

static inline struct bytes test_same(struct bytes bytes)
{
	return bytes;
}

#define TEST_BYTES_OF(x) _Generic((x), struct bytes: test_same, char *: bytes_of, const char *: bytes_of)(x)

/* Each gives true when it held. */
#define CHECK(condition) test_true(__FILE__, __LINE__, "CHECK(" #condition ")", (condition))
#define CHECK_INT(a, b) test_int(__FILE__, __LINE__, "CHECK_INT(" #a ", " #b ")", (a), (b))
/* Strings; NULL equals NULL only. */
#define CHECK_STR(a, b) test_bytes(__FILE__, __LINE__, "CHECK_STR(" #a ", " #b ")", bytes_of(a), bytes_of(b))
/* Either side may be a struct bytes or a string; absent equals absent only. */
#define CHECK_BYTES(a, b) \
	test_bytes(__FILE__, __LINE__, "CHECK_BYTES(" #a ", " #b ")", TEST_BYTES_OF(a), TEST_BYTES_OF(b))
#define REQUIRE(condition) \
	do { \
		if (!(condition)) { \
			test_failed_at(__FILE__, __LINE__, "REQUIRE(" #condition ")"); \
			printf("Bail out! %s:%d: %s\n", __FILE__, __LINE__, #condition); \
			exit(1); \
		} \
	} while (0)

static inline bool test_selected(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 1;
}

static inline int test_main(int argc, char **argv)
{
	int planned = 0, number = 0, failed = 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < test_count; i++)
		planned += test_selected(test_cases[i].name, argc, argv);
	printf("1..%d\n", planned);
	for (int i = 0; i < test_count; i++) {
		if (!test_selected(test_cases[i].name, argc, argv))
			continue;
		test_failures = 0;
		test_cases[i].run();
		failed += test_failures > 0;
		printf("%s %d - %s\n", test_failures > 0 ? "not ok" : "ok", ++number, test_cases[i].name);
	}
	return failed > 0;
}

#define TEST_MAIN(...) \
	int main(int argc, char **argv) \
	{ \
		return test_main(argc, argv); \
	}

#endif
