/* The HTTP server's protocol over a fake connection: what is understood, what is refused, streams, deadlines. */
#include <stdio.h>

#include "http_fake.h"
#include "test.h"

#define GET "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
#define HEAD_11 "POST /p HTTP/1.1\r\nHost: h\r\n"
#define CHUNKED HEAD_11 "Transfer-Encoding: chunked\r\n\r\n"
#define B BYTES_LITERAL

static bool has(const struct buffer *buffer, const char *text)
{
	return buffer->len > 0 && memmem(buffer->data, buffer->len, text, strlen(text));
}

static unsigned count_of(const struct buffer *buffer, const char *text)
{
	unsigned count = 0;
	const char *at = buffer->data, *end = at + buffer->len;
	while (at && (at = memmem(at, (size_t)(end - at), text, strlen(text)))) {
		count++;
		at += strlen(text);
	}
	return count;
}

/* The status of the last answer, 0 without one. */
static int last_status(const struct buffer *out)
{
	int status = 0;
	for (size_t at = 0; at + 12 <= out->len; at++)
		if (memcmp(out->data + at, "HTTP/1.1 ", 9) == 0 && out->data[at + 9] <= '9')
			status = atoi(out->data + at + 9);
	return status;
}

TEST(a_request_is_answered)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B("GET /a?b=1 HTTP/1.1\r\nHost: h:1\r\nX-Y:  z \t\r\n\r\n"));
	CHECK_BYTES(buffer_bytes(&fake.requests), "GET /a?b=1 @h:1\n");
	CHECK(has(&fake.out, "HTTP/1.1 200 OK\r\nDate: "));
	CHECK(has(&fake.out, " GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/a"));
	CHECK(fake.reading && !fake.closing);
	CHECK(!fake.connection->message);
	CHECK_INT(fake.writes, 1);
	CHECK_INT(fake_stop(&fake), 0);
}

static void look_closely(struct fake *fake, struct http_exchange *exchange)
{
	const struct http_request *request = http_exchange_request(exchange);
	CHECK_INT(request->method, HTTP_METHOD_OTHER);
	CHECK_BYTES(request->method_name, "REPORT");
	CHECK_BYTES(request->path, "/%20");
	CHECK(!request->query.data);
	CHECK_INT(request->header_count, 4);
	CHECK_BYTES(request->headers[1].name, "eMpTy");
	CHECK_BYTES(request->headers[1].value, "");
	CHECK_BYTES(http_request_header(request, "Empty"), "");
	CHECK_BYTES(http_request_header(request, "twice"), "1");
	CHECK(!http_request_header(request, "absent").data);
	CHECK(request->peer != NULL);
	CHECK_STR(arena_string(http_exchange_arena(exchange), "x"), "x");
	http_respond(exchange, 204, NULL, BYTES_NONE, NULL, 0);
}

TEST(the_handler_sees_the_request_as_it_was_sent)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = look_closely;
	fake_send(&fake, B("REPORT /%20 HTTP/1.1\r\nhost: h\r\neMpTy:\r\nTwice: 1\r\ntwice: 2\r\n\r\n"));
	CHECK_INT(fake.handled, 1);
	CHECK(has(&fake.out, "HTTP/1.1 204 No Content\r\n"));
	CHECK(!has(&fake.out, "Content-"));
	CHECK_INT(fake_stop(&fake), 0);
}

/* Streams of requests whose end must be the same however they are cut. */
static const struct {
	struct bytes bytes;
	const char *requests;
} streams[] = {
	{ B(GET), "GET /a @h\n" },
	{ B("\r\n" GET "\r\n\r\n" GET), "GET /a @h\nGET /a @h\n" },
	{ B(HEAD_11 "Content-Length: 5\r\n\r\nabcde" GET), "POST /p @h <abcde>\nGET /a @h\n" },
	{ B(HEAD_11 "Content-Length: 0\r\n\r\n" GET), "POST /p @h\nGET /a @h\n" },
	{ B(CHUNKED "3\r\nabc\r\n0a;x=\"y;\"\r\n0123456789\r\n0\r\n\r\n" GET),
		"POST /p @h <abc0123456789>\nGET /a @h\n" },
	{ B(CHUNKED "1\r\nx\r\n0\r\nHost: other\r\nX: y\r\n\r\n" GET), "POST /p @h <x>\nGET /a @h\n" },
	{ B("GET http://there:80?q HTTP/1.1\r\nHost: h\r\n\r\n" GET), "GET /?q @there:80\nGET /a @h\n" },
	{ B("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n" GET), "HEAD /a @h\nGET /a @h\n" },
	{ B("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" GET), "GET / @\nGET /a @h\n" },
	{ B(HEAD_11 "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx" GET),
		"POST /p @h <x>\nGET /a @h\n" },
	{ B(HEAD_11 "Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" GET),
		"POST /p @h <x>\nGET /a @h\n" },
};

