/* Followers of one stream of Server-Sent Events, which only read and count.
 *
 *	followers PORT PATH FOLLOWERS EVENTS|BYTESb
 *
 * prints "ready" when each has the head of its answer, and when each has had so many events, or so many bytes,
 *
 *	seconds=S events=TOTAL bytes=TOTAL least=EVENTS most=EVENTS
 *
 * where the time begins with the first byte after "ready". When standard input ends it prints this at once: what is
 * missing shows in `least`. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARK "\ndata:"
#define MARK_LEN (sizeof(MARK) - 1)

struct follower {
	int fd;
	bool open; /* the head has come */
	long events, bytes;
	char tail[MARK_LEN]; /* what a mark may have begun in the read before, behind a byte that is none */
	size_t tail_len;
};

static char buffer[1 << 18];

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int dial(int port, const char *path)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	char request[1024];
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	int len = snprintf(request, sizeof(request),
		"GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", path, port);
	if (write(fd, request, (size_t)len) != len)
		die("write");
	return fd;
}

/* How many marks end in this piece of the stream, which follows `tail`. */
static long count_marks(struct follower *follower, char *data, size_t len)
{
	long count = 0;
	/* The bytes before stand before it in the same buffer. */
	char *begin = data - follower->tail_len, *end = data + len;
	memcpy(begin, follower->tail, follower->tail_len);
	for (char *at = begin; (at = memmem(at, (size_t)(end - at), MARK, MARK_LEN)) != NULL; at += MARK_LEN)
		count++;
	size_t keep = (size_t)(end - begin) < MARK_LEN - 1 ? (size_t)(end - begin) : MARK_LEN - 1;
	memcpy(follower->tail, end - keep, keep);
	follower->tail_len = keep;
	return count;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fputs("usage: followers PORT PATH FOLLOWERS EVENTS|BYTESb\n", stderr);
		return 2;
	}
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	int port = atoi(argv[1]), count = atoi(argv[3]);
	char *unit;
	long wanted = strtol(argv[4], &unit, 10);
	bool in_bytes = *unit == 'b';
	struct follower *followers = calloc((size_t)count, sizeof(followers[0]));
	int poll = epoll_create1(0), opened = 0, done = 0;
	if (!followers || poll < 0)
		die("followers");
	struct epoll_event interest = { .events = EPOLLIN };
	epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &interest);
	for (int i = 0; i < count; i++) {
		followers[i].fd = dial(port, argv[2]);
		interest.data.ptr = &followers[i];
		if (epoll_ctl(poll, EPOLL_CTL_ADD, followers[i].fd, &interest) < 0)
			die("epoll_ctl");
	}
	double begin = 0, end = 0;
	bool ended = false;
	while (done < count && !ended) {
		struct epoll_event ready[256];
		int events = epoll_wait(poll, ready, 256, -1);
		for (int i = 0; i < events; i++) {
			struct follower *follower = ready[i].data.ptr;
			if (!follower) {
				ended = read(STDIN_FILENO, buffer, sizeof(buffer)) <= 0;
				continue;
			}
			char *data = buffer + MARK_LEN;
			ssize_t len = read(follower->fd, data, sizeof(buffer) - MARK_LEN);
			if (len <= 0)
				die("a stream ended");
			if (!follower->open) {
				char *body = memmem(data, (size_t)len, "\r\n\r\n", 4);
				if (!body || memcmp(data, "HTTP/1.1 200", 12) != 0)
					die("not a stream");
				follower->open = true;
				len -= body + 4 - data;
				memmove(data, body + 4, (size_t)len);
				if (++opened == count) {
					puts("ready");
					fflush(stdout);
				}
				if (len == 0)
					continue;
			}
			bool was = (in_bytes ? follower->bytes : follower->events) >= wanted;
			follower->events += count_marks(follower, data, (size_t)len);
			follower->bytes += len;
			if (begin == 0 && opened == count)
				begin = now();
			if (!was && (in_bytes ? follower->bytes : follower->events) >= wanted)
				done++;
		}
		end = now();
	}
	long total = 0, bytes = 0, least = followers[0].events, most = 0;
	for (int i = 0; i < count; i++) {
		total += followers[i].events;
		bytes += followers[i].bytes;
		least = followers[i].events < least ? followers[i].events : least;
		most = followers[i].events > most ? followers[i].events : most;
	}
	printf("seconds=%.6f events=%ld bytes=%ld least=%ld most=%ld\n", end - begin, total, bytes, least, most);
	return 0;
}
