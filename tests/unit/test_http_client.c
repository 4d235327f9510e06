/* The HTTP client against real servers on the same loop: our own, one that says what the test wants and cuts when it
 * wants, and Python's over TLS (https_server.py, whose path is in HTTPS_SERVER). Names are looked up by a getaddrinfo()
 * of this program's. */
#include "io/http_client.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "https_server.h"
#include "test.h"

#define DEADLINE_MS 120000

/* ---- names ---- */

static sem_t name_release; /* posted once for each look-up of "slow.test" that may go on */
static atomic_int name_waiting, name_gone_on;

/* In place of the C library's, for libcurl's threads. */
int getaddrinfo(const char *restrict host, const char *restrict service, const struct addrinfo *restrict hints,
	struct addrinfo **restrict ret_list)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = (int (*)(const char *,
		const char *, const struct addrinfo *, struct addrinfo **))(uintptr_t)dlsym(RTLD_NEXT, "getaddrinfo");
	if (host && strcmp(host, "nowhere.test") == 0)
		return EAI_NONAME;
	if (host && strcmp(host, "slow.test") == 0) {
		atomic_fetch_add(&name_waiting, 1);
		sem_wait(&name_release);
		atomic_fetch_add(&name_gone_on, 1);
		return EAI_AGAIN;
	}
	return next(host && strcmp(host, "inward.test") == 0 ? "127.0.0.1" : host, service, hints, ret_list);
}

/* ---- the world ---- */

/* What the scripted server does with a connection once a request's head has come. */
struct script {
	const char *text; /* written */
	size_t repeat; /* its last line so many times; 0: once */
	bool close; /* and then closed */
};

static struct world {
	uv_loop_t loop;
	struct log log;
	struct http_server *server;
	uint16_t port; /* of our own server */
	uv_tcp_t scripted;
	int scripted_port;
	struct script script;
	struct http_client *client;
	bool allow; /* what allow_peer says */
	int asked; /* times that it was asked */
	uv_timer_t deadline;
	bool inside, stopped, closed;
	int streams_open; /* answers under way that the server writes from time to time */
} w;

static void on_deadline(uv_timer_t *timer)
{
	printf("Bail out! nothing happened for a minute\n");
	exit(1);
}

static void run_until(const bool *flag)
{
	uv_timer_start(&w.deadline, on_deadline, DEADLINE_MS, 0);
	while (!*flag)
		uv_run(&w.loop, UV_RUN_ONCE);
	uv_timer_stop(&w.deadline);
}

/* ---- our own server ---- */

static size_t body_limit(void *owner, const struct http_request *request)
{
	return 1 << 20;
}

static void on_stream_gone(struct http_exchange *exchange)
{
	w.streams_open--;
}

static void answer_echo(struct http_exchange *exchange, const struct http_request *request)
{
	struct buffer text = BUFFER_MAX(0);
	struct bytes type = http_request_header(request, "content-type"), mark = http_request_header(request, "x-mark");
	buffer_printf(&text, "%.*s|%.*s|%.*s|", (int)request->method_name.len, request->method_name.data, (int)type.len,
		type.data ? type.data : "", (int)mark.len, mark.data ? mark.data : "");
	buffer_append_bytes(&text, request->body);
	struct http_header reply = { BYTES_LITERAL("X-Reply"), BYTES_LITERAL("yes") };
	http_respond(exchange, 201, "text/plain", buffer_bytes(&text), &reply, 1);
	buffer_fini(&text);
}

static void on_request(void *owner, struct http_exchange *exchange)
{
	const struct http_request *request = http_exchange_request(exchange);
	if (bytes_is(request->path, "/echo")) {
		answer_echo(exchange, request);
	} else if (bytes_is(request->path, "/redirect")) {
		struct http_header to = { BYTES_LITERAL("Location"), BYTES_LITERAL("/echo") };
		http_respond(exchange, 302, NULL, BYTES_NONE, &to, 1);
	} else if (bytes_is(request->path, "/large")) {
		char *text = alloc(1 << 20);
		memset(text, 'x', 1 << 20);
		http_respond(exchange, 200, "text/plain", (struct bytes){ text, 1 << 20 }, NULL, 0);
		free(text);
	} else if (bytes_is(request->path, "/stream")) {
		http_stream_start(exchange, 200, "text/plain", NULL, 0);
		http_stream_write(exchange, BYTES_LITERAL("one "));
		http_stream_write(exchange, BYTES_LITERAL("two "));
		http_stream_end(exchange);
	} else {
		/* Never ends by itself. */
		w.streams_open++;
		http_exchange_on_abort(exchange, on_stream_gone);
		if (bytes_is(request->path, "/endless")) {
			http_stream_start(exchange, 200, "text/plain", NULL, 0);
			http_stream_write(exchange, BYTES_LITERAL("begin"));
		}
	}
}

