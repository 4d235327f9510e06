/* A request is ours, a call the caller's. A request is in `requests` until its call is given back, and freed in
 * the close callback of its timer. Whatever is to be sent goes through the queue, and is sent from a timer: so
 * calls may be handed in from within libcurl's callbacks too. */
#include "executor/kubernetes/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"

#define PAUSE_US (US_PER_S / 10)
#define PAUSE_MAX_US (10 * US_PER_S)
#define ANSWER_MAX ((size_t)4 << 20)
#define STATUS_MAX 65536 /* bytes of a stream's answer that is none */
#define CONNECTIONS_KEPT 64 /* where there is no bound */
#define LATE_TIMERS 50 /* parts of a second that a timer may be late */

enum step { QUEUED, SENDING, PAUSING, REREADING, ENDING };

struct kube_request {
	struct list link; /* the client's `requests`, until its call is given back */
	struct list queue_link; /* the client's `queue` or `rereading`, or none */
	struct kube_client *client; /* borrowed */
	struct kube_call *call; /* borrowed; NULL once it was given back */
	enum step step;
	char *url; /* owned */
	struct buffer authorization; /* owned */
	struct http_header headers[4];
	uv_timer_t timer; /* the end of a pause, or of patience */
	int64_t deadline_at_us; /* monotonic; 0: none */
	int failures; /* tries that are to be followed by another */
	uint64_t token_version; /* of the last try */
	bool reread; /* a 401 had its second try with another token, … */
	bool reconnected; /* … with a certificate that was read anew */
	uint64_t round; /* the client's when it came into the queue */
	bool cancelled;
	struct err why; /* ENDING */
};

struct kube_client {
	uv_loop_t *loop; /* borrowed */
	struct kube_access *access; /* owned */
	struct http_client *http; /* owned; NULL once it is closed */
	double rate, burst, allowance; /* the bucket: requests that may be sent now */
	int64_t filled_at_us;
	uint64_t round; /* raised whenever the bucket was empty and somebody was left */
	bool short_of; /* somebody waits for the bucket */
	size_t connections_max; /* 0: no bound */
	size_t sending; /* requests that http has: one connection each */
	int64_t pause_us, pause_max_us;
	struct list requests; /* all that have a call */
	struct list queue; /* QUEUED, by queue_link */
	struct list rereading; /* REREADING, by queue_link */
	uv_timer_t pump; /* something of the queue is to be sent, or the close goes on */
	size_t open; /* requests whose timer is not closed */
	struct kube_client_figures figures;
	struct kube_request_count *counts; /* owned */
	size_t count_count;
	bool closing;
	void (*on_closed)(void *owner);
	void *closed_owner;
};

static void on_pump(uv_timer_t *timer);

int64_t kube_pause_us(int failures, int64_t first_us, int64_t most_us)
{
	int64_t pause_us = first_us;
	for (int i = 1; i < failures && pause_us < most_us; i++)
		pause_us *= 2;
	pause_us = pause_us > most_us ? most_us : pause_us;
	uint16_t random;
	random_bytes(&random, sizeof(random));
	return pause_us / 2 + (int64_t)((double)pause_us / 2 * random / UINT16_MAX);
}

void kube_query_append(struct buffer *buffer, struct bytes text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.data[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			     (c && strchr("-._~", c));
		if (plain)
			buffer_append_char(buffer, (char)c);
		else
			buffer_printf(buffer, "%%%02X", c);
	}
}

/* ---- the end of a call ---- */

static void on_request_closed(uv_handle_t *handle)
{
	struct kube_request *request = handle->data;
	struct kube_client *client = request->client;
	free(request->url);
	if (request->authorization.data)
		explicit_bzero(request->authorization.data, request->authorization.len);
	buffer_fini(&request->authorization);
	free(request);
	if (--client->open == 0 && client->closing)
		uv_timer_start(&client->pump, on_pump, 0, 0);
}

/* Gives the call back; its outcome is set. */
static void finish(struct kube_request *request)
{
	struct kube_call *call = request->call;
	list_remove(&request->link);
	list_remove(&request->queue_link);
	request->call = NULL;
	call->request = NULL;
	uv_close((uv_handle_t *)&request->timer, on_request_closed);
	if (call->done)
		call->done(call);
}

