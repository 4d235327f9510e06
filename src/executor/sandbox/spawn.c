/* posix_spawn rather than uv_spawn, whose fork copies the page tables of a large service (libuv, src/unix/process.c).
 * Safe in a program with threads: nothing runs between vfork and exec but the C library's own few calls. */
#include "executor/sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

int spawn_high_fd(int fd)
{
	if (fd < 0 || fd >= LAUNCH_FD_COUNT)
		return fd;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, LAUNCH_FD_COUNT);
	int rc = copy < 0 ? -errno : copy;
	close(fd);
	return rc;
}

int spawn_launcher(const char *launcher, const struct spawn_fds *fds, pid_t *ret_pid, struct err *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	sigfillset(&all);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	int rc = 0;
	for (int i = 0; i < LAUNCH_FD_COUNT && rc == 0; i++)
		if (fds->fd[i] >= 0)
			rc = posix_spawn_file_actions_adddup2(&actions, fds->fd[i], i);
	char name[] = "assay-launch";
	char *const argv[] = { name, NULL };
	char *const envp[] = { NULL };
	if (rc == 0)
		rc = posix_spawn(ret_pid, launcher, &actions, &attributes, argv, envp);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return rc ? err_set(err, -rc, "cannot start %.150s: %s", launcher, strerror(rc)) : 0;
}
