/* What is heard of an attempt, in every order in which it may come, and what is told of it. */
#include <stdarg.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "executor/kubernetes/account.h"
#include "task/lifecycle.h"
#include "test.h"

/* What was told, as one line. */
static struct buffer told;

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void tell(const char *format, ...)
{
	char text[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	buffer_printf(&told, "%s%s", told.len ? " " : "", text);
}

static void on_started(void *owner, struct job *job, const struct job_started *started)
{
	CHECK(started->at_us > 0);
	tell("started@%.*s%s", (int)started->node.len, started->node.data ? started->node.data : "",
		started->published ? " itself" : "");
}

static void on_output(
	void *owner, struct job *job, enum step_kind step, size_t run_index, int stream, struct bytes data)
{
	tell("%s%zu.%d:%.*s", step == STEP_COMPILE ? "c" : "r", run_index, stream, (int)data.len, data.data);
}

static void on_skipped(void *owner, struct job *job, size_t run_index, int stream, uint64_t bytes)
{
	tell("r%zu.%d+%d", run_index, stream, (int)bytes);
}

static void on_progress(void *owner, struct job *job, struct bytes members)
{
	tell("{%.*s}", (int)members.len, members.data);
}

static void on_step_ended(void *owner, struct job *job, const struct step_end *end)
{
	tell("%s%zu=%s/%d%s%s", end->kind == STEP_COMPILE ? "c" : "r", end->run_index,
		end->reason ? task_reason_name(end->reason) : "none", end->exit_code, end->stdout_truncated ? "!" : "",
		end->stderr_truncated ? "?" : "");
}

static const struct executor_listener listener = { .on_started = on_started,
	.on_output = on_output,
	.on_skipped = on_skipped,
	.on_progress = on_progress,
	.on_step_ended = on_step_ended };

static struct job_run runs_of_job[8];
static struct job job;
static struct account account;
static const struct job_started where = { .node = BYTES_LITERAL("n1") };

static void begin(size_t runs, bool has_compile, bool watched)
{
	buffer_clear(&told);
	account_fini(&account);
	for (size_t i = 0; i < ARRAY_SIZE(runs_of_job); i++)
		runs_of_job[i].judged = false;
	job = (struct job){ .runs = runs_of_job, .run_count = runs, .limits = { .output_bytes = 10 } };
	account_init(&account, &job, has_compile, watched, &listener, NULL);
}

static void check_told(const char *expected, const char *end)
{
	char text[128] = "";
	buffer_append_char(&told, '\0');
	CHECK_STR(told.data, expected);
	if (account.end)
		snprintf(text, sizeof(text), "%s",
			account.end->reason ? task_reason_name(account.end->reason) : "all told");
	CHECK_STR(text, end);
	told.len--;
}

static struct report_frame frame(enum frame_kind kind)
{
	return (struct report_frame){ .kind = kind, .at_us = 1000 * US_PER_S };
}

static void started(void)
{
	struct report_frame f = frame(FRAME_STARTED);
	account_frame(&account, &f, &where);
}

static void output(bool compile, uint32_t run, int stream, uint64_t offset, const char *text)
{
	struct report_frame f = frame(FRAME_OUTPUT);
	f.output = (struct report_output){ compile, run, stream, offset, (const uint8_t *)text, strlen(text) };
	account_frame(&account, &f, &where);
}

static struct report_step step(bool compile, uint32_t run, enum report_reason reason, int exit_code)
{
	return (struct report_step){ .compile = compile, .run = run, .reason = reason, .exit_code = exit_code };
}

static void step_ended(bool compile, uint32_t run, enum report_reason reason, int exit_code)
{
	struct report_frame f = frame(FRAME_STEP_ENDED);
	f.step = step(compile, run, reason, exit_code);
	account_frame(&account, &f, &where);
}

static void ended(
	enum frame_kind kind, enum report_how how, size_t ended_count, size_t count, const struct report_step *steps)
{
	uint8_t bytes[8 * REPORT_STEP_SIZE];
	struct report_frame f = frame(kind);
	REQUIRE(count <= 8);
	for (size_t i = 0; i < count; i++)
		report_step_put(bytes + i * REPORT_STEP_SIZE, &steps[i]);
	f.end = (struct report_end){
		.how = how, .ended = (uint16_t)ended_count, .count = (uint16_t)count, .steps = bytes
	};
	strcpy(f.end.message, "because");
	account_frame(&account, &f, &where);
}

static void pod(enum pod_stage stage, enum task_reason reason, int exit_code)
{
	struct pod p = { .stage = stage,
		.reason = reason,
		.exit_code = exit_code,
		.node = BYTES_LITERAL("n2"),
		.started_at_us = stage > POD_STUCK ? US_PER_S : 0,
		.finished_at_us = stage > POD_RUNNING ? 2 * US_PER_S : 0 };
	account_pod(&account, &p);
}

TEST(frames_alone_tell_everything)
{
	const struct report_step steps[] = { step(true, 0, REPORT_REASON_NONE, 0),
		step(false, 0, REPORT_REASON_EXIT_CODE, 3), step(false, 1, REPORT_REASON_TIMEOUT, -1) };
	begin(2, true, false);
	pod(POD_RUNNING, REASON_NONE, -1);
	started();
	output(true, 0, 2, 0, "warning");
	step_ended(true, 0, REPORT_REASON_NONE, 0);
	output(false, 0, 1, 0, "a");
	output(false, 0, 2, 0, "b");
	output(false, 0, 1, 1, "c");
	step_ended(false, 0, REPORT_REASON_EXIT_CODE, 3);
	step_ended(false, 1, REPORT_REASON_TIMEOUT, -1);
	check_told("started@n1 c0.2:warning c0=none/0 r0.1:a r0.2:b r0.1:c r0=exit_code/3 r1=timeout/-1", "");
	ended(FRAME_ENDED, HOW_COMPLETE, 3, 3, steps);
	check_told("started@n1 c0.2:warning c0=none/0 r0.1:a r0.2:b r0.1:c r0=exit_code/3 r1=timeout/-1", "all told");
	/* What comes the other way afterwards is not told again. */
	ended(FRAME_SUMMARY, HOW_COMPLETE, 3, 3, steps);
	pod(POD_FAILED, REASON_EXIT_CODE, 3);
	check_told("started@n1 c0.2:warning c0=none/0 r0.1:a r0.2:b r0.1:c r0=exit_code/3 r1=timeout/-1", "all told");
}

static void progress(bool compile, uint32_t run, int64_t wall_us, int64_t cpu_us, int64_t memory_bytes)
{
	struct report_frame f = { .kind = FRAME_PROGRESS, .progress = { compile, run, wall_us, cpu_us, memory_bytes } };
	account_frame(&account, &f, &where);
}

TEST(progress_is_told_of_the_step_that_runs_and_forwards_only)
{
	begin(2, true, false);
	progress(true, 0, 1, 1, 1);
	check_told("", "");
	started();
	progress(true, 0, 1500000, 250000, 4096);
	progress(true, 0, 1500000, 260000, 4096);
	progress(true, 0, 1000000, 100000, 4096);
	progress(false, 0, 1700000, 0, 0);
	step_ended(true, 0, REPORT_REASON_NONE, 0);
	progress(true, 0, 9000000, 0, 0);
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	progress(false, 1, 500000, -1, -1);
	check_told("started@n1 "
		   "{\"step\":\"compile\",\"wall_seconds\":1.5,\"cpu_seconds\":0.25,\"memory_bytes\":4096} "
		   "c0=none/0 r0=none/0 {\"step\":\"run\",\"run_index\":1,\"wall_seconds\":0.5}",
		"");
}

TEST(each_limit_of_the_code_has_its_reason)
{
	begin(5, false, false);
	started();
	step_ended(false, 0, REPORT_REASON_OUT_OF_MEMORY, -1);
	step_ended(false, 1, REPORT_REASON_OUTPUT_LIMIT, -1);
	step_ended(false, 2, REPORT_REASON_DISK_LIMIT, -1);
	step_ended(false, 3, REPORT_REASON_PROCESS_LIMIT, 1);
	step_ended(false, 4, REPORT_REASON_SIGNAL, -1);
	check_told("started@n1 r0=out_of_memory/-1 r1=output_limit/-1 r2=disk_limit/-1 r3=process_limit/1 r4=signal/-1",
		"");
}

TEST(the_message_alone_tells_the_outcomes)
{
	const struct report_step steps[] = { step(false, 0, REPORT_REASON_NONE, 0),
		step(false, 1, REPORT_REASON_SIGNAL, -1) };
	begin(2, false, false);
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1 r0=none/0!? r1=signal/-1!?", "all told");
	/* It had no room for all of them, and no frames came. */
	begin(2, false, false);
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 1, steps);
	check_told("started@n1 r0=none/0!?", "executor_lost");
	/* Where no frames are to come, what was printed comes another way. */
	begin(2, false, false);
	account.silent = true;
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1 r0=none/0 r1=signal/-1", "all told");
}

