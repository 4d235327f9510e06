/* Exit codes. Pure. */
#include "cli/exit_code.h"

#include "base/alloc.h"

int exit_code_of(const struct outcome *outcome)
{
	if (bytes_is(outcome->status, "succeeded"))
		return EXIT_OK;
	if (bytes_is(outcome->phase, "out_of_memory") || bytes_is(outcome->reason, "out_of_memory"))
		return EXIT_OUT_OF_MEMORY;
	if (bytes_is(outcome->phase, "timed_out") || bytes_is(outcome->reason, "timeout"))
		return EXIT_TIMED_OUT;
	if (bytes_is(outcome->fault, "infrastructure") || bytes_is(outcome->fault, "platform"))
		return EXIT_PLATFORM;
	if (outcome->signal > 0 && outcome->signal < 128)
		return EXIT_SIGNAL_BASE + outcome->signal;
	if (outcome->exit_code > 0 && outcome->exit_code < 256)
		return outcome->exit_code;
	return EXIT_FAILED;
}

int exit_code_of_http(long status)
{
	switch (status) {
	case 401:
	case 403:
		return EXIT_FORBIDDEN;
	case 404:
		return EXIT_NOT_FOUND;
	case 429:
	case 503:
		return EXIT_TRY_LATER;
	default:
		return status >= 400 && status < 500 ? EXIT_REFUSED : EXIT_BAD_ANSWER;
	}
}

void exit_code_help(struct buffer *to)
{
	static const struct {
		const char *code, *meaning;
	} lines[] = {
		{ "0", "done; with --wait or --follow: the evaluation succeeded" },
		{ "1-123", "with --wait or --follow: the exit code of the evaluation, whatever it is" },
		{ "1", "it failed without an exit code of its own: compile error, failed tests, a limit on output, "
		       "processes or disk" },
		{ "124", "it was stopped at its timeout" },
		{ "125", "it ended by no fault of its own: the machine it ran on, the service, or it was cancelled" },
		{ "128+N", "it was killed by signal N" },
		{ "137", "it ran out of memory (also 128+9: killed by SIGKILL)" },
		{ "", "" },
		{ "2", "the command line is wrong" },
		{ "65", "the service refuses the request as wrong (HTTP 400, 409, 413, 415, 422)" },
		{ "66", "a file cannot be read, or there is no such task (HTTP 404)" },
		{ "69", "no service answers, or it was lost for five minutes" },
		{ "70", "the service answers something that is not understood (HTTP 5xx among them)" },
		{ "74", "what was received could not be written" },
		{ "75", "the service cannot take it now, try again later (HTTP 429, 503)" },
		{ "77", "the service wants a token, or one with more rights (HTTP 401, 403)" },
		{ "130", "interrupted by Ctrl-C or SIGTERM; the evaluation runs on" },
	};
	buffer_append_string(to, "Exit codes\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		buffer_printf(to, *lines[i].code ? "  %-7s%s\n" : "%s%s\n", lines[i].code, lines[i].meaning);
	buffer_append_string(to,
		"\nAn evaluation that itself exits with one of the lower table's codes looks the same from outside; "
		"--json tells them\napart. Several evaluations with --wait end with 0 when all succeeded, 125 when one "
		"ended by "
		"no fault of its own, and\n1 otherwise; items that the service did not take count as failed.\n");
}
