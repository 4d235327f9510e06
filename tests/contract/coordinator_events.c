/* What the coordinator does about events that have not left, and about those of others: seen from a bus that goes away when the test says so, and from
 * the store. */
#include "base/table.h"
#include "coordinator_house.h"

#define SENT_MAX 20000

struct sent {
	struct uuid task_id;
	uint32_t sequence;
	bool former; /* by an earlier incarnation than that of the time */
};

/* A bus that others hear, as far as the coordinator knows. What leaves is written down. */
struct far_bus {
	struct bus bus;
	struct bus *local; /* owned */
	const struct bus_notices *notices;
	void *owner;
	bool away, behind, last;
	bool overflow; /* more was published before the last batch had left than there is room for */
	uv_timer_t later;
	uint64_t taken, left;
	struct cursor latest, published;
	size_t gaps, told;
	struct sent sent[SENT_MAX];
	size_t sent_count;
	void (*on_stopped)(void *owner);
	void *stop_owner;
	int parts_left;
};

static struct far_bus *far_of(const struct bus *bus)
{
	return CONTAINER_OF((struct bus *)bus, struct far_bus, bus);
}

static int far_start(struct bus *bus, const struct bus_notices *notices, void *owner, struct err *err)
{
	far_of(bus)->notices = notices;
	far_of(bus)->owner = owner;
	return 0;
}

static void on_part_stopped(void *owner)
{
	struct far_bus *far = owner;
	if (--far->parts_left == 0)
		far->on_stopped(far->stop_owner);
}

static void on_timer_closed(uv_handle_t *handle)
{
	on_part_stopped(handle->data);
}

static void far_stop(struct bus *bus, void (*on_bus_stopped)(void *owner), void *owner)
{
	struct far_bus *far = far_of(bus);
	far->on_stopped = on_bus_stopped;
	far->stop_owner = owner;
	far->parts_left = 2;
	uv_close((uv_handle_t *)&far->later, on_timer_closed);
	far->local->ops->stop(far->local, on_part_stopped, far);
}

static void far_free(struct bus *bus)
{
	far_of(bus)->local->ops->free(far_of(bus)->local);
	free(far_of(bus));
}

static void far_status(const struct bus *bus, struct bus_status *ret_status)
{
	const struct far_bus *far = far_of(bus);
	*ret_status = (struct bus_status){ .kind = "far",
		.healthy = !far->away,
		.remote = true,
		.published = far->published,
		.taken = far->taken,
		.left = far->left };
}

static void send_all(struct far_bus *far, const struct event *events, size_t count)
{
	for (size_t i = 0; i < count && far->sent_count < SENT_MAX; i++)
		far->sent[far->sent_count++] = (struct sent){ events[i].task_id, events[i].sequence,
			.former = !bytes_is(events[i].publisher, coordinator_locked_by(far->owner)) };
}

static void far_publish(struct bus *bus, const struct event *events, size_t count)
{
	struct far_bus *far = far_of(bus);
	far->local->ops->publish(far->local, events, count);
	far->taken += count;
	far->latest = events[count - 1].cursor;
	far->behind |= far->away;
	for (size_t i = 0; i < count; i++)
		CHECK(events[i].publisher.len > 5 && memcmp(events[i].publisher.data, "test#", 5) == 0);
	if (far->behind)
		return;
	send_all(far, events, count);
	far->left = far->taken;
	far->published = far->latest;
}

static void far_publish_live(struct bus *bus, const struct live_event *events, size_t count)
{
	far_of(bus)->local->ops->publish_live(far_of(bus)->local, events, count);
}

static void on_batch_left(uv_timer_t *timer)
{
	struct far_bus *far = timer->data;
	if (far->away)
		return;
	bool again = far->last && far->behind && far->overflow;
	if (far->last && far->behind && !again) {
		far->behind = false;
		far->left = far->taken;
		far->published = far->latest;
	}
	far->notices->on_republished(far->owner);
	if (again) {
		far->overflow = false;
		far->gaps++;
		far->notices->on_behind(far->owner);
	}
	uv_stop(timer->loop);
}

static void far_republish(struct bus *bus, const struct event *events, size_t count, bool last)
{
	struct far_bus *far = far_of(bus);
	if (far->away)
		return;
	send_all(far, events, count);
	far->last = last;
	uv_timer_start(&far->later, on_batch_left, 1, 0);
}

