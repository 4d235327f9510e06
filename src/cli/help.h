/* The help, made from the tables of commands and options. */
#ifndef ASSAY_CLI_HELP_H
#define ASSAY_CLI_HELP_H

#include "base/buffer.h"
#include "cli/cli.h"

extern const struct command *const commands[]; /* NULL ends it */
const struct command *command_find(const char *name); /* or NULL */
void help_overview(struct buffer *to);
void help_command(const struct command *command, struct buffer *to);

#endif
