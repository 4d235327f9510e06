/* The coordinator on real doors: the SQLite store, the local bus, the noop executor. What it promises is checked where
 * it can be seen from outside: in rows, in events, in what executors are asked to do. */
#include "coordinator_house.h"

TEST(an_evaluation_goes_all_the_way)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	admit(house, &submission, &result, 1);
	CHECK_INT(result.status, ADMISSION_CREATED);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	CHECK_INT(house->events[EVENT_QUEUED], 1);
	CHECK_INT(house->events[EVENT_RUNNING], 1);
	CHECK_INT(row_status(house, &result.id), TASK_COMPLETED);
	CHECK(!coordinator_find(house->coordinator, &result.id));
	CHECK_INT(command(house, COMMAND_CANCEL, &result.id), COMMAND_CONFLICT);
	arena_fini(&arena);
	house_free(house);
}

TEST(a_thousand_go_through_few_slots_each_once)
{
	struct house *house = house_new(3, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission *submissions = alloc_array(1000, sizeof(*submissions));
	struct admission_result *results = alloc_array(1000, sizeof(*results));
	for (size_t i = 0; i < 1000; i++)
		submissions[i] = submission_of(house, &arena);
	admit(house, submissions, results, 1000);
	WAIT(house, house->events[EVENT_COMPLETED] >= 1000);
	CHECK_INT(house->events[EVENT_COMPLETED], 1000);
	CHECK_INT(house->events[EVENT_QUEUED], 1000);
	CHECK_INT(house->events[EVENT_RUNNING], 1000);
	CHECK_INT(coordinator_statistics(house->coordinator)->waiting, 0);
	free(submissions);
	free(results);
	arena_fini(&arena);
	house_free(house);
}

static void on_call(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	uv_stop(owner);
}

TEST(outcomes_that_wait_to_be_written_do_not_pile_up)
{
	enum { COUNT = 5000, SLOTS = 256 };
	struct house *house = house_new(SLOTS, (struct coordinator_settings){ .heartbeat_us = 1 * US_PER_S });
	struct arena arena = { 0 };
	struct submission *submissions = alloc_array(COUNT, sizeof(*submissions));
	struct admission_result *results = alloc_array(COUNT, sizeof(*results));
	const struct coordinator_statistics *statistics = coordinator_statistics(house->coordinator);
	const size_t *beats = &house->crossed.calls[CROSSED_HEARTBEAT];
	house->crossed.on_call = on_call;
	house->crossed.owner = &house->loop;
	house->crossed.held[CROSSED_SETTLE] = true;
	for (size_t i = 0; i < COUNT; i++)
		submissions[i] = submission_of(house, &arena);
	admit(house, submissions, results, COUNT);
	WAIT(house, statistics->running >= 2000);
	size_t before = *beats;
	WAIT(house, *beats >= before + 3);
	CHECK(statistics->running <= 2048 + 2 * SLOTS);
	crossed_release(&house->crossed);
	WAIT(house, house->events[EVENT_COMPLETED] == COUNT);
	free(submissions);
	free(results);
	arena_fini(&arena);
	house_free(house);
}

TEST(keys_make_submissions_idempotent)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submissions[3];
	struct admission_result results[3];
	for (size_t i = 0; i < 3; i++) {
		submissions[i] = submission_of(house, &arena);
		submissions[i].eval_id = BYTES_LITERAL("same");
	}
	submissions[2].digest[5] = 1;
	admit(house, submissions, results, 3);
	CHECK_INT(results[0].status, ADMISSION_CREATED);
	CHECK_INT(results[1].status, ADMISSION_EXISTS);
	CHECK_INT(uuid_compare(&results[0].id, &results[1].id), 0);
	CHECK_INT(results[2].status, ADMISSION_CONFLICT);
	arena_fini(&arena);
	house_free(house);
}

