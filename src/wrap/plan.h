/* The plan: all that assay-wrap has to know of an attempt but its key. The service writes it (plan_write.h), gzips it
 * and puts it into the Secret that is mounted into the container.
 *
 * A plan is the eight bytes PLAN_TEXT, then records without padding: struct plan_record, then as many bytes as it
 * says. Numbers are little-endian, as on all machines that this is built for. Files, words and standard input that
 * come before the first step belong to all steps (only files do); those after it to the step that was begun last. */
#ifndef ASSAY_WRAP_PLAN_H
#define ASSAY_WRAP_PLAN_H

#include <stdint.h>

#define PLAN_TEXT "awplan1\n"
#define PLAN_TEXT_SIZE 8
#define PLAN_SIZE_MAX (64 << 20) /* bytes, unzipped */
#define PLAN_FILE "plan" /* its name where the path that is given is a directory */

struct plan_record {
	uint32_t kind; /* enum plan_kind */
	uint32_t length;
};

enum plan_kind {
	PLAN_SETTINGS = 1, /* struct plan_settings; the first record */
	/* "10.1.2.3:8091", "[fd00::1]:8091": an address, for a name would have to be looked up. A second one is for when the
	 * first fails. */
	PLAN_LISTENER = 2,
	PLAN_BOX =
		3, /* path of an empty directory, where work/, home/ and tmp/ are made, and emptied before each step */
	/* Path of another directory that the code may write to: /tmp, /dev/shm. It is emptied too, if it was empty at first. */
	PLAN_ALSO = 4,
	PLAN_ENV = 5, /* NAME=value */
	PLAN_ARCHIVE = 6, /* one entry (launch/archive.h), laid out in work/ */
	PLAN_COMPILE = 7, /* struct plan_step: begins the compile; at most one, before the runs */
	PLAN_RUN = 8, /* struct plan_step: begins a run; at least one */
	PLAN_WORD = 9, /* of the step's command line; the first is looked up in PATH where it has no slash */
	PLAN_STDIN = 10, /* what the step reads; without it, nothing */
	/* The listener is a Redis: "CHANNEL", "CHANNEL PASSWORD" or "CHANNEL USER PASSWORD" (wrap/post_redis.h). */
	PLAN_CHANNEL = 12,
	PLAN_END = 11, /* empty; the last record, so that a plan that was cut off is none */
};

enum plan_flags {
	PLAN_ASK = 1, /* after each run but the last, wait for the listener's word */
	/* The image's environment stays, without ASSAY_… and KUBERNETES_…; PLAN_ENV comes over it. */
	PLAN_INHERIT = 2,
	PLAN_CONFINE = 4, /* Landlock and the seccomp filter where the kernel has them */
	PLAN_HIDE = 8, /* the code cannot read below the plan's top-level directory either (with Landlock) */
	PLAN_OWN_USERS = 32, /* the pod has a user namespace of its own, if the node can make one */
	PLAN_LOG = 16, /* output also goes to the container's own stdout and stderr: the pod's log */
};

struct plan_settings {
	uint8_t task[16];
	uint32_t attempt;
	uint32_t flags;
	uint64_t output_bytes; /* per stream and step */
	uint64_t archive_bytes; /* that a compile may leave behind */
	int64_t total_us; /* wall-clock, of all steps together; 0: no limit */
	int64_t grace_us; /* from SIGTERM to SIGKILL */
	int64_t patience_us; /* so long the listener may be away, at the end or when it is asked */
	/* That a step may have at a time, threads among them; 0: no limit. Beyond it nothing more is forked where the pod has user ids
	 * of its own (the kernel counts by user id, all over the node); elsewhere a step that is seen to have more is killed. */
	uint64_t processes;
	int64_t progress_us; /* between two FRAME_PROGRESS of a step; 0: none */
} __attribute__((packed));

struct plan_step {
	int64_t timeout_us; /* wall-clock */
};

#endif
