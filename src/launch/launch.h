/* What the parts of assay-launch know of each other. It is a program of its own: small, static, without any library,
 * because it runs as root for a moment and as process 1 of every sandbox. */
#ifndef ASSAY_LAUNCH_LAUNCH_H
#define ASSAY_LAUNCH_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launch/plan.h"

/* The plan as it lies in memory, mapped read-only. */
struct plan {
	const struct plan_head *head;
	const char **cgroups; /* NULL-terminated, like those below */
	const char **bwrap;
	const char **argv;
	const char **env;
	const char *archive;
	size_t archive_len;
};

/* Ends the program: reports on LAUNCH_FD_REPORT what failed, for the executor to show. */
void launch_die(const char *what, int error) __attribute__((noreturn));
/* Sends a REPORT_FAILED there. */
void launch_report_failure(int fd, const char *what, int error);

void plan_read(struct plan *ret_plan); /* from LAUNCH_FD_PLAN; dies where it is malformed */

/* Becomes process 1 of the sandbox; never returns. */
void supervise(void) __attribute__((noreturn));

#endif