static void feed_in_steps(struct fake *fake, struct bytes bytes, size_t first, size_t step)
{
	for (size_t at = 0, len = first; at < bytes.len; at += len, len = step) {
		len = len < bytes.len - at ? len : bytes.len - at;
		fake_send(fake, (struct bytes){ bytes.data + at, len });
		while (fake->exchange) {
			struct http_exchange *exchange = STEAL(fake->exchange);
			http_exchange_on_abort(exchange, NULL);
			fake_answer(fake, exchange);
			fake_run(fake);
		}
	}
}

TEST(cuts_change_nothing)
{
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		struct bytes bytes = streams[i].bytes, expected = BYTES_NONE;
		char *whole = NULL;
		for (size_t cut = 0; cut <= 2 * bytes.len + 1; cut++) {
			struct fake fake;
			fake_start(&fake);
			/* The first half is answered at once, the other half later. */
			bool later = cut > bytes.len;
			size_t first = later ? cut - bytes.len - 1 : cut;
			fake.handle = later ? fake_keep : fake_answer;
			feed_in_steps(&fake, bytes, first ? first : 1, first ? bytes.len : 1);
			CHECK_BYTES(buffer_bytes(&fake.requests), streams[i].requests);
			CHECK(!fake.closed);
			if (!whole) {
				whole = bytes_copy_string(buffer_bytes(&fake.out));
				expected = bytes_of(whole);
			}
			/* The date may change in between. */
			CHECK_INT(fake.out.len, expected.len);
			CHECK_INT(fake_stop(&fake), 0);
		}
		free(whole);
	}
}

