#include "executor/kubernetes/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "executor/progress.h"
#include "task/lifecycle.h"

#define SIGNAL_MAX 64

void account_init(struct account *account, struct job *job, bool has_compile, bool watched,
	const struct executor_listener *listener, void *owner)
{
	*account = (struct account){
		.job = job, .has_compile = has_compile, .watched = watched, .listener = listener, .owner = owner
	};
}

void account_fini(struct account *account)
{
	free(account->end);
	account->end = NULL;
}

/* ---- time ---- */

#define CLOCKS_APART_US (2 * US_PER_S) /* as far as clocks that are kept may be apart */

/* A node's time, or the present by our clock where there is none, or it cannot be. */
static int64_t believed(const struct account *account, int64_t at_us)
{
	int64_t now_us = clock_wall_us();
	bool early = account->since_us > 0 && at_us < account->since_us - CLOCKS_APART_US;
	return at_us <= 0 || early || at_us > now_us + CLOCKS_APART_US ? now_us : at_us;
}

/* ---- the end ---- */

static void over(struct account *account, enum task_reason reason, int64_t at_us, const char *message)
{
	if (account->end)
		return;
	struct job_end *end = account->end = alloc(sizeof(*end));
	/* Whatever it was that cut it short: it was asked to end. */
	end->reason = reason != REASON_NONE && account->cancelled ? REASON_CANCELLED : reason;
	end->at_us = believed(account, at_us);
	snprintf(end->message, sizeof(end->message), "%s", message);
}

/* ---- the start ---- */

static void start(struct account *account, int64_t at_us, const struct job_started *where)
{
	if (account->started)
		return;
	struct job_started started = *where;
	started.at_us = account->started_at_us = believed(account, at_us);
	account->started = true;
	account->listener->on_started(account->owner, account->job, &started);
}

/* ---- steps ---- */

static size_t step_count(const struct account *account)
{
	return account->job->run_count + account->has_compile;
}

static enum step_kind kind_of(const struct account *account, size_t step)
{
	return account->has_compile && step == 0 ? STEP_COMPILE : STEP_RUN;
}

static size_t run_of(const struct account *account, size_t step)
{
	return step - (account->has_compile && step > 0);
}

/* It came to its end, but what it is judged by did not come whole. */
static bool cannot_be_judged(const struct account *account, const struct step_end *end)
{
	return account->lost && end->reason == REASON_NONE && end->kind == STEP_RUN &&
	       account->job->runs[end->run_index].judged;
}

/* Tells the step that follows. */
static void tell_step(struct account *account, struct step_end *end)
{
	end->kind = kind_of(account, account->steps);
	end->run_index = run_of(account, account->steps);
	end->at_us = believed(account, end->at_us);
	if (cannot_be_judged(account, end)) {
		account_lost(account, REASON_EXECUTOR_LOST, "what a test printed did not arrive whole");
		return;
	}
	end->stdout_truncated |= account->truncated[0];
	end->stderr_truncated |= account->truncated[1];
	account->steps++;
	for (int i = 0; i < 2; i++) {
		account->offsets[i] = 0;
		account->truncated[i] = false;
	}
	account->lost = false;
	account->progress_us = 0;
	account->listener->on_step_ended(account->owner, account->job, end);
}

static enum task_reason reason_of(enum report_reason reason)
{
	static const enum task_reason reasons[REPORT_REASON_COUNT] = {
		[REPORT_REASON_NONE] = REASON_NONE,
		[REPORT_REASON_EXIT_CODE] = REASON_EXIT_CODE,
		[REPORT_REASON_SIGNAL] = REASON_SIGNAL,
		[REPORT_REASON_COMPILE_ERROR] = REASON_COMPILE_ERROR,
		[REPORT_REASON_TIMEOUT] = REASON_TIMEOUT,
		[REPORT_REASON_OUT_OF_MEMORY] = REASON_OUT_OF_MEMORY,
		[REPORT_REASON_OUTPUT_LIMIT] = REASON_OUTPUT_LIMIT,
		[REPORT_REASON_DISK_LIMIT] = REASON_DISK_LIMIT,
		[REPORT_REASON_STOPPED] = REASON_CANCELLED,
		[REPORT_REASON_PROCESS_LIMIT] = REASON_PROCESS_LIMIT,
	};
	return reasons[reason];
}

