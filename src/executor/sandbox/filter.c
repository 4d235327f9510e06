/* A list of what is refused, not of what is allowed: compilers and interpreters of many kinds and ages have to work,
 * and the namespaces, the missing capabilities and the user id already hold the line. The filter takes away what has
 * been the way around them: the parts of the kernel that have no namespace (keyrings, bpf, perf, vsock), those with a
 * history of holes (userfaultfd, io_uring, new mount calls), and everything that makes new namespaces.
 *
 * ptrace stays allowed: since Linux 4.8 it is no way past the filter, the process namespace holds nobody else's
 * processes, and process 1 is not dumpable; debuggers and LeakSanitizer need it. */
#include "executor/sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

/* The kernel looks at the lower half alone of an argument that is an int, a filter at all 64 bits: who sets others
 * would pass a plain comparison (CVE-2019-10063), and SCMP_A0_32 is one. */
#define LOW_HALF UINT64_C(0xffffffff)

static const struct {
	const char *name;
	int error;
} refused[] = {
	/* keyrings are per user id, not per namespace */
	{ "add_key", EPERM },
	{ "keyctl", EPERM },
	{ "request_key", EPERM },
	{ "bpf", EPERM },
	{ "perf_event_open", EPERM },
	{ "userfaultfd", EPERM },
	{ "lookup_dcookie", EPERM },
	{ "fanotify_init", EPERM },
	{ "syslog", EPERM },
	/* answered as an old kernel would, so that libraries take their other way */
	{ "io_uring_setup", ENOSYS },
	{ "io_uring_enter", ENOSYS },
	{ "io_uring_register", ENOSYS },
	{ "clone3", ENOSYS }, /* its flags lie in memory, where no filter sees them */
	/* mounts and namespaces */
	{ "mount", EPERM },
	{ "umount", EPERM },
	{ "umount2", EPERM },
	{ "pivot_root", EPERM },
	{ "chroot", EPERM },
	{ "fsopen", EPERM },
	{ "fsconfig", EPERM },
	{ "fsmount", EPERM },
	{ "fspick", EPERM },
	{ "move_mount", EPERM },
	{ "open_tree", EPERM },
	{ "mount_setattr", EPERM },
	{ "setns", EPERM },
	{ "name_to_handle_at", EPERM },
	{ "open_by_handle_at", EPERM },
	/* the machine as a whole */
	{ "acct", EPERM },
	{ "quotactl", EPERM },
	{ "quotactl_fd", EPERM },
	{ "swapon", EPERM },
	{ "swapoff", EPERM },
	{ "reboot", EPERM },
	{ "kexec_load", EPERM },
	{ "kexec_file_load", EPERM },
	{ "init_module", EPERM },
	{ "finit_module", EPERM },
	{ "delete_module", EPERM },
	{ "settimeofday", EPERM },
	{ "clock_settime", EPERM },
	{ "clock_adjtime", EPERM },
	{ "adjtimex", EPERM },
	{ "sethostname", EPERM },
	{ "setdomainname", EPERM },
	{ "vhangup", EPERM },
	{ "iopl", EPERM },
	{ "ioperm", EPERM },
	{ "modify_ldt", EPERM },
	{ "vm86", EPERM },
	{ "vm86old", EPERM },
	{ "uselib", EPERM },
	{ "ustat", EPERM },
	{ "sysfs", EPERM },
	{ "_sysctl", EPERM },
	{ "nfsservctl", EPERM },
};

static int refuse_flags(scmp_filter_ctx filter, const char *name, unsigned argument)
{
	static const uint64_t flags[] = { CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER,
		CLONE_NEWPID, CLONE_NEWNET,
		0x80 /* CLONE_NEWTIME, for unshare alone: in clone it is part of the signal */ };
	int call = seccomp_syscall_resolve_name(name);
	size_t count = ARRAY_SIZE(flags) - (strcmp(name, "clone") == 0 ? 1 : 0);
	for (size_t i = 0; i < count; i++) {
		struct scmp_arg_cmp set = SCMP_CMP64(argument, SCMP_CMP_MASKED_EQ, flags[i], flags[i]);
		int rc = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), call, 1, &set);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Only local sockets and the internet's, which lead nowhere in the network namespace. Others have no namespace (vsock
 * reaches the hypervisor), or are doors into code of the kernel that few have looked at. */
static int refuse_sockets(scmp_filter_ctx filter, const char *name)
{
	int call = seccomp_syscall_resolve_name(name);
	for (int family = 0; family <= AF_NETLINK; family++) {
		if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK)
			continue;
		int rc = seccomp_rule_add(
			filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1, SCMP_A0_64(SCMP_CMP_EQ, (uint64_t)family));
		if (rc < 0)
			return rc;
	}
	int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1, SCMP_A0_64(SCMP_CMP_GT, AF_NETLINK));
	if (rc == 0) /* netlink: the routing protocol (0), by which programs ask for their interfaces, and no other */
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 2,
			SCMP_A0_64(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2_64(SCMP_CMP_NE, 0));
	return rc;
}

static int add_rules(scmp_filter_ctx filter)
{
	int rc = 0;
	for (size_t i = 0; i < ARRAY_SIZE(refused) && rc == 0; i++) {
		int call = seccomp_syscall_resolve_name(refused[i].name);
		if (call == __NR_SCMP_ERROR)
			continue; /* this libseccomp does not know it; the rest of the defence does not rest on it */
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)refused[i].error), call, 0);
		if (rc == -EDOM) /* not a system call of this architecture */
			rc = 0;
	}
	if (rc == 0)
		rc = refuse_flags(filter, "clone", 0);
	if (rc == 0)
		rc = refuse_flags(filter, "unshare", 0);
	if (rc == 0)
		rc = refuse_sockets(filter, "socket");
	if (rc == 0)
		rc = refuse_sockets(filter, "socketpair");
	if (rc == 0) /* asking is allowed */
		rc = seccomp_rule_add(
			filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(personality), 1, SCMP_A0_32(SCMP_CMP_NE, 0xffffffff));
	if (rc == 0) /* the limits of process 1, which watches over the step */
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 2,
			SCMP_A0_64(SCMP_CMP_MASKED_EQ, LOW_HALF, 1), SCMP_A2_64(SCMP_CMP_NE, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
			SCMP_A1_64(SCMP_CMP_MASKED_EQ, LOW_HALF, TIOCSTI));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
			SCMP_A1_64(SCMP_CMP_MASKED_EQ, LOW_HALF, TIOCLINUX));
	return rc;
}

int filter_compile(int *ret_fd, struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	if (!filter)
		return err_set(err, -ENOMEM, "seccomp: no filter");
	/* Other instruction sets of the same processor (i386, x32) have other numbers for the same calls. */
	int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (rc == 0)
		rc = add_rules(filter);
	/* A binary tree instead of a chain: few comparisons for each call of the program. Unknown to old libraries. */
	if (rc == 0 && seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		rc = 0;
	int fd = rc == 0 ? memfd_create("seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING) : -1;
	if (rc == 0 && fd < 0)
		rc = -errno;
	if (rc == 0)
		rc = seccomp_export_bpf(filter, fd);
	if (rc == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		rc = -errno;
	seccomp_release(filter);
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(err, rc, "seccomp: %s", strerror(-rc));
	}
	*ret_fd = fd;
	return 0;
}
