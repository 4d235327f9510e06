/* The peer of the sandbox: the same launch (cgroup, user id, seccomp filter, bubblewrap with the very same mounts) of
 * one command, over and over, by a bare loop without service, files, pipes or reports. Each of `concurrency` workers is
 * a process with a cgroup and a user id of its own.
 *
 *   bare_launch LAUNCHER [-c CONCURRENCY] [-n LAUNCHES] [COMMAND…]
 *
 * Prints one line: evaluations/s, and the median and the 99th percentile of a launch in milliseconds. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/sandbox/host.h"
#include "executor/sandbox/spawn.h"

#define WORDS_MAX 256

struct worker {
	const struct host *host;
	int index;
	char cgroups[CGROUP_JOIN_MAX][CGROUP_PATH_MAX + 64];
	int cgroup_count;
	const char *words[WORDS_MAX];
};

static void launch(const struct worker *worker, int filter)
{
	for (int i = 0; i < worker->cgroup_count; i++) {
		int fd = open(worker->cgroups[i], O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			_exit(125);
		close(fd);
	}
	if (worker->host->root) {
		uint32_t uid = worker->host->uids[worker->index];
		if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(125);
	}
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (dup2(worker->host->null_fd, 0) < 0 || dup2(worker->host->null_fd, 1) < 0 ||
		dup2(filter, LAUNCH_FD_FILTER) < 0)
		_exit(125);
	static char *const empty[] = { NULL };
	execve(worker->words[0], (char *const *)worker->words, empty);
	_exit(125);
}

static void work(const struct worker *worker, int launches, int64_t *times)
{
	for (int i = 0; i < launches; i++) {
		int64_t begin = clock_monotonic_us();
		int filter = spawn_high_fd(memory_file_reopen(worker->host->filter_fd));
		pid_t pid = fork();
		if (pid == 0)
			launch(worker, filter);
		int status = -1;
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
		}
		if (status != 0) {
			fprintf(stderr, "a launch ended with status %d\n", status);
			_exit(1);
		}
		close(filter);
		times[i] = clock_monotonic_us() - begin;
	}
	_exit(0);
}

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* Bubblewrap's words as the sandbox has them, up to the program, which is process 1 itself. */
static void take_words(struct worker *worker, const struct plan_writer *plan, char *const *command)
{
	const char *at = plan->words.data;
	for (uint32_t i = 0; i < plan->head.cgroup_count; i++)
		at += strlen(at) + 1;
	int count = 0;
	for (uint32_t i = 0; i < plan->head.bwrap_count && count < WORDS_MAX - 32; i++, at += strlen(at) + 1) {
		worker->words[count++] = string_copy(at);
		if (strcmp(at, "--") == 0)
			break;
	}
	for (; *command && count < WORDS_MAX - 1; command++)
		worker->words[count++] = *command;
}

int main(int argc, char **argv)
{
	int64_t concurrency = 2, launches = 400;
	int option;
	char state[] = "/tmp/assay-bare-XXXXXX";
	static char true_program[] = "/usr/bin/true";
	static char *const usual[] = { true_program, NULL };
	while ((option = getopt(argc, argv, "+c:n:")) != -1) {
		if (option == 'c' || option == 'n')
			text_to_int(bytes_of(optarg), 1, 1000000, option == 'c' ? &concurrency : &launches);
		else
			return 2;
	}
	if (optind >= argc || concurrency < 1 || concurrency > 256 || launches < concurrency || !mkdtemp(state)) {
		fprintf(stderr, "usage: bare_launch [-c CONCURRENCY] [-n LAUNCHES] LAUNCHER [COMMAND…]\n");
		return 2;
	}
	char *const *command = optind + 1 < argc ? argv + optind + 1 : usual;
	struct log log = { .fd = 2, .level = LOG_ERROR };
	struct sandbox_options options = {
		.log = &log, .launcher = argv[optind], .state_dir = state, .slots = (int)concurrency, .name = "bare"
	};
	struct host host;
	host_open(&host, &options);
	if (!host.isolated) {
		fprintf(stderr, "%s\n", host.detail);
		return 1;
	}
	int each = (int)(launches / concurrency);
	int64_t *times = mmap(NULL, sizeof(*times) * (size_t)(each * concurrency), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct worker *workers = alloc_array((size_t)concurrency, sizeof(*workers));
	struct cgroup_slot *slots = alloc_array((size_t)concurrency, sizeof(*slots));
	for (int i = 0; i < concurrency; i++) {
		struct plan_writer plan;
		struct err err = { 0 };
		const struct cgroup_limits limits = { INT64_C(768) << 20, 2000, 66 };
		cgroup_slot_init(&slots[i], &host.cgroups, i);
		if (cgroup_slot_prepare(&slots[i], &limits, &err) < 0) {
			fprintf(stderr, "%s\n", err.message);
			return 1;
		}
		workers[i] = (struct worker){ .host = &host, .index = i };
		workers[i].cgroup_count = cgroup_slot_join_paths(&slots[i], workers[i].cgroups);
		plan_writer_init(&plan);
		host_fill_plan(&host, &plan, &slots[i], i, 256 << 20);
		take_words(&workers[i], &plan, command);
		plan_writer_fini(&plan);
	}
	int64_t begin = clock_monotonic_us();
	for (int i = 0; i < concurrency; i++)
		if (fork() == 0)
			work(&workers[i], each, times + (size_t)i * (size_t)each);
	int failed = 0, status;
	while (wait(&status) > 0)
		failed += status != 0;
	double seconds = (double)(clock_monotonic_us() - begin) / 1e6;
	int count = each * (int)concurrency;
	qsort(times, (size_t)count, sizeof(*times), compare_times);
	printf("bare launch: concurrency %d, %d launches, %.1f /s, p50 %.2f ms, p99 %.2f ms\n", (int)concurrency, count,
		count / seconds, (double)times[count / 2] / 1e3, (double)times[count * 99 / 100] / 1e3);
	for (int i = 0; i < concurrency; i++)
		cgroup_slot_remove(&slots[i]);
	host_close(&host);
	rmdir(state);
	return failed > 0;
}
