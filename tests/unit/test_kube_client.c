/* Calls to an API server: what is sent, what an answer means, what is sent again and what never. */
#include "executor/kubernetes/client.h"

#include <errno.h>

#include "base/text.h"
#include "https_server.h"
#include "kube_world.h"

struct one {
	struct kube_call call;
	int times;
	bool done;
	bool again; /* handed in once more from its end */
	size_t bytes; /* that on_data got */
	int heads;
	struct one *from_data; /* handed in from on_data */
};

static void on_done(struct kube_call *call)
{
	struct one *one = call->owner;
	CHECK(!w.inside);
	CHECK(!call->request);
	one->times++;
	one->done = true;
	if (one->again) {
		one->again = false;
		kube_client_call(w.client, call);
	}
}

static void one_init(struct one *one, const char *method, const char *path)
{
	*one = (struct one){ .call = {
				     .method = method, .path = path, .deadline_us = 30 * US_PER_S, .done = on_done } };
	one->call.owner = one;
	if (strcmp(method, "POST") == 0 || strcmp(method, "PATCH") == 0)
		one->call.body = BYTES_LITERAL("{}");
}

static void one_start(struct one *one)
{
	w.inside = true;
	kube_client_call(w.client, &one->call);
	w.inside = false;
}

static void one_run(struct one *one)
{
	one_start(one);
	run_until(&one->done);
}

static void one_fini(struct one *one)
{
	CHECK_INT(one->times, 1);
	CHECK(!one->call.err.code == !one->call.err.message[0]);
	kube_call_fini(&one->call);
}

static uint64_t counted(const char *verb, const char *resource, int status)
{
	struct kube_client_figures figures = kube_client_figures(w.client);
	for (size_t i = 0; i < figures.request_count; i++)
		if (strcmp(figures.requests[i].verb, verb) == 0 &&
			strcmp(figures.requests[i].resource, resource) == 0 && figures.requests[i].status == status)
			return figures.requests[i].count;
	return 0;
}

/* ---- what is sent, and what comes ---- */

static void answer_well(struct http_exchange *exchange, const struct http_request *request)
{
	CHECK_BYTES(http_request_header(request, "user-agent"), "assay/" ASSAY_VERSION);
	CHECK_BYTES(http_request_header(request, "accept"), "application/json");
	respond(exchange, request->method == HTTP_METHOD_POST ? 201 : 200, "{\"kind\":\"Job\"}");
}

TEST(requests_and_answers)
{
	static const struct {
		const char *method, *path;
		enum kube_content content;
		int status;
	} cases[] = {
		{ "GET", "/api/v1/pods?limit=1", KUBE_JSON, 200 },
		{ "POST", "/apis/batch/v1/jobs", KUBE_JSON, 201 },
		{ "PATCH", "/a", KUBE_MERGE_PATCH, 200 },
		{ "PATCH", "/b", KUBE_STRATEGIC_PATCH, 200 },
		{ "DELETE", "/c", KUBE_JSON, 200 },
		{ "GET", "/api/v1/namespaces/x/pods/y/log?follow=true", KUBE_JSON, 200 },
		{ "GET", "/apis/batch/v1/namespaces/x/jobs?watch=1", KUBE_JSON, 200 },
		{ "POST", "/apis/batch/v1/namespaces/x/jobs", KUBE_JSON, 201 },
	};
	world_open(answer_well);
	world_client(&(struct kube_access_options){ .token = "secret" }, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one one;
		one_init(&one, cases[i].method, cases[i].path);
		one.call.content = cases[i].content;
		one_run(&one);
		CHECK_INT(one.call.err.code, 0);
		CHECK_INT(one.call.status, cases[i].status);
		CHECK_INT(one.call.tries, 1);
		CHECK_BYTES(kube_call_answer(&one.call), "{\"kind\":\"Job\"}");
		one_fini(&one);
	}
	CHECK_BYTES(buffer_bytes(&w.seen),
		"GET /api/v1/pods limit=1 Bearer secret - -\n"
		"POST /apis/batch/v1/jobs - Bearer secret application/json {}\n"
		"PATCH /a - Bearer secret application/merge-patch+json {}\n"
		"PATCH /b - Bearer secret application/strategic-merge-patch+json {}\n"
		"DELETE /c - Bearer secret - -\n"
		"GET /api/v1/namespaces/x/pods/y/log follow=true Bearer secret - -\n"
		"GET /apis/batch/v1/namespaces/x/jobs watch=1 Bearer secret - -\n"
		"POST /apis/batch/v1/namespaces/x/jobs - Bearer secret application/json {}\n");
	CHECK_INT(http_server_statistics(w.server).accepted, 1); /* kept alive */
	CHECK_INT(counted("patch", "other", 200), 2);
	CHECK_INT(counted("create", "other", 201), 1);
	CHECK_INT(counted("list", "other", 200), 1);
	CHECK_INT(counted("list", "other", 201), 0);
	CHECK_INT(counted("get", "pods", 200), 1);
	CHECK_INT(counted("watch", "jobs", 200), 1);
	CHECK_INT(counted("create", "jobs", 201), 1);
	CHECK_INT(kube_client_figures(w.client).retries, 0);
	world_close();
}

