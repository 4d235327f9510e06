/* The executor behind the door: slots, each with at most one job, and the job's way through its steps.
 *
 *   FREE ──run()──► STEP ──► (on_done) ──► STEP …      next step, a new sandbox each
 *                    │            │
 *                    │            ├──► ASKING ──proceed()──► STEP or ENDING
 *                    │            └──► ENDING ──(deferred)──► on_ended, FREE
 *                    └─ cannot be launched ──► ENDING
 *
 * Every report leaves from a callback of the loop: what ends within a call into the executor goes through the slot's
 * `later` timer. A slot owns its step, its cgroup, its user id, and, while it has a job, the memory files that the
 * job's steps share. */
#include "executor/sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/list.h"
#include "executor/command.h"
#include "executor/progress.h"
#include "executor/sandbox/host.h"
#include "executor/sandbox/plan.h"
#include "executor/sandbox/spawn.h"
#include "executor/sandbox/step.h"

#define REFRESH_US (2 * US_PER_S) /* how old what status() says about languages may be */
#define OWN_PROCESSES 2 /* bubblewrap and process 1, in the cgroup with the code */
#define MEMORY_MIN (INT64_C(8) << 20) /* bubblewrap and process 1 need something themselves */

enum slot_state { SLOT_FREE, SLOT_STEP, SLOT_ASKING, SLOT_ENDING };

struct slot {
	struct step step; /* first: the step's callbacks find the slot by it */
	struct sandbox *sandbox;
	int index;
	enum slot_state state;
	struct cgroup_slot cgroup;
	uv_timer_t later;
	uv_timer_t progress; /* while a step's program runs */
	struct job *job; /* the coordinator's; NULL when free */
	const struct language *language; /* borrowed from the options' languages */
	enum step_kind kind; /* of the step that runs or ran last */
	size_t run_index;
	int archive; /* what the compile step left behind; -1: none */
	bool started; /* on_started was called */
	bool cancelled;
	int64_t begun_us; /* monotonic, when the first program started; 0 before */
	struct job_end end; /* in ENDING */
};

/* A job of an earlier incarnation. It needs no slot: there may be more of them than slots. */
struct lost_job {
	struct list link;
	struct job *job; /* the coordinator's */
};

struct sandbox {
	struct executor executor; /* first */
	struct sandbox_options options;
	char *name, *launcher, *state_dir, *bwrap; /* owned copies of the options' strings */
	const struct executor_listener *listener;
	void *owner;
	struct host host;
	struct slot *slots; /* owned */
	int slot_count;
	int busy; /* slots and lost jobs */
	struct list lost; /* struct lost_job, to be reported as ended */
	char *scratch; /* owned */
	uv_signal_t children;
	uv_async_t report_lost;
	int handles; /* of ours that are not closed yet */
	bool open, stopping;
	void (*on_stopped)(void *owner);
	void *stop_owner;
	struct executor_status status;
	struct executor_language *languages; /* owned */
	struct executor_check *checks; /* owned */
	size_t check_count;
	struct arena texts; /* of remedies */
	int64_t refreshed_us;
	char failure[256]; /* the last launch failed so; empty after one that worked */
};

static struct sandbox *of_executor(const struct executor *executor)
{
	return (struct sandbox *)executor;
}

/* ---- ending a job ---- */

static void finish_stop(struct sandbox *sandbox);
static void set_health(struct sandbox *sandbox);

static void end_job(struct slot *slot)
{
	struct sandbox *sandbox = slot->sandbox;
	struct job *job = slot->job;
	struct job_end end = slot->end;
	end.at_us = clock_wall_us();
	if (slot->archive >= 0)
		close(slot->archive);
	slot->archive = -1;
	slot->job = NULL;
	slot->state = SLOT_FREE;
	sandbox->busy--;
	sandbox->status.busy = sandbox->busy;
	job->executor_data = NULL;
	sandbox->listener->on_ended(sandbox->owner, job, &end);
	if (sandbox->stopping && sandbox->busy == 0)
		finish_stop(sandbox);
}

static void on_later(uv_timer_t *timer)
{
	end_job(timer->data);
}

static void end_later(struct slot *slot, enum task_reason reason, const char *message)
{
	slot->state = SLOT_ENDING;
	slot->end = (struct job_end){ .reason = reason };
	snprintf(slot->end.message, sizeof(slot->end.message), "%s", message);
	uv_timer_start(&slot->later, on_later, 0, 0);
}

