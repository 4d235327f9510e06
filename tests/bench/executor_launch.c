/* The sandbox executor through its door: the same command as bare_launch has, over and over, `concurrency` jobs at a
 * time.
 *
 *   executor_launch [-c CONCURRENCY] [-n LAUNCHES] LAUNCHER [COMMAND]
 *
 * Prints one line like that of bare_launch; the latency is from run() to the end of the job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/sandbox/sandbox.h"

struct bench {
	uv_loop_t loop;
	struct executor *executor;
	int left, open, failed;
	int64_t *times;
	int done;
};

struct work {
	struct bench *bench;
	struct job job;
	struct job_run run;
	struct job_file file;
	int64_t begin_us;
};

static void submit(struct work *work)
{
	struct job *job = &work->job;
	work->bench->left--;
	work->bench->open++;
	work->begin_us = clock_monotonic_us();
	work->bench->executor->ops->run(work->bench->executor, &job, 1);
}

static void on_started(void *owner, struct job *job, const struct job_started *started)
{
}

static void on_output(
	void *owner, struct job *job, enum step_kind step, size_t run_index, int stream, struct bytes data)
{
}

static void on_step_ended(void *owner, struct job *job, const struct step_end *end)
{
	((struct work *)job->owner)->bench->failed += end->reason != REASON_NONE;
}

static void on_ended(void *owner, struct job *job, const struct job_end *end)
{
	struct work *work = job->owner;
	struct bench *bench = work->bench;
	bench->times[bench->done++] = clock_monotonic_us() - work->begin_us;
	bench->failed += end->reason != REASON_NONE;
	bench->open--;
	if (bench->left > 0)
		submit(work);
}

static void on_changed(void *owner, struct executor *executor)
{
}

static void on_stopped(void *owner)
{
}

static const struct executor_listener listener = { .on_started = on_started,
	.on_output = on_output,
	.on_step_ended = on_step_ended,
	.on_ended = on_ended,
	.on_changed = on_changed };

static int compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void fill(struct work *work, struct bench *bench)
{
	*work = (struct work){ .bench = bench };
	work->file = (struct job_file){ BYTES_LITERAL("main"), BYTES_LITERAL("true\n") };
	work->run = (struct job_run){ .timeout_us = 60 * US_PER_S };
	work->job = (struct job){ .language = BYTES_LITERAL("bench"),
		.files = &work->file,
		.file_count = 1,
		.runs = &work->run,
		.run_count = 1,
		.owner = work,
		.limits = { .memory_bytes = INT64_C(512) << 20,
			.cpu_millis = 2000,
			.total_timeout_us = 3600 * US_PER_S,
			.disk_bytes = 256 << 20,
			.processes = 64,
			.output_bytes = 1 << 20 } };
}

int main(int argc, char **argv)
{
	int64_t concurrency = 2, launches = 400;
	int option;
	char state[] = "/tmp/assay-bench-XXXXXX", yaml[256];
	while ((option = getopt(argc, argv, "+c:n:")) != -1) {
		if (option == 'c' || option == 'n')
			text_to_int(bytes_of(optarg), 1, 1000000, option == 'c' ? &concurrency : &launches);
		else
			return 2;
	}
	if (optind >= argc || concurrency < 1 || concurrency > 256 || launches < concurrency || !mkdtemp(state)) {
		fprintf(stderr, "usage: executor_launch [-c CONCURRENCY] [-n LAUNCHES] LAUNCHER [COMMAND]\n");
		return 2;
	}
	struct log log = { .fd = 2, .level = LOG_WARNING };
	struct languages *languages;
	struct err err = { 0 };
	snprintf(yaml, sizeof(yaml), "bench:\n  source: main\n  run: [%s]\n  package: none\n",
		optind + 1 < argc ? argv[optind + 1] : "/usr/bin/true");
	if (languages_parse(bytes_of(yaml), "bench", &languages, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	static struct bench bench;
	uv_loop_init(&bench.loop);
	struct sandbox_options options = { .loop = &bench.loop,
		.log = &log,
		.languages = languages,
		.launcher = argv[optind],
		.state_dir = state,
		.slots = (int)concurrency,
		.name = "bench" };
	bench.executor = sandbox_executor_new(&options);
	bench.times = alloc_array((size_t)launches, sizeof(*bench.times));
	bench.left = (int)launches;
	if (bench.executor->ops->start(bench.executor, &listener, &bench, &err) < 0) {
		fprintf(stderr, "%s\n", err.message);
		return 1;
	}
	struct work *works = alloc_array((size_t)concurrency, sizeof(*works));
	int64_t begin = clock_monotonic_us();
	for (int i = 0; i < concurrency; i++) {
		fill(&works[i], &bench);
		submit(&works[i]);
	}
	while (bench.open > 0)
		uv_run(&bench.loop, UV_RUN_ONCE);
	double seconds = (double)(clock_monotonic_us() - begin) / 1e6;
	qsort(bench.times, (size_t)bench.done, sizeof(*bench.times), compare_times);
	printf("executor: concurrency %d, %d launches, %.1f /s, p50 %.2f ms, p99 %.2f ms\n", (int)concurrency,
		bench.done, bench.done / seconds, (double)bench.times[bench.done / 2] / 1e3,
		(double)bench.times[bench.done * 99 / 100] / 1e3);
	bench.executor->ops->stop(bench.executor, on_stopped, NULL);
	uv_run(&bench.loop, UV_RUN_DEFAULT);
	bench.executor->ops->free(bench.executor);
	uv_loop_close(&bench.loop);
	languages_free(languages);
	free(works);
	free(bench.times);
	rmdir(state);
	return bench.failed > 0;
}
