/* The local sandbox: jobs run on this machine, each step in a bubblewrap of its own, bounded by a cgroup where the
 * machine has one (v2, else v1, else rlimits), under a host user id of its slot where the service is root. The executor
 * behind `sandbox` in ASSAY_EXECUTORS. What starts a step is the program assay-launch (src/launch). */
#ifndef ASSAY_EXECUTOR_SANDBOX_SANDBOX_H
#define ASSAY_EXECUTOR_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "assay/executor.h"
#include "base/err.h"
#include "base/log.h"
#include "task/language.h"

#define SANDBOX_UID_BASE 61000 /* systemd leaves 60578 to 61183 to nobody */
#define SANDBOX_SLOTS_MAX 512

struct sandbox_options {
	uv_loop_t *loop; /* borrowed, like all that follows: outlives the executor */
	struct log *log;
	const struct languages *languages;
	const char *name; /* NULL: "sandbox" */
	const char *launcher; /* path of the program assay-launch */
	/* The service's own directory, which no second one uses at the same time: names cgroups, so that what an
	 * earlier incarnation left running is found and killed. Need not be reachable for the slots' user ids. */
	const char *state_dir;
	const char *bwrap; /* NULL: looked for in the usual places */
	int slots; /* 0: twice the cores */
	int64_t progress_us; /* between two reports of a run's progress; 0: none */
	uint32_t uid_base; /* 0: SANDBOX_UID_BASE. Only where the service is root */
	/* Where the machine cannot isolate, run code all the same, with rlimits only and the rights of the service's
	 * user. */
	bool unisolated;
};

/* Never fails; what is wrong with the machine comes to light in start(), as EXECUTOR_UNAVAILABLE. */
struct executor *sandbox_executor_new(const struct sandbox_options *options);

#endif
