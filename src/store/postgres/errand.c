/* Operations on their way: from the lane's queue into groups of statements, one after the other, and back to their
 * callers.
 *
 *   hand_in ─► lane->waiting ─► begin() ─► (group) ─► answered() ─► … ─► done()
 *                                  ▲                      │
 *                                  └── deadlock, try again ┘
 *
 * A lane that writes has one errand on its way at a time, so that operations of one kind are carried out in the order
 * they came; lanes that read or submit have several. An errand of a lane that the store can do without waits a moment for its
 * connection; else one whose connection is not there comes back from postgres_submit() as NOT_SENT, and so to its
 * caller as STORE_AWAY. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"

#define TRIES_MOST 8
#define PATIENCE_MS 3000

/* Where the others are up, one that is made anew is worth a moment. */
static bool is_awaited(const struct lane *lane)
{
	const struct postgres_store *store = lane->store;
	return !lane->up && !lane->vital && !lane->given_up && store->told_available && store->state == STATE_RUNNING;
}

static void on_patience_over(uv_timer_t *timer)
{
	struct postgres_store *store = timer->data;
	for (int i = 0; i < LANE_COUNT; i++) {
		store->lanes[i].given_up = !store->lanes[i].up;
		errand_pump(&store->lanes[i]);
	}
}

void errand_pump(struct lane *lane)
{
	uv_timer_t *patience = &lane->store->patience;
	if (!list_empty(&lane->waiting) && is_awaited(lane) && !uv_is_active((uv_handle_t *)patience))
		uv_timer_start(patience, on_patience_over, PATIENCE_MS, 0);
	while (lane->running < lane->depth && !is_awaited(lane)) {
		struct list *link = list_pop_front(&lane->waiting);
		if (!link)
			return;
		lane->running++;
		struct errand *errand = LIST_ENTRY(link, struct errand, link);
		errand->begin(errand);
	}
}

static void refuse(struct errand *errand, const struct err *why)
{
	errand->operation->outcome = errand->unknown_before ? STORE_UNKNOWN : STORE_AWAY;
	errand->operation->err = *why;
	list_push_back(&errand->store->refused, &errand->link);
	postgres_store_turn(errand->store);
}

void errand_refuse_all(struct lane *lane)
{
	struct err err;
	err_set(&err, -ESHUTDOWN, "the store is stopping");
	for (struct list *link; (link = list_pop_front(&lane->waiting));)
		refuse(LIST_ENTRY(link, struct errand, link), &err);
}

void errand_hand_in(
	struct postgres_store *store, enum lane_name lane, struct store_operation *operation, errand_fn *begin)
{
	struct errand *errand = alloc(sizeof(*errand));
	errand->store = store;
	errand->lane = &store->lanes[lane];
	errand->operation = operation;
	errand->begin = begin;
	/* Its caller does not know yet whether it was carried out: to be away now would not mean that nothing was
	 * changed. */
	errand->unknown_before = operation->outcome == STORE_UNKNOWN;
	arena_fini(&operation->arena);
	store->errands++;
	if (store->state == STATE_RUNNING) {
		list_push_back(&errand->lane->waiting, &errand->link);
		errand_pump(errand->lane);
		return;
	}
	assert(store->state == STATE_STOPPING);
	struct err err;
	err_set(&err, -ESHUTDOWN, "the store is stopping");
	refuse(errand, &err);
}

/* ---- groups ---- */

static void on_answered(struct postgres_group *group)
{
	struct errand *errand = group->owner;
	if (group->outcome == POSTGRES_OK) {
		if (errand->registers) {
			free((char *)errand->store->registered.data);
			errand->store->registered =
				(struct bytes){ bytes_copy_string(errand->incarnation), errand->incarnation.len };
			errand->registers = false;
		}
		errand->answered(errand);
		return;
	}
	bool again = group->outcome == POSTGRES_FAILED &&
		     (memcmp(group->sqlstate, "40001", 5) == 0 || memcmp(group->sqlstate, "40P01", 5) == 0 ||
			     memcmp(group->sqlstate, "55P03", 5) == 0);
	if (again && ++errand->tries < TRIES_MOST) {
		arena_fini(&errand->operation->arena);
		errand->begin(errand);
		return;
	}
	if (group->outcome == POSTGRES_FAILED && errand->refused)
		errand->refused(errand);
	else
		errand_fail(errand);
}