static void on_server_stopped(void *owner)
{
	w.stopped = true;
}

/* ---- the scripted server ---- */

struct peer {
	uv_tcp_t tcp;
	uv_write_t write;
	char request[8192];
	size_t len;
	bool answered;
	char *text;
};

static void on_peer_closed(uv_handle_t *handle)
{
	struct peer *peer = handle->data;
	free(peer->text);
	free(peer);
}

static void peer_close(struct peer *peer)
{
	if (!uv_is_closing((uv_handle_t *)&peer->tcp))
		uv_close((uv_handle_t *)&peer->tcp, on_peer_closed);
}

static void on_peer_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct peer *peer = handle->data;
	*buf = uv_buf_init(peer->request + peer->len, (unsigned)(sizeof(peer->request) - peer->len - 1));
}

static void on_peer_written(uv_write_t *write, int status)
{
	struct peer *peer = write->data;
	if (w.script.close || status < 0)
		peer_close(peer);
}

static void on_peer_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
	struct peer *peer = stream->data;
	if (got < 0) {
		peer_close(peer);
		return;
	}
	peer->len += (size_t)got;
	peer->request[peer->len] = 0;
	if (peer->answered || !strstr(peer->request, "\r\n\r\n"))
		return;
	peer->answered = true;
	const char *last = strstr(w.script.text, "\r\n") ? strstr(w.script.text, "\r\n") + 2 : w.script.text;
	size_t first = (size_t)(last - w.script.text), one = strlen(last);
	size_t times = w.script.repeat ? w.script.repeat : 1, len = first + one * times;
	peer->text = alloc(len + 1);
	memcpy(peer->text, w.script.text, first);
	for (size_t i = 0; i < times; i++)
		memcpy(peer->text + first + i * one, last, one);
	uv_buf_t out = uv_buf_init(peer->text, (unsigned)len);
	peer->write.data = peer;
	uv_write(&peer->write, (uv_stream_t *)&peer->tcp, &out, 1, on_peer_written);
}

static void on_peer(uv_stream_t *listener, int status)
{
	struct peer *peer = alloc(sizeof(*peer));
	uv_tcp_init(&w.loop, &peer->tcp);
	peer->tcp.data = peer;
	uv_accept(listener, (uv_stream_t *)&peer->tcp);
	uv_read_start((uv_stream_t *)&peer->tcp, on_peer_alloc, on_peer_read);
}

static void scripted_listen(void)
{
	struct sockaddr_in address;
	int len = sizeof(address);
	uv_ip4_addr("127.0.0.1", 0, &address);
	uv_tcp_init(&w.loop, &w.scripted);
	REQUIRE(uv_tcp_bind(&w.scripted, (struct sockaddr *)&address, 0) == 0);
	REQUIRE(uv_listen((uv_stream_t *)&w.scripted, 16, on_peer) == 0);
	uv_tcp_getsockname(&w.scripted, (struct sockaddr *)&address, &len);
	w.scripted_port = ntohs(address.sin_port);
}

/* ---- calls ---- */

struct one {
	struct http_call call;
	char url[200];
	bool done;
	int times;
	int again; /* handed in anew so many times from within done */
	size_t parts, bytes; /* that on_data got */
	bool cancel_on_data, stop_on_data;
	int head_status;
};

static void on_done(struct http_call *call)
{
	struct one *one = call->owner;
	CHECK(!w.inside);
	one->times++;
	if (one->again > 0) {
		one->again--;
		http_client_call(w.client, call);
		return;
	}
	one->done = true;
}

static bool allow_peer(void *owner, const struct sockaddr *address)
{
	CHECK(owner == &w);
	w.asked++;
	return w.allow;
}

