/* What an attempt came to: steps and comparisons are gathered, and when the executor has ended the job the attempt's
 * last transition is decided here, by the fault: the user's ends the task, infrastructure's is retried, our own hands
 * it back.
 *
 * Comparisons run in libuv's pool. An attempt with one under way is not settled and not freed. */
#include "coordinator/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "task/compare.h"

/* A handed-back task waits a moment before it is offered again, so that a full executor is not asked in a circle. */
#define HAND_BACK_DELAY_US (1 * US_PER_S)

/* ---- tests ---- */

struct comparing {
	uv_work_t work;
	struct attempt *attempt; /* outlives us: attempt->comparing counts us */
	size_t index;
	struct comparison result;
};

static const char *test_status(const struct test_outcome *outcome)
{
	if (!outcome->ran)
		return "skipped";
	if (outcome->passed)
		return "passed";
	if (outcome->end.reason == REASON_TIMEOUT)
		return "timed_out";
	if (outcome->end.reason == REASON_OUT_OF_MEMORY)
		return "out_of_memory";
	return "failed";
}

/* A hidden test tells its status and points only. */
static void test_form(struct json *json, const struct attempt *attempt, size_t index)
{
	const struct evaluation_test *test = &attempt->evaluation.tests[index];
	const struct test_outcome *outcome = &attempt->tests[index];
	json_object(json);
	json_member_int(json, "index", (int64_t)index);
	if (!test->hidden)
		json_member_string(json, "name", test->name);
	else
		json_member_bool(json, "hidden", true);
	json_member_string(json, "status", bytes_of(test_status(outcome)));
	json_member_double(json, "points", outcome->passed ? test->points : 0);
	json_member_double(json, "max_points", test->points);
	if (!test->hidden && outcome->ran) {
		const struct step_end *end = &outcome->end;
		json_member_string(json, "reason", bytes_of(task_reason_name(end->reason)));
		if (end->exit_code >= 0)
			json_member_int(json, "exit_code", end->exit_code);
		if (end->signal)
			json_member_int(json, "signal", end->signal);
		json_member_double(json, "wall_seconds", (double)end->usage.wall_us / US_PER_S);
		if (end->usage.cpu_us >= 0)
			json_member_double(json, "cpu_seconds", (double)end->usage.cpu_us / US_PER_S);
		if (end->usage.memory_bytes >= 0)
			json_member_int(json, "memory_bytes", end->usage.memory_bytes);
		if (outcome->diff.data)
			json_member_string(json, "diff", outcome->diff);
	}
	json_object_end(json);
}

/* Told to the world, and, where the job waits for it, to the executor. */
static void test_done(struct attempt *attempt, size_t index)
{
	struct test_outcome *outcome = &attempt->tests[index];
	outcome->state = TEST_DONE;
	buffer_fini(&outcome->output);
	attempt->tests_ended++;

	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	json_key(&json, "test");
	test_form(&json, attempt, index);
	json_member_int(&json, "tests_ended", (int64_t)attempt->tests_ended);
	json_member_int(&json, "tests_total", (int64_t)attempt->evaluation.test_count);
	struct pending_step *step = alloc(sizeof(*step));
	step->event_data = arena_bytes(&attempt->arena, buffer_bytes(&text));
	step->at_us = clock_wall_us();
	list_push_back(&attempt->steps, &step->link);
	buffer_fini(&text);
	settle_enqueue(attempt);

	bool last = index + 1 == attempt->evaluation.test_count;
	if (attempt->job.ask_before_next && !last && attempt->phase <= ATTEMPT_STARTED)
		attempt->lane->executor->ops->proceed(
			attempt->lane->executor, &attempt->job, outcome->passed || !attempt->evaluation.fail_fast);
	if (attempt->phase == ATTEMPT_ENDED)
		outcome_job_ended(attempt);
}

static void compare_work(uv_work_t *work)
{
	struct comparing *comparing = CONTAINER_OF(work, struct comparing, work);
	const struct evaluation_test *test = &comparing->attempt->evaluation.tests[comparing->index];
	struct bytes output = buffer_bytes(&comparing->attempt->tests[comparing->index].output);
	compare_output(test->compare, test->expected, output, &comparing->result);
}