static void far_tell(struct bus *bus, const struct event *events, size_t count)
{
	far_of(bus)->told += count;
	far_of(bus)->local->ops->tell(far_of(bus)->local, events, count);
}

static void far_frontier(struct bus *bus, const struct cursor *frontier)
{
	far_of(bus)->local->ops->frontier(far_of(bus)->local, frontier);
}

static void far_follow(struct bus *bus, bool wanted)
{
}

static void far_subscribe(struct bus *bus, struct bus_subscriber *subscriber)
{
	far_of(bus)->local->ops->subscribe(far_of(bus)->local, subscriber);
}

static void far_unsubscribe(struct bus *bus, struct bus_subscriber *subscriber)
{
	far_of(bus)->local->ops->unsubscribe(far_of(bus)->local, subscriber);
}

static const struct bus_ops far_ops = {
	.start = far_start,
	.stop = far_stop,
	.free = far_free,
	.status = far_status,
	.publish = far_publish,
	.publish_live = far_publish_live,
	.republish = far_republish,
	.tell = far_tell,
	.frontier = far_frontier,
	.follow = far_follow,
	.subscribe = far_subscribe,
	.unsubscribe = far_unsubscribe,
};

static void on_return(uv_timer_t *timer)
{
	struct far_bus *far = timer->data;
	far->gaps++;
	far->notices->on_behind(far->owner);
}

static void far_return(struct far_bus *far)
{
	far->away = false;
	uv_timer_start(&far->later, on_return, 1, 0);
}

/* All but the wait until it is ready. */
static struct house *house_far_begin(struct far_bus **ret_far)
{
	struct house *house = alloc(sizeof(*house));
	struct far_bus *far = alloc(sizeof(*far));
	struct err err = { 0 };
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	uv_loop_init(&house->loop);
	far->bus.ops = &far_ops;
	far->local = local_bus_new(&house->loop);
	uv_timer_init(&house->loop, &far->later);
	far->later.data = far;
	house->bus = &far->bus;
	house_begin(house, 8, (struct coordinator_settings){ .heartbeat_us = 1 * US_PER_S });
	REQUIRE(house->bus->ops->start(house->bus, &coordinator_bus_notices, house->coordinator, &err) == 0);
	*ret_far = far;
	return house;
}

static struct house *house_far(struct far_bus **ret_far)
{
	struct house *house = house_far_begin(ret_far);
	WAIT(house, house->ready);
	return house;
}

static void run_noops(struct house *house, size_t count)
{
	struct arena arena = { 0 };
	struct submission *submissions = alloc_array(count, sizeof(*submissions));
	struct admission_result *results = alloc_array(count, sizeof(*results));
	size_t ended = house->events[EVENT_COMPLETED];
	for (size_t i = 0; i < count; i++)
		submissions[i] = submission_of(house, &arena);
	admit(house, submissions, results, count);
	WAIT(house, house->events[EVENT_COMPLETED] == ended + count);
	free(submissions);
	free(results);
	arena_fini(&arena);
}

/* Of each task 1, 2, 3 have been sent, for the first time in this order. */
static size_t tasks_sent(const struct far_bus *far)
{
	struct table tasks = { 0 };
	struct seen {
		struct table_node node;
		uint32_t next;
	} *seen = alloc_array(SENT_MAX, sizeof(*seen));
	size_t count = 0, whole = 0;
	for (size_t i = 0; i < far->sent_count; i++) {
		const struct sent *sent = &far->sent[i];
		struct bytes key = { (const char *)sent->task_id.bytes, 16 };
		struct table_node *node = table_find(&tasks, key);
		if (!node) {
			seen[count].node.key = key;
			seen[count].next = 1;
			node = &seen[count++].node;
			table_insert(&tasks, node);
		}
		struct seen *one = CONTAINER_OF(node, struct seen, node);
		CHECK(sent->sequence <= one->next);
		if (sent->sequence == one->next)
			whole += one->next++ == 3;
	}
	CHECK_INT(whole, count);
	table_fini(&tasks);
	free(seen);
	return whole;
}

