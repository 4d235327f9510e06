/* Writing JSON (RFC 8259) straight into a buffer, commas placed by themselves. Reading is yyjson's. */
#ifndef ASSAY_BASE_JSON_H
#define ASSAY_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"

struct json {
	struct buffer *buffer; /* borrowed */
	bool comma; /* the next value needs one before it */
	bool sparse; /* set by the caller: members that would be null are left out */
};

#define JSON_TO(target) ((struct json){ .buffer = (target) })

void json_object(struct json *json);
void json_object_end(struct json *json);
void json_array(struct json *json);
void json_array_end(struct json *json);
void json_key(struct json *json, const char *key); /* key needs no escaping */
void json_null(struct json *json);
void json_bool(struct json *json, bool value);
void json_int(struct json *json, int64_t value);
void json_double(struct json *json, double value); /* shortest round trip; not finite becomes null */
bool json_string(struct json *json, struct bytes text); /* ill-formed UTF-8 becomes U+FFFD; false when any did */
void json_raw(struct json *json, struct bytes value); /* one whole JSON value, trusted */

/* A key and its value at once; an absent string is null. */
void json_member_string(struct json *json, const char *key, struct bytes text);
void json_member_int(struct json *json, const char *key, int64_t value);
void json_member_bool(struct json *json, const char *key, bool value);
void json_member_double(struct json *json, const char *key, double value);
void json_member_null(struct json *json, const char *key);
void json_member_raw(struct json *json, const char *key, struct bytes value);
void json_member_time(struct json *json, const char *key, int64_t us); /* RFC 3339; 0 is null */

#endif
