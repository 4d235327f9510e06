/* A line is put together in a buffer of its own and written with one write(2), so that lines of several
 * processes on one descriptor do not mix. Values are cut rather than lines dropped. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

#define LINE_MAX_BYTES (64 * 1024)
#define VALUE_MAX_BYTES (4 * 1024)

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_ERROR:
		return "error";
	case LOG_WARNING:
		return "warning";
	case LOG_INFO:
		return "info";
	case LOG_DEBUG:
		return "debug";
	}
	return "info";
}

/* Whether a reader that splits at spaces and at the first "=" gets the value back. */
static bool is_plain(struct bytes value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];
		if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f)
			return false;
	}
	return value.len > 0 && utf8_valid(value);
}

/* A string value, cut between characters where it is too long. */
static struct bytes bounded(struct bytes value)
{
	if (value.len <= VALUE_MAX_BYTES)
		return value;
	value.len = VALUE_MAX_BYTES;
	while (value.len > VALUE_MAX_BYTES - 4 && ((unsigned char)value.data[value.len] & 0xc0) == 0x80)
		value.len--;
	return value;
}

/* The text of a field, in `scratch` or borrowed; absent when the field holds nothing. Sets *ret_number when
 * JSON takes it without quotes. */
static struct bytes field_text(const struct log_field *field, struct buffer *scratch, bool *ret_number)
{
	char text[UUID_TEXT_SIZE];
	*ret_number = false;
	buffer_clear(scratch);
	switch (field->type) {
	case LOG_FIELD_STRING:
		return bounded(bytes_of(field->string));
	case LOG_FIELD_BYTES:
		return bounded(field->bytes);
	case LOG_FIELD_UUID:
		if (!field->uuid)
			return BYTES_NONE;
		buffer_append_string(scratch, uuid_format(field->uuid, text));
		return buffer_bytes(scratch);
	case LOG_FIELD_INT:
		*ret_number = true;
		buffer_printf(scratch, "%" PRId64, field->integer);
		return buffer_bytes(scratch);
	case LOG_FIELD_SECONDS: {
		*ret_number = true;
		uint64_t us = field->integer < 0 ? 0 - (uint64_t)field->integer : (uint64_t)field->integer;
		buffer_printf(
			scratch, "%s%" PRIu64 ".%06" PRIu64, field->integer < 0 ? "-" : "", us / 1000000, us % 1000000);
		while (scratch->len > 0 && scratch->data[scratch->len - 1] == '0')
			scratch->len--;
		if (scratch->len > 0 && scratch->data[scratch->len - 1] == '.')
			scratch->len--;
		return buffer_bytes(scratch);
	}
	}
	return BYTES_NONE;
}

static void line_text(struct buffer *line, enum log_level level, const char *message, const struct log_field *fields,
	size_t count, struct buffer *scratch)
{
	char time[CLOCK_TEXT_SIZE];
	struct json json = JSON_TO(line);
	buffer_printf(line, "%s %s ", clock_format(clock_wall_us(), time), level_name(level));
	json_string(&json, bounded(bytes_of(message)));
	for (size_t i = 0; i < count; i++) {
		bool number;
		struct bytes value = field_text(&fields[i], scratch, &number);
		if (!value.data)
			continue;
		buffer_printf(line, " %s=", fields[i].key);
		if (number || is_plain(value)) {
			buffer_append_bytes(line, value);
		} else {
			json.comma = false;
			json_string(&json, value);
		}
	}
}

static void line_json(struct buffer *line, enum log_level level, const char *message, const struct log_field *fields,
	size_t count, struct buffer *scratch)
{
	struct json json = JSON_TO(line);
	json_object(&json);
	json_member_time(&json, "time", clock_wall_us());
	json_member_string(&json, "level", bytes_of(level_name(level)));
	json_member_string(&json, "message", bounded(bytes_of(message)));
	for (size_t i = 0; i < count; i++) {
		bool number;
		struct bytes value = field_text(&fields[i], scratch, &number);
		if (!value.data)
			continue;
		if (number)
			json_member_raw(&json, fields[i].key, value);
		else
			json_member_string(&json, fields[i].key, value);
	}
	json_object_end(&json);
}

void log_write(struct log *log, enum log_level level, const char *message, const struct log_field *fields, size_t count)
{
	if (level > log->level)
		return;
	struct buffer line = BUFFER_MAX(LINE_MAX_BYTES), scratch = BUFFER_MAX(64);
	if (log->json)
		line_json(&line, level, message, fields, count, &scratch);
	else
		line_text(&line, level, message, fields, count, &scratch);
	buffer_append_char(&line, '\n');
	ssize_t written = -1;
	if (!line.failed) {
		do
			written = write(log->fd, line.data, line.len);
		while (written < 0 && errno == EINTR);
	}
	if (written < 0 || (size_t)written != line.len)
		log->dropped++;
	buffer_fini(&line);
	buffer_fini(&scratch);
}
