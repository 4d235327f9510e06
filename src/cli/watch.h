/* Staying with one evaluation until it has ended: in silence, or with its output as it comes. Both outlive a restart of
 * the service. */
#ifndef ASSAY_CLI_WATCH_H
#define ASSAY_CLI_WATCH_H

#include <stdint.h>
#include <yyjson.h>

#include "cli/cli.h"

enum watch_output { WATCH_SILENT, WATCH_AT_END, WATCH_LIVE };

/* Waits for the end. Returns EXIT_OK with the status object (owned by the caller), or the exit code of what went wrong,
 * which has been said. The program's two streams go to ours. */
int watch_evaluation(struct cli *cli, const char *id, enum watch_output output, yyjson_doc **ret_status);

/* Writes output that is kept, as bytes. `stream` is "stdout", "stderr" or NULL for both in the order they were read. */
struct log_options {
	const char *stream;
	int64_t attempt; /* 0: the last */
	uint64_t offset;
};
int logs_print(struct cli *cli, const char *id, const struct log_options *options, FILE *file);
/* The same, and goes on until the evaluation has ended. */
int logs_follow(struct cli *cli, const char *id, const struct log_options *options, FILE *file);
int logs_print_json(struct cli *cli, const char *id, const struct log_options *options); /* GET /logs as it is */
/* Both streams at once, each to its own file. */
int logs_follow_both(struct cli *cli, const char *id);

#endif
