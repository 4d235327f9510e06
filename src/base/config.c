/* Reading settings from their sources.
 *
 * Each source offers texts; an offer is kept when it ranks above what is there. When all sources were read, the
 * texts that were kept become values. So a wrong value that is overridden hurts nobody, and the order in which
 * sources are read does not matter, except that the file is named by a flag or the environment. */
#include "base/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"

#define FILE_MAX_BYTES (1024 * 1024)
#define SECRET_MAX_BYTES (64 * 1024)

struct offer {
	enum config_source source;
	const char *where; /* owned by the arena */
	struct bytes text; /* owned by the arena, or the table's; absent: not set */
	const char *line; /* owned by the arena; where the file has it, also when that is overridden */
};

struct config {
	const struct setting *settings; /* borrowed: outlives us */
	size_t count;
	void *target; /* borrowed: outlives us */
	struct offer *offers; /* owned by the arena; one for each setting */
	const char **arguments; /* owned by the arena */
	size_t argument_count;
	struct arena arena;
};

static void offer(struct config *config, size_t i, enum config_source source, const char *where, struct bytes text)
{
	struct offer *kept = &config->offers[i];
	if (source < kept->source)
		return;
	kept->source = source;
	kept->where = where;
	kept->text = text;
}

/* The place of a setting in the table, or `count`. */
static size_t find_name(const struct config *config, struct bytes name)
{
	size_t i = 0;
	while (i < config->count && (!config->settings[i].name || !bytes_is(name, config->settings[i].name)))
		i++;
	return i;
}

static size_t find_flag(const struct config *config, struct bytes flag)
{
	size_t i = 0;
	while (i < config->count && (!config->settings[i].flag || !bytes_is(flag, config->settings[i].flag)))
		i++;
	return i;
}

struct config *config_new(const struct setting *settings, size_t count, void *target)
{
	struct config *config = alloc(sizeof(*config));
	config->settings = settings;
	config->count = count;
	config->target = target;
	config->offers = arena_array(&config->arena, count, sizeof(*config->offers));
	for (size_t i = 0; i < count; i++) {
		assert(!settings[i].secret || !settings[i].flag); /* every user of the machine can see a flag */
		if (settings[i].default_text)
			offer(config, i, CONFIG_DEFAULT, "default", bytes_of(settings[i].default_text));
	}
	return config;
}

void config_set_default(struct config *config, const char *name, const char *text)
{
	size_t i = find_name(config, bytes_of(name));
	if (i < config->count)
		offer(config, i, CONFIG_DEFAULT, "default", arena_bytes(&config->arena, bytes_of(text)));
}

void config_free(struct config *config)
{
	if (!config)
		return;
	arena_fini(&config->arena);
	free(config);
}

/* The command line */

static int unknown_flag(const struct config *config, struct bytes flag, struct err *err)
{
	const struct setting *near = setting_nearest(config->settings, config->count, flag);
	int shown = flag.len > 64 ? 64 : (int)flag.len;
	if (near && near->flag)
		return err_set(err, -EINVAL, "unknown flag --%.*s; did you mean --%s?", shown, flag.data, near->flag);
	if (near && near->env)
		return err_set(err, -EINVAL, "unknown flag --%.*s; %s comes by the environment variable %s%s", shown,
			flag.data, near->name, near->env, near->secret ? " or a file that it names with _FILE" : "");
	return err_set(err, -EINVAL, "unknown flag --%.*s; --help lists them all", shown, flag.data);
}

/* One flag, which begins with two dashes. *at is its place in argv and goes on to its value when that is next. */
static int read_flag(struct config *config, const struct config_input *input, int *at, struct err *err)
{
	const char *argument = input->argv[*at], *equals = strchr(argument, '=');
	struct bytes flag = { argument + 2, equals ? (size_t)(equals - argument - 2) : strlen(argument + 2) };
	struct bytes text = bytes_of(equals ? equals + 1 : NULL);
	size_t i = find_flag(config, flag);
	if (i == config->count && !equals && flag.len > 3 && memcmp(flag.data, "no-", 3) == 0) {
		i = find_flag(config, (struct bytes){ flag.data + 3, flag.len - 3 });
		if (i < config->count && config->settings[i].type != SETTING_BOOL)
			i = config->count;
		text = BYTES_LITERAL("false");
	}
	if (i == config->count)
		return unknown_flag(config, flag, err);
	const struct setting *setting = &config->settings[i];
	if (!text.data && setting->type == SETTING_BOOL)
		text = BYTES_LITERAL("true");
	if (!text.data) {
		if (*at + 1 >= input->argc)
			return err_set(err, -EINVAL, "--%s needs a value, %s", setting->flag,
				setting_value_name(setting, &config->arena));
		text = bytes_of(input->argv[++*at]);
	}
	offer(config, i, CONFIG_FLAG, arena_printf(&config->arena, "--%s", setting->flag),
		arena_bytes(&config->arena, text));
	return 0;
}