/* From within a callback of the loop. */
static void end_now(struct slot *slot, enum task_reason reason, const char *message)
{
	slot->end = (struct job_end){ .reason = reason };
	snprintf(slot->end.message, sizeof(slot->end.message), "%s", message);
	end_job(slot);
}

/* ---- starting a step ---- */

static int64_t step_timeout_us(const struct slot *slot)
{
	const struct job *job = slot->job;
	int64_t timeout =
		slot->kind == STEP_COMPILE ? job->limits.compile_timeout_us : job->runs[slot->run_index].timeout_us;
	if (job->limits.total_timeout_us > 0) {
		int64_t used = slot->begun_us > 0 ? clock_monotonic_us() - slot->begun_us : 0;
		int64_t left = job->limits.total_timeout_us - used;
		if (left < timeout)
			timeout = left > 0 ? left : 0;
	}
	return timeout;
}

static void add_files(struct plan_writer *writer, const struct slot *slot)
{
	const struct job *job = slot->job;
	if (slot->archive < 0)
		for (size_t i = 0; i < job->file_count; i++)
			plan_add_file(writer, command_file_name(slot->language, &job->files[i]), job->files[i].content);
	if (slot->kind == STEP_COMPILE)
		return;
	const struct job_run *run = &job->runs[slot->run_index];
	for (size_t i = 0; i < run->file_count; i++)
		plan_add_file(writer, command_file_name(slot->language, &run->files[i]), run->files[i].content);
}

static void add_words(struct plan_writer *writer, uint32_t *count, const struct command *command)
{
	for (size_t i = 0; i < command->count; i++)
		plan_add_word(writer, count, command->words[i]);
}

static int make_plan(struct slot *slot, int *ret_fd, struct err *err)
{
	const struct job *job = slot->job;
	const struct host *host = &slot->sandbox->host;
	struct plan_writer writer;
	struct arena arena = { 0 };
	char box[128];
	plan_writer_init(&writer);
	host_box(host, slot->index, box);
	host_fill_plan(host, &writer, &slot->cgroup, slot->index, job->limits.disk_bytes);
	const char *binary = arena_printf(&arena, "%s/program", box);
	struct command command = slot->kind == STEP_COMPILE ? command_compile(slot->language, job, binary, &arena)
							    : command_run(slot->language, job,
								      &job->runs[slot->run_index], binary, &arena);
	struct command env = command_environment(slot->language, job, box, &arena);
	add_words(&writer, &writer.head.argv_count, &command);
	add_words(&writer, &writer.head.env_count, &env);
	add_files(&writer, slot);
	if (slot->kind == STEP_COMPILE)
		writer.head.flags |= PLAN_PACK;
	else if (slot->archive >= 0)
		writer.head.flags |= PLAN_UNPACK;
	writer.head.archive_max = (uint64_t)job->limits.disk_bytes;
	if (!host->cgroups.has_memory)
		writer.head.data_bytes = job->limits.memory_bytes;
	if (!host->cgroups.has_pids)
		writer.head.processes = job->limits.processes;
	int rc = plan_write(&writer, ret_fd, err);
	*ret_fd = rc < 0 ? -1 : spawn_high_fd(*ret_fd);
	plan_writer_fini(&writer);
	arena_fini(&arena);
	return rc;
}

static int prepare_cgroup(struct slot *slot, struct err *err)
{
	const struct job_limits *limits = &slot->job->limits;
	struct cgroup_limits wanted = {
		/* What is written to the disk of a sandbox is memory; what a compile step leaves behind is held a
		 * second time. */
		.memory_bytes = limits->memory_bytes + limits->disk_bytes * (slot->kind == STEP_COMPILE ? 2 : 1),
		.cpu_millis = limits->cpu_millis,
		.processes = limits->processes + OWN_PROCESSES,
	};
	if (wanted.memory_bytes < MEMORY_MIN)
		wanted.memory_bytes = MEMORY_MIN;
	return cgroup_slot_prepare(&slot->cgroup, &wanted, err);
}

/* The program's standard input is a file in memory: of any size, at its end when it is read, and nothing has to be
 * fed. */
static int open_stdin(const struct slot *slot, int *ret_fd, struct err *err)
{
	struct bytes data = slot->kind == STEP_RUN ? slot->job->runs[slot->run_index].stdin_data : BYTES_NONE;
	*ret_fd = -1;
	if (data.len == 0)
		return 0;
	int rc = memory_file("stdin", &data, 1, ret_fd, err);
	if (rc == 0)
		*ret_fd = spawn_high_fd(*ret_fd);
	return rc;
}

