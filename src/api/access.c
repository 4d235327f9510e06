/* Tokens are known by the SHA-256 of their text alone, so that the file betrays none. Every look-up compares with every
 * entry in constant time: how long it takes says nothing about which entry is near. Names of tenants are interned for
 * the life of the struct: operations under way may point to them while the tokens are read anew. */
#include "api/access.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/text.h"
#include "io/network.h"

#define TOKENS_MAX 10000

struct token {
	uint8_t hash[SHA256_SIZE];
	struct principal principal;
};

struct tenant_name {
	struct tenant_name *next; /* owned */
	char *name; /* owned */
};

struct access {
	bool open, loopback;
	enum api_role anonymous_role;
	struct networks networks;
	bool anonymous_anywhere;
	char **host_names; /* owned */
	size_t host_name_count;
	struct token *tokens; /* owned */
	size_t token_count;
	struct tenant_name *tenants; /* owned */
};

static struct bytes intern(struct access *access, struct bytes name)
{
	for (struct tenant_name *at = access->tenants; at; at = at->next)
		if (bytes_is(name, at->name))
			return bytes_of(at->name);
	struct tenant_name *made = alloc(sizeof(*made));
	made->name = bytes_copy_string(name);
	made->next = access->tenants;
	access->tenants = made;
	return bytes_of(made->name);
}

static bool anonymous_may_come_from(const struct access *access, const struct sockaddr *peer)
{
	return access->anonymous_anywhere || networks_contain(&access->networks, peer);
}

/* ---- life ---- */

int access_new(const struct api_access *settings, struct access **ret_access, struct err *err)
{
	struct access *access = alloc(sizeof(*access));
	access->open = settings->open;
	access->loopback = settings->loopback;
	access->anonymous_role = settings->anonymous_role;
	access->anonymous_anywhere = settings->anonymous_from == NULL;
	for (size_t i = 0; settings->host_names && settings->host_names[i]; i++) {
		access->host_names = realloc_array(access->host_names, i + 1, sizeof(char *));
		access->host_names[i] = string_copy(settings->host_names[i]);
		access->host_name_count = i + 1;
	}
	intern(access, BYTES_LITERAL(TENANT_DEFAULT));
	intern(access, BYTES_LITERAL("anonymous"));
	int error = networks_parse(bytes_of(settings->anonymous_from), &access->networks, err);
	if (error) {
		access_free(access);
		return error;
	}
	*ret_access = access;
	return 0;
}

void access_free(struct access *access)
{
	if (!access)
		return;
	while (access->tenants) {
		struct tenant_name *name = access->tenants;
		access->tenants = name->next;
		free(name->name);
		free(name);
	}
	for (size_t i = 0; i < access->host_name_count; i++)
		free(access->host_names[i]);
	free(access->host_names);
	free(access->tokens);
	free(access);
}

/* ---- the file of tokens ---- */

static struct bytes next_word(struct bytes *line)
{
	*line = text_trim(*line);
	size_t len = 0;
	while (len < line->len && line->data[len] != ' ' && line->data[len] != '\t')
		len++;
	struct bytes word = { line->data, len };
	line->data += len;
	line->len -= len;
	return word;
}

static bool role_parse(struct bytes word, enum api_role *ret_role)
{
	if (bytes_is(word, "read"))
		*ret_role = ROLE_READ;
	else if (bytes_is(word, "submit"))
		*ret_role = ROLE_SUBMIT;
	else if (bytes_is(word, "admin"))
		*ret_role = ROLE_ADMIN;
	else
		return false;
	return true;
}

static int token_parse(struct access *access, struct bytes line, int number, struct token *ret, struct err *err)
{
	struct bytes hash = next_word(&line), tenant = next_word(&line), role = next_word(&line);
	if (!hex_decode(hash, ret->hash, SHA256_SIZE))
		return err_set(
			err, -EINVAL, "tokens, line %d: the first word is not the SHA-256 of a token in hex", number);
	if (tenant.len == 0 || tenant.len > 63 || !utf8_valid(tenant))
		return err_set(err, -EINVAL, "tokens, line %d: the tenant is missing or longer than 63 bytes", number);
	if (!role_parse(role, &ret->principal.role))
		return err_set(err, -EINVAL, "tokens, line %d: the role is none of read, submit, admin", number);
	ret->principal.tenant = intern(access, tenant);
	return 0;
}

