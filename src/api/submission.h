/* From what a client sent to what admission takes: the one way for POST /execute, its batch and POST /tasks. */
#ifndef ASSAY_API_SUBMISSION_H
#define ASSAY_API_SUBMISSION_H

#include "api/call.h"
#include "assay/task.h"
#include "coordinator/coordinator.h"
#include "task/evaluation.h"

struct yyjson_val;
struct json;

/* What the headers say about the submission. Copied into the call's arena. */
struct submission_headers {
	struct bytes idempotency_key;
	struct bytes traceparent;
};
/* False: a header was not valid, and the call has been answered. A traceparent that is not valid counts as not sent
 * (Trace Context, 3.2.2.2). */
bool submission_headers_read(struct call *call, struct submission_headers *ret_headers) MUST_CHECK;

/* The checked body with its params, made without touching anything but the arena: may run on a thread of the pool.
 * `prefix` as in evaluation_read(). False: `errors` says why. */
struct prepared {
	struct evaluation_request request;
	struct bytes params;
	uint8_t digest
		[EVALUATION_DIGEST_SIZE]; /* where there is a key to compare by: an eval_id, or one beside the body (`keyed`) */
};
bool submission_prepare(struct yyjson_val *object, const char *prefix, bool keyed,
	const struct evaluation_limits *limits, struct arena *arena, struct prepared *ret_prepared,
	struct field_errors *errors) MUST_CHECK;

/* Routes the evaluation and fills the submission in; all strings stay where they are. False: `errors` says why. On the
 * loop only. */
bool submission_fill(struct api *api, const struct principal *who, const struct prepared *prepared, const char *prefix,
	struct arena *arena, struct submission *ret_submission, struct field_errors *errors) MUST_CHECK;

/* Hands one submission in and answers the call with what becomes of it; waits for its end first where wait_us is not
 * 0. */
void submission_admit(struct call *call, const struct submission *submission, int64_t wait_us);

/* Status and the members of the answer to one submission (as of POST /execute); `number`: `status` is the HTTP status,
 * as in a batch. */
int submission_status(const struct admission_result *result);
void submission_answer(
	struct json *json, const struct submission *submission, const struct admission_result *result, bool number);

#endif
