/* Kubernetes resource quantities ("512Mi", "500m", "1e3", "2.5"), by the grammar of
 * apimachinery/pkg/api/resource/quantity.go: <number><suffix>, suffix one of Ki Mi Gi Ti Pi Ei,
 * n u m "" k M G T P E, or a decimal exponent. */
#ifndef ASSAY_BASE_QUANTITY_H
#define ASSAY_BASE_QUANTITY_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/* Rounded up to whole bytes; negative and overflow are errors. */
int quantity_bytes(struct bytes text, int64_t *ret_bytes, struct err *err) MUST_CHECK;
/* Rounded up to thousandths of a core. */
int quantity_millis(struct bytes text, int64_t *ret_millis, struct err *err) MUST_CHECK;

#endif
