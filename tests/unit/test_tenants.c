#include "task/tenants.h"

#include "base/err.h"
#include "test.h"

static const struct tenant_limits defaults = { .queued = 100, .running = 5, .rate = 2, .weight = 1 };

static const char *refusal(const char *yaml)
{
	static struct err err;
	struct tenants *tenants = NULL;
	err = (struct err){ 0 };
	if (tenants_parse(bytes_of(yaml), "t.yaml", &defaults, &tenants, &err) == 0) {
		tenants_free(tenants);
		return "";
	}
	return err.message;
}

#define CHECK_REFUSED(yaml, part) \
	do { \
		const char *message_ = refusal(yaml); \
		if (!strstr(message_, part)) \
			printf("# %s\n", message_); \
		CHECK(strstr(message_, part)); \
		CHECK(strncmp(message_, "t.yaml", 6) == 0); \
	} while (0)

TEST(an_entry_differs_from_the_defaults_where_it_says_so)
{
	struct tenants *tenants = NULL;
	struct err err = { 0 };
	REQUIRE(tenants_parse(BYTES_LITERAL("tenants:\n  course-a: {queued: 0, running: 40, weight: 2.5}\n  guests:\n  "
					    "  rate: 0.5\n"),
			"t.yaml", &defaults, &tenants, &err) == 0);
	const struct tenant_limits *limits = tenants_find(tenants, BYTES_LITERAL("course-a"));
	CHECK_INT(limits->queued, 0);
	CHECK_INT(limits->running, 40);
	CHECK(limits->rate == 2);
	CHECK(limits->weight == 2.5);
	limits = tenants_find(tenants, BYTES_LITERAL("guests"));
	CHECK_INT(limits->queued, 100);
	CHECK(limits->rate == 0.5);
	limits = tenants_find(tenants, BYTES_LITERAL("nobody"));
	CHECK_INT(limits->running, 5);
	CHECK(limits->weight == 1);
	tenants_free(tenants);
}

TEST(without_a_file_there_are_defaults_and_without_those_no_limits)
{
	struct tenants *tenants = NULL;
	struct err err = { 0 };
	REQUIRE(tenants_parse(BYTES_NONE, "t.yaml", &defaults, &tenants, &err) == 0);
	CHECK_INT(tenants_find(tenants, BYTES_LITERAL("a"))->queued, 100);
	tenants_free(tenants);
	CHECK_INT(tenants_find(NULL, BYTES_LITERAL("a"))->queued, 0);
	CHECK(tenants_find(NULL, BYTES_LITERAL("a"))->weight == 1);
}

TEST(what_is_wrong_is_named)
{
	CHECK_REFUSED("[a, b]", "must have one key, tenants");
	CHECK_REFUSED("tenants: {a: {}}\nmore: 1", "must have one key, tenants");
	CHECK_REFUSED("tenants: 5", "must have one key, tenants");
	CHECK_REFUSED("tenants: {a: 5}", "tenant a: must map");
	CHECK_REFUSED("tenants: {a: {rates: 5}}", "tenant a: \"rates\" is none of");
	CHECK_REFUSED("tenants: {a: {rate: fast}}", "tenant a: rate must be a number");
	CHECK_REFUSED("tenants: {a: {rate: -1}}", "tenant a: rate must be a number from 0");
	CHECK_REFUSED("tenants: {a: {queued: 1.5}}", "tenant a: queued must be a whole number");
	CHECK_REFUSED("tenants: {a: {running: 1e12}}", "tenant a: running must be a number");
	CHECK_REFUSED("tenants: {a: {weight: 0}}", "tenant a: weight must be a number from 0.001");
	CHECK_REFUSED("tenants: {\"\": {weight: 1}}", "a tenant's name has 1 to 63");
	CHECK_REFUSED("tenants: {a: {weight: 1}", "line ");
}

TEST_MAIN()
