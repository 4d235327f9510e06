/* Process 1 of the sandbox: lays out the files, starts the program, waits for its end, reports, and is gone; with it
 * the kernel kills whatever else lives in the process namespace.
 *
 * It shares its user id with the code that it watches, and must not be led or faked by it:
 * - it is not dumpable before anything else runs: /proc/1/{fd,mem,environ…} belong to nobody inside, ptrace,
 * process_vm_writev and
 *   pidfd_getfd are refused;
 * - as process 1 it cannot be killed or stopped from inside, and the seccomp filter keeps its limits out of reach
 * (prlimit);
 * - every descriptor but 0, 1 and 2 is closed when the program is executed;
 * - its report is a plain struct on a socket that nobody else holds; the executor believes nothing that comes another
 * way.
 *
 * It ends at once when the executor shuts down its side of that socket or dies.
 *
 * Unisolated (only where the operator asked for it) it is no process 1 and can only kill its descendants, orphans
 * included. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launch/launch.h"

#define DISK_FULL_BELOW (64 << 10) /* bytes: what is left when "no space" was the answer to an ordinary write */

struct supervisor {
	struct plan plan;
	bool isolated;
	int report;
	int stderr_fd;
	int archive_out; /* or -1 */
	int box, work;
	int signals;
	pid_t program;
	bool asked; /* to end it, by the executor */
	int status; /* of the program, once it ended */
	int64_t started_us;
};

static int64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void send_report(struct supervisor *supervisor, struct report *report)
{
	report->magic = REPORT_MAGIC;
	if (send(supervisor->report, report, sizeof(*report), MSG_NOSIGNAL) != sizeof(*report))
		_exit(125); /* nobody listens any more */
}

static void fail(struct supervisor *supervisor, int error, const char *where) __attribute__((noreturn));

static void fail(struct supervisor *supervisor, int error, const char *where)
{
	launch_report_failure(supervisor->report, where, error);
	_exit(125);
}

static int take_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, LAUNCH_FD_COUNT);
	close(fd);
	return copy;
}

static void take_descriptors(struct supervisor *supervisor)
{
	supervisor->report = take_fd(LAUNCH_FD_REPORT);
	supervisor->stderr_fd = take_fd(LAUNCH_FD_STDERR);
	supervisor->archive_out = take_fd(LAUNCH_FD_ARCHIVE_OUT);
	close(LAUNCH_FD_PROGRAM);
	close(LAUNCH_FD_FILTER);
	if (supervisor->report < 0 || supervisor->stderr_fd < 0)
		_exit(125);
}