static void on_timer(uv_timer_t *timer);

static void timer_start(struct kube_request *request, int64_t us)
{
	uv_timer_start(&request->timer, on_timer, us > 0 ? (uint64_t)(us / US_PER_MS + 1) : 0, 0);
}

static void end_later(struct kube_request *request, int code, const char *why)
{
	list_remove(&request->queue_link);
	request->step = ENDING;
	err_set(&request->why, code, "%s", why);
	timer_start(request, 0);
}

/* ---- the queue ---- */

static void pump_soon(struct kube_client *client)
{
	uv_timer_start(&client->pump, on_pump, 0, 0);
}

static void enqueue(struct kube_request *request, bool first)
{
	struct kube_client *client = request->client;
	request->step = QUEUED;
	request->round = client->round;
	list_remove(&request->queue_link);
	if (first)
		list_push_front(&client->queue, &request->queue_link);
	else
		list_push_back(&client->queue, &request->queue_link);
	if (request->deadline_at_us)
		timer_start(request, request->deadline_at_us - clock_monotonic_us());
	else
		uv_timer_stop(&request->timer);
	pump_soon(client);
}

/* Takes one request's worth out of the bucket. False: *ret_wait_us until there is one. While somebody waits, what
 * our timer is late by is not lost, or a small burst would make the rate smaller. */
static bool take_allowance(struct kube_client *client, int64_t *ret_wait_us)
{
	int64_t now_us = clock_monotonic_us();
	if (client->rate <= 0)
		return true;
	client->allowance += (double)(now_us - client->filled_at_us) * client->rate / (double)US_PER_S;
	client->filled_at_us = now_us;
	double most = client->burst + (client->short_of ? client->rate / LATE_TIMERS : 0);
	if (client->allowance > most)
		client->allowance = most;
	if (client->allowance >= 1) {
		client->allowance -= 1;
		return true;
	}
	*ret_wait_us = (int64_t)((1 - client->allowance) * (double)US_PER_S / client->rate) + 1;
	return false;
}

static void send_request(struct kube_request *request);
static void close_on(struct kube_client *client);

/* Whoever comes then waits here, where the urgent stand first, and not in libcurl, which looks at all that wait whenever one is done. */
static bool connections_busy(const struct kube_client *client)
{
	return client->connections_max && client->sending >= client->connections_max;
}

static void on_pump(uv_timer_t *timer)
{
	struct kube_client *client = timer->data;
	int64_t wait_us = 0;
	while (!list_empty(&client->queue) && !connections_busy(client) && take_allowance(client, &wait_us))
		send_request(LIST_ENTRY(list_pop_front(&client->queue), struct kube_request, queue_link));
	client->short_of = wait_us > 0;
	if (client->short_of) {
		client->round++;
		uv_timer_start(timer, on_pump, (uint64_t)(wait_us / US_PER_MS + 1), 0);
	}
	if (client->closing)
		close_on(client);
}

/* ---- what an answer means ---- */

static void copy_text(char *to, size_t size, yyjson_val *value)
{
	struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
	if (!text.data)
		return;
	size_t len = text.len < size ? text.len : size - 1;
	len = utf8_valid_prefix((struct bytes){ text.data, len });
	for (size_t i = 0; i < len; i++) /* what the server says may be shown on one line */
		to[i] = (unsigned char)text.data[i] < ' ' ? ' ' : text.data[i];
	to[len] = '\0';
}

static void status_parse(struct kube_call *call)
{
	struct kube_status *said = &call->said;
	struct bytes answer = kube_call_answer(call);
	said->code = call->status;
	said->retry_after_us = http_call_retry_after_us(&call->http);
	yyjson_doc *document = answer.len > 0 ? yyjson_read(answer.data, answer.len, 0) : NULL;
	yyjson_val *root = yyjson_doc_get_root(document);
	if (yyjson_equals_str(yyjson_obj_get(root, "kind"), "Status")) {
		yyjson_val *details = yyjson_obj_get(root, "details");
		int64_t seconds = yyjson_get_sint(yyjson_obj_get(details, "retryAfterSeconds"));
		copy_text(said->reason, sizeof(said->reason), yyjson_obj_get(root, "reason"));
		copy_text(said->message, sizeof(said->message), yyjson_obj_get(root, "message"));
		if (said->retry_after_us == 0 && seconds > 0 && seconds <= INT32_MAX)
			said->retry_after_us = seconds * US_PER_S;
	}
	yyjson_doc_free(document);
}