TEST(what_did_not_leave_is_read_from_the_store_in_order)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	run_noops(house, 50);
	CHECK_INT(tasks_sent(far), 50);
	far->away = true;
	run_noops(house, 700); /* 2,100 events: several batches */
	CHECK_INT(far->sent_count, 150);
	far_return(far);
	WAIT(house, far->left == far->taken);
	CHECK_INT(tasks_sent(far), 750);
	/* Once more, and away again in the middle of it. */
	size_t before = far->sent_count;
	far->away = true;
	run_noops(house, 700);
	far_return(far);
	WAIT(house, far->sent_count > before);
	far->away = true;
	run_noops(house, 10);
	CHECK(far->left < far->taken);
	far_return(far);
	WAIT(house, far->left == far->taken);
	CHECK_INT(tasks_sent(far), 1460);
	CHECK(far->gaps == 3 || far->gaps == 2); /* the second may have been closed before the bus was away again */
	/* Nothing of before the first gap was sent again at the last. */
	run_noops(house, 5);
	CHECK_INT(tasks_sent(far), 1465);
	house_free(house);
}

/* Or it would never be closed, where work comes as fast as events leave. */
TEST(what_has_left_of_a_gap_is_not_sent_again_when_the_gap_has_grown)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	far->away = true;
	run_noops(house, 700);
	far->overflow = true;
	far_return(far);
	WAIT(house, far->left == far->taken);
	CHECK_INT(far->gaps, 2);
	CHECK_INT(tasks_sent(far), 700);
	CHECK_INT(far->sent_count, 2100);
	house_free(house);
}

TEST(a_former_names_events_leave_before_those_of_the_present_one)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	char former[200];
	snprintf(former, sizeof(former), "%s", coordinator_locked_by(house->coordinator));
	far->away = true;
	run_noops(house, 20);
	house->crossed.buried = true;
	while (strcmp(former, coordinator_locked_by(house->coordinator)) == 0 && !house->late)
		uv_run(&house->loop, UV_RUN_ONCE);
	run_noops(house, 20);
	far_return(far);
	WAIT(house, far->left == far->taken);
	CHECK_INT(tasks_sent(far), 40);
	for (size_t i = 0; i < far->sent_count; i++)
		CHECK_INT(far->sent[i].former, i < 60);
	house_free(house);
}

static void on_first_heartbeat(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct house *house = owner;
	/* Counted on the second try. */
	if (kind == CROSSED_HEARTBEAT && house->crossed.calls[CROSSED_HEARTBEAT] == 1)
		CHECK_INT(house->crossed.answers[CROSSED_COUNTS], 2);
}

/* What it wrote before would lie below its own watermark, and no gap would bring it. */
TEST(nothing_is_written_before_the_end_of_the_stream_is_known)
{
	struct far_bus *far;
	struct house *house = house_far_begin(&far);
	house->crossed.away[CROSSED_COUNTS] = 1;
	house->crossed.on_call = on_first_heartbeat;
	house->crossed.owner = house;
	WAIT(house, house->ready);
	CHECK(house->crossed.calls[CROSSED_HEARTBEAT] >= 1);
	house_free(house);
}

/* ---- the watermark that heartbeats tell ---- */

struct beats {
	struct house *house;
	size_t count;
	struct cursor published;
};

static void on_call(void *owner, enum crossed_kind kind, struct store_operation *operation)
{
	struct beats *beats = owner;
	if (kind != CROSSED_HEARTBEAT)
		return;
	beats->count++;
	beats->published = CONTAINER_OF(operation, struct store_heartbeat, operation)->published;
	uv_stop(&beats->house->loop);
}

static size_t events_above(struct house *house, const struct cursor *cursor)
{
	struct read_events read = { .operation = { .done = on_operation, .owner = &house->loop },
		.after = *cursor,
		.publisher = bytes_of(coordinator_locked_by(house->coordinator)),
		.limit = 10000 };
	house->store->ops->read_events(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.operation.outcome == STORE_OK);
	size_t count = read.result_count;
	for (size_t i = 0; i < count; i++)
		CHECK_BYTES(read.results[i].publisher, coordinator_locked_by(house->coordinator));
	store_operation_fini(&read.operation);
	return count;
}

static void wait_status(struct house *house, const struct uuid *id, enum task_status status)
{
	while (row_status(house, id) != status && !house->late)
		uv_run(&house->loop, UV_RUN_NOWAIT);
}

