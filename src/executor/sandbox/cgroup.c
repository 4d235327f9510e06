/* v1 and v2 differ in where things lie and how they are called; one slot goes through the same life in both:
 *
 *   prepare (made anew, or its counters put back) ──► a process joins ──► read ──► prepare … ──► remove
 *
 * v1: one directory per controller. Making them anew for each step costs 0.2 ms; they are kept, and their counters put
 * back, unless the step left memory behind that is still being given back (its tmpfs is unmounted by a worker of the
 * kernel): then the next step gets a fresh cgroup, so that nobody pays for another's pages. v2: memory.peak cannot be
 * put back before Linux 6.12, so it is made anew each time: one directory.
 *
 * v2 was written to Documentation/admin-guide/cgroup-v2.rst, v1 to Documentation/admin-guide/cgroup-v1/. */
#include "executor/sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_TEXT_MAX 4096
#define KEPT_MEMORY_MAX (INT64_C(4) << 20) /* v1: more than this left behind, and the slot's cgroup is made anew */
#define CPU_PERIOD_US 100000
#define CLOSE_WAIT_US (2 * US_PER_S)

static int write_file(const char *directory, const char *name, const char *text)
{
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n;
	do /* a memory limit that comes down reclaims, and gives up when a signal waits (mem_cgroup_resize_max) */
		n = write(fd, text, strlen(text));
	while (n < 0 && errno == EINTR);
	int rc = n < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int write_number(const char *directory, const char *name, int64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%lld", (long long)value);
	return write_file(directory, name, text);
}

static int read_file(const char *directory, const char *name, char text[static FILE_TEXT_MAX])
{
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s%s%s", directory, *name ? "/" : "", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, FILE_TEXT_MAX - 1);
	int rc = n < 0 ? -errno : 0;
	text[n < 0 ? 0 : n] = 0;
	close(fd);
	return rc;
}

/* The number in a file, or of the line "key number" where key is given; `otherwise` where there is none. */
static int64_t read_number(const char *directory, const char *name, const char *key, int64_t otherwise)
{
	char text[FILE_TEXT_MAX];
	if (read_file(directory, name, text) < 0)
		return otherwise;
	const char *at = text;
	size_t len = key ? strlen(key) : 0;
	while (key && !(strncmp(at, key, len) == 0 && at[len] == ' ')) {
		at = strchr(at, '\n');
		if (!at)
			return otherwise;
		at++;
	}
	char *end;
	long long value = strtoll(at + len, &end, 10);
	return end == at + len ? otherwise : value;
}

static bool make_directory(const char *path)
{
	return mkdir(path, 0755) == 0 || errno == EEXIST;
}

/* ---- what an earlier incarnation left ---- */

/* Returns how many were killed. */
static int kill_members(const char *directory, pid_t spared)
{
	char path[CGROUP_PATH_MAX + 64];
	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	int killed = 0, pid;
	while (fscanf(file, "%d", &pid) == 1)
		if (pid > 0 && pid != spared) {
			kill(pid, SIGKILL);
			killed++;
		}
	fclose(file);
	return killed;
}

static bool pass_over_leftovers(const char *base)
{
	DIR *dir = opendir(base);
	bool left = false;
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char path[CGROUP_PATH_MAX];
		if (strncmp(entry->d_name, "slot-", 5) != 0 ||
			snprintf(path, sizeof(path), "%s/%s", base, entry->d_name) >= (int)sizeof(path))
			continue;
		write_file(path, "cgroup.kill", "1"); /* v2 since Linux 5.14 */
		kill_members(path, 0);
		if (rmdir(path) < 0 && errno != ENOENT)
			left = true;
	}
	if (dir)
		closedir(dir);
	return left;
}

static void remove_leftovers(const char *base, int64_t wait_us)
{
	int64_t deadline = clock_monotonic_us() + wait_us;
	while (pass_over_leftovers(base) && clock_monotonic_us() < deadline)
		poll(NULL, 0, 2);
}

