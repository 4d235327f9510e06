#include "base/clock.h"

#include <time.h>

#include "test.h"

static const char *formatted(int64_t us)
{
	static char text[CLOCK_TEXT_SIZE];
	return clock_format(us, text);
}

/* -1 for what is refused, which no point in time is. */
static int64_t parsed(const char *text)
{
	int64_t us = -1;
	return clock_parse(bytes_of(text), &us) ? us : -1;
}

TEST(formats_known_times)
{
	CHECK_STR(formatted(INT64_C(1795267200123456)), "2026-11-21T13:20:00.123Z");
	CHECK_STR(formatted(1), "1970-01-01T00:00:00.000Z");
	CHECK_STR(formatted(INT64_C(253402300799999999)), "9999-12-31T23:59:59.999Z");
	CHECK_STR(formatted(INT64_MAX), "9999-12-31T23:59:59.999Z");
	CHECK_STR(formatted(INT64_MIN), "1970-01-01T00:00:00.000Z");
}

TEST(formats_every_day_as_the_c_library_does)
{
	/* Every day of 500 years, at an hour that moves. */
	for (int64_t day = 0; day < 182621; day++) {
		time_t seconds = (time_t)(day * 86400 + day * 7919 % 86400);
		struct tm tm;
		char expected[32];
		gmtime_r(&seconds, &tm);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
		if (!CHECK_STR(formatted(seconds * US_PER_S), expected))
			break;
		if (!CHECK_INT(parsed(expected), seconds * US_PER_S))
			break;
	}
}

TEST(parses_what_the_standard_shows)
{
	CHECK_INT(parsed("1985-04-12T23:20:50.52Z"), INT64_C(482196050520000));
	CHECK_INT(parsed("1996-12-19T16:39:57-08:00"), INT64_C(851042397000000));
	CHECK_INT(parsed("1996-12-20T00:39:57Z"), INT64_C(851042397000000));
	CHECK_INT(parsed("1990-12-31T23:59:60Z"), INT64_C(662688000000000));
	CHECK_INT(parsed("1990-12-31T15:59:60-08:00"), INT64_C(662688000000000));
	CHECK_INT(parsed("1970-01-01t00:00:00z"), 0);
	CHECK_INT(parsed("1970-01-01T00:00:00.0000019Z"), 1);
	CHECK_INT(parsed("2026-11-21T18:50:00.123456+05:30"), INT64_C(1795267200123456));
	CHECK_INT(parsed("2024-02-29T00:00:00Z"), INT64_C(1709164800000000));
	CHECK_INT(parsed("2000-02-29T00:00:00-00:00"), INT64_C(951782400000000));
}

TEST(refuses_what_is_no_time)
{
	static const char *const refused[] = { "", "2026", "2026-11-21", "2026-11-21T13:20:00", "2026-11-21 13:20:00Z",
		"2026-11-21T13:20Z", "2026-11-21T13:20:00.Z", "2026-11-21T13:20:00,5Z", "2026-11-21T13:20:00Zx",
		"2026-11-21T24:00:00Z", "2026-11-21T13:60:00Z", "2026-11-21T13:20:60Z", "2026-11-21T13:20:61Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-04-00T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01",
		"9999-12-31T23:59:59-00:01", "2026-11-21T13:20:00+24:00", "2026-11-21T13:20:00+05:60",
		"2026-11-21T13:20:00+0530", "2026-11-21T13:20:00+05", "+026-11-21T13:20:00Z", "2026-1a-21T13:20:00Z",
		" 2026-11-21T13:20:00Z", "2026-11-21T13:20:00.5" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (parsed(refused[i]) != -1)
			CHECK_STR(refused[i], "refused");
	CHECK_INT(clock_parse(BYTES_NONE, &(int64_t){ 0 }), false);
}

TEST(clocks_go_forward)
{
	int64_t wall = clock_wall_us(), monotonic = clock_monotonic_us(), boottime = clock_boottime_us();
	CHECK(wall > INT64_C(1577836800) * US_PER_S);
	CHECK(clock_monotonic_us() >= monotonic);
	CHECK(clock_boottime_us() >= boottime);
}

TEST_MAIN()
