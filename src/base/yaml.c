/* libyaml's events become a yyjson tree, without recursion: the collections that are open stand on a stack of
 * YAML_MAX_DEPTH places. The document that is being built owns all its values, also when reading fails. */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/buffer.h"
#include "base/text.h"

#define LONGEST_NUMBER 64
#define CORE_TAG "tag:yaml.org,2002:"

struct reader {
	yaml_parser_t parser;
	yyjson_mut_doc *doc; /* owned */
	yyjson_mut_val *open[YAML_MAX_DEPTH]; /* owned by doc; the innermost last */
	yyjson_mut_val *keys[YAML_MAX_DEPTH]; /* owned by doc; the key whose value comes next, or NULL */
	size_t depth;
	size_t nodes;
	bool has_root;
};

static int fail(struct err *err, int code, const yaml_mark_t *mark, const char *what)
{
	return err_set(err, code, "line %zu: %s", mark->line + 1, what);
}

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "no memory for the document");
}

static bool one_of(struct bytes text, const char *const words[])
{
	for (size_t i = 0; words[i]; i++)
		if (bytes_is(text, words[i]))
			return true;
	return false;
}

static size_t digits_at(struct bytes text, size_t from)
{
	size_t i = from;
	while (i < text.len && text.data[i] >= '0' && text.data[i] <= '9')
		i++;
	return i - from;
}

/* [-+]? [0-9]+ */
static bool looks_decimal(struct bytes text)
{
	size_t sign = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+');
	size_t digits = digits_at(text, sign);
	return digits > 0 && sign + digits == text.len;
}

