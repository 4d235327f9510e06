/* The bus within one process: what is published reaches this process's subscribers in the next turn of the loop. */
#ifndef ASSAY_BUS_LOCAL_H
#define ASSAY_BUS_LOCAL_H

#include <uv.h>

#include "assay/bus.h"

/* The loop must outlive the bus. Free it with ops->free after ops->stop. */
struct bus *local_bus_new(uv_loop_t *loop);
/* Tells the subscribers, in order with what is published, that events of others may have been missed: for a bus that is
 * built on this one. */
void local_bus_gap(struct bus *bus);

#endif
