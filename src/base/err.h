/* A failure as a value: a negative errno-like code and a cause fit to show a user. */
#ifndef ASSAY_BASE_ERR_H
#define ASSAY_BASE_ERR_H

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format_index, first) __attribute__((format(printf, format_index, first)))

struct err {
	int code; /* 0, or a negative errno value */
	char message[248]; /* one sentence without a final stop; empty when code is 0 */
};

/* Fills *err (which may be NULL) and returns code, so that `return err_set(err, -EINVAL, "…")` reads
 * well. A message that is too long is cut. */
int err_set(struct err *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "context: " before the message that is already there; returns err->code. */
int err_prefix(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
