#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WIDE(number) ((1L << 32) | (long)(number))

static void expect(const char *what, long result, int error)
{
	if (result >= 0 || errno != error)
		printf("%s: %s\n", what, result >= 0 ? "done" : "refused by the kernel alone");
}

int main(void)
{
	struct rlimit none = { 0, 0 };
	char key = 'x';
	int terminal = open("/dev/ptmx", O_RDWR);
	expect("limits of process 1", syscall(SYS_prlimit64, WIDE(1), RLIMIT_CPU, &none, NULL), EPERM);
	expect("typing", syscall(SYS_ioctl, (long)terminal, WIDE(TIOCSTI), &key), EPERM);
	expect("the console", syscall(SYS_ioctl, (long)terminal, WIDE(TIOCLINUX), &key), EPERM);
	expect("vsock", syscall(SYS_socket, WIDE(AF_VSOCK), (long)SOCK_STREAM, 0L), EAFNOSUPPORT);
	expect("netlink", syscall(SYS_socket, WIDE(AF_NETLINK), (long)SOCK_RAW, 15L), EAFNOSUPPORT);
	expect("a namespace", syscall(SYS_unshare, WIDE(0x10000000 /* CLONE_NEWUSER */)), EPERM);
	puts("refused");
	return 0;
}
