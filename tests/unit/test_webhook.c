/* The parts of webhooks that need no network: URLs, signatures, addresses, pauses. */
#include <arpa/inet.h>
#include <errno.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "task/callback.h"
#include "test.h"
#include "webhook/address.h"
#include "webhook/signature.h"
#include "webhook/webhooks.h"

TEST(urls_that_may_be_taken)
{
	static const char *const good[] = { "http://x", "https://example.org/", "HTTPS://EXAMPLE.org:443/a?b=c&d=%20",
		"http://127.0.0.1:65535/", "http://[::1]/", "http://[2001:db8::1]:8080/x", "http://a_b-c.example./",
		"http://x?q", "http://x/@y", "http://x/a:b" };
	static const char *const bad[] = { "", "x", "/x", "//x/", "ftp://x/", "file:///etc/passwd", "http:/x",
		"http://", "http:///x", "http://:80/", "http://x:0/", "http://x:/", "http://x:65536/", "http://x:1x/",
		"http://u@x/", "http://u:p@x/", "http://x@/", "http://x/#f", "http://x y/", "http://x/\n",
		"http://x/\x7f", "http://x/\xc3\xa9", "http://x\\@y/", "http://x\\y", "http://[::1/", "http://[]/",
		"http://[g::1]/", "http://a[b/", "http://x%20/", "http://x/<", "javascript://x",
		"http://[fe80::1%25eth0]/" };
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (!CHECK(callback_fault(bytes_of(good[i]), false) == NULL))
			printf("# %s: %s\n", good[i], callback_fault(bytes_of(good[i]), false));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!CHECK(callback_fault(bytes_of(bad[i]), false) != NULL))
			printf("# %s\n", bad[i]);
	CHECK(callback_fault(BYTES_LITERAL("http://x/\0"), false) != NULL);
	CHECK(callback_fault(BYTES_LITERAL("http://x/"), true) != NULL);
	CHECK(callback_fault(BYTES_LITERAL("https://x/"), true) == NULL);
	char longest[CALLBACK_URL_MAX + 2] = "http://x/";
	memset(longest + 9, 'a', sizeof(longest) - 9);
	CHECK(callback_fault((struct bytes){ longest, CALLBACK_URL_MAX }, false) == NULL);
	CHECK(callback_fault((struct bytes){ longest, CALLBACK_URL_MAX + 1 }, false) != NULL);
}

TEST(origins_tell_receivers_apart)
{
	static const struct {
		const char *url, *origin;
	} cases[] = { { "https://Example.ORG:8443/X?y", "https://example.org:8443" }, { "HTTP://a", "http://a" },
		{ "http://a?b/c", "http://a" }, { "http://[::1]:1/", "http://[::1]:1" } };
	struct arena arena = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_BYTES(callback_origin(bytes_of(cases[i].url), &arena), cases[i].origin);
	arena_fini(&arena);
}

/* The example of the specification's reference libraries. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

TEST(signatures_are_those_of_the_specification)
{
	struct webhook_secrets secrets;
	struct err err = { 0 };
	struct buffer signature = BUFFER_MAX(1024);
	struct bytes id = BYTES_LITERAL("msg_p5jXN8AQM9LWM0D4loKWxJek"), timestamp = BYTES_LITERAL("1614265330"),
		     body = BYTES_LITERAL("{\"test\": 2432232314}");
	REQUIRE(webhook_secrets_parse(BYTES_LITERAL(SECRET), &secrets, &err) == 0);
	webhook_sign(&secrets, id, timestamp, body, &signature);
	CHECK_BYTES(buffer_bytes(&signature), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
	/* While it changes: both, the first one first. */
	buffer_clear(&signature);
	REQUIRE(webhook_secrets_parse(BYTES_LITERAL(" " SECRET ",\n" OTHER "\n"), &secrets, &err) == 0);
	CHECK_INT(secrets.count, 2);
	webhook_sign(&secrets, id, timestamp, body, &signature);
	struct bytes both = buffer_bytes(&signature);
	CHECK_INT(both.len, 2 * 47 + 1);
	CHECK(memcmp(both.data, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,", 51) == 0);
	buffer_fini(&signature);
}

TEST(secrets_that_are_none)
{
	static const char *const bad[] = { "", ",", "abc", "whsec_", "whsec_***", "whsec_AAAA", SECRET ",abc",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		OTHER " " OTHER " " OTHER " " OTHER " " OTHER " " OTHER " " OTHER " " OTHER " " OTHER };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct webhook_secrets secrets;
		struct err err = { 0 };
		CHECK(webhook_secrets_parse(bytes_of(bad[i]), &secrets, &err) < 0);
		CHECK(err.message[0] && !strstr(err.message, "MfKQ"));
	}
}

static bool goes(const struct webhook_addresses *addresses, const char *text)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return webhook_address_allowed(addresses, (const struct sockaddr *)&v4);
	REQUIRE(inet_pton(AF_INET6, text, &v6.sin6_addr) == 1);
	return webhook_address_allowed(addresses, (const struct sockaddr *)&v6);
}

TEST(addresses_of_the_inside_are_refused)
{
	static const char *const inside[] = { "127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1",
		"172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
		"168.63.129.16", "192.0.0.192", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
		"::8.8.8.8", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1",
		"64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1" };
	static const char *const outside[] = { "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255",
		"100.128.0.0", "126.255.255.255", "128.0.0.1", "192.169.0.0", "168.63.129.17", "223.255.255.255",
		"2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "::ffff:8.8.8.8" };
	struct webhook_addresses addresses;
	struct err err = { 0 };
	REQUIRE(webhook_addresses_init(&addresses, BYTES_NONE, &err) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(inside); i++)
		if (!CHECK(!goes(&addresses, inside[i])))
			printf("# %s\n", inside[i]);
	for (size_t i = 0; i < ARRAY_SIZE(outside); i++)
		if (!CHECK(goes(&addresses, outside[i])))
			printf("# %s\n", outside[i]);
	struct sockaddr local = { .sa_family = AF_UNIX };
	CHECK(!webhook_address_allowed(&addresses, &local));
	REQUIRE(webhook_addresses_init(&addresses, BYTES_LITERAL("10.1.0.0/16, ::1"), &err) == 0);
	CHECK(goes(&addresses, "10.1.2.3"));
	CHECK(goes(&addresses, "::ffff:10.1.2.3"));
	CHECK(!goes(&addresses, "10.2.0.1"));
	CHECK(goes(&addresses, "::1"));
	CHECK(!goes(&addresses, "127.0.0.1"));
	CHECK_INT(webhook_addresses_init(&addresses, BYTES_LITERAL("10.1.0.0/33"), &err), -EINVAL);
}

TEST(pauses_grow_and_stay)
{
	static const int seconds[] = { 5, 30, 120, 600, 1800, 7200, 21600, 21600, 21600 };
	for (int i = 0; i < (int)ARRAY_SIZE(seconds); i++)
		CHECK_INT(webhook_pause_us(5 * US_PER_S, i + 1), seconds[i] * US_PER_S);
}

TEST(ids_are_those_of_task_and_run)
{
	struct uuid id;
	char text[WEBHOOK_ID_SIZE];
	REQUIRE(uuid_parse(BYTES_LITERAL("ffffffff-ffff-ffff-ffff-ffffffffffff"), &id));
	webhook_id_format(&id, 2147483647, text);
	CHECK(strncmp(text, "msg_", 4) == 0);
	CHECK_STR(text + 30, "_2147483647");
}

TEST_MAIN()
