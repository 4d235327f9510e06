/* See confine.h. The kernel's headers may be older than the kernel, so Landlock's numbers stand here, as its
 * documentation has them (Documentation/userspace-api/landlock.rst).
 *
 * Why the filter: the code has the same user id, and for limits (prlimit) and scheduling the kernel asks for nothing
 * more. A processor time limit would kill process 1, a file size limit keep it from writing its report, the idle
 * class make its timeouts late. A signal cannot end it, but a flood of them could hide the one that comes from
 * outside. */
#include "wrap/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- seccomp ---- */

#define F_SETOWN_EX_ 15 /* <fcntl.h> has it for extensions alone */

struct instruction {
	uint16_t code;
	uint8_t if_true, if_false;
	uint32_t value;
};

struct program {
	unsigned short len;
	const struct instruction *instructions;
};

struct call {
	int32_t number;
	uint32_t architecture;
	uint64_t address;
	uint64_t arguments[6];
};

enum { BPF_LOAD = 0x20, BPF_IF_EQUAL = 0x15, BPF_IF_AT_LEAST = 0x35, BPF_RETURN = 0x06 };
enum { SECCOMP_FILTER_MODE = 1, SECCOMP_FILTER_FAST = 4 /* no slower processor for its sake: SPEC_ALLOW */ };
#define SECCOMP_ALLOWED 0x7fff0000u
#define SECCOMP_ERROR(e) (0x00050000u | (e))
#if defined(__x86_64__)
#define ARCHITECTURE 0xc000003eu
#define FOREIGN_NUMBERS 0x40000000u /* x32 shares the architecture's name */
#elif defined(__aarch64__)
#define ARCHITECTURE 0xc00000b7u
#define FOREIGN_NUMBERS 0xffffffffu
#endif

/* Refused where the argument is that value. */
static const struct {
	int call;
	unsigned argument;
	uint32_t value;
} REFUSED[] = {
	{ SYS_prlimit64, 0, 1 },
	{ SYS_sched_setaffinity, 0, 1 },
	{ SYS_sched_setattr, 0, 1 },
	{ SYS_sched_setparam, 0, 1 },
	{ SYS_sched_setscheduler, 0, 1 },
	{ SYS_setpriority, 0, PRIO_PGRP },
	{ SYS_setpriority, 0, PRIO_USER },
	{ SYS_setpriority, 1, 1 },
	{ SYS_ioprio_set, 0, 2 }, /* of a process group, of a user */
	{ SYS_ioprio_set, 0, 3 },
	{ SYS_ioprio_set, 1, 1 },
	{ SYS_kill, 0, 1 },
	{ SYS_tkill, 0, 1 },
	{ SYS_tgkill, 0, 1 },
	{ SYS_rt_sigqueueinfo, 0, 1 },
	{ SYS_rt_tgsigqueueinfo, 0, 1 },
	{ SYS_fcntl, 1, F_SETOWN }, /* whom the kernel then sends signals of one's choice */
	{ SYS_fcntl, 1, F_SETOWN_EX_ },
};
#define REFUSED_COUNT (sizeof(REFUSED) / sizeof(*REFUSED))

bool confine_filter(void)
{
#ifdef ARCHITECTURE
	struct instruction filter[10 + 5 * REFUSED_COUNT], *at = filter;
	*at++ = (struct instruction){ BPF_LOAD, 0, 0, offsetof(struct call, architecture) };
	*at++ = (struct instruction){ BPF_IF_EQUAL, 1, 0, ARCHITECTURE };
	*at++ = (struct instruction){ BPF_RETURN, 0, 0, SECCOMP_ERROR(ENOSYS) };
	*at++ = (struct instruction){ BPF_LOAD, 0, 0, offsetof(struct call, number) };
	*at++ = (struct instruction){ BPF_IF_AT_LEAST, 0, 1, FOREIGN_NUMBERS };
	*at++ = (struct instruction){ BPF_RETURN, 0, 0, SECCOMP_ERROR(ENOSYS) };
	/* A descriptor does not say whose it is. Programs that try this one know kill() as well. */
	*at++ = (struct instruction){ BPF_IF_EQUAL, 0, 1, SYS_pidfd_send_signal };
	*at++ = (struct instruction){ BPF_RETURN, 0, 0, SECCOMP_ERROR(ENOSYS) };
	for (size_t i = 0; i < REFUSED_COUNT; i++) {
		/* The lower half of the argument, which is all that the kernel takes of it. */
		uint32_t argument =
			(uint32_t)(offsetof(struct call, arguments) + sizeof(uint64_t) * REFUSED[i].argument);
		*at++ = (struct instruction){ BPF_LOAD, 0, 0, offsetof(struct call, number) };
		*at++ = (struct instruction){ BPF_IF_EQUAL, 0, 3, (uint32_t)REFUSED[i].call };
		*at++ = (struct instruction){ BPF_LOAD, 0, 0, argument };
		*at++ = (struct instruction){ BPF_IF_EQUAL, 0, 1, REFUSED[i].value };
		*at++ = (struct instruction){ BPF_RETURN, 0, 0, SECCOMP_ERROR(EPERM) };
	}
	*at++ = (struct instruction){ BPF_RETURN, 0, 0, SECCOMP_ALLOWED };
	struct program program = { (unsigned short)(at - filter), filter };
	return syscall(SYS_seccomp, SECCOMP_FILTER_MODE, SECCOMP_FILTER_FAST, &program) == 0;
#else
	return false;
#endif
}