static int start_step(struct slot *slot, struct err *err)
{
	struct step_spec spec = {
		.plan = -1,
		.stdin_fd = -1,
		.archive_in = -1,
		.archive_out = -1,
		.timeout_us = step_timeout_us(slot),
		.output_max = slot->job->limits.output_bytes,
	};
	int rc = prepare_cgroup(slot, err);
	if (rc == 0)
		rc = make_plan(slot, &spec.plan, err);
	if (rc == 0)
		rc = open_stdin(slot, &spec.stdin_fd, err);
	if (rc == 0 && slot->kind == STEP_COMPILE) {
		slot->archive = spawn_high_fd(memfd_create("compiled", MFD_CLOEXEC | MFD_ALLOW_SEALING));
		if (slot->archive < 0)
			rc = err_set(err, -errno, "cannot make a memory file");
		spec.archive_out = slot->archive;
	} else if (rc == 0 && slot->archive >= 0) {
		spec.archive_in = slot->archive;
	}
	int own_stdin = spec.stdin_fd;
	if (spec.stdin_fd < 0)
		spec.stdin_fd = slot->sandbox->host.null_fd;
	if (rc == 0)
		rc = step_start(&slot->step, &spec, err);
	if (spec.plan >= 0)
		close(spec.plan);
	if (own_stdin >= 0)
		close(own_stdin);
	if (rc == 0)
		slot->state = SLOT_STEP;
	return rc;
}

static void note_failure(struct sandbox *sandbox, const char *message)
{
	if (strcmp(sandbox->failure, message) == 0)
		return;
	if (*message)
		log_event(sandbox->options.log, LOG_ERROR, "a sandbox could not be started", L_STR("error", message));
	snprintf(sandbox->failure, sizeof(sandbox->failure), "%s", message);
	set_health(sandbox);
	sandbox->listener->on_changed(sandbox->owner, &sandbox->executor);
}

/* The next step, from within a callback of the loop. */
static void go_on(struct slot *slot, enum step_kind kind, size_t run_index)
{
	struct err err = { 0 };
	slot->kind = kind;
	slot->run_index = run_index;
	if (start_step(slot, &err) < 0) {
		note_failure(slot->sandbox, err.message);
		end_now(slot, REASON_EXECUTOR_LOST, err.message);
	}
}

/* ---- what a step came to ---- */

static enum task_reason judge(const struct slot *slot, const struct step_result *result, struct step_end *end)
{
	int status = result->ended ? result->report.value : SIGKILL;
	end->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (result->stop == STEP_STOPPED_OUTPUT || result->truncated[0] || result->truncated[1])
		return REASON_OUTPUT_LIMIT;
	/* Its own end may have been on the way to us when its time was over. */
	if (result->stop == STEP_STOPPED_TIMEOUT && !(result->ended && !(result->report.flags & ENDED_ASKED)))
		return REASON_TIMEOUT;
	if (result->usage.out_of_memory)
		return REASON_OUT_OF_MEMORY;
	if (result->ended && (result->report.flags & ENDED_FILES_TOO_LARGE))
		return REASON_DISK_LIMIT;
	if (status == 0)
		return REASON_NONE;
	if (result->ended && (result->report.flags & ENDED_DISK_FULL))
		return REASON_DISK_LIMIT;
	if (result->usage.processes_refused)
		return REASON_PROCESS_LIMIT;
	if (slot->kind == STEP_COMPILE)
		return REASON_COMPILE_ERROR;
	return WIFSIGNALED(status) ? REASON_SIGNAL : REASON_EXIT_CODE;
}

static void measure(const struct step_result *result, struct task_usage *ret_usage)
{
	ret_usage->wall_us = result->ended ? result->report.wall_us : result->wall_us;
	ret_usage->cpu_us = result->usage.cpu_us;
	if (ret_usage->cpu_us < 0 && result->ended)
		ret_usage->cpu_us = result->report.cpu_us;
	ret_usage->memory_bytes = result->usage.memory_peak;
	if (ret_usage->memory_bytes < 0 && result->ended)
		ret_usage->memory_bytes = result->report.memory_bytes;
}

