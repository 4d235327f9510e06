/* The attempt listener: where wrappers report to (wrap/report.h). One route, no token but the signature of each frame.
 *
 * Anybody in the pods' network may connect, the code of an evaluation where no policy forbids it. What one address can take is
 * bounded: so many connections, and in each a head and a body that no wrapper would exceed, before a signature is looked at. The decoder of an
 * attempt keeps nothing of a body that is bad. By default an address may have a quarter of all connections. That leaves the others theirs, and is
 * enough for a node whose pods (110, unless the kubelet was told otherwise) come from the node's own address: each wrapper has one, and for a
 * moment another. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "executor/kubernetes/internal.h"

#define CONNECTIONS_BESIDE 1000
#define PEERS_AT_LEAST 4 /* that all connections are enough for, unless one address may stand for all pods */
#define LOOK_UP_AGAIN_MS 5000 /* after a failure */
#define LOOK_UP_MS (5 * 60 * 1000)

/* What runs is not wanted any more. */
static bool is_to_abort(const struct kube_attempt *attempt)
{
	const struct account *account = &attempt->account;
	return account->cancelled || (account->end && account->end->reason != REASON_NONE);
}

static struct report_answer answer_of(const struct kube_attempt *attempt)
{
	if (attempt->must_repeat || attempt->decoder.upto == REPORT_UPTO_UNKNOWN)
		return (struct report_answer){ .command = COMMAND_REPEAT };
	if (is_to_abort(attempt))
		return (struct report_answer){ .command = COMMAND_ABORT };
	if (!attempt->go_on_known)
		return (struct report_answer){ .command = COMMAND_WAIT };
	return (struct report_answer){ attempt->go_on ? COMMAND_GO_ON : COMMAND_STOP, attempt->allowed };
}

static void answer(struct kube_attempt *attempt, struct http_exchange *exchange)
{
	uint8_t bytes[256];
	const struct report_decoder *decoder = &attempt->decoder;
	const struct report_frame frame = { .kind = FRAME_ANSWER,
		.sequence = decoder->upto == REPORT_UPTO_UNKNOWN ? 0 : decoder->upto,
		.answer = answer_of(attempt) };
	size_t len = report_encode(
		decoder->by_previous ? decoder->previous : &decoder->signer, &frame, bytes, sizeof(bytes));
	http_respond(exchange, 200, "application/octet-stream", (struct bytes){ (const char *)bytes, len }, NULL, 0);
}

static void send_away(struct http_exchange *exchange)
{
	http_respond(exchange, 421, "text/plain", BYTES_LITERAL("no such attempt here\n"), NULL, 0);
}

/* ---- answers that wait ---- */

/* NULL: there is none. */
static struct http_exchange *take_held(struct kube_attempt *attempt)
{
	struct http_exchange *held = attempt->held;
	attempt->held = NULL;
	list_remove(&attempt->hold_link);
	if (held)
		http_exchange_on_abort(held, NULL);
	return held;
}

void listener_answer_held(struct kube_attempt *attempt)
{
	struct http_exchange *held = take_held(attempt);
	if (held)
		answer(attempt, held);
}

void listener_send_away(struct kube_attempt *attempt)
{
	struct http_exchange *held = take_held(attempt);
	if (held)
		send_away(held);
}

static void hold_set(struct kubernetes *k);

static void on_hold(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	int64_t now_us = clock_monotonic_us();
	while (!list_empty(&k->holds)) {
		struct kube_attempt *attempt = LIST_ENTRY(k->holds.next, struct kube_attempt, hold_link);
		if (attempt->hold_until_us > now_us)
			break;
		listener_answer_held(attempt);
	}
	hold_set(k);
}

static void hold_set(struct kubernetes *k)
{
	if (list_empty(&k->holds))
		return;
	int64_t in_us = LIST_ENTRY(k->holds.next, struct kube_attempt, hold_link)->hold_until_us - clock_monotonic_us();
	uv_timer_start(&k->hold, on_hold, in_us > 0 ? (uint64_t)(in_us / US_PER_MS + 1) : 0, 0);
}

static void on_held_aborted(struct http_exchange *exchange)
{
	struct kube_attempt *attempt = http_exchange_data(exchange);
	attempt->held = NULL;
	list_remove(&attempt->hold_link);
}

