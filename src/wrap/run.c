/* The job, as process 1 of the container.
 *
 *   each step: box ready ─► program started ─► its end, or a limit ─► all others killed ─► pipes emptied ─► reported
 *   then: the end reported; the termination message; until the listener has it all, or its time is up
 *
 * The code has the same user id. What keeps it from leading or faking this process:
 * - it is not dumpable before anything runs, so /proc/1/{environ,mem,fd…}, ptrace, process_vm_writev and pidfd_getfd
 *   are refused; its environment, which had the key, has been overwritten;
 * - process 1 cannot be killed or stopped from within; a signal counts only when it comes from outside the namespace,
 *   where the kernel says "process 0", which nobody inside can make it say of a plain kill;
 * - children have no descriptors but their own three, and those are pipes that only the code can be hurt by;
 * - when a step's end is told, no process is left that could change a file or the termination message afterwards;
 * - nothing here waits for the code or for the network: one poll over pipes, signals and the connection. A listener
 *   that takes output slowly slows the code down, as any reader does; one that takes nothing is not waited for, and
 *   what finds no room in the queue is dropped and marked. Ends always have room. */
#include "wrap/run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wrap/box.h"
#include "wrap/child.h"
#include "wrap/container.h"
#include "wrap/post.h"

#define NEVER INT64_MAX
#define STALL_LOOK_US 50000 /* how soon it is looked at again whether a full queue moves */
#define KILL_AGAIN_US 10000
#define SIGNALS_AT_ONCE 8
#define LINGER_AFTER_TERM_US 1000000
#define COUNT_FIRST_US 100000 /* the kernel tells of no fork: processes are counted … */
#define COUNT_MOST_US 1000000 /* … with pauses that grow up to this while nothing is forked */
#define LOG_WAIT_MS 100 /* for the container's own standard output */
#define SIGNAL_OF_SYSTEMD 37 /* SIGRTMIN + 3 as the images' own C library counts; ours may count otherwise */
#define LOG_WAITS_MAX 20 /* so often a step waits for it in vain */

enum stop { NOT_STOPPED, STOP_TIMEOUT, STOP_OUTPUT, STOP_ASKED, STOP_GRACE, STOP_PROCESSES };

/* One step, while it runs. */
struct running {
	const struct job_step *step;
	pid_t pid; /* 0: none */
	bool ended;
	int status;
	int pipes[2]; /* our ends; -1: closed */
	uint64_t printed[2]; /* so much of the limit is used */
	bool truncated[2], dropped[2];
	int log_waits;
	int64_t began_us, deadline_us;
	int64_t tell_us; /* when the next progress is due */
	int64_t count_us,
		pause_us; /* when its processes are to be counted next; how long after the last time that is */
	uint64_t last_id; /* process id that was given out */
	uint64_t counted, counted_id; /* so many it had when that was the last */
	bool crowded; /* it had as many of them as it may, or more */
	int64_t cpu_before_us; /* of the container; -1: not known */
	enum stop stop;
	struct child_usage usage;
};

struct runner {
	const struct run_options *options;
	const struct job *job;
	struct box box;
	struct post post;
	bool posting;
	bool own_users; /* the kernel keeps to the limit of processes */
	int signals;
	int64_t looked_us; /* monotonic: up to when it is known whether the listener moves; 0: not yet */
	struct running now;
	bool started;
	int64_t started_us; /* monotonic: of the first step */
	bool terminated;
	int64_t grace_us; /* until when the code may go on after SIGTERM */
	uint8_t steps[REPORT_STEPS_MAX * REPORT_STEP_SIZE]; /* as they are told */
	uint16_t step_count;
	enum report_reason last;
	int exit_status;
	uint8_t scratch[65536];
};

