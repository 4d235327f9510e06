/* Attempts: a row becomes a job, and the executor's reports find their attempt again.
 *
 *   ATTEMPT_WAITING ─started─► ATTEMPT_STARTED ─ended─► ATTEMPT_ENDED ─compared─► ATTEMPT_SETTLING ─committed─► freed
 *
 * The attempt owns the job and every byte it points to; the executor borrows them until it reports the end. */
#include "coordinator/internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define ARENA_FIXED 512 /* what an attempt needs beyond what stands in its params, about */

static struct bytes keep(struct arena *arena, struct bytes from)
{
	return arena_bytes(arena, from);
}

static void task_copy(struct arena *arena, const struct task *from, struct task *to)
{
	*to = *from;
	to->locked_by = keep(arena, from->locked_by);
	to->tenant = keep(arena, from->tenant);
	to->type = keep(arena, from->type);
	to->queue = keep(arena, from->queue);
	to->executor = keep(arena, from->executor);
	to->eval_id = keep(arena, from->eval_id);
	to->idempotency_key = keep(arena, from->idempotency_key);
	to->description = keep(arena, from->description);
	to->domain = keep(arena, from->domain);
	to->error = keep(arena, from->error);
	to->node = keep(arena, from->node);
	to->pod = keep(arena, from->pod);
	to->image = keep(arena, from->image);
	to->traceparent = keep(arena, from->traceparent);
	to->metadata = keep(arena, from->metadata);
	to->callback_url = keep(arena, from->callback_url);
	to->params = BYTES_NONE;
	to->result = BYTES_NONE;
}

/* The runs of the job: one for each test, or the evaluation's own. Expected outputs stay behind. */
static void job_fill_runs(struct attempt *attempt)
{
	const struct evaluation *evaluation = &attempt->evaluation;
	size_t count = evaluation->test_count ? evaluation->test_count : 1;
	struct job_run *runs = arena_array(&attempt->arena, count, sizeof(*runs));
	for (size_t i = 0; i < evaluation->test_count; i++) {
		runs[i] = evaluation->tests[i].run;
		runs[i].judged = evaluation->tests[i].expected.data != NULL;
	}
	if (!evaluation->test_count)
		runs[0] = (struct job_run){
			.stdin_data = evaluation->stdin_data,
			.args = evaluation->args,
			.arg_count = evaluation->arg_count,
			.timeout_us = evaluation->timeout_us,
		};
	attempt->job.runs = runs;
	attempt->job.run_count = count;
}

/* `code` has no name until its language gives it one. */
static void job_fill_files(struct attempt *attempt, const struct language *language)
{
	const struct evaluation *evaluation = &attempt->evaluation;
	struct job_file *files = arena_array(&attempt->arena, evaluation->file_count, sizeof(*files));
	for (size_t i = 0; i < evaluation->file_count; i++) {
		files[i] = evaluation->files[i];
		if (files[i].path.len == 0)
			files[i].path = bytes_of(language->source);
	}
	attempt->job.files = files;
	attempt->job.file_count = evaluation->file_count;
}

/* To look for a regular expression may take longer than the run that is judged by it. Of one evaluation that is done
 * once at a time: otherwise a thousand tests would fill the thread pool, which everybody's requests go through, and
 * their outputs the memory. */
static bool waits_for_verdicts(const struct evaluation *evaluation)
{
	bool waits = evaluation->fail_fast;
	for (size_t i = 0; i < evaluation->test_count && !waits; i++)
		waits = evaluation->tests[i].compare == COMPARE_REGEX;
	return waits;
}

