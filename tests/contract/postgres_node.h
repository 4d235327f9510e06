/* A replica's PostgreSQL store and all that it told, for tests with several of them on one loop. */
#ifndef ASSAY_TESTS_CONTRACT_POSTGRES_NODE_H
#define ASSAY_TESTS_CONTRACT_POSTGRES_NODE_H

#include "base/log.h"
#include "store/postgres/postgres_store.h"
#include "tests/contract/store_harness.h"

struct node {
	struct harness harness; /* for the do_… of store_harness.h */
	struct store_suite_fixture fixture;
	struct log log;
	bool works, cancels, events, outputs, outputs_wanted, reopens; /* told, until the test clears them */
	bool failed, stopped;
	struct uuid about; /* which task the last of these was about */
	struct err why;
};

/* Makes and starts a store; node_wait() for what it tells. */
void node_open(struct node *node, uv_loop_t *loop, const char *url, const char *schema);
void node_up(struct node *node, uv_loop_t *loop, const char *url, const char *schema); /* … and available */
void node_wait(struct node *node, const bool *flag);
void node_close(struct node *node);

#endif
