/* A thread with a queue of operations, which it takes all at once. */
#ifndef ASSAY_STORE_SQLITE_WORKER_H
#define ASSAY_STORE_SQLITE_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "assay/store.h"

/* A list of operations, linked by their `next`. */
struct operations {
	struct store_operation *first, *last; /* borrowed: the callers' */
};

void operations_push(struct operations *list, struct store_operation *operation);
void operations_move(struct operations *to, struct operations *from); /* `from` is empty then */

struct worker {
	uv_thread_t thread;
	uv_mutex_t mutex;
	uv_cond_t wakened;
	struct operations queue; /* under the mutex, as is stopping */
	bool stopping;
	/* On the thread. `list` is all that waited; empty when nothing came for idle_ns. */
	void (*run)(void *owner, struct operations *list);
	void (*ended)(void *owner); /* on the thread, last */
	uint64_t (*idle_ns)(void *owner); /* on the thread; 0: wait for ever. May be NULL */
	void *owner;
};

/* run, ended, idle_ns and owner are set. A negative errno value where no thread can be had. */
int worker_start(struct worker *worker);
void worker_hand_over(
	struct worker *worker, struct operations *list); /* from the loop's thread; `list` is empty then */
void worker_stop(struct worker *worker); /* it ends once its queue is empty: `ended` tells */
void worker_join(struct worker *worker); /* when it has ended, or is about to */

#endif
