/* What status objects and event payloads have in common: members of a JSON object. */
#ifndef ASSAY_TASK_FORMS_INTERNAL_H
#define ASSAY_TASK_FORMS_INTERNAL_H

#include <yyjson.h>

#include "task/forms.h"

/* What a row's `result` says. The record has what no column has, and the error, which the row may
 * have of an attempt before; its texts and `replica` are borrowed from here. */
struct kept_result {
	bool is_status; /* else its error is not known */
	struct attempt_record record;
	struct bytes replica;
	struct buffer tests, extra;
	yyjson_doc *document;
};
void kept_result_read(struct kept_result *kept, struct bytes result); /* whatever stands there */
void kept_result_fini(struct kept_result *kept);

void form_word(struct json *json, const char *key, const char *word); /* NULL is null */
void form_duration(struct json *json, int64_t started_at_us, int64_t finished_at_us);
void form_usage(struct json *json, const struct attempt_record *record); /* NULL: not known */
void form_exit(struct json *json, const struct attempt_record *record); /* exit_code and signal; NULL: not known */
void form_score(struct json *json, const struct attempt_record *record);
struct bytes form_replica(struct bytes locked_by); /* without the incarnation */
/* Ready members, trusted, without braces; nothing where there are none. */
void form_members(struct json *json, struct bytes members);

#endif