TEST(a_query_is_encoded)
{
	struct buffer text = BUFFER_MAX(0);
	kube_query_append(&text, (struct bytes){ "app in (a,b),x=y/Z_1-2.~ \0\xc3\xa4&", 29 });
	CHECK_BYTES(buffer_bytes(&text), "app%20in%20%28a%2Cb%29%2Cx%3Dy%2FZ_1-2.~%20%00%C3%A4%26");
	buffer_fini(&text);
}

TEST(pauses_double_and_have_a_most)
{
	for (int i = 0; i < 1000; i++) {
		int64_t first = kube_pause_us(1, 1000, 5000), third = kube_pause_us(3, 1000, 5000),
			many = kube_pause_us(1000, 1000, 5000);
		CHECK(first >= 500 && first <= 1000);
		CHECK(third >= 2000 && third <= 4000);
		CHECK(many >= 2500 && many <= 5000);
	}
}

/* ---- what an answer means ---- */

static struct reply {
	int status;
	const char *body;
	const char *retry_after;
	int times; /* then 200; -1: always */
	int cut; /* so many connections are cut without an answer, before all else */
} reply;

static void answer_by_reply(struct http_exchange *exchange, const struct http_request *request)
{
	struct http_header header = { BYTES_LITERAL("Retry-After"), bytes_of(reply.retry_after) };
	if (reply.cut > 0) {
		reply.cut--;
		http_exchange_cut(exchange);
	} else if (reply.times == 0) {
		respond(exchange, 200, "{}");
	} else {
		reply.times -= reply.times > 0;
		http_respond(exchange, reply.status, "application/json", bytes_of(reply.body), &header,
			reply.retry_after ? 1 : 0);
	}
}

#define STATUS(reason, message, more) \
	"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"" message \
	"\",\"reason\":\"" reason "\"" more "}"

TEST(what_an_answer_means)
{
	static const struct {
		struct reply reply;
		int code;
		const char *reason, *words;
		int64_t retry_after_us;
	} cases[] = {
		{ { 409, STATUS("AlreadyExists", "jobs \\\"a\\\" already exists", "") }, -EEXIST, "AlreadyExists",
			"the API server answered 409 AlreadyExists: jobs \"a\" already exists", 0 },
		{ { 409, STATUS("Conflict", "changed", "") }, -EBUSY, "Conflict", "409 Conflict: changed", 0 },
		{ { 403, STATUS("Forbidden", "exceeded quota: q", "") }, -EPERM, "Forbidden", "exceeded quota: q", 0 },
		{ { 404, STATUS("NotFound", "gone\\naway", "") }, -ENOENT, "NotFound", "gone away", 0 },
		{ { 410, STATUS("Expired", "old", "") }, -ESTALE, "Expired", "410 Expired: old", 0 },
		{ { 422, STATUS("Invalid", "no", "") }, -EINVAL, "Invalid", "422 Invalid: no", 0 },
		{ { 429, STATUS("TooManyRequests", "wait", ",\"details\":{\"retryAfterSeconds\":3}") }, -EAGAIN,
			"TooManyRequests", "429 TooManyRequests: wait", 3 * US_PER_S },
		{ { 429, "Too many requests, please try again later.", "7" }, -EAGAIN, "",
			"the API server answered 429: it does not say why", 7 * US_PER_S },
		{ { 500, STATUS("InternalError", "etcd", "") }, -EIO, "InternalError", "etcd", 0 },
		{ { 503, "", "9" }, -EIO, "", "503: it does not say why", 9 * US_PER_S },
		{ { 502, "<html>\xff" }, -EIO, "", "502", 0 },
		{ { 400, "{\"kind\":\"Status\",\"reason\":5,\"message\":[],\"details\":7}" }, -EINVAL, "", "400", 0 },
		{ { 302, "{\"kind\":\"Pod\",\"message\":\"x\"}" }, -EIO, "", "302: it does not say why", 0 },
		{ { 401, STATUS("Unauthorized", "Unauthorized", "") }, -EACCES, "Unauthorized", "401 Unauthorized", 0 },
	};
	world_open(answer_by_reply);
	world_client(NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one one;
		reply = cases[i].reply;
		reply.times = 1;
		one_init(&one, "GET", "/");
		one.call.again = KUBE_AGAIN_NEVER;
		one_run(&one);
		CHECK_INT(one.call.err.code, cases[i].code);
		CHECK_INT(one.call.status, cases[i].reply.status);
		CHECK_INT(one.call.said.code, cases[i].reply.status);
		CHECK_STR(one.call.said.reason, cases[i].reason);
		CHECK_INT(one.call.said.retry_after_us, cases[i].retry_after_us);
		CHECK_INT(one.call.tries, 1);
		if (!CHECK(strstr(one.call.err.message, cases[i].words)))
			printf("# %s\n", one.call.err.message);
		one_fini(&one);
	}
	world_close();
}

