/* Server-sent events (WHATWG HTML, "9.2 Server-sent events"): the text of one event, ready for http_stream_write(). */
#ifndef ASSAY_IO_SSE_H
#define ASSAY_IO_SSE_H

#include "base/buffer.h"
#include "base/bytes.h"

#define SSE_CONTENT_TYPE "text/event-stream; charset=utf-8"

/* Appends `event:`, `id:` and `data:` lines and the blank line. `event` and `id` may be absent and hold no line ends;
 * `data` may hold any: each of its lines (CR, LF or CRLF) becomes a data line. */
void sse_append(struct buffer *buffer, struct bytes event, struct bytes id, struct bytes data);

#endif
