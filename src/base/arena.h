/* Memory that is freed together: a list of blocks, no destructors. Zero-initialised is valid and empty. */
#ifndef ASSAY_BASE_ARENA_H
#define ASSAY_BASE_ARENA_H

#include <stddef.h>

#include "base/bytes.h"

struct arena_block;

struct arena {
	struct arena_block *head; /* owned */
	size_t used; /* bytes handed out so far, for those who bound it */
};

void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull)); /* zeroed, 16-aligned */
/* An empty arena's first block has room for so many bytes, in place of the usual 4 KiB: for those that live long, and many of them. */
void arena_begin(struct arena *arena, size_t size);
void *arena_array(struct arena *arena, size_t count, size_t size) __attribute__((returns_nonnull));
struct bytes arena_bytes(struct arena *arena, struct bytes from); /* copy, terminated; absent stays absent */
char *arena_string(struct arena *arena, const char *from); /* NULL gives NULL */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_fini(struct arena *arena); /* frees all; the arena is empty and usable again */

#endif
