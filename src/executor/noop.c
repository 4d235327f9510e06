/* Jobs wait in a list until a timer that is due at once reports them: nobody is called from within run(). A job that
 * asks before the next step waits between its runs. */
#include "executor/noop.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"

struct noop_job {
	struct list link;
	struct job *job; /* borrowed until its end is reported */
	size_t next_run;
	bool asked; /* waits for proceed() */
	bool started, over, cancelled, adopted;
};

struct noop {
	struct executor executor;
	uv_timer_t due;
	struct list jobs; /* struct noop_job */
	struct executor_status status;
	const struct executor_listener *listener;
	void *owner;
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

static struct noop *noop(const struct executor *executor)
{
	return CONTAINER_OF((struct executor *)executor, struct noop, executor);
}

static void on_due(uv_timer_t *timer);

static void wake(struct noop *noop)
{
	if (!uv_is_active((uv_handle_t *)&noop->due) && !uv_is_closing((uv_handle_t *)&noop->due))
		uv_timer_start(&noop->due, on_due, 0, 0);
}

static void job_end(struct noop *noop, struct noop_job *entry, enum task_reason reason)
{
	struct job *job = entry->job;
	const struct job_end end = { .reason = reason, .at_us = clock_wall_us() };
	list_remove(&entry->link);
	free(entry);
	job->executor_data = NULL;
	noop->status.busy--;
	noop->listener->on_ended(noop->owner, job, &end);
}

/* All runs up to the next question, or to the end. */
static void job_step(struct noop *noop, struct noop_job *entry)
{
	struct job *job = entry->job;
	const struct executor_listener *listener = noop->listener;
	if (!entry->started) {
		const struct job_started started = { .at_us = clock_wall_us() };
		entry->started = true;
		listener->on_started(noop->owner, job, &started);
	}
	while (!entry->over && entry->next_run < job->run_count) {
		size_t run = entry->next_run++;
		const struct step_end end = { .kind = STEP_RUN, .run_index = run, .at_us = clock_wall_us() };
		if (bytes_is(job->type, "test"))
			listener->on_output(noop->owner, job, STEP_RUN, run, 1, BYTES_LITERAL("pong\n"));
		entry->asked = job->ask_before_next && entry->next_run < job->run_count;
		listener->on_step_ended(noop->owner, job, &end);
		if (entry->asked)
			return;
	}
	job_end(noop, entry, REASON_NONE);
}

static void on_closed(uv_handle_t *handle)
{
	struct noop *noop = handle->data;
	noop->on_stopped(noop->stop_owner);
}

static void on_due(uv_timer_t *timer)
{
	struct noop *noop = timer->data;
	struct list jobs;
	list_init(&jobs);
	list_splice_back(&jobs, &noop->jobs);
	struct list *link;
	while ((link = list_pop_front(&jobs))) {
		struct noop_job *entry = LIST_ENTRY(link, struct noop_job, link);
		list_push_back(&noop->jobs, link);
		if (entry->cancelled)
			job_end(noop, entry, REASON_CANCELLED);
		else if (noop->on_stopped)
			job_end(noop, entry, REASON_EXECUTOR_LOST);
		else if (entry->adopted)
			job_end(noop, entry, REASON_WORKER_CRASH);
		else if (!entry->asked)
			job_step(noop, entry);
	}
	if (noop->on_stopped)
		uv_close((uv_handle_t *)&noop->due, on_closed);
}

static struct noop_job *job_add(struct noop *noop, struct job *job)
{
	struct noop_job *entry = alloc(sizeof(*entry));
	entry->job = job;
	job->executor_data = entry;
	list_push_back(&noop->jobs, &entry->link);
	noop->status.busy++;
	wake(noop);
	return entry;
}

static void noop_run(struct executor *executor, struct job *const *jobs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		job_add(noop(executor), jobs[i]);
}

static void noop_adopt(struct executor *executor, struct job *job)
{
	job_add(noop(executor), job)->adopted = true;
}

static void noop_proceed(struct executor *executor, struct job *job, bool go_on)
{
	struct noop_job *entry = job->executor_data;
	if (!entry)
		return;
	entry->asked = false;
	entry->over = !go_on;
	wake(noop(executor));
}

static void noop_cancel(struct executor *executor, struct job *job)
{
	struct noop_job *entry = job->executor_data;
	if (!entry)
		return;
	entry->cancelled = true;
	wake(noop(executor));
}

static int noop_start(struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err)
{
	noop(executor)->listener = listener;
	noop(executor)->owner = owner;
	return 0;
}

static void noop_stop(struct executor *executor, void (*on_stopped)(void *owner), void *owner)
{
	struct noop *self = noop(executor);
	self->on_stopped = on_stopped;
	self->stop_owner = owner;
	wake(self);
}

static void noop_free(struct executor *executor)
{
	struct noop *self = noop(executor);
	while (!list_empty(&self->jobs))
		free(LIST_ENTRY(list_pop_front(&self->jobs), struct noop_job, link));
	free(self);
}

static const struct executor_status *noop_status(const struct executor *executor)
{
	return &noop(executor)->status;
}

static const struct executor_ops ops = {
	.start = noop_start,
	.stop = noop_stop,
	.free = noop_free,
	.status = noop_status,
	.run = noop_run,
	.proceed = noop_proceed,
	.cancel = noop_cancel,
	.adopt = noop_adopt,
};

struct executor *noop_executor_new(uv_loop_t *loop, int slots)
{
	struct noop *noop = alloc(sizeof(*noop));
	noop->executor.ops = &ops;
	noop->status = (struct executor_status){
		.name = BYTES_LITERAL("noop"),
		.health = EXECUTOR_HEALTHY,
		.detail = BYTES_LITERAL("ends every job at once; for smoke tests and benches"),
		.isolation = BYTES_LITERAL("nothing is run"),
		.slots = slots,
	};
	list_init(&noop->jobs);
	uv_timer_init(loop, &noop->due);
	noop->due.data = noop;
	return &noop->executor;
}
