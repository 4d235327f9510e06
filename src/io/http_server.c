/* libuv under the protocol engine: a listener, its connections, one timer for all their deadlines.
 *
 * The handles of the server live in a block of their own which goes when libuv has closed the last of them: so a
 * server may be freed while they are closing. A connection's memory goes in its close callback. The timer runs only
 * while something is timed, the idle handle only for one turn of the loop. All connections are read into one buffer:
 * the engine has used or copied what came before the next read.
 *
 * At connections_max nothing is accepted: libuv holds one connection back and stops looking at the listening socket
 * until that one is accepted; the others wait in the backlog. A connection that is one too many of its peer's is none of the
 * engine's: it gets a few fixed bytes and is closed. */
#include "io/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/table.h"
#include "io/http_connection.h"

#define READ_SIZE 65536
#define BACKLOG 1024
#define COMPLAIN_MS 10000

struct handles {
	struct http_server *server; /* borrowed; NULL once the server is freed */
	unsigned open;
	uv_tcp_t listener;
	uv_timer_t timer;
	uv_idle_t idle;
	bool is_listening;
	char *read_buffer; /* owned */
};

/* An address that has connections here. */
struct peer {
	struct table_node node;
	struct in6_addr address;
	size_t connections;
};

struct http_server {
	struct http_core core;
	struct table peers; /* struct peer, where connections are counted by peer */
	uv_loop_t *loop; /* borrowed */
	struct handles *handles; /* owned until they are closing */
	bool held_back; /* a connection waits to be accepted */
	uint64_t complain_after; /* ms: when a connection that is not accepted is worth a line again */
	bool is_stopping;
	void (*on_stopped)(void *owner);
	void *stopped_owner; /* borrowed */
};

struct tcp_connection {
	struct http_connection http;
	uv_tcp_t tcp;
	struct peer *peer; /* borrowed: lives as long as it has connections; NULL: not counted */
};

struct write_block {
	uv_write_t request;
	struct tcp_connection *connection; /* borrowed: closes after its writes */
	char *data; /* owned */
};

static struct tcp_connection *tcp_of(const struct http_connection *connection)
{
	return CONTAINER_OF(connection, struct tcp_connection, http);
}

static struct http_server *server_of(const struct http_core *core)
{
	return CONTAINER_OF(core, struct http_server, core);
}

/* === the end === */

static void on_handle_closed(uv_handle_t *handle)
{
	struct handles *handles = handle->data;
	struct http_server *server = handles->server;
	if (--handles->open > 0)
		return;
	free(handles->read_buffer);
	free(handles);
	if (!server)
		return;
	server->handles = NULL;
	if (server->on_stopped)
		server->on_stopped(server->stopped_owner);
}

static void close_handles(struct handles *handles)
{
	if (handles->is_listening && !uv_is_closing((uv_handle_t *)&handles->listener))
		uv_close((uv_handle_t *)&handles->listener, on_handle_closed);
	if (!uv_is_closing((uv_handle_t *)&handles->timer)) {
		uv_close((uv_handle_t *)&handles->timer, on_handle_closed);
		uv_close((uv_handle_t *)&handles->idle, on_handle_closed);
	}
}

static void finish_if_done(struct http_server *server)
{
	if (server->is_stopping && server->core.statistics.connections == 0 && server->handles)
		close_handles(server->handles);
}

/* === the engine's transport === */

static uint64_t transport_now(struct http_core *core)
{
	return uv_now(server_of(core)->loop);
}

static void on_idle(uv_idle_t *idle)
{
	struct handles *handles = idle->data;
	uv_idle_stop(idle);
	http_core_run_deferred(&handles->server->core);
}

static void transport_wake(struct http_core *core)
{
	uv_idle_start(&server_of(core)->handles->idle, on_idle);
}

static void on_timer(uv_timer_t *timer)
{
	struct handles *handles = timer->data;
	http_core_run_timeouts(&handles->server->core);
}

static void transport_set_timer(struct http_core *core, uint64_t due)
{
	struct http_server *server = server_of(core);
	uint64_t now = uv_now(server->loop);
	if (due == UINT64_MAX)
		uv_timer_stop(&server->handles->timer);
	else
		uv_timer_start(&server->handles->timer, on_timer, due > now ? due - now : 0, 0);
}

static ssize_t transport_try_write(struct http_connection *connection, const uv_buf_t *bufs, unsigned count)
{
	int result = uv_try_write((uv_stream_t *)&tcp_of(connection)->tcp, bufs, count);
	return result == UV_EAGAIN ? 0 : result;
}

static void on_written(uv_write_t *request, int status)
{
	struct write_block *block = CONTAINER_OF(request, struct write_block, request);
	struct tcp_connection *connection = block->connection;
	free(block->data);
	free(block);
	http_connection_written(&connection->http, status);
}

