/* The language file: see language.h. Everything is checked here, so that an executor can rely on what it gets; everything read lives
 * in one arena. */
#include "task/language.h"

#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/table.h"

#define FILE_MAX (1024 * 1024)
#define LANGUAGES_MAX 256
#define WORDS_MAX 256
#define NAME_MAX_BYTES 64
#define WORD_MAX_BYTES 4096

extern const char languages_yaml[];
extern const size_t languages_yaml_size;

struct language_name {
	struct table_node node; /* key: the name or alias */
	const struct language *language; /* borrowed: of `languages` */
};

struct languages {
	struct arena arena;
	struct language *all; /* the arena's */
	size_t count;
	struct table names; /* of struct language_name, the arena's */
};

struct parsing {
	struct languages *languages; /* borrowed */
	yaml_document_t document;
	const char *file, *language; /* for messages; language: NULL while not in one */
	struct err *err;
};

struct bytes languages_builtin(void)
{
	return (struct bytes){ languages_yaml, languages_yaml_size };
}

/* Where in the file, in which language, what. */
#define FAIL(parsing, node, ...) (err_set((parsing)->err, -EINVAL, __VA_ARGS__), add_place((parsing), (node)), -EINVAL)

static void add_place(struct parsing *parsing, const yaml_node_t *node)
{
	if (parsing->language)
		err_prefix(parsing->err, "language %.64s", parsing->language);
	err_prefix(parsing->err, "%s:%zu", parsing->file, node->start_mark.line + 1);
}

static struct bytes scalar_of(const yaml_node_t *node)
{
	return (struct bytes){ (const char *)node->data.scalar.value, node->data.scalar.length };
}

static int read_string(struct parsing *parsing, const yaml_node_t *node, const char *what, const char **ret_string)
{
	if (node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0)
		return FAIL(parsing, node, "%s must be a string that is not empty", what);
	struct bytes text = scalar_of(node);
	if (text.len > WORD_MAX_BYTES || memchr(text.data, '\0', text.len))
		return FAIL(parsing, node, "%s is too long, or has a zero byte", what);
	*ret_string = arena_bytes(&parsing->languages->arena, text).data;
	return 0;
}

/* A list of strings, terminated by NULL. */
static int read_list(struct parsing *parsing, const yaml_node_t *node, const char *what, const char *const **ret_list)
{
	if (node->type != YAML_SEQUENCE_NODE)
		return FAIL(parsing, node, "%s must be a list of strings", what);
	const yaml_node_item_t *item = node->data.sequence.items.start;
	size_t count = (size_t)(node->data.sequence.items.top - item);
	if (count == 0 || count > WORDS_MAX)
		return FAIL(parsing, node, "%s must have 1 to %d strings", what, WORDS_MAX);
	const char **list = arena_array(&parsing->languages->arena, count + 1, sizeof(*list));
	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *element = yaml_document_get_node(&parsing->document, item[i]);
		int result = read_string(parsing, element, what, &list[i]);
		if (result < 0)
			return result;
	}
	*ret_list = list;
	return 0;
}

static int read_env(struct parsing *parsing, const yaml_node_t *node, const char *const **ret_env)
{
	if (node->type != YAML_MAPPING_NODE)
		return FAIL(parsing, node, "env must map names to values");
	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	size_t count = (size_t)(node->data.mapping.pairs.top - pair);
	if (count > WORDS_MAX)
		return FAIL(parsing, node, "env has more than %d variables", WORDS_MAX);
	const char **env = arena_array(&parsing->languages->arena, count + 1, sizeof(*env));
	for (size_t i = 0; i < count; i++) {
		const yaml_node_t *key = yaml_document_get_node(&parsing->document, pair[i].key);
		const yaml_node_t *value = yaml_document_get_node(&parsing->document, pair[i].value);
		const char *name, *text;
		int result = read_string(parsing, key, "a name in env", &name);
		if (result == 0)
			result = read_string(parsing, value, name, &text);
		if (result < 0)
			return result;
		if (strchr(name, '='))
			return FAIL(parsing, key, "a name in env must not have a \"=\"");
		env[i] = arena_printf(&parsing->languages->arena, "%s=%s", name, text);
	}
	*ret_env = env;
	return 0;
}

