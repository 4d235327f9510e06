#include "cli/progress.h"

#include "base/clock.h"
#include "test.h"

static void check(struct progress progress, double seconds, size_t columns, const char *expected)
{
	struct buffer line = { 0 };
	progress_render(&progress, progress.began_us + (int64_t)(seconds * 1e6), columns, &line);
	CHECK_BYTES(buffer_bytes(&line), expected);
	CHECK(line.len <= columns);
	buffer_fini(&line);
}

TEST(a_wide_line_has_it_all)
{
	struct progress progress = { .total = 40, .running = 3, .succeeded = 10, .failed = 2, .began_us = 5 };
	check(progress, 4.2, 80, "[======>             ]  12/40  2 failed  3 running  25 waiting  4.2 s");
}

TEST(what_is_none_is_left_out)
{
	check((struct progress){ .total = 2 }, 0.5, 80, "[>                   ]  0/2  2 waiting  500 ms");
	check((struct progress){ .total = 2, .succeeded = 2 }, 1, 80, "[====================]  2/2  1.0 s");
	check((struct progress){ 0 }, 0, 80, "[====================]  0/0  0 ms");
}

TEST(a_narrow_line_gives_up_the_bar_then_the_end)
{
	struct progress progress = { .total = 40, .running = 3, .succeeded = 10, .failed = 2 };
	check(progress, 4.2, 60, "12/40  2 failed  3 running  25 waiting  4.2 s");
	check(progress, 4.2, 40, "12/40  2 failed  3 running  25 waiting");
	check(progress, 4.2, 30, "12/40  2 failed  3 running");
	check(progress, 4.2, 16, "12/40  2 failed");
	check(progress, 4.2, 5, "12/40");
	check(progress, 4.2, 3, "12/");
	check(progress, 4.2, 0, "");
}

TEST(more_has_ended_than_was_expected)
{
	check((struct progress){ .total = 1, .succeeded = 3, .running = 1 }, 1, 80,
		"[====================]  3/1  1 running  1.0 s");
}

static void check_duration(double seconds, const char *expected)
{
	struct buffer text = { 0 };
	duration_append(&text, seconds);
	CHECK_BYTES(buffer_bytes(&text), expected);
	buffer_fini(&text);
}

TEST(durations)
{
	check_duration(0, "0 ms");
	check_duration(-3, "0 ms");
	check_duration(0.0004, "0 ms");
	check_duration(0.42, "420 ms");
	check_duration(0.9999, "1.0 s");
	check_duration(4.24, "4.2 s");
	check_duration(59.94, "59.9 s");
	check_duration(59.96, "1 min 00 s");
	check_duration(192, "3 min 12 s");
	check_duration(7500, "2 h 05 min");
	check_duration(273600, "3 d 4 h");
}

static void check_size(double bytes, const char *expected)
{
	struct buffer text = { 0 };
	size_append(&text, bytes);
	CHECK_BYTES(buffer_bytes(&text), expected);
	buffer_fini(&text);
}

TEST(sizes)
{
	check_size(0, "0 B");
	check_size(1023, "1023 B");
	check_size(1024, "1.0 KiB");
	check_size(9542041, "9.1 MiB");
	check_size(1048575, "1.0 MiB");
}

TEST_MAIN()
