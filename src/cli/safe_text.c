/* The filter between text from elsewhere and a terminal. Pure: bytes in, bytes out. */
#include "cli/safe_text.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

static bool is_invisible(uint32_t c)
{
	return (c >= 0x80 && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
	       (c >= 0xe0000 && c <= 0xe007f);
}

static void append_code_point(enum safe_mode mode, struct buffer *to, uint32_t c)
{
	if (c > 0xffff && mode == SAFE_JSON)
		buffer_printf(to, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
	else if (c > 0xffff)
		buffer_printf(to, "\\U%08x", c);
	else
		buffer_printf(to, "\\u%04x", c);
}

static void append_ascii(enum safe_mode mode, struct buffer *to, unsigned char c)
{
	if ((c >= 0x20 && c != 0x7f) || (mode != SAFE_LINE && (c == '\n' || c == '\t')))
		buffer_append_char(to, (char)c);
	else if (mode == SAFE_JSON)
		append_code_point(mode, to, c);
	else if (c == '\n' || c == '\t' || c == '\r')
		buffer_append_string(to, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
	else
		buffer_printf(to, "\\x%02x", c);
}

static size_t sequence_length(unsigned char lead)
{
	if (lead >= 0xc2 && lead <= 0xdf)
		return 2;
	if (lead >= 0xe0 && lead <= 0xef)
		return 3;
	if (lead >= 0xf0 && lead <= 0xf4)
		return 4;
	return 1; /* not the first byte of any sequence */
}

static uint32_t decode(const unsigned char *s, size_t len)
{
	uint32_t c = len == 2 ? s[0] & 0x1f : len == 3 ? s[0] & 0x0f : s[0] & 0x07;
	for (size_t i = 1; i < len; i++)
		c = c << 6 | (s[i] & 0x3f);
	return c;
}

/* Takes the first character of text; 0 when more bytes are needed to know what it is. */
static size_t append_one(enum safe_mode mode, struct buffer *to, struct bytes text, bool final)
{
	const unsigned char *s = (const unsigned char *)text.data;
	if (s[0] == '\r' && mode == SAFE_PROGRAM) {
		if (text.len == 1 && !final)
			return 0;
		if (text.len > 1 && s[1] == '\n')
			buffer_append_char(to, '\r');
		else
			append_ascii(mode, to, '\r');
		return 1;
	}
	if (s[0] < 0x80) {
		append_ascii(mode, to, s[0]);
		return 1;
	}
	size_t len = sequence_length(s[0]);
	size_t have = 1;
	while (have < len && have < text.len && (s[have] & 0xc0) == 0x80)
		have++;
	if (have < len && have == text.len && !final)
		return 0;
	if (len == 1 || have < len || !utf8_valid((struct bytes){ text.data, len })) {
		/* JSON has no way to spell a lone byte. */
		if (mode == SAFE_JSON)
			append_code_point(mode, to, 0xfffd);
		else
			buffer_printf(to, "\\x%02x", s[0]);
		return 1;
	}
	uint32_t c = decode(s, len);
	if (is_invisible(c))
		append_code_point(mode, to, c);
	else
		buffer_append(to, text.data, len);
	return len;
}

void safe_text_append(struct safe_text *safe, struct buffer *to, struct bytes text)
{
	while (safe->pending_len > 0 && text.len > 0) {
		safe->pending[safe->pending_len++] = *text.data;
		text.data++;
		text.len--;
		size_t taken = append_one(safe->mode, to, (struct bytes){ safe->pending, safe->pending_len }, false);
		safe->pending_len -= taken;
		memmove(safe->pending, safe->pending + taken, safe->pending_len);
		/* What is left may be several characters by now, if the first turned out to be a lone byte. */
		while (taken > 0 && safe->pending_len > 0) {
			taken = append_one(safe->mode, to, (struct bytes){ safe->pending, safe->pending_len }, false);
			safe->pending_len -= taken;
			memmove(safe->pending, safe->pending + taken, safe->pending_len);
		}
	}
	while (text.len > 0) {
		size_t taken = append_one(safe->mode, to, text, false);
		if (taken == 0) {
			memcpy(safe->pending, text.data, text.len);
			safe->pending_len = text.len;
			return;
		}
		text.data += taken;
		text.len -= taken;
	}
}

void safe_text_finish(struct safe_text *safe, struct buffer *to)
{
	struct bytes rest = { safe->pending, safe->pending_len };
	while (rest.len > 0) {
		size_t taken = append_one(safe->mode, to, rest, true);
		rest.data += taken;
		rest.len -= taken;
	}
	safe->pending_len = 0;
}

void safe_line_append(struct buffer *to, struct bytes text)
{
	struct safe_text safe = { .mode = SAFE_LINE };
	safe_text_append(&safe, to, text);
	safe_text_finish(&safe, to);
}
