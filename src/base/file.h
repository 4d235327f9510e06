/* Small files read whole, at start only: this blocks. */
#ifndef ASSAY_BASE_FILE_H
#define ASSAY_BASE_FILE_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/err.h"

/* Appends the content of the file (a pipe will do) to `buffer`. Errors name the path: what open(2) and read(2)
 * give, -EFBIG for more than `max` bytes, -ENOMEM. */
int file_read(const char *path, size_t max, struct buffer *buffer, struct err *err) MUST_CHECK;

#endif
