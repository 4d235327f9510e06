/* The coordinator as one of several replicas: leases, answers that overtake each other, outcomes that the store cannot
 * hold, output that another follows. The others are played by the test, with operations of their own on the same
 * store. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "coordinator_house.h"

/* A machine that is busy must not seem to be cut off. */
#define HEARTBEAT_US (400 * US_PER_MS)
#define LEASE_US (6 * US_PER_S)
#define LONG_US (3600 * US_PER_S)

static struct house *house_that_beats(int64_t heartbeat_us, int64_t lease_us)
{
	struct house *house = alloc(sizeof(*house));
	house->replicated = true;
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house_open(house, 4,
		(struct coordinator_settings){
			.heartbeat_us = heartbeat_us, .lease_us = lease_us, .retry = { .base_us = 1000, .cap = 1 } });
	house->crossed.owner = house;
	return house;
}

/* Nobody's lease ends. */
static struct house *house_of_replicas(void)
{
	return house_that_beats(HEARTBEAT_US, LONG_US);
}

static struct house *house_of_leases(void)
{
	return house_that_beats(HEARTBEAT_US, LEASE_US);
}

static void stop_loop_at_heartbeat(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	if (kind == CROSSED_HEARTBEAT)
		uv_stop(&((struct house *)owner)->loop);
}

/* What runs ends well, as the only one of the test, and the test with it. */
static void finish_one(struct house *house, struct arena *arena)
{
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	arena_fini(arena);
	house_free(house);
}

/* ---- outcomes that the store cannot hold ---- */

static bool holds_poison(void *owner, const struct store_settle *settle)
{
	for (size_t i = 0; i < settle->chunk_count; i++)
		if (memmem(settle->chunks[i].data.data, settle->chunks[i].data.len, "poison", 6))
			return true;
	return false;
}

TEST(a_poisoned_outcome_keeps_no_other_from_being_written)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	house->crossed.refuses = holds_poison;
	house->scripted.status.slots = 40;
	struct uuid ids[30];
	for (int i = 0; i < 30; i++) {
		struct submission submission = submission_of(house, &arena);
		struct admission_result result;
		submission.executor = BYTES_LITERAL("scripted");
		submission.max_attempts = 1;
		admit(house, &submission, &result, 1);
		ids[i] = result.id;
	}
	WAIT(house, house->scripted.runs == 30);
	/* All end in one turn: one batch, or two. */
	for (int i = 0; i < 30; i++) {
		bool poisoned = uuid_compare(&house->scripted.jobs[0]->task_id, &ids[17]) == 0;
		scripted_started(&house->scripted);
		scripted_output(&house->scripted, 0, 1, poisoned ? "here is poison" : "bread");
		scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
		scripted_end(&house->scripted, REASON_NONE, false);
	}
	WAIT(house, house->events[EVENT_COMPLETED] == 29);
	WAIT(house, house->events[EVENT_FAILED] == 1);
	CHECK_INT(uuid_compare(&house->last_ended, &ids[17]), 0);
	struct bytes result = row_form(house, &ids[17], &arena);
	CHECK(holds(result, "\"reason\":\"max_attempts\""));
	CHECK(holds(result, "\"cause\":\"api_error\""));
	CHECK(holds(result, "could not be written"));
	CHECK(house->crossed.refusals >= 3);
	arena_fini(&arena);
	house_free(house);
}

static bool holds_this_row(void *owner, const struct store_settle *settle)
{
	struct house *house = owner;
	for (size_t i = 0; i < settle->count; i++)
		if (uuid_compare(&settle->transitions[i].guard.id, &house->last_ended) == 0)
			return true;
	return false;
}

