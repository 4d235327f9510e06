/* URLs of Redis servers: see redis_address.h. */
#include "io/redis_address.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Puts the decoded text into `to`, which is `size` large, terminated. */
static int decode(struct bytes text, char *to, size_t size, const char *what, struct err *err)
{
	size_t len = 0;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t byte = (uint8_t)text.data[i];
		if (byte == '%') {
			if (text.len - i < 3 || !hex_decode((struct bytes){ text.data + i + 1, 2 }, &byte, 1))
				return err_set(err, -EINVAL, "a %% in the %s is not followed by two hex digits", what);
			i += 2;
		}
		if (!byte)
			return err_set(err, -EINVAL, "the %s holds U+0000", what);
		if (len + 1 >= size)
			return err_set(err, -EINVAL, "the %s is too long", what);
		to[len++] = (char)byte;
	}
	to[len] = 0;
	return 0;
}

/* Cuts `text` at the first (or last) of `c`: returns what stood before it and leaves what stands behind; without one
 * all stays. */
static bool cut(struct bytes *text, char c, bool last, struct bytes *ret_before)
{
	const char *at =
		text->len ? (last ? memrchr(text->data, c, text->len) : memchr(text->data, c, text->len)) : NULL;
	if (!at)
		return false;
	*ret_before = (struct bytes){ text->data, (size_t)(at - text->data) };
	*text = (struct bytes){ at + 1, text->len - ret_before->len - 1 };
	return true;
}

static int parse_login(struct bytes login, struct redis_address *address, struct err *err)
{
	struct bytes user;
	if (!cut(&login, ':', false, &user)) {
		user = login;
		login = BYTES_NONE;
	}
	int result = decode(user, address->user, sizeof(address->user), "user name", err);
	return result < 0 ? result : decode(login, address->password, sizeof(address->password), "password", err);
}

static int parse_database(struct bytes text, struct redis_address *address, struct err *err)
{
	int64_t database;
	if (!text_to_int(text, 0, 1000000, &database))
		return err_set(err, -EINVAL, "the database is not a number");
	address->database = (int)database;
	return 0;
}

static int parse_query(struct bytes query, struct redis_address *address, struct err *err)
{
	while (query.len) {
		struct bytes pair, name;
		int64_t number;
		if (!cut(&query, '&', false, &pair)) {
			pair = query;
			query.len = 0;
		}
		if (!cut(&pair, '=', false, &name))
			return err_set(err, -EINVAL, "a parameter without a value");
		if (bytes_is(name, "db")) {
			int result = parse_database(pair, address, err);
			if (result < 0)
				return result;
		} else if (bytes_is(name, "protocol") && text_to_int(pair, 2, 3, &number)) {
			address->protocol = (int)number;
		} else {
			return err_set(err, -EINVAL, "parameters can be db=NUMBER and protocol=2 or 3");
		}
	}
	return 0;
}

static int parse_host(struct bytes text, struct redis_address *address, struct err *err)
{
	struct bytes host = text;
	int64_t port = REDIS_PORT_DEFAULT;
	if (text.len && text.data[0] == '[') {
		if (!cut(&text, ']', false, &host) || (text.len && text.data[0] != ':'))
			return err_set(err, -EINVAL, "the address in brackets does not end");
		host.data++;
		host.len--;
		if (text.len && !text_to_int((struct bytes){ text.data + 1, text.len - 1 }, 1, 65535, &port))
			return err_set(err, -EINVAL, "the port is not one");
	} else if (cut(&text, ':', true, &host) && !text_to_int(text, 1, 65535, &port)) {
		return err_set(err, -EINVAL, "the port is not one");
	}
	address->port = (uint16_t)port;
	if (!host.len)
		return err_set(err, -EINVAL, "names no host");
	return decode(host, address->host, sizeof(address->host), "host", err);
}

/* What stands behind the login: HOST[:PORT][/DATABASE], or /PATH. */
static int parse_place(struct bytes text, bool local, struct redis_address *address, struct err *err)
{
	if (local) {
		if (!text.len || text.data[0] != '/')
			return err_set(err, -EINVAL, "the path of the socket must begin with a /");
		return decode(text, address->path, sizeof(address->path), "path of the socket", err);
	}
	struct bytes host, database = BYTES_NONE;
	if (cut(&text, '/', false, &host))
		database = text;
	else
		host = text;
	int result = parse_host(host, address, err);
	return result == 0 && database.len ? parse_database(database, address, err) : result;
}

int redis_address_parse(struct bytes url, struct redis_address *ret_address, struct err *err)
{
	static const struct {
		struct bytes prefix;
		bool tls, local;
	} schemes[] = {
		{ { "redis://", 8 }, false, false },
		{ { "rediss://", 9 }, true, false },
		{ { "unix://", 7 }, false, true },
	};
	struct redis_address address = { .protocol = 3 };
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		struct bytes prefix = schemes[i].prefix, rest, login, place;
		if (url.len < prefix.len || memcmp(url.data, prefix.data, prefix.len) != 0)
			continue;
		rest = (struct bytes){ url.data + prefix.len, url.len - prefix.len };
		address.tls = schemes[i].tls;
		int result = 0;
		if (cut(&rest, '?', false, &place))
			result = parse_query(rest, &address, err);
		else
			place = rest;
		if (result == 0 && cut(&place, '@', true, &login))
			result = parse_login(login, &address, err);
		if (result == 0)
			result = parse_place(place, schemes[i].local, &address, err);
		if (result == 0)
			*ret_address = address;
		return result;
	}
	return err_set(err, -EINVAL, "must begin with redis://, rediss:// or unix://");
}

char *redis_address_format(const struct redis_address *address, char text[static REDIS_ADDRESS_TEXT_SIZE])
{
	char database[16] = "";
	if (address->database)
		snprintf(database, sizeof(database), "/%d", address->database);
	bool v6 = strchr(address->host, ':') != NULL;
	if (address->host[0])
		snprintf(text, REDIS_ADDRESS_TEXT_SIZE, "%s%s%s:%u%s%s", v6 ? "[" : "", address->host, v6 ? "]" : "",
			address->port, database, address->tls ? " over TLS" : "");
	else
		snprintf(text, REDIS_ADDRESS_TEXT_SIZE, "%s%s", address->path, database);
	return text;
}
