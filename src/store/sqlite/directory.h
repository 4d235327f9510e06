/* The data directory: made private, and held by one process. */
#ifndef ASSAY_STORE_SQLITE_DIRECTORY_H
#define ASSAY_STORE_SQLITE_DIRECTORY_H

#include "base/err.h"

/* Makes the directory and its parents where they are missing, and takes its lock. *ret_fd holds the lock until it is
 * closed. -EBUSY with the other's process id where another has it. */
int directory_hold(const char *path, int *ret_fd, struct err *err) MUST_CHECK;

#endif
