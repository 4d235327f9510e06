/* What status objects and event payloads have in common: members of a JSON object. */
#ifndef ASSAY_TASK_FORMS_INTERNAL_H
#define ASSAY_TASK_FORMS_INTERNAL_H

#include "task/forms.h"

void form_word(struct json *json, const char *key, const char *word); /* NULL is null */
void form_duration(struct json *json, int64_t started_at_us, int64_t finished_at_us);
void form_usage(struct json *json, const struct attempt_record *record); /* NULL: not known */
void form_exit(struct json *json, const struct attempt_record *record); /* exit_code and signal; NULL: not known */
void form_score(struct json *json, const struct attempt_record *record);
/* Ready members, trusted, without braces; nothing where there are none. */
void form_members(struct json *json, struct bytes members);

#endif
