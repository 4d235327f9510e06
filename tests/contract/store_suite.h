/* The contract of stores: the same tests for every implementation.
 *
 * An implementation brings a fixture and calls store_suite_run() from its main(). */
#ifndef ASSAY_TESTS_CONTRACT_STORE_SUITE_H
#define ASSAY_TESTS_CONTRACT_STORE_SUITE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "assay/store.h"

enum store_suite_cut {
	SUITE_CUT_BEFORE_COMMIT, /* the operation is not done, its answer is STORE_UNKNOWN */
	SUITE_CUT_AFTER_COMMIT, /* the operation is done, its answer is STORE_UNKNOWN */
};

struct store_suite_fixture {
	uv_loop_t *loop; /* borrowed */
	/* A store that is not started: an empty one, or the one that was open before, on what it has written. */
	struct store *(*open)(struct store_suite_fixture *fixture, bool empty);
	/* The next operation that writes loses its connection. Only called while none is under way. */
	void (*cut)(struct store_suite_fixture *fixture, enum store_suite_cut when);
	/* The store's clock, and how to move it on. NULL where it cannot be moved: tests that need it are skipped. */
	int64_t (*now_us)(struct store_suite_fixture *fixture);
	void (*advance)(struct store_suite_fixture *fixture, int64_t us);
	bool reconnects; /* a lost connection is made again: what comes meanwhile is STORE_AWAY */
	void *owner;
};

int store_suite_run(int argc, char **argv, struct store_suite_fixture *fixture);

#endif
