/* UUIDs of version 7 (RFC 9562): time-ordered, made here, strictly increasing within a generator. */
#ifndef ASSAY_BASE_UUID_H
#define ASSAY_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct uuid {
	uint8_t bytes[16]; /* network order: memcmp sorts by time */
};

#define UUID_TEXT_SIZE 37

struct uuid_generator {
	int64_t last_ms;
	uint64_t counter;
	uint8_t random[252]; /* from the kernel, fetched many at a time … */
	uint8_t left; /* … of which so many, the first, have not been given out */
};

struct uuid uuid_new(struct uuid_generator *generator);
int uuid_compare(const struct uuid *a, const struct uuid *b);
bool uuid_is_nil(const struct uuid *uuid);
char *uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_SIZE]); /* lower case, with dashes */
/* The 36-character form, any case. */
bool uuid_parse(struct bytes text, struct uuid *ret_uuid);

/* RFC 4648 base32 in lower case without padding: 16 bytes become 26 characters (no terminator written). */
#define BASE32_UUID_LENGTH 26
void base32_from_uuid(const struct uuid *uuid, char text[static BASE32_UUID_LENGTH]);
bool base32_to_uuid(struct bytes text, struct uuid *ret_uuid); /* canonical form only */

#endif