/* Every brace opens one of the words that executors replace. */
static int check_words(struct parsing *parsing, const yaml_node_t *node, const char *const *words, bool compiled)
{
	static const char sources[] = "{sources:.";
	for (; *words; words++) {
		const char *word = *words;
		if (strncmp(word, sources, sizeof(sources) - 1) == 0) {
			const char *end = strchr(word, '}');
			if (!end || end[1] || end == word + sizeof(sources) - 1)
				return FAIL(
					parsing, node, "\"%.60s\" must be like {sources:.c}, a word of its own", word);
			continue;
		}
		for (const char *brace = word; (brace = strchr(brace, '{')); brace++) {
			bool binary = strncmp(brace, "{binary}", 8) == 0;
			if (!binary && strncmp(brace, "{entrypoint}", 12) != 0)
				return FAIL(parsing, node, "\"%.60s\" has an unknown word in braces", word);
			if (binary && !compiled)
				return FAIL(parsing, node, "{binary} without a compile command");
		}
	}
	return 0;
}

static int check_source(struct parsing *parsing, const yaml_node_t *node, const char *source)
{
	if (strchr(source, '/') || strcmp(source, ".") == 0 || strcmp(source, "..") == 0 || strlen(source) > 255)
		return FAIL(parsing, node, "source must be the name of a file, without directories");
	return 0;
}

enum { L_ALIASES, L_SOURCE, L_COMPILE, L_RUN, L_ENV, L_PACKAGE, L_IMAGE, L_END };
static const char *const keys[L_END] = { "aliases", "source", "compile", "run", "env", "package", "image" };

/* Sorts the members of a definition into `values`. */
static int find_keys(struct parsing *parsing, const yaml_node_t *node, const yaml_node_t *values[static L_END])
{
	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	for (; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = yaml_document_get_node(&parsing->document, pair->key);
		size_t i = 0;
		while (i < L_END && !(key->type == YAML_SCALAR_NODE && bytes_is(scalar_of(key), keys[i])))
			i++;
		if (i == L_END)
			return FAIL(parsing, key, "unknown key \"%.60s\"",
				key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "?");
		if (values[i])
			return FAIL(parsing, key, "%s is given twice", keys[i]);
		values[i] = yaml_document_get_node(&parsing->document, pair->value);
	}
	return 0;
}

static int read_definition(struct parsing *parsing, const yaml_node_t *node, struct language *language)
{
	const yaml_node_t *values[L_END] = { 0 };
	static const char *const no_aliases[] = { NULL };
	if (node->type != YAML_MAPPING_NODE)
		return FAIL(parsing, node, "must map keys to values");
	int result = find_keys(parsing, node, values);
	for (size_t i = 0; i < L_END && result == 0; i++) {
		if (!values[i] && (i == L_SOURCE || i == L_RUN || i == L_PACKAGE))
			result = FAIL(parsing, node, "%s is missing", keys[i]);
	}
	language->aliases = no_aliases;
	if (result == 0 && values[L_ALIASES])
		result = read_list(parsing, values[L_ALIASES], keys[L_ALIASES], &language->aliases);
	if (result == 0)
		result = read_string(parsing, values[L_SOURCE], keys[L_SOURCE], &language->source);
	if (result == 0)
		result = check_source(parsing, values[L_SOURCE], language->source);
	if (result == 0 && values[L_COMPILE])
		result = read_list(parsing, values[L_COMPILE], keys[L_COMPILE], &language->compile);
	if (result == 0 && values[L_COMPILE])
		result = check_words(parsing, values[L_COMPILE], language->compile, true);
	if (result == 0)
		result = read_list(parsing, values[L_RUN], keys[L_RUN], &language->run);
	if (result == 0)
		result = check_words(parsing, values[L_RUN], language->run, values[L_COMPILE] != NULL);
	if (result == 0 && values[L_ENV])
		result = read_env(parsing, values[L_ENV], &language->env);
	if (result == 0)
		result = read_string(parsing, values[L_PACKAGE], keys[L_PACKAGE], &language->package);
	if (result == 0 && values[L_IMAGE])
		result = read_string(parsing, values[L_IMAGE], keys[L_IMAGE], &language->image);
	return result;
}

