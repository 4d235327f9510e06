/* What every command of `assay` gets, and what they share: asking the service, and saying what went wrong. */
#ifndef ASSAY_CLI_CLI_H
#define ASSAY_CLI_CLI_H

#include <stdbool.h>
#include <yyjson.h>

#include "base/bytes.h"
#include "cli/args.h"
#include "cli/client.h"
#include "cli/term.h"

struct cli {
	struct term term;
	struct client client;
	const char *url; /* --url, or NULL; borrowed */
	bool json;
	bool away_told; /* the user knows that a stream lost the service; until data comes again */
};

/* Options that every command takes; commands number theirs from OPTION_OWN. */
enum { OPTION_HELP = 1, OPTION_URL, OPTION_JSON, OPTION_OWN };
extern const struct option_spec common_options[];

struct command {
	const char *name;
	const char *usage; /* what follows "assay NAME" */
	const char *summary; /* one line */
	const char *description; /* further paragraphs; may be NULL */
	const struct option_spec *options; /* its own */
	size_t operands_min, operands_max;
	int (*run)(struct cli *cli, const struct parsed_args *args);
};

extern const struct command submit_command, status_command, logs_command, list_command, cancel_command, run_command,
	events_command, why_command, health_command, doctor_command;

/* Asks and answers for all that can go wrong: on any answer but 2xx, or none, says so on standard error and returns the
 * exit code; EXIT_OK with *ret_doc (owned by the caller) otherwise. With --json a problem document goes to standard
 * output as it came. */
int cli_ask(struct cli *cli, const struct request *request, yyjson_doc **ret_doc);
/* The same for a body that is not JSON. */
int cli_ask_bytes(struct cli *cli, const struct request *request, struct buffer *ret_body);
/* Says that no service answers, or that the connection broke, and returns the exit code. */
int cli_report_lost(struct cli *cli, enum transfer_result result, const char *message);
/* Says what the service refuses: a problem document (RFC 9457) readably, its detail and each field of errors[]. Returns
 * the exit code. */
int cli_report_refusal(struct cli *cli, long status, struct bytes body);
/* The sentences of a problem document, each a line, indented but for the first. */
void problem_append(struct buffer *to, long status, struct bytes body);
/* A usage error: the sentence, and where the help is. Returns EXIT_USAGE. */
int cli_usage(struct cli *cli, const char *command, const char *format, ...) PRINTF_LIKE(3, 4);

/* Members of JSON objects, with what they are when absent or of another type. */
struct bytes json_text(yyjson_val *object, const char *key); /* absent */
int64_t json_number(yyjson_val *object, const char *key, int64_t otherwise);
double json_real(yyjson_val *object, const char *key, double otherwise);

/* Path of a task: "/status/eval-…" for the name of a job, "/tasks/ID/status" for every other form. `what` is "status"
 * or "logs". */
void path_of_job(struct buffer *to, const char *what, const char *id);
/* "/tasks/ID" with the job's name turned into the id that it stands for. */
void path_of_task(struct buffer *to, const char *id);

#endif
