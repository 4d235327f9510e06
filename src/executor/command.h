/* From a language's definition and a job to the command lines of its steps. */
#ifndef ASSAY_EXECUTOR_COMMAND_H
#define ASSAY_EXECUTOR_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "assay/executor.h"
#include "base/arena.h"
#include "task/language.h"

struct command {
	const char **words; /* in the arena, NULL-terminated */
	size_t count;
};

/* The name that a file of the job has in the work directory: its path, or the language's source name for `code`, which
 * has none. */
struct bytes command_file_name(const struct language *language, const struct job_file *file);
/* The file to run: the job's entrypoint, else the language's own source name if a file is called so, else the first
 * file. */
struct bytes command_entrypoint(const struct language *language, const struct job *job);

/* `binary` is the path for {binary}. Without a compile step: no words. */
struct command command_compile(
	const struct language *language, const struct job *job, const char *binary, struct arena *arena);
struct command command_run(const struct language *language, const struct job *job, const struct job_run *run,
	const char *binary, struct arena *arena);
/* What programs find in their environment: ours, then the language's, then the job's; of equal names the last. */
struct command command_environment(
	const struct language *language, const struct job *job, const char *box, struct arena *arena);

/* Can this machine run it? It is not an image's own affair, and the first program of each command exists. */
bool command_available(const struct language *language);

#endif
