/* A store that answers at once and keeps nothing: what is left of POST /execute when the store costs nothing. For
 * benches only. */
#ifndef ASSAY_TESTS_BENCH_INSTANT_STORE_H
#define ASSAY_TESTS_BENCH_INSTANT_STORE_H

#include <uv.h>

#include "assay/store.h"

/* The loop must outlive it. */
struct store *instant_store_new(uv_loop_t *loop);

#endif
