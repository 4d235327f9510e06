/* The digest that keys are compared by is that of the body alone: the same body sent through another route, or with
 * another key, is the same work. */
#include "api/submission.h"

#include <stdio.h>
#include <string.h>
#include <yyjson.h>

#include "api/problem.h"
#include "api/wait.h"
#include "base/text.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

#define HEADER_KEY_MAX 200

/* ---- headers ---- */

static bool lower_hex(struct bytes text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!((text.data[i] >= '0' && text.data[i] <= '9') || (text.data[i] >= 'a' && text.data[i] <= 'f')))
			return false;
	return true;
}

static bool all_zero(struct bytes text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] != '0')
			return false;
	return true;
}

/* W3C Trace Context 1: 00-<32 hex>-<16 hex>-<2 hex>; a later version may go on behind that, after a dash. */
static bool traceparent_valid(struct bytes text)
{
	if (text.len < 55 || text.data[2] != '-' || text.data[35] != '-' || text.data[52] != '-')
		return false;
	struct bytes version = { text.data, 2 }, trace = { text.data + 3, 32 }, parent = { text.data + 36, 16 },
		     flags = { text.data + 53, 2 };
	if (!lower_hex(version) || !lower_hex(trace) || !lower_hex(parent) || !lower_hex(flags))
		return false;
	if (bytes_is(version, "ff") || all_zero(trace) || all_zero(parent))
		return false;
	if (bytes_is(version, "00"))
		return text.len == 55;
	return text.len == 55 || (text.data[55] == '-' && text.len <= 256);
}

static bool key_valid(struct bytes key)
{
	if (key.len == 0 || key.len > HEADER_KEY_MAX)
		return false;
	for (size_t i = 0; i < key.len; i++)
		if (key.data[i] < 0x20 || key.data[i] > 0x7e)
			return false;
	return true;
}

bool submission_headers_read(struct call *call, struct submission_headers *ret_headers)
{
	*ret_headers = (struct submission_headers){ 0 };
	struct bytes key = http_request_header(call->request, "idempotency-key");
	if (key.data) {
		if (!key_valid(key)) {
			problem_header(call, "Idempotency-Key",
				"an Idempotency-Key has 1 to %d printable characters of ASCII", HEADER_KEY_MAX);
			return false;
		}
		ret_headers->idempotency_key = arena_bytes(&call->arena, key);
	}
	struct bytes traceparent = http_request_header(call->request, "traceparent");
	if (traceparent.data && traceparent_valid(traceparent))
		ret_headers->traceparent = arena_bytes(&call->arena, traceparent);
	return true;
}

/* ---- the body ---- */

bool submission_prepare(struct yyjson_val *object, const char *prefix, bool keyed,
	const struct evaluation_limits *limits, struct arena *arena, struct prepared *ret_prepared,
	struct field_errors *errors)
{
	if (!evaluation_read(object, prefix, limits, arena, &ret_prepared->request, errors))
		return false;
	keyed |= ret_prepared->request.eval_id.data != NULL;
	struct buffer params = BUFFER_MAX(0);
	evaluation_write(&ret_prepared->request.evaluation, &params);
	if (params.failed || (keyed && !evaluation_digest(object, ret_prepared->digest))) {
		field_errors_add(errors, arena, prefix, "there is not enough memory for this");
		buffer_fini(&params);
		return false;
	}
	ret_prepared->params = arena_bytes(arena, buffer_bytes(&params));
	buffer_fini(&params);
	return true;
}

bool submission_fill(struct api *api, const struct principal *who, const struct prepared *prepared, const char *prefix,
	struct arena *arena, struct submission *ret_submission, struct field_errors *errors)
{
	const struct evaluation_request *request = &prepared->request;
	const char *field = NULL;
	struct err err = { 0 };
	struct executor *executor = coordinator_route(
		api->coordinator, BYTES_LITERAL("evaluation"), request->executor, &request->evaluation, &field, &err);
	if (!executor) {
		field_errors_add(errors, arena, arena_printf(arena, "%s/%s", prefix, field ? field : "executor"), "%s",
			err.message);
		return false;
	}
	const struct executor_status *status = executor->ops->status(executor);
	if (status->input_max > 0 && evaluation_input_size(&request->evaluation) > status->input_max) {
		errors->too_large = true;
		field_errors_add(errors, arena, prefix,
			"code, files and standard input are more than the %zu KiB that executor %.*s brings to where "
			"they run%s%s",
			status->input_max >> 10, (int)status->name.len, status->name.data,
			status->input_why ? ": " : "", status->input_why ? status->input_why : "");
		return false;
	}
	struct submission *to = ret_submission;
	to->id = uuid_new(api->ids);
	to->tenant = who->tenant;
	to->type = BYTES_LITERAL("evaluation");
	to->queue = request->queue.data ? request->queue : BYTES_LITERAL("default");
	to->executor = status->name;
	to->eval_id = request->eval_id;
	memcpy(to->digest, prepared->digest, sizeof(to->digest));
	to->priority = request->priority;
	to->max_attempts = request->max_attempts;
	to->run_after_us = request->run_after_us;
	to->params = prepared->params;
	to->metadata = request->metadata;
	to->callback_url = request->callback_url;
	to->image = request->evaluation.image;
	return true;
}

