/* The contract of include/assay/executor.h: the order of reports, one end for each job, nothing from within a call,
 * steps, asking, cancelling and stopping at any moment. drive.c checks the order of all that is reported on the way. */
#include "executor_suite.h"

#include <unistd.h>

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "drive.h"

#define SLOTS 4

static void open_drive(struct drive *drive)
{
	struct err err = { 0 };
	drive_open(drive);
	drive->executor = executor_fixture.make(&drive->loop, SLOTS);
	if (drive_start(drive, &err) < 0) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
	const struct executor_status *status = drive->executor->ops->status(drive->executor);
	while (status->health == EXECUTOR_UNAVAILABLE && executor_fixture.comes_up) {
		drive->changed = false;
		REQUIRE(drive_until(drive, &drive->changed));
		status = drive->executor->ops->status(drive->executor);
	}
	if (status->health == EXECUTOR_UNAVAILABLE) {
		printf("1..0 # SKIP %.*s\n", (int)status->detail.len, status->detail.data);
		exit(0);
	}
}

static struct driven *new_driven(const char *code)
{
	struct driven *driven = alloc(sizeof(*driven));
	driven_init(driven, executor_fixture.language, code);
	driven->job.limits.cpu_millis = 200; /* all of them at a time, and those that are about to go */
	return driven;
}

static void free_driven(struct driven *driven)
{
	driven_fini(driven);
	free(driven);
}

static void check_contract(const struct driven *driven)
{
	CHECK_STR(driven->broken ? driven->broken : "kept", "kept");
}

TEST(a_job_starts_and_ends_once)
{
	struct drive drive;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.quick);
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK(driven->started);
	CHECK_INT(driven->end.reason, REASON_NONE);
	CHECK_INT((int)driven->step_count, 1);
	CHECK_INT(driven->steps[0].end.kind, STEP_RUN);
	CHECK_INT(driven->steps[0].end.reason, REASON_NONE);
	CHECK_INT(driven->steps[0].end.exit_code, 0);
	CHECK(driven->end.at_us > 0);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(status_counts_slots)
{
	struct drive drive;
	open_drive(&drive);
	const struct executor_status *status = drive.executor->ops->status(drive.executor);
	CHECK(status->name.len > 0);
	CHECK_INT(status->slots, SLOTS);
	CHECK_INT(status->busy, 0);
	struct driven *driven = new_driven(executor_fixture.quick);
	drive_submit(&drive, driven);
	CHECK_INT(drive.executor->ops->status(drive.executor)->busy, 1);
	CHECK(drive_wait(&drive, driven));
	CHECK_INT(drive.executor->ops->status(drive.executor)->busy, 0);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(many_jobs_in_one_call)
{
	struct drive drive;
	open_drive(&drive);
	struct driven *all[SLOTS];
	struct job *jobs[SLOTS];
	for (int i = 0; i < SLOTS; i++) {
		all[i] = new_driven(executor_fixture.quick);
		all[i]->drive = &drive;
		jobs[i] = &all[i]->job;
		drive.open++;
	}
	drive.inside_call = true;
	drive.executor->ops->run(drive.executor, jobs, SLOTS);
	drive.inside_call = false;
	for (int i = 0; i < SLOTS; i++) {
		CHECK(drive_wait(&drive, all[i]));
		check_contract(all[i]);
		CHECK_INT(all[i]->end.reason, REASON_NONE);
	}
	for (int i = 0; i < SLOTS; i++)
		free_driven(all[i]);
	drive_stop(&drive);
}

static void three_runs(struct driven *driven, struct job_run runs[3])
{
	for (int i = 0; i < 3; i++)
		runs[i] = (struct job_run){ .timeout_us = 30 * US_PER_S };
	driven->job.runs = runs;
	driven->job.run_count = 3;
}

TEST(runs_are_reported_in_order)
{
	struct drive drive;
	struct job_run runs[3];
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.quick);
	three_runs(driven, runs);
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT((int)driven->step_count, 3);
	for (size_t i = 0; i < 3; i++)
		CHECK_INT((int)driven->steps[i].end.run_index, (int)i);
	CHECK_INT(driven->end.reason, REASON_NONE);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(asks_before_the_next_run)
{
	struct drive drive;
	struct job_run runs[3];
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.quick);
	three_runs(driven, runs);
	driven->job.ask_before_next = true;
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT((int)driven->step_count, 3);
	CHECK_INT(driven->end.reason, REASON_NONE);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(ends_early_when_told)
{
	struct drive drive;
	struct job_run runs[3];
	if (!executor_fixture.failing)
		return;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.failing);
	three_runs(driven, runs);
	driven->job.ask_before_next = driven->stop_after_failure = true;
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT((int)driven->step_count, 1);
	CHECK_INT(driven->steps[0].end.reason, REASON_EXIT_CODE);
	CHECK_INT(driven->steps[0].end.exit_code, 7);
	CHECK_INT(driven->end.reason, REASON_NONE);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(a_failed_run_does_not_end_the_job)
{
	struct drive drive;
	struct job_run runs[3];
	if (!executor_fixture.failing)
		return;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.failing);
	three_runs(driven, runs);
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT((int)driven->step_count, 3);
	CHECK_INT(driven->end.reason, REASON_NONE);
	free_driven(driven);
	drive_stop(&drive);
}

static void cancel(struct drive *drive, struct driven *driven)
{
	drive->inside_call = true;
	drive->executor->ops->cancel(drive->executor, &driven->job);
	drive->inside_call = false;
}

