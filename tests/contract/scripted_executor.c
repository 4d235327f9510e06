#include "scripted_executor.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

static struct scripted_executor *scripted(const struct executor *executor)
{
	return CONTAINER_OF((struct executor *)executor, struct scripted_executor, executor);
}

static int start(struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err)
{
	scripted(executor)->listener = listener;
	scripted(executor)->owner = owner;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct scripted_executor *self = handle->data;
	self->on_stopped(self->stop_owner);
}

static void stop(struct executor *executor, void (*on_stopped)(void *owner), void *owner)
{
	struct scripted_executor *self = scripted(executor);
	self->on_stopped = on_stopped;
	self->stop_owner = owner;
	uv_close((uv_handle_t *)&self->stopper, on_closed);
}

static void free_nothing(struct executor *executor)
{
}

static const struct executor_status *status(const struct executor *executor)
{
	return &scripted(executor)->status;
}

static void run(struct executor *executor, struct job *const *jobs, size_t count)
{
	struct scripted_executor *self = scripted(executor);
	for (size_t i = 0; i < count; i++)
		self->jobs[self->job_count++] = jobs[i];
	self->runs += count;
	uv_stop(self->loop);
}

static void proceed(struct executor *executor, struct job *job, bool go_on)
{
	scripted(executor)->proceeds++;
	scripted(executor)->last_proceed = go_on;
	uv_stop(scripted(executor)->loop);
}

static void cancel(struct executor *executor, struct job *job)
{
	scripted(executor)->cancels++;
	uv_stop(scripted(executor)->loop);
}

static void adopt(struct executor *executor, struct job *job)
{
	struct scripted_executor *self = scripted(executor);
	self->jobs[self->job_count++] = job;
	self->adoptions++;
	uv_stop(self->loop);
}

static void discard(struct executor *executor, const struct uuid *task_id, int attempt)
{
	struct scripted_executor *self = scripted(executor);
	self->discards++;
	self->last_discarded = *task_id;
	self->last_discarded_attempt = attempt;
	uv_stop(self->loop);
}

static const struct executor_ops ops = {
	.start = start,
	.stop = stop,
	.free = free_nothing,
	.status = status,
	.run = run,
	.proceed = proceed,
	.cancel = cancel,
	.adopt = adopt,
	.discard = discard,
};

void scripted_init(struct scripted_executor *self, uv_loop_t *loop, int slots)
{
	*self = (struct scripted_executor){ .executor.ops = &ops, .loop = loop };
	self->status = (struct executor_status){ .name = BYTES_LITERAL("scripted"), .slots = slots };
	uv_timer_init(loop, &self->stopper);
	self->stopper.data = self;
}

void scripted_started(struct scripted_executor *self)
{
	const struct job_started started = { .at_us = clock_wall_us() };
	self->listener->on_started(self->owner, self->jobs[0], &started);
}

void scripted_output(struct scripted_executor *self, size_t run, int stream, const char *text)
{
	self->listener->on_output(self->owner, self->jobs[0], STEP_RUN, run, stream, bytes_of(text));
}

void scripted_step(
	struct scripted_executor *self, enum step_kind kind, size_t run, enum task_reason reason, int exit_code)
{
	const struct step_end end = { .kind = kind, .run_index = run, .reason = reason, .exit_code = exit_code };
	self->listener->on_step_ended(self->owner, self->jobs[0], &end);
}

void scripted_end(struct scripted_executor *self, enum task_reason reason, bool never_started)
{
	const struct job_end end = { .reason = reason,
		.never_started = never_started,
		.at_us = clock_wall_us(),
		.message = "as the script says" };
	struct job *job = self->jobs[0];
	memmove(self->jobs, self->jobs + 1, --self->job_count * sizeof(self->jobs[0]));
	self->listener->on_ended(self->owner, job, &end);
}
