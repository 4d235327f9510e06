/* What assay-wrap says to a Redis, and what it makes of the answers. */
#include "wrap/post_redis.h"

#include "test.h"

static void check_head(const char *text, bool login, const char *expected)
{
	char copy[64], head[256];
	struct post_redis redis;
	snprintf(copy, sizeof(copy), "%s", text);
	post_redis_init(&redis, copy);
	size_t len = post_redis_head(&redis, login, 5, head, sizeof(head));
	REQUIRE(len < sizeof(head));
	CHECK_STR(head, expected);
	CHECK_INT(post_redis_head(&redis, login, 5, head, len), len);
	CHECK_INT(post_redis_head(&redis, login, 5, head, 8), 8);
}

TEST(frames_are_published_and_who_we_are_is_said_once)
{
	check_head("c", true, "*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$5\r\n");
	check_head("c pw", false, "*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$5\r\n");
	check_head("c pw", true, "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$5\r\n");
	check_head("ch me pw", true,
		"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n*3\r\n$7\r\nPUBLISH\r\n$2\r\nch\r\n$5\r\n");
}

TEST(an_answer_is_that_somebody_heard_it)
{
	static const struct {
		bool login;
		const char *in;
		int taken;
	} cases[] = {
		{ false, ":1\r\n", 1 },
		{ false, ":12\r\n", 1 },
		{ false, ":", 0 },
		{ false, ":1\r", 0 },
		{ false, ":0\r\n", -1 },
		{ false, ":-1\r\n", -1 },
		{ false, "-NOAUTH Authentication required.\r\n", -1 },
		{ false, "+OK\r\n:1\r\n", -1 },
		{ false, "HTTP/1.1 400 Bad Request\r\n", -1 },
		{ true, "+", 0 },
		{ true, "+OK\r\n", 0 },
		{ true, "+OK\r\n:1\r\n", 1 },
		{ true, "+OK\r\n:0\r\n", -1 },
		{ true, "-WRONGPASS invalid\r\n", -1 },
		{ true, "+OK\r\n-NOPERM no\r\n", -1 },
		{ false, ":11111111111111111111", -1 },
	};
	char text[] = "c pw";
	struct post_redis redis;
	post_redis_init(&redis, text);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!CHECK_INT(post_redis_answer(&redis, cases[i].login, cases[i].in, strlen(cases[i].in)),
			    cases[i].taken))
			printf("# %s\n", cases[i].in);
}

TEST_MAIN()
