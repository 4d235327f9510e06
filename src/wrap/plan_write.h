/* Writes the plan of an attempt, for the service: plan.h says what is in it and what may follow what.
 *
 *   wrap_plan_begin(&plan, &settings);
 *   wrap_plan_put(&plan, PLAN_BOX, …);        listener, box, also, environment
 *   wrap_plan_file(&plan, path, content);     the job's files
 *   wrap_plan_step(&plan, PLAN_RUN, timeout); then PLAN_WORD…, PLAN_STDIN, files of this run
 *   wrap_plan_end(&plan);
 *
 * A buffer that is too small, or a path that is too long, sets plan.failed. */
#ifndef ASSAY_WRAP_PLAN_WRITE_H
#define ASSAY_WRAP_PLAN_WRITE_H

#include "base/buffer.h"
#include "wrap/plan.h"

void wrap_plan_begin(struct buffer *plan, const struct plan_settings *settings);
void wrap_plan_put(struct buffer *plan, enum plan_kind kind, struct bytes bytes);
/* Executable where the content begins with `#!`. */
void wrap_plan_file(struct buffer *plan, struct bytes path, struct bytes content);
void wrap_plan_step(struct buffer *plan, enum plan_kind kind, int64_t timeout_us); /* PLAN_COMPILE or PLAN_RUN */
void wrap_plan_end(struct buffer *plan);
/* Appends the plan, gzipped, to `zipped`, whose maximum says how large it may become. */
void wrap_plan_zip(struct bytes plan, struct buffer *zipped);

#endif
