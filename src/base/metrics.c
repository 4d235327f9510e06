#include "base/metrics.h"

#include <math.h>

void metric_head(struct buffer *to, const char *name, const char *type, const char *help)
{
	buffer_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metric_counter(struct buffer *to, const char *name, const char *help, uint64_t value)
{
	metric_head(to, name, "counter", help);
	buffer_printf(to, "%s %llu\n", name, (unsigned long long)value);
}

void metric_gauge(struct buffer *to, const char *name, const char *help, double value)
{
	metric_head(to, name, "gauge", help);
	buffer_printf(to, "%s %.17g\n", name, value);
}

/* Prometheus wants the buckets cumulated. */
void metric_histogram(struct buffer *to, const char *name, const char *help, const double *bounds,
	const uint64_t *buckets, size_t count, double sum)
{
	metric_head(to, name, "histogram", help);
	uint64_t total = 0;
	for (size_t i = 0; i < count; i++) {
		total += buckets[i];
		if (isinf(bounds[i]))
			buffer_printf(to, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)total);
		else
			buffer_printf(to, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)total);
	}
	buffer_printf(to, "%s_sum %.17g\n%s_count %llu\n", name, sum, name, (unsigned long long)total);
}
