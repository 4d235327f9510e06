/* The contract of stores, the part of deliveries to callback URLs: the same tests for every implementation. A program
 * of its own, since the suite of all the rest is long enough. */
#include <string.h>

#include "base/clock.h"
#include "tests/contract/store_harness.h"
#include "tests/contract/store_suite.h"
#include "tests/unit/test.h"

static struct store_suite_fixture *fixture;
static struct harness harness;
static struct harness *const h = &harness;

#define FRESH() harness_open(h, fixture, true)
#define DONE() harness_close(h)
#define CHECK_ID(a, b) CHECK(uuid_compare(&(a), &(b)) == 0)
#define LEASE_US (30 * US_PER_S)

static struct uuid running(const char *url)
{
	struct submission s = submission_of(h);
	s.callback_url = bytes_of(url);
	return submit_running(h, &s, "me#1");
}

static struct transition end_of(const struct uuid *id)
{
	return (struct transition){
		.kind = TRANSITION_END,
		.guard = guard_of(id, 1, "me#1"),
		.target = TASK_COMPLETED,
		.at_us = clock_wall_us(),
	};
}

/* A task that has ended, with this callback_url. */
static struct uuid ended(const char *url)
{
	struct uuid id = running(url);
	struct transition end = end_of(&id);
	struct settle_result result = settle_one(h, &end);
	CHECK_INT(result.status, SETTLE_APPLIED);
	CHECK(result.events[0].delivery == (url != NULL));
	return id;
}

/* Lives until the next call. */
static struct store_delivery_claim *claim_for(const char *locked_by, size_t limit)
{
	static struct store_delivery_claim claim;
	store_operation_fini(&claim.operation);
	claim = (struct store_delivery_claim){
		.locked_by = bytes_of(locked_by),
		.lease_us = LEASE_US,
		.limit = limit,
		.origin_limit = 100,
		.count_waiting = true,
	};
	REQUIRE(do_delivery_claim(h, &claim) == STORE_OK);
	return &claim;
}

static struct delivery_outcome outcome_of(const struct uuid *id, int attempt, enum delivery_verdict verdict)
{
	return (struct delivery_outcome){
		.task_id = *id,
		.run = 1,
		.attempt = attempt,
		.verdict = verdict,
		.at_us = 1000 + attempt,
		.duration_us = 2000,
		.http_status = verdict == DELIVERY_SENT ? 204 : 500,
		.error = verdict == DELIVERY_SENT ? BYTES_NONE : BYTES_LITERAL("it said 500"),
	};
}

static enum settle_status settle_delivery(const char *locked_by, const struct delivery_outcome *outcome)
{
	struct store_delivery_settle settle = { .locked_by = bytes_of(locked_by), .outcomes = outcome, .count = 1 };
	REQUIRE(do_delivery_settle(h, &settle) == STORE_OK);
	enum settle_status status = settle.results[0];
	store_operation_fini(&settle.operation);
	return status;
}

/* Lives until the next call. */
static struct read_deliveries *deliveries_of(const struct uuid *id)
{
	static struct read_deliveries read;
	store_operation_fini(&read.operation);
	read = (struct read_deliveries){ .task_id = *id };
	REQUIRE(do_read_deliveries(h, &read) == STORE_OK);
	return &read;
}

/* ---- written with the end ---- */

TEST(an_end_writes_a_delivery_only_where_there_is_a_callback)
{
	FRESH();
	CHECK_INT(claim_for("a#1", 8)->count, 0);
	CHECK_INT(claim_for("a#1", 8)->next_due_in_us, -1);
	struct uuid without = ended(NULL), with = ended("https://Example.ORG:8443/x?y");
	struct store_delivery_claim *claim = claim_for("a#1", 8);
	REQUIRE(claim->count == 1);
	CHECK_INT(claim->waiting, 1);
	const struct delivery *d = &claim->deliveries[0];
	CHECK_ID(d->task_id, with);
	CHECK_INT(d->run, 1);
	CHECK_INT(d->attempt, 1);
	CHECK_INT(d->attempts, 0);
	CHECK(d->created_at_us > 0);
	CHECK_BYTES(d->url, "https://Example.ORG:8443/x?y");
	CHECK_BYTES(d->origin, "https://example.org:8443");
	CHECK(!claim->more);
	struct read_deliveries *read = deliveries_of(&without);
	CHECK(read->found);
	CHECK(!read->url.data);
	CHECK_INT(read->result_count, 0);
	DONE();
}

