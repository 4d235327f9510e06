/* The settings of a program, from one table (base/setting.h). For each, the first of these that has it: a flag, the
 * environment, the config file, the default.
 *
 *	struct options { const char *listen; int64_t lease_us; … } options = { 0 };
 *	static const struct setting settings[] = {
 *		{ .name = "listen", .env = "ASSAY_LISTEN", .flag = "listen", .default_text = "127.0.0.1:8090",
 *		  .value_name = "HOST:PORT", .help = "where the API listens", .offset = offsetof(struct options, listen) },
 *		…
 *	};
 *	struct config *config = config_new(settings, ARRAY_SIZE(settings), &options);
 *	if (config_read(config, &(struct config_input){ .argc = argc, .argv = argv, .environment = environ }, &err) < 0)
 *		…
 *
 * Flags are --name VALUE, --name=VALUE, and --name or --no-name for a bool; the last one counts; "--" ends them;
 * -h is --help. An empty environment variable counts as unset. The config file is the one that the setting named
 * "config" names, if the table has that; it has lines `key = value`, blank lines, and comments from a # at the start
 * of a line or after white space. A value in double quotes may hold # and outer white space; \" and \\ stand
 * for the two characters. Unknown flags and keys and keys given twice are errors. Not for concurrent use. */
#ifndef ASSAY_BASE_CONFIG_H
#define ASSAY_BASE_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/setting.h"

enum config_source { CONFIG_UNSET, CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG };

struct config_input {
	int argc; /* with the program's name first */
	char *const *argv;
	char *const *environment; /* as environ(7); NULL: none */
	struct bytes file_text; /* read in the file's place when it is not absent */
};

struct config; /* opaque; owns every text that it gives out and that it puts into the caller's struct */

/* The table and the struct that is filled are borrowed and outlive the config. */
struct config *config_new(const struct setting *settings, size_t count, void *target);
/* Another default than the table's, for what depends on the machine; copied. Before config_read. */
void config_set_default(struct config *config, const char *name, const char *text);
/* Fills the struct. Errors (-EINVAL, -ERANGE, or what reading a file gave) name the setting and where its value
 * stands; a default file that is not there is none. May be called once. */
int config_read(struct config *config, const struct config_input *input, struct err *err) MUST_CHECK;

enum config_source config_source(const struct config *config, const char *name);
/* "--listen", "ASSAY_LISTEN", "assay.conf:3", "default" or "not set": for the log. */
const char *config_where(const struct config *config, const char *name);
/* What stood on the command line that is no flag, in order. */
const char *const *config_arguments(const struct config *config, size_t *ret_count);

void config_print_help(const struct config *config, FILE *out);
/* Every setting with where it came from, in the form of a config file; secrets and passwords in URLs hidden. */
void config_print_effective(const struct config *config, FILE *out);

void config_free(struct config *config); /* NULL is fine */

#endif
