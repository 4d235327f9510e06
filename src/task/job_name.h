/* Names of jobs: `eval-` and the task's id in base32, a DNS-1123 label (RFC 1123) of 31 characters; attempt n > 1 of it
 * is called `<name>-n`. Decoded without a look-up. */
#ifndef ASSAY_TASK_JOB_NAME_H
#define ASSAY_TASK_JOB_NAME_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/uuid.h"

#define JOB_NAME_SIZE 48 /* with the terminator */

/* attempt 0 or 1: without a suffix. Returns `text`. */
char *job_name_format(const struct uuid *id, int attempt, char text[static JOB_NAME_SIZE]);
/* ret_attempt is 0 where the name has no suffix. */
bool job_name_parse(struct bytes name, struct uuid *ret_id, int *ret_attempt);

#endif
