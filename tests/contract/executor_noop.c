/* noop before the contract suite of executors. */
#include "executor/noop.h"
#include "executor_suite.h"

const struct executor_fixture executor_fixture = {
	.name = "noop",
	.make = noop_executor_new,
	.language = "bash",
	.quick = "true",
};