/* One that asks is told to ask again by and by; one that has told of its end is not, for that would be its answer. */
static void hold(struct kube_attempt *attempt, struct http_exchange *exchange, bool asks)
{
	struct kubernetes *k = attempt->kubernetes;
	attempt->held = exchange;
	http_exchange_set_data(exchange, attempt);
	http_exchange_on_abort(exchange, on_held_aborted);
	if (!asks)
		return;
	attempt->hold_until_us = clock_monotonic_us() + REPORT_ASK_HOLD_US;
	list_push_back(&k->holds, &attempt->hold_link);
	if (!uv_is_active((uv_handle_t *)&k->hold))
		hold_set(k);
}

/* ---- frames ---- */

/* The first that we hear of it. False: it has more than this, which is to come before. */
static bool begins_here(
	struct kube_attempt *attempt, const struct report_frame *frame, uint64_t kept, const struct job_started *where)
{
	if (frame->sequence > kept) {
		attempt->decoder.upto = REPORT_UPTO_UNKNOWN;
		return false;
	}
	if (frame->sequence > 1 && attempt->job)
		account_gap(&attempt->account, where);
	return true;
}

bool listener_take(struct kube_attempt *attempt, struct bytes body, uint64_t kept, bool *ret_asks)
{
	const uint8_t *data = (const uint8_t *)body.data;
	size_t len = body.len;
	struct report_frame frame;
	enum report_result result;
	bool is_first = attempt->decoder.upto == REPORT_UPTO_UNKNOWN;
	const struct job_started where = { .node = bytes_of(attempt->node_name), .pod = bytes_of(attempt->pod_name) };
	const uint64_t repeated = attempt->decoder.repeated;
	bool has_any = false;
	*ret_asks = attempt->must_repeat = false;
	while ((result = report_decoder_next(&attempt->decoder, &data, &len, &frame)) == REPORT_FRAME) {
		has_any = true;
		if (frame.kind == FRAME_PROGRESS) {
			if (attempt->job && !is_first)
				account_frame(&attempt->account, &frame, &where);
			continue;
		}
		if (is_first && !begins_here(attempt, &frame, kept, &where)) {
			report_decoder_cut(&attempt->decoder);
			return true;
		}
		is_first = false;
		if (frame.kind == FRAME_ASK) {
			*ret_asks = frame.ask_run >= attempt->allowed && !attempt->account.cancelled &&
				    !(attempt->go_on_known && !attempt->go_on);
		} else if (attempt->job) {
			account_frame(&attempt->account, &frame, &where);
		}
	}
	has_any |= attempt->decoder.repeated > repeated; /* signed, and taken before */
	/* Signed, but another listener had what comes before. */
	attempt->must_repeat = attempt->decoder.fault == REPORT_FAULT_SEQUENCE;
	report_decoder_cut(&attempt->decoder);
	return has_any ? result == REPORT_MORE || attempt->must_repeat : attempt->must_repeat;
}

/* Of the first frame, not checked yet (wrap/report.h). */
static uint64_t sequence_of(struct bytes frames)
{
	uint64_t sequence = 0;
	for (size_t i = 32; i < 40 && frames.len >= 40; i++)
		sequence = sequence << 8 | (uint8_t)frames.data[i];
	return sequence;
}

void listener_take_published(struct kube_attempt *attempt, struct bytes frames)
{
	const uint64_t upto = attempt->decoder.upto;
	bool asks;
	if (upto != REPORT_UPTO_UNKNOWN && sequence_of(frames) > upto + 1)
		attempt->decoder.upto = REPORT_UPTO_UNKNOWN;
	if (listener_take(attempt, frames, UINT64_MAX, &asks))
		return;
	attempt->decoder.upto = upto;
	attempt->kubernetes->forged++;
}

/* kept=N; without it, what comes first is taken for all that there is. */
static uint64_t kept_of_query(struct bytes query)
{
	static const char name[] = "kept=";
	int64_t kept;
	if (query.len <= sizeof(name) - 1 || memcmp(query.data, name, sizeof(name) - 1) != 0 ||
		!text_to_int((struct bytes){ query.data + sizeof(name) - 1, query.len - (sizeof(name) - 1) }, 0,
			INT64_MAX, &kept))
		return UINT64_MAX;
	return (uint64_t)kept;
}

