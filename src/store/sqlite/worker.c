/* A thread with a queue of operations, which it takes all at once: what came while it was busy is one batch. */
#include "store/sqlite/worker.h"

#include <errno.h>

void operations_push(struct operations *list, struct store_operation *operation)
{
	operation->next = NULL;
	if (list->last)
		list->last->next = operation;
	else
		list->first = operation;
	list->last = operation;
}

void operations_move(struct operations *to, struct operations *from)
{
	if (!from->first)
		return;
	if (to->last)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	*from = (struct operations){ 0 };
}

static void work(void *owner)
{
	struct worker *worker = owner;
	for (;;) {
		struct operations list = { 0 };
		uint64_t idle_ns = worker->idle_ns ? worker->idle_ns(worker->owner) : 0;
		bool timed_out = false;
		uv_mutex_lock(&worker->mutex);
		while (!worker->queue.first && !worker->stopping && !timed_out) {
			if (idle_ns == 0)
				uv_cond_wait(&worker->wakened, &worker->mutex);
			else
				timed_out =
					uv_cond_timedwait(&worker->wakened, &worker->mutex, idle_ns) == UV_ETIMEDOUT;
		}
		bool end = worker->stopping && !worker->queue.first;
		operations_move(&list, &worker->queue);
		uv_mutex_unlock(&worker->mutex);
		if (end)
			break;
		worker->run(worker->owner, &list);
	}
	worker->ended(worker->owner);
}

int worker_start(struct worker *worker)
{
	worker->queue = (struct operations){ 0 };
	worker->stopping = false;
	if (uv_mutex_init(&worker->mutex) < 0)
		return -ENOMEM;
	if (uv_cond_init(&worker->wakened) < 0) {
		uv_mutex_destroy(&worker->mutex);
		return -ENOMEM;
	}
	if (uv_thread_create(&worker->thread, work, worker) < 0) {
		uv_cond_destroy(&worker->wakened);
		uv_mutex_destroy(&worker->mutex);
		return -EAGAIN;
	}
	return 0;
}

void worker_hand_over(struct worker *worker, struct operations *list)
{
	uv_mutex_lock(&worker->mutex);
	operations_move(&worker->queue, list);
	uv_cond_signal(&worker->wakened);
	uv_mutex_unlock(&worker->mutex);
}

void worker_stop(struct worker *worker)
{
	uv_mutex_lock(&worker->mutex);
	worker->stopping = true;
	uv_cond_signal(&worker->wakened);
	uv_mutex_unlock(&worker->mutex);
}

void worker_join(struct worker *worker)
{
	uv_thread_join(&worker->thread);
	uv_cond_destroy(&worker->wakened);
	uv_mutex_destroy(&worker->mutex);
}
