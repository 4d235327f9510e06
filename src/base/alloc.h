/* Allocation. A small object of the program's own ends the process when memory is gone: everything that
 * was accepted is in the store, and a restart recovers it. What a user sizes goes through struct buffer,
 * which fails instead. */
#ifndef ASSAY_BASE_ALLOC_H
#define ASSAY_BASE_ALLOC_H

#include <stddef.h>

#include "base/bytes.h"

void *alloc(size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed; free() it */
void *alloc_array(size_t count, size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed, overflow-checked */
void *realloc_array(void *old, size_t count, size_t size) __attribute__((returns_nonnull));
char *string_copy(const char *string); /* NULL gives NULL */
char *bytes_copy_string(struct bytes bytes); /* terminated copy; absent gives NULL */

/* Sets *pointer to NULL and returns what it held: hands ownership on. */
#define STEAL(pointer) \
	({ \
		__typeof__(pointer) stolen_ = (pointer); \
		(pointer) = NULL; \
		stolen_; \
	})

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define CLEANUP(function) __attribute__((cleanup(function)))

#endif
