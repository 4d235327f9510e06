/* Our HTTP server with a handler that gives a fixed answer: what the server alone costs, beside bare_http.
 *
 * http_fixed [PORT] prints the port it listens on and runs until it is killed. */
#include <stdio.h>
#include <stdlib.h>

#include "io/http_server.h"

static void on_request(void *owner, struct http_exchange *exchange)
{
	http_respond(exchange, 200, "application/json",
		BYTES_LITERAL(
			"{\"status\":\"queued\",\"job_name\":\"eval-0123456789abcdef0123456789\",\"eval_id\":\"1234"
			"5678\"}"),
		NULL, 0);
}

int main(int argc, char **argv)
{
	struct log log = { .fd = 2, .level = LOG_WARNING };
	struct http_server *server = http_server_new(
		&(struct http_server_options){ .loop = uv_default_loop(), .log = &log, .on_request = on_request });
	struct err err = { 0 };
	uint16_t port;
	if (http_server_listen(server, "127.0.0.1", argc > 1 ? (uint16_t)atoi(argv[1]) : 0, &port, &err) < 0) {
		fprintf(stderr, "http_fixed: %s\n", err.message);
		return 1;
	}
	printf("%u\n", port);
	fflush(stdout);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