static void after_step(struct slot *slot, enum task_reason reason)
{
	struct job *job = slot->job;
	if (slot->kind == STEP_COMPILE && reason != REASON_NONE) {
		end_now(slot, REASON_NONE, "");
		return;
	}
	size_t next = slot->kind == STEP_COMPILE ? 0 : slot->run_index + 1;
	if (next >= job->run_count)
		end_now(slot, REASON_NONE, "");
	else if (slot->kind == STEP_RUN && job->ask_before_next)
		slot->state = SLOT_ASKING;
	else
		go_on(slot, STEP_RUN, next);
}

static void on_progress_due(uv_timer_t *timer)
{
	struct slot *slot = timer->data;
	struct sandbox *sandbox = slot->sandbox;
	struct cgroup_usage usage;
	if (slot->cancelled || sandbox->stopping)
		return;
	cgroup_slot_read(&slot->cgroup, &usage);
	const struct progress progress = { .kind = slot->kind,
		.run_index = slot->run_index,
		.wall_us = clock_monotonic_us() - slot->step.started_us,
		.cpu_us = usage.cpu_us,
		.memory_bytes = cgroup_slot_memory(&slot->cgroup) };
	progress_tell(sandbox->listener, sandbox->owner, slot->job, &progress);
}

static void watch_progress(struct slot *slot)
{
	const uint64_t each_ms = (uint64_t)((slot->sandbox->options.progress_us + US_PER_MS - 1) / US_PER_MS);
	if (each_ms > 0)
		uv_timer_start(&slot->progress, on_progress_due, each_ms, each_ms);
}

static void note_started(struct slot *slot)
{
	if (slot->begun_us == 0)
		slot->begun_us = clock_monotonic_us();
	if (slot->started)
		return;
	slot->started = true;
	struct job_started started = { .at_us = clock_wall_us() };
	slot->sandbox->listener->on_started(slot->sandbox->owner, slot->job, &started);
}

static void on_step_started(struct step *step)
{
	struct slot *slot = (struct slot *)step;
	watch_progress(slot);
	note_started(slot);
}

