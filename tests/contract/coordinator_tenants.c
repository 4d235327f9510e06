/* The coordinator between tenants: whose turn it is, and what each may have. */
#include <math.h>
#include <poll.h>

#include "coordinator_house.h"

/* Heartbeats that are soon there, and nobody who is taken for dead. */
static const struct coordinator_settings quick = { .heartbeat_us = 100 * US_PER_MS, .lease_us = 600 * US_PER_S };

static bool claim_under_way(const struct house *house)
{
	const struct crossed_store *crossed = &house->crossed;
	return !crossed->answers[CROSSED_CLAIM] || crossed->answers[CROSSED_CLAIM] < crossed->calls[CROSSED_CLAIM];
}

/* One that is may bring more of a tenant's rows than that may run: it was sent before they were known here. And nothing is born running
 * until its answer is there. */
static void wait_for_claims(struct house *house)
{
	do {
		while (claim_under_way(house) && !house->late)
			uv_run(&house->loop, UV_RUN_ONCE);
		/* Its answer may be followed by another, at the end of the turn. */
		uv_run(&house->loop, UV_RUN_NOWAIT);
	} while (claim_under_way(house) && !house->late);
	REQUIRE(!claim_under_way(house));
}

static struct house *house_of_tenants(const char *yaml, int slots)
{
	static const struct tenant_limits defaults = { .weight = 1 };
	struct house *house = alloc(sizeof(*house));
	struct err err = { 0 };
	struct tenants *tenants = NULL;
	REQUIRE(tenants_parse(bytes_of(yaml), "test", &defaults, &tenants, &err) == 0);
	house->tenants = tenants;
	house->parallel_submits = 2;
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house_open(house, 4, quick);
	house->scripted.status.slots = slots;
	wait_for_claims(house);
	return house;
}

static void house_of_tenants_free(struct house *house)
{
	struct tenants *tenants = (struct tenants *)house->tenants;
	house_free(house);
	tenants_free(tenants);
}

static enum admission_status admit_for(struct house *house, const char *tenant, struct uuid *ret_id)
{
	struct arena arena = { 0 };
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.executor = BYTES_LITERAL("scripted");
	submission.tenant = bytes_of(tenant);
	admit(house, &submission, &result, 1);
	if (ret_id)
		*ret_id = result.id;
	arena_fini(&arena);
	return result.status;
}

static void admit_many_for(struct house *house, const char *tenant, int count)
{
	for (int i = 0; i < count; i++)
		CHECK_INT(admit_for(house, tenant, NULL), ADMISSION_CREATED);
}

static void slots_change(struct house *house, int slots)
{
	house->scripted.status.slots = slots;
	house->scripted.listener->on_changed(house->scripted.owner, &house->scripted.executor);
}

/* Ends the oldest job and waits for the one that takes its slot. */
static void next_runs(struct house *house)
{
	size_t runs = house->scripted.runs;
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->scripted.runs > runs);
}

static void stop_loop_at_heartbeat(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	if (kind == CROSSED_HEARTBEAT)
		uv_stop(&((struct house *)owner)->loop);
}

/* Two of them: the first may have been under way; and the claims that they led to. */
static void wait_for_heartbeats(struct house *house)
{
	house->crossed.on_call = stop_loop_at_heartbeat;
	house->crossed.owner = house;
	size_t beats = house->crossed.calls[CROSSED_HEARTBEAT];
	WAIT(house, house->crossed.calls[CROSSED_HEARTBEAT] >= beats + 3);
	house->crossed.on_call = NULL;
	wait_for_claims(house);
}

static void end_all(struct house *house, size_t count)
{
	while (house->events[EVENT_COMPLETED] < count) {
		if (house->scripted.job_count)
			scripted_end(&house->scripted, REASON_NONE, false);
		WAIT(house, house->scripted.job_count || house->events[EVENT_COMPLETED] == count);
	}
}

TEST(who_brings_the_first_stands_before_who_brings_the_hundredth)
{
	struct house *house = house_of_tenants("", 0);
	admit_many_for(house, "big", 100);
	slots_change(house, 1);
	WAIT(house, house->scripted.runs == 1);
	for (int i = 0; i < 3; i++)
		next_runs(house);
	admit_many_for(house, "small", 1);
	next_runs(house);
	/* A claim may have been under way, and a turn may be the same. */
	for (int i = 0; i < 2 && !bytes_is(house->scripted.jobs[0]->tenant, "small"); i++)
		next_runs(house);
	CHECK_BYTES(house->scripted.jobs[0]->tenant, "small");
	end_all(house, 101);
	house_of_tenants_free(house);
}

