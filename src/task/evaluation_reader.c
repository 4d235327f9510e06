/* Typed reading of JSON values for evaluation.c: see evaluation_reader.h. */
#include "task/evaluation_reader.h"

#include <math.h>
#include <stdio.h>

#include "base/text.h"

#define ERRORS_MAX 32
#define POINTER_NAME_MAX 128 /* bytes shown of a name that the client made up */
#define ARGS_MAX 1000
#define ARGS_BYTES_MAX (256 * 1024) /* well below the kernel's own limits, see execve(2) */

static void __attribute__((format(printf, 4, 0))) add_error(
	struct field_errors *errors, struct arena *arena, const char *pointer, const char *format, va_list arguments)
{
	char detail[256];
	vsnprintf(detail, sizeof(detail), format, arguments);
	if (!errors->items)
		errors->items = arena_array(arena, ERRORS_MAX, sizeof(errors->items[0]));
	/* A cut in the middle of a character must not make the answer ill-formed. */
	detail[utf8_valid_prefix(bytes_of(detail))] = '\0';
	errors->items[errors->count++] =
		(struct field_error){ .pointer = pointer, .detail = arena_string(arena, detail) };
}

void field_errors_add(struct field_errors *errors, struct arena *arena, const char *pointer, const char *format, ...)
{
	if (errors->count >= ERRORS_MAX)
		return;
	va_list arguments;
	va_start(arguments, format);
	add_error(errors, arena, arena_string(arena, pointer), format, arguments);
	va_end(arguments);
}

/* RFC 6901: `~` and `/` within a name are escaped. */
static void append_pointer(struct buffer *buffer, const struct path *path)
{
	if (!path->parent) {
		buffer_append_bytes(buffer, path->name);
		return;
	}
	append_pointer(buffer, path->parent);
	if (!path->name.data) {
		buffer_printf(buffer, "/%zu", path->index);
		return;
	}
	struct bytes name = path->name;
	if (name.len > POINTER_NAME_MAX) {
		name.len = POINTER_NAME_MAX;
		name.len = utf8_valid_prefix(name);
	}
	buffer_append_char(buffer, '/');
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];
		if (c == '~')
			buffer_append_string(buffer, "~0");
		else if (c == '/')
			buffer_append_string(buffer, "~1");
		else
			buffer_append_char(buffer, c ? c : '?'); /* pointers are terminated strings */
	}
}

void reader_fail(struct reader *reader, const struct path *path, const char *format, ...)
{
	if (reader->errors->count >= ERRORS_MAX)
		return;
	struct buffer buffer = BUFFER_MAX(4096);
	append_pointer(&buffer, path);
	const char *pointer = buffer.len ? arena_bytes(reader->arena, buffer_bytes(&buffer)).data : "";
	buffer_fini(&buffer);
	va_list arguments;
	va_start(arguments, format);
	add_error(reader->errors, reader->arena, pointer, format, arguments);
	va_end(arguments);
}

static struct bytes text_of(yyjson_val *value)
{
	return (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) };
}

bool read_object(struct reader *reader, const struct path *path, yyjson_val *value, const struct bytes *names,
	size_t name_count, yyjson_val **values)
{
	if (!yyjson_is_obj(value)) {
		reader_fail(reader, path, "must be an object");
		return false;
	}
	bool good = true;
	size_t i, count;
	yyjson_val *key, *member;
	yyjson_obj_foreach(value, i, count, key, member)
	{
		struct bytes name = text_of(key);
		size_t slot = 0;
		while (slot < name_count && !bytes_equal(name, names[slot]))
			slot++;
		struct path here = PATH_NAME(path, name);
		if (slot == name_count) {
			reader_fail(reader, &here, "unknown field");
			good = false;
		} else if (values[slot]) {
			reader_fail(reader, &here, "given twice");
			good = false;
		} else {
			values[slot] = member;
		}
	}
	return good;
}

bool read_array(struct reader *reader, const struct path *path, yyjson_val *value, size_t min, size_t max)
{
	if (!yyjson_is_arr(value)) {
		reader_fail(reader, path, "must be an array");
		return false;
	}
	size_t size = yyjson_arr_size(value);
	if (size < min) {
		reader_fail(reader, path, "must have at least %zu element%s", min, min == 1 ? "" : "s");
		return false;
	}
	if (size > max) {
		reader_fail(reader, path, "has %zu elements, at most %zu are allowed", size, max);
		return false;
	}
	return true;
}

