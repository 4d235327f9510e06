/* One read of the token file is under way at a time, in the pool; it works on a struct of its own, which the loop
 * takes over from it. */
#include "executor/kubernetes/access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "executor/kubernetes/kubeconfig.h"

#define TOKEN_AGE_US (60 * US_PER_S)
#define TOKEN_FILE_MAX 65536
#define PEM_FILE_MAX (4 << 20)
#define KUBECONFIG_MAX (4 << 20)

struct kube_access {
	uv_loop_t *loop; /* borrowed */
	struct arena arena; /* what the strings and tls point to */
	const char *url, *namespace_name, *description;
	struct http_tls tls;
	const char *token_file;
	int64_t token_age_us;
	char *token; /* owned; NULL: none */
	uint64_t token_version;
	int64_t token_read_at_us; /* monotonic; of the last try */
	struct err token_err;
	void (*on_reread)(void *owner);
	void *owner;
	uv_work_t work; /* the read */
	bool reading, asked; /* asked: on_reread is to be called */
	char *read_token; /* owned: what the pool has read; NULL: it could not */
	struct err read_err;
	uv_timer_t closer; /* so that a close is never at once */
	bool closing;
	void (*on_closed)(void *owner);
	void *closed_owner;
};

/* ---- files ---- */

static void forget(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

/* The token in the file, to be freed, or NULL. Blocks. */
static char *token_read(const char *path, struct err *err)
{
	struct buffer text = BUFFER_MAX(2 * TOKEN_FILE_MAX);
	char *token = NULL;
	if (file_read(path, TOKEN_FILE_MAX, &text, err) == 0) {
		struct bytes word = text_trim(buffer_bytes(&text));
		const char *fault = kube_token_fault(word);
		if (fault)
			err_set(err, -EINVAL, "%s: the token %s", path, fault);
		else
			token = bytes_copy_string(word);
	}
	if (text.data)
		explicit_bzero(text.data, text.len);
	buffer_fini(&text);
	return token;
}

/* That libcurl will be able to make something of the file: it says little where it is not. */
static int check_pem(const char *path, bool key, struct err *err)
{
	struct buffer text = BUFFER_MAX(2 * PEM_FILE_MAX);
	int result = path ? file_read(path, PEM_FILE_MAX, &text, err) : 0;
	const char *fault = path && result == 0 ? kube_pem_fault(buffer_bytes(&text), key) : NULL;
	if (fault)
		result = err_set(err, -EINVAL, "%s %s", path, fault);
	if (text.data)
		explicit_bzero(text.data, text.len);
	buffer_fini(&text);
	return result;
}

static const char *given(const char *text)
{
	return text && *text ? text : NULL;
}

/* ---- the three ways ---- */

static int by_kubeconfig(struct kube_access *access, const struct kube_access_options *options, struct err *err)
{
	struct buffer text = BUFFER_MAX(2 * KUBECONFIG_MAX);
	struct kubeconfig config = { 0 };
	int result = file_read(options->kubeconfig, KUBECONFIG_MAX, &text, err);
	if (result == 0)
		result = kubeconfig_parse(
			buffer_bytes(&text), options->kubeconfig, given(options->context), &config, err);
	if (text.data)
		explicit_bzero(text.data, text.len);
	buffer_fini(&text);
	if (result < 0)
		return result;
	access->arena = config.arena;
	access->url = config.server;
	access->namespace_name = config.namespace_name;
	access->tls = (struct http_tls){
		.ca_file = config.ca.data ? NULL : config.ca_file,
		.certificate_file = config.certificate.data ? NULL : config.certificate_file,
		.key_file = config.key.data ? NULL : config.key_file,
		.ca = config.ca,
		.certificate = config.certificate,
		.key = config.key,
		.server_name = config.server_name,
		.insecure = config.insecure,
	};
	access->token_file = config.token_file;
	if (!config.token_file)
		access->token = string_copy(config.token);
	access->description =
		arena_printf(&access->arena, "%s, by the kubeconfig %s", access->url, options->kubeconfig);
	return 0;
}

static int by_url(struct kube_access *access, const struct kube_access_options *options, struct err *err)
{
	struct bytes url = bytes_of(options->url), token = bytes_of(given(options->token));
	const char *fault = kube_server_fault(url);
	if (fault)
		return err_set(err, -EINVAL, "the API server's URL %s", fault);
	fault = token.data ? kube_token_fault(token) : NULL;
	if (fault)
		return err_set(err, -EINVAL, "the API server's token %s", fault);
	if (token.data && given(options->token_file))
		return err_set(err, -EINVAL, "give the API server's token or a token file, not both");
	while (url.data[url.len - 1] == '/')
		url.len--;
	access->url = arena_bytes(&access->arena, url).data;
	access->token = string_copy(token.data);
	access->token_file = arena_string(&access->arena, given(options->token_file));
	access->tls.ca_file = arena_string(&access->arena, given(options->ca_file));
	access->description = access->url;
	return 0;
}

static int in_pod(struct kube_access *access, const struct kube_access_options *options, struct err *err)
{
	const char *directory = given(options->service_account_directory);
	struct buffer text = BUFFER_MAX(16384);
	int64_t port;
	directory = directory ? directory : KUBE_SERVICE_ACCOUNT_DIRECTORY;
	if (!text_to_int(bytes_of(given(options->service_port)), 1, 65535, &port))
		return err_set(err, -EINVAL, "KUBERNETES_SERVICE_PORT must be the number of a port");
	bool v6 = strchr(options->service_host, ':') != NULL;
	access->url = arena_printf(
		&access->arena, "https://%s%s%s:%d", v6 ? "[" : "", options->service_host, v6 ? "]" : "", (int)port);
	const char *fault = kube_server_fault(bytes_of(access->url));
	if (fault)
		return err_set(err, -EINVAL, "KUBERNETES_SERVICE_HOST does not make a URL: it %s", fault);
	access->token_file = arena_printf(&access->arena, "%s/token", directory);
	access->tls.ca_file = arena_printf(&access->arena, "%s/ca.crt", directory);
	access->description = arena_printf(&access->arena, "%s, by the pod's service account", access->url);
	const char *path = arena_printf(&access->arena, "%s/namespace", directory);
	if (file_read(path, 1024, &text, NULL) == 0) {
		struct bytes name = text_trim(buffer_bytes(&text));
		if (!kube_namespace_fault(name))
			access->namespace_name = arena_bytes(&access->arena, name).data;
	}
	buffer_fini(&text);
	return 0;
}

static int find_server(struct kube_access *access, const struct kube_access_options *options, struct err *err)
{
	bool url = given(options->url), kubeconfig = given(options->kubeconfig);
	if (url && kubeconfig)
		return err_set(err, -EINVAL, "give the API server's URL or a kubeconfig, not both");
	if (!url && (given(options->token) || given(options->token_file) || given(options->ca_file)))
		return err_set(
			err, -EINVAL, "a token, a token file and a CA file count only with the API server's URL");
	if (url)
		return by_url(access, options, err);
	if (kubeconfig)
		return by_kubeconfig(access, options, err);
	if (given(options->service_host))
		return in_pod(access, options, err);
	return err_set(err, -ENOENT,
		"no Kubernetes API server is named: set ASSAY_KUBECONFIG or ASSAY_KUBE_URL, or run in a pod");
}

/* ---- life ---- */

static void access_free(struct kube_access *access)
{
	forget(access->token);
	forget(access->read_token);
	if (access->tls.key.data)
		explicit_bzero((char *)access->tls.key.data, access->tls.key.len);
	arena_fini(&access->arena);
	free(access);
}

int kube_access_new(const struct kube_access_options *options, struct kube_access **ret_access, struct err *err)
{
	struct kube_access *access = alloc(sizeof(*access));
	access->loop = options->loop;
	access->on_reread = options->on_reread;
	access->owner = options->owner;
	access->token_age_us = options->token_age_us ? options->token_age_us : TOKEN_AGE_US;
	int result = find_server(access, options, err);
	if (result == 0 && access->token_file) {
		struct err why = { 0 };
		access->token = token_read(access->token_file, &why);
		access->token_read_at_us = clock_monotonic_us();
		if (!access->token)
			result = err_set(err, why.code, "%s", why.message);
	}
	if (result == 0)
		result = check_pem(access->tls.ca_file, false, err);
	if (result == 0)
		result = check_pem(access->tls.certificate_file, false, err);
	if (result == 0)
		result = check_pem(access->tls.key_file, true, err);
	if (result < 0) {
		access_free(access);
		return result;
	}
	access->token_version = 1;
	uv_timer_init(access->loop, &access->closer);
	access->closer.data = access;
	*ret_access = access;
	return 0;
}

void kube_access_listen(struct kube_access *access, void (*on_reread)(void *owner), void *owner)
{
	access->on_reread = on_reread;
	access->owner = owner;
}

static void on_closer_closed(uv_handle_t *handle)
{
	struct kube_access *access = handle->data;
	void (*on_closed)(void *owner) = access->on_closed;
	void *owner = access->closed_owner;
	access_free(access);
	on_closed(owner);
}

static void on_closer(uv_timer_t *timer)
{
	struct kube_access *access = timer->data;
	if (!access->reading)
		uv_close((uv_handle_t *)timer, on_closer_closed);
}

void kube_access_close(struct kube_access *access, void (*on_closed)(void *owner), void *owner)
{
	access->closing = true;
	access->on_closed = on_closed;
	access->closed_owner = owner;
	uv_timer_start(&access->closer, on_closer, 0, 0);
}

/* ---- what it knows ---- */

const char *kube_access_url(const struct kube_access *access)
{
	return access->url;
}

const char *kube_access_namespace(const struct kube_access *access)
{
	return access->namespace_name;
}

const char *kube_access_description(const struct kube_access *access)
{
	return access->description;
}

const struct http_tls *kube_access_tls(const struct kube_access *access)
{
	return &access->tls;
}

const struct err *kube_access_token_error(const struct kube_access *access)
{
	return &access->token_err;
}

/* ---- the token ---- */

static void on_work(uv_work_t *work)
{
	struct kube_access *access = work->data;
	access->read_err = (struct err){ 0 };
	access->read_token = token_read(access->token_file, &access->read_err);
}

static void on_read(uv_work_t *work, int status)
{
	struct kube_access *access = work->data;
	char *token = STEAL(access->read_token);
	bool asked = access->asked;
	access->reading = access->asked = false;
	access->token_err = access->read_err;
	if (token && strcmp(token, access->token) != 0) {
		forget(access->token);
		access->token = STEAL(token);
		access->token_version++;
	}
	forget(token);
	if (access->closing)
		uv_timer_start(&access->closer, on_closer, 0, 0);
	else if (asked && access->on_reread)
		access->on_reread(access->owner);
}

/* True: a read is under way. */
static bool reread(struct kube_access *access)
{
	if (access->reading)
		return true;
	if (!access->token_file || access->closing)
		return false;
	access->work.data = access;
	access->token_read_at_us = clock_monotonic_us();
	access->reading = uv_queue_work(access->loop, &access->work, on_work, on_read) == 0;
	return access->reading;
}

struct bytes kube_access_token(struct kube_access *access, uint64_t *ret_version)
{
	*ret_version = access->token_version;
	if (access->token_file && clock_monotonic_us() - access->token_read_at_us >= access->token_age_us)
		reread(access);
	return bytes_of(access->token);
}

bool kube_access_refused(struct kube_access *access, uint64_t version)
{
	if (version != access->token_version || !reread(access))
		return false;
	access->asked = true;
	return true;
}