int access_load(struct access *access, struct bytes text, struct err *err)
{
	struct token *tokens = NULL;
	size_t count = 0, capacity = 0;
	int number = 0, error = 0;
	while (text.len > 0 && !error) {
		const char *end = memchr(text.data, '\n', text.len);
		struct bytes line = { text.data, end ? (size_t)(end - text.data) : text.len };
		size_t used = line.len + (end ? 1 : 0);
		text.data += used;
		text.len -= used;
		number++;
		line = text_trim(line);
		if (line.len == 0 || line.data[0] == '#')
			continue;
		if (count == TOKENS_MAX) {
			error = err_set(err, -E2BIG, "more than %d tokens", TOKENS_MAX);
			break;
		}
		if (count == capacity) {
			capacity = capacity ? capacity * 2 : 16;
			tokens = realloc_array(tokens, capacity, sizeof(*tokens));
		}
		error = token_parse(access, line, number, &tokens[count], err);
		count++;
	}
	if (error) {
		free(tokens);
		return error;
	}
	free(access->tokens);
	access->tokens = tokens;
	access->token_count = count;
	return 0;
}

/* ---- who ---- */

static bool bearer_of(struct bytes header, struct bytes *ret_token)
{
	if (header.len < 7 || !text_equal_ignore_case((struct bytes){ header.data, 7 }, BYTES_LITERAL("bearer ")))
		return false;
	*ret_token = text_trim((struct bytes){ header.data + 7, header.len - 7 });
	return ret_token->len > 0;
}

static const struct token *token_find(const struct access *access, struct bytes token)
{
	uint8_t hash[SHA256_SIZE];
	sha256(token, hash);
	const struct token *found = NULL;
	for (size_t i = 0; i < access->token_count; i++) {
		struct bytes entry = { (const char *)access->tokens[i].hash, SHA256_SIZE };
		if (bytes_equal_constant_time(entry, (struct bytes){ (const char *)hash, SHA256_SIZE }))
			found = &access->tokens[i];
	}
	return found;
}

enum access_outcome access_identify(
	const struct access *access, const struct http_request *request, struct principal *ret_principal)
{
	if (access->open) {
		*ret_principal = (struct principal){ BYTES_LITERAL(TENANT_DEFAULT), ROLE_ADMIN };
		return ACCESS_KNOWN;
	}
	struct bytes header = http_request_header(request, "authorization");
	if (header.data) {
		struct bytes text;
		const struct token *token = bearer_of(header, &text) ? token_find(access, text) : NULL;
		if (!token)
			return ACCESS_BAD_TOKEN;
		*ret_principal = token->principal;
		return ACCESS_KNOWN;
	}
	if (access->anonymous_role != ROLE_NONE && anonymous_may_come_from(access, request->peer)) {
		*ret_principal = (struct principal){ BYTES_LITERAL("anonymous"), access->anonymous_role };
		return ACCESS_KNOWN;
	}
	return ACCESS_NO_TOKEN;
}

/* ---- Host and Origin ---- */

/* What stands before the port: "[::1]:80" gives "[::1]". */
static struct bytes host_without_port(struct bytes host)
{
	if (host.len > 0 && host.data[0] == '[') {
		const char *bracket = memchr(host.data, ']', host.len);
		return bracket ? (struct bytes){ host.data, (size_t)(bracket - host.data) + 1 } : host;
	}
	const char *colon = memchr(host.data, ':', host.len);
	return colon ? (struct bytes){ host.data, (size_t)(colon - host.data) } : host;
}

static bool host_known(const struct access *access, struct bytes authority)
{
	struct bytes host = host_without_port(authority);
	/* What follows the name may only be a port, or nothing. */
	for (size_t i = host.len; i < authority.len; i++)
		if (!(i == host.len ? authority.data[i] == ':' : authority.data[i] >= '0' && authority.data[i] <= '9'))
			return false;
	if (text_equal_ignore_case(host, BYTES_LITERAL("localhost")) || bytes_is(host, "127.0.0.1") ||
		bytes_is(host, "[::1]"))
		return true;
	for (size_t i = 0; i < access->host_name_count; i++)
		if (text_equal_ignore_case(host, bytes_of(access->host_names[i])))
			return true;
	return false;
}

bool access_host_allowed(const struct access *access, const struct http_request *request, const char **ret_what)
{
	if (!access->loopback)
		return true;
	struct bytes host = http_request_header(request, "host");
	if (host.data && !host_known(access, host)) {
		*ret_what = "Host";
		return false;
	}
	struct bytes origin = http_request_header(request, "origin");
	if (!origin.data)
		return true;
	*ret_what = "Origin";
	struct bytes rest;
	if (origin.len > 7 && memcmp(origin.data, "http://", 7) == 0)
		rest = (struct bytes){ origin.data + 7, origin.len - 7 };
	else if (origin.len > 8 && memcmp(origin.data, "https://", 8) == 0)
		rest = (struct bytes){ origin.data + 8, origin.len - 8 };
	else
		return false;
	return host_known(access, rest);
}
