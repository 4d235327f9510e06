/* A small reader of URLs: it takes less than RFC 3986 allows, so that what is taken means the same to everybody who
 * reads it after us. */
#include "task/callback.h"

#include "base/text.h"

/* Behind "://", or absent. */
static struct bytes after_scheme(struct bytes url, bool *ret_https)
{
	static const struct bytes schemes[] = { { "http://", 7 }, { "https://", 8 } };
	for (size_t i = 0; i < 2; i++) {
		struct bytes scheme = schemes[i];
		if (url.len < scheme.len || !text_equal_ignore_case((struct bytes){ url.data, scheme.len }, scheme))
			continue;
		*ret_https = i == 1;
		return (struct bytes){ url.data + scheme.len, url.len - scheme.len };
	}
	return BYTES_NONE;
}

static struct bytes authority_of(struct bytes rest)
{
	size_t len = 0;
	while (len < rest.len && !strchr("/?#", rest.data[len]))
		len++;
	return (struct bytes){ rest.data, len };
}

static bool host_valid(struct bytes host)
{
	bool literal = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
	if (literal)
		host = (struct bytes){ host.data + 1, host.len - 2 };
	if (host.len == 0 || host.len > 253)
		return false;
	for (size_t i = 0; i < host.len; i++) {
		char c = host.data[i], lower = (char)(c | 0x20);
		bool letter = lower >= 'a' && lower <= (literal ? 'f' : 'z');
		bool digit = c >= '0' && c <= '9';
		if (!letter && !digit && c != '.' && !(literal ? c == ':' : c == '-' || c == '_'))
			return false;
	}
	return true;
}

const char *callback_fault(struct bytes url, bool https_only)
{
	bool https;
	int64_t port;
	if (url.len > CALLBACK_URL_MAX)
		return "has more than 2048 bytes";
	for (size_t i = 0; i < url.len; i++)
		if (url.data[i] <= ' ' || url.data[i] > '~' || strchr("\"<>\\^`{|}", url.data[i]))
			return "may have visible ASCII characters only, others percent-encoded";
	struct bytes rest = after_scheme(url, &https);
	if (!rest.data || (https_only && !https))
		return https_only ? "must begin with https://" : "must begin with http:// or https://";
	struct bytes authority = authority_of(rest);
	if (memchr(authority.data, '@', authority.len))
		return "must not hold a user name or a password";
	if (memchr(rest.data, '#', rest.len))
		return "must not have a fragment";
	struct bytes host = authority;
	const char *end = authority.len ? memrchr(authority.data, ']', authority.len) : NULL;
	const char *colon = memrchr(authority.data, ':', authority.len);
	if (colon && (!end || colon > end)) {
		host.len = (size_t)(colon - authority.data);
		struct bytes digits = { colon + 1, authority.len - host.len - 1 };
		if (!text_to_int(digits, 1, 65535, &port))
			return "has a port that is not 1 to 65535";
	}
	return host_valid(host) ? NULL : "has no valid host";
}

struct bytes callback_origin(struct bytes url, struct arena *arena)
{
	bool https;
	struct bytes rest = after_scheme(url, &https);
	if (!rest.data)
		return arena_bytes(arena, url);
	size_t len = (size_t)(rest.data - url.data) + authority_of(rest).len;
	char *text = arena_alloc(arena, len + 1);
	for (size_t i = 0; i < len; i++)
		text[i] = url.data[i] >= 'A' && url.data[i] <= 'Z' ? (char)(url.data[i] | 0x20) : url.data[i];
	return (struct bytes){ text, len };
}
