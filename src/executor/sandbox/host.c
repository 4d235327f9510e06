/* The proof that the machine isolates is one real launch of `true`, the same way as every step after it; the checks
 * around it only explain why it failed and what to do. */
#include "executor/sandbox/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/sandbox/etc.h"
#include "executor/sandbox/filter.h"
#include "executor/sandbox/spawn.h"

#define TRIAL_WAIT_MS 15000
#define UID_RANGE 184 /* 61000 to 61183: systemd hands out those above, and those below 60578, itself */
#define SHM_MAX (INT64_C(64) << 20)

static struct executor_check *add_check(struct host *host, const char *what, enum executor_check_state state,
	const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));

static struct executor_check *add_check(struct host *host, const char *what, enum executor_check_state state,
	const char *remedy, const char *format, ...)
{
	struct executor_check *check = &host->checks[host->check_count];
	if (host->check_count < HOST_CHECKS_MAX - 1)
		host->check_count++;
	*check = (struct executor_check){ .state = state };
	snprintf(check->what, sizeof(check->what), "%s", what);
	snprintf(check->remedy, sizeof(check->remedy), "%s", state == EXECUTOR_CHECK_OK ? "" : remedy);
	va_list list;
	va_start(list, format);
	vsnprintf(check->detail, sizeof(check->detail), format, list);
	va_end(list);
	return check;
}

/* ---- our directory ---- */

static bool make_open_directory(const char *path, mode_t mode)
{
	struct stat st;
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return false;
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && chmod(path, mode) == 0;
}

/* Root's data directory may be closed to the slots' user ids, so it is /run, or /tmp where that is read-only. */
static bool open_runtime(struct host *host, const char *state_dir)
{
	const char *const parents[] = { "/run/assay", "/tmp/assay" };
	if (!host->root) {
		if (snprintf(host->runtime, sizeof(host->runtime), "%s/sandbox", state_dir) >=
			(int)sizeof(host->runtime))
			snprintf(host->runtime, sizeof(host->runtime), "/tmp/assay-%u-%s", (unsigned)geteuid(),
				host->id);
		return make_open_directory(host->runtime, 0755);
	}
	for (size_t i = 0; i < ARRAY_SIZE(parents); i++) {
		snprintf(host->runtime, sizeof(host->runtime), "%s/%s", parents[i], host->id);
		if (make_open_directory(parents[i], 0755) && make_open_directory(host->runtime, 0755))
			return true;
	}
	return false;
}

/* ---- user ids ---- */

/* Locks keep two services of one machine from using the same user id. */
static int lock_uid(uint32_t uid)
{
	char path[64];
	if (!make_open_directory("/run/assay", 0755) && !make_open_directory("/tmp/assay", 0755))
		return -EACCES;
	for (int i = 0; i < 2; i++) {
		const char *top = i == 0 ? "/run/assay" : "/tmp/assay";
		snprintf(path, sizeof(path), "%s/uid", top);
		if (access(top, W_OK) < 0 || !make_open_directory(path, 0700))
			continue;
		snprintf(path, sizeof(path), "%s/uid/%u", top, (unsigned)uid);
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		close(fd);
		return -EWOULDBLOCK;
	}
	return -EACCES;
}

static bool uid_is_free(uint32_t uid)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];
	return getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) != 0 || !found;
}

static int take_uids(struct host *host, uint32_t base)
{
	host->uids = alloc_array((size_t)host->slots, sizeof(*host->uids));
	host->uid_locks = alloc_array((size_t)host->slots, sizeof(*host->uid_locks));
	int taken = 0;
	for (uint32_t uid = base; uid < base + UID_RANGE + (uint32_t)host->slots && taken < host->slots; uid++) {
		int lock = uid_is_free(uid) ? lock_uid(uid) : -EEXIST;
		if (lock < 0)
			continue;
		host->uids[taken] = uid;
		host->uid_locks[taken++] = lock;
	}
	return taken;
}

/* The dead that nobody has reaped yet are no business of ours. */
static bool is_zombie(int pid)
{
	char path[32], text[256];
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return true;
	text[len] = 0;
	const char *name_end = strrchr(text, ')');
	return name_end && strncmp(name_end, ") Z", 3) == 0;
}