/* Not even without what came from outside: it waits, and all others go on. */
TEST(a_row_that_takes_no_outcome_at_all_waits_alone)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	house->last_ended = id;
	WAIT(house, house->scripted.runs == 1);
	house->crossed.refuses = holds_this_row;
	house->bus->ops->unsubscribe(house->bus, &house->subscriber);
	scripted_end(&house->scripted, REASON_NONE, false);
	for (size_t i = 0; i < 20 || house->crossed.refusals < 5; i++) {
		struct uuid other = admit_scripted(house, &arena, BYTES_NONE);
		WAIT(house, house->scripted.runs == i + 2);
		scripted_end(&house->scripted, REASON_NONE, false);
		while (row_status(house, &other) != TASK_COMPLETED)
			REQUIRE(!house->late);
	}
	CHECK_INT(row_status(house, &id), TASK_RUNNING);
	house->crossed.refuses = NULL;
	WAIT(house, house->scripted.job_count == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(uuid_compare(&house->scripted.jobs[0]->task_id, &id), 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	while (row_status(house, &id) != TASK_COMPLETED)
		REQUIRE(!house->late);
	house->bus->ops->subscribe(house->bus, &house->subscriber);
	arena_fini(&arena);
	house_free(house);
}

/* ---- answers that overtake each other ---- */

static void tell_of_work(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind == CROSSED_HEARTBEAT)
		house->crossed.notices.on_work(house->crossed.listener);
}

TEST(a_task_is_claimed_again_before_its_settlement_is_heard_of)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	house->crossed.held[CROSSED_SETTLE] = true;
	house->crossed.on_call = tell_of_work;
	scripted_end(&house->scripted, REASON_EXECUTOR_LOST, /* never_started= */ true);
	WAIT(house, house->scripted.runs == 2);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	REQUIRE(coordinator_find(house->coordinator, &id));
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempt, 2);
	CHECK_INT(coordinator_statistics(house->coordinator)->running, 2);
	crossed_release(&house->crossed);
	CHECK_INT(coordinator_statistics(house->coordinator)->running, 1);
	REQUIRE(coordinator_find(house->coordinator, &id));
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempt, 2);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	CHECK_INT(row_status(house, &id), TASK_COMPLETED);
	arena_fini(&arena);
	house_free(house);
}

/* Of the next claim that may bring a row of the scripted executor. */
static bool asks_scripted(const struct store_operation *operation)
{
	const struct store_claim *claim = CONTAINER_OF(operation, const struct store_claim, operation);
	for (size_t i = 0; i < claim->lane_count; i++)
		if (bytes_is(claim->lanes[i].executor, "scripted"))
			return true;
	return false;
}

static void lose_claim(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind != CROSSED_CLAIM || !asks_scripted(operation))
		return;
	house->crossed.lost[CROSSED_CLAIM] = 1;
	house->crossed.on_call = NULL;
}

static void hold_claim(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind != CROSSED_CLAIM || !asks_scripted(operation))
		return;
	house->crossed.held[CROSSED_CLAIM] = true;
	house->crossed.on_call = NULL;
}

/* What was accepted when there was no slot for it, and is claimed now that there are. */
static struct uuid admit_claimed(
	struct house *house, struct arena *arena, void (*on_call)(void *, enum crossed_kind, struct store_operation *))
{
	house->scripted.status.slots = 0;
	struct uuid id = admit_scripted(house, arena, BYTES_NONE);
	house->crossed.on_call = on_call;
	house->scripted.status.slots = 2;
	house->scripted.listener->on_changed(house->scripted.owner, &house->scripted.executor);
	return id;
}

/* Until the store has done what is held, and its answer is kept back. */
static void wait_held(struct house *house)
{
	while (!house->crossed.waiting && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	REQUIRE(house->crossed.waiting);
}

TEST(rows_of_a_claim_whose_answer_was_lost_are_taken_up)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	struct uuid id = admit_claimed(house, &arena, lose_claim);
	/* Never started here: handed back uncharged, and claimed again. */
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	finish_one(house, &arena);
}

