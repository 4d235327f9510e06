/* The real store behind the coordinator in its tests: the same tests are built for each. */
#ifndef ASSAY_TESTS_CONTRACT_HOUSE_STORE_H
#define ASSAY_TESTS_CONTRACT_HOUSE_STORE_H

#include <stdbool.h>
#include <uv.h>

#include "assay/store.h"
#include "base/log.h"

/* Not started. Those made with the same directory hold the same rows; it is the test's, and unused where the store
 * keeps no files. */
struct store *house_store_new(uv_loop_t *loop, struct log *log, const char *directory);
/* One process alone can have this store. */
bool house_store_is_embedded(void);

#endif