TEST(a_full_queue_refuses_and_a_waiting_task_can_be_cancelled)
{
	struct house *house = house_new(4, (struct coordinator_settings){ .queue_max = 2 });
	struct arena arena = { 0 };
	struct submission submissions[2], more;
	struct admission_result results[2], refused;
	for (size_t i = 0; i < 2; i++) {
		submissions[i] = submission_of(house, &arena);
		submissions[i].run_after_us = clock_wall_us() + 3600 * US_PER_S;
	}
	admit(house, submissions, results, 2);
	CHECK_INT(results[1].status, ADMISSION_CREATED);
	more = submission_of(house, &arena);
	admit(house, &more, &refused, 1);
	CHECK_INT(refused.status, ADMISSION_QUEUE_FULL);
	CHECK(refused.retry_after_s > 0);

	CHECK_INT(command(house, COMMAND_CANCEL, &results[0].id), COMMAND_DONE);
	WAIT(house, house->events[EVENT_CANCELLED] == 1);
	CHECK_INT(row_status(house, &results[0].id), TASK_CANCELLED);
	more = submission_of(house, &arena);
	admit(house, &more, &refused, 1);
	CHECK_INT(refused.status, ADMISSION_CREATED);

	CHECK_INT(command(house, COMMAND_RUN, &results[1].id), COMMAND_DONE);
	WAIT(house, house->events[EVENT_COMPLETED] == 2);
	CHECK_INT(row_status(house, &results[1].id), TASK_COMPLETED);
	arena_fini(&arena);
	house_free(house);
}

TEST(what_comes_due_is_run_without_being_asked_for)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.run_after_us = clock_wall_us() + 2 * US_PER_S;
	admit(house, &submission, &result, 1);
	CHECK_INT(row_status(house, &result.id), TASK_QUEUED);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	CHECK_INT(row_status(house, &result.id), TASK_COMPLETED);
	arena_fini(&arena);
	house_free(house);
}

TEST(a_restart_goes_on_with_what_waits)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.run_after_us = clock_wall_us() + 500 * US_PER_MS;
	admit(house, &submission, &result, 1);
	house_close(house);
	house_open(house, 4, (struct coordinator_settings){ 0 });
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	CHECK_INT(uuid_compare(&house->last_ended, &result.id), 0);
	arena_fini(&arena);
	house_free(house);
}

TEST(the_smoke_test_answers_pong)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.type = BYTES_LITERAL("test");
	submission.params = BYTES_LITERAL("{}");
	admit(house, &submission, &result, 1);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	struct read_task read = {
		.operation = { .done = on_operation, .owner = &house->loop }, .ids = &result.id, .count = 1
	};
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.results[0] && read.results[0]->result.data);
	CHECK(holds(json_squeezed(&arena, read.results[0]->result), "\"answer\":\"pong\""));
	store_operation_fini(&read.operation);
	arena_fini(&arena);
	house_free(house);
}
/* ---- faults, by the scripted executor ---- */

TEST(infrastructure_is_retried_until_the_allowance_is_used_up)
{
	struct house *house = house_new(4, (struct coordinator_settings){ .retry = { .base_us = 1000, .cap = 1 } });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	for (size_t attempt = 1; attempt <= 3; attempt++) {
		WAIT(house, house->scripted.runs == attempt);
		CHECK_INT(house->scripted.jobs[0]->attempt, attempt);
		scripted_started(&house->scripted);
		scripted_end(&house->scripted, REASON_NODE_LOST, false);
	}
	WAIT(house, house->events[EVENT_FAILED] == 1);
	CHECK_INT(house->events[EVENT_RETRYING], 2);
	CHECK_INT(house->events[EVENT_RUNNING], 3);
	struct bytes result = row_form(house, &id, &arena);
	CHECK(holds(result, "\"reason\":\"max_attempts\""));
	CHECK(holds(result, "\"cause\":\"node_lost\""));
	CHECK(holds(result, "\"attempts\":3"));
	arena_fini(&arena);
	house_free(house);
}