/* ---- the answer ---- */

int submission_status(const struct admission_result *result)
{
	switch (result->status) {
	case ADMISSION_CREATED:
		return 201;
	case ADMISSION_EXISTS:
		return 200;
	case ADMISSION_CONFLICT:
		return 409;
	case ADMISSION_DISAGREE:
	case ADMISSION_INVALID:
		return 422;
	case ADMISSION_QUEUE_FULL:
		return 429;
	case ADMISSION_AWAY:
		break;
	}
	return 503;
}

/* The word of the answer: `queued` as the seeds have it, also where it was born running, or what has become of the task
 * that was there. */
static const char *task_word(const struct admission_result *result)
{
	bool queued = result->status == ADMISSION_CREATED || result->task_status == TASK_QUEUED;
	return queued ? "queued" : task_outcome_name(result->task_status);
}

static void refusal(const struct admission_result *result, const char **ret_type, const char **ret_detail)
{
	switch (result->status) {
	case ADMISSION_CONFLICT:
		*ret_type = "key-conflict";
		*ret_detail = "this idempotency key (eval_id or Idempotency-Key) was used with another body";
		return;
	case ADMISSION_DISAGREE:
		*ret_type = "keys-disagree";
		*ret_detail = "eval_id and Idempotency-Key point at different tasks";
		return;
	case ADMISSION_QUEUE_FULL:
		*ret_type = "queue-full";
		*ret_detail = "too many tasks are waiting already";
		return;
	case ADMISSION_AWAY:
		*ret_type = "unavailable";
		*ret_detail = "the store is away; this was not accepted, try again soon";
		return;
	default:
		*ret_type = "invalid-field";
		*ret_detail = result->error ? result->error : "the store cannot hold this";
	}
}

void submission_answer(
	struct json *json, const struct submission *submission, const struct admission_result *result, bool number)
{
	char id[UUID_TEXT_SIZE], name[JOB_NAME_SIZE];
	int status = submission_status(result);
	if (status >= 400) {
		const char *type, *detail;
		refusal(result, &type, &detail);
		problem_members(json, status, type, detail);
		/* Which task has the key helps; in another tenant there is none, for keys are the tenant's. */
		if (result->status == ADMISSION_CONFLICT) {
			json_member_string(json, "task_id", bytes_of(uuid_format(&result->id, id)));
			json_member_string(json, "job_name", bytes_of(job_name_format(&result->id, 0, name)));
		}
		return;
	}
	if (number)
		json_member_int(json, "status", status);
	json_member_string(json, "task_id", bytes_of(uuid_format(&result->id, id)));
	json_member_string(json, "eval_id", submission->eval_id);
	json_member_string(json, "job_name", bytes_of(job_name_format(&result->id, 0, name)));
	if (!number)
		json_member_string(json, "status", bytes_of(task_word(result)));
}

/* ---- one alone ---- */

struct single {
	struct admission admission;
	struct submission submission;
	struct admission_result result;
	int64_t wait_us;
};

static void free_admission(void *admission)
{
	admission_fini(admission);
}

static void answer_single(struct call *call, const struct single *single)
{
	int status = submission_status(&single->result);
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	submission_answer(&json, &single->submission, &single->result, false);
	json_object_end(&json);

	char text[8 + JOB_NAME_SIZE];
	struct http_header header = { 0 };
	if (status < 300) {
		char name[JOB_NAME_SIZE];
		int len = snprintf(text, sizeof(text), "/status/%s", job_name_format(&single->result.id, 0, name));
		header = (struct http_header){ BYTES_LITERAL("Location"), { text, (size_t)len } };
	} else if (status == 429) {
		int seconds = single->result.retry_after_s > 0 ? single->result.retry_after_s : 1;
		int len = snprintf(text, sizeof(text), "%d", seconds);
		header = (struct http_header){ BYTES_LITERAL("Retry-After"), { text, (size_t)len } };
	}
	call_respond(call, status, status < 300 ? "application/json" : PROBLEM_CONTENT_TYPE, buffer_bytes(buffer),
		&header, header.name.data ? 1 : 0);
}

static void on_admitted(struct admission *admission)
{
	struct single *single = CONTAINER_OF(admission, struct single, admission);
	struct call *call = admission->owner;
	if (!call_back(call))
		return;
	if (single->result.status == ADMISSION_AWAY)
		problem_away(call, "the store is away; nothing was accepted, try again soon");
	else if (single->wait_us > 0 && submission_status(&single->result) < 300)
		wait_for_end(call, &single->result.id, single->wait_us);
	else
		answer_single(call, single);
}

void submission_admit(struct call *call, const struct submission *submission, int64_t wait_us)
{
	struct single *single = arena_alloc(&call->arena, sizeof(*single));
	single->submission = *submission;
	single->wait_us = wait_us;
	single->admission = (struct admission){
		.submissions = &single->submission,
		.count = 1,
		.results = &single->result,
		.done = on_admitted,
		.owner = call,
	};
	call_cleanup(call, free_admission, &single->admission);
	call_out(call);
	coordinator_admit(call->api->coordinator, &single->admission);
}
