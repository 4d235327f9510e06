/* Reading what is to be submitted: one file, standard input, or a directory with all its files. */
#ifndef ASSAY_CLI_SOURCE_H
#define ASSAY_CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/err.h"

#define SOURCE_MAX (8 << 20) /* bytes of all files together: what no service takes more of */
#define SOURCE_FILES_MAX 10000
#define SOURCE_DEPTH_MAX 32

struct source_file {
	char *path; /* owned; below the directory, with '/' */
	struct buffer content; /* owned */
};

struct source {
	bool is_directory;
	struct source_file
		*files; /* owned; of a directory sorted by path; else one, whose path is the name it was given by */
	size_t count;
	size_t size; /* bytes of all contents */
};

/* `path` "-" is standard input. Symbolic links below a directory, devices and the like are refused, `.git` is skipped,
 * hidden files are taken. An error names the file. *ret_source is valid for source_fini() in any case. */
int source_read(const char *path, struct source *ret_source, struct err *err) MUST_CHECK;
void source_fini(struct source *source);
/* A whole file, or standard input for "-", at most max bytes. */
int file_read(const char *path, size_t max, struct buffer *ret_content, struct err *err) MUST_CHECK;

#endif
