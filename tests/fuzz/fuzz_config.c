/* Configuration: the input up to the first byte 0xff (which no UTF-8 holds) is the config file; after it come
 * command line arguments, with 0xff between them. What is read and printed as effective must read back alike. */
#include "base/config.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/text.h"
#include "fuzz.h"

#define MOST_ARGUMENTS 16

struct options {
	const char *text, *secret;
	int64_t number, seconds, bytes;
	bool flag;
	int word;
	struct setting_list list;
};

static const char *const words[] = { "low", "middle", "high", NULL };
static const struct setting settings[] = {
	{ .help = "Everything" },
	{ .name = "text", .env = "T", .flag = "text", .default_text = "x", .offset = offsetof(struct options, text) },
	{ .name = "secret", .env = "SECRET", .secret = true, .offset = offsetof(struct options, secret) },
	{ .name = "number",
		.env = "N",
		.flag = "number",
		.type = SETTING_INT,
		.min = -5,
		.max = 1000,
		.offset = offsetof(struct options, number) },
	{ .name = "seconds",
		.env = "S",
		.flag = "seconds",
		.type = SETTING_SECONDS,
		.max = 86400,
		.offset = offsetof(struct options, seconds) },
	{ .name = "bytes",
		.env = "B",
		.flag = "bytes",
		.type = SETTING_BYTES,
		.offset = offsetof(struct options, bytes) },
	{ .name = "flag", .env = "F", .flag = "flag", .type = SETTING_BOOL, .offset = offsetof(struct options, flag) },
	{ .name = "word",
		.env = "W",
		.flag = "word",
		.type = SETTING_ENUM,
		.words = words,
		.offset = offsetof(struct options, word) },
	{ .name = "list",
		.env = "L",
		.flag = "list",
		.type = SETTING_LIST,
		.max = 50,
		.offset = offsetof(struct options, list) },
};

static bool alike(const struct options *a, const struct options *b)
{
	if (a->list.count != b->list.count)
		return false;
	for (size_t i = 0; i < a->list.count; i++)
		if (strcmp(a->list.items[i], b->list.items[i]) != 0)
			return false;
	return strcmp(a->text, b->text) == 0 && a->number == b->number && a->seconds == b->seconds &&
	       a->bytes == b->bytes && a->flag == b->flag && a->word == b->word;
}

static void read_back(const struct config *config, const struct options *options)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	HOLDS(out != NULL);
	config_print_effective(config, out);
	fclose(out);
	/* What stands for control characters and passwords does not come back, nor what is no UTF-8. */
	if (!strchr(text, '?') && !strstr(text, "***") && utf8_valid((struct bytes){ text, len })) {
		struct options again = { 0 };
		struct config *second = config_new(settings, ARRAY_SIZE(settings), &again);
		HOLDS(config_read(second, &(struct config_input){ .file_text = { text, len } }, NULL) == 0);
		HOLDS(alike(options, &again));
		config_free(second);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer copy = { 0 };
	char *argv[MOST_ARGUMENTS] = { (char *)"fuzz" };
	struct config_input input = { .argc = 1, .argv = argv };
	buffer_append(&copy, data, size);
	buffer_append_char(&copy, '\0');
	for (size_t i = 0; i < size; i++) {
		if (data[i] != 0xff)
			continue;
		copy.data[i] = '\0';
		if (input.argc < MOST_ARGUMENTS)
			argv[input.argc++] = copy.data + i + 1;
	}
	const uint8_t *end = size > 0 ? memchr(data, 0xff, size) : NULL;
	input.file_text = (struct bytes){ copy.data, end ? (size_t)(end - data) : size };

	struct options options = { 0 };
	struct err err = { 0 };
	struct config *config = config_new(settings, ARRAY_SIZE(settings), &options);
	int rc = config_read(config, &input, &err);
	HOLDS(rc == 0 || (err.code == rc && err.message[0] != '\0'));
	if (rc == 0)
		read_back(config, &options);
	config_free(config);
	buffer_fini(&copy);
	return 0;
}
