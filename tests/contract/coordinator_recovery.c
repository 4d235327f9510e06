/* The coordinator when something is lost: the process, an answer of the store, its patience with a disk that takes
 * nothing. */
#include "coordinator_house.h"

/* Heartbeats that are soon there, and nobody who is taken for dead. */
static const struct coordinator_settings quick = { .heartbeat_us = 100 * US_PER_MS, .lease_us = 600 * US_PER_S };
/* The dead are: a store that others have, too, gives their rows away when their lease is over. A machine that is busy
 * must not seem to be cut off. */
static const struct coordinator_settings reaping = { .heartbeat_us = 400 * US_PER_MS, .lease_us = 3 * US_PER_S };

/* ---- recovery, and answers that are lost ---- */

/* Rows that a dead incarnation has left running, before a service is started on them. */
static void leave_running(struct house *house, size_t count)
{
	struct arena arena = { 0 };
	house_open(house, 4, (struct coordinator_settings){ 0 });
	struct submission *submissions = arena_array(&arena, count, sizeof(*submissions));
	struct submit_item *items = arena_array(&arena, count, sizeof(*items));
	for (size_t i = 0; i < count; i++) {
		submissions[i] = submission_of(house, &arena);
		submissions[i].executor = BYTES_LITERAL("scripted");
		items[i] = (struct submit_item){ .submission = &submissions[i], .born_running = true };
	}
	struct store_submit submit = {
		.operation = { .done = on_operation, .owner = &house->loop },
		.items = items,
		.count = count,
		.locked_by = BYTES_LITERAL("dead#1"),
	};
	house->store->ops->submit(house->store, &submit);
	WAIT(house, submit.operation.kind == -1);
	REQUIRE(submit.operation.outcome == STORE_OK);
	store_operation_fini(&submit.operation);
	arena_fini(&arena);
	house_close(house);
}

static struct house *house_of_the_dead(size_t rows)
{
	struct house *house = alloc(sizeof(*house));
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	leave_running(house, rows);
	memset(house->events, 0, sizeof(house->events));
	return house;
}

/* Alone it takes what a dead incarnation has left before it is ready; among others it makes sure that it lives. */
static void stop_at_recovery(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind != (house_store_is_embedded() ? CROSSED_TAKE : CROSSED_HEARTBEAT))
		return;
	house->crossed.on_call = NULL;
	coordinator_stop(house->coordinator, 3600 * US_PER_S, on_stopped, house);
}

/* Or a server would begin to listen that nobody stops. */
TEST(what_is_stopped_while_it_recovers_is_never_ready)
{
	struct house *house = house_of_the_dead(0);
	house_begin(house, 4, (struct coordinator_settings){ 0 });
	house->crossed.on_call = stop_at_recovery;
	house->crossed.owner = house;
	house_stopped(house);
	CHECK(!house->ready);
	nftw(house->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(house);
}

/* More may have been running than there are slots now: ended and not settled, or there were more slots. */
TEST(what_cannot_be_adopted_is_not_given_to_its_executor)
{
	struct house *house = house_of_the_dead(20);
	house_open(house, 4, reaping);
	WAIT(house, house->events[EVENT_RETRYING] == 20);
	CHECK_INT(house->scripted.adoptions, 0);
	WAIT(house, house->scripted.runs == 2);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	for (size_t i = 1; i <= 20; i++) {
		scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
		scripted_end(&house->scripted, REASON_NONE, false);
		WAIT(house, house->events[EVENT_COMPLETED] == i);
		WAIT(house, i >= 19 || house->scripted.job_count == 2);
	}
	house_free(house);
}

TEST(rows_of_a_take_whose_answer_was_lost_are_taken_up)
{
	struct house *house = house_of_the_dead(1);
	house_begin(house, 4, reaping);
	house->crossed.lost[CROSSED_TAKE] = 1;
	WAIT(house, house->ready);
	WAIT(house, house->scripted.runs == 1);
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	house_free(house);
}

static void stop_loop_at_heartbeat(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	if (kind == CROSSED_HEARTBEAT)
		uv_stop(&((struct house *)owner)->loop);
}

/* As many own rows as there are, each is looked at once: a take of own rows changes none, so it would be given the same
 * ones for ever. */
TEST(own_rows_are_looked_through_once)
{
	struct house *house = house_new(4, quick);
	struct arena arena = { 0 };
	house->scripted.status.slots = 300;
	struct submission *submissions = arena_array(&arena, 300, sizeof(*submissions));
	struct admission_result *results = arena_array(&arena, 300, sizeof(*results));
	for (size_t i = 0; i < 300; i++) {
		submissions[i] = submission_of(house, &arena);
		submissions[i].executor = BYTES_LITERAL("scripted");
	}
	admit(house, submissions, results, 300);
	WAIT(house, house->scripted.runs == 300);
	size_t takes = house->crossed.calls[CROSSED_TAKE];
	house->crossed.on_call = stop_loop_at_heartbeat;
	house->crossed.owner = house;
	look_for_own_rows(house);
	WAIT(house, house->crossed.calls[CROSSED_TAKE] > takes);
	size_t beats = house->crossed.calls[CROSSED_HEARTBEAT];
	WAIT(house, house->crossed.calls[CROSSED_HEARTBEAT] >= beats + 3);
	CHECK_INT(house->crossed.calls[CROSSED_TAKE], takes + 1);
	while (house->scripted.job_count)
		scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 300);
	arena_fini(&arena);
	house_free(house);
}