TEST(rows_of_such_a_claim_that_might_be_adopted_are_not_charged_either)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	house->scripted.status.outlives_service = true;
	struct uuid id = admit_claimed(house, &arena, lose_claim);
	WAIT(house, house->scripted.adoptions == 1);
	scripted_end(&house->scripted, REASON_WORKER_CRASH, false);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	CHECK_INT(house->events[EVENT_RETRYING], 0);
	finish_one(house, &arena);
}

/* What is to be looked for keeps all else from being claimed: it does not wait for the next heartbeat. */
TEST(own_rows_are_looked_for_as_soon_as_no_slot_is_promised)
{
	struct house *house = house_that_beats(LONG_US, 3 * LONG_US);
	struct arena arena = { 0 };
	admit_claimed(house, &arena, lose_claim);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);

	/* The same where a row is being written as born running. */
	size_t takes = house->crossed.calls[CROSSED_TAKE];
	uint64_t born = coordinator_statistics(house->coordinator)->born_running;
	struct submission submission = submission_of(house, &arena);
	submission.executor = BYTES_LITERAL("scripted");
	struct admission_result result;
	struct answer answer = { .admission = { &submission, 1, &result, .done = on_admitted }, .house = house };
	answer.admission.owner = &answer;
	house->crossed.held[CROSSED_SUBMIT] = true;
	coordinator_admit(house->coordinator, &answer.admission);
	wait_held(house);
	look_for_own_rows(house);
	CHECK_INT(house->crossed.calls[CROSSED_TAKE], takes);
	crossed_release(&house->crossed);
	CHECK_INT(coordinator_statistics(house->coordinator)->born_running, born + 1);
	CHECK_INT(house->crossed.calls[CROSSED_TAKE], takes + 1);
	CHECK(answer.done);
	admission_fini(&answer.admission);
	while (house->scripted.job_count)
		scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 2);
	arena_fini(&arena);
	house_free(house);
}

/* ---- attempts that an executor finds ---- */

static void find(struct house *house, const struct uuid *id, int attempt)
{
	house->scripted.listener->on_found(house->scripted.owner, &house->scripted.executor, id, attempt);
}

/* A task nobody knows: by its discard all that was found before it has been judged. */
static void find_nothing(struct house *house)
{
	struct uuid id = uuid_new(&house->ids);
	size_t discards = house->scripted.discards;
	find(house, &id, 1);
	WAIT(house, house->scripted.discards == discards + 1);
	CHECK_INT(uuid_compare(&house->scripted.last_discarded, &id), 0);
}

static void find_what_is_over(struct house *house, const struct uuid *id, int attempt)
{
	size_t discards = house->scripted.discards;
	find(house, id, attempt);
	WAIT(house, house->scripted.discards == discards + 1);
	CHECK_INT(uuid_compare(&house->scripted.last_discarded, id), 0);
	CHECK_INT(house->scripted.last_discarded_attempt, attempt);
}

/* A row that runs under this name, written by somebody else's hands. */
static struct uuid put_running(struct house *house, struct arena *arena, const char *locked_by)
{
	struct submission submission = submission_of(house, arena);
	submission.executor = BYTES_LITERAL("scripted");
	const struct submit_item item = { .submission = &submission, .born_running = true };
	struct store_submit submit = {
		.operation = { .done = on_operation, .owner = &house->loop },
		.items = &item,
		.count = 1,
		.locked_by = bytes_of(locked_by),
	};
	house->store->ops->submit(house->store, &submit);
	WAIT(house, submit.operation.kind == -1);
	REQUIRE(submit.operation.outcome == STORE_OK);
	store_operation_fini(&submit.operation);
	return submission.id;
}

TEST(what_is_found_and_over_is_discarded_and_what_runs_is_not)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	find_nothing(house);
	struct uuid others = put_running(house, &arena, "another#1");
	find(house, &others, 1);
	find_nothing(house);

	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	find(house, &id, 1);
	find_nothing(house);
	scripted_end(&house->scripted, REASON_EVICTED, false);
	WAIT(house, house->scripted.runs == 2);
	find(house, &id, 2);
	find_nothing(house);
	find_what_is_over(house, &id, 1);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	find_what_is_over(house, &id, 2);
	CHECK_INT(house->scripted.adoptions, 0);
	CHECK_INT(row_status(house, &others), TASK_RUNNING);
	arena_fini(&arena);
	house_free(house);
}

