/* Lifecycle and job names. */
#include "base/uuid.h"
#include "task/job_name.h"
#include "task/lifecycle.h"
#include "test.h"

TEST(every_word_has_a_name_and_is_read_back)
{
	for (int i = 0; i < TASK_STATUS_COUNT; i++) {
		enum task_status status;
		CHECK(task_status_parse(bytes_of(task_status_name((enum task_status)i)), &status));
		CHECK_INT(status, i);
	}
	for (int i = 1; i < TASK_REASON_COUNT; i++) {
		REQUIRE(task_reason_name((enum task_reason)i));
		CHECK(task_reason_fault((enum task_reason)i) != FAULT_NONE);
	}
	for (int i = 0; i < EVENT_KIND_COUNT; i++) {
		enum event_kind kind;
		CHECK(event_kind_parse(bytes_of(event_kind_name((enum event_kind)i)), &kind));
		CHECK_INT(kind, i);
	}
	enum task_status status;
	CHECK(task_status_parse(BYTES_LITERAL("queued"), &status));
	CHECK(!task_status_parse(BYTES_LITERAL("DONE"), &status));
	CHECK(!task_status_parse(BYTES_NONE, &status));
	CHECK(task_reason_name(REASON_NONE) == NULL);
	CHECK(task_fault_name(FAULT_NONE) == NULL);
	CHECK_INT(task_reason_fault(REASON_DISK_LIMIT), FAULT_USER);
	CHECK_INT(task_reason_fault(REASON_API_ERROR), FAULT_INFRASTRUCTURE);
	CHECK_INT(task_reason_fault(REASON_MAX_ATTEMPTS), FAULT_PLATFORM);
}

TEST(the_table_of_words)
{
	static const struct {
		enum task_status status;
		enum task_reason reason;
		int64_t started;
		const char *phase, *outcome;
	} rows[] = {
		{ TASK_QUEUED, REASON_NONE, 0, "queued", "running" },
		{ TASK_RUNNING, REASON_NONE, 0, "starting", "running" },
		{ TASK_RUNNING, REASON_NONE, 7, "running", "running" },
		{ TASK_RETRY, REASON_NODE_LOST, 7, "retrying", "running" },
		{ TASK_COMPLETED, REASON_NONE, 7, "succeeded", "succeeded" },
		{ TASK_FAILED, REASON_EXIT_CODE, 7, "failed", "failed" },
		{ TASK_FAILED, REASON_TIMEOUT, 7, "timed_out", "failed" },
		{ TASK_FAILED, REASON_OUT_OF_MEMORY, 7, "out_of_memory", "failed" },
		{ TASK_FAILED, REASON_MAX_ATTEMPTS, 0, "failed", "failed" },
		{ TASK_CANCELLED, REASON_CANCELLED, 0, "cancelled", "failed" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_STR(
			task_phase_name(task_phase_of(rows[i].status, rows[i].reason, rows[i].started)), rows[i].phase);
		CHECK_STR(task_outcome_name(rows[i].status), rows[i].outcome);
	}
	CHECK_INT(task_terminal_event(TASK_COMPLETED), EVENT_COMPLETED);
	CHECK_INT(task_terminal_event(TASK_FAILED), EVENT_FAILED);
	CHECK_INT(task_terminal_event(TASK_CANCELLED), EVENT_CANCELLED);
	CHECK(!task_status_ended(TASK_RETRY));
	CHECK(task_status_ended(TASK_CANCELLED));
}

TEST(retries_wait_longer_each_time_up_to_the_cap)
{
	struct retry_policy policy = { .base_us = 30, .cap = 3 };
	struct retry_decision decision = retry_decide(&policy, REASON_EVICTED, 0, 25);
	CHECK(decision.retry);
	CHECK_INT(decision.delay_us, 30);
	CHECK_INT(retry_decide(&policy, REASON_EVICTED, 1, 25).delay_us, 60);
	CHECK_INT(retry_decide(&policy, REASON_EVICTED, 2, 25).delay_us, 90);
	CHECK_INT(retry_decide(&policy, REASON_EVICTED, 20, 25).delay_us, 90);
}

TEST(the_last_allowed_failure_is_not_retried)
{
	struct retry_policy policy = { .base_us = 30, .cap = 10 };
	CHECK(retry_decide(&policy, REASON_EVICTED, 1, 3).retry);
	CHECK(!retry_decide(&policy, REASON_EVICTED, 2, 3).retry);
	CHECK(!retry_decide(&policy, REASON_WORKER_CRASH, 0, 1).retry);
}

TEST(the_first_death_of_a_replica_costs_no_time)
{
	struct retry_policy policy = { .base_us = 30, .cap = 10 };
	struct retry_decision decision = retry_decide(&policy, REASON_WORKER_CRASH, 0, 3);
	CHECK(decision.retry);
	CHECK_INT(decision.delay_us, 0);
	CHECK_INT(retry_decide(&policy, REASON_NODE_LOST, 0, 3).delay_us, 0);
	CHECK_INT(retry_decide(&policy, REASON_WORKER_CRASH, 1, 3).delay_us, 60);
}

TEST(job_names_are_labels_and_are_read_back)
{
	struct uuid_generator generator = { 0 };
	for (int attempt = 0; attempt < 40; attempt++) {
		char text[JOB_NAME_SIZE];
		struct uuid id = uuid_new(&generator), back;
		int read = -1;
		job_name_format(&id, attempt, text);
		CHECK(strlen(text) == (attempt > 9 ? 34 : attempt > 1 ? 33 : 31));
		for (const char *c = text; *c; c++)
			CHECK((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-');
		REQUIRE(job_name_parse(bytes_of(text), &back, &read));
		CHECK(uuid_compare(&id, &back) == 0);
		CHECK_INT(read, attempt > 1 ? attempt : 0);
	}
	char text[JOB_NAME_SIZE];
	struct uuid id = uuid_new(&generator);
	CHECK(strlen(job_name_format(&id, INT32_MAX, text)) < JOB_NAME_SIZE);
}

TEST(a_job_name_has_one_spelling)
{
	struct uuid_generator generator = { 0 };
	struct uuid id = uuid_new(&generator), back;
	char text[JOB_NAME_SIZE], wrong[2 * JOB_NAME_SIZE];
	int attempt;
	job_name_format(&id, 0, text);
	static const char *const tails[] = { "-", "-0", "-1", "-02", "-+2", "-2x", "-99999999999", "x", "-2-2", " " };
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		snprintf(wrong, sizeof(wrong), "%s%s", text, tails[i]);
		if (job_name_parse(bytes_of(wrong), &back, &attempt))
			CHECK_STR(wrong, "refused");
	}
	snprintf(wrong, sizeof(wrong), "Eval-%s", text + 5);
	CHECK(!job_name_parse(bytes_of(wrong), &back, &attempt));
	CHECK(!job_name_parse((struct bytes){ text, 30 }, &back, &attempt));
	CHECK(!job_name_parse(BYTES_NONE, &back, &attempt));
	CHECK(!job_name_parse(BYTES_LITERAL(""), &back, &attempt));
}

TEST_MAIN()
