/* How long the loop is busy at a stretch: what an event that has just come may have to wait. Measured once per turn, in
 * a prepare handle, from libuv's own account of the time it slept: it never wakes an idle loop. */
#ifndef ASSAY_API_LOOP_LAG_H
#define ASSAY_API_LOOP_LAG_H

#include <stdint.h>
#include <uv.h>

#define LOOP_LAG_BUCKETS 14

struct loop_lag;

extern const double loop_lag_bounds[LOOP_LAG_BUCKETS]; /* upper bounds in seconds; the last is infinity */

struct loop_lag_figures {
	uint64_t buckets[LOOP_LAG_BUCKETS]; /* turns, each in one bucket */
	double sum_s;
	double max_s;
};

/* Turns on UV_METRICS_IDLE_TIME for the loop. */
struct loop_lag *loop_lag_new(uv_loop_t *loop);
const struct loop_lag_figures *loop_lag_figures(const struct loop_lag *lag);
/* Closes the handle and frees; on_freed is called when that is done. */
void loop_lag_free(struct loop_lag *lag, void (*on_freed)(void *owner), void *owner);

#endif
