#include "wrap/post_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void post_redis_init(struct post_redis *redis, char *text)
{
	*redis = (struct post_redis){ .channel = text };
	char *first = text ? strchr(text, ' ') : NULL, *second = first ? strchr(first + 1, ' ') : NULL;
	if (!first)
		return;
	*first = 0;
	redis->password = first + 1;
	if (!second)
		return;
	*second = 0;
	redis->user = first + 1;
	redis->password = second + 1;
}

static size_t login_put(const struct post_redis *redis, char *to, size_t room)
{
	if (redis->user)
		return (size_t)snprintf(to, room, "*3\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
			strlen(redis->user), redis->user, strlen(redis->password), redis->password);
	return (size_t)snprintf(
		to, room, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(redis->password), redis->password);
}

size_t post_redis_head(const struct post_redis *redis, bool login, size_t len, char *head, size_t room)
{
	size_t done = login && redis->password ? login_put(redis, head, room) : 0;
	if (done >= room)
		return room;
	done += (size_t)snprintf(head + done, room - done, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n$%zu\r\n",
		strlen(redis->channel), redis->channel, len);
	return done < room ? done : room;
}

int post_redis_answer(const struct post_redis *redis, bool login, const char *in, size_t len)
{
	static const char ok[] = "+OK\r\n";
	const size_t before = login && redis->password ? sizeof(ok) - 1 : 0, most = before + sizeof(":4294967295\r\n");
	size_t same = len < before ? len : before;
	if (memcmp(in, ok, same) != 0 || len > most)
		return -1;
	if (len <= before)
		return 0;
	if (in[before] != ':')
		return -1;
	if (in[len - 1] != '\n')
		return 0;
	return in[before + 1] >= '1' && in[before + 1] <= '9' ? 1 : -1;
}