static void compare_done(uv_work_t *work, int status)
{
	struct comparing *comparing = CONTAINER_OF(work, struct comparing, work);
	struct attempt *attempt = comparing->attempt;
	size_t index = comparing->index;
	struct test_outcome *outcome = &attempt->tests[index];
	outcome->passed = status == 0 && comparing->result.match;
	if (!outcome->passed)
		outcome->diff = arena_bytes(
			&attempt->arena, (struct bytes){ comparing->result.diff, comparing->result.diff_len });
	struct coordinator *c = attempt->coordinator;
	free(comparing);
	attempt->comparing--;
	c->stop.comparing--;
	test_done(attempt, index);
	coordinator_drained_check(c);
}

static void test_ended(struct attempt *attempt, const struct step_end *end)
{
	struct test_outcome *outcome = &attempt->tests[end->run_index];
	outcome->ran = true;
	outcome->end = *end;
	const struct evaluation_test *test = &attempt->evaluation.tests[end->run_index];
	if (end->reason != REASON_NONE || !test->expected.data) {
		outcome->passed = end->reason == REASON_NONE;
		test_done(attempt, end->run_index);
		return;
	}
	if (attempt->coordinator->stop.stopping)
		return; /* nothing of it will be settled */
	struct comparing *comparing = alloc(sizeof(*comparing));
	comparing->attempt = attempt;
	comparing->index = end->run_index;
	outcome->state = TEST_COMPARING;
	attempt->comparing++;
	attempt->coordinator->stop.comparing++;
	uv_queue_work(attempt->coordinator->options.loop, &comparing->work, compare_work, compare_done);
}

void outcome_step_ended(struct attempt *attempt, const struct step_end *end)
{
	struct task_usage *usage = &attempt->usage;
	usage->wall_us += end->usage.wall_us;
	usage->cpu_us = end->usage.cpu_us < 0 || usage->cpu_us < 0 ? -1 : usage->cpu_us + end->usage.cpu_us;
	if (end->usage.memory_bytes > usage->memory_bytes || end->usage.memory_bytes < 0)
		usage->memory_bytes = end->usage.memory_bytes;
	attempt->last = *end;
	attempt->has_last = true;
	if (end->kind == STEP_RUN) {
		attempt->truncated[0] |= end->stdout_truncated;
		attempt->truncated[1] |= end->stderr_truncated;
	}
	if (end->kind == STEP_COMPILE && (end->reason == REASON_EXIT_CODE || end->reason == REASON_SIGNAL))
		attempt->last.reason = REASON_COMPILE_ERROR;
	if (end->kind == STEP_COMPILE && end->reason != REASON_NONE) {
		const struct buffer *words = &attempt->compile_output;
		output_append(attempt, 2, buffer_bytes(words));
		attempt->truncated[1] |= end->stdout_truncated || end->stderr_truncated || words->len == words->max;
	}
	if (end->kind == STEP_RUN && attempt->tests && end->run_index < attempt->evaluation.test_count)
		test_ended(attempt, end);
}

/* ---- the last transition ---- */

static struct bytes to_arena(struct attempt *attempt, struct buffer *text)
{
	struct bytes kept = arena_bytes(&attempt->arena, buffer_bytes(text));
	buffer_fini(text);
	return kept.data ? kept : BYTES_LITERAL("");
}

static struct bytes result_text(struct attempt *attempt, const struct attempt_record *record)
{
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	form_result(&json, &attempt->task, record);
	return to_arena(attempt, &text);
}

static struct bytes terminal_text(struct attempt *attempt, const struct attempt_record *record)
{
	struct buffer text = { 0 };
	form_terminal_data(&text, &attempt->task, record);
	return to_arena(attempt, &text);
}

static struct attempt_record record_of(const struct attempt *attempt)
{
	return (struct attempt_record){
		.status = TASK_FAILED,
		.exit_code = -1,
		.usage = attempt->usage,
		.stdout_truncated = attempt->truncated[0],
		.stderr_truncated = attempt->truncated[1],
		.started_at_us = attempt->task.started_at_us,
		.finished_at_us = attempt->end->job.at_us ? attempt->end->job.at_us : clock_wall_us(),
		.error = attempt->end->job.message[0] ? bytes_of(attempt->end->job.message) : BYTES_NONE,
		.node = attempt->task.node,
		.pod = attempt->task.pod,
		.image = attempt->task.image,
	};
}

static void record_tests(struct attempt *attempt, struct attempt_record *record)
{
	const struct evaluation *evaluation = &attempt->evaluation;
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	json_array(&json);
	record->has_score = true;
	record->tests_total = (int)evaluation->test_count;
	for (size_t i = 0; i < evaluation->test_count; i++) {
		test_form(&json, attempt, i);
		record->max_score += evaluation->tests[i].points;
		if (attempt->tests[i].passed) {
			record->score += evaluation->tests[i].points;
			record->tests_passed++;
		}
	}
	json_array_end(&json);
	record->tests = to_arena(attempt, &text);
}

