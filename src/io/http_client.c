/* libcurl has a few habits that decide how this file is built:
 *
 * - It must not be called from within its own callbacks. So these only record, or work on libuv's handles; whatever has
 * to be done with curl
 *   is done from a poll, a timer or the `later` timer, and a call that is to end is put into a list that `later` goes through.
 * - What it says of a socket may come late, twice or not at all (curl issues 9799, 14976, 17949). So watchers are kept
 * by descriptor, removing
 *   one that is not there is nothing, and our own close callback takes the watcher off before the descriptor goes.
 * - A transfer may end without news of its sockets. So completions are fetched after everything that was asked of it.
 * - Its timeouts are not always kept (curl issue 23025). So each transfer has a timer of its own.
 * - Freeing a handle joins the thread that resolves its name, unless CURLOPT_QUICK_EXIT is set (asyn-thread.c,
 * Curl_resolver_kill).
 *
 *   call: (handed in) ──► RUNNING ──curl is through──────────────┐
 *              │             └──deadline, cancel──► ENDING ──later─┴──► done
 *              └──it cannot even begin────────────────┘
 *
 * A transfer is ours, a call the caller's. The transfer is freed in the close callback of its timer, and knows no call
 * by then. */
#include "io/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"

#define HEAD_MAX 65536
#define KEEPALIVE_S 10L /* without an answer the kernel gives a connection up after ten of them */
#define IDLE_CONNECTIONS_DEFAULT 8

struct watcher {
	uv_poll_t poll;
	struct http_client *client; /* borrowed: it waits for us */
	int fd;
};

struct http_client {
	uv_loop_t *loop; /* borrowed */
	struct http_client_options options;
	struct http_tls tls; /* owned, all that it points to */
	CURLM *multi; /* owned */
	uv_timer_t timeout; /* curl's */
	uv_timer_t later; /* what is in `ending` ends */
	struct watcher **watchers; /* owned; by descriptor */
	size_t watcher_capacity;
	struct list transfers; /* RUNNING */
	struct list ending;
	size_t handles; /* that are not closed */
	char local_address[INET6_ADDRSTRLEN];
	int64_t renewed_at_us; /* monotonic: connections that were made before are not used any more; 0: all are */
	bool closing;
	void (*on_closed)(void *owner);
	void *closed_owner;
};

struct http_transfer {
	struct list link; /* in one of the client's lists until done */
	struct http_client *client; /* borrowed */
	struct http_call *call; /* borrowed; NULL once it is done */
	CURL *easy; /* owned */
	struct curl_slist *headers, *connect_to; /* owned */
	bool added; /* the multi has it */
	uv_timer_t timer; /* the deadline, or idleness */
	int64_t deadline_at_us; /* monotonic; 0: none */
	int64_t heard_at_us; /* the last byte of the answer */
	bool head_ended, head_too_large, cut;
	char refused[INET6_ADDRSTRLEN]; /* an address that allow_peer refused */
	struct err ended; /* why it is in `ending` */
	char message[CURL_ERROR_SIZE];
};

static void on_timeout(uv_timer_t *timer);

/* ---- the end of a call ---- */

static void on_transfer_closed(uv_handle_t *handle);

