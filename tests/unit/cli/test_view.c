#include "cli/view.h"

#include "test.h"

static void check(void (*view)(struct buffer *to, bool colour, yyjson_val *value), bool colour, const char *json,
	const char *expected)
{
	struct buffer text = { 0 };
	yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
	REQUIRE(doc);
	view(&text, colour, yyjson_doc_get_root(doc));
	buffer_append_string(&text, "");
	if (!CHECK(bytes_equal(buffer_bytes(&text), bytes_of(expected))))
		printf("# %.*s\n", (int)text.len, text.data);
	buffer_fini(&text);
	yyjson_doc_free(doc);
}

TEST(ends)
{
	check(view_end, false,
		"{\"status\":\"succeeded\",\"phase\":\"succeeded\",\"reason\":null,\"exit_code\":0,\"signal\":null,"
		"\"duration_seconds\":0.42,\"usage\":{\"wall_seconds\":0.4,\"cpu_seconds\":0.03,\"memory_bytes\":"
		"9542041}}",
		"✓ succeeded in 420 ms (cpu 30 ms, memory 9.1 MiB)");
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"failed\",\"reason\":\"exit_code\",\"exit_code\":3,\"duration_"
		"seconds\":2,\"usage\":null}",
		"✗ failed: exit_code 3 in 2.0 s");
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"failed\",\"reason\":\"signal\",\"exit_code\":null,\"signal\":11}",
		"✗ failed: signal 11 (SIGSEGV)");
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"failed\",\"reason\":\"max_attempts\",\"cause\":\"node_lost\","
		"\"error\":\"gone\"}",
		"✗ failed: max_attempts after node_lost\n  gone");
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"failed\",\"reason\":\"tests_failed\",\"exit_code\":0,"
		"\"score\":{\"points\":1,\"max_points\":2.5,\"passed\":1,\"total\":2}}",
		"✗ failed: tests_failed, 1 of 2.5 points, 1 of 2 tests");
	check(view_end, false, "{\"status\":\"running\",\"phase\":\"queued\"}", "… queued");
	check(view_end, true, "{\"status\":\"succeeded\",\"phase\":\"succeeded\"}", "\x1b[32m✓\x1b[0m succeeded");
}

TEST(text_of_the_service_is_made_safe)
{
	check(view_end, false, "{\"status\":\"failed\",\"phase\":\"fa\\u001b[31miled\",\"error\":\"a\\nb\\u202e\"}",
		"✗ fa\\x1b[31miled\n  a\\nb\\u202e");
}

TEST(a_status)
{
	check(view_status, false,
		"{\"job_name\":\"eval-x\",\"eval_id\":\"mine\",\"task_id\":\"id\",\"status\":\"failed\",\"phase\":"
		"\"timed_out\","
		"\"reason\":\"timeout\",\"fault\":\"user\",\"attempt\":2,\"attempts\":1,\"queued_at\":\"2026-11-21T13:"
		"20:00.123Z\","
		"\"started_at\":null,\"executor\":\"sandbox\"}",
		"eval-x  ✗ timed_out\n"
		"  reason    timeout\n"
		"  fault     user\n"
		"  task      id\n"
		"  eval_id   mine\n"
		"  attempt   2 (1 failed by no fault of the code)\n"
		"  queued    2026-11-21T13:20:00.123Z\n"
		"  executor  sandbox\n");
}

TEST(limits_are_named_once)
{
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"timed_out\",\"reason\":\"timeout\",\"exit_code\":null,\"signal\":9,"
		"\"duration_seconds\":1.04}",
		"✗ timed_out in 1.0 s");
	check(view_end, false,
		"{\"status\":\"failed\",\"phase\":\"out_of_memory\",\"reason\":\"out_of_memory\",\"signal\":9}",
		"✗ out_of_memory");
	check(view_end, false, "{\"status\":\"failed\",\"phase\":\"failed\",\"reason\":\"output_limit\",\"signal\":9}",
		"✗ failed: output_limit");
}