TEST(an_answer_has_a_most)
{
	world_open(answer_by_reply);
	world_client(NULL, NULL);
	struct one one;
	reply = (struct reply){ 0 };
	one_init(&one, "GET", "/");
	one.call.answer_max = 1;
	one_run(&one);
	CHECK_INT(one.call.err.code, -EMSGSIZE);
	CHECK_INT(one.call.status, 200);
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	world_close();
}

/* ---- again, or not ---- */

TEST(what_is_sent_again)
{
	static const struct {
		const char *method;
		enum kube_again again;
		struct reply reply;
		int tries, status;
	} cases[] = {
		{ "GET", KUBE_AGAIN_IDEMPOTENT, { .status = 503, .times = 3 }, 4, 200 },
		{ "DELETE", KUBE_AGAIN_IDEMPOTENT, { .status = 500, .times = 1 }, 2, 200 },
		{ "PUT", KUBE_AGAIN_IDEMPOTENT, { .status = 504, .times = 2 }, 3, 200 },
		{ "POST", KUBE_AGAIN_IDEMPOTENT, { .status = 503, .times = 1 }, 1, 503 },
		{ "PATCH", KUBE_AGAIN_IDEMPOTENT, { .status = 500, .times = 1 }, 1, 500 },
		{ "POST", KUBE_AGAIN_ALWAYS, { .status = 503, .times = 2 }, 3, 200 },
		{ "PATCH", KUBE_AGAIN_ALWAYS, { .status = 503, .times = 1 }, 2, 200 },
		{ "POST", KUBE_AGAIN_IDEMPOTENT, { .status = 429, .times = 2 }, 3, 200 },
		{ "GET", KUBE_AGAIN_NEVER, { .status = 503, .times = 1 }, 1, 503 },
		{ "GET", KUBE_AGAIN_NEVER, { .status = 429, .times = 1 }, 1, 429 },
		{ "GET", KUBE_AGAIN_ALWAYS, { .status = 404, .times = 1 }, 1, 404 },
		{ "POST", KUBE_AGAIN_ALWAYS, { .status = 409, .times = 1 }, 1, 409 },
		{ "GET", KUBE_AGAIN_IDEMPOTENT, { .cut = 2 }, 3, 200 },
		{ "POST", KUBE_AGAIN_IDEMPOTENT, { .cut = 1 }, 1, 0 },
		{ "POST", KUBE_AGAIN_ALWAYS, { .cut = 2 }, 3, 200 },
		{ "GET", KUBE_AGAIN_NEVER, { .cut = 1 }, 1, 0 },
	};
	world_open(answer_by_reply);
	uint64_t tries = 0;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one one;
		/* A client each: on a connection that was used before libcurl sends again by itself what was cut. */
		world_client(NULL, NULL);
		reply = cases[i].reply;
		w.requests = 0;
		one_init(&one, cases[i].method, "/");
		one.call.again = cases[i].again;
		one_run(&one);
		if (!CHECK_INT(one.call.tries, cases[i].tries) || !CHECK_INT(one.call.status, cases[i].status) ||
			!CHECK_INT(w.requests, cases[i].tries))
			printf("# case %zu: %s\n", i, one.call.err.message);
		CHECK(!one.call.err.code == (cases[i].status == 200));
		tries = kube_client_figures(w.client).retries;
		CHECK_INT(tries, cases[i].tries - 1);
		one_fini(&one);
		w.closed = false;
		kube_client_close(w.client, on_world_closed, NULL);
		run_until(&w.closed);
	}
	w.client = NULL;
	world_close();
}

