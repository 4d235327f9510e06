/* The coordinator on real doors: the SQLite store, the local bus, the noop executor. What it promises is checked where it can be seen from
 * outside: in rows, in events, in what executors are asked to do. */
#include <ftw.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "bus/local.h"
#include "coordinator/coordinator.h"
#include "crossed_store.h"
#include "executor/noop.h"
#include "scripted_executor.h"
#include "store/sqlite/sqlite_store.h"

#define DEADLINE_MS 60000

struct house {
	char directory[64];
	uv_loop_t loop;
	struct log log;
	struct uuid_generator ids;
	struct languages *languages;
	struct store *store;
	struct bus *bus;
	struct executor *noop;
	struct scripted_executor scripted;
	struct crossed_store crossed; /* what the coordinator has for its store */
	struct executor *executors[2];
	struct coordinator *coordinator;
	struct bus_subscriber subscriber;
	uv_timer_t deadline;
	bool ready, stopped, late;
	size_t events[EVENT_KIND_COUNT];
	size_t flushed;
	struct uuid last_ended;
};

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	return remove(path);
}

static void on_events(void *owner, const struct event *events, size_t count)
{
	struct house *house = owner;
	for (size_t i = 0; i < count; i++) {
		house->events[events[i].kind]++;
		if (events[i].kind >= EVENT_COMPLETED)
			house->last_ended = events[i].task_id;
	}
	uv_stop(&house->loop);
}

static void on_ready(void *owner)
{
	struct house *house = owner;
	house->ready = true;
	uv_stop(&house->loop);
}

static void on_deadline(uv_timer_t *timer)
{
	((struct house *)timer->data)->late = true;
	uv_stop(timer->loop);
}

#define WAIT(house, condition) \
	do { \
		while (!(condition) && !(house)->late) \
			uv_run(&(house)->loop, UV_RUN_DEFAULT); \
		REQUIRE(condition); \
	} while (0)

/* All but the wait until it is ready. */
static void house_begin(struct house *house, int noop_slots, struct coordinator_settings settings)
{
	struct err err = { 0 };
	uv_loop_init(&house->loop);
	house->log = (struct log){ .fd = STDERR_FILENO, .level = LOG_ERROR };
	house->ready = house->stopped = house->late = false;
	REQUIRE(languages_parse(languages_builtin(), "built-in", &house->languages, &err) == 0);
	const struct sqlite_store_options store_options = {
		.directory = house->directory,
		.loop = &house->loop,
		.log = &house->log,
	};
	house->store = &house->crossed.store;
	crossed_init(&house->crossed, &house->loop, sqlite_store_new(&store_options));
	house->bus = local_bus_new(&house->loop);
	house->noop = noop_executor_new(&house->loop, noop_slots);
	scripted_init(&house->scripted, &house->loop, 2);
	house->executors[0] = house->noop;
	house->executors[1] = &house->scripted.executor;
	if (!settings.heartbeat_us)
		settings.heartbeat_us = 5 * US_PER_S;
	settings.lease_us = 3 * settings.heartbeat_us;
	if (!settings.retry.cap)
		settings.retry = (struct retry_policy){ .base_us = 30 * US_PER_S, .cap = 10 };
	settings.output_kept = 1 << 20;
	settings.embedded = true;
	const struct coordinator_options options = {
		.loop = &house->loop,
		.log = &house->log,
		.store = house->store,
		.bus = house->bus,
		.executors = house->executors,
		.executor_count = 2,
		.internal = house->noop,
		.languages = house->languages,
		.ids = &house->ids,
		.replica = "test",
		.settings = settings,
		.on_ready = on_ready,
		.owner = house,
	};
	house->coordinator = coordinator_new(&options);
	uv_timer_init(&house->loop, &house->deadline);
	house->deadline.data = house;
	uv_timer_start(&house->deadline, on_deadline, DEADLINE_MS, 0);
	house->subscriber = (struct bus_subscriber){ .on_events = on_events, .owner = house };
	house->bus->ops->subscribe(house->bus, &house->subscriber);
	REQUIRE(coordinator_start(house->coordinator, &err) == 0);
}

static void house_open(struct house *house, int noop_slots, struct coordinator_settings settings)
{
	house_begin(house, noop_slots, settings);
	WAIT(house, house->ready);
}

static void on_stopped(void *owner)
{
	struct house *house = owner;
	house->stopped = true;
	uv_stop(&house->loop);
}

