/* What tests of stores are written with. */
#include "tests/contract/store_harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define DEADLINE_MS 120000

static void bail(const char *why)
{
	printf("Bail out! %s\n", why);
	exit(1);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	return remove(path);
}

void remove_tree(const char *path)
{
	if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
		bail("a test's directory cannot be removed");
}

static void on_deadline(uv_timer_t *timer)
{
	bail("nothing happened for a minute");
}

static void on_deadline_closed(uv_handle_t *handle)
{
	free(handle);
}

void harness_wait(struct harness *harness, const bool *flag)
{
	uv_timer_t *deadline = alloc(sizeof(*deadline));
	uv_timer_init(harness->fixture->loop, deadline);
	uv_timer_start(deadline, on_deadline, DEADLINE_MS, 0);
	while (!*flag)
		uv_run(harness->fixture->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)deadline, on_deadline_closed);
}

static void on_available(void *owner, bool available, const struct err *why_not)
{
	struct harness *harness = owner;
	harness->available = available;
	harness->availables++;
}

static void on_failed(void *owner, const struct err *err)
{
	bail(err->message);
}

static void on_stopped(void *owner)
{
	*(bool *)owner = true;
}

void harness_open(struct harness *harness, struct store_suite_fixture *fixture, bool empty)
{
	static const struct store_notices notices = { .on_available = on_available, .on_failed = on_failed };
	struct uuid_generator ids = harness->ids;
	struct err err = { 0 };
	*harness = (struct harness){ .fixture = fixture, .ids = ids };
	harness->store = fixture->open(fixture, empty);
	if (harness->store->ops->start(harness->store, &notices, harness, &err) < 0)
		bail(err.message);
	if (harness->availables > 0)
		bail("on_available from within start()");
	harness_wait(harness, &harness->available);
}

void harness_close(struct harness *harness)
{
	bool stopped = false;
	harness->store->ops->stop(harness->store, on_stopped, &stopped);
	if (stopped)
		bail("on_stopped from within stop()");
	harness_wait(harness, &stopped);
	harness->store->ops->free(harness->store);
	harness->store = NULL;
}

void harness_reopen(struct harness *harness)
{
	harness_close(harness);
	harness_open(harness, harness->fixture, false);
}

/* ---- operations ---- */

static void on_done(struct store_operation *operation)
{
	bool *done = operation->owner;
	if (*done)
		bail("an operation was given back twice");
	*done = true;
}

#define DO(verb, type) \
	enum store_outcome do_##verb(struct harness *harness, struct type *op) \
	{ \
		bool done = false; \
		op->operation.done = on_done; \
		op->operation.owner = &done; \
		if (harness->fixture->reconnects) \
			harness_wait(harness, &harness->available); \
		harness->store->ops->verb(harness->store, op); \
		if (done) \
			bail("an operation was given back from within the call"); \
		harness_wait(harness, &done); \
		return op->operation.outcome; \
	}

DO(submit, store_submit)
DO(claim, store_claim)
DO(settle, store_settle)
DO(command, store_command)
DO(heartbeat, store_heartbeat)
DO(take, store_take)
DO(trim, store_trim)
DO(read_task, read_task)
DO(read_match, read_match)
DO(read_list, read_list)
DO(read_events, read_events)
DO(read_output, read_output)
DO(read_position, read_position)
DO(read_counts, read_counts)
DO(delivery_claim, store_delivery_claim)
DO(delivery_settle, store_delivery_settle)
DO(read_deliveries, read_deliveries)

static void need(enum store_outcome outcome, const struct store_operation *operation)
{
	if (outcome != STORE_OK)
		bail(operation->err.message);
}

/* ---- the common lines ---- */

struct submission submission_of(struct harness *harness)
{
	return (struct submission){
		.id = uuid_new(&harness->ids),
		.tenant = BYTES_LITERAL("t"),
		.type = BYTES_LITERAL("test"),
		.queue = BYTES_LITERAL("default"),
		.executor = BYTES_LITERAL("noop"),
		.priority = 5,
		.max_attempts = 3,
		.turn = 1,
		.params = BYTES_LITERAL("{}"),
	};
}

static struct uuid submit(struct harness *harness, const struct submit_item *item, const char *locked_by)
{
	struct store_submit submit = { .items = item, .count = 1, .locked_by = bytes_of(locked_by) };
	need(do_submit(harness, &submit), &submit.operation);
	if (submit.results[0].status != SUBMIT_CREATED)
		bail("a submission was not created");
	store_operation_fini(&submit.operation);
	return item->submission->id;
}

struct uuid submit_one(struct harness *harness, const struct submission *submission)
{
	struct submit_item item = { .submission = submission };
	return submit(harness, &item, "me#1");
}

struct uuid submit_running(struct harness *harness, const struct submission *submission, const char *locked_by)
{
	struct submit_item item = { .submission = submission, .born_running = true };
	return submit(harness, &item, locked_by);
}

size_t claim_ids(struct harness *harness, int slots, struct uuid *ret_ids)
{
	struct claim_lane lane = { BYTES_LITERAL("noop"), slots };
	struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = &lane, .lane_count = 1 };
	need(do_claim(harness, &claim), &claim.operation);
	size_t count = claim.count;
	for (size_t i = 0; i < count; i++)
		ret_ids[i] = claim.tasks[i].id;
	store_operation_fini(&claim.operation);
	return count;
}

struct settle_result settle_one(struct harness *harness, const struct transition *transition)
{
	static struct store_settle settle;
	store_operation_fini(&settle.operation);
	settle = (struct store_settle){ .transitions = transition, .count = 1 };
	need(do_settle(harness, &settle), &settle.operation);
	struct settle_result result = settle.results[0];
	return result;
}

bool same_json(struct bytes json, const char *expected)
{
	bool quoted = false;
	for (size_t i = 0; i < json.len; i++) {
		char c = json.data[i];
		if (c == ' ' && !quoted)
			continue;
		if (c != *expected++)
			return false;
		quoted ^= c == '"';
	}
	return json.data && *expected == '\0';
}

struct task_guard guard_of(const struct uuid *id, int attempt, const char *locked_by)
{
	return (struct task_guard){
		.id = *id,
		.status = TASK_RUNNING,
		.attempt = attempt,
		.locked_by = bytes_of(locked_by),
	};
}

struct task task_of(struct harness *harness, const struct uuid *id)
{
	static struct read_task read;
	store_operation_fini(&read.operation);
	read = (struct read_task){ .ids = id, .count = 1, .with_params = true };
	need(do_read_task(harness, &read), &read.operation);
	return read.results[0] ? *read.results[0] : (struct task){ 0 };
}

const char *events_of(struct harness *harness, const struct uuid *id)
{
	static char letters[256];
	struct read_events read = { .task_id = *id, .limit = 100 };
	need(do_read_events(harness, &read), &read.operation);
	size_t length = 0;
	for (size_t i = 0; i < read.result_count && length < sizeof(letters) - 2; i++) {
		if (read.results[i].sequence != i + 1)
			letters[length++] = '!';
		letters[length++] = "QRTSGCFX"[read.results[i].kind];
	}
	letters[length] = '\0';
	store_operation_fini(&read.operation);
	return letters;
}
