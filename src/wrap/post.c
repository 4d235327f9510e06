/* See post.h. */
#include "wrap/post.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#define CONNECT_US 5000000
#define SEND_US 10000000 /* without any progress */
#define ANSWER_US 15000000
#define PAUSE_FIRST_US 50000
#define PAUSE_MOST_US 5000000
#define PREFERRED_EACH 4 /* of so many tries in vain one goes to the first address */
#define STALL_US 3000000 /* a listener that takes nothing for so long is not waited for */
/* Beyond the bound for output: one output frame, each step's end and question, the end of all. */
#define CAPACITY (POST_OUTPUT_MAX + REPORT_FRAME_MAX + (REPORT_STEPS_MAX + 8) * 256 + REPORT_FRAME_MAX)

/* ---- the start ---- */

bool post_address_parse(struct post_address *address, const char *text)
{
	char host[64];
	const char *colon = strrchr(text, ':');
	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(host))
		return false;
	char *end;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port == 0 || port > 65535)
		return false;
	struct sockaddr_in *four = (struct sockaddr_in *)&address->to;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->to;
	address->text = text;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		address->len = sizeof(*four);
		return true;
	}
	if (host[0] != '[' || colon[-1] != ']')
		return false;
	host[colon - text - 1] = 0;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	address->len = sizeof(*six);
	return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1;
}

void post_path(const struct report_signer *signer, const char *what, char path[POST_PATH_MAX])
{
	const uint8_t *id = signer->task;
	snprintf(path, POST_PATH_MAX,
		"/attempts/%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x/%u/%s", id[0], id[1],
		id[2], id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15],
		signer->attempt, what);
}