/* Takes the transfer out of curl and gives its call back. Never from within curl. */
static void finish(struct http_transfer *transfer, const struct err *err)
{
	struct http_client *client = transfer->client;
	struct http_call *call = transfer->call;
	long sent = 0;
	list_remove(&transfer->link);
	if (transfer->easy)
		curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
	if (transfer->added)
		curl_multi_remove_handle(client->multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	curl_slist_free_all(transfer->connect_to);
	transfer->connect_to = NULL;
	call->err = *err;
	call->cut = transfer->cut;
	call->sent = sent > 0;
	call->transfer = NULL;
	transfer->call = NULL;
	uv_close((uv_handle_t *)&transfer->timer, on_transfer_closed);
	if (call->done)
		call->done(call);
}

static void end_later(struct http_transfer *transfer, const struct err *why)
{
	if (transfer->ended.code == 0)
		transfer->ended = *why;
	list_remove(&transfer->link);
	list_push_back(&transfer->client->ending, &transfer->link);
	uv_timer_start(&transfer->client->later, on_timeout, 0, 0);
}

static struct err err_of(const struct http_transfer *transfer, CURLcode code)
{
	struct err err = { 0 };
	const char *words = transfer->message[0] ? transfer->message : curl_easy_strerror(code);
	int number = -EIO;
	switch (code) {
	case CURLE_OK:
		return err;
	case CURLE_WRITE_ERROR:
		if (transfer->cut)
			return err;
		break;
	case CURLE_OPERATION_TIMEDOUT:
		number = -ETIMEDOUT;
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
		number = -ENOENT;
		break;
	case CURLE_URL_MALFORMAT:
		number = -EINVAL;
		break;
	case CURLE_UNSUPPORTED_PROTOCOL: {
		/* Said of the URL, and of an answer that is no HTTP/1. */
		long sent = 0;
		curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &sent);
		number = sent > 0 ? -EPROTO : -EINVAL;
		break;
	}
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_GOT_NOTHING:
	case CURLE_PARTIAL_FILE:
	case CURLE_BAD_CONTENT_ENCODING:
		number = -EPROTO;
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CIPHER:
		number = -EKEYREJECTED;
		break;
	default:
		break;
	}
	if (transfer->head_too_large)
		err_set(&err, -EMSGSIZE, "the head of the answer is larger than %d bytes", HEAD_MAX);
	else if (code == CURLE_COULDNT_CONNECT && transfer->refused[0])
		err_set(&err, -EACCES, "the address %s is not allowed", transfer->refused);
	else
		err_set(&err, number, "%s", words);
	return err;
}

/* Whatever was asked of curl, some transfers may be through by it. */
static void drain(struct http_client *client)
{
	CURLMsg *message;
	int left;
	while ((message = curl_multi_info_read(client->multi, &left))) {
		if (message->msg != CURLMSG_DONE)
			continue;
		struct http_transfer *transfer = NULL;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		struct err err = transfer->ended.code ? transfer->ended : err_of(transfer, message->data.result);
		finish(transfer, &err);
	}
}

static void act(struct http_client *client, curl_socket_t fd, int flags)
{
	int running;
	CURLMcode code = curl_multi_socket_action(client->multi, fd, flags, &running);
	drain(client);
	if (code == CURLM_OK)
		return;
	/* The manual promises nothing of what was under way then. */
	struct err err;
	err_set(&err, -EIO, "libcurl: %s", curl_multi_strerror(code));
	LIST_EACH (&client->transfers, link)
		end_later(LIST_ENTRY(link, struct http_transfer, link), &err);
}

/* Ends the transfer whose time is up, else waits for that. */
static void on_transfer_timer(uv_timer_t *timer)
{
	struct http_transfer *transfer = timer->data;
	int64_t now = clock_monotonic_us(), idle_us = transfer->call->idle_us;
	struct err err = { 0 };
	if (transfer->deadline_at_us && now >= transfer->deadline_at_us)
		err_set(&err, -ETIMEDOUT, "no answer within the time allowed");
	else if (idle_us && now >= transfer->heard_at_us + idle_us)
		err_set(&err, -ETIMEDOUT, "the answer has stopped coming");
	if (err.code) {
		finish(transfer, &err);
		return;
	}
	int64_t next = transfer->deadline_at_us ? transfer->deadline_at_us : INT64_MAX;
	if (idle_us && transfer->heard_at_us + idle_us < next)
		next = transfer->heard_at_us + idle_us;
	if (next != INT64_MAX)
		uv_timer_start(timer, on_transfer_timer, (uint64_t)((next - now) / US_PER_MS + 1), 0);
}

/* ---- curl's callbacks: none of them calls curl ---- */

static void on_watcher_closed(uv_handle_t *handle);

