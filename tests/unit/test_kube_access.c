/* Where the API server is and as whom it is asked: settings good and bad, and a token file that changes. */
#include "executor/kubernetes/access.h"

#include <errno.h>
#include <ftw.h>
#include <unistd.h>

#include "base/alloc.h"
#include "test.h"

static const char certificate_text[] = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";

static struct world {
	uv_loop_t loop;
	char directory[32];
	char path[8][80]; /* of files() */
	bool closed, inside;
	int rereads;
} w;

static void on_reread(void *owner)
{
	CHECK(owner == &w);
	CHECK(!w.inside);
	w.rereads++;
}

static void on_closed(void *owner)
{
	CHECK(!w.inside);
	w.closed = true;
}

static const char *file(const char *name, const char *text)
{
	static int next;
	char *path = w.path[next++ % 8];
	snprintf(path, sizeof(w.path[0]), "%s/%s", w.directory, name);
	FILE *stream = text ? fopen(path, "w") : NULL;
	REQUIRE(!text || (stream && fputs(text, stream) >= 0 && fclose(stream) == 0));
	return path;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	return remove(path);
}

static void world_open(void)
{
	w = (struct world){ .directory = "/tmp/assay-kube-XXXXXX" };
	REQUIRE(mkdtemp(w.directory));
	uv_loop_init(&w.loop);
}