/* What a compiler said, and what a smoke test answered, are members of the status object of their own. */
static void record_extra(struct attempt *attempt, struct attempt_record *record)
{
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	if (attempt->compile_output.len)
		json_member_string(&json, "compile_output", buffer_bytes(&attempt->compile_output));
	if (bytes_is(attempt->task.type, "test"))
		json_member_string(&json, "answer", text_trim(buffer_bytes(&attempt->head[0])));
	if (text.len)
		record->extra = to_arena(attempt, &text);
	buffer_fini(&text);
}

static void end_with(struct attempt *attempt, const struct attempt_record *record, bool charged)
{
	attempt->task.finished_at_us = record->finished_at_us;
	attempt->end->transition = (struct transition){
		.kind = TRANSITION_END,
		.target = record->status,
		.at_us = record->finished_at_us,
		.charged = charged,
		.reason = record->reason,
		.cause = record->cause,
		.event_data = terminal_text(attempt, record),
		.result = result_text(attempt, record),
		.error = arena_bytes(&attempt->arena, record->error),
		.node = record->node,
		.pod = record->pod,
		.image = record->image,
	};
}

static void end_by_code(struct attempt *attempt)
{
	struct attempt_record record = record_of(attempt);
	bool compiled =
		!(attempt->has_last && attempt->last.kind == STEP_COMPILE && attempt->last.reason != REASON_NONE);
	if (attempt->tests && compiled) {
		record_tests(attempt, &record);
		bool passed = record.tests_passed == record.tests_total;
		record.status = passed ? TASK_COMPLETED : TASK_FAILED;
		record.reason = passed ? REASON_NONE : REASON_TESTS_FAILED;
		record.exit_code = passed ? 0 : -1;
	} else {
		record.reason = attempt->last.reason;
		record.status = record.reason == REASON_NONE ? TASK_COMPLETED : TASK_FAILED;
		record.exit_code = attempt->last.exit_code;
		record.signal = attempt->last.signal;
	}
	record_extra(attempt, &record);
	end_with(attempt, &record, /* charged= */ false);
}

static void end_cancelled(struct attempt *attempt)
{
	struct attempt_record record = record_of(attempt);
	record.status = TASK_CANCELLED;
	record.reason = REASON_CANCELLED;
	end_with(attempt, &record, /* charged= */ false);
}

/* A cancel that the store knows of and we do not yet: what the row gets then. */
struct cancelled_forms {
	struct bytes result, data;
	int64_t at_us; /* when it would have ended */
};

static struct cancelled_forms cancelled_forms(struct attempt *attempt)
{
	struct attempt_record record = record_of(attempt);
	record.status = TASK_CANCELLED;
	record.reason = REASON_CANCELLED;
	return (struct cancelled_forms){ result_text(attempt, &record), terminal_text(attempt, &record),
		record.finished_at_us };
}

static struct bytes hand_back_error(struct attempt *attempt)
{
	struct buffer text = { 0 };
	if (attempt->end->job.message[0] == '\0')
		return BYTES_NONE;
	if (attempt->end->job.never_started && attempt->end->job.wanted == JOB_WAIT_QUOTA)
		buffer_append_string(&text, WANTED_QUOTA);
	buffer_append_string(&text, attempt->end->job.message);
	return to_arena(attempt, &text);
}

static void hand_back(struct attempt *attempt, int64_t delay_us)
{
	struct cancelled_forms cancelled = cancelled_forms(attempt);
	attempt->end->transition = (struct transition){
		.kind = TRANSITION_HAND_BACK,
		.at_us = cancelled.at_us,
		.delay_us = delay_us,
		.error = hand_back_error(attempt),
		.cancelled_result = cancelled.result,
		.cancelled_data = cancelled.data,
	};
}

