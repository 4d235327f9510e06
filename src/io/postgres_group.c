/* Groups: parameters written in PostgreSQL's binary formats one after the other into one buffer, and results read from
 * them. The formats are those of each type's send and receive functions (src/backend/utils/adt: int.c, float.c,
 * timestamp.c, uuid.c, arrayfuncs.c, jsonb.c): big-endian; a timestamp is microseconds since 2000-01-01; jsonb is a
 * byte of version, 1, and text. */
#include "io/postgres_internal.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define EPOCH_US INT64_C(946684800000000) /* 2000-01-01 in microseconds since 1970 */
#define JSONB_VERSION 1
#define VALUES_MAX (((size_t)1 << 30) - (1 << 16)) /* PostgreSQL takes no message of 1 GiB or more */

/* An array's head: dimensions, has-null flag, type of its elements, then length and lower bound of the one
 * dimension. */
#define ARRAY_HEAD 20
#define ARRAY_HEAD_EMPTY 12

static char *store32(char *to, uint32_t value)
{
	value = htobe32(value);
	return (char *)memcpy(to, &value, sizeof(value)) + sizeof(value);
}

static uint64_t bits_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* === groups === */

void postgres_group_forget_results(struct postgres_group *group)
{
	for (size_t i = 0; i < POSTGRES_GROUP_MAX; i++) {
		PQclear(group->results[i]);
		group->results[i] = NULL;
	}
	group->answered = 0;
	group->stale = false;
	group->sqlstate[0] = '\0';
	group->err = (struct err){ 0 };
	group->outcome = POSTGRES_OK;
}

void postgres_group_fail(struct postgres_group *group, enum postgres_outcome outcome, int code, const struct err *why)
{
	postgres_group_forget_results(group);
	group->outcome = outcome;
	err_set(&group->err, code, "%s", why->message);
}

void postgres_group_reset(struct postgres_group *group)
{
	postgres_group_forget_results(group);
	group->call_count = group->parameter_count = 0;
	buffer_clear(&group->values);
}

void postgres_group_fini(struct postgres_group *group)
{
	postgres_group_reset(group);
	buffer_fini(&group->values);
}

void postgres_group_add(struct postgres_group *group, const struct postgres_statement *statement)
{
	assert(group->call_count < POSTGRES_GROUP_MAX);
	group->values.max = VALUES_MAX;
	group->calls[group->call_count++] =
		(struct postgres_call){ .statement = statement, .first_parameter = group->parameter_count };
}

/* === parameters === */

/* Begins a parameter of `length` bytes, -1 for NULL; where they go, or NULL when there is no room. */
static char *parameter(struct postgres_group *group, int length)
{
	size_t size = length > 0 ? (size_t)length : 0;
	assert(group->call_count > 0 && group->parameter_count < POSTGRES_PARAMETERS_MAX);
	char *to = buffer_reserve(&group->values, size);
	group->parameters[group->parameter_count].offset = group->values.len;
	group->parameters[group->parameter_count].length = length;
	group->parameter_count++;
	group->calls[group->call_count - 1].parameter_count++;
	if (to)
		group->values.len += size;
	return to;
}

/* One of a fixed size, as PostgreSQL has it in binary. */
static void put(struct postgres_group *group, const void *binary, size_t size)
{
	char *to = parameter(group, (int)size);
	if (to)
		memcpy(to, binary, size);
}

void postgres_put_null(struct postgres_group *group)
{
	parameter(group, -1);
}

void postgres_put_bool(struct postgres_group *group, bool value)
{
	put(group, &value, 1);
}

void postgres_put_int2(struct postgres_group *group, int16_t value)
{
	put(group, &(uint16_t){ htobe16((uint16_t)value) }, sizeof(value));
}

void postgres_put_int4(struct postgres_group *group, int32_t value)
{
	put(group, &(uint32_t){ htobe32((uint32_t)value) }, sizeof(value));
}

void postgres_put_int8(struct postgres_group *group, int64_t value)
{
	put(group, &(uint64_t){ htobe64((uint64_t)value) }, sizeof(value));
}

void postgres_put_float8(struct postgres_group *group, double value)
{
	postgres_put_int8(group, (int64_t)bits_of(value));
}

void postgres_put_uuid(struct postgres_group *group, const struct uuid *value)
{
	put(group, value->bytes, sizeof(value->bytes));
}

void postgres_put_text(struct postgres_group *group, struct bytes value)
{
	if (value.len > VALUES_MAX)
		group->values.failed = true;
	char *to = parameter(group, value.data && !group->values.failed ? (int)value.len : -1);
	if (to && value.data && value.len > 0)
		memcpy(to, value.data, value.len);
}

void postgres_put_jsonb(struct postgres_group *group, struct bytes value)
{
	if (value.len >= VALUES_MAX)
		group->values.failed = true;
	char *to = parameter(group, value.data && !group->values.failed ? (int)value.len + 1 : -1);
	if (!to || !value.data)
		return;
	*to = JSONB_VERSION;
	if (value.len > 0)
		memcpy(to + 1, value.data, value.len);
}

void postgres_put_time(struct postgres_group *group, int64_t us)
{
	if (us == 0)
		postgres_put_null(group);
	else
		postgres_put_int8(group, us - EPOCH_US);
}

/* === arrays === */

struct postgres_array postgres_array_begin(struct postgres_group *group, enum postgres_type type)
{
	struct postgres_array array = { .group = group, .type = type };
	parameter(group, ARRAY_HEAD); /* the length and the head are set at the end */
	array.start = group->parameters[group->parameter_count - 1].offset;
	return array;
}