TEST(tests_with_their_diffs)
{
	check(view_tests, false,
		"{\"tests\":[{\"index\":0,\"name\":\"a\\u0007\",\"status\":\"passed\",\"points\":1,\"max_points\":1,"
		"\"reason\":null,"
		"\"wall_seconds\":0.05},"
		"{\"index\":1,\"hidden\":true,\"status\":\"failed\",\"points\":0,\"max_points\":2.5},"
		"{\"index\":2,\"name\":null,\"status\":\"failed\",\"points\":0,\"max_points\":1,\"reason\":\"timeout\","
		"\"diff\":\"- x\\n+ \\u001b[2J\"}]}",
		"  ✓ a\\x07  passed  1 of 1 points  50 ms\n"
		"  ✗ test 2  failed  0 of 2.5 points\n"
		"  ✗ test 3  failed (timeout)  0 of 1 points\n"
		"      - x\n"
		"      + \\x1b[2J\n");
	check(view_tests, false, "{}", "");
}

TEST(events)
{
	check(view_event, false,
		"{\"kind\":\"failed\",\"eval_id\":\"mine\",\"task_id\":\"t\",\"job_name\":\"eval-x\",\"timestamp\":"
		"1795270823.25,"
		"\"reason\":\"signal\",\"signal\":6}",
		"2026-11-21T14:20:23.250Z  failed     eval-x  mine  signal 6 (SIGABRT)\n");
	check(view_event, false,
		"{\"kind\":\"log\",\"eval_id\":\"t\",\"task_id\":\"t\",\"job_name\":\"eval-x\",\"timestamp\":0,"
		"\"data\":\"a\\nb\"}",
		"1970-01-01T00:00:00.000Z  log        eval-x  a\\nb\n");
	check(view_event, false,
		"{\"kind\":\"test\",\"eval_id\":\"t\",\"task_id\":\"t\",\"job_name\":\"eval-x\",\"timestamp\":0,"
		"\"test\":{\"index\":1,\"name\":\"small\",\"status\":\"passed\"}}",
		"1970-01-01T00:00:00.000Z  test       eval-x  small passed\n");
	check(view_event, false,
		"{\"kind\":\"progress\",\"eval_id\":\"t\",\"task_id\":\"t\",\"job_name\":\"eval-x\",\"timestamp\":0,"
		"\"step\":\"run\",\"run_index\":1,\"wall_seconds\":7.5,\"cpu_seconds\":7,\"memory_bytes\":1048576}",
		"1970-01-01T00:00:00.000Z  progress   eval-x  run 2  7.5 s (cpu 7.0 s, memory 1.0 MiB)\n");
	check(view_event, false,
		"{\"kind\":\"progress\",\"eval_id\":\"t\",\"task_id\":\"t\",\"job_name\":\"eval-x\",\"timestamp\":0,"
		"\"step\":\"compile\",\"wall_seconds\":7.5}",
		"1970-01-01T00:00:00.000Z  progress   eval-x  compile  7.5 s\n");
}

TEST(the_table_s_columns_are_as_wide_as_their_widest_cell)
{
	struct text_table table = { .columns = 2 };
	struct buffer text = { 0 };
	text_table_add(&table, BYTES_LITERAL("A"), STYLE_PLAIN);
	text_table_add(&table, BYTES_LITERAL("B"), STYLE_PLAIN);
	text_table_add(&table, BYTES_LITERAL("größe"), STYLE_PLAIN);
	text_table_add(&table, BYTES_LITERAL("x\ny"), STYLE_PLAIN);
	text_table_append(&table, &text, false, true);
	CHECK_BYTES(buffer_bytes(&text), "A      B\ngröße  x\\ny\n");
	buffer_fini(&text);
	text_table_fini(&table);
}

TEST_MAIN()
