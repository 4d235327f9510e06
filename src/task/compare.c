/* Comparison of outputs: see compare.h. Texts are walked in place, whatever their size; only PCRE2 allocates. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "task/compare.h"

#include <errno.h>
#include <math.h>
#include <pcre2.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "task/compare_diff.h"

#define TOLERANCE 1e-6
#define NUMBER_MAX 127 /* characters; a longer token is compared as text */
#define TOKEN_SHOWN 120

/* What one search may cost. The match limit alone would not do: it counts anew at every place where a match might
 * begin. */
#define MATCH_LIMIT 10000000
#define DEPTH_LIMIT 1000000
#define HEAP_LIMIT_KIB (64 * 1024)
#define STEPS_MAX INT64_C(64000000) /* see count_steps() */
#define SEARCH_MAX_US (5 * US_PER_S)
#define STEPS_PER_CLOCK 65536

static const char *const names[] = {
	[COMPARE_TRIMMED] = "trimmed",
	[COMPARE_EXACT] = "exact",
	[COMPARE_NUMERIC] = "numeric",
	[COMPARE_REGEX] = "regex",
};

const char *test_compare_name(enum test_compare how)
{
	return names[how];
}

bool test_compare_parse(struct bytes name, enum test_compare *ret_how)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (bytes_is(name, names[i])) {
			*ret_how = (enum test_compare)i;
			return true;
		}
	}
	return false;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* ---- exact ---- */

static void compare_exact(struct bytes expected, struct bytes actual, struct comparison *comparison)
{
	size_t shorter = expected.len < actual.len ? expected.len : actual.len;
	size_t at = 0;
	comparison->match = bytes_equal(expected, actual);
	if (comparison->match)
		return;
	while (at < shorter && expected.data[at] == actual.data[at])
		at++;
	diff_lines(comparison, expected, at, actual, at);
}

/* ---- trimmed ---- */

static size_t trimmed_length(struct bytes text)
{
	while (text.len > 0 && is_space(text.data[text.len - 1]))
		text.len--;
	return text.len;
}

static void compare_trimmed(struct bytes expected, struct bytes actual, struct comparison *comparison)
{
	/* Trailing blank lines, with the white space of the last line. */
	expected.len = trimmed_length(expected);
	actual.len = trimmed_length(actual);
	size_t expected_from = 0, actual_from = 0;
	while (expected_from < expected.len && actual_from < actual.len) {
		struct bytes expected_line = diff_line_at(expected, expected_from);
		struct bytes actual_line = diff_line_at(actual, actual_from);
		size_t expected_end = trimmed_length(expected_line);
		size_t actual_end = trimmed_length(actual_line);
		size_t at = 0;
		while (at < expected_end && at < actual_end && expected_line.data[at] == actual_line.data[at])
			at++;
		if (at < expected_end || at < actual_end) {
			diff_lines(comparison, expected, expected_from + at, actual, actual_from + at);
			return;
		}
		expected_from += expected_line.len + 1;
		actual_from += actual_line.len + 1;
	}
	comparison->match = expected_from >= expected.len && actual_from >= actual.len;
	if (comparison->match)
		return;
	/* One has lines left; the other's position is one behind its end (or at it, when it is empty). */
	diff_lines(comparison, expected, expected_from, actual, actual_from);
}

/* ---- numeric ---- */

static bool next_token(struct bytes text, size_t *at, struct bytes *ret_token)
{
	size_t i = *at;
	while (i < text.len && is_space(text.data[i]))
		i++;
	size_t start = i;
	while (i < text.len && !is_space(text.data[i]))
		i++;
	*ret_token = (struct bytes){ text.data + start, i - start };
	*at = i;
	return i > start;
}

