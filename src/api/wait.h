/* Calls that wait for the end of a task (?wait): woken by its terminal event, by the end of their time, or when the
 * service drains. */
#ifndef ASSAY_API_WAIT_H
#define ASSAY_API_WAIT_H

#include <stdint.h>

#include "base/uuid.h"

struct api;
struct call;
struct waiters;

struct waiters *waiters_new(struct api *api);
/* Nobody waits any more. */
void waiters_free(struct waiters *waiters, void (*on_freed)(void *owner), void *owner);

/* Answers the call: 200 with the full result when the task has ended by then, else 202 with its status. */
void wait_for_end(struct call *call, const struct uuid *id, int64_t wait_us);

#endif
