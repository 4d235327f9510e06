#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void opens(const char *path, int flags)
{
	if (open(path, flags) >= 0)
		printf("opened %s\n", path);
}

int main(void)
{
	char buffer[16];
	struct iovec local = { buffer, sizeof(buffer) }, remote = { (void *)0x400000, sizeof(buffer) };
	struct rlimit none = { 0, 0 };
	if (ptrace(PTRACE_ATTACH, 1, 0, 0) == 0)
		puts("attached");
	if (ptrace(PTRACE_SEIZE, 1, 0, 0) == 0)
		puts("seized");
	if (process_vm_readv(1, &local, 1, &remote, 1, 0) >= 0 || process_vm_writev(1, &local, 1, &remote, 1, 0) >= 0)
		puts("reached its memory");
	int pidfd = (int)syscall(434 /* pidfd_open */, 1, 0);
	for (int fd = 0; pidfd >= 0 && fd < 32; fd++)
		if (syscall(438 /* pidfd_getfd */, pidfd, fd, 0) >= 0)
			printf("took descriptor %d\n", fd);
	if (prlimit(1, RLIMIT_CPU, &none, NULL) == 0 || prlimit(1, RLIMIT_NOFILE, &none, NULL) == 0)
		puts("changed its limits");
	opens("/proc/1/mem", O_RDWR);
	opens("/proc/1/environ", O_RDONLY);
	opens("/proc/1/exe", O_RDONLY);
	opens("/proc/1/fd", O_RDONLY);
	opens("/proc/1/root", O_RDONLY);
	opens("/proc/1/cwd", O_RDONLY);
	opens("/proc/1/maps", O_RDONLY);
	opens("/proc/1/task/1/mem", O_RDWR);
	opens("/proc/1/oom_score_adj", O_WRONLY);
	opens("/proc/1/ns/mnt", O_RDONLY);
	puts("nothing");
	return 0;
}