static void on_step_done(struct step *step, const struct step_result *result)
{
	struct slot *slot = (struct slot *)step;
	struct sandbox *sandbox = slot->sandbox;
	uv_timer_stop(&slot->progress);
	if (slot->cancelled) {
		end_now(slot, REASON_CANCELLED, "");
		return;
	}
	if (sandbox->stopping) {
		end_now(slot, REASON_EXECUTOR_LOST, "the service stopped");
		return;
	}
	/* Too little memory for the sandbox itself, or for its files, is no defect of the machine, and no other try
	 * would end otherwise. */
	if (!result->usage.out_of_memory &&
		(!result->started || (!result->ended && result->stop == STEP_NOT_STOPPED))) {
		const char *message = *result->message  ? result->message
				      : result->started ? "the sandbox was killed from outside"
							: "the sandbox did not start";
		if (!result->started)
			note_failure(sandbox, message);
		end_now(slot, REASON_EXECUTOR_LOST, message);
		return;
	}
	if (!result->started)
		note_started(slot); /* its files were laid out, which is as far as it came */
	note_failure(sandbox, "");
	struct step_end end = {
		.kind = slot->kind,
		.run_index = slot->kind == STEP_RUN ? slot->run_index : 0,
		.stdout_truncated = result->truncated[0],
		.stderr_truncated = result->truncated[1],
		.at_us = clock_wall_us(),
	};
	end.reason = judge(slot, result, &end);
	measure(result, &end.usage);
	if (slot->kind == STEP_COMPILE && end.reason == REASON_NONE &&
		fcntl(slot->archive, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		log_event(sandbox->options.log, LOG_WARNING, "cannot seal what was compiled",
			L_STR("error", strerror(errno)));
	slot->state = SLOT_ASKING; /* nothing runs while the listener is told: it may cancel */
	sandbox->listener->on_step_ended(sandbox->owner, slot->job, &end);
	if (slot->state != SLOT_ASKING)
		return;
	if (slot->cancelled)
		end_now(slot, REASON_CANCELLED, "");
	else
		after_step(slot, end.reason);
}

static void on_step_output(struct step *step, int stream, struct bytes data)
{
	struct slot *slot = (struct slot *)step;
	if (slot->cancelled || slot->sandbox->stopping)
		return;
	slot->sandbox->listener->on_output(slot->sandbox->owner, slot->job, slot->kind,
		slot->kind == STEP_RUN ? slot->run_index : 0, stream, data);
}

static const struct step_listener step_listener = { on_step_started, on_step_output, on_step_done };

/* ---- the door ---- */

/* What passes by itself: nothing was tried, so nothing is charged. */
static bool lacks_capacity(int code)
{
	return code == -EMFILE || code == -ENFILE || code == -EAGAIN || code == -ENOMEM;
}

static void begin(struct slot *slot, struct job *job)
{
	struct sandbox *sandbox = slot->sandbox;
	struct err err = { 0 };
	slot->job = job;
	slot->archive = -1;
	slot->started = slot->cancelled = false;
	slot->begun_us = 0;
	job->executor_data = slot;
	sandbox->busy++;
	sandbox->status.busy = sandbox->busy;
	slot->language = job->language.len > 0 ? languages_find(sandbox->options.languages, job->language) : NULL;
	if (!sandbox->host.usable) {
		end_later(slot, REASON_EXECUTOR_LOST, sandbox->host.detail);
		slot->end.never_started = true;
		return;
	}
	if (!slot->language || job->run_count == 0) {
		end_later(slot, REASON_EXECUTOR_LOST, "the sandbox does not know this language, or the job has no run");
		return;
	}
	slot->kind = slot->language->compile ? STEP_COMPILE : STEP_RUN;
	slot->run_index = 0;
	if (start_step(slot, &err) < 0) {
		note_failure(sandbox, err.message);
		end_later(slot, REASON_EXECUTOR_LOST, err.message);
		slot->end.never_started = lacks_capacity(err.code);
	}
}

static void sandbox_run(struct executor *executor, struct job *const *jobs, size_t count)
{
	struct sandbox *sandbox = of_executor(executor);
	host_refresh(&sandbox->host);
	for (size_t i = 0; i < count; i++) {
		int free_slot = 0;
		while (sandbox->slots[free_slot].state != SLOT_FREE)
			free_slot++; /* there is one: the coordinator counts */
		begin(&sandbox->slots[free_slot], jobs[i]);
	}
}

static void sandbox_proceed(struct executor *executor, struct job *job, bool further)
{
	struct slot *slot = job->executor_data;
	struct err err = { 0 };
	if (!slot || slot->state != SLOT_ASKING || slot->cancelled)
		return;
	if (!further) {
		end_later(slot, REASON_NONE, "");
		return;
	}
	slot->run_index++;
	if (start_step(slot, &err) < 0)
		end_later(slot, REASON_EXECUTOR_LOST, err.message);
}

static void kill_slot(struct slot *slot, enum task_reason reason, const char *message)
{
	if (slot->state == SLOT_STEP)
		step_stop(&slot->step, STEP_STOPPED_BY_OWNER);
	else if (slot->state == SLOT_ASKING)
		end_later(slot, reason, message);
}

static void sandbox_cancel(struct executor *executor, struct job *job)
{
	struct slot *slot = job->executor_data;
	if (!slot || slot->cancelled)
		return;
	slot->cancelled = true;
	kill_slot(slot, REASON_CANCELLED, "");
}

static void on_report_lost(uv_async_t *handle)
{
	struct sandbox *sandbox = handle->data;
	struct list *link;
	while ((link = list_pop_front(&sandbox->lost))) {
		struct lost_job *lost = LIST_ENTRY(link, struct lost_job, link);
		struct job *job = lost->job;
		struct job_end end = { .reason = REASON_WORKER_CRASH, .at_us = clock_wall_us() };
		snprintf(end.message, sizeof(end.message), "the service that ran it is gone");
		free(lost);
		sandbox->busy--;
		sandbox->listener->on_ended(sandbox->owner, job, &end);
	}
	if (sandbox->stopping && sandbox->open && sandbox->busy == 0)
		finish_stop(sandbox);
}

/* start() has killed what an earlier incarnation left: nothing is taken up. */
static void sandbox_adopt(struct executor *executor, struct job *job)
{
	struct sandbox *sandbox = of_executor(executor);
	struct lost_job *lost = alloc(sizeof(*lost));
	lost->job = job;
	job->executor_data = NULL;
	sandbox->busy++;
	list_push_back(&sandbox->lost, &lost->link);
	uv_async_send(&sandbox->report_lost);
}

/* ---- status ---- */

static struct bytes remedy_text(struct sandbox *sandbox, const struct language *language)
{
	if (language->report != LANGUAGE_REPORT_WRAPPER)
		return BYTES_LITERAL("it is an image that runs as it is: let kubernetes run it");
	return bytes_of(arena_printf(&sandbox->texts, "apt-get install %s", language->package));
}

static void look_at_languages(struct sandbox *sandbox)
{
	size_t count = languages_count(sandbox->options.languages);
	sandbox->check_count = sandbox->host.check_count;
	memcpy(sandbox->checks, sandbox->host.checks, sandbox->host.check_count * sizeof(*sandbox->checks));
	for (size_t i = 0; i < count; i++) {
		const struct language *language = languages_at(sandbox->options.languages, i);
		struct executor_language *entry = &sandbox->languages[i];
		struct executor_check *check = &sandbox->checks[sandbox->check_count++];
		entry->name = bytes_of(language->name);
		entry->available = command_available(language);
		if (!entry->remedy.data)
			entry->remedy = remedy_text(sandbox, language);
		*check = (struct executor_check){
			.state = entry->available ? EXECUTOR_CHECK_OK : EXECUTOR_CHECK_MISSING,
			.language = true,
		};
		snprintf(check->what, sizeof(check->what), "language %s", language->name);
		snprintf(check->detail, sizeof(check->detail), "%s", entry->available ? "available" : "not installed");
		if (!entry->available)
			snprintf(check->remedy, sizeof(check->remedy), "%.*s", (int)entry->remedy.len,
				entry->remedy.data);
	}
	sandbox->status.languages = sandbox->languages;
	sandbox->status.language_count = count;
	sandbox->status.checks = sandbox->checks;
	sandbox->status.check_count = sandbox->check_count;
	sandbox->refreshed_us = clock_monotonic_us();
}

static void set_health(struct sandbox *sandbox)
{
	struct executor_status *status = &sandbox->status;
	status->health = !sandbox->host.usable ? EXECUTOR_UNAVAILABLE
			 : *sandbox->failure   ? EXECUTOR_DEGRADED
					       : EXECUTOR_HEALTHY;
	status->detail = bytes_of(*sandbox->failure && sandbox->host.usable ? sandbox->failure : sandbox->host.detail);
	status->isolation = bytes_of(sandbox->host.isolation);
}

/* Somebody may install a compiler while the service runs: looked at again when asked, not by a timer. */
static const struct executor_status *sandbox_status(const struct executor *executor)
{
	struct sandbox *sandbox = of_executor(executor);
	if (sandbox->open && clock_monotonic_us() - sandbox->refreshed_us > REFRESH_US)
		look_at_languages(sandbox);
	return &sandbox->status;
}

/* ---- life ---- */

static void on_child(uv_signal_t *handle, int number)
{
	struct sandbox *sandbox = handle->data;
	for (int i = 0; i < sandbox->slot_count; i++)
		step_reap(&sandbox->slots[i].step);
}

static int sandbox_start(
	struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err)
{
	struct sandbox *sandbox = of_executor(executor);
	sandbox->listener = listener;
	sandbox->owner = owner;
	host_open(&sandbox->host, &sandbox->options);
	sandbox->slot_count = sandbox->options.slots; /* also where fewer are usable: host.slots tells */
	sandbox->slots = alloc_array((size_t)sandbox->slot_count, sizeof(*sandbox->slots));
	for (int i = 0; i < sandbox->slot_count; i++) {
		struct slot *slot = &sandbox->slots[i];
		slot->sandbox = sandbox;
		slot->index = i;
		slot->archive = -1;
		cgroup_slot_init(&slot->cgroup, &sandbox->host.cgroups, i);
		step_init(&slot->step, sandbox->options.loop, &sandbox->host, &slot->cgroup, &step_listener,
			sandbox->scratch);
		uv_timer_init(sandbox->options.loop, &slot->later);
		uv_timer_init(sandbox->options.loop, &slot->progress);
		slot->later.data = slot->progress.data = slot;
		sandbox->handles += 4;
	}
	uv_signal_init(sandbox->options.loop, &sandbox->children);
	sandbox->children.data = sandbox;
	uv_async_init(sandbox->options.loop, &sandbox->report_lost, on_report_lost);
	sandbox->report_lost.data = sandbox;
	sandbox->handles += 2;
	sandbox->open = true;
	int rc = uv_signal_start(&sandbox->children, on_child, SIGCHLD);
	if (rc < 0)
		return err_set(err, rc, "cannot watch for SIGCHLD: %s", uv_strerror(rc));
	sandbox->status.name = bytes_of(sandbox->name);
	sandbox->status.slots = sandbox->host.slots;
	set_health(sandbox);
	look_at_languages(sandbox);
	log_event(sandbox->options.log, sandbox->host.usable ? LOG_INFO : LOG_WARNING,
		sandbox->host.usable ? "sandbox ready" : "sandbox unavailable: no code will be run",
		L_STR("isolation", sandbox->host.isolation), L_STR("detail", sandbox->host.detail),
		L_INT("slots", sandbox->host.slots));
	return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
	/* Every handle of the executor points at its slot, its step or the executor; the latter is found through
	 * any. */
	bool own = handle->type == UV_SIGNAL || handle->type == UV_ASYNC;
	struct sandbox *sandbox = own ? handle->data : ((struct slot *)handle->data)->sandbox;
	if (--sandbox->handles == 0 && sandbox->on_stopped)
		sandbox->on_stopped(sandbox->stop_owner);
}

static void finish_stop(struct sandbox *sandbox)
{
	for (int i = 0; i < sandbox->slot_count; i++) {
		struct slot *slot = &sandbox->slots[i];
		cgroup_slot_remove(&slot->cgroup);
		step_close(&slot->step, on_handle_closed);
		uv_close((uv_handle_t *)&slot->later, on_handle_closed);
		uv_close((uv_handle_t *)&slot->progress, on_handle_closed);
	}
	uv_close((uv_handle_t *)&sandbox->children, on_handle_closed);
	uv_close((uv_handle_t *)&sandbox->report_lost, on_handle_closed);
	sandbox->open = false;
	host_close(&sandbox->host);
}

static void sandbox_stop(struct executor *executor, void (*on_stopped)(void *owner), void *owner)
{
	struct sandbox *sandbox = of_executor(executor);
	sandbox->on_stopped = on_stopped;
	sandbox->stop_owner = owner;
	sandbox->stopping = true;
	sandbox->status.health = EXECUTOR_UNAVAILABLE;
	if (sandbox->busy == 0) {
		finish_stop(sandbox);
		return;
	}
	for (int i = 0; i < sandbox->slot_count; i++)
		kill_slot(&sandbox->slots[i], REASON_EXECUTOR_LOST, "the service stopped");
}

static void sandbox_free(struct executor *executor)
{
	if (!executor)
		return;
	struct sandbox *sandbox = of_executor(executor);
	free(sandbox->slots);
	free(sandbox->scratch);
	free(sandbox->languages);
	free(sandbox->checks);
	arena_fini(&sandbox->texts);
	free(sandbox->name);
	free(sandbox->launcher);
	free(sandbox->state_dir);
	free(sandbox->bwrap);
	free(sandbox);
}

static const struct executor_ops sandbox_ops = {
	.start = sandbox_start,
	.stop = sandbox_stop,
	.free = sandbox_free,
	.status = sandbox_status,
	.run = sandbox_run,
	.proceed = sandbox_proceed,
	.cancel = sandbox_cancel,
	.adopt = sandbox_adopt,
};

struct executor *sandbox_executor_new(const struct sandbox_options *options)
{
	struct sandbox *sandbox = alloc(sizeof(*sandbox));
	sandbox->executor.ops = &sandbox_ops;
	list_init(&sandbox->lost);
	sandbox->options = *options;
	sandbox->options.name = sandbox->name = string_copy(options->name ? options->name : "sandbox");
	sandbox->options.launcher = sandbox->launcher = string_copy(options->launcher);
	sandbox->options.state_dir = sandbox->state_dir = string_copy(options->state_dir);
	sandbox->options.bwrap = sandbox->bwrap = string_copy(options->bwrap);
	if (sandbox->options.slots <= 0)
		sandbox->options.slots = 2 * (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (sandbox->options.slots > SANDBOX_SLOTS_MAX)
		sandbox->options.slots = SANDBOX_SLOTS_MAX;
	sandbox->scratch = alloc(STEP_SCRATCH_SIZE);
	size_t languages = languages_count(options->languages);
	sandbox->languages = alloc_array(languages + 1, sizeof(*sandbox->languages));
	sandbox->checks = alloc_array(languages + HOST_CHECKS_MAX, sizeof(*sandbox->checks));
	sandbox->status = (struct executor_status){ .health = EXECUTOR_UNAVAILABLE, .name = bytes_of(sandbox->name) };
	return &sandbox->executor;
}
