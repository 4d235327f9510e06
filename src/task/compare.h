/* Compares what a test printed with what it was to print. Pure functions without shared state: any thread may call
 * them.
 *
 *   trimmed  line by line; white space at the end of each line (blank, tab, CR, VT, FF) and blank lines at the end of the
 *            text do not count
 *   exact    byte by byte
 *   numeric  by tokens, which white space separates: two decimal numbers are equal within 1e-6, absolute or relative to
 *            what was expected; other tokens byte by byte
 *   regex    PCRE2 finds the pattern somewhere in the output (anchor it with ^ and $ for all of it). UTF-8; ill-formed
 *            parts of the output match nothing. Work is bounded: a pattern that needs more does not match, and the
 *            diff says so */
#ifndef ASSAY_TASK_COMPARE_H
#define ASSAY_TASK_COMPARE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"
#include "task/evaluation.h"

#define COMPARE_PATTERN_MAX 1024 /* bytes */
#define COMPARE_DIFF_MAX 1024 /* bytes */

struct comparison {
	bool match;
	/* Without a match: where the first difference is, and the lines around it. Well-formed UTF-8, terminated; bytes
	 * that are no text are replaced, control characters are shown as escapes. */
	char diff[COMPARE_DIFF_MAX + 1];
	size_t diff_len;
};

void compare_output(
	enum test_compare how, struct bytes expected, struct bytes actual, struct comparison *ret_comparison);

/* Whether `pattern` may be what a test with COMPARE_REGEX expects; -EINVAL with the place and the cause. */
int compare_check_pattern(struct bytes pattern, struct err *err) MUST_CHECK;

const char *test_compare_name(enum test_compare how); /* "trimmed" */
bool test_compare_parse(struct bytes name, enum test_compare *ret_how);

#endif
