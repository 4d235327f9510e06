/* The progress line of a batch: counting what became of each task, and the line's text. */
#ifndef ASSAY_CLI_PROGRESS_H
#define ASSAY_CLI_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct progress {
	size_t total;
	size_t running;
	size_t succeeded;
	size_t failed;
	int64_t began_us; /* monotonic */
};

/* Appends the line without its end, at most `columns` wide: what fits of "[====>   ]  12/40  3 running  25 waiting  2
 * failed  4.2 s". */
void progress_render(const struct progress *progress, int64_t now_us, size_t columns, struct buffer *to);

/* "420 ms", "4.2 s", "3 min 12 s", "2 h 05 min", "3 d 4 h". */
void duration_append(struct buffer *to, double seconds);
/* "9.1 MiB" */
void size_append(struct buffer *to, double bytes);

#endif
