/* How many events a second the Redis bus publishes: bus_redis_bench URL [EVENTS [STREAM]]. Each turn of the loop
 * publishes what there is room for, until Redis has answered all of them. To be held against `redis-benchmark -P 64 -n
 * EVENTS -d 400 PUBLISH channel …`. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "assay/bus.h"
#include "base/clock.h"
#include "bus/redis.h"

#define BATCH 200 /* a settle batch has so many events and more */
#define AHEAD 2000 /* events that are on their way at most: no overflow of the outbox */

struct bench {
	uv_loop_t loop;
	struct bus *bus;
	uint32_t published, wanted;
	int64_t started_us;
	uv_idle_t turn;
};

static void on_stopped(void *owner)
{
}

static void finish(struct bench *bench)
{
	double seconds = (double)(clock_monotonic_us() - bench->started_us) / 1e6;
	printf("{\"events\": %u, \"seconds\": %.3f, \"events_per_second\": %.0f}\n", bench->wanted, seconds,
		bench->wanted / seconds);
	uv_close((uv_handle_t *)&bench->turn, NULL);
	bench->bus->ops->stop(bench->bus, on_stopped, bench);
}

static void on_turn(uv_idle_t *idle)
{
	struct bench *bench = idle->data;
	struct bus_status status;
	bench->bus->ops->status(bench->bus, &status);
	if (!status.healthy)
		return;
	if (!bench->started_us)
		bench->started_us = clock_monotonic_us();
	if (status.left == bench->wanted) {
		finish(bench);
		return;
	}
	for (int i = 0; i < BATCH && bench->published < bench->wanted && bench->published - status.left < AHEAD; i++) {
		const struct event event = {
			.kind = EVENT_COMPLETED,
			.task_id = { { 1, 2, 3 } },
			.sequence = ++bench->published,
			.run = 1,
			.attempt = 1,
			.timestamp_us = clock_wall_us(),
			.cursor = { .length = 8 },
			.tenant = BYTES_LITERAL("default"),
			.eval_id = BYTES_LITERAL("evaluation-1234"),
			.data = BYTES_LITERAL(
				"\"exit_code\":0,\"signal\":null,\"duration_seconds\":0.01,\"reason\":null"),
			.output = BYTES_LITERAL("42\n"),
			.publisher = BYTES_LITERAL("bench#0123456789abcdef"),
		};
		bench->bus->ops->publish(bench->bus, &event, 1);
	}
}

int main(int argc, char **argv)
{
	static const struct bus_notices notices = { 0 };
	struct bench bench = { .wanted = argc > 2 ? (uint32_t)atoi(argv[2]) : 1000000 };
	struct log log = { .fd = 2, .level = LOG_WARNING };
	struct redis_address address;
	struct err err = { 0 };
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2 || redis_address_parse(bytes_of(argv[1]), &address, &err) < 0) {
		fprintf(stderr, "usage: bus_redis_bench URL [EVENTS [STREAM]]: %s\n", err.message);
		return 2;
	}
	uv_loop_init(&bench.loop);
	const struct redis_bus_options options = {
		.loop = &bench.loop,
		.log = &log,
		.address = &address,
		.stream = argc > 3 ? argv[3] : NULL,
		.stream_max = 10000,
	};
	bench.bus = redis_bus_new(&options);
	if (bench.bus->ops->start(bench.bus, &notices, NULL, &err) < 0)
		return 1;
	uv_idle_init(&bench.loop, &bench.turn);
	bench.turn.data = &bench;
	uv_idle_start(&bench.turn, on_turn);
	uv_run(&bench.loop, UV_RUN_DEFAULT);
	bench.bus->ops->free(bench.bus);
	return uv_loop_close(&bench.loop) != 0;
}
