/* One delivery, from its claim to its settlement.
 *
 *   READING ──the event's payload──► POSTING ──an answer, or none──► SETTLING ──► gone
 *      └──it is no longer kept, or we stop──────────────────────────────▲  │
 *                                                                       └──┘ the store is away: again
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "task/forms.h"
#include "task/lifecycle.h"
#include "webhook/internal.h"

#define BODY_MAX (2 << 20) /* two streams of 64 KiB, every byte of them escaped, and the rest */
#define ANSWER_MAX 4096 /* what a receiver says besides its status is not looked at */
#define RETRY_AFTER_MOST_US (6 * 3600 * US_PER_S)
#define SETTLE_AGAIN_US US_PER_S
#define EVENTS_AT_ONCE 4
#define TERMINAL_KINDS (1u << EVENT_COMPLETED | 1u << EVENT_FAILED | 1u << EVENT_CANCELLED)

static const int pauses[] = { 1, 6, 24, 120, 360, 1440, 4320 };

int64_t webhook_pause_us(int64_t base_us, int attempts)
{
	int last = (int)ARRAY_SIZE(pauses) - 1, at = attempts - 1;
	return base_us * pauses[at < 0 ? 0 : at > last ? last : at];
}

char *webhook_id_format(const struct uuid *task_id, int run, char text[static WEBHOOK_ID_SIZE])
{
	char name[BASE32_UUID_LENGTH];
	base32_from_uuid(task_id, name);
	snprintf(text, WEBHOOK_ID_SIZE, "msg_%.*s_%d", BASE32_UUID_LENGTH, name, run);
	return text;
}

/* ---- the end ---- */

static void on_retry_closed(uv_handle_t *handle)
{
	struct sending *sending = handle->data;
	struct webhooks *webhooks = sending->webhooks;
	list_remove(&sending->link);
	store_operation_fini(&sending->read.operation);
	store_operation_fini(&sending->settle.operation);
	buffer_fini(&sending->signature);
	buffer_fini(&sending->body);
	http_call_fini(&sending->call);
	arena_fini(&sending->arena);
	free(sending);
	webhooks_sending_ended(webhooks);
}

static void end(struct sending *sending)
{
	uv_close((uv_handle_t *)&sending->retry, on_retry_closed);
}

static void tell(struct sending *sending)
{
	struct webhooks *webhooks = sending->webhooks;
	const struct delivery_outcome *outcome = &sending->outcome;
	enum log_level level = LOG_DEBUG;
	const char *message = "webhook delivered";
	switch (outcome->verdict) {
	case DELIVERY_SENT:
		webhooks->figures.delivered++;
		break;
	case DELIVERY_AGAIN:
		webhooks->figures.failed++;
		level = LOG_INFO;
		message = "webhook not delivered, tried again later";
		break;
	case DELIVERY_STOP:
		webhooks->figures.given_up++;
		level = LOG_WARNING;
		message = "webhook given up";
		break;
	case DELIVERY_HAND_BACK:
		return;
	}
	log_event(webhooks->log, level, message, L_TASK(&outcome->task_id), L_INT("run", outcome->run),
		L_INT("attempts", sending->delivery.attempts + 1), L_INT("http_status", outcome->http_status),
		L_SECONDS("seconds", outcome->duration_us), L_BYTES("why", outcome->error));
}

static void settle(struct sending *sending);

static void on_retry(uv_timer_t *timer)
{
	settle(timer->data);
}

static void on_settled(struct store_operation *operation)
{
	struct sending *sending = operation->owner;
	bool again = operation->outcome == STORE_AWAY || operation->outcome == STORE_UNKNOWN;
	if (operation->outcome == STORE_OK && sending->settle.results[0] == SETTLE_APPLIED)
		tell(sending);
	else if (operation->outcome == STORE_FAILED)
		log_event(sending->webhooks->log, LOG_ERROR, "what came of a webhook cannot be kept",
			L_TASK(&sending->outcome.task_id), L_ERR(&operation->err));
	/* What is not settled is due again when its lease is over. */
	if (again && !sending->webhooks->stopping)
		uv_timer_start(
			&sending->retry, on_retry, (uint64_t)(webhooks_jittered(SETTLE_AGAIN_US) / US_PER_MS), 0);
	else
		end(sending);
}