TEST(what_did_not_go_out_is_sent_again)
{
	world_open(answer_by_reply);
	world_client(&(struct kube_access_options){ .url = "http://127.0.0.1:1" }, NULL);
	struct one one;
	one_init(&one, "POST", "/");
	one.call.deadline_us = 3 * US_PER_S;
	one_run(&one);
	CHECK(one.call.tries > 2);
	CHECK_INT(one.call.status, 0);
	/* The last try's, which may have been cut short. */
	CHECK(one.call.err.code == -EIO || strstr(one.call.err.message, ", and before: "));
	CHECK_INT(counted("create", "other", 0), (uint64_t)one.call.tries);
	one_fini(&one);
	/* Without a deadline once. */
	one_init(&one, "GET", "/");
	one.call.deadline_us = 0;
	one_run(&one);
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	world_close();
}

TEST(retry_after_is_kept)
{
	world_open(answer_by_reply);
	world_client(NULL, NULL);
	struct one one;
	reply = (struct reply){ 429, "", "1", 1, 0 };
	one_init(&one, "POST", "/");
	int64_t began_us = clock_monotonic_us();
	one_run(&one);
	CHECK_INT(one.call.status, 200);
	CHECK_INT(one.call.tries, 2);
	CHECK(clock_monotonic_us() - began_us >= US_PER_S);
	one_fini(&one);
	/* What would come after the deadline is not waited for. */
	reply = (struct reply){ 429, "", "3600", 1, 0 };
	one_init(&one, "GET", "/");
	one_run(&one);
	CHECK_INT(one.call.status, 429);
	CHECK_INT(one.call.err.code, -EAGAIN);
	one_fini(&one);
	world_close();
}

TEST(the_last_answer_is_the_outcome_at_the_deadline)
{
	world_open(answer_by_reply);
	world_client(NULL, &(struct kube_client_options){ .pause_us = 60 * US_PER_S, .pause_max_us = 60 * US_PER_S });
	struct one one;
	reply = (struct reply){ 503, STATUS("ServiceUnavailable", "down", ""), NULL, -1, 0 };
	one_init(&one, "GET", "/");
	one_run(&one); /* at once: the next try would come too late */
	CHECK_INT(one.call.status, 503);
	CHECK(strstr(one.call.err.message, "down"));
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	/* Without a deadline nobody waits. */
	one_init(&one, "GET", "/");
	one.call.deadline_us = 0;
	one_run(&one);
	CHECK_INT(one.call.status, 503);
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	world_close();
}

/* The first as the reply says, no other. */
static void answer_once(struct http_exchange *exchange, const struct http_request *request)
{
	if (w.requests == 1)
		answer_by_reply(exchange, request);
	else
		keep_open(exchange);
}

TEST(a_server_that_never_answers)
{
	world_open(answer_once);
	world_client(NULL, NULL);
	struct one one;
	reply = (struct reply){ 503, STATUS("ServiceUnavailable", "down", ""), NULL, -1, 0 };
	for (int i = 0; i < 2; i++) {
		one_init(&one, "GET", "/");
		one.call.deadline_us = i == 0 ? 3 * US_PER_S : US_PER_S / 5;
		one_run(&one);
		CHECK_INT(one.call.status, 0);
		CHECK_INT(one.call.err.code, -ETIMEDOUT);
		CHECK(!strstr(one.call.err.message, "down") == (i == 1)); /* an answer before it is told too */
		one_fini(&one);
	}
	world_close();
}

/* ---- tokens ---- */

static const char *accepted; /* the only token that is */

static void answer_accepted(struct http_exchange *exchange, const struct http_request *request)
{
	char wanted[64];
	snprintf(wanted, sizeof(wanted), "Bearer %s", accepted);
	if (bytes_is(http_request_header(request, "authorization"), wanted))
		respond(exchange, 200, "{}");
	else
		respond(exchange, 401, STATUS("Unauthorized", "Unauthorized", ""));
}

