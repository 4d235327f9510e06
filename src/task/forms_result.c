/* What a row's `result` says of the attempt that ended it, read back: what no other column says. */
#include <stdlib.h>
#include <string.h>

#include "task/forms_internal.h"

static int64_t us_of(yyjson_val *seconds)
{
	return yyjson_is_num(seconds) ? (int64_t)(yyjson_get_num(seconds) * 1e6 + 0.5) : -1;
}

static void read_usage(yyjson_val *usage, struct attempt_record *record)
{
	yyjson_val *memory = yyjson_obj_get(usage, "memory_bytes");
	if (!yyjson_is_obj(usage))
		return;
	record->started_at_us = 1; /* at some time */
	record->usage.wall_us = us_of(yyjson_obj_get(usage, "wall_seconds"));
	record->usage.cpu_us = us_of(yyjson_obj_get(usage, "cpu_seconds"));
	record->usage.memory_bytes = yyjson_is_int(memory) ? yyjson_get_sint(memory) : -1;
}

static void read_score(yyjson_val *score, struct attempt_record *record)
{
	record->has_score = yyjson_is_obj(score);
	record->score = yyjson_get_num(yyjson_obj_get(score, "points"));
	record->max_score = yyjson_get_num(yyjson_obj_get(score, "max_points"));
	record->tests_passed = (int)yyjson_get_sint(yyjson_obj_get(score, "passed"));
	record->tests_total = (int)yyjson_get_sint(yyjson_obj_get(score, "total"));
}

static void keep_value(struct kept_result *kept, struct json *extra, const char *key, yyjson_val *value)
{
	size_t length = 0;
	char *text = yyjson_val_write(value, 0, &length);
	if (strcmp(key, "tests") == 0) {
		buffer_append(&kept->tests, text, length);
		kept->record.tests = buffer_bytes(&kept->tests);
	} else {
		json_member_raw(extra, key, (struct bytes){ text, text ? length : 0 });
	}
	free(text);
}

/* What only one kind of task has. */
static bool is_extra(const char *key)
{
	return strcmp(key, "tests") == 0 || strcmp(key, "compile_output") == 0 || strcmp(key, "answer") == 0;
}

void kept_result_read(struct kept_result *kept, struct bytes result)
{
	*kept = (struct kept_result){ .record = { .exit_code = -1 } };
	kept->document = result.data ? yyjson_read(result.data, result.len, 0) : NULL;
	yyjson_val *root = yyjson_doc_get_root(kept->document), *key, *value;
	struct attempt_record *record = &kept->record;
	struct json extra = JSON_TO(&kept->extra);
	size_t index, count;
	if (!yyjson_is_obj(root))
		return;
	yyjson_val *exit_code = yyjson_obj_get(root, "exit_code"), *error = yyjson_obj_get(root, "error");
	yyjson_val *replica = yyjson_obj_get(yyjson_obj_get(root, "route"), "replica");
	kept->is_status = yyjson_obj_get(root, "job_name") != NULL;
	if (yyjson_is_str(error))
		record->error = (struct bytes){ yyjson_get_str(error), yyjson_get_len(error) };
	if (yyjson_is_int(exit_code))
		record->exit_code = (int)yyjson_get_sint(exit_code);
	record->signal = (int)yyjson_get_sint(yyjson_obj_get(root, "signal"));
	read_usage(yyjson_obj_get(root, "usage"), record);
	record->stdout_truncated = yyjson_is_true(yyjson_obj_get(root, "stdout_truncated"));
	record->stderr_truncated = yyjson_is_true(yyjson_obj_get(root, "stderr_truncated"));
	read_score(yyjson_obj_get(root, "score"), record);
	if (yyjson_is_str(replica))
		kept->replica = (struct bytes){ yyjson_get_str(replica), yyjson_get_len(replica) };
	yyjson_obj_foreach(root, index, count, key, value)
	{
		if (is_extra(yyjson_get_str(key)))
			keep_value(kept, &extra, yyjson_get_str(key), value);
	}
	record->extra = buffer_bytes(&kept->extra);
}

void kept_result_fini(struct kept_result *kept)
{
	buffer_fini(&kept->tests);
	buffer_fini(&kept->extra);
	yyjson_doc_free(kept->document);
}
