/* The sandbox before the contract suite of executors. ASSAY_LAUNCH in the environment names the launcher. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "executor/sandbox/sandbox.h"
#include "executor_suite.h"

static struct executor *make(uv_loop_t *loop, int slots)
{
	static struct log log = { .fd = 2, .level = LOG_ERROR };
	static struct languages *languages;
	static char state[] = "/tmp/assay-suite-XXXXXX";
	struct err err = { 0 };
	if (!languages &&
		(languages_parse(languages_builtin(), "languages", &languages, &err) < 0 || !mkdtemp(state))) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
	struct sandbox_options options = { .loop = loop,
		.log = &log,
		.languages = languages,
		.launcher = getenv("ASSAY_LAUNCH"),
		.state_dir = state,
		.slots = slots,
		.progress_us = 1000 };
	return sandbox_executor_new(&options);
}

const struct executor_fixture executor_fixture = {
	.name = "sandbox",
	.make = make,
	.language = "bash",
	.quick = "echo quick",
	.endless = "echo endless; while :; do :; done",
	.failing = "exit 7",
};