struct stream_of_work {
	struct answer answer;
	struct submission submission;
	struct admission_result result;
	struct arena arena;
	bool over;
};

/* The next one comes before the coordinator has looked up from the last. */
static void on_admitted_again(struct admission *admission)
{
	struct stream_of_work *stream = admission->owner;
	struct house *house = stream->answer.house;
	admission_fini(admission);
	stream->answer.done = stream->over;
	if (!stream->over) {
		stream->submission.id = uuid_new(&house->ids);
		coordinator_admit(house->coordinator, admission);
	}
	uv_stop(&house->loop);
}

/* Own rows are looked for before anything is claimed: that must not wait for a pause between submissions. */
TEST(own_rows_are_looked_for_under_load)
{
	struct house *house = house_new(4, quick);
	struct stream_of_work stream = { .answer.house = house };
	stream.submission = submission_of(house, &stream.arena);
	stream.answer.admission = (struct admission){
		.submissions = &stream.submission,
		.count = 1,
		.results = &stream.result,
		.done = on_admitted_again,
		.owner = &stream,
	};
	coordinator_admit(house->coordinator, &stream.answer.admission);
	WAIT(house, house->events[EVENT_COMPLETED] > 0);
	size_t takes = house->crossed.calls[CROSSED_TAKE];
	look_for_own_rows(house);
	WAIT(house, house->crossed.calls[CROSSED_TAKE] > takes);
	stream.over = true;
	WAIT(house, stream.answer.done);
	WAIT(house, house->events[EVENT_COMPLETED] == house->events[EVENT_QUEUED]);
	arena_fini(&stream.arena);
	house_free(house);
}

/* ---- output, limits ---- */

static size_t output_stored(struct house *house, const struct uuid *id)
{
	struct read_output read = {
		.operation = { .done = on_operation, .owner = &house->loop }, .task_id = *id, .limit = 1 << 20
	};
	house->store->ops->read_output(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	size_t end = read.end;
	store_operation_fini(&read.operation);
	return end;
}

static void print_at_settle(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind != CROSSED_SETTLE)
		return;
	house->crossed.on_call = NULL;
	scripted_output(&house->scripted, 0, 1, "hello");
}

/* What is printed while a batch is on its way, and not yet due when that has been written. */
TEST(output_of_what_runs_on_is_written_by_and_by)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	house->crossed.on_call = print_at_settle;
	house->crossed.owner = house;
	scripted_started(&house->scripted);
	while (output_stored(house, &id) != 5)
		CHECK(!house->late);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	arena_fini(&arena);
	house_free(house);
}

TEST(a_cancelled_task_without_attempts_left_is_cancelled)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.executor = BYTES_LITERAL("scripted");
	submission.max_attempts = 1;
	admit(house, &submission, &result, 1);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(command(house, COMMAND_CANCEL, &result.id), COMMAND_REQUESTED);
	scripted_end(&house->scripted, REASON_EVICTED, false);
	WAIT(house, house->events[EVENT_CANCELLED] + house->events[EVENT_FAILED] == 1);
	CHECK_INT(row_status(house, &result.id), TASK_CANCELLED);
	CHECK(holds(row_form(house, &result.id, &arena), "\"attempts\":0"));
	arena_fini(&arena);
	house_free(house);
}

TEST(a_batch_does_not_overrun_the_queue)
{
	struct house *house = house_new(4, (struct coordinator_settings){ .queue_max = 3 });
	struct arena arena = { 0 };
	struct submission submissions[10];
	struct admission_result results[10];
	for (size_t i = 0; i < 10; i++) {
		submissions[i] = submission_of(house, &arena);
		submissions[i].run_after_us = clock_wall_us() + 3600 * US_PER_S;
		if (i < 2)
			submissions[i].eval_id = BYTES_LITERAL("same");
	}
	admit(house, submissions, results, 4);
	CHECK_INT(results[1].status, ADMISSION_EXISTS);
	CHECK_INT(results[2].status, ADMISSION_CREATED);
	CHECK_INT(results[3].status, ADMISSION_QUEUE_FULL);
	/* What exists takes no place. */
	CHECK_INT(coordinator_statistics(house->coordinator)->waiting, 2);
	admit(house, submissions + 4, results + 4, 6);
	CHECK_INT(results[4].status, ADMISSION_CREATED);
	CHECK_INT(results[5].status, ADMISSION_QUEUE_FULL);
	CHECK_INT(results[9].status, ADMISSION_QUEUE_FULL);
	house->crossed.away[CROSSED_SUBMIT] = 1;
	CHECK_INT(command(house, COMMAND_CANCEL, &results[0].id), COMMAND_DONE);
	admit(house, submissions + 5, results + 5, 1);
	CHECK_INT(results[5].status, ADMISSION_AWAY);
	CHECK_INT(coordinator_statistics(house->coordinator)->waiting, 2);
	arena_fini(&arena);
	house_free(house);
}

