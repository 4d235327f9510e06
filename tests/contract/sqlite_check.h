/* Whether the file of a SQLite store fits together: pages, rows, events, tallies. */
#ifndef ASSAY_TESTS_CONTRACT_SQLITE_CHECK_H
#define ASSAY_TESTS_CONTRACT_SQLITE_CHECK_H

/* How many of the checks fail in DIRECTORY/assay.db; each that does is printed. The store must be closed. */
int sqlite_check(const char *directory);

#endif