static int job_fill_evaluation(struct attempt *attempt, struct bytes params, struct err *err)
{
	struct coordinator *c = attempt->coordinator;
	struct evaluation *evaluation = &attempt->evaluation;
	int result = evaluation_load(params, &attempt->arena, evaluation, err);
	if (result < 0)
		return result;
	const struct language *language = languages_find(c->options.languages, evaluation->language);
	if (!language)
		return err_set(err, -ENOENT, "the language %.*s is no longer defined", (int)evaluation->language.len,
			evaluation->language.data);

	job_fill_files(attempt, language);
	job_fill_runs(attempt);
	const struct coordinator_settings *settings = &c->options.settings;
	struct job *job = &attempt->job;
	job->language = bytes_of(language->name);
	job->entrypoint = evaluation->entrypoint;
	job->image = evaluation->image;
	job->env = evaluation->env;
	job->env_count = evaluation->env_count;
	job->ask_before_next = evaluation->test_count > 1 && waits_for_verdicts(evaluation);
	job->limits = (struct job_limits){
		.memory_bytes = evaluation->memory_bytes,
		.cpu_millis = evaluation->cpu_millis,
		.compile_timeout_us = evaluation->timeout_us,
		.total_timeout_us = settings->total_timeout_us,
		.disk_bytes = settings->disk_bytes,
		.processes = settings->processes,
		.output_bytes = settings->output_kept,
	};
	if (evaluation->test_count) {
		attempt->tests = arena_array(&attempt->arena, evaluation->test_count, sizeof(*attempt->tests));
		for (size_t i = 0; i < evaluation->test_count; i++)
			attempt->tests[i].output = BUFFER_MAX(settings->output_kept);
	}
	return 0;
}

static void attempt_insert(struct coordinator *c, struct attempt *attempt)
{
	struct table_node *node = table_find(&c->attempts, attempt->node.key);
	if (node) {
		table_remove(&c->attempts, node);
		attempt->older = CONTAINER_OF(node, struct attempt, node);
	}
	table_insert(&c->attempts, &attempt->node);
	list_push_back(&c->all_attempts, &attempt->link);
	c->statistics.running = (int64_t)++c->attempt_count;
	tenant_running_add(c, attempt->task.tenant, 1);
}

static void attempt_remove(struct coordinator *c, struct attempt *attempt)
{
	struct attempt *newest = attempt_find(c, &attempt->task.id);
	if (newest == attempt) {
		table_remove(&c->attempts, &attempt->node);
		if (attempt->older)
			table_insert(&c->attempts, &attempt->older->node);
	} else {
		while (newest->older != attempt)
			newest = newest->older;
		newest->older = attempt->older;
	}
	list_remove(&attempt->link);
	c->statistics.running = (int64_t)--c->attempt_count;
	tenant_running_add(c, attempt->task.tenant, -1);
}

struct attempt *attempt_new(struct coordinator *c, const struct task *task, struct err *err)
{
	struct attempt *attempt = alloc(sizeof(*attempt));
	attempt->coordinator = c;
	attempt->lane = router_lane(c, task->executor);
	list_init(&attempt->chunks);
	list_init(&attempt->chunks_in_flight);
	list_init(&attempt->steps);
	list_init(&attempt->steps_in_flight);
	arena_begin(&attempt->arena, ARENA_FIXED + task->params.len);
	task_copy(&attempt->arena, task, &attempt->task);
	attempt->node.key = (struct bytes){ (const char *)attempt->task.id.bytes, sizeof(attempt->task.id.bytes) };
	attempt_insert(c, attempt);
	for (int i = 0; i < 2; i++)
		attempt->head[i] = BUFFER_MAX(EVENT_OUTPUT_MAX);
	attempt->compile_output = BUFFER_MAX(EVENT_OUTPUT_MAX);

	attempt->job = (struct job){
		.task_id = task->id,
		.run = task->run,
		.attempt = task->attempt,
		.name = bytes_of(job_name_format(&task->id, task->attempt, attempt->job_name)),
		.tenant = attempt->task.tenant,
		.eval_id = attempt->task.eval_id,
		.type = attempt->task.type,
		.pod = attempt->task.pod,
		.started_at_us = attempt->task.started_at_us,
		.traceparent = attempt->task.traceparent,
		.owner = attempt,
	};

	struct table_node *note = table_find(&c->cancel_notes, attempt->node.key);
	if (note) {
		table_remove(&c->cancel_notes, note);
		free(CONTAINER_OF(note, struct cancel_note, node));
		attempt->cancel_requested = true;
	}
	if (task->cancel_requested_at_us)
		attempt->cancel_requested = true;