/* As after a claim whose answer was lost, but that the executor has it already. */
TEST(what_is_found_and_ours_is_adopted)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	house->scripted.status.outlives_service = true;
	struct uuid id = put_running(house, &arena, coordinator_locked_by(house->coordinator));
	find(house, &id, 1);
	WAIT(house, house->scripted.adoptions == 1);
	CHECK_INT(uuid_compare(&house->scripted.jobs[0]->task_id, &id), 0);
	CHECK_INT(house->scripted.discards, 0);
	scripted_step(&house->scripted, STEP_RUN, 0, REASON_NONE, 0);
	finish_one(house, &arena);
}

/* Nothing is known of it as long as the rows cannot be read. */
TEST(what_is_found_while_the_store_is_away_waits)
{
	struct house *house = house_of_replicas();
	const struct err away = { -ENOTCONN, "as the test says" };
	struct uuid id = uuid_new(&house->ids);
	house->crossed.notices.on_available(house->crossed.listener, false, &away);
	find(house, &id, 1);
	find(house, &id, 1);
	house->crossed.notices.on_available(house->crossed.listener, true, NULL);
	WAIT(house, house->scripted.discards == 1);
	find_nothing(house);
	CHECK_INT(house->scripted.discards, 2);
	house_free(house);
}

/* ---- leases ---- */

TEST(without_a_heartbeat_what_runs_is_killed_and_handed_back)
{
	struct house *house = house_of_leases();
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_started(&house->scripted);
	house->crossed.away[CROSSED_HEARTBEAT] = SIZE_MAX;
	WAIT(house, house->scripted.cancels == 1);
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_CUT_OFF);
	admit_scripted(house, &arena, BYTES_NONE);
	scripted_end(&house->scripted, REASON_CANCELLED, false);
	CHECK_INT(house->scripted.runs, 1);
	house->crossed.away[CROSSED_HEARTBEAT] = 0;
	WAIT(house, house->scripted.runs == 3);
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_RUNNING);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	for (int i = 0; i < 2; i++)
		scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 2);
	CHECK_INT(house->events[EVENT_RETRYING], 0);
	arena_fini(&arena);
	house_free(house);
}

/* Stopped past the lease by another process, and gone on: whatever wakes it first, a timer or an answer, it starts
 * nothing. */
static void stop_for(int64_t us)
{
	pid_t self = getpid();
	pid_t child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		kill(self, SIGSTOP);
		const struct timespec pause = { us / US_PER_S, (long)(us % US_PER_S) * 1000 };
		nanosleep(&pause, NULL);
		kill(self, SIGCONT);
		_exit(0);
	}
	REQUIRE(waitpid(child, NULL, 0) == child);
}

TEST(who_was_stopped_past_its_lease_starts_nothing)
{
	struct house *house = house_of_leases();
	struct arena arena = { 0 };
	struct uuid id = admit_claimed(house, &arena, hold_claim);
	wait_held(house);
	stop_for(LEASE_US);
	crossed_release(&house->crossed);
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_CUT_OFF);
	CHECK_INT(house->scripted.runs, 0);
	/* Handed back, when it knows that it lives, and claimed again. */
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_RUNNING);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	finish_one(house, &arena);
}

/* It says that we lived when it was sent. */
struct beat {
	struct house *house;
	int64_t sent_us; /* boot time: not after the call */
};

static void note_beat(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct beat *beat = owner;
	if (kind == CROSSED_HEARTBEAT)
		beat->sent_us = clock_boottime_us();
}

