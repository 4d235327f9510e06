#include "executor/kubernetes/kubeconfig.h"

#include <errno.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/text.h"
#include "base/yaml.h"

#define NAME_BYTES_MAX 253
#define STRING_BYTES_MAX 4096
#define TOKEN_BYTES_MAX 32768
#define DATA_BYTES_MAX (1 << 20)

struct parsing {
	struct kubeconfig *config; /* borrowed */
	const char *path;
	char place[160]; /* "user NAME", for messages; empty: the file */
	struct err *err;
};

/* Which file, where in it, what. */
#define FAIL(parsing, ...) (err_set((parsing)->err, -EINVAL, __VA_ARGS__), add_place(parsing), -EINVAL)

static void add_place(struct parsing *parsing)
{
	if (parsing->place[0])
		err_prefix(parsing->err, "%s", parsing->place);
	err_prefix(parsing->err, "%.100s", parsing->path);
}

static void set_place(struct parsing *parsing, const char *what, struct bytes name)
{
	struct buffer text = BUFFER_MAX(sizeof(parsing->place) - 1);
	parsing->place[0] = '\0';
	buffer_printf(&text, "%s \"", what);
	for (size_t i = 0; i < name.len && i < 100; i++)
		buffer_append_char(&text, name.data[i] >= ' ' && name.data[i] <= '~' ? name.data[i] : '?');
	buffer_append_char(&text, '"');
	if (!text.failed) {
		memcpy(parsing->place, text.data, text.len);
		parsing->place[text.len] = '\0';
	}
	buffer_fini(&text);
}

/* ---- what is good ---- */

const char *kube_server_fault(struct bytes url)
{
	static const char plain[] = "http://", secure[] = "https://";
	size_t scheme = 0;
	if (url.len > sizeof(secure) - 1 && memcmp(url.data, secure, sizeof(secure) - 1) == 0)
		scheme = sizeof(secure) - 1;
	else if (url.len > sizeof(plain) - 1 && memcmp(url.data, plain, sizeof(plain) - 1) == 0)
		scheme = sizeof(plain) - 1;
	if (scheme == 0 || url.data[scheme] == '/')
		return "must be a URL like https://host:port";
	for (size_t i = scheme; i < url.len; i++) {
		if (url.data[i] <= ' ' || url.data[i] > '~')
			return "must be a URL without spaces and other than ASCII";
		if (url.data[i] == '@' || url.data[i] == '?' || url.data[i] == '#')
			return "must be a URL without user, query and fragment";
	}
	return NULL;
}

const char *kube_token_fault(struct bytes token)
{
	if (token.len == 0)
		return "must not be empty";
	if (token.len > TOKEN_BYTES_MAX)
		return "must not be longer than 32 KiB";
	for (size_t i = 0; i < token.len; i++)
		if (token.data[i] <= ' ' || token.data[i] > '~')
			return "must be one word of visible ASCII";
	return NULL;
}

const char *kube_namespace_fault(struct bytes name)
{
	bool good = name.len >= 1 && name.len <= 63 && name.data[0] != '-' && name.data[name.len - 1] != '-';
	for (size_t i = 0; good && i < name.len; i++) {
		char c = name.data[i];
		good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
	}
	return good ? NULL : "must be a name of small letters, digits and \"-\", at most 63";
}

static bool holds(struct bytes text, const char *words)
{
	return memmem(text.data, text.len, words, strlen(words)) != NULL;
}

const char *kube_pem_fault(struct bytes pem, bool key)
{
	if (pem.len == 0)
		return "must not be empty";
	if (!key)
		return holds(pem, "-----BEGIN CERTIFICATE-----") || holds(pem, "-----BEGIN TRUSTED CERTIFICATE-----")
			       ? NULL
			       : "must be certificates in PEM";
	if (!holds(pem, "-----BEGIN ") || !holds(pem, "PRIVATE KEY-----"))
		return "must be a private key in PEM";
	if (holds(pem, "ENCRYPTED"))
		return "must be a private key without a pass phrase";
	return NULL;
}

/* ---- members ---- */

/* A string that is there and not empty; 0 with *ret_text absent where there is none. The content is never told. */
static int read_string(
	struct parsing *parsing, yyjson_val *object, const char *key, size_t most, struct bytes *ret_text)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
	*ret_text = BYTES_NONE;
	if (!value || yyjson_is_null(value))
		return 0;
	if (!text.data)
		return FAIL(parsing, "%s must be a string (quote what looks like a number)", key);
	if (text.len > most || memchr(text.data, '\0', text.len))
		return FAIL(parsing, "%s is too long, or has a zero byte", key);
	if (text.len > 0)
		*ret_text = arena_bytes(&parsing->config->arena, text);
	return 0;
}