static void world_close(void)
{
	uv_run(&w.loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&w.loop), 0);
	nftw(w.directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct kube_access *open_access(struct kube_access_options options)
{
	struct kube_access *access = NULL;
	struct err err = { 0 };
	options.loop = &w.loop;
	options.on_reread = on_reread;
	options.owner = &w;
	int result = kube_access_new(&options, &access, &err);
	if (result < 0)
		printf("# %s\n", err.message);
	REQUIRE(result == 0);
	return access;
}

static void close_access(struct kube_access *access)
{
	w.closed = false;
	w.inside = true;
	kube_access_close(access, on_closed, NULL);
	w.inside = false;
	while (!w.closed)
		uv_run(&w.loop, UV_RUN_ONCE);
}

static void check_token(struct kube_access *access, const char *token)
{
	uint64_t version;
	CHECK_BYTES(kube_access_token(access, &version), token);
}

TEST(in_a_pod)
{
	world_open();
	file("token", "first\n");
	file("namespace", "crucible");
	const char *ca = file("ca.crt", certificate_text);
	struct kube_access *access = open_access((struct kube_access_options){
		.service_host = "10.96.0.1", .service_port = "443", .service_account_directory = w.directory });
	CHECK_STR(kube_access_url(access), "https://10.96.0.1:443");
	CHECK_STR(kube_access_namespace(access), "crucible");
	CHECK_STR(kube_access_tls(access)->ca_file, ca);
	CHECK(!kube_access_tls(access)->insecure);
	CHECK_STR(kube_access_description(access), "https://10.96.0.1:443, by the pod's service account");
	check_token(access, "first");
	close_access(access);
	file("namespace", "no/namespace");
	access = open_access((struct kube_access_options){
		.service_host = "fd00::1", .service_port = "443", .service_account_directory = w.directory });
	CHECK_STR(kube_access_url(access), "https://[fd00::1]:443");
	CHECK_STR(kube_access_namespace(access), NULL);
	close_access(access);
	world_close();
}

TEST(by_a_url)
{
	world_open();
	struct kube_access *access = open_access((struct kube_access_options){ .url = "https://host:6443//",
		.token = "t",
		.ca_file = file("ca", certificate_text),
		.service_host = "10.96.0.1" });
	CHECK_STR(kube_access_url(access), "https://host:6443");
	CHECK(kube_access_tls(access)->ca_file);
	check_token(access, "t");
	close_access(access);
	access = open_access(
		(struct kube_access_options){ .url = "http://127.0.0.1:8001", .kubeconfig = "", .token = "" });
	CHECK_BYTES(kube_access_token(access, &(uint64_t){ 0 }), BYTES_NONE);
	close_access(access);
	world_close();
}

static const char kubeconfig[] = "current-context: c\n"
				 "contexts: [{name: c, context: {cluster: k, user: u, namespace: n}}, {name: d, "
				 "context: {cluster: k, user: v}}]\n"
				 "clusters: [{name: k, cluster: {server: \"https://host\", certificate-authority: ca, "
				 "tls-server-name: other}}]\n"
				 "users: [{name: u, user: {tokenFile: token, token: old}},\n"
				 "  {name: v, user: {client-certificate: crt, client-key: key}}]\n";

TEST(by_a_kubeconfig)
{
	world_open();
	const char *path = file("config", kubeconfig);
	file("ca", certificate_text);
	file("token", "filed");
	struct kube_access *access = open_access((struct kube_access_options){ .kubeconfig = path });
	CHECK_STR(kube_access_url(access), "https://host");
	CHECK_STR(kube_access_namespace(access), "n");
	CHECK_STR(kube_access_tls(access)->server_name, "other");
	check_token(access, "filed");
	close_access(access);
	file("crt", certificate_text);
	file("key", "-----BEGIN PRIVATE KEY-----\n");
	access = open_access((struct kube_access_options){ .kubeconfig = path, .context = "d" });
	CHECK_STR(kube_access_tls(access)->certificate_file, file("crt", NULL));
	CHECK_STR(kube_access_tls(access)->key_file, file("key", NULL));
	CHECK_BYTES(kube_access_token(access, &(uint64_t){ 0 }), BYTES_NONE);
	close_access(access);
	world_close();
}

static void refused(struct kube_access_options options, int code, const char *words)
{
	struct kube_access *access = NULL;
	struct err err = { 0 };
	options.loop = &w.loop;
	if (!CHECK_INT(kube_access_new(&options, &access, &err), code) || !CHECK(strstr(err.message, words)))
		printf("# %s: %s\n", words, err.message);
	CHECK(!access);
	CHECK(!strstr(err.message, "secret"));
}

TEST(what_cannot_be_is_refused_with_words)
{
	world_open();
	const char *dir = w.directory, *url = "https://host", *host = "h";
	refused((struct kube_access_options){ 0 }, -ENOENT, "set ASSAY_KUBECONFIG or ASSAY_KUBE_URL, or run in a pod");
	refused((struct kube_access_options){ .url = url, .kubeconfig = "k" }, -EINVAL, "a kubeconfig, not both");
	refused((struct kube_access_options){ .url = "host" }, -EINVAL,
		"the API server's URL must be a URL like https://host:port");
	refused((struct kube_access_options){ .url = url, .token = "secret word" }, -EINVAL, "token must be one word");
	refused((struct kube_access_options){ .url = url, .token = "secret", .token_file = "f" }, -EINVAL, "not both");
	refused((struct kube_access_options){ .kubeconfig = "k", .token = "secret" }, -EINVAL,
		"count only with the API server's URL");
	refused((struct kube_access_options){ .kubeconfig = file("none", NULL) }, -ENOENT, "none: No such file");
	refused((struct kube_access_options){ .kubeconfig = file("bad", "kind: Pod") }, -EINVAL,
		"bad: not a kubeconfig");
	refused((struct kube_access_options){ .url = url, .token_file = file("none", NULL) }, -ENOENT,
		"none: No such file");
	refused((struct kube_access_options){ .url = url, .token_file = file("empty", "\n") }, -EINVAL,
		"the token must not be empty");
	refused((struct kube_access_options){ .url = url, .token_file = file("two", "secret word") }, -EINVAL,
		"the token must be one word");
	refused((struct kube_access_options){ .url = url, .ca_file = file("ca", "secret") }, -EINVAL,
		"ca must be certificates in PEM");
	refused((struct kube_access_options){ .url = url, .ca_file = file("none", NULL) }, -ENOENT,
		"none: No such file");
	refused((struct kube_access_options){ .service_host = host, .service_account_directory = dir }, -EINVAL,
		"KUBERNETES_SERVICE_PORT must be the number of a port");
	refused(
		(struct kube_access_options){
			.service_host = host, .service_port = "tcp://1", .service_account_directory = dir },
		-EINVAL, "KUBERNETES_SERVICE_PORT must be the number of a port");
	refused(
		(struct kube_access_options){
			.service_host = "a b", .service_port = "1", .service_account_directory = dir },
		-EINVAL, "KUBERNETES_SERVICE_HOST does not make a URL");
	refused(
		(struct kube_access_options){
			.service_host = host, .service_port = "1", .service_account_directory = dir },
		-ENOENT, "token: No such file");
	file("token", "t");
	refused(
		(struct kube_access_options){
			.service_host = host, .service_port = "1", .service_account_directory = dir },
		-ENOENT, "ca.crt: No such file");
	file("ca", certificate_text);
	file("crt", certificate_text);
	file("key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nsecret");
	refused((struct kube_access_options){ .kubeconfig = file("config", kubeconfig), .context = "d" }, -EINVAL,
		"key must be a private key without a pass phrase");
	world_close();
}

TEST(a_token_file_is_read_again_when_it_is_old)
{
	world_open();
	const char *path = file("token", "first");
	uint64_t version, later;
	struct kube_access *access =
		open_access((struct kube_access_options){ .url = "http://h", .token_file = path, .token_age_us = 1 });
	file("token", "second");
	/* The old one until the new one is there. */
	CHECK_BYTES(kube_access_token(access, &version), "first");
	do {
		uv_run(&w.loop, UV_RUN_ONCE);
		kube_access_token(access, &later);
	} while (later == version);
	check_token(access, "second");
	CHECK_INT(w.rereads, 0); /* nobody asked */
	REQUIRE(unlink(path) == 0);
	while (kube_access_token_error(access)->code == 0) {
		check_token(access, "second");
		uv_run(&w.loop, UV_RUN_ONCE);
	}
	CHECK_INT(kube_access_token_error(access)->code, -ENOENT);
	check_token(access, "second");
	close_access(access);
	/* A young one is not read. */
	access = open_access((struct kube_access_options){ .url = "http://h", .token_file = file("token", "third") });
	file("token", "fourth");
	check_token(access, "third");
	uv_run(&w.loop, UV_RUN_DEFAULT);
	check_token(access, "third");
	close_access(access);
	world_close();
}

TEST(a_token_that_was_refused_is_read_again)
{
	world_open();
	const char *path = file("token", "first");
	uint64_t version;
	struct kube_access *access = open_access((struct kube_access_options){ .url = "http://h", .token_file = path });
	kube_access_token(access, &version);
	file("token", "second");
	w.inside = true;
	CHECK(kube_access_refused(access, version));
	CHECK(kube_access_refused(access, version)); /* one read for both */
	w.inside = false;
	while (w.rereads == 0)
		uv_run(&w.loop, UV_RUN_ONCE);
	check_token(access, "second");
	CHECK(!kube_access_refused(access, version)); /* there is a newer one */
	kube_access_token(access, &version);
	/* Unchanged: told all the same. */
	CHECK(kube_access_refused(access, version));
	while (w.rereads == 1)
		uv_run(&w.loop, UV_RUN_ONCE);
	CHECK_BYTES(kube_access_token(access, &(uint64_t){ 0 }), "second");
	/* Closed while a read is under way. */
	CHECK(kube_access_refused(access, version));
	close_access(access);
	CHECK_INT(w.rereads, 2);
	access = open_access((struct kube_access_options){ .url = "http://h", .token = "fixed" });
	kube_access_token(access, &version);
	CHECK(!kube_access_refused(access, version));
	close_access(access);
	world_close();
}

TEST_MAIN()
