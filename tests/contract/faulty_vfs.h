/* A disk that fails: SQLite's own files behind a layer that breaks the n-th operation on them
 * (https://sqlite.org/vfs.html). */
#ifndef ASSAY_TESTS_CONTRACT_FAULTY_VFS_H
#define ASSAY_TESTS_CONTRACT_FAULTY_VFS_H

#include <stdbool.h>

enum fault {
	FAULT_WRITE_FULL, /* the n-th write finds no room */
	FAULT_WRITE_TORN, /* the n-th write is made by half and fails */
	FAULT_SYNC, /* the n-th sync fails, after what it was to secure was written */
};

void faulty_vfs_install(void); /* as the default, before the first database is opened */
void faulty_vfs_arm(enum fault fault, int number); /* one operation from now on; counted over all files */
bool faulty_vfs_disarm(void); /* whether it had struck */

#endif