/* The name of a file, made whole by the kubeconfig's directory. */
static int read_path(struct parsing *parsing, yyjson_val *object, const char *key, const char **ret_path)
{
	struct bytes name;
	int result = read_string(parsing, object, key, STRING_BYTES_MAX, &name);
	const char *slash = strrchr(parsing->path, '/');
	if (result < 0 || !name.data)
		return result;
	if (name.data[0] == '/' || !slash)
		*ret_path = name.data;
	else
		*ret_path = arena_printf(
			&parsing->config->arena, "%.*s/%s", (int)(slash - parsing->path), parsing->path, name.data);
	return 0;
}

/* PEM in base64; white space between its lines, as YAML's blocks have it, is passed over. */
static int read_pem(struct parsing *parsing, yyjson_val *object, const char *key, bool is_key, struct bytes *ret_pem)
{
	struct bytes text;
	int result = read_string(parsing, object, key, DATA_BYTES_MAX, &text);
	if (result < 0 || !text.data)
		return result;
	char *packed = arena_alloc(&parsing->config->arena, text.len + 1);
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++)
		if (!strchr(" \t\r\n", text.data[i]))
			packed[len++] = text.data[i];
	struct bytes pem = base64_decode(&parsing->config->arena, (struct bytes){ packed, len });
	if (!pem.data)
		return FAIL(parsing, "%s must be base64", key);
	const char *fault = kube_pem_fault(pem, is_key);
	if (fault)
		return FAIL(parsing, "%s %s", key, fault);
	*ret_pem = pem;
	return 0;
}

static bool has(yyjson_val *object, const char *key)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return value && !yyjson_is_null(value) && !(yyjson_is_str(value) && yyjson_get_len(value) == 0) &&
	       !(yyjson_is_ctn(value) && unsafe_yyjson_get_len(value) == 0);
}

/* The object `member` of the element of the list `list` whose name it is. */
static int find_named(struct parsing *parsing, yyjson_val *root, const char *list, const char *member,
	struct bytes name, yyjson_val **ret_object)
{
	yyjson_val *elements = yyjson_obj_get(root, list), *element, *found = NULL;
	size_t at, count;
	parsing->place[0] = '\0';
	if (elements && !yyjson_is_null(elements) && !yyjson_is_arr(elements))
		return FAIL(parsing, "%s must be a list", list);
	yyjson_arr_foreach(elements, at, count, element)
	{
		yyjson_val *value = yyjson_obj_get(element, "name");
		struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
		if (text.data && bytes_equal(text, name) && !found)
			found = element; /* the first of a name counts, as for kubectl */
	}
	set_place(parsing, member, name);
	if (!found)
		return FAIL(parsing, "there is none of this name in %s", list);
	*ret_object = yyjson_obj_get(found, member);
	if (!yyjson_is_obj(*ret_object))
		return FAIL(parsing, "%s must map keys to values", member);
	return 0;
}

/* ---- the three parts ---- */

static int read_cluster(struct parsing *parsing, yyjson_val *cluster)
{
	struct kubeconfig *config = parsing->config;
	struct bytes server, name;
	yyjson_val *insecure = yyjson_obj_get(cluster, "insecure-skip-tls-verify");
	if (has(cluster, "proxy-url"))
		return FAIL(parsing, "proxy-url is not supported: the API server must be reachable without a proxy");
	int result = read_string(parsing, cluster, "server", STRING_BYTES_MAX, &server);
	if (result < 0)
		return result;
	const char *fault = server.data ? kube_server_fault(server) : "is missing";
	if (fault)
		return FAIL(parsing, "server %s", fault);
	while (server.data[server.len - 1] == '/')
		server.len--;
	config->server = arena_bytes(&config->arena, server).data;
	result = read_string(parsing, cluster, "tls-server-name", NAME_BYTES_MAX, &name);
	config->server_name = name.data;
	if (result == 0)
		result = read_path(parsing, cluster, "certificate-authority", &config->ca_file);
	if (result == 0)
		result = read_pem(parsing, cluster, "certificate-authority-data", false, &config->ca);
	if (result < 0)
		return result;
	if (insecure && !yyjson_is_null(insecure) && !yyjson_is_bool(insecure))
		return FAIL(parsing, "insecure-skip-tls-verify must be true or false");
	config->insecure = yyjson_get_bool(insecure);
	if (config->insecure && (config->ca_file || config->ca.data))
		return FAIL(parsing, "insecure-skip-tls-verify and certificate-authority exclude each other");
	return 0;
}

