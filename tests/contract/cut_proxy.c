/* Each connection has two streams, client to server and back. A stream is read into a small buffer, taken apart into
 * heads of messages and their bodies, and what is to pass goes into `out`, which is written as the other side takes
 * it. */
#include "cut_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "postgres_server.h"

#define CONNECTIONS_MAX 128
#define OUT_HIGH ((size_t)1 << 20) /* not read further while so much waits to be written */
#define STARTUP_MAX 1024
#define WAIT_S 60

struct stream {
	int from, to; /* borrowed: the connection's */
	char head[5]; /* of the message being read: type and length */
	size_t head_len;
	size_t body_left;
	bool passes; /* this message */
	struct buffer out; /* owned */
	bool has_ended; /* `from` was closed */
};

struct connection {
	int client, server; /* owned */
	bool has_started; /* the startup message, which has no type, has passed */
	struct buffer startup; /* owned */
	char application[128];
	struct stream requests, answers;
	unsigned long asked; /* messages that ReadyForQuery answers; the startup is the first */
	unsigned long ready; /* ReadyForQuery seen */
	unsigned long struck; /* the one among `asked` whose answer is dropped and ends it; 0: none */
	bool is_broken;
};

struct cut_proxy {
	char *directory; /* owned */
	char conninfo[256];
	struct sockaddr_un upstream;
	int listener, wake; /* owned */
	pthread_t thread;
	struct connection *connections[CONNECTIONS_MAX]; /* owned; the thread's alone */
	size_t count;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t has_struck;
	enum cut cut;
	char application[64];
	unsigned left; /* Syncs until it strikes */
	unsigned strikes;
	bool cut_all, is_stopping;
};

/* === what passes === */

static bool concerns(const struct cut_proxy *proxy, const struct connection *connection)
{
	return !proxy->application[0] || strstr(connection->application, proxy->application);
}

static enum cut cut_for(const struct cut_proxy *proxy, const struct connection *connection)
{
	return concerns(proxy, connection) ? proxy->cut : CUT_NOT;
}

static void strike(struct cut_proxy *proxy, struct connection *connection)
{
	connection->is_broken = true;
	proxy->strikes++;
	pthread_cond_broadcast(&proxy->has_struck);
}

/* A message of the client's begins: does it pass? */
static bool request_passes(struct cut_proxy *proxy, struct connection *connection, char type)
{
	if (type != 'S' && type != 'Q')
		return true;
	connection->asked++;
	enum cut cut = cut_for(proxy, connection);
	if (type == 'Q' || (cut != CUT_AFTER_COMMIT && cut != CUT_BEFORE_SYNC) || --proxy->left > 0)
		return true;
	proxy->cut = CUT_NOT;
	if (cut == CUT_AFTER_COMMIT) {
		connection->struck = connection->asked;
		return true;
	}
	strike(proxy, connection);
	return false;
}

static bool answer_passes(struct cut_proxy *proxy, struct connection *connection, char type)
{
	bool is_of_struck = connection->struck && connection->ready + 1 == connection->struck;
	connection->ready += type == 'Z';
	if (is_of_struck && type == 'Z')
		strike(proxy, connection);
	return !is_of_struck;
}

/* A connection ends with what has passed before still to be written. */
static void take_apart(
	struct cut_proxy *proxy, struct connection *connection, struct stream *stream, const char *data, size_t len)
{
	while (len > 0 && !connection->is_broken) {
		if (stream->body_left > 0) {
			size_t part = len < stream->body_left ? len : stream->body_left;
			if (stream->passes)
				buffer_append(&stream->out, data, part);
			stream->body_left -= part;
			data += part;
			len -= part;
			continue;
		}
		stream->head[stream->head_len++] = *data++;
		len--;
		if (stream->head_len < sizeof(stream->head))
			continue;
		uint32_t length;
		memcpy(&length, stream->head + 1, sizeof(length));
		length = ntohl(length);
		stream->head_len = 0;
		stream->body_left = length >= 4 ? length - 4 : 0;
		stream->passes = stream == &connection->requests ? request_passes(proxy, connection, stream->head[0])
								 : answer_passes(proxy, connection, stream->head[0]);
		if (stream->passes)
			buffer_append(&stream->out, stream->head, sizeof(stream->head));
	}
}

