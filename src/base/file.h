/* Small files read whole, and directories, at start only: this blocks. */
#ifndef ASSAY_BASE_FILE_H
#define ASSAY_BASE_FILE_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/err.h"

/* Appends the content of the file (a pipe will do) to `buffer`. Errors name the path: what open(2) and read(2)
 * give, -EFBIG for more than `max` bytes, -ENOMEM. */
int file_read(const char *path, size_t max, struct buffer *buffer, struct err *err) MUST_CHECK;

/* Makes the directory, and those above it, for nobody else to look into. One that is there is fine. */
int directory_make(const char *path, struct err *err) MUST_CHECK;

#endif
