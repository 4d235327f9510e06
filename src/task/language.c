/* The language file: see language.h. Everything is checked here, so that an executor can rely on what it gets;
 * everything read lives in one arena. */
#include "task/language.h"

#include <errno.h>
#include <stdlib.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/table.h"
#include "base/yaml.h"

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
	const char *file, *language; /* for messages; language: NULL while not in one */
	struct err *err;
};

struct bytes languages_builtin(void)
{
	return (struct bytes){ languages_yaml, languages_yaml_size };
}

/* Which file, which language, what. */
#define FAIL(parsing, ...) (err_set((parsing)->err, -EINVAL, __VA_ARGS__), add_place(parsing), -EINVAL)

static void add_place(struct parsing *parsing)
{
	if (parsing->language)
		err_prefix(parsing->err, "language %.64s", parsing->language);
	err_prefix(parsing->err, "%s", parsing->file);
}

static int read_string(struct parsing *parsing, yyjson_val *value, const char *what, const char **ret_string)
{
	struct bytes text = { yyjson_get_str(value), yyjson_get_len(value) };
	if (!text.data || text.len == 0)
		return FAIL(parsing, "%.64s must be a string that is not empty (quote what looks like a number)", what);
	if (text.len > WORD_MAX_BYTES || memchr(text.data, '\0', text.len))
		return FAIL(parsing, "%.64s is too long, or has a zero byte", what);
	*ret_string = arena_bytes(&parsing->languages->arena, text).data;
	return 0;
}

/* A list of strings, terminated by NULL. */
static int read_list(struct parsing *parsing, yyjson_val *value, const char *what, const char *const **ret_list)
{
	size_t i, count = yyjson_arr_size(value);
	yyjson_val *element;
	if (!yyjson_is_arr(value))
		return FAIL(parsing, "%s must be a list of strings", what);
	if (count == 0 || count > WORDS_MAX)
		return FAIL(parsing, "%s must have 1 to %d strings", what, WORDS_MAX);
	const char **list = arena_array(&parsing->languages->arena, count + 1, sizeof(*list));
	yyjson_arr_foreach(value, i, count, element)
	{
		int result = read_string(parsing, element, what, &list[i]);
		if (result < 0)
			return result;
	}
	*ret_list = list;
	return 0;
}

static int read_env(struct parsing *parsing, yyjson_val *value, const char *const **ret_env)
{
	size_t i, count = yyjson_obj_size(value);
	yyjson_val *key, *member;
	if (!yyjson_is_obj(value))
		return FAIL(parsing, "env must map names to values");
	if (count > WORDS_MAX)
		return FAIL(parsing, "env has more than %d variables", WORDS_MAX);
	const char **env = arena_array(&parsing->languages->arena, count + 1, sizeof(*env));
	yyjson_obj_foreach(value, i, count, key, member)
	{
		const char *name, *text;
		int result = read_string(parsing, key, "a name in env", &name);
		if (result == 0)
			result = read_string(parsing, member, name, &text);
		if (result < 0)
			return result;
		if (strchr(name, '='))
			return FAIL(parsing, "a name in env must not have a \"=\"");
		env[i] = arena_printf(&parsing->languages->arena, "%s=%s", name, text);
	}
	*ret_env = env;
	return 0;
}

/* Every brace opens one of the words that executors replace. */
static int check_words(struct parsing *parsing, const char *const *words, bool compiled)
{
	static const char sources[] = "{sources:.";
	for (; *words; words++) {
		const char *word = *words;
		if (strncmp(word, sources, sizeof(sources) - 1) == 0) {
			const char *end = strchr(word, '}');
			if (!end || end[1] || end == word + sizeof(sources) - 1)
				return FAIL(parsing, "\"%.60s\" must be like {sources:.c}, a word of its own", word);
			continue;
		}
		for (const char *brace = word; (brace = strchr(brace, '{')); brace++) {
			bool binary = strncmp(brace, "{binary}", 8) == 0;
			if (!binary && strncmp(brace, "{entrypoint}", 12) != 0)
				return FAIL(parsing, "\"%.60s\" has an unknown word in braces", word);
			if (binary && !compiled)
				return FAIL(parsing, "{binary} without a compile command");
		}
	}
	return 0;
}

static int check_source(struct parsing *parsing, const char *source)
{
	if (strchr(source, '/') || strcmp(source, ".") == 0 || strcmp(source, "..") == 0 || strlen(source) > 255)
		return FAIL(parsing, "source must be the name of a file, without directories");
	return 0;
}

enum { L_ALIASES, L_SOURCE, L_COMPILE, L_RUN, L_ENV, L_PACKAGE, L_IMAGE, L_REPORT, L_END };
static const char *const keys[L_END] = { "aliases", "source", "compile", "run", "env", "package", "image", "report" };

/* Sorts the members of a definition into `values`. */
static int find_keys(struct parsing *parsing, yyjson_val *definition, yyjson_val *values[static L_END])
{
	size_t at, count;
	yyjson_val *key, *member;
	yyjson_obj_foreach(definition, at, count, key, member)
	{
		size_t i = 0;
		while (i < L_END && !yyjson_equals_str(key, keys[i]))
			i++;
		if (i == L_END)
			return FAIL(parsing, "unknown key \"%.60s\"", yyjson_get_str(key));
		values[i] = member;
	}
	return 0;
}