/* Whoever runs under one of our ids now was left by an earlier incarnation. */
static int kill_users(const struct host *host)
{
	DIR *dir = opendir("/proc");
	int found = 0;
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		struct stat st;
		int64_t pid;
		if (!text_to_int(bytes_of(entry->d_name), 2, INT32_MAX, &pid) ||
			fstatat(dirfd(dir), entry->d_name, &st, 0) < 0)
			continue;
		for (int i = 0; i < host->slots; i++)
			if (st.st_uid == host->uids[i] && !is_zombie((int)pid)) {
				found++;
				kill((pid_t)pid, SIGKILL);
			}
	}
	if (dir)
		closedir(dir);
	return found;
}

static void open_uids(struct host *host, const struct sandbox_options *options)
{
	if (!host->root) {
		add_check(host, "user ids", EXECUTOR_CHECK_WARNING,
			"start the service as root: it gives each slot a user id of its own",
			"code runs as user %u, the service's own, in namespaces of its own", (unsigned)geteuid());
		return;
	}
	uint32_t base = options->uid_base ? options->uid_base : SANDBOX_UID_BASE;
	int taken = take_uids(host, base);
	if (taken < host->slots) {
		add_check(host, "user ids", EXECUTOR_CHECK_MISSING,
			"choose another first user id for the sandbox, or fewer slots",
			"of %d user ids from %u on only %d are free", host->slots, (unsigned)base, taken);
		host->slots = taken;
	} else {
		add_check(host, "user ids", EXECUTOR_CHECK_OK, "", "%u to %u, one per slot", (unsigned)host->uids[0],
			(unsigned)host->uids[taken - 1]);
	}
	int64_t deadline = clock_monotonic_us() + LEFTOVER_WAIT_US;
	int left = kill_users(host);
	if (left > 0)
		log_event(host->log, LOG_WARNING, "killed processes that an earlier incarnation left",
			L_INT("count", left));
	while (left > 0 && clock_monotonic_us() < deadline) {
		poll(NULL, 0, 2);
		left = kill_users(host);
	}
}

/* ---- bubblewrap ---- */