TEST(only_ends_write_deliveries)
{
	static const enum transition_kind kinds[] = { TRANSITION_STARTED, TRANSITION_STEP, TRANSITION_RETRY,
		TRANSITION_HAND_BACK };
	FRESH();
	for (size_t i = 0; i < 4; i++) {
		struct uuid id = running("http://x/");
		struct transition t = end_of(&id);
		t.kind = kinds[i];
		t.event_kind = EVENT_TEST;
		CHECK_INT(settle_one(h, &t).status, SETTLE_APPLIED);
	}
	CHECK_INT(claim_for("a#1", 8)->count, 0);
	/* A guard that does not hold writes nothing either. */
	struct uuid id = running("http://x/");
	struct transition end = end_of(&id);
	end.guard.attempt = 7;
	CHECK_INT(settle_one(h, &end).status, SETTLE_REFUSED);
	CHECK_INT(claim_for("a#1", 8)->count, 0);
	DONE();
}

TEST(a_cancel_of_what_waits_writes_one)
{
	FRESH();
	struct submission s = submission_of(h);
	s.callback_url = BYTES_LITERAL("http://x/");
	struct uuid id = submit_one(h, &s);
	struct store_command cancel = {
		.kind = COMMAND_CANCEL, .ids = &id, .count = 1, .at_us = 5000, .publisher = BYTES_LITERAL("me#1")
	};
	REQUIRE(do_command(h, &cancel) == STORE_OK);
	CHECK_INT(cancel.results[0].status, COMMAND_DONE);
	CHECK(cancel.results[0].event.delivery);
	store_operation_fini(&cancel.operation);
	CHECK_INT(claim_for("a#1", 8)->count, 1);
	DONE();
}

TEST(each_run_has_its_own)
{
	FRESH();
	struct uuid id = ended("http://x/");
	struct store_command run = {
		.kind = COMMAND_RUN, .ids = &id, .count = 1, .at_us = 5000, .publisher = BYTES_LITERAL("me#1")
	};
	REQUIRE(do_command(h, &run) == STORE_OK);
	store_operation_fini(&run.operation);
	struct uuid ids[1];
	REQUIRE(claim_ids(h, 1, ids) == 1);
	struct transition end = end_of(&id);
	end.guard.attempt = 2;
	CHECK(settle_one(h, &end).events[0].delivery);
	struct store_delivery_claim *claim = claim_for("a#1", 8);
	REQUIRE(claim->count == 2);
	CHECK_INT(claim->deliveries[0].run + claim->deliveries[1].run, 3);
	struct read_deliveries *read = deliveries_of(&id);
	REQUIRE(read->result_count == 2);
	CHECK_INT(read->results[0].run, 2);
	CHECK_INT(read->results[1].run, 1);
	DONE();
}

TEST(an_end_whose_answer_was_lost_has_one_delivery)
{
	for (int when = SUITE_CUT_BEFORE_COMMIT; when <= SUITE_CUT_AFTER_COMMIT; when++) {
		FRESH();
		struct uuid id = running("http://x/");
		struct transition end = end_of(&id);
		struct store_settle settle = { .transitions = &end, .count = 1, .publisher = BYTES_LITERAL("me#1") };
		fixture->cut(fixture, (enum store_suite_cut)when);
		CHECK_INT(do_settle(h, &settle), STORE_UNKNOWN);
		store_operation_fini(&settle.operation);
		REQUIRE(do_settle(h, &settle) == STORE_OK);
		CHECK_INT(settle.results[0].status, SETTLE_APPLIED);
		REQUIRE(settle.results[0].event_count == 1);
		CHECK(settle.results[0].events[0].delivery);
		store_operation_fini(&settle.operation);
		CHECK_INT(claim_for("a#1", 8)->count, 1);
		CHECK_INT(deliveries_of(&id)->result_count, 1);
		DONE();
	}
}

/* ---- leases ---- */

