/* What only the sandbox promises: large input, limits met exactly, a machine that cannot isolate, what a killed service
 * leaves behind. ASSAY_LAUNCH in the environment names the launcher. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "drive.h"
#include "executor/sandbox/sandbox.h"

static char state_dir[] = "/tmp/assay-machine-XXXXXX";
static struct log quiet = { .fd = 2, .level = LOG_ERROR };

static const struct languages *languages(void)
{
	static struct languages *parsed;
	struct err err = { 0 };
	if (!parsed && (languages_parse(languages_builtin(), "languages", &parsed, &err) < 0 || !mkdtemp(state_dir))) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
	return parsed;
}

static void open_with(struct drive *drive, struct sandbox_options options)
{
	struct err err = { 0 };
	drive_open(drive);
	options.loop = &drive->loop;
	options.log = &quiet;
	options.languages = languages();
	options.state_dir = state_dir;
	options.slots = 2;
	if (!options.launcher)
		options.launcher = getenv("ASSAY_LAUNCH");
	drive->executor = sandbox_executor_new(&options);
	if (drive_start(drive, &err) < 0) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
}

static bool isolates(struct drive *drive)
{
	return drive->executor->ops->status(drive->executor)->health == EXECUTOR_HEALTHY;
}

static struct driven *run_bash(struct drive *drive, const char *code)
{
	struct driven *driven = alloc(sizeof(*driven));
	driven_init(driven, "bash", code);
	CHECK(drive_run(drive, driven));
	CHECK_STR(driven->broken ? driven->broken : "kept", "kept");
	return driven;
}

static void free_driven(struct driven *driven)
{
	driven_fini(driven);
	free(driven);
}

TEST(large_input_comes_through)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ 0 });
	if (isolates(&drive)) {
		size_t size = 6 << 20;
		char *input = alloc(size);
		memset(input, 'x', size);
		struct driven *driven = alloc(sizeof(*driven));
		driven_init(driven, "bash", "wc -c; echo still there >&2");
		driven->run.stdin_data = (struct bytes){ input, size };
		CHECK(drive_run(&drive, driven));
		CHECK_INT(driven->steps[0].end.exit_code, 0);
		CHECK_BYTES(buffer_bytes(&driven->steps[0].streams[0]), BYTES_LITERAL("6291456\n"));
		free_driven(driven);
		free(input);
	}
	drive_stop(&drive);
}

TEST(output_of_exactly_the_limit_is_no_failure)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ 0 });
	if (isolates(&drive)) {
		struct driven *driven = run_bash(&drive, "head -c 1048576 /dev/zero");
		CHECK_INT(driven->steps[0].end.reason, REASON_NONE);
		CHECK_INT((int)driven->steps[0].streams[0].len, 1 << 20);
		CHECK(!driven->steps[0].end.stdout_truncated);
		free_driven(driven);
		driven = run_bash(&drive, "head -c 1048577 /dev/zero");
		CHECK_INT(driven->steps[0].end.reason, REASON_OUTPUT_LIMIT);
		CHECK_INT((int)driven->steps[0].streams[0].len, 1 << 20);
		CHECK(driven->steps[0].end.stdout_truncated);
		free_driven(driven);
	}
	drive_stop(&drive);
}

TEST(progress_is_told_while_a_run_lasts)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ .progress_us = 20000 });
	if (isolates(&drive)) {
		struct driven *driven = alloc(sizeof(*driven));
		driven_init(driven, "bash", "while :; do :; done");
		driven->cancel_on_progress = true;
		CHECK(drive_run(&drive, driven));
		CHECK_STR(driven->broken ? driven->broken : "kept", "kept");
		CHECK_INT(driven->end.reason, REASON_CANCELLED);
		buffer_append_char(&driven->progress, '\0');
		static const char begin[] = "\"step\":\"run\",\"run_index\":0,\"wall_seconds\":0.";
		CHECK(strncmp(driven->progress.data, begin, sizeof(begin) - 1) == 0);
		free_driven(driven);
	}
	drive_stop(&drive);
}

TEST(usage_is_measured)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ 0 });
	if (isolates(&drive)) {
		struct driven *driven =
			run_bash(&drive, "x=$(head -c 30000000 /dev/zero | tr '\\0' x); echo ${#x}; sleep 0.1");
		const struct step_end *end = &driven->steps[0].end;
		CHECK_INT(end->reason, REASON_NONE);
		CHECK(end->usage.wall_us >= 100 * US_PER_MS);
		CHECK(end->usage.cpu_us > 0 && end->usage.cpu_us < 60 * US_PER_S);
		CHECK(end->usage.memory_bytes > 30000000);
		free_driven(driven);
		driven = run_bash(&drive, "true"); /* nothing of it is charged to the next */
		CHECK(driven->steps[0].end.usage.memory_bytes < 30000000);
		free_driven(driven);
	}
	drive_stop(&drive);
}

TEST(a_missing_launcher_is_said)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ .launcher = "/nonexistent/assay-launch" });
	const struct executor_status *status = drive.executor->ops->status(drive.executor);
	CHECK_INT(status->health, EXECUTOR_UNAVAILABLE);
	CHECK(memmem(status->detail.data, status->detail.len, "assay-launch", 12) != NULL);
	drive_stop(&drive);
}