TEST(a_token_is_renewed)
{
	char path[] = "/tmp/assay-token-XXXXXX";
	struct one many[3];
	int fd = mkstemp(path);
	REQUIRE(fd >= 0 && close(fd) == 0);
	write_file(path, "old");
	world_open(answer_accepted);
	world_client(&(struct kube_access_options){ .token_file = path }, NULL);
	accepted = "old";
	one_init(&many[0], "GET", "/");
	one_run(&many[0]);
	CHECK_INT(many[0].call.status, 200);
	one_fini(&many[0]);
	/* Renewed: each call has one 401, and then goes. */
	accepted = "new";
	write_file(path, "new");
	for (int i = 0; i < 3; i++) {
		one_init(&many[i], "POST", "/");
		one_start(&many[i]);
	}
	for (int i = 0; i < 3; i++) {
		run_until(&many[i].done);
		CHECK_INT(many[i].call.status, 200);
		CHECK_INT(many[i].call.tries, 2);
		one_fini(&many[i]);
	}
	/* The file says nothing new: told, not tried again and again. */
	accepted = "newest";
	one_init(&many[0], "GET", "/");
	one_run(&many[0]);
	CHECK_INT(many[0].call.status, 401);
	CHECK_INT(many[0].call.tries, 1);
	CHECK_INT(many[0].call.err.code, -EACCES);
	one_fini(&many[0]);
	/* Another that is not accepted either: once. */
	write_file(path, "newer");
	one_init(&many[0], "GET", "/");
	one_run(&many[0]);
	CHECK_INT(many[0].call.status, 401);
	CHECK_INT(many[0].call.tries, 2);
	one_fini(&many[0]);
	/* It cannot be read. */
	REQUIRE(unlink(path) == 0);
	one_init(&many[0], "GET", "/");
	one_run(&many[0]);
	CHECK_INT(many[0].call.status, 401);
	CHECK(strstr(many[0].call.err.message, "the token cannot be read"));
	CHECK(!strstr(many[0].call.err.message, "newer"));
	one_fini(&many[0]);
	world_close();
}

static const char *renewed_path;

/* Accepts nothing, and renews the token each time. */
static void answer_renewing(struct http_exchange *exchange, const struct http_request *request)
{
	char token[32];
	snprintf(token, sizeof(token), "token-%d", w.requests);
	write_file(renewed_path, token);
	respond(exchange, 401, STATUS("Unauthorized", "Unauthorized", ""));
}

TEST(one_newer_token_is_tried_and_no_more)
{
	char path[] = "/tmp/assay-token-XXXXXX";
	int fd = mkstemp(path);
	REQUIRE(fd >= 0 && close(fd) == 0);
	write_file(path, "old");
	renewed_path = path;
	world_open(answer_renewing);
	world_client(&(struct kube_access_options){ .token_file = path }, NULL);
	struct one one;
	one_init(&one, "GET", "/");
	one_run(&one);
	CHECK_INT(one.call.status, 401);
	CHECK_INT(one.call.tries, 2);
	CHECK_BYTES(buffer_bytes(&w.seen), "GET / - Bearer old - -\nGET / - Bearer token-1 - -\n");
	one_fini(&one);
	world_close();
	unlink(path);
}

TEST(a_fixed_token_is_not_renewed)
{
	world_open(answer_accepted);
	world_client(&(struct kube_access_options){ .token = "fixed" }, NULL);
	accepted = "other";
	struct one one;
	one_init(&one, "GET", "/");
	one_run(&one);
	CHECK_INT(one.call.status, 401);
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	world_close();
}

/* ---- the rate limit ---- */

/* Nobody was sent before one who came earlier. */
static bool in_order(const struct one *many, int count)
{
	for (int i = 1; i < count; i++)
		if (many[i].call.tries > many[i - 1].call.tries)
			return false;
	return true;
}

TEST(the_rate_limit_keeps_order_and_rate)
{
	enum { COUNT = 65, BURST = 5, RATE = 200 };
	static struct one many[COUNT];
	world_open(answer_well);
	world_client(NULL, &(struct kube_client_options){ .rate = RATE, .burst = BURST });
	int64_t began_us = clock_monotonic_us();
	for (int i = 0; i < COUNT; i++) {
		one_init(&many[i], "GET", "/");
		one_start(&many[i]);
	}
	CHECK_INT(kube_client_figures(w.client).open, COUNT);
	RUN_UNTIL(!CHECK(in_order(many, COUNT)) || many[COUNT - 1].done);
	int64_t took_us = clock_monotonic_us() - began_us, least_us = (COUNT - BURST) * US_PER_S / RATE;
	CHECK(took_us >= least_us - 5 * US_PER_MS); /* the bucket began to fill before */
	for (int i = 0; i < COUNT; i++) {
		run_until(&many[i].done);
		CHECK_INT(many[i].call.status, 200);
		one_fini(&many[i]);
	}
	/* Where the first of them took their time the bucket has filled meanwhile. */
	uint64_t throttled = kube_client_figures(w.client).throttled;
	CHECK(throttled <= COUNT - BURST && throttled > 0);
	CHECK_INT(kube_client_figures(w.client).queued, 0);
	world_close();
}

