/* An executor that does what the test says: jobs wait until they are told how to go on. A fake, for the coordinator's
 * tests. */
#ifndef ASSAY_TESTS_CONTRACT_SCRIPTED_EXECUTOR_H
#define ASSAY_TESTS_CONTRACT_SCRIPTED_EXECUTOR_H

#include <uv.h>

#include "assay/executor.h"

#define SCRIPTED_JOBS_MAX 512

struct scripted_executor {
	struct executor executor;
	uv_loop_t *loop;
	struct executor_status status;
	const struct executor_listener *listener;
	void *owner;
	struct job *jobs[SCRIPTED_JOBS_MAX]; /* given and not ended, in order */
	size_t job_count;
	size_t runs, cancels, adoptions, proceeds;
	bool last_proceed;
	size_t discards;
	struct uuid last_discarded;
	int last_discarded_attempt;
	uv_timer_t stopper;
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

void scripted_init(struct scripted_executor *scripted, uv_loop_t *loop, int slots);
/* All of these speak of the oldest job, from the test's own code: outside of any call into the executor. */
void scripted_started(struct scripted_executor *scripted);
void scripted_output(struct scripted_executor *scripted, size_t run, int stream, const char *text);
void scripted_step(
	struct scripted_executor *scripted, enum step_kind kind, size_t run, enum task_reason reason, int exit_code);
void scripted_end(struct scripted_executor *scripted, enum task_reason reason, bool never_started);

#endif