static void world_open(const struct http_client_options *given)
{
	struct err err = { 0 };
	w = (struct world){ .allow = true, .log = { .fd = STDERR_FILENO, .level = LOG_ERROR } };
	uv_loop_init(&w.loop);
	uv_timer_init(&w.loop, &w.deadline);
	struct http_server_options options = {
		.loop = &w.loop, .log = &w.log, .body_limit = body_limit, .on_request = on_request
	};
	w.server = http_server_new(&options);
	REQUIRE(http_server_listen(w.server, "127.0.0.1", 0, &w.port, &err) == 0);
	scripted_listen();
	struct http_client_options mine = given ? *given : (struct http_client_options){ 0 };
	mine.loop = &w.loop;
	mine.allow_peer = allow_peer;
	mine.owner = &w;
	w.client = http_client_new(&mine, &err);
	REQUIRE(w.client);
}

static void on_client_closed(void *owner)
{
	CHECK(!w.inside);
	CHECK(!w.closed);
	w.closed = true;
}

static void world_close(void)
{
	w.inside = true;
	http_client_close(w.client, on_client_closed, NULL);
	w.inside = false;
	run_until(&w.closed);
	http_server_stop(w.server, on_server_stopped, NULL);
	http_server_abort(w.server);
	run_until(&w.stopped);
	http_server_free(w.server);
	uv_close((uv_handle_t *)&w.scripted, NULL);
	uv_close((uv_handle_t *)&w.deadline, NULL);
	uv_run(&w.loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&w.loop), 0);
}

static void one_init(struct one *one, const char *method, const char *path)
{
	*one = (struct one){ 0 };
	snprintf(one->url, sizeof(one->url), "http://127.0.0.1:%d%s", w.port, path);
	one->call = (struct http_call){
		.method = method, .url = one->url, .deadline_us = 30 * US_PER_S, .answer_max = 4096, .done = on_done
	};
	one->call.owner = one;
}

static void one_start(struct one *one)
{
	w.inside = true;
	http_client_call(w.client, &one->call);
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
	http_call_fini(&one->call);
}

/* ---- what goes well ---- */

TEST(requests_and_answers)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "POST", "/echo");
	struct http_header headers[] = { { BYTES_LITERAL("Content-Type"), BYTES_LITERAL("a/b") },
		{ BYTES_LITERAL("X-Mark"), BYTES_LITERAL("m") } };
	one.call.headers = headers;
	one.call.header_count = 2;
	one.call.body = (struct bytes){ "a\0b", 3 };
	one_run(&one);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.call.status, 201);
	CHECK_BYTES(buffer_bytes(&one.call.answer), ((struct bytes){ "POST|a/b|m|a\0b", 14 }));
	CHECK_BYTES(http_call_header(&one.call, "x-reply"), "yes");
	CHECK_BYTES(http_call_header(&one.call, "x-repl"), BYTES_NONE);
	CHECK(!one.call.cut);
	CHECK_INT(w.asked, 1);
	one_fini(&one);
	static const char *const methods[] = { "GET", "PUT", "PATCH", "DELETE", "POST" };
	for (size_t i = 0; i < 5; i++) {
		one_init(&one, methods[i], "/echo");
		one_run(&one);
		CHECK_INT(one.call.status, 201);
		struct bytes answer = buffer_bytes(&one.call.answer);
		CHECK(answer.len > strlen(methods[i]) && memcmp(answer.data, methods[i], strlen(methods[i])) == 0);
		one_fini(&one);
	}
	one_init(&one, "HEAD", "/large");
	one_run(&one);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.call.status, 200);
	CHECK_INT(one.call.answer.len, 0);
	one_fini(&one);
	CHECK_INT(http_server_statistics(w.server).accepted, 1); /* all over one connection */
	world_close();
}

TEST(redirects_are_answers)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/redirect");
	one_run(&one);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.call.status, 302);
	CHECK_BYTES(http_call_header(&one.call, "Location"), "/echo");
	CHECK_INT(http_server_statistics(w.server).requests, 1);
	one_fini(&one);
	world_close();
}

TEST(a_proxy_of_the_environment_is_not_used)
{
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/echo");
	one_run(&one);
	CHECK_INT(one.call.status, 201);
	one_fini(&one);
	world_close();
	unsetenv("http_proxy");
	unsetenv("ALL_PROXY");
}