static void watcher_remove(struct http_client *client, int fd)
{
	if (fd < 0 || (size_t)fd >= client->watcher_capacity || !client->watchers[fd])
		return;
	struct watcher *watcher = STEAL(client->watchers[fd]);
	uv_close((uv_handle_t *)&watcher->poll, on_watcher_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watcher *watcher = poll->data;
	int flags = status < 0 ? CURL_CSELECT_ERR : 0;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	act(watcher->client, watcher->fd, flags);
}

static struct watcher *watcher_of(struct http_client *client, int fd)
{
	if ((size_t)fd >= client->watcher_capacity) {
		size_t more = (size_t)fd + 64;
		client->watchers = realloc_array(client->watchers, more, sizeof(client->watchers[0]));
		memset(client->watchers + client->watcher_capacity, 0,
			(more - client->watcher_capacity) * sizeof(client->watchers[0]));
		client->watcher_capacity = more;
	}
	if (client->watchers[fd])
		return client->watchers[fd];
	struct watcher *watcher = alloc(sizeof(*watcher));
	if (uv_poll_init(client->loop, &watcher->poll, fd) < 0) {
		free(watcher); /* the transfer's timer ends it */
		return NULL;
	}
	watcher->poll.data = watcher;
	watcher->client = client;
	watcher->fd = fd;
	client->handles++;
	client->watchers[fd] = watcher;
	return watcher;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *data)
{
	struct http_client *client = owner;
	if (what == CURL_POLL_REMOVE) {
		watcher_remove(client, fd);
		return 0;
	}
	struct watcher *watcher = watcher_of(client, fd);
	int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	if (watcher && events)
		uv_poll_start(&watcher->poll, events, on_poll);
	else if (watcher)
		uv_poll_stop(&watcher->poll);
	return 0;
}

static int on_timer(CURLM *multi, long ms, void *owner)
{
	struct http_client *client = owner;
	if (ms < 0 || client->closing)
		uv_timer_stop(&client->timeout);
	else
		uv_timer_start(&client->timeout, on_timeout, (uint64_t)ms, 0);
	return 0;
}

static void address_text(const struct sockaddr *address, char text[static INET6_ADDRSTRLEN])
{
	const void *bytes = address->sa_family == AF_INET6
				    ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
				    : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
	if (!inet_ntop(address->sa_family, bytes, text, INET6_ADDRSTRLEN))
		snprintf(text, INET6_ADDRSTRLEN, "(unknown)");
}

static curl_socket_t on_open(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_transfer *transfer = owner;
	const struct http_client_options *options = &transfer->client->options;
	if (options->allow_peer && !options->allow_peer(options->owner, &address->addr)) {
		address_text(&address->addr, transfer->refused);
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_close(void *owner, curl_socket_t fd)
{
	watcher_remove(owner, fd);
	return close(fd);
}

static void note_local_address(const struct http_transfer *transfer)
{
	char *address = NULL, *noted = transfer->client->local_address;
	if (curl_easy_getinfo(transfer->easy, CURLINFO_LOCAL_IP, &address) == CURLE_OK && address)
		snprintf(noted, sizeof(transfer->client->local_address), "%s", address);
}

static size_t on_header(char *data, size_t size, size_t count, void *owner)
{
	struct http_transfer *transfer = owner;
	struct http_call *call = transfer->call;
	size_t len = size * count;
	transfer->heard_at_us = clock_monotonic_us();
	/* Behind the body may come trailers; and 100 Continue is an answer before the answer. */
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
		buffer_clear(&call->head);
		transfer->head_ended = false;
	}
	if (transfer->head_ended)
		return len;
	if (len <= HEAD_MAX - call->head.len)
		buffer_append(&call->head, data, len);
	else
		call->head.failed = true;
	if (call->head.failed) {
		transfer->head_too_large = true;
		return 0;
	}
	transfer->head_ended = (len == 2 && data[0] == '\r') || (len == 1 && data[0] == '\n');
	if (!transfer->head_ended)
		return len;
	int64_t status = 0;
	struct bytes head = buffer_bytes(&call->head);
	const char *space = memchr(head.data, ' ', head.len);
	if (space && head.len >= (size_t)(space - head.data) + 4)
		text_to_int((struct bytes){ space + 1, 3 }, 100, 999, &status);
	if (status >= 200) {
		note_local_address(transfer);
		call->status = (int)status;
		if (call->on_head)
			call->on_head(call);
	}
	return len;
}

static size_t on_write(char *data, size_t size, size_t count, void *owner)
{
	struct http_transfer *transfer = owner;
	struct http_call *call = transfer->call;
	struct bytes part = { data, size * count };
	transfer->heard_at_us = clock_monotonic_us();
	if (transfer->cut || transfer->ended.code)
		return 0;
	if (call->on_data) {
		transfer->cut = !call->on_data(call, part);
	} else {
		size_t room = call->answer_max - call->answer.len;
		transfer->cut = part.len > room;
		buffer_append(&call->answer, part.data, transfer->cut ? room : part.len);
	}
	return transfer->cut ? 0 : part.len;
}

/* ---- the loop's callbacks ---- */

static void on_timeout(uv_timer_t *timer)
{
	struct http_client *client = timer->data;
	if (timer == &client->timeout) {
		act(client, CURL_SOCKET_TIMEOUT, 0);
		return;
	}
	/* What comes to an end meanwhile has its turn in the loop's next one. */
	struct list ending, *link;
	list_init(&ending);
	list_splice_back(&ending, &client->ending);
	while ((link = ending.next) != &ending) {
		struct http_transfer *transfer = LIST_ENTRY(link, struct http_transfer, link);
		struct err why = transfer->ended;
		finish(transfer, &why);
	}
	drain(client);
	if (client->closing && client->multi && list_empty(&client->transfers) && list_empty(&client->ending)) {
		/* It closes its connections: on_close is called, and still finds us. */
		curl_multi_cleanup(client->multi);
		client->multi = NULL;
		for (size_t fd = 0; fd < client->watcher_capacity; fd++)
			watcher_remove(client, (int)fd);
		uv_close((uv_handle_t *)&client->timeout, on_transfer_closed);
		uv_close((uv_handle_t *)&client->later, on_transfer_closed);
	}
}

static struct bytes copy_of(struct bytes bytes)
{
	return (struct bytes){ bytes_copy_string(bytes), bytes.len };
}

static struct http_tls tls_copy(const struct http_tls *from)
{
	return (struct http_tls){
		.ca_file = string_copy(from->ca_file),
		.certificate_file = string_copy(from->certificate_file),
		.key_file = string_copy(from->key_file),
		.ca = copy_of(from->ca),
		.certificate = copy_of(from->certificate),
		.key = copy_of(from->key),
		.server_name = string_copy(from->server_name),
		.insecure = from->insecure,
	};
}

static void tls_fini(struct http_tls *tls)
{
	if (tls->key.data)
		explicit_bzero((char *)tls->key.data, tls->key.len);
	free((char *)tls->ca_file);
	free((char *)tls->certificate_file);
	free((char *)tls->key_file);
	free((char *)tls->ca.data);
	free((char *)tls->certificate.data);
	free((char *)tls->key.data);
	free((char *)tls->server_name);
}

static void handle_closed(struct http_client *client)
{
	if (--client->handles > 0)
		return;
	void (*on_closed)(void *owner) = client->on_closed;
	void *owner = client->closed_owner;
	free(client->watchers);
	tls_fini(&client->tls);
	free(client);
	curl_global_cleanup();
	on_closed(owner);
}

static void on_watcher_closed(uv_handle_t *handle)
{
	struct watcher *watcher = handle->data;
	struct http_client *client = watcher->client;
	free(watcher);
	handle_closed(client);
}

/* Of a transfer's timer, or of the client's own two, whose data is the client. */
static void on_transfer_closed(uv_handle_t *handle)
{
	struct http_client *client = handle->data;
	if (handle != (uv_handle_t *)&client->timeout && handle != (uv_handle_t *)&client->later) {
		struct http_transfer *transfer = handle->data;
		client = transfer->client;
		free(transfer);
	}
	handle_closed(client);
}

/* ---- calls ---- */

static bool headers_make(struct http_transfer *transfer)
{
	const struct http_call *call = transfer->call;
	/* No wait for 100 Continue: many servers never send it. */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	struct buffer line = BUFFER_MAX(HEAD_MAX);
	for (size_t i = 0; i < call->header_count && list; i++) {
		buffer_clear(&line);
		buffer_append_bytes(&line, call->headers[i].name);
		buffer_append_string(
			&line, call->headers[i].value.len ? ": " : ";"); /* curl's way to send an empty one */
		buffer_append_bytes(&line, call->headers[i].value);
		buffer_append_char(&line, 0);
		struct curl_slist *longer = line.failed ? NULL : curl_slist_append(list, line.data);
		if (!longer)
			curl_slist_free_all(list);
		list = longer;
	}
	buffer_fini(&line);
	transfer->headers = list;
	return list != NULL;
}

#define SET(option, value) (result = result ? result : curl_easy_setopt(easy, (option), (value)))

/* What the client holds outlives every transfer. */
static struct curl_blob blob_of(struct bytes pem)
{
	return (struct curl_blob){ .data = (char *)pem.data, .len = pem.len, .flags = CURL_BLOB_NOCOPY };
}

static CURLcode set_tls(const struct http_tls *tls, CURL *easy)
{
	struct curl_blob ca = blob_of(tls->ca), certificate = blob_of(tls->certificate), key = blob_of(tls->key);
	CURLcode result = CURLE_OK;
	if (tls->ca.data)
		SET(CURLOPT_CAINFO_BLOB, &ca);
	else if (tls->ca_file)
		SET(CURLOPT_CAINFO, tls->ca_file);
	if (tls->ca.data || tls->ca_file)
		SET(CURLOPT_CAPATH, NULL);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Whoever replaces the file while it is rotated need not tell us: a connection reads it that comes later than this. */
	if (tls->ca_file)
		SET(CURLOPT_CA_CACHE_TIMEOUT, 5L);
#endif
	if (tls->certificate.data)
		SET(CURLOPT_SSLCERT_BLOB, &certificate);
	else if (tls->certificate_file)
		SET(CURLOPT_SSLCERT, tls->certificate_file);
	if (tls->key.data)
		SET(CURLOPT_SSLKEY_BLOB, &key);
	else if (tls->key_file)
		SET(CURLOPT_SSLKEY, tls->key_file);
	if (tls->certificate_file)
		SET(CURLOPT_SSL_SESSIONID_CACHE,
			0L); /* a session that is resumed shows the certificate that it began with */
	if (tls->key.data || tls->key_file)
		SET(CURLOPT_KEYPASSWD, ""); /* without one OpenSSL asks the terminal, and waits */
	if (tls->insecure) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
	return result;
}

/* libcurl counts the age of connections in whole seconds, so the call that comes next has one of its own. */
static CURLcode set_age(const struct http_client *client, CURL *easy)
{
	CURLcode result = CURLE_OK;
	int64_t age_us = client->renewed_at_us ? clock_monotonic_us() - client->renewed_at_us : 0;
	if (client->renewed_at_us && age_us < US_PER_S)
		SET(CURLOPT_FRESH_CONNECT, 1L);
#if LIBCURL_VERSION_NUM >= 0x075000
	else if (client->renewed_at_us)
		SET(CURLOPT_MAXLIFETIME_CONN, (long)(age_us / US_PER_S));
#endif
	return result;
}

void http_client_renew(struct http_client *client)
{
	client->renewed_at_us = clock_monotonic_us();
}

static CURLcode set_connection(struct http_transfer *transfer, CURL *easy)
{
	const struct http_client *client = transfer->client;
	CURLcode result = set_tls(&client->tls, easy);
	result = result ? result : set_age(client, easy);
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
	SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
	SET(CURLOPT_CLOSESOCKETDATA, (void *)client);
	return result;
}

/* Appends a line to one of the transfer's lists. */
static bool append_line(struct curl_slist **list, const char *before, const char *host, const char *port)
{
	struct buffer line = BUFFER_MAX(HEAD_MAX);
	buffer_printf(&line, "%s%s%s%s", before, host, port ? ":" : "", port ? port : "");
	buffer_append_char(&line, 0);
	struct curl_slist *longer = line.failed ? NULL : curl_slist_append(*list, line.data);
	buffer_fini(&line);
	if (longer)
		*list = longer;
	return longer != NULL;
}

/* A name of its own for TLS is libcurl's only as the URL's host: it stands there, and the connection goes to the host
 * that stood there, which the request still names. */
static CURLcode set_url(struct http_transfer *transfer, CURL *easy)
{
	const char *name = transfer->client->tls.server_name;
	char *host = NULL, *port = NULL, *target = NULL, *text = NULL;
	CURLcode result = CURLE_OK;
	if (!name) {
		SET(CURLOPT_URL, transfer->call->url);
		return result;
	}
	CURLU *url = curl_url();
	if (!url || curl_url_set(url, CURLUPART_URL, transfer->call->url, 0) ||
		curl_url_get(url, CURLUPART_HOST, &host, 0) ||
		curl_url_get(url, CURLUPART_PORT, &target, CURLU_DEFAULT_PORT) ||
		curl_url_set(url, CURLUPART_HOST, name, 0) || curl_url_get(url, CURLUPART_URL, &text, 0))
		result = CURLE_URL_MALFORMAT;
	if (result == CURLE_OK) {
		curl_url_get(url, CURLUPART_PORT, &port, 0);
		if (!append_line(&transfer->connect_to, "::", host, target) ||
			!append_line(&transfer->headers, "Host: ", host, port))
			result = CURLE_OUT_OF_MEMORY;
	}
	SET(CURLOPT_CONNECT_TO, transfer->connect_to);
	SET(CURLOPT_URL, text);
	curl_free(host);
	curl_free(port);
	curl_free(target);
	curl_free(text);
	curl_url_cleanup(url);
	return result;
}

static CURLcode set_request(struct http_transfer *transfer, CURL *easy)
{
	const struct http_call *call = transfer->call;
	CURLcode result = set_url(transfer, easy);
	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->message);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	bool sends = call->body.data || strcmp(call->method, "POST") == 0 || strcmp(call->method, "PUT") == 0 ||
		     strcmp(call->method, "PATCH") == 0;
	if (sends) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
		SET(CURLOPT_POSTFIELDS, call->body.data ? call->body.data : "");
	}
	if (strcmp(call->method, "HEAD") == 0)
		SET(CURLOPT_NOBODY, 1L);
	SET(CURLOPT_CUSTOMREQUEST, call->method);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, on_write);
	SET(CURLOPT_WRITEDATA, transfer);
	/* Ours are exact; curl's own limit of 300 s for a connection would end what we let wait. */
	SET(CURLOPT_CONNECTTIMEOUT_MS, call->deadline_us ? (long)(call->deadline_us / US_PER_MS + 1000) : 0L);
	return result;
}

