/* Process 1 of the sandbox: lays out the files, starts the program, waits for its end, reports, and is gone; with it the kernel
 * kills whatever else lives in the process namespace.
 *
 * It shares its user id with the code that it watches, and must not be led or faked by it:
 * - it is not dumpable before anything else runs: /proc/1/{fd,mem,environ…} belong to nobody inside, ptrace, process_vm_writev and
 *   pidfd_getfd are refused;
 * - as process 1 it cannot be killed or stopped from inside, and the seccomp filter keeps its limits out of reach (prlimit);
 * - every descriptor but 0, 1 and 2 is closed when the program is executed;
 * - its report is a plain struct on a socket that nobody else holds; the executor believes nothing that comes another way.
 *
 * It ends at once when the executor shuts down its side of that socket or dies.
 *
 * Unisolated (only where the operator asked for it) it is no process 1 and can only kill its descendants, orphans included. */
#include <errno.h>
#include <linux/wait.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "launch/launch.h"
#include "launch/sys.h"

#define DISK_FULL_BELOW (64 << 10) /* bytes: what is left when "no space" was the answer to an ordinary write */

struct supervisor {
	struct plan plan;
	bool isolated;
	int report;
	int stderr_fd;
	int archive_out; /* or -1 */
	int box, work;
	int signals;
	int program;
	int status; /* of the program, once it ended */
	bool asked; /* to end it, by the executor */
	int64_t started_us;
};