void errand_group(struct errand *errand)
{
	postgres_group_reset(&errand->group);
	errand->group.done = on_answered;
	errand->group.owner = errand;
	errand->registers = false;
	errand->main = 0;
}

void errand_add(struct errand *errand, const struct postgres_statement *statement)
{
	errand->main = errand->group.call_count;
	postgres_group_add(&errand->group, statement);
}

static bool is_read(const struct lane *lane)
{
	return lane->name == LANE_READ || lane->name == LANE_SCAN;
}

void errand_planner(struct errand *errand)
{
	postgres_group_add(&errand->group, &errand->store->write[is_read(errand->lane) ? WRITE_READER : WRITE_PLANNER]);
}

void errand_register(struct errand *errand, struct bytes incarnation)
{
	if (!incarnation.data || bytes_equal(incarnation, errand->store->registered))
		return;
	postgres_group_add(&errand->group, &errand->store->write[WRITE_REGISTER]);
	postgres_put_text(&errand->group, incarnation);
	errand->registers = true;
	errand->incarnation = incarnation;
}

void errand_send(struct errand *errand, errand_fn *answered)
{
	errand->answered = answered;
	postgres_submit(errand->lane->postgres, &errand->group);
}

const PGresult *errand_result(const struct errand *errand)
{
	return errand->group.results[errand->main];
}

/* ---- the end ---- */

void errand_done(struct errand *errand, enum store_outcome outcome)
{
	struct lane *lane = errand->lane;
	struct postgres_store *store = errand->store;
	struct store_operation *operation = errand->operation;
	operation->outcome = outcome;
	if (outcome == STORE_OK)
		operation->err = (struct err){ 0 };
	postgres_group_fini(&errand->group);
	arena_fini(&errand->arena);
	free(errand);
	lane->running--;
	operation->done(operation);
	store->errands--;
	errand_pump(lane);
	if (store->state == STATE_STOPPING && store->errands == 0)
		postgres_store_turn(store);
}

/* What the server says and time mends: it is shutting down or starting up, is a standby, has no room for a connection,
 * was told to stop the statement, or deadlocks would not end. */
static bool passes(const char *sqlstate)
{
	static const char *const away[] = { "57P01", "57P02", "57P03", "57014", "53300", "25006", "40001", "40P01",
		"55P03" };
	for (size_t i = 0; i < ARRAY_SIZE(away); i++)
		if (memcmp(sqlstate, away[i], 5) == 0)
			return true;
	return memcmp(sqlstate, "08", 2) == 0;
}

void errand_fail(struct errand *errand)
{
	if (errand->group.outcome == POSTGRES_UNKNOWN || errand->group.outcome == POSTGRES_NOT_SENT)
		postgres_store_lost(errand->lane, &errand->group.err);
	const struct postgres_group *group = &errand->group;
	bool slow =
		is_read(errand->lane) && group->outcome == POSTGRES_FAILED && memcmp(group->sqlstate, "57014", 5) == 0;
	enum store_outcome outcome = group->outcome == POSTGRES_UNKNOWN    ? STORE_UNKNOWN
				     : group->outcome == POSTGRES_NOT_SENT ? STORE_AWAY
				     : slow                                ? STORE_FAILED
				     : passes(group->sqlstate)             ? STORE_AWAY
									   : STORE_FAILED;
	if (outcome == STORE_AWAY && errand->unknown_before)
		outcome = STORE_UNKNOWN;
	errand->operation->err = group->err;
	if (group->outcome == POSTGRES_FAILED)
		errand->operation->err.code = memcmp(group->sqlstate, "53100", 5) == 0 ? -ENOSPC : -EIO;
	if (slow)
		err_set(&errand->operation->err, -ETIMEDOUT, "the database needed too long for this read: %s",
			group->err.message);
	if (outcome == STORE_UNKNOWN)
		marks_drop(errand->store); /* it may have brought rows */
	arena_fini(&errand->operation->arena);
	errand_done(errand, outcome);
}
