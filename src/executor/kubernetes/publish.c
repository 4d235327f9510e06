/* The subscription to what images publish by themselves (publication.h). It exists while there is an attempt with such an image, and
 * the first ones are created when Redis has confirmed it, or is known to be away: then their pods tell of the end, as those of images
 * that say nothing.
 *
 * Whose it is, is told by `eval_id` alone, so what two running evaluations of two tenants are called is believed of neither. */
#include <errno.h>

#include "base/clock.h"
#include "executor/kubernetes/internal.h"
#include "executor/kubernetes/publication.h"
#include "io/redis.h"

/* Attempts that waited for the subscription. */
static void create_waiting(struct kubernetes *k)
{
	LIST_EACH (&k->publishing, link) {
		struct kube_attempt *attempt = LIST_ENTRY(link, struct kube_attempt, publish_link);
		bool waited = attempt->publish_waits;
		attempt->publish_waits = false;
		if (waited && !attempt->ended && !attempt->account.cancelled)
			kube_attempt_create(attempt);
	}
}

static void on_state(void *owner, bool up, const struct err *why_not)
{
	struct kubernetes *k = owner;
	k->subscribed = 0;
	if (!up) {
		if (!k->is_deaf)
			log_event(k->options.log, LOG_WARNING, "what images publish is not heard", L_ERR(why_not));
		k->is_deaf = true;
		create_waiting(k);
		return;
	}
	for (size_t i = 0; i < PUBLICATION_CHANNEL_COUNT; i++)
		redis_command(k->redis, i,
			(struct bytes[]){ BYTES_LITERAL("SUBSCRIBE"), bytes_of(publication_channel(i)) }, 2);
}

static void on_answer(void *owner, uint64_t tag, struct bytes error)
{
	struct kubernetes *k = owner;
	if (error.data) {
		struct err why;
		err_set(&why, -EACCES, "Redis refused a subscription: %.*s", (int)(error.len < 160 ? error.len : 160),
			error.data);
		redis_fail(k->redis, &why);
		return;
	}
	if (++k->subscribed < PUBLICATION_CHANNEL_COUNT)
		return;
	k->is_deaf = false;
	create_waiting(k);
}

static bool is_called(const struct job *job, struct bytes eval_id)
{
	char id[UUID_TEXT_SIZE];
	return bytes_equal(job->eval_id.len > 0 ? job->eval_id : bytes_of(uuid_format(&job->task_id, id)), eval_id);
}

/* NULL: none, or several. */
static struct kube_attempt *attempt_called(struct kubernetes *k, struct bytes eval_id)
{
	struct kube_attempt *found = NULL;
	LIST_EACH (&k->publishing, link) {
		struct kube_attempt *attempt = LIST_ENTRY(link, struct kube_attempt, publish_link);
		if (!attempt->job || attempt->ended || !is_called(attempt->job, eval_id))
			continue;
		if (found)
			return NULL;
		found = attempt;
	}
	return found;
}

static void on_message(void *owner, struct bytes channel, struct bytes payload)
{
	struct kubernetes *k = owner;
	struct arena arena = { 0 };
	struct publication said;
	struct kube_attempt *attempt =
		publication_read(channel, payload, &arena, &said) ? attempt_called(k, said.eval_id) : NULL;
	if (attempt) {
		const struct job_started where = { .node = bytes_of(attempt->node_name),
			.pod = bytes_of(attempt->pod_name) };
		account_publication(&attempt->account, &said, &where);
		if (attempt->account.end)
			kube_attempt_over(attempt);
		kube_attempt_staged(attempt);
	}
	arena_fini(&arena);
}

void publish_init(struct kubernetes *k)
{
	const struct redis_options options = { .loop = k->options.loop,
		.log = k->options.log,
		.address = k->options.redis,
		.purpose = "images",
		.on_state = on_state,
		.on_answer = on_answer,
		.on_message = on_message,
		.owner = k };
	if (k->options.redis && k->options.publish_url)
		k->redis = redis_new(&options);
}

void publish_join(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	if (!k->redis || !attempt->language || attempt->language->report != LANGUAGE_REPORT_PUBLISH)
		return;
	attempt->account.tells = true;
	list_push_back(&k->publishing, &attempt->publish_link);
	redis_open(k->redis);
}

bool publish_holds(struct kube_attempt *attempt)
{
	const struct kubernetes *k = attempt->kubernetes;
	attempt->publish_waits = attempt->account.tells && k->subscribed < PUBLICATION_CHANNEL_COUNT && !k->is_deaf;
	return attempt->publish_waits;
}

void publish_leave(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	if (!list_linked(&attempt->publish_link))
		return;
	list_remove(&attempt->publish_link);
	if (!list_empty(&k->publishing) || !k->redis)
		return;
	redis_close(k->redis);
	k->subscribed = 0;
	k->is_deaf = false;
}