static int64_t now_us(void)
{
	struct timespec now;
	SYS_2(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void send_report(struct supervisor *supervisor, struct report *report)
{
	report->magic = REPORT_MAGIC;
	if (SYS_6(SYS_sendto, supervisor->report, report, sizeof(*report), MSG_NOSIGNAL, 0, 0) != sizeof(*report))
		sys_exit(125); /* nobody listens any more */
}

static void fail(struct supervisor *supervisor, int error, const char *where) __attribute__((noreturn));

static void fail(struct supervisor *supervisor, int error, const char *where)
{
	launch_report_failure(supervisor->report, where, error);
	sys_exit(125);
}

static int take_fd(int fd)
{
	int copy = sys_fcntl(fd, F_DUPFD_CLOEXEC, LAUNCH_FD_COUNT);
	sys_close(fd);
	return copy;
}

static void take_descriptors(struct supervisor *supervisor)
{
	supervisor->report = take_fd(LAUNCH_FD_REPORT);
	supervisor->stderr_fd = take_fd(LAUNCH_FD_STDERR);
	supervisor->archive_out = take_fd(LAUNCH_FD_ARCHIVE_OUT);
	sys_close(LAUNCH_FD_PROGRAM);
	sys_close(LAUNCH_FD_FILTER);
	if (supervisor->report < 0 || supervisor->stderr_fd < 0)
		sys_exit(125);
}

static void open_box(struct supervisor *supervisor)
{
	static const char *const parts[] = { "work", "home", "tmp" };
	const char *box = supervisor->plan.head->box;
	supervisor->box = sys_openat(AT_FDCWD, box, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (supervisor->box < 0)
		fail(supervisor, -supervisor->box, box);
	if (!supervisor->isolated) {
		tree_empty(supervisor->box);
		for (int i = 0; i < 3; i++) {
			int rc = sys_mkdirat(supervisor->box, parts[i], 0755);
			if (rc < 0)
				fail(supervisor, -rc, box);
		}
	}
	supervisor->work = sys_openat(supervisor->box, parts[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long rc = supervisor->work < 0 ? supervisor->work : SYS_1(SYS_fchdir, supervisor->work);
	if (rc < 0)
		fail(supervisor, (int)-rc, "the work directory");
}

static void lay_out_files(struct supervisor *supervisor)
{
	const struct plan *plan = &supervisor->plan;
	const char *where = "";
	int rc = 0;
	if (plan->head->flags & PLAN_UNPACK) {
		struct stat st;
		rc = sys_fstat(LAUNCH_FD_ARCHIVE_IN, &st);
		if (rc < 0)
			fail(supervisor, -rc, "what the compiler left");
		size_t len = (size_t)st.st_size;
		const char *archive = len > 0 ? sys_map(len, PROT_READ, MAP_PRIVATE, LAUNCH_FD_ARCHIVE_IN) : "";
		if (!archive)
			fail(supervisor, ENOMEM, "what the compiler left");
		rc = archive_unpack(supervisor->box, archive, len, UINT32_MAX, &where);
	}
	if (rc == 0)
		rc = archive_unpack(supervisor->work, plan->archive, plan->archive_len, plan->head->file_count, &where);
	if (rc < 0)
		fail(supervisor, -rc, where);
	sys_close(LAUNCH_FD_ARCHIVE_IN);
	sys_close(LAUNCH_FD_PLAN);
}

static const char *error_text(int error)
{
	switch (error) {
	case ENOENT:
		return "No such file or directory";
	case EACCES:
		return "Permission denied";
	case ENOEXEC:
		return "Exec format error";
	case E2BIG:
		return "Argument list too long";
	case ENOMEM:
		return "Cannot allocate memory";
	default:
		return "it cannot be executed";
	}
}

static void run_program(struct supervisor *supervisor) __attribute__((noreturn));

/* In the child. Like a shell, 127 and 126 are the exit codes of what could not be run. */
static void run_program(struct supervisor *supervisor)
{
	const struct plan *plan = &supervisor->plan;
	const uint64_t none = 0;
	if (sys_dup2(supervisor->stderr_fd, 2) < 0)
		sys_exit(125);
	SYS_1(SYS_setsid, 0);
	SYS_4(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, sizeof(none));
	if (plan->head->processes > 0) {
		rlim_t most = (rlim_t)plan->head->processes + 2; /* and process 1 and bubblewrap */
		const struct rlimit limit = { most, most };
		SYS_4(SYS_prlimit64, 0, RLIMIT_NPROC, &limit, 0);
	}
	long rc = SYS_3(SYS_execve, plan->argv[0], plan->argv, plan->env);
	char message[512] = "cannot run ";
	text_append(message, sizeof(message), plan->argv[0]);
	text_append(message, sizeof(message), ": ");
	text_append(message, sizeof(message), error_text((int)-rc));
	text_append(message, sizeof(message), "\n");
	sys_write(2, message, strlen(message));
	sys_exit(rc == -ENOENT ? 127 : 126);
}

/* Until the program has ended. Orphans are reaped on the way. */
static void wait_for_program(struct supervisor *supervisor)
{
	struct pollfd polled[] = { { supervisor->signals, POLLIN, 0 }, { supervisor->report, POLLIN | POLLRDHUP, 0 } };
	for (;;) {
		int status, pid;
		while ((pid = sys_waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == supervisor->program) {
				supervisor->status = status;
				return;
			}
		long rc = SYS_6(SYS_ppoll, polled, 2, 0, 0, 0, 0);
		if (rc < 0 && rc != -EINTR)
			fail(supervisor, (int)-rc, "poll");
		if (polled[1].revents) {
			supervisor->status = SIGKILL;
			supervisor->asked = true;
			return; /* the executor wants it ended, or is no more */
		}
		struct signalfd_siginfo info;
		rc = sys_read(supervisor->signals, &info, sizeof(info));
		if (rc < 0 && rc != -EAGAIN && rc != -EINTR)
			fail(supervisor, (int)-rc, "signalfd");
	}
}

/* Those that are known now; false where they cannot be told. */
static bool kill_children(void)
{
	char path[64] = "/proc/self/task/", list[4096];
	text_append_number(path, sizeof(path), (uint64_t)sys_getpid());
	text_append(path, sizeof(path), "/children");
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	long len = sys_read(fd, list, sizeof(list));
	sys_close(fd);
	int pid = 0;
	for (long i = 0; i < len; i++) {
		if (list[i] >= '0' && list[i] <= '9') {
			pid = pid * 10 + (list[i] - '0');
			continue;
		}
		if (pid > 1) /* a number that the buffer cut off has no blank behind it, and is met in the next round */
			sys_kill(pid, SIGKILL);
		pid = 0;
	}
	return len > 0;
}

static void kill_all(const struct supervisor *supervisor)
{
	if (supervisor->isolated) {
		sys_kill(-1, SIGKILL); /* from process 1: reaches what is in this namespace, and not itself */
		for (;;) {
			int pid = sys_waitpid(-1, NULL, 0);
			if (pid < 0 && pid != -EINTR)
				return;
		}
	}
	/* What a killed child leaves behind becomes a child of this process (a subreaper) and is met in the next round. */
	for (;;) {
		if (!kill_children() && supervisor->program > 1)
			sys_kill(supervisor->program, SIGKILL);
		if (sys_waitpid(-1, NULL, 0) == -ECHILD)
			return;
	}
}

static bool is_full(const char *path)
{
	struct statfs fs;
	if (SYS_2(SYS_statfs, path, &fs) < 0)
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
	SYS_2(SYS_getrusage, RUSAGE_CHILDREN, &usage);
	report.cpu_us = (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
			usage.ru_stime.tv_usec;
	report.memory_bytes = (int64_t)usage.ru_maxrss * 1024;
	if ((head->flags & PLAN_PACK) && supervisor->status == 0) {
		int rc = archive_pack(supervisor->box, "tmp", supervisor->archive_out, head->archive_max);
		if (rc == -E2BIG)
			report.flags |= ENDED_ARCHIVE_TOO_LARGE;
		else if (rc < 0)
			fail(supervisor, -rc, "packing up what the compiler left");
	}
	if (!supervisor->isolated)
		tree_empty(supervisor->box);
	send_report(supervisor, &report);
}

static void take_signals(struct supervisor *supervisor)
{
	const uint64_t all = ~UINT64_C(0), child = sys_signal_bit(SIGCHLD);
	SYS_4(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof(all));
	supervisor->signals = (int)SYS_4(SYS_signalfd4, -1, &child, sizeof(child), SFD_CLOEXEC | SFD_NONBLOCK);
	if (supervisor->signals < 0)
		fail(supervisor, -supervisor->signals, "signalfd");
}

void supervise(void)
{
	struct supervisor supervisor = { .isolated = sys_getpid() == 1 };
	if (SYS_6(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0) < 0)
		sys_exit(125);
	plan_read(&supervisor.plan);
	if (!supervisor.isolated && !(supervisor.plan.head->flags & PLAN_UNISOLATED))
		launch_die("not process 1 of a sandbox", EPERM);
	take_descriptors(&supervisor);
	if (!supervisor.isolated) {
		long rc = SYS_6(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0);
		if (rc == 0)
			rc = SYS_1(SYS_setsid, 0);
		if (rc < 0)
			fail(&supervisor, (int)-rc, "subreaper");
	}
	take_signals(&supervisor);
	SYS_1(SYS_umask, 022);
	open_box(&supervisor);
	lay_out_files(&supervisor);
	struct report started = { .kind = REPORT_STARTED };
	send_report(&supervisor, &started);
	supervisor.started_us = now_us();
	supervisor.program = (int)SYS_6(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
	if (supervisor.program < 0)
		fail(&supervisor, -supervisor.program, "fork");
	if (supervisor.program == 0)
		run_program(&supervisor);
	wait_for_program(&supervisor);
	report_end(&supervisor);
	sys_exit(0);
}
