#include "cli/exit_code.h"

#include "base/alloc.h"
#include "test.h"

TEST(an_evaluation_s_end_becomes_a_code)
{
	static const struct {
		const char *status, *phase, *reason, *fault;
		int exit_code, signal, expected;
	} cases[] = {
		{ "succeeded", "succeeded", NULL, NULL, 0, 0, 0 },
		{ "failed", "failed", "exit_code", "user", 3, 0, 3 },
		{ "failed", "failed", "exit_code", "user", 255, 0, 255 },
		{ "failed", "failed", "signal", "user", -1, 11, 139 },
		{ "failed", "failed", "signal", "user", -1, 9, 137 },
		{ "failed", "timed_out", "timeout", "user", -1, 9, 124 },
		{ "failed", "out_of_memory", "out_of_memory", "user", -1, 9, 137 },
		{ "failed", "failed", "compile_error", "user", 1, 0, 1 },
		{ "failed", "failed", "tests_failed", "user", 0, 0, 1 },
		{ "failed", "failed", "output_limit", "user", -1, 0, 1 },
		{ "failed", "failed", "max_attempts", "platform", -1, 0, 125 },
		{ "failed", "failed", "node_lost", "infrastructure", -1, 0, 125 },
		{ "failed", "cancelled", "cancelled", "platform", -1, 9, 125 },
		{ "failed", "failed", NULL, NULL, -1, 0, 1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct outcome outcome = { bytes_of(cases[i].status), bytes_of(cases[i].phase),
			bytes_of(cases[i].reason), bytes_of(cases[i].fault), cases[i].exit_code, cases[i].signal };
		CHECK_INT(exit_code_of(&outcome), cases[i].expected);
	}
}

TEST(an_http_status_becomes_a_code)
{
	CHECK_INT(exit_code_of_http(400), 65);
	CHECK_INT(exit_code_of_http(401), 77);
	CHECK_INT(exit_code_of_http(403), 77);
	CHECK_INT(exit_code_of_http(404), 66);
	CHECK_INT(exit_code_of_http(409), 65);
	CHECK_INT(exit_code_of_http(422), 65);
	CHECK_INT(exit_code_of_http(429), 75);
	CHECK_INT(exit_code_of_http(500), 70);
	CHECK_INT(exit_code_of_http(503), 75);
	CHECK_INT(exit_code_of_http(302), 70);
}

TEST(the_help_names_every_code)
{
	struct buffer text = { 0 };
	exit_code_help(&text);
	buffer_append_char(&text, '\0');
	static const char *const codes[] = { "0 ", "2 ", "65 ", "66 ", "69 ", "70 ", "74 ", "75 ", "77 ", "124 ",
		"125 ", "128+N", "130 ", "137 " };
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		char line[16];
		snprintf(line, sizeof(line), "\n  %s", codes[i]);
		if (!CHECK(strstr(text.data, line) != NULL))
			printf("# %s\n", codes[i]);
	}
	buffer_fini(&text);
}

TEST_MAIN()
