/* assay-launch: starts one step of a job.
 *
 *   assayd ──posix_spawn──► assay-launch          joins the cgroups, sets limits, drops to the slot's user id
 *                             └─exec─► bwrap       namespaces, mounts, capabilities, seccomp
 *                                       └─exec─► assay-launch --supervise     process 1 inside (supervise.c)
 *                                                  └─ the program
 *
 * The user id is dropped here, outside: bubblewrap run by root keeps host uid 0 behind its user namespace. One sandbox
 * serves one step: a compile, or one run. Handing the compiled files on costs a copy and each run a bubblewrap (4–6
 * ms), but nothing that a program leaves behind, be it a process, a file, shared memory or a changed limit, can reach
 * the next run or its report, and there is no cleaning that could be incomplete.
 *
 * What fails here is reported on LAUNCH_FD_REPORT, what fails in bubblewrap is said there in its words: it is never the
 * fault of the code that was to run. */
#include "launch/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void launch_report_failure(int fd, const char *what, int error)
{
	struct report report = { .magic = REPORT_MAGIC, .kind = REPORT_FAILED, .value = error };
	strncpy(report.where, what, sizeof(report.where) - 1);
	if (send(fd, &report, sizeof(report), MSG_NOSIGNAL) < 0)
		_exit(125); /* nobody listens any more */
}

void launch_die(const char *what, int error)
{
	launch_report_failure(LAUNCH_FD_REPORT, what, error);
	_exit(125);
}

static void join_cgroups(const char *const *paths)
{
	for (; *paths; paths++) {
		int fd = open(*paths, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			launch_die(*paths, errno);
		close(fd);
	}
}

static void set_limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit now;
	if (getrlimit(resource, &now) < 0)
		launch_die("getrlimit", errno);
	rlim_t most = now.rlim_max;
	now = (struct rlimit){ soft < hard ? soft : hard, hard };
	/* Raising the hard limit takes a privilege that an ordinary user has not, nor root in most containers. */
	if (setrlimit(resource, &now) == 0)
		return;
	now = (struct rlimit){ soft < most ? soft : most, most };
	if (errno != EPERM || most >= hard || setrlimit(resource, &now) < 0)
		launch_die("setrlimit", errno);
}

static void set_limits(const struct plan_head *head)
{
	set_limit(RLIMIT_CORE, 0, 0);
	set_limit(RLIMIT_NOFILE, 1024, 4096);
	set_limit(RLIMIT_STACK, 8 << 20, RLIM_INFINITY);
	set_limit(RLIMIT_MSGQUEUE, 0, 0);
	set_limit(RLIMIT_SIGPENDING, 1024, 1024);
	set_limit(RLIMIT_MEMLOCK, 64 << 10, 64 << 10);
	if (head->data_bytes > 0)
		set_limit(RLIMIT_DATA, (rlim_t)head->data_bytes, (rlim_t)head->data_bytes);
}

/* When the machine as a whole runs out of memory, the sandboxes go before the service does. */
static void offer_to_oom_killer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "500", 3) != 3) {
		/* It was higher already: as good. */
	}
	close(fd);
}

static void drop_user(uint32_t uid, uint32_t gid)
{
	if (uid != PLAN_NO_ID) {
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
			launch_die("cannot take the slot's user id", errno);
		if (setuid(0) == 0)
			launch_die("the user id did not stay dropped", EPERM);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		launch_die("no_new_privs", errno);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--supervise") == 0)
		supervise();
	if (argc != 1) {
		static const char usage[] = "assay-launch is started by assayd, with a plan on descriptor 3\n";
		fputs(usage, stderr);
		return 2;
	}
	struct plan plan;
	plan_read(&plan);
	if (syscall(SYS_close_range, LAUNCH_FD_COUNT, ~0U, 0) < 0 && errno != ENOSYS)
		launch_die("close_range", errno);
	join_cgroups(plan.cgroups);
	offer_to_oom_killer();
	set_limits(plan.head);
	drop_user(plan.head->uid, plan.head->gid);
	if (plan.head->flags & PLAN_UNISOLATED)
		supervise();
	static char *const empty[] = { NULL };
	execve(plan.bwrap[0], (char *const *)plan.bwrap, empty);
	launch_die(plan.bwrap[0], errno);
}
