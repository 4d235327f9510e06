/* What a task printed, as JSON: for GET /logs and for the full result that ?wait answers. */
#ifndef ASSAY_API_RESULT_H
#define ASSAY_API_RESULT_H

#include "assay/store.h"
#include "assay/task.h"
#include "base/buffer.h"
#include "base/json.h"

/* Bytes of output in one answer; what lies behind is to be had by offset. */
#define RESULT_OUTPUT_MAX ((size_t)8 << 20)

/* Bytes in the chunks of a read. */
size_t result_output_size(const struct read_output *output);

/* Members logs (where with_logs), stdout, stderr, and encoding "lossy" or "utf8". */
void result_output_members(struct json *json, const struct read_output *output, bool with_logs);

/* Whether something that the task printed was not kept, as the `result` of its ended row says. */
bool result_truncated(const struct task *task);

/* The status object with stdout, stderr, truncated, encoding. */
void result_write(struct buffer *buffer, const struct task *task, const struct read_output *output);

#endif
