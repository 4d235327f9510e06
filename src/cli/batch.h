/* Sending several evaluations as one batch, and staying with them. */
#ifndef ASSAY_CLI_BATCH_H
#define ASSAY_CLI_BATCH_H

#include "cli/submit.h"

/* bodies[i] is that of names[i]. Prints what there is to print and returns the exit code. */
int submit_batch(struct cli *cli, const struct submit_mode *mode, const char *const *names, const struct buffer *bodies,
	size_t count);

#endif
