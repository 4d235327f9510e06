#include "base/bytes.h"

#include "test.h"

TEST(equality)
{
	CHECK(bytes_equal(BYTES_NONE, BYTES_LITERAL("")));
	CHECK(bytes_is(BYTES_LITERAL("abc"), "abc"));
	CHECK(!bytes_is(BYTES_LITERAL("abc"), "ab"));
	CHECK(!bytes_is(BYTES_LITERAL("abc"), "abd"));
	CHECK_INT(bytes_of(NULL).len, 0);
	CHECK(bytes_of(NULL).data == NULL);
}

TEST(equality_in_constant_time)
{
	CHECK(bytes_equal_constant_time(BYTES_LITERAL("secret"), BYTES_LITERAL("secret")));
	CHECK(!bytes_equal_constant_time(BYTES_LITERAL("secret"), BYTES_LITERAL("secreT")));
	CHECK(!bytes_equal_constant_time(BYTES_LITERAL("secret"), BYTES_LITERAL("secre")));
	CHECK(!bytes_equal_constant_time(BYTES_LITERAL("s\0a"), BYTES_LITERAL("s\0b")));
	CHECK(bytes_equal_constant_time(BYTES_NONE, BYTES_NONE));
}

TEST_MAIN()
