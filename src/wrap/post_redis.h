/* The other listener: a Redis, where the frames of an attempt go to a channel of its own (PLAN_CHANNEL). Its answer is the number of
 * those who hear it: where there is nobody, nothing was taken, and the same is sent again later. It says nothing else, so there are no
 * commands and no questions.
 *
 * Requests and answers in the form of the Redis serialization protocol specification, version 2. */
#ifndef ASSAY_WRAP_POST_REDIS_H
#define ASSAY_WRAP_POST_REDIS_H

#include <stdbool.h>
#include <stddef.h>

#define POST_REDIS_TAIL "\r\n" /* what follows the frames */

struct post_redis {
	const char *channel; /* NULL: the listener is not one */
	const char *user, *password; /* borrowed, as the channel; NULL: none; a password alone is the default user's */
};

/* "CHANNEL", "CHANNEL PASSWORD" or "CHANNEL USER PASSWORD"; changed, and borrowed from then on. NULL: nothing. */
void post_redis_init(struct post_redis *redis, char *text);
/* What stands before `len` bytes of frames; with `login`, for the first on a connection, who we are. Its length, `room` where it does
 * not fit. */
size_t post_redis_head(const struct post_redis *redis, bool login, size_t len, char *head, size_t room);
/* Reads the answer. 1: it was heard; 0: more has to come; -1: it was refused, or nobody heard it. */
int post_redis_answer(const struct post_redis *redis, bool login, const char *in, size_t len);

#endif
