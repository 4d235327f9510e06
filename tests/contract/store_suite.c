/* The contract of stores: the same tests for every implementation.
 *
 * Each test opens an empty store. "me#1" and "other#1" are the incarnations that own rows. The parts stand in the order of
 * include/assay/store.h: submit, claim, settle, command, reads, replicas, housekeeping. */
#include "tests/contract/store_suite.h"

#include <string.h>

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
	CHECK_BYTES(t.params, s.params);
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
	for (int when = CUT_BEFORE_COMMIT; when <= CUT_AFTER_COMMIT; when++) {
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
	for (int when = CUT_BEFORE_COMMIT; when <= CUT_AFTER_COMMIT; when++) {
		FRESH();
		struct submission s = submission_of(h);
		submit_one(h, &s);
		struct claim_lane lane = { BYTES_LITERAL("noop"), 5 };
		struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = &lane, .lane_count = 1 };
		fixture->cut(fixture, when);
		CHECK_INT(do_claim(h, &claim), STORE_UNKNOWN);
		store_operation_fini(&claim.operation);
		REQUIRE(do_claim(h, &claim) == STORE_OK);
		CHECK_INT(claim.count, when == CUT_BEFORE_COMMIT);
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
	CHECK_BYTES(row.result, "{\"r\":1}");
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

TEST(a_cancel_request_beats_retry_and_hand_back)
{
	FRESH();
	struct uuid retry = running(), back = running(), done = running();
	const struct uuid *all[] = { &retry, &back, &done };
	static const enum transition_kind kinds[] = { TRANSITION_RETRY, TRANSITION_HAND_BACK, TRANSITION_END };
	for (int i = 0; i < 3; i++) {
		struct store_command command;
		struct command_result c;
		REQUIRE(command_one(&command, COMMAND_CANCEL, all[i], &c) == STORE_OK);
		CHECK_INT(c.status, COMMAND_REQUESTED);
		CHECK_BYTES(c.locked_by, "me#1");
		CHECK(!c.has_event);
		store_operation_fini(&command.operation);
		struct transition t = transition_of(all[i], kinds[i]);
		t.reason = REASON_NODE_LOST;
		t.event_data = BYTES_LITERAL("\"a\":1");
		t.result = BYTES_LITERAL("{\"a\":1}");
		t.cancelled_data = BYTES_LITERAL("\"c\":1");
		t.cancelled_result = BYTES_LITERAL("{\"c\":1}");
		struct settle_result r = settle_one(h, &t);
		CHECK_INT(r.status, SETTLE_APPLIED);
		CHECK_INT(r.task_status, i < 2 ? TASK_CANCELLED : TASK_COMPLETED);
		CHECK_INT(r.events[0].kind, i < 2 ? EVENT_CANCELLED : EVENT_COMPLETED);
		CHECK_BYTES(r.events[0].data, i < 2 ? "\"c\":1" : "\"a\":1");
		CHECK_INT(r.attempts, 0);
		struct task row = task_of(h, all[i]);
		CHECK_INT(row.reason, i < 2 ? REASON_CANCELLED : REASON_NODE_LOST);
		CHECK_BYTES(row.result, i < 2 ? "{\"c\":1}" : "{\"a\":1}");
		CHECK(row.finished_at_us > 0);
		CHECK_EVENTS(*all[i], i < 2 ? "QX" : "QC");
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
		{ TRANSITION_END, false, TASK_COMPLETED, "QC" },
		{ TRANSITION_END, true, TASK_COMPLETED, "QRC" },
		{ TRANSITION_RETRY, true, TASK_RETRY, "QRT" },
		{ TRANSITION_HAND_BACK, false, TASK_QUEUED, "Q" },
	};
	for (int i = 0; i < 12; i++) {
		FRESH();
		int c = i / 2;
		struct uuid id = running();
		struct transition t = transition_of(&id, cases[c].kind);
		t.started_at_us = cases[c].started ? t.at_us - 7 : 0;
		t.event_data = BYTES_LITERAL("\"d\":1");
		struct output_chunk chunk = { id, 1, 1, 0, 0, BYTES_LITERAL("out") };
		struct store_settle settle = { .transitions = &t, .count = 1, .chunks = &chunk, .chunk_count = 1 };
		fixture->cut(fixture, i % 2 ? CUT_AFTER_COMMIT : CUT_BEFORE_COMMIT);
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

int store_suite_run(int argc, char **argv, struct store_suite_fixture *the_fixture)
{
	fixture = the_fixture;
	return test_main(argc, argv);
}