TEST(the_urgent_go_first)
{
	world_open(answer_well);
	world_client(NULL, &(struct kube_client_options){ .rate = 4, .burst = 1 });
	struct one first, patient, urgent;
	one_init(&first, "GET", "/first");
	one_init(&patient, "GET", "/patient");
	one_init(&urgent, "GET", "/urgent");
	urgent.call.urgent = true;
	one_run(&first);
	one_start(&patient);
	one_start(&urgent);
	run_until(&patient.done);
	run_until(&urgent.done);
	CHECK_INT(patient.call.status, 200);
	CHECK_INT(urgent.call.status, 200);
	buffer_append_char(&w.seen, '\0');
	CHECK(strstr(w.seen.data, "/urgent") < strstr(w.seen.data, "/patient"));
	one_fini(&first);
	one_fini(&patient);
	one_fini(&urgent);
	world_close();
}

TEST(who_waits_for_the_rate_limit_has_a_deadline)
{
	world_open(answer_well);
	world_client(NULL, &(struct kube_client_options){ .rate = 0.001, .burst = 1 });
	struct one first, second;
	one_init(&first, "GET", "/");
	one_init(&second, "GET", "/");
	second.call.deadline_us = US_PER_S / 20;
	one_run(&first);
	CHECK_INT(first.call.status, 200);
	one_start(&second);
	CHECK_INT(kube_client_figures(w.client).queued, 1);
	run_until(&second.done);
	CHECK_INT(second.call.err.code, -ETIMEDOUT);
	CHECK_INT(second.call.tries, 0);
	CHECK_INT(w.requests, 1);
	one_fini(&first);
	one_fini(&second);
	world_close();
}

/* ---- connections ---- */

