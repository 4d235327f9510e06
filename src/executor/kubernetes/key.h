/* The service's key, of which each attempt's is made that its reports are signed with. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_KEY_H
#define ASSAY_EXECUTOR_KUBERNETES_KEY_H

#include <stdint.h>

#include "base/err.h"

#define KUBE_KEY_SIZE 32

/* -EINVAL where one that an operator has set is too short; `name` is the setting's. NULL or empty: none is set. */
int kube_key_check(const char *name, const char *key, struct err *err) MUST_CHECK;

/* The key that is kept in this directory, so that what an earlier process started goes on reporting; a new one where there is none. Of several
 * processes that make one at the same time all get the same. 1: the new one cannot be kept, *err says why. A negative errno: there is
 * one, and it cannot be read; it is not replaced. Blocks: at start only. */
int kube_key_keep(const char *directory, uint8_t ret_key[static KUBE_KEY_SIZE], struct err *err) MUST_CHECK;

#endif