static int code_of(const struct kube_call *call)
{
	switch (call->status) {
	case 401:
		return -EACCES;
	case 403:
		return -EPERM;
	case 404:
		return -ENOENT;
	case 409:
		return strcmp(call->said.reason, "AlreadyExists") == 0 ? -EEXIST : -EBUSY;
	case 410:
		return -ESTALE;
	case 429:
		return -EAGAIN;
	default:
		return call->status >= 400 && call->status < 500 ? -EINVAL : -EIO;
	}
}

static void set_outcome(struct kube_request *request)
{
	struct kube_call *call = request->call;
	const struct http_call *http = &call->http;
	const struct err *token_err = kube_access_token_error(request->client->access);
	struct err before = call->err;
	call->status = http->status;
	call->err = (struct err){ 0 };
	call->said = (struct kube_status){ 0 };
	if (request->cancelled || http->err.code == -ECANCELED || http->status == 0) {
		call->err = http->err;
		if (call->err.code == 0)
			err_set(&call->err, -ECANCELED, "cancelled");
		else if (call->err.code == -ETIMEDOUT && request->failures > 0)
			err_set(&call->err, -ETIMEDOUT, "%s, and before: %s", http->err.message, before.message);
	} else if (http->status < 200 || http->status > 299) {
		status_parse(call);
		const char *words = call->said.message[0] ? call->said.message : "it does not say why";
		err_set(&call->err, code_of(call), "the API server answered %d%s%s: %s%s%s", call->status,
			call->said.reason[0] ? " " : "", call->said.reason, words,
			call->status == 401 && token_err->code ? "; and the token cannot be read: " : "",
			call->status == 401 ? token_err->message : "");
	} else if (http->err.code) {
		call->err = http->err; /* the answer was cut off */
	} else if (http->cut && !call->on_data) {
		err_set(&call->err, -EMSGSIZE, "the API server's answer is larger than %zu bytes", http->answer_max);
	}
}

/* ---- again, or not ---- */

static bool idempotent(const struct kube_call *call)
{
	return strcmp(call->method, "GET") == 0 || strcmp(call->method, "PUT") == 0 ||
	       strcmp(call->method, "DELETE") == 0;
}

static bool may_go_again(const struct kube_request *request)
{
	const struct kube_call *call = request->call;
	int code = call->http.err.code;
	if (call->again == KUBE_AGAIN_NEVER || !request->deadline_at_us || request->cancelled ||
		request->client->closing || call->err.code == 0)
		return false;
	if (call->status == 429)
		return true;
	bool harmless = call->again == KUBE_AGAIN_ALWAYS || idempotent(call);
	if (call->status >= 500)
		return harmless;
	if (code == -ECANCELED || code == -EINVAL || code == -EACCES || code == -EMSGSIZE || code == 0)
		return false;
	/* A connection that was lost, or never came to be. */
	return !call->on_data && (harmless || !call->http.sent);
}

static bool pause_before_next(struct kube_request *request)
{
	struct kube_client *client = request->client;
	int64_t pause_us = kube_pause_us(request->failures + 1, client->pause_us, client->pause_max_us);
	int64_t asked_us = request->call->said.retry_after_us;
	if (asked_us > 0)
		pause_us = asked_us + pause_us / 2; /* not all at the same moment */
	if (request->deadline_at_us && clock_monotonic_us() + pause_us >= request->deadline_at_us)
		return false;
	request->failures++;
	request->step = PAUSING;
	timer_start(request, pause_us);
	return true;
}

