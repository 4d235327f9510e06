/* A store before the real one that crosses the coordinator's plans: operations of a kind are kept from the store, or their answers are
 * lost, as the test says. A fake, for the coordinator's tests. */
#ifndef ASSAY_TESTS_CONTRACT_CROSSED_STORE_H
#define ASSAY_TESTS_CONTRACT_CROSSED_STORE_H

#include <uv.h>

#include "assay/store.h"

enum crossed_kind {
	CROSSED_SUBMIT,
	CROSSED_CLAIM,
	CROSSED_SETTLE,
	CROSSED_COMMAND,
	CROSSED_HEARTBEAT,
	CROSSED_TAKE,
	CROSSED_TRIM,
	CROSSED_COUNTS
};
#define CROSSED_KIND_COUNT 8

struct crossed_store {
	struct store store;
	struct store *inner; /* owned once it stands here */
	size_t away[CROSSED_KIND_COUNT]; /* so many of the next come back as STORE_AWAY, not having happened */
	size_t lost[CROSSED_KIND_COUNT]; /* … as STORE_UNKNOWN, having happened */
	bool held[CROSSED_KIND_COUNT]; /* their answers wait for crossed_release() */
	bool keep_submit; /* the next one is kept from the store until crossed_hand_in() */
	struct store_submit *kept;
	int parallel_submits; /* instead of the store's own; 0: as it says */
	/* Settlements that the store could not hold come back as STORE_FAILED; may be NULL. */
	bool (*refuses)(void *owner, const struct store_settle *settle);
	size_t refusals;
	bool buried; /* the next heartbeat is told that its incarnation is dead */
	size_t calls[CROSSED_KIND_COUNT], answers[CROSSED_KIND_COUNT]; /* answers: given on, or refused */
	void (*on_call)(void *owner, enum crossed_kind kind, struct store_operation *operation); /* may be NULL */
	void *owner;
	struct store_notices notices; /* what the coordinator hears by: for the test to tell */
	void *listener;
	size_t follows; /* of output */
	uv_timer_t later;
	struct store_operation *refused; /* to be given back by the timer */
	struct store_operation *waiting; /* held */
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

/* From the test's own code: the answers that were held come now. */
void crossed_release(struct crossed_store *crossed);
/* The submission that was kept goes to the store now. */
void crossed_hand_in(struct crossed_store *crossed);
void crossed_init(struct crossed_store *crossed, uv_loop_t *loop, struct store *inner);

#endif
