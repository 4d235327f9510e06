/* The output of a task as a stream of the very bytes, or of Server-Sent Events of kind `log` where the client asks for
 * those. */
#ifndef ASSAY_API_LOG_STREAM_H
#define ASSAY_API_LOG_STREAM_H

#include "api/call.h"
#include "assay/task.h"

struct log_range {
	struct uuid task_id;
	int attempt; /* 0: the last, and the ones that follow it */
	int stream; /* 0: both in the order they were read; 1, 2: one */
	uint64_t offset; /* in bytes of what `stream` says */
};

/* Answers the call. Without `follow` the stream ends with what there is, else when the task, or the attempt asked for,
 * has ended. */
void log_stream_start(struct call *call, const struct log_range *range, const struct task *task, bool follow);

#endif