static int read_arguments(struct config *config, const struct config_input *input, struct err *err)
{
	bool flags = true;
	config->arguments =
		arena_array(&config->arena, (size_t)(input->argc > 0 ? input->argc : 0) + 1, sizeof(char *));
	for (int i = 1; i < input->argc; i++) {
		const char *argument = input->argv[i];
		if (flags && strcmp(argument, "--") == 0) {
			flags = false;
		} else if (flags && strncmp(argument, "--", 2) == 0) {
			int rc = read_flag(config, input, &i, err);
			if (rc < 0)
				return rc;
		} else if (flags && strcmp(argument, "-h") == 0) {
			size_t help = find_flag(config, BYTES_LITERAL("help"));
			if (help == config->count)
				return err_set(err, -EINVAL, "unknown flag -h");
			offer(config, help, CONFIG_FLAG, "-h", BYTES_LITERAL("true"));
		} else if (flags && argument[0] == '-' && argument[1] != '\0') {
			return err_set(err, -EINVAL, "unknown flag %.64s; flags begin with two dashes", argument);
		} else {
			config->arguments[config->argument_count++] = arena_string(&config->arena, argument);
		}
	}
	return 0;
}

/* The environment */

/* NULL for what is not there or empty. */
static const char *environment_value(const struct config_input *input, const char *name, const char *suffix)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);
	for (char *const *at = input->environment; at && *at; at++)
		if (strncmp(*at, name, len) == 0 && strncmp(*at + len, suffix, suffix_len) == 0 &&
			(*at)[len + suffix_len] == '=')
			return (*at)[len + suffix_len + 1] ? *at + len + suffix_len + 1 : NULL;
	return NULL;
}

static int read_secret_file(struct config *config, size_t i, const char *path, const char *where, struct err *err)
{
	struct buffer buffer = { 0 };
	int rc = file_read(path, SECRET_MAX_BYTES, &buffer, err);
	if (rc < 0) {
		err_prefix(err, "%s", where);
	} else {
		/* The line's end is the editor's, not the secret's. */
		struct bytes text = buffer_bytes(&buffer);
		if (text.len > 0 && text.data[text.len - 1] == '\n')
			text.len--;
		if (text.len > 0 && text.data[text.len - 1] == '\r')
			text.len--;
		offer(config, i, CONFIG_ENVIRONMENT, where, arena_bytes(&config->arena, text));
	}
	buffer_fini(&buffer);
	return rc;
}

