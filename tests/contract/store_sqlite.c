/* The SQLite store against the contract of stores. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/sqlite/sqlite_store.h"
#include "tests/contract/store_harness.h"
#include "tests/contract/store_suite.h"

/* Written by the test, read by the store's threads. */
static struct {
	char directory[64];
	int number;
	_Atomic int64_t ahead_us; /* of the system's clock */
	_Atomic bool before_commit, after_commit;
	struct log log;
} world;

static int64_t world_clock(void *owner)
{
	return clock_wall_us() + atomic_load(&world.ahead_us);
}

static bool before_commit(void *owner)
{
	return atomic_exchange(&world.before_commit, false);
}

static bool after_commit(void *owner)
{
	return atomic_exchange(&world.after_commit, false);
}

static struct store *open_store(struct store_suite_fixture *fixture, bool empty)
{
	char directory[96];
	world.number += empty;
	snprintf(directory, sizeof(directory), "%s/%d", world.directory, world.number);
	struct sqlite_store_options options = {
		.directory = directory,
		.loop = fixture->loop,
		.log = &world.log,
		.clock = world_clock,
		.faults = { .before_commit = before_commit, .after_commit = after_commit },
	};
	return sqlite_store_new(&options);
}

static void cut(struct store_suite_fixture *fixture, enum store_suite_cut when)
{
	atomic_store(when == SUITE_CUT_BEFORE_COMMIT ? &world.before_commit : &world.after_commit, true);
}

static int64_t now_us(struct store_suite_fixture *fixture)
{
	return world_clock(NULL);
}

static void advance(struct store_suite_fixture *fixture, int64_t us)
{
	atomic_fetch_add(&world.ahead_us, us);
}

int main(int argc, char **argv)
{
	struct store_suite_fixture fixture = {
		.loop = uv_default_loop(),
		.open = open_store,
		.cut = cut,
		.now_us = now_us,
		.advance = advance,
	};
	world.log = (struct log){ .fd = STDERR_FILENO, .level = LOG_WARNING };
	snprintf(world.directory, sizeof(world.directory), "/tmp/assay-store-XXXXXX");
	if (!mkdtemp(world.directory)) {
		printf("Bail out! no temporary directory\n");
		return 1;
	}
	int failed = store_suite_run(argc, argv, &fixture);
	remove_tree(world.directory);
	uv_loop_close(fixture.loop);
	return failed;
}
