/* Bodies: what kind they are, and where they are worked on. Small ones on the loop, at once; large ones in libuv's
 * thread pool, so that the loop is never held up by one request. */
#ifndef ASSAY_API_BODY_H
#define ASSAY_API_BODY_H

#include <yyjson.h>

#include "api/call.h"

/* Beyond so many bytes a body is worked on in the thread pool: below, parsing and hashing take well under 1 ms. */
#define BODY_INLINE_MAX ((size_t)64 * 1024)

enum body_kind { BODY_KIND_JSON, BODY_KIND_NDJSON };

/* By the Content-Type: application/json, any +json, and where `ndjson` is true application/x-ndjson. Else the call has
 * been answered with 415, and false is returned. */
bool body_kind(struct call *call, bool ndjson, enum body_kind *ret_kind) MUST_CHECK;

/* Runs work(data) and goes on with after(call): at once for a body of up to BODY_INLINE_MAX bytes, else on a thread of
 * the pool, and later. `work` may use nothing but `data`, the call's arena and what never changes. The body, given back
 * in ret_body, lives as long as the call. */
void body_work(struct call *call, struct bytes *ret_body, void (*work)(void *data), void *data,
	void (*after)(struct call *call));
/* The same for work on `size` bytes of something else that the call owns. */
void call_work(struct call *call, size_t size, void (*work)(void *data), void *data, void (*after)(struct call *call));

/* What the documents of one body may take. A value takes sixteen bytes, so that a body of brackets would become sixteen
 * times as large; one of evaluations stays below four times. */
struct body_memory {
	size_t left;
};
struct body_memory body_memory_for(struct bytes body);
/* Parses all of the body, or a line of it; on any thread. NULL where it is not JSON, or is beyond what is left of the
 * memory: ret_fault tells. */
yyjson_doc *body_parse(struct bytes text, struct body_memory *memory, yyjson_read_err *ret_fault) MUST_CHECK;

#endif
