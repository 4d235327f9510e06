/* One function for each kind of value that is laid over another. The depth is bounded by those who parse: templates are YAML
 * of at most YAML_MAX_DEPTH, all else is ours. */
#include "executor/kubernetes/overlay.h"

#include <string.h>

#include "base/alloc.h"

/* What tells the elements of a list apart; NULL: the list is one value. */
static const char *identity_of(const char *list)
{
	static const char *const by_name[] = { "containers", "initContainers", "volumes", "env", "ports",
		"imagePullSecrets" };
	if (strcmp(list, "volumeMounts") == 0)
		return "mountPath";
	for (size_t i = 0; i < ARRAY_SIZE(by_name); i++)
		if (strcmp(list, by_name[i]) == 0)
			return "name";
	return NULL;
}

/* The element of that identity; the list's size: it is not there. */
static size_t index_of(yyjson_mut_val *list, const char *identity, const char *wanted)
{
	size_t index, count;
	yyjson_mut_val *element;
	yyjson_mut_arr_foreach(list, index, count, element)
	{
		const char *own = yyjson_mut_get_str(yyjson_mut_obj_get(element, identity));
		if (own && wanted && strcmp(own, wanted) == 0)
			return index;
	}
	return yyjson_mut_arr_size(list);
}

static yyjson_mut_val *overlay_list(yyjson_mut_doc *doc, yyjson_mut_val *base, yyjson_val *over, const char *identity)
{
	size_t index, count;
	yyjson_val *element;
	yyjson_arr_foreach(over, index, count, element)
	{
		size_t at = index_of(base, identity, yyjson_get_str(yyjson_obj_get(element, identity)));
		yyjson_mut_val *own = yyjson_mut_arr_get(base, at), *merged = overlay(doc, own, element);
		if (!merged || (!own && !yyjson_mut_arr_append(base, merged)))
			return NULL;
		if (own && merged != own)
			yyjson_mut_arr_replace(base, at, merged);
	}
	return base;
}

/* What the member of this name becomes. */
static yyjson_mut_val *overlay_member(yyjson_mut_doc *doc, const char *name, yyjson_mut_val *base, yyjson_val *over)
{
	const char *identity = yyjson_is_arr(over) ? identity_of(name) : NULL;
	if (!identity)
		return overlay(doc, base, over);
	if (!yyjson_mut_is_arr(base))
		base = yyjson_mut_arr(doc);
	return base ? overlay_list(doc, base, over, identity) : NULL;
}

yyjson_mut_val *overlay(yyjson_mut_doc *doc, yyjson_mut_val *base, yyjson_val *over)
{
	if (!yyjson_is_obj(over))
		return yyjson_val_mut_copy(doc, over);
	if (!yyjson_mut_is_obj(base))
		base = yyjson_mut_obj(doc);
	size_t index, count;
	yyjson_val *key, *value;
	yyjson_obj_foreach(over, index, count, key, value)
	{
		const char *name = yyjson_get_str(key);
		yyjson_mut_val *own = yyjson_mut_obj_get(base, name);
		if (yyjson_is_null(value)) {
			yyjson_mut_obj_remove_key(base, name);
			continue;
		}
		yyjson_mut_val *merged = overlay_member(doc, name, own, value);
		if (!merged || !base)
			return NULL;
		if (merged == own)
			continue;
		yyjson_mut_val *copy = yyjson_val_mut_copy(doc, key);
		if (!copy || !yyjson_mut_obj_put(base, copy, merged))
			return NULL;
	}
	return base;
}