/* A decimal number, all of the token: no hexadecimal, no `inf` or `nan`, which strtod(3) would take. */
static bool parse_number(struct bytes token, double *ret_number)
{
	char text[NUMBER_MAX + 1];
	if (token.len == 0 || token.len > NUMBER_MAX)
		return false;
	for (size_t i = 0; i < token.len; i++) {
		char c = token.data[i];
		if (!((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E'))
			return false;
	}
	memcpy(text, token.data, token.len);
	text[token.len] = '\0';
	char *end;
	*ret_number = strtod(text, &end);
	return end == text + token.len;
}

static bool tokens_equal(struct bytes expected, struct bytes actual)
{
	double a, b;
	if (bytes_equal(expected, actual))
		return true;
	if (!parse_number(expected, &a) || !parse_number(actual, &b) || !isfinite(a) || !isfinite(b))
		return false;
	double distance = fabs(a - b);
	return distance <= TOLERANCE || distance <= TOLERANCE * fabs(a);
}

static void show_token(struct comparison *comparison, struct bytes token)
{
	if (token.len == 0) {
		diff_printf(comparison, "nothing more");
		return;
	}
	diff_printf(comparison, "\"");
	diff_text(comparison, token, TOKEN_SHOWN);
	diff_printf(comparison, "\"");
}

static void compare_numeric(struct bytes expected, struct bytes actual, struct comparison *comparison)
{
	size_t expected_at = 0, actual_at = 0;
	struct bytes a, b;
	for (size_t number = 1;; number++) {
		bool has_a = next_token(expected, &expected_at, &a);
		bool has_b = next_token(actual, &actual_at, &b);
		if (!has_a && !has_b) {
			comparison->match = true;
			return;
		}
		if (has_a && has_b && tokens_equal(a, b))
			continue;
		size_t line = diff_line_number(actual, (size_t)(b.data - actual.data));
		diff_printf(
			comparison, "first difference at token %zu (line %zu of the output): expected ", number, line);
		show_token(comparison, a);
		diff_printf(comparison, ", got ");
		show_token(comparison, b);
		diff_printf(comparison, "\n");
		return;
	}
}

/* ---- regex ---- */

static pcre2_code *compile(struct bytes pattern, uint32_t options, int *ret_code, size_t *ret_at)
{
	return pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len,
		PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C | options, ret_code, ret_at, NULL);
}

int compare_check_pattern(struct bytes pattern, struct err *err)
{
	int code;
	size_t at;
	if (pattern.len > COMPARE_PATTERN_MAX)
		return err_set(err, -EINVAL, "a regular expression has at most %d bytes, this one %zu",
			COMPARE_PATTERN_MAX, pattern.len);
	pcre2_code *compiled = compile(pattern, 0, &code, &at);
	if (!compiled) {
		char message[160] = "";
		pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof(message));
		return err_set(err, -EINVAL, "not a regular expression, at byte %zu: %s", at, message);
	}
	pcre2_code_free(compiled);
	return 0;
}

struct search {
	int64_t steps;
	int64_t next_clock; /* value of steps at which to look at the clock */
	int64_t deadline_us; /* monotonic */
	size_t position;
};

/* PCRE2 calls this before each item of the pattern. A step is a call or a byte walked over since the last one: a
 * measure of work that is the same on every machine. The clock is the net under what moves nothing and yet takes time
 * (long back references). */
static int count_steps(pcre2_callout_block *block, void *data)
{
	struct search *search = data;
	size_t position = block->current_position;
	search->steps +=
		1 + (int64_t)(position > search->position ? position - search->position : search->position - position);
	search->position = position;
	if (search->steps > STEPS_MAX)
		return PCRE2_ERROR_MATCHLIMIT;
	if (search->steps >= search->next_clock) {
		search->next_clock = search->steps + STEPS_PER_CLOCK;
		if (clock_monotonic_us() > search->deadline_us)
			return PCRE2_ERROR_MATCHLIMIT;
	}
	return 0;
}

static void compare_regex(struct bytes pattern, struct bytes actual, struct comparison *comparison)
{
	int code = PCRE2_ERROR_NOMEMORY;
	size_t at;
	struct search search = { .deadline_us = clock_monotonic_us() + SEARCH_MAX_US };
	pcre2_code *compiled = compile(pattern, PCRE2_AUTO_CALLOUT, &code, &at);
	pcre2_match_data *match = compiled ? pcre2_match_data_create(1, NULL) : NULL;
	pcre2_match_context *context = match ? pcre2_match_context_create(NULL) : NULL;
	if (context) {
		pcre2_set_match_limit(context, MATCH_LIMIT);
		pcre2_set_depth_limit(context, DEPTH_LIMIT);
		pcre2_set_heap_limit(context, HEAP_LIMIT_KIB);
		pcre2_set_callout(context, count_steps, &search);
		code = pcre2_match(compiled, (PCRE2_SPTR)actual.data, actual.len, 0, 0, match, context);
	}
	pcre2_match_context_free(context);
	pcre2_match_data_free(match);
	pcre2_code_free(compiled);
	comparison->match = code >= 0;
	if (comparison->match)
		return;
	if (code == PCRE2_ERROR_NOMATCH) {
		diff_printf(comparison, "the pattern is not found in the output: ");
		show_token(comparison, actual);
	} else {
		char message[120] = "";
		pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof(message));
		diff_printf(comparison, "the pattern could not be matched within its limits: %s", message);
	}
	diff_printf(comparison, "\n");
}

void compare_output(
	enum test_compare how, struct bytes expected, struct bytes actual, struct comparison *ret_comparison)
{
	ret_comparison->match = false;
	ret_comparison->diff[0] = '\0';
	ret_comparison->diff_len = 0;
	/* Absent is empty here, and every pointer below may be walked from. */
	if (!expected.data)
		expected.data = "";
	if (!actual.data)
		actual.data = "";
	switch (how) {
	case COMPARE_EXACT:
		compare_exact(expected, actual, ret_comparison);
		break;
	case COMPARE_TRIMMED:
		compare_trimmed(expected, actual, ret_comparison);
		break;
	case COMPARE_NUMERIC:
		compare_numeric(expected, actual, ret_comparison);
		break;
	case COMPARE_REGEX:
		compare_regex(expected, actual, ret_comparison);
		break;
	}
}