bool read_raw_text(struct reader *reader, const struct path *path, yyjson_val *value, struct bytes *ret_text)
{
	if (!yyjson_is_str(value)) {
		reader_fail(reader, path, "must be a string");
		return false;
	}
	struct bytes text = text_of(value);
	*ret_text = reader->copy ? arena_bytes(reader->arena, text) : text;
	return true;
}

bool read_text(struct reader *reader, const struct path *path, yyjson_val *value, size_t min, size_t max,
	struct bytes *ret_text)
{
	if (!yyjson_is_str(value)) {
		reader_fail(reader, path, "must be a string");
		return false;
	}
	struct bytes text = text_of(value);
	if (text.len < min) {
		reader_fail(reader, path, "must not be empty");
		return false;
	}
	if (text.len > max) {
		reader_fail(reader, path, "is %zu bytes long, at most %zu are allowed", text.len, max);
		return false;
	}
	if (memchr(text.data, '\0', text.len)) {
		reader_fail(reader, path, "must not contain U+0000");
		return false;
	}
	*ret_text = reader->copy ? arena_bytes(reader->arena, text) : text;
	return true;
}

bool read_content(struct reader *reader, const struct path *path, yyjson_val *value, const struct path *encoding_path,
	yyjson_val *encoding, struct bytes *ret_content)
{
	bool base64 = false;
	if (encoding) {
		base64 = yyjson_equals_str(encoding, "base64");
		if (!base64 && !yyjson_equals_str(encoding, "utf8")) {
			reader_fail(reader, encoding_path, "must be \"utf8\" or \"base64\"");
			return false;
		}
		if (!value) {
			reader_fail(reader, encoding_path, "says how a field is encoded that is not there");
			return false;
		}
	}
	if (!base64)
		return read_raw_text(reader, path, value, ret_content);
	if (!yyjson_is_str(value)) {
		reader_fail(reader, path, "must be a string");
		return false;
	}
	struct bytes content = base64_decode(reader->arena, text_of(value));
	if (!content.data) {
		reader_fail(reader, path, "is not base64 (RFC 4648, padded, no white space)");
		return false;
	}
	*ret_content = content;
	return true;
}

bool read_bool(struct reader *reader, const struct path *path, yyjson_val *value, bool *ret_value)
{
	if (!yyjson_is_bool(value)) {
		reader_fail(reader, path, "must be true or false");
		return false;
	}
	*ret_value = yyjson_get_bool(value);
	return true;
}

bool read_int(struct reader *reader, const struct path *path, yyjson_val *value, int min, int max, int *ret_value)
{
	/* 5.0 is an integer too, as JSON Schema sees it. */
	double number = yyjson_get_num(value);
	if (!yyjson_is_num(value) || number != floor(number)) {
		reader_fail(reader, path, "must be an integer");
		return false;
	}
	if (number < min || number > max) {
		reader_fail(reader, path, "must be from %d to %d", min, max);
		return false;
	}
	*ret_value = (int)number;
	return true;
}

bool read_duration(struct reader *reader, const struct path *path, yyjson_val *value, int64_t max_us, int64_t *ret_us)
{
	if (!yyjson_is_num(value)) {
		reader_fail(reader, path, "must be a number of seconds");
		return false;
	}
	double seconds = yyjson_get_num(value);
	double max_seconds = (double)max_us / 1e6;
	if (!(seconds > 0 && seconds <= max_seconds)) {
		reader_fail(reader, path, "must be more than 0 and at most %.15g seconds", max_seconds);
		return false;
	}
	int64_t us = llround(seconds * 1e6);
	*ret_us = us > 0 ? us : 1;
	return true;
}

bool read_args(struct reader *reader, const struct path *path, yyjson_val *value, const struct bytes **ret_args,
	size_t *ret_count)
{
	if (!read_array(reader, path, value, 0, ARGS_MAX))
		return false;
	bool good = true;
	size_t total = 0;
	struct bytes *args = arena_array(reader->arena, yyjson_arr_size(value) + 1, sizeof(*args));
	size_t i, count;
	yyjson_val *element;
	yyjson_arr_foreach(value, i, count, element)
	{
		struct path here = PATH_INDEX(path, i);
		if (!read_text(reader, &here, element, 0, ARGS_BYTES_MAX, &args[i]))
			good = false;
		total += args[i].len;
	}
	if (total > ARGS_BYTES_MAX) {
		reader_fail(reader, path, "has %zu bytes, at most %d are allowed", total, ARGS_BYTES_MAX);
		good = false;
	}
	*ret_args = args;
	*ret_count = count;
	return good;
}