/* Length, version, and pairs of strings (StartupMessage). Returns how much of the data belongs to it. */
static size_t take_startup(struct connection *connection, const char *data, size_t len)
{
	static const char name[] = "application_name";
	struct buffer *startup = &connection->startup;
	size_t before = startup->len, length = 0;
	uint32_t word;
	buffer_append(startup, data, len);
	if (startup->len >= sizeof(word)) {
		memcpy(&word, startup->data, sizeof(word));
		length = ntohl(word);
	}
	if (startup->failed || length > STARTUP_MAX) {
		connection->is_broken = true;
		return len;
	}
	if (length == 0 || startup->len < length)
		return len;
	const char *at = memmem(startup->data, length, name, sizeof(name));
	if (at)
		snprintf(connection->application, sizeof(connection->application), "%.*s",
			(int)(length - (size_t)(at + sizeof(name) - startup->data)), at + sizeof(name));
	buffer_append(&connection->requests.out, startup->data, length);
	connection->has_started = true;
	connection->asked = 1;
	return length - before;
}

/* === connections === */

static int connect_upstream(const struct cut_proxy *proxy)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&proxy->upstream, sizeof(proxy->upstream)) < 0) {
		close(fd);
		return -1;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void accept_one(struct cut_proxy *proxy)
{
	int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client < 0)
		return;
	int server = proxy->count < CONNECTIONS_MAX ? connect_upstream(proxy) : -1;
	if (server < 0) {
		close(client);
		return;
	}
	struct connection *connection = alloc(sizeof(*connection));
	*connection = (struct connection){
		.client = client,
		.server = server,
		.startup = BUFFER_MAX(STARTUP_MAX * 64),
		.requests = { .from = client, .to = server },
		.answers = { .from = server, .to = client },
	};
	proxy->connections[proxy->count++] = connection;
}

static void connection_free(struct connection *connection)
{
	close(connection->client);
	close(connection->server);
	buffer_fini(&connection->startup);
	buffer_fini(&connection->requests.out);
	buffer_fini(&connection->answers.out);
	free(connection);
}

static void write_out(struct connection *connection, struct stream *stream)
{
	if (stream->out.len == 0)
		return;
	ssize_t sent = send(stream->to, stream->out.data, stream->out.len, MSG_NOSIGNAL);
	if (sent > 0)
		buffer_consume(&stream->out, (size_t)sent);
	else if (errno != EAGAIN && errno != EINTR)
		connection->is_broken = true;
}

static void read_in(struct cut_proxy *proxy, struct connection *connection, struct stream *stream)
{
	char data[16384];
	size_t used = 0;
	/* NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection): it does not block */
	ssize_t len = recv(stream->from, data, sizeof(data), 0);
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		stream->has_ended = true;
		return;
	}
	if (stream == &connection->requests && !connection->has_started)
		used = take_startup(connection, data, (size_t)len);
	take_apart(proxy, connection, stream, data + used, (size_t)len - used);
}

/* What has passed goes on its way before the connection is closed, as far as the sockets take it at once. */
static void serve(struct cut_proxy *proxy, struct connection *connection)
{
	struct stream *streams[] = { &connection->requests, &connection->answers };
	enum cut cut = cut_for(proxy, connection);
	/* Whom it concerns is known only after the startup. */
	if (cut == CUT_BLACK_HOLE && connection->has_started)
		return;
	if (cut == CUT_REFUSE || proxy->cut_all) {
		connection->is_broken = true;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		if (!streams[i]->has_ended && streams[i]->out.len < OUT_HIGH)
			read_in(proxy, connection, streams[i]);
		if (cut_for(proxy, connection) != CUT_BLACK_HOLE)
			write_out(connection, streams[i]);
		connection->is_broken |= streams[i]->has_ended && streams[i]->out.len == 0;
	}
}

static void add_poll(struct pollfd *fds, const struct stream *stream, const struct stream *other, bool is_held)
{
	*fds = (struct pollfd){
		.fd = is_held ? -1 : stream->from
	}; /* a peer that has closed would be told of again and again */
	if (is_held)
		return;
	if (!stream->has_ended && stream->out.len < OUT_HIGH)
		fds->events |= POLLIN;
	if (other->out.len > 0)
		fds->events |= POLLOUT;
	if (!fds->events)
		fds->fd = -1;
}

