/* The executor door: where jobs run.
 *
 * A job is what one attempt of a task has an executor do: steps, one optional compile and then one or more runs. The
 * coordinator makes a job, owns it, and keeps it and everything it points to unchanged until the executor has reported
 * its end. The executor reports through one table of callbacks, on the loop's thread, never from within a call into it:
 *
 *   started → ( output* step_ended )* → ended         exactly one `ended`, always the last
 *
 * `ended` may come without `started` (it never ran: infrastructure, or cancelled before). */
#ifndef ASSAY_EXECUTOR_H
#define ASSAY_EXECUTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/task.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/uuid.h"

struct executor;

enum step_kind { STEP_COMPILE, STEP_RUN };

struct job_file {
	struct bytes path; /* relative, checked: no empty, `.` or `..` part, no NUL */
	struct bytes content; /* any bytes */
};

/* Bytes of the contents together. */
static inline size_t job_files_size(const struct job_file *files, size_t count)
{
	size_t size = 0;
	for (size_t i = 0; i < count; i++)
		size += files[i].content.len;
	return size;
}

/* One run of the program. Expected outputs are not here: they never reach an executor. */
struct job_run {
	struct bytes stdin_data; /* absent: the program's standard input is empty */
	const struct bytes *args;
	size_t arg_count;
	const struct job_file *files; /* laid over the job's files for this run alone */
	size_t file_count;
	int64_t timeout_us; /* wall-clock */
	bool judged; /* by what it prints to its standard output: where some of that is lost, so is the attempt */
};

struct job_limits {
	int64_t memory_bytes;
	int64_t cpu_millis; /* thousandths of a core */
	int64_t compile_timeout_us; /* wall-clock */
	int64_t total_timeout_us; /* of all steps together: beyond it the run in progress times out */
	int64_t disk_bytes; /* that the job may write */
	int64_t processes;
	uint64_t output_bytes; /* per stream and step; a step that prints more is killed: REASON_OUTPUT_LIMIT */
};

/* What a job waits for that has not started. */
enum job_wait_for { JOB_WAIT_NONE, JOB_WAIT_CAPACITY, JOB_WAIT_QUOTA, JOB_WAIT_IMAGE };

struct job_waiting {
	enum job_wait_for what; /* JOB_WAIT_NONE: nothing, or nothing that has a word */
	const char *message; /* for people; NULL: none. The executor's, which takes it back before it reports the end */
};

struct job {
	struct uuid task_id;
	int run;
	int attempt;
	struct bytes name; /* of this attempt's job (task/job_name.h): unique, a DNS-1123 label */
	struct bytes tenant;
	struct bytes eval_id; /* the client's name for it; absent: none */
	struct bytes type; /* "evaluation", "test" */
	struct bytes language; /* a name of the language file; absent for what is not an evaluation */
	struct bytes
		entrypoint; /* path of the file to run; absent: the language's own source name, or the first file */
	struct bytes image;
	/* To adopt: where and when its code has started, as the row says; absent and 0: it has not, or that is not known. */
	struct bytes pod;
	int64_t started_at_us;
	struct bytes traceparent;
	const struct job_file *files;
	size_t file_count;
	const struct bytes *env; /* NAME=value */
	size_t env_count;
	const struct job_run *runs;
	size_t run_count;
	/* The executor waits after each run for executor->ops->proceed(), so that the coordinator can end the job
	 * early, or keep up. */
	bool ask_before_next;
	struct job_limits limits;
	void *owner; /* the coordinator's */
	void *executor_data; /* the executor's, NULL before run() and after ended */
	struct job_waiting waiting; /* likewise, and none once it has started */
};

struct step_end {
	enum step_kind kind;
	size_t run_index; /* STEP_RUN */
	enum task_reason reason; /* REASON_NONE: exit code 0. Else one of fault user */
	int exit_code; /* -1 where it did not exit */
	int signal; /* 0 where it was not killed by one */
	struct task_usage usage;
	bool stdout_truncated, stderr_truncated;
	int64_t at_us;
};

struct job_end {
	/* REASON_NONE: all steps that were asked for have ended (each was reported). An infrastructure reason: the
	 * attempt is lost. REASON_CANCELLED: killed because cancel() asked for it, confirmed dead. */
	enum task_reason reason;
	bool never_started; /* the executor could not begin for want of capacity or quota: to be handed back, uncharged */
	enum job_wait_for wanted; /* never_started: for want of what, where that is known */
	int64_t at_us;
	char message[240]; /* for people; may be empty */
	bool published; /* the job has told of its outcome on the public channels by itself */
};

struct job_started {
	int64_t at_us;
	bool published; /* the job has told of it on the public channels by itself */
	struct bytes node, pod, image; /* borrowed for the call; absent where they mean nothing */
};