TEST(a_lease_keeps_others_off_until_it_is_over)
{
	FRESH();
	struct uuid id = ended("http://x/");
	CHECK_INT(claim_for("a#1", 8)->count, 1);
	struct store_delivery_claim *other = claim_for("b#1", 8);
	CHECK_INT(other->count, 0);
	CHECK(other->next_due_in_us > 0 && other->next_due_in_us <= LEASE_US);
	CHECK(deliveries_of(&id)->results[0].under_way);
	struct delivery_outcome sent = outcome_of(&id, 1, DELIVERY_SENT);
	CHECK_INT(settle_delivery("b#1", &sent), SETTLE_REFUSED);
	if (fixture->advance) {
		fixture->advance(fixture, LEASE_US + 1);
		other = claim_for("b#1", 8);
		REQUIRE(other->count == 1);
		CHECK_INT(other->deliveries[0].attempt, 2);
		CHECK_INT(other->deliveries[0].attempts, 0);
		/* Whose lease is over comes too late; nothing of it is kept. */
		CHECK_INT(settle_delivery("a#1", &sent), SETTLE_REFUSED);
		CHECK_INT(deliveries_of(&id)->results[0].attempt_count, 0);
		struct delivery_outcome second = outcome_of(&id, 2, DELIVERY_SENT);
		CHECK_INT(settle_delivery("b#1", &second), SETTLE_APPLIED);
		CHECK_INT(deliveries_of(&id)->results[0].status, DELIVERY_DELIVERED);
	}
	DONE();
}

TEST(an_embedded_restart_ends_all_leases)
{
	FRESH();
	ended("http://x/");
	CHECK_INT(claim_for("a#1", 8)->count, 1);
	harness_reopen(h);
	struct store_take take = { .kind = TAKE_ALL, .locked_by = BYTES_LITERAL("me#2"), .limit = 10 };
	REQUIRE(do_take(h, &take) == STORE_OK);
	store_operation_fini(&take.operation);
	CHECK_INT(claim_for("a#2", 8)->count, 1);
	DONE();
}

TEST(a_claim_whose_answer_was_lost_is_due_again_later)
{
	for (int when = SUITE_CUT_BEFORE_COMMIT; when <= SUITE_CUT_AFTER_COMMIT; when++) {
		FRESH();
		ended("http://x/");
		struct store_delivery_claim claim = {
			.locked_by = BYTES_LITERAL("a#1"), .lease_us = LEASE_US, .limit = 8, .origin_limit = 8
		};
		fixture->cut(fixture, (enum store_suite_cut)when);
		CHECK_INT(do_delivery_claim(h, &claim), STORE_UNKNOWN);
		store_operation_fini(&claim.operation);
		if (fixture->advance && when == SUITE_CUT_AFTER_COMMIT) {
			CHECK_INT(claim_for("a#1", 8)->count, 0);
			fixture->advance(fixture, LEASE_US + 1);
		}
		if (fixture->advance || when == SUITE_CUT_BEFORE_COMMIT)
			CHECK_INT(claim_for("a#1", 8)->count, 1);
		DONE();
	}
}

/* ---- what comes of attempts ---- */

TEST(every_attempt_is_recorded)
{
	FRESH();
	struct uuid id = ended("http://x/");
	REQUIRE(claim_for("a#1", 8)->count == 1);
	struct delivery_outcome again = outcome_of(&id, 1, DELIVERY_AGAIN);
	CHECK_INT(settle_delivery("a#1", &again), SETTLE_APPLIED);
	struct store_delivery_claim *claim = claim_for("a#1", 8);
	REQUIRE(claim->count == 1);
	CHECK_INT(claim->deliveries[0].attempt, 2);
	CHECK_INT(claim->deliveries[0].attempts, 1);
	struct delivery_outcome back = outcome_of(&id, 2, DELIVERY_HAND_BACK);
	CHECK_INT(settle_delivery("a#1", &back), SETTLE_APPLIED);
	claim = claim_for("b#1", 8);
	REQUIRE(claim->count == 1);
	CHECK_INT(claim->deliveries[0].attempt, 3);
	CHECK_INT(claim->deliveries[0].attempts, 1);
	struct delivery_outcome sent = outcome_of(&id, 3, DELIVERY_SENT);
	CHECK_INT(settle_delivery("b#1", &sent), SETTLE_APPLIED);
	CHECK_INT(claim_for("b#1", 8)->count, 0);
	CHECK_INT(claim_for("b#1", 8)->waiting, 0);
	CHECK_INT(claim_for("b#1", 8)->next_due_in_us, -1);
	struct read_deliveries *read = deliveries_of(&id);
	CHECK_BYTES(read->url, "http://x/");
	REQUIRE(read->result_count == 1);
	const struct delivery_record *record = &read->results[0];
	CHECK_INT(record->status, DELIVERY_DELIVERED);
	CHECK(!record->under_way);
	REQUIRE(record->attempt_count == 2);
	CHECK_INT(record->attempts[0].attempt, 1);
	CHECK_INT(record->attempts[0].at_us, 1001);
	CHECK_INT(record->attempts[0].duration_us, 2000);
	CHECK_INT(record->attempts[0].http_status, 500);
	CHECK_BYTES(record->attempts[0].error, "it said 500");
	CHECK_INT(record->attempts[1].attempt, 3);
	CHECK_INT(record->attempts[1].http_status, 204);
	CHECK(!record->attempts[1].error.data);
	DONE();
}

