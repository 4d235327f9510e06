#include "drive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"

#define OUTPUT_MAX (64 << 20)

static void breach(struct driven *driven, const char *what)
{
	if (!driven->broken)
		driven->broken = what;
}

static struct driven *of_job(struct job *job)
{
	struct driven *driven = job->owner;
	if (driven->drive->inside_call)
		breach(driven, "reported from within a call");
	if (driven->ended)
		breach(driven, "reported after its end");
	return driven;
}

static void on_started(void *owner, struct job *job, const struct job_started *started)
{
	struct driven *driven = of_job(job);
	if (driven->started)
		breach(driven, "started twice");
	driven->started = true;
	if (started->at_us == 0)
		breach(driven, "started at no time");
	if (driven->cancel_on_start)
		driven->drive->executor->ops->cancel(driven->drive->executor, job);
}

static void on_output(
	void *owner, struct job *job, enum step_kind kind, size_t run_index, int stream, struct bytes data)
{
	struct driven *driven = of_job(job);
	if (!driven->started)
		breach(driven, "printed before it started");
	if (stream != 1 && stream != 2)
		breach(driven, "printed on no stream");
	else if (driven->step_count < DRIVE_STEPS_MAX)
		buffer_append_bytes(&driven->steps[driven->step_count].streams[stream - 1], data);
	if (data.len == 0)
		breach(driven, "printed nothing");
	if (driven->cancel_on_output)
		driven->drive->executor->ops->cancel(driven->drive->executor, job);
}

static void on_progress(void *owner, struct job *job, struct bytes members)
{
	struct driven *driven = of_job(job);
	if (!driven->started)
		breach(driven, "told of its progress before it started");
	buffer_clear(&driven->progress);
	buffer_append_bytes(&driven->progress, members);
	if (driven->cancel_on_progress)
		driven->drive->executor->ops->cancel(driven->drive->executor, job);
}

static void on_step_ended(void *owner, struct job *job, const struct step_end *end)
{
	struct driven *driven = of_job(job);
	struct executor *executor = driven->drive->executor;
	if (!driven->started)
		breach(driven, "a step ended before the job started");
	if (driven->step_count < DRIVE_STEPS_MAX)
		driven->steps[driven->step_count].end = *end;
	driven->step_count++;
	bool last = end->kind == STEP_RUN ? end->run_index + 1 == job->run_count : end->reason != REASON_NONE;
	if (job->ask_before_next && end->kind == STEP_RUN && !last)
		executor->ops->proceed(executor, job, !driven->stop_after_failure || end->reason == REASON_NONE);
}

static void on_ended(void *owner, struct job *job, const struct job_end *end)
{
	struct driven *driven = of_job(job);
	driven->ended = true;
	driven->end = *end;
	if (job->executor_data)
		breach(driven, "not forgotten at its end");
	driven->drive->open--;
	driven->next = driven->drive->unsettled;
	driven->drive->unsettled = driven;
	uv_stop(&driven->drive->loop);
}

static void on_changed(void *owner, struct executor *executor)
{
	((struct drive *)owner)->changed = true;
}

static void on_found(void *owner, struct executor *executor, const struct uuid *task_id, int attempt)
{
}

static const struct executor_listener listener = {
	.on_started = on_started,
	.on_output = on_output,
	.on_progress = on_progress,
	.on_step_ended = on_step_ended,
	.on_ended = on_ended,
	.on_changed = on_changed,
	.on_found = on_found,
};

static void on_deadline(uv_timer_t *timer)
{
	((struct drive *)timer->data)->late = true;
	uv_stop(timer->loop);
}

void drive_open(struct drive *drive)
{
	*drive = (struct drive){ 0 };
	uv_loop_init(&drive->loop);
	uv_timer_init(&drive->loop, &drive->deadline);
	drive->deadline.data = drive;
}

int drive_start(struct drive *drive, struct err *err)
{
	return drive->executor->ops->start(drive->executor, &listener, drive, err);
}

