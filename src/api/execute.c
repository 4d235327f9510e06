/* POST /execute: body ──► prepared (at once, or on a thread when it is large) ──► routed ──► admitted ──► 201, or
 * waited for. */
#include <math.h>
#include <yyjson.h>

#include "api/body.h"
#include "api/handlers.h"
#include "api/problem.h"
#include "api/submission.h"
#include "base/clock.h"
#include "base/text.h"

#define WAIT_MAX_S 300

struct execute {
	struct bytes body;
	struct arena *arena; /* the call's */
	const struct evaluation_limits *limits;
	struct submission_headers headers;
	int64_t wait_us;
	yyjson_doc *document; /* owned by the call's clean-up */
	yyjson_read_err fault;
	struct prepared prepared;
	bool good;
	struct field_errors errors;
};

static void prepare(void *data)
{
	struct execute *execute = data;
	struct body_memory memory = body_memory_for(execute->body);
	execute->document = body_parse(execute->body, &memory, &execute->fault);
	if (execute->document)
		execute->good = submission_prepare(yyjson_doc_get_root(execute->document), "",
			execute->headers.idempotency_key.data != NULL, execute->limits, execute->arena,
			&execute->prepared, &execute->errors);
}

static void free_document(void *data)
{
	struct execute *execute = data;
	yyjson_doc_free(execute->document);
}

static void on_prepared(struct call *call)
{
	struct execute *execute = call->data;
	if (!execute->document) {
		problem(call, 400, "not-json", "the body is not JSON: %s at byte %zu", execute->fault.msg,
			execute->fault.pos);
		return;
	}
	struct submission submission = { 0 };
	if (!execute->good || !submission_fill(call->api, &call->who, &execute->prepared, "", &call->arena, &submission,
				      &execute->errors)) {
		problem_fields(call, &execute->errors);
		return;
	}
	submission.idempotency_key = execute->headers.idempotency_key;
	submission.traceparent = execute->headers.traceparent;
	submission_admit(call, &submission, execute->wait_us);
}

/* Seconds, with a fraction if one likes. */
static bool read_wait(struct call *call, int64_t *ret_wait_us)
{
	struct bytes text = call_query(call, "wait");
	*ret_wait_us = 0;
	if (!text.data)
		return true;
	int64_t whole = 0, thousandths = 0;
	const char *point = text.len ? memchr(text.data, '.', text.len) : NULL;
	struct bytes before = { text.data, point ? (size_t)(point - text.data) : text.len };
	bool good = text_to_int(before, 0, WAIT_MAX_S, &whole);
	if (good && point) {
		struct bytes behind = { point + 1, text.len - before.len - 1 };
		good = behind.len <= 3 && behind.len > 0 && behind.data[0] != '+' &&
		       text_to_int(behind, 0, 999, &thousandths);
		for (size_t i = behind.len; i < 3; i++)
			thousandths *= 10;
	}
	int64_t wait_us = whole * US_PER_S + thousandths * US_PER_MS;
	if (!good || wait_us > WAIT_MAX_S * US_PER_S) {
		problem_parameter(call, "wait", "wait must be a number of seconds from 0 to %d", WAIT_MAX_S);
		return false;
	}
	*ret_wait_us = wait_us;
	return true;
}

void handle_execute(struct call *call)
{
	enum body_kind kind;
	struct execute *execute = arena_alloc(&call->arena, sizeof(*execute));
	if (!body_kind(call, false, &kind) || !read_wait(call, &execute->wait_us) ||
		!submission_headers_read(call, &execute->headers))
		return;
	execute->arena = &call->arena;
	execute->limits = call->api->evaluation_limits;
	call->data = execute;
	call_cleanup(call, free_document, execute);
	body_work(call, &execute->body, prepare, execute, on_prepared);
}
