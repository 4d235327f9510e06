/* A buffer's memory is always one byte larger than what it may hold, so that text can be printed in place
 * with the terminator that vsnprintf insists on. */
#include "base/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALLEST 64

char *buffer_reserve(struct buffer *buffer, size_t more)
{
	if (buffer->failed)
		return NULL;
	size_t bound = buffer->max > 0 && buffer->max < SIZE_MAX ? buffer->max : SIZE_MAX - 1;
	if (buffer->len > bound || more > bound - buffer->len) {
		buffer->failed = true;
		return NULL;
	}
	size_t need = buffer->len + more + 1;
	if (need > buffer->capacity) {
		size_t capacity = buffer->capacity > SIZE_MAX / 2 ? SIZE_MAX : buffer->capacity * 2;
		capacity = capacity < SMALLEST ? SMALLEST : capacity;
		capacity = capacity > bound + 1 ? bound + 1 : capacity;
		capacity = capacity < need ? need : capacity;
		char *data = realloc(buffer->data, capacity);
		if (!data) {
			buffer->failed = true;
			return NULL;
		}
		buffer->data = data;
		buffer->capacity = capacity;
	}
	return buffer->data + buffer->len;
}

void buffer_append(struct buffer *buffer, const void *data, size_t len)
{
	char *to = buffer_reserve(buffer, len);
	if (!to || len == 0)
		return;
	memcpy(to, data, len);
	buffer->len += len;
}

void buffer_append_bytes(struct buffer *buffer, struct bytes bytes)
{
	buffer_append(buffer, bytes.data, bytes.len);
}

void buffer_append_string(struct buffer *buffer, const char *string)
{
	buffer_append(buffer, string, strlen(string));
}

void buffer_append_char(struct buffer *buffer, char c)
{
	buffer_append(buffer, &c, 1);
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
	char *to = buffer_reserve(buffer, 0);
	if (!to)
		return;
	size_t room = buffer->capacity - buffer->len;
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(to, room, format, arguments);
	va_end(arguments);
	if (length < 0) {
		buffer->failed = true;
		return;
	}
	if ((size_t)length >= room) {
		to = buffer_reserve(buffer, (size_t)length);
		if (!to)
			return;
		va_start(arguments, format);
		vsnprintf(to, (size_t)length + 1, format, arguments);
		va_end(arguments);
	}
	buffer->len += (size_t)length;
}

void buffer_consume(struct buffer *buffer, size_t len)
{
	if (len >= buffer->len) {
		buffer->len = 0;
		return;
	}
	if (len == 0)
		return;
	memmove(buffer->data, buffer->data + len, buffer->len - len);
	buffer->len -= len;
}

void buffer_clear(struct buffer *buffer)
{
	buffer->len = 0;
	buffer->failed = false;
}

void buffer_fini(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){ .max = buffer->max };
}

struct bytes buffer_bytes(const struct buffer *buffer)
{
	return (struct bytes){ buffer->data ? buffer->data : "", buffer->len };
}