/* After a 401: again at once where there is a newer token, else when the file was read once more. */
static bool try_newer_token(struct kube_request *request)
{
	struct kube_client *client = request->client;
	uint64_t version;
	if (request->call->status != 401 || request->reread || request->cancelled || client->closing)
		return false;
	if (kube_access_refused(client->access, request->token_version)) {
		request->reread = true;
		request->step = REREADING;
		list_push_back(&client->rereading, &request->queue_link);
		if (request->deadline_at_us)
			timer_start(request, request->deadline_at_us - clock_monotonic_us());
		return true;
	}
	kube_access_token(client->access, &version);
	if (version == request->token_version)
		return false;
	request->reread = true;
	enqueue(request, true);
	return true;
}

/* After a 401 where we are known by a certificate: a connection keeps the one that it was made with. */
static bool try_newer_certificate(struct kube_request *request)
{
	struct kube_client *client = request->client;
	if (request->call->status != 401 || request->reconnected || request->cancelled || client->closing ||
		!kube_access_tls(client->access)->certificate_file)
		return false;
	request->reconnected = true;
	http_client_renew(client->http);
	enqueue(request, true);
	return true;
}

static void on_reread(void *owner)
{
	struct kube_client *client = owner;
	struct list waiting, *link;
	list_init(&waiting);
	list_splice_back(&waiting, &client->rereading);
	while ((link = list_pop_front(&waiting))) {
		struct kube_request *request = LIST_ENTRY(link, struct kube_request, queue_link);
		uint64_t version;
		kube_access_token(client->access, &version);
		if (version != request->token_version) {
			enqueue(request, true);
		} else if (!try_newer_certificate(request)) {
			set_outcome(request); /* with what the reading said */
			finish(request);
		}
	}
}

/* Deadline over, pause over, or the end that was to come later. */
static void on_timer(uv_timer_t *timer)
{
	struct kube_request *request = timer->data;
	struct kube_call *call = request->call;
	switch (request->step) {
	case PAUSING:
		enqueue(request, true);
		return;
	case QUEUED:
		if (call->tries == 0 && connections_busy(request->client))
			err_set(&call->err, -ETIMEDOUT, "the %zu connections to the API server were busy",
				request->client->connections_max);
		else if (call->tries == 0)
			err_set(&call->err, -ETIMEDOUT,
				"the limit on the rate of requests to the API server left no time for this one");
		break;
	case ENDING:
		call->status = 0;
		call->err = request->why;
		break;
	case SENDING:
	case REREADING:
		break; /* the outcome of the last try */
	}
	finish(request);
}

/* ---- one try ---- */

static const char *verb_of(const char *method, bool named, bool watches)
{
	static const char *const verbs[][2] = { { "POST", "create" }, { "PUT", "update" }, { "PATCH", "patch" },
		{ "DELETE", "delete" } };
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (strcmp(method, verbs[i][0]) == 0)
			return verbs[i][1];
	return watches ? "watch" : named ? "get" : "list";
}

/* Of "/api/v1/namespaces/NAME/pods/NAME?…": "get", "pods". */
static struct kube_request_count request_of(const struct kube_call *call)
{
	static const char before[] = "/namespaces/";
	struct kube_request_count request = { .status = call->http.status, .count = 1 };
	const char *namespace = strstr(call->path, before);
	const char *resource = namespace ? strchr(namespace + sizeof(before) - 1, '/') : NULL;
	size_t len = resource ? strcspn(resource + 1, "/?") : 0;
	snprintf(request.resource, sizeof(request.resource), "%.*s", resource ? (int)len : 5,
		resource ? resource + 1 : "other");
	snprintf(request.verb, sizeof(request.verb), "%s",
		verb_of(call->method, resource && resource[1 + len] == '/', strstr(call->path, "?watch=1") != NULL));
	return request;
}

static void count_try(struct kube_client *client, const struct kube_call *call)
{
	const struct kube_request_count request = request_of(call);
	for (size_t i = 0; i < client->count_count; i++) {
		struct kube_request_count *count = &client->counts[i];
		if (count->status == request.status && strcmp(count->verb, request.verb) == 0 &&
			strcmp(count->resource, request.resource) == 0) {
			count->count++;
			return;
		}
	}
	/* Bounded: our verbs and resources, and the three digits of a status. */
	client->counts = realloc_array(client->counts, client->count_count + 1, sizeof(client->counts[0]));
	client->counts[client->count_count++] = request;
}