TEST(a_heartbeat_confirmed_too_late_confirms_nothing)
{
	struct house *house = house_of_leases();
	struct beat beat = { .house = house };
	house->crossed.held[CROSSED_HEARTBEAT] = true;
	house->crossed.on_call = note_beat;
	house->crossed.owner = &beat;
	/* Its answer is there, and two thirds of the lease have gone by since it was sent. */
	bool over = false;
	while (!(over && coordinator_phase(house->coordinator) == COORDINATOR_CUT_OFF) && !house->late) {
		uv_run(&house->loop, UV_RUN_ONCE);
		over = house->crossed.waiting && clock_boottime_us() - beat.sent_us >= LEASE_US * 2 / 3;
	}
	REQUIRE(house->crossed.waiting);
	size_t beats = house->crossed.calls[CROSSED_HEARTBEAT];
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_CUT_OFF);
	crossed_release(&house->crossed);
	CHECK_INT(coordinator_phase(house->coordinator), COORDINATOR_CUT_OFF);
	CHECK_INT(house->crossed.calls[CROSSED_HEARTBEAT], beats + 1);
	while (coordinator_phase(house->coordinator) != COORDINATOR_RUNNING && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	CHECK(!house->late);
	house_free(house);
}

struct reaping {
	struct house *house;
	int64_t since_us; /* boot time: nothing of others may be taken for a lease from here */
	size_t takes;
	bool too_early;
};

static void watch_takes(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct reaping *reaping = owner;
	if (kind == CROSSED_TAKE && CONTAINER_OF(operation, struct store_take, operation)->kind == TAKE_DEAD) {
		reaping->takes++;
		reaping->too_early |= clock_boottime_us() - reaping->since_us < LEASE_US;
		uv_stop(&reaping->house->loop);
	}
}

static void other_runs(struct house *house, struct arena *arena, struct uuid *ret_id)
{
	struct submission submission = submission_of(house, arena);
	submission.executor = BYTES_LITERAL("scripted");
	const struct submit_item item = { &submission, true };
	struct store_submit submit = { .operation = { .done = on_operation, .owner = &house->loop },
		.items = &item,
		.count = 1,
		.locked_by = BYTES_LITERAL("other#1") };
	house->crossed.inner->ops->submit(house->crossed.inner, &submit);
	WAIT(house, submit.operation.kind == -1);
	REQUIRE(submit.operation.outcome == STORE_OK);
	store_operation_fini(&submit.operation);
	*ret_id = submission.id;
}

TEST(the_dead_are_reaped_one_lease_after_our_own_return)
{
	struct house *house = house_of_leases();
	struct arena arena = { 0 };
	struct uuid id;
	struct reaping reaping = { .house = house, .since_us = clock_boottime_us() };
	struct err away = { 0 };
	house->crossed.on_call = watch_takes;
	house->crossed.owner = &reaping;
	/* The store goes and comes back: the others could not tell that they live, either. */
	house->crossed.notices.on_available(house->crossed.listener, false, &away);
	other_runs(house, &arena, &id);
	reaping.since_us = clock_boottime_us();
	house->crossed.notices.on_available(house->crossed.listener, true, NULL);
	WAIT(house, reaping.takes > 0);
	CHECK(!reaping.too_early);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 1);
	finish_one(house, &arena);
}

/* The new incarnation reaps the former one, whose job the executor has not let go of yet. */
TEST(a_row_of_our_former_name_is_taken_up_beside_what_is_left_of_it)
{
	struct house *house = house_of_leases();
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	house->crossed.buried = true;
	WAIT(house, house->scripted.cancels == 1);
	CHECK(!coordinator_find(house->coordinator, &id));
	WAIT(house, house->scripted.runs == 2);
	CHECK_INT(house->scripted.jobs[1]->attempt, 2);
	CHECK_INT(uuid_compare(&house->scripted.jobs[1]->task_id, &id), 0);
	scripted_end(&house->scripted, REASON_NONE, false);
	CHECK_INT(row_status(house, &id), TASK_RUNNING);
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->events[EVENT_COMPLETED] == 1);
	CHECK_INT(row_status(house, &id), TASK_COMPLETED);
	arena_fini(&arena);
	house_free(house);
}

