/* Operations on their way: from the lane's queue into groups of statements, one after the other, and back to their callers.
 *
 *   hand_in ─► lane->waiting ─► begin() ─► (group) ─► answered() ─► … ─► done()
 *                                  ▲                      │
 *                                  └── deadlock, try again ┘
 *
 * A lane that writes has one job on its way at a time, so that operations of one kind are carried out in the order they came; lanes that read have
 * several. A job whose connection is not there comes back from postgres_submit() as NOT_SENT, and so to its caller as STORE_AWAY. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"

#define TRIES_MOST 8

static void lane_pump(struct lane *lane)
{
	while (lane->running < lane->depth) {
		struct list *link = list_pop_front(&lane->waiting);
		if (!link)
			return;
		lane->running++;
		struct job *job = LIST_ENTRY(link, struct job, link);
		job->begin(job);
	}
}

static void refuse(struct job *job, const struct err *why)
{
	job->operation->outcome = job->unknown_before ? STORE_UNKNOWN : STORE_AWAY;
	job->operation->err = *why;
	list_push_back(&job->store->refused, &job->link);
	uv_timer_start(&job->store->turn, job->store->turn.timer_cb, 0, 0);
}

void job_refuse_all(struct lane *lane)
{
	struct err err;
	err_set(&err, -ESHUTDOWN, "the store is stopping");
	for (struct list *link; (link = list_pop_front(&lane->waiting));)
		refuse(LIST_ENTRY(link, struct job, link), &err);
}

void job_hand_in(struct postgres_store *store, enum lane_name lane, struct store_operation *operation, job_fn *begin)
{
	struct job *job = alloc(sizeof(*job));
	job->store = store;
	job->lane = &store->lanes[lane];
	job->operation = operation;
	job->begin = begin;
	/* Its caller does not know yet whether it was carried out: to be away now would not mean that nothing was changed. */
	job->unknown_before = operation->outcome == STORE_UNKNOWN;
	arena_fini(&operation->arena);
	store->jobs++;
	if (store->state == STATE_RUNNING) {
		list_push_back(&job->lane->waiting, &job->link);
		lane_pump(job->lane);
		return;
	}
	assert(store->state == STATE_STOPPING);
	struct err err;
	err_set(&err, -ESHUTDOWN, "the store is stopping");
	refuse(job, &err);
}

/* ---- groups ---- */

static void on_answered(struct postgres_group *group)
{
	struct job *job = group->owner;
	if (group->outcome == POSTGRES_OK) {
		if (job->registers) {
			free((char *)job->store->registered.data);
			job->store->registered =
				(struct bytes){ bytes_copy_string(job->incarnation), job->incarnation.len };
			job->registers = false;
		}
		job->answered(job);
		return;
	}
	bool again = group->outcome == POSTGRES_FAILED &&
		     (memcmp(group->sqlstate, "40001", 5) == 0 || memcmp(group->sqlstate, "40P01", 5) == 0 ||
			     memcmp(group->sqlstate, "55P03", 5) == 0);
	if (again && ++job->tries < TRIES_MOST) {
		arena_fini(&job->operation->arena);
		job->begin(job);
		return;
	}
	if (group->outcome == POSTGRES_FAILED && job->refused)
		job->refused(job);
	else
		job_fail(job);
}

void job_group(struct job *job)
{
	postgres_group_reset(&job->group);
	job->group.done = on_answered;
	job->group.owner = job;
	job->registers = false;
	job->main = 0;
}

void job_add(struct job *job, const struct postgres_statement *statement)
{
	job->main = job->group.call_count;
	postgres_group_add(&job->group, statement);
}

void job_planner(struct job *job)
{
	postgres_group_add(&job->group, &job->store->write[WRITE_PLANNER]);
}

void job_register(struct job *job, struct bytes incarnation)
{
	if (!incarnation.data || bytes_equal(incarnation, job->store->registered))
		return;
	postgres_group_add(&job->group, &job->store->write[WRITE_REGISTER]);
	postgres_put_text(&job->group, incarnation);
	job->registers = true;
	job->incarnation = incarnation;
}

void job_send(struct job *job, job_fn *answered)
{
	job->answered = answered;
	postgres_submit(job->lane->postgres, &job->group);
}

const PGresult *job_result(const struct job *job)
{
	return job->group.results[job->main];
}

/* ---- the end ---- */

void job_done(struct job *job, enum store_outcome outcome)
{
	struct lane *lane = job->lane;
	struct postgres_store *store = job->store;
	struct store_operation *operation = job->operation;
	operation->outcome = outcome;
	if (outcome == STORE_OK)
		operation->err = (struct err){ 0 };
	postgres_group_fini(&job->group);
	arena_fini(&job->arena);
	free(job);
	operation->done(operation);
	lane->running--;
	store->jobs--;
	lane_pump(lane);
	if (store->state == STATE_STOPPING && store->jobs == 0)
		uv_timer_start(&store->turn, store->turn.timer_cb, 0, 0);
}

/* What the server says and time mends: it is shutting down or starting up, is a standby, has no room for a connection, was told to stop the
 * statement, or deadlocks would not end. */
static bool passes(const char *sqlstate)
{
	static const char *const away[] = { "57P01", "57P02", "57P03", "57014", "53300", "25006", "40001", "40P01",
		"55P03" };
	for (size_t i = 0; i < ARRAY_SIZE(away); i++)
		if (memcmp(sqlstate, away[i], 5) == 0)
			return true;
	return memcmp(sqlstate, "08", 2) == 0;
}

void job_fail(struct job *job)
{
	const struct postgres_group *group = &job->group;
	enum store_outcome outcome = group->outcome == POSTGRES_UNKNOWN      ? STORE_UNKNOWN
				     : group->outcome == POSTGRES_NOT_SENT   ? STORE_AWAY
				     : passes(group->sqlstate)               ? STORE_AWAY
									     : STORE_FAILED;
	if (outcome == STORE_AWAY && job->unknown_before)
		outcome = STORE_UNKNOWN;
	job->operation->err = group->err;
	if (group->outcome == POSTGRES_FAILED)
		job->operation->err.code = memcmp(group->sqlstate, "53100", 5) == 0 ? -ENOSPC : -EIO;
	arena_fini(&job->operation->arena);
	job_done(job, outcome);
}