static void settle(struct drive *drive)
{
	const struct executor_ops *ops = drive->executor->ops;
	for (struct driven *driven = STEAL(drive->unsettled); driven; driven = driven->next)
		if (ops->settled)
			ops->settled(drive->executor, &driven->job.task_id, driven->job.attempt);
}

bool drive_until(struct drive *drive, const bool *flag)
{
	drive->late = false;
	uv_update_time(&drive->loop);
	uv_timer_start(&drive->deadline, on_deadline, DRIVE_DEADLINE_MS, 0);
	while (!*flag && !drive->late) {
		uv_run(&drive->loop, UV_RUN_ONCE);
		settle(drive);
	}
	uv_timer_stop(&drive->deadline);
	return *flag;
}

static void on_stopped(void *owner)
{
	((struct drive *)owner)->stopped = true;
}

void drive_stop(struct drive *drive)
{
	drive->executor->ops->stop(drive->executor, on_stopped, drive);
	if (!drive_until(drive, &drive->stopped)) {
		printf("Bail out! the executor did not stop\n");
		exit(1);
	}
	drive->executor->ops->free(drive->executor);
	uv_close((uv_handle_t *)&drive->deadline, NULL);
	uv_run(&drive->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&drive->loop) != 0) {
		printf("Bail out! handles are left in the loop\n");
		exit(1);
	}
}

void driven_be(struct driven *driven, const struct uuid *task_id)
{
	driven->job.task_id = *task_id;
	driven->job.name = bytes_of(job_name_format(task_id, driven->job.attempt, driven->name));
}

void driven_init(struct driven *driven, const char *language, const char *code)
{
	memset(driven, 0, sizeof(*driven));
	for (size_t i = 0; i < DRIVE_STEPS_MAX; i++)
		for (int k = 0; k < 2; k++)
			driven->steps[i].streams[k] = BUFFER_MAX(OUTPUT_MAX);
	driven->file = (struct job_file){ BYTES_LITERAL(""), bytes_of(code) };
	driven->run = (struct job_run){ .timeout_us = 30 * US_PER_S };
	driven->job = (struct job){
		.run = 1,
		.attempt = 1,
		.tenant = BYTES_LITERAL("test"),
		.type = BYTES_LITERAL("evaluation"),
		.language = bytes_of(language),
		.files = &driven->file,
		.file_count = 1,
		.runs = &driven->run,
		.run_count = 1,
		.owner = driven,
		.limits = {
			.memory_bytes = INT64_C(512) << 20,
			.cpu_millis = 1000,
			.compile_timeout_us = 60 * US_PER_S,
			.total_timeout_us = 3600 * US_PER_S,
			.disk_bytes = 64 << 20,
			.processes = 64,
			.output_bytes = 1 << 20,
		},
	};
	struct uuid task_id;
	random_bytes(&task_id, sizeof(task_id));
	driven_be(driven, &task_id);
}

void driven_fini(struct driven *driven)
{
	for (size_t i = 0; i < DRIVE_STEPS_MAX; i++)
		for (int k = 0; k < 2; k++)
			buffer_fini(&driven->steps[i].streams[k]);
	buffer_fini(&driven->progress);
}

void drive_submit(struct drive *drive, struct driven *driven)
{
	struct job *job = &driven->job;
	driven->drive = drive;
	drive->open++;
	drive->inside_call = true;
	drive->executor->ops->run(drive->executor, &job, 1);
	drive->inside_call = false;
}

void drive_adopt(struct drive *drive, struct driven *driven)
{
	driven->drive = drive;
	drive->open++;
	drive->inside_call = true;
	drive->executor->ops->adopt(drive->executor, &driven->job);
	drive->inside_call = false;
}

bool drive_wait(struct drive *drive, const struct driven *driven)
{
	return drive_until(drive, &driven->ended);
}

bool drive_run(struct drive *drive, struct driven *driven)
{
	drive_submit(drive, driven);
	return drive_wait(drive, driven);
}
