/* HTTP by libcurl's multi interface, driven by hand: a client has no loop.
 *
 * The client owns the multi handle; a transfer owns its easy handle and header list, and is the caller's memory, which
 * must stay where it is until transfer_fini(). SIGINT and SIGTERM are read from a descriptor, which curl waits on
 * together with its sockets. */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"

#define CONNECT_TIMEOUT_MS 5000
#define TOKEN_MAX 4096

static bool is_loopback(const char *url)
{
	CURLU *parts = curl_url();
	char *host = NULL;
	bool loopback = false;
	if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK)
		loopback =
			strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
	curl_free(host);
	curl_url_cleanup(parts);
	return loopback;
}

static int choose_url(struct client *client, const char *url, struct err *err)
{
	static const char *const names[] = { "ASSAY_URL", "DISPATCHER_SERVICE_URL" };
	client->url_from = "--url";
	for (size_t i = 0; !url && i < ARRAY_SIZE(names); i++) {
		const char *value = getenv(names[i]);
		if (value && *value) {
			url = value;
			client->url_from = names[i];
		}
	}
	if (!url) {
		url = CLIENT_DEFAULT_URL;
		client->url_from = "the default";
	}
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return err_set(
			err, -EINVAL, "%s must begin with http:// or https://, not \"%s\"", client->url_from, url);
	client->url = string_copy(url);
	size_t len = strlen(client->url);
	while (client->url[len - 1] == '/')
		client->url[--len] = '\0';
	client->loopback = is_loopback(client->url);
	return 0;
}

static int read_token(const char *path, struct buffer *to, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -EINVAL, "ASSAY_TOKEN_FILE: cannot open %s: %s", path, strerror(errno));
	char *room = buffer_reserve(to, TOKEN_MAX + 1);
	ssize_t got = room ? read(fd, room, TOKEN_MAX + 1) : -1;
	int error = errno;
	close(fd);
	if (got < 0)
		return err_set(err, -EINVAL, "ASSAY_TOKEN_FILE: cannot read %s: %s", path, strerror(error));
	to->len += (size_t)got;
	return 0;
}

static int choose_token(struct client *client, struct err *err)
{
	const char *token = getenv("ASSAY_TOKEN");
	const char *path = getenv("ASSAY_TOKEN_FILE");
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	if (token && *token)
		buffer_append_string(&text, token);
	else if (path && *path && read_token(path, &text, err) < 0)
		return err->code;
	else if (!path || !*path)
		return 0;
	struct bytes trimmed = text_trim(buffer_bytes(&text));
	if (trimmed.len == 0 || trimmed.len > TOKEN_MAX)
		return err_set(err, -EINVAL, "the token is empty or longer than %d bytes", TOKEN_MAX);
	for (size_t i = 0; i < trimmed.len; i++)
		if (trimmed.data[i] <= 0x20 || trimmed.data[i] >= 0x7f)
			return err_set(err, -EINVAL,
				"the token holds a character that no token has, such as a space or a line end");
	struct buffer header = { 0 };
	buffer_append_string(&header, "Authorization: Bearer ");
	buffer_append_bytes(&header, trimmed);
	buffer_append_char(&header, '\0');
	client->authorization = header.data;
	return 0;
}

int client_init(struct client *client, const char *url, struct err *err)
{
	*client = (struct client){ .signal_fd = -1 };
	if (choose_url(client, url, err) < 0 || choose_token(client, err) < 0)
		return err->code;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(err, -ENOSYS, "libcurl cannot be initialised");
	client->multi = curl_multi_init();
	return client->multi ? 0 : err_set(err, -ENOMEM, "libcurl cannot be initialised");
}

void client_fini(struct client *client)
{
	if (client->multi) {
		curl_multi_cleanup(client->multi);
		curl_global_cleanup();
	}
	if (client->signal_fd >= 0)
		close(client->signal_fd);
	free(client->url);
	free(client->authorization);
	*client = (struct client){ .signal_fd = -1 };
}

int client_catch_interrupts(struct client *client, struct err *err)
{
	if (client->signal_fd >= 0)
		return 0;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	client->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (client->signal_fd < 0)
		return err_set(err, -errno, "cannot watch for signals: %s", strerror(errno));
	sigprocmask(SIG_BLOCK, &set, NULL);
	return 0;
}

static size_t on_write(char *data, size_t size, size_t count, void *owner)
{
	struct transfer *transfer = owner;
	size_t len = size * count;
	if (transfer->status == 0)
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
	return transfer->on_body(transfer, (struct bytes){ data, len }) ? len : 0;
}

static void add_header(struct transfer *transfer, const char *name, struct bytes value)
{
	struct buffer line CLEANUP(buffer_fini) = { 0 };
	buffer_append_string(&line, name);
	buffer_append_string(&line, value.len > 0 ? ": " : ":");
	buffer_append_bytes(&line, value);
	buffer_append_char(&line, '\0');
	struct curl_slist *longer = curl_slist_append(transfer->headers, line.data);
	if (longer)
		transfer->headers = longer;
}

static void restrict_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
}

static void set_headers(struct client *client, struct transfer *transfer, const struct request *request)
{
	add_header(transfer, "Accept", bytes_of(request->accept ? request->accept : "application/json"));
	add_header(transfer, "User-Agent", BYTES_LITERAL("assay/" ASSAY_VERSION));
	if (request->body.len > 0)
		add_header(transfer, "Content-Type",
			bytes_of(request->content_type ? request->content_type : "application/json"));
	else if (request->method)
		add_header(transfer, "Content-Type", BYTES_NONE); /* takes away the one that curl would add */
	if (request->idempotency_key)
		add_header(transfer, "Idempotency-Key", bytes_of(request->idempotency_key));
	if (request->last_event_id.len > 0)
		add_header(transfer, "Last-Event-ID", request->last_event_id);
	if (client->authorization) {
		struct curl_slist *longer = curl_slist_append(transfer->headers, client->authorization);
		if (longer)
			transfer->headers = longer;
	}
	/* Waiting for "100 Continue" costs a round trip, and a second where something between does not know it. */
	struct curl_slist *longer = curl_slist_append(transfer->headers, "Expect:");
	if (longer)
		transfer->headers = longer;
	curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
}