/* ---- where the hierarchies are ---- */

struct hierarchy {
	char root[CGROUP_PATH_MAX]; /* of the mounted part, within the hierarchy */
	char mount[CGROUP_PATH_MAX];
	char own[CGROUP_PATH_MAX]; /* our cgroup, as a path of the file system; empty when it lies outside */
	bool found;
};

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	for (const char *at = list; (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == 0))
			return true;
	return false;
}

/* controller "" asks for v2. Mount points with blanks are escaped in mountinfo and not understood here. */
static void find_mount(const char *controller, struct hierarchy *ret_hierarchy)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[4096];
	while (file && fgets(line, sizeof(line), file)) {
		char root[CGROUP_PATH_MAX], mount[CGROUP_PATH_MAX], type[32], options[512];
		const char *dash = strstr(line, " - ");
		if (!dash || sscanf(line, "%*s %*s %*s %319s %319s", root, mount) != 2 ||
			sscanf(dash, " - %31s %*s %511s", type, options) != 2)
			continue;
		bool fits = *controller ? strcmp(type, "cgroup") == 0 && has_word(options, controller)
					: strcmp(type, "cgroup2") == 0;
		if (!fits)
			continue;
		snprintf(ret_hierarchy->root, sizeof(ret_hierarchy->root), "%s", root);
		snprintf(ret_hierarchy->mount, sizeof(ret_hierarchy->mount), "%s", mount);
		ret_hierarchy->found = true;
		break;
	}
	if (file)
		fclose(file);
}

static void find_own(const char *controller, struct hierarchy *hierarchy)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[4096];
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		char *names = strchr(line, ':');
		char *path = names ? strchr(++names, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		if (*controller ? !has_word(names, controller) : *names != 0)
			continue;
		size_t root_len = strcmp(hierarchy->root, "/") == 0 ? 0 : strlen(hierarchy->root);
		if (strncmp(path, hierarchy->root, root_len) != 0 || (path[root_len] != '/' && path[root_len] != 0) ||
			snprintf(hierarchy->own, sizeof(hierarchy->own), "%s%s", hierarchy->mount, path + root_len) >=
				(int)sizeof(hierarchy->own) - 64)
			hierarchy->own[0] = 0;
		size_t len = strlen(hierarchy->own);
		if (len > 1 && hierarchy->own[len - 1] == '/')
			hierarchy->own[len - 1] = 0;
		break;
	}
	if (file)
		fclose(file);
}

static bool find_hierarchy(const char *controller, struct hierarchy *ret_hierarchy)
{
	*ret_hierarchy = (struct hierarchy){ 0 };
	find_mount(controller, ret_hierarchy);
	if (ret_hierarchy->found)
		find_own(controller, ret_hierarchy);
	return ret_hierarchy->found;
}

/* ---- v1 ---- */

/* Below our own cgroup, so that limits set on the service hold for what it runs; at the top where that cannot be. */
static bool open_v1(const char *controller, const char *id, char ret_path[static CGROUP_PATH_MAX])
{
	struct hierarchy hierarchy;
	if (!find_hierarchy(controller, &hierarchy))
		return false;
	const char *const parents[] = { hierarchy.own, hierarchy.mount };
	for (int i = 0; i < 2; i++) {
		if (!*parents[i] ||
			snprintf(ret_path, CGROUP_PATH_MAX, "%s/assay-%s", parents[i], id) >= CGROUP_PATH_MAX - 32)
			continue;
		if (make_directory(ret_path) && access(ret_path, W_OK) == 0) {
			remove_leftovers(ret_path, LEFTOVER_WAIT_US);
			return true;
		}
	}
	ret_path[0] = 0;
	return false;
}

