/* What `assay help` prints. Pure. */
#include "cli/help.h"

#include <string.h>

const struct command *const commands[] = {
	&submit_command,
	&status_command,
	&logs_command,
	&list_command,
	&cancel_command,
	&run_command,
	&events_command,
	&why_command,
	&health_command,
	&doctor_command,
	NULL,
};

const struct command *command_find(const char *name)
{
	for (const struct command *const *command = commands; *command; command++)
		if (strcmp((*command)->name, name) == 0)
			return *command;
	return NULL;
}

static void append_options(struct buffer *to, const struct option_spec *options)
{
	for (const struct option_spec *spec = options; spec && spec->id; spec++) {
		char left[64];
		snprintf(left, sizeof(left), "%s--%s%s%s", spec->short_name ? "" : "    ", spec->name,
			spec->value ? " " : "", spec->value ? spec->value : "");
		if (spec->short_name)
			buffer_printf(to, "  -%c, %-22s  %s\n", spec->short_name, left, spec->help);
		else
			buffer_printf(to, "  %-26s  %s\n", left, spec->help);
	}
}

void help_overview(struct buffer *to)
{
	buffer_append_string(to, "assay hands code to the evaluation service and shows what becomes of it.\n\n"
				 "  assay COMMAND [options]\n\n");
	for (const struct command *const *command = commands; *command; command++)
		buffer_printf(to, "  %-9s %s\n", (*command)->name, (*command)->summary);
	buffer_append_string(to, "  version   of this program\n"
				 "  help      of a command; help exit-codes: what this program ends with\n\n");
	append_options(to, common_options);
	buffer_append_string(to, "\nThe service's token, where it wants one, is taken from ASSAY_TOKEN or from the "
				 "file that ASSAY_TOKEN_FILE names.\n"
				 "NO_COLOR turns colours off.\n");
}

void help_command(const struct command *command, struct buffer *to)
{
	buffer_printf(to, "assay %s %s\n\n%s\n", command->name, command->usage, command->summary);
	if (command->description)
		buffer_printf(to, "\n%s\n", command->description);
	buffer_append_char(to, '\n');
	append_options(to, command->options);
	append_options(to, common_options);
}