static void settle(struct sending *sending)
{
	struct webhooks *webhooks = sending->webhooks;
	sending->step = SENDING_SETTLING;
	store_operation_fini(&sending->settle.operation);
	sending->settle = (struct store_delivery_settle){
		.operation = { .done = on_settled, .owner = sending },
		.locked_by = bytes_of(webhooks->locked_by),
		.outcomes = &sending->outcome,
		.count = 1,
	};
	webhooks->store->ops->delivery_settle(webhooks->store, &sending->settle);
}

static void conclude(struct sending *sending, enum delivery_verdict verdict, const char *why)
{
	struct delivery_outcome *outcome = &sending->outcome;
	outcome->verdict = verdict;
	if (why) {
		snprintf(sending->error, sizeof(sending->error), "%s", why);
		for (char *c = sending->error; *c; c++) /* the words may hold some of the receiver's */
			*c = *c < ' ' || *c > '~' ? '?' : *c;
		outcome->error = bytes_of(sending->error);
	}
	settle(sending);
}

/* ---- the answer ---- */

static const char *words_of(const struct sending *sending, char text[static 64])
{
	const struct http_call *call = &sending->call;
	if (call->status == 0)
		/* Which address a name of ours has is nothing to tell a client. */
		return call->err.code == -EACCES ? "the receiver's address is not allowed" : call->err.message;
	bool redirect = call->status >= 300 && call->status < 400;
	snprintf(text, 64, "the receiver answered %d%s", call->status,
		redirect ? ", and redirects are not followed" : "");
	return text;
}

/* Once the status is there it is the answer, whatever became of a body that nobody reads. */
static void on_posted(struct http_call *call)
{
	struct sending *sending = call->owner;
	const struct webhooks_settings *settings = &sending->webhooks->settings;
	char text[64];
	sending->outcome.duration_us = clock_monotonic_us() - sending->began_us;
	sending->outcome.http_status = call->status;
	int attempts = sending->delivery.attempts + 1;
	if (call->status >= 200 && call->status < 300) {
		conclude(sending, DELIVERY_SENT, NULL);
	} else if (call->status == 0 && call->err.code == -ECANCELED) {
		conclude(sending, DELIVERY_HAND_BACK, NULL);
	} else if (call->status == 410 || call->err.code == -EINVAL || attempts >= settings->attempts_max) {
		conclude(sending, DELIVERY_STOP, words_of(sending, text));
	} else {
		int64_t asked_us = call->status ? http_call_retry_after_us(call) : 0;
		int64_t pause_us = webhooks_jittered(webhook_pause_us(settings->retry_base_us, attempts));
		asked_us = asked_us > RETRY_AFTER_MOST_US ? RETRY_AFTER_MOST_US : asked_us;
		sending->outcome.delay_us = asked_us > pause_us ? asked_us : pause_us;
		conclude(sending, DELIVERY_AGAIN, words_of(sending, text));
	}
}

/* ---- the request ---- */

