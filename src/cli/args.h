/* Command line arguments against a table: `--name value`, `--name=value`, `-n value`, `-n`, `--` ends the options, `-`
 * alone is an operand. Options and operands may be mixed. The same tables make the help. */
#ifndef ASSAY_CLI_ARGS_H
#define ASSAY_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct option_spec {
	int id; /* the command's own enum; 0 ends a table */
	char short_name; /* 0: none */
	const char *name; /* without the dashes */
	const char *value; /* what the value is called in the help; NULL: a flag */
	const char *help;
};

struct parsed_option {
	int id;
	const char *value; /* borrowed from argv; NULL for a flag */
};

struct parsed_args {
	struct parsed_option *options; /* owned; in the order they were given */
	size_t option_count;
	const char **operands; /* owned array of borrowed strings */
	size_t operand_count;
	size_t consumed; /* of argv */
};

/* Tables that are searched in order; NULL ends the list. With stop_at_operand the first operand and what follows it are
 * left alone. -EINVAL with a sentence for the user; *ret_args is valid for args_fini() in any case. */
int args_parse(const struct option_spec *const *tables, int argc, char *const *argv, bool stop_at_operand,
	struct parsed_args *ret_args, struct err *err) MUST_CHECK;
void args_fini(struct parsed_args *args);

/* "90", "90s", "1.5m", "2h", "1d"; more than zero and at most ten years. */
bool duration_parse(const char *text, double *ret_seconds);

#endif
