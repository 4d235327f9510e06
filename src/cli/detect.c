/* Detection of languages. Pure. */
#include "cli/detect.h"

#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

static const char *extension_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	return dot && dot != name && dot[1] != '\0' ? dot + 1 : NULL;
}

const struct language *language_of_path(const struct languages *languages, const char *path)
{
	/* Names in common use that no language is called by. */
	static const struct {
		const char *extension, *name;
	} others[] = { { "cc", "cpp" }, { "cxx", "cpp" }, { "mjs", "javascript" }, { "cjs", "javascript" } };
	const char *extension = extension_of(path);
	if (!extension)
		return NULL;
	for (size_t i = 0; i < languages_count(languages); i++) {
		const struct language *language = languages_at(languages, i);
		const char *own = extension_of(language->source);
		if (own && strcmp(own, extension) == 0)
			return language;
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(others[i].extension, extension) == 0)
			return languages_find(languages, bytes_of(others[i].name));
	return languages_find(languages, bytes_of(extension));
}

/* The next word of *text, which is shortened by it; empty at the end. */
static struct bytes next_word(struct bytes *text)
{
	*text = text_trim(*text);
	size_t len = 0;
	while (len < text->len && text->data[len] != ' ' && text->data[len] != '\t')
		len++;
	struct bytes word = { text->data, len };
	text->data += len;
	text->len -= len;
	return word;
}

static struct bytes base_name(struct bytes path)
{
	for (size_t i = path.len; i > 0; i--)
		if (path.data[i - 1] == '/')
			return (struct bytes){ path.data + i, path.len - i };
	return path;
}

const struct language *language_of_first_line(const struct languages *languages, struct bytes text)
{
	if (text.len < 2 || memcmp(text.data, "#!", 2) != 0)
		return NULL;
	const char *end = memchr(text.data, '\n', text.len);
	struct bytes line = { text.data + 2, (end ? (size_t)(end - text.data) : text.len) - 2 };
	struct bytes program = base_name(next_word(&line));
	while (bytes_is(program, "env") || (program.len > 0 && program.data[0] == '-'))
		program = base_name(next_word(&line));
	if (program.len == 0)
		return NULL;
	const struct language *language = languages_find(languages, program);
	/* python3.11 → python3 → python */
	while (!language && program.len > 1 && strchr("0123456789.", program.data[program.len - 1])) {
		program.len--;
		language = languages_find(languages, program);
	}
	return language;
}
