/* The parser of command line arguments. Pure: it looks at argv and tables, and prints nothing. */
#include "cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const struct option_spec *find_long(const struct option_spec *const *tables, const char *name, size_t len)
{
	for (; *tables; tables++)
		for (const struct option_spec *spec = *tables; spec->id; spec++)
			if (spec->name && strlen(spec->name) == len && memcmp(spec->name, name, len) == 0)
				return spec;
	return NULL;
}

static const struct option_spec *find_short(const struct option_spec *const *tables, char name)
{
	for (; *tables; tables++)
		for (const struct option_spec *spec = *tables; spec->id; spec++)
			if (spec->short_name == name)
				return spec;
	return NULL;
}

static void add(struct parsed_args *args, const struct option_spec *spec, const char *value)
{
	args->options[args->option_count++] = (struct parsed_option){ spec->id, value };
}

static int parse_long(const struct option_spec *const *tables, int argc, char *const *argv, int *index,
	struct parsed_args *args, struct err *err)
{
	const char *name = argv[*index] + 2;
	const char *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_spec *spec = find_long(tables, name, len);
	if (!spec)
		return err_set(err, -EINVAL, "there is no option --%.*s here", (int)len, name);
	if (!spec->value && equals)
		return err_set(err, -EINVAL, "--%s takes no value", spec->name);
	const char *value = NULL;
	if (spec->value) {
		if (!equals && *index + 1 >= argc)
			return err_set(
				err, -EINVAL, "--%s needs a value: --%s %s", spec->name, spec->name, spec->value);
		value = equals ? equals + 1 : argv[++*index];
	}
	add(args, spec, value);
	return 0;
}

/* `-f`, or `-n 5` and `-n5`. Flags are not bundled: there are too few of them to be worth the confusion. */
static int parse_short(const struct option_spec *const *tables, int argc, char *const *argv, int *index,
	struct parsed_args *args, struct err *err)
{
	const char *text = argv[*index];
	const struct option_spec *spec = find_short(tables, text[1]);
	if (!spec)
		return err_set(err, -EINVAL, "there is no option %s here", text);
	if (!spec->value) {
		if (text[2] != '\0')
			return err_set(err, -EINVAL, "-%c takes no value (in %s)", text[1], text);
		add(args, spec, NULL);
		return 0;
	}
	if (text[2] == '\0' && *index + 1 >= argc)
		return err_set(err, -EINVAL, "-%c needs a value: -%c %s", text[1], text[1], spec->value);
	add(args, spec, text[2] != '\0' ? text + 2 : argv[++*index]);
	return 0;
}

int args_parse(const struct option_spec *const *tables, int argc, char *const *argv, bool stop_at_operand,
	struct parsed_args *ret_args, struct err *err)
{
	size_t room = argc > 0 ? (size_t)argc : 1;
	*ret_args = (struct parsed_args){
		.options = alloc_array(room, sizeof(*ret_args->options)),
		.operands = alloc_array(room, sizeof(*ret_args->operands)),
	};
	bool options_ended = false;
	int index = 0;
	for (; index < argc; index++) {
		const char *text = argv[index];
		int result = 0;
		if (options_ended || text[0] != '-' || text[1] == '\0') {
			if (stop_at_operand)
				break;
			ret_args->operands[ret_args->operand_count++] = text;
		} else if (strcmp(text, "--") == 0) {
			options_ended = true;
		} else if (text[1] == '-') {
			result = parse_long(tables, argc, argv, &index, ret_args, err);
		} else {
			result = parse_short(tables, argc, argv, &index, ret_args, err);
		}
		if (result < 0)
			return result;
	}
	ret_args->consumed = (size_t)index;
	return 0;
}

void args_fini(struct parsed_args *args)
{
	free(args->options);
	free(args->operands);
	*args = (struct parsed_args){ 0 };
}

bool duration_parse(const char *text, double *ret_seconds)
{
	/* strtod() would take "inf", "nan", hexadecimal and leading space, which nobody means here. */
	if (text[0] < '0' || text[0] > '9' || text[1] == 'x' || text[1] == 'X')
		return false;
	char *end;
	double value = strtod(text, &end);
	static const struct {
		const char *name;
		double seconds;
	} units[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		value *= units[i].seconds;
		if (!(value > 0 && value <= 10 * 366 * 86400.0))
			return false;
		*ret_seconds = value;
		return true;
	}
	return false;
}