static void retry_or_fail(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	enum task_reason reason = attempt->end->job.reason;
	struct retry_decision decision =
		retry_decide(&c->options.settings.retry, reason, attempt->task.attempts, attempt->task.max_attempts);
	struct cancelled_forms cancelled = cancelled_forms(attempt);
	attempt->task.attempts++;
	if (!decision.retry) {
		struct attempt_record record = record_of(attempt);
		record.reason = REASON_MAX_ATTEMPTS;
		record.cause = reason;
		end_with(attempt, &record, /* charged= */ true);
		attempt->end->transition.cancelled_result = cancelled.result;
		attempt->end->transition.cancelled_data = cancelled.data;
		return;
	}
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	json_member_string(&json, "reason", bytes_of(task_reason_name(reason)));
	json_member_string(&json, "fault", bytes_of(task_fault_name(task_reason_fault(reason))));
	json_member_string(&json, "message", bytes_of(attempt->end->job.message));
	json_member_int(&json, "attempts", attempt->task.attempts);
	json_member_int(&json, "max_attempts", attempt->task.max_attempts);
	json_member_double(&json, "delay_seconds", (double)decision.delay_us / US_PER_S);
	attempt->end->transition = (struct transition){
		.kind = TRANSITION_RETRY,
		.at_us = cancelled.at_us,
		.delay_us = decision.delay_us,
		.reason = reason,
		.event_data = to_arena(attempt, &text),
		.error = arena_bytes(&attempt->arena, bytes_of(attempt->end->job.message)),
		.cancelled_result = cancelled.result,
		.cancelled_data = cancelled.data,
	};
}

void outcome_job_ended(struct attempt *attempt)
{
	if (attempt->comparing)
		return;
	attempt->phase = ATTEMPT_SETTLING;
	enum task_reason reason = attempt->end->job.reason;
	if (attempt->disowned) {
		if (!attempt->in_flight)
			attempt_free(attempt);
		return;
	}
	bool killed_by_us = attempt->hand_back && (reason == REASON_CANCELLED || reason == REASON_EXECUTOR_LOST);
	if (reason == REASON_NONE)
		end_by_code(attempt);
	else if (attempt->cancel_requested) /* also where the kill and a fault crossed */
		end_cancelled(attempt);
	else if (killed_by_us || (attempt->unbegun && reason == REASON_WORKER_CRASH))
		hand_back(attempt, 0);
	else if (attempt->end->job.never_started)
		hand_back(attempt, HAND_BACK_DELAY_US);
	else if (reason == REASON_CANCELLED)
		end_cancelled(attempt);
	else
		retry_or_fail(attempt);
	attempt->end_pending = true;
	settle_enqueue(attempt);
}

void outcome_lost(struct attempt *attempt, enum task_reason reason, const char *message)
{
	attempt->phase = ATTEMPT_ENDED;
	struct job_end end = { .reason = reason, .at_us = clock_wall_us() };
	size_t length = strlen(message);
	length = length < sizeof(end.message) - 1 ? length : sizeof(end.message) - 1;
	memcpy(end.message, message, length);
	attempt_end(attempt, &end);
	outcome_job_ended(attempt);
}

/* What the store said may quote what it did not like. */
static void quote(char *to, size_t size, const char *from)
{
	size_t length = 0;
	for (; from[length] && length + 1 < size; length++)
		to[length] = from[length] >= ' ' && from[length] <= '~' ? from[length] : '?';
	to[length] = 0;
}

void outcome_unwritable(struct attempt *attempt, const struct err *why)
{
	batch_forget(attempt);
	attempt->truncated[0] |= attempt->stream_offset[0] > 0;
	attempt->truncated[1] |= attempt->stream_offset[1] > 0;
	output_dispose(attempt);
	attempt->chunk_bytes = 0;
	while (!list_empty(&attempt->steps))
		free(LIST_ENTRY(list_pop_front(&attempt->steps), struct pending_step, link));
	attempt->task.node = attempt->task.pod = attempt->task.image = BYTES_NONE;
	if (!attempt->end_pending || attempt->bare)
		return;
	attempt->bare = true;
	char quoted[128];
	quote(quoted, sizeof(quoted), why->message);
	const struct transition *end = &attempt->end->transition;
	bool cancelled = end->kind == TRANSITION_END && end->target == TASK_CANCELLED;
	attempt->end->job.message[0] = 0;
	if (cancelled) {
		end_cancelled(attempt);
	} else if (end->kind == TRANSITION_HAND_BACK) {
		hand_back(attempt, HAND_BACK_DELAY_US);
	} else {
		bool counted = end->kind == TRANSITION_RETRY || end->charged;
		attempt->task.attempts -= counted;
		attempt->end->job.reason = REASON_API_ERROR;
		snprintf(attempt->end->job.message, sizeof(attempt->end->job.message),
			"its outcome could not be written: %s", quoted);
		retry_or_fail(attempt);
	}
}
