/* What the two files of settlements share: write_settle.c makes transitions, settle_again.c tells those that had been
 * made. */
#ifndef ASSAY_STORE_POSTGRES_SETTLE_H
#define ASSAY_STORE_POSTGRES_SETTLE_H

#include "store/postgres/internal.h"

/* All that one statement does to one task: the task's next transitions that share a guard, up to the one by which it
 * leaves RUNNING. */
struct fold {
	struct uuid id;
	const struct transition *first; /* whose guard it is; borrowed, as all of these */
	const struct transition *start; /* NULL: it does not start */
	const struct transition *leave; /* NULL: it stays */
	size_t *members; /* indices of the transitions; borrowed from the round */
	size_t member_count, step_count;
};

struct settling {
	size_t *order; /* indices of the transitions, by task and then as they came */
	bool *settled; /* per transition: its result is known */
	size_t *members; /* of the folds, one behind the other */
	struct fold *folds; /* of this round, in the order of their ids */
	size_t fold_count;
	bool plain; /* this round's statement */
	size_t settle_at; /* the statement's place in the group */
	size_t *again; /* transitions to be looked up */
	size_t again_count;
	size_t rounds;
	bool wrote_events;
};

/* Hash of who will publish what this settlement writes. */
int64_t settle_publisher(const struct store_settle *settle, const struct transition *t);
/* Events of a row's transition, tenant and so on filled in. */
struct event *settle_add_event(struct settle_result *result, const struct event *event);

/* Looks up what became of w->again, tells it, and ends the errand or begins the next round. */
void settle_again(struct errand *errand);
void settle_round(struct errand *errand);
void settle_finish(struct errand *errand);

#endif
