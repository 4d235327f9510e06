/* One setting of a program: a row of its table of settings. What reads the table is base/config.h. */
#ifndef ASSAY_BASE_SETTING_H
#define ASSAY_BASE_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

/* What a text becomes, and the C type of the member that `offset` leads to. */
enum setting_type {
	SETTING_STRING, /* const char *; NULL when not set. min and max bound its length; max 0 means 4096 */
	SETTING_INT, /* int64_t */
	SETTING_BOOL, /* bool; true, yes, on, 1 and their opposites, in any case */
	SETTING_SECONDS, /* int64_t, microseconds; "5", "0.25", "300ms", "5s", "10m", "24h", "7d"; min, max in s */
	SETTING_BYTES, /* int64_t; a Kubernetes quantity such as 64Mi */
	SETTING_ENUM, /* int; the place of the word in `words` */
	SETTING_LIST, /* struct setting_list; comma-separated; min and max bound the number of items */
};

struct setting_list {
	const char *const *items; /* owned by the config */
	size_t count;
};

struct setting {
	const char *name; /* the key in the config file; NULL: the row is a heading in --help, its text in `help` */
	const char *env; /* environment variable; NULL: a flag alone, no key of the file either (--help) */
	const char *flag; /* without the dashes; NULL: none; a secret has none */
	enum setting_type type;
	const char *default_text; /* NULL: none; then the member keeps what the caller put there */
	int64_t min; /* of numbers; the zero of a row that does not name it refuses negative ones */
	int64_t max; /* 0: no upper bound */
	const char *const *words; /* of an ENUM, ending with NULL */
	const char *value_name; /* what --help calls the value; NULL: by type */
	const char *help; /* a sentence without its full stop */
	bool secret; /* hidden wherever it is shown; the environment also takes <env>_FILE, a file that holds it */
	const char *ignored_prefix; /* an environment value that begins so counts as unset; NULL: none */
	size_t offset; /* of the member in the caller's struct */
};

/* Puts the value of `text` into the member of `target`; what it points to is copied into `arena`. The error says
 * what is wrong with the value and does not name the setting; a secret's does not show the value. */
int setting_parse(const struct setting *setting, struct bytes text, void *target, struct arena *arena,
	struct err *err) MUST_CHECK;

/* What --help calls the value; owned by the arena or the table. Empty for a bool. */
const char *setting_value_name(const struct setting *setting, struct arena *arena);

/* The setting whose name, flag or variable is nearest to what somebody typed, or NULL when none is near. */
const struct setting *setting_nearest(const struct setting *settings, size_t count, struct bytes typed);

#endif