TEST(an_exit_code_is_the_users_and_not_retried)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_started(&house->scripted);
	scripted_output(&house->scripted, 0, 1, "half a ");
	scripted_output(&house->scripted, 0, 2, "warning");
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_EXIT_CODE, 3);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_FAILED] == 1);
	struct bytes result = row_form(house, &id, &arena);
	CHECK(holds(result, "\"exit_code\":3"));
	CHECK(holds(result, "\"fault\":\"user\""));
	struct read_output read = {
		.operation = { .done = on_operation, .owner = &house->loop }, .task_id = id, .limit = 100
	};
	house->store->ops->read_output(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.result_count == 2);
	CHECK_BYTES(read.results[0].data, "half a ");
	CHECK_BYTES(read.results[1].data, "warning");
	CHECK_INT(read.results[1].offset, 7);
	CHECK_INT(read.results[1].stream_offset, 0);
	store_operation_fini(&read.operation);
	arena_fini(&arena);
	house_free(house);
}

TEST(cancelling_what_runs_kills_it_first)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_started(&house->scripted);
	CHECK_INT(command(house, COMMAND_CANCEL, &id), COMMAND_REQUESTED);
	CHECK_INT(house->scripted.cancels, 1);
	CHECK_INT(row_status(house, &id), TASK_RUNNING);
	scripted_end(&house->scripted, REASON_CANCELLED, false);
	WAIT(house, house->events[EVENT_CANCELLED] == 1);
	CHECK_INT(row_status(house, &id), TASK_CANCELLED);
	arena_fini(&arena);
	house_free(house);
}

/* The kill and an infrastructure fault cross: the task is cancelled, not retried. */
TEST(a_cancelled_task_is_not_retried)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(command(house, COMMAND_CANCEL, &id), COMMAND_REQUESTED);
	scripted_end(&house->scripted, REASON_EVICTED, false);
	WAIT(house, house->events[EVENT_CANCELLED] == 1);
	CHECK_INT(row_status(house, &id), TASK_CANCELLED);
	CHECK_INT(house->events[EVENT_RETRYING], 0);
	CHECK(holds(row_form(house, &id, &arena), "\"reason\":\"cancelled\""));
	arena_fini(&arena);
	house_free(house);
}

TEST(waiting_for_capacity_is_no_attempt)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_end(&house->scripted, REASON_API_ERROR, true);
	WAIT(house, house->scripted.runs == 2);
	scripted_started(&house->scripted);
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	struct bytes result = row_form(house, &id, &arena);
	CHECK(holds(result, "\"attempts\":0"));
	CHECK(holds(result, "\"attempt\":2"));
	arena_fini(&arena);
	house_free(house);
}

TEST(draining_hands_back_what_it_kills)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_started(&house->scripted);
	coordinator_stop(house->coordinator, 0, on_stopped, house);
	WAIT(house, house->scripted.cancels == 1);
	scripted_end(&house->scripted, REASON_CANCELLED, false);
	house_close(house);
	house_open(house, 4, (struct coordinator_settings){ 0 });
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(uuid_compare(&house->scripted.jobs[0]->task_id, &id), 0);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	arena_fini(&arena);
	house_free(house);
}

/* Or the service would wait for it, and never end. */
TEST(a_command_whose_outcome_is_not_known_does_not_outlive_the_drain)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	house->scripted.status.slots = 0;
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	struct store_command cancel = {
		.operation = { .done = on_operation, .owner = &house->loop },
		.kind = COMMAND_CANCEL,
		.ids = &id,
		.count = 1,
		.at_us = clock_wall_us(),
	};
	house->crossed.lost[CROSSED_COMMAND] = SIZE_MAX;
	coordinator_command(house->coordinator, &cancel);
	while (house->crossed.calls[CROSSED_COMMAND] < 3 && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	CHECK(cancel.operation.kind != -1);
	coordinator_drain(house->coordinator, 0);
	WAIT(house, cancel.operation.kind == -1);
	CHECK_INT(cancel.operation.outcome, STORE_UNKNOWN);
	store_operation_fini(&cancel.operation);
	arena_fini(&arena);
	house_free(house);
}