/* Queues are claimed together: turns in one are those of the other. */
TEST(turns_are_the_same_in_all_queues)
{
	struct house *house = house_of_tenants("", 0);
	struct arena arena = { 0 };
	admit_many_for(house, "big", 20);
	slots_change(house, 1);
	WAIT(house, house->scripted.runs == 1);
	for (int i = 0; i < 9; i++)
		next_runs(house);
	/* Time has gone on to 10 or so; this must not begin at 1, before all that waits. */
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.executor = BYTES_LITERAL("scripted");
	submission.tenant = BYTES_LITERAL("other");
	submission.queue = BYTES_LITERAL("another");
	admit(house, &submission, &result, 1);
	CHECK(submission.turn >= 10);
	CHECK(submission.turn < 13);
	arena_fini(&arena);
	end_all(house, 21);
	house_of_tenants_free(house);
}

TEST(turns_outlive_a_restart)
{
	struct house *house = house_of_tenants("", 0);
	admit_many_for(house, "big", 30);
	slots_change(house, 1);
	WAIT(house, house->scripted.runs == 1);
	for (int i = 0; i < 9; i++)
		next_runs(house);
	wait_for_heartbeats(house);
	scripted_end(&house->scripted, REASON_NONE, false);
	house->scripted.status.slots = 0;
	house_close(house);

	house_begin(house, 4, quick);
	house->scripted.status.slots = 0;
	WAIT(house, house->ready);
	struct arena arena = { 0 };
	struct submission submissions[2] = { submission_of(house, &arena), submission_of(house, &arena) };
	struct admission_result results[2];
	submissions[0].executor = submissions[1].executor = BYTES_LITERAL("scripted");
	submissions[0].tenant = BYTES_LITERAL("big");
	submissions[1].tenant = BYTES_LITERAL("small");
	admit(house, submissions, results, 2);
	CHECK(submissions[0].turn == 31);
	CHECK(submissions[1].turn >= 10);
	CHECK(submissions[1].turn < 13);
	arena_fini(&arena);
	slots_change(house, 1);
	WAIT(house, house->scripted.job_count == 1);
	end_all(house, 32);
	house_of_tenants_free(house);
}

TEST(a_weight_is_a_share)
{
	struct house *house = house_of_tenants("tenants: {heavy: {weight: 2}}", 0);
	admit_many_for(house, "heavy", 30);
	admit_many_for(house, "light", 30);
	slots_change(house, 1);
	WAIT(house, house->scripted.runs == 1);
	int heavy = 0;
	for (int i = 0; i < 18; i++) {
		heavy += bytes_is(house->scripted.jobs[0]->tenant, "heavy");
		next_runs(house);
	}
	CHECK_INT(heavy, 12);
	end_all(house, 60);
	house_of_tenants_free(house);
}

static struct wait_reason why(struct house *house, const struct uuid *id)
{
	struct read_task read = { .operation = { .done = on_operation, .owner = &house->loop }, .ids = id, .count = 1 };
	const struct read_position position = { 0 };
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	struct wait_reason reason = coordinator_why(house->coordinator, read.results[0], &position);
	store_operation_fini(&read.operation);
	return reason;
}