bool post_init(struct post *post, const struct report_signer *signer, const char *const *listeners, size_t count,
	char *channel, int64_t now_us)
{
	*post = (struct post){ .signer = signer, .fd = -1, .kept = 1, .first = 1, .next = 1, .capacity = CAPACITY };
	post_redis_init(&post->redis, channel);
	post->contact_us = post->progress_us = now_us;
	for (; post->address_count < count; post->address_count++)
		if (!post_address_parse(&post->addresses[post->address_count], listeners[post->address_count]))
			return false;
	post_path(signer, "frames", post->path);
	/* Pages that are never written to cost nothing. */
	void *queue = mmap(NULL, post->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (queue == MAP_FAILED)
		return false;
	post->queue = queue;
	return true;
}

/* ---- the queue ---- */

static size_t size_of_frame(const uint8_t *frame)
{
	return REPORT_OVERHEAD +
	       ((size_t)frame[8] << 24 | (size_t)frame[9] << 16 | (size_t)frame[10] << 8 | (size_t)frame[11]);
}

static void seal(struct post *post)
{
	if (!post->open)
		return;
	struct report_frame frame = { .kind = FRAME_OUTPUT, .sequence = post->next++, .output = post->output };
	post->open = false;
	frame.output.data = post->queue + post->open_at + REPORT_HEAD_SIZE + REPORT_OUTPUT_HEAD_SIZE;
	post->len = post->open_at +
		    report_encode(post->signer, &frame, post->queue + post->open_at, post->capacity - post->open_at);
}

/* What was answered for goes, a good part of it at once. */
static void make_room(struct post *post)
{
	size_t size = 0;
	if (post->len < POST_OUTPUT_MAX)
		return;
	size_t least = post->len - POST_OUTPUT_MAX + POST_OUTPUT_MAX / 4;
	while (size < post->taken && size < least) {
		size += size_of_frame(post->queue + size);
		post->kept++;
	}
	post->taken -= size;
	post->len -= size;
	post->open_at -= post->open ? size : 0;
	memmove(post->queue, post->queue + size, post->len);
}

void post_add(struct post *post, struct report_frame *frame)
{
	seal(post);
	make_room(post);
	frame->sequence = post->next;
	size_t size = report_encode(post->signer, frame, post->queue + post->len, post->capacity - post->len);
	if (size > 0)
		post->next++;
	post->len += size;
}

void post_pass(struct post *post, struct report_frame *frame)
{
	if (post->passes || post->first == 1)
		return;
	frame->sequence = 0;
	post->passing_len = report_encode(post->signer, frame, post->passing, sizeof(post->passing));
}

static void drop_passing(struct post *post)
{
	post->passing_len = 0;
	post->passes = false;
}

static bool has_something(const struct post *post)
{
	return !post_is_empty(post) || post->passing_len > 0;
}

uint8_t *post_output_room(struct post *post, bool compile, uint32_t run, int stream, uint64_t offset, size_t *ret_room)
{
	*ret_room = 0;
	if (post->open &&
		(post->output.compile != compile || post->output.run != run || post->output.stream != stream ||
			post->output.offset + post->output.len != offset || post->output.len >= REPORT_OUTPUT_MAX))
		seal(post);
	make_room(post);
	if (post->len >= POST_OUTPUT_MAX)
		return NULL;
	if (!post->open) {
		post->open = true;
		post->open_at = post->len;
		post->output =
			(struct report_output){ .compile = compile, .run = run, .stream = stream, .offset = offset };
		post->len += REPORT_OVERHEAD + REPORT_OUTPUT_HEAD_SIZE;
	}
	*ret_room = REPORT_OUTPUT_MAX - post->output.len;
	return post->queue + post->open_at + REPORT_HEAD_SIZE + REPORT_OUTPUT_HEAD_SIZE + post->output.len;
}

void post_output_added(struct post *post, size_t len)
{
	post->output.len += len;
	post->len += len;
	if (post->output.len > 0)
		return;
	post->len = post->open_at; /* nothing came: no frame */
	post->open = false;
}

bool post_moves(const struct post *post, int64_t now_us)
{
	return post->state >= POST_READY && now_us - post->progress_us < STALL_US;
}

void post_not_looked_at(struct post *post, int64_t us, int64_t now_us)
{
	int64_t progress_us = post->progress_us + us;
	post->progress_us = progress_us < now_us ? progress_us : now_us;
}

bool post_has_room(const struct post *post)
{
	return post->len - post->taken < POST_OUTPUT_MAX;
}

const uint8_t *post_next_left(struct post *post, size_t *at, size_t *ret_len)
{
	seal(post);
	if (*at >= post->len)
		return NULL;
	const uint8_t *frame = post->queue + *at;
	*ret_len = size_of_frame(frame);
	*at += *ret_len;
	return frame;
}

bool post_is_empty(const struct post *post)
{
	return post->len == post->taken;
}

/* True if the listener has any of what was sent. */
static bool mark_taken(struct post *post, uint64_t upto)
{
	size_t taken = post->taken, sent = taken + post->flight;
	while (post->first <= upto && taken < sent) {
		taken += size_of_frame(post->queue + taken);
		post->first++;
	}
	bool any = taken > post->taken;
	post->taken = taken;
	post->flight = 0;
	return any;
}

/* ---- the connection ---- */

void post_close(struct post *post)
{
	if (post->fd >= 0)
		close(post->fd);
	post->fd = -1;
	post->known = false;
	post->state = POST_DOWN;
	post->flight = 0;
	post->in_len = 0;
	post->deadline_us = 0;
}

static void come_again(struct post *post, unsigned doubled, int64_t now_us)
{
	uint32_t chance = 0;
	int64_t pause = PAUSE_FIRST_US << (doubled < 7 ? doubled : 7);
	if (pause > PAUSE_MOST_US)
		pause = PAUSE_MOST_US;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) < 0)
		chance = (uint32_t)now_us;
	post_close(post);
	drop_passing(post);
	post->failures++;
	post->address = post->address_count > 1 && post->failures % PREFERRED_EACH != 0;
	post->again_us = now_us + pause / 2 + (int64_t)(chance % (uint32_t)(pause / 2 + 1));
}

static void fail(struct post *post, int64_t now_us)
{
	come_again(post, post->failures, now_us);
}

/* It does not know us, but lives: the one that does may be the next that is asked. */
static void look_elsewhere(struct post *post, int64_t now_us)
{
	come_again(post, post->failures / PREFERRED_EACH, now_us);
}