TEST(cancelled_right_after_the_call)
{
	struct drive drive;
	open_drive(&drive);
	struct driven *driven =
		new_driven(executor_fixture.endless ? executor_fixture.endless : executor_fixture.quick);
	drive_submit(&drive, driven);
	cancel(&drive, driven);
	cancel(&drive, driven); /* twice does no harm */
	CHECK(drive_wait(&drive, driven));
	check_contract(driven);
	CHECK_INT(driven->end.reason, REASON_CANCELLED);
	CHECK_INT((int)driven->step_count, 0);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(cancelled_when_it_starts)
{
	struct drive drive;
	if (!executor_fixture.endless)
		return;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.endless);
	driven->cancel_on_start = true;
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK(driven->started);
	CHECK_INT(driven->end.reason, REASON_CANCELLED);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(a_slot_is_good_again_after_a_cancel)
{
	struct drive drive;
	open_drive(&drive);
	for (int i = 0; i < 3 * SLOTS; i++) {
		struct driven *driven = new_driven(executor_fixture.quick);
		drive_submit(&drive, driven);
		if (i % 2 == 0)
			cancel(&drive, driven);
		CHECK(drive_wait(&drive, driven));
		check_contract(driven);
		CHECK_INT(driven->end.reason, i % 2 == 0 ? REASON_CANCELLED : REASON_NONE);
		free_driven(driven);
	}
	drive_stop(&drive);
}

TEST(the_wall_clock_ends_it)
{
	struct drive drive;
	if (!executor_fixture.endless)
		return;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.endless);
	driven->run.timeout_us = 300 * US_PER_MS;
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT(driven->end.reason, REASON_NONE);
	CHECK_INT(driven->steps[0].end.reason, REASON_TIMEOUT);
	CHECK(driven->steps[0].end.usage.wall_us >=
		290 * US_PER_MS); /* timers and the clock that measures round apart */
	free_driven(driven);
	drive_stop(&drive);
}

TEST(all_steps_together_have_a_limit)
{
	struct drive drive;
	struct job_run runs[3];
	if (!executor_fixture.endless)
		return;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.endless);
	three_runs(driven, runs);
	driven->job.limits.total_timeout_us = 300 * US_PER_MS;
	CHECK(drive_run(&drive, driven));
	check_contract(driven);
	CHECK_INT((int)driven->step_count, 3);
	for (size_t i = 0; i < 3; i++)
		CHECK_INT(driven->steps[i].end.reason, REASON_TIMEOUT);
	free_driven(driven);
	drive_stop(&drive);
}

static void check_killed(const struct driven *driven)
{
	CHECK(driven->ended);
	CHECK_INT(driven->end.reason, REASON_EXECUTOR_LOST);
	CHECK(!driven->end.never_started);
}

/* By the next incarnation. */
static void check_adopted(const struct driven *left)
{
	struct drive drive;
	struct driven *driven = new_driven(executor_fixture.endless);
	CHECK(!left->ended);
	driven_be(driven, &left->job.task_id);
	open_drive(&drive);
	drive_adopt(&drive, driven);
	CHECK(drive_until(&drive, &driven->started));
	cancel(&drive, driven);
	CHECK(drive_wait(&drive, driven));
	check_contract(driven);
	CHECK_INT(driven->end.reason, REASON_CANCELLED);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(a_stop_kills_what_runs_or_leaves_it_to_be_adopted)
{
	struct drive drive;
	if (!executor_fixture.endless)
		return;
	open_drive(&drive);
	bool outlives = drive.executor->ops->status(drive.executor)->outlives_service;
	struct driven *all[SLOTS];
	for (int i = 0; i < SLOTS; i++) {
		all[i] = new_driven(executor_fixture.endless);
		all[i]->run.timeout_us = 600 * US_PER_S;
		drive_submit(&drive, all[i]);
	}
	CHECK(drive_until(&drive, &all[0]->started));
	drive_stop(&drive);
	for (int i = 0; i < SLOTS; i++) {
		check_contract(all[i]);
		if (outlives)
			check_adopted(all[i]);
		else
			check_killed(all[i]);
		free_driven(all[i]);
	}
}

TEST(nothing_to_adopt)
{
	struct drive drive;
	open_drive(&drive);
	struct driven *driven = new_driven(executor_fixture.quick);
	drive_adopt(&drive, driven);
	CHECK(drive_wait(&drive, driven));
	check_contract(driven);
	CHECK_INT(driven->end.reason, REASON_WORKER_CRASH);
	free_driven(driven);
	drive_stop(&drive);
}

/* The rows that an incarnation leaves RUNNING can be more than its executor has slots: of jobs that had ended, and were
 * replaced, the end may not have been written. */
TEST(more_to_adopt_than_slots)
{
	struct drive drive;
	open_drive(&drive);
	struct driven *all[3 * SLOTS];
	for (int i = 0; i < 3 * SLOTS; i++) {
		all[i] = new_driven(executor_fixture.quick);
		drive_adopt(&drive, all[i]);
	}
	for (int i = 0; i < 3 * SLOTS; i++) {
		CHECK(drive_wait(&drive, all[i]));
		check_contract(all[i]);
		CHECK_INT(all[i]->end.reason, REASON_WORKER_CRASH);
		free_driven(all[i]);
	}
	drive_stop(&drive);
}

TEST(stops_when_idle)
{
	struct drive drive;
	open_drive(&drive);
	drive_stop(&drive);
}

TEST_MAIN()