static int read_report(struct parsing *parsing, yyjson_val *value, enum language_report *ret_report)
{
	static const char *const words[] = { [LANGUAGE_REPORT_WRAPPER] = "wrapper",
		[LANGUAGE_REPORT_WATCH] = "watch",
		[LANGUAGE_REPORT_PUBLISH] = "publish" };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!yyjson_equals_str(value, words[i]))
			continue;
		*ret_report = (enum language_report)i;
		return 0;
	}
	return FAIL(parsing, "report must be wrapper, watch or publish");
}

/* What must be there, and what must not. */
static int check_keys(struct parsing *parsing, yyjson_val *const values[static L_END], bool is_image)
{
	for (size_t i = 0; i < L_END; i++) {
		bool needed = i == L_SOURCE || (is_image ? i == L_IMAGE : i == L_RUN || i == L_PACKAGE);
		if (!values[i] && needed)
			return FAIL(parsing, "%s is missing", keys[i]);
	}
	if (is_image && values[L_COMPILE])
		return FAIL(parsing, "compile needs the wrapper: an image that runs as it is has one step");
	return 0;
}

static int read_definition(struct parsing *parsing, yyjson_val *definition, struct language *language)
{
	yyjson_val *values[L_END] = { 0 };
	static const char *const none[] = { NULL };
	language->aliases = language->run = none;
	if (!yyjson_is_obj(definition))
		return FAIL(parsing, "must map keys to values");
	int result = find_keys(parsing, definition, values);
	if (result == 0 && values[L_REPORT])
		result = read_report(parsing, values[L_REPORT], &language->report);
	if (result == 0)
		result = check_keys(parsing, values, language->report != LANGUAGE_REPORT_WRAPPER);
	if (result == 0 && values[L_ALIASES])
		result = read_list(parsing, values[L_ALIASES], keys[L_ALIASES], &language->aliases);
	if (result == 0)
		result = read_string(parsing, values[L_SOURCE], keys[L_SOURCE], &language->source);
	if (result == 0)
		result = check_source(parsing, language->source);
	if (result == 0 && values[L_COMPILE])
		result = read_list(parsing, values[L_COMPILE], keys[L_COMPILE], &language->compile);
	if (result == 0 && values[L_COMPILE])
		result = check_words(parsing, language->compile, true);
	if (result == 0 && values[L_RUN])
		result = read_list(parsing, values[L_RUN], keys[L_RUN], &language->run);
	if (result == 0)
		result = check_words(parsing, language->run, values[L_COMPILE] != NULL);
	if (result == 0 && values[L_ENV])
		result = read_env(parsing, values[L_ENV], &language->env);
	if (result == 0 && values[L_PACKAGE])
		result = read_string(parsing, values[L_PACKAGE], keys[L_PACKAGE], &language->package);
	if (result == 0 && values[L_IMAGE])
		result = read_string(parsing, values[L_IMAGE], keys[L_IMAGE], &language->image);
	return result;
}

static int add_name(struct parsing *parsing, const char *text, const struct language *language)
{
	struct bytes name = bytes_of(text);
	bool good = name.len >= 1 && name.len <= NAME_MAX_BYTES;
	for (size_t i = 0; good && i < name.len; i++)
		good = name.data[i] > ' ' && name.data[i] <= '~' && !(name.data[i] >= 'A' && name.data[i] <= 'Z');
	if (!good)
		return FAIL(parsing, "a name has 1 to %d visible ASCII characters, no capital letters", NAME_MAX_BYTES);
	if (table_find(&parsing->languages->names, name))
		return FAIL(parsing, "the name %s is taken already", text);
	struct language_name *entry = arena_alloc(&parsing->languages->arena, sizeof(*entry));
	entry->node.key = name;
	entry->language = language;
	table_insert(&parsing->languages->names, &entry->node);
	return 0;
}

static int read_language(struct parsing *parsing, yyjson_val *key, yyjson_val *definition, struct language *language)
{
	int result = read_string(parsing, key, "a language's name", &language->name);
	if (result < 0)
		return result;
	parsing->language = language->name;
	result = read_definition(parsing, definition, language);
	if (result == 0)
		result = add_name(parsing, language->name, language);
	for (const char *const *alias = language->aliases; result == 0 && *alias; alias++)
		result = add_name(parsing, *alias, language);
	parsing->language = NULL;
	return result;
}

static int read_root(struct parsing *parsing, yyjson_val *root)
{
	struct languages *languages = parsing->languages;
	size_t i, count = yyjson_obj_size(root);
	yyjson_val *key, *definition;
	if (!yyjson_is_obj(root))
		return FAIL(parsing, "must map names of languages to their definitions");
	if (count > LANGUAGES_MAX)
		return FAIL(parsing, "has more than %d languages", LANGUAGES_MAX);
	languages->all = arena_array(&languages->arena, count + 1, sizeof(*languages->all));
	languages->count = count;
	yyjson_obj_foreach(root, i, count, key, definition)
	{
		int result = read_language(parsing, key, definition, &languages->all[i]);
		if (result < 0)
			return result;
	}
	return 0;
}

int languages_parse(struct bytes text, const char *name, struct languages **ret_languages, struct err *err)
{
	struct err local = { 0 }; /* messages are built up, also where nobody wants them */
	yyjson_doc *document;
	err = err ? err : &local;
	if (yaml_read(text, &document, err) < 0)
		return err_prefix(err, "%s", name);
	struct languages *languages = alloc(sizeof(*languages));
	struct parsing parsing = { .languages = languages, .file = name, .err = err };
	int result = read_root(&parsing, yyjson_doc_get_root(document));
	yyjson_doc_free(document);
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