static struct bytes params_with_tests(struct arena *arena, bool fail_fast, enum test_compare compare)
{
	const struct job_file file = { .path = BYTES_LITERAL(""), .content = BYTES_LITERAL("code") };
	const struct job_run program = { .timeout_us = US_PER_S };
	const struct evaluation_test tests[] = {
		{ .name = BYTES_LITERAL("one"),
			.run = program,
			.expected = BYTES_LITERAL("1"),
			.compare = compare,
			.points = 1 },
		{ .name = BYTES_LITERAL("two"),
			.run = program,
			.expected = BYTES_LITERAL("2"),
			.points = 2,
			.hidden = true },
		{ .name = BYTES_LITERAL("three"), .run = program, .expected = BYTES_LITERAL("3"), .points = 3 },
	};
	const struct evaluation evaluation = {
		.language = BYTES_LITERAL("python"),
		.files = &file,
		.file_count = 1,
		.timeout_us = US_PER_S,
		.memory_bytes = 64 << 20,
		.cpu_millis = 500,
		.tests = tests,
		.test_count = 3,
		.fail_fast = fail_fast,
	};
	struct buffer text = { 0 };
	evaluation_write(&evaluation, &text);
	struct bytes kept = arena_bytes(arena, buffer_bytes(&text));
	buffer_fini(&text);
	return kept;
}

TEST(tests_are_compared_here_and_scored)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, params_with_tests(&arena, false, COMPARE_TRIMMED));
	static const char *const printed[] = { "1\n", "wrong\n", "3\n" };
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->run_count, 3);
	CHECK(!house->scripted.jobs[0]->ask_before_next);
	scripted_started(&house->scripted);
	for (size_t run = 0; run < 3; run++) {
		scripted_output(&house->scripted, run, 1, printed[run]);
		scripted_step(&house->scripted, STEP_RUN, run, REASON_NONE, 0);
	}
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_FAILED] == 1);
	CHECK_INT(house->events[EVENT_TEST], 3);
	struct bytes result = row_form(house, &id, &arena);
	CHECK(holds(result, "\"reason\":\"tests_failed\""));
	CHECK(holds(result, "\"one\""));
	CHECK(!memmem(result.data, result.len, "\"two\"", 5));
	CHECK(!memmem(result.data, result.len, "wrong", 5));
	arena_fini(&arena);
	house_free(house);
}

TEST(fail_fast_stops_after_the_first_failure)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	admit_scripted(house, &arena, params_with_tests(&arena, true, COMPARE_TRIMMED));
	WAIT(house, house->scripted.runs == 1);
	CHECK(house->scripted.jobs[0]->ask_before_next);
	scripted_started(&house->scripted);
	scripted_output(&house->scripted, 0, 1, "1\n");
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
	WAIT(house, house->scripted.proceeds == 1);
	CHECK(house->scripted.last_proceed);
	scripted_output(&house->scripted, 1, 1, "no\n");
	scripted_step(&house->scripted, STEP_RUN, 1, REASON_NONE, 0);
	WAIT(house, house->scripted.proceeds == 2);
	CHECK(!house->scripted.last_proceed);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_FAILED] == 1);
	CHECK_INT(house->events[EVENT_TEST], 2);
	arena_fini(&arena);
	house_free(house);
}

TEST(regular_expressions_are_searched_one_at_a_time)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	admit_scripted(house, &arena, params_with_tests(&arena, false, COMPARE_REGEX));
	WAIT(house, house->scripted.runs == 1);
	CHECK(house->scripted.jobs[0]->ask_before_next);
	scripted_started(&house->scripted);
	for (size_t run = 0; run < 2; run++) {
		scripted_output(&house->scripted, run, 1, "no\n");
		scripted_step(&house->scripted, STEP_RUN, run, REASON_NONE, 0);
		WAIT(house, house->scripted.proceeds == run + 1);
		CHECK(house->scripted.last_proceed); /* it failed, and nobody asked to stop at that */
	}
	scripted_step(&house->scripted, STEP_RUN, 2, REASON_NONE, 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_FAILED] == 1);
	CHECK_INT(house->events[EVENT_TEST], 3);
	arena_fini(&arena);
	house_free(house);
}

TEST_MAIN()