/* 0o [0-7]+ and 0x [0-9a-fA-F]+; gives the base, or 0. */
static int based(struct bytes text)
{
	if (text.len < 3 || text.data[0] != '0' || (text.data[1] != 'o' && text.data[1] != 'x'))
		return 0;
	const char *digits = text.data[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF";
	for (size_t i = 2; i < text.len; i++)
		if (text.data[i] == '\0' || !strchr(digits, text.data[i]))
			return 0;
	return text.data[1] == 'o' ? 8 : 16;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool looks_float(struct bytes text)
{
	size_t i = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+');
	size_t before = digits_at(text, i), after = 0;
	i += before;
	if (i < text.len && text.data[i] == '.') {
		after = digits_at(text, i + 1);
		i += 1 + after;
	}
	if (before + after == 0)
		return false;
	if (i < text.len && (text.data[i] == 'e' || text.data[i] == 'E')) {
		i++;
		i += i < text.len && (text.data[i] == '-' || text.data[i] == '+');
		size_t exponent = digits_at(text, i);
		i += exponent;
		if (exponent == 0)
			return false;
	}
	return i == text.len;
}

static int integer(
	struct reader *reader, const yaml_event_t *event, struct bytes text, yyjson_mut_val **ret, struct err *err)
{
	/* The scalar is terminated by libyaml, and has no zero byte inside: it looks like a number. */
	int base = based(text);
	errno = 0;
	if (text.data[0] == '-') {
		long long value = strtoll(text.data, NULL, 10);
		*ret = yyjson_mut_sint(reader->doc, value);
	} else {
		unsigned long long value = strtoull(text.data + (base ? 2 : 0), NULL, base ? base : 10);
		*ret = yyjson_mut_uint(reader->doc, value);
	}
	if (errno == ERANGE)
		return fail(err, -EINVAL, &event->start_mark, "an integer beyond 64 bits; quote it if it is a text");
	return *ret ? 0 : no_memory(err);
}

/* A plain scalar by the core schema. *ret_tag is the short name of the tag that it has by that. */
static int plain(struct reader *reader, const yaml_event_t *event, struct bytes text, yyjson_mut_val **ret,
	const char **ret_tag, struct err *err)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
	static const char *const trues[] = { "true", "True", "TRUE", NULL };
	static const char *const falses[] = { "false", "False", "FALSE", NULL };
	static const char *const specials[] = { ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf",
		"-.INF", ".nan", ".NaN", ".NAN", NULL };
	*ret = NULL;
	if (one_of(text, specials))
		return fail(err, -EINVAL, &event->start_mark, "infinity and not-a-number are not taken");
	if (one_of(text, nulls)) {
		*ret_tag = "null";
		*ret = yyjson_mut_null(reader->doc);
	} else if (one_of(text, trues) || one_of(text, falses)) {
		*ret_tag = "bool";
		*ret = yyjson_mut_bool(reader->doc, one_of(text, trues));
	} else if (looks_decimal(text) || based(text)) {
		*ret_tag = "int";
		return integer(reader, event, text, ret, err);
	} else if (text.len <= LONGEST_NUMBER && looks_float(text)) {
		double value = strtod(text.data, NULL);
		if (!isfinite(value))
			return fail(err, -EINVAL, &event->start_mark, "a number too large; quote it if it is a text");
		*ret_tag = "float";
		*ret = yyjson_mut_real(reader->doc, value);
	} else {
		*ret_tag = "str";
		*ret = yyjson_mut_strncpy(reader->doc, text.data, text.len);
	}
	return *ret ? 0 : no_memory(err);
}

static int scalar(struct reader *reader, const yaml_event_t *event, yyjson_mut_val **ret, struct err *err)
{
	const char *tag = (const char *)event->data.scalar.tag, *resolved = "";
	struct bytes text = { (const char *)event->data.scalar.value, event->data.scalar.length };
	bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (tag && strncmp(tag, CORE_TAG, strlen(CORE_TAG)) == 0)
		tag += strlen(CORE_TAG);
	else if (tag && strcmp(tag, "!") == 0)
		tag = "str";
	else if (tag)
		return fail(err, -EINVAL, &event->start_mark, "a tag that is not of YAML's core schema");
	if (tag ? strcmp(tag, "str") == 0 : !is_plain) {
		*ret = yyjson_mut_strncpy(reader->doc, text.data, text.len);
		return *ret ? 0 : no_memory(err);
	}
	int rc = plain(reader, event, text, ret, &resolved, err);
	if (rc == 0 && tag && strcmp(tag, resolved) != 0) {
		/* An int is a float where the tag says so. */
		if (strcmp(tag, "float") != 0 || strcmp(resolved, "int") != 0)
			return fail(err, -EINVAL, &event->start_mark, "a value that does not fit its tag");
		*ret = yyjson_mut_real(reader->doc, yyjson_mut_get_num(*ret));
		return *ret ? 0 : no_memory(err);
	}
	return rc;
}

/* A key: the scalar's text, whatever it looks like. */
static int key(struct reader *reader, const yaml_event_t *event, struct err *err)
{
	yyjson_mut_val *map = reader->open[reader->depth - 1];
	if (event->type != YAML_SCALAR_EVENT)
		return fail(err, -EINVAL, &event->start_mark, "a key that is not a scalar");
	const char *text = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (event->data.scalar.tag)
		return fail(err, -EINVAL, &event->start_mark, "a key with a tag");
	if (is_plain && len == 2 && memcmp(text, "<<", 2) == 0)
		return fail(err, -EINVAL, &event->start_mark, "merge keys are not taken");
	if (yyjson_mut_obj_getn(map, text, len))
		return fail(err, -EINVAL, &event->start_mark, "a key that the mapping has already");
	if (yyjson_mut_obj_size(map) >= YAML_MAX_KEYS)
		return fail(err, -E2BIG, &event->start_mark, "too many keys in one mapping");
	yyjson_mut_val *value = yyjson_mut_strncpy(reader->doc, text, len);
	reader->keys[reader->depth - 1] = value;
	return value ? 0 : no_memory(err);
}

/* Puts a value where it belongs: under the pending key, at the array's end, or at the root. */
static int place(struct reader *reader, yyjson_mut_val *value, struct err *err)
{
	if (reader->depth == 0) {
		yyjson_mut_doc_set_root(reader->doc, value);
		reader->has_root = true;
		return 0;
	}
	yyjson_mut_val *parent = reader->open[reader->depth - 1];
	if (yyjson_mut_is_arr(parent))
		return yyjson_mut_arr_append(parent, value) ? 0 : no_memory(err);
	yyjson_mut_val *under = reader->keys[reader->depth - 1];
	reader->keys[reader->depth - 1] = NULL;
	return yyjson_mut_obj_add(parent, under, value) ? 0 : no_memory(err);
}

static const char *anchor_of(const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return (const char *)event->data.scalar.anchor;
	case YAML_SEQUENCE_START_EVENT:
		return (const char *)event->data.sequence_start.anchor;
	case YAML_MAPPING_START_EVENT:
		return (const char *)event->data.mapping_start.anchor;
	default:
		return NULL;
	}
}