static int add_name(struct parsing *parsing, const yaml_node_t *node, const char *text, const struct language *language)
{
	struct bytes name = bytes_of(text);
	bool good = name.len >= 1 && name.len <= NAME_MAX_BYTES;
	for (size_t i = 0; good && i < name.len; i++)
		good = name.data[i] > ' ' && name.data[i] <= '~' && !(name.data[i] >= 'A' && name.data[i] <= 'Z');
	if (!good)
		return FAIL(parsing, node, "a name has 1 to %d visible ASCII characters, no capital letters",
			NAME_MAX_BYTES);
	if (table_find(&parsing->languages->names, name))
		return FAIL(parsing, node, "the name %s is taken already", text);
	struct language_name *entry = arena_alloc(&parsing->languages->arena, sizeof(*entry));
	entry->node.key = name;
	entry->language = language;
	table_insert(&parsing->languages->names, &entry->node);
	return 0;
}

static int read_language(struct parsing *parsing, const yaml_node_pair_t *pair, struct language *language)
{
	const yaml_node_t *key = yaml_document_get_node(&parsing->document, pair->key);
	const yaml_node_t *value = yaml_document_get_node(&parsing->document, pair->value);
	int result = read_string(parsing, key, "a language's name", &language->name);
	if (result < 0)
		return result;
	parsing->language = language->name;
	result = read_definition(parsing, value, language);
	if (result == 0)
		result = add_name(parsing, key, language->name, language);
	for (const char *const *alias = language->aliases; result == 0 && *alias; alias++)
		result = add_name(parsing, key, *alias, language);
	parsing->language = NULL;
	return result;
}

static int read_root(struct parsing *parsing)
{
	struct languages *languages = parsing->languages;
	const yaml_node_t *root = yaml_document_get_root_node(&parsing->document);
	if (!root)
		return err_set(parsing->err, -EINVAL, "%s: is empty", parsing->file);
	if (root->type != YAML_MAPPING_NODE)
		return FAIL(parsing, root, "must map names of languages to their definitions");
	const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
	size_t count = (size_t)(root->data.mapping.pairs.top - pair);
	if (count > LANGUAGES_MAX)
		return FAIL(parsing, root, "has more than %d languages", LANGUAGES_MAX);
	languages->all = arena_array(&languages->arena, count + 1, sizeof(*languages->all));
	languages->count = count;
	for (size_t i = 0; i < count; i++) {
		int result = read_language(parsing, &pair[i], &languages->all[i]);
		if (result < 0)
			return result;
	}
	return 0;
}

static int load(struct parsing *parsing, struct bytes text)
{
	yaml_parser_t parser;
	if (!yaml_parser_initialize(&parser))
		return err_set(parsing->err, -ENOMEM, "%s: no memory", parsing->file);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.len);
	int result = 0;
	if (!yaml_parser_load(&parser, &parsing->document)) {
		result = err_set(parsing->err, -EINVAL, "%s:%zu: is not YAML: %s", parsing->file,
			parser.problem_mark.line + 1, parser.problem ? parser.problem : "unreadable");
	} else {
		result = read_root(parsing);
		yaml_document_delete(&parsing->document);
	}
	yaml_parser_delete(&parser);
	return result;
}

int languages_parse(struct bytes text, const char *name, struct languages **ret_languages, struct err *err)
{
	struct err local = { 0 }; /* messages are built up, also where nobody wants them */
	if (text.len > FILE_MAX)
		return err_set(err, -EFBIG, "%s: has more than %d bytes", name, FILE_MAX);
	struct languages *languages = alloc(sizeof(*languages));
	struct parsing parsing = { .languages = languages, .file = name, .err = err ? err : &local };
	int result = load(&parsing, text.data ? text : BYTES_LITERAL(""));
	if (result < 0) {
		languages_free(languages);
		return result;
	}
	*ret_languages = languages;
	return 0;
}

void languages_free(struct languages *languages)
{
	if (!languages)
		return;
	table_fini(&languages->names);
	arena_fini(&languages->arena);
	free(languages);
}

const struct language *languages_find(const struct languages *languages, struct bytes name)
{
	struct table_node *node = table_find(&languages->names, name);
	return node ? CONTAINER_OF(node, struct language_name, node)->language : NULL;
}

size_t languages_count(const struct languages *languages)
{
	return languages->count;
}

const struct language *languages_at(const struct languages *languages, size_t index)
{
	return &languages->all[index];
}
