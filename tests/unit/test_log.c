#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <yyjson.h>

#include "base/err.h"
#include "test.h"

struct capture {
	int read_end;
	struct log log;
	char text[80 * 1024];
};

static void capture_init(struct capture *capture, bool json)
{
	int ends[2];
	REQUIRE(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	capture->read_end = ends[0];
	capture->log = (struct log){ .fd = ends[1], .level = LOG_INFO, .json = json };
}

/* What was written since, terminated. */
static const char *captured(struct capture *capture)
{
	ssize_t len = read(capture->read_end, capture->text, sizeof(capture->text) - 1);
	capture->text[len < 0 ? 0 : len] = '\0';
	return capture->text;
}

static void capture_fini(struct capture *capture)
{
	close(capture->read_end);
	close(capture->log.fd);
}

TEST(text_form)
{
	struct capture capture;
	struct uuid id = { { 1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16 } };
	struct err err;
	err_set(&err, -ENOENT, "no such \"file\"");
	capture_init(&capture, false);
	log_event(&capture.log, LOG_INFO, "task settled", L_TASK(&id), L_INT("attempt", -2), L_STR("node", "n1"),
		L_STR("empty", ""), L_STR("absent", NULL), L_SECONDS("took", 1500000), L_SECONDS("small", -1),
		L_BYTES("bytes", BYTES_LITERAL("a=b\n\xff")), L_ERR(&err));
	const char *text = captured(&capture);
	CHECK_INT(text[23], 'Z');
	CHECK_STR(text + 24, " info \"task settled\" task=01020304-0506-7008-800a-0b0c0d0e0f10 attempt=-2 node=n1 "
			     "empty=\"\" took=1.5 "
			     "small=-0.000001 bytes=\"a=b\\n\xef\xbf\xbd\" error=\"no such \\\"file\\\"\"\n");
	capture_fini(&capture);
}

TEST(json_form)
{
	struct capture capture;
	capture_init(&capture, true);
	log_event(&capture.log, LOG_ERROR, "a \"message\"", L_INT("n", 3), L_SECONDS("took", 2000000),
		L_STR("s", "x y"), L_STR("absent", NULL));
	const char *text = captured(&capture);
	yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
	REQUIRE(doc != NULL);
	yyjson_val *root = yyjson_doc_get_root(doc);
	CHECK_STR(yyjson_get_str(yyjson_obj_get(root, "level")), "error");
	CHECK_STR(yyjson_get_str(yyjson_obj_get(root, "message")), "a \"message\"");
	CHECK_STR(yyjson_get_str(yyjson_obj_get(root, "s")), "x y");
	CHECK_INT(yyjson_get_sint(yyjson_obj_get(root, "n")), 3);
	CHECK_INT(yyjson_get_sint(yyjson_obj_get(root, "took")), 2);
	CHECK_INT(yyjson_obj_size(root), 6);
	CHECK_INT(text[strlen(text) - 1], '\n');
	yyjson_doc_free(doc);
	capture_fini(&capture);
}

TEST(levels)
{
	struct capture capture;
	capture_init(&capture, false);
	log_event(&capture.log, LOG_DEBUG, "unseen");
	CHECK_STR(captured(&capture), "");
	log_event(&capture.log, LOG_WARNING, "seen");
	CHECK_STR(captured(&capture) + 24, " warning \"seen\"\n");
	capture.log.level = LOG_DEBUG;
	log_event(&capture.log, LOG_DEBUG, "seen");
	CHECK_STR(captured(&capture) + 24, " debug \"seen\"\n");
	CHECK_INT(capture.log.dropped, 0);
	capture_fini(&capture);
}

TEST(what_cannot_be_written_is_counted)
{
	struct log log = { .fd = -1, .level = LOG_INFO };
	log_event(&log, LOG_INFO, "nowhere");
	CHECK_INT(log.dropped, 1);
	struct capture capture;
	capture_init(&capture, false);
	for (int i = 0; i < 1000000 && capture.log.dropped == 0; i++)
		log_event(&capture.log, LOG_INFO, "fills the pipe");
	CHECK_INT(capture.log.dropped, 1);
	capture_fini(&capture);
}

TEST(long_values_are_cut_between_characters)
{
	struct capture capture;
	char value[20000];
	for (size_t i = 0; i + 3 < sizeof(value); i += 3)
		memcpy(value + i, "漢", 3);
	value[sizeof(value) - 2] = '\0';
	capture_init(&capture, false);
	log_event(&capture.log, LOG_INFO, "x", L_STR("v", value), L_INT("after", 1));
	const char *text = captured(&capture);
	CHECK_INT(strlen(text), 24 + strlen(" info \"x\" v= after=1\n") + 4095);
	CHECK(strstr(text, "\xef\xbf\xbd") == NULL);
	CHECK_INT(capture.log.dropped, 0);
	capture_fini(&capture);
}

TEST_MAIN()