TEST(what_is_given_up_is_never_due_again)
{
	FRESH();
	struct uuid id = ended("http://x/");
	REQUIRE(claim_for("a#1", 8)->count == 1);
	struct delivery_outcome stop = outcome_of(&id, 1, DELIVERY_STOP);
	CHECK_INT(settle_delivery("a#1", &stop), SETTLE_APPLIED);
	CHECK_INT(claim_for("a#1", 8)->count, 0);
	CHECK_INT(deliveries_of(&id)->results[0].status, DELIVERY_GIVEN_UP);
	CHECK_INT(deliveries_of(&id)->results[0].attempt_count, 1);
	DONE();
}

TEST(another_try_waits_its_delay)
{
	if (!fixture->advance)
		return;
	FRESH();
	struct uuid id = ended("http://x/");
	REQUIRE(claim_for("a#1", 8)->count == 1);
	struct delivery_outcome again = outcome_of(&id, 1, DELIVERY_AGAIN);
	again.delay_us = 10 * US_PER_S;
	CHECK_INT(settle_delivery("a#1", &again), SETTLE_APPLIED);
	struct store_delivery_claim *claim = claim_for("a#1", 8);
	CHECK_INT(claim->count, 0);
	CHECK_INT(claim->waiting, 1);
	CHECK(claim->next_due_in_us > 0 && claim->next_due_in_us <= 10 * US_PER_S);
	fixture->advance(fixture, 10 * US_PER_S);
	CHECK_INT(claim_for("a#1", 8)->count, 1);
	DONE();
}

TEST(an_outcome_whose_answer_was_lost_is_handed_in_again)
{
	for (int i = 0; i < 8; i++) {
		enum delivery_verdict verdict = (enum delivery_verdict)(i / 2);
		FRESH();
		struct uuid id = ended("http://x/");
		REQUIRE(claim_for("a#1", 8)->count == 1);
		struct delivery_outcome outcome = outcome_of(&id, 1, verdict);
		struct store_delivery_settle settle = {
			.locked_by = BYTES_LITERAL("a#1"), .outcomes = &outcome, .count = 1
		};
		fixture->cut(fixture, i % 2 ? SUITE_CUT_AFTER_COMMIT : SUITE_CUT_BEFORE_COMMIT);
		CHECK_INT(do_delivery_settle(h, &settle), STORE_UNKNOWN);
		store_operation_fini(&settle.operation);
		REQUIRE(do_delivery_settle(h, &settle) == STORE_OK);
		/* What leaves no record may be told as refused: it is due all the same. */
		if (verdict != DELIVERY_HAND_BACK)
			CHECK_INT(settle.results[0], SETTLE_APPLIED);
		store_operation_fini(&settle.operation);
		struct read_deliveries *read = deliveries_of(&id);
		CHECK_INT(read->results[0].attempt_count, verdict == DELIVERY_HAND_BACK ? 0 : 1);
		CHECK_INT(read->results[0].status, verdict == DELIVERY_SENT   ? DELIVERY_DELIVERED
						   : verdict == DELIVERY_STOP ? DELIVERY_GIVEN_UP
									      : DELIVERY_WAITING);
		CHECK_INT(claim_for("a#1", 8)->count, verdict == DELIVERY_AGAIN || verdict == DELIVERY_HAND_BACK);
		DONE();
	}
}

/* ---- receivers ---- */

