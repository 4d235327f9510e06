/* One step of a job, from the launch to the proof that nothing of it lives any more.
 *
 *   IDLE ──step_start()──► RUNNING ──► CLOSING ──► IDLE, on_done
 *                             │
 *                 report, stdout and stderr at end of file, and nobody left
 *
 * Nobody is left when bubblewrap has ended by itself: it waits for process 1 of the sandbox, and the kernel lets that
 * go only when everybody in its process namespace is dead. Where bubblewrap was killed, the cgroup has to be empty. So
 * nothing here waits out orphans that keep standard output open: they die with process 1, and the pipes with them. */
#ifndef ASSAY_EXECUTOR_SANDBOX_STEP_H
#define ASSAY_EXECUTOR_SANDBOX_STEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "executor/sandbox/cgroup.h"
#include "executor/sandbox/host.h"
#include "launch/plan.h"

enum step_state { STEP_IDLE, STEP_RUNNING, STEP_CLOSING };

enum step_stop {
	STEP_NOT_STOPPED,
	STEP_STOPPED_TIMEOUT,
	STEP_STOPPED_OUTPUT,
	STEP_STOPPED_BY_OWNER,
	STEP_STOPPED_NO_START
};

/* What is known when all is dead. */
struct step_result {
	bool started; /* the program was about to be executed, or was seen to print */
	bool ended; /* process 1 reported its end: `report` holds */
	struct report report;
	enum step_stop stop; /* why we killed it, if we did before it ended */
	bool truncated[2];
	struct cgroup_usage usage;
	int64_t wall_us; /* as seen from here, where process 1 could not tell */
	char message[240]; /* what was said in words before the program started, or what failed */
};

struct step_spec {
	int plan; /* descriptors, borrowed for the call of step_start() */
	int stdin_fd;
	int archive_in, archive_out; /* or -1 */
	int64_t timeout_us; /* of the program */
	uint64_t output_max; /* per stream */
};

struct step;

struct step_listener {
	void (*on_started)(struct step *step);
	void (*on_output)(struct step *step, int stream, struct bytes data);
	/* Everything is dead and closed; the step may be started again at once. */
	void (*on_done)(struct step *step, const struct step_result *result);
};

struct step {
	uv_loop_t *loop; /* borrowed, like the next four: outlive the step */
	struct host *host;
	struct cgroup_slot *cgroup;
	const struct step_listener *listener;
	char *scratch; /* for reading, of STEP_SCRATCH_SIZE, shared by all steps */
	enum step_state state;
	struct step_result result;
	uv_pipe_t pipes[3]; /* report, stdout, stderr */
	bool open[3];
	int handles; /* that are not closed yet */
	uv_timer_t deadline; /* lives as long as the step object */
	uv_timer_t again; /* repeats the kill until it has worked */
	int kills;
	pid_t pid; /* of the launcher, which becomes bubblewrap; 0: reaped */
	bool launcher_exited; /* by itself */
	int64_t started_us;
	int64_t timeout_us;
	uint64_t output_max;
	uint64_t output[2];
	char inbox[512]; /* of the report's socket, not understood yet */
	size_t inbox_len;
};

#define STEP_SCRATCH_SIZE 65536

void step_init(struct step *step, uv_loop_t *loop, struct host *host, struct cgroup_slot *cgroup,
	const struct step_listener *listener, char *scratch);
/* On failure nothing was started and nothing will be reported. */
int step_start(struct step *step, const struct step_spec *spec, struct err *err) MUST_CHECK;
/* Kills it, whatever it is doing; on_done follows. */
void step_stop(struct step *step, enum step_stop why);
/* SIGCHLD came: reap the launcher if it is ours that ended. */
void step_reap(struct step *step);
/* Closes the timers; on_closed twice. Only when idle. */
void step_close(struct step *step, uv_close_cb on_closed);

#endif
