/* A borrowed run of bytes. `data == NULL` means "absent"; `data != NULL, len == 0` means "empty". */
#ifndef ASSAY_BASE_BYTES_H
#define ASSAY_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct bytes {
	const char *data; /* borrowed; not terminated unless the maker says so */
	size_t len;
};

#define BYTES_NONE ((struct bytes){ NULL, 0 })
#define BYTES_LITERAL(s) ((struct bytes){ (s), sizeof(s) - 1 })

static inline struct bytes bytes_of(const char *string)
{
	return (struct bytes){ string, string ? strlen(string) : 0 };
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool bytes_is(struct bytes a, const char *string)
{
	return bytes_equal(a, bytes_of(string));
}

/* True for equal length and content, in time that depends on the lengths only. */
bool bytes_equal_constant_time(struct bytes a, struct bytes b);

#endif