static void probe_v1(const char *id, struct cgroups *cgroups)
{
	cgroups->has_memory = open_v1("memory", id, cgroups->memory);
	int error = errno;
	cgroups->has_cpu = open_v1("cpu", id, cgroups->cpu);
	cgroups->has_pids = open_v1("pids", id, cgroups->pids);
	if (!cgroups->has_memory && !cgroups->has_cpu && !cgroups->has_pids) {
		snprintf(cgroups->why_not, sizeof(cgroups->why_not), "cgroup v1: %s", strerror(error));
		return;
	}
	cgroups->kind = CGROUP_V1;
	/* Mostly mounted together with cpu; where it has a hierarchy of its own, joining that costs more than it
	 * tells. */
	cgroups->has_cpuacct = cgroups->has_cpu && read_number(cgroups->cpu, "cpuacct.usage", NULL, -1) >= 0;
	if (!cgroups->has_memory || !cgroups->has_cpu || !cgroups->has_pids)
		snprintf(cgroups->why_not, sizeof(cgroups->why_not), "not granted:%s%s%s",
			cgroups->has_memory ? "" : " memory", cgroups->has_cpu ? "" : " cpu",
			cgroups->has_pids ? "" : " pids");
}

/* ---- v2 ---- */

static bool enable_controllers(const char *directory, bool *ret_cpu)
{
	char text[FILE_TEXT_MAX];
	if (read_file(directory, "cgroup.controllers", text) < 0 || !strstr(text, "memory") || !strstr(text, "pids"))
		return false;
	if (write_file(directory, "cgroup.subtree_control", "+memory +pids") < 0)
		return false;
	*ret_cpu = strstr(text, "cpu") && write_file(directory, "cgroup.subtree_control", "+cpu") == 0;
	return true;
}

static bool is_alone(const char *directory)
{
	char text[FILE_TEXT_MAX];
	char own[24];
	snprintf(own, sizeof(own), "%d\n", (int)getpid());
	return read_file(directory, "cgroup.procs", text) == 0 && strcmp(text, own) == 0;
}

/* A cgroup that hands controllers on must hold no process itself: where the service is the only one in a cgroup
 * delegated to it (a systemd unit with Delegate=yes, a container), it moves into a leaf. */
static bool step_aside(const char *own)
{
	char leaf[CGROUP_PATH_MAX];
	if (!is_alone(own) || snprintf(leaf, sizeof(leaf), "%s/assay-service", own) >= (int)sizeof(leaf))
		return false;
	return make_directory(leaf) && write_file(leaf, "cgroup.procs", "0") == 0;
}

static bool open_v2_below(const char *parent, const char *id, struct cgroups *cgroups)
{
	bool cpu = false, inner_cpu = false;
	if (!*parent || access(parent, W_OK) < 0)
		return false;
	if (!enable_controllers(parent, &cpu) && !(step_aside(parent) && enable_controllers(parent, &cpu)))
		return false;
	if (snprintf(cgroups->memory, CGROUP_PATH_MAX, "%s/assay-%s", parent, id) >= CGROUP_PATH_MAX - 32 ||
		!make_directory(cgroups->memory))
		return false;
	remove_leftovers(cgroups->memory, LEFTOVER_WAIT_US);
	if (!enable_controllers(cgroups->memory, &inner_cpu))
		return false;
	cgroups->kind = CGROUP_V2;
	cgroups->has_memory = cgroups->has_pids = cgroups->has_cpuacct = true;
	cgroups->has_cpu = cpu && inner_cpu;
	if (!cgroups->has_cpu)
		snprintf(cgroups->why_not, sizeof(cgroups->why_not), "not granted: cpu");
	return true;
}