static int collection(struct reader *reader, const yaml_event_t *event, yyjson_mut_val **ret, struct err *err)
{
	bool is_map = event->type == YAML_MAPPING_START_EVENT;
	const char *tag = (const char *)(is_map ? event->data.mapping_start.tag : event->data.sequence_start.tag);
	if (tag && strcmp(tag, "!") != 0 && strcmp(tag, is_map ? CORE_TAG "map" : CORE_TAG "seq") != 0)
		return fail(err, -EINVAL, &event->start_mark, "a tag that is not of YAML's core schema");
	if (reader->depth == YAML_MAX_DEPTH)
		return fail(err, -E2BIG, &event->start_mark, "nested too deeply");
	*ret = is_map ? yyjson_mut_obj(reader->doc) : yyjson_mut_arr(reader->doc);
	return *ret ? 0 : no_memory(err);
}

/* A scalar, or the start of a collection. */
static int node(struct reader *reader, const yaml_event_t *event, struct err *err)
{
	yyjson_mut_val *value = NULL;
	if (anchor_of(event))
		return fail(err, -EINVAL, &event->start_mark, "anchors are not taken");
	if (++reader->nodes > YAML_MAX_NODES)
		return fail(err, -E2BIG, &event->start_mark, "too many values");
	bool in_map = reader->depth > 0 && yyjson_mut_is_obj(reader->open[reader->depth - 1]);
	if (in_map && !reader->keys[reader->depth - 1])
		return key(reader, event, err);
	bool is_scalar = event->type == YAML_SCALAR_EVENT;
	int rc = is_scalar ? scalar(reader, event, &value, err) : collection(reader, event, &value, err);
	if (rc == 0)
		rc = place(reader, value, err);
	if (rc == 0 && !is_scalar) {
		reader->keys[reader->depth] = NULL;
		reader->open[reader->depth++] = value;
	}
	return rc;
}

static int step(struct reader *reader, const yaml_event_t *event, struct err *err)
{
	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (reader->has_root)
			return fail(err, -EINVAL, &event->start_mark, "a second document");
		return 0;
	case YAML_ALIAS_EVENT:
		return fail(err, -EINVAL, &event->start_mark, "aliases are not taken");
	case YAML_SCALAR_EVENT:
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return node(reader, event, err);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		reader->depth--;
		return 0;
	default:
		return 0;
	}
}

static int syntax_error(const yaml_parser_t *parser, struct err *err)
{
	if (parser->error == YAML_MEMORY_ERROR)
		return no_memory(err);
	if (parser->error == YAML_READER_ERROR)
		return err_set(err, -EINVAL, "byte %zu: %s", parser->problem_offset,
			parser->problem ? parser->problem : "not a text");
	return err_set(err, -EINVAL, "line %zu: %s%s%s", parser->problem_mark.line + 1,
		parser->problem ? parser->problem : "not YAML", parser->context ? ", " : "",
		parser->context ? parser->context : "");
}

static int read_events(struct reader *reader, struct err *err)
{
	bool ended = false;
	int rc = 0;
	while (rc == 0 && !ended) {
		yaml_event_t event;
		if (!yaml_parser_parse(&reader->parser, &event))
			return syntax_error(&reader->parser, err);
		ended = event.type == YAML_STREAM_END_EVENT;
		rc = step(reader, &event, err);
		yaml_event_delete(&event);
	}
	if (rc == 0 && !reader->has_root)
		yyjson_mut_doc_set_root(reader->doc, yyjson_mut_null(reader->doc));
	return rc;
}

int yaml_read(struct bytes text, yyjson_doc **ret_doc, struct err *err)
{
	struct reader reader = { 0 };
	if (text.len > YAML_MAX_BYTES)
		return err_set(err, -E2BIG, "more than %d bytes of YAML", YAML_MAX_BYTES);
	if (!utf8_valid(text))
		return err_set(err, -EINVAL, "not a text in UTF-8");
	if (!yaml_parser_initialize(&reader.parser))
		return no_memory(err);
	yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)(text.data ? text.data : ""), text.len);
	reader.doc = yyjson_mut_doc_new(NULL);
	int rc = reader.doc ? read_events(&reader, err) : no_memory(err);
	yyjson_doc *doc = rc == 0 ? yyjson_mut_doc_imut_copy(reader.doc, NULL) : NULL;
	if (rc == 0 && !doc)
		rc = no_memory(err);
	yyjson_mut_doc_free(reader.doc);
	yaml_parser_delete(&reader.parser);
	if (rc == 0)
		*ret_doc = doc;
	return rc;
}
