#include "wrap/container.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup/"

/* The number behind `name`, or what the file begins with where that is NULL. */
static int64_t number_in(const char *path, const char *name)
{
	char text[2048];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return -1;
	text[len] = 0;
	const char *at = name ? strstr(text, name) : text;
	if (!at)
		return -1;
	at += name ? strlen(name) : 0;
	return *at >= '0' && *at <= '9' ? strtoll(at, NULL, 10) : -1;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* Of the two versions' files those that say it of the machine are told by what stands beside them. */
static bool is_of_version_2(void)
{
	return exists(ROOT "cgroup.type");
}

int64_t container_cpu_us(void)
{
	if (is_of_version_2())
		return number_in(ROOT "cpu.stat", "usage_usec ");
	if (exists(ROOT "cpuacct/release_agent"))
		return -1;
	int64_t ns = number_in(ROOT "cpuacct/cpuacct.usage", NULL);
	return ns < 0 ? -1 : ns / 1000;
}

int64_t container_memory_bytes(void)
{
	if (is_of_version_2())
		return number_in(ROOT "memory.current", NULL);
	return exists(ROOT "memory/release_agent") ? -1 : number_in(ROOT "memory/memory.usage_in_bytes", NULL);
}

int64_t container_oom_kills(void)
{
	int64_t count = number_in(ROOT "memory.events", "oom_kill ");
	return count >= 0 ? count : number_in(ROOT "memory/memory.oom_control", "oom_kill ");
}

int64_t container_forks_refused(void)
{
	int64_t count = number_in(ROOT "pids.events", "max ");
	return count >= 0 ? count : number_in(ROOT "pids/pids.events", "max ");
}
