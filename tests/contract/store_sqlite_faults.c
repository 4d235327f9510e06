/* The SQLite store on a disk whose n-th write or sync fails, for n up to all that the script below makes.
 *
 * Whatever the store answers must be true: STORE_OK is done, STORE_AWAY and STORE_FAILED are not done, STORE_UNKNOWN
 * can be handed in again. In the end everything is done once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "store/sqlite/sqlite_store.h"
#include "task/lifecycle.h"
#include "tests/contract/faulty_vfs.h"
#include "tests/contract/sqlite_check.h"
#include "tests/contract/store_harness.h"
#include "tests/unit/test.h"

#define TASKS 8

static char directory[64];
static struct harness harness;
static struct harness *const h = &harness;

static struct store *open_store(struct store_suite_fixture *fixture, bool empty)
{
	/* A small cache, so that pages are written before the commit, too. */
	struct sqlite_store_options options = {
		.directory = directory, .loop = fixture->loop, .cache_bytes = 64 << 10
	};
	return sqlite_store_new(&options);
}

static struct store_suite_fixture fixture = { .open = open_store };

/* Hands it in until it is done: the fault strikes once. */
#define UNTIL_DONE(verb, op) \
	do { \
		int tries_ = 0; \
		while (do_##verb(h, (op)) != STORE_OK) { \
			store_operation_fini(&(op)->operation); \
			REQUIRE(++tries_ < 5); \
		} \
	} while (0)

static void submit_all(const struct submission *submissions)
{
	struct submit_item items[TASKS];
	for (int i = 0; i < TASKS; i++)
		items[i] = (struct submit_item){ &submissions[i], i % 2 };
	struct store_submit submit = { .items = items, .count = TASKS, .locked_by = BYTES_LITERAL("me#1") };
	UNTIL_DONE(submit, &submit);
	for (int i = 0; i < TASKS; i++)
		CHECK_INT(submit.results[i].status, SUBMIT_CREATED);
	store_operation_fini(&submit.operation);
}

static void claim_all(void)
{
	struct claim_lane lane = { BYTES_LITERAL("noop"), TASKS };
	struct store_claim claim = { .locked_by = BYTES_LITERAL("me#1"), .lanes = &lane, .lane_count = 1 };
	UNTIL_DONE(claim, &claim);
	store_operation_fini(&claim.operation);
	struct store_take take = { .kind = TAKE_OWN, .locked_by = BYTES_LITERAL("me#1"), .limit = 100 };
	UNTIL_DONE(take, &take);
	CHECK_INT(take.count, TASKS);
	store_operation_fini(&take.operation);
}

static void settle_all(const struct submission *submissions)
{
	static char printed[20000];
	struct transition transitions[TASKS];
	struct output_chunk chunks[TASKS];
	memset(printed, 'x', sizeof(printed));
	for (int i = 0; i < TASKS; i++) {
		transitions[i] = (struct transition){
			.kind = TRANSITION_END,
			.guard = guard_of(&submissions[i].id, 1, "me#1"),
			.target = TASK_COMPLETED,
			.at_us = clock_wall_us(),
			.started_at_us = clock_wall_us(),
		};
		chunks[i] = (struct output_chunk){ submissions[i].id, 1, 1, 0, 0, { printed, sizeof(printed) } };
	}
	struct store_settle settle = {
		.transitions = transitions, .count = TASKS, .chunks = chunks, .chunk_count = TASKS
	};
	UNTIL_DONE(settle, &settle);
	for (int i = 0; i < TASKS; i++) {
		CHECK_INT(settle.results[i].status, SETTLE_APPLIED);
		CHECK_INT(settle.results[i].event_count, 2);
	}
	store_operation_fini(&settle.operation);
}

/* The script with one fault in it; false when it is over before the fault strikes. */
static bool run_script(enum fault fault, int number)
{
	struct submission submissions[TASKS];
	snprintf(directory, sizeof(directory), "/tmp/assay-fault-XXXXXX");
	REQUIRE(mkdtemp(directory));
	harness_open(h, &fixture, true);
	for (int i = 0; i < TASKS; i++)
		submissions[i] = submission_of(h);
	faulty_vfs_arm(fault, number);
	submit_all(submissions);
	claim_all();
	settle_all(submissions);
	bool struck = faulty_vfs_disarm();
	harness_wait(h, &h->available);
	harness_reopen(h);
	for (int i = 0; i < TASKS; i++) {
		CHECK_INT(task_of(h, &submissions[i].id).status, TASK_COMPLETED);
		CHECK_STR(events_of(h, &submissions[i].id), "QRC");
	}
	harness_close(h);
	if (!CHECK_INT(sqlite_check(directory), 0))
		printf("# with fault %d at %d\n", fault, number);
	remove_tree(directory);
	return struck;
}

/* Each step-th n: the writes of one transaction are much alike, and the test is to stay short. */
static void run_all(enum fault fault, int step)
{
	int number = 1;
	fixture.loop = uv_default_loop();
	while (run_script(fault, number))
		number += step;
	printf("# %d operations\n", number - 1);
	CHECK(number > 1);
}

TEST(a_write_may_find_the_disk_full)
{
	run_all(FAULT_WRITE_FULL, 13);
}

TEST(a_write_may_be_torn)
{
	run_all(FAULT_WRITE_TORN, 13);
}

TEST(a_sync_may_fail)
{
	run_all(FAULT_SYNC, 1);
}

int main(int argc, char **argv)
{
	faulty_vfs_install();
	return test_main(argc, argv);
}
