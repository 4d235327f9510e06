/* What this machine offers to sandboxes, found out once at start: bubblewrap and whether it may do its work, cgroups,
 * user ids, a directory of our own. Synchronous: it runs before the service takes work. */
#ifndef ASSAY_EXECUTOR_SANDBOX_HOST_H
#define ASSAY_EXECUTOR_SANDBOX_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "executor/sandbox/cgroup.h"
#include "executor/sandbox/plan.h"
#include "executor/sandbox/sandbox.h"

#define SANDBOX_BOX "/box" /* inside: work/, home/, tmp/, and what is compiled */
#define HOST_CHECKS_MAX 8

struct host {
	struct log *log; /* borrowed */
	bool root; /* every slot gets a user id of its own */
	bool usable; /* code can be run: isolated, or unisolated as the operator wants it */
	bool isolated;
	bool disable_userns; /* bubblewrap knows how to forbid further user namespaces */
	char id[17]; /* of this executor among those of the machine */
	char launcher[256];
	char bwrap[128];
	char runtime[128]; /* our directory, whose path everybody may walk */
	char etc[160];
	uint32_t *uids; /* owned; one per slot; NULL where not root */
	int *uid_locks; /* owned; descriptors */
	int slots;
	int launcher_fd, filter_fd, null_fd;
	struct cgroups cgroups;
	char isolation[128]; /* one phrase for people */
	char detail[256];
	struct executor_check checks[HOST_CHECKS_MAX];
	size_t check_count;
};

/* Never fails as a whole: what is missing is in the checks, and `usable` says whether there is enough. */
void host_open(struct host *host, const struct sandbox_options *options);
void host_close(struct host *host);

/* The part of a plan that depends on the machine: who the step becomes, how it is shut in. */
void host_fill_plan(const struct host *host, struct plan_writer *writer, const struct cgroup_slot *cgroup, int slot,
	int64_t disk_bytes);
/* The box of a slot as the program sees it. */
void host_box(const struct host *host, int slot, char ret_path[static 128]);
/* The machine's packages changed: our /etc follows. Cheap when they have not. */
void host_refresh(struct host *host);

#endif