static void transport_write(struct http_connection *connection, char *data, size_t len)
{
	struct tcp_connection *tcp = tcp_of(connection);
	struct write_block *block = alloc(sizeof(*block));
	uv_buf_t buf = { .base = data, .len = len };
	block->connection = tcp;
	block->data = data;
	if (uv_write(&block->request, (uv_stream_t *)&tcp->tcp, &buf, 1, on_written) == 0)
		return;
	/* Only what cannot be written to at all is refused at once; it ends in the next turn of the loop. */
	free(block->data);
	free(block);
	connection->broken = true;
	http_core_defer(connection);
}

static size_t transport_unsent(const struct http_connection *connection)
{
	return uv_stream_get_write_queue_size((const uv_stream_t *)&tcp_of(connection)->tcp);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct tcp_connection *connection = handle->data;
	*buf = (uv_buf_t){ .base = server_of(connection->http.core)->handles->read_buffer, .len = READ_SIZE };
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf)
{
	struct tcp_connection *connection = stream->data;
	if (len > 0)
		http_connection_data(&connection->http, buf->base, (size_t)len);
	else if (len == UV_EOF)
		http_connection_eof(&connection->http);
	else if (len < 0)
		http_connection_failed(&connection->http);
}

static void transport_read(struct http_connection *connection, bool on)
{
	uv_stream_t *stream = (uv_stream_t *)&tcp_of(connection)->tcp;
	if (on)
		uv_read_start(stream, on_alloc, on_read);
	else
		uv_read_stop(stream);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
	free(request);
}

static void transport_shutdown(struct http_connection *connection)
{
	uv_shutdown_t *request = alloc(sizeof(*request));
	if (uv_shutdown(request, (uv_stream_t *)&tcp_of(connection)->tcp, on_shutdown) < 0)
		free(request); /* the peer has gone: the read callback tells, or the deadline */
}

/* === peers === */

static struct in6_addr address_of(const struct http_connection *connection)
{
	struct in6_addr address = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	if (connection->peer.any.sa_family == AF_INET6)
		return connection->peer.v6.sin6_addr;
	memcpy(address.s6_addr + 12, &connection->peer.v4.sin_addr, sizeof(connection->peer.v4.sin_addr));
	return address;
}

/* False: it has as many as it may. */
static bool join_peer(struct http_server *server, struct tcp_connection *connection)
{
	const size_t max = server->core.limits.connections_per_peer_max;
	struct in6_addr address = address_of(&connection->http);
	if (max == 0 || connection->http.peer.any.sa_family == AF_UNSPEC)
		return true;
	struct table_node *node = table_find(&server->peers, (struct bytes){ (const char *)&address, sizeof(address) });
	struct peer *peer = node ? CONTAINER_OF(node, struct peer, node) : alloc(sizeof(*peer));
	if (!node) {
		peer->address = address;
		peer->node.key = (struct bytes){ (const char *)&peer->address, sizeof(peer->address) };
		table_insert(&server->peers, &peer->node);
	}
	if (peer->connections >= max)
		return false;
	peer->connections++;
	connection->peer = peer;
	return true;
}

static void leave_peer(struct http_server *server, struct peer *peer)
{
	if (!peer || --peer->connections > 0)
		return;
	table_remove(&server->peers, &peer->node);
	free(peer);
}

static void accept_one(struct http_server *server);

static void on_connection_closed(uv_handle_t *handle)
{
	struct tcp_connection *connection = handle->data;
	struct http_server *server = server_of(connection->http.core);
	http_connection_closed(&connection->http);
	leave_peer(server, connection->peer);
	free(connection);
	if (server->held_back && !server->is_stopping)
		accept_one(server);
	finish_if_done(server);
}

static void transport_close(struct http_connection *connection, bool reset)
{
	uv_tcp_t *tcp = &tcp_of(connection)->tcp;
	if (!reset || uv_tcp_close_reset(tcp, on_connection_closed) < 0)
		uv_close((uv_handle_t *)tcp, on_connection_closed);
}

static const struct http_transport transport = {
	.now = transport_now,
	.wake = transport_wake,
	.set_timer = transport_set_timer,
	.try_write = transport_try_write,
	.write = transport_write,
	.unsent = transport_unsent,
	.read = transport_read,
	.shutdown = transport_shutdown,
	.close = transport_close,
};

/* === the beginning === */

static void on_crowded_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void turn_away(struct http_server *server, struct tcp_connection *connection)
{
	static char answer[] =
		"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
	const uv_buf_t buf = { .base = answer, .len = sizeof(answer) - 1 };
	server->core.statistics.crowded++;
	uv_try_write((uv_stream_t *)&connection->tcp, &buf, 1);
	uv_close((uv_handle_t *)&connection->tcp, on_crowded_closed);
}