TEST(an_answer_is_read_up_to_its_most)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/large");
	one_run(&one);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.call.status, 200);
	CHECK(one.call.cut);
	CHECK_INT(one.call.answer.len, 4096);
	one_fini(&one);
	one_init(&one, "GET", "/large");
	one.call.answer_max = 1 << 20;
	one_run(&one);
	CHECK(!one.call.cut);
	CHECK_INT(one.call.answer.len, 1 << 20);
	one_fini(&one);
	world_close();
}

static void on_head(struct http_call *call)
{
	struct one *one = call->owner;
	one->head_status = call->status;
}

static bool on_data(struct http_call *call, struct bytes data)
{
	struct one *one = call->owner;
	one->parts++;
	one->bytes += data.len;
	if (one->cancel_on_data)
		http_client_cancel(call);
	return !one->stop_on_data;
}

TEST(an_answer_streams)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/stream");
	one.call.on_data = on_data;
	one.call.on_head = on_head;
	one_run(&one);
	CHECK_INT(one.call.err.code, 0);
	CHECK_INT(one.head_status, 200);
	CHECK_INT(one.bytes, 8);
	CHECK(!one.call.cut);
	one_fini(&one);
	/* Ended by its reader, by a cancel from within, by its deadline, by its idleness. */
	for (int i = 0; i < 4; i++) {
		one_init(&one, "GET", "/endless");
		one.call.on_data = on_data;
		one.stop_on_data = i == 0;
		one.cancel_on_data = i == 1;
		one.call.deadline_us = i == 2 ? 3 * US_PER_S : 0;
		one.call.idle_us = i == 3 ? 3 * US_PER_S : 0;
		one_run(&one);
		CHECK_INT(one.call.err.code, i == 0 ? 0 : i == 1 ? -ECANCELED : -ETIMEDOUT);
		CHECK(one.call.cut == (i == 0));
		CHECK_INT(one.call.status, 200);
		CHECK_INT(one.bytes, 5);
		one_fini(&one);
	}
	world_close();
	CHECK_INT(w.streams_open, 0); /* the server saw every one of them go */
}

TEST(calls_share_few_connections)
{
	world_open(&(struct http_client_options){ .connections_max = 2 });
	struct one many[20];
	for (int i = 0; i < 20; i++) {
		one_init(&many[i], "GET", "/echo");
		one_start(&many[i]);
	}
	for (int i = 0; i < 20; i++) {
		run_until(&many[i].done);
		CHECK_INT(many[i].call.status, 201);
		one_fini(&many[i]);
	}
	CHECK(http_server_statistics(w.server).accepted <= 2);
	world_close();
}

TEST(a_call_is_handed_in_again_from_its_end)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/echo");
	one.again = 5;
	one_run(&one);
	CHECK_INT(one.times, 6);
	CHECK_INT(one.call.status, 201);
	CHECK_INT(one.call.answer.len, strlen("GET|||"));
	http_call_fini(&one.call);
	world_close();
}

/* ---- what does not ---- */

