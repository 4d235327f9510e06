/* Reading server-sent events (WHATWG HTML, "9.2.6 Interpreting an event stream") from bytes as they come. */
#ifndef ASSAY_CLI_SSE_PARSER_H
#define ASSAY_CLI_SSE_PARSER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct sse_event { /* borrowed for the call */
	struct bytes kind; /* "message" where the stream did not say */
	struct bytes id; /* the last one the stream gave, of this event or an earlier one; may be empty */
	struct bytes data;
};

struct sse_parser {
	void (*on_event)(void *owner, const struct sse_event *event);
	void *owner;
	int64_t retry_ms; /* what the server asked for; -1: nothing */
	/* The parser's: */
	struct buffer line, kind, data, last_id;
	bool has_data; /* a data field was seen, be it empty */
	bool after_cr; /* a LF now belongs to the line end that is done */
	bool begun; /* the first line is behind us, where a byte order mark may stand */
};

/* max bounds one line and the data of one event, in bytes. */
void sse_parser_init(struct sse_parser *parser, size_t max,
	void (*on_event)(void *owner, const struct sse_event *event), void *owner);
void sse_parser_fini(struct sse_parser *parser);
/* 0, or -EMSGSIZE once a line or an event is larger than max: the stream cannot be read on. */
int sse_parser_feed(struct sse_parser *parser, struct bytes bytes);
/* A new connection begins: what was half read is dropped, the last id stays. */
void sse_parser_restart(struct sse_parser *parser);

#endif
