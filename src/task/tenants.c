/* Reads the file of tenants; all that it says lives in one arena. */
#include "task/tenants.h"

#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/table.h"
#include "base/text.h"
#include "base/yaml.h"

#define TENANT_NAME_MAX 63 /* as in the file of tokens */
#define TENANTS_MAX YAML_MAX_KEYS
#define COUNT_MAX 1000000000.0
#define WEIGHT_MIN 0.001
#define WEIGHT_MAX 1000.0

struct tenant_entry {
	struct table_node node;
	struct tenant_limits limits;
};

struct tenants {
	struct arena arena;
	struct table entries;
	struct tenant_limits defaults;
};

struct place {
	const char *file, *tenant;
	struct err *err;
};

static const struct tenant_limits unlimited = { .weight = 1 };

static int read_number(
	const struct place *place, const char *key, yyjson_val *value, double min, double max, double *to)
{
	double number = yyjson_is_num(value) ? yyjson_get_num(value) : -1;
	if (number < min || number > max)
		return err_set(place->err, -EINVAL, "%s: tenant %s: %s must be a number from %g to %g", place->file,
			place->tenant, key, min, max);
	*to = number;
	return 0;
}

static int read_count(const struct place *place, const char *key, yyjson_val *value, int64_t *to)
{
	double number;
	int result = read_number(place, key, value, 0, COUNT_MAX, &number);
	if (result == 0 && !yyjson_is_int(value))
		return err_set(place->err, -EINVAL, "%s: tenant %s: %s must be a whole number", place->file,
			place->tenant, key);
	if (result == 0)
		*to = (int64_t)number;
	return result;
}

static int read_limits(const struct place *place, yyjson_val *object, struct tenant_limits *limits)
{
	size_t i, count;
	yyjson_val *key, *value;
	if (!yyjson_is_obj(object))
		return err_set(place->err, -EINVAL, "%s: tenant %s: must map queued, running, rate, weight to numbers",
			place->file, place->tenant);
	yyjson_obj_foreach(object, i, count, key, value)
	{
		const char *name = yyjson_get_str(key);
		struct bytes word = bytes_of(name);
		int result;
		if (bytes_is(word, "queued"))
			result = read_count(place, name, value, &limits->queued);
		else if (bytes_is(word, "running"))
			result = read_count(place, name, value, &limits->running);
		else if (bytes_is(word, "rate"))
			result = read_number(place, name, value, 0, COUNT_MAX, &limits->rate);
		else if (bytes_is(word, "weight"))
			result = read_number(place, name, value, WEIGHT_MIN, WEIGHT_MAX, &limits->weight);
		else
			result = err_set(place->err, -EINVAL,
				"%s: tenant %s: \"%.64s\" is none of queued, running, rate, weight", place->file,
				place->tenant, name);
		if (result < 0)
			return result;
	}
	return 0;
}

static int read_tenant(struct tenants *tenants, struct place *place, yyjson_val *key, yyjson_val *value)
{
	struct bytes name = { yyjson_get_str(key), yyjson_get_len(key) };
	if (name.len == 0 || name.len > TENANT_NAME_MAX || !utf8_valid(name) || memchr(name.data, 0, name.len))
		return err_set(place->err, -EINVAL, "%s: a tenant's name has 1 to %d bytes of UTF-8", place->file,
			TENANT_NAME_MAX);
	struct tenant_entry *entry = arena_alloc(&tenants->arena, sizeof(*entry));
	entry->node.key = arena_bytes(&tenants->arena, name);
	entry->limits = tenants->defaults;
	place->tenant = entry->node.key.data;
	int result = read_limits(place, value, &entry->limits);
	if (result == 0)
		table_insert(&tenants->entries, &entry->node);
	return result;
}

static int read_root(struct tenants *tenants, struct place *place, yyjson_val *root)
{
	size_t i, count;
	yyjson_val *key, *value;
	if (yyjson_is_null(root))
		return 0;
	yyjson_val *all = yyjson_obj_get(root, "tenants");
	if (yyjson_obj_size(root) != 1 || !yyjson_is_obj(all))
		return err_set(place->err, -EINVAL, "%s: must have one key, tenants, a mapping of names to limits",
			place->file);
	if (yyjson_obj_size(all) > TENANTS_MAX)
		return err_set(place->err, -E2BIG, "%s: has more than %d tenants", place->file, TENANTS_MAX);
	yyjson_obj_foreach(all, i, count, key, value)
	{
		int result = read_tenant(tenants, place, key, value);
		if (result < 0)
			return result;
	}
	return 0;
}

int tenants_parse(struct bytes text, const char *name, const struct tenant_limits *defaults,
	struct tenants **ret_tenants, struct err *err)
{
	struct err local = { 0 }; /* messages are built up, also where nobody wants them */
	yyjson_doc *document;
	err = err ? err : &local;
	if (yaml_read(text, &document, err) < 0)
		return err_prefix(err, "%s", name);
	struct tenants *tenants = alloc(sizeof(*tenants));
	tenants->defaults = *defaults;
	struct place place = { .file = name, .err = err };
	int result = read_root(tenants, &place, yyjson_doc_get_root(document));
	yyjson_doc_free(document);
	if (result < 0) {
		tenants_free(tenants);
		return result;
	}
	*ret_tenants = tenants;
	return 0;
}

void tenants_free(struct tenants *tenants)
{
	if (!tenants)
		return;
	table_fini(&tenants->entries);
	arena_fini(&tenants->arena);
	free(tenants);
}

const struct tenant_limits *tenants_find(const struct tenants *tenants, struct bytes tenant)
{
	if (!tenants)
		return &unlimited;
	struct table_node *node = table_find(&tenants->entries, tenant);
	return node ? &CONTAINER_OF(node, struct tenant_entry, node)->limits : &tenants->defaults;
}
