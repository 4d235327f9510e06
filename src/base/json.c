/* JSON goes out as it is written: nothing is held back, so an object that is not closed is the caller's fault
 * and shows in the buffer. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/text.h"

/* The comma that the value before asks for; the value that comes will ask for one in its turn. */
static void separate(struct json *json)
{
	if (json->comma)
		buffer_append_char(json->buffer, ',');
	json->comma = true;
}

static void open_with(struct json *json, char bracket)
{
	separate(json);
	buffer_append_char(json->buffer, bracket);
	json->comma = false;
}

static void close_with(struct json *json, char bracket)
{
	buffer_append_char(json->buffer, bracket);
	json->comma = true;
}

void json_object(struct json *json)
{
	open_with(json, '{');
}

void json_object_end(struct json *json)
{
	close_with(json, '}');
}

void json_array(struct json *json)
{
	open_with(json, '[');
}

void json_array_end(struct json *json)
{
	close_with(json, ']');
}

void json_key(struct json *json, const char *key)
{
	size_t len = strlen(key);
	char *to = buffer_reserve(json->buffer, len + 4);
	if (!to)
		return;
	char *at = to;
	if (json->comma)
		*at++ = ',';
	*at++ = '"';
	memcpy(at, key, len);
	at += len;
	*at++ = '"';
	*at++ = ':';
	json->buffer->len += (size_t)(at - to);
	json->comma = false;
}

void json_raw(struct json *json, struct bytes value)
{
	separate(json);
	buffer_append_bytes(json->buffer, value);
}

void json_null(struct json *json)
{
	json_raw(json, BYTES_LITERAL("null"));
}

void json_bool(struct json *json, bool value)
{
	json_raw(json, value ? BYTES_LITERAL("true") : BYTES_LITERAL("false"));
}

void json_int(struct json *json, int64_t value)
{
	char text[24];
	char *at = text + sizeof(text);
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do {
		*--at = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (value < 0)
		*--at = '-';
	json_raw(json, (struct bytes){ at, (size_t)(text + sizeof(text) - at) });
}

/* 17 digits always come back as the same number, 15 or 16 often do and read better. The point is a point:
 * the programs never leave the C locale. */
void json_double(struct json *json, double value)
{
	if (!isfinite(value)) {
		json_null(json);
		return;
	}
	char text[32];
	int len = 0;
	for (int digits = 15; digits <= 17; digits++) {
		len = snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	json_raw(json, (struct bytes){ text, (size_t)len });
}

#define EACH_BYTE(value) (UINT64_C(0x0101010101010101) * (value))

/* Whether one of eight bytes is below 0x20, a quote or a backslash
 * (https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord). */
static bool needs_escape(const char *at)
{
	uint64_t word;
	memcpy(&word, at, sizeof(word));
	uint64_t quote = word ^ EACH_BYTE('"'), backslash = word ^ EACH_BYTE('\\');
	return (((word - EACH_BYTE(0x20)) & ~word) | ((quote - EACH_BYTE(1)) & ~quote) |
		       ((backslash - EACH_BYTE(1)) & ~backslash)) &
	       EACH_BYTE(0x80);
}

/* Well-formed UTF-8 with the escapes of RFC 8259, section 7. */
static void append_escaped(struct buffer *buffer, struct bytes text)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[32] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };
	size_t from = 0;
	for (size_t i = 0; i < text.len; i++) {
		while (text.len - i >= 8 && !needs_escape(text.data + i))
			i += 8;
		if (i == text.len)
			break;
		unsigned char c = (unsigned char)text.data[i];
		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buffer_append(buffer, text.data + from, i - from);
		from = i + 1;
		if (c >= 0x20)
			buffer_append(buffer, (char[]){ '\\', (char)c }, 2);
		else if (letters[c])
			buffer_append(buffer, (char[]){ '\\', letters[c] }, 2);
		else
			buffer_append(buffer, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
	}
	if (from < text.len)
		buffer_append(buffer, text.data + from, text.len - from);
}

bool json_string(struct json *json, struct bytes text)
{
	if (!text.data) {
		json_null(json);
		return true;
	}
	separate(json);
	/* One reservation for the usual case, where nothing needs an escape. */
	if (!buffer_reserve(json->buffer, text.len + 2))
		return true;
	buffer_append_char(json->buffer, '"');
	bool whole = true;
	while (text.len > 0) {
		size_t valid = utf8_valid_prefix(text);
		append_escaped(json->buffer, (struct bytes){ text.data, valid });
		text.data += valid;
		text.len -= valid;
		if (text.len == 0)
			break;
		size_t bad = utf8_ill_formed_part(text);
		buffer_append_string(json->buffer, UTF8_REPLACEMENT);
		text.data += bad;
		text.len -= bad;
		whole = false;
	}
	buffer_append_char(json->buffer, '"');
	return whole;
}

void json_member_string(struct json *json, const char *key, struct bytes text)
{
	if (json->sparse && !text.data)
		return;
	json_key(json, key);
	json_string(json, text);
}

void json_member_int(struct json *json, const char *key, int64_t value)
{
	json_key(json, key);
	json_int(json, value);
}

void json_member_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void json_member_double(struct json *json, const char *key, double value)
{
	json_key(json, key);
	json_double(json, value);
}

void json_member_null(struct json *json, const char *key)
{
	if (json->sparse)
		return;
	json_key(json, key);
	json_null(json);
}

void json_member_raw(struct json *json, const char *key, struct bytes value)
{
	json_key(json, key);
	json_raw(json, value);
}

void json_member_time(struct json *json, const char *key, int64_t us)
{
	char text[CLOCK_TEXT_SIZE];
	json_member_string(json, key, us == 0 ? BYTES_NONE : bytes_of(clock_format(us, text)));
}
