#include "cli/sse_parser.h"

#include <errno.h>

#include "base/alloc.h"
#include "test.h"

static void note(void *owner, const struct sse_event *event)
{
	struct buffer *seen = owner;
	buffer_append_char(seen, '[');
	buffer_append_bytes(seen, event->kind);
	buffer_append_char(seen, '|');
	buffer_append_bytes(seen, event->id);
	buffer_append_char(seen, '|');
	buffer_append_bytes(seen, event->data);
	buffer_append_char(seen, ']');
}

/* Cut into pieces of each size from 1 to the whole: all must give the same events. */
static void check(struct bytes stream, const char *expected)
{
	for (size_t size = 1; size <= stream.len; size++) {
		struct buffer seen = { 0 };
		struct sse_parser parser;
		sse_parser_init(&parser, 1000, note, &seen);
		for (size_t at = 0; at < stream.len; at += size)
			CHECK_INT(sse_parser_feed(&parser, (struct bytes){ stream.data + at,
								   stream.len - at < size ? stream.len - at : size }),
				0);
		buffer_append_string(&seen, "");
		if (!CHECK(bytes_equal(buffer_bytes(&seen), bytes_of(expected)))) {
			test_show("events", buffer_bytes(&seen));
			printf("# in pieces of %zu\n", size);
			size = stream.len;
		}
		buffer_fini(&seen);
		sse_parser_fini(&parser);
	}
}

TEST(events)
{
	check(BYTES_LITERAL("event: queued\nid: 1\ndata: {}\n\nevent: running\nid: 2\ndata: {\"a\":1}\n\n"),
		"[queued|1|{}][running|2|{\"a\":1}]");
}

TEST(all_line_ends)
{
	check(BYTES_LITERAL("event: a\r\ndata: 1\r\n\r\nevent: b\rdata: 2\r\revent: c\ndata: 3\n\n"),
		"[a||1][b||2][c||3]");
}

TEST(several_data_lines_are_joined)
{
	check(BYTES_LITERAL("data: a\ndata:\ndata: b\n\ndata\n\ndata:  two\n\n"),
		"[message||a\n\nb][message||][message|| two]");
}

TEST(comments_and_unknown_fields_do_nothing)
{
	check(BYTES_LITERAL(": hello\n\n:\nfoo: bar\ndata: x\n\n"), "[message||x]");
}

TEST(the_id_stays_until_another_comes)
{
	check(BYTES_LITERAL("id: 7\n\ndata: a\n\nid: 8\ndata: b\n\nid\ndata: c\n\n"),
		"[message|7|a][message|8|b][message||c]");
	check(BYTES_LITERAL("id: 7\nid: 8\0\ndata: a\n\n"), "[message|7|a]");
}

TEST(an_event_without_data_is_none)
{
	check(BYTES_LITERAL("event: a\n\ndata: b\n\n"), "[message||b]");
}

TEST(what_is_not_finished_is_not_told)
{
	check(BYTES_LITERAL("data: a\n\ndata: b\n"), "[message||a]");
}

TEST(a_byte_order_mark_is_skipped_at_the_beginning_only)
{
	check(BYTES_LITERAL("\xef\xbb\xbf"
			    "data: a\n\n\xef\xbb\xbf"
			    "data: b\n\n"),
		"[message||a]");
}

TEST(retry)
{
	struct buffer seen = { 0 };
	struct sse_parser parser;
	sse_parser_init(&parser, 1000, note, &seen);
	CHECK_INT(parser.retry_ms, -1);
	CHECK_INT(sse_parser_feed(&parser, BYTES_LITERAL("retry: 2500\nretry: soon\n")), 0);
	CHECK_INT(parser.retry_ms, 2500);
	sse_parser_fini(&parser);
	buffer_fini(&seen);
}

TEST(a_restart_drops_the_half_event_and_keeps_the_id)
{
	struct buffer seen = { 0 };
	struct sse_parser parser;
	sse_parser_init(&parser, 1000, note, &seen);
	CHECK_INT(sse_parser_feed(&parser, BYTES_LITERAL("id: 3\ndata: a\n\nevent: x\ndata: ha")), 0);
	sse_parser_restart(&parser);
	CHECK_BYTES(buffer_bytes(&parser.last_id), "3");
	CHECK_INT(sse_parser_feed(&parser, BYTES_LITERAL("data: b\n\n")), 0);
	CHECK_BYTES(buffer_bytes(&seen), "[message|3|a][message|3|b]");
	sse_parser_fini(&parser);
	buffer_fini(&seen);
}

TEST(what_is_too_large_ends_it)
{
	struct buffer seen = { 0 };
	struct sse_parser parser;
	char line[90];
	memset(line, 'x', sizeof(line));
	memcpy(line, "data: ", 6);
	line[sizeof(line) - 1] = '\n';
	sse_parser_init(&parser, 200, note, &seen);
	CHECK_INT(sse_parser_feed(&parser, (struct bytes){ line, sizeof(line) }), 0);
	CHECK_INT(sse_parser_feed(&parser, (struct bytes){ line, sizeof(line) }), 0);
	CHECK_INT(sse_parser_feed(&parser, (struct bytes){ line, sizeof(line) }), -EMSGSIZE);
	sse_parser_fini(&parser);
	sse_parser_init(&parser, 50, note, &seen);
	CHECK_INT(sse_parser_feed(&parser, (struct bytes){ line, sizeof(line) - 1 }), -EMSGSIZE);
	sse_parser_fini(&parser);
	buffer_fini(&seen);
}

TEST_MAIN()
