/* Pure: bytes in, JSON out; may run on any thread. */
#include "api/result.h"

#include <yyjson.h>

#include "task/forms.h"

size_t result_output_size(const struct read_output *output)
{
	size_t size = 0;
	for (size_t i = 0; i < output->result_count; i++)
		size += output->results[i].data.len;
	return size;
}

/* The chunks of one stream (0: both) in a row: a character may begin in one chunk and end in the next. */
static bool write_stream(struct json *json, const char *key, const struct read_output *output, int stream)
{
	struct buffer text = BUFFER_MAX(0);
	for (size_t i = 0; i < output->result_count; i++)
		if (stream == 0 || output->results[i].stream == stream)
			buffer_append_bytes(&text, output->results[i].data);
	json_key(json, key);
	struct bytes bytes = text.len > 0 ? buffer_bytes(&text) : BYTES_LITERAL("");
	bool clean = json_string(json, bytes);
	if (text.failed)
		json->buffer->failed = true;
	buffer_fini(&text);
	return clean;
}

void result_output_members(struct json *json, const struct read_output *output, bool with_logs)
{
	bool clean = true;
	if (with_logs)
		clean = write_stream(json, "logs", output, 0);
	/* Both streams clean, and yet together not: a character of one was cut by the other. That is lossy too. */
	clean &= write_stream(json, "stdout", output, 1);
	clean &= write_stream(json, "stderr", output, 2);
	json_member_string(json, "encoding", clean ? BYTES_LITERAL("utf8") : BYTES_LITERAL("lossy"));
}

bool result_truncated(const struct task *task)
{
	if (!task->result.data)
		return false;
	yyjson_doc *document = yyjson_read(task->result.data, task->result.len, 0);
	yyjson_val *root = yyjson_doc_get_root(document);
	bool truncated = yyjson_is_true(yyjson_obj_get(root, "stdout_truncated")) ||
			 yyjson_is_true(yyjson_obj_get(root, "stderr_truncated"));
	yyjson_doc_free(document);
	return truncated;
}

void result_write(struct buffer *buffer, const struct task *task, const struct read_output *output)
{
	struct json json = JSON_TO(buffer);
	form_status(&json, task);
	if (buffer->failed)
		return;
	/* The status object goes on with the output: its closing brace is taken back. */
	buffer->len--;
	json.comma = true;
	result_output_members(&json, output, false);
	json_member_bool(&json, "truncated", result_truncated(task) || output->end > result_output_size(output));
	json_object_end(&json);
}