static void house_stopped(struct house *house)
{
	WAIT(house, house->stopped);
	house->bus->ops->unsubscribe(house->bus, &house->subscriber);
	house->bus->ops->stop(house->bus, on_stopped, house);
	uv_close((uv_handle_t *)&house->deadline, NULL);
	uv_run(&house->loop, UV_RUN_DEFAULT);
	uv_run(&house->loop, UV_RUN_DEFAULT);
	coordinator_free(house->coordinator);
	house->noop->ops->free(house->noop);
	house->bus->ops->free(house->bus);
	house->store->ops->free(house->store);
	languages_free(house->languages);
	CHECK_INT(uv_loop_close(&house->loop), 0);
}

static void house_close(struct house *house)
{
	coordinator_stop(house->coordinator, 0, on_stopped, house);
	CHECK(!house->stopped);
	house_stopped(house);
}

static struct house *house_new(int noop_slots, struct coordinator_settings settings)
{
	struct house *house = alloc(sizeof(*house));
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house_open(house, noop_slots, settings);
	return house;
}

static void house_free(struct house *house)
{
	house_close(house);
	nftw(house->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(house);
}

static struct bytes normal_params(struct arena *arena)
{
	static const char file_content[] = "print(1)";
	struct buffer text = { 0 };
	const struct job_file file = { .path = BYTES_LITERAL(""),
		.content = { file_content, sizeof(file_content) - 1 } };
	const struct evaluation evaluation = {
		.language = BYTES_LITERAL("python"),
		.files = &file,
		.file_count = 1,
		.timeout_us = 10 * US_PER_S,
		.memory_bytes = 64 << 20,
		.cpu_millis = 500,
	};
	evaluation_write(&evaluation, &text);
	struct bytes kept = arena_bytes(arena, buffer_bytes(&text));
	buffer_fini(&text);
	return kept;
}

static struct submission submission_of(struct house *house, struct arena *arena)
{
	return (struct submission){
		.id = uuid_new(&house->ids),
		.tenant = BYTES_LITERAL("default"),
		.type = BYTES_LITERAL("evaluation"),
		.queue = BYTES_LITERAL("default"),
		.executor = BYTES_LITERAL("noop"),
		.priority = 5,
		.max_attempts = 3,
		.params = normal_params(arena),
	};
}

struct answer {
	struct admission admission;
	struct house *house;
	bool done;
};

static void on_admitted(struct admission *admission)
{
	struct answer *answer = admission->owner;
	answer->done = true;
	uv_stop(&answer->house->loop);
}

/* Hands submissions in and waits for the answer. */
static void admit(struct house *house, struct submission *submissions, struct admission_result *results, size_t count)
{
	struct answer answer = {
		.admission = { .submissions = submissions, .count = count, .results = results, .done = on_admitted },
		.house = house,
	};
	answer.admission.owner = &answer;
	coordinator_admit(house->coordinator, &answer.admission);
	CHECK(!answer.done);
	WAIT(house, answer.done);
	admission_fini(&answer.admission);
}

static void on_operation(struct store_operation *operation)
{
	uv_stop(operation->owner);
	operation->kind = -1;
}

static enum task_status row_status(struct house *house, const struct uuid *id)
{
	struct read_task read = { .operation = { .done = on_operation, .owner = &house->loop }, .ids = id, .count = 1 };
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.operation.outcome == STORE_OK && read.results[0]);
	enum task_status status = read.results[0]->status;
	store_operation_fini(&read.operation);
	return status;
}

static enum command_status command(struct house *house, enum command_kind kind, const struct uuid *id)
{
	struct store_command command = {
		.operation = { .done = on_operation, .owner = &house->loop },
		.kind = kind,
		.ids = id,
		.count = 1,
		.at_us = clock_wall_us(),
	};
	coordinator_command(house->coordinator, &command);
	WAIT(house, command.operation.kind == -1);
	REQUIRE(command.operation.outcome == STORE_OK && command.result_count == 1);
	enum command_status status = command.results[0].status;
	store_operation_fini(&command.operation);
	return status;
}

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
	WAIT(house, row_status(house, &results[1].id) == TASK_COMPLETED);
	arena_fini(&arena);
	house_free(house);
}

