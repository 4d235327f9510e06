/* One turn of libuv's loop is: timers, pending, prepare, sleep and I/O callbacks, check, closing. The time between two
 * prepare callbacks minus what the loop slept in between is what its callbacks took. */
#include "api/loop_lag.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

const double loop_lag_bounds[LOOP_LAG_BUCKETS] = { 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025,
	0.05, 0.1, 0.25, 1, INFINITY };

struct loop_lag {
	uv_prepare_t prepare;
	uint64_t last_ns, last_idle_ns;
	struct loop_lag_figures figures;
	void (*on_freed)(void *owner);
	void *owner;
};

static void on_prepare(uv_prepare_t *handle)
{
	struct loop_lag *lag = handle->data;
	uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(handle->loop);
	double busy_s = (double)((now - lag->last_ns) - (idle - lag->last_idle_ns)) / 1e9;
	lag->last_ns = now;
	lag->last_idle_ns = idle;
	if (busy_s < 0)
		busy_s = 0;
	int bucket = 0;
	while (busy_s > loop_lag_bounds[bucket])
		bucket++;
	lag->figures.buckets[bucket]++;
	lag->figures.sum_s += busy_s;
	if (busy_s > lag->figures.max_s)
		lag->figures.max_s = busy_s;
}

struct loop_lag *loop_lag_new(uv_loop_t *loop)
{
	struct loop_lag *lag = alloc(sizeof(*lag));
	uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
	uv_prepare_init(loop, &lag->prepare);
	lag->prepare.data = lag;
	lag->last_ns = uv_hrtime();
	lag->last_idle_ns = uv_metrics_idle_time(loop);
	uv_prepare_start(&lag->prepare, on_prepare);
	uv_unref((uv_handle_t *)&lag->prepare);
	return lag;
}

const struct loop_lag_figures *loop_lag_figures(const struct loop_lag *lag)
{
	return &lag->figures;
}

static void on_closed(uv_handle_t *handle)
{
	struct loop_lag *lag = handle->data;
	void (*on_freed)(void *owner) = lag->on_freed;
	void *owner = lag->owner;
	free(lag);
	on_freed(owner);
}

void loop_lag_free(struct loop_lag *lag, void (*on_freed)(void *owner), void *owner)
{
	lag->on_freed = on_freed;
	lag->owner = owner;
	uv_close((uv_handle_t *)&lag->prepare, on_closed);
}
