/* What the kernel counts for this container as a whole, where its cgroup is to be seen (v2 or v1). Each is one short file, read
 * anew by each call; -1: not known. The machine's own counts are never taken for the container's. */
#ifndef ASSAY_WRAP_CONTAINER_H
#define ASSAY_WRAP_CONTAINER_H

#include <stdint.h>

int64_t container_cpu_us(void); /* since its start */
int64_t container_memory_bytes(void); /* in use, files in memory included */
int64_t container_oom_kills(void); /* processes killed for want of memory */
int64_t container_forks_refused(void); /* for the bound of the container's cgroup, or of one above it */

#endif
