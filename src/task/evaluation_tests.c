/* The tests of an evaluation, read from the body. A test has from the evaluation what it does not say itself, by
 * pointing to the very same memory: evaluation_write() tells the two apart by that. */
#include "task/compare.h"
#include "task/evaluation_reader.h"

#define TESTS_MAX 1000
#define POINTS_MAX 1e9

enum {
	T_NAME,
	T_STDIN,
	T_STDIN_ENCODING,
	T_ARGS,
	T_FILES,
	T_EXPECTED,
	T_EXPECTED_ENCODING,
	T_COMPARE,
	T_POINTS,
	T_TIMEOUT,
	T_HIDDEN,
	T_END,
};

static const struct bytes test_names[T_END] = {
	[T_NAME] = NAME("name"),
	[T_STDIN] = NAME("stdin"),
	[T_STDIN_ENCODING] = NAME("stdin_encoding"),
	[T_ARGS] = NAME("args"),
	[T_FILES] = NAME("files"),
	[T_EXPECTED] = NAME("expected"),
	[T_EXPECTED_ENCODING] = NAME("expected_encoding"),
	[T_COMPARE] = NAME("compare"),
	[T_POINTS] = NAME("points"),
	[T_TIMEOUT] = NAME("timeout"),
	[T_HIDDEN] = NAME("hidden"),
};

static bool read_compare(struct reader *reader, const struct path *path, yyjson_val *value, enum test_compare *ret)
{
	if (yyjson_is_str(value) &&
		test_compare_parse((struct bytes){ yyjson_get_str(value), yyjson_get_len(value) }, ret))
		return true;
	reader_fail(reader, path, "must be \"trimmed\", \"exact\", \"numeric\" or \"regex\"");
	return false;
}

/* Files laid over those of the evaluation may replace them, but not turn a file into a directory or back. */
static bool check_overlay(struct reader *reader, const struct path *path, const struct job_run *run,
	const struct bytes *base, size_t base_count)
{
	for (size_t i = 0; i < run->file_count; i++) {
		struct bytes file = run->files[i].path;
		if (path_clashes(base, base_count, file)) {
			int shown = (int)(file.len < 100 ? file.len : 100);
			reader_fail(reader, path,
				"\"%.*s\" makes a file of the evaluation a directory, or a directory a file", shown,
				file.data);
			return false;
		}
	}
	return true;
}

static bool read_test(struct reader *reader, const struct path *path, yyjson_val *value,
	const struct evaluation *evaluation, const struct bytes *base, size_t base_count,
	struct evaluation_test *ret_test)
{
	yyjson_val *values[T_END] = { 0 };
	struct path at[T_END];
	bool good = read_object(reader, path, value, test_names, T_END, values);
	for (size_t i = 0; i < T_END; i++)
		at[i] = PATH_NAME(path, test_names[i]);
	if (!yyjson_is_obj(value))
		return false;

	struct evaluation_test test = {
		.run = { .stdin_data = evaluation->stdin_data,
			.args = evaluation->args,
			.arg_count = evaluation->arg_count,
			.timeout_us = evaluation->timeout_us },
		.compare = COMPARE_TRIMMED,
		.points = 1,
	};
	if (!values[T_NAME])
		test.name = bytes_of(arena_printf(reader->arena, "test %zu", path->index + 1));
	else
		good &= read_key(reader, &at[T_NAME], values[T_NAME], &test.name);
	if (values[T_STDIN] || values[T_STDIN_ENCODING])
		good &= read_content(reader, &at[T_STDIN], values[T_STDIN], &at[T_STDIN_ENCODING],
			values[T_STDIN_ENCODING], &test.run.stdin_data);
	if (values[T_ARGS])
		good &= read_args(reader, &at[T_ARGS], values[T_ARGS], &test.run.args, &test.run.arg_count);
	if (values[T_FILES]) {
		const struct bytes *sorted;
		good &= read_files(reader, &at[T_FILES], values[T_FILES], 0, &test.run.files, &test.run.file_count,
				&sorted) &&
			check_overlay(reader, &at[T_FILES], &test.run, base, base_count);
	}
	if (values[T_EXPECTED] || values[T_EXPECTED_ENCODING])
		good &= read_content(reader, &at[T_EXPECTED], values[T_EXPECTED], &at[T_EXPECTED_ENCODING],
			values[T_EXPECTED_ENCODING], &test.expected);
	if (values[T_COMPARE])
		good &= read_compare(reader, &at[T_COMPARE], values[T_COMPARE], &test.compare);
	if (test.compare == COMPARE_REGEX && test.expected.data) {
		struct err err = { 0 };
		if (compare_check_pattern(test.expected, &err) < 0) {
			reader_fail(reader, &at[T_EXPECTED], "%s", err.message);
			good = false;
		}
	}
	if (values[T_POINTS]) {
		test.points = yyjson_get_num(values[T_POINTS]);
		if (!yyjson_is_num(values[T_POINTS]) || !(test.points >= 0 && test.points <= POINTS_MAX)) {
			reader_fail(reader, &at[T_POINTS], "must be a number from 0 to %.0f", POINTS_MAX);
			good = false;
		}
	}
	if (values[T_TIMEOUT])
		good &= read_duration(reader, &at[T_TIMEOUT], values[T_TIMEOUT], reader->limits->timeout_max_us,
			&test.run.timeout_us);
	if (values[T_HIDDEN])
		good &= read_bool(reader, &at[T_HIDDEN], values[T_HIDDEN], &test.hidden);
	*ret_test = test;
	return good;
}

bool read_tests(struct reader *reader, const struct path *path, yyjson_val *value, struct evaluation *evaluation,
	const struct bytes *base, size_t base_count)
{
	if (!read_array(reader, path, value, 1, TESTS_MAX))
		return false;
	struct evaluation_test *tests = arena_array(reader->arena, yyjson_arr_size(value), sizeof(*tests));
	size_t i, count;
	yyjson_val *element;
	bool good = true;
	yyjson_arr_foreach(value, i, count, element)
	{
		struct path here = PATH_INDEX(path, i);
		good &= read_test(reader, &here, element, evaluation, base, base_count, &tests[i]);
	}
	evaluation->tests = tests;
	evaluation->test_count = count;
	return good;
}
