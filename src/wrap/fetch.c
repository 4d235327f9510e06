/* See fetch.h. */
#include "wrap/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/write_all.h"
#include "wrap/plan.h"
#include "wrap/post.h"

#define SILENCE_S 10 /* without any progress */
#define PAUSE_FIRST_MS 50
#define PAUSE_MOST_MS 2000
#define TEMPORARY PLAN_FILE ".new"

struct answer {
	size_t length;
	uint8_t code[SHA256_SIZE];
	char data[65536]; /* what has been read and not written */
	size_t len;
};

static int connect_to(const struct post_address *address)
{
	const struct timeval silence = { .tv_sec = SILENCE_S };
	int fd = socket(address->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence)); /* for connect() too: socket(7) */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
	if (connect(fd, (const struct sockaddr *)&address->to, address->len) == 0)
		return fd;
	int rc = errno == EINPROGRESS ? -ETIMEDOUT : -errno;
	close(fd);
	return rc;
}

static int send_request(int fd, const struct report_signer *signer, const struct post_address *address)
{
	char path[POST_PATH_MAX], request[POST_PATH_MAX + 256 + REPORT_OVERHEAD];
	const struct report_frame frame = { .kind = FRAME_FETCH };
	post_path(signer, "plan", path);
	size_t len = (size_t)snprintf(request, sizeof(request) - REPORT_OVERHEAD,
		"POST %s HTTP/1.1\r\nHost: %.64s\r\nContent-Type: application/octet-stream\r\n"
		"Content-Length: %d\r\nConnection: close\r\n\r\n",
		path, address->text, REPORT_OVERHEAD);
	len += report_encode(signer, &frame, (uint8_t *)request + len, REPORT_OVERHEAD);
	for (size_t sent = 0; sent < len;) {
		ssize_t n = send(fd, request + sent, len - sent, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		sent += (size_t)n;
	}
	return 0;
}

static int receive(int fd, char *to, size_t room, size_t *ret_len)
{
	ssize_t n = recv(fd, to, room, 0);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	*ret_len = (size_t)n;
	return n == 0 ? -ECONNRESET : 0;
}

static int parse_head(struct answer *answer, char *end)
{
	char text[2 * SHA256_SIZE + 1];
	end[2] = '\0';
	const char *length = post_header(answer->data, "content-length");
	const char *code = post_header(answer->data, REPORT_PLAN_HEADER);
	if (strncmp(answer->data, "HTTP/1.1 421", 12) == 0)
		return -ENOENT;
	if (strncmp(answer->data, "HTTP/1.1 200", 12) != 0 || !length || !code)
		return -EPROTO;
	answer->length = strtoul(length, NULL, 10);
	snprintf(text, sizeof(text), "%s", code);
	return answer->length <= PLAN_SIZE_MAX && sha256_parse(text, answer->code) ? 0 : -EPROTO;
}

/* Up to the body, of which what has come stands at the beginning of the data afterwards. */
static int read_head(int fd, struct answer *answer)
{
	char *end;
	answer->len = 0;
	do {
		size_t n = 0;
		if (answer->len >= 4096)
			return -EPROTO;
		int rc = receive(fd, answer->data + answer->len, 4096 - answer->len, &n);
		if (rc < 0)
			return rc;
		answer->len += n;
		answer->data[answer->len] = '\0';
		end = strstr(answer->data, "\r\n\r\n");
	} while (!end);
	int rc = parse_head(answer, end);
	answer->len -= (size_t)(end + 4 - answer->data);
	memmove(answer->data, end + 4, answer->len);
	return rc;
}

static int copy_body(int fd, struct answer *answer, const struct report_signer *signer, int to)
{
	struct hmac_sha256 hmac;
	hmac_sha256_init(&hmac, signer->key, sizeof(signer->key));
	uint8_t code[SHA256_SIZE];
	for (size_t have = 0;;) {
		hmac_sha256_update(&hmac, answer->data, answer->len);
		int rc = write_all(to, answer->data, answer->len);
		have += answer->len;
		if (rc == 0 && have < answer->length)
			rc = receive(fd, answer->data, sizeof(answer->data), &answer->len);
		else if (rc == 0)
			break;
		if (rc < 0)
			return rc;
	}
	hmac_sha256_final(&hmac, code);
	return memcmp(code, answer->code, sizeof(code)) == 0 ? 0 : -EBADMSG;
}

static int fetch_from(const struct report_signer *signer, const struct post_address *address, int directory)
{
	static struct answer answer;
	int fd = connect_to(address);
	if (fd < 0)
		return fd;
	int rc = send_request(fd, signer, address);
	if (rc == 0)
		rc = read_head(fd, &answer);
	if (rc == 0) {
		/* One that an earlier try left behind cannot be written to. */
		unlinkat(directory, TEMPORARY, 0);
		int to = openat(directory, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0440);
		rc = to < 0 ? -errno : copy_body(fd, &answer, signer, to);
		if (to >= 0 && close(to) < 0 && rc == 0)
			rc = -errno;
		if (rc == 0 && renameat(directory, TEMPORARY, directory, PLAN_FILE) < 0)
			rc = -errno;
		else if (rc < 0)
			unlinkat(directory, TEMPORARY, 0);
	}
	close(fd);
	return rc;
}

/* The text is cut at its commas, for good. */
static size_t parse_addresses(char *text, struct post_address addresses[POST_ADDRESSES])
{
	size_t count = 0;
	for (char *rest = text, *one; (one = strsep(&rest, ","));) {
		if (count == POST_ADDRESSES || !post_address_parse(&addresses[count], one))
			return 0;
		count++;
	}
	return count;
}

static int64_t now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec;
}

static const char *cause_text(int rc)
{
	return rc == -ENOENT    ? "it does not know this attempt"
	       : rc == -EPROTO  ? "it answers with something else"
	       : rc == -EBADMSG ? "what it sent is not signed for this attempt"
				: strerror(-rc);
}

bool fetch_plan(const struct report_signer *signer, const char *listeners, int64_t patience_s, const char *directory,
	char message[REPORT_MESSAGE_MAX])
{
	struct post_address addresses[POST_ADDRESSES] = { 0 };
	char *text = strdup(listeners);
	size_t count = text ? parse_addresses(text, addresses) : 0;
	int to = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = -EINVAL;
	if (to < 0 || count == 0) {
		snprintf(message, REPORT_MESSAGE_MAX, "%.80s: %s", to < 0 ? directory : listeners,
			to < 0 ? strerror(errno) : "not an address");
		return false;
	}
	int64_t until = now_s() + patience_s;
	int64_t pause_ms = PAUSE_FIRST_MS;
	for (size_t i = 0; (rc = fetch_from(signer, &addresses[i % count], to)) < 0 && now_s() < until; i++) {
		const struct timespec pause = { pause_ms / 1000, pause_ms % 1000 * 1000000 };
		nanosleep(&pause, NULL);
		if (pause_ms < PAUSE_MOST_MS)
			pause_ms *= 2;
	}
	if (rc < 0)
		snprintf(message, REPORT_MESSAGE_MAX, "the attempt listener at %.60s: %s", listeners, cause_text(rc));
	close(to);
	return rc == 0;
}