/* /attempts/{task}/{attempt}/{what} */
static struct kube_attempt *kube_attempt_of_path(const struct kubernetes *k, struct bytes path, struct bytes *ret_what)
{
	static const char head[] = "/attempts/";
	size_t fixed = sizeof(head) - 1 + UUID_TEXT_SIZE - 1;
	struct uuid task_id;
	int64_t number;
	if (path.len <= fixed + 1 || memcmp(path.data, head, sizeof(head) - 1) != 0 || path.data[fixed] != '/' ||
		!uuid_parse((struct bytes){ path.data + sizeof(head) - 1, UUID_TEXT_SIZE - 1 }, &task_id))
		return NULL;
	struct bytes rest = { path.data + fixed + 1, path.len - fixed - 1 };
	const char *slash = memchr(rest.data, '/', rest.len);
	size_t digits = slash ? (size_t)(slash - rest.data) : 0;
	if (digits == 0 || !text_to_int((struct bytes){ rest.data, digits }, 1, INT32_MAX, &number))
		return NULL;
	*ret_what = (struct bytes){ slash + 1, rest.len - digits - 1 };
	return kube_attempt_find(k, &task_id, (int)number);
}

static void refuse(struct kubernetes *k, struct http_exchange *exchange)
{
	k->forged++;
	http_respond(exchange, 403, "text/plain", BYTES_LITERAL("not of this attempt\n"), NULL, 0);
}

static void answer_plan(struct kube_attempt *attempt, struct http_exchange *exchange, struct bytes body)
{
	struct kubernetes *k = attempt->kubernetes;
	const struct kube_plan_options options = kubernetes_plan_options(k);
	const struct language *language = attempt->job ? kube_attempt_language(attempt) : NULL;
	struct report_decoder *decoder = &attempt->decoder;
	struct buffer plan = { 0 };
	struct err err = { 0 };
	uint8_t code[SHA256_SIZE];
	char text[2 * SHA256_SIZE + 1];
	if (!report_is_fetch(decoder, (const uint8_t *)body.data, body.len)) {
		refuse(k, exchange);
	} else if (listener_is_unknown(k)) {
		send_away(exchange); /* it comes again */
	} else if (!language || kube_plan_write_plain(&options, language, attempt->job, &plan, &err) < 0) {
		http_respond(exchange, 410, "text/plain", BYTES_LITERAL("this attempt has ended\n"), NULL, 0);
	} else {
		report_sign_plan(
			decoder->by_previous ? decoder->previous : &decoder->signer, plan.data, plan.len, code);
		sha256_format(code, text);
		const struct http_header header = { BYTES_LITERAL(REPORT_PLAN_HEADER), bytes_of(text) };
		http_respond(exchange, 200, "application/octet-stream", buffer_bytes(&plan), &header, 1);
	}
	buffer_fini(&plan);
}

static void answer_frames(
	struct kube_attempt *attempt, struct http_exchange *exchange, const struct http_request *request)
{
	struct kubernetes *k = attempt->kubernetes;
	bool asks;
	if (!listener_take(attempt, request->body, kept_of_query(request->query), &asks)) {
		refuse(k, exchange);
		return;
	}
	listener_answer_held(attempt);
	bool waits = asks || (attempt->account.end && !attempt->settled);
	if (waits && !attempt->must_repeat && !is_to_abort(attempt))
		hold(attempt, exchange, asks);
	else
		answer(attempt, exchange);
	if (attempt->account.end)
		kube_attempt_over(attempt);
	kube_attempt_staged(attempt);
}

static void on_request(void *owner, struct http_exchange *exchange)
{
	struct kubernetes *k = owner;
	const struct http_request *request = http_exchange_request(exchange);
	struct bytes what = BYTES_NONE;
	struct kube_attempt *attempt =
		request->method == HTTP_METHOD_POST ? kube_attempt_of_path(k, request->path, &what) : NULL;
	if (!attempt)
		send_away(exchange);
	else if (bytes_is(what, "frames"))
		answer_frames(attempt, exchange, request);
	else if (bytes_is(what, "plan"))
		answer_plan(attempt, exchange, request->body);
	else
		http_respond(exchange, 404, "text/plain", BYTES_LITERAL("no such thing\n"), NULL, 0);
}

static size_t body_limit(void *owner, const struct http_request *request)
{
	return REPORT_BODY_MAX;
}

/* ---- what leads to any replica ---- */

static void on_look_up_again(uv_timer_t *timer)
{
	listener_look_up(timer->data);
}

static void set_fallback(struct kubernetes *k, const struct addrinfo *found)
{
	char text[INET6_ADDRSTRLEN];
	if (uv_ip_name(found->ai_addr, text, sizeof(text)) == 0)
		snprintf(k->fallback, sizeof(k->fallback), found->ai_family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
			k->options.fallback_port);
}

