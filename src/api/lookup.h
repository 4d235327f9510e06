/* From what a client calls a task to its row: full ids and job names without a look-up, prefixes and suffixes through
 * the store. */
#ifndef ASSAY_API_LOOKUP_H
#define ASSAY_API_LOOKUP_H

#include "api/call.h"
#include "assay/task.h"

/* Sets call->id and call->attempt from call->argument and goes on with `next`, at once or later. What names no task or
 * several is answered here: 404, 409 with at most 20 candidates. A full id is not checked for existence. */
void call_resolve(struct call *call, void (*next)(struct call *call));

/* The task call->id as this replica runs it, NULL when it does not, or the caller may not see it. Borrowed for the
 * loop's turn. */
const struct task *call_own_task(const struct call *call);

/* Reads the row call->id and goes on with `next`; the task lives as long as the call. Where there is none: 404. */
void call_read_task(struct call *call, bool with_params, void (*next)(struct call *call, const struct task *task));

#endif
