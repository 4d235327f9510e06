/* URLs of Redis servers. */
#include "io/redis_address.h"
#include "test.h"

static struct redis_address good(const char *url)
{
	struct redis_address address = { 0 };
	struct err err = { 0 };
	if (!CHECK_INT(redis_address_parse(bytes_of(url), &address, &err), 0))
		printf("# %s: %s\n", url, err.message);
	return address;
}

TEST(a_host_alone_is_enough)
{
	struct redis_address address = good("redis://redis.example");
	CHECK_STR(address.host, "redis.example");
	CHECK_INT(address.port, 6379);
	CHECK_INT(address.database, 0);
	CHECK_INT(address.protocol, 3);
	CHECK(!address.tls);
	CHECK_STR(address.user, "");
	CHECK_STR(address.password, "");
	address = good("redis://h/");
	CHECK_INT(address.database, 0);
}

TEST(everything_can_be_said)
{
	struct redis_address address = good("rediss://us%65r:p%40ss%3a%2F@[::1]:7000/5?protocol=2");
	char text[REDIS_ADDRESS_TEXT_SIZE];
	CHECK_STR(address.host, "::1");
	CHECK_INT(address.port, 7000);
	CHECK_INT(address.database, 5);
	CHECK_INT(address.protocol, 2);
	CHECK(address.tls);
	CHECK_STR(address.user, "user");
	CHECK_STR(address.password, "p@ss:/");
	CHECK_STR(redis_address_format(&address, text), "[::1]:7000/5 over TLS");
	address = good("redis://:only@h:1");
	CHECK_STR(address.user, "");
	CHECK_STR(address.password, "only");
	CHECK_STR(redis_address_format(&address, text), "h:1");
	/* A password may hold an @ that nobody encoded. */
	address = good("redis://u:a@b@h");
	CHECK_STR(address.password, "a@b");
	CHECK_STR(address.host, "h");
}

TEST(unix_sockets_have_paths)
{
	struct redis_address address = good("unix:///run/redis.sock?db=3");
	char text[REDIS_ADDRESS_TEXT_SIZE];
	CHECK_STR(address.path, "/run/redis.sock");
	CHECK_STR(address.host, "");
	CHECK_INT(address.database, 3);
	CHECK_STR(redis_address_format(&address, text), "/run/redis.sock/3");
	address = good("unix://u:p@/x");
	CHECK_STR(address.user, "u");
	CHECK_STR(address.password, "p");
}

TEST(what_is_wrong_is_said)
{
	static const char *const wrong[] = { "", "redis:", "redis://", "http://h", "h:6379", "redis://:1",
		"redis://h:0", "redis://h:65536", "redis://h:x", "redis://h/x", "redis://h/-1", "redis://h/1/2",
		"redis://[::1", "redis://[::1]x", "redis://h?db", "redis://h?protocol=4", "redis://h?timeout=1",
		"redis://%zz@h", "redis://a%00@h", "unix://", "unix://x", "redis://u%4:p@h" };
	struct redis_address address;
	struct err err;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		err = (struct err){ 0 };
		if (!CHECK_INT(redis_address_parse(bytes_of(wrong[i]), &address, &err), -22) || !CHECK(err.message[0]))
			printf("# %s\n", wrong[i]);
	}
	char url[2000] = "redis://";
	memset(url + 8, 'h', 1000);
	err = (struct err){ 0 };
	CHECK_INT(redis_address_parse(bytes_of(url), &address, &err), -22);
	/* No error shows what may be a secret. */
	CHECK_INT(redis_address_parse(BYTES_LITERAL("redis://u:geheim@h:x"), &address, &err), -22);
	CHECK(!strstr(err.message, "geheim"));
}

TEST_MAIN()