static int64_t clock_us(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- output ---- */

/* To the pod's log. It has a reader that never sleeps long; where it does, the log loses. */
static void copy_to_log(struct runner *runner, int index, const uint8_t *data, size_t len)
{
	struct running *now = &runner->now;
	while (len > 0) {
		ssize_t n = write(index + 1, data, len);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		struct pollfd polled = { index + 1, POLLOUT, 0 };
		bool is_stuck = n == 0 || errno != EAGAIN;
		if (!is_stuck && now->log_waits < LOG_WAITS_MAX && poll(&polled, 1, LOG_WAIT_MS) <= 0)
			now->log_waits++;
		if (is_stuck || now->log_waits >= LOG_WAITS_MAX) {
			now->dropped[index] |= !runner->posting;
			return;
		}
	}
}

/* Whether there is somewhere to put output, or it will not be waited for. */
static bool may_read(struct runner *runner, int64_t now)
{
	if (!runner->posting)
		return true;
	if (runner->looked_us > 0)
		post_not_looked_at(&runner->post, now - runner->looked_us, now);
	runner->looked_us = now;
	return post_has_room(&runner->post) || !post_moves(&runner->post, now);
}

/* Reads once. False when there is nothing to read, now or for good. */
static bool read_output(struct runner *runner, int index)
{
	struct running *now = &runner->now;
	uint64_t left = runner->job->settings.output_bytes - now->printed[index];
	uint8_t *to = NULL;
	size_t room = 0;
	if (runner->posting && left > 0 && !now->dropped[index])
		to = post_output_room(
			&runner->post, now->step->compile, now->step->run, index + 1, now->printed[index], &room);
	bool queued = to != NULL;
	if (!queued) {
		to = runner->scratch;
		room = sizeof(runner->scratch);
	}
	if (left > 0 && room > left)
		room = (size_t)left;
	ssize_t n = read(now->pipes[index], to, room);
	if (queued)
		post_output_added(&runner->post, n > 0 ? (size_t)n : 0);
	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			close(now->pipes[index]);
			now->pipes[index] = -1;
		}
		return false;
	}
	if (left == 0) {
		now->truncated[index] = true;
		if (now->stop == NOT_STOPPED)
			now->stop = STOP_OUTPUT;
		return true;
	}
	now->printed[index] += (uint64_t)n;
	if (runner->posting && !queued)
		now->dropped[index] = true;
	if (runner->job->settings.flags & PLAN_LOG)
		copy_to_log(runner, index, to, (size_t)n);
	return true;
}

/* ---- one turn of the loop ---- */

/* What runtimes tell a container to end with: an image may name another signal than SIGTERM (its STOPSIGNAL). */
static void hear(sigset_t *heard)
{
	const int ends[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGNAL_OF_SYSTEMD };
	sigemptyset(heard);
	sigaddset(heard, SIGCHLD);
	for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++)
		sigaddset(heard, ends[i]);
}

static void take_signals(struct runner *runner)
{
	struct signalfd_siginfo info;
	/* Where nothing scopes signals the code may send them without end: the rest comes with the next turn. */
	for (int i = 0; i < SIGNALS_AT_ONCE && read(runner->signals, &info, sizeof(info)) == sizeof(info); i++) {
		bool is_ours = info.ssi_signo != SIGCHLD && info.ssi_code == SI_USER && info.ssi_pid == 0;
		if (!is_ours || runner->terminated)
			continue;
		runner->terminated = true;
		runner->grace_us = now_us() + runner->job->settings.grace_us;
		kill(-1, (int)info.ssi_signo);
	}
}

static void reap(struct runner *runner)
{
	struct running *now = &runner->now;
	int status;
	for (pid_t pid; (pid = child_reap(&now->usage, &status)) > 0;)
		if (pid == now->pid && !now->ended) {
			now->ended = true;
			now->status = status;
		}
}

static bool listener_says(const struct runner *runner, enum report_command command)
{
	return runner->posting && runner->post.answered && runner->post.answer.command == command;
}

