#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void refused(const char *what, long result)
{
	if (result >= 0)
		printf("%s worked\n", what);
}

int main(void)
{
	static const int spaces[] = { CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS,
		CLONE_NEWCGROUP };
	uint64_t args[11] = { CLONE_NEWUSER, [4] = SIGCHLD };
	for (int i = 0; i < 7; i++) {
		refused("unshare", unshare(spaces[i]));
		refused("clone", syscall(SYS_clone, spaces[i] | SIGCHLD, 0, 0, 0, 0));
	}
	refused("clone3", syscall(SYS_clone3, args, 64));
	if (errno != ENOSYS)
		puts("clone3 is not answered as by an old kernel");
	refused("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
	refused("umount", umount2("/box", MNT_DETACH));
	refused("fsopen", syscall(430, "tmpfs", 0));
	refused("open_tree", syscall(428, -100, "/", 1));
	refused("pivot_root", syscall(SYS_pivot_root, ".", "."));
	refused("keyctl", syscall(SYS_keyctl, 0, -3, 1));
	refused("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
	refused("bpf", syscall(SYS_bpf, 0, NULL, 0));
	refused("perf", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	refused("userfaultfd", syscall(SYS_userfaultfd, 1));
	refused("io_uring", syscall(425, 8, NULL));
	refused("personality", syscall(SYS_personality, 0x0400000));
	refused("chroot", chroot("/tmp"));
	refused("setuid", setuid(0));
	refused("vsock", syscall(SYS_socket, 40, SOCK_STREAM, 0));
	puts("nothing");
	return 0;
}
