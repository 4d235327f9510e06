/* One writer for all problems of the API. What the HTTP server refuses by itself it answers in the same form. */
#include "api/problem.h"

#include <stdarg.h>
#include <stdio.h>

const char *problem_title(int status)
{
	switch (status) {
	case 400:
		return "Bad request";
	case 401:
		return "Authentication needed";
	case 403:
		return "Not allowed";
	case 404:
		return "Not found";
	case 405:
		return "Method not allowed";
	case 406:
		return "Not acceptable";
	case 409:
		return "Conflict";
	case 413:
		return "Too large";
	case 415:
		return "Unsupported media type";
	case 422:
		return "Invalid request";
	case 429:
		return "Too many requests";
	case 503:
		return "Service unavailable";
	default:
		return "Internal error";
	}
}

void problem_members(struct json *json, int status, const char *type, const char *detail)
{
	char uri[96];
	int len = snprintf(uri, sizeof(uri), "urn:assay:problem:%s", type);
	json_member_string(json, "type", (struct bytes){ uri, (size_t)len });
	json_member_string(json, "title", bytes_of(problem_title(status)));
	json_member_int(json, "status", status);
	json_member_string(json, "detail", bytes_of(detail));
}

static void problem_errors(struct json *json, const struct field_errors *errors)
{
	json_key(json, "errors");
	json_array(json);
	for (size_t i = 0; i < errors->count; i++) {
		json_object(json);
		json_member_string(json, "pointer", bytes_of(errors->items[i].pointer));
		json_member_string(json, "detail", bytes_of(errors->items[i].detail));
		json_object_end(json);
	}
	json_array_end(json);
}

/* `extra` is an errors array's only item, or absent. */
static void answer(struct call *call, int status, const char *type, const char *detail, const char *where,
	const char *name, const struct http_header *headers, size_t header_count)
{
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	problem_members(&json, status, type, detail);
	if (where) {
		json_key(&json, "errors");
		json_array(&json);
		json_object(&json);
		json_member_string(&json, where, bytes_of(name));
		json_member_string(&json, "detail", bytes_of(detail));
		json_object_end(&json);
		json_array_end(&json);
	}
	json_object_end(&json);
	call_respond(call, status, PROBLEM_CONTENT_TYPE, buffer_bytes(buffer), headers, header_count);
}

#define FORMAT_DETAIL() \
	char detail[512]; \
	va_list arguments; \
	va_start(arguments, format); \
	vsnprintf(detail, sizeof(detail), format, arguments); \
	va_end(arguments)

void problem(struct call *call, int status, const char *type, const char *format, ...)
{
	FORMAT_DETAIL();
	answer(call, status, type, detail, NULL, NULL, NULL, 0);
}

void problem_with_headers(struct call *call, int status, const char *type, const struct http_header *headers,
	size_t header_count, const char *format, ...)
{
	FORMAT_DETAIL();
	answer(call, status, type, detail, NULL, NULL, headers, header_count);
}

void problem_parameter(struct call *call, const char *name, const char *format, ...)
{
	FORMAT_DETAIL();
	answer(call, 422, "invalid-parameter", detail, "parameter", name, NULL, 0);
}

void problem_header(struct call *call, const char *name, const char *format, ...)
{
	FORMAT_DETAIL();
	answer(call, 422, "invalid-header", detail, "header", name, NULL, 0);
}

int problem_members_of(struct json *json, const struct field_errors *errors, const char *detail)
{
	int status = errors->too_large ? 413 : 422;
	problem_members(json, status, errors->too_large ? "too-large" : "invalid-field", detail);
	problem_errors(json, errors);
	return status;
}

void problem_fields(struct call *call, const struct field_errors *errors)
{
	char detail[512] = "a field is not valid";
	if (errors->count > 0)
		snprintf(detail, sizeof(detail), "%s%s%s", errors->items[0].pointer,
			*errors->items[0].pointer ? ": " : "", errors->items[0].detail);
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	int status = problem_members_of(&json, errors, detail);
	json_object_end(&json);
	call_respond(call, status, PROBLEM_CONTENT_TYPE, buffer_bytes(buffer), NULL, 0);
}

void problem_away(struct call *call, const char *detail)
{
	const struct http_header retry = { BYTES_LITERAL("Retry-After"), BYTES_LITERAL("2") };
	answer(call, 503, "unavailable", detail, NULL, NULL, &retry, 1);
}

void problem_not_found(struct call *call)
{
	answer(call, 404, "not-found", "no task of yours has this id", NULL, NULL, NULL, 0);
}