static void post(struct sending *sending)
{
	struct webhooks *webhooks = sending->webhooks;
	int64_t now_us = clock_wall_us();
	webhook_id_format(&sending->delivery.task_id, sending->delivery.run, sending->id);
	snprintf(sending->timestamp, sizeof(sending->timestamp), "%lld", (long long)(now_us / US_PER_S));
	webhook_sign(&webhooks->secrets, bytes_of(sending->id), bytes_of(sending->timestamp),
		buffer_bytes(&sending->body), &sending->signature);
	sending->outcome.at_us = now_us;
	sending->began_us = clock_monotonic_us();
	if (sending->body.failed || sending->signature.failed) {
		end(sending); /* want of memory is no fault of the receiver's: again when the lease is over */
		return;
	}
	const struct http_header headers[] = {
		{ BYTES_LITERAL("Content-Type"), BYTES_LITERAL("application/json") },
		{ BYTES_LITERAL("User-Agent"), BYTES_LITERAL("assay/" ASSAY_VERSION) },
		{ BYTES_LITERAL("webhook-id"), bytes_of(sending->id) },
		{ BYTES_LITERAL("webhook-timestamp"), bytes_of(sending->timestamp) },
		{ BYTES_LITERAL("webhook-signature"), buffer_bytes(&sending->signature) },
	};
	memcpy(sending->headers, headers, sizeof(headers));
	sending->call = (struct http_call){
		.method = "POST",
		.url = sending->delivery.url.data,
		.headers = sending->headers,
		.header_count = ARRAY_SIZE(headers),
		.body = buffer_bytes(&sending->body),
		.deadline_us = webhooks->settings.timeout_us,
		.answer_max = ANSWER_MAX,
		.done = on_posted,
		.owner = sending,
	};
	sending->step = SENDING_POSTING;
	http_client_call(webhooks->client, &sending->call);
}

/* ---- the payload ---- */

static void read_on(struct sending *sending, const struct cursor *after);

static const struct event *event_in(const struct read_events *read, int run)
{
	for (size_t i = 0; i < read->result_count; i++)
		if (read->results[i].run == run)
			return &read->results[i];
	return NULL;
}

static void on_read(struct store_operation *operation)
{
	struct sending *sending = operation->owner;
	const struct event *event = NULL;
	if (operation->outcome == STORE_OK)
		event = event_in(&sending->read, sending->delivery.run);
	if (sending->webhooks->stopping) {
		conclude(sending, DELIVERY_HAND_BACK, NULL);
	} else if (operation->outcome != STORE_OK) {
		end(sending); /* again when the lease is over */
	} else if (event) {
		struct event told = *event;
		told.publisher = BYTES_NONE; /* the name of a machine of ours */
		form_event(&sending->body, &told);
		store_operation_fini(operation);
		post(sending);
	} else if (sending->read.more) {
		struct cursor last = sending->read.last;
		store_operation_fini(operation);
		read_on(sending, &last);
	} else {
		sending->outcome.at_us = clock_wall_us();
		conclude(sending, DELIVERY_STOP, "the event is no longer kept");
	}
}

static void read_on(struct sending *sending, const struct cursor *after)
{
	struct store *store = sending->webhooks->store;
	sending->read = (struct read_events){
		.operation = { .done = on_read, .owner = sending },
		.after = *after,
		.task_id = sending->delivery.task_id,
		.kind_mask = TERMINAL_KINDS,
		.limit = EVENTS_AT_ONCE,
	};
	store->ops->read_events(store, &sending->read);
}

void sending_start(struct webhooks *webhooks, const struct delivery *delivery)
{
	struct sending *sending = alloc(sizeof(*sending));
	sending->webhooks = webhooks;
	sending->delivery = *delivery;
	sending->delivery.url = arena_bytes(&sending->arena, delivery->url);
	sending->delivery.origin = arena_bytes(&sending->arena, delivery->origin);
	sending->body = BUFFER_MAX(BODY_MAX);
	sending->signature = BUFFER_MAX(1024);
	sending->outcome = (struct delivery_outcome){
		.task_id = delivery->task_id, .run = delivery->run, .attempt = delivery->attempt
	};
	uv_timer_init(webhooks->loop, &sending->retry);
	sending->retry.data = sending;
	list_push_back(&webhooks->sendings, &sending->link);
	webhooks->sending_count++;
	if (webhooks->stopping)
		conclude(sending, DELIVERY_HAND_BACK, NULL);
	else
		read_on(sending, &(struct cursor){ 0 });
}

void sending_cut(struct sending *sending)
{
	if (sending->step == SENDING_POSTING) {
		http_client_cancel(&sending->call);
	} else if (uv_is_active((uv_handle_t *)&sending->retry)) {
		uv_timer_stop(&sending->retry);
		settle(sending); /* once more, and then it goes */
	}
}
