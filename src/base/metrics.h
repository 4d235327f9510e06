/* Metrics in the text format of Prometheus, version 0.0.4, with its names: base units, `_total` for what only grows
 * (prometheus.io/docs/instrumenting/exposition_formats/). */
#ifndef ASSAY_BASE_METRICS_H
#define ASSAY_BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* What stands before the samples of one metric; `type`: "counter", "gauge", "histogram", "summary". */
void metric_head(struct buffer *to, const char *name, const char *type, const char *help);
/* With the head, one sample without labels. */
void metric_counter(struct buffer *to, const char *name, const char *help, uint64_t value);
void metric_gauge(struct buffer *to, const char *name, const char *help, double value);
/* `buckets` hold each observation once; the last of `bounds` is infinity. */
void metric_histogram(struct buffer *to, const char *name, const char *help, const double *bounds,
	const uint64_t *buckets, size_t count, double sum);

#endif