void http_client_call(struct http_client *client, struct http_call *call)
{
	struct http_transfer *transfer = alloc(sizeof(*transfer));
	transfer->client = client;
	transfer->call = call;
	transfer->heard_at_us = clock_monotonic_us();
	transfer->deadline_at_us = call->deadline_us ? transfer->heard_at_us + call->deadline_us : 0;
	call->transfer = transfer;
	call->err = (struct err){ 0 };
	call->status = 0;
	call->cut = call->sent = false;
	buffer_clear(&call->head);
	buffer_clear(&call->answer);
	uv_timer_init(client->loop, &transfer->timer);
	transfer->timer.data = transfer;
	client->handles++;
	list_push_back(&client->transfers, &transfer->link);
	struct err err = { 0 };
	transfer->easy = curl_easy_init();
	if (client->closing)
		err_set(&err, -ECANCELED, "the client is closing");
	else if (!transfer->easy || !headers_make(transfer))
		err_set(&err, -ENOMEM, "there is not enough memory for the request");
	if (err.code == 0) {
		CURLcode code = set_connection(transfer, transfer->easy);
		code = code ? code : set_request(transfer, transfer->easy);
		if (code)
			err = err_of(transfer, code);
	}
	if (err.code == 0) {
		CURLMcode code = curl_multi_add_handle(client->multi, transfer->easy);
		transfer->added = code == CURLM_OK;
		if (code != CURLM_OK)
			err_set(&err, -EIO, "libcurl: %s", curl_multi_strerror(code));
	}
	if (err.code)
		end_later(transfer, &err);
	else if (call->deadline_us || call->idle_us)
		uv_timer_start(&transfer->timer, on_transfer_timer, 0, 0); /* it finds out how long to wait */
}

