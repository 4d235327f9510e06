/* The text that shows a difference: see compare_diff.h.
 *
 *   first difference at line 3, column 5
 *       1 | the lines before
 *       2 | as they were expected
 *     - 3 | the line expected
 *     + 3 | the line printed */
#include "task/compare_diff.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/text.h"

#define CONTEXT_LINES 2
#define CONTEXT_WIDTH 80 /* bytes of a line shown that is equal */
#define LINE_WIDTH 200 /* … that differs */
#define LEAD 60 /* bytes shown before the column of the difference */

static void append(struct comparison *comparison, const char *text, size_t len)
{
	if (len > COMPARE_DIFF_MAX - comparison->diff_len)
		return;
	memcpy(comparison->diff + comparison->diff_len, text, len);
	comparison->diff_len += len;
	comparison->diff[comparison->diff_len] = '\0';
}

void diff_printf(struct comparison *comparison, const char *format, ...)
{
	char text[160];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length > 0)
		append(comparison, text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

/* Bytes of the UTF-8 character at the start of `text`, 0 where there is none. Short, so that no look at it costs the
 * whole text. */
static size_t character_length(struct bytes text)
{
	unsigned char lead = (unsigned char)text.data[0];
	size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (length > text.len)
		return 0;
	return utf8_valid((struct bytes){ text.data, length }) ? length : 0;
}

void diff_text(struct comparison *comparison, struct bytes text, size_t max)
{
	size_t i = 0;
	while (i < text.len && i < max) {
		struct bytes rest = { text.data + i, text.len - i };
		unsigned char c = (unsigned char)rest.data[0];
		size_t length = character_length(rest);
		if (c == '\r')
			append(comparison, "\\r", 2);
		else if (c == '\n')
			append(comparison, "\\n", 2);
		else if ((c < 0x20 && c != '\t') || c == 0x7f)
			diff_printf(comparison, "\\x%02x", c);
		else if (length)
			append(comparison, rest.data, length);
		else
			append(comparison, "\xef\xbf\xbd", 3);
		i += length ? length : 1;
	}
	if (i < text.len)
		append(comparison, "\xe2\x80\xa6", 3);
}

static size_t line_start(struct bytes text, size_t at)
{
	const char *newline = memrchr(text.data, '\n', at);
	return newline ? (size_t)(newline - text.data) + 1 : 0;
}

struct bytes diff_line_at(struct bytes text, size_t at)
{
	size_t start = line_start(text, at);
	const char *newline = memchr(text.data + start, '\n', text.len - start);
	size_t end = newline ? (size_t)(newline - text.data) : text.len;
	return (struct bytes){ text.data + start, end - start };
}

size_t diff_line_number(struct bytes text, size_t at)
{
	size_t number = 1 + (at > text.len);
	const char *from = text.data;
	const char *end = text.data + (at > text.len ? text.len : at);
	while (from < end && (from = memchr(from, '\n', (size_t)(end - from)))) {
		number++;
		from++;
	}
	return number;
}

static void show_line(struct comparison *comparison, char mark, size_t number, struct bytes text, size_t at)
{
	diff_printf(comparison, "  %c %zu | ", mark, number);
	if (at > text.len || (at == text.len && (at == 0 || text.data[at - 1] == '\n'))) {
		diff_printf(comparison, "(nothing: the text ends here)\n");
		return;
	}
	struct bytes line = diff_line_at(text, at);
	size_t column = at - (size_t)(line.data - text.data);
	bool at_end = column == line.len;
	if (column > LEAD) {
		size_t skip = column - LEAD;
		/* Not into the middle of a character. */
		while (skip > 0 && ((unsigned char)line.data[skip] & 0xc0) == 0x80)
			skip--;
		line.data += skip;
		line.len -= skip;
		append(comparison, "\xe2\x80\xa6", 3);
	}
	diff_text(comparison, line, LINE_WIDTH);
	/* Where the line end itself is what differs, it must be seen. */
	if (at_end)
		diff_printf(comparison, "%s", at == text.len ? "(no line end)" : "\\n");
	append(comparison, "\n", 1);
}

void diff_lines(
	struct comparison *comparison, struct bytes expected, size_t expected_at, struct bytes actual, size_t actual_at)
{
	size_t expected_start = expected_at > expected.len ? expected_at : line_start(expected, expected_at);
	size_t number = diff_line_number(expected, expected_at);
	diff_printf(comparison, "first difference at line %zu, column %zu\n", number, expected_at - expected_start + 1);
	size_t from = expected_start;
	size_t before = number - 1 < CONTEXT_LINES ? number - 1 : CONTEXT_LINES;
	for (size_t i = 0; i < before; i++)
		from = line_start(expected, from - 1);
	for (size_t i = before; i > 0; i--) {
		struct bytes line = diff_line_at(expected, from);
		diff_printf(comparison, "    %zu | ", number - i);
		diff_text(comparison, line, CONTEXT_WIDTH);
		append(comparison, "\n", 1);
		from += line.len + 1;
	}
	show_line(comparison, '-', number, expected, expected_at);
	show_line(comparison, '+', diff_line_number(actual, actual_at), actual, actual_at);
}
