/* The plan as assay-wrap has it: unzipped into a sealed memory file, mapped, checked once, and looked up record by
 * record. What was read is given back to the kernel (job_forget), so that large files do not stay resident. */
#ifndef ASSAY_WRAP_JOB_H
#define ASSAY_WRAP_JOB_H

#include <stdbool.h>
#include <stddef.h>

#include "wrap/plan.h"
#include "wrap/post.h"
#include "wrap/report.h"

struct job_step {
	bool compile;
	uint32_t run; /* index; 0 for the compile */
	int64_t timeout_us;
	size_t from, to; /* of its records in the plan */
};

struct job {
	int fd; /* the memory file */
	const char *data; /* mapped */
	size_t len;
	struct plan_settings settings;
	const char *listeners[POST_ADDRESSES]; /* addresses of the attempt listener, the preferred first */
	size_t listener_count;
	char *channel; /* PLAN_CHANNEL; NULL: the listener speaks HTTP */
	const char *box;
	const char *also[8];
	size_t also_count;
	char **env; /* NULL-terminated */
	struct job_step *steps;
	size_t step_count;
	size_t common_to; /* records before the first step end here */
	bool has_compile;
};

/* Reads the plan at `path`, a file or a directory that holds PLAN_FILE, gzipped or not. `inherited` is the environment
 * that PLAN_INHERIT takes from. On failure a negative errno, and `message` says what is wrong. Everything is allocated
 * for good. */
int job_read(struct job *job, const char *path, char **inherited, char message[REPORT_MESSAGE_MAX]);

/* Walks the records of `kind` from *at to `to`: the record's bytes, or NULL after the last. */
const char *job_next(const struct job *job, uint32_t kind, size_t *at, size_t to, size_t *ret_len);
/* The command line of a step, NULL-terminated; allocated, to be freed as one. */
char **job_words(const struct job *job, const struct job_step *step);
void job_forget(const struct job *job);

#endif
