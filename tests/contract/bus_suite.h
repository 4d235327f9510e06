/* What every bus must do, whatever is behind it. An implementation's test program provides bus_fixture and includes
 * bus_suite.c's tests by linking it. */
#ifndef ASSAY_TESTS_CONTRACT_BUS_SUITE_H
#define ASSAY_TESTS_CONTRACT_BUS_SUITE_H

#include <uv.h>

#include "assay/bus.h"

struct bus_fixture {
	const char *name;
	struct bus *(*make)(uv_loop_t *loop); /* started by the suite */
};

extern const struct bus_fixture bus_fixture;

#endif
