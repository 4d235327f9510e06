/* An executor whose jobs end at once, with exit code 0: it runs the smoke test (a task of type `test` prints `pong`),
 * and stands in for real executors where the queue itself is measured. */
#ifndef ASSAY_EXECUTOR_NOOP_H
#define ASSAY_EXECUTOR_NOOP_H

#include <uv.h>

#include "assay/executor.h"

/* The loop must outlive it. `slots` jobs at a time. */
struct executor *noop_executor_new(uv_loop_t *loop, int slots);

#endif
