/* The data directory: made private, and held by one process.
 *
 * The lock is flock(2) on the file `lock`: the kernel drops it when the process ends, however it ends. The process id
 * in the file is for the message, and to tell a lock that is about to be dropped from one that is held. */
#include "store/sqlite/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define LOCK_WAIT_US (5 * US_PER_S) /* for the lock of a process that is no more */

static long holder(int fd)
{
	char text[32] = "";
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	return length > 0 ? strtol(text, NULL, 10) : 0;
}

static bool is_gone(long pid)
{
	return pid > 0 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* A process that was killed while it started another leaves its lock to that one, until that executes its program. */
static int lock(int fd)
{
	int64_t deadline = clock_monotonic_us() + LOCK_WAIT_US;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return -errno;
		if (!is_gone(holder(fd)) || clock_monotonic_us() > deadline)
			return -EWOULDBLOCK;
		poll(NULL, 0, 2); /* the loop does not run yet */
	}
	return 0;
}

static int busy(int fd, const char *path, struct err *err)
{
	long pid = holder(fd);
	if (pid > 0)
		return err_set(err, -EBUSY, "another assayd (process %ld) holds the data directory %s", pid, path);
	return err_set(err, -EBUSY, "another assayd holds the data directory %s", path);
}

int directory_hold(const char *path, int *ret_fd, struct err *err)
{
	char name[PATH_MAX];
	int result = directory_make(path, err);
	if (result < 0)
		return result;
	if (snprintf(name, sizeof(name), "%s/lock", path) >= (int)sizeof(name))
		return err_set(err, -ENAMETOOLONG, "the data directory's path is too long");
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		int code = -errno;
		return err_set(err, code, "the data directory %s cannot be written: %s", path, strerror(-code));
	}
	result = lock(fd);
	if (result < 0) {
		result = result == -EWOULDBLOCK ? busy(fd, path, err)
						: err_set(err, result, "cannot lock %s: %s", name, strerror(-result));
		close(fd);
		return result;
	}
	/* On a full disk the lock holds all the same: then only the message of a second daemon is poorer. */
	char text[32];
	int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) < 0)
		errno = 0;
	*ret_fd = fd;
	return 0;
}
