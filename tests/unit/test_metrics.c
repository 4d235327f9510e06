#include "base/metrics.h"

#include <math.h>

#include "test.h"

TEST(samples)
{
	struct buffer to = { 0 };
	metric_counter(&to, "a_total", "What was done.", UINT64_MAX);
	metric_gauge(&to, "b_seconds", "How long.", 0.25);
	CHECK_BYTES(buffer_bytes(&to),
		"# HELP a_total What was done.\n# TYPE a_total counter\na_total 18446744073709551615\n"
		"# HELP b_seconds How long.\n# TYPE b_seconds gauge\nb_seconds 0.25\n");
	buffer_fini(&to);
}

TEST(the_buckets_of_a_histogram_are_cumulated)
{
	static const double bounds[] = { .001, 1, INFINITY };
	static const uint64_t buckets[] = { 2, 0, 3 };
	struct buffer to = { 0 };
	metric_histogram(&to, "c", "Whatever.", bounds, buckets, 3, 7.5);
	CHECK_BYTES(buffer_bytes(&to),
		"# HELP c Whatever.\n# TYPE c histogram\nc_bucket{le=\"0.001\"} 2\nc_bucket{le=\"1\"} 2\n"
		"c_bucket{le=\"+Inf\"} 5\nc_sum 7.5\nc_count 5\n");
	buffer_fini(&to);
}

TEST_MAIN()
