/* What every executor must do, whatever is behind it. An implementation's test program provides executor_fixture and is
 * linked with executor_suite.c, which has main(). Arguments of the program after the names of tests are none: what a
 * fixture needs to know comes by environment variables set in meson.build. */
#ifndef ASSAY_TESTS_CONTRACT_EXECUTOR_SUITE_H
#define ASSAY_TESTS_CONTRACT_EXECUTOR_SUITE_H

#include <uv.h>

#include "assay/executor.h"

struct executor_fixture {
	const char *name;
	/* Not started yet. `slots` jobs at a time. */
	struct executor *(*make)(uv_loop_t *loop, int slots);
	const char *language; /* of the programs below */
	const char *quick; /* succeeds at once */
	const char *endless; /* never ends by itself; NULL: this executor runs nothing that lasts */
	const char *failing; /* exits with 7; NULL: nothing fails here */
	bool comes_up; /* it is unavailable until it has heard of something, and is waited for; else that it is ends the tests */
};

extern const struct executor_fixture executor_fixture;

#endif