static bool find_bwrap(struct host *host, const char *wanted)
{
	static const char *const places[] = { "/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap" };
	if (wanted) {
		snprintf(host->bwrap, sizeof(host->bwrap), "%s", wanted);
		return access(wanted, X_OK) == 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (access(places[i], X_OK) == 0) {
			snprintf(host->bwrap, sizeof(host->bwrap), "%s", places[i]);
			return true;
		}
	return false;
}

static void add_words(struct plan_writer *writer, const char *const *words)
{
	for (; *words; words++)
		plan_add_word(writer, &writer->head.bwrap_count, *words);
}

#define ADD(...) add_words(writer, (const char *const[]){ __VA_ARGS__, NULL })

/* /usr, and those that are links into it on a merged system or directories on others. */
static void add_system_directories(struct plan_writer *writer)
{
	static const char *const names[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
	ADD("--ro-bind", "/usr", "/usr");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[16], target[64];
		struct stat st;
		snprintf(path, sizeof(path), "/%s", names[i]);
		if (lstat(path, &st) < 0)
			continue;
		ssize_t len = S_ISLNK(st.st_mode) ? readlink(path, target, sizeof(target) - 1) : -1;
		if (len > 0) {
			target[len] = 0;
			ADD("--symlink", target, path);
		} else if (S_ISDIR(st.st_mode)) {
			ADD("--ro-bind", path, path);
		}
	}
}

static void add_bwrap(const struct host *host, struct plan_writer *writer, int64_t disk_bytes)
{
	char disk[24], shm[24];
	snprintf(disk, sizeof(disk), "%lld", (long long)disk_bytes);
	snprintf(shm, sizeof(shm), "%lld", (long long)(disk_bytes < SHM_MAX ? disk_bytes : SHM_MAX));
	ADD(host->bwrap, "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox");
	if (host->disable_userns)
		ADD("--disable-userns");
	ADD("--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv");
	add_system_directories(writer);
	ADD("--ro-bind", host->etc, "/etc");
	ADD("--proc", "/proc", "--dev", "/dev");
	ADD("--size", shm, "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev");
	ADD("--size", disk, "--perms", "0755", "--tmpfs", SANDBOX_BOX);
	ADD("--dir", SANDBOX_BOX "/work", "--dir", SANDBOX_BOX "/home", "--perms", "1777", "--dir", SANDBOX_BOX "/tmp");
	ADD("--dir", "/var", "--symlink", "box/tmp", "/tmp", "--symlink", "../box/tmp", "/var/tmp", "--remount-ro",
		"/");
	ADD("--seccomp", "8", "--chdir", SANDBOX_BOX "/work", "--", "/proc/self/fd/7", "--supervise");
	_Static_assert(LAUNCH_FD_FILTER == 8 && LAUNCH_FD_PROGRAM == 7, "as written above");
}

void host_box(const struct host *host, int slot, char ret_path[static 128])
{
	if (host->isolated)
		snprintf(ret_path, 128, SANDBOX_BOX);
	else
		snprintf(ret_path, 128, "%.100s/box-%d", host->runtime, slot);
}

void host_fill_plan(const struct host *host, struct plan_writer *writer, const struct cgroup_slot *cgroup, int slot,
	int64_t disk_bytes)
{
	char paths[CGROUP_JOIN_MAX][CGROUP_PATH_MAX + 64];
	int count = cgroup_slot_join_paths(cgroup, paths);
	for (int i = 0; i < count; i++)
		plan_add_word(writer, &writer->head.cgroup_count, paths[i]);
	if (host->root)
		writer->head.uid = writer->head.gid = host->uids[slot];
	host_box(host, slot, writer->head.box);
	if (host->isolated)
		add_bwrap(host, writer, disk_bytes);
	else
		writer->head.flags |= PLAN_UNISOLATED;
}

/* ---- the trial ---- */

/* Everything up to the end of file, or until time is up. */
static size_t read_reports(int fd, char *text, size_t size)
{
	size_t len = 0;
	struct pollfd polled = { fd, POLLIN, 0 };
	while (len < size && poll(&polled, 1, TRIAL_WAIT_MS) > 0) {
		ssize_t n = read(fd, text + len, size - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return len;
}

static bool find_report(const char *text, size_t len, enum report_kind kind, struct report *ret_report)
{
	const uint64_t magic = REPORT_MAGIC;
	for (size_t at = 0; at + sizeof(struct report) <= len; at++) {
		if (memcmp(text + at, &magic, sizeof(magic)) != 0)
			continue;
		memcpy(ret_report, text + at, sizeof(*ret_report));
		if (ret_report->kind == kind)
			return true;
	}
	return false;
}

/* Was it a success, and if not, why: as assay-launch reported, or in bubblewrap's words. */
static int judge_trial(char *text, size_t len, struct err *err)
{
	struct report report;
	if (find_report(text, len, REPORT_ENDED, &report) && report.value == 0)
		return 0;
	if (find_report(text, len, REPORT_FAILED, &report))
		return err_set(err, -EPERM, "%.*s: %s", (int)strnlen(report.where, sizeof(report.where)), report.where,
			strerror(report.value));
	text[len] = 0;
	text[strcspn(text, "\n")] = 0;
	bool words = *text && utf8_valid((struct bytes){ text, strlen(text) });
	return err_set(err, -EPERM, "%.200s", words ? text : "the sandbox did not start");
}

static int launch_trial(const struct host *host, int plan, pid_t *ret_pid, int *ret_reports, struct err *err)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "socketpair: %s", strerror(errno));
	pair[1] = spawn_high_fd(pair[1]);
	int filter = spawn_high_fd(memory_file_reopen(host->filter_fd));
	struct spawn_fds fds = { { host->null_fd, host->null_fd, pair[1], plan, host->null_fd, -1, -1,
		host->launcher_fd, filter } };
	int rc = pair[1] < 0 ? err_set(err, pair[1], "too few descriptors")
			     : spawn_launcher(host->launcher, &fds, ret_pid, err);
	if (pair[1] >= 0)
		close(pair[1]);
	if (filter >= 0)
		close(filter);
	if (rc < 0)
		close(pair[0]);
	else
		*ret_reports = pair[0];
	return rc;
}

static int try_isolation(struct host *host, struct err *err)
{
	struct plan_writer writer;
	struct cgroup_slot no_cgroup;
	struct cgroups none = { 0 };
	cgroup_slot_init(&no_cgroup, &none, 0);
	plan_writer_init(&writer);
	host_fill_plan(host, &writer, &no_cgroup, 0, 1 << 20);
	plan_add_word(&writer, &writer.head.argv_count, "/usr/bin/true");
	int plan = -1, reports = -1;
	pid_t pid = -1;
	int rc = plan_write(&writer, &plan, err);
	plan_writer_fini(&writer);
	if (rc == 0) {
		plan = spawn_high_fd(plan);
		rc = launch_trial(host, plan, &pid, &reports, err);
		close(plan);
	}
	if (rc < 0)
		return rc;
	char text[2048];
	size_t len = read_reports(reports, text, sizeof(text) - 1);
	close(reports);
	kill(pid, SIGKILL); /* it has ended, or will not */
	waitpid(pid, NULL, 0);
	return judge_trial(text, len, err);
}

static long read_sysctl(const char *path)
{
	FILE *file = fopen(path, "re");
	long value = -1;
	if (file && fscanf(file, "%ld", &value) != 1)
		value = -1;
	if (file)
		fclose(file);
	return value;
}

/* Why user namespaces may be forbidden, by the switches that the distributions have. */
static const char *userns_remedy(void)
{
	if (read_sysctl("/proc/sys/user/max_user_namespaces") == 0)
		return "allow user namespaces: sysctl -w user.max_user_namespaces=15000";
	if (read_sysctl("/proc/sys/kernel/unprivileged_userns_clone") == 0)
		return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1";
	if (read_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
		return "AppArmor forbids user namespaces: install the profile for assay-launch (./dev run does), or "
		       "sysctl -w "
		       "kernel.apparmor_restrict_unprivileged_userns=0";
	return "in a container: allow user namespaces, and mounting /proc (for Docker --security-opt "
	       "seccomp=unconfined "
	       "--security-opt systempaths=unconfined)";
}

static void check_apparmor(struct host *host)
{
	if (read_sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != 1)
		add_check(host, "AppArmor", EXECUTOR_CHECK_OK, "", "does not restrict user namespaces");
	else if (host->isolated)
		add_check(host, "AppArmor", EXECUTOR_CHECK_OK, "",
			"restricts user namespaces, and lets the sandbox have them");
	else
		add_check(host, "AppArmor", EXECUTOR_CHECK_MISSING, userns_remedy(), "restricts user namespaces");
}

static void open_isolation(struct host *host, const struct sandbox_options *options)
{
	struct err err = { 0 };
	if (!find_bwrap(host, options->bwrap)) {
		add_check(host, "bubblewrap", EXECUTOR_CHECK_MISSING, "apt-get install bubblewrap",
			"bubblewrap (bwrap) is not installed");
		return;
	}
	add_check(host, "bubblewrap", EXECUTOR_CHECK_OK, "", "%s", host->bwrap);
	if (filter_compile(&host->filter_fd, &err) < 0) {
		add_check(host, "isolation", EXECUTOR_CHECK_MISSING, "a kernel and libseccomp with filters", "%s",
			err.message);
		return;
	}
	host->isolated = host->disable_userns = true;
	int rc = try_isolation(host, &err);
	if (rc < 0) { /* bubblewrap before 0.8 does not know the option: the filter forbids the same */
		host->disable_userns = false;
		rc = try_isolation(host, &err);
	}
	host->isolated = rc == 0;
	if (rc == 0)
		add_check(host, "isolation", EXECUTOR_CHECK_OK, "", "namespaces, seccomp filter%s",
			host->disable_userns ? ", no further user namespaces" : "");
	else
		add_check(host, "isolation", EXECUTOR_CHECK_MISSING, userns_remedy(), "%s", err.message);
	check_apparmor(host);
}

static void open_cgroups(struct host *host)
{
	cgroups_open(host->id, &host->cgroups);
	const char *remedy = host->root ? "mount the memory, cpu and pids controllers writable for the service"
					: "start it in a cgroup of its own (systemd-run --user --scope -p Delegate=yes "
					  "assayd …), or as root";
	if (host->cgroups.kind == CGROUP_NONE)
		add_check(host, "cgroups", EXECUTOR_CHECK_WARNING, remedy,
			"limits by rlimits only, per process and not per evaluation; %s", host->cgroups.why_not);
	else if (*host->cgroups.why_not)
		add_check(host, "cgroups", EXECUTOR_CHECK_WARNING, remedy, "%s; %s", cgroups_describe(&host->cgroups),
			host->cgroups.why_not);
	else
		add_check(host, "cgroups", EXECUTOR_CHECK_OK, "", "%s: memory, cpu, pids",
			cgroups_describe(&host->cgroups));
}

static void conclude(struct host *host, bool unisolated)
{
	const char *users = host->root ? "user id per slot" : "the service's user id";
	if (host->isolated)
		snprintf(host->isolation, sizeof(host->isolation), "bubblewrap, %s, %s", users,
			cgroups_describe(&host->cgroups));
	else
		snprintf(host->isolation, sizeof(host->isolation), "none");
	host->usable = host->slots > 0 && host->launcher_fd >= 0 && (host->isolated || unisolated);
	for (size_t i = 0; i < host->check_count; i++) {
		const struct executor_check *check = &host->checks[i];
		if (check->state == EXECUTOR_CHECK_MISSING && !host->usable) {
			snprintf(host->detail, sizeof(host->detail), "%.120s: %.100s", check->detail, check->remedy);
			return;
		}
	}
	if (!host->isolated)
		snprintf(host->detail, sizeof(host->detail),
			"unisolated, as configured: code can see and change what its user can; %s",
			cgroups_describe(&host->cgroups));
	else
		snprintf(host->detail, sizeof(host->detail), "limits by %s", cgroups_describe(&host->cgroups));
}

static void make_boxes(struct host *host)
{
	for (int i = 0; i < host->slots; i++) {
		char path[128];
		host_box(host, i, path);
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			log_event(host->log, LOG_WARNING, "cannot make a work directory", L_STR("path", path));
		else if (host->root && chown(path, host->uids[i], host->uids[i]) < 0)
			log_event(host->log, LOG_WARNING, "cannot hand a work directory over", L_STR("path", path));
	}
}

static void make_id(struct host *host, const struct sandbox_options *options)
{
	uint8_t digest[SHA256_SIZE];
	char *real = realpath(options->state_dir, NULL);
	struct buffer text = BUFFER_MAX(8192);
	buffer_append_string(&text, real ? real : options->state_dir);
	buffer_append_char(&text, '\n');
	buffer_append_string(&text, options->name ? options->name : "sandbox");
	sha256(buffer_bytes(&text), digest);
	for (int i = 0; i < 8; i++)
		snprintf(host->id + 2 * i, 3, "%02x", digest[i]);
	buffer_fini(&text);
	free(real);
}

void host_open(struct host *host, const struct sandbox_options *options)
{
	struct err err = { 0 };
	*host = (struct host){ .log = options->log, .root = geteuid() == 0, .slots = options->slots, .filter_fd = -1 };
	snprintf(host->launcher, sizeof(host->launcher), "%s", options->launcher);
	make_id(host, options);
	host->null_fd = spawn_high_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
	host->launcher_fd = spawn_high_fd(open(host->launcher, O_RDONLY | O_CLOEXEC));
	if (host->launcher_fd < 0 || host->null_fd < 0)
		add_check(host, "assay-launch", EXECUTOR_CHECK_MISSING, "install assay-launch beside assayd",
			"cannot open %.150s", host->launcher);
	if (!open_runtime(host, options->state_dir))
		add_check(host, "directory", EXECUTOR_CHECK_MISSING, "make it writable for the service", "%.120s: %s",
			host->runtime, strerror(errno));
	snprintf(host->etc, sizeof(host->etc), "%s/etc", host->runtime);
	if (etc_build(host->etc, &err) < 0)
		add_check(host, "directory", EXECUTOR_CHECK_MISSING, "make it writable for the service", "%s",
			err.message);
	open_cgroups(host); /* first of all, since it ends what an earlier incarnation left running */
	open_uids(host, options);
	if (host->slots > 0 && host->launcher_fd >= 0 && host->null_fd >= 0)
		open_isolation(host, options);
	conclude(host, options->unisolated);
	if (host->usable && !host->isolated)
		make_boxes(host);
}

void host_refresh(struct host *host)
{
	struct err err;
	if (*host->etc && etc_is_stale(host->etc) && etc_build(host->etc, &err) < 0)
		log_event(host->log, LOG_WARNING, "cannot renew the sandboxes' /etc", L_ERR(&err));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	if (remove(path) < 0) {
		/* What stays is used again at the next start. */
	}
	return 0;
}

void host_close(struct host *host)
{
	cgroups_close(&host->cgroups);
	if (*host->runtime)
		nftw(host->runtime, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	for (int i = 0; host->uid_locks && i < host->slots; i++)
		close(host->uid_locks[i]);
	free(STEAL(host->uids));
	free(STEAL(host->uid_locks));
	const int fds[] = { host->launcher_fd, host->filter_fd, host->null_fd };
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	host->launcher_fd = host->filter_fd = host->null_fd = -1;
}