static void open_box(struct supervisor *supervisor)
{
	const char *box = supervisor->plan.head->box;
	supervisor->box = open(box, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (supervisor->box < 0)
		fail(supervisor, errno, box);
	if (!supervisor->isolated) {
		tree_empty(supervisor->box);
		if (mkdirat(supervisor->box, "work", 0755) < 0 || mkdirat(supervisor->box, "home", 0755) < 0 ||
			mkdirat(supervisor->box, "tmp", 0755) < 0)
			fail(supervisor, errno, box);
	}
	supervisor->work = openat(supervisor->box, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (supervisor->work < 0 || fchdir(supervisor->work) < 0)
		fail(supervisor, errno, "the work directory");
}

/* The files do not fit: the end of a step that never began. */
static void report_too_large(struct supervisor *supervisor)
{
	send_report(supervisor, &(struct report){ .kind = REPORT_STARTED });
	send_report(
		supervisor, &(struct report){ .kind = REPORT_ENDED, .value = SIGKILL, .flags = ENDED_FILES_TOO_LARGE });
	if (!supervisor->isolated)
		tree_empty(supervisor->box);
	_exit(0);
}

static void lay_out_files(struct supervisor *supervisor)
{
	const struct plan *plan = &supervisor->plan;
	int rc = 0;
	if (plan->head->flags & PLAN_UNPACK) {
		struct stat st;
		if (fstat(LAUNCH_FD_ARCHIVE_IN, &st) < 0)
			fail(supervisor, errno, "what the compiler left");
		if (st.st_size > 0) {
			size_t len = (size_t)st.st_size;
			char *archive = mmap(NULL, len, PROT_READ, MAP_PRIVATE, LAUNCH_FD_ARCHIVE_IN, 0);
			if (archive == MAP_FAILED)
				fail(supervisor, errno, "what the compiler left");
			rc = archive_unpack(supervisor->box, archive, len, UINT32_MAX);
			munmap(archive, len);
		}
	}
	if (rc == 0)
		rc = archive_unpack(supervisor->work, plan->archive, plan->archive_len, plan->head->file_count);
	if (rc == -ENOSPC)
		report_too_large(supervisor);
	if (rc < 0)
		fail(supervisor, -rc, "laying out the files"); /* whose names are not for everybody who sees this */
	close(LAUNCH_FD_ARCHIVE_IN);
	close(LAUNCH_FD_PLAN);
}

/* Starts the program in a session of its own, without a copy of this process (a fork would take a fifth of the time
 * that `true` takes). What cannot be executed ends as a shell would have it end: false. */
static bool start_program(struct supervisor *supervisor)
{
	const struct plan *plan = &supervisor->plan;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigemptyset(&none);
	if (plan->head->processes > 0) {
		rlim_t most = (rlim_t)plan->head->processes + 2; /* and this process and bubblewrap */
		if (setrlimit(RLIMIT_NPROC, &(struct rlimit){ most, most }) < 0)
			fail(supervisor, errno, "the limit of processes");
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, supervisor->stderr_fd, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &none);
	int error = posix_spawn(&supervisor->program, plan->argv[0], &actions, &attributes, (char *const *)plan->argv,
		(char *const *)plan->env);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (error == 0)
		return true;
	dprintf(supervisor->stderr_fd, "cannot run %s: %s\n", plan->argv[0], strerror(error));
	/* As waitpid() would tell an exit code. */
	supervisor->status = (error == ENOENT ? 127 : 126) << 8;
	return false;
}

/* Until the program has ended. Orphans are reaped on the way. */
static void wait_for_program(struct supervisor *supervisor)
{
	struct pollfd polled[] = { { supervisor->signals, POLLIN, 0 }, { supervisor->report, POLLIN | POLLRDHUP, 0 } };
	for (;;) {
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == supervisor->program) {
				supervisor->status = status;
				return;
			}
		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			fail(supervisor, errno, "poll");
		if (polled[1].revents) {
			supervisor->status = SIGKILL;
			supervisor->asked = true;
			return; /* the executor wants it ended, or is no more */
		}
		struct signalfd_siginfo info;
		if (read(supervisor->signals, &info, sizeof(info)) < 0 && errno != EAGAIN && errno != EINTR)
			fail(supervisor, errno, "signalfd");
	}
}

static bool kill_children(void)
{
	char path[64], list[4096];
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t len = read(fd, list, sizeof(list) - 1);
	close(fd);
	if (len <= 0)
		return false;
	list[len] = 0;
	for (char *at = list, *end; *at; at = end) {
		long pid = strtol(at, &end, 10);
		if (end == at)
			break;
		if (*end) /* a number that the buffer cut off has no blank behind it */
			kill((pid_t)pid, SIGKILL);
	}
	return true;
}

static void kill_all(const struct supervisor *supervisor)
{
	if (supervisor->isolated) {
		kill(-1, SIGKILL); /* process 1: reaches what is in this namespace, and not itself */
		while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
		}
		return;
	}
	/* What a killed child leaves behind becomes a child of this process (a subreaper) and is met in the next
	 * round. */
	for (;;) {
		if (!kill_children())
			kill(supervisor->program, SIGKILL);
		pid_t pid = waitpid(-1, NULL, 0);
		if (pid < 0 && errno == ECHILD)
			return;
	}
}

static bool is_full(const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs) < 0)
		return false;
	return (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < DISK_FULL_BELOW || (fs.f_files > 0 && fs.f_ffree == 0);
}

static void report_end(struct supervisor *supervisor)
{
	const struct plan_head *head = supervisor->plan.head;
	struct report report = { .kind = REPORT_ENDED, .value = supervisor->status };
	report.wall_us = now_us() - supervisor->started_us;
	if (supervisor->asked)
		report.flags |= ENDED_ASKED;
	if (supervisor->isolated && (is_full(head->box) || is_full("/dev/shm")))
		report.flags |= ENDED_DISK_FULL;
	kill_all(supervisor);
	struct rusage usage;
	getrusage(RUSAGE_CHILDREN, &usage);
	report.cpu_us = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
			usage.ru_stime.tv_usec;
	report.memory_bytes = (int64_t)usage.ru_maxrss * 1024;
	if ((head->flags & PLAN_PACK) && supervisor->status == 0) {
		int rc = archive_pack(supervisor->box, "tmp", supervisor->archive_out, head->archive_max);
		if (rc == -E2BIG)
			report.flags |= ENDED_FILES_TOO_LARGE;
		else if (rc < 0)
			fail(supervisor, -rc, "packing up what the compiler left");
	}
	if (!supervisor->isolated)
		tree_empty(supervisor->box);
	send_report(supervisor, &report);
}

void supervise(void)
{
	struct supervisor supervisor = { .isolated = getpid() == 1 };
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		_exit(125);
	plan_read(&supervisor.plan);
	if (!supervisor.isolated && !(supervisor.plan.head->flags & PLAN_UNISOLATED))
		launch_die("not process 1 of a sandbox", EPERM);
	take_descriptors(&supervisor);
	if (!supervisor.isolated && (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 || setsid() < 0))
		fail(&supervisor, errno, "subreaper");
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	supervisor.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (supervisor.signals < 0)
		fail(&supervisor, errno, "signalfd");
	umask(022);
	open_box(&supervisor);
	lay_out_files(&supervisor);
	send_report(&supervisor, &(struct report){ .kind = REPORT_STARTED });
	supervisor.started_us = now_us();
	if (start_program(&supervisor))
		wait_for_program(&supervisor);
	report_end(&supervisor);
	_exit(0);
}