/* What is refused, with which status. Nothing of it may reach the handler, nor what follows it. */
static const struct {
	int status;
	struct bytes bytes;
} refused[] = {
	/* request line */
	{ 400, B("GET / HTTP/1.1\nHost: h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\rHost: h\r\n\r\n") },
	{ 400, B("GET  / HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /  HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1 \r\nHost: h\r\n\r\n") },
	{ 400, B("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B(" GET / HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /\r\n\r\n") },
	{ 400, B("GET / http/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.10\r\nHost: h\r\n\r\n") },
	{ 400, B("GET / RTSP/1.0\r\nHost: h\r\n\r\n") },
	{ 400, B("DESCRIBE / RTSP/1.0\r\nHost: h\r\n\r\n") },
	{ 400, B("SOURCE / ICE/1.0\r\nHost: h\r\n\r\n") },
	{ 505, B("GET / HTTP/0.9\r\nHost: h\r\n\r\n") },
	{ 505, B("GET / HTTP/1.2\r\nHost: h\r\n\r\n") },
	{ 505, B("GET / HTTP/2.0\r\nHost: h\r\n\r\n") },
	{ 505, B("GET / HTTP/3.1\r\nHost: h\r\n\r\n") },
	{ 505, B("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") },
	{ 400, B("G@T / HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("\x16\x03\x01\x02") },
	{ 400, B("\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("\r\rGET / HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("\r\n\r\n\r\n\r\n\r\n" GET) },
	/* target */
	{ 400, B("GET /#a HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET * HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 501, B("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET h:1 HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 400, B("GET http://u@h/a HTTP/1.1\r\nHost: h\r\n\r\n") },
	{ 501, B("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n") },
	/* Host */
	{ 400, B("GET / HTTP/1.1\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.0\r\nHost: h\r\nhost: i\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h/i\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h i\r\n\r\n") },
	{ 400, B("GET http://h/ HTTP/1.1\r\n\r\n") },
	/* lines and names of headers */
	{ 400, B("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\n\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\n\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\n\rX") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\tz\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\n Host: h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost : h\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX(: y\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX\xe9: y\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX: a\x01"
		 "b\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX: a\x0b"
		 "b\r\n\r\n") },
	{ 400, B("GET / HTTP/1.1\r\nHost: h\r\nX: a\x7f"
		 "b\r\n\r\n") },
	/* the length of the body */
	{ 400, B(HEAD_11 "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: 3, 3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: +3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: -3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: 0x3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: 3 4\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length:\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: \x0b"
			 "3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length : 3\r\n\r\nabc") },
	{ 400, B(HEAD_11 " Content-Length: 3\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Content-Length: 18446744073709551616\r\n\r\nabc") },
	{ 413, B(HEAD_11 "Content-Length: 18446744073709551615\r\n\r\nabc") },
	{ 400, B(HEAD_11 "Transfer-Encoding:\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding: \x0b"
			 "chunked\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
	{ 400, B(HEAD_11 "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
	{ 400, B("POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") },
	{ 501, B(HEAD_11 "Transfer-Encoding: gzip\r\n\r\nabc") },
	{ 501, B(HEAD_11 "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n") },
	{ 501, B(HEAD_11 "Transfer-Encoding: identity\r\n\r\nabc") },
	{ 501, B(HEAD_11 "Transfer-Encoding: xchunked\r\n\r\nabc") },
	{ 501, B(HEAD_11 "Transfer-Encoding: chunkedx\r\n\r\nabc") },
	{ 501, B(HEAD_11 "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n") },
	{ 501, B(HEAD_11 "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n") },
	/* chunks */
	{ 400, B(CHUNKED "3\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3\rabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3\r\nabc\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3\r\nabc0\r\n\r\n") },
	{ 400, B(CHUNKED "3\r\nabcd\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3\r\nabc\rx0\r\n\r\n") },
	{ 400, B(CHUNKED "3 \r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED " 3\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3\t\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "0x3\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "+3\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "-3\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3_0\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "10000000000000003\r\nabc\r\n0\r\n\r\n") },
	{ 413, B(CHUNKED "ffffffffffffffff\r\n0123456789012345678901234567890123456789\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED ";a\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3;a\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3;a=\"b\nc\"\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3;a\rb\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "3;a\x01\r\nabc\r\n0\r\n\r\n") },
	{ 400, B(CHUNKED "0\r\nX: y\n\r\n") },
	{ 400, B(CHUNKED "0\r\n\n") },
	{ 400, B(CHUNKED "0\n\r\n") },
	{ 400, B(CHUNKED "0\r\nX: y\r\n z\r\n\r\n") },
	{ 400, B(CHUNKED "0\r\nContent-Length: 5\r\n\r\n") },
	{ 400, B(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n") },
	/* other expectations */
	{ 417, B(HEAD_11 "Expect: 200-ok\r\nContent-Length: 3\r\n\r\nabc") },
};

static void check_refused(size_t i, size_t step)
{
	struct fake fake;
	fake_start(&fake);
	fake.body_limit = 20;
	struct buffer all = { 0 };
	buffer_append_bytes(&all, refused[i].bytes);
	buffer_append_string(&all, GET);
	feed_in_steps(&fake, buffer_bytes(&all), step, step);
	if (!CHECK_INT(last_status(&fake.out), refused[i].status) || !CHECK_INT(fake.handled, 0))
		test_show("of", refused[i].bytes);
	CHECK_INT(count_of(&fake.out, "\r\nDate: "), 1);
	CHECK_INT(count_of(&fake.out, "Connection: close\r\n"), 1);
	CHECK_INT(count_of(&fake.out, "Content-Type: application/problem+json\r\n"), 1);
	CHECK(fake.shut && !fake.closing);
	fake_send_end(&fake);
	CHECK(fake.closed);
	CHECK_INT(fake.core.statistics.refused, 1);
	buffer_fini(&all);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(what_is_ambiguous_is_refused)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		check_refused(i, refused[i].bytes.len + sizeof(GET));
		check_refused(i, 1);
		check_refused(i, 7);
	}
}

TEST(unknown_methods_are_not_implemented)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n"));
	CHECK_INT(last_status(&fake.out), 501);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(heads_are_bounded)
{
	for (size_t step = 1; step <= 4096; step *= 4096) {
		struct fake fake;
		struct buffer head = { 0 };
		buffer_append_string(&head, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
		while (head.len < 2000)
			buffer_append_char(&head, 'x');
		fake_start_with(&fake, (struct http_limits){ .head_max = 1024 });
		feed_in_steps(&fake, buffer_bytes(&head), step, step);
		CHECK_INT(last_status(&fake.out), 431);
		CHECK_INT(fake_stop(&fake), 0);

		buffer_clear(&head);
		buffer_append_string(&head, "GET /");
		while (head.len < 2000)
			buffer_append_char(&head, 'x');
		fake_start_with(&fake, (struct http_limits){ .head_max = 1024 });
		feed_in_steps(&fake, buffer_bytes(&head), step, step);
		CHECK_INT(last_status(&fake.out), 414);
		CHECK_INT(fake_stop(&fake), 0);

		while (head.len < 9000)
			buffer_append_char(&head, 'x');
		buffer_append_string(&head, " HTTP/1.1\r\nHost: h\r\n\r\n");
		fake_start(&fake);
		feed_in_steps(&fake, buffer_bytes(&head), step, step);
		CHECK_INT(last_status(&fake.out), 414);
		CHECK_INT(fake_stop(&fake), 0);

		buffer_clear(&head);
		buffer_append_string(&head, "GET / HTTP/1.1\r\nHost: h\r\n1:\r\n2:\r\n3:\r\n4:\r\n\r\n");
		fake_start_with(&fake, (struct http_limits){ .header_count_max = 5 });
		feed_in_steps(&fake, buffer_bytes(&head), step, step);
		CHECK_INT(last_status(&fake.out), 200);
		CHECK_INT(fake_stop(&fake), 0);
		fake_start_with(&fake, (struct http_limits){ .header_count_max = 4 });
		feed_in_steps(&fake, buffer_bytes(&head), step, step);
		CHECK_INT(last_status(&fake.out), 431);
		CHECK_INT(fake_stop(&fake), 0);
		buffer_fini(&head);
	}
}

TEST(bodies_are_bounded)
{
	struct fake fake;
	fake_start(&fake);
	fake.body_limit = 3;
	fake_send(&fake, B(HEAD_11 "Content-Length: 3\r\n\r\nabc"));
	CHECK_INT(last_status(&fake.out), 200);
	fake_send(&fake, B(HEAD_11 "Content-Length: 4\r\n\r\n"));
	CHECK_INT(last_status(&fake.out), 413); /* decided at the head */
	CHECK_INT(fake.handled, 1);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake.body_limit = 3;
	fake_send(&fake, B(CHUNKED "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"));
	CHECK_INT(last_status(&fake.out), 200);
	fake_send(&fake, B(CHUNKED "2\r\nab\r\n2\r\nc"));
	CHECK_INT(last_status(&fake.out), 200);
	fake_send(&fake, B("d"));
	CHECK_INT(last_status(&fake.out), 413);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake.body_limit = 0;
	fake_send(&fake, B(CHUNKED));
	CHECK_INT(last_status(&fake.out), 413);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(memory_of_bodies_is_bounded)
{
	struct fake fake;
	fake_start_with(&fake, (struct http_limits){ .body_memory_max = 500 });
	fake_send(&fake, B(HEAD_11 "Content-Length: 501\r\n\r\n"));
	CHECK_INT(last_status(&fake.out), 503);
	CHECK(has(&fake.out, "Retry-After: "));
	CHECK_INT(fake_stop(&fake), 0);

	fake_start_with(&fake, (struct http_limits){ .body_memory_max = 500 });
	fake_send(&fake, B(CHUNKED));
	for (int i = 0; i < 600 && !fake.shut; i++)
		fake_send(&fake, B("1\r\nx\r\n"));
	CHECK_INT(last_status(&fake.out), 503);
	CHECK(fake.core.statistics.body_memory <= 500);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(floods_of_chunk_framing_are_refused)
{
	static const char *const parts[] = { ";xxxxxxxxxxxxxxxx", "0000000000000000" };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct fake fake;
		fake_start_with(&fake, (struct http_limits){ .head_max = 1024 });
		fake_send(&fake, B(CHUNKED));
		if (i == 0)
			fake_send(&fake, B("1"));
		for (int n = 0; n < 100 && !fake.shut; n++)
			fake_send(&fake, bytes_of(parts[i]));
		CHECK_INT(last_status(&fake.out), 400);
		CHECK_INT(fake_stop(&fake), 0);
	}
}

TEST(a_client_is_told_to_continue)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B(HEAD_11 "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"));
	CHECK_BYTES(buffer_bytes(&fake.out), "HTTP/1.1 100 Continue\r\n\r\n");
	fake_send(&fake, B("abc"));
	CHECK_BYTES(buffer_bytes(&fake.requests), "POST /p @h <abc>\n");
	CHECK_INT(last_status(&fake.out), 200);
	buffer_clear(&fake.out);
	fake_send(&fake, B(HEAD_11 "Expect: 100-continue\r\nContent-Length: 3\r\n\r\na")); /* it does not wait */
	fake_send(&fake, B("bc"));
	CHECK_INT(count_of(&fake.out, "HTTP/1.1 "), 1);
	fake_send(&fake, B(HEAD_11 "Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n"));
	CHECK_INT(last_status(&fake.out), 413);
	CHECK_INT(count_of(&fake.out, "100 Continue"), 0);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake_send(&fake, B("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
	CHECK_INT(fake.out.len, 0);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(connections_persist_or_not_as_the_version_has_it)
{
	static const struct {
		const char *request, *says;
		bool persists;
	} cases[] = {
		{ "GET / HTTP/1.1\r\nHost: h\r\n\r\n", NULL, true },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", NULL, true },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n", "close", false },
		{ "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, keep-alive\r\n\r\n", "close", false },
		{ "GET / HTTP/1.0\r\n\r\n", "close", false },
		{ "GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", "keep-alive", true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fake fake;
		fake_start(&fake);
		fake_send(&fake, bytes_of(cases[i].request));
		CHECK_INT(last_status(&fake.out), 200);
		CHECK_INT(!fake.closed, cases[i].persists);
		CHECK_INT(count_of(&fake.out, "Connection: "), cases[i].says != NULL);
		if (cases[i].says)
			CHECK(has(&fake.out, cases[i].says));
		CHECK_INT(fake_stop(&fake), 0);
	}
}

TEST(a_head_request_gets_the_head_alone)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n"));
	CHECK(has(&fake.out, "Content-Length: 4\r\n\r\n"));
	CHECK(memcmp(fake.out.data + fake.out.len - 4, "\r\n\r\n", 4) == 0);
	CHECK_INT(fake_stop(&fake), 0);
}

static void answer_with_headers(struct fake *fake, struct http_exchange *exchange)
{
	const struct http_header headers[] = { { B("X-A"), B("b\r\nSet-Cookie: x\0\n") },
		{ B("content-length"), B("99") }, { B("Date"), B("never") }, { B("transfer-encoding"), B("chunked") },
		{ B("CONNECTION"), B("close") } };
	http_respond(exchange, 299, "a/b\r\nX: y", B("12345"), headers, ARRAY_SIZE(headers));
}

TEST(headers_of_an_answer_are_never_split_or_doubled)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = answer_with_headers;
	fake_send(&fake, B(GET));
	CHECK(has(&fake.out, "HTTP/1.1 299 Status\r\n"));
	CHECK(has(
		&fake.out, "\r\nContent-Type: a/b  X: y\r\nContent-Length: 5\r\nX-A: b  Set-Cookie: x  \r\n\r\n12345"));
	CHECK_INT(count_of(&fake.out, "ontent-"), 2);
	CHECK_INT(count_of(&fake.out, "Date"), 1);
	CHECK(!has(&fake.out, "never"));
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(pipelined_answers_leave_in_one_write_and_in_order)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
			   "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n"));
	CHECK_INT(fake.handled, 3);
	CHECK_INT(fake.writes, 1);
	const char *one = memmem(fake.out.data, fake.out.len, "\r\n\r\n/1HTTP/1.1", 14);
	const char *two = memmem(fake.out.data, fake.out.len, "\r\n\r\n/2HTTP/1.1", 14);
	CHECK(one && two && one < two);
	CHECK(memcmp(fake.out.data + fake.out.len - 2, "/3", 2) == 0);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(many_pipelined_requests_do_not_keep_the_loop)
{
	struct fake fake;
	struct buffer all = { 0 };
	for (int i = 0; i < 1000; i++)
		buffer_append_string(&all, GET);
	fake_start(&fake);
	http_connection_data(fake.connection, all.data, all.len);
	CHECK(fake.handled > 0 && fake.handled < 200);
	CHECK(!fake.reading);
	fake_run(&fake);
	CHECK_INT(fake.handled, 1000);
	CHECK_INT(count_of(&fake.out, "HTTP/1.1 200"), 1000);
	CHECK(fake.reading);
	/* The client half-closes: what it sent before is answered all the same. */
	http_connection_data(fake.connection, all.data, all.len);
	http_connection_eof(fake.connection);
	fake_run(&fake);
	CHECK_INT(fake.handled, 2000);
	CHECK(fake.closed);
	CHECK_INT(count_of(&fake.out, "HTTP/1.1 200"), 2000);
	buffer_fini(&all);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(later_answers_keep_the_order_and_bound_the_input)
{
	struct fake fake;
	fake_start_with(&fake, (struct http_limits){ .head_max = 200 });
	fake.handle = fake_keep;
	for (int i = 0; i < 100; i++)
		fake_send(&fake, B(GET));
	CHECK_INT(fake.handled, 1);
	CHECK(!fake.reading);
	CHECK(fake.connection->input.len < 300);
	unsigned begun = 0;
	while (fake.exchange) {
		struct http_exchange *exchange = STEAL(fake.exchange);
		begun = fake.handled;
		http_respond(exchange, 200, NULL, B("x"), NULL, 0);
		CHECK_INT(fake.handled, begun); /* the next is never begun from within the answer */
		fake_run(&fake);
	}
	CHECK(fake.handled > 2 && fake.handled < 12);
	CHECK_INT(count_of(&fake.out, "HTTP/1.1 200"), fake.handled);
	CHECK(fake.reading);
	CHECK(!fake.connection->message);
	CHECK_INT(fake.connection->input.capacity, 0);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_client_that_does_not_read_gets_no_further_requests_begun)
{
	struct fake fake;
	fake_start(&fake);
	fake.takes = 10;
	fake_send(&fake, B(GET GET));
	CHECK_INT(fake.handled, 2); /* what one read brought is one write */
	CHECK_INT(fake.out.len, 10);
	fake_send(&fake, B(GET));
	CHECK_INT(fake.handled, 2);
	fake.takes = SIZE_MAX;
	fake_run(&fake);
	CHECK_INT(fake.handled, 3);
	CHECK_INT(count_of(&fake.out, "HTTP/1.1 200"), 3);
	CHECK_INT(fake_stop(&fake), 0);
}

static char large[300000];

static void answer_large(struct fake *fake, struct http_exchange *exchange)
{
	http_respond(exchange, 200, NULL, (struct bytes){ large, sizeof(large) }, NULL, 0);
}

TEST(large_answers_arrive_whole)
{
	struct fake fake;
	memset(large, 'x', sizeof(large));
	fake_start(&fake);
	fake.handle = answer_large;
	fake.takes = 1000;
	fake_send(&fake, B(GET GET));
	CHECK_INT(fake.handled, 1);
	for (int i = 0; i < 2000 && fake.handled < 2; i++) {
		fake.takes = 777;
		fake_run(&fake);
	}
	fake.takes = SIZE_MAX;
	fake_run(&fake);
	CHECK_INT(fake.handled, 2);
	CHECK_INT(count_of(&fake.out, "x"), 2 * sizeof(large));
	CHECK_INT(fake_stop(&fake), 0);
}

/* === streams === */

static void on_drained(struct http_exchange *exchange)
{
	((struct fake *)http_exchange_data(exchange))->drained++;
}

static void start_stream(struct fake *fake, struct http_exchange *exchange)
{
	fake_keep(fake, exchange);
	http_stream_start(exchange, 200, "text/event-stream", NULL, 0);
	http_stream_on_drained(exchange, on_drained);
}

TEST(a_stream_is_chunked)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B(GET GET));
	CHECK(has(&fake.out, "Transfer-Encoding: chunked\r\n\r\n"));
	CHECK(!has(&fake.out, "Content-Length"));
	CHECK(!fake.connection->message); /* released */
	CHECK_INT(fake.timer_due, UINT64_MAX); /* nothing is timed while a follower waits */
	buffer_clear(&fake.out);
	CHECK(http_stream_write(fake.exchange, B("0123456789abcdefg")));
	CHECK(http_stream_write(fake.exchange, B("")));
	CHECK_BYTES(buffer_bytes(&fake.out), "11\r\n0123456789abcdefg\r\n");
	buffer_clear(&fake.out);
	CHECK_INT(fake.handled, 1);
	http_stream_end(STEAL(fake.exchange));
	CHECK_BYTES(buffer_bytes(&fake.out), "0\r\n\r\n");
	CHECK_INT(fake.handled, 1);
	fake_run(&fake);
	CHECK_INT(fake.handled, 2); /* the pipelined one */
	CHECK_INT(fake_stop(&fake), 0);
	CHECK_INT(fake.aborted, 1);
}

TEST(a_stream_for_http_1_0_lasts_until_the_end)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
	CHECK(has(&fake.out, "Connection: close\r\n\r\n"));
	CHECK(!has(&fake.out, "chunked"));
	buffer_clear(&fake.out);
	http_stream_write(fake.exchange, B("abc"));
	http_stream_end(STEAL(fake.exchange));
	fake_run(&fake);
	CHECK_BYTES(buffer_bytes(&fake.out), "abc");
	CHECK(fake.closed && !fake.reset);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_stream_for_head_has_no_body)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"));
	size_t len = fake.out.len;
	CHECK(http_stream_write(fake.exchange, B("abc")));
	http_stream_end(STEAL(fake.exchange));
	CHECK_INT(fake.out.len, len);
	CHECK(!fake.closing);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_slow_follower_pushes_back)
{
	struct fake fake;
	fake_start_with(&fake, (struct http_limits){ .write_queue_max = 100 });
	fake.handle = start_stream;
	fake_send(&fake, B(GET));
	buffer_clear(&fake.out);
	fake.takes = 0;
	unsigned written = 0;
	while (http_stream_write(fake.exchange, B("0123456789")))
		written++;
	CHECK_INT(written, 6); /* 15 bytes each */
	CHECK_INT(http_stream_queued(fake.exchange), 105);
	CHECK_INT(fake.drained, 0);
	fake.takes = 50;
	fake_run(&fake);
	CHECK_INT(fake.drained, 0);
	CHECK_INT(http_stream_queued(fake.exchange), 55);
	fake.takes = SIZE_MAX;
	fake_run(&fake);
	CHECK_INT(fake.drained, 1);
	CHECK_INT(http_stream_queued(fake.exchange), 0);
	CHECK_INT(fake.connection->waiting.capacity, 0); /* nothing is kept while it waits */
	http_stream_write(fake.exchange, B("x"));
	fake_run(&fake);
	CHECK_INT(fake.drained, 1);
	CHECK_INT(count_of(&fake.out, "a\r\n0123456789\r\n"), 7);
	CHECK_INT(fake_stop(&fake), 0);
}

static void flood_from_handler(struct fake *fake, struct http_exchange *exchange)
{
	start_stream(fake, exchange);
	while (http_stream_write(exchange, B("0123456789")))
		;
	CHECK_INT(fake->drained, 0);
}

TEST(a_stream_may_be_filled_from_the_handler)
{
	struct fake fake;
	fake_start_with(&fake, (struct http_limits){ .write_queue_max = 100 });
	fake.handle = flood_from_handler;
	fake_send(&fake, B(GET));
	CHECK_INT(fake.drained, 1);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(who_goes_away_aborts_the_exchange_once)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B(GET));
	fake_send_end(&fake);
	CHECK_INT(fake.aborted, 1);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);
	CHECK_INT(fake.aborted, 1);

	fake_start(&fake);
	fake.handle = fake_keep;
	fake_send(&fake, B(GET));
	http_connection_failed(fake.connection);
	fake_run(&fake);
	CHECK_INT(fake.aborted, 1);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_failed_write_aborts_later)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B(GET));
	fake.write_error = UV_EPIPE;
	CHECK(http_stream_write(fake.exchange, B("x")));
	CHECK_INT(fake.aborted, 0); /* not from within the call */
	CHECK(http_stream_write(fake.exchange, B("y")));
	fake_run(&fake);
	CHECK_INT(fake.aborted, 1);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake.handle = fake_keep;
	fake_send(&fake, B(GET));
	fake.write_error = UV_EPIPE;
	http_respond(STEAL(fake.exchange), 200, NULL, B("x"), NULL, 0);
	fake_run(&fake);
	CHECK_INT(fake.aborted, 0); /* the exchange had ended */
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_cut_is_seen_and_not_reported)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B(GET));
	http_exchange_cut(STEAL(fake.exchange));
	fake_run(&fake);
	CHECK(fake.closed && !fake.reset);
	CHECK(!has(&fake.out, "0\r\n\r\n"));
	CHECK_INT(fake.aborted, 0);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B("GET / HTTP/1.0\r\n\r\n"));
	http_exchange_cut(STEAL(fake.exchange));
	fake_run(&fake);
	CHECK(fake.closed && fake.reset);
	CHECK_INT(fake_stop(&fake), 0);
}

/* === deadlines === */

TEST(idle_connections_are_closed_silently)
{
	struct fake fake;
	fake_start(&fake);
	fake_pass(&fake, 74999);
	CHECK(!fake.closed);
	fake_send(&fake, B(GET));
	buffer_clear(&fake.out);
	fake_pass(&fake, 74999);
	CHECK(!fake.closed);
	fake_send(&fake, B("\r\n")); /* is no request yet */
	fake_pass(&fake, 1);
	CHECK(fake.closed);
	CHECK_INT(fake.out.len, 0);
	CHECK_INT(fake.timer_due, UINT64_MAX);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_head_must_come_in_time)
{
	struct fake fake;
	fake_start(&fake);
	fake_pass(&fake, 5000);
	fake_send(&fake, B("GET / HT"));
	fake_pass(&fake, 9000);
	fake_send(&fake, B("TP/1.1\r\n")); /* more bytes do not buy time */
	fake_pass(&fake, 999);
	CHECK_INT(fake.out.len, 0);
	fake_pass(&fake, 1);
	CHECK_INT(last_status(&fake.out), 408);
	CHECK(fake.shut && !fake.closed);
	fake_pass(&fake, 2000);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_body_must_get_on)
{
	struct fake fake;
	fake_start(&fake);
	fake_send(&fake, B(HEAD_11 "Content-Length: 5\r\n\r\n"));
	for (int i = 0; i < 3; i++) {
		fake_pass(&fake, 29999);
		fake_send(&fake, B("x"));
	}
	CHECK_INT(fake.out.len, 0);
	fake_pass(&fake, 30000);
	CHECK_INT(last_status(&fake.out), 408);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(handlers_have_all_the_time)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = fake_keep;
	fake_send(&fake, B(GET));
	CHECK_INT(fake.timer_due, UINT64_MAX);
	fake_pass(&fake, 10000000);
	CHECK_INT(fake.aborted, 0);
	http_respond(STEAL(fake.exchange), 200, NULL, B("x"), NULL, 0);
	CHECK_INT(last_status(&fake.out), 200);
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(a_reader_must_get_on)
{
	struct fake fake;
	fake_start(&fake);
	fake.handle = start_stream;
	fake_send(&fake, B(GET));
	fake.takes = 0;
	http_stream_write(fake.exchange, B("0123456789"));
	for (int i = 0; i < 4; i++) {
		fake.takes = 1;
		fake_run(&fake);
		fake_pass(&fake, 30000);
		CHECK_INT(fake.aborted, 0);
	}
	fake_pass(&fake, 29999);
	CHECK_INT(fake.aborted, 0);
	fake_pass(&fake, 1);
	CHECK_INT(fake.aborted, 1);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);
}

/* === the end === */

TEST(stopping_ends_what_is_idle_and_lets_the_rest_finish)
{
	struct fake fake;
	fake_start(&fake);
	http_core_stop(&fake.core);
	fake_run(&fake);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake.handle = fake_keep;
	fake_send(&fake, B(GET GET));
	http_core_stop(&fake.core);
	fake_run(&fake);
	CHECK(!fake.closed);
	http_respond(STEAL(fake.exchange), 200, NULL, B("x"), NULL, 0);
	CHECK(has(&fake.out, "Connection: close\r\n"));
	fake_run(&fake);
	CHECK_INT(fake.handled, 1);
	CHECK(fake.shut);
	fake_send_end(&fake);
	CHECK(fake.closed);
	CHECK_INT(fake_stop(&fake), 0);

	fake_start(&fake);
	fake_send(&fake, B("GET / HT"));
	http_core_stop(&fake.core);
	fake_run(&fake);
	fake_send(&fake, B("TP/1.1\r\nHost: h\r\n\r\n"));
	CHECK(has(&fake.out, "Connection: close\r\n"));
	CHECK_INT(fake_stop(&fake), 0);
}

TEST(who_waits_costs_little)
{
	/* With libuv's handle and what malloc adds; everything else is released while a connection is idle or
	 * streams. */
	CHECK(sizeof(struct http_connection) + sizeof(uv_tcp_t) + 32 < 1024);
	printf("# an idle connection: %zu bytes\n", sizeof(struct http_connection) + sizeof(uv_tcp_t));
}

TEST_MAIN()
