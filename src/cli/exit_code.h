/* What `assay` ends with: the codes, their explanation for the help, and how an evaluation's end becomes one. */
#ifndef ASSAY_CLI_EXIT_CODE_H
#define ASSAY_CLI_EXIT_CODE_H

#include "base/buffer.h"
#include "base/bytes.h"

/* Where sysexits.h has a word for it, its number is taken. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_REFUSED = 65, /* EX_DATAERR */
	EXIT_NOT_FOUND = 66, /* EX_NOINPUT */
	EXIT_UNREACHABLE = 69, /* EX_UNAVAILABLE */
	EXIT_BAD_ANSWER = 70, /* EX_SOFTWARE */
	EXIT_OUTPUT = 74, /* EX_IOERR */
	EXIT_TRY_LATER = 75, /* EX_TEMPFAIL */
	EXIT_FORBIDDEN = 77, /* EX_NOPERM */
	EXIT_TIMED_OUT = 124, /* as timeout(1) */
	EXIT_PLATFORM = 125,
	EXIT_SIGNAL_BASE = 128,
	EXIT_INTERRUPTED = 130,
	EXIT_OUT_OF_MEMORY = 137, /* as a shell shows a kill by the kernel */
};

/* How an evaluation ended, in the words of GET /status. */
struct outcome {
	struct bytes status; /* "succeeded", "failed" */
	struct bytes phase;
	struct bytes reason; /* absent when it succeeded */
	struct bytes fault; /* "user", "infrastructure", "platform", or absent */
	int exit_code; /* -1: it did not exit */
	int signal; /* 0: it was not killed by one */
};

int exit_code_of(const struct outcome *outcome);
/* Of an HTTP answer that was not the one hoped for. */
int exit_code_of_http(long status);
/* The text of `assay help exit-codes`. */
void exit_code_help(struct buffer *to);

#endif
