/* The plan: all that assay-launch has to know about one step, made by the sandbox executor (executor/sandbox/plan.c),
 * handed over as a memory file. One build makes both sides, so there is no version beyond the magic number.
 *
 *   struct plan_head
 *   strings, each with its NUL: cgroup_count cgroup.procs paths, bwrap_count words of bubblewrap's command line, argv_count words
 *   of the program's, env_count NAME=value
 *   an archive: file_count entries that are laid out in the work directory
 *
 * Archives: archive.h. What a compile step leaves behind is one too, whose paths are relative to the box instead of to
 * the work directory.
 *
 * Descriptors of assay-launch, and of everything it becomes until the program itself is started: */
#ifndef ASSAY_LAUNCH_PLAN_H
#define ASSAY_LAUNCH_PLAN_H

#include <stdint.h>

#include "launch/archive.h"

enum {
	LAUNCH_FD_STDIN = 0,
	LAUNCH_FD_STDOUT = 1,
	/* A stream socket. Whoever fails before the program starts writes words to it (assay-launch and bubblewrap,
	 * whose standard error it is); then come struct report. End of file on the other side: every process of the
	 * sandbox is dead. If the other side shuts down its writing end, or dies, the sandbox ends. */
	LAUNCH_FD_REPORT = 2,
	LAUNCH_FD_PLAN = 3,
	LAUNCH_FD_STDERR = 4,
	LAUNCH_FD_ARCHIVE_IN = 5, /* what a compile step left behind; may be closed */
	LAUNCH_FD_ARCHIVE_OUT = 6, /* where this compile step puts it; may be closed */
	LAUNCH_FD_PROGRAM = 7, /* assay-launch itself, to be executed inside */
	LAUNCH_FD_FILTER = 8, /* the seccomp filter, read by bubblewrap */
	LAUNCH_FD_COUNT
};

#define PLAN_MAGIC UINT64_C(0x316e616c70797361)

enum {
	PLAN_PACK = 1, /* a compile step: if it ends with 0, write what is in the box to LAUNCH_FD_ARCHIVE_OUT */
	PLAN_UNPACK = 2, /* lay out LAUNCH_FD_ARCHIVE_IN before the plan's own files */
	PLAN_UNISOLATED = 4, /* no bubblewrap: `box` is a directory of the machine, cleaned before and after */
};

#define PLAN_NO_ID UINT32_MAX
#define PLAN_WORDS_MAX 65536 /* of each kind */

struct plan_head {
	uint64_t magic;
	uint32_t flags;
	uint32_t uid, gid; /* to become, outside; PLAN_NO_ID: stay */
	uint32_t cgroup_count, bwrap_count, argv_count, env_count, file_count;
	int64_t data_bytes; /* RLIMIT_DATA; 0: none. Only where no cgroup bounds the memory */
	int64_t processes; /* RLIMIT_NPROC; 0: none. Only where no cgroup counts them */
	uint64_t archive_max; /* bytes that a compile step may leave behind */
	char box[128]; /* the directory that holds work/, home/ and tmp/ */
};

#define REPORT_MAGIC UINT64_C(0x2174726f706572fe) /* begins with a byte that is in no UTF-8 text */

enum report_kind {
	REPORT_STARTED = 1, /* the next thing to happen is the program */
	REPORT_ENDED = 2,
	REPORT_FAILED = 3, /* the step could not be prepared; value is an errno, `where` says what */
};

enum {
	ENDED_DISK_FULL = 1, /* nothing more fits into the box or into /dev/shm */
	ENDED_ASKED = 4, /* not by itself: the executor wanted it */
	/* What the compile step left behind is more than archive_max, or does not fit into the box together with the
	 * step's own files; then the program was not started. */
	ENDED_FILES_TOO_LARGE = 2,
};

struct report {
	uint64_t magic;
	uint32_t kind;
	int32_t value; /* ENDED: status as of waitpid(2). FAILED: errno */
	uint32_t flags; /* ENDED */
	uint32_t reserved;
	int64_t wall_us; /* ENDED: from just before the program was started until it ended */
	int64_t cpu_us; /* ENDED: user and system, of all processes that have been waited for */
	int64_t memory_bytes; /* ENDED: the largest resident size of any one process */
	char where[64]; /* FAILED */
};

#endif