/* Until something happens, at the latest until `until_us`. */
static void turn(struct runner *runner, int64_t until_us)
{
	struct running *now = &runner->now;
	struct pollfd polled[4];
	int64_t at = now_us();
	bool read = may_read(runner, at);
	polled[0] = (struct pollfd){ runner->signals, POLLIN, 0 };
	polled[1] = (struct pollfd){ -1, 0, 0 };
	if (runner->posting) {
		post_poll(&runner->post, &polled[1]);
		until_us = earlier(until_us, post_wake_us(&runner->post, at));
	}
	if (!read)
		until_us = earlier(until_us, at + STALL_LOOK_US);
	for (int i = 0; i < 2; i++)
		polled[2 + i] = (struct pollfd){ read && now->step ? now->pipes[i] : -1, POLLIN, 0 };
	int64_t wait = until_us == NEVER ? -1 : until_us - at;
	struct timespec span = { wait / 1000000, wait % 1000000 * 1000 };
	if (wait < 0 && until_us != NEVER)
		span = (struct timespec){ 0, 0 };
	if (ppoll(polled, 4, until_us == NEVER ? NULL : &span, NULL) < 0)
		memset(polled, 0, sizeof(polled));
	runner->looked_us = now_us();
	if (polled[0].revents)
		take_signals(runner);
	for (int i = 0; i < 2; i++)
		if (polled[2 + i].revents)
			read_output(runner, i);
	if (runner->posting)
		post_turn(&runner->post, polled[1].revents, now_us());
}

/* ---- reports ---- */

static void post_frame(struct runner *runner, struct report_frame *frame)
{
	frame->at_us = clock_us(CLOCK_REALTIME);
	if (runner->posting)
		post_add(&runner->post, frame);
}

static struct report_end make_end(const struct runner *runner, enum report_how how, const char *message)
{
	struct report_end end = {
		.how = how, .ended = runner->step_count, .count = runner->step_count, .steps = runner->steps
	};
	snprintf(end.message, sizeof(end.message), "%s", message);
	return end;
}

static void write_termination(const struct runner *runner, const struct report_end *end)
{
	char text[REPORT_TEXT_MAX];
	int fd = runner->options->termination;
	if (fd < 0)
		return;
	size_t len = report_text_make(runner->options->signer, clock_us(CLOCK_REALTIME), end, text);
	if (pwrite(fd, text, len, 0) != (ssize_t)len || ftruncate(fd, (off_t)len) < 0)
		dprintf(STDERR_FILENO, "assay-wrap: cannot write the termination message: %s\n", strerror(errno));
}

static void report_step(struct runner *runner, struct report_step *step)
{
	struct report_frame frame = { .kind = FRAME_STEP_ENDED, .step = *step };
	report_step_put(runner->steps + (size_t)runner->step_count++ * REPORT_STEP_SIZE, step);
	runner->last = step->reason;
	post_frame(runner, &frame);
}

/* What is known so far, before there is more to do: the box is cleaned then, which can take a while. */
static void tell_so_far(struct runner *runner)
{
	struct report_end end = make_end(runner, HOW_UNFINISHED, "");
	write_termination(runner, &end);
	turn(runner, 0);
}

/* There is something that the listener did not take: all that is still here stays in the pod's log, for whoever looks there and may not have
 * what another has taken. */
static void leave_frames(struct runner *runner)
{
	static char line[REPORT_LINE_MAX + 1];
	const uint8_t *frame;
	size_t at = 0, len;
	fcntl(STDOUT_FILENO, F_SETFL, fcntl(STDOUT_FILENO, F_GETFL) | O_NONBLOCK);
	while ((frame = post_next_left(&runner->post, &at, &len))) {
		size_t size = report_line_make(frame, len, line);
		line[size++] = '\n';
		copy_to_log(runner, 0, (const uint8_t *)line, size);
	}
}

static int finish(struct runner *runner, enum report_how how, const char *message)
{
	struct report_frame frame = { .kind = FRAME_ENDED, .end = make_end(runner, how, message) };
	write_termination(runner, &frame.end);
	post_frame(runner, &frame);
	int64_t until = now_us() + runner->job->settings.patience_us;
	while (runner->posting && !post_is_empty(&runner->post)) {
		int64_t most = runner->terminated ? runner->grace_us + LINGER_AFTER_TERM_US : NEVER;
		int64_t contact = runner->post.contact_us;
		turn(runner, earlier(until, most));
		if (runner->post.contact_us > contact) /* it is there: it gets the time that it needs */
			until = runner->post.contact_us + runner->job->settings.patience_us;
		if (now_us() >= earlier(until, most))
			break;
	}
	if (runner->posting && !post_is_empty(&runner->post))
		leave_frames(runner);
	if (how != HOW_FAILED)
		return runner->exit_status;
	dprintf(STDERR_FILENO, "assay-wrap: %s\n", message);
	return RUN_EXIT_FAILED;
}

