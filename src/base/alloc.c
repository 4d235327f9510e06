/* Allocation that either succeeds or ends the process: see alloc.h for why that is safe here. */
#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says so without allocating, and leaves a core where cores are wanted. */
static void __attribute__((noreturn)) out_of_memory(void)
{
	fputs("out of memory\n", stderr);
	abort();
}

void *alloc(size_t size)
{
	return alloc_array(1, size);
}

void *alloc_array(size_t count, size_t size)
{
	/* calloc may give NULL for nothing, which is no lack of memory. */
	void *memory = count == 0 || size == 0 ? calloc(1, 1) : calloc(count, size);
	if (!memory)
		out_of_memory();
	return memory;
}

void *realloc_array(void *old, size_t count, size_t size)
{
	void *memory = count == 0 || size == 0 ? realloc(old, 1) : reallocarray(old, count, size);
	if (!memory)
		out_of_memory();
	return memory;
}

char *string_copy(const char *string)
{
	return bytes_copy_string(bytes_of(string));
}

char *bytes_copy_string(struct bytes bytes)
{
	if (!bytes.data)
		return NULL;
	char *copy = alloc_array(bytes.len + 1, 1);
	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);
	return copy;
}
