/* The contract of stores: the same tests for every implementation.
 *
 * Each test opens an empty store. "me#1" and "other#1" are the incarnations that own rows. The parts stand in the order of
 * include/assay/store.h: submit, claim, settle, command, reads, replicas, housekeeping. */
/* Long because: test.h registers the tests of one file, and the contract is read as a whole. */
#include "tests/contract/store_suite.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/contract/store_harness.h"
#include "tests/unit/test.h"

static struct store_suite_fixture *fixture;
static struct harness harness;
static struct harness *const h = &harness;

#define FRESH() harness_open(h, fixture, true)
#define DONE() harness_close(h)
#define CHECK_ID(a, b) CHECK(uuid_compare(&(a), &(b)) == 0)
#define CHECK_EVENTS(id, letters) CHECK_STR(events_of(h, &(id)), letters)

/* ---- submit ---- */

TEST(a_submission_is_read_back_as_it_was)
{
	FRESH();
	struct submission s = submission_of(h);
	s.type = BYTES_LITERAL("evaluation");
	s.eval_id = BYTES_LITERAL("e-1");
	s.idempotency_key = BYTES_LITERAL("k-1");
	s.batch_id = uuid_new(&h->ids);
	s.description = BYTES_LITERAL("grüße");
	s.domain = BYTES_LITERAL("d");
	s.drift_score = 0.25;
	s.priority = 7;
	s.turn = 2.5;
	s.params = BYTES_LITERAL("{\"code\":\"print(1)\"}");
	s.metadata = BYTES_LITERAL("{\"a\":[1]}");
	s.callback_url = BYTES_LITERAL("http://x/");
	s.traceparent = BYTES_LITERAL("00-1-2-01");
	s.image = BYTES_LITERAL("");
	struct submit_item item = { .submission = &s };
	struct store_submit submit = { .items = &item, .count = 1, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	const struct submit_result *r = submit.results;
	CHECK_INT(r->status, SUBMIT_CREATED);
	CHECK_INT(r->task_status, TASK_QUEUED);
	CHECK_ID(r->id, s.id);
	CHECK_INT(r->event.kind, EVENT_QUEUED);
	CHECK_INT(r->event.sequence, 1);
	CHECK_INT(r->event.run, 1);
	CHECK_INT(r->event.attempt, 0);
	CHECK_BYTES(r->event.tenant, "t");
	CHECK_BYTES(r->event.eval_id, "e-1");
	CHECK_ID(r->event.batch_id, s.batch_id);
	CHECK_INT(r->event.timestamp_us, r->created_at_us);
	struct task t = task_of(h, &s.id);
	CHECK_INT(t.status, TASK_QUEUED);
	CHECK_INT(t.run, 1);
	CHECK_INT(t.attempt, 0);
	CHECK_INT(t.attempts, 0);
	CHECK_INT(t.max_attempts, 3);
	CHECK_INT(t.priority, 7);
	CHECK_INT(t.sequence, 1);
	CHECK(t.turn == 2.5);
	CHECK(t.drift_score == 0.25);
	CHECK_BYTES(t.locked_by, BYTES_NONE);
	CHECK_BYTES(t.tenant, "t");
	CHECK_BYTES(t.type, "evaluation");
	CHECK_BYTES(t.queue, "default");
	CHECK_BYTES(t.executor, "noop");
	CHECK_BYTES(t.eval_id, "e-1");
	CHECK_BYTES(t.idempotency_key, "k-1");
	CHECK_ID(t.batch_id, s.batch_id);
	CHECK_BYTES(t.description, s.description);
	CHECK_BYTES(t.domain, "d");
	CHECK(same_json(t.params, s.params.data));
	CHECK_BYTES(t.metadata, s.metadata);
	CHECK_BYTES(t.callback_url, s.callback_url);
	CHECK_BYTES(t.traceparent, s.traceparent);
	CHECK_BYTES(t.image, ""); /* empty is not absent */
	CHECK_BYTES(t.node, BYTES_NONE);
	CHECK_BYTES(t.result, BYTES_NONE);
	CHECK_INT(t.created_at_us, r->created_at_us);
	CHECK_INT(t.queued_at_us, t.created_at_us);
	CHECK_INT(t.locked_at_us, 0);
	CHECK_INT(t.finished_at_us, 0);
	store_operation_fini(&submit.operation);
	CHECK_EVENTS(s.id, "Q");
	DONE();
}

TEST(a_row_can_be_born_running_and_has_its_queued_event)
{
	FRESH();
	struct submission s = submission_of(h);
	struct uuid id = submit_running(h, &s, "me#1"), ids[4];
	struct task t = task_of(h, &id);
	CHECK_INT(t.status, TASK_RUNNING);
	CHECK_INT(t.attempt, 1);
	CHECK_BYTES(t.locked_by, "me#1");
	CHECK(t.locked_at_us > 0);
	CHECK_INT(t.started_at_us, 0);
	CHECK_EVENTS(id, "Q");
	CHECK_INT(claim_ids(h, 4, ids), 0);
	DONE();
}

static struct submission with_keys(const char *eval_id, const char *key, uint8_t digest)
{
	struct submission s = submission_of(h);
	s.eval_id = bytes_of(eval_id);
	s.idempotency_key = bytes_of(key);
	memset(s.digest, digest, sizeof(s.digest));
	return s;
}

TEST(keys_point_at_older_tasks)
{
	FRESH();
	struct submission a = with_keys("e1", "k1", 1), b = with_keys("e2", NULL, 2), c = with_keys(NULL, "k3", 3);
	submit_one(h, &a);
	submit_one(h, &b);
	submit_one(h, &c);
	struct submission s[] = {
		with_keys("e1", "k1", 1), /* exists */
		with_keys("e1", NULL, 1), /* exists */
		with_keys(NULL, "k1", 1), /* exists */
		with_keys("e1", "new", 1), /* exists: the new key points nowhere */
		with_keys("e2", NULL, 9), /* conflict */
		with_keys(NULL, "k3", 9), /* conflict */
		with_keys("e2", "k3", 2), /* disagree */
		with_keys("e1", "k1", 1), /* created: another tenant */
		with_keys("k1", "e1", 1), /* created: the columns are apart */
	};
	s[7].tenant = BYTES_LITERAL("u");
	struct submit_item items[9];
	for (int i = 0; i < 9; i++)
		items[i] = (struct submit_item){ .submission = &s[i] };
	struct store_submit submit = { .items = items, .count = 9, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	static const enum submit_status expected[] = { SUBMIT_EXISTS, SUBMIT_EXISTS, SUBMIT_EXISTS, SUBMIT_EXISTS,
		SUBMIT_CONFLICT, SUBMIT_CONFLICT, SUBMIT_DISAGREE, SUBMIT_CREATED, SUBMIT_CREATED };
	for (int i = 0; i < 9; i++)
		CHECK_INT(submit.results[i].status, expected[i]);
	for (int i = 0; i < 4; i++)
		CHECK_ID(submit.results[i].id, a.id);
	CHECK_INT(submit.results[0].task_status, TASK_QUEUED);
	CHECK(submit.results[0].created_at_us > 0);
	CHECK_ID(submit.results[4].id, b.id);
	CHECK_ID(submit.results[5].id, c.id);
	CHECK_ID(submit.results[6].id, b.id);
	CHECK_ID(submit.results[6].other_id, c.id);
	store_operation_fini(&submit.operation);
	struct task t = task_of(h, &s[4].id);
	CHECK(uuid_is_nil(&t.id)); /* nothing of it was written */
	DONE();
}

TEST(items_of_one_batch_can_share_a_key)
{
	FRESH();
	struct submission s[] = { with_keys("e", NULL, 1), with_keys("e", NULL, 1), with_keys("e", NULL, 2) };
	struct submit_item items[] = { { &s[0], false }, { &s[1], false }, { &s[2], false } };
	struct store_submit submit = { .items = items, .count = 3, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	CHECK_INT(submit.results[0].status, SUBMIT_CREATED);
	CHECK_INT(submit.results[1].status, SUBMIT_EXISTS);
	CHECK_ID(submit.results[1].id, s[0].id);
	CHECK_INT(submit.results[2].status, SUBMIT_CONFLICT);
	CHECK_ID(submit.results[2].id, s[0].id);
	store_operation_fini(&submit.operation);
	DONE();
}

TEST(a_poisoned_item_fails_alone)
{
	FRESH();
	struct submission s[] = { submission_of(h), submission_of(h), submission_of(h) };
	s[1].params = BYTES_LITERAL("{\"a\":\"x\0y\"}");
	struct submit_item items[] = { { &s[0], false }, { &s[1], false }, { &s[2], true } };
	struct store_submit submit = { .items = items, .count = 3, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	CHECK_INT(submit.results[0].status, SUBMIT_CREATED);
	CHECK_INT(submit.results[1].status, SUBMIT_INVALID);
	CHECK(submit.results[1].error && submit.results[1].error[0]);
	CHECK_INT(submit.results[2].status, SUBMIT_CREATED);
	store_operation_fini(&submit.operation);
	CHECK_EVENTS(s[0].id, "Q");
	CHECK_EVENTS(s[1].id, "");
	CHECK_EVENTS(s[2].id, "Q");
	DONE();
}

TEST(a_submission_whose_answer_was_lost_is_handed_in_again)
{
	for (int when = SUITE_CUT_BEFORE_COMMIT; when <= SUITE_CUT_AFTER_COMMIT; when++) {
		FRESH();
		struct submission s[] = { with_keys("e", NULL, 1), submission_of(h) };
		struct submit_item items[] = { { &s[0], false }, { &s[1], true } };
		struct store_submit submit = { .items = items, .count = 2, .locked_by = BYTES_LITERAL("me#1") };
		fixture->cut(fixture, when);
		CHECK_INT(do_submit(h, &submit), STORE_UNKNOWN);
		store_operation_fini(&submit.operation);
		REQUIRE(do_submit(h, &submit) == STORE_OK);
		for (int i = 0; i < 2; i++) {
			CHECK_INT(submit.results[i].status, SUBMIT_CREATED);
			CHECK_ID(submit.results[i].id, s[i].id);
			CHECK_INT(submit.results[i].event.sequence, 1);
			CHECK_INT(submit.results[i].event.kind, EVENT_QUEUED);
			CHECK(submit.results[i].event.cursor.length > 0);
			CHECK_INT(submit.results[i].task_status, i == 0 ? TASK_QUEUED : TASK_RUNNING);
		}
		CHECK_BYTES(submit.results[0].event.eval_id, "e");
		store_operation_fini(&submit.operation);
		CHECK_EVENTS(s[0].id, "Q");
		CHECK_EVENTS(s[1].id, "Q");
		struct read_counts counts = { 0 };
		REQUIRE(do_read_counts(h, &counts) == STORE_OK);
		CHECK_INT(counts.by_status[TASK_QUEUED], 1);
		CHECK_INT(counts.by_status[TASK_RUNNING], 1);
		store_operation_fini(&counts.operation);
		DONE();
	}
}

/* ---- claim ---- */

TEST(claims_go_by_priority_then_turn_then_id)
{
	FRESH();
	static const struct {
		int priority;
		double turn;
	} rows[] = { { 5, 2 }, { 5, 1 }, { 9, 7 }, { 0, 0 }, { 5, 1 }, { 9, 3 } };
	static const int order[] = { 5, 2, 1, 4, 0, 3 };
	struct uuid ids[6], claimed[7];
	for (int i = 0; i < 6; i++) {
		struct submission s = submission_of(h);
		s.priority = rows[i].priority;
		s.turn = rows[i].turn;
		ids[i] = submit_one(h, &s);
	}
	CHECK_INT(claim_ids(h, 2, claimed), 2);
	CHECK_INT(claim_ids(h, 5, claimed + 2), 4);
	for (int i = 0; i < 6; i++)
		CHECK_ID(claimed[i], ids[order[i]]);
	struct task t = task_of(h, &ids[0]);
	CHECK_INT(t.status, TASK_RUNNING);
	CHECK_INT(t.attempt, 1);
	CHECK_BYTES(t.locked_by, "me#1");
	CHECK(t.locked_at_us >= t.created_at_us);
	CHECK_EVENTS(ids[0], "Q");
	DONE();
}

static struct uuid submit_to(const char *executor, const char *queue)
{
	struct submission s = submission_of(h);
	s.executor = bytes_of(executor);
	s.queue = bytes_of(queue);
	return submit_one(h, &s);
}

TEST(claims_keep_to_lanes_slots_and_queues)
{
	FRESH();
	struct uuid a1 = submit_to("a", "q1"), a2 = submit_to("a", "q2"), a3 = submit_to("a", "q1");
	struct uuid b1 = submit_to("b", "q3"), b2 = submit_to("b", "q1");
	struct claim_lane lanes[] = { { BYTES_LITERAL("a"), 1 }, { BYTES_LITERAL("b"), 5 }, { BYTES_LITERAL("c"), 5 },
		{ BYTES_LITERAL("a"), 0 } };
	const struct bytes queues[] = { BYTES_LITERAL("q1"), BYTES_LITERAL("q9") };
	struct store_claim claim = {
		.locked_by = BYTES_LITERAL("me#1"), .lanes = lanes, .lane_count = 4, .queues = queues, .queue_count = 2
	};
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	CHECK_INT(claim.count, 2);
	CHECK_ID(claim.tasks[0].id, a1);
	CHECK_ID(claim.tasks[1].id, b2);
	CHECK_BYTES(claim.tasks[0].params, "{}");
	CHECK_BYTES(claim.tasks[1].locked_by, "me#1");
	CHECK_INT(claim.tasks[1].status, TASK_RUNNING);
	CHECK_INT(claim.tasks[1].attempt, 1);
	CHECK(!claim.exhausted[0]);
	CHECK(claim.exhausted[1]);
	CHECK(claim.exhausted[2]);
	CHECK(!claim.exhausted[3]); /* no slot, but something to do */
	CHECK_INT(claim.next_due_us, 0);
	store_operation_fini(&claim.operation);
	/* The same lane twice gives no row twice; exactly as many rows as slots exhausts. */
	struct claim_lane twice[] = { { BYTES_LITERAL("a"), 1 }, { BYTES_LITERAL("a"), 1 }, { BYTES_LITERAL("b"), 1 } };
	claim = (struct store_claim){ .locked_by = BYTES_LITERAL("me#1"), .lanes = twice, .lane_count = 3 };
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	CHECK_INT(claim.count, 3);
	CHECK_ID(claim.tasks[0].id, a2);
	CHECK_ID(claim.tasks[1].id, a3);
	CHECK_ID(claim.tasks[2].id, b1);
	CHECK(claim.exhausted[1]);
	CHECK(claim.exhausted[2]);
	store_operation_fini(&claim.operation);
	DONE();
}

TEST(rows_wait_for_their_time)
{
	if (!fixture->advance)
		return;
	FRESH();
	int64_t now = fixture->now_us(fixture);
	struct submission late = submission_of(h), later = submission_of(h), elsewhere = submission_of(h);
	late.run_after_us = now + 100 * US_PER_S;
	later.run_after_us = now + 200 * US_PER_S;
	later.priority = 9;
	elsewhere.run_after_us = now + 50 * US_PER_S;
	elsewhere.executor = BYTES_LITERAL("other");
	submit_one(h, &late);
	submit_one(h, &later);
	submit_one(h, &elsewhere);
	struct claim_lane lane = { BYTES_LITERAL("noop"), 5 };
	struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = &lane, .lane_count = 1 };
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	CHECK_INT(claim.count, 0);
	CHECK(claim.exhausted[0]);
	CHECK_INT(claim.next_due_us, late.run_after_us);
	store_operation_fini(&claim.operation);
	fixture->advance(fixture, 101 * US_PER_S);
	REQUIRE(do_claim(h, &claim) == STORE_OK);
	CHECK_INT(claim.count, 1);
	CHECK_ID(claim.tasks[0].id, late.id);
	CHECK_INT(claim.next_due_us, later.run_after_us);
	store_operation_fini(&claim.operation);
	/* When it is due it stands by its priority, not by its time. */
	struct submission now_due = submission_of(h);
	submit_one(h, &now_due);
	fixture->advance(fixture, 100 * US_PER_S);
	struct uuid ids[2];
	CHECK_INT(claim_ids(h, 2, ids), 2);
	CHECK_ID(ids[0], later.id);
	CHECK_ID(ids[1], now_due.id);
	DONE();
}

TEST(a_claim_whose_answer_was_lost_is_found_by_its_owner)
{
	for (int when = SUITE_CUT_BEFORE_COMMIT; when <= SUITE_CUT_AFTER_COMMIT; when++) {
		FRESH();
		struct submission s = submission_of(h);
		submit_one(h, &s);
		struct claim_lane lane = { BYTES_LITERAL("noop"), 5 };
		struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = &lane, .lane_count = 1 };
		fixture->cut(fixture, when);
		CHECK_INT(do_claim(h, &claim), STORE_UNKNOWN);
		store_operation_fini(&claim.operation);
		REQUIRE(do_claim(h, &claim) == STORE_OK);
		CHECK_INT(claim.count, when == SUITE_CUT_BEFORE_COMMIT);
		store_operation_fini(&claim.operation);
		struct store_take take = { .kind = TAKE_OWN, .locked_by = BYTES_LITERAL("me#1"), .limit = 10 };
		REQUIRE(do_take(h, &take) == STORE_OK);
		CHECK_INT(take.count, 1);
		CHECK_ID(take.tasks[0].id, s.id);
		CHECK_INT(take.tasks[0].attempt, 1);
		CHECK_BYTES(take.tasks[0].params, "{}");
		store_operation_fini(&take.operation);
		DONE();
	}
}

/* ---- settle ---- */

static struct uuid running(void)
{
	struct submission s = submission_of(h);
	return submit_running(h, &s, "me#1");
}

static struct transition transition_of(const struct uuid *id, enum transition_kind kind)
{
	return (struct transition){
		.kind = kind,
		.guard = guard_of(id, 1, "me#1"),
		.target = TASK_COMPLETED,
		.at_us = clock_wall_us(),
		.event_kind = EVENT_TEST,
	};
}

TEST(a_run_from_start_to_end)
{
	FRESH();
	struct uuid id = running();
	struct transition t = transition_of(&id, TRANSITION_STARTED);
	t.node = BYTES_LITERAL("n1");
	t.pod = BYTES_LITERAL("p1");
	t.started_data = BYTES_LITERAL("\"x\":1");
	struct settle_result r = settle_one(h, &t);
	CHECK_INT(r.status, SETTLE_APPLIED);
	CHECK_INT(r.event_count, 1);
	CHECK_INT(r.events[0].kind, EVENT_RUNNING);
	CHECK_INT(r.events[0].sequence, 2);
	CHECK_INT(r.events[0].attempt, 1);
	CHECK_BYTES(r.events[0].data, "\"x\":1");
	CHECK_BYTES(r.events[0].tenant, "t");
	CHECK_INT(task_of(h, &id).started_at_us, t.at_us);
	CHECK_BYTES(task_of(h, &id).node, "n1");
	t = transition_of(&id, TRANSITION_STEP);
	t.event_data = BYTES_LITERAL("\"test\":1");
	r = settle_one(h, &t);
	CHECK_INT(r.status, SETTLE_APPLIED);
	CHECK_INT(r.events[0].kind, EVENT_TEST);
	t.event_kind = EVENT_STAGE;
	settle_one(h, &t);
	t = transition_of(&id, TRANSITION_END);
	t.target = TASK_FAILED;
	t.reason = REASON_EXIT_CODE;
	t.error = BYTES_LITERAL("it failed");
	t.result = BYTES_LITERAL("{\"r\":1}");
	t.event_data = BYTES_LITERAL("\"exit_code\":3");
	r = settle_one(h, &t);
	CHECK_INT(r.status, SETTLE_APPLIED);
	CHECK_INT(r.task_status, TASK_FAILED);
	CHECK_INT(r.attempts, 0);
	CHECK_INT(r.sequence, 5);
	CHECK_INT(r.event_count, 1);
	CHECK_INT(r.events[0].kind, EVENT_FAILED);
	CHECK_BYTES(r.events[0].data, "\"exit_code\":3");
	struct task row = task_of(h, &id);
	CHECK_INT(row.status, TASK_FAILED);
	CHECK_INT(row.reason, REASON_EXIT_CODE);
	CHECK_INT(row.finished_at_us, t.at_us);
	CHECK_BYTES(row.locked_by, BYTES_NONE);
	CHECK_BYTES(row.error, "it failed");
	CHECK(same_json(row.result, "{\"r\":1}"));
	CHECK_BYTES(row.node, "n1");
	CHECK_INT(row.sequence, 5);
	CHECK_EVENTS(id, "QRSGF");
	DONE();
}

TEST(started_and_ended_at_once)
{
	FRESH();
	struct uuid one = running(), two = running();
	struct transition t[] = {
		transition_of(&one, TRANSITION_END),
		transition_of(&two, TRANSITION_STARTED),
		transition_of(&two, TRANSITION_STEP),
		transition_of(&two, TRANSITION_END),
	};
	t[0].started_at_us = t[0].at_us - 5;
	t[0].started_data = BYTES_LITERAL("\"s\":1");
	t[0].event_data = BYTES_LITERAL("\"e\":1");
	struct store_settle settle = { .transitions = t, .count = 4 };
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	CHECK_INT(settle.results[0].event_count, 2);
	CHECK_INT(settle.results[0].events[0].kind, EVENT_RUNNING);
	CHECK_INT(settle.results[0].events[0].timestamp_us, t[0].started_at_us);
	CHECK_BYTES(settle.results[0].events[0].data, "\"s\":1");
	CHECK_INT(settle.results[0].events[1].kind, EVENT_COMPLETED);
	CHECK_BYTES(settle.results[0].events[1].data, "\"e\":1");
	for (int i = 1; i < 4; i++) {
		CHECK_INT(settle.results[i].status, SETTLE_APPLIED);
		CHECK_INT(settle.results[i].event_count, 1);
	}
	store_operation_fini(&settle.operation);
	CHECK_EVENTS(one, "QRC");
	CHECK_EVENTS(two, "QRSC");
	CHECK_INT(task_of(h, &one).started_at_us, t[0].started_at_us);
	DONE();
}

TEST(the_guard_holds_off_all_others)
{
	FRESH();
	struct uuid id = running(), unknown = uuid_new(&h->ids);
	struct submission s = submission_of(h);
	struct uuid queued = submit_one(h, &s);
	struct transition wrong[] = {
		transition_of(&id, TRANSITION_END),
		transition_of(&id, TRANSITION_RETRY),
		transition_of(&id, TRANSITION_STARTED),
		transition_of(&unknown, TRANSITION_END),
		transition_of(&queued, TRANSITION_HAND_BACK),
	};
	wrong[0].guard.attempt = 2;
	wrong[1].guard.locked_by = BYTES_LITERAL("other#1");
	wrong[2].guard.attempt = 0;
	for (int i = 0; i < 5; i++) {
		struct settle_result r = settle_one(h, &wrong[i]);
		CHECK_INT(r.status, SETTLE_REFUSED);
		CHECK_INT(r.event_count, 0);
		CHECK_INT(r.task_status, i < 3 ? TASK_RUNNING : TASK_QUEUED);
		CHECK_INT(r.attempt, i < 3 ? 1 : 0);
	}
	CHECK_EVENTS(id, "Q");
	/* Of two ends the first counts; the second is another's. */
	struct transition end = transition_of(&id, TRANSITION_END);
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	end.guard.locked_by = BYTES_LITERAL("other#1");
	end.target = TASK_FAILED;
	struct settle_result r = settle_one(h, &end);
	CHECK_INT(r.status, SETTLE_REFUSED);
	CHECK_INT(r.task_status, TASK_COMPLETED);
	CHECK_EVENTS(id, "QC");
	DONE();
}

TEST(retries_are_charged_and_hand_backs_are_not)
{
	FRESH();
	struct uuid retried = running(), handed = running(), ids[3];
	struct transition t = transition_of(&retried, TRANSITION_RETRY);
	t.reason = REASON_NODE_LOST;
	t.error = BYTES_LITERAL("the node went");
	struct settle_result r = settle_one(h, &t);
	CHECK_INT(r.task_status, TASK_RETRY);
	CHECK_INT(r.attempts, 1);
	CHECK_INT(r.run_after_us, 0);
	CHECK_INT(r.events[0].kind, EVENT_RETRYING);
	CHECK_INT(task_of(h, &retried).reason, REASON_NODE_LOST);
	t = transition_of(&handed, TRANSITION_HAND_BACK);
	r = settle_one(h, &t);
	CHECK_INT(r.task_status, TASK_QUEUED);
	CHECK_INT(r.attempts, 0);
	CHECK_INT(r.event_count, 0);
	CHECK_INT(claim_ids(h, 3, ids), 2);
	struct task row = task_of(h, &retried);
	CHECK_INT(row.status, TASK_RUNNING);
	CHECK_INT(row.attempt, 2); /* raised by every transition into RUNNING */
	CHECK_INT(row.attempts, 1);
	CHECK_INT(row.reason, REASON_NONE);
	CHECK_INT(task_of(h, &handed).attempt, 2);
	CHECK_EVENTS(retried, "QT");
	CHECK_EVENTS(handed, "Q");
	/* An infrastructure fault that ends the task is charged. */
	t = transition_of(&retried, TRANSITION_END);
	t.guard.attempt = 2;
	t.target = TASK_FAILED;
	t.reason = REASON_MAX_ATTEMPTS;
	t.cause = REASON_NODE_LOST;
	t.charged = true;
	CHECK_INT(settle_one(h, &t).attempts, 2);
	row = task_of(h, &retried);
	CHECK_INT(row.reason, REASON_MAX_ATTEMPTS);
	CHECK_INT(row.cause, REASON_NODE_LOST);
	DONE();
}

TEST(a_retry_waits_its_delay)
{
	if (!fixture->advance)
		return;
	FRESH();
	struct uuid id = running(), ids[1];
	struct transition t = transition_of(&id, TRANSITION_RETRY);
	t.delay_us = 30 * US_PER_S;
	int64_t now = fixture->now_us(fixture);
	struct settle_result r = settle_one(h, &t);
	CHECK(r.run_after_us >= now + t.delay_us);
	CHECK_INT(task_of(h, &id).run_after_us, r.run_after_us);
	CHECK_INT(claim_ids(h, 1, ids), 0);
	fixture->advance(fixture, 31 * US_PER_S);
	CHECK_INT(claim_ids(h, 1, ids), 1);
	DONE();
}

static enum store_outcome command_one(
	struct store_command *command, enum command_kind kind, const struct uuid *id, struct command_result *ret_result)
{
	*command = (struct store_command){
		.kind = kind, .ids = id, .count = 1, .at_us = clock_wall_us(), .publisher = BYTES_LITERAL("me#1")
	};
	enum store_outcome outcome = do_command(h, command);
	if (outcome == STORE_OK && command->result_count == 1)
		*ret_result = command->results[0];
	return outcome;
}

/* … and the end that a charged fault makes, but not the end that the code came to by itself. */
TEST(a_cancel_request_beats_what_infrastructure_did)
{
	FRESH();
	struct uuid retry = running(), back = running(), lost = running(), done = running();
	const struct uuid *all[] = { &retry, &back, &lost, &done };
	static const enum transition_kind kinds[] = { TRANSITION_RETRY, TRANSITION_HAND_BACK, TRANSITION_END,
		TRANSITION_END };
	for (int i = 0; i < 4; i++) {
		struct store_command command;
		struct command_result c;
		REQUIRE(command_one(&command, COMMAND_CANCEL, all[i], &c) == STORE_OK);
		CHECK_INT(c.status, COMMAND_REQUESTED);
		CHECK_BYTES(c.locked_by, "me#1");
		CHECK(!c.has_event);
		store_operation_fini(&command.operation);
		struct transition t = transition_of(all[i], kinds[i]);
		t.charged = i == 2;
		t.reason = REASON_NODE_LOST;
		t.event_data = BYTES_LITERAL("\"a\":1");
		t.result = BYTES_LITERAL("{\"a\":1}");
		t.cancelled_data = BYTES_LITERAL("\"c\":1");
		t.cancelled_result = BYTES_LITERAL("{\"c\":1}");
		struct settle_result r = settle_one(h, &t);
		CHECK_INT(r.status, SETTLE_APPLIED);
		CHECK_INT(r.task_status, i < 3 ? TASK_CANCELLED : TASK_COMPLETED);
		CHECK_INT(r.events[0].kind, i < 3 ? EVENT_CANCELLED : EVENT_COMPLETED);
		CHECK_BYTES(r.events[0].data, i < 3 ? "\"c\":1" : "\"a\":1");
		CHECK_INT(r.attempts, 0);
		struct task row = task_of(h, all[i]);
		CHECK_INT(row.reason, i < 3 ? REASON_CANCELLED : REASON_NODE_LOST);
		CHECK(same_json(row.result, i < 3 ? "{\"c\":1}" : "{\"a\":1}"));
		CHECK(row.finished_at_us > 0);
		CHECK_EVENTS(*all[i], i < 3 ? "QX" : "QC");
	}
	DONE();
}

TEST(a_settlement_whose_answer_was_lost_is_handed_in_again)
{
	static const struct {
		enum transition_kind kind;
		bool started;
		enum task_status status;
		const char *events;
	} cases[] = {
		{ TRANSITION_STARTED, false, TASK_RUNNING, "QR" },
		{ TRANSITION_STEP, false, TASK_RUNNING, "QS" },
		{ TRANSITION_STEP, true, TASK_RUNNING, "QRS" },
		{ TRANSITION_END, false, TASK_COMPLETED, "QC" },
		{ TRANSITION_END, true, TASK_COMPLETED, "QRC" },
		{ TRANSITION_RETRY, true, TASK_RETRY, "QRT" },
		{ TRANSITION_HAND_BACK, false, TASK_QUEUED, "Q" },
		{ TRANSITION_HAND_BACK, true, TASK_QUEUED, "QR" },
	};
	for (int i = 0; i < 16; i++) {
		FRESH();
		int c = i / 2;
		struct uuid id = running();
		struct transition t = transition_of(&id, cases[c].kind);
		t.started_at_us = cases[c].started ? t.at_us - 7 : 0;
		t.event_data = BYTES_LITERAL("\"d\":1");
		struct output_chunk chunk = { id, 1, 1, 0, 0, BYTES_LITERAL("out") };
		struct store_settle settle = { .transitions = &t, .count = 1, .chunks = &chunk, .chunk_count = 1 };
		fixture->cut(fixture, i % 2 ? SUITE_CUT_AFTER_COMMIT : SUITE_CUT_BEFORE_COMMIT);
		CHECK_INT(do_settle(h, &settle), STORE_UNKNOWN);
		for (int again = 0; again < 2; again++) {
			store_operation_fini(&settle.operation);
			REQUIRE(do_settle(h, &settle) == STORE_OK);
			const struct settle_result *r = settle.results;
			CHECK_INT(r->status, SETTLE_APPLIED);
			CHECK_INT(r->task_status, cases[c].status);
			CHECK_INT(r->attempts, cases[c].kind == TRANSITION_RETRY);
			CHECK_INT(r->event_count, strlen(cases[c].events) - 1);
			for (int e = 0; e < r->event_count; e++) {
				CHECK_INT(r->events[e].sequence, e + 2);
				CHECK_INT("QRTSGCFX"[r->events[e].kind], cases[c].events[e + 1]);
				CHECK_ID(r->events[e].task_id, id);
				CHECK_BYTES(r->events[e].tenant, "t");
			}
		}
		store_operation_fini(&settle.operation);
		CHECK_EVENTS(id, cases[c].events);
		struct read_output read = { .task_id = id, .limit = 100 };
		REQUIRE(do_read_output(h, &read) == STORE_OK);
		CHECK_INT(read.end, 3);
		store_operation_fini(&read.operation);
		/* It is still told as its own when the task runs again. */
		struct uuid ids[1];
		if (claim_ids(h, 1, ids) == 1) {
			CHECK_INT(settle_one(h, &t).status, SETTLE_APPLIED);
			CHECK_INT(task_of(h, &id).status, TASK_RUNNING);
			CHECK_INT(task_of(h, &id).attempt, 2);
		}
		DONE();
	}
}

/* A short job: what it did is one batch, whose first transition brings the start. */
TEST(a_start_that_a_step_brought_is_told_again_with_the_end)
{
	FRESH();
	struct uuid id = running();
	struct transition t[] = { transition_of(&id, TRANSITION_STEP), transition_of(&id, TRANSITION_END) };
	t[0].started_at_us = t[0].at_us - 7;
	t[0].event_data = BYTES_LITERAL("\"test\":1");
	struct store_settle settle = { .transitions = t, .count = 2 };
	fixture->cut(fixture, SUITE_CUT_AFTER_COMMIT);
	CHECK_INT(do_settle(h, &settle), STORE_UNKNOWN);
	store_operation_fini(&settle.operation);
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	const struct settle_result *r = settle.results;
	CHECK_INT(r[0].status, SETTLE_APPLIED);
	CHECK_INT(r[0].event_count, 2);
	CHECK_INT(r[0].events[0].kind, EVENT_RUNNING);
	CHECK_INT(r[0].events[1].kind, EVENT_TEST);
	CHECK_INT(r[1].status, SETTLE_APPLIED);
	CHECK_INT(r[1].event_count, 1);
	CHECK_INT(r[1].events[0].kind, EVENT_COMPLETED);
	store_operation_fini(&settle.operation);
	CHECK_EVENTS(id, "QRSC");
	DONE();
}

TEST(equal_steps_are_two_only_when_they_differ)
{
	FRESH();
	struct uuid id = running();
	struct transition t[] = { transition_of(&id, TRANSITION_STEP), transition_of(&id, TRANSITION_STEP) };
	t[0].event_data = BYTES_LITERAL("\"test\":1");
	t[1].event_data = BYTES_LITERAL("\"test\":2");
	t[1].at_us = t[0].at_us;
	struct store_settle settle = { .transitions = t, .count = 2 };
	for (int i = 0; i < 2; i++) {
		REQUIRE(do_settle(h, &settle) == STORE_OK);
		CHECK_INT(settle.results[0].events[0].sequence, 2);
		CHECK_INT(settle.results[1].events[0].sequence, 3);
		store_operation_fini(&settle.operation);
	}
	CHECK_EVENTS(id, "QSS");
	DONE();
}

/* ---- command ---- */

TEST(cancel_in_every_state)
{
	FRESH();
	struct submission s = submission_of(h);
	struct uuid waiting = submit_one(h, &s), runs = running(), ended = running(), unknown = uuid_new(&h->ids);
	struct transition end = transition_of(&ended, TRANSITION_END);
	settle_one(h, &end);
	const struct uuid ids[] = { waiting, runs, ended, unknown };
	struct store_command command = {
		.kind = COMMAND_CANCEL,
		.ids = ids,
		.count = 4,
		.at_us = clock_wall_us(),
		.event_data = BYTES_LITERAL("\"reason\":\"cancelled\""),
		.publisher = BYTES_LITERAL("me#1"),
	};
	REQUIRE(do_command(h, &command) == STORE_OK);
	REQUIRE(command.result_count == 4);
	const struct command_result *r = command.results;
	CHECK_INT(r[0].status, COMMAND_DONE);
	CHECK_INT(r[0].task_status, TASK_CANCELLED);
	CHECK(r[0].has_event);
	CHECK_INT(r[0].event.kind, EVENT_CANCELLED);
	CHECK_INT(r[0].event.sequence, 2);
	CHECK_BYTES(r[0].event.data, command.event_data);
	CHECK_INT(r[1].status, COMMAND_REQUESTED);
	CHECK_INT(r[1].task_status, TASK_RUNNING);
	CHECK_INT(r[1].attempt, 1);
	CHECK_BYTES(r[1].locked_by, "me#1");
	CHECK_BYTES(r[1].executor, "noop");
	CHECK_INT(r[2].status, COMMAND_CONFLICT);
	CHECK_INT(r[2].task_status, TASK_COMPLETED);
	CHECK_INT(r[3].status, COMMAND_NOT_FOUND);
	CHECK_ID(r[3].id, unknown);
	store_operation_fini(&command.operation);
	struct task row = task_of(h, &waiting);
	CHECK_INT(row.reason, REASON_CANCELLED);
	CHECK_INT(row.finished_at_us, command.at_us);
	CHECK_BYTES(row.result, BYTES_NONE);
	CHECK_INT(task_of(h, &runs).cancel_requested_at_us, command.at_us);
	struct uuid claimed[2];
	CHECK_INT(claim_ids(h, 2, claimed), 0);
	/* Asked once more, the first request stands. */
	int64_t first = command.at_us;
	struct command_result c;
	REQUIRE(command_one(&command, COMMAND_CANCEL, &runs, &c) == STORE_OK);
	CHECK_INT(c.status, COMMAND_REQUESTED);
	store_operation_fini(&command.operation);
	CHECK_INT(task_of(h, &runs).cancel_requested_at_us, first);
	DONE();
}

TEST(commands_stay_within_the_tenant)
{
	FRESH();
	struct submission s = submission_of(h);
	struct uuid id = submit_one(h, &s);
	struct store_command command = {
		.kind = COMMAND_CANCEL, .ids = &id, .count = 1, .at_us = clock_wall_us(), .tenant = BYTES_LITERAL("u")
	};
	REQUIRE(do_command(h, &command) == STORE_OK);
	CHECK_INT(command.results[0].status, COMMAND_NOT_FOUND);
	store_operation_fini(&command.operation);
	command.tenant = BYTES_LITERAL("t");
	REQUIRE(do_command(h, &command) == STORE_OK);
	CHECK_INT(command.results[0].status, COMMAND_DONE);
	store_operation_fini(&command.operation);
	DONE();
}

TEST(a_batch_is_cancelled_as_one)
{
	for (int when = SUITE_CUT_BEFORE_COMMIT; when <= SUITE_CUT_AFTER_COMMIT; when++) {
		FRESH();
		struct uuid batch = uuid_new(&h->ids), ids[5];
		for (int i = 0; i < 5; i++) {
			struct submission s = submission_of(h);
			s.batch_id = i < 4 ? batch : uuid_new(&h->ids);
			ids[i] = i % 2 ? submit_running(h, &s, "me#1") : submit_one(h, &s);
		}
		struct transition end = transition_of(&ids[3], TRANSITION_END);
		settle_one(h, &end);
		struct store_command command = { .kind = COMMAND_CANCEL,
			.batch_id = batch,
			.at_us = clock_wall_us(),
			.publisher = BYTES_LITERAL("me#1") };
		fixture->cut(fixture, when);
		CHECK_INT(do_command(h, &command), STORE_UNKNOWN);
		store_operation_fini(&command.operation);
		REQUIRE(do_command(h, &command) == STORE_OK);
		REQUIRE(command.result_count == 3); /* the ended one is not touched */
		for (int i = 0; i < 3; i++) {
			CHECK_ID(command.results[i].id, ids[i]);
			CHECK_INT(command.results[i].status, i == 1 ? COMMAND_REQUESTED : COMMAND_DONE);
			CHECK(command.results[i].has_event == (i != 1));
			if (i != 1)
				CHECK_ID(command.results[i].event.batch_id, batch);
		}
		store_operation_fini(&command.operation);
		CHECK_EVENTS(ids[0], "QX");
		CHECK_EVENTS(ids[2], "QX");
		CHECK_INT(task_of(h, &ids[4]).status, TASK_QUEUED);
		DONE();
	}
}

TEST(run_clears_the_wait_and_opens_new_runs)
{
	for (int i = 0; i < 3; i++) {
		FRESH();
		struct submission s = with_keys("e", NULL, 1);
		s.run_after_us = (fixture->now_us ? fixture->now_us(fixture) : clock_wall_us()) + 1000 * US_PER_S;
		struct uuid id = submit_one(h, &s), ids[1];
		struct store_command command;
		struct command_result c;
		REQUIRE(command_one(&command, COMMAND_RUN, &id, &c) == STORE_OK);
		CHECK_INT(c.status, COMMAND_DONE);
		CHECK(!c.has_event);
		store_operation_fini(&command.operation);
		CHECK_INT(task_of(h, &id).run_after_us, 0);
		CHECK_INT(claim_ids(h, 1, ids), 1);
		REQUIRE(command_one(&command, COMMAND_RUN, &id, &c) == STORE_OK);
		CHECK_INT(c.status, COMMAND_CONFLICT);
		store_operation_fini(&command.operation);
		REQUIRE(command_one(&command, COMMAND_CANCEL, &id, &c) == STORE_OK);
		store_operation_fini(&command.operation);
		struct transition end = transition_of(&id, TRANSITION_END);
		end.started_at_us = end.at_us;
		end.target = TASK_FAILED;
		end.reason = REASON_SIGNAL;
		end.error = BYTES_LITERAL("e");
		end.result = BYTES_LITERAL("{}");
		settle_one(h, &end);
		/* Twice with a lost answer: before and after the commit. */
		command = (struct store_command){ .kind = COMMAND_RUN,
			.ids = &id,
			.count = 1,
			.at_us = clock_wall_us(),
			.publisher = BYTES_LITERAL("me#1") };
		if (i < 2) {
			fixture->cut(fixture, i ? SUITE_CUT_AFTER_COMMIT : SUITE_CUT_BEFORE_COMMIT);
			CHECK_INT(do_command(h, &command), STORE_UNKNOWN);
			store_operation_fini(&command.operation);
		}
		REQUIRE(do_command(h, &command) == STORE_OK);
		CHECK_INT(command.results[0].status, COMMAND_DONE);
		CHECK_INT(command.results[0].task_status, TASK_QUEUED);
		CHECK(command.results[0].has_event);
		CHECK_INT(command.results[0].event.kind, EVENT_QUEUED);
		CHECK_INT(command.results[0].event.run, 2);
		CHECK_INT(command.results[0].event.sequence, 4);
		store_operation_fini(&command.operation);
		struct task t = task_of(h, &id);
		CHECK_INT(t.status, TASK_QUEUED);
		CHECK_INT(t.run, 2);
		CHECK_INT(t.max_attempts, 6);
		CHECK_INT(t.attempts, 0);
		CHECK_INT(t.attempt, 1);
		CHECK_INT(t.reason, REASON_NONE);
		CHECK_INT(t.started_at_us, 0);
		CHECK_INT(t.finished_at_us, 0);
		CHECK_INT(t.cancel_requested_at_us, 0);
		CHECK_INT(t.queued_at_us, command.at_us);
		CHECK_BYTES(t.result, BYTES_NONE);
		CHECK_BYTES(t.error, BYTES_NONE);
		CHECK_BYTES(t.eval_id, "e");
		CHECK_EVENTS(id, "QRFQ");
		/* One terminal event per run; the key still points here. */
		CHECK_INT(claim_ids(h, 1, ids), 1);
		end.guard.attempt = 2;
		end.target = TASK_COMPLETED;
		CHECK_INT(settle_one(h, &end).events[1].run, 2);
		CHECK_EVENTS(id, "QRFQRC");
		struct submission again = with_keys("e", NULL, 1);
		struct submit_item item = { &again, false };
		struct store_submit submit = { .items = &item, .count = 1, .locked_by = BYTES_LITERAL("me#1") };
		REQUIRE(do_submit(h, &submit) == STORE_OK);
		CHECK_INT(submit.results[0].status, SUBMIT_EXISTS);
		CHECK_INT(submit.results[0].task_status, TASK_COMPLETED);
		store_operation_fini(&submit.operation);
		DONE();
	}
}

/* ---- reads ---- */

TEST(tasks_are_read_by_id_within_a_tenant)
{
	FRESH();
	struct submission s = submission_of(h);
	struct uuid ids[] = { uuid_new(&h->ids), submit_one(h, &s), s.id };
	struct read_task read = { .ids = ids, .count = 3, .tenant = BYTES_LITERAL("t") };
	REQUIRE(do_read_task(h, &read) == STORE_OK);
	CHECK(!read.results[0]);
	REQUIRE(read.results[1] && read.results[2]);
	CHECK_ID(read.results[1]->id, s.id);
	CHECK_BYTES(read.results[1]->params, BYTES_NONE);
	store_operation_fini(&read.operation);
	read.tenant = BYTES_LITERAL("u");
	REQUIRE(do_read_task(h, &read) == STORE_OK);
	CHECK(!read.results[1]);
	store_operation_fini(&read.operation);
	DONE();
}

static size_t match(const char *text, const char *tenant, struct uuid *ret_first)
{
	struct read_match read = { .text = bytes_of(text), .tenant = bytes_of(tenant) };
	REQUIRE(do_read_match(h, &read) == STORE_OK);
	size_t count = read.result_count;
	if (count > 0)
		*ret_first = read.results[0];
	store_operation_fini(&read.operation);
	return count;
}

TEST(short_ids_match_by_prefix_and_suffix)
{
	FRESH();
	struct uuid found, id = { { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x7c, 0xde, 0x8f, 0x01, 0x23, 0x45, 0x67, 0x89,
				   0xab, 0xcd } };
	/* Its first eight digits are the last eight of the other. */
	struct uuid other = { { 0x99, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0x01, 0x23, 0x45, 0x67 } };
	struct submission s = submission_of(h);
	s.id = id;
	submit_one(h, &s);
	s.id = other;
	s.run_after_us = (fixture->now_us ? fixture->now_us(fixture) : clock_wall_us()) + 1000 * US_PER_S;
	submit_one(h, &s);
	CHECK_INT(match("0123", NULL, &found), 1);
	CHECK_ID(found, id);
	CHECK_INT(match("01234", "t", &found), 1);
	CHECK_INT(match("01235", NULL, &found), 0);
	CHECK_INT(match("01234567-89ab-7cde", NULL, &found), 1);
	CHECK_INT(match("0123456789ab7cde8f0123456789abcd", NULL, &found), 1);
	CHECK_INT(match("0123456789ab7cde8f0123456789abcd0", NULL, &found), 0);
	CHECK_INT(match("6789abcd", NULL, &found), 1);
	CHECK_ID(found, id);
	CHECK_INT(match("789abcd", NULL, &found), 0); /* a suffix has exactly eight */
	CHECK_INT(match("01234567", NULL, &found), 2); /* united */
	CHECK_INT(match("0123", "u", &found), 0);
	CHECK_INT(match("6789abcd", "u", &found), 0);
	CHECK_INT(match("012", NULL, &found), 0);
	CHECK_INT(match("wxyz", NULL, &found), 0);
	CHECK_INT(match("", NULL, &found), 0);
	for (int i = 0; i < 21; i++) {
		s = submission_of(h);
		memset(s.id.bytes, 0xee, 2);
		memset(s.id.bytes + 12, 0xdd, 4);
		if (i % 2)
			submit_one(h, &s);
		else
			submit_running(h, &s, "me#1");
	}
	CHECK_INT(match("eeee", NULL, &found), 21);
	CHECK_INT(match("dddddddd", NULL, &found), 21);
	s = submission_of(h);
	memset(s.id.bytes, 0xee, 2);
	submit_one(h, &s);
	CHECK_INT(match("eeee", NULL, &found), 21); /* more than 20 */
	DONE();
}

static size_t list_count(struct read_list read)
{
	read.limit = read.limit ? read.limit : 100;
	REQUIRE(do_read_list(h, &read) == STORE_OK);
	size_t count = read.result_count;
	store_operation_fini(&read.operation);
	return count;
}

TEST(lists_filter)
{
	FRESH();
	struct uuid batch = uuid_new(&h->ids);
	for (int i = 0; i < 12; i++) {
		struct submission s = submission_of(h);
		char eval_id[8];
		snprintf(eval_id, sizeof(eval_id), "e%d", i);
		s.tenant = bytes_of(i % 2 ? "t" : "u");
		s.type = bytes_of(i % 3 ? "test" : "evaluation");
		s.queue = bytes_of(i % 4 ? "default" : "slow");
		s.batch_id = i < 5 ? batch : s.batch_id;
		s.eval_id = i == 7 ? bytes_of(eval_id) : BYTES_NONE;
		if (i == 3 || i == 4)
			submit_running(h, &s, "me#1");
		else
			submit_one(h, &s);
	}
	CHECK_INT(list_count((struct read_list){ .limit = 0 }), 12);
	CHECK_INT(list_count((struct read_list){ .tenant = BYTES_LITERAL("t") }), 6);
	CHECK_INT(list_count((struct read_list){ .type = BYTES_LITERAL("evaluation") }), 4);
	CHECK_INT(list_count((struct read_list){ .queue = BYTES_LITERAL("slow") }), 3);
	CHECK_INT(list_count((struct read_list){ .status_mask = 1u << TASK_RUNNING }), 2);
	CHECK_INT(list_count((struct read_list){ .status_mask = 1u << TASK_RUNNING | 1u << TASK_QUEUED }), 12);
	CHECK_INT(list_count((struct read_list){ .batch_id = batch }), 5);
	CHECK_INT(list_count((struct read_list){ .batch_id = batch, .tenant = BYTES_LITERAL("t") }), 2);
	CHECK_INT(list_count((struct read_list){ .batch_id = batch, .eval_id = BYTES_LITERAL("e7") }), 0);
	CHECK_INT(list_count((struct read_list){ .eval_id = BYTES_LITERAL("e7") }), 1);
	CHECK_INT(list_count((struct read_list){ .eval_id = BYTES_LITERAL("e7"), .tenant = BYTES_LITERAL("u") }), 0);
	CHECK_INT(list_count((struct read_list){ .tenant = BYTES_LITERAL("t"),
			  .type = BYTES_LITERAL("evaluation"),
			  .status_mask = 1u << TASK_RUNNING }),
		1);
	DONE();
}

TEST(pages_neither_repeat_nor_miss_while_rows_come)
{
	FRESH();
	struct uuid ids[25], before = { { 0 } };
	size_t seen = 0;
	for (int i = 0; i < 25; i++) {
		struct submission s = submission_of(h);
		ids[i] = submit_one(h, &s);
	}
	for (;;) {
		struct read_list read = { .limit = 7, .before = before };
		REQUIRE(do_read_list(h, &read) == STORE_OK);
		for (size_t i = 0; i < read.result_count && seen < 25; i++, seen++)
			CHECK_ID(read.results[i].id, ids[24 - seen]);
		bool more = read.more;
		CHECK(more == (seen < 25));
		if (read.result_count > 0)
			before = read.results[read.result_count - 1].id;
		store_operation_fini(&read.operation);
		if (!more)
			break;
		struct submission s = submission_of(h);
		submit_one(h, &s);
	}
	CHECK_INT(seen, 25);
	DONE();
}

/* Pages may come up empty, but they come, and nothing is left out. */
static void rare_are_found(struct bytes tenant)
{
	struct uuid before = { { 0 } };
	size_t pages = 0, found = 0;
	for (bool more = true; more; pages++) {
		struct read_list read = {
			.tenant = tenant, .queue = BYTES_LITERAL("rare"), .limit = 2, .before = before
		};
		REQUIRE(pages < 10);
		REQUIRE(do_read_list(h, &read) == STORE_OK);
		for (size_t i = 0; i < read.result_count; i++)
			CHECK_BYTES(read.results[i].queue, "rare");
		found += read.result_count;
		more = read.more;
		CHECK(more != uuid_is_nil(&read.next));
		before = read.next;
		store_operation_fini(&read.operation);
	}
	CHECK_INT(found, 3);
	CHECK(pages >= 2);
}

TEST(lists_of_what_is_rare_look_at_so_much_at_a_time)
{
	FRESH();
	enum { BATCH = 2000, BATCHES = READ_LIST_EXAMINED / BATCH + 1 };
	static struct submission s[BATCH];
	static struct submit_item items[BATCH];
	for (int batch = 0; batch < BATCHES; batch++) {
		for (int i = 0; i < BATCH; i++) {
			bool is_rare = i == 0 && (batch < 2 || batch == BATCHES - 1);
			s[i] = submission_of(h);
			s[i].queue = is_rare ? BYTES_LITERAL("rare") : BYTES_LITERAL("default");
			items[i] = (struct submit_item){ .submission = &s[i] };
		}
		struct store_submit submit = { .items = items, .count = BATCH, .locked_by = BYTES_LITERAL("me#1") };
		REQUIRE(do_submit(h, &submit) == STORE_OK);
		store_operation_fini(&submit.operation);
	}
	rare_are_found(BYTES_NONE);
	rare_are_found(s[0].tenant);
	/* What no filter leaves out is not counted. */
	struct read_list read = { .limit = READ_LIST_EXAMINED + 1 };
	REQUIRE(do_read_list(h, &read) == STORE_OK);
	CHECK_INT(read.result_count, READ_LIST_EXAMINED + 1);
	store_operation_fini(&read.operation);
	DONE();
}

static struct read_events events_after(struct cursor after)
{
	return (struct read_events){ .after = after, .limit = 100 };
}

static size_t count_after(struct cursor after)
{
	struct read_events read = events_after(after);
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	size_t count = read.result_count;
	store_operation_fini(&read.operation);
	return count;
}

TEST(events_are_read_by_cursor_and_filter)
{
	FRESH();
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor start = counts.latest;
	store_operation_fini(&counts.operation);
	struct submission a = with_keys("ea", NULL, 1), b = submission_of(h);
	b.tenant = BYTES_LITERAL("u");
	b.batch_id = uuid_new(&h->ids);
	submit_running(h, &a, "me#1");
	submit_running(h, &b, "other#1");
	struct transition end = transition_of(&a.id, TRANSITION_END);
	end.started_at_us = end.at_us;
	end.event_data = BYTES_LITERAL("\"exit_code\":0");
	settle_one(h, &end);
	struct cursor last = start;
	const struct cursor starts[] = { { .length = 0 }, start };
	for (int i = 0; i < 2; i++) {
		struct read_events read = events_after(starts[i]);
		REQUIRE(do_read_events(h, &read) == STORE_OK);
		REQUIRE(read.result_count == 4);
		CHECK(!read.gap);
		CHECK(!read.more);
		CHECK_ID(read.results[0].task_id, a.id);
		CHECK_ID(read.results[1].task_id, b.id);
		CHECK_INT(read.results[2].kind, EVENT_RUNNING);
		CHECK_INT(read.results[3].kind, EVENT_COMPLETED);
		CHECK_BYTES(read.results[3].eval_id, "ea");
		CHECK_BYTES(read.results[3].data, "\"exit_code\":0");
		CHECK_BYTES(read.results[3].output, "");
		CHECK_INT(read.results[3].timestamp_us, end.at_us);
		CHECK_ID(read.results[1].batch_id, b.batch_id);
		/* From the cursor of an event, and from the end, on nothing is missed, and nothing that was settled long ago repeated. */
		CHECK_INT(count_after(read.results[1].cursor), 2);
		CHECK_INT(count_after(read.results[3].cursor), 0);
		last = read.last;
		store_operation_fini(&read.operation);
		CHECK_INT(count_after(last), 0);
	}
	struct read_events filters[] = { events_after(start), events_after(start), events_after(start),
		events_after(start), events_after(start), events_after(start), events_after(start),
		events_after(last) };
	filters[0].task_id = a.id;
	filters[1].tenant = BYTES_LITERAL("u");
	filters[2].eval_id = BYTES_LITERAL("ea");
	filters[3].batch_id = b.batch_id;
	filters[4].kind_mask = 1u << EVENT_QUEUED;
	filters[5].publisher = BYTES_LITERAL("other#1");
	filters[6].publisher = BYTES_LITERAL("nobody#1");
	static const size_t expected[] = { 3, 1, 3, 1, 2, 1, 0, 0 };
	for (int i = 0; i < 8; i++) {
		REQUIRE(do_read_events(h, &filters[i]) == STORE_OK);
		CHECK_INT(filters[i].result_count, expected[i]);
		CHECK(!filters[i].more);
		/* Each tells who was to publish it. */
		if (i == 0 || i == 5)
			CHECK_BYTES(filters[i].results[0].publisher, i == 5 ? "other#1" : "me#1");
		struct cursor end_of_it = filters[i].last;
		store_operation_fini(&filters[i].operation);
		/* The end was seen, whatever the filters let through. */
		if (i > 0)
			CHECK_INT(count_after(end_of_it), 0);
	}
	/* One at a time. */
	struct cursor at = start;
	for (int i = 0; i < 4; i++) {
		struct read_events read = { .after = at, .limit = 1 };
		REQUIRE(do_read_events(h, &read) == STORE_OK);
		CHECK_INT(read.result_count, 1);
		CHECK(read.more == (i < 3));
		at = read.last;
		store_operation_fini(&read.operation);
	}
	CHECK_INT(count_after(at), 0);
	DONE();
}

/* However the store keeps them together. */
static void batch_is_told(bool keyed)
{
	enum { COUNT = 7 };
	struct submission s[COUNT];
	struct submit_item items[COUNT];
	for (int i = 0; i < COUNT; i++) {
		s[i] = submission_of(h);
		if (keyed && i < 2)
			s[i].eval_id = bytes_of(i == 0 ? "first" : "second");
		items[i] = (struct submit_item){ .submission = &s[i], .born_running = i >= 5 };
	}
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor start = counts.latest;
	store_operation_fini(&counts.operation);
	struct store_submit submit = { .items = items, .count = COUNT, .locked_by = BYTES_LITERAL("me#1") };
	REQUIRE(do_submit(h, &submit) == STORE_OK);
	for (int i = 0; i < COUNT; i++)
		CHECK_INT(submit.results[i].event.attempt, 0); /* before any */
	store_operation_fini(&submit.operation);
	for (int i = 0; i < COUNT; i++)
		CHECK_EVENTS(s[i].id, "Q");
	/* However few are read at a time, each comes once. */
	for (size_t limit = 1; limit <= COUNT + 1; limit += 3) {
		int told[COUNT] = { 0 };
		struct cursor at = start;
		for (bool more = true; more;) {
			struct read_events read = { .after = at, .limit = limit };
			REQUIRE(do_read_events(h, &read) == STORE_OK);
			REQUIRE(read.result_count > 0);
			for (size_t k = 0; k < read.result_count; k++) {
				CHECK_INT(read.results[k].kind, EVENT_QUEUED);
				CHECK_INT(read.results[k].sequence, 1);
				CHECK_BYTES(read.results[k].publisher, "me#1");
				for (int i = 0; i < COUNT; i++)
					told[i] += uuid_compare(&read.results[k].task_id, &s[i].id) == 0;
			}
			at = read.last;
			more = read.more;
			store_operation_fini(&read.operation);
		}
		for (int i = 0; i < COUNT; i++)
			CHECK_INT(told[i], 1);
	}
	/* What one task takes with it when it goes is its own. */
	struct transition end = transition_of(&s[5].id, TRANSITION_END);
	end.at_us = 1000;
	settle_one(h, &end);
	struct uuid claimed[COUNT];
	CHECK_INT(claim_ids(h, COUNT, claimed), 5);
	for (int i = 0; i < 3; i++) {
		end = transition_of(&claimed[i], TRANSITION_END);
		end.at_us = 1000;
		settle_one(h, &end);
	}
	struct store_trim trim = { .finished_before_us = 5000, .limit = 10 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 4);
	store_operation_fini(&trim.operation);
	CHECK_EVENTS(claimed[0], "");
	CHECK_EVENTS(s[5].id, "");
	CHECK_EVENTS(claimed[3], "Q");
	CHECK_EVENTS(s[6].id, "Q");
}

TEST(each_task_of_a_batch_has_its_queued_event)
{
	FRESH();
	batch_is_told(/* keyed= */ false);
	DONE();
}

TEST(each_task_of_a_batch_with_keys_has_its_queued_event)
{
	FRESH();
	batch_is_told(/* keyed= */ true);
	DONE();
}

/* However few are read at a time. */
TEST(what_began_and_ended_by_one_settlement_is_told_as_two_events)
{
	enum { COUNT = 3 };
	FRESH();
	struct uuid ids[COUNT];
	struct transition t[COUNT];
	for (int i = 0; i < COUNT; i++) {
		ids[i] = running();
		t[i] = transition_of(&ids[i], TRANSITION_END);
		t[i].started_at_us = t[i].at_us - 5;
		t[i].started_data = BYTES_LITERAL("\"s\":1");
		t[i].event_data = BYTES_LITERAL("\"e\":1");
	}
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor start = counts.latest;
	store_operation_fini(&counts.operation);
	struct store_settle settle = { .transitions = t, .count = COUNT };
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	store_operation_fini(&settle.operation);
	for (size_t limit = 1; limit <= 4; limit++) {
		for (int one = -1; one < COUNT; one++) { /* all, or those of one task */
			struct read_events read = { .after = start, .limit = limit };
			int told[COUNT] = { 0 };
			do {
				if (one >= 0)
					read.task_id = ids[one];
				REQUIRE(do_read_events(h, &read) == STORE_OK);
				for (size_t k = 0; k < read.result_count; k++) {
					const struct event *event = &read.results[k];
					if (event->kind == EVENT_QUEUED) /* a task's own events have their own order */
						continue;
					int i = 0;
					while (i < COUNT && uuid_compare(&ids[i], &event->task_id) != 0)
						i++;
					REQUIRE(i < COUNT);
					bool begins = told[i]++ == 0;
					CHECK_INT(event->kind, begins ? EVENT_RUNNING : EVENT_COMPLETED);
					CHECK_INT(event->sequence, begins ? 2 : 3);
					CHECK_INT(event->timestamp_us, begins ? t[i].started_at_us : t[i].at_us);
					CHECK_BYTES(event->data, begins ? "\"s\":1" : "\"e\":1");
				}
				bool more = read.more;
				struct cursor last = read.last;
				store_operation_fini(&read.operation);
				read = (struct read_events){ .after = last, .limit = limit, .more = more };
			} while (read.more);
			for (int i = 0; i < COUNT; i++)
				CHECK_INT(told[i], one < 0 || one == i ? 2 : 0);
		}
	}
	DONE();
}

static void print(const struct uuid *id, int attempt, const struct output_chunk *chunks, size_t count)
{
	struct output_chunk copies[8];
	for (size_t i = 0; i < count; i++) {
		copies[i] = chunks[i];
		copies[i].task_id = *id;
		copies[i].attempt = attempt;
	}
	struct store_settle settle = { .chunks = copies, .chunk_count = count };
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	store_operation_fini(&settle.operation);
}

static const char *output(const struct uuid *id, int attempt, int stream, uint64_t offset, size_t limit)
{
	static char text[256];
	struct read_output read = {
		.task_id = *id, .attempt = attempt, .stream = stream, .offset = offset, .limit = limit
	};
	REQUIRE(do_read_output(h, &read) == STORE_OK);
	size_t length = 0;
	uint64_t next = offset;
	for (size_t i = 0; i < read.result_count; i++) {
		const struct output_chunk *c = &read.results[i];
		CHECK_INT(stream ? c->stream_offset : c->offset, next);
		next += c->data.len;
		memcpy(text + length, c->data.data, c->data.len);
		length += c->data.len;
	}
	text[length] = '\0';
	store_operation_fini(&read.operation);
	return text;
}

TEST(output_is_read_by_stream_and_offset)
{
	FRESH();
	struct uuid id = running();
	const struct output_chunk chunks[] = {
		{ .stream = 1, .offset = 0, .stream_offset = 0, .data = BYTES_LITERAL("one\n") },
		{ .stream = 2, .offset = 4, .stream_offset = 0, .data = BYTES_LITERAL("ERR\n") },
		{ .stream = 1, .offset = 8, .stream_offset = 4, .data = BYTES_LITERAL("two\n") },
		{ .stream = 2, .offset = 12, .stream_offset = 4, .data = BYTES_LITERAL("MORE\n") },
	};
	print(&id, 1, chunks, 4);
	print(&id, 1, chunks, 4); /* the same again changes nothing */
	CHECK_STR(output(&id, 0, 0, 0, 100), "one\nERR\ntwo\nMORE\n");
	CHECK_STR(output(&id, 1, 1, 0, 100), "one\ntwo\n");
	CHECK_STR(output(&id, 1, 2, 0, 100), "ERR\nMORE\n");
	CHECK_STR(output(&id, 0, 0, 6, 100), "R\ntwo\nMORE\n");
	CHECK_STR(output(&id, 0, 0, 6, 4), "R\ntw");
	CHECK_STR(output(&id, 0, 1, 5, 100), "wo\n");
	CHECK_STR(output(&id, 0, 2, 2, 4), "R\nMO");
	CHECK_STR(output(&id, 0, 2, 4, 4), "MORE");
	CHECK_STR(output(&id, 0, 0, 17, 100), "");
	CHECK_STR(output(&id, 0, 0, UINT64_MAX, 100), "");
	CHECK_STR(output(&id, 2, 0, 0, 100), "");
	struct read_output read = { .task_id = id, .stream = 2, .limit = 1 };
	REQUIRE(do_read_output(h, &read) == STORE_OK);
	CHECK_INT(read.end, 9);
	CHECK_INT(read.attempt_read, 1);
	store_operation_fini(&read.operation);
	/* Any bytes; of a later attempt, which is then the last. */
	struct transition back = transition_of(&id, TRANSITION_RETRY);
	settle_one(h, &back);
	struct uuid ids[1];
	CHECK_INT(claim_ids(h, 1, ids), 1);
	struct output_chunk binary = { .stream = 1, .data = BYTES_LITERAL("\0\xff\xfe\0") };
	print(&id, 2, &binary, 1);
	read = (struct read_output){ .task_id = id, .limit = 100 };
	REQUIRE(do_read_output(h, &read) == STORE_OK);
	CHECK_INT(read.attempt_read, 2);
	CHECK_INT(read.result_count, 1);
	CHECK_BYTES(read.results[0].data, binary.data);
	store_operation_fini(&read.operation);
	CHECK_STR(output(&id, 1, 1, 0, 100), "one\ntwo\n");
	/* Output of a task that is not there is no failure. */
	struct uuid unknown = uuid_new(&h->ids);
	print(&unknown, 1, chunks, 1);
	CHECK_STR(output(&unknown, 1, 0, 0, 100), "");
	DONE();
}

TEST(terminal_events_are_read_with_output)
{
	FRESH();
	static char large[EVENT_OUTPUT_MAX + 10];
	memset(large, 'x', sizeof(large));
	struct uuid id = running(), flood = running();
	const struct output_chunk chunks[] = {
		{ .stream = 1, .offset = 0, .stream_offset = 0, .data = BYTES_LITERAL("a\0b") },
		{ .stream = 2, .offset = 3, .stream_offset = 0, .data = BYTES_LITERAL("err") },
	};
	print(&id, 1, chunks, 2);
	const struct output_chunk floods[] = {
		{ .stream = 2, .offset = 0, .stream_offset = 0, .data = BYTES_LITERAL("err") },
		{ .stream = 1, .offset = 3, .stream_offset = 0, .data = { large, sizeof(large) } },
	};
	print(&flood, 1, floods, 2);
	struct transition ends[] = { transition_of(&id, TRANSITION_END), transition_of(&flood, TRANSITION_END) };
	struct store_settle settle = { .transitions = ends, .count = 2 };
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	CHECK_BYTES(settle.results[0].events[0].output, BYTES_NONE);
	store_operation_fini(&settle.operation);
	struct read_events read = { .kind_mask = 1u << EVENT_COMPLETED, .limit = 10 };
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	REQUIRE(read.result_count == 2);
	CHECK_BYTES(read.results[0].output, BYTES_LITERAL("a\0b"));
	CHECK_BYTES(read.results[0].error, "err");
	CHECK(!read.results[0].output_truncated);
	CHECK_INT(read.results[1].output.len, EVENT_OUTPUT_MAX);
	CHECK_BYTES(read.results[1].error, "err");
	CHECK(read.results[1].output_truncated);
	store_operation_fini(&read.operation);
	DONE();
}

static struct read_position position(const struct uuid *id)
{
	struct read_position read = { .id = *id };
	REQUIRE(do_read_position(h, &read) == STORE_OK);
	store_operation_fini(&read.operation);
	return read;
}

TEST(positions_count_what_comes_before)
{
	FRESH();
	static const struct {
		int priority;
		double turn;
		const char *queue;
		int ahead;
	} rows[] = { { 5, 2, "default", 3 }, { 5, 1, "default", 1 }, { 9, 7, "default", 0 }, { 5, 1, "default", 2 },
		{ 9, 1, "slow", 0 } };
	struct uuid ids[5];
	for (int i = 0; i < 5; i++) {
		struct submission s = submission_of(h);
		s.priority = rows[i].priority;
		s.turn = rows[i].turn;
		s.queue = bytes_of(rows[i].queue);
		ids[i] = submit_one(h, &s);
	}
	for (int i = 0; i < 5; i++) {
		CHECK_INT(position(&ids[i]).ahead, rows[i].ahead);
		CHECK_INT(position(&ids[i]).queued, i < 4 ? 4 : 1);
	}
	struct uuid unknown = uuid_new(&h->ids);
	CHECK_INT(position(&unknown).ahead, 0);
	if (fixture->advance) {
		struct submission s = submission_of(h);
		s.priority = 8;
		s.run_after_us = fixture->now_us(fixture) + 10 * US_PER_S;
		struct uuid delayed = submit_one(h, &s);
		CHECK_INT(position(&ids[0]).ahead, 3);
		fixture->advance(fixture, 11 * US_PER_S);
		CHECK_INT(position(&ids[0]).ahead, 4);
		CHECK_INT(position(&ids[0]).queued, 5);
		CHECK_INT(position(&delayed).ahead, 1);
	}
	DONE();
}

TEST(counts_follow_every_transition)
{
	FRESH();
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	CHECK_INT(counts.oldest_waiting_at_us, 0);
	CHECK_INT(counts.tenant_count, 0);
	store_operation_fini(&counts.operation);
	struct submission first = submission_of(h), second = submission_of(h);
	second.turn = 9;
	submit_one(h, &first);
	submit_one(h, &second);
	struct submission others = submission_of(h);
	others.tenant = BYTES_LITERAL("u");
	submit_running(h, &others, "me#1");
	struct uuid a = running(), b = running(), c = running(), d = running();
	struct transition t[] = { transition_of(&a, TRANSITION_END), transition_of(&b, TRANSITION_END),
		transition_of(&c, TRANSITION_RETRY), transition_of(&d, TRANSITION_HAND_BACK) };
	t[1].target = TASK_FAILED;
	struct store_settle settle = { .transitions = t, .count = 4 };
	REQUIRE(do_settle(h, &settle) == STORE_OK);
	store_operation_fini(&settle.operation);
	struct store_command command;
	struct command_result r;
	REQUIRE(command_one(&command, COMMAND_CANCEL, &d, &r) == STORE_OK);
	store_operation_fini(&command.operation);
	for (int reopened = 0; reopened < 2; reopened++) {
		REQUIRE(do_read_counts(h, &counts) == STORE_OK);
		CHECK_INT(counts.by_status[TASK_QUEUED], 2);
		CHECK_INT(counts.by_status[TASK_RUNNING], 1);
		CHECK_INT(counts.by_status[TASK_COMPLETED], 1);
		CHECK_INT(counts.by_status[TASK_FAILED], 1);
		CHECK_INT(counts.by_status[TASK_RETRY], 1);
		CHECK_INT(counts.by_status[TASK_CANCELLED], 1);
		CHECK(counts.latest.length > 0);
		CHECK_INT(counts.tenant_count, 2);
		for (size_t i = 0; i < counts.tenant_count; i++) {
			bool is_t = bytes_is(counts.tenants[i].tenant, "t");
			CHECK_INT(counts.tenants[i].waiting, is_t ? 3 : 0);
			CHECK_INT(counts.tenants[i].running, is_t ? 0 : 1);
		}
		int64_t oldest = counts.oldest_waiting_at_us;
		store_operation_fini(&counts.operation);
		CHECK_INT(oldest, task_of(h, &first.id).queued_at_us);
		harness_reopen(h);
	}
	DONE();
}

/* ---- replicas ---- */

static struct store_heartbeat beat_of(const char *locked_by)
{
	return (struct store_heartbeat){
		.locked_by = bytes_of(locked_by), .address = BYTES_LITERAL("host"), .lease_us = 15 * US_PER_S
	};
}

static bool beat(const char *locked_by)
{
	struct store_heartbeat heartbeat = beat_of(locked_by);
	REQUIRE(do_heartbeat(h, &heartbeat) == STORE_OK);
	store_operation_fini(&heartbeat.operation);
	return heartbeat.alive;
}

TEST(heartbeats_learn_of_cancel_requests)
{
	FRESH();
	struct uuid mine = running(), quiet = running();
	struct submission s = submission_of(h);
	struct uuid theirs = submit_running(h, &s, "other#1");
	const struct uuid *cancelled[] = { &mine, &theirs };
	for (int i = 0; i < 2; i++) {
		struct store_command command;
		struct command_result r;
		REQUIRE(command_one(&command, COMMAND_CANCEL, cancelled[i], &r) == STORE_OK);
		store_operation_fini(&command.operation);
	}
	for (int i = 0; i < 2; i++) {
		struct store_heartbeat heartbeat = beat_of("me#1");
		if (i == 0) {
			fixture->cut(fixture, SUITE_CUT_AFTER_COMMIT);
			CHECK_INT(do_heartbeat(h, &heartbeat), STORE_UNKNOWN);
			store_operation_fini(&heartbeat.operation);
		}
		REQUIRE(do_heartbeat(h, &heartbeat) == STORE_OK);
		CHECK(heartbeat.alive);
		CHECK_INT(heartbeat.cancelled_count, 1);
		CHECK_ID(heartbeat.cancelled[0], mine);
		CHECK_INT(heartbeat.replica_count, 2); /* other#1 was seen when it took its row */
		store_operation_fini(&heartbeat.operation);
	}
	CHECK_INT(task_of(h, &quiet).cancel_requested_at_us, 0);
	DONE();
}

/* Where what is stored of their output ends: one of them has printed. */
static void check_output_ends(const struct store_take *take, const struct uuid *printed)
{
	for (size_t i = 0; i < take->count; i++)
		CHECK_INT(take->output_ends[i], uuid_compare(&take->tasks[i].id, printed) == 0 ? 7 : 0);
}

TEST(dead_replicas_lose_their_rows)
{
	if (!fixture->advance)
		return;
	FRESH();
	struct submission s[3];
	for (int i = 0; i < 3; i++) {
		s[i] = submission_of(h);
		submit_running(h, &s[i], "other#1");
	}
	const struct output_chunk chunks[] = { { .stream = 1, .data = BYTES_LITERAL("some") },
		{ .offset = 4, .stream = 2, .data = BYTES_LITERAL("out") } };
	print(&s[1].id, 1, chunks, ARRAY_SIZE(chunks));
	struct store_heartbeat heartbeat = beat_of("other#1");
	heartbeat.published = (struct cursor){ 8, { 0, 0, 0, 0, 0, 0, 0, 2 } };
	REQUIRE(do_heartbeat(h, &heartbeat) == STORE_OK);
	store_operation_fini(&heartbeat.operation);
	fixture->advance(fixture, 5 * US_PER_S);
	CHECK(beat("me#1"));
	struct store_take take = {
		.kind = TAKE_DEAD, .locked_by = BYTES_LITERAL("me#1"), .lease_us = 15 * US_PER_S, .limit = 2
	};
	REQUIRE(do_take(h, &take) == STORE_OK);
	CHECK_INT(take.count, 0);
	CHECK_INT(take.dead_count, 0);
	store_operation_fini(&take.operation);
	fixture->advance(fixture, 11 * US_PER_S);
	/* The answer of the first take is lost: its rows are its own, and the dead are told again. */
	fixture->cut(fixture, SUITE_CUT_AFTER_COMMIT);
	CHECK_INT(do_take(h, &take), STORE_UNKNOWN);
	store_operation_fini(&take.operation);
	REQUIRE(do_take(h, &take) == STORE_OK);
	CHECK_INT(take.dead_count, 1);
	CHECK_BYTES(take.dead[0], "other#1");
	CHECK_INT(take.watermarks[0].length, 8);
	CHECK_INT(take.watermarks[0].bytes[7], 2);
	CHECK_INT(take.count, 1);
	CHECK(!take.more);
	CHECK_BYTES(take.former[0], "other#1");
	CHECK_BYTES(take.tasks[0].locked_by, "me#1");
	CHECK_INT(take.tasks[0].attempt, 1);
	CHECK_BYTES(take.tasks[0].params, "{}");
	check_output_ends(&take, &s[1].id);
	store_operation_fini(&take.operation);
	take = (struct store_take){ .kind = TAKE_OWN, .locked_by = BYTES_LITERAL("me#1"), .limit = 2 };
	REQUIRE(do_take(h, &take) == STORE_OK);
	CHECK_INT(take.count, 2);
	check_output_ends(&take, &s[1].id);
	CHECK(take.more);
	store_operation_fini(&take.operation);
	CHECK(!beat("other#1")); /* it is dead, and stays so */
	CHECK(!beat("other#1"));
	CHECK(beat("other#2"));
	/* Its settlements come too late, those of the taker count. */
	struct transition end = transition_of(&s[0].id, TRANSITION_END);
	end.guard.locked_by = BYTES_LITERAL("other#1");
	CHECK_INT(settle_one(h, &end).status, SETTLE_REFUSED);
	end.guard.locked_by = BYTES_LITERAL("me#1");
	CHECK_INT(settle_one(h, &end).status, SETTLE_APPLIED);
	CHECK_EVENTS(s[0].id, "QC");
	DONE();
}

/* As many as it has slots: those that are strange to the caller may stand behind all that it knows. */
TEST(own_rows_are_taken_whole)
{
	enum { ROWS = 11000, BATCH = 1000 };
	FRESH();
	struct submission *s = alloc_array(BATCH, sizeof(*s));
	struct submit_item *items = alloc_array(BATCH, sizeof(*items));
	for (int written = 0; written < ROWS; written += BATCH) {
		for (int i = 0; i < BATCH; i++) {
			s[i] = submission_of(h);
			items[i] = (struct submit_item){ .submission = &s[i], .born_running = true };
		}
		struct store_submit submit = { .items = items, .count = BATCH, .locked_by = BYTES_LITERAL("me#1") };
		REQUIRE(do_submit(h, &submit) == STORE_OK);
		store_operation_fini(&submit.operation);
	}
	struct store_take take = { .kind = TAKE_OWN, .locked_by = BYTES_LITERAL("me#1"), .limit = ROWS + 1 };
	REQUIRE(do_take(h, &take) == STORE_OK);
	CHECK_INT(take.count, ROWS);
	CHECK(!take.more);
	store_operation_fini(&take.operation);
	free(items);
	free(s);
	DONE();
}

TEST(an_embedded_restart_takes_all)
{
	FRESH();
	struct submission s[3];
	for (int i = 0; i < 3; i++) {
		s[i] = submission_of(h);
		submit_running(h, &s[i], i < 2 ? "me#1" : "other#1");
	}
	harness_reopen(h);
	size_t taken = 0, dead = 0;
	for (bool more = true; more;) {
		struct store_take take = { .kind = TAKE_ALL, .locked_by = BYTES_LITERAL("me#2"), .limit = 2 };
		REQUIRE(do_take(h, &take) == STORE_OK);
		for (size_t i = 0; i < take.count; i++) {
			CHECK_BYTES(take.tasks[i].locked_by, "me#2");
			CHECK(bytes_is(take.former[i], "me#1") || bytes_is(take.former[i], "other#1"));
		}
		taken += take.count;
		dead += take.dead_count;
		more = take.more;
		store_operation_fini(&take.operation);
	}
	CHECK_INT(taken, 3);
	CHECK_INT(dead, 2);
	CHECK(!beat("me#1"));
	CHECK(beat("me#2"));
	CHECK_BYTES(task_of(h, &s[0].id).locked_by, "me#2");
	DONE();
}

/* ---- housekeeping ---- */

TEST(trim_takes_old_tasks_with_all_that_is_theirs)
{
	FRESH();
	struct uuid old[3], stays = running(), young = running();
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor early = counts.latest;
	store_operation_fini(&counts.operation);
	const struct output_chunk chunk = { .stream = 1, .data = BYTES_LITERAL("x") };
	for (int i = 0; i < 3; i++) {
		struct submission s = with_keys(i == 0 ? "e" : NULL, NULL, 1);
		old[i] = submit_running(h, &s, "me#1");
		print(&old[i], 1, &chunk, 1);
		struct transition end = transition_of(&old[i], TRANSITION_END);
		end.at_us = 1000 + i;
		settle_one(h, &end);
	}
	struct transition end = transition_of(&young, TRANSITION_END);
	end.at_us = 5000;
	settle_one(h, &end);
	struct store_trim trim = { .finished_before_us = 5000, .limit = 2 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 2);
	CHECK(trim.more);
	store_operation_fini(&trim.operation);
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 1);
	CHECK(!trim.more);
	store_operation_fini(&trim.operation);
	for (int i = 0; i < 3; i++) {
		struct task t = task_of(h, &old[i]);
		CHECK(uuid_is_nil(&t.id));
		CHECK_EVENTS(old[i], "");
		CHECK_STR(output(&old[i], 1, 0, 0, 10), "");
	}
	CHECK_EVENTS(young, "QC");
	CHECK_EVENTS(stays, "Q");
	/* A settlement for a task that is gone is refused. */
	struct transition late = transition_of(&old[0], TRANSITION_END);
	struct settle_result r = settle_one(h, &late);
	CHECK_INT(r.status, SETTLE_REFUSED);
	CHECK_INT(r.task_status, TASK_QUEUED);
	CHECK_INT(r.attempt, 0);
	/* Its output is written nowhere: a task of the same id has none. */
	print(&old[1], 1, &chunk, 1);
	struct submission same = submission_of(h);
	same.id = old[1];
	submit_running(h, &same, "me#1");
	CHECK_STR(output(&old[1], 1, 0, 0, 10), "");
	/* The key went with its row. */
	struct submission again = with_keys("e", NULL, 2);
	submit_one(h, &again);
	/* A follower from before learns that it missed something, one of a single task has not, and new cursors go on. */
	struct read_events read = events_after(early);
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(read.gap);
	CHECK_INT(read.result_count, 3); /* the young one's end, the new submissions */
	struct cursor last = read.last;
	store_operation_fini(&read.operation);
	read = events_after(early);
	read.task_id = young;
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(!read.gap);
	store_operation_fini(&read.operation);
	read = events_after(last);
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(!read.gap);
	store_operation_fini(&read.operation);
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	CHECK_INT(counts.by_status[TASK_COMPLETED], 1);
	CHECK_INT(counts.by_status[TASK_RUNNING], 2);
	CHECK_INT(counts.by_status[TASK_QUEUED], 1);
	store_operation_fini(&counts.operation);
	DONE();
}

TEST(cursors_never_go_back)
{
	FRESH();
	struct uuid id = running();
	struct transition end = transition_of(&id, TRANSITION_END);
	end.at_us = 1000;
	settle_one(h, &end);
	struct read_counts counts = { 0 };
	REQUIRE(do_read_counts(h, &counts) == STORE_OK);
	struct cursor last = counts.latest;
	store_operation_fini(&counts.operation);
	struct store_trim trim = { .finished_before_us = 5000, .limit = 10 };
	REQUIRE(do_trim(h, &trim) == STORE_OK);
	CHECK_INT(trim.deleted, 1);
	store_operation_fini(&trim.operation);
	harness_reopen(h); /* on an empty stream */
	struct submission s = submission_of(h);
	submit_one(h, &s);
	struct read_events read = events_after(last);
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(!read.gap);
	CHECK_INT(read.result_count, 1);
	store_operation_fini(&read.operation);
	/* A cursor that this store never made. */
	read = events_after((struct cursor){ 8, { 0x7f, 1, 2, 3, 4, 5, 6, 7 } });
	REQUIRE(do_read_events(h, &read) == STORE_OK);
	CHECK(read.gap);
	CHECK_INT(read.result_count, 1);
	store_operation_fini(&read.operation);
	DONE();
}

TEST(everything_survives_a_restart)
{
	FRESH();
	struct submission s = with_keys("e", "k", 1);
	struct uuid waiting = submit_one(h, &s), runs = running(), ended = running();
	struct transition end = transition_of(&ended, TRANSITION_END);
	settle_one(h, &end);
	harness_reopen(h);
	CHECK_INT(task_of(h, &waiting).status, TASK_QUEUED);
	CHECK_INT(task_of(h, &runs).status, TASK_RUNNING);
	CHECK_INT(task_of(h, &ended).status, TASK_COMPLETED);
	CHECK_EVENTS(ended, "QC");
	struct uuid ids[2];
	CHECK_INT(claim_ids(h, 2, ids), 1);
	CHECK_ID(ids[0], waiting);
	DONE();
}

struct many {
	struct store_submit submits[50];
	struct submission submissions[50];
	struct submit_item items[50];
	struct read_task read;
	int done, read_after;
	bool all, out_of_order, all_seen;
};

static void on_many_read(struct store_operation *operation)
{
	struct many *many = operation->owner;
	many->all_seen = many->read.results && many->read.results[0] != NULL;
	many->all = true;
}

static void on_many(struct store_operation *operation)
{
	struct many *many = operation->owner;
	if (&many->submits[many->done++].operation != operation)
		many->out_of_order = true;
	if (operation->outcome != STORE_OK || many->done < 50)
		return;
	/* What a `done` told is seen by what is handed in after it. */
	many->read = (struct read_task){
		.operation = { .done = on_many_read, .owner = many }, .ids = &many->submissions[49].id, .count = 1
	};
	h->store->ops->read_task(h->store, &many->read);
}

TEST(many_at_once_are_done_in_their_order)
{
	FRESH();
	static struct many many;
	many = (struct many){ 0 };
	for (int i = 0; i < 50; i++) {
		many.submissions[i] = submission_of(h);
		if (i == 20)
			many.submissions[i].id = many.submissions[3].id; /* told as created before */
		many.items[i] = (struct submit_item){ &many.submissions[i], i % 2 };
		many.submits[i] = (struct store_submit){ .operation = { .done = on_many, .owner = &many },
			.items = &many.items[i],
			.count = 1,
			.locked_by = BYTES_LITERAL("me#1") };
		h->store->ops->submit(h->store, &many.submits[i]);
	}
	harness_wait(h, &many.all);
	struct store_status status;
	h->store->ops->status(h->store, &status);
	CHECK(!many.out_of_order || status.parallel_submits > 1);
	CHECK(many.all_seen);
	for (int i = 0; i < 50; i++) {
		CHECK_INT(many.submits[i].results[0].status, SUBMIT_CREATED);
		store_operation_fini(&many.submits[i].operation);
	}
	store_operation_fini(&many.read.operation);
	DONE();
}

static void on_last(struct store_operation *operation)
{
	(*(int *)operation->owner)++;
}

static void on_suite_stopped(void *owner)
{
	*(bool *)owner = true;
}

TEST(stop_completes_what_it_has_and_refuses_what_comes)
{
	FRESH();
	int done = 0;
	bool stopped = false;
	struct submission s[] = { submission_of(h), submission_of(h) };
	struct submit_item items[] = { { &s[0], false }, { &s[1], false } };
	struct store_submit submits[2];
	for (int i = 0; i < 2; i++) {
		submits[i] = (struct store_submit){ .operation = { .done = on_last, .owner = &done },
			.items = &items[i],
			.count = 1,
			.locked_by = BYTES_LITERAL("me#1") };
		if (i == 1)
			h->store->ops->stop(h->store, on_suite_stopped, &stopped);
		h->store->ops->submit(h->store, &submits[i]);
	}
	CHECK_INT(done, 0);
	harness_wait(h, &stopped);
	CHECK_INT(done, 2);
	CHECK_INT(submits[0].operation.outcome, STORE_OK);
	CHECK_INT(submits[1].operation.outcome, STORE_AWAY);
	CHECK(submits[1].operation.err.code < 0);
	store_operation_fini(&submits[0].operation);
	store_operation_fini(&submits[1].operation);
	h->store->ops->free(h->store);
	harness_open(h, fixture, false);
	CHECK_INT(task_of(h, &s[0].id).status, TASK_QUEUED);
	struct task refused = task_of(h, &s[1].id);
	CHECK(uuid_is_nil(&refused.id));
	DONE();
}

TEST(the_store_says_what_it_is)
{
	FRESH();
	struct store_status status;
	h->store->ops->status(h->store, &status);
	CHECK(status.available);
	CHECK(!status.schema_wrong);
	CHECK(status.kind && status.kind[0]);
	CHECK(status.description[0]);
	CHECK_INT(h->availables, 1);
	DONE();
}

int store_suite_run(int argc, char **argv, struct store_suite_fixture *the_fixture)
{
	fixture = the_fixture;
	return test_main(argc, argv);
}