/* ---- a step ---- */

/* Everything in this namespace but process 1. The kernel's walk and forks exclude each other, so that one round reaches
 * all; the others are for what takes time to die. */
static void kill_all(struct runner *runner)
{
	int status;
	for (;;) {
		pid_t pid;
		kill(-1, SIGKILL);
		while ((pid = child_reap(&runner->now.usage, &status)) > 0)
			if (pid == runner->now.pid && !runner->now.ended) {
				runner->now.ended = true;
				runner->now.status = status;
			}
		if (pid < 0 && errno == ECHILD)
			return;
		turn(runner, now_us() + KILL_AGAIN_US);
	}
}

static void open_pipes(struct runner *runner, int theirs[2], int *ret_error)
{
	*ret_error = 0;
	theirs[0] = theirs[1] = -1;
	for (int i = 0; i < 2 && *ret_error == 0; i++) {
		int pair[2];
		if (pipe2(pair, O_CLOEXEC) < 0) {
			*ret_error = errno;
			break;
		}
		runner->now.pipes[i] = pair[0];
		theirs[i] = pair[1];
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
	}
}

static bool tells_progress(const struct runner *runner)
{
	return runner->posting && runner->job->settings.progress_us > 0;
}

static void say_started(struct runner *runner)
{
	if (runner->started)
		return;
	struct report_frame frame = { .kind = FRAME_STARTED, .started = runner->options->started };
	runner->started = true;
	post_frame(runner, &frame);
	if (runner->posting)
		post_turn(&runner->post, 0, now_us()); /* the connection is made while the code starts */
}

/* What cannot be executed ends as a shell would have it end, and says so where the program would have. */
static void say_unexecutable(struct runner *runner, const char *word, int error, int fd)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	dprintf(fd, "cannot run %s: %s\n", word, strerror(error));
	runner->now.ended = true;
	runner->now.status = (error == ENOENT ? 127 : 126) << 8;
}