static void on_http_done(struct http_call *http)
{
	struct kube_request *request = http->owner;
	struct kube_client *client = request->client;
	client->sending--;
	if (!list_empty(&client->queue))
		pump_soon(client);
	count_try(client, request->call);
	set_outcome(request);
	if (try_newer_token(request) || try_newer_certificate(request) ||
		(may_go_again(request) && pause_before_next(request)))
		return;
	finish(request);
}

static bool is_stream(const struct http_call *http)
{
	const struct kube_request *request = http->owner;
	return request->call->on_data && http->status >= 200 && http->status <= 299;
}

static void on_http_head(struct http_call *http)
{
	struct kube_request *request = http->owner;
	if (is_stream(http) && request->call->on_head)
		request->call->on_head(request->call);
}

static bool on_http_data(struct http_call *http, struct bytes data)
{
	struct kube_request *request = http->owner;
	if (is_stream(http))
		return request->call->on_data(request->call, data);
	size_t room = STATUS_MAX - http->answer.len;
	buffer_append(&http->answer, data.data, data.len < room ? data.len : room);
	return data.len <= room;
}

static size_t headers_make(struct kube_request *request)
{
	static const struct bytes types[] = {
		[KUBE_JSON] = BYTES_LITERAL("application/json"),
		[KUBE_MERGE_PATCH] = BYTES_LITERAL("application/merge-patch+json"),
		[KUBE_STRATEGIC_PATCH] = BYTES_LITERAL("application/strategic-merge-patch+json"),
	};
	struct bytes token = kube_access_token(request->client->access, &request->token_version);
	struct http_header *headers = request->headers;
	size_t count = 0;
	headers[count++] = (struct http_header){ BYTES_LITERAL("User-Agent"), BYTES_LITERAL("assay/" ASSAY_VERSION) };
	headers[count++] = (struct http_header){ BYTES_LITERAL("Accept"), BYTES_LITERAL("application/json") };
	if (request->call->body.data)
		headers[count++] = (struct http_header){ BYTES_LITERAL("Content-Type"), types[request->call->content] };
	if (token.data) {
		buffer_clear(&request->authorization);
		buffer_append_string(&request->authorization, "Bearer ");
		buffer_append_bytes(&request->authorization, token);
		headers[count++] =
			(struct http_header){ BYTES_LITERAL("Authorization"), buffer_bytes(&request->authorization) };
	}
	return count;
}

static void send_request(struct kube_request *request)
{
	struct kube_client *client = request->client;
	struct kube_call *call = request->call;
	int64_t left_us = request->deadline_at_us ? request->deadline_at_us - clock_monotonic_us() : 0;
	uv_timer_stop(&request->timer);
	if (request->deadline_at_us && left_us <= 0) {
		timer_start(request, 0); /* QUEUED, and its time is up */
		return;
	}
	struct buffer head = call->http.head, answer = call->http.answer; /* their memory is used again */
	call->http = (struct http_call){
		.method = call->method,
		.url = request->url,
		.headers = request->headers,
		.header_count = headers_make(request),
		.body = call->body,
		.deadline_us = left_us,
		.idle_us = call->idle_us,
		.answer_max = call->answer_max ? call->answer_max : ANSWER_MAX,
		.on_head = call->on_head ? on_http_head : NULL,
		.on_data = call->on_data ? on_http_data : NULL,
		.done = on_http_done,
		.owner = request,
		.head = head,
		.answer = answer,
	};
	request->step = SENDING;
	client->figures.throttled += request->round != client->round;
	client->figures.retries += call->tries > 0;
	call->tries++;
	client->sending++;
	http_client_call(client->http, &call->http);
}

/* ---- calls ---- */

void kube_client_call(struct kube_client *client, struct kube_call *call)
{
	struct kube_request *request = alloc(sizeof(*request));
	struct buffer url = BUFFER_MAX(0);
	request->client = client;
	request->call = call;
	call->request = request;
	call->err = (struct err){ 0 };
	call->status = call->tries = 0;
	call->said = (struct kube_status){ 0 };
	buffer_append_string(&url, kube_access_url(client->access));
	buffer_append_string(&url, call->path);
	buffer_append_char(&url, '\0');
	request->url = url.data;
	if (call->deadline_us)
		request->deadline_at_us = clock_monotonic_us() + call->deadline_us;
	uv_timer_init(client->loop, &request->timer);
	request->timer.data = request;
	client->open++;
	list_push_back(&client->requests, &request->link);
	if (client->closing)
		end_later(request, -ECANCELED, "the client is closing");
	else if (url.failed)
		end_later(request, -ENOMEM, "there is not enough memory for the request");
	else
		enqueue(request, call->urgent);
}