TEST(answers_that_are_none)
{
	static const struct {
		struct script script;
		int code, status;
	} cases[] = {
		{ { "\x16\x03\x01garbage\r\n\r\n", 0, true }, -EPROTO, 0 },
		{ { "", 0, true }, -EPROTO, 0 },
		{ { "HTTP/1.1 200 O", 0, true }, -EPROTO, 0 },
		{ { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 0, true }, -EPROTO, 200 },
		{ { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, true }, -EIO, 200 },
		{ { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 0, true }, 0, 204 },
		{ { "HTTP/1.1 503 Wait\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 0, true }, 0, 503 },
		{ { "HTTP/1.1 200 OK\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
			  2000, false },
			-EMSGSIZE, 0 },
		{ { "HTTP/1.1 100 Continue\r\n\r\n", 5000, true }, -EPROTO, 0 },
	};
	world_open(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one one;
		w.script = cases[i].script;
		one_init(&one, "POST", "/");
		one.call.body = BYTES_LITERAL("{}");
		snprintf(one.url, sizeof(one.url), "http://127.0.0.1:%d/", w.scripted_port);
		one_run(&one);
		if (!CHECK_INT(one.call.err.code, cases[i].code) || !CHECK_INT(one.call.status, cases[i].status))
			printf("# case %zu: %s\n", i, one.call.err.message);
		CHECK(!one.call.err.code == !one.call.err.message[0]);
		if (cases[i].status == 503)
			CHECK_BYTES(http_call_header(&one.call, "retry-after"), "7");
		one_fini(&one);
	}
	world_close();
}

TEST(a_server_that_never_answers)
{
	world_open(NULL);
	struct one one;
	one_init(&one, "GET", "/silent");
	one.call.deadline_us = US_PER_S / 5;
	one_run(&one);
	CHECK_INT(one.call.err.code, -ETIMEDOUT);
	CHECK_INT(one.call.status, 0);
	one_fini(&one);
	world_close();
}

TEST(addresses_can_be_refused)
{
	world_open(NULL);
	w.allow = false;
	static const char *const hosts[] = { "127.0.0.1", "localhost", "inward.test", "2130706433", "0x7f.1" };
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct one one;
		one_init(&one, "GET", "/echo");
		snprintf(one.url, sizeof(one.url), "http://%s:%d/echo", hosts[i], w.port);
		one_run(&one);
		CHECK_INT(one.call.err.code, -EACCES);
		CHECK(strstr(one.call.err.message, "127.0.0.1") || strstr(one.call.err.message, "::1"));
		one_fini(&one);
	}
	CHECK(w.asked >= 5);
	CHECK_INT(http_server_statistics(w.server).accepted, 0);
	world_close();
}

TEST(what_cannot_begin_ends_later_all_the_same)
{
	static const struct {
		const char *url;
		int code;
	} cases[] = {
		{ "http://127.0.0.1:1/", -EIO },
		{ "http://nowhere.test/", -ENOENT },
		{ "file:///etc/passwd", -EINVAL },
		{ "gopher://127.0.0.1/", -EINVAL },
		{ "http://[::1", -EINVAL },
		{ "", -EINVAL },
	};
	world_open(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct one one;
		one_init(&one, "GET", "/");
		one.call.url = cases[i].url;
		one_run(&one);
		if (!CHECK_INT(one.call.err.code, cases[i].code))
			printf("# %s: %s\n", cases[i].url, one.call.err.message);
		one_fini(&one);
	}
	world_close();
}

TEST(a_slow_name_holds_nobody_up)
{
	world_open(NULL);
	struct one slow[2], quick;
	for (int i = 0; i < 2; i++) {
		one_init(&slow[i], "GET", "/");
		snprintf(slow[i].url, sizeof(slow[i].url), "http://slow.test/");
		slow[i].call.deadline_us = i == 0 ? US_PER_S / 5 : 0;
		one_start(&slow[i]);
	}
	run_until(&slow[0].done);
	CHECK_INT(slow[0].call.err.code, -ETIMEDOUT);
	one_init(&quick, "GET", "/echo");
	one_run(&quick);
	CHECK_INT(quick.call.status, 201);
	http_client_cancel(&slow[1].call);
	run_until(&slow[1].done);
	CHECK_INT(slow[1].call.err.code, -ECANCELED);
	/* Both look-ups still wait: neither end has joined their thread. */
	CHECK_INT(atomic_load(&name_gone_on), 0);
	for (int i = 0; i < 2; i++)
		one_fini(&slow[i]);
	one_fini(&quick);
	world_close();
	int waiting = atomic_load(&name_waiting);
	CHECK_INT(atomic_load(&name_gone_on), 0);
	for (int i = 0; i < waiting; i++)
		sem_post(&name_release);
	while (atomic_load(&name_gone_on) < waiting)
		usleep(1000); /* a thread without a loop: it frees itself */
}

TEST(cancelled_calls_end_once)
{
	world_open(NULL);
	struct one one[3];
	for (int i = 0; i < 3; i++) {
		one_init(&one[i], "GET", "/silent");
		one_start(&one[i]);
	}
	w.inside = true;
	http_client_cancel(&one[0].call); /* before anything has begun */
	http_client_cancel(&one[0].call);
	w.inside = false;
	run_until(&one[0].done);
	while (w.streams_open < 2)
		uv_run(&w.loop, UV_RUN_ONCE);
	http_client_cancel(&one[1].call);
	run_until(&one[1].done);
	http_client_cancel(&one[1].call); /* it has ended: nothing */
	/* The third is still under way when the client closes. */
	world_close();
	for (int i = 0; i < 3; i++) {
		CHECK(one[i].done);
		CHECK_INT(one[i].call.err.code, -ECANCELED);
		one_fini(&one[i]);
	}
}

/* ---- TLS ---- */

static void tls_case(const struct http_tls *tls, const char *host, int port, int code)
{
	world_open(&(struct http_client_options){ .tls = *tls });
	struct one one;
	struct http_header type = { BYTES_LITERAL("Content-Type"), BYTES_LITERAL("text/plain") };
	one_init(&one, "POST", "/");
	snprintf(one.url, sizeof(one.url), "https://%s:%d/", host, port);
	one.call.headers = &type;
	one.call.header_count = 1;
	one.call.body = BYTES_LITERAL("abc");
	one_run(&one);
	if (!CHECK_INT(one.call.err.code, code))
		printf("# %s:%d: %s\n", host, port, one.call.err.message);
	if (code == 0) {
		char name[64];
		snprintf(name, sizeof(name), "%s:%d", host, port);
		CHECK_BYTES(buffer_bytes(&one.call.answer), "cba");
		CHECK_BYTES(http_call_header(&one.call, "X-Host"), name);
	}
	CHECK(one.call.sent == (code == 0));
	one_fini(&one);
	world_close();
}

static struct bytes file_text(const char *path)
{
	struct buffer text = BUFFER_MAX(65536);
	REQUIRE(file_read(path, 65536, &text, NULL) == 0);
	return buffer_bytes(&text);
}

/* From memory, by another name, and not verified at all. */
static void tls_further_cases(const char *ca, const char *certificate, const char *key, int plain, int strict)
{
	struct bytes authority = file_text(ca), mine = file_text(certificate), secret = file_text(key);
	const struct http_tls trusts = { .ca = authority }, beats = { .ca_file = "/nonexistent", .ca = authority },
			      whole = { .ca = authority, .certificate = mine, .key = secret },
			      garbage = { .ca = BYTES_LITERAL("no PEM") },
			      named = { .ca = authority, .server_name = "localhost" },
			      misnamed = { .ca = authority, .server_name = "elsewhere.test" },
			      insecure = { .insecure = true },
			      insecure_whole = { .certificate = mine, .key = secret, .insecure = true };
	tls_case(&trusts, "localhost", plain, 0);
	tls_case(&trusts, "127.0.0.1", plain, -EKEYREJECTED);
	tls_case(&beats, "localhost", plain, 0);
	tls_case(&whole, "localhost", strict, 0);
	tls_case(&garbage, "localhost", plain, -EKEYREJECTED);
	tls_case(&named, "127.0.0.1", plain, 0);
	tls_case(&named, "inward.test", plain, 0);
	tls_case(&misnamed, "localhost", plain, -EKEYREJECTED);
	tls_case(&insecure, "127.0.0.1", plain, 0);
	tls_case(&insecure_whole, "127.0.0.1", strict, 0);
	free((char *)authority.data);
	free((char *)mine.data);
	free((char *)secret.data);
}

TEST(tls_is_verified_both_ways)
{
	struct https_server server;
	https_server_start(&server);
	const char *ca = server.ca, *certificate = server.certificate, *key = server.key;
	const struct http_tls none = { 0 }, trusts = { .ca_file = ca }, whole = { ca, certificate, key },
			      asks = { ca, certificate, server.locked_key };
	tls_case(&trusts, "localhost", server.plain_port, 0);
	tls_case(&none, "localhost", server.plain_port, -EKEYREJECTED);
	tls_case(&trusts, "127.0.0.1", server.plain_port, -EKEYREJECTED); /* the certificate is for another name */
	tls_case(&whole, "localhost", server.strict_port, 0);
	tls_case(&asks, "localhost", server.strict_port, -EKEYREJECTED);
	tls_further_cases(ca, certificate, key, server.plain_port, server.strict_port);
	https_server_stop(&server);
}

int main(int argc, char **argv)
{
	sem_init(&name_release, 0, 0);
	return test_main(argc, argv);
}