/* Begins an element; where its bytes go, or NULL when there is no room. */
static char *element(struct postgres_array *array, size_t length)
{
	struct buffer *values = &array->group->values;
	char *to = buffer_reserve(values, sizeof(int32_t) + length);
	if (!to)
		return NULL;
	values->len += sizeof(int32_t) + length;
	array->count++;
	array->has_value = true;
	return store32(to, (uint32_t)length);
}

void postgres_array_null(struct postgres_array *array)
{
	bool has_value = array->has_value;
	char *to = element(array, 0);
	if (to)
		store32(to - sizeof(int32_t), UINT32_MAX);
	array->has_null = true;
	array->has_value = has_value;
}

/* As put(). */
static void append(struct postgres_array *array, const void *binary, size_t size)
{
	char *to = element(array, size);
	if (to)
		memcpy(to, binary, size);
}

void postgres_array_bool(struct postgres_array *array, bool value)
{
	append(array, &value, 1);
}

void postgres_array_int2(struct postgres_array *array, int16_t value)
{
	append(array, &(uint16_t){ htobe16((uint16_t)value) }, sizeof(value));
}

void postgres_array_int4(struct postgres_array *array, int32_t value)
{
	append(array, &(uint32_t){ htobe32((uint32_t)value) }, sizeof(value));
}

void postgres_array_int8(struct postgres_array *array, int64_t value)
{
	append(array, &(uint64_t){ htobe64((uint64_t)value) }, sizeof(value));
}

void postgres_array_float8(struct postgres_array *array, double value)
{
	postgres_array_int8(array, (int64_t)bits_of(value));
}

void postgres_array_uuid(struct postgres_array *array, const struct uuid *value)
{
	if (uuid_is_nil(value)) {
		postgres_array_null(array);
		return;
	}
	append(array, value->bytes, sizeof(value->bytes));
}

void postgres_array_text(struct postgres_array *array, struct bytes value)
{
	if (!value.data) {
		postgres_array_null(array);
		return;
	}
	size_t version = array->type == POSTGRES_JSONB;
	if (value.len >= VALUES_MAX)
		array->group->values.failed = true;
	char *to = element(array, value.len + version);
	if (!to)
		return;
	if (version)
		*to++ = JSONB_VERSION;
	if (value.len > 0)
		memcpy(to, value.data, value.len);
}

void postgres_array_time(struct postgres_array *array, int64_t us)
{
	if (us == 0)
		postgres_array_null(array);
	else
		postgres_array_int8(array, us - EPOCH_US);
}

void postgres_array_end(struct postgres_array *array)
{
	struct postgres_group *group = array->group;
	struct buffer *values = &group->values;
	if (values->failed)
		return;
	bool is_empty = array->count == 0;
	char *to = values->data + array->start;
	to = store32(to, is_empty ? 0 : 1);
	to = store32(to, array->has_null);
	to = store32(to, (uint32_t)array->type);
	if (is_empty) {
		values->len = array->start + ARRAY_HEAD_EMPTY;
	} else {
		to = store32(to, (uint32_t)array->count);
		store32(to, 1);
	}
	group->parameters[group->parameter_count - 1].length = (int)(values->len - array->start);
}

void postgres_array_end_sparse(struct postgres_array *array)
{
	struct postgres_group *group = array->group;
	if (array->has_value || group->values.failed) {
		postgres_array_end(array);
		return;
	}
	group->values.len = array->start;
	group->parameters[group->parameter_count - 1].length = -1;
}

/* === results === */

bool postgres_get_null(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column);
}

bool postgres_get_bool(const PGresult *result, int row, int column)
{
	return PQgetlength(result, row, column) == 1 && *PQgetvalue(result, row, column) != 0;
}

int64_t postgres_get_int(const PGresult *result, int row, int column)
{
	const char *value = PQgetvalue(result, row, column);
	uint16_t two;
	uint32_t four;
	uint64_t eight;
	switch (PQgetlength(result, row, column)) {
	case sizeof(two):
		memcpy(&two, value, sizeof(two));
		return (int16_t)be16toh(two);
	case sizeof(four):
		memcpy(&four, value, sizeof(four));
		return (int32_t)be32toh(four);
	case sizeof(eight):
		memcpy(&eight, value, sizeof(eight));
		return (int64_t)be64toh(eight);
	default:
		return 0;
	}
}

double postgres_get_float8(const PGresult *result, int row, int column)
{
	int64_t bits = postgres_get_int(result, row, column);
	double value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

struct uuid postgres_get_uuid(const PGresult *result, int row, int column)
{
	struct uuid uuid = { 0 };
	if (PQgetlength(result, row, column) == sizeof(uuid.bytes))
		memcpy(uuid.bytes, PQgetvalue(result, row, column), sizeof(uuid.bytes));
	return uuid;
}

struct bytes postgres_get_text(const PGresult *result, int row, int column)
{
	if (PQgetisnull(result, row, column))
		return BYTES_NONE;
	struct bytes value = { PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column) };
	if (PQftype(result, column) == POSTGRES_JSONB && value.len > 0) {
		value.data++;
		value.len--;
	}
	return value;
}

int64_t postgres_get_time(const PGresult *result, int row, int column)
{
	if (PQgetisnull(result, row, column))
		return 0;
	int64_t us = postgres_get_int(result, row, column);
	return us > INT64_MAX - EPOCH_US ? INT64_MAX : us + EPOCH_US; /* infinity stays it */
}