static void accept_one(struct http_server *server)
{
	struct tcp_connection *connection = alloc(sizeof(*connection));
	int len = sizeof(connection->http.peer);
	server->held_back = false;
	uv_tcp_init(server->loop, &connection->tcp);
	connection->tcp.data = connection;
	int result = uv_accept((uv_stream_t *)&server->handles->listener, (uv_stream_t *)&connection->tcp);
	if (result == 0) {
		uv_tcp_nodelay(&connection->tcp, 1);
		/* One that is gone already has no address any more; reading tells. */
		uv_tcp_getpeername(&connection->tcp, &connection->http.peer.any, &len);
	}
	if (!join_peer(server, connection)) {
		turn_away(server, connection);
		return;
	}
	http_connection_init(&connection->http, &server->core);
	if (result < 0)
		http_connection_failed(&connection->http);
}

/* libuv closes a connection for which there is no descriptor; who makes many must not fill the log. */
static void complain(struct http_server *server, int status)
{
	uint64_t now = uv_now(server->loop);
	if (now < server->complain_after)
		return;
	server->complain_after = now + COMPLAIN_MS;
	log_event(server->core.log, LOG_WARNING, "connection not accepted", L_STR("error", uv_strerror(status)));
}

static void on_connection(uv_stream_t *listener, int status)
{
	struct handles *handles = listener->data;
	struct http_server *server = handles->server;
	if (status < 0)
		complain(server, status);
	else if (server->core.statistics.connections >= server->core.limits.connections_max)
		server->held_back = true;
	else
		accept_one(server);
}

struct http_server *http_server_new(const struct http_server_options *options)
{
	struct http_server *server = alloc(sizeof(*server));
	struct handles *handles = alloc(sizeof(*handles));
	http_core_init(&server->core, &transport, options);
	server->loop = options->loop;
	server->handles = handles;
	handles->server = server;
	handles->read_buffer = alloc(READ_SIZE);
	uv_timer_init(server->loop, &handles->timer);
	uv_idle_init(server->loop, &handles->idle);
	handles->timer.data = handles->idle.data = handles->listener.data = handles;
	handles->open = 2;
	return server;
}

static int parse_address(const char *host, uint16_t port, struct sockaddr_storage *ret_address)
{
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret_address) == 0)
		return 0;
	return uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret_address);
}

static int start_listening(struct http_server *server, const struct sockaddr *address, uint16_t *ret_port)
{
	uv_tcp_t *listener = &server->handles->listener;
	struct sockaddr_storage bound = { 0 };
	int len = sizeof(bound);
	int result = uv_tcp_bind(listener, address, 0); /* sets SO_REUSEADDR */
	if (result == 0)
		result = uv_listen((uv_stream_t *)listener, BACKLOG, on_connection);
	if (result == 0)
		result = uv_tcp_getsockname(listener, (struct sockaddr *)&bound, &len);
	if (result == 0)
		*ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
							      : ((struct sockaddr_in *)&bound)->sin_port);
	return result;
}

int http_server_listen(struct http_server *server, const char *host, uint16_t port, uint16_t *ret_port, struct err *err)
{
	struct handles *handles = server->handles;
	struct sockaddr_storage address = { 0 };
	bool has_colon = strchr(host, ':');
	const char *before = has_colon ? "[" : "", *after = has_colon ? "]" : "";
	if (!handles || server->is_stopping || handles->is_listening)
		return err_set(err, -EALREADY, "%s%s%s:%u: the server listens already or is stopped", before, host,
			after, port);
	if (parse_address(host, port, &address) < 0)
		return err_set(err, -EINVAL, "%s%s%s:%u: not a numeric address", before, host, after, port);
	uv_tcp_init(server->loop, &handles->listener);
	handles->is_listening = true;
	handles->open++;
	int result = start_listening(server, (struct sockaddr *)&address, ret_port);
	if (result < 0)
		return err_set(err, result, "%s%s%s:%u: %s", before, host, after, port, uv_strerror(result));
	return 0;
}

void http_server_stop(struct http_server *server, void (*on_stopped)(void *owner), void *owner)
{
	server->on_stopped = on_stopped;
	server->stopped_owner = owner;
	server->is_stopping = true;
	if (server->handles->is_listening && !uv_is_closing((uv_handle_t *)&server->handles->listener))
		uv_close((uv_handle_t *)&server->handles->listener, on_handle_closed);
	http_core_stop(&server->core);
	finish_if_done(server);
}

void http_server_abort(struct http_server *server)
{
	http_core_abort(&server->core);
}

void http_server_free(struct http_server *server)
{
	if (!server)
		return;
	if (server->handles) {
		server->handles->server = NULL;
		close_handles(server->handles);
	}
	http_core_fini(&server->core);
	table_fini(&server->peers);
	free(server);
}

struct http_server_statistics http_server_statistics(const struct http_server *server)
{
	return server->core.statistics;
}