TEST(a_missing_bubblewrap_is_said_and_nothing_runs)
{
	struct drive drive;
	bool found = false;
	open_with(&drive, (struct sandbox_options){ .bwrap = "/nonexistent/bwrap" });
	const struct executor_status *status = drive.executor->ops->status(drive.executor);
	CHECK_INT(status->health, EXECUTOR_UNAVAILABLE);
	for (size_t i = 0; i < status->check_count; i++)
		if (strcmp(status->checks[i].what, "bubblewrap") == 0) {
			found = true;
			CHECK_INT(status->checks[i].state, EXECUTOR_CHECK_MISSING);
			CHECK_STR(status->checks[i].remedy, "apt-get install bubblewrap");
		}
	CHECK(found);
	struct driven *driven = run_bash(&drive, "echo never");
	CHECK(!driven->started);
	CHECK(driven->end.never_started);
	free_driven(driven);
	drive_stop(&drive);
}

TEST(a_bubblewrap_that_fails_is_no_fault_of_the_code)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ .bwrap = "/bin/false" });
	CHECK_INT(drive.executor->ops->status(drive.executor)->health, EXECUTOR_UNAVAILABLE);
	drive_stop(&drive);
}

TEST(unisolated_only_when_told)
{
	struct drive drive;
	open_with(&drive, (struct sandbox_options){ .bwrap = "/nonexistent/bwrap", .unisolated = true });
	const struct executor_status *status = drive.executor->ops->status(drive.executor);
	CHECK_INT(status->health, EXECUTOR_HEALTHY);
	CHECK_BYTES(status->isolation, BYTES_LITERAL("none"));
	for (int i = 0; i < 2; i++) { /* the second finds nothing of the first */
		struct driven *driven =
			run_bash(&drive, "ls; ls $HOME $TMPDIR; echo x > mark; mkdir -p a/b/c; sleep 1000 & exit 5");
		CHECK_INT(driven->steps[0].end.reason, REASON_EXIT_CODE);
		CHECK_INT(driven->steps[0].end.exit_code, 5);
		CHECK(!memmem(driven->steps[0].streams[0].data, driven->steps[0].streams[0].len, "mark", 4));
		free_driven(driven);
	}
	struct driven *driven = alloc(sizeof(*driven));
	driven_init(driven, "bash", "echo before; (setsid sleep 1000 &) ; while :; do :; done");
	driven->run.timeout_us = 3 * US_PER_S;
	CHECK(drive_run(&drive, driven));
	CHECK_INT(driven->steps[0].end.reason, REASON_TIMEOUT);
	CHECK_BYTES(buffer_bytes(&driven->steps[0].streams[0]), BYTES_LITERAL("before\n"));
	free_driven(driven);
	drive_stop(&drive);
}

/* Living processes of a user id. */
static int processes_of(uid_t uid)
{
	DIR *dir = opendir("/proc");
	int count = 0;
	struct dirent *entry;
	while ((entry = readdir(dir))) {
		struct stat st;
		char path[300], text[512] = "";
		int64_t pid;
		if (!text_to_int(bytes_of(entry->d_name), 2, INT32_MAX, &pid) ||
			fstatat(dirfd(dir), entry->d_name, &st, 0) < 0 || st.st_uid != uid)
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		FILE *file = fopen(path, "re");
		if (file) {
			size_t len = fread(text, 1, sizeof(text) - 1, file);
			text[len] = 0;
			fclose(file);
		}
		const char *end = strrchr(text, ')');
		count += end && strncmp(end, ") Z", 3) != 0;
	}
	closedir(dir);
	return count;
}

TEST(a_killed_service_leaves_nothing)
{
	struct drive drive;
	int told[2];
	if (geteuid() != 0)
		return; /* without a user id per slot they cannot be told from others here */
	languages();
	CHECK_INT(pipe(told), 0);
	pid_t service = fork();
	if (service == 0) {
		struct driven *driven = alloc(sizeof(*driven));
		open_with(&drive, (struct sandbox_options){ .uid_base = 61150 });
		driven_init(driven, "bash", "trap '' TERM HUP; (setsid sleep 10000 &); while :; do sleep 1000; done");
		driven->run.timeout_us = 3600 * US_PER_S;
		drive_submit(&drive, driven);
		while (!driven->started && !driven->ended)
			uv_run(&drive.loop, UV_RUN_ONCE);
		if (write(told[1], "x", 1) != 1)
			_exit(1);
		uv_run(&drive.loop, UV_RUN_DEFAULT);
		_exit(0);
	}
	char byte;
	CHECK_INT((int)read(told[0], &byte, 1), 1);
	CHECK(processes_of(61150) > 0);
	kill(service, SIGKILL);
	waitpid(service, NULL, 0);
	open_with(&drive, (struct sandbox_options){ .uid_base = 61150 }); /* the next incarnation */
	CHECK_INT(processes_of(61150), 0);
	drive_stop(&drive);
	close(told[0]);
	close(told[1]);
}

TEST(cleans_up_behind_the_tests)
{
	CHECK_INT(rmdir(state_dir), 0);
}

TEST_MAIN()