void http_call_fini(struct http_call *call)
{
	buffer_fini(&call->head);
	buffer_fini(&call->answer);
}

void http_client_cancel(struct http_call *call)
{
	struct http_transfer *transfer = call->transfer;
	if (!transfer)
		return;
	struct err err;
	err_set(&err, -ECANCELED, "cancelled");
	end_later(transfer, &err);
}

struct bytes http_call_header(const struct http_call *call, const char *name)
{
	struct bytes rest = buffer_bytes(&call->head), wanted = bytes_of(name);
	while (rest.len > 0) {
		const char *end = memchr(rest.data, '\n', rest.len);
		struct bytes line = { rest.data, end ? (size_t)(end - rest.data) : rest.len };
		size_t used = line.len + (end ? 1 : 0);
		rest.data += used;
		rest.len -= used;
		if (line.len > wanted.len && line.data[wanted.len] == ':' &&
			text_equal_ignore_case((struct bytes){ line.data, wanted.len }, wanted))
			return text_trim((struct bytes){ line.data + wanted.len + 1, line.len - wanted.len - 1 });
	}
	return BYTES_NONE;
}

/* 0: it is none. */
static int64_t date_us(struct bytes value)
{
	char date[64];
	if (!value.data || value.len >= sizeof(date))
		return 0;
	memcpy(date, value.data, value.len);
	date[value.len] = 0;
	int64_t at = curl_getdate(date, NULL);
	return at > 0 ? at * US_PER_S : 0;
}

