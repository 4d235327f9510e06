/* Redis' own latency from publish to subscribe: one connection publishes at a steady rate, another is subscribed.
 *
 *	bare_redis HOST:PORT PASSWORD MESSAGES MESSAGES-PER-SECOND
 *
 * prints "p50_ms=… p99_ms=…" of the time from before the PUBLISH is sent to the message's arrival.
 *
 *	bare_redis HOST:PORT PASSWORD MESSAGES
 *
 * is the same subscriber alone, of what the service publishes: it prints "ready", then, when so many ends of tasks have come, a line for each:
 * when it came (seconds since the epoch) and its payload. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define PAYLOAD_BYTES 400 /* about an event's */

static void die(const char *what)
{
	fprintf(stderr, "bare_redis: %s\n", what);
	exit(1);
}

static void send_all(int fd, const char *text, size_t len)
{
	if (write(fd, text, len) != (ssize_t)len)
		die("cannot write");
}

/* Waits for a piece of text in what the server says; what comes behind it is dropped. */
static void expect(int fd, const char *wanted)
{
	char buffer[4096];
	size_t filled = 0;
	while (!memmem(buffer, filled, wanted, strlen(wanted))) {
		ssize_t len = read(fd, buffer + filled, sizeof(buffer) - filled);
		if (len <= 0)
			die("no answer");
		filled += (size_t)len;
	}
}

static int dial(const char *host, const char *port, const char *password)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
		connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("cannot connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	char text[512];
	send_all(fd, text, (size_t)snprintf(text, sizeof(text), "AUTH %s\r\n", password));
	expect(fd, "+OK\r\n");
	return fd;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

static void subscribe(int fd)
{
	send_all(fd, "SUBSCRIBE evaluation:completed\r\n", 32);
	expect(fd, ":1\r\n");
}

/* Payloads are JSON in one line each; they are the only lines that begin with a brace. */
static void listen_to(int fd, int messages)
{
	struct message {
		int64_t at_us;
		char *payload;
	} *heard = calloc((size_t)messages, sizeof(heard[0]));
	static char buffer[1 << 20];
	size_t filled = 0;
	subscribe(fd);
	puts("ready");
	fflush(stdout);
	for (int count = 0; count < messages;) {
		ssize_t len = read(fd, buffer + filled, sizeof(buffer) - filled);
		int64_t at_us = clock_wall_us();
		if (len <= 0)
			die("no message");
		filled += (size_t)len;
		char *line = buffer, *end;
		while ((end = memchr(line, '\n', (size_t)(buffer + filled - line)))) {
			if (*line == '{' && count < messages)
				heard[count++] = (struct message){ at_us, strndup(line, (size_t)(end - line - 1)) };
			line = end + 1;
		}
		filled = (size_t)(buffer + filled - line);
		memmove(buffer, line, filled);
	}
	for (int i = 0; i < messages; i++) {
		printf("%.6f %s\n", (double)heard[i].at_us / 1e6, heard[i].payload);
		free(heard[i].payload);
	}
	free(heard);
}

int main(int argc, char **argv)
{
	char *colon = argc == 4 || argc == 5 ? strchr(argv[1], ':') : NULL;
	if (!colon) {
		fputs("usage: bare_redis HOST:PORT PASSWORD MESSAGES [MESSAGES-PER-SECOND]\n", stderr);
		return 2;
	}
	*colon = '\0';
	int messages = atoi(argv[3]);
	int subscriber = dial(argv[1], colon + 1, argv[2]);
	if (argc == 4) {
		listen_to(subscriber, messages);
		return 0;
	}
	int pause_us = 1000000 / atoi(argv[4]);
	int publisher = dial(argv[1], colon + 1, argv[2]);
	double *latencies = calloc((size_t)messages, sizeof(latencies[0]));
	char message[PAYLOAD_BYTES + 100], payload[PAYLOAD_BYTES + 1];
	memset(payload, 'x', PAYLOAD_BYTES);
	payload[PAYLOAD_BYTES - 1] = '!';
	payload[PAYLOAD_BYTES] = '\0';
	size_t len = (size_t)snprintf(message, sizeof(message),
		"*3\r\n$7\r\nPUBLISH\r\n$20\r\nevaluation:completed\r\n$%d\r\n%s\r\n", PAYLOAD_BYTES, payload);
	subscribe(subscriber);
	for (int i = 0; i < messages; i++) {
		usleep((useconds_t)pause_us);
		int64_t from = clock_monotonic_us();
		send_all(publisher, message, len);
		expect(subscriber, "!\r\n");
		latencies[i] = (double)(clock_monotonic_us() - from) / 1000;
		expect(publisher, ":1\r\n");
	}
	qsort(latencies, (size_t)messages, sizeof(latencies[0]), compare);
	printf("p50_ms=%.3f p99_ms=%.3f\n", latencies[messages / 2], latencies[(messages - 1) * 99 / 100]);
	free(latencies);
	return 0;
}
