#include "base/quantity.h"

#include <errno.h>

#include "test.h"

/* The value, or the error's code. */
static int64_t as_bytes(const char *text)
{
	int64_t value = 0;
	int rc = quantity_bytes(bytes_of(text), &value, NULL);
	return rc < 0 ? rc : value;
}

static int64_t as_millis(const char *text)
{
	int64_t value = 0;
	int rc = quantity_millis(bytes_of(text), &value, NULL);
	return rc < 0 ? rc : value;
}

TEST(every_suffix)
{
	CHECK_INT(as_bytes("0"), 0);
	CHECK_INT(as_bytes("1"), 1);
	CHECK_INT(as_bytes("512Mi"), 512 << 20);
	CHECK_INT(as_bytes("1Ki"), 1024);
	CHECK_INT(as_bytes("1Gi"), 1 << 30);
	CHECK_INT(as_bytes("1Ti"), INT64_C(1) << 40);
	CHECK_INT(as_bytes("1Pi"), INT64_C(1) << 50);
	CHECK_INT(as_bytes("7Ei"), INT64_C(7) << 60);
	CHECK_INT(as_bytes("1k"), 1000);
	CHECK_INT(as_bytes("1M"), 1000000);
	CHECK_INT(as_bytes("1G"), 1000000000);
	CHECK_INT(as_bytes("1T"), INT64_C(1000000000000));
	CHECK_INT(as_bytes("1P"), INT64_C(1000000000000000));
	CHECK_INT(as_bytes("9E"), INT64_C(9000000000000000000));
	CHECK_INT(as_bytes("5000m"), 5);
	CHECK_INT(as_bytes("5000000u"), 5);
	CHECK_INT(as_bytes("5000000000n"), 5);
	CHECK_INT(as_bytes("1e3"), 1000);
	CHECK_INT(as_bytes("1E3"), 1000);
	CHECK_INT(as_bytes("1e+3"), 1000);
	CHECK_INT(as_bytes("15000e-3"), 15);
	CHECK_INT(as_bytes("1E"), INT64_C(1000000000000000000));
}

TEST(forms_of_a_number)
{
	CHECK_INT(as_bytes("+5"), 5);
	CHECK_INT(as_bytes("5."), 5);
	CHECK_INT(as_bytes(".5Ki"), 512);
	CHECK_INT(as_bytes("1.5Gi"), 1610612736);
	CHECK_INT(as_bytes("0000000001"), 1);
	CHECK_INT(as_bytes("-0"), 0);
	CHECK_INT(as_millis("500m"), 500);
	CHECK_INT(as_millis("2.5"), 2500);
	CHECK_INT(as_millis("2"), 2000);
	CHECK_INT(as_millis("0.1"), 100);
}

TEST(rounds_up)
{
	CHECK_INT(as_bytes("1m"), 1);
	CHECK_INT(as_bytes("1.0000000000000000000000001"), 2);
	CHECK_INT(as_bytes("1e-300"), 1);
	CHECK_INT(as_bytes("1.0000000000000000000000000000001Ei"), (INT64_C(1) << 60) + 1);
	CHECK_INT(as_millis("0.0001"), 1);
	CHECK_INT(as_millis("1u"), 1);
	CHECK_INT(as_millis("100001u"), 101);
}

TEST(to_the_last_of_the_range)
{
	CHECK_INT(as_bytes("9223372036854775807"), INT64_MAX);
	CHECK_INT(as_bytes("9223372036854775806.5"), INT64_MAX);
	CHECK_INT(as_bytes("9223372036854775807.1"), -ERANGE);
	CHECK_INT(as_bytes("9223372036854775808"), -ERANGE);
	CHECK_INT(as_bytes("8Ei"), -ERANGE);
	CHECK_INT(as_bytes("1e19"), -ERANGE);
	CHECK_INT(as_bytes("1e999999999999999999999999"), -ERANGE);
	CHECK_INT(as_bytes("0e999999999999999999999999"), 0);
	CHECK_INT(as_bytes("9999999999999999999999999999999999999999999999999999999999Ei"), -ERANGE);
	CHECK_INT(as_bytes("0.00000000000000000000000000000000000000000000000000001e53"), 1);
	CHECK_INT(as_millis("9223372036854775.807"), INT64_MAX);
	CHECK_INT(as_millis("9223372036854775.808"), -ERANGE);
}

TEST(refuses_the_rest)
{
	static const char *const refused[] = { "", " ", ".", "-", "+", "Mi", "1 Mi", " 1", "1 ", "1mi", "1MI", "1mB",
		"1K", "1g", "1e", "1e+", "1e1.5", "1.2.3", "1e3Mi", "--1", "0x10", "1i", "1Kii", "one", "1,5", "1e3e3",
		"11111111111111111111111111111111111111111111111111111111111111111" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (as_bytes(refused[i]) != -EINVAL)
			CHECK_STR(refused[i], "refused");
	CHECK_INT(as_bytes("-1"), -ERANGE);
	CHECK_INT(as_millis("-1m"), -ERANGE);
	CHECK_INT(quantity_bytes(BYTES_NONE, &(int64_t){ 0 }, NULL), -EINVAL);
}

TEST(errors_name_the_text)
{
	struct err err;
	int64_t value = 77;
	CHECK_INT(quantity_bytes(BYTES_LITERAL("12parsecs"), &value, &err), -EINVAL);
	CHECK_STR(err.message, "'12parsecs' is not a quantity such as 512Mi, 500m or 2.5");
	CHECK_INT(value, 77);
}

TEST_MAIN()
