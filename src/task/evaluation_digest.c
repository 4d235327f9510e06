/* The digest that idempotency keys are compared by: SHA-256 of a canonical form of what the client sent, before
 * defaults, so that a change of a default does not turn a repeated request into another one.
 *
 * The canonical form is made for hashing, not for reading: one tag byte per value, then
 *   n t f            null, true, false
 *   i u d            a number, eight bytes, least significant first: as int64_t where its value is one (1.0 and 1 and 1e0 are the
 *                    same), as uint64_t, or as IEEE 754 double
 *   s                a string: length in four bytes, then its bytes
 *   [ … ]   { … }    elements in order; members sorted by the bytes of their names, each name as a string
 * It is injective: every value says where it ends. VERSION must change with it. */
#include <endian.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/text.h"
#include "task/evaluation_reader.h"

#define VERSION 1
#define MEMBERS_ON_STACK 24

struct member {
	struct bytes name;
	yyjson_val *value;
	size_t index; /* keeps members of the same name in order: qsort(3) is not stable */
};

static int compare_members(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	size_t shorter = x->name.len < y->name.len ? x->name.len : y->name.len;
	int order = memcmp(x->name.data, y->name.data, shorter);
	if (order)
		return order;
	if (x->name.len != y->name.len)
		return x->name.len < y->name.len ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

/* A handful of members, nearly always: insertion beats qsort(3) there. */
static void sort_members(struct member *members, size_t count)
{
	if (count > MEMBERS_ON_STACK) {
		qsort(members, count, sizeof(*members), compare_members);
		return;
	}
	for (size_t i = 1; i < count; i++) {
		struct member moved = members[i];
		size_t j = i;
		for (; j > 0 && compare_members(&members[j - 1], &moved) > 0; j--)
			members[j] = members[j - 1];
		members[j] = moved;
	}
}

static void add_word(struct buffer *buffer, char tag, uint64_t word)
{
	char *to = buffer_reserve(buffer, 9);
	if (!to)
		return;
	word = htole64(word);
	to[0] = tag;
	memcpy(to + 1, &word, 8);
	buffer->len += 9;
}

static void add_string(struct buffer *buffer, struct bytes text)
{
	char *to = buffer_reserve(buffer, 5 + text.len);
	if (!to)
		return;
	uint32_t length = htole32((uint32_t)text.len);
	to[0] = 's';
	memcpy(to + 1, &length, 4);
	if (text.len)
		memcpy(to + 5, text.data, text.len);
	buffer->len += 5 + text.len;
}

static void add_number(struct buffer *buffer, yyjson_val *value)
{
	if (yyjson_is_uint(value)) {
		uint64_t word = yyjson_get_uint(value);
		add_word(buffer, word <= INT64_MAX ? 'i' : 'u', word);
		return;
	}
	if (yyjson_is_sint(value)) {
		add_word(buffer, 'i', (uint64_t)yyjson_get_sint(value));
		return;
	}
	double real = yyjson_get_real(value);
	if (real >= -0x1p63 && real < 0x1p63 && real == (double)(int64_t)real) {
		add_word(buffer, 'i', (uint64_t)(int64_t)real);
	} else if (real >= 0x1p63 && real < 0x1p64) {
		add_word(buffer, 'u', (uint64_t)real); /* doubles of this size are whole numbers */
	} else {
		uint64_t word;
		memcpy(&word, &real, sizeof(word));
		add_word(buffer, 'd', word);
	}
}

static void add_value(struct buffer *buffer, yyjson_val *value);

static void add_object(struct buffer *buffer, yyjson_val *value)
{
	struct member on_stack[MEMBERS_ON_STACK];
	struct member *members = on_stack;
	size_t i, count;
	yyjson_val *key, *member;
	if (yyjson_obj_size(value) > MEMBERS_ON_STACK)
		members = alloc_array(yyjson_obj_size(value), sizeof(*members));
	yyjson_obj_foreach(value, i, count, key, member)
	{
		members[i] = (struct member){
			.name = { yyjson_get_str(key), yyjson_get_len(key) },
			.value = member,
			.index = i,
		};
	}
	sort_members(members, count);
	buffer_append_char(buffer, '{');
	for (i = 0; i < count; i++) {
		add_string(buffer, members[i].name);
		add_value(buffer, members[i].value);
	}
	buffer_append_char(buffer, '}');
	if (members != on_stack)
		free(members);
}

/* Recursion is bounded: the only values of the client's own shape are those of `metadata`, whose depth was checked. */
static void add_value(struct buffer *buffer, yyjson_val *value)
{
	size_t i, count;
	yyjson_val *element;
	switch (yyjson_get_type(value)) {
	case YYJSON_TYPE_STR:
		add_string(buffer, (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) });
		break;
	case YYJSON_TYPE_NUM:
		add_number(buffer, value);
		break;
	case YYJSON_TYPE_BOOL:
		buffer_append_char(buffer, yyjson_get_bool(value) ? 't' : 'f');
		break;
	case YYJSON_TYPE_ARR:
		buffer_append_char(buffer, '[');
		yyjson_arr_foreach(value, i, count, element)
		{
			add_value(buffer, element);
		}
		buffer_append_char(buffer, ']');
		break;
	case YYJSON_TYPE_OBJ:
		add_object(buffer, value);
		break;
	default:
		buffer_append_char(buffer, 'n');
		break;
	}
}

bool evaluation_digest(yyjson_val *object, uint8_t ret_digest[static 33])
{
	struct buffer buffer = BUFFER_MAX(0);
	buffer_reserve(&buffer, 2048); /* one allocation for all but long bodies */
	add_value(&buffer, object);
	bool good = !buffer.failed;
	if (good) {
		ret_digest[0] = VERSION;
		sha256(buffer_bytes(&buffer), ret_digest + 1);
	}
	buffer_fini(&buffer);
	return good;
}
