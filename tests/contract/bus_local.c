#include "bus/local.h"
#include "bus_suite.h"

const struct bus_fixture bus_fixture = { .name = "local", .make = local_bus_new };