TEST(what_is_judged_by_an_output_that_is_lost_is_not_told)
{
	const struct report_step steps[] = { step(false, 0, REPORT_REASON_NONE, 0),
		step(false, 1, REPORT_REASON_EXIT_CODE, 1) };
	/* Its frames did not come. */
	begin(2, false, false);
	runs_of_job[0].judged = true;
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1", "executor_lost");
	/* A failure is one, whatever was printed. */
	begin(2, false, false);
	runs_of_job[1].judged = true;
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1 r0=none/0!? r1=exit_code/1!?", "all told");
	/* There is a hole in it, in what it is judged by or not. */
	begin(2, false, false);
	runs_of_job[0].judged = true;
	started();
	output(false, 0, 2, 4, "hole");
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	check_told("started@n1 r0.2+4 r0.2:hole r0=none/0?", "");
	begin(2, false, false);
	runs_of_job[0].judged = true;
	started();
	output(false, 0, 1, 4, "hole");
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	check_told("started@n1 r0.1+4 r0.1:hole", "executor_lost");
}

TEST(what_is_gone_for_good_loses_all_but_a_single_run)
{
	begin(2, false, false);
	account_gap(&account, &where);
	check_told("started@n1", "executor_lost");
	begin(1, false, false);
	account_gap(&account, &where);
	output(false, 0, 1, 7, "rest");
	output(false, 0, 1, 11, "!");
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	check_told("started@n1 r0.1+7 r0.1:rest r0.1:! r0=none/0!?", "");
}

