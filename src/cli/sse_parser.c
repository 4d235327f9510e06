/* The reader of server-sent events. Pure: bytes in, events out by a callback. The parser owns its four buffers; what a
 * callback gets is borrowed from them. */
#include "cli/sse_parser.h"

#include <errno.h>

#include "base/text.h"

void sse_parser_init(struct sse_parser *parser, size_t max,
	void (*on_event)(void *owner, const struct sse_event *event), void *owner)
{
	*parser = (struct sse_parser){
		.on_event = on_event,
		.owner = owner,
		.retry_ms = -1,
		.line = BUFFER_MAX(max),
		.kind = BUFFER_MAX(max),
		.data = BUFFER_MAX(max),
		.last_id = BUFFER_MAX(max),
	};
}

void sse_parser_fini(struct sse_parser *parser)
{
	buffer_fini(&parser->line);
	buffer_fini(&parser->kind);
	buffer_fini(&parser->data);
	buffer_fini(&parser->last_id);
}

static void drop_event(struct sse_parser *parser)
{
	buffer_clear(&parser->kind);
	buffer_clear(&parser->data);
	parser->has_data = false;
}

void sse_parser_restart(struct sse_parser *parser)
{
	drop_event(parser);
	buffer_clear(&parser->line);
	parser->after_cr = false;
	parser->begun = false;
}

static void dispatch(struct sse_parser *parser)
{
	if (parser->has_data) {
		struct sse_event event = {
			.kind = parser->kind.len > 0 ? buffer_bytes(&parser->kind) : BYTES_LITERAL("message"),
			.id = buffer_bytes(&parser->last_id),
			.data = buffer_bytes(&parser->data),
		};
		parser->on_event(parser->owner, &event);
	}
	drop_event(parser);
}

static void field(struct sse_parser *parser, struct bytes name, struct bytes value)
{
	int64_t retry;
	if (bytes_is(name, "event")) {
		buffer_clear(&parser->kind);
		buffer_append_bytes(&parser->kind, value);
	} else if (bytes_is(name, "data")) {
		if (parser->has_data)
			buffer_append_char(&parser->data, '\n');
		buffer_append_bytes(&parser->data, value);
		parser->has_data = true;
	} else if (bytes_is(name, "id")) {
		if (value.len > 0 && memchr(value.data, '\0', value.len))
			return;
		buffer_clear(&parser->last_id);
		buffer_append_bytes(&parser->last_id, value);
	} else if (bytes_is(name, "retry")) {
		if (text_to_int(value, 0, 86400 * 1000, &retry))
			parser->retry_ms = retry;
	}
}

static void end_line(struct sse_parser *parser)
{
	struct bytes line = buffer_bytes(&parser->line);
	if (!parser->begun && line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0) {
		line.data += 3;
		line.len -= 3;
	}
	parser->begun = true;
	const char *colon = line.len > 0 ? memchr(line.data, ':', line.len) : NULL;
	if (line.len == 0) {
		dispatch(parser);
	} else if (!colon) {
		field(parser, line, BYTES_LITERAL(""));
	} else if (colon != line.data) { /* a line that begins with a colon is a comment */
		struct bytes name = { line.data, (size_t)(colon - line.data) };
		struct bytes value = { colon + 1, line.len - name.len - 1 };
		if (value.len > 0 && value.data[0] == ' ') {
			value.data++;
			value.len--;
		}
		field(parser, name, value);
	}
	buffer_clear(&parser->line);
}

int sse_parser_feed(struct sse_parser *parser, struct bytes bytes)
{
	size_t from = 0;
	for (size_t i = 0; i < bytes.len; i++) {
		char c = bytes.data[i];
		if (c != '\r' && c != '\n') {
			parser->after_cr = false;
			continue;
		}
		if (c == '\n' && parser->after_cr) {
			parser->after_cr = false;
			from = i + 1;
			continue;
		}
		buffer_append(&parser->line, bytes.data + from, i - from);
		if (parser->line.failed)
			return -EMSGSIZE;
		end_line(parser);
		if (parser->data.failed)
			return -EMSGSIZE;
		parser->after_cr = c == '\r';
		from = i + 1;
	}
	buffer_append(&parser->line, bytes.data + from, bytes.len - from);
	return parser->line.failed ? -EMSGSIZE : 0;
}
