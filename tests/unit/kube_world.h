/* An API server of the test's own on the loop, a client of it, and what both saw. */
#ifndef ASSAY_TESTS_UNIT_KUBE_WORLD_H
#define ASSAY_TESTS_UNIT_KUBE_WORLD_H

#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "executor/kubernetes/client.h"
#include "io/http_server.h"
#include "test.h"

#define DEADLINE_MS 120000

static struct world {
	uv_loop_t loop;
	struct log log;
	struct http_server *server;
	uint16_t port;
	char url[64];
	struct kube_client *client;
	uv_timer_t deadline;
	bool inside; /* a function is running from which nothing may be called back */
	bool stopped, closed;
	/* Answers; the request is written down already. */
	void (*answer)(struct http_exchange *exchange, const struct http_request *request);
	int requests;
	struct buffer seen; /* a line for each: method, path, query, authorization, type, body */
	struct http_exchange *open[16]; /* unanswered, or streams; NULL: gone */
	int open_count;
} w;

static inline void on_world_deadline(uv_timer_t *timer)
{
	printf("Bail out! nothing happened for a minute\n");
	exit(1);
}

static inline void run_until(const bool *flag)
{
	uv_timer_start(&w.deadline, on_world_deadline, DEADLINE_MS, 0);
	while (!*flag)
		uv_run(&w.loop, UV_RUN_ONCE);
	uv_timer_stop(&w.deadline);
}

#define RUN_UNTIL(condition) \
	do { \
		uv_timer_start(&w.deadline, on_world_deadline, DEADLINE_MS, 0); \
		while (!(condition)) \
			uv_run(&w.loop, UV_RUN_ONCE); \
		uv_timer_stop(&w.deadline); \
	} while (0)

/* ---- the server ---- */

static inline size_t world_body_limit(void *owner, const struct http_request *request)
{
	return 1 << 20;
}

static inline void on_world_abort(struct http_exchange *exchange)
{
	for (int i = 0; i < w.open_count; i++)
		if (w.open[i] == exchange)
			w.open[i] = NULL;
}

/* For an answer that comes later; its index in w.open. */
static inline int keep_open(struct http_exchange *exchange)
{
	int index = w.open_count;
	for (int i = 0; i < w.open_count; i++)
		if (!w.open[i])
			index = i;
	REQUIRE(index < (int)ARRAY_SIZE(w.open));
	w.open[index] = exchange;
	if (index == w.open_count)
		w.open_count++;
	http_exchange_on_abort(exchange, on_world_abort);
	return index;
}

static inline struct http_exchange *take_open(int index)
{
	REQUIRE(index < w.open_count && w.open[index]);
	return STEAL(w.open[index]);
}

static inline void respond(struct http_exchange *exchange, int status, const char *body)
{
	http_respond(exchange, status, "application/json", bytes_of(body), NULL, 0);
}

static inline void world_on_request(void *owner, struct http_exchange *exchange)
{
	const struct http_request *request = http_exchange_request(exchange);
	struct bytes parts[] = { request->method_name, request->path, request->query,
		http_request_header(request, "authorization"), http_request_header(request, "content-type"),
		request->body };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		buffer_append_string(&w.seen, i ? " " : "");
		buffer_append_bytes(&w.seen, parts[i].len ? parts[i] : BYTES_LITERAL("-"));
	}
	buffer_append_char(&w.seen, '\n');
	w.requests++;
	w.answer(exchange, request);
}

static inline void on_world_stopped(void *owner)
{
	w.stopped = true;
}

static inline void on_world_closed(void *owner)
{
	CHECK(!w.inside);
	CHECK(!w.closed);
	w.closed = true;
}

/* ---- its life ---- */

static inline void world_open(void (*answer)(struct http_exchange *exchange, const struct http_request *request))
{
	struct err err = { 0 };
	w = (struct world){ .log = { .fd = STDERR_FILENO, .level = LOG_ERROR }, .answer = answer };
	uv_loop_init(&w.loop);
	uv_timer_init(&w.loop, &w.deadline);
	const struct http_server_options options = {
		.loop = &w.loop, .log = &w.log, .body_limit = world_body_limit, .on_request = world_on_request
	};
	w.server = http_server_new(&options);
	REQUIRE(http_server_listen(w.server, "127.0.0.1", 0, &w.port, &err) == 0);
	snprintf(w.url, sizeof(w.url), "http://127.0.0.1:%d", w.port);
}

/* A client with pauses that are short. `access` NULL: the server's URL and nothing more. */
static inline void world_client(const struct kube_access_options *access, const struct kube_client_options *client)
{
	struct err err = { 0 };
	struct kube_access_options how = access ? *access : (struct kube_access_options){ 0 };
	struct kube_client_options options = client ? *client : (struct kube_client_options){ 0 };
	how.loop = options.loop = &w.loop;
	if (!how.kubeconfig && !how.url)
		how.url = w.url;
	if (options.pause_us == 0)
		options.pause_us = options.pause_max_us = US_PER_MS;
	int result = kube_access_new(&how, &options.access, &err);
	if (result < 0)
		printf("# %s\n", err.message);
	REQUIRE(result == 0);
	w.client = kube_client_new(&options, &err);
	REQUIRE(w.client);
}

static inline void world_close(void)
{
	if (w.client) {
		w.inside = true;
		kube_client_close(w.client, on_world_closed, NULL);
		w.inside = false;
		run_until(&w.closed);
	}
	http_server_stop(w.server, on_world_stopped, NULL);
	http_server_abort(w.server);
	run_until(&w.stopped);
	http_server_free(w.server);
	uv_close((uv_handle_t *)&w.deadline, NULL);
	uv_run(&w.loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&w.loop), 0);
	buffer_fini(&w.seen);
}

static inline void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	REQUIRE(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

#endif
