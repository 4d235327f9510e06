/* Sending one evaluation, and staying with it. */
#ifndef ASSAY_CLI_SUBMIT_H
#define ASSAY_CLI_SUBMIT_H

#include <stdbool.h>

#include "cli/cli.h"

struct submit_mode {
	bool wait;
	bool follow; /* implies wait */
	bool raw;
};

/* `body` is that of POST /execute; `named` says that it holds an eval_id, which makes sending it twice harmless; else a
 * key of our own does. Prints what there is to print and returns the exit code. */
int submit_one(struct cli *cli, const struct submit_mode *mode, struct bytes body, bool named);

/* Sends, again if the connection breaks or the service asks for patience, for at most half a minute. Only what may be
 * sent twice is: `key` is the Idempotency-Key, NULL where the body has one of its own; with `once` a broken connection
 * is an error. */
int submit_send(struct cli *cli, const char *path, struct bytes body, const char *content_type, const char *key,
	bool once, struct buffer *ret_answer);

/* Waiting was interrupted: says how to go on. */
void submit_note_interrupted(struct cli *cli, const char *job_name);

#endif