TEST(what_came_before_is_not_told_again)
{
	const struct report_step steps[] = { step(false, 0, REPORT_REASON_NONE, 0),
		step(false, 1, REPORT_REASON_NONE, 0) };
	begin(2, false, false);
	started();
	output(false, 0, 1, 0, "abc");
	output(false, 0, 1, 0, "abc");
	output(false, 0, 1, 2, "cde");
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	output(false, 0, 1, 5, "late");
	output(false, 1, 1, 0, "next");
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1 r0.1:abc r0.1:de r0=none/0 r1.1:next r1=none/0!?", "all told");
}

TEST(a_hole_in_the_output_is_marked)
{
	begin(1, false, false);
	started();
	output(false, 0, 1, 0, "a");
	output(false, 0, 1, 9, "z");
	output(false, 0, 2, 4, "y");
	step_ended(false, 0, REPORT_REASON_NONE, 0);
	check_told("started@n1 r0.1:a r0.1+8 r0.1:z r0.2+4 r0.2:y r0=none/0!?", "");
}

TEST(who_did_not_get_to_the_end_is_told_by_the_pod)
{
	static const struct {
		enum pod_stage stage;
		enum task_reason reason;
		const char *steps, *end;
	} cases[] = {
		{ POD_FAILED, REASON_OUT_OF_MEMORY, " r1=out_of_memory/-1", "all told" },
		{ POD_FAILED, REASON_DISK_LIMIT, " r1=disk_limit/-1", "all told" },
		{ POD_FAILED, REASON_TIMEOUT, " r1=timeout/-1", "all told" },
		{ POD_FAILED, REASON_EVICTED, "", "evicted" },
		{ POD_FAILED, REASON_NODE_LOST, "", "node_lost" },
		{ POD_FAILED, REASON_EXIT_CODE, "", "executor_lost" },
		{ POD_SUCCEEDED, REASON_NONE, "", "executor_lost" },
	};
	const struct report_step first = step(false, 0, REPORT_REASON_NONE, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char expected[128];
		begin(3, false, false);
		started();
		step_ended(false, 0, REPORT_REASON_NONE, 0);
		ended(FRAME_SUMMARY, HOW_UNFINISHED, 1, 1, &first);
		check_told("started@n1 r0=none/0", "");
		pod(cases[i].stage, cases[i].reason, 137);
		snprintf(expected, sizeof(expected), "started@n1 r0=none/0%s", cases[i].steps);
		check_told(expected, cases[i].end);
	}
}