static void start_connecting(struct post *post, int64_t now_us)
{
	int on = 1;
	const struct post_address *address = &post->addresses[post->address];
	post->fd = socket(address->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (post->fd < 0) {
		fail(post, now_us);
		return;
	}
	setsockopt(post->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	post->state = POST_CONNECTING;
	post->deadline_us = now_us + CONNECT_US;
	if (connect(post->fd, (const struct sockaddr *)&address->to, address->len) == 0)
		post->state = POST_READY;
	else if (errno != EINPROGRESS)
		fail(post, now_us);
}

static void finish_connecting(struct post *post, int64_t now_us)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(post->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
		fail(post, now_us);
		return;
	}
	post->state = POST_READY;
	post->progress_us = now_us;
}

/* As many frames of the queue as go into one request; the kind of the last. */
static uint8_t take_off(struct post *post)
{
	seal(post);
	uint8_t kind = 0;
	for (const uint8_t *frame; post->taken + post->flight < post->len; kind = frame[4]) {
		frame = post->queue + post->taken + post->flight;
		size_t size = size_of_frame(frame);
		if (post->flight > 0 && post->flight + size > REPORT_BODY_MAX)
			break;
		post->flight += size;
	}
	return kind;
}

static struct iovec body_of(struct post *post)
{
	if (post->passes)
		return (struct iovec){ post->passing, post->passing_len };
	return (struct iovec){ post->queue + post->taken, post->flight };
}

static void begin_request(struct post *post, int64_t now_us)
{
	post->flight = 0;
	/* One that may have heard nothing of us wants the queue first. */
	if (post->failures > 0 && !post_is_empty(post))
		drop_passing(post);
	post->passes = post->passing_len > 0;
	post->asking = !post->passes && take_off(post) == FRAME_ASK;
	const size_t len = body_of(post).iov_len;
	if (post->redis.channel)
		post->head_len = post_redis_head(&post->redis, !post->known, len, post->head, sizeof(post->head));
	else
		post->head_len = (size_t)snprintf(post->head, sizeof(post->head),
			"POST %s?kept=%llu HTTP/1.1\r\nHost: %.64s\r\nContent-Type: application/octet-stream\r\n"
			"Content-Length: %zu\r\n\r\n",
			post->path, (unsigned long long)post->kept, post->addresses[post->address].text, len);
	post->sent = 0;
	post->in_len = 0;
	post->state = POST_SENDING;
	post->deadline_us = now_us + SEND_US;
	if (post->failures == 0)
		post->progress_us = now_us;
}

static void send_some(struct post *post, int64_t now_us)
{
	static char tail[] = POST_REDIS_TAIL;
	size_t tail_len = post->redis.channel ? sizeof(tail) - 1 : 0;
	struct iovec parts[3] = { { post->head, post->head_len }, body_of(post), { tail, tail_len } };
	const size_t all = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 3 };
	size_t skip = post->sent;
	for (int i = 0; i < 3; i++) {
		size_t part = skip < parts[i].iov_len ? skip : parts[i].iov_len;
		parts[i].iov_base = (char *)parts[i].iov_base + part;
		parts[i].iov_len -= part;
		skip -= part;
	}
	ssize_t n = sendmsg(post->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		fail(post, now_us);
		return;
	}
	post->sent += (size_t)n;
	post->progress_us = now_us;
	post->deadline_us = now_us + SEND_US;
	if (post->sent < all)
		return;
	post->state = POST_ANSWER;
	post->deadline_us = now_us + ANSWER_US + (post->asking ? REPORT_ASK_HOLD_US : 0);
}

const char *post_header(const char *head, const char *name)
{
	size_t len = strlen(name);
	for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
			return line + 2 + len + 1 + strspn(line + 2 + len + 1, " \t");
	return NULL;
}

static bool is_misdirected(const struct post *post)
{
	static const char status[] = "HTTP/1.1 421";
	return post->in_len >= sizeof(status) - 1 && memcmp(post->in, status, sizeof(status) - 1) == 0;
}

/* -1: what came is no good answer; 0: more has to come; 1: it is in *ret_frame. */
static int parse_answer(struct post *post, struct report_frame *ret_frame, bool *ret_close)
{
	post->in[post->in_len] = 0;
	char *end = strstr(post->in, "\r\n\r\n");
	if (!end)
		return memchr(post->in, 0, post->in_len) || post->in_len == sizeof(post->in) - 1 ? -1 : 0;
	size_t head_len = (size_t)(end - post->in) + 4, len = post->in_len - head_len;
	char head[sizeof(post->in)];
	memcpy(head, post->in, head_len);
	head[head_len] = 0;
	const char *length = post_header(head, "content-length"), *connection = post_header(head, "connection");
	if (strncmp(head, "HTTP/1.1 200", 12) != 0 || !length)
		return -1;
	unsigned long wanted = strtoul(length, NULL, 10);
	if (wanted > sizeof(post->in) || len > wanted)
		return -1;
	if (len < wanted)
		return post->in_len == sizeof(post->in) - 1 ? -1 : 0;
	*ret_close = connection && strncasecmp(connection, "close", 5) == 0;
	struct report_decoder decoder = { .signer = *post->signer, .answers = true };
	const uint8_t *data = (const uint8_t *)post->in + head_len;
	enum report_result result = report_decoder_next(&decoder, &data, &len, ret_frame);
	report_decoder_fini(&decoder);
	return result == REPORT_FRAME && ret_frame->kind == FRAME_ANSWER && len == 0 ? 1 : -1;
}