struct executor_listener {
	void (*on_started)(void *owner, struct job *job, const struct job_started *started);
	/* Bytes as they came, borrowed for the call; stream 1 or 2. Compiler output comes as STEP_COMPILE. Once a
	 * stream has reached its limit nothing more of it comes. */
	void (*on_output)(
		void *owner, struct job *job, enum step_kind step, size_t run_index, int stream, struct bytes data);
	/* So many bytes of a run's stream are lost, before what comes of it next. NULL: nothing is to be told of that. */
	void (*on_skipped)(void *owner, struct job *job, size_t run_index, int stream, uint64_t bytes);
	void (*on_progress)(void *owner, struct job *job, struct bytes members); /* of a JSON object */
	void (*on_step_ended)(void *owner, struct job *job, const struct step_end *end);
	/* The job is the coordinator's alone again: the executor has forgotten it. */
	void (*on_ended)(void *owner, struct job *job, const struct job_end *end);
	/* Slots became free by themselves, health changed, languages came or went. */
	void (*on_changed)(void *owner, struct executor *executor);
	/* Found at the start, after a reconnect, or now and then: an attempt this process does not know. The store says whose it
	 * is: adopt() follows where it is ours, discard() where it is over or was never, nothing where another replica has it. */
	void (*on_found)(void *owner, struct executor *executor, const struct uuid *task_id, int attempt);
};

enum executor_health { EXECUTOR_HEALTHY, EXECUTOR_DEGRADED, EXECUTOR_UNAVAILABLE };

struct executor_language {
	struct bytes name;
	bool available;
	struct bytes version; /* where known */
	struct bytes remedy; /* when not available: what to install */
};

enum executor_check_state {
	EXECUTOR_CHECK_OK,
	EXECUTOR_CHECK_WARNING, /* works, with less protection or comfort */
	EXECUTOR_CHECK_MISSING, /* does not work: nothing runs, or not in this language */
};

/* One thing that an executor has looked at, for the doctor. */
struct executor_check {
	char what[48]; /* "bubblewrap", "cgroups", "language c" … */
	enum executor_check_state state;
	bool language; /* about one language, not about the executor as a whole */
	char detail[256]; /* what was found */
	char remedy[256]; /* what to do about it; empty when state is OK */
};

struct executor_status {
	struct bytes name; /* "sandbox", "kubernetes", "pool", "noop" */
	enum executor_health health;
	struct bytes detail; /* for people: what is wrong, or which kind of limits holds */
	struct bytes isolation; /* "bubblewrap, user id per slot, cgroup v1", "none" … */
	bool outlives_service; /* its jobs run on when this process stops or is cut off from its store, and can be adopted */
	int slots;
	int busy;
	size_t input_max; /* bytes of files and standard input that a job may have here; 0: as many as it is submitted with */
	const char *input_why; /* what would let it take more, where something would; NULL: nothing */
	const char *no_tests; /* why a job cannot be judged by what it prints here; NULL: it can */
	const struct executor_language *languages;
	size_t language_count;
	const struct executor_check *checks; /* may be none */
	size_t check_count;
}; /* borrowed until the executor changes */

struct executor_ops {
	/* Probes, kills what earlier incarnations left, gets ready. A cause that no waiting mends is not an error here
	 * but EXECUTOR_UNAVAILABLE with its detail, so that the service can still take work and say why it does not
	 * run. */
	int (*start)(struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err);
	/* Starts nothing more; kills what runs (reported as ended, REASON_EXECUTOR_LOST, never_started false) unless it
	 * can outlive the service; then on_stopped, once. The coordinator has waited for the drain before. */
	void (*stop)(struct executor *executor, void (*on_stopped)(void *owner), void *owner);
	void (*free)(struct executor *executor);
	const struct executor_status *(*status)(const struct executor *executor);
	/* Never more than slots - busy; the coordinator counts. */
	void (*run)(struct executor *executor, struct job *const *jobs, size_t count);
	/* Only with ask_before_next, after a STEP_RUN that was not the last: go on, or end the job (reported as
	 * REASON_NONE). */
	void (*proceed)(struct executor *executor, struct job *job, bool go_on);
	/* Kills; `ended` follows when it is confirmed. Asking twice, or for a job that is ending, does no harm. */
	void (*cancel)(struct executor *executor, struct job *job);
	/* Takes up an attempt that an earlier incarnation or another replica started. Reports begin anew as if it had been
	 * run() here; if there is nothing to take up: ended, REASON_WORKER_CRASH. */
	void (*adopt)(struct executor *executor, struct job *job);
	/* After `ended`: its outcome is in the store. Until then the executor keeps what an adoption would need. NULL where there is no
	 * such thing. */
	void (*settled)(struct executor *executor, const struct uuid *task_id, int attempt);
	/* It is another's from now on, or will be taken up anew: what runs is left to run, and what is heard of it left to who takes it
	 * up. Where its end has not been reported it is, soon, and settled() does not follow. NULL: cancel() instead. */
	void (*disown)(struct executor *executor, const struct uuid *task_id, int attempt);
	/* Nobody wants this attempt any more, which on_found told of: what is left of it is removed. Nothing where it was given to
	 * the executor meanwhile. NULL where on_found is never called. */
	void (*discard)(struct executor *executor, const struct uuid *task_id, int attempt);
	/* What it has to say at GET /metrics beyond its status (base/metrics.h). NULL: nothing. */
	void (*write_metrics)(const struct executor *executor, struct buffer *to);
};

/* An implementation embeds this first. */
struct executor {
	const struct executor_ops *ops;
};

#endif
