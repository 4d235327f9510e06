/* The peer that the HTTP server is measured against: libuv and llhttp and nothing else. It parses each request,
 * body included, and answers all of them with the same bytes. Answers to what came with one read leave with one
 * write. No limits, no timeouts, no error answers: what is refused by the parser is closed.
 *
 * bare_http [PORT] prints the port it listens on and runs until it is killed. */
#include <arpa/inet.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define READ_SIZE 65536
#define ANSWERS_MAX 4096 /* of one read: more requests than fit into it */

#define BODY "{\"status\":\"queued\",\"job_name\":\"eval-0123456789abcdef0123456789\",\"eval_id\":\"12345678\"}"
_Static_assert(sizeof(BODY) - 1 == 85, "Content-Length");

static const char answer[] = "HTTP/1.1 200 OK\r\n"
			     "Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
			     "Content-Type: application/json\r\n"
			     "Content-Length: 85\r\n"
			     "\r\n" BODY;

struct connection {
	uv_tcp_t tcp;
	llhttp_t parser;
	unsigned answers;
};

static char read_buffer[READ_SIZE];
static char write_buffer[ANSWERS_MAX * (sizeof(answer) - 1)];

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static int on_message_complete(llhttp_t *parser)
{
	struct connection *connection = parser->data;
	if (connection->answers < ANSWERS_MAX)
		connection->answers++;
	return 0;
}

static const llhttp_settings_t settings = { .on_message_complete = on_message_complete };

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	*buf = uv_buf_init(read_buffer, READ_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct connection *connection = stream->data;
	if (len == 0)
		return;
	connection->answers = 0;
	if (len < 0 || llhttp_execute(&connection->parser, buf->base, (size_t)len) != HPE_OK) {
		uv_close((uv_handle_t *)stream, on_closed);
		return;
	}
	size_t total = 0;
	for (unsigned i = 0; i < connection->answers; i++, total += sizeof(answer) - 1)
		memcpy(write_buffer + total, answer, sizeof(answer) - 1);
	uv_buf_t out = uv_buf_init(write_buffer, (unsigned)total);
	if (total > 0 && uv_try_write(stream, &out, 1) != (int)total)
		uv_close((uv_handle_t *)stream, on_closed); /* a client that does not read its answers */
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		abort();
	uv_tcp_init(listener->loop, &connection->tcp);
	connection->tcp.data = connection;
	llhttp_init(&connection->parser, HTTP_REQUEST, &settings);
	connection->parser.data = connection;
	if (uv_accept(listener, (uv_stream_t *)&connection->tcp) < 0) {
		uv_close((uv_handle_t *)&connection->tcp, on_closed);
		return;
	}
	uv_tcp_nodelay(&connection->tcp, 1);
	uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read);
}

int main(int argc, char **argv)
{
	uv_loop_t *loop = uv_default_loop();
	struct sockaddr_in address;
	int len = sizeof(address);
	uv_tcp_t listener;
	uv_ip4_addr("127.0.0.1", argc > 1 ? atoi(argv[1]) : 0, &address);
	uv_tcp_init(loop, &listener);
	if (uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) < 0 ||
		uv_listen((uv_stream_t *)&listener, 1024, on_connection) < 0 ||
		uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len) < 0) {
		fputs("bare_http: cannot listen\n", stderr);
		return 1;
	}
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
	return uv_run(loop, UV_RUN_DEFAULT);
}