static int refuse_foreign(struct parsing *parsing, yyjson_val *user)
{
	static const char *const impersonation[] = { "as", "as-uid", "as-groups", "as-user-extra" };
	if (has(user, "exec"))
		return FAIL(parsing,
			"exec plugins are not run: give a token, a tokenFile or a client certificate, for example "
			"of a service account (kubectl create token)");
	if (has(user, "auth-provider"))
		return FAIL(parsing, "auth-provider plugins are not supported: give a token, a tokenFile or a client "
				     "certificate, for example of a service account (kubectl create token)");
	if (has(user, "username") || has(user, "password"))
		return FAIL(parsing,
			"username and password are not supported (nor by Kubernetes since 1.19): give a token, a "
			"tokenFile or a client certificate");
	for (size_t i = 0; i < ARRAY_SIZE(impersonation); i++)
		if (has(user, impersonation[i]))
			return FAIL(parsing,
				"%s: impersonation is not supported: name a user of its own with the rights "
				"that are needed",
				impersonation[i]);
	return 0;
}

static int read_user(struct parsing *parsing, yyjson_val *user)
{
	struct kubeconfig *config = parsing->config;
	struct bytes token = BYTES_NONE;
	int result = refuse_foreign(parsing, user);
	if (result == 0)
		result = read_string(parsing, user, "token", TOKEN_BYTES_MAX, &token);
	if (result < 0)
		return result;
	const char *fault = token.data ? kube_token_fault(token) : NULL;
	if (fault)
		return FAIL(parsing, "token %s", fault);
	config->token = token.data;
	result = read_path(parsing, user, "tokenFile", &config->token_file);
	if (result == 0)
		result = read_path(parsing, user, "client-certificate", &config->certificate_file);
	if (result == 0)
		result = read_path(parsing, user, "client-key", &config->key_file);
	if (result == 0)
		result = read_pem(parsing, user, "client-certificate-data", false, &config->certificate);
	if (result == 0)
		result = read_pem(parsing, user, "client-key-data", true, &config->key);
	if (result < 0)
		return result;
	bool certificate = config->certificate_file || config->certificate.data;
	bool key = config->key_file || config->key.data;
	if (certificate != key)
		return FAIL(parsing, "%s without %s", certificate ? "client-certificate" : "client-key",
			certificate ? "client-key" : "client-certificate");
	return 0;
}

static int read_root(struct parsing *parsing, yyjson_val *root, const char *wanted)
{
	struct kubeconfig *config = parsing->config;
	struct bytes context = bytes_of(wanted), cluster, user, namespace_name, kind;
	yyjson_val *object;
	if (!yyjson_is_obj(root))
		return FAIL(parsing, "not a kubeconfig: must map keys to values");
	int result = read_string(parsing, root, "kind", NAME_BYTES_MAX, &kind);
	if (result < 0)
		return result;
	if (kind.data && !bytes_is(kind, "Config"))
		return FAIL(parsing, "not a kubeconfig: its kind is not Config");
	if (!context.data)
		result = read_string(parsing, root, "current-context", STRING_BYTES_MAX, &context);
	if (result < 0)
		return result;
	if (!context.data)
		return FAIL(
			parsing, "current-context is not set: set it (kubectl config use-context), or name a context");
	result = find_named(parsing, root, "contexts", "context", context, &object);
	if (result == 0)
		result = read_string(parsing, object, "cluster", STRING_BYTES_MAX, &cluster);
	if (result == 0)
		result = read_string(parsing, object, "user", STRING_BYTES_MAX, &user);
	if (result == 0)
		result = read_string(parsing, object, "namespace", NAME_BYTES_MAX, &namespace_name);
	if (result < 0)
		return result;
	if (!cluster.data)
		return FAIL(parsing, "cluster is missing");
	const char *fault = namespace_name.data ? kube_namespace_fault(namespace_name) : NULL;
	if (fault)
		return FAIL(parsing, "namespace %s", fault);
	config->namespace_name = namespace_name.data;
	result = find_named(parsing, root, "clusters", "cluster", cluster, &object);
	if (result == 0)
		result = read_cluster(parsing, object);
	/* A cluster behind a proxy of kubectl's knows no users. */
	if (result == 0 && user.data)
		result = find_named(parsing, root, "users", "user", user, &object);
	if (result == 0 && user.data)
		result = read_user(parsing, object);
	return result;
}

int kubeconfig_parse(
	struct bytes text, const char *path, const char *context, struct kubeconfig *ret_config, struct err *err)
{
	struct err local = { 0 }; /* messages are built up, also where nobody wants them */
	struct kubeconfig config = { 0 };
	yyjson_doc *document;
	err = err ? err : &local;
	if (yaml_read(text, &document, err) < 0)
		return err_prefix(err, "%.100s", path);
	struct parsing parsing = { .config = &config, .path = path, .err = err };
	int result = read_root(&parsing, yyjson_doc_get_root(document), context);
	yyjson_doc_free(document);
	if (result < 0)
		kubeconfig_fini(&config);
	else
		*ret_config = config;
	return result;
}

void kubeconfig_fini(struct kubeconfig *config)
{
	arena_fini(&config->arena);
	*config = (struct kubeconfig){ 0 };
}