TEST(connections_are_kept_for_further_calls)
{
	enum { COUNT = 240, CONNECTIONS = 80 };
	static struct one many[COUNT];
	world_open(answer_well);
	world_client(NULL, &(struct kube_client_options){ .connections_max = CONNECTIONS });
	for (int i = 0; i < COUNT; i++) {
		one_init(&many[i], "GET", "/");
		one_start(&many[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		run_until(&many[i].done);
		CHECK_INT(many[i].call.status, 200);
		one_fini(&many[i]);
	}
	CHECK_INT(http_server_statistics(w.server).accepted, CONNECTIONS);
	CHECK_INT(kube_client_figures(w.client).throttled, 0);
	world_close();
}

static void answer_never(struct http_exchange *exchange, const struct http_request *request)
{
	keep_open(exchange);
}

TEST(who_waits_for_a_connection)
{
	struct one first, patient, urgent, brief;
	world_open(answer_never);
	world_client(NULL, &(struct kube_client_options){ .connections_max = 1 });
	one_init(&first, "GET", "/first");
	one_init(&patient, "GET", "/patient");
	one_init(&urgent, "GET", "/urgent");
	one_init(&brief, "GET", "/brief");
	urgent.call.urgent = true;
	brief.call.deadline_us = US_PER_S / 20;
	one_start(&first);
	one_start(&patient);
	RUN_UNTIL(w.requests == 1);
	one_start(&urgent);
	one_start(&brief);
	run_until(&brief.done);
	CHECK_INT(brief.call.err.code, -ETIMEDOUT);
	CHECK(strstr(brief.call.err.message, "connections to the API server were busy"));
	CHECK_INT(kube_client_figures(w.client).queued, 2);
	w.answer = answer_well;
	respond(take_open(0), 200, "{}");
	run_until(&first.done);
	run_until(&urgent.done);
	run_until(&patient.done);
	CHECK_INT(patient.call.status, 200);
	buffer_append_char(&w.seen, '\0');
	CHECK(strstr(w.seen.data, "/urgent") < strstr(w.seen.data, "/patient"));
	one_fini(&first);
	one_fini(&patient);
	one_fini(&urgent);
	one_fini(&brief);
	world_close();
}

/* ---- the end ---- */

TEST(calls_are_cancelled_in_every_state)
{
	char path[] = "/tmp/assay-token-XXXXXX";
	int fd = mkstemp(path);
	REQUIRE(fd >= 0 && close(fd) == 0);
	write_file(path, "old");
	/* Sent, queued, just handed in; then the same by the client's close. */
	for (int closing = 0; closing < 2; closing++) {
		struct one sent, queued, fresh;
		world_open(answer_never);
		world_client(NULL, &(struct kube_client_options){ .rate = 0.001, .burst = 1 });
		one_init(&sent, "GET", "/");
		one_init(&queued, "GET", "/");
		one_init(&fresh, "GET", "/");
		one_start(&sent);
		one_start(&queued);
		RUN_UNTIL(w.requests == 1);
		one_start(&fresh);
		struct one *all[] = { &sent, &queued, &fresh };
		for (size_t i = 0; i < 3 && !closing; i++) {
			w.inside = true;
			kube_client_cancel(&all[i]->call);
			kube_client_cancel(&all[i]->call);
			w.inside = false;
			run_until(&all[i]->done);
			kube_client_cancel(&all[i]->call); /* nothing */
		}
		fresh.again = closing; /* from its end, while the client closes */
		world_close();
		for (size_t i = 0; i < 3; i++) {
			CHECK_INT(all[i]->call.err.code, -ECANCELED);
			CHECK_INT(all[i]->call.status, 0);
			CHECK_INT(all[i]->times, closing && all[i] == &fresh ? 2 : 1);
			all[i]->times = 1;
			one_fini(all[i]);
		}
		CHECK_INT(w.requests, 1);
	}
	/* In a pause, and while the token is read. */
	for (int closing = 0; closing < 2; closing++) {
		struct one pausing, rereading;
		world_open(answer_by_reply);
		world_client(NULL,
			&(struct kube_client_options){ .pause_us = 20 * US_PER_S, .pause_max_us = 20 * US_PER_S });
		reply = (struct reply){ .status = 503, .times = -1 };
		one_init(&pausing, "GET", "/");
		one_start(&pausing);
		RUN_UNTIL(counted("list", "other", 503) == 1);
		if (!closing) {
			kube_client_cancel(&pausing.call);
			run_until(&pausing.done);
		}
		world_close();
		CHECK_INT(pausing.call.err.code, -ECANCELED);
		one_fini(&pausing);
		world_open(answer_accepted);
		world_client(&(struct kube_access_options){ .token_file = path }, NULL);
		accepted = "other";
		one_init(&rereading, "GET", "/");
		one_start(&rereading);
		RUN_UNTIL(counted("list", "other", 401) == 1);
		if (!closing) {
			kube_client_cancel(&rereading.call);
			run_until(&rereading.done);
		}
		world_close();
		CHECK_INT(rereading.call.err.code, -ECANCELED);
		one_fini(&rereading);
	}
	unlink(path);
}

TEST(a_call_is_handed_in_again_from_its_end)
{
	world_open(answer_well);
	world_client(NULL, NULL);
	struct one one;
	one_init(&one, "GET", "/");
	one.again = true;
	one_start(&one);
	RUN_UNTIL(one.times == 2);
	CHECK_INT(one.call.status, 200);
	CHECK_INT(one.call.tries, 1);
	kube_call_fini(&one.call);
	world_close();
}

/* ---- streams ---- */

static void on_head(struct kube_call *call)
{
	((struct one *)call->owner)->heads++;
}

static bool on_data(struct kube_call *call, struct bytes data)
{
	struct one *one = call->owner;
	one->bytes += data.len;
	if (one->from_data)
		kube_client_call(w.client, &STEAL(one->from_data)->call);
	return true;
}

static void answer_stream(struct http_exchange *exchange, const struct http_request *request)
{
	if (!bytes_is(request->path, "/stream")) {
		answer_by_reply(exchange, request);
		return;
	}
	http_stream_start(exchange, 200, "application/json", NULL, 0);
	http_stream_write(exchange, BYTES_LITERAL("{}\n"));
	keep_open(exchange);
}

TEST(answers_that_are_streams)
{
	world_open(answer_stream);
	world_client(NULL, NULL);
	struct one one, other;
	reply = (struct reply){ 0 };
	one_init(&one, "GET", "/stream");
	one_init(&other, "GET", "/other");
	one.call.deadline_us = 0;
	one.call.on_head = on_head;
	one.call.on_data = on_data;
	one.from_data = &other;
	one_start(&one);
	run_until(&other.done); /* handed in from within on_data */
	CHECK_INT(other.call.status, 200);
	CHECK(!one.done);
	http_stream_end(take_open(0));
	run_until(&one.done);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.heads, 1);
	CHECK_INT(one.bytes, 3);
	one_fini(&one);
	one_fini(&other);
	/* What is no stream is a Status. */
	reply = (struct reply){ 410, STATUS("Expired", "too old", ""), NULL, 1, 0 };
	one_init(&one, "GET", "/");
	one.call.on_head = on_head;
	one.call.on_data = on_data;
	one_run(&one);
	CHECK_INT(one.call.err.code, -ESTALE);
	CHECK_STR(one.call.said.reason, "Expired");
	CHECK_INT(one.heads, 0);
	CHECK_INT(one.bytes, 0);
	one_fini(&one);
	/* Also one that comes in parts; of one that is too long the beginning is no Status. */
	for (size_t size = 50000; size <= 100000; size += 50000) {
		struct buffer text = BUFFER_MAX(0);
		buffer_append_string(&text, "{\"kind\":\"Status\",\"message\":\"");
		for (size_t i = 0; i < size; i++)
			buffer_append_char(&text, 'x');
		buffer_append_string(&text, "\",\"reason\":\"Expired\"}");
		buffer_append_char(&text, '\0');
		reply = (struct reply){ 410, text.data, NULL, 1, 0 };
		one_init(&one, "GET", "/");
		one.call.on_data = on_data;
		one_run(&one);
		CHECK_INT(one.call.err.code, -ESTALE);
		CHECK_STR(one.call.said.reason, size < 65536 ? "Expired" : "");
		CHECK_INT(strlen(one.call.said.message), size < 65536 ? sizeof(one.call.said.message) - 1 : 0);
		one_fini(&one);
		buffer_fini(&text);
	}
	/* A stream that is cut is not begun anew. */
	one_init(&one, "GET", "/stream");
	one.call.on_data = on_data;
	one_start(&one);
	RUN_UNTIL(one.bytes == 3);
	http_exchange_cut(take_open(0));
	run_until(&one.done);
	CHECK(one.call.err.code != 0);
	CHECK_INT(one.call.status, 200);
	CHECK_INT(one.call.tries, 1);
	one_fini(&one);
	world_close();
}

/* ---- TLS ---- */

static void append_file(struct buffer *text, const char *key, const char *path)
{
	char content[8192];
	FILE *file = fopen(path, "r");
	REQUIRE(file);
	size_t len = fread(content, 1, sizeof(content), file);
	REQUIRE(fclose(file) == 0 && len > 0 && len < sizeof(content));
	buffer_printf(text, "%s: ", key);
	base64_append(text, (struct bytes){ content, len });
}

/* All that a kubeconfig can say of certificates, against a server that wants one of ours. */
TEST(a_kubeconfig_with_certificates_inside)
{
	struct https_server server;
	struct buffer text = BUFFER_MAX(0);
	char path[80];
	https_server_start(&server);
	buffer_printf(&text,
		"current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters:\n- name: k\n  "
		"cluster:\n"
		"    server: \"https://127.0.0.1:%d\"\n    tls-server-name: localhost\n    ",
		server.strict_port);
	append_file(&text, "certificate-authority-data", server.ca);
	append_file(&text, "\nusers:\n- name: u\n  user:\n    client-certificate-data", server.certificate);
	append_file(&text, "\n    client-key-data", server.key);
	buffer_append_char(&text, '\0');
	snprintf(path, sizeof(path), "%s/config", server.directory);
	write_file(path, text.data);
	buffer_fini(&text);
	world_open(answer_well);
	world_client(&(struct kube_access_options){ .kubeconfig = path }, NULL);
	struct one one;
	one_init(&one, "POST", "/");
	one.call.body = BYTES_LITERAL("abc");
	one_run(&one);
	if (!CHECK_INT(one.call.status, 200))
		printf("# %s\n", one.call.err.message);
	CHECK_BYTES(kube_call_answer(&one.call), "cba");
	one_fini(&one);
	world_close();
	https_server_stop(&server);
}

TEST_MAIN()