static bool is_next(const struct account *account, bool compile, uint32_t run)
{
	return account->steps < step_count(account) && compile == (kind_of(account, account->steps) == STEP_COMPILE) &&
	       run == run_of(account, account->steps);
}

/* What it printed and did not come is missing, nobody knows how much. */
static void lose_output(struct account *account)
{
	account->lost = true;
	account->truncated[0] = account->truncated[1] = true;
}

static void report_step(struct account *account, const struct report_step *step, int64_t at_us, bool by_end)
{
	/* One that was cut short has not come to an end of its own: the end of the whole says why. */
	if (account->end || step->reason == REPORT_REASON_STOPPED || !is_next(account, step->compile, step->run))
		return;
	account->lost |= step->dropped[0];
	if (by_end && !account->silent)
		lose_output(account); /* its own frame did not come */
	struct step_end end = {
		.reason = reason_of(step->reason),
		.exit_code = step->exit_code,
		.signal = step->signal,
		.usage = { .wall_us = step->wall_us, .cpu_us = step->cpu_us, .memory_bytes = step->memory_bytes },
		.stdout_truncated = step->truncated[0] || step->dropped[0],
		.stderr_truncated = step->truncated[1] || step->dropped[1],
		.at_us = at_us,
	};
	tell_step(account, &end);
}

/* ---- output ---- */

static void report_output(struct account *account, const struct report_output *output)
{
	int stream = output->stream - 1;
	if (stream < 0 || stream > 1 || !is_next(account, output->compile, output->run))
		return;
	uint64_t known = account->offsets[stream];
	if (output->offset + output->len <= known)
		return; /* it came another way before */
	uint64_t skip = output->offset < known ? known - output->offset : 0;
	account->truncated[stream] |= output->offset > known;
	account->lost |= stream == 0 && output->offset > known;
	if (output->offset > known && !output->compile && account->listener->on_skipped)
		account->listener->on_skipped(
			account->owner, account->job, output->run, output->stream, output->offset - known);
	account->offsets[stream] = output->offset + output->len;
	account->listener->on_output(account->owner, account->job, kind_of(account, account->steps),
		run_of(account, account->steps), output->stream,
		(struct bytes){ (const char *)output->data + skip, (size_t)(output->len - skip) });
}

/* What has no offset of its own, up to the bound. */
static void tell_output(struct account *account, int stream, struct bytes data)
{
	if (account->end || account->steps >= step_count(account))
		return;
	uint64_t *offset = &account->offsets[stream - 1];
	uint64_t most = account->job->limits.output_bytes, room = *offset < most ? most - *offset : 0;
	if (data.len > room) {
		data.len = (size_t)room;
		account->truncated[stream - 1] = true;
	}
	*offset += data.len;
	if (data.len > 0)
		account->listener->on_output(account->owner, account->job, kind_of(account, account->steps),
			run_of(account, account->steps), stream, data);
}

void account_log(struct account *account, struct bytes data)
{
	tell_output(account, 1, data);
}

static void flush_log(struct account *account)
{
	struct bytes log = account->log;
	account->log = BYTES_NONE;
	account_log(account, log);
}

bool account_wants_log(const struct account *account)
{
	return account->watched || account->silent || (!account->closed && !account->cancelled);
}

void account_cut(struct account *account)
{
	account->truncated[0] = account->lost = true;
	account->truncated[1] |= !account->watched && !account->silent;
}

/* ---- progress ---- */

/* One that another has overtaken is not told. */
static void report_progress(struct account *account, const struct report_progress *said)
{
	const struct progress progress = { .kind = said->compile ? STEP_COMPILE : STEP_RUN,
		.run_index = said->run,
		.wall_us = said->wall_us,
		.cpu_us = said->cpu_us,
		.memory_bytes = said->memory_bytes };
	if (!account->started || !is_next(account, said->compile, said->run) || said->wall_us <= account->progress_us)
		return;
	account->progress_us = said->wall_us;
	progress_tell(account->listener, account->owner, account->job, &progress);
}