/* Its end commits, and the answer is late. */
static struct uuid admit_unanswered(struct house *house, struct arena *arena)
{
	struct submission submission = submission_of(house, arena);
	struct admission_result result;
	house->crossed.held[CROSSED_SETTLE] = true;
	admit(house, &submission, &result, 1);
	wait_status(house, &result.id, TASK_COMPLETED);
	return result.id;
}

TEST(the_watermark_passes_nothing_that_has_not_left)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	struct beats beats = { .house = house };
	struct arena arena = { 0 };
	house->crossed.on_call = on_call;
	house->crossed.owner = &beats;
	run_noops(house, 10);
	WAIT(house, events_above(house, &beats.published) == 0 && beats.count >= 2);

	/* A task's end commits, and its answer is late: what is published meanwhile lies above it. */
	struct submission later;
	struct admission_result result;
	admit_unanswered(house, &arena);
	for (int i = 0; i < 5; i++) {
		later = submission_of(house, &arena);
		later.run_after_us = clock_wall_us() + 3600 * US_PER_S;
		admit(house, &later, &result, 1);
		size_t count = beats.count;
		WAIT(house, beats.count > count);
		/* The two that are not told yet are of the first task: running, completed. */
		CHECK(events_above(house, &beats.published) >= 2 + (size_t)i);
	}
	crossed_release(&house->crossed);
	run_noops(house, 1); /* the place of the latest is the watermark: it must not lie before others */
	WAIT(house, events_above(house, &beats.published) == 0);

	/* What was published, and is still on its way, holds it back as well. */
	far->away = true;
	later = submission_of(house, &arena);
	later.run_after_us = clock_wall_us() + 3600 * US_PER_S;
	admit(house, &later, &result, 1);
	size_t count = beats.count;
	WAIT(house, beats.count >= count + 3);
	CHECK(events_above(house, &beats.published) >= 1);
	far_return(far);
	WAIT(house, events_above(house, &beats.published) == 0);
	arena_fini(&arena);
	house_free(house);
}

/* ---- answers that overtake one another ---- */

/* `lost`: the late answer is lost besides, and the submission is handed in again. */
static void overtake_submission(size_t lost)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	struct beats beats = { .house = house };
	struct arena arena = { 0 };
	house->crossed.on_call = on_call;
	house->crossed.owner = &beats;
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	struct answer answer = {
		.admission = { .submissions = &submission, .count = 1, .results = &result, .done = on_admitted },
		.house = house,
	};
	answer.admission.owner = &answer;
	submission.run_after_us = 1; /* not born running */
	house->crossed.held[CROSSED_SUBMIT] = true;
	house->crossed.lost[CROSSED_SUBMIT] = lost;
	coordinator_admit(house->coordinator, &answer.admission);
	const struct coordinator_statistics *statistics = coordinator_statistics(house->coordinator);
	while (!statistics->ended[REASON_NONE] && !house->late) {
		house->crossed.notices.on_work(house->crossed.listener);
		uv_run(&house->loop, UV_RUN_ONCE);
	}
	CHECK_INT(statistics->ended[REASON_NONE], 1);
	WAIT(house, events_above(house, &(struct cursor){ 0 }) == 3); /* its end is in the store */
	CHECK_INT(far->taken, 0);
	/* And they are not thought to have left. */
	size_t count = beats.count;
	WAIT(house, beats.count >= count + 3);
	CHECK_INT(events_above(house, &beats.published), 3);
	CHECK(!answer.done);
	crossed_release(&house->crossed);
	WAIT(house, answer.done);
	CHECK_INT(result.status, ADMISSION_CREATED);
	CHECK_INT(tasks_sent(far), 1);
	CHECK_INT(far->sent_count, 3);
	CHECK_INT(house->crossed.calls[CROSSED_SUBMIT], 1 + lost);
	WAIT(house, events_above(house, &beats.published) == 0);
	admission_fini(&answer.admission);
	arena_fini(&arena);
	house_free(house);
}

TEST(what_was_done_before_its_submission_was_answered_leaves_after_it)
{
	overtake_submission(0);
}

TEST(what_was_done_before_a_submission_was_known_to_be_written_leaves_after_it)
{
	overtake_submission(1);
}

