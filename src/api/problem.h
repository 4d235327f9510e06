/* Errors as application/problem+json (RFC 9457): type, title, status, detail, and errors[] for bad fields. */
#ifndef ASSAY_API_PROBLEM_H
#define ASSAY_API_PROBLEM_H

#include "api/call.h"
#include "base/json.h"
#include "task/evaluation.h"

#define PROBLEM_CONTENT_TYPE "application/problem+json"

/* Answers and ends the call. `type` is the last part of the problem's type, urn:assay:problem:<type>. */
void problem(struct call *call, int status, const char *type, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void problem_with_headers(struct call *call, int status, const char *type, const struct http_header *headers,
	size_t header_count, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* 422, naming the fields. */
void problem_fields(struct call *call, const struct field_errors *errors);
/* 422 for one query parameter or header: errors[0] is {"parameter": name, …} or {"header": name, …}. */
void problem_parameter(struct call *call, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void problem_header(struct call *call, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* 503 with Retry-After. */
void problem_away(struct call *call, const char *detail);
/* 404 for an id. */
void problem_not_found(struct call *call);

/* The members (without braces) of a problem, for those that write one into a larger answer. */
void problem_members(struct json *json, int status, const char *type, const char *detail);
/* The members of a problem with these errors, whose detail this is; its status. */
int problem_members_of(struct json *json, const struct field_errors *errors, const char *detail);
const char *problem_title(int status);

#endif