static void on_flushed(void *owner)
{
	struct house *house = owner;
	house->flushed++;
	uv_stop(&house->loop);
}

/* Logs can be read while outcomes cannot be written; and at the end nobody waits for that any more. */
TEST(a_store_that_takes_nothing_holds_no_reader)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct uuid other = { { 1 } };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	house->crossed.away[CROSSED_SETTLE] = SIZE_MAX;
	scripted_started(&house->scripted);
	scripted_output(&house->scripted, 0, 1, "hello");
	coordinator_flush_output(house->coordinator, &id, on_flushed, house);
	coordinator_flush_output(house->coordinator, &other, on_flushed, house);
	CHECK_INT(house->flushed, 0);
	WAIT(house, house->flushed == 1);
	coordinator_drain(house->coordinator, 0);
	WAIT(house, house->flushed == 2);
	house->crossed.away[CROSSED_SETTLE] = 0;
	scripted_end(&house->scripted, REASON_CANCELLED, false);
	arena_fini(&arena);
	house_free(house);
}

static void stop_loop_at_settle(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	if (kind == CROSSED_SETTLE)
		uv_stop(&((struct house *)owner)->loop);
}

/* The store takes claims and no outcomes: what ends would pile up in memory. */
TEST(nothing_is_started_while_outcomes_cannot_be_written)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	house->crossed.away[CROSSED_SETTLE] = SIZE_MAX;
	house->crossed.on_call = stop_loop_at_settle;
	house->crossed.owner = house;
	for (size_t i = 0; i < 10; i++)
		admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 2);
	scripted_end(&house->scripted, REASON_NONE, false);
	/* The first refusal is known: what had been claimed before may be started. */
	WAIT(house, house->crossed.calls[CROSSED_SETTLE] >= 2);
	while (house->crossed.answers[CROSSED_CLAIM] < house->crossed.calls[CROSSED_CLAIM] && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	uv_run(&house->loop, UV_RUN_NOWAIT);
	size_t runs = house->scripted.runs, calls = house->crossed.calls[CROSSED_SETTLE];
	while (house->scripted.job_count)
		scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->crossed.calls[CROSSED_SETTLE] >= calls + 2);
	CHECK_INT(house->scripted.runs, runs);
	house->crossed.away[CROSSED_SETTLE] = 0;
	for (size_t i = runs; i < 10; i++) {
		WAIT(house, house->scripted.job_count > 0);
		scripted_end(&house->scripted, REASON_NONE, false);
	}
	WAIT(house, house->events[EVENT_COMPLETED] == 10);
	arena_fini(&arena);
	house_free(house);
}

/* One byte here, one byte there: no more memory is taken than what was printed and a little for each piece. */
TEST(output_in_small_pieces_takes_little_memory)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct rusage before, after;
	admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	house->crossed.away[CROSSED_SETTLE] = SIZE_MAX;
	scripted_started(&house->scripted);
	getrusage(RUSAGE_SELF, &before);
	for (int i = 0; i < 20000; i++)
		scripted_output(&house->scripted, 0, 1 + i % 2, "x");
	getrusage(RUSAGE_SELF, &after);
	CHECK(after.ru_maxrss - before.ru_maxrss < 32 << 10);
	house->crossed.away[CROSSED_SETTLE] = 0;
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	arena_fini(&arena);
	house_free(house);
}

/* Others take what a dead incarnation has claimed: it must not be run here as well. */
TEST(what_was_claimed_under_a_dead_name_is_not_run)
{
	struct house *house = house_new(4, quick);
	struct arena arena = { 0 };
	house->scripted.status.slots = 0;
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	char former[200];
	snprintf(former, sizeof(former), "%s", coordinator_locked_by(house->coordinator));
	house->crossed.on_call = stop_loop_at_heartbeat;
	house->crossed.owner = house;
	/* One under way began before the row was there. */
	while (house->crossed.answers[CROSSED_CLAIM] < house->crossed.calls[CROSSED_CLAIM] && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	house->crossed.held[CROSSED_CLAIM] = true;
	house->scripted.status.slots = 2;
	house->scripted.listener->on_changed(house->scripted.owner, &house->scripted.executor);
	WAIT(house, house->crossed.waiting);
	house->crossed.buried = true;
	WAIT(house, strcmp(former, coordinator_locked_by(house->coordinator)) != 0);
	crossed_release(&house->crossed);
	size_t beats = house->crossed.calls[CROSSED_HEARTBEAT];
	WAIT(house, house->crossed.calls[CROSSED_HEARTBEAT] > beats + 1);
	CHECK_INT(house->scripted.runs, 0);
	CHECK(!coordinator_find(house->coordinator, &id));
	arena_fini(&arena);
	house_free(house);
}

TEST_MAIN()
