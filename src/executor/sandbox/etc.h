/* The /etc of the sandboxes: a directory of our own, so that nothing of the machine's configuration is seen inside. */
#ifndef ASSAY_EXECUTOR_SANDBOX_ETC_H
#define ASSAY_EXECUTOR_SANDBOX_ETC_H

#include <stdbool.h>

#include "base/err.h"

/* Fills `directory` (made if it is not there, readable for everybody), replacing what changed on the machine since. */
int etc_build(const char *directory, struct err *err) MUST_CHECK;
/* Did what is copied from the machine change since etc_build()? Cheap. */
bool etc_is_stale(const char *directory);

#endif
