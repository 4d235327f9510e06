#include "cli/stream.h"

#include "test.h"

TEST(the_delay_grows_and_is_bounded)
{
	static const int64_t whole_ms[] = { 250, 500, 1000, 2000, 4000, 5000, 5000 };
	for (unsigned failures = 0; failures < 7; failures++)
		for (uint32_t random = 0; random < 5000; random += 7) {
			int64_t us = stream_backoff_us(failures, 0, random);
			CHECK(us >= whole_ms[failures] * 500 && us <= whole_ms[failures] * 1000);
		}
	CHECK(stream_backoff_us(4000000000u, 0, 4294967295u) <= 5000000);
}

TEST(the_delay_is_spread)
{
	CHECK_INT(stream_backoff_us(0, 0, 0), 125000);
	CHECK_INT(stream_backoff_us(0, 0, 125), 250000);
}

TEST(the_service_may_ask_for_more)
{
	CHECK_INT(stream_backoff_us(0, 30000, 5), 30000000);
}

TEST_MAIN()