void transfer_start(struct client *client, struct transfer *transfer, const struct request *request)
{
	transfer->status = 0;
	transfer->retry_after_s = 0;
	transfer->done = false;
	transfer->message[0] = '\0';
	transfer->headers = NULL;
	CURL *easy = transfer->easy = curl_easy_init();
	if (!easy) {
		transfer->done = true;
		transfer->result = TRANSFER_UNREACHABLE;
		return;
	}
	struct buffer url CLEANUP(buffer_fini) = { 0 };
	buffer_append_string(&url, client->url);
	buffer_append_string(&url, request->path);
	buffer_append_char(&url, '\0');
	curl_easy_setopt(easy, CURLOPT_URL, url.data);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->message);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
	/* A machine that vanished is noticed within a minute, also on a stream that is silent. */
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 10L);
	restrict_protocols(easy);
	if (client->loopback)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	if (request->method) {
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, request->body.len > 0 ? request->body.data : "");
	}
	set_headers(client, transfer, request);
	curl_multi_add_handle(client->multi, easy);
}

void transfer_fini(struct client *client, struct transfer *transfer)
{
	if (transfer->easy) {
		curl_multi_remove_handle(client->multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	curl_slist_free_all(transfer->headers);
	transfer->easy = NULL;
	transfer->headers = NULL;
}

static enum transfer_result result_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return TRANSFER_OK;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_URL_MALFORMAT:
		return TRANSFER_UNREACHABLE;
	case CURLE_WRITE_ERROR:
		return TRANSFER_STOPPED;
	default:
		return TRANSFER_BROKEN;
	}
}

static void on_done(struct transfer *transfer, CURLcode code)
{
	curl_off_t retry_after = 0;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &retry_after);
	transfer->retry_after_s = retry_after;
	transfer->result = result_of(code);
	/* A timeout while connecting has the same code as one while waiting for the answer. */
	if (code == CURLE_OPERATION_TIMEDOUT) {
		curl_off_t connected_us = 0;
		curl_easy_getinfo(transfer->easy, CURLINFO_CONNECT_TIME_T, &connected_us);
		if (connected_us == 0)
			transfer->result = TRANSFER_UNREACHABLE;
	}
	if (code != CURLE_OK && transfer->message[0] == '\0')
		strncat(transfer->message, curl_easy_strerror(code), sizeof(transfer->message) - 1);
	transfer->done = true;
}

static void read_signals(struct client *client)
{
	struct signalfd_siginfo info;
	if (client->signal_fd >= 0 && read(client->signal_fd, &info, sizeof(info)) == sizeof(info))
		client->interrupted = true;
}

void client_step(struct client *client, int64_t timeout_ms)
{
	int running, left;
	curl_multi_perform(client->multi, &running);
	bool any_done = false;
	for (int round = 0; round < 2; round++) {
		CURLMsg *message;
		while ((message = curl_multi_info_read(client->multi, &left))) {
			struct transfer *transfer;
			if (message->msg != CURLMSG_DONE)
				continue;
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
			on_done(transfer, message->data.result);
			any_done = true;
		}
		if (any_done || round > 0)
			break;
		struct curl_waitfd extra = { .fd = client->signal_fd, .events = CURL_WAIT_POLLIN };
		curl_multi_poll(client->multi, &extra, client->signal_fd >= 0 ? 1 : 0,
			timeout_ms > 60000 ? 60000 : (int)timeout_ms, NULL);
		curl_multi_perform(client->multi, &running);
	}
	read_signals(client);
}

static bool on_response_body(struct transfer *transfer, struct bytes data)
{
	struct response *response = transfer->owner;
	buffer_append_bytes(&response->body, data);
	return !response->body.failed;
}

enum transfer_result client_request(struct client *client, const struct request *request, struct response *ret_response)
{
	*ret_response = (struct response){ .body = BUFFER_MAX(CLIENT_ANSWER_MAX) };
	struct transfer transfer = { .on_body = on_response_body, .owner = ret_response };
	struct request timed = *request;
	if (timed.timeout_ms == 0)
		timed.timeout_ms = 60000;
	transfer_start(client, &transfer, &timed);
	while (!transfer.done && !client->interrupted)
		client_step(client, 1000);
	ret_response->result = transfer.done ? transfer.result : TRANSFER_INTERRUPTED;
	ret_response->status = transfer.status;
	ret_response->retry_after_s = transfer.retry_after_s;
	memcpy(ret_response->message, transfer.message, sizeof(transfer.message));
	if (ret_response->result == TRANSFER_STOPPED) {
		ret_response->result = TRANSFER_BROKEN;
		strncpy(ret_response->message, "the answer is too large", sizeof(ret_response->message) - 1);
	}
	transfer_fini(client, &transfer);
	return ret_response->result;
}

void response_fini(struct response *response)
{
	buffer_fini(&response->body);
}

void url_escape_append(struct buffer *to, struct bytes text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.data[i];
		bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			     (c && strchr("-._~", c));
		if (plain)
			buffer_append_char(to, (char)c);
		else
			buffer_printf(to, "%%%02X", c);
	}
}
