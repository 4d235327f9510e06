/* A growable run of bytes with a stated maximum. Appending past it, or without memory, sets `failed`,
 * which stays set: write everything, look once at the end. */
#ifndef ASSAY_BASE_BUFFER_H
#define ASSAY_BASE_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

struct buffer {
	char *data; /* owned; NULL while nothing was appended */
	size_t len;
	size_t capacity;
	size_t max; /* bytes; 0 means: no bound but memory */
	bool failed;
};

#define BUFFER_MAX(bytes) ((struct buffer){ .max = (bytes) })

char *buffer_reserve(struct buffer *buffer, size_t more); /* room for `more` at data+len, or NULL and failed */
void buffer_append(struct buffer *buffer, const void *data, size_t len);
void buffer_append_bytes(struct buffer *buffer, struct bytes bytes);
void buffer_append_string(struct buffer *buffer, const char *string);
void buffer_append_char(struct buffer *buffer, char c);
void buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_consume(struct buffer *buffer, size_t len); /* drops the first len bytes */
void buffer_clear(struct buffer *buffer); /* len = 0, failed = false; keeps the memory */
void buffer_fini(struct buffer *buffer); /* frees; usable again with the same max */
struct bytes buffer_bytes(const struct buffer *buffer); /* borrowed until the next append */

#endif