static bool probe_v2(const char *id, struct cgroups *cgroups)
{
	struct hierarchy hierarchy;
	if (!find_hierarchy("", &hierarchy))
		return false;
	static const char leaf[] =
		"/assay-service"; /* where an earlier incarnation of this very process stepped aside to */
	size_t len = strlen(hierarchy.own);
	if (len > sizeof(leaf) && strcmp(hierarchy.own + len - (sizeof(leaf) - 1), leaf) == 0)
		hierarchy.own[len - (sizeof(leaf) - 1)] = 0;
	if (open_v2_below(hierarchy.own, id, cgroups) || open_v2_below(hierarchy.mount, id, cgroups))
		return true;
	snprintf(cgroups->why_not, sizeof(cgroups->why_not),
		"cgroup v2: no cgroup with the memory and pids controllers is ours to use");
	cgroups->memory[0] = 0;
	return false;
}

void cgroups_open(const char *id, struct cgroups *ret_cgroups)
{
	*ret_cgroups = (struct cgroups){ 0 };
	if (probe_v2(id, ret_cgroups))
		return;
	struct cgroups v1 = { 0 };
	probe_v1(id, &v1);
	if (v1.kind != CGROUP_NONE || !*ret_cgroups->why_not)
		*ret_cgroups = v1;
}

void cgroups_close(struct cgroups *cgroups)
{
	const char *const paths[] = { cgroups->memory, cgroups->cpu, cgroups->pids };
	for (int i = 0; i < 3; i++)
		if (*paths[i]) {
			remove_leftovers(paths[i], CLOSE_WAIT_US);
			rmdir(paths[i]);
		}
	cgroups->kind = CGROUP_NONE;
}

const char *cgroups_describe(const struct cgroups *cgroups)
{
	switch (cgroups->kind) {
	case CGROUP_V2:
		return "cgroup v2";
	case CGROUP_V1:
		return "cgroup v1";
	default:
		return "rlimits only";
	}
}

/* ---- one slot ---- */

void cgroup_slot_init(struct cgroup_slot *slot, const struct cgroups *cgroups, int index)
{
	*slot = (struct cgroup_slot){ .cgroups = cgroups, .index = index };
}

/* The slot's directories: at most three, equal ones once. */
static int slot_paths(const struct cgroup_slot *slot, char ret_paths[3][CGROUP_PATH_MAX])
{
	const char *const bases[] = { slot->cgroups->memory, slot->cgroups->pids, slot->cgroups->cpu };
	int count = 0;
	for (int i = 0; i < 3; i++) {
		if (!*bases[i])
			continue;
		snprintf(ret_paths[count], CGROUP_PATH_MAX, "%.290s/slot-%d.%u", bases[i], slot->index,
			slot->generation);
		bool known = false;
		for (int k = 0; k < count; k++)
			known = known || strcmp(ret_paths[k], ret_paths[count]) == 0;
		count += !known;
	}
	return count;
}

static void one_path(const struct cgroup_slot *slot, const char *base, char ret_path[static CGROUP_PATH_MAX])
{
	snprintf(ret_path, CGROUP_PATH_MAX, "%.290s/slot-%d.%u", base, slot->index, slot->generation);
}

static int set_limits_v1(struct cgroup_slot *slot, const struct cgroup_limits *limits, bool fresh)
{
	const struct cgroups *cgroups = slot->cgroups;
	char path[CGROUP_PATH_MAX];
	int rc = 0;
	if (cgroups->has_memory && (fresh || limits->memory_bytes != slot->limits.memory_bytes)) {
		one_path(slot, cgroups->memory, path);
		/* The limit of memory and swap together may never be below that of memory: out of the way first.
		 * Kernels without swap accounting do not have it. */
		write_file(path, "memory.memsw.limit_in_bytes", "-1");
		rc = write_number(path, "memory.limit_in_bytes", limits->memory_bytes);
		if (rc == 0 && write_number(path, "memory.memsw.limit_in_bytes", limits->memory_bytes) < 0)
			write_file(path, "memory.swappiness", "0");
	}
	if (rc == 0 && cgroups->has_cpu && (fresh || limits->cpu_millis != slot->limits.cpu_millis)) {
		one_path(slot, cgroups->cpu, path);
		int64_t quota = limits->cpu_millis * (CPU_PERIOD_US / 1000);
		rc = write_number(path, "cpu.cfs_quota_us", quota < 1000 ? 1000 : quota);
	}
	if (rc == 0 && cgroups->has_pids && (fresh || limits->processes != slot->limits.processes)) {
		one_path(slot, cgroups->pids, path);
		rc = write_number(path, "pids.max", limits->processes);
	}
	return rc;
}

