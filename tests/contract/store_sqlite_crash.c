/* The SQLite store killed at random moments: what was told as done is there, once, and everything fits together.
 *
 * A child submits, claims and settles as fast as it can and tells the parent of each answer through a pipe; the parent
 * kills it after a random number of them, opens the store, and checks. The next child goes on where the last was
 * killed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/sqlite/sqlite_store.h"
#include "task/lifecycle.h"
#include "tests/contract/sqlite_check.h"
#include "tests/contract/store_harness.h"
#include "tests/unit/test.h"

#define ROUNDS 12
#define BATCH 20
#define SLOTS 10

/* What the child tells: this task was accepted, or has ended. */
struct told {
	char what; /* 'S', 'E' */
	struct uuid id;
};

struct record {
	struct told *told; /* owned */
	size_t count, capacity;
};

static char directory[64];
static struct harness harness;
static struct harness *const h = &harness;

static struct store *open_store(struct store_suite_fixture *fixture, bool empty)
{
	struct sqlite_store_options options = { .directory = directory, .loop = fixture->loop };
	return sqlite_store_new(&options);
}

static struct store_suite_fixture fixture = { .open = open_store };

static void tell(int fd, char what, const struct uuid *id)
{
	struct told told = { .what = what, .id = *id };
	if (write(fd, &told, sizeof(told)) != sizeof(told))
		_exit(1);
}

static void submit_some(int fd, const char *locked_by)
{
	struct submission submissions[BATCH];
	struct submit_item items[BATCH];
	for (int i = 0; i < BATCH; i++) {
		submissions[i] = submission_of(h);
		items[i] = (struct submit_item){ &submissions[i], i == 0 };
	}
	struct store_submit submit = { .items = items, .count = BATCH, .locked_by = bytes_of(locked_by) };
	if (do_submit(h, &submit) != STORE_OK)
		_exit(1);
	for (int i = 0; i < BATCH; i++)
		tell(fd, 'S', &submissions[i].id);
	store_operation_fini(&submit.operation);
}

static void settle_tasks(int fd, const struct task *tasks, size_t count, const char *locked_by)
{
	struct transition transitions[SLOTS];
	struct output_chunk chunks[SLOTS];
	for (size_t i = 0; i < count; i++) {
		transitions[i] = (struct transition){
			.kind = i % 4 == 0 ? TRANSITION_RETRY : TRANSITION_END,
			.guard = { tasks[i].id, TASK_RUNNING, tasks[i].attempt, bytes_of(locked_by) },
			.target = i % 3 ? TASK_COMPLETED : TASK_FAILED,
			.at_us = clock_wall_us(),
			.started_at_us = clock_wall_us(),
		};
		chunks[i] = (struct output_chunk){ tasks[i].id, tasks[i].attempt, 1, 0, 0, BYTES_LITERAL("out") };
	}
	struct store_settle settle = {
		.transitions = transitions, .count = count, .chunks = chunks, .chunk_count = count
	};
	if (do_settle(h, &settle) != STORE_OK)
		_exit(1);
	for (size_t i = 0; i < count; i++)
		if (settle.results[i].status != SETTLE_APPLIED)
			_exit(1);
		else if (task_status_ended(settle.results[i].task_status))
			tell(fd, 'E', &tasks[i].id);
	store_operation_fini(&settle.operation);
}

static void child(int fd, int round)
{
	char locked_by[32];
	snprintf(locked_by, sizeof(locked_by), "me#%d", round);
	REQUIRE(uv_loop_fork(fixture.loop) == 0);
	harness_open(h, &fixture, false);
	for (;;) {
		struct store_take take = { .kind = TAKE_ALL, .locked_by = bytes_of(locked_by), .limit = SLOTS };
		if (do_take(h, &take) != STORE_OK)
			_exit(1);
		bool more = take.more;
		settle_tasks(fd, take.tasks, take.count, locked_by);
		store_operation_fini(&take.operation);
		if (!more)
			break;
	}
	for (;;) {
		submit_some(fd, locked_by);
		struct claim_lane lane = { BYTES_LITERAL("noop"), SLOTS };
		struct store_claim claim = { .locked_by = bytes_of(locked_by), .lanes = &lane, .lane_count = 1 };
		if (do_claim(h, &claim) != STORE_OK)
			_exit(1);
		settle_tasks(fd, claim.tasks, claim.count, locked_by);
		store_operation_fini(&claim.operation);
	}
}

/* Reads what the child tells, kills it after `most`, and reads what it had told before it died. */
static void follow(int fd, pid_t pid, size_t most, struct record *record)
{
	struct told told;
	size_t read_count = 0;
	ssize_t length;
	while ((length = read(fd, &told, sizeof(told))) == sizeof(told)) {
		if (record->count == record->capacity) {
			record->capacity = record->capacity ? record->capacity * 2 : 1024;
			record->told = realloc_array(record->told, record->capacity, sizeof(record->told[0]));
		}
		record->told[record->count++] = told;
		if (++read_count == most)
			kill(pid, SIGKILL);
	}
	CHECK_INT(length, 0);
	CHECK(read_count >= most);
}

static void check_told(const struct record *record)
{
	int64_t missing = 0, not_ended = 0;
	for (size_t i = 0; i < record->count; i++) {
		struct task task = task_of(h, &record->told[i].id);
		missing += uuid_is_nil(&task.id);
		not_ended += record->told[i].what == 'E' && !task_status_ended(task.status);
	}
	CHECK_INT(missing, 0);
	CHECK_INT(not_ended, 0);
}

TEST(what_was_answered_outlives_a_kill)
{
	struct record record = { 0 };
	snprintf(directory, sizeof(directory), "/tmp/assay-crash-XXXXXX");
	REQUIRE(mkdtemp(directory));
	fixture.loop = uv_default_loop();
	for (int round = 0; round < ROUNDS; round++) {
		int fds[2];
		uint8_t random[2];
		random_bytes(random, sizeof(random));
		size_t most = 1 + (random[0] | (size_t)random[1] << 8) % 700;
		fflush(stdout);
		REQUIRE(pipe(fds) == 0);
		pid_t pid = fork();
		REQUIRE(pid >= 0);
		if (pid == 0) {
			close(fds[0]);
			child(fds[1], round);
		}
		close(fds[1]);
		follow(fds[0], pid, most, &record);
		close(fds[0]);
		int status;
		REQUIRE(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		harness_open(h, &fixture, false);
		if (round == ROUNDS - 1)
			check_told(&record);
		harness_close(h);
		CHECK_INT(sqlite_check(directory), 0);
	}
	printf("# %zu answers in %d rounds\n", record.count, ROUNDS);
	free(record.told);
	remove_tree(directory);
}

TEST_MAIN()
