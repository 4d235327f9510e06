/* Reports over a Redis instead of to the attempt listener: each attempt has a channel of its own, which its wrapper publishes its frames
 * on (wrap/post_redis.h) and which is subscribed to here as long as the attempt is ours. What is published while nobody hears it the
 * wrapper keeps; what is lost between Redis and us is gone, and marked: nothing is ever asked for again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "executor/kubernetes/internal.h"
#include "io/redis.h"

#define CHANNEL "assay:attempt:"
#define CHANNEL_SIZE (sizeof(CHANNEL) + UUID_TEXT_SIZE + 12)

static void channel_of(const struct kube_attempt *attempt, char text[static CHANNEL_SIZE])
{
	struct uuid task_id;
	int32_t number;
	char id[UUID_TEXT_SIZE];
	memcpy(task_id.bytes, attempt->key, sizeof(task_id.bytes));
	memcpy(&number, attempt->key + sizeof(task_id.bytes), sizeof(number));
	snprintf(text, CHANNEL_SIZE, CHANNEL "%s:%d", uuid_format(&task_id, id), (int)number);
}

static void command(struct kube_attempt *attempt, struct bytes word)
{
	char channel[CHANNEL_SIZE];
	channel_of(attempt, channel);
	redis_command(attempt->kubernetes->reports, 0, (struct bytes[]){ word, bytes_of(channel) }, 2);
}

static void on_state(void *owner, bool up, const struct err *why_not)
{
	struct kubernetes *k = owner;
	if (!up && !k->reports_away)
		log_event(k->options.log, LOG_WARNING, "the Redis that reports come by is away", L_ERR(why_not));
	k->reports_away = !up;
	kubernetes_changed(k);
	if (!up)
		return;
	LIST_EACH (&k->list, link) {
		struct kube_attempt *attempt = LIST_ENTRY(link, struct kube_attempt, link);
		if (!attempt->disowned && !plain_is(attempt))
			command(attempt, BYTES_LITERAL("SUBSCRIBE"));
	}
}

static void on_answer(void *owner, uint64_t tag, struct bytes error)
{
	struct kubernetes *k = owner;
	struct err why;
	if (!error.data)
		return;
	err_set(&why, -EACCES, "Redis refused a subscription: %.*s", (int)(error.len < 160 ? error.len : 160),
		error.data);
	redis_fail(k->reports, &why);
}

/* NULL: not one of ours. */
static struct kube_attempt *attempt_of(const struct kubernetes *k, struct bytes channel)
{
	const size_t before = sizeof(CHANNEL) - 1, fixed = before + UUID_TEXT_SIZE - 1;
	struct uuid task_id;
	int64_t number;
	if (channel.len <= fixed + 1 || memcmp(channel.data, CHANNEL, before) != 0 || channel.data[fixed] != ':' ||
		!uuid_parse((struct bytes){ channel.data + before, UUID_TEXT_SIZE - 1 }, &task_id) ||
		!text_to_int(
			(struct bytes){ channel.data + fixed + 1, channel.len - fixed - 1 }, 1, INT32_MAX, &number))
		return NULL;
	return kube_attempt_find(k, &task_id, (int)number);
}

static void on_message(void *owner, struct bytes channel, struct bytes payload)
{
	struct kubernetes *k = owner;
	struct kube_attempt *attempt = attempt_of(k, channel);
	if (!attempt)
		return;
	listener_take_published(attempt, payload);
	if (attempt->account.end)
		kube_attempt_over(attempt);
	kube_attempt_staged(attempt);
}

int reports_init(struct kubernetes *k, struct err *err)
{
	const struct redis_address *to = k->options.report_redis;
	const struct redis_options options = { .loop = k->options.loop,
		.log = k->options.log,
		.address = k->options.redis,
		.purpose = "reports",
		.on_state = on_state,
		.on_answer = on_answer,
		.on_message = on_message,
		.owner = k };
	struct sockaddr_in6 six;
	struct sockaddr_in four;
	struct buffer text = { 0 };
	bool is_six = uv_ip6_addr(to->host, to->port, &six) == 0;
	if (!k->options.redis)
		return err_set(
			err, -EINVAL, "kube_report_url: the reports are heard where REDIS_URL says, and it is not set");
	if (to->tls || (!is_six && uv_ip4_addr(to->host, to->port, &four) != 0))
		return err_set(
			err, -EINVAL, "kube_report_url: pods take redis:// and an IP address, neither TLS nor a name");
	if (strpbrk(to->user, " ") || strpbrk(to->password, " "))
		return err_set(err, -EINVAL, "kube_report_url: pods take no blanks in a user or a password");
	buffer_printf(&text, is_six ? "[%s]:%u" : "%s:%u", to->host, to->port);
	buffer_append_char(&text, '\0');
	k->listener = text.data;
	k->reports = redis_new(&options);
	return 0;
}

void reports_join(struct kube_attempt *attempt)
{
	if (attempt->kubernetes->reports && !plain_is(attempt))
		command(attempt, BYTES_LITERAL("SUBSCRIBE"));
}

void reports_leave(struct kube_attempt *attempt)
{
	if (attempt->kubernetes->reports && !plain_is(attempt))
		command(attempt, BYTES_LITERAL("UNSUBSCRIBE"));
}

const char *reports_channel(const struct kube_attempt *attempt, struct arena *arena)
{
	const struct redis_address *to = attempt->kubernetes->options.report_redis;
	char channel[CHANNEL_SIZE];
	if (!attempt->kubernetes->reports)
		return NULL;
	channel_of(attempt, channel);
	bool has_user = to->user[0] != '\0', has_password = to->password[0] != '\0';
	return arena_printf(
		arena, "%s%s%s%s%s", channel, has_user ? " " : "", to->user, has_password ? " " : "", to->password);
}