static void *run(void *argument)
{
	struct cut_proxy *proxy = argument;
	struct pollfd fds[2 + 2 * CONNECTIONS_MAX];
	eventfd_t count;
	pthread_mutex_lock(&proxy->lock);
	while (!proxy->is_stopping) {
		size_t k = 2;
		fds[0] = (struct pollfd){ .fd = proxy->listener, .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = proxy->wake, .events = POLLIN };
		for (size_t i = 0; i < proxy->count; i++, k += 2) {
			const struct connection *connection = proxy->connections[i];
			bool is_held = connection->has_started && cut_for(proxy, connection) == CUT_BLACK_HOLE;
			add_poll(&fds[k], &connection->requests, &connection->answers, is_held);
			add_poll(&fds[k + 1], &connection->answers, &connection->requests, is_held);
		}
		pthread_mutex_unlock(&proxy->lock);
		poll(fds, k, -1);
		pthread_mutex_lock(&proxy->lock);
		if (fds[1].revents)
			eventfd_read(proxy->wake, &count);
		for (size_t i = 0; i < proxy->count; i++)
			serve(proxy, proxy->connections[i]);
		proxy->cut_all = false;
		for (size_t i = proxy->count; i-- > 0;)
			if (proxy->connections[i]->is_broken) {
				connection_free(proxy->connections[i]);
				proxy->connections[i] = proxy->connections[--proxy->count];
			}
		if (fds[0].revents)
			accept_one(proxy);
	}
	for (size_t i = 0; i < proxy->count; i++)
		connection_free(proxy->connections[i]);
	pthread_mutex_unlock(&proxy->lock);
	return NULL;
}

/* === the calls === */

static void wake(struct cut_proxy *proxy)
{
	eventfd_write(proxy->wake, 1);
}

struct cut_proxy *cut_proxy_start(const char *server_directory, uint16_t server_port)
{
	struct cut_proxy *proxy = alloc(sizeof(*proxy));
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	proxy->directory = postgres_server_make_directory();
	proxy->upstream.sun_family = AF_UNIX;
	snprintf(proxy->upstream.sun_path, sizeof(proxy->upstream.sun_path), "%s/.s.PGSQL.%u", server_directory,
		server_port);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.5432", proxy->directory);
	snprintf(proxy->conninfo, sizeof(proxy->conninfo), "host=%s port=5432 user=assay dbname=postgres",
		proxy->directory);
	proxy->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	proxy->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&proxy->lock, NULL);
	pthread_cond_init(&proxy->has_struck, NULL);
	if (proxy->listener < 0 || proxy->wake < 0 ||
		bind(proxy->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		listen(proxy->listener, 128) < 0 || pthread_create(&proxy->thread, NULL, run, proxy) != 0) {
		printf("Bail out! no proxy: %s\n", strerror(errno));
		exit(1);
	}
	return proxy;
}

void cut_proxy_stop(struct cut_proxy *proxy)
{
	if (!proxy)
		return;
	pthread_mutex_lock(&proxy->lock);
	proxy->is_stopping = true;
	pthread_mutex_unlock(&proxy->lock);
	wake(proxy);
	pthread_join(proxy->thread, NULL);
	close(proxy->listener);
	close(proxy->wake);
	pthread_cond_destroy(&proxy->has_struck);
	pthread_mutex_destroy(&proxy->lock);
	postgres_server_remove_directory(proxy->directory);
	free(proxy->directory);
	free(proxy);
}

const char *cut_proxy_conninfo(const struct cut_proxy *proxy)
{
	return proxy->conninfo;
}

void cut_proxy_arm(struct cut_proxy *proxy, enum cut cut, const char *application, unsigned nth)
{
	pthread_mutex_lock(&proxy->lock);
	proxy->cut = cut;
	proxy->left = nth;
	snprintf(proxy->application, sizeof(proxy->application), "%s", application ? application : "");
	pthread_mutex_unlock(&proxy->lock);
	wake(proxy);
}

void cut_proxy_cut_all(struct cut_proxy *proxy)
{
	pthread_mutex_lock(&proxy->lock);
	proxy->cut_all = true;
	pthread_mutex_unlock(&proxy->lock);
	wake(proxy);
}

bool cut_proxy_wait(struct cut_proxy *proxy, unsigned count)
{
	struct timespec until;
	int result = 0;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&proxy->lock);
	while (proxy->strikes < count && result == 0)
		result = pthread_cond_timedwait(&proxy->has_struck, &proxy->lock, &until);
	bool has_struck = proxy->strikes >= count;
	pthread_mutex_unlock(&proxy->lock);
	return has_struck;
}

unsigned cut_proxy_count(struct cut_proxy *proxy)
{
	pthread_mutex_lock(&proxy->lock);
	unsigned count = proxy->strikes;
	pthread_mutex_unlock(&proxy->lock);
	return count;
}
