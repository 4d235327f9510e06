/* What keeps the code from reaching for process 1 and for files that are not its own, where the kernel can. Everything
 * else that protects the wrapper works without it (run.c). */
#ifndef ASSAY_WRAP_CONFINE_H
#define ASSAY_WRAP_CONFINE_H

#include <stdbool.h>

#include "wrap/job.h"

/* Process 1 and all that come after it get a seccomp filter: nobody may signal process 1, or change its limits or its
 * scheduling, by its number; other architectures' system calls are refused. False where the kernel cannot. */
bool confine_filter(void);

/* A Landlock ruleset for the code: it writes to the job's directories and ordinary devices alone, signals nobody
 * outside, and with PLAN_HIDE reads nothing below the top-level directory that `plan_path` is in. Returns a
 * descriptor, or -1 where the kernel has no Landlock that is fit (ABI 2); *ret_abi is 0 then. */
int confine_ruleset(const struct job *job, const char *plan_path, unsigned *ret_abi);
/* In the child, before it executes the code: nothing but a system call. */
int confine_enter(int ruleset);

#endif