TEST(a_new_run_leaves_after_the_end_of_the_one_before)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	struct arena arena = { 0 };
	struct uuid id = admit_unanswered(house, &arena);
	CHECK_INT(command(house, COMMAND_RUN, &id), COMMAND_DONE);
	CHECK_INT(far->sent_count, 1);
	crossed_release(&house->crossed);
	CHECK_INT(far->sent_count, 4);
	WAIT(house, far->sent_count == 6);
	CHECK_INT(tasks_sent(far), 1);
	for (uint32_t i = 0; i < 6; i++)
		CHECK_INT(far->sent[i].sequence, i + 1);
	arena_fini(&arena);
	house_free(house);
}

static void command_begin(
	struct house *house, struct store_command *command, enum command_kind kind, const struct uuid *id)
{
	*command = (struct store_command){
		.operation = { .done = on_operation, .owner = &house->loop },
		.kind = kind,
		.ids = id,
		.count = 1,
		.at_us = clock_wall_us(),
	};
	coordinator_command(house->coordinator, command);
}

TEST(commands_whose_answers_cross_are_told_in_their_order)
{
	struct far_bus *far;
	struct house *house = house_far(&far);
	struct arena arena = { 0 };
	struct store_command cancel, run;
	struct submission submission = submission_of(house, &arena);
	struct admission_result result;
	submission.run_after_us = clock_wall_us() + 3600 * US_PER_S;
	admit(house, &submission, &result, 1);
	house->crossed.held[CROSSED_COMMAND] = true;
	command_begin(house, &cancel, COMMAND_CANCEL, &result.id);
	wait_status(house, &result.id, TASK_CANCELLED);
	command_begin(house, &run, COMMAND_RUN, &result.id);
	wait_status(house, &result.id, TASK_QUEUED);
	CHECK_INT(far->sent_count, 1);
	crossed_release(&house->crossed); /* the last first */
	CHECK_INT(cancel.result_count, 1);
	CHECK_INT(run.result_count, 1);
	WAIT(house, far->sent_count == 5);
	for (uint32_t i = 0; i < 5; i++)
		CHECK_INT(far->sent[i].sequence, i + 1);
	store_operation_fini(&cancel.operation);
	store_operation_fini(&run.operation);
	arena_fini(&arena);
	house_free(house);
}

static void submit_elsewhere(struct house *house, struct arena *arena, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct submission submission = submission_of(house, arena);
		submission.run_after_us = clock_wall_us() + 3600 * US_PER_S;
		const struct submit_item item = { .submission = &submission };
		struct store_submit submit = { .operation = { .done = on_operation, .owner = &house->loop },
			.items = &item,
			.count = 1,
			.locked_by = BYTES_LITERAL("other#1") };
		house->store->ops->submit(house->store, &submit);
		WAIT(house, submit.operation.kind == -1);
		REQUIRE(submit.operation.outcome == STORE_OK);
		store_operation_fini(&submit.operation);
	}
}

/* ---- what followers may go on from, where cursors are not final ---- */

struct frontiers {
	struct bus_subscriber subscriber;
	struct cursor latest;
};

static void on_frontier(void *owner, const struct cursor *frontier)
{
	struct frontiers *frontiers = owner;
	CHECK(cursor_compare(frontier, &frontiers->latest) > 0);
	frontiers->latest = *frontier;
}

static void ignore_events(void *owner, const struct event *events, size_t count)
{
}

static void frontiers_hear(struct frontiers *frontiers, struct house *house)
{
	*frontiers = (struct frontiers){
		.subscriber = { .on_events = ignore_events, .on_frontier = on_frontier, .owner = frontiers }
	};
	house->bus->ops->subscribe(house->bus, &frontiers->subscriber);
}

TEST(the_frontier_of_what_is_read_from_the_store_waits_for_own_answers)
{
	struct house *house = alloc(sizeof(*house));
	struct frontiers frontiers;
	struct arena arena = { 0 };
	if (house_store_is_embedded()) { /* its cursors are final */
		free(house);
		return;
	}
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house->replicated = true;
	house_open(house, 8, (struct coordinator_settings){ .heartbeat_us = 1 * US_PER_S });
	struct beats beats = { .house = house };
	house->crossed.on_call = on_call;
	house->crossed.owner = &beats;
	frontiers_hear(&frontiers, house);
	coordinator_follow_events(house->coordinator, true);
	run_noops(house, 5);
	WAIT(house, frontiers.latest.length > 0 && events_above(house, &frontiers.latest) == 0);
	admit_unanswered(house, &arena);
	size_t count = beats.count;
	submit_elsewhere(house, &arena, 3);
	WAIT(house, beats.count >= count + 3 && house->events[EVENT_QUEUED] == 9);
	CHECK(events_above(house, &frontiers.latest) >= 2); /* running, completed */
	crossed_release(&house->crossed);
	WAIT(house, events_above(house, &frontiers.latest) == 0);
	house->bus->ops->unsubscribe(house->bus, &frontiers.subscriber);
	arena_fini(&arena);
	house_free(house);
}