/* ---- frames ---- */

void account_gap(struct account *account, const struct job_started *where)
{
	if (account->end)
		return;
	start(account, 0, where);
	if (step_count(account) > 1)
		account_lost(account, REASON_EXECUTOR_LOST, "what it reported before the service began anew is lost");
	lose_output(account);
}

static void report_end(struct account *account, const struct report_frame *frame)
{
	const struct report_end *end = &frame->end;
	for (size_t i = 0; i < end->count; i++) {
		struct report_step step;
		/* The log does not say what is of which step: the compiler's where nothing came after that, else the run's. */
		if (end->ended == 1 || i == (size_t)account->has_compile)
			flush_log(account);
		report_end_step(end, i, &step);
		report_step(account, &step,
			account->started ? account->started_at_us + step.ended_ms * US_PER_MS : frame->at_us,
			/* by_end= */ true);
	}
	bool told_all = account->steps >= end->ended;
	switch (end->how) {
	case HOW_UNFINISHED:
		account->unfinished = true;
		break;
	case HOW_COMPLETE:
	case HOW_STOPPED:
		/* A message that was too short for all, and no frames: the outcome of some is lost. */
		over(account, told_all ? REASON_NONE : REASON_EXECUTOR_LOST, frame->at_us,
			told_all ? "" : "the outcomes of some steps did not arrive");
		break;
	case HOW_TERMINATED:
		account->terminated = true;
		break;
	case HOW_FAILED:
		over(account, REASON_EXECUTOR_LOST, frame->at_us, end->message);
		break;
	case HOW_UNANSWERED:
		over(account, REASON_API_ERROR, frame->at_us,
			"the service did not say whether the next test is to run");
		break;
	}
}

void account_frame(struct account *account, const struct report_frame *frame, const struct job_started *where)
{
	if (account->end)
		return;
	switch (frame->kind) {
	case FRAME_STARTED:
		start(account, frame->at_us, where);
		break;
	case FRAME_OUTPUT:
		report_output(account, &frame->output);
		break;
	case FRAME_PROGRESS:
		report_progress(account, &frame->progress);
		break;
	case FRAME_STEP_ENDED:
		report_step(account, &frame->step, frame->at_us, /* by_end= */ false);
		break;
	case FRAME_ENDED:
	case FRAME_SUMMARY:
		account->closed |= frame->kind == FRAME_ENDED;
		if (frame->end.ended > 0)
			start(account, 0, where); /* its frame did not come */
		report_end(account, frame);
		break;
	case FRAME_ASK:
	case FRAME_ANSWER:
	case FRAME_FETCH:
		break; /* of the listener's concern alone */
	}
}

/* ---- the pod ---- */

/* Runtimes tell of a signal by a status beyond 128, as shells do. */
static int signal_of(const struct pod *pod)
{
	bool is_signal = pod->reason == REASON_EXIT_CODE && pod->exit_code > 128 && pod->exit_code <= 128 + SIGNAL_MAX;
	return is_signal ? pod->exit_code - 128 : pod->signal;
}

/* The pod is the step. */
static void watched_end(struct account *account, const struct pod *pod)
{
	int by_signal = signal_of(pod);
	enum task_reason reason = pod->stage == POD_SUCCEEDED ? REASON_NONE : pod->reason;
	if (reason == REASON_EXIT_CODE && by_signal != 0)
		reason = REASON_SIGNAL;
	struct step_end end = {
		.reason = reason,
		.exit_code = reason == REASON_NONE        ? 0
			     : reason == REASON_EXIT_CODE ? pod->exit_code
							  : -1,
		.signal = reason == REASON_SIGNAL ? by_signal : 0,
		.usage = { .wall_us = pod->started_at_us && pod->finished_at_us
					      ? pod->finished_at_us - pod->started_at_us
					      : 0,
			.cpu_us = -1,
			.memory_bytes = -1 },
		.at_us = pod->finished_at_us,
	};
	tell_step(account, &end);
	over(account, REASON_NONE, pod->finished_at_us, "");
}

