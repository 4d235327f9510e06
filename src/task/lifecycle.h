/* What a task may become, and what things are called: pure, no I/O. The table of words is CONTRACT.md's. */
#ifndef ASSAY_TASK_LIFECYCLE_H
#define ASSAY_TASK_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/executor.h"
#include "assay/task.h"

const char *task_status_name(enum task_status status); /* "QUEUED" */
bool task_status_parse(struct bytes name, enum task_status *ret_status); /* any case */
const char *task_phase_name(enum task_phase phase);
const char *task_reason_name(enum task_reason reason); /* REASON_NONE: NULL */
enum task_fault task_reason_fault(enum task_reason reason);
const char *task_fault_name(enum task_fault fault); /* FAULT_NONE: NULL */
const char *event_kind_name(enum event_kind kind); /* "queued" */
bool event_kind_parse(struct bytes name, enum event_kind *ret_kind);

bool event_kind_terminal(enum event_kind kind); /* it ends a run */
bool task_status_ended(enum task_status status);
enum task_phase task_phase_of(enum task_status status, enum task_reason reason, int64_t started_at_us);
/* "running" for all that has not ended, else "succeeded" or "failed": the three words the seeds' client knows. */
const char *task_outcome_name(enum task_status status);
enum event_kind task_terminal_event(enum task_status status);

struct retry_policy {
	int64_t base_us; /* 30 s */
	int cap; /* 10: run_after = now + base × min(attempts, cap) */
};

struct retry_decision {
	bool retry; /* false: FAILED with REASON_MAX_ATTEMPTS, cause as given */
	int64_t delay_us;
};

/* After an infrastructure fault. `attempts` as they stand in the row, before this one is charged. The first time that a
 * task's replica died (REASON_WORKER_CRASH or REASON_NODE_LOST with attempts 0) it runs again at once. */
struct retry_decision retry_decide(
	const struct retry_policy *policy, enum task_reason reason, int attempts, int max_attempts);

#endif