TEST(the_frontier_of_what_the_bus_brings_waits_for_all_replicas)
{
	struct far_bus *far;
	struct frontiers frontiers;
	if (house_store_is_embedded())
		return;
	struct house *house = house_far(&far);
	struct beats beats = { .house = house };
	house->crossed.on_call = on_call;
	house->crossed.owner = &beats;
	frontiers_hear(&frontiers, house);
	coordinator_follow_events(house->coordinator, true);
	run_noops(house, 5);
	WAIT(house, beats.count >= 4);
	CHECK_INT(frontiers.latest.length, 0); /* the bus does not bring them */
	far->notices->on_heard(far->owner, true);
	WAIT(house, frontiers.latest.length > 0 && events_above(house, &frontiers.latest) == 0);
	/* Another one lives that has published no further; then it dies, and its events are published for it. */
	struct cursor place = frontiers.latest;
	struct store_heartbeat other = { .operation = { .done = on_operation, .owner = &house->loop },
		.locked_by = BYTES_LITERAL("other#1"),
		.published = place,
		.lease_us = 3 * US_PER_S };
	house->store->ops->heartbeat(house->store, &other);
	WAIT(house, other.operation.kind == -1);
	CHECK_INT(other.operation.outcome, STORE_OK);
	store_operation_fini(&other.operation);
	place = frontiers.latest;
	size_t count = beats.count;
	run_noops(house, 5);
	WAIT(house, beats.count >= count + 2);
	size_t above = events_above(house, &frontiers.latest);
	CHECK(above >= 15);
	WAIT(house, events_above(house, &frontiers.latest) == 0);
	/* Away from the bus it stays where it is. */
	far->notices->on_heard(far->owner, false);
	house->bus->ops->unsubscribe(house->bus, &frontiers.subscriber);
	house_free(house);
}

/* ---- others' events, without a bus that brings them ---- */

TEST(events_of_others_come_from_the_store_while_somebody_follows)
{
	struct house *house = alloc(sizeof(*house));
	struct arena arena = { 0 };
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house->replicated = true;
	house_open(house, 8, (struct coordinator_settings){ .heartbeat_us = 1 * US_PER_S });
	struct beats beats = { .house = house };
	house->crossed.on_call = on_call;
	house->crossed.owner = &beats;

	/* Nobody follows: nothing is read. */
	submit_elsewhere(house, &arena, 3);
	WAIT(house, beats.count >= 2);
	CHECK_INT(house->events[EVENT_QUEUED], 0);

	/* From now on, so that the three of before are not told; own ones once, by the bus alone. */
	coordinator_follow_events(house->coordinator, true);
	size_t count = beats.count;
	WAIT(house, beats.count >= count + 2);
	CHECK_INT(house->events[EVENT_QUEUED], 0);
	submit_elsewhere(house, &arena, 4);
	run_noops(house, 2);
	WAIT(house, house->events[EVENT_QUEUED] == 6);
	submit_elsewhere(house, &arena, 1);
	WAIT(house, house->events[EVENT_QUEUED] == 7);
	count = beats.count;
	WAIT(house, beats.count >= count + 2);
	CHECK_INT(house->events[EVENT_QUEUED], 7);
	CHECK_INT(house->events[EVENT_COMPLETED], 2);

	/* Who leaves and comes back soon has missed nothing. */
	coordinator_follow_events(house->coordinator, false);
	submit_elsewhere(house, &arena, 1);
	coordinator_follow_events(house->coordinator, true);
	WAIT(house, house->events[EVENT_QUEUED] == 8);
	arena_fini(&arena);
	house_free(house);
}

TEST_MAIN()