static void take_answer(struct post *post, const struct report_frame *frame, bool close_after, int64_t now_us)
{
	bool repeat = frame->answer.command == COMMAND_REPEAT;
	bool is_good = repeat ? post->taken > 0
			      : frame->sequence < post->next && (mark_taken(post, frame->sequence) || post->passes);
	if (!is_good) {
		fail(post, now_us); /* it did not take what was sent */
		return;
	}
	if (post->passes || repeat)
		drop_passing(post);
	post->failures = 0;
	post->contact_us = post->progress_us = now_us;
	if (repeat) {
		post->taken = post->flight = 0;
		post->first = post->kept;
	} else {
		post->answered = true;
		post->answer = frame->answer;
	}
	post->state = POST_READY;
	post->deadline_us = 0;
	post->in_len = 0;
	if (close_after)
		post_close(post);
}

/* A Redis says no more than that somebody heard all of it. */
static void take_redis_answer(struct post *post, int64_t now_us)
{
	int rc = post_redis_answer(&post->redis, !post->known, post->in, post->in_len);
	if (rc < 0)
		fail(post, now_us);
	if (rc <= 0)
		return;
	mark_taken(post, UINT64_MAX);
	if (post->passes)
		drop_passing(post);
	post->known = true;
	post->failures = 0;
	post->contact_us = post->progress_us = now_us;
	post->state = POST_READY;
	post->deadline_us = 0;
	post->in_len = 0;
}

static void read_some(struct post *post, int64_t now_us)
{
	struct report_frame frame;
	bool close_after = false;
	ssize_t n = recv(post->fd, post->in + post->in_len, sizeof(post->in) - 1 - post->in_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* An answer before the whole request is a refusal; but a Redis answers the login at once. */
	if (n <= 0 || (post->state == POST_SENDING && !post->redis.channel)) {
		fail(post, now_us);
		return;
	}
	if (post->state == POST_READY) {
		fail(post, now_us);
		return;
	}
	post->in_len += (size_t)n;
	if (post->redis.channel) {
		take_redis_answer(post, now_us);
		return;
	}
	int rc = parse_answer(post, &frame, &close_after);
	if (rc < 0 && is_misdirected(post))
		look_elsewhere(post, now_us);
	else if (rc < 0)
		fail(post, now_us);
	else if (rc > 0)
		take_answer(post, &frame, close_after, now_us);
}

/* A connection that the listener closed while nothing was under way: no failure, and the next is made when needed. */
static bool was_closed(struct post *post)
{
	char byte;
	ssize_t n = recv(post->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

void post_poll(const struct post *post, struct pollfd *polled)
{
	*polled = (struct pollfd){ .fd = post->fd, .events = POLLIN };
	if (post->state == POST_CONNECTING)
		polled->events = POLLOUT;
	else if (post->state == POST_SENDING)
		polled->events = POLLIN | POLLOUT;
}

int64_t post_wake_us(const struct post *post, int64_t now_us)
{
	if (post->state == POST_DOWN)
		return has_something(post) ? post->again_us : INT64_MAX;
	if (post->state == POST_READY)
		return has_something(post) ? now_us : INT64_MAX;
	return post->deadline_us;
}

void post_turn(struct post *post, short revents, int64_t now_us)
{
	if (post->state > POST_READY && now_us >= post->deadline_us)
		fail(post, now_us);
	if (post->state == POST_CONNECTING && revents)
		finish_connecting(post, now_us);
	else if (post->state == POST_CONNECTING && now_us >= post->deadline_us)
		fail(post, now_us);
	else if (post->state == POST_READY && revents && was_closed(post))
		post_close(post);
	else if (post->state >= POST_READY && (revents & (POLLIN | POLLHUP | POLLERR)))
		read_some(post, now_us);
	if (post->state == POST_DOWN && has_something(post) && now_us >= post->again_us)
		start_connecting(post, now_us);
	if (post->state == POST_READY && has_something(post))
		begin_request(post, now_us);
	if (post->state == POST_SENDING)
		send_some(post, now_us);
}