static int set_limits_v2(struct cgroup_slot *slot, const struct cgroup_limits *limits)
{
	char path[CGROUP_PATH_MAX], text[64];
	one_path(slot, slot->cgroups->memory, path);
	int rc = write_number(path, "memory.max", limits->memory_bytes);
	if (rc == 0)
		rc = write_number(path, "pids.max", limits->processes);
	if (rc < 0)
		return rc;
	write_file(path, "memory.swap.max", "0"); /* not there on a kernel without swap */
	write_file(path, "memory.oom.group", "1"); /* Linux 4.19 */
	if (!slot->cgroups->has_cpu)
		return 0;
	int64_t quota = limits->cpu_millis * (CPU_PERIOD_US / 1000);
	snprintf(text, sizeof(text), "%lld %d", (long long)(quota < 1000 ? 1000 : quota), CPU_PERIOD_US);
	return write_file(path, "cpu.max", text);
}

/* v1: counters back to zero; false where the step before has left too much behind. */
static bool put_back(struct cgroup_slot *slot)
{
	char path[CGROUP_PATH_MAX];
	const struct cgroups *cgroups = slot->cgroups;
	if (cgroups->kind != CGROUP_V1)
		return false;
	if (cgroups->has_memory) {
		one_path(slot, cgroups->memory, path);
		if (read_number(path, "memory.usage_in_bytes", NULL, INT64_MAX) > KEPT_MEMORY_MAX ||
			write_file(path, "memory.max_usage_in_bytes", "0") < 0)
			return false;
	}
	if (cgroups->has_pids) { /* the dead count until somebody reaps them */
		one_path(slot, cgroups->pids, path);
		if (read_number(path, "pids.current", NULL, 1) != 0)
			return false;
	}
	return true;
}

static int64_t oom_count(const struct cgroup_slot *slot)
{
	char path[CGROUP_PATH_MAX];
	one_path(slot, slot->cgroups->memory, path);
	if (!slot->cgroups->has_memory)
		return 0;
	return slot->cgroups->kind == CGROUP_V2 ? read_number(path, "memory.events", "oom_kill", 0)
						: read_number(path, "memory.oom_control", "oom_kill", 0);
}

static int64_t refused_count(const struct cgroup_slot *slot)
{
	char path[CGROUP_PATH_MAX];
	if (!slot->cgroups->has_pids)
		return 0;
	one_path(slot, slot->cgroups->kind == CGROUP_V2 ? slot->cgroups->memory : slot->cgroups->pids, path);
	return read_number(path, "pids.events", "max", 0);
}

static int64_t cpu_usage_us(const struct cgroup_slot *slot)
{
	char path[CGROUP_PATH_MAX];
	if (!slot->cgroups->has_cpuacct)
		return -1;
	one_path(slot, slot->cgroups->kind == CGROUP_V2 ? slot->cgroups->memory : slot->cgroups->cpu, path);
	if (slot->cgroups->kind == CGROUP_V2)
		return read_number(path, "cpu.stat", "usage_usec", -1);
	int64_t ns = read_number(path, "cpuacct.usage", NULL, -1);
	return ns < 0 ? -1 : ns / 1000;
}