TEST(what_a_job_waits_for_is_told)
{
	static const struct {
		struct job_waiting waiting;
		const char *word, *words;
	} cases[] = {
		{ { JOB_WAIT_NONE, NULL }, "starting", "Its executor is starting it." },
		{ { JOB_WAIT_NONE, "a webhook" }, "starting", "Its executor is starting it: a webhook." },
		{ { JOB_WAIT_CAPACITY, "0/1 nodes" }, "waiting_for_capacity",
			"Its executor has no room for it yet: 0/1 nodes." },
		{ { JOB_WAIT_QUOTA, "q" }, "quota", "What its executor may use is used up: q." },
		{ { JOB_WAIT_IMAGE, NULL }, "image_pulling", "Its image is not there yet." },
	};
	struct house *house = house_of_tenants("tenants: {}", 1);
	struct uuid id;
	CHECK_INT(admit_for(house, "any", &id), ADMISSION_CREATED);
	WAIT(house, house->scripted.runs == 1);
	struct job *job = house->scripted.jobs[0];
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		job->waiting = cases[i].waiting;
		struct wait_reason reason = why(house, &id);
		CHECK_STR(reason.word, cases[i].word);
		CHECK_STR(reason.words, cases[i].words);
	}
	/* Handed back, and not given again while there is no slot. */
	const struct job_end end = { .reason = REASON_API_ERROR,
		.never_started = true,
		.wanted = JOB_WAIT_QUOTA,
		.at_us = clock_wall_us(),
		.message = "exceeded quota: q" };
	house->scripted.status.slots = 0;
	house->scripted.job_count = 0;
	house->scripted.listener->on_ended(house->scripted.owner, job, &end);
	house->crossed.on_call = stop_loop_at_heartbeat;
	house->crossed.owner = house;
	WAIT(house, !coordinator_find(house->coordinator, &id));
	house->crossed.on_call = NULL;
	CHECK_STR(why(house, &id).word, "quota");
	CHECK_STR(why(house, &id).words, "It could not begin, and is tried again: exceeded quota: q");
	slots_change(house, 1);
	WAIT(house, house->scripted.runs == 2);
	CHECK_STR(why(house, &id).word, "starting");
	end_all(house, 1);
	house_of_tenants_free(house);
}

TEST(a_tenant_runs_as_many_as_it_may_and_others_pass_it)
{
	struct house *house = house_of_tenants("tenants: {few: {running: 1}}", 3);
	struct uuid ids[3];
	/* The first is born running; the others are not, although slots are free. */
	for (int i = 0; i < 3; i++)
		CHECK_INT(admit_for(house, "few", &ids[i]), ADMISSION_CREATED);
	WAIT(house, house->scripted.runs == 1);
	admit_many_for(house, "others", 2);
	WAIT(house, house->scripted.runs == 3);
	CHECK_BYTES(house->scripted.jobs[1]->tenant, "others");
	CHECK_BYTES(house->scripted.jobs[2]->tenant, "others");
	CHECK_INT(row_status(house, &ids[1]), TASK_QUEUED);
	CHECK_STR(why(house, &ids[1]).word, "tenant_limit");
	/* With slots to spare none of them is claimed until one of them has ended. */
	slots_change(house, 10);
	wait_for_heartbeats(house);
	CHECK_INT(house->scripted.runs, 3);
	next_runs(house);
	CHECK_INT(house->scripted.runs, 4);
	CHECK_BYTES(house->scripted.jobs[2]->tenant, "few");
	wait_for_heartbeats(house);
	CHECK_INT(house->scripted.runs, 4);
	end_all(house, 5);
	house_of_tenants_free(house);
}

