/* How far a step is that runs, as all executors tell it: the members of an event of kind progress. */
#ifndef ASSAY_EXECUTOR_PROGRESS_H
#define ASSAY_EXECUTOR_PROGRESS_H

#include "assay/executor.h"

struct progress {
	enum step_kind kind;
	size_t run_index; /* STEP_RUN */
	int64_t wall_us; /* since the step began */
	int64_t cpu_us; /* -1: not known */
	int64_t memory_bytes; /* in use; -1: not known */
};

void progress_tell(
	const struct executor_listener *listener, void *owner, struct job *job, const struct progress *progress);

#endif