/* ---- Landlock ---- */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

enum {
	MAY_WRITE = 1 << 1,
	MAY_READ = 1 << 2,
	MAY_LIST = 1 << 3,
	MAY_CHANGE = 0x1ff0, /* make and remove entries of every type */
	MAY_MOVE = 1 << 13, /* ABI 2 */
	MAY_TRUNCATE = 1 << 14, /* ABI 3 */
};
enum { GET_VERSION = 1, RULE_PATH = 1, SCOPE_SIGNALS = 2 /* ABI 6 */ };

struct ruleset {
	uint64_t files, network, scoped;
};

struct path_rule {
	uint64_t allowed;
	int32_t directory;
} __attribute__((packed));

static void allow(int ruleset, const char *path, uint64_t what, int flags)
{
	struct path_rule rule = { what, open(path, O_PATH | O_CLOEXEC | flags) };
	if (rule.directory < 0)
		return;
	/* Of what is no directory only these can be allowed. */
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0) < 0) {
		rule.allowed &= MAY_WRITE | MAY_READ | MAY_TRUNCATE;
		syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0);
	}
	close(rule.directory);
}

/* Everything but the top-level directory of `hidden` may be read. A link is not followed: it might lead there, and what else it leads to lies
 * in a directory that is allowed by itself. */
static void allow_reading(int ruleset, const char *hidden)
{
	char path[300];
	struct dirent *entry;
	DIR *root = opendir("/");
	size_t len = strcspn(hidden + 1, "/");
	while (root && (entry = readdir(root))) {
		const char *name = entry->d_name;
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
			(strlen(name) == len && memcmp(name, hidden + 1, len) == 0))
			continue;
		if (entry->d_type == DT_LNK)
			continue;
		snprintf(path, sizeof(path), "/%s", name);
		allow(ruleset, path, MAY_READ | MAY_LIST, O_NOFOLLOW);
	}
	if (root)
		closedir(root);
}

int confine_ruleset(const struct job *job, const char *plan_path, unsigned *ret_abi)
{
	static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
		"/dev/tty", "/dev/ptmx", "/dev/pts", "/proc" };
	*ret_abi = 0;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, GET_VERSION);
	if (abi < 2) /* the first forbids all moving from one directory to another */
		return -1;
	bool hide = (job->settings.flags & PLAN_HIDE) && plan_path[0] == '/';
	uint64_t writing = MAY_WRITE | MAY_CHANGE | MAY_MOVE | (abi >= 3 ? MAY_TRUNCATE : 0);
	uint64_t reading = hide ? MAY_READ | MAY_LIST : 0;
	struct ruleset attributes = { writing | reading, 0, abi >= 6 ? SCOPE_SIGNALS : 0 };
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (ruleset < 0)
		return -1;
	fcntl(ruleset, F_SETFD, FD_CLOEXEC);
	allow(ruleset, job->box, writing | reading, 0);
	for (size_t i = 0; i < job->also_count; i++)
		allow(ruleset, job->also[i], writing | reading, 0);
	for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
		allow(ruleset, devices[i], MAY_WRITE | (writing & MAY_TRUNCATE) | reading, 0);
	if (hide)
		allow_reading(ruleset, plan_path);
	*ret_abi = (unsigned)abi;
	return ruleset;
}

int confine_enter(int ruleset)
{
	return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}