TEST(what_a_tenant_runs_elsewhere_counts)
{
	struct house *house = house_of_tenants("tenants: {few: {running: 2}}", 0);
	struct arena arena = { 0 };
	struct submission elsewhere[2] = { submission_of(house, &arena), submission_of(house, &arena) };
	struct submit_item items[2];
	for (int i = 0; i < 2; i++) {
		elsewhere[i].executor = BYTES_LITERAL("scripted");
		elsewhere[i].tenant = BYTES_LITERAL("few");
		items[i] = (struct submit_item){ &elsewhere[i], true };
	}
	struct store_submit submit = { .operation = { .done = on_operation, .owner = &house->loop },
		.items = items,
		.count = 2,
		.locked_by = BYTES_LITERAL("other#1") };
	house->store->ops->submit(house->store, &submit);
	WAIT(house, submit.operation.kind == -1);
	store_operation_fini(&submit.operation);
	const struct task waiting = {
		.status = TASK_QUEUED, .tenant = BYTES_LITERAL("few"), .executor = BYTES_LITERAL("scripted")
	};
	const struct read_position position = { 0 };
	while (strcmp(coordinator_why(house->coordinator, &waiting, &position).word, "tenant_limit") != 0 &&
		!house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	slots_change(house, 4);
	struct uuid id;
	CHECK_INT(admit_for(house, "few", &id), ADMISSION_CREATED);
	wait_for_heartbeats(house);
	CHECK_INT(house->scripted.runs, 0);
	CHECK_STR(why(house, &id).word, "tenant_limit");

	/* One of them ends there, which is learnt by counting. */
	struct transition end = { .kind = TRANSITION_END,
		.target = TASK_COMPLETED,
		.guard = { elsewhere[0].id, TASK_RUNNING, 1, BYTES_LITERAL("other#1") },
		.at_us = clock_wall_us(),
		.result = BYTES_LITERAL("{}") };
	struct store_settle settle = { .operation = { .done = on_operation, .owner = &house->loop },
		.transitions = &end,
		.count = 1,
		.publisher = BYTES_LITERAL("other#1") };
	house->crossed.inner->ops->settle(house->crossed.inner, &settle);
	WAIT(house, settle.operation.kind == -1);
	CHECK_INT(settle.results[0].status, SETTLE_APPLIED);
	store_operation_fini(&settle.operation);
	WAIT(house, house->scripted.runs == 1);
	end_all(house, 1);
	arena_fini(&arena);
	house_of_tenants_free(house);
}

TEST(a_tenant_has_its_own_limit_of_what_waits)
{
	struct house *house = house_of_tenants("tenants: {few: {queued: 2}}", 0);
	admit_many_for(house, "few", 2);
	CHECK_INT(admit_for(house, "few", NULL), ADMISSION_QUEUE_FULL);
	admit_many_for(house, "others", 3);
	CHECK_INT(coordinator_statistics(house->coordinator)->refused_tenant_queue, 1);
	/* Read anew, the limit is another one. */
	static const struct tenant_limits defaults = { .weight = 1 };
	struct tenants *more = NULL;
	struct err err = { 0 };
	REQUIRE(tenants_parse(BYTES_LITERAL("tenants: {few: {queued: 3}}"), "test", &defaults, &more, &err) == 0);
	coordinator_set_tenants(house->coordinator, more);
	tenants_free((struct tenants *)house->tenants);
	house->tenants = more;
	admit_many_for(house, "few", 1);
	CHECK_INT(admit_for(house, "few", NULL), ADMISSION_QUEUE_FULL);
	slots_change(house, 2);
	WAIT(house, house->scripted.runs == 2);
	end_all(house, 6);
	house_of_tenants_free(house);
}

/* Hands submissions in without waiting for the answer. */
static void admit_begin(struct house *house, struct answer *answer, struct submission *submissions,
	struct admission_result *results, size_t count)
{
	*answer = (struct answer){
		.admission = { .submissions = submissions, .count = count, .results = results, .done = on_admitted },
		.house = house,
	};
	answer->admission.owner = answer;
	size_t calls = house->crossed.calls[CROSSED_SUBMIT];
	coordinator_admit(house->coordinator, &answer->admission);
	while (house->crossed.calls[CROSSED_SUBMIT] == calls && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
}

static struct submission scripted_for(struct house *house, struct arena *arena, const char *tenant)
{
	struct submission submission = submission_of(house, arena);
	submission.executor = BYTES_LITERAL("scripted");
	submission.tenant = bytes_of(tenant);
	return submission;
}

/* Claims find nothing while it is being written; that does not mean that nobody would be overtaken. */
TEST(nothing_is_born_running_while_what_came_before_is_being_written)
{
	struct house *house = house_of_tenants("", 1);
	struct arena arena = { 0 };
	const struct coordinator_statistics *statistics = coordinator_statistics(house->coordinator);
	admit_many_for(house, "a", 1);
	WAIT(house, house->scripted.runs == 1);
	struct submission waits = scripted_for(house, &arena, "a");
	struct admission_result result;
	struct answer answer;
	house->crossed.keep_submit = true;
	admit_begin(house, &answer, &waits, &result, 1);
	REQUIRE(house->crossed.kept);
	size_t claims = house->crossed.calls[CROSSED_CLAIM];
	scripted_end(&house->scripted, REASON_NONE, false);
	WAIT(house, house->crossed.calls[CROSSED_CLAIM] > claims);
	wait_for_heartbeats(house);
	uint64_t born = statistics->born_running;
	admit_many_for(house, "a", 1);
	CHECK_INT(statistics->born_running, born);
	crossed_hand_in(&house->crossed);
	WAIT(house, answer.done);
	admission_fini(&answer.admission);
	end_all(house, 3);
	/* With nothing on its way they are again. */
	wait_for_heartbeats(house);
	admit_many_for(house, "a", 1);
	CHECK_INT(statistics->born_running, born + 1);
	end_all(house, 4);
	arena_fini(&arena);
	house_of_tenants_free(house);
}

/* What would have been born running turns out to be known already: the place it had in its tenant's limit is free again. */
TEST(a_promise_that_comes_to_nothing_wakes_who_waits_for_it)
{
	struct house *house = house_of_tenants("tenants: {few: {running: 1}}", 2);
	struct arena arena = { 0 };
	struct submission known = scripted_for(house, &arena, "few");
	known.eval_id = BYTES_LITERAL("known");
	struct admission_result result;
	admit(house, &known, &result, 1);
	WAIT(house, house->scripted.runs == 1);
	end_all(house, 1);
	wait_for_heartbeats(house);

	struct answer answer;
	known.id = uuid_new(&house->ids);
	house->crossed.keep_submit = true;
	admit_begin(house, &answer, &known, &result, 1);
	struct uuid id;
	CHECK_INT(admit_for(house, "few", &id), ADMISSION_CREATED);
	wait_for_heartbeats(house);
	CHECK_INT(house->scripted.runs, 1);
	crossed_hand_in(&house->crossed);
	WAIT(house, answer.done);
	CHECK_INT(result.status, ADMISSION_EXISTS);
	admission_fini(&answer.admission);
	/* Not when the net under lost notices is drawn in, a hundred heartbeats later. */
	for (int i = 0; i < 5 && house->scripted.runs == 1; i++)
		wait_for_heartbeats(house);
	CHECK_INT(house->scripted.runs, 2);
	end_all(house, 2);
	arena_fini(&arena);
	house_of_tenants_free(house);
}

/* The turn of the tenant's next row, which is due. */
static double turn_for(struct house *house, const char *tenant)
{
	struct arena arena = { 0 };
	struct submission submission = scripted_for(house, &arena, tenant);
	struct admission_result result;
	admit(house, &submission, &result, 1);
	CHECK_INT(result.status, ADMISSION_CREATED);
	arena_fini(&arena);
	return submission.turn;
}

TEST(only_what_becomes_work_moves_a_tenant_back)
{
	/* With a weight whose turns are rounded. */
	struct house *house = house_of_tenants("tenants: {tom: {weight: 3}}", 0);
	struct arena arena = { 0 };
	struct submission submissions[100];
	struct admission_result results[100];
	wait_for_heartbeats(house);
	double first = turn_for(house, "tom");

	/* One that is known, again and again. */
	for (size_t i = 0; i < 100; i++) {
		submissions[i] = scripted_for(house, &arena, "tom");
		submissions[i].eval_id = BYTES_LITERAL("same");
	}
	admit(house, submissions, results, 100);
	CHECK_INT(results[0].status, ADMISSION_CREATED);
	CHECK_INT(results[99].status, ADMISSION_EXISTS);
	CHECK(fabs(turn_for(house, "tom") - (first + 2. / 3)) < 0.01);

	/* What the store did not take. */
	for (size_t i = 0; i < 100; i++)
		submissions[i] = scripted_for(house, &arena, "tom");
	house->crossed.away[CROSSED_SUBMIT] = 1;
	admit(house, submissions, results, 100);
	CHECK_INT(results[99].status, ADMISSION_AWAY);
	CHECK(fabs(turn_for(house, "tom") - (first + 3. / 3)) < 0.01);

	/* What is not due for an hour stands in a line of its own. */
	for (size_t i = 0; i < 100; i++) {
		submissions[i] = scripted_for(house, &arena, "tom");
		submissions[i].run_after_us = clock_wall_us() + 3600 * US_PER_S;
	}
	admit(house, submissions, results, 100);
	CHECK(fabs(submissions[99].turn - submissions[0].turn - 99. / 3) < 0.01);
	CHECK(fabs(turn_for(house, "tom") - (first + 4. / 3)) < 0.01);
	for (size_t i = 0; i < 100; i++)
		CHECK_INT(command(house, COMMAND_CANCEL, &results[i].id), COMMAND_DONE);

	/* What was cancelled while it waited. */
	for (size_t i = 0; i < 100; i++)
		submissions[i] = scripted_for(house, &arena, "tom");
	admit(house, submissions, results, 100);
	for (size_t i = 0; i < 100; i++)
		CHECK_INT(command(house, COMMAND_CANCEL, &results[i].id), COMMAND_DONE);
	CHECK(fabs(turn_for(house, "tom") - (first + 5. / 3)) < 0.01);
	slots_change(house, 2);
	WAIT(house, house->scripted.job_count > 0);
	end_all(house, 6);
	arena_fini(&arena);
	house_of_tenants_free(house);
}

/* A tenant that may run one more does not make everybody be claimed for one at a time. */
TEST(a_tenant_with_little_room_holds_up_nobody)
{
	struct house *house = house_of_tenants("tenants: {few: {running: 1}}", 0);
	struct arena arena = { 0 };
	struct submission later = scripted_for(house, &arena, "few");
	struct admission_result result;
	later.run_after_us = clock_wall_us() + 3600 * US_PER_S;
	admit(house, &later, &result, 1);
	admit_many_for(house, "others", 20);
	wait_for_heartbeats(house);
	size_t claims = house->crossed.calls[CROSSED_CLAIM];
	slots_change(house, 20);
	WAIT(house, house->scripted.runs == 20);
	CHECK(house->crossed.calls[CROSSED_CLAIM] - claims <= 3);
	/* And it has its turn. */
	admit_many_for(house, "few", 2);
	admit_many_for(house, "others", 5);
	slots_change(house, 30);
	WAIT(house, house->scripted.runs == 26);
	int few = 0;
	for (size_t i = 20; i < 26; i++)
		few += bytes_is(house->scripted.jobs[i]->tenant, "few");
	CHECK_INT(few, 1);
	end_all(house, 27);
	arena_fini(&arena);
	house_of_tenants_free(house);
}

/* ---- two replicas ---- */

/* Both go on by one event, or wait for it. */
static void both_run(struct house *one, struct house *other)
{
	uv_run(&one->loop, UV_RUN_NOWAIT);
	uv_run(&other->loop, UV_RUN_NOWAIT);
	struct pollfd fds[] = { { .fd = uv_backend_fd(&one->loop), .events = POLLIN },
		{ .fd = uv_backend_fd(&other->loop), .events = POLLIN } };
	uv_update_time(&one->loop);
	uv_update_time(&other->loop);
	/* Both have timers: that of the deadline. */
	poll(fds, ARRAY_SIZE(fds), MIN(uv_backend_timeout(&one->loop), uv_backend_timeout(&other->loop)));
}

#define WAIT_BOTH(one, other, condition) \
	do { \
		while (!(condition) && !(one)->late && !(other)->late) \
			both_run(one, other); \
		REQUIRE(condition); \
	} while (0)

/* A count that begins from now on has been answered, and what that led to. */
static void both_count(struct house *one, struct house *other)
{
	size_t counts = one->crossed.calls[CROSSED_COUNTS], counts_of_other = other->crossed.calls[CROSSED_COUNTS];
	WAIT_BOTH(one, other,
		one->crossed.answers[CROSSED_COUNTS] > counts &&
			other->crossed.answers[CROSSED_COUNTS] > counts_of_other);
	WAIT_BOTH(one, other, !claim_under_way(one) && !claim_under_way(other));
}

static bool counts_held(const struct house *house)
{
	const struct crossed_store *crossed = &house->crossed;
	return crossed->waiting && crossed->answers[CROSSED_COUNTS] == crossed->calls[CROSSED_COUNTS];
}

/* Neither learns what the other has: a count begins with the answer to a heartbeat. */
static void both_hold_counts(struct house *one, struct house *other)
{
	one->crossed.held[CROSSED_HEARTBEAT] = other->crossed.held[CROSSED_HEARTBEAT] = true;
	WAIT_BOTH(one, other, counts_held(one) && counts_held(other));
}

static void both_release_counts(struct house *one, struct house *other)
{
	crossed_release(&one->crossed);
	crossed_release(&other->crossed);
	both_count(one, other);
}

/* Two that know of each other; NULL where there can be but one. */
static struct house *two_houses(const char *yaml, int slots, int slots_of_other, struct house **ret_other)
{
	if (house_store_is_embedded())
		return NULL;
	struct house *house = house_of_tenants(yaml, slots), *other = alloc(sizeof(*other));
	memcpy(other->directory, house->directory, sizeof(other->directory));
	other->tenants = house->tenants;
	house_open(other, 4, quick);
	other->scripted.status.slots = slots_of_other;
	WAIT_BOTH(house, other,
		coordinator_statistics(house->coordinator)->replicas == 2 &&
			coordinator_statistics(other->coordinator)->replicas == 2);
	both_count(house, other);
	*ret_other = other;
	return house;
}

static void two_houses_free(struct house *house, struct house *other)
{
	house_close(other);
	free(other);
	house_of_tenants_free(house);
}

static void both_end_all(struct house *house, struct house *other, size_t count)
{
	while (house->events[EVENT_COMPLETED] + other->events[EVENT_COMPLETED] < count) {
		while (house->scripted.job_count)
			scripted_end(&house->scripted, REASON_NONE, false);
		while (other->scripted.job_count)
			scripted_end(&other->scripted, REASON_NONE, false);
		WAIT_BOTH(house, other,
			house->scripted.job_count || other->scripted.job_count ||
				house->events[EVENT_COMPLETED] + other->events[EVENT_COMPLETED] == count);
	}
}

TEST(replicas_share_what_a_tenant_may_run)
{
	struct house *other, *house = two_houses("tenants: {few: {running: 8}}", 20, 20, &other);
	if (!house)
		return;
	/* Half of them is born running at either, in many batches; nobody is told of the other half. */
	both_hold_counts(house, other);
	admit_many_for(house, "few", 20);
	admit_many_for(other, "few", 20);
	WAIT_BOTH(house, other, house->scripted.runs >= 4 && other->scripted.runs >= 4);
	WAIT_BOTH(house, other, !claim_under_way(house) && !claim_under_way(other));
	CHECK_INT(house->scripted.runs, 4);
	CHECK_INT(other->scripted.runs, 4);
	const struct task waiting = {
		.status = TASK_QUEUED, .tenant = BYTES_LITERAL("few"), .executor = BYTES_LITERAL("scripted")
	};
	const struct read_position position = { 0 };
	CHECK_STR(coordinator_why(house->coordinator, &waiting, &position).word, "tenant_limit");

	/* One of them has no slots any more: by newer counts the other may run all. */
	both_release_counts(house, other);
	CHECK_INT(house->scripted.runs + other->scripted.runs, 8);
	slots_change(other, 0);
	while (other->scripted.job_count)
		scripted_end(&other->scripted, REASON_NONE, false);
	WAIT_BOTH(house, other, house->scripted.job_count == 8);
	both_count(house, other);
	CHECK_INT(house->scripted.job_count, 8);
	both_end_all(house, other, 40);
	two_houses_free(house, other);
}

/* Also where there is less to share than there are replicas. */
TEST(a_replica_without_slots_holds_up_no_tenant)
{
	struct house *other, *house = two_houses("tenants: {few: {running: 1}}", 0, 2, &other);
	if (!house)
		return;
	admit_many_for(house, "few", 3);
	both_end_all(house, other, 3);
	CHECK_INT(other->scripted.runs, 3);
	two_houses_free(house, other);
}

/* As many as are taken, and no more than `most`. */
static int admit_until_full(struct house *house, const char *tenant, int most)
{
	int count = 0;
	while (count < most && admit_for(house, tenant, NULL) == ADMISSION_CREATED)
		count++;
	return count;
}

TEST(replicas_share_what_a_tenant_may_have_waiting)
{
	struct house *other, *house = two_houses("tenants: {few: {queued: 10}, one: {queued: 1}}", 0, 0, &other);
	if (!house)
		return;
	both_hold_counts(house, other);
	CHECK_INT(admit_until_full(house, "few", 20), 5);
	CHECK_INT(admit_until_full(other, "few", 20), 5);
	/* One each, and not none. */
	CHECK_INT(admit_until_full(house, "one", 20), 1);
	CHECK_INT(admit_until_full(other, "one", 20), 1);
	both_release_counts(house, other);
	CHECK_INT(admit_until_full(house, "few", 20) + admit_until_full(other, "few", 20), 0);
	CHECK_INT(admit_until_full(house, "one", 20) + admit_until_full(other, "one", 20), 0);
	slots_change(house, 20);
	WAIT_BOTH(house, other, house->scripted.runs == 12);
	both_end_all(house, other, 12);

	/* Where all comes to one of them, it has the whole limit by and by. */
	slots_change(house, 0);
	both_count(house, other);
	both_hold_counts(house, other);
	int count = admit_until_full(house, "few", 20);
	CHECK_INT(count, 5);
	both_release_counts(house, other);
	while (count < 10 && !house->late) {
		both_count(house, other);
		count += admit_until_full(house, "few", 20);
	}
	both_count(house, other);
	CHECK_INT(count + admit_until_full(house, "few", 20), 10);
	slots_change(house, 20);
	WAIT_BOTH(house, other, house->scripted.runs == 22);
	both_end_all(house, other, 22);
	two_houses_free(house, other);
}

TEST_MAIN()
