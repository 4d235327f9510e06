/* See child.h. A vfork, since a copy of this process would take longer than all the rest; until it executes the program
 * the child does nothing but system calls, in the memory of process 1, which is not dumpable. */
#include "wrap/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wrap/confine.h"

#define PATH_USUAL "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define OOM_ADJUST_MORE 100 /* thousandths of the memory limit that the code counts for more than the wrapper */

static const char *path_of(char *const *env)
{
	for (; *env; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			return *env + 5;
	return PATH_USUAL;
}

/* Returns only where it could not. */
static int execute(const struct child_spec *spec)
{
	const char *name = spec->words[0];
	char path[4096];
	int error = ENOENT;
	if (strchr(name, '/')) {
		execve(name, spec->words, spec->env);
		return errno;
	}
	for (const char *at = path_of(spec->env); *at; at += at[0] == ':') {
		size_t len = strcspn(at, ":"), name_len = strlen(name);
		if (len + 1 + name_len < sizeof(path)) {
			memcpy(path, at, len);
			path[len] = '/';
			memcpy(path + len + 1, name, name_len + 1);
			execve(len > 0 ? path : path + 1, spec->words, spec->env);
			if (errno != ENOENT && errno != ENOTDIR)
				error = errno;
		}
		at += len;
	}
	return error;
}

static int prepare(const struct child_spec *spec)
{
	sigset_t none;
	const rlim_t most = (rlim_t)spec->processes + 1; /* process 1 has the same user id */
	const struct rlimit processes = { most, most }, core = { 0, 0 };
	sigemptyset(&none);
	if (setsid() < 0 || dup2(spec->in, STDIN_FILENO) < 0 || dup2(spec->out, STDOUT_FILENO) < 0 ||
		dup2(spec->err, STDERR_FILENO) < 0 || fchdir(spec->work) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
		return errno;
	if (spec->processes > 0 && setrlimit(RLIMIT_NPROC, &processes) < 0)
		return errno;
	if (spec->ruleset >= 0 && confine_enter(spec->ruleset) < 0)
		return errno;
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? errno : 0;
}

/* When memory runs out the code goes, and not the wrapper, be all the code's processes ever so small. Raising is
 * allowed to everybody. */
static void offer_to_oom_killer(pid_t pid)
{
	char path[48], text[16] = { 0 };
	int own = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	int its = open(path, O_WRONLY | O_CLOEXEC);
	if (own >= 0 && its >= 0 && read(own, text, sizeof(text) - 1) > 0) {
		long score = strtol(text, NULL, 10) + OOM_ADJUST_MORE;
		int len = snprintf(text, sizeof(text), "%ld", score > 1000 ? 1000 : score);
		if (write(its, text, (size_t)len) < 0) {
			/* It has ended already, or is not ours to judge: as good. */
		}
	}
	if (own >= 0)
		close(own);
	if (its >= 0)
		close(its);
}

/* vfork() copies no page tables, and process 1 has nothing to do meanwhile. What is called in the child makes system calls on
 * memory that is there, and tells of its failure by ours. */
/* NOLINTBEGIN(bugprone-unsafe-functions,clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */
pid_t child_start(const struct child_spec *spec, int *ret_errno)
{
	volatile int unprepared = 0, refused = 0;
	pid_t pid = vfork();
	if (pid == 0) {
		unprepared = prepare(spec);
		if (unprepared == 0)
			refused = execute(spec);
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	*ret_errno = refused;
	if (unprepared != 0 || refused != 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
		}
		return -unprepared;
	}
	offer_to_oom_killer(pid);
	return pid;
}
/* NOLINTEND(bugprone-unsafe-functions,clang-analyzer-security.insecureAPI.vfork,clang-analyzer-unix.Vfork) */

pid_t child_reap(struct child_usage *usage, int *ret_status)
{
	struct rusage rusage;
	pid_t pid = wait4(-1, ret_status, WNOHANG, &rusage);
	if (pid <= 0)
		return pid;
	usage->cpu_us += (int64_t)(rusage.ru_utime.tv_sec + rusage.ru_stime.tv_sec) * 1000000 +
			 rusage.ru_utime.tv_usec + rusage.ru_stime.tv_usec;
	int64_t memory = (int64_t)rusage.ru_maxrss * 1024;
	if (memory > usage->memory_bytes)
		usage->memory_bytes = memory;
	return pid;
}

int64_t child_cpu_us(pid_t pid)
{
	clockid_t clock;
	struct timespec used;
	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
		return 0;
	return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static uint64_t threads_of(const char *name)
{
	char path[300];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%s/task", name);
	return stat(path, &st) == 0 && st.st_nlink > 2 ? st.st_nlink - 2 : 0; /* a directory of each thread */
}

uint64_t child_count(uint64_t most)
{
	uint64_t count = 0;
	DIR *all = opendir("/proc");
	for (struct dirent *entry; all && count <= most && (entry = readdir(all));)
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && strcmp(entry->d_name, "1") != 0)
			count += threads_of(entry->d_name);
	if (all)
		closedir(all);
	return count;
}

/* A file of few words. */
static bool read_words(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);
	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = 0;
	return len > 0;
}

uint64_t child_last_id(void)
{
	char text[128];
	const char *last = read_words("/proc/loadavg", text, sizeof(text)) ? strrchr(text, ' ') : NULL;
	return last ? strtoull(last + 1, NULL, 10) : 0;
}

bool child_has_own_users(void)
{
	char text[64];
	unsigned long inside, outside, count;
	return read_words("/proc/self/uid_map", text, sizeof(text)) &&
	       sscanf(text, "%lu %lu %lu", &inside, &outside, &count) == 3 && count < UINT32_MAX;
}
