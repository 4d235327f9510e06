/* assay-launch: starts one step of a job.
 *
 *   assayd ──posix_spawn──► assay-launch          joins the cgroups, sets limits, drops to the slot's user id
 *                             └─exec─► bwrap       namespaces, mounts, capabilities, seccomp
 *                                       └─exec─► assay-launch --supervise     process 1 inside (supervise.c)
 *                                                  └─ the program
 *
 * The user id is dropped here, outside: bubblewrap run by root keeps host uid 0 behind its user namespace. One sandbox
 * serves one step: a compile, or one run. Handing the compiled files on costs a copy and each run a bubblewrap
 * (4–6 ms), but nothing that a program leaves behind, be it a process, a file, shared memory or a changed limit, can reach
 * the next run or its report, and there is no cleaning that could be incomplete.
 *
 * What fails here or in bubblewrap is reported on LAUNCH_FD_REPORT: it is never the fault of the code that was to run. */
#include "launch/launch.h"

#include <errno.h>
#include <sys/prctl.h>

#include "launch/sys.h"

__asm__(SYS_START);

void launch_report_failure(int fd, const char *what, int error)
{
	struct report report = { .magic = REPORT_MAGIC, .kind = REPORT_FAILED, .value = error };
	text_append(report.where, sizeof(report.where), what);
	sys_write(fd, &report, sizeof(report));
}

void launch_die(const char *what, int error)
{
	launch_report_failure(LAUNCH_FD_REPORT, what, error);
	sys_exit(125);
}

static void join_cgroups(const char *const *paths)
{
	for (; *paths; paths++) {
		int fd = sys_openat(AT_FDCWD, *paths, O_WRONLY | O_CLOEXEC, 0);
		long rc = fd < 0 ? fd : sys_write(fd, "0", 1);
		if (rc < 0)
			launch_die("cannot join the cgroup", (int)-rc);
		sys_close(fd);
	}
}

static void set_limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit now;
	long rc = SYS_4(SYS_prlimit64, 0, resource, 0, &now);
	if (rc < 0)
		launch_die("getrlimit", (int)-rc);
	/* Raising the hard limit takes a privilege that a service of an ordinary user has not. */
	if (now.rlim_max < hard && SYS_1(SYS_geteuid, 0) != 0)
		hard = now.rlim_max;
	now = (struct rlimit){ soft < hard ? soft : hard, hard };
	rc = SYS_4(SYS_prlimit64, 0, resource, &now, 0);
	if (rc < 0)
		launch_die("setrlimit", (int)-rc);
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

/* When the machine as a whole runs out of memory, the sandboxes go before the service does. Where it was set higher already, it stays. */
static void offer_to_oom_killer(void)
{
	int fd = sys_openat(AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	sys_write(fd, "500", 3);
	sys_close(fd);
}

static void drop_user(uint32_t uid, uint32_t gid)
{
	if (uid != PLAN_NO_ID) {
		long rc = SYS_2(SYS_setgroups, 0, 0);
		if (rc == 0)
			rc = SYS_3(SYS_setresgid, gid, gid, gid);
		if (rc == 0)
			rc = SYS_3(SYS_setresuid, uid, uid, uid);
		if (rc < 0)
			launch_die("cannot take the slot's user id", (int)-rc);
		if (SYS_1(SYS_setuid, 0) == 0)
			launch_die("the user id did not stay dropped", EPERM);
	}
	long rc = SYS_6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	if (rc < 0)
		launch_die("no_new_privs", (int)-rc);
}

static void launch(void) __attribute__((noreturn));

static void launch(void)
{
	struct plan plan;
	plan_read(&plan);
	long rc = SYS_3(SYS_close_range, LAUNCH_FD_COUNT, ~0U, 0);
	if (rc < 0 && rc != -ENOSYS)
		launch_die("close_range", (int)-rc);
	join_cgroups(plan.cgroups);
	offer_to_oom_killer();
	set_limits(plan.head);
	drop_user(plan.head->uid, plan.head->gid);
	if (plan.head->flags & PLAN_UNISOLATED)
		supervise();
	static char *const empty[] = { NULL };
	rc = SYS_3(SYS_execve, plan.bwrap[0], plan.bwrap, empty);
	launch_die(plan.bwrap[0], (int)-rc);
}

/* The kernel puts the arguments' count and the arguments on the stack. */
void launch_start(const long *stack) __attribute__((noreturn));

void launch_start(const long *stack)
{
	const char *const *argv = (const char *const *)(stack + 1);
	if (stack[0] == 2 && text_equal(argv[1], "--supervise"))
		supervise();
	if (stack[0] != 1) {
		static const char usage[] = "assay-launch is started by assayd, with a plan on descriptor 3\n";
		sys_write(2, usage, sizeof(usage) - 1);
		sys_exit(2);
	}
	launch();
}