static void on_looked_up(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
	struct kubernetes *k = lookup->data;
	struct err err = { 0 };
	k->is_looking_up = false;
	if (k->state == STATE_STOPPING) {
		uv_freeaddrinfo(found);
		kubernetes_part_stopped(k);
		return;
	}
	if (status == 0) {
		set_fallback(k, found);
	} else {
		err_set(&err, status, "%s: %s", k->options.fallback_host, uv_strerror(status));
		log_event(k->options.log, LOG_WARNING, "the address behind the attempt listeners of all is not known",
			L_ERR(&err));
	}
	uv_freeaddrinfo(found);
	uv_timer_start(&k->look_up_again, on_look_up_again, status == 0 ? LOOK_UP_MS : LOOK_UP_AGAIN_MS, 0);
}

void listener_look_up(struct kubernetes *k)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	if (!k->server || !k->options.fallback_host)
		return;
	int rc = uv_getaddrinfo(k->options.loop, &k->lookup, on_looked_up, k->options.fallback_host, NULL, &hints);
	k->is_looking_up = rc == 0;
	if (rc < 0)
		log_event(k->options.log, LOG_WARNING, "the attempt listeners of all have an impossible name",
			L_STR("host", k->options.fallback_host));
}

/* One address must not take all, and yet be enough for all that runs: behind address translation all pods have the same. */
static size_t connections_of_an_address(const struct kubernetes *k, size_t connections_max)
{
	size_t slots = (size_t)k->options.slots, of_all = connections_max / PEERS_AT_LEAST, for_all = slots + slots / 4;
	if (k->options.address_connections > 0)
		return (size_t)k->options.address_connections;
	return for_all > of_all ? for_all : of_all;
}

static bool is_wildcard(const char *host)
{
	return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

/* Whether pods can be told it: an address of another family than the listener's, or that means something else to each, is none. */
static bool is_for_pods(const struct kubernetes *k, const char *address)
{
	bool is_six = strchr(address, ':') != NULL;
	if (is_six)
		return strcmp(k->options.listen_host, "::") == 0 && strcmp(address, "::1") != 0 &&
		       strncmp(address, "fe80:", 5) != 0;
	return address[0] != '\0' && strncmp(address, "127.", 4) != 0;
}

bool listener_is_unknown(const struct kubernetes *k)
{
	return k->listener && k->listener[0] == '\0';
}

void listener_learn_address(struct kubernetes *k)
{
	const char *address = kube_client_local_address(k->client);
	char text[INET6_ADDRSTRLEN + sizeof("[]:65535")];
	if (k->learnt_port == 0 || !is_for_pods(k, address))
		return;
	snprintf(text, sizeof(text), strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, k->learnt_port);
	if (strcmp(text, k->listener) == 0)
		return;
	log_event(k->options.log, LOG_INFO, "pods report to the address that the API server is reached from",
		L_STR("address", text));
	free(k->listener);
	k->listener = string_copy(text);
	kubernetes_changed(k);
}

int listener_start(struct kubernetes *k, struct err *err)
{
	const size_t connections_max = (size_t)k->options.slots + CONNECTIONS_BESIDE; /* each wrapper keeps its own */
	const struct http_server_options options = { .loop = k->options.loop,
		.log = k->options.log,
		.owner = k,
		.limits = { .connections_max = connections_max,
			.connections_per_peer_max = connections_of_an_address(k, connections_max) },
		.body_limit = body_limit,
		.on_request = on_request };
	const char *host = k->options.listen_host, *to = k->options.report_to;
	struct buffer text = { 0 };
	uint16_t port;
	if (k->options.report_redis)
		return reports_init(k, err);
	if (!host)
		return 0;
	k->server = http_server_new(&options);
	if (http_server_listen(k->server, host, k->options.listen_port, &port, err) < 0)
		return err_prefix(err, "the attempt listener");
	if (!to && is_wildcard(host)) {
		k->learnt_port = port;
		k->listener = string_copy("");
		return 0;
	}
	bool has_port = to && strchr(to, ':') &&
			(to[0] != '[' ? strchr(to, ':') == strrchr(to, ':') : strstr(to, "]:") != NULL);
	buffer_append_string(&text, to ? to : host);
	if (!has_port)
		buffer_printf(&text, ":%u", port);
	buffer_append_char(&text, '\0');
	k->listener = text.data;
	return 0;
}