	if (bytes_is(task->type, "evaluation")) {
		if (job_fill_evaluation(attempt, task->params, err) < 0) {
			outcome_lost(attempt, REASON_API_ERROR, err->message);
			return NULL;
		}
	} else {
		job_fill_runs(attempt);
	}
	if (!attempt->lane) {
		err_set(err, -ENOENT, "this replica has no executor called %.*s", (int)task->executor.len,
			task->executor.data);
		outcome_lost(attempt, REASON_WORKER_CRASH, err->message);
		return NULL;
	}
	return attempt;
}

struct attempt *attempt_find(const struct coordinator *c, const struct uuid *id)
{
	struct table_node *node =
		table_find(&c->attempts, (struct bytes){ (const char *)id->bytes, sizeof(id->bytes) });
	return node ? CONTAINER_OF(node, struct attempt, node) : NULL;
}

bool attempt_known(const struct coordinator *c, const struct task *task)
{
	for (const struct attempt *at = attempt_find(c, &task->id); at; at = at->older)
		if (!at->disowned && at->task.attempt >= task->attempt)
			return true;
	return false;
}

void attempts_run(struct coordinator *c, struct lane *lane, struct attempt **attempts, size_t count)
{
	struct job *jobs[64];
	size_t pending = 0;
	for (size_t i = 0; i < count; i++) {
		lane->occupied++;
		jobs[pending++] = &attempts[i]->job;
		if (pending == ARRAY_SIZE(jobs) || i + 1 == count) {
			lane->executor->ops->run(lane->executor, jobs, pending);
			pending = 0;
		}
	}
	for (size_t i = 0; i < count; i++)
		if (attempts[i]->cancel_requested)
			lane->executor->ops->cancel(lane->executor, &attempts[i]->job);
}

void attempt_adopt(struct attempt *attempt)
{
	struct executor *executor = attempt->lane->executor;
	attempt->lane->occupied++;
	executor->ops->adopt(executor, &attempt->job);
	if (attempt->cancel_requested)
		executor->ops->cancel(executor, &attempt->job);
}

bool attempt_outlives_service(const struct attempt *attempt)
{
	return attempt->lane && attempt->lane->executor->ops->status(attempt->lane->executor)->outlives_service;
}

void attempt_end(struct attempt *attempt, const struct job_end *end)
{
	if (!attempt->end)
		attempt->end = arena_alloc(&attempt->arena, sizeof(*attempt->end));
	attempt->end->job = *end;
}

void attempt_return(struct attempt *attempt)
{
	attempt->phase = ATTEMPT_ENDED;
	attempt_end(attempt, &(struct job_end){ .reason = REASON_EXECUTOR_LOST, .never_started = true });
	attempt->hand_back = true;
	outcome_job_ended(attempt);
}

void attempt_tell_live(const struct attempt *attempt, struct live_event event)
{
	struct bus *bus = attempt->coordinator->options.bus;
	event.task_id = attempt->task.id;
	event.run = attempt->task.run;
	event.attempt = attempt->task.attempt;
	event.timestamp_us = clock_wall_us();
	event.tenant = attempt->task.tenant;
	event.eval_id = attempt->task.eval_id;
	event.batch_id = attempt->task.batch_id;
	event.publisher = bytes_of(attempt->coordinator->locked_by);
	bus->ops->publish_live(bus, &event, 1);
}

void attempt_kill(struct attempt *attempt)
{
	if (attempt->phase <= ATTEMPT_STARTED && attempt->lane)
		attempt->lane->executor->ops->cancel(attempt->lane->executor, &attempt->job);
}

void attempt_disown(struct attempt *attempt)
{
	struct executor *executor = attempt->lane ? attempt->lane->executor : NULL;
	attempt->disowned = true;
	if (!executor)
		return;
	if (executor->ops->disown)
		executor->ops->disown(executor, &attempt->task.id, attempt->task.attempt);
	else if (!attempt_outlives_service(attempt))
		attempt_kill(attempt);
}

static void tell_settled(const struct attempt *attempt)
{
	struct executor *executor = attempt->lane ? attempt->lane->executor : NULL;
	if (executor && executor->ops->settled && attempt->written)
		executor->ops->settled(executor, &attempt->task.id, attempt->task.attempt);
}

