/* Writes the plan of one step (launch/plan.h). */
#ifndef ASSAY_EXECUTOR_SANDBOX_PLAN_H
#define ASSAY_EXECUTOR_SANDBOX_PLAN_H

#include "assay/executor.h"
#include "base/buffer.h"
#include "launch/plan.h"
#include "task/language.h"

struct plan_writer {
	struct plan_head head;
	struct buffer words;
	struct buffer archive;
};

void plan_writer_init(struct plan_writer *writer);
/* One word more of a kind; all cgroup paths first, then bubblewrap's words, the program's, the environment: the order
 * of the plan. */
void plan_add_word(struct plan_writer *writer, uint32_t *count, const char *word);
void plan_add_file(struct plan_writer *writer, struct bytes path, struct bytes content);
/* A sealed memory file. */
int plan_write(struct plan_writer *writer, int *ret_fd, struct err *err) MUST_CHECK;
void plan_writer_fini(struct plan_writer *writer);

/* A sealed memory file with these bytes, to be read from its beginning. */
int memory_file(const char *name, const struct bytes *parts, size_t count, int *ret_fd, struct err *err) MUST_CHECK;
/* The same file opened for reading, with an offset of its own. */
int memory_file_reopen(int fd);

#endif
