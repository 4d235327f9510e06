/* What a tenant may have: defaults, and a YAML file of those that differ.
 *
 *   tenants:
 *     course-a: {queued: 50000, running: 40, rate: 20, weight: 2}
 *     guests: {rate: 0.5}
 *
 * What an entry does not name is as the defaults say; 0 lifts a limit. */
#ifndef ASSAY_TASK_TENANTS_H
#define ASSAY_TASK_TENANTS_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

struct tenant_limits {
	int64_t queued; /* waiting tasks; 0: no limit */
	int64_t running; /* … running ones */
	double rate; /* requests that submit, per second; 0: no limit */
	double weight; /* its share of what runs, against that of the others; 1 is usual */
};

struct tenants;

/* `text` is the file's content, not needed afterwards, and absent where there is no file; `name` of the file is for
 * messages. */
int tenants_parse(struct bytes text, const char *name, const struct tenant_limits *defaults,
	struct tenants **ret_tenants, struct err *err) MUST_CHECK;
void tenants_free(struct tenants *tenants);
/* Lives as long as `tenants`. Where `tenants` is NULL nobody has a limit. */
const struct tenant_limits *tenants_find(const struct tenants *tenants, struct bytes tenant);

#endif
