#include "io/sse.h"
#include "test.h"

#define B BYTES_LITERAL

TEST(events_have_their_lines)
{
	static const struct {
		struct bytes event, id, data;
		const char *text;
	} cases[] = {
		{ B("queued"), B("7"), B("{}"), "event: queued\nid: 7\ndata: {}\n\n" },
		{ BYTES_NONE, BYTES_NONE, B("x"), "data: x\n\n" },
		{ B("gap"), BYTES_NONE, BYTES_NONE, "event: gap\ndata: \n\n" },
		{ BYTES_NONE, B(""), B(""), "id: \ndata: \n\n" },
		{ BYTES_NONE, BYTES_NONE, B("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n" },
		{ BYTES_NONE, BYTES_NONE, B("a\n"), "data: a\ndata: \n\n" },
		{ BYTES_NONE, BYTES_NONE, B("\r\r\n\n"), "data: \ndata: \ndata: \ndata: \n\n" },
		{ BYTES_NONE, BYTES_NONE, B(" :x"), "data:  :x\n\n" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buffer buffer = { 0 };
		sse_append(&buffer, cases[i].event, cases[i].id, cases[i].data);
		CHECK_BYTES(buffer_bytes(&buffer), cases[i].text);
		buffer_fini(&buffer);
	}
}

TEST(a_full_buffer_fails)
{
	struct buffer buffer = BUFFER_MAX(10);
	sse_append(&buffer, B("event"), BYTES_NONE, B("x"));
	CHECK(buffer.failed);
	buffer_fini(&buffer);
}

TEST_MAIN()