TEST(a_success_that_nobody_signed_is_none)
{
	begin(1, false, false);
	pod(POD_RUNNING, REASON_NONE, -1);
	pod(POD_SUCCEEDED, REASON_NONE, 0);
	check_told("", "executor_lost");
}

TEST(what_kills_the_wrapper_before_it_spoke_has_started)
{
	begin(1, false, false);
	pod(POD_FAILED, REASON_OUT_OF_MEMORY, 137);
	check_told("started@n2 r0=out_of_memory/-1", "all told");
}

TEST(an_end_from_outside_is_somebodys)
{
	const struct report_step cut = step(false, 0, REPORT_REASON_STOPPED, -1);
	static const struct {
		enum task_reason pod;
		bool cancelled;
		const char *end;
	} cases[] = { { REASON_EXIT_CODE, false, "deleted" }, { REASON_PREEMPTED, false, "preempted" },
		{ REASON_EXIT_CODE, true, "cancelled" }, { REASON_EVICTED, true, "cancelled" } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(1, false, false);
		started();
		account.cancelled = cases[i].cancelled;
		ended(FRAME_ENDED, HOW_TERMINATED, 1, 1, &cut);
		check_told("started@n1", "");
		pod(POD_FAILED, cases[i].pod, 143);
		check_told("started@n1", cases[i].end);
	}
}

TEST(what_the_wrapper_could_not_do_is_told)
{
	begin(1, false, false);
	ended(FRAME_ENDED, HOW_FAILED, 0, 0, NULL);
	check_told("", "executor_lost");
	CHECK_STR(account.end->message, "because");
	begin(1, false, false);
	started();
	ended(FRAME_ENDED, HOW_UNANSWERED, 0, 0, NULL);
	check_told("started@n1", "api_error");
	begin(1, false, false);
	account_lost(&account, REASON_DELETED, "the Job is gone");
	account_lost(&account, REASON_NODE_LOST, "later");
	check_told("", "deleted");
	begin(1, false, false);
	account.cancelled = true;
	account_lost(&account, REASON_DELETED, "the Job is gone");
	check_told("", "cancelled");
}

TEST(a_watched_pod_is_the_step)
{
	begin(1, false, true);
	pod(POD_PREPARING, REASON_NONE, -1);
	check_told("", "");
	pod(POD_RUNNING, REASON_NONE, -1);
	account_log(&account, BYTES_LITERAL("12345678"));
	account_log(&account, BYTES_LITERAL("90abc"));
	pod(POD_FAILED, REASON_EXIT_CODE, 3);
	check_told("started@n2 r0.1:12345678 r0.1:90 r0=exit_code/3!", "all told");
	begin(1, false, true);
	pod(POD_SUCCEEDED, REASON_NONE, 0); /* its running was never seen */
	check_told("started@n2 r0=none/0", "all told");
	begin(1, false, true);
	pod(POD_RUNNING, REASON_NONE, -1);
	pod(POD_FAILED, REASON_EVICTED, -1);
	check_told("started@n2", "evicted");
}