TEST(a_busy_receiver_is_passed_over)
{
	FRESH();
	for (int i = 0; i < 5; i++)
		ended("https://slow/");
	struct uuid quick[2] = { ended("https://quick/1"), ended("https://quick/2") };
	struct delivery_origin busy = { BYTES_LITERAL("https://slow"), 1 };
	struct store_delivery_claim claim = { .locked_by = BYTES_LITERAL("a#1"),
		.lease_us = LEASE_US,
		.limit = 100,
		.origin_limit = 2,
		.origins = &busy,
		.origin_count = 1 };
	REQUIRE(do_delivery_claim(h, &claim) == STORE_OK);
	REQUIRE(claim.count == 3);
	CHECK_BYTES(claim.deliveries[0].origin, "https://slow");
	CHECK_ID(claim.deliveries[1].task_id, quick[0]);
	CHECK_ID(claim.deliveries[2].task_id, quick[1]);
	CHECK(!claim.more);
	CHECK_INT(claim.next_due_in_us, -1); /* both are at their limit now */
	store_operation_fini(&claim.operation);
	struct delivery_origin full[2] = { { BYTES_LITERAL("https://slow"), 2 },
		{ BYTES_LITERAL("https://quick"), 2 } };
	claim.origins = full;
	claim.origin_count = 2;
	REQUIRE(do_delivery_claim(h, &claim) == STORE_OK);
	CHECK_INT(claim.count, 0);
	store_operation_fini(&claim.operation);
	DONE();
}

TEST(the_limit_holds_and_says_so)
{
	FRESH();
	for (int i = 0; i < 5; i++)
		ended(i % 2 ? "https://a/" : "https://b/");
	struct store_delivery_claim *claim = claim_for("a#1", 2);
	CHECK_INT(claim->count, 2);
	CHECK(claim->more);
	CHECK_INT(claim->next_due_in_us, 0);
	CHECK_INT(claim_for("a#1", 100)->count, 3);
	CHECK_INT(claim_for("a#1", 100)->waiting, 5);
	DONE();
}

/* ---- reads and retention ---- */

TEST(deliveries_are_read_within_the_tenant)
{
	FRESH();
	struct uuid id = ended("http://x/"), none = uuid_new(&h->ids);
	CHECK(!deliveries_of(&none)->found);
	struct read_deliveries read = { .task_id = id, .tenant = BYTES_LITERAL("u") };
	REQUIRE(do_read_deliveries(h, &read) == STORE_OK);
	CHECK(!read.found);
	CHECK_INT(read.result_count, 0);
	store_operation_fini(&read.operation);
	read.tenant = BYTES_LITERAL("t");
	REQUIRE(do_read_deliveries(h, &read) == STORE_OK);
	CHECK(read.found);
	CHECK_INT(read.result_count, 1);
	store_operation_fini(&read.operation);
	DONE();
}

TEST(deliveries_survive_a_restart)
{
	FRESH();
	struct uuid id = ended("http://x/");
	REQUIRE(claim_for("a#1", 8)->count == 1);
	struct delivery_outcome again = outcome_of(&id, 1, DELIVERY_AGAIN);
	settle_delivery("a#1", &again);
	harness_reopen(h);
	struct store_delivery_claim *claim = claim_for("b#1", 8);
	REQUIRE(claim->count == 1);
	CHECK_INT(claim->deliveries[0].attempts, 1);
	CHECK_INT(deliveries_of(&id)->results[0].attempt_count, 1);
	DONE();
}

TEST(retention_takes_deliveries_with_their_task)
{
	FRESH();
	struct uuid id = running("http://x/"), young = ended("http://x/");
	struct transition end = end_of(&id);
	end.at_us = 1000;
	settle_one(h, &end);
	struct store_delivery_claim *claim = claim_for("a#1", 8);
	REQUIRE(claim->count == 2);
	struct store_trim trim = { .finished_before_us = 2000, .limit = 10 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 1);
	store_operation_fini(&trim.operation);
	CHECK(!deliveries_of(&id)->found);
	CHECK_INT(deliveries_of(&young)->result_count, 1);
	struct delivery_outcome sent = outcome_of(&id, 1, DELIVERY_SENT);
	CHECK_INT(settle_delivery("a#1", &sent), SETTLE_REFUSED);
	DONE();
}

int store_suite_run(int argc, char **argv, struct store_suite_fixture *the_fixture)
{
	fixture = the_fixture;
	return test_main(argc, argv);
}
