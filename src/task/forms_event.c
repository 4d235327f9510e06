/* Payloads of events, and cursors as text: see forms.h. */
#include <stdio.h>

#include "base/clock.h"
#include "base/text.h"
#include "task/forms.h"
#include "task/forms_internal.h"
#include "task/job_name.h"
#include "task/lifecycle.h"

void form_terminal_data(struct buffer *buffer, const struct task *task, const struct attempt_record *record)
{
	struct json json = JSON_TO(buffer);
	enum task_phase phase = task_phase_of(record->status, record->reason, record->started_at_us);
	form_exit(&json, record);
	form_duration(&json, record->started_at_us, record->finished_at_us);
	form_word(&json, "status", task_outcome_name(record->status));
	form_word(&json, "phase", task_phase_name(phase));
	form_word(&json, "reason", task_reason_name(record->reason));
	form_word(&json, "fault", task_fault_name(task_reason_fault(record->reason)));
	form_word(&json, "cause", task_reason_name(record->cause));
	/* `error` is what the program wrote to its standard error (seed 003). */
	json_member_string(&json, "message", record->error);
	form_usage(&json, record);
	json_member_string(&json, "executor", task->executor);
	if (record->has_score)
		form_score(&json, record);
}

/* Seconds, exact to the microsecond. Printing doubles was a third of what a payload costs. */
static void form_timestamp(struct json *json, int64_t us)
{
	char text[40];
	if (us < 0) {
		json_member_double(json, "timestamp", (double)us / 1e6);
		return;
	}
	int length =
		snprintf(text, sizeof(text), "%lld.%06lld", (long long)(us / US_PER_S), (long long)(us % US_PER_S));
	while (text[length - 1] == '0')
		length--;
	if (text[length - 1] == '.')
		length--;
	json_member_raw(json, "timestamp", (struct bytes){ text, (size_t)length });
}

/* What every payload begins with; the object stays open. */
static void form_head(struct json *json, enum event_kind kind, const struct uuid *task_id, struct bytes eval_id,
	const struct uuid *batch_id, int64_t timestamp_us, int run, int attempt, struct bytes tenant,
	struct bytes publisher)
{
	char id[UUID_TEXT_SIZE], batch[UUID_TEXT_SIZE], job_name[JOB_NAME_SIZE];
	uuid_format(task_id, id);
	json_object(json);
	form_word(json, "kind", event_kind_name(kind));
	json_member_string(json, "eval_id", eval_id.data ? eval_id : bytes_of(id));
	form_timestamp(json, timestamp_us);
	form_word(json, "task_id", id);
	form_word(json, "job_name", job_name_format(task_id, 0, job_name));
	json_member_int(json, "run", run);
	json_member_int(json, "attempt", attempt);
	if (!uuid_is_nil(batch_id))
		form_word(json, "batch_id", uuid_format(batch_id, batch));
	json_member_string(json, "tenant", tenant);
	json_member_string(json, "replica", publisher);
}

/* What a program printed; true where nothing had to be replaced. */
static bool form_output(struct json *json, const char *key, struct bytes output)
{
	json_key(json, key);
	return json_string(json, output.data ? output : BYTES_LITERAL(""));
}

void form_event(struct buffer *buffer, const struct event *event)
{
	struct json json = JSON_TO(buffer);
	char cursor[CURSOR_TEXT_SIZE];
	if (event->payload.data) {
		buffer_append_bytes(buffer, event->payload);
		return;
	}
	form_head(&json, event->kind, &event->task_id, event->eval_id, &event->batch_id, event->timestamp_us,
		event->run, event->attempt, event->tenant, event->publisher);
	json_member_int(&json, "sequence", event->sequence);
	form_word(&json, "cursor", cursor_format(&event->cursor, cursor));
	form_members(&json, event->data);
	if (event_kind_terminal(event->kind)) {
		bool whole = form_output(&json, "output", event->output);
		whole &= form_output(&json, "error", event->error);
		if (!whole)
			form_word(&json, "encoding", "lossy");
		if (event->output_truncated) {
			char job_name[JOB_NAME_SIZE];
			json_member_bool(&json, "truncated", true);
			json_key(&json, "logs");
			buffer_printf(buffer, "\"/logs/%s?attempt=%d\"", job_name_format(&event->task_id, 0, job_name),
				event->attempt);
			json.comma = true;
		}
	}
	json_object_end(&json);
}

void form_live_event(struct buffer *buffer, const struct live_event *event)
{
	struct json json = JSON_TO(buffer);
	if (event->payload.data) {
		buffer_append_bytes(buffer, event->payload);
		return;
	}
	form_head(&json, event->kind, &event->task_id, event->eval_id, &event->batch_id, event->timestamp_us,
		event->run, event->attempt, event->tenant, event->publisher);
	form_word(&json, "stream", event->stream == 1 ? "stdout" : event->stream == 2 ? "stderr" : NULL);
	json_member_int(&json, "offset", (int64_t)event->offset);
	if (event->kind == EVENT_LOG) {
		if (!form_output(&json, "data", event->data))
			form_word(&json, "encoding", "lossy");
	} else {
		form_members(&json, event->data);
	}
	json_object_end(&json);
}

char *cursor_format(const struct cursor *cursor, char text[static CURSOR_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	size_t length = 0;
	for (size_t i = 0; i < cursor->length && i < sizeof(cursor->bytes); i++) {
		text[length++] = digits[cursor->bytes[i] >> 4];
		text[length++] = digits[cursor->bytes[i] & 15];
	}
	if (length == 0)
		text[length++] = '0';
	text[length] = '\0';
	return text;
}

bool cursor_parse(struct bytes text, struct cursor *ret_cursor)
{
	struct cursor cursor = { 0 };
	if (!bytes_is(text, "0")) {
		if (text.len == 0 || text.len % 2 || text.len / 2 > sizeof(cursor.bytes) ||
			!hex_decode(text, cursor.bytes, text.len / 2))
			return false;
		cursor.length = (uint8_t)(text.len / 2);
	}
	*ret_cursor = cursor;
	return true;
}