/* Claimed under a name that died before the answer came: it was never started, and that is no crash. */
TEST(what_our_former_name_never_started_is_not_charged)
{
	struct house *house = house_of_leases();
	struct arena arena = { 0 };
	char former[200];
	snprintf(former, sizeof(former), "%s", coordinator_locked_by(house->coordinator));
	struct uuid id = admit_claimed(house, &arena, hold_claim);
	wait_held(house);
	house->crossed.buried = true;
	while (strcmp(former, coordinator_locked_by(house->coordinator)) == 0 && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	crossed_release(&house->crossed);
	CHECK_INT(house->scripted.runs, 0);
	WAIT(house, house->scripted.runs == 1);
	CHECK_INT(house->scripted.jobs[0]->attempt, 2);
	CHECK_INT(coordinator_find(house->coordinator, &id)->attempts, 0);
	CHECK_INT(house->events[EVENT_RETRYING], 0);
	finish_one(house, &arena);
}

/* ---- output that is followed from elsewhere ---- */

TEST(output_that_another_replica_follows_is_written_at_once)
{
	struct house *house = house_of_replicas();
	struct arena arena = { 0 };
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 1);
	scripted_started(&house->scripted);
	WAIT(house, house->events[EVENT_RUNNING] == 1);
	size_t settles = house->crossed.calls[CROSSED_SETTLE];
	scripted_output(&house->scripted, 0, 1, "quiet");
	CHECK_INT(house->crossed.calls[CROSSED_SETTLE], settles);
	house->crossed.notices.on_output_wanted(house->crossed.listener, &id);
	uv_run(&house->loop, UV_RUN_NOWAIT);
	CHECK_INT(house->crossed.calls[CROSSED_SETTLE], settles + 1);
	finish_one(house, &arena);
}

struct following {
	struct output_follower follower;
	struct house *house;
	size_t told;
	bool leave;
};

static void on_output_told(struct output_follower *follower)
{
	struct following *following = CONTAINER_OF(follower, struct following, follower);
	following->told++;
	if (following->leave)
		coordinator_unfollow_output(following->house->coordinator, follower);
}

TEST(output_of_elsewhere_is_asked_for_with_each_heartbeat)
{
	struct house *house = house_of_replicas();
	const struct uuid id = { { 7 } };
	struct following first = { .follower = { .id = id, .on_output = on_output_told }, .house = house }, second = {
		.follower = { .id = id, .on_output = on_output_told }, .house = house, .leave = true
	};
	coordinator_follow_output(house->coordinator, &first.follower);
	CHECK_INT(house->crossed.follows, 1);
	coordinator_follow_output(house->coordinator, &second.follower);
	CHECK_INT(house->crossed.follows, 1);
	house->crossed.on_call = stop_loop_at_heartbeat;
	WAIT(house, house->crossed.follows >= 3);
	CHECK(first.told >= 2); /* with each heartbeat they look, too */
	int told = first.told;
	house->crossed.notices.on_output(house->crossed.listener, &id);
	house->crossed.notices.on_output(house->crossed.listener, &id);
	CHECK_INT(first.told, told + 2);
	CHECK_INT(second.told, 1);
	coordinator_unfollow_output(house->coordinator, &first.follower);
	coordinator_unfollow_output(house->coordinator, &first.follower);
	house->crossed.notices.on_output(house->crossed.listener, &id);
	CHECK_INT(first.told, told + 2);
	size_t follows = house->crossed.follows, beats = house->crossed.calls[CROSSED_HEARTBEAT];
	WAIT(house, house->crossed.calls[CROSSED_HEARTBEAT] > beats + 1);
	CHECK_INT(house->crossed.follows, follows);
	house_free(house);
}

TEST_MAIN()