static int64_t start_at(int64_t since_us, int64_t at_us)
{
	begin(1, false, false);
	account.since_us = since_us;
	struct report_frame f = frame(FRAME_STARTED);
	f.at_us = at_us;
	account_frame(&account, &f, &where);
	return account.started_at_us;
}

TEST(times_are_told_where_they_can_be_true_by_our_clock)
{
	const int64_t now_us = clock_wall_us(), hour_us = 3600 * US_PER_S;
	CHECK_INT(start_at(now_us, now_us + 1), now_us + 1);
	CHECK_INT(start_at(now_us, now_us - US_PER_S), now_us - US_PER_S); /* clocks that are kept */
	CHECK_INT(start_at(0, now_us - hour_us), now_us - hour_us); /* adopted: it may have been so */
	CHECK(start_at(0, 0) >= now_us);
	CHECK(start_at(now_us, now_us - hour_us) >= now_us);
	int64_t ahead_us = start_at(now_us, now_us + hour_us);
	CHECK(ahead_us >= now_us && ahead_us < now_us + hour_us);
	const struct report_step steps[] = { step(false, 0, REPORT_REASON_NONE, 0) };
	ended(FRAME_ENDED, HOW_COMPLETE, 1, 1, steps); /* by a clock that is decades behind */
	CHECK(account.end->at_us >= now_us);
}

TEST(a_watched_pod_that_a_signal_ended_says_so_by_its_status)
{
	static const struct {
		int exit_code;
		const char *told;
	} cases[] = { { 137, "started@n2 r0=signal/-1" }, { 192, "started@n2 r0=signal/-1" },
		{ 128, "started@n2 r0=exit_code/128" }, { 193, "started@n2 r0=exit_code/193" } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(1, false, true);
		pod(POD_FAILED, REASON_EXIT_CODE, cases[i].exit_code);
		check_told(cases[i].told, "all told");
	}
}

TEST(a_watched_pod_may_take_too_long)
{
	begin(1, false, true);
	pod(POD_RUNNING, REASON_NONE, -1);
	account_log(&account, BYTES_LITERAL("12"));
	account.log = BYTES_LITERAL("34");
	account_lost(&account, REASON_TIMEOUT, "");
	check_told("started@n2 r0.1:12 r0.1:34 r0=timeout/-1", "all told");
}

TEST(the_log_of_a_pod_is_told_after_the_start_and_before_the_end)
{
	const struct report_step steps[] = { step(true, 0, REPORT_REASON_NONE, 0),
		step(false, 0, REPORT_REASON_EXIT_CODE, 2) };
	const struct report_step broken = step(true, 0, REPORT_REASON_COMPILE_ERROR, 1);
	begin(1, false, true);
	account.log = BYTES_LITERAL("late");
	pod(POD_SUCCEEDED, REASON_NONE, 0);
	check_told("started@n2 r0.1:late r0=none/0", "all told");
	/* It could not be had. */
	begin(1, false, true);
	account_cut(&account);
	pod(POD_SUCCEEDED, REASON_NONE, 0);
	check_told("started@n2 r0=none/0!", "all told");
	/* Without a listener the wrapper's message tells of steps, and the log is the run's. */
	begin(1, true, false);
	account.silent = true;
	account.log = BYTES_LITERAL("of the run");
	ended(FRAME_SUMMARY, HOW_COMPLETE, 2, 2, steps);
	check_told("started@n1 c0=none/0 r0.1:of the run r0=exit_code/2", "all told");
	begin(1, true, false);
	account.silent = true;
	account.log = BYTES_LITERAL("line 1");
	ended(FRAME_SUMMARY, HOW_COMPLETE, 1, 1, &broken);
	check_told("started@n1 c0.1:line 1 c0=compile_error/1", "all told");
	begin(1, false, false);
	account.silent = true;
	account.log = BYTES_LITERAL("then killed");
	pod(POD_FAILED, REASON_OUT_OF_MEMORY, 137);
	check_told("started@n2 r0.1:then kille r0=out_of_memory/-1!", "all told");
}

