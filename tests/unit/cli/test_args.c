#include "cli/args.h"

#include <errno.h>

#include "base/alloc.h"
#include "test.h"

enum { VERBOSE = 1, NAME, ARG, URL };
static const struct option_spec own[] = {
	{ VERBOSE, 'v', "verbose", NULL, "" },
	{ NAME, 'n', "name", "NAME", "" },
	{ ARG, 0, "arg", "TEXT", "" },
	{ 0 },
};
static const struct option_spec common[] = { { URL, 0, "url", "URL", "" }, { 0 } };
static const struct option_spec *const tables[] = { common, own, NULL };

/* Parses the arguments given, which end with NULL. */
static int parse(bool stop, struct parsed_args *args, struct err *err, const char *const *argv)
{
	int argc = 0;
	while (argv[argc])
		argc++;
	return args_parse(tables, argc, (char *const *)argv, stop, args, err);
}
#define PARSE(stop, ...) parse((stop), &args, &err, (const char *const[]){ __VA_ARGS__, NULL })

TEST(options_and_operands_mix)
{
	struct parsed_args args;
	struct err err;
	CHECK_INT(PARSE(false, "a", "--name", "x", "b", "-v", "--arg=y=z", "--url=", "-n5"), 0);
	CHECK_INT(args.operand_count, 2);
	CHECK_STR(args.operands[0], "a");
	CHECK_STR(args.operands[1], "b");
	REQUIRE(args.option_count == 5);
	CHECK_INT(args.options[0].id, NAME);
	CHECK_STR(args.options[0].value, "x");
	CHECK_INT(args.options[1].id, VERBOSE);
	CHECK_STR(args.options[1].value, NULL);
	CHECK_STR(args.options[2].value, "y=z");
	CHECK_INT(args.options[3].id, URL);
	CHECK_STR(args.options[3].value, "");
	CHECK_STR(args.options[4].value, "5");
	args_fini(&args);
}

TEST(a_value_may_begin_with_a_dash)
{
	struct parsed_args args;
	struct err err;
	CHECK_INT(PARSE(false, "--arg", "--name", "--arg", "-", "-n", "--"), 0);
	REQUIRE(args.option_count == 3);
	CHECK_STR(args.options[0].value, "--name");
	CHECK_STR(args.options[1].value, "-");
	CHECK_STR(args.options[2].value, "--");
	args_fini(&args);
}

TEST(a_dash_is_an_operand_and_two_end_the_options)
{
	struct parsed_args args;
	struct err err;
	CHECK_INT(PARSE(false, "-", "--", "-v", "--name", "--"), 0);
	CHECK_INT(args.option_count, 0);
	REQUIRE(args.operand_count == 4);
	CHECK_STR(args.operands[0], "-");
	CHECK_STR(args.operands[1], "-v");
	CHECK_STR(args.operands[3], "--");
	args_fini(&args);
}

TEST(the_first_operand_can_stop_it)
{
	struct parsed_args args;
	struct err err;
	CHECK_INT(PARSE(true, "--url", "u", "submit", "--unknown"), 0);
	CHECK_INT(args.consumed, 2);
	CHECK_INT(args.operand_count, 0);
	args_fini(&args);
}

TEST(what_is_wrong_is_named)
{
	static const struct {
		const char *first, *second, *message;
	} cases[] = {
		{ "--nam", NULL, "there is no option --nam here" },
		{ "--names=1", NULL, "there is no option --names here" },
		{ "--name", NULL, "--name needs a value: --name NAME" },
		{ "-n", NULL, "-n needs a value: -n NAME" },
		{ "--verbose=yes", NULL, "--verbose takes no value" },
		{ "-vn", "x", "-v takes no value (in -vn)" },
		{ "-x", NULL, "there is no option -x here" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct parsed_args args;
		struct err err;
		CHECK_INT(PARSE(false, cases[i].first, cases[i].second), -EINVAL);
		CHECK_STR(err.message, cases[i].message);
		args_fini(&args);
	}
}

TEST(no_arguments_at_all)
{
	struct parsed_args args;
	struct err err;
	CHECK_INT(args_parse(tables, 0, NULL, false, &args, &err), 0);
	CHECK_INT(args.operand_count + args.option_count, 0);
	args_fini(&args);
}

TEST(durations)
{
	static const struct {
		const char *text;
		double seconds; /* 0: refused */
	} cases[] = {
		{ "90", 90 },
		{ "90s", 90 },
		{ "1.5m", 90 },
		{ "2h", 7200 },
		{ "1d", 86400 },
		{ "0.25", 0.25 },
		{ "", 0 },
		{ "0", 0 },
		{ "-1", 0 },
		{ " 1", 0 },
		{ "1 s", 0 },
		{ "5ms", 0 },
		{ "inf", 0 },
		{ "nan", 0 },
		{ "0x10", 0 },
		{ "1e400", 0 },
		{ "m", 0 },
		{ "+5", 0 },
		{ "9999999d", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		double seconds = 0;
		CHECK_INT(duration_parse(cases[i].text, &seconds), cases[i].seconds > 0);
		CHECK(seconds == cases[i].seconds);
	}
}

TEST_MAIN()