static void cancel(struct kube_request *request, const char *why)
{
	request->cancelled = true;
	if (request->step == SENDING)
		http_client_cancel(&request->call->http);
	else if (request->step != ENDING)
		end_later(request, -ECANCELED, why);
}

void kube_client_cancel(struct kube_call *call)
{
	if (call->request)
		cancel(call->request, "cancelled");
}

struct bytes kube_call_answer(const struct kube_call *call)
{
	return buffer_bytes(&call->http.answer);
}

void kube_call_fini(struct kube_call *call)
{
	http_call_fini(&call->http);
}

const struct kube_access *kube_client_access(const struct kube_client *client)
{
	return client->access;
}

const char *kube_client_local_address(const struct kube_client *client)
{
	return http_client_local_address(client->http);
}

struct kube_client_figures kube_client_figures(const struct kube_client *client)
{
	struct kube_client_figures figures = client->figures;
	for (const struct list *link = client->queue.next; link != &client->queue; link = link->next)
		figures.queued++;
	for (const struct list *link = client->requests.next; link != &client->requests; link = link->next)
		figures.open++;
	figures.requests = client->counts;
	figures.request_count = client->count_count;
	return figures;
}

/* ---- life ---- */

static void on_access_dropped(void *owner)
{
}

struct kube_client *kube_client_new(const struct kube_client_options *options, struct err *err)
{
	const struct http_client_options http = {
		.loop = options->loop,
		.tls = *kube_access_tls(options->access),
		.connections_max = options->connections_max,
		/* libcurl counts the others, too. */
		.idle_connections_max = options->connections_max ? options->connections_max : CONNECTIONS_KEPT,
	};
	struct http_client *inner = http_client_new(&http, err);
	if (!inner) {
		kube_access_close(options->access, on_access_dropped, NULL);
		return NULL;
	}
	struct kube_client *client = alloc(sizeof(*client));
	client->loop = options->loop;
	client->access = options->access;
	client->http = inner;
	client->connections_max = options->connections_max;
	client->rate = options->rate;
	client->burst = client->allowance = options->burst > 1 ? options->burst : 1;
	client->filled_at_us = clock_monotonic_us();
	client->pause_us = options->pause_us ? options->pause_us : PAUSE_US;
	client->pause_max_us = options->pause_max_us ? options->pause_max_us : PAUSE_MAX_US;
	list_init(&client->requests);
	list_init(&client->queue);
	list_init(&client->rereading);
	uv_timer_init(client->loop, &client->pump);
	client->pump.data = client;
	kube_access_listen(client->access, on_reread, client);
	return client;
}

static void on_pump_closed(uv_handle_t *handle)
{
	struct kube_client *client = handle->data;
	void (*on_closed)(void *owner) = client->on_closed;
	void *owner = client->closed_owner;
	free(client->counts);
	free(client);
	on_closed(owner);
}

static void on_access_closed(void *owner)
{
	struct kube_client *client = owner;
	uv_close((uv_handle_t *)&client->pump, on_pump_closed);
}

static void on_http_closed(void *owner)
{
	struct kube_client *client = owner;
	kube_access_close(STEAL(client->access), on_access_closed, client);
}

/* When the last request has gone. */
static void close_on(struct kube_client *client)
{
	if (client->open == 0 && client->http)
		http_client_close(STEAL(client->http), on_http_closed, client);
}

void kube_client_close(struct kube_client *client, void (*on_closed)(void *owner), void *owner)
{
	client->closing = true;
	client->on_closed = on_closed;
	client->closed_owner = owner;
	LIST_EACH (&client->requests, link)
		cancel(LIST_ENTRY(link, struct kube_request, link), "the client is closing");
	pump_soon(client);
}