int cgroup_slot_prepare(struct cgroup_slot *slot, const struct cgroup_limits *limits, struct err *err)
{
	if (slot->cgroups->kind == CGROUP_NONE)
		return 0;
	bool fresh = !slot->made || !put_back(slot);
	if (fresh) {
		char paths[3][CGROUP_PATH_MAX];
		cgroup_slot_remove(slot);
		int count = slot_paths(slot, paths);
		for (int i = 0; i < count; i++)
			if (mkdir(paths[i], 0755) < 0 && errno != EEXIST)
				return err_set(err, -errno, "cannot make %.120s: %s", paths[i], strerror(errno));
		slot->made = true;
	}
	int rc = slot->cgroups->kind == CGROUP_V2 ? set_limits_v2(slot, limits) : set_limits_v1(slot, limits, fresh);
	if (rc < 0) {
		cgroup_slot_remove(slot);
		return err_set(err, rc, "cannot set the limits of a cgroup: %s", strerror(-rc));
	}
	slot->limits = *limits;
	slot->oom_before = oom_count(slot);
	slot->refused_before = refused_count(slot);
	slot->cpu_before = cpu_usage_us(slot);
	return 0;
}

int cgroup_slot_join_paths(const struct cgroup_slot *slot, char ret_paths[CGROUP_JOIN_MAX][CGROUP_PATH_MAX + 64])
{
	char paths[3][CGROUP_PATH_MAX];
	int count = slot->cgroups->kind == CGROUP_NONE ? 0 : slot_paths(slot, paths);
	for (int i = 0; i < count; i++)
		snprintf(ret_paths[i], CGROUP_PATH_MAX + 64, "%s/cgroup.procs", paths[i]);
	return count;
}

void cgroup_slot_kill(const struct cgroup_slot *slot, pid_t spared)
{
	char paths[3][CGROUP_PATH_MAX];
	if (!slot->made)
		return;
	int count = slot_paths(slot, paths), killed = 0;
	if (slot->cgroups->kind == CGROUP_V2 && write_file(paths[0], "cgroup.kill", "1") == 0)
		return;
	for (int i = 0; i < count; i++)
		killed += kill_members(paths[i], spared);
	if (killed == 0 && spared > 0)
		kill(spared, SIGKILL);
}

bool cgroup_slot_is_empty(const struct cgroup_slot *slot)
{
	char paths[3][CGROUP_PATH_MAX], text[FILE_TEXT_MAX];
	int count = slot->made ? slot_paths(slot, paths) : 0;
	return count == 0 || read_file(paths[0], "cgroup.procs", text) < 0 || *text == 0;
}

void cgroup_slot_read(const struct cgroup_slot *slot, struct cgroup_usage *ret_usage)
{
	*ret_usage = (struct cgroup_usage){ .cpu_us = -1, .memory_peak = -1 };
	if (!slot->made)
		return;
	int64_t cpu = cpu_usage_us(slot);
	if (cpu >= 0 && slot->cpu_before >= 0)
		ret_usage->cpu_us = cpu - slot->cpu_before;
	if (slot->cgroups->has_memory) {
		char path[CGROUP_PATH_MAX];
		one_path(slot, slot->cgroups->memory, path);
		ret_usage->memory_peak = read_number(
			path, slot->cgroups->kind == CGROUP_V2 ? "memory.peak" : "memory.max_usage_in_bytes", NULL, -1);
	}
	ret_usage->out_of_memory = oom_count(slot) > slot->oom_before;
	ret_usage->processes_refused = refused_count(slot) > slot->refused_before;
}

int64_t cgroup_slot_memory(const struct cgroup_slot *slot)
{
	char path[CGROUP_PATH_MAX];
	if (!slot->made || !slot->cgroups->has_memory)
		return -1;
	one_path(slot, slot->cgroups->memory, path);
	return read_number(
		path, slot->cgroups->kind == CGROUP_V2 ? "memory.current" : "memory.usage_in_bytes", NULL, -1);
}

void cgroup_slot_remove(struct cgroup_slot *slot)
{
	char paths[3][CGROUP_PATH_MAX];
	if (!slot->made)
		return;
	int count = slot_paths(slot, paths);
	for (int i = 0; i < count; i++)
		rmdir(paths[i]); /* one that stays is empty, and goes when the executor does */
	slot->made = false;
	slot->generation++;
}
