/* Drives an executor through its door without a coordinator: jobs in, everything that is reported recorded, the order
 * of the contract checked on the way. */
#ifndef ASSAY_TESTS_CONTRACT_DRIVE_H
#define ASSAY_TESTS_CONTRACT_DRIVE_H

#include <stdbool.h>
#include <uv.h>

#include "assay/executor.h"
#include "base/buffer.h"
#include "task/job_name.h"

#define DRIVE_STEPS_MAX 16
#define DRIVE_DEADLINE_MS 180000

struct drive_step {
	struct step_end end;
	struct buffer streams[2]; /* what was printed during this step */
};

struct drive;

/* One job and what became of it. `job` is filled by the test before drive_run(). */
struct driven {
	struct job job;
	struct drive *drive;
	struct driven *next; /* in drive->unsettled */
	struct drive_step steps[DRIVE_STEPS_MAX];
	size_t step_count; /* ended ones */
	bool started, ended;
	struct job_end end;
	const char *broken; /* a breach of the contract, in words; NULL: none */
	bool cancel_on_start, cancel_on_output, cancel_on_progress;
	struct buffer progress; /* the members told last, a JSON object without its braces */
	bool stop_after_failure; /* with ask_before_next: go on only after success */
	struct job_file file; /* room for the usual: one file, one run, one language */
	struct job_run run;
	char name[JOB_NAME_SIZE];
};

struct drive {
	uv_loop_t loop;
	struct executor *executor;
	uv_timer_t deadline;
	bool late, stopped, inside_call;
	bool changed; /* health or slots, since the test took this back */
	int open; /* jobs that have not ended */
	struct driven *unsettled; /* those that have, and of which the executor is still to be told that this is kept */
};

void drive_open(struct drive *drive); /* the loop; the test then sets `executor` */
int drive_start(struct drive *drive, struct err *err);
void drive_stop(struct drive *drive); /* stops and frees the executor, closes the loop */

/* A job with usual limits, one file of code and one run, of a task of its own. */
void driven_init(struct driven *driven, const char *language, const char *code);
/* Of that task. */
void driven_be(struct driven *driven, const struct uuid *task_id);
void driven_fini(struct driven *driven);
void drive_submit(struct drive *drive, struct driven *driven);
/* As an earlier incarnation left it: to be taken up. */
void drive_adopt(struct drive *drive, struct driven *driven);
/* Until it has ended, or the deadline. */
bool drive_wait(struct drive *drive, const struct driven *driven);
bool drive_run(struct drive *drive, struct driven *driven);
/* Turns the loop until `*flag`, or the deadline. */
bool drive_until(struct drive *drive, const bool *flag);

#endif