TEST(what_comes_due_is_run_without_being_asked_for)
{
	struct house *house = house_new(4, (struct coordinator_settings){ 0 });
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.run_after_us = clock_wall_us() + 200 * US_PER_MS;
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
	CHECK(memmem(read.results[0]->result.data, read.results[0]->result.len, "\"answer\":\"pong\"", 15));
	store_operation_fini(&read.operation);
	arena_fini(&arena);
	house_free(house);
}

/* ---- faults, by the scripted executor ---- */

static struct uuid admit_scripted(struct house *house, struct arena *arena, struct bytes task_params)
{
	struct submission submission = submission_of(house, arena);
	struct admission_result result;
	submission.executor = BYTES_LITERAL("scripted");
	if (task_params.data)
		submission.params = task_params;
	admit(house, &submission, &result, 1);
	REQUIRE(result.status == ADMISSION_CREATED);
	return result.id;
}

static struct bytes row_result(struct house *house, const struct uuid *id, struct arena *arena)
{
	struct read_task read = { .operation = { .done = on_operation, .owner = &house->loop }, .ids = id, .count = 1 };
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.results[0]);
	struct bytes kept = arena_bytes(arena, read.results[0]->result);
	store_operation_fini(&read.operation);
	return kept;
}

static bool holds(struct bytes text, const char *part)
{
	bool found = text.data && memmem(text.data, text.len, part, strlen(part));
	if (!found)
		printf("# %s is not in %.*s\n", part, (int)text.len, text.data ? text.data : "");
	return found;
}

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
	struct bytes result = row_result(house, &id, &arena);
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
	struct bytes result = row_result(house, &id, &arena);
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
	CHECK(holds(row_result(house, &id, &arena), "\"reason\":\"cancelled\""));
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
	struct bytes result = row_result(house, &id, &arena);
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
	struct bytes result = row_result(house, &id, &arena);
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

static void stop_at_take(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	if (kind == CROSSED_TAKE)
		coordinator_stop(house->coordinator, 3600 * US_PER_S, on_stopped, house);
}

/* Or a server would begin to listen that nobody stops. */
TEST(what_is_stopped_while_it_recovers_is_never_ready)
{
	struct house *house = house_of_the_dead(0);
	house_begin(house, 4, (struct coordinator_settings){ 0 });
	house->crossed.on_call = stop_at_take;
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
	house_open(house, 4, (struct coordinator_settings){ 0 });
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
	house_begin(house, 4, (struct coordinator_settings){ .heartbeat_us = 200 * US_PER_MS });
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

/* As many own rows as there are, each is looked at once: a take of own rows changes none, so it would be given the same ones for ever. */
TEST(own_rows_are_looked_through_once)
{
	struct house *house = house_new(4, (struct coordinator_settings){ .heartbeat_us = 100 * US_PER_MS });
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
	house->scripted.listener->on_found(house->scripted.owner, &house->scripted.executor, &results[0].id, 1);
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
	struct house *house = house_new(4, (struct coordinator_settings){ .heartbeat_us = 100 * US_PER_MS });
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
	house->scripted.listener->on_found(house->scripted.owner, &house->scripted.executor, &stream.result.id, 1);
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
	CHECK(holds(row_result(house, &result.id, &arena), "\"attempts\":0"));
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
	house->crossed.away[CROSSED_SETTLE] = 4;
	house->crossed.on_call = stop_loop_at_settle;
	house->crossed.owner = house;
	for (size_t i = 0; i < 10; i++)
		admit_scripted(house, &arena, BYTES_NONE);
	WAIT(house, house->scripted.runs == 2);
	scripted_end(&house->scripted, REASON_NONE, false);
	/* The first refusal is known: what had been claimed before may have been started. */
	WAIT(house, house->crossed.calls[CROSSED_SETTLE] == 2);
	size_t runs = house->scripted.runs;
	while (house->scripted.job_count)
		scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->crossed.calls[CROSSED_SETTLE] == 4);
	CHECK_INT(house->scripted.runs, runs);
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
	struct house *house = house_new(4, (struct coordinator_settings){ .heartbeat_us = 100 * US_PER_MS });
	struct arena arena = { 0 };
	house->scripted.status.slots = 0;
	struct uuid id = admit_scripted(house, &arena, BYTES_NONE);
	char former[200];
	snprintf(former, sizeof(former), "%s", coordinator_locked_by(house->coordinator));
	house->crossed.on_call = stop_loop_at_heartbeat;
	house->crossed.owner = house;
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
