#include "base/uuid.h"

#include "base/clock.h"
#include "test.h"

static int64_t milliseconds_of(const struct uuid *uuid)
{
	int64_t ms = 0;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | uuid->bytes[i];
	return ms;
}

TEST(version_variant_and_time)
{
	struct uuid_generator generator = { 0 };
	int64_t before = clock_wall_us() / US_PER_MS;
	struct uuid uuid = uuid_new(&generator);
	int64_t after = clock_wall_us() / US_PER_MS;
	CHECK_INT(uuid.bytes[6] >> 4, 7);
	CHECK_INT(uuid.bytes[8] >> 6, 2);
	CHECK(milliseconds_of(&uuid) >= before);
	CHECK(milliseconds_of(&uuid) <= after);
	CHECK(!uuid_is_nil(&uuid));
}

TEST(strictly_increasing)
{
	struct uuid_generator generator = { 0 };
	struct uuid last = uuid_new(&generator);
	for (int i = 0; i < 200000; i++) {
		struct uuid next = uuid_new(&generator);
		REQUIRE(uuid_compare(&last, &next) < 0);
		REQUIRE(next.bytes[6] >> 4 == 7 && next.bytes[8] >> 6 == 2);
		last = next;
	}
}

TEST(increasing_when_the_clock_goes_back)
{
	/* The generator has seen a time an hour ahead. */
	struct uuid_generator generator = { .last_ms = clock_wall_us() / US_PER_MS + 3600 * 1000 };
	int64_t ahead = generator.last_ms;
	struct uuid last = uuid_new(&generator);
	CHECK_INT(milliseconds_of(&last), ahead);
	for (int i = 0; i < 1000; i++) {
		struct uuid next = uuid_new(&generator);
		REQUIRE(uuid_compare(&last, &next) < 0);
		last = next;
	}
}

TEST(increasing_when_the_counter_ends)
{
	struct uuid_generator generator = {
		.last_ms = clock_wall_us() / US_PER_MS + 3600 * 1000,
		.counter = (UINT64_C(1) << 42) - 10,
	};
	int64_t ahead = generator.last_ms;
	struct uuid last = uuid_new(&generator);
	for (int i = 0; i < 20; i++) {
		struct uuid next = uuid_new(&generator);
		REQUIRE(uuid_compare(&last, &next) < 0);
		last = next;
	}
	CHECK_INT(milliseconds_of(&last), ahead + 1);
}

TEST(text_form)
{
	struct uuid uuid, again;
	char text[UUID_TEXT_SIZE];
	REQUIRE(uuid_parse(BYTES_LITERAL("017F22E2-79B0-7cc3-98C4-dc0c0c07398f"), &uuid));
	CHECK_STR(uuid_format(&uuid, text), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
	REQUIRE(uuid_parse(bytes_of(text), &again));
	CHECK_INT(uuid_compare(&uuid, &again), 0);
	static const char *const refused[] = { "", "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
		"017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398fa",
		"017f22e2-79b0-7cc3-98c4_dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
		"{17f22e2-79b0-7cc3-98c4-dc0c0c07398}", "017f22e27-9b0-7cc3-98c4-dc0c0c07398f" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (uuid_parse(bytes_of(refused[i]), &again))
			CHECK_STR(refused[i], "refused");
	CHECK(!uuid_parse(BYTES_NONE, &again));
	CHECK_INT(uuid_compare(&uuid, &again), 0);
}

TEST(nil)
{
	struct uuid uuid = { { 0 } };
	CHECK(uuid_is_nil(&uuid));
	uuid.bytes[15] = 1;
	CHECK(!uuid_is_nil(&uuid));
}

TEST(base32_form)
{
	struct uuid_generator generator = { 0 };
	struct uuid uuid = { { 0 } }, again;
	char text[BASE32_UUID_LENGTH];
	base32_from_uuid(&uuid, text);
	CHECK_BYTES(((struct bytes){ text, sizeof(text) }), "aaaaaaaaaaaaaaaaaaaaaaaaaa");
	memset(uuid.bytes, 0xff, sizeof(uuid.bytes));
	base32_from_uuid(&uuid, text);
	CHECK_BYTES(((struct bytes){ text, sizeof(text) }), "77777777777777777777777774");
	/* "foobar" and zeros: "mzxw6ytboi" are the digits of RFC 4648, section 10. */
	uuid = (struct uuid){ { 'f', 'o', 'o', 'b', 'a', 'r' } };
	base32_from_uuid(&uuid, text);
	CHECK_BYTES(((struct bytes){ text, 9 }), "mzxw6ytbo");
	for (int i = 0; i < 1000; i++) {
		uuid = uuid_new(&generator);
		base32_from_uuid(&uuid, text);
		REQUIRE(base32_to_uuid((struct bytes){ text, sizeof(text) }, &again));
		REQUIRE(uuid_compare(&uuid, &again) == 0);
	}
	static const char *const refused[] = { "", "aaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"AAAAAAAAAAAAAAAAAAAAAAAAAA", "aaaaaaaaaaaaaaaaaaaaaaaaab", "aaaaaaaaaaaa1aaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaaaaaaaaaaa=" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (base32_to_uuid(bytes_of(refused[i]), &again))
			CHECK_STR(refused[i], "refused");
}

TEST_MAIN()
