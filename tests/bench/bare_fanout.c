/* The peer that the fan-out of events is measured against: libuv and nothing else.
 *
 *	bare_fanout FOLLOWERS WRITES BYTES
 *
 * prints the port it listens on. When so many followers have asked for something, each is answered with a head and then
 * sent WRITES times the same BYTES of events, the next as soon as the kernel took the last. It runs until it is
 * killed. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n";
static const char event[] = "id: 0123456789abcdef\nevent: completed\ndata: {}\n\n";

struct follower {
	uv_tcp_t tcp;
	uv_write_t write;
	long left;
};

static struct follower **followers;
static long wanted, present, writes;
static uv_buf_t head_buf, events_buf;
static char read_buffer[4096];

static void on_written(uv_write_t *write, int status)
{
	struct follower *follower = write->data;
	if (status == 0 && follower->left-- > 0)
		uv_write(write, (uv_stream_t *)&follower->tcp, &events_buf, 1, on_written);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	*buf = uv_buf_init(read_buffer, sizeof(read_buffer));
}

/* The requests are of one read each: the client sends them so. Heads go out at once, events when all are there. */
static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	if (len <= 0) {
		uv_read_stop(stream);
		return;
	}
	if (uv_try_write(stream, &head_buf, 1) != (int)head_buf.len)
		abort();
	followers[present++] = stream->data;
	if (present < wanted)
		return;
	for (long i = 0; i < wanted; i++) {
		followers[i]->left = writes;
		on_written(&followers[i]->write, 0);
	}
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct follower *follower = calloc(1, sizeof(*follower));
	if (!follower || present == wanted)
		abort();
	uv_tcp_init(listener->loop, &follower->tcp);
	follower->tcp.data = follower->write.data = follower;
	if (uv_accept(listener, (uv_stream_t *)&follower->tcp) < 0)
		abort();
	uv_tcp_nodelay(&follower->tcp, 1);
	uv_read_start((uv_stream_t *)&follower->tcp, on_alloc, on_read);
}

/* So many bytes of events: the last line is made longer until it fits. */
static char *make_events(size_t bytes, size_t *ret_events)
{
	char *text = malloc(bytes + 1);
	if (!text || bytes < sizeof(event) - 1)
		abort();
	memset(text, ' ', bytes);
	size_t count = bytes / 400 ? bytes / 400 : 1, each = bytes / count;
	for (size_t i = 0; i < count; i++) {
		size_t len = i + 1 < count ? each : bytes - i * each;
		char *at = text + i * each;
		memcpy(at, event, sizeof(event) - 3);
		memcpy(at + len - 2, "\n\n", 2);
	}
	*ret_events = count;
	return text;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fputs("usage: bare_fanout FOLLOWERS WRITES BYTES\n", stderr);
		return 2;
	}
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	wanted = atol(argv[1]);
	writes = atol(argv[2]);
	size_t bytes = (size_t)atol(argv[3]), events;
	followers = calloc((size_t)wanted, sizeof(followers[0]));
	head_buf = uv_buf_init((char *)head, sizeof(head) - 1);
	events_buf = uv_buf_init(make_events(bytes, &events), (unsigned)bytes);
	uv_loop_t *loop = uv_default_loop();
	struct sockaddr_in address;
	int len = sizeof(address);
	uv_tcp_t listener;
	uv_ip4_addr("127.0.0.1", 0, &address);
	uv_tcp_init(loop, &listener);
	if (!followers || uv_tcp_bind(&listener, (struct sockaddr *)&address, 0) < 0 ||
		uv_listen((uv_stream_t *)&listener, 1024, on_connection) < 0 ||
		uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &len) < 0) {
		fputs("bare_fanout: cannot listen\n", stderr);
		return 1;
	}
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
	return uv_run(loop, UV_RUN_DEFAULT);
}