/* What the code did to the container as a whole, its wrapper included: it ends the step that was under way. */
static void overwhelmed(struct account *account, const struct pod *pod)
{
	struct step_end end = { .reason = pod->reason,
		.exit_code = -1,
		.usage = { .cpu_us = -1, .memory_bytes = -1 },
		.at_us = pod->finished_at_us };
	if (account->steps < step_count(account))
		tell_step(account, &end);
	over(account, REASON_NONE, end.at_us, pod->message);
}

/* A watched one did not end in its time. */
static void timed_out(struct account *account)
{
	struct step_end end = { .reason = REASON_TIMEOUT,
		.exit_code = -1,
		.usage = { .cpu_us = -1, .memory_bytes = -1 },
		.at_us = clock_wall_us() };
	start(account, end.at_us, &(struct job_started){ 0 });
	flush_log(account);
	if (end.at_us > account->started_at_us) /* which is by the node's clock */
		end.usage.wall_us = end.at_us - account->started_at_us;
	tell_step(account, &end);
	over(account, REASON_NONE, end.at_us, "");
}

void account_lost(struct account *account, enum task_reason reason, const char *message)
{
	if (reason == REASON_TIMEOUT && account->watched && !account->end)
		timed_out(account);
	else
		over(account, reason, 0, message);
}

static bool is_overwhelming(enum task_reason reason)
{
	return reason == REASON_OUT_OF_MEMORY || reason == REASON_DISK_LIMIT || reason == REASON_TIMEOUT;
}

void account_publication(struct account *account, const struct publication *said, const struct job_started *where)
{
	int64_t now_us = clock_wall_us();
	struct job_started started = *where;
	started.published = !said->has_ended;
	/* One that failed and does not say how: its pod says it. */
	if (account->end || (said->has_ended && !said->has_exit_code))
		return;
	start(account, now_us - said->wall_us, &started);
	if (!said->has_ended)
		return;
	int code = said->exit_code;
	struct step_end end = { .reason = code == 0  ? REASON_NONE
					  : code < 0 ? REASON_SIGNAL
						     : REASON_EXIT_CODE,
		.exit_code = code < 0 ? -1 : code,
		.signal = code < 0 ? -code : 0,
		.usage = { .wall_us = said->wall_us, .cpu_us = -1, .memory_bytes = -1 },
		.at_us = now_us };
	tell_output(account, 1, said->output);
	tell_output(account, 2, said->error);
	tell_step(account, &end);
	over(account, REASON_NONE, now_us, "");
	account->end->published = said->is_good == (code == 0);
}

void account_pod(struct account *account, const struct pod *pod)
{
	bool ended = pod->stage == POD_SUCCEEDED || pod->stage == POD_FAILED;
	if (account->end)
		return;
	/* Of a wrapper's container the start of the code is told by the wrapper; that it ran at all, by its end. */
	bool ran = ended && pod->started_at_us > 0;
	if (account->tells                            ? ran
		: account->watched || account->silent ? ran || pod->stage == POD_RUNNING
						      : ended && is_overwhelming(pod->reason))
		start(account, pod->started_at_us,
			&(struct job_started){ .node = pod->node, .pod = pod->name, .image = pod->image });
	if (!ended)
		return;
	flush_log(account);
	bool of_code = pod->stage == POD_SUCCEEDED || task_reason_fault(pod->reason) == FAULT_USER;
	if (!of_code)
		over(account, pod->reason, pod->finished_at_us, pod->message);
	else if (account->cancelled)
		over(account, REASON_CANCELLED, pod->finished_at_us, "");
	else if (account->terminated)
		over(account, REASON_DELETED, pod->finished_at_us, "the container was told to end");
	else if (account->watched)
		watched_end(account, pod);
	else if (is_overwhelming(pod->reason))
		overwhelmed(account, pod);
	else
		over(account, REASON_EXECUTOR_LOST, pod->finished_at_us,
			account->unfinished ? "the wrapper was killed before its last report"
					    : "the container ended without a report that is signed");
}