void attempt_free(struct attempt *attempt)
{
	struct coordinator *c = attempt->coordinator;
	tell_settled(attempt);
	attempt_remove(c, attempt);
	list_remove(&attempt->settle_link);
	c->settle.deferred_count -= attempt->deferred;
	batch_forget(attempt);
	output_dispose(attempt);
	while (!list_empty(&attempt->steps))
		free(LIST_ENTRY(list_pop_front(&attempt->steps), struct pending_step, link));
	for (size_t i = 0; attempt->tests && i < attempt->evaluation.test_count; i++)
		buffer_fini(&attempt->tests[i].output);
	buffer_fini(&attempt->head[0]);
	buffer_fini(&attempt->head[1]);
	buffer_fini(&attempt->compile_output);
	arena_fini(&attempt->arena);
	free(attempt);
	coordinator_drained_check(c);
}

/* ---- what the executor reports ---- */

static void on_started(void *owner, struct job *job, const struct job_started *started)
{
	struct attempt *attempt = job->owner;
	struct coordinator *c = owner;
	attempt->phase = ATTEMPT_STARTED;
	attempt->task.started_at_us = started->at_us;
	attempt->task.node = keep(&attempt->arena, started->node);
	attempt->task.pod = keep(&attempt->arena, started->pod);
	attempt->task.image = keep(&attempt->arena, started->image);
	attempt->started_pending = true;
	attempt->start_published = started->published;
	c->statistics.started++;
	log_event(
		c->log, LOG_DEBUG, "code started", L_TASK(&attempt->task.id), L_INT("attempt", attempt->task.attempt));
	settle_enqueue_started(attempt);
}

/* A hidden test's output is compared and forgotten; a compiler's is told in the result, and is the error where
 * compiling failed. */
static void on_output(
	void *owner, struct job *job, enum step_kind step, size_t run_index, int stream, struct bytes data)
{
	struct attempt *attempt = job->owner;
	if (step == STEP_COMPILE) {
		size_t room = attempt->compile_output.max - attempt->compile_output.len;
		buffer_append(&attempt->compile_output, data.data, data.len < room ? data.len : room);
		return;
	}
	if (attempt->tests) {
		if (stream == 1 && attempt->evaluation.tests[run_index].expected.data)
			buffer_append_bytes(&attempt->tests[run_index].output, data);
		if (attempt->evaluation.tests[run_index].hidden)
			return;
	}
	output_append(attempt, stream, data);
}

/* A test's output is not kept where something of it is missing, and a compiler's is not counted. */
static void on_skipped(void *owner, struct job *job, size_t run_index, int stream, uint64_t bytes)
{
	struct attempt *attempt = job->owner;
	if (!attempt->tests)
		output_skip(attempt, stream, bytes);
}

static void on_progress(void *owner, struct job *job, struct bytes members)
{
	attempt_tell_live(job->owner, (struct live_event){ .kind = EVENT_PROGRESS, .data = members });
}

static void on_step_ended(void *owner, struct job *job, const struct step_end *end)
{
	outcome_step_ended(job->owner, end);
}

static void on_ended(void *owner, struct job *job, const struct job_end *end)
{
	struct attempt *attempt = job->owner;
	struct coordinator *c = owner;
	attempt->lane->occupied--;
	attempt->phase = ATTEMPT_ENDED;
	attempt_end(attempt, end);
	outcome_job_ended(attempt);
	dispatch_pump(c);
}

static void on_changed(void *owner, struct executor *executor)
{
	dispatch_pump(owner);
}

static void on_found(void *owner, struct executor *executor, const struct uuid *task_id, int attempt)
{
	found_add(owner, executor, task_id, attempt);
}

const struct executor_listener attempt_listener = {
	.on_started = on_started,
	.on_output = on_output,
	.on_skipped = on_skipped,
	.on_progress = on_progress,
	.on_step_ended = on_step_ended,
	.on_ended = on_ended,
	.on_changed = on_changed,
	.on_found = on_found,
};