static int read_environment(struct config *config, const struct config_input *input, struct err *err)
{
	for (size_t i = 0; i < config->count; i++) {
		const struct setting *setting = &config->settings[i];
		if (!setting->env || !setting->name)
			continue;
		const char *value = environment_value(input, setting->env, "");
		const char *path = setting->secret ? environment_value(input, setting->env, "_FILE") : NULL;
		if (value && setting->ignored_prefix &&
			strncmp(value, setting->ignored_prefix, strlen(setting->ignored_prefix)) == 0)
			value = NULL;
		if (value && path)
			return err_set(err, -EINVAL, "%s and %s_FILE are both set", setting->env, setting->env);
		if (value) {
			offer(config, i, CONFIG_ENVIRONMENT, setting->env,
				arena_bytes(&config->arena, bytes_of(value)));
		} else if (path) {
			const char *where = arena_printf(&config->arena, "%s_FILE", setting->env);
			int rc = read_secret_file(config, i, path, where, err);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

/* The file */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The value in the rest of a line, unquoted into the arena; false when a quote is not closed or is followed by
 * something else than a comment. */
static bool line_value(struct config *config, struct bytes rest, struct bytes *ret_value)
{
	rest = text_trim(rest);
	if (rest.len == 0 || rest.data[0] != '"') {
		size_t len = 0;
		while (len < rest.len && !(rest.data[len] == '#' && (len == 0 || is_blank(rest.data[len - 1]))))
			len++;
		*ret_value = arena_bytes(&config->arena, text_trim((struct bytes){ rest.data, len }));
		return true;
	}
	char *to = arena_alloc(&config->arena, rest.len);
	size_t len = 0, i = 1;
	for (; i < rest.len && rest.data[i] != '"'; i++) {
		if (rest.data[i] == '\\' && i + 1 < rest.len && (rest.data[i + 1] == '"' || rest.data[i + 1] == '\\'))
			i++;
		to[len++] = rest.data[i];
	}
	if (i >= rest.len)
		return false;
	*ret_value = (struct bytes){ to, len };
	struct bytes after = text_trim((struct bytes){ rest.data + i + 1, rest.len - i - 1 });
	return after.len == 0 || after.data[0] == '#';
}

static int read_line(struct config *config, struct bytes line, const char *where, struct err *err)
{
	line = text_trim(line);
	if (line.len == 0 || line.data[0] == '#')
		return 0;
	const char *equals = memchr(line.data, '=', line.len);
	if (!equals)
		return err_set(err, -EINVAL, "%s: not of the form key = value", where);
	size_t before = (size_t)(equals - line.data);
	struct bytes key = text_trim((struct bytes){ line.data, before });
	int shown = key.len > 64 ? 64 : (int)key.len;
	size_t i = find_name(config, key);
	if (i == config->count || !config->settings[i].env) {
		const struct setting *near = setting_nearest(config->settings, config->count, key);
		if (near && near->env)
			return err_set(err, -EINVAL, "%s: unknown key %.*s; did you mean %s?", where, shown, key.data,
				near->name);
		return err_set(err, -EINVAL, "%s: unknown key %.*s", where, shown, key.data);
	}
	struct bytes value;
	if (!line_value(config, (struct bytes){ equals + 1, line.len - before - 1 }, &value))
		return err_set(
			err, -EINVAL, "%s: %.*s: a quote is not closed, or text follows it", where, shown, key.data);
	if (config->offers[i].line)
		return err_set(
			err, -EINVAL, "%s: %.*s stands in %s too", where, shown, key.data, config->offers[i].line);
	config->offers[i].line = where;
	offer(config, i, CONFIG_FILE, where, value);
	return 0;
}

static int read_text(struct config *config, const char *name, struct bytes text, struct err *err)
{
	if (!utf8_valid(text) || (text.len > 0 && memchr(text.data, '\0', text.len)))
		return err_set(err, -EINVAL, "%s: not a text in UTF-8", name);
	for (size_t number = 1; text.len > 0; number++) {
		const char *end = memchr(text.data, '\n', text.len);
		size_t len = end ? (size_t)(end - text.data) : text.len;
		int rc = read_line(config, (struct bytes){ text.data, len },
			arena_printf(&config->arena, "%s:%zu", name, number), err);
		if (rc < 0)
			return rc;
		text.data += end ? len + 1 : len;
		text.len -= end ? len + 1 : len;
	}
	return 0;
}

static int read_file(struct config *config, const struct config_input *input, struct err *err)
{
	if (input->file_text.data)
		return read_text(config, "config", input->file_text, err);
	size_t i = find_name(config, BYTES_LITERAL("config"));
	if (i == config->count || config->offers[i].text.len == 0)
		return 0;
	const char *path = arena_bytes(&config->arena, config->offers[i].text).data;
	struct buffer buffer = { 0 };
	struct err unread = { 0 };
	int rc = file_read(path, FILE_MAX_BYTES, &buffer, &unread);
	if (rc == 0)
		rc = read_text(config, path, buffer_bytes(&buffer), err);
	else if (rc == -ENOENT && config->offers[i].source == CONFIG_DEFAULT)
		rc = 0;
	else
		err_set(err, rc, "%s: %s", config->offers[i].where, unread.message);
	buffer_fini(&buffer);
	return rc;
}

int config_read(struct config *config, const struct config_input *input, struct err *err)
{
	int rc = read_arguments(config, input, err);
	if (rc == 0)
		rc = read_environment(config, input, err);
	if (rc == 0)
		rc = read_file(config, input, err);
	for (size_t i = 0; rc == 0 && i < config->count; i++) {
		const struct offer *kept = &config->offers[i];
		if (!config->settings[i].name || !kept->text.data)
			continue;
		rc = setting_parse(&config->settings[i], kept->text, config->target, &config->arena, err);
		if (rc < 0)
			err_prefix(err, kept->source == CONFIG_FILE ? "%s: %s" : "%s (%s)", kept->where,
				config->settings[i].name);
	}
	return rc;
}

enum config_source config_source(const struct config *config, const char *name)
{
	size_t i = find_name(config, bytes_of(name));
	return i < config->count ? config->offers[i].source : CONFIG_UNSET;
}

const char *config_where(const struct config *config, const char *name)
{
	size_t i = find_name(config, bytes_of(name));
	return i < config->count && config->offers[i].where ? config->offers[i].where : "not set";
}

const char *const *config_arguments(const struct config *config, size_t *ret_count)
{
	*ret_count = config->argument_count;
	return config->arguments;
}

/* Printing */

void config_print_help(const struct config *config, FILE *out)
{
	struct arena arena = { 0 };
	for (size_t i = 0; i < config->count; i++) {
		const struct setting *setting = &config->settings[i];
		struct bytes fallback = bytes_of(setting->default_text);
		if (config->offers[i].source == CONFIG_DEFAULT)
			fallback = config->offers[i].text;
		if (!setting->name) {
			fprintf(out, "\n%s:\n", setting->help);
			continue;
		}
		const char *value = setting_value_name(setting, &arena);
		if (setting->flag)
			fprintf(out, "  --%s%s%s\n", setting->flag, *value ? " " : "", value);
		else
			fprintf(out, "  %s%s%s%s\n", setting->env, setting->secret ? ", " : "",
				setting->secret ? setting->env : "", setting->secret ? "_FILE" : "");
		fprintf(out, "      %s", setting->help);
		if (setting->env) {
			fprintf(out, "\n      [");
			if (setting->flag)
				fprintf(out, "%s, ", setting->env);
			fprintf(out, "key %s", setting->name);
			if (fallback.len > 0 && !setting->secret)
				fprintf(out, ", default %.*s", (int)fallback.len, fallback.data);
			fprintf(out, "]");
		}
		fputc('\n', out);
	}
	arena_fini(&arena);
}

/* The password in scheme://user:password@host, to be hidden; of length 0 when there is none. */
static struct bytes url_password(struct bytes text)
{
	const char *slashes = memmem(text.data, text.len, "://", 3);
	if (!slashes)
		return BYTES_NONE;
	const char *user = slashes + 3, *end = text.data + text.len, *host = NULL;
	for (const char *at = user; at < end && *at != '/' && *at != '?'; at++)
		host = *at == '@' ? at : host;
	const char *colon = host ? memchr(user, ':', (size_t)(host - user)) : NULL;
	return colon ? (struct bytes){ colon + 1, (size_t)(host - colon - 1) } : BYTES_NONE;
}

static void print_value(struct bytes text, FILE *out)
{
	struct bytes hidden = url_password(text), trimmed = text_trim(text);
	bool quoted =
		text.len == 0 || trimmed.len != text.len || memchr(text.data, '#', text.len) || text.data[0] == '"';
	if (quoted)
		fputc('"', out);
	for (size_t i = 0; i < text.len; i++) {
		if (hidden.len > 0 && text.data + i == hidden.data) {
			fputs("***", out);
			i += hidden.len - 1;
			continue;
		}
		if (quoted && (text.data[i] == '"' || text.data[i] == '\\'))
			fputc('\\', out);
		/* No line of the output may be made by a value. */
		fputc((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f ? '?' : text.data[i], out);
	}
	if (quoted)
		fputc('"', out);
}

void config_print_effective(const struct config *config, FILE *out)
{
	for (size_t i = 0; i < config->count; i++) {
		const struct setting *setting = &config->settings[i];
		const struct offer *kept = &config->offers[i];
		if (!setting->name || !setting->env)
			continue;
		if (!kept->text.data) {
			fprintf(out, "# %s = # not set\n", setting->name);
		} else if (setting->secret) {
			fprintf(out, "# %s = (hidden) # %s\n", setting->name, kept->where);
		} else {
			fprintf(out, "%s = ", setting->name);
			print_value(kept->text, out);
			fprintf(out, " # %s\n", kept->where);
		}
	}
}
