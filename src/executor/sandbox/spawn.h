/* Starts assay-launch with the descriptors it wants. */
#ifndef ASSAY_EXECUTOR_SANDBOX_SPAWN_H
#define ASSAY_EXECUTOR_SANDBOX_SPAWN_H

#include <sys/types.h>

#include "base/err.h"
#include "launch/plan.h"

/* Indexed by LAUNCH_FD_…; -1: closed there. All borrowed. */
struct spawn_fds {
	int fd[LAUNCH_FD_COUNT];
};

/* The caller waits for *ret_pid. Blocks for the moment until the program is executed (a vfork: the size of this process
 * does not matter), some 0.3 ms. */
int spawn_launcher(const char *launcher, const struct spawn_fds *fds, pid_t *ret_pid, struct err *err) MUST_CHECK;

/* Descriptors that are handed over must not lie where others have to be put: moves fd up, closing it where it was;
 * negative errno goes through. */
int spawn_high_fd(int fd);

#endif
