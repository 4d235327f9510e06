/* The directories that the code works in: BOX/work, BOX/home, BOX/tmp, and others that it may write to. Each step
 * begins with what it is to find there and nothing else. */
#ifndef ASSAY_WRAP_BOX_H
#define ASSAY_WRAP_BOX_H

#include "wrap/job.h"

struct box {
	const struct job *job; /* borrowed */
	int fd; /* of BOX */
	int work; /* of BOX/work, new for each step; -1 before the first */
	int archive; /* what the compile left, a memory file; -1: none */
	bool also_is_ours[8]; /* of job->also: it was empty when we came. What was there before is never removed */
};

/* A negative errno where BOX cannot be opened; -ENOTEMPTY where something is in it, which is not ours to remove. */
int box_init(struct box *box, const struct job *job);
/* Makes everything ready for a step. Everything that ran before must be dead. -ENOSPC: its files do not fit. */
int box_prepare(struct box *box, const struct job_step *step);
/* After the compile: keeps what it left, where more than one run will want it. -E2BIG: it is too much. */
int box_keep(struct box *box);
/* Nothing more fits in: only where it is a tmpfs, which is the job's alone. */
bool box_is_full(const struct box *box);
/* What the step reads: a descriptor of a file of its own, or a negative errno. */
int box_stdin(const struct box *box, const struct job_step *step);

#endif