/* Starts the program, or notes why it could not be. A negative errno where that was no fault of the code. */
static int start(struct runner *runner)
{
	struct running *now = &runner->now;
	int theirs[2], error, refused = 0;
	char **words = job_words(runner->job, now->step);
	int in = box_stdin(&runner->box, now->step);
	open_pipes(runner, theirs, &error);
	if (!words || in < 0 || error != 0) {
		error = !words ? -ENOMEM : in < 0 ? in : -error;
	} else {
		const struct child_spec spec = { .words = words,
			.env = runner->job->env,
			.in = in,
			.out = theirs[0],
			.err = theirs[1],
			.work = runner->box.work,
			.ruleset = runner->options->ruleset,
			.processes = runner->own_users ? runner->job->settings.processes : 0 };
		now->cpu_before_us = tells_progress(runner) ? container_cpu_us() : -1;
		now->began_us = now_us();
		now->pause_us = COUNT_FIRST_US;
		now->count_us = now->began_us + now->pause_us;
		now->counted_id = now->last_id = child_last_id();
		now->tell_us = now->began_us + runner->job->settings.progress_us;
		now->deadline_us = now->began_us + now->step->timeout_us;
		if (runner->started_us == 0)
			runner->started_us = now->began_us;
		if (runner->job->settings.total_us > 0)
			now->deadline_us =
				earlier(now->deadline_us, runner->started_us + runner->job->settings.total_us);
		now->pid = child_start(&spec, &refused);
		if (now->pid == 0)
			say_unexecutable(runner, words[0], refused, theirs[1]);
		error = now->pid < 0 ? now->pid : 0;
	}
	job_forget(runner->job);
	free(words);
	if (in >= 0)
		close(in);
	for (int i = 0; i < 2; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	return error;
}

static int64_t cpu_of_step(const struct running *now)
{
	int64_t cpu_us = now->cpu_before_us < 0 ? -1 : container_cpu_us();
	/* Without it, of those that have ended and of the first of those that have not. */
	return cpu_us < 0 ? now->usage.cpu_us + (now->pid > 0 ? child_cpu_us(now->pid) : 0)
			  : cpu_us - now->cpu_before_us;
}

/* Returns when it is to be told again. */
static int64_t tell_progress(struct runner *runner, int64_t at)
{
	struct running *now = &runner->now;
	if (!tells_progress(runner))
		return NEVER;
	if (at < now->tell_us)
		return now->tell_us;
	struct report_frame frame = { .kind = FRAME_PROGRESS,
		.progress = { .compile = now->step->compile,
			.run = now->step->run,
			.wall_us = at - now->began_us,
			.cpu_us = cpu_of_step(now),
			.memory_bytes = container_memory_bytes() } };
	post_pass(&runner->post, &frame);
	now->tell_us = at + runner->job->settings.progress_us;
	return now->tell_us;
}

/* At most so many are there now: those that there were, and all that was forked since. UINT64_MAX: not known. */
static uint64_t processes_at_most(const struct running *now)
{
	bool is_known = now->counted_id > 0 && now->last_id >= now->counted_id;
	return is_known ? now->counted + (now->last_id - now->counted_id) : UINT64_MAX;
}

/* Where nothing is forked beyond the limit, to have reached it is as much as can be seen. What forks little is never counted. */
static void count_processes(struct runner *runner)
{
	struct running *now = &runner->now;
	uint64_t limit = runner->job->settings.processes, most = runner->own_users ? limit - 1 : limit;
	now->last_id = limit > 0 ? child_last_id() : 0;
	if (limit == 0 || processes_at_most(now) <= most)
		return;
	/* The first, when it has just ended, is one of those that it had. */
	now->counted = child_count(most) + now->ended;
	now->counted_id = now->last_id;
	now->crowded |= now->counted > most;
}

/* Returns when they are to be counted again. */
static int64_t look_at_processes(struct runner *runner, int64_t at)
{
	struct running *now = &runner->now;
	if (runner->job->settings.processes == 0 || now->crowded)
		return NEVER;
	if (at < now->count_us)
		return now->count_us;
	uint64_t last_id = now->last_id;
	count_processes(runner);
	now->pause_us = last_id == now->last_id ? earlier(2 * now->pause_us, COUNT_MOST_US) : COUNT_FIRST_US;
	now->count_us = at + now->pause_us;
	return now->crowded && !runner->own_users ? at : now->count_us;
}

static void watch(struct runner *runner)
{
	struct running *now = &runner->now;
	while (!now->ended && now->stop == NOT_STOPPED) {
		int64_t at = now_us();
		if (at >= now->deadline_us)
			now->stop = STOP_TIMEOUT;
		else if (runner->terminated && at >= runner->grace_us)
			now->stop = STOP_GRACE;
		else if (listener_says(runner, COMMAND_ABORT))
			now->stop = STOP_ASKED;
		else if (now->crowded && !runner->own_users)
			now->stop = STOP_PROCESSES;
		else
			turn(runner, earlier(earlier(tell_progress(runner, at), look_at_processes(runner, at)),
					     earlier(now->deadline_us, runner->terminated ? runner->grace_us : NEVER)));
		reap(runner);
	}
}

static void empty_pipes(struct runner *runner)
{
	for (int i = 0; i < 2; i++) {
		do
			while (!may_read(runner, now_us()))
				turn(runner, now_us() + STALL_LOOK_US);
		while (runner->now.pipes[i] >= 0 && read_output(runner, i));
		if (runner->now.pipes[i] >= 0)
			close(runner->now.pipes[i]);
		runner->now.pipes[i] = -1;
	}
}

static bool rose(int64_t before, int64_t now)
{
	return before >= 0 && now > before;
}

static enum report_reason judge(const struct runner *runner, int64_t oom_kills, int64_t refused, bool no_room)
{
	const struct running *now = &runner->now;
	/* It was killed, or ended by itself just before. */
	bool killed = !now->ended || (WIFSIGNALED(now->status) && WTERMSIG(now->status) == SIGKILL);
	if (no_room)
		return REPORT_REASON_DISK_LIMIT;
	if (now->truncated[0] || now->truncated[1])
		return REPORT_REASON_OUTPUT_LIMIT;
	if (runner->terminated || now->stop == STOP_ASKED)
		return REPORT_REASON_STOPPED;
	if (now->stop == STOP_TIMEOUT && killed)
		return REPORT_REASON_TIMEOUT;
	if (now->stop == STOP_PROCESSES && killed)
		return REPORT_REASON_PROCESS_LIMIT;
	if (now->status == 0)
		return REPORT_REASON_NONE;
	if (rose(oom_kills, container_oom_kills()))
		return REPORT_REASON_OUT_OF_MEMORY;
	if (box_is_full(&runner->box))
		return REPORT_REASON_DISK_LIMIT;
	if (now->crowded || rose(refused, container_forks_refused()))
		return REPORT_REASON_PROCESS_LIMIT;
	if (now->step->compile)
		return REPORT_REASON_COMPILE_ERROR;
	return WIFSIGNALED(now->status) ? REPORT_REASON_SIGNAL : REPORT_REASON_EXIT_CODE;
}

static void tell(struct runner *runner, enum report_reason reason, int64_t wall_us)
{
	const struct running *now = &runner->now;
	struct report_step step = { .compile = now->step->compile,
		.run = now->step->run,
		.reason = reason,
		.exit_code = WIFEXITED(now->status) ? WEXITSTATUS(now->status) : -1,
		.signal = WIFSIGNALED(now->status) ? WTERMSIG(now->status) : 0,
		.wall_us = wall_us,
		.cpu_us = now->usage.cpu_us,
		.memory_bytes = now->usage.memory_bytes,
		.ended_ms = (now_us() - runner->started_us) / 1000,
		.truncated = { now->truncated[0], now->truncated[1] },
		.dropped = { now->dropped[0], now->dropped[1] } };
	runner->exit_status = step.signal > 0 ? 128 + step.signal : step.exit_code;
	report_step(runner, &step);
}

/* Runs a step to its report. A negative errno where it could not be done; then nothing was reported. */
static int run_step(struct runner *runner, const struct job_step *step, const char **ret_what)
{
	struct running *now = &runner->now;
	*now = (struct running){ .step = step, .pipes = { -1, -1 } };
	*ret_what = "laying out the files"; /* whose names are not for everybody who sees this */
	int64_t oom_kills = container_oom_kills(), refused = container_forks_refused();
	int rc = box_prepare(&runner->box, step);
	bool no_room = rc == -ENOSPC;
	if (rc == 0 || no_room)
		say_started(runner);
	if (no_room) {
		now->began_us = now_us();
		now->status = SIGKILL;
		if (runner->started_us == 0)
			runner->started_us = now->began_us;
		rc = 0;
	} else if (rc == 0) {
		*ret_what = "starting the program";
		rc = start(runner);
		if (rc == 0)
			watch(runner);
	}
	int64_t wall_us = now_us() - now->began_us;
	if (!no_room)
		count_processes(runner); /* what it leaves behind shows what it had */
	kill_all(runner);
	if (rc < 0)
		return rc;
	empty_pipes(runner);
	if (!now->ended)
		now->status = SIGKILL;
	enum report_reason reason = judge(runner, oom_kills, refused, no_room);
	if (step->compile && reason == REPORT_REASON_NONE) {
		*ret_what = "keeping what the compile left";
		rc = box_keep(&runner->box);
		if (rc < 0 && rc != -E2BIG)
			return rc;
		if (rc == -E2BIG)
			reason = REPORT_REASON_DISK_LIMIT;
	}
	tell(runner, reason, wall_us);
	now->step = NULL;
	return 0;
}

/* ---- all of them ---- */

/* Waits for the listener's word on the next run. HOW_UNFINISHED: go on. */
static enum report_how ask(struct runner *runner, const struct job_step *next)
{
	const int64_t begun_us = now_us();
	while (!listener_says(runner, COMMAND_GO_ON) || runner->post.answer.runs <= next->run) {
		if (listener_says(runner, COMMAND_STOP) || listener_says(runner, COMMAND_ABORT))
			return HOW_STOPPED;
		if (runner->terminated)
			return HOW_TERMINATED;
		int64_t heard_us = runner->post.contact_us > begun_us ? runner->post.contact_us : begun_us;
		int64_t most = heard_us + runner->job->settings.patience_us;
		if (now_us() >= most)
			return HOW_UNANSWERED;
		if (post_is_empty(&runner->post)) {
			struct report_frame frame = { .kind = FRAME_ASK, .ask_run = next->run };
			post_frame(runner, &frame);
		}
		turn(runner, most);
	}
	return HOW_UNFINISHED;
}

static enum report_how before_next(struct runner *runner, const struct job_step *next)
{
	if (runner->terminated)
		return HOW_TERMINATED;
	if (listener_says(runner, COMMAND_STOP) || listener_says(runner, COMMAND_ABORT))
		return HOW_STOPPED;
	if (runner->posting && (runner->job->settings.flags & PLAN_ASK) && next->run > 0)
		return ask(runner, next);
	return HOW_UNFINISHED;
}

static int run_steps(struct runner *runner)
{
	const struct job *job = runner->job;
	for (size_t i = 0; i < job->step_count; i++) {
		if (i > 0)
			tell_so_far(runner);
		enum report_how how = before_next(runner, &job->steps[i]);
		if (how != HOW_UNFINISHED)
			return finish(runner, how, "");
		const char *what;
		int rc = run_step(runner, &job->steps[i], &what);
		if (rc < 0) {
			char message[REPORT_MESSAGE_MAX];
			snprintf(message, sizeof(message), "%s: %s", what, strerror(-rc));
			return finish(runner, HOW_FAILED, message);
		}
		if (job->steps[i].compile && runner->last != REPORT_REASON_NONE && !runner->terminated)
			break;
	}
	if (runner->terminated)
		return finish(runner, HOW_TERMINATED, "");
	return finish(runner, listener_says(runner, COMMAND_ABORT) ? HOW_STOPPED : HOW_COMPLETE, "");
}

void run_complain(int termination, const char *message)
{
	dprintf(STDERR_FILENO, "assay-wrap: %s\n", message);
	if (termination >= 0 && ftruncate(termination, 0) == 0)
		dprintf(termination, "assay-wrap: %s\n", message);
}

int run_job(const struct run_options *options)
{
	static struct runner runner;
	runner.options = options;
	runner.job = options->job;
	runner.own_users = (options->job->settings.flags & PLAN_OWN_USERS) && child_has_own_users();
	sigset_t heard;
	hear(&heard);
	runner.signals = signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK);
	runner.now.pipes[0] = runner.now.pipes[1] = -1;
	umask(022);
	for (int fd = 1; fd <= 2 && (options->job->settings.flags & PLAN_LOG); fd++)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	const char *what = "signals";
	int rc = runner.signals < 0 ? -errno : 0;
	if (rc == 0 && options->job->listener_count > 0) {
		runner.posting = post_init(&runner.post, options->signer, options->job->listeners,
			options->job->listener_count, options->job->channel, now_us());
		what = "the listener's address";
		rc = runner.posting ? 0 : -EINVAL;
	}
	if (rc == 0) {
		what = "the directory for the code";
		rc = box_init(&runner.box, options->job);
	}
	if (rc == 0)
		return run_steps(&runner);
	char message[REPORT_MESSAGE_MAX];
	snprintf(message, sizeof(message), "%s: %s", what, strerror(-rc));
	if (runner.signals >= 0)
		return finish(&runner, HOW_FAILED, message);
	run_complain(options->termination, message);
	return RUN_EXIT_FAILED;
}
