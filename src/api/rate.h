/* How often a tenant may submit: one token bucket each. A bucket holds two seconds' worth, and at least one request; it
 * is full at first. */
#ifndef ASSAY_API_RATE_H
#define ASSAY_API_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct rate;

struct rate *rate_new(void);
void rate_free(struct rate *rate);

/* Takes one token. False: there is none, and in *ret_wait_s whole seconds there will be. `per_second` > 0 may differ
 * from call to call; now_us is monotonic. */
bool rate_take(struct rate *rate, struct bytes tenant, double per_second, int64_t now_us, int *ret_wait_s) MUST_CHECK;

#endif
