#include "base/alloc.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

TEST(memory_comes_zeroed)
{
	unsigned char *memory = alloc(1000);
	unsigned any = 0;
	for (int i = 0; i < 1000; i++)
		any |= memory[i];
	CHECK_INT(any, 0);
	free(memory);
}

TEST(nothing_is_a_pointer_too)
{
	void *none = alloc(0), *empty = alloc_array(0, 8);
	CHECK(none != NULL);
	CHECK(empty != NULL);
	empty = realloc_array(empty, 0, 8);
	CHECK(empty != NULL);
	free(none);
	free(empty);
}

TEST(realloc_keeps_what_was_there)
{
	int *numbers = alloc_array(2, sizeof(*numbers));
	numbers[0] = 1;
	numbers[1] = 2;
	numbers = realloc_array(numbers, 1000, sizeof(*numbers));
	numbers[999] = 3;
	CHECK_INT(numbers[0], 1);
	CHECK_INT(numbers[1], 2);
	free(numbers);
}

TEST(an_overflow_ends_the_process)
{
	volatile size_t many = SIZE_MAX / 2; /* volatile: the compiler would see through it and warn */
	pid_t child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		void *memory = alloc_array(many, 4);
		_exit(memory == NULL);
	}
	int status;
	REQUIRE(waitpid(child, &status, 0) == child);
	CHECK(status != 0);
}

TEST(copies_are_terminated)
{
	char *copy = string_copy("text");
	CHECK_STR(copy, "text");
	free(copy);
	copy = bytes_copy_string((struct bytes){ "text", 2 });
	CHECK_STR(copy, "te");
	free(copy);
	copy = bytes_copy_string((struct bytes){ "", 0 });
	CHECK_STR(copy, "");
	free(copy);
	CHECK_STR(string_copy(NULL), NULL);
	CHECK_STR(bytes_copy_string(BYTES_NONE), NULL);
}

TEST(steal_hands_ownership_on)
{
	char *from = string_copy("x"), *first = from;
	char *to = STEAL(from);
	CHECK(from == NULL);
	CHECK(to == first);
	free(to);
}

TEST(container_of_finds_the_owner)
{
	struct owner {
		int before;
		int member;
	} owner;
	CHECK(CONTAINER_OF(&owner.member, struct owner, member) == &owner);
}

TEST_MAIN()
