#include "base/err.h"

#include <errno.h>

#include "base/text.h"
#include "test.h"

TEST(code_and_message)
{
	struct err err = { 0 };
	CHECK_INT(err_set(&err, -EINVAL, "no %s at %d", "sense", 7), -EINVAL);
	CHECK_INT(err.code, -EINVAL);
	CHECK_STR(err.message, "no sense at 7");
	CHECK_INT(err_set(NULL, -ENOENT, "unseen"), -ENOENT);
}

TEST(a_prefix_stands_before)
{
	struct err err;
	err_set(&err, -ENOENT, "no such file");
	CHECK_INT(err_prefix(&err, "reading %s", "x.yaml"), -ENOENT);
	CHECK_STR(err.message, "reading x.yaml: no such file");
}

TEST(the_old_message_may_be_an_argument)
{
	struct err err;
	err_set(&err, -EINVAL, "inner");
	err_set(&err, -EIO, "outer: %s", err.message);
	CHECK_STR(err.message, "outer: inner");
	CHECK_INT(err.code, -EIO);
}

TEST(long_messages_are_cut_between_characters)
{
	struct err err;
	char text[600];
	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "ä", 2);
	text[sizeof(text) - 2] = '\0';
	err_set(&err, -EINVAL, "%s", text);
	CHECK_INT(strlen(err.message), 246);
	CHECK(utf8_valid(bytes_of(err.message)));
	err_prefix(&err, "file");
	CHECK(strlen(err.message) >= 244);
	CHECK(utf8_valid(bytes_of(err.message)));
	CHECK(strncmp(err.message, "file: ä", 8) == 0);
	err_set(&err, -EINVAL, "%0300d", 0);
	CHECK_INT(strlen(err.message), 247);
	err_prefix(&err, "%s", text);
	CHECK(utf8_valid(bytes_of(err.message)));
}

TEST_MAIN()
