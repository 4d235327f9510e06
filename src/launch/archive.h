/* Archives of files: how they come to where code runs, and how what a compile step left is kept for the runs. Shared by
 * assay-launch and assay-wrap.
 *
 * An archive is entries without padding: struct archive_entry, then path_len bytes of path, then content_len bytes (of a
 * file its content, of a symbolic link its target, of a directory nothing). Numbers are in the machine's order, which is
 * little-endian on all machines that this is built for. */
#ifndef ASSAY_LAUNCH_ARCHIVE_H
#define ASSAY_LAUNCH_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

enum { ARCHIVE_FILE = 1, ARCHIVE_DIRECTORY = 2, ARCHIVE_LINK = 3 };
#define ARCHIVE_ENTRIES_MAX 100000
#define ARCHIVE_PATH_MAX 4095
#define ARCHIVE_DEPTH_MAX 64

struct archive_entry {
	uint8_t type;
	uint8_t executable;
	uint16_t path_len;
	uint32_t reserved;
	uint64_t content_len;
};

/* Lays out `count` entries (UINT32_MAX: until the end) below `directory`, each in place of whatever stands in its way.
 * 0 or a negative errno: -ENOSPC where they do not fit, anything else is no fault of who made the files. */
int archive_unpack(int directory, const char *archive, size_t len, uint32_t count);
/* Writes everything below `directory` to fd, leaving out the top-level entry `skip`. -E2BIG beyond max bytes, or too
 * many or too deep entries. */
int archive_pack(int directory, const char *skip, int fd, uint64_t max);

/* Removes everything below `directory`, whatever lies there, without following links. */
void tree_empty(int directory);

#endif