TEST(the_log_is_wanted_where_frames_did_not_all_come)
{
	begin(1, false, false);
	started();
	CHECK(account_wants_log(&account));
	account.cancelled = true;
	CHECK(!account_wants_log(&account));
	begin(1, false, false);
	started();
	ended(FRAME_SUMMARY, HOW_UNFINISHED, 0, 0, NULL);
	CHECK(account_wants_log(&account));
	ended(FRAME_ENDED, HOW_TERMINATED, 0, 0, NULL);
	CHECK(!account_wants_log(&account));
	begin(1, false, true);
	CHECK(account_wants_log(&account));
}

static void publication(const char *channel, const char *payload)
{
	struct publication said;
	struct arena arena = { 0 };
	REQUIRE(publication_read(bytes_of(channel), bytes_of(payload), &arena, &said));
	account_publication(&account, &said, &where);
	arena_fini(&arena);
}

TEST(an_image_that_publishes_is_believed)
{
	begin(1, false, true);
	account.tells = true;
	pod(POD_RUNNING, REASON_NONE, -1);
	check_told("", "");
	publication("evaluation:running", "{\"eval_id\":\"e\",\"timestamp\":1.5}");
	check_told("started@n1 itself", "");
	publication("evaluation:failed",
		"{\"eval_id\":\"e\",\"exit_code\":3,\"output\":\"out\",\"error\":\"oops\",\"duration_seconds\":0.5}");
	check_told("started@n1 itself r0.1:out r0.2:oops r0=exit_code/3", "all told");
	CHECK(account.end->published);
	pod(POD_FAILED, REASON_EXIT_CODE, 3);
	publication("evaluation:completed", "{\"eval_id\":\"e\"}");
	check_told("started@n1 itself r0.1:out r0.2:oops r0=exit_code/3", "all told");
}

TEST(an_image_that_says_little_is_looked_at)
{
	/* Nothing at all. */
	begin(1, false, true);
	account.tells = true;
	pod(POD_RUNNING, REASON_NONE, -1);
	pod(POD_FAILED, REASON_EXIT_CODE, 4);
	check_told("started@n2 r0=exit_code/4", "all told");
	CHECK(!account.end->published);
	/* Not how it failed. */
	begin(1, false, true);
	account.tells = true;
	publication("evaluation:failed", "{\"eval_id\":\"e\"}");
	check_told("", "");
	/* Something else than its status says: that is told by us too. */
	begin(1, false, true);
	publication("evaluation:completed", "{\"eval_id\":\"e\",\"exit_code\":-11}");
	check_told("started@n1 r0=signal/-1", "all told");
	CHECK(!account.end->published);
}

TEST(what_is_no_publication_of_an_image)
{
	static const struct {
		const char *channel, *payload;
	} cases[] = {
		{ "evaluation:queued", "{\"eval_id\":\"e\"}" },
		{ "evaluation:running", "" },
		{ "evaluation:running", "[]" },
		{ "evaluation:running", "{}" },
		{ "evaluation:running", "{\"eval_id\":\"\"}" },
		{ "evaluation:running", "{\"eval_id\":7}" },
		{ "evaluation:running", "{\"eval_id\":\"e\"" },
		{ "evaluation:running", "{\"eval_id\":\"e\",\"replica\":\"r#1\"}" }, /* an event of ours */
		{ "evaluation:completed", "{\"eval_id\":\"e\",\"exit_code\":256}" },
		{ "evaluation:completed", "{\"eval_id\":\"e\",\"exit_code\":-65}" },
		{ "evaluation:completed", "{\"eval_id\":\"e\",\"exit_code\":0.5}" },
		{ "evaluation:completed", "{\"eval_id\":\"e\",\"output\":[]}" },
		{ "evaluation:failed", "{\"eval_id\":\"e\",\"exit_code\":1,\"error\":1}" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct publication said;
		struct arena arena = { 0 };
		if (!CHECK(!publication_read(bytes_of(cases[i].channel), bytes_of(cases[i].payload), &arena, &said)))
			printf("# %s\n", cases[i].payload);
		arena_fini(&arena);
	}
}

TEST_MAIN()