int64_t http_call_retry_after_us(const struct http_call *call)
{
	struct bytes value = http_call_header(call, "Retry-After");
	int64_t seconds;
	if (text_to_int(value, 0, INT32_MAX, &seconds))
		return seconds * US_PER_S;
	int64_t at_us = date_us(value), now_us = clock_wall_us() / US_PER_S * US_PER_S;
	return at_us > now_us ? at_us - now_us : 0;
}

int64_t http_call_date_us(const struct http_call *call)
{
	return date_us(http_call_header(call, "Date"));
}

/* ---- life ---- */

struct http_client *http_client_new(const struct http_client_options *options, struct err *err)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		err_set(err, -EIO, "libcurl cannot be initialised");
		return NULL;
	}
	const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);
	CURLM *multi = version->features & CURL_VERSION_ASYNCHDNS ? curl_multi_init() : NULL;
	if (!multi) {
		err_set(err, -ENOTSUP, "libcurl %s cannot resolve names without blocking", version->version);
		curl_global_cleanup();
		return NULL;
	}
	struct http_client *client = alloc(sizeof(*client));
	client->loop = options->loop;
	client->options = *options;
	client->tls = tls_copy(&options->tls);
	client->options.tls = (struct http_tls){ 0 };
	client->multi = multi;
	list_init(&client->transfers);
	list_init(&client->ending);
	uv_timer_init(client->loop, &client->timeout);
	uv_timer_init(client->loop, &client->later);
	client->timeout.data = client->later.data = client;
	client->handles = 2;
	long idle = options->idle_connections_max ? (long)options->idle_connections_max : IDLE_CONNECTIONS_DEFAULT;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)options->connections_max);
	curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)options->connections_per_host_max);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, idle);
	return client;
}

const char *http_client_local_address(const struct http_client *client)
{
	return client->local_address;
}

void http_client_close(struct http_client *client, void (*on_closed)(void *owner), void *owner)
{
	struct err err;
	client->closing = true;
	client->on_closed = on_closed;
	client->closed_owner = owner;
	err_set(&err, -ECANCELED, "the client is closing");
	LIST_EACH (&client->transfers, link)
		end_later(LIST_ENTRY(link, struct http_transfer, link), &err);
	uv_timer_start(&client->later, on_timeout, 0, 0);
}
