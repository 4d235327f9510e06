#include "api/rate.h"

#include "base/clock.h"
#include "test.h"

static int refused_wait(struct rate *rate, const char *tenant, double per_second, int64_t now_us)
{
	int wait_s = 0;
	return rate_take(rate, bytes_of(tenant), per_second, now_us, &wait_s) ? 0 : wait_s;
}

TEST(a_bucket_holds_two_seconds_worth_and_fills_again)
{
	struct rate *rate = rate_new();
	int64_t now = 1000 * US_PER_S;
	for (int i = 0; i < 10; i++)
		CHECK_INT(refused_wait(rate, "a", 5, now), 0);
	CHECK_INT(refused_wait(rate, "a", 5, now), 1);
	CHECK_INT(refused_wait(rate, "a", 5, now + US_PER_S / 5 - 1000), 1);
	CHECK_INT(refused_wait(rate, "a", 5, now + US_PER_S / 5), 0);
	CHECK_INT(refused_wait(rate, "a", 5, now + US_PER_S / 5), 1);
	/* However long nothing comes, no more than two seconds' worth. */
	now += 3600 * US_PER_S;
	for (int i = 0; i < 10; i++)
		CHECK_INT(refused_wait(rate, "a", 5, now), 0);
	CHECK_INT(refused_wait(rate, "a", 5, now), 1);
	rate_free(rate);
}

TEST(a_slow_rate_lets_one_through_and_says_when_to_come_again)
{
	struct rate *rate = rate_new();
	int64_t now = 1;
	CHECK_INT(refused_wait(rate, "a", 0.1, now), 0);
	CHECK_INT(refused_wait(rate, "a", 0.1, now), 10);
	CHECK_INT(refused_wait(rate, "a", 0.1, now + 4 * US_PER_S), 6);
	CHECK_INT(refused_wait(rate, "a", 0.1, now + 10 * US_PER_S), 0);
	CHECK_INT(refused_wait(rate, "slow", 0.0000001, now), 0);
	CHECK_INT(refused_wait(rate, "slow", 0.0000001, now), 3600);
	rate_free(rate);
}

TEST(tenants_have_buckets_of_their_own_and_a_changed_rate_holds_at_once)
{
	struct rate *rate = rate_new();
	CHECK_INT(refused_wait(rate, "a", 0.5, 0), 0);
	CHECK_INT(refused_wait(rate, "a", 0.5, 0), 2);
	CHECK_INT(refused_wait(rate, "b", 0.5, 0), 0);
	CHECK_INT(refused_wait(rate, "a", 100, US_PER_S), 0);
	rate_free(rate);
}

/* Full buckets are forgotten, empty ones are not. */
TEST(many_tenants_take_no_memory_for_ever)
{
	struct rate *rate = rate_new();
	char name[32];
	CHECK_INT(refused_wait(rate, "empty", 0.0001, 0), 0);
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "tenant %d", i);
		CHECK_INT(refused_wait(rate, name, 1000, (int64_t)i * 10 * US_PER_MS), 0);
	}
	CHECK(refused_wait(rate, "empty", 0.0001, US_PER_S) > 0);
	rate_free(rate);
}

TEST_MAIN()
