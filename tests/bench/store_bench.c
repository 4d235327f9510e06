/* A store driven directly: submissions, claims, settlements, at what rate and with how much memory.
 *
 *	store-bench DIRECTORY BATCH ROWS         the SQLite store
 *	store-bench key=value... BATCH ROWS      the PostgreSQL store, by libpq's conninfo
 *
 * Two operations are under way at a time, as the coordinator has it: one that commits, one that gathers. With BATCH 1
 * it is one, so that the latency is that of one commit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/uuid.h"
#include "store/postgres/postgres_store.h"
#include "store/sqlite/sqlite_store.h"
#include "tests/bench/bench_rows.h"

#define UNDER_WAY_MOST 2

struct lane {
	struct bench *bench;
	struct store_submit submit;
	struct store_claim claim;
	struct store_settle settle;
	struct submission *submissions;
	struct submit_item *items;
	struct transition *transitions;
	struct claim_lane claim_lane;
	int64_t from_us;
};

struct bench {
	uv_loop_t *loop;
	struct store *store;
	struct uuid_generator ids;
	struct uuid batch_id;
	int batch, rows, started, under_way;
	int done, claimed;
	double *latencies;
	int latency_count;
	struct lane lanes[UNDER_WAY_MOST];
};

static void check(const struct store_operation *operation)
{
	if (operation->outcome == STORE_OK)
		return;
	fprintf(stderr, "store-bench: %s\n", operation->err.message);
	exit(1);
}

static long memory_kib(void)
{
	long pages = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2)
		resident = 0;
	if (file)
		fclose(file);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void time_of(struct bench *bench, const struct lane *lane)
{
	bench->latencies[bench->latency_count++] = (double)(clock_monotonic_us() - lane->from_us);
}

static void submit_next(struct lane *lane);

static void on_submitted(struct store_operation *operation)
{
	struct lane *lane = operation->owner;
	struct bench *bench = lane->bench;
	check(operation);
	time_of(bench, lane);
	bench->done += bench->batch;
	bench->under_way--;
	store_operation_fini(operation);
	submit_next(lane);
}

static void submit_next(struct lane *lane)
{
	struct bench *bench = lane->bench;
	if (bench->started >= bench->rows)
		return;
	for (int i = 0; i < bench->batch; i++) {
		lane->submissions[i] = (struct submission){
			.id = uuid_new(&bench->ids),
			.tenant = BYTES_LITERAL(BENCH_TENANT),
			.type = BYTES_LITERAL(BENCH_TYPE),
			.queue = BYTES_LITERAL(BENCH_QUEUE),
			.executor = BYTES_LITERAL(BENCH_EXECUTOR),
			.priority = 5,
			.max_attempts = 3,
			.turn = bench->started++,
			.params = BYTES_LITERAL(BENCH_PARAMS),
		};
		if (bench->batch > 1)
			lane->submissions[i].batch_id = bench->batch_id;
		lane->items[i] = (struct submit_item){ .submission = &lane->submissions[i] };
	}
	lane->submit = (struct store_submit){
		.operation = { .done = on_submitted, .owner = lane },
		.items = lane->items,
		.count = (size_t)bench->batch,
		.locked_by = BYTES_LITERAL("bench#1"),
	};
	lane->from_us = clock_monotonic_us();
	bench->under_way++;
	bench->store->ops->submit(bench->store, &lane->submit);
}

static void claim_next(struct lane *lane);

static void on_settled(struct store_operation *operation)
{
	struct lane *lane = operation->owner;
	check(operation);
	lane->bench->done += (int)lane->settle.count;
	lane->bench->under_way--;
	store_operation_fini(operation);
	store_operation_fini(&lane->claim.operation);
	claim_next(lane);
}

static void on_claimed(struct store_operation *operation)
{
	struct lane *lane = operation->owner;
	check(operation);
	if (lane->claim.count == 0) {
		lane->bench->under_way--;
		store_operation_fini(operation);
		return;
	}
	for (size_t i = 0; i < lane->claim.count; i++)
		lane->transitions[i] = (struct transition){
			.kind = TRANSITION_END,
			.guard = { lane->claim.tasks[i].id, TASK_RUNNING, lane->claim.tasks[i].attempt,
				BYTES_LITERAL("bench#1") },
			.target = TASK_COMPLETED,
			.at_us = clock_wall_us(),
			.started_at_us = clock_wall_us(),
			.event_data = BYTES_LITERAL("\"exit_code\":0"),
			.result = BYTES_LITERAL(
				"{\"status\":\"succeeded\",\"exit_code\":0,\"attempts\":0,\"attempt\":1}"),
		};
	lane->settle = (struct store_settle){
		.operation = { .done = on_settled, .owner = lane },
		.transitions = lane->transitions,
		.count = lane->claim.count,
	};
	lane->bench->claimed += (int)lane->claim.count;
	lane->bench->store->ops->settle(lane->bench->store, &lane->settle);
}

static void claim_next(struct lane *lane)
{
	struct bench *bench = lane->bench;
	if (bench->claimed >= bench->rows)
		return;
	lane->claim_lane = (struct claim_lane){ BYTES_LITERAL(BENCH_EXECUTOR), bench->batch };
	lane->claim = (struct store_claim){
		.operation = { .done = on_claimed, .owner = lane },
		.locked_by = BYTES_LITERAL("bench#1"),
		.lanes = &lane->claim_lane,
		.lane_count = 1,
	};
	bench->under_way++;
	bench->store->ops->claim(bench->store, &lane->claim);
}

static void on_stopped(void *owner)
{
	*(bool *)owner = true;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

static double run(struct bench *bench, void (*first)(struct lane *lane))
{
	int64_t from = clock_monotonic_us();
	bench->done = bench->started = bench->claimed = bench->under_way = 0;
	for (int i = 0; i < (bench->batch > 1 ? UNDER_WAY_MOST : 1); i++)
		first(&bench->lanes[i]);
	while (bench->under_way > 0)
		uv_run(bench->loop, UV_RUN_ONCE);
	return bench->done / ((double)(clock_monotonic_us() - from) / 1e6);
}

static void on_available(void *owner, bool available, const struct err *why_not)
{
	*(bool *)owner = available;
}

static void on_failed(void *owner, const struct err *err)
{
	fprintf(stderr, "store-bench: %s\n", err->message);
	exit(1);
}

static const struct store_notices notices = { .on_available = on_available, .on_failed = on_failed };

static struct store *store_make(struct bench *bench, const char *where)
{
	static struct log log = { .fd = STDERR_FILENO, .level = LOG_ERROR };
	if (strchr(where, '=')) {
		const struct postgres_store_options options = { .url = where, .loop = bench->loop, .log = &log };
		return postgres_store_new(&options);
	}
	const struct sqlite_store_options options = { .directory = where, .loop = bench->loop };
	return sqlite_store_new(&options);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	struct err err;
	int64_t batch_size, row_count;
	if (argc != 4 || !text_to_int(bytes_of(argv[2]), 1, 100000, &batch_size) ||
		!text_to_int(bytes_of(argv[3]), 1, 100000000, &row_count)) {
		fprintf(stderr, "usage: store-bench DIRECTORY|CONNINFO BATCH ROWS\n");
		return 2;
	}
	bench.loop = uv_default_loop();
	bench.batch = (int)batch_size;
	bench.rows = (int)row_count;
	bench.batch_id = uuid_new(&bench.ids);
	bench.latencies = alloc_array((size_t)bench.rows, sizeof(bench.latencies[0]));
	for (int i = 0; i < UNDER_WAY_MOST; i++) {
		struct lane *lane = &bench.lanes[i];
		lane->bench = &bench;
		lane->submissions = alloc_array((size_t)bench.batch, sizeof(lane->submissions[0]));
		lane->items = alloc_array((size_t)bench.batch, sizeof(lane->items[0]));
		lane->transitions = alloc_array((size_t)bench.batch, sizeof(lane->transitions[0]));
	}
	bool available = false;
	bench.store = store_make(&bench, argv[1]);
	if (bench.store->ops->start(bench.store, &notices, &available, &err) < 0) {
		fprintf(stderr, "store-bench: %s\n", err.message);
		return 1;
	}
	while (!available)
		uv_run(bench.loop, UV_RUN_ONCE);
	long idle = memory_kib();
	double submits = run(&bench, submit_next);
	long queued = memory_kib();
	double lives = run(&bench, claim_next);
	qsort(bench.latencies, (size_t)bench.latency_count, sizeof(bench.latencies[0]), compare);
	printf("store-%s batch=%d rows=%d rows/s=%.0f p50_us=%.0f claim+settle/s=%.0f idle_KiB=%ld "
	       "queued_KiB=%ld\n",
		strchr(argv[1], '=') ? "postgres" : "sqlite", bench.batch, bench.rows, submits,
		bench.latencies[bench.latency_count / 2], lives, idle, queued);
	bool stopped = false;
	bench.store->ops->stop(bench.store, on_stopped, &stopped);
	while (!stopped)
		uv_run(bench.loop, UV_RUN_ONCE);
	bench.store->ops->free(bench.store);
	for (int i = 0; i < UNDER_WAY_MOST; i++) {
		free(bench.lanes[i].submissions);
		free(bench.lanes[i].items);
		free(bench.lanes[i].transitions);
	}
	free(bench.latencies);
	return 0;
}
