/* Cgroups of the sandbox: one per slot, below one of the executor, in the unified hierarchy (v2) or in those of v1.
 * Everything here is a few short reads and writes of kernel files; nothing waits, except cgroups_open() for what an
 * earlier incarnation left running to die. */
#ifndef ASSAY_EXECUTOR_SANDBOX_CGROUP_H
#define ASSAY_EXECUTOR_SANDBOX_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/err.h"

enum cgroup_kind { CGROUP_NONE, CGROUP_V2, CGROUP_V1 };

#define CGROUP_PATH_MAX 320
/* How long a start waits for what was killed to be gone, where something is left. */
#define LEFTOVER_WAIT_US (10 * US_PER_S)

/* What the executor has. Of v2 only `memory` is used as the path, for all controllers. */
struct cgroups {
	enum cgroup_kind kind;
	bool has_memory, has_cpu, has_pids, has_cpuacct;
	char memory[CGROUP_PATH_MAX], cpu[CGROUP_PATH_MAX],
		pids[CGROUP_PATH_MAX]; /* the executor's; empty: it has none */
	char why_not[200]; /* kind NONE, or a controller is missing: what was tried */
};

struct cgroup_limits {
	int64_t memory_bytes;
	int64_t cpu_millis;
	int64_t processes;
};

struct cgroup_usage {
	int64_t cpu_us; /* -1: not known */
	int64_t memory_peak; /* -1: not known */
	bool out_of_memory; /* the kernel killed something for it */
	bool processes_refused; /* a fork was refused */
};

struct cgroup_slot {
	const struct cgroups *cgroups; /* borrowed */
	int index;
	bool made;
	unsigned generation; /* a cgroup that is made anew gets a new name: the old one may take its time to go */
	struct cgroup_limits limits; /* as they stand in the kernel */
	int64_t oom_before, refused_before, cpu_before; /* counters that cannot be put back */
};

/* Finds out what the machine grants, makes the executor's own cgroup, named by `id`, and kills and removes what lies in
 * it. Never fails: what cannot be had is said in *ret_cgroups. */
void cgroups_open(const char *id, struct cgroups *ret_cgroups);
void cgroups_close(struct cgroups *cgroups); /* removes the executor's cgroup; slots have been removed before */
const char *cgroups_describe(const struct cgroups *cgroups); /* "cgroup v2", "cgroup v1", "rlimits only" */

void cgroup_slot_init(struct cgroup_slot *slot, const struct cgroups *cgroups, int index);
/* Empty, with these limits and counters at zero. */
int cgroup_slot_prepare(struct cgroup_slot *slot, const struct cgroup_limits *limits, struct err *err) MUST_CHECK;
/* Files into which a process writes "0" to join. Returns how many; text lives as long as the arrays. */
#define CGROUP_JOIN_MAX 3
int cgroup_slot_join_paths(const struct cgroup_slot *slot, char ret_paths[CGROUP_JOIN_MAX][CGROUP_PATH_MAX + 64]);
/* Sends SIGKILL to all that is in it except `spared`, unless that is alone there. To be repeated until the sandbox is
 * known to be dead. */
void cgroup_slot_kill(const struct cgroup_slot *slot, pid_t spared);
/* No process lives in it. True also where there is no cgroup. */
bool cgroup_slot_is_empty(const struct cgroup_slot *slot);
/* Since cgroup_slot_prepare(). */
void cgroup_slot_read(const struct cgroup_slot *slot, struct cgroup_usage *ret_usage);
int64_t cgroup_slot_memory(const struct cgroup_slot *slot); /* bytes in use now; -1: not known */
void cgroup_slot_remove(struct cgroup_slot *slot);

#endif
