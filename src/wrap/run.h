/* Runs a job from its first step to its last report. */
#ifndef ASSAY_WRAP_RUN_H
#define ASSAY_WRAP_RUN_H

#include "wrap/job.h"

#define RUN_EXIT_FAILED 125 /* the wrapper could not do its work */

struct run_options {
	const struct job *job;
	const struct report_signer *signer;
	int termination; /* descriptor of the termination message, or -1 */
	int ruleset; /* Landlock's for the code, or -1 */
	struct report_started started; /* what confines it */
};

/* All signals are blocked. Returns the status that the program is to exit with: that of the last step that ran, 128 + n for signal n. */
int run_job(const struct run_options *options);
/* Writes a termination message that only says why nothing could be run; it is not signed. */
void run_complain(int termination, const char *message);

#endif
