/* The system calls that no evaluation needs: a seccomp filter, compiled once, handed to every bubblewrap. */
#ifndef ASSAY_EXECUTOR_SANDBOX_FILTER_H
#define ASSAY_EXECUTOR_SANDBOX_FILTER_H

#include "base/err.h"

/* A sealed memory file that holds the BPF program. The reader's offset is shared: open it anew for each reader. */
int filter_compile(int *ret_fd, struct err *err) MUST_CHECK;

#endif
