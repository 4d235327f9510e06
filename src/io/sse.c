/* The text of server-sent events. */
#include "io/sse.h"

static void append_field(struct buffer *buffer, const char *name, struct bytes value)
{
	buffer_append_string(buffer, name);
	buffer_append_bytes(buffer, value);
	buffer_append_char(buffer, '\n');
}

void sse_append(struct buffer *buffer, struct bytes event, struct bytes id, struct bytes data)
{
	if (event.data)
		append_field(buffer, "event: ", event);
	if (id.data)
		append_field(buffer, "id: ", id);
	/* The empty text is one empty line, and what ends with a line end is followed by one: the client joins the
	 * data lines with LF and so gets back what was given. */
	for (size_t begin = 0;;) {
		size_t end = begin;
		while (end < data.len && data.data[end] != '\n' && data.data[end] != '\r')
			end++;
		append_field(buffer, "data: ", (struct bytes){ data.data + begin, end - begin });
		if (end == data.len)
			break;
		begin = end + (data.data[end] == '\r' && end + 1 < data.len && data.data[end + 1] == '\n' ? 2 : 1);
	}
	buffer_append_char(buffer, '\n');
}
