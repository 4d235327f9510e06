/* assay: the command line client. Finds the command, reads the arguments, runs it. */
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/help.h"

static int print(struct cli *cli, struct buffer *text)
{
	term_out(&cli->term, buffer_bytes(text));
	buffer_fini(text);
	return EXIT_OK;
}

static int run_help(struct cli *cli, const char *topic)
{
	struct buffer text = { 0 };
	if (!topic) {
		help_overview(&text);
	} else if (strcmp(topic, "exit-codes") == 0) {
		exit_code_help(&text);
	} else {
		const struct command *command = command_find(topic);
		if (!command)
			return cli_usage(cli, NULL, "there is no command %s", topic);
		help_command(command, &text);
	}
	return print(cli, &text);
}

/* The options that every command takes. True when help was asked for. */
static bool take_common(struct cli *cli, const struct parsed_args *args)
{
	bool help = false;
	for (size_t i = 0; i < args->option_count; i++) {
		const struct parsed_option *option = &args->options[i];
		if (option->id == OPTION_URL)
			cli->url = option->value;
		cli->json |= option->id == OPTION_JSON;
		help |= option->id == OPTION_HELP;
	}
	return help;
}

static int run_with_service(struct cli *cli, const struct command *command, const struct parsed_args *args)
{
	struct err err;
	if (client_init(&cli->client, cli->url, &err) < 0) {
		client_fini(&cli->client);
		return cli_usage(cli, NULL, "%s", err.message);
	}
	int code = command->run(cli, args);
	client_fini(&cli->client);
	return code;
}

static int run_command_line(struct cli *cli, const struct command *command, int argc, char *const *argv)
{
	static const struct option_spec none[] = { { 0 } };
	const struct option_spec *const tables[] = { common_options, command->options ? command->options : none, NULL };
	struct parsed_args args;
	struct err err;
	int code;
	if (args_parse(tables, argc, argv, false, &args, &err) < 0)
		code = cli_usage(cli, command->name, "%s", err.message);
	else if (take_common(cli, &args))
		code = run_help(cli, command->name);
	else if (args.operand_count < command->operands_min)
		code = cli_usage(
			cli, command->name, "%s needs more: assay %s %s", command->name, command->name, command->usage);
	else if (args.operand_count > command->operands_max)
		code = cli_usage(cli, command->name, "\"%s\" is too much: assay %s %s",
			args.operands[command->operands_max], command->name, command->usage);
	else
		code = run_with_service(cli, command, &args);
	args_fini(&args);
	return code;
}

static int run(struct cli *cli, int argc, char *const *argv)
{
	const struct option_spec *const tables[] = { common_options, NULL };
	struct parsed_args args;
	struct err err;
	if (args_parse(tables, argc - 1, argv + 1, true, &args, &err) < 0) {
		args_fini(&args);
		return cli_usage(cli, NULL, "%s", err.message);
	}
	bool help = take_common(cli, &args);
	int at = (int)args.consumed + 1;
	args_fini(&args);
	const char *name = at < argc ? argv[at] : NULL;
	if (help || (name && strcmp(name, "help") == 0))
		return run_help(cli, help || at + 1 >= argc ? NULL : argv[at + 1]);
	if (!name) {
		run_help(cli, NULL);
		return EXIT_USAGE;
	}
	if (strcmp(name, "version") == 0) {
		struct buffer text = { 0 };
		buffer_append_string(&text, "assay " ASSAY_VERSION "\n");
		return print(cli, &text);
	}
	const struct command *command = command_find(name);
	if (!command)
		return cli_usage(cli, NULL, "there is no command %s", name);
	return run_command_line(cli, command, argc - at - 1, argv + at + 1);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };
	term_init(&cli.term);
	int code = run(&cli, argc, argv);
	if (!term_flush(&cli.term) && (code == EXIT_OK || code == EXIT_OUTPUT)) {
		fputs("assay: standard output cannot be written\n", stderr);
		code = EXIT_OUTPUT;
	}
	return code;
}
