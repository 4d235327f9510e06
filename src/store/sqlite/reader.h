/* What the reading operations share. Each read_… carries out one operation on a reader's thread, within one read
 * transaction: SQLITE_OK, or the code for which it failed. */
#ifndef ASSAY_STORE_SQLITE_READER_H
#define ASSAY_STORE_SQLITE_READER_H

#include "assay/store.h"
#include "store/sqlite/database.h"
#include "store/sqlite/row.h"
#include "store/sqlite/sql.h"

struct reader {
	struct database database;
	int64_t (*clock)(void *owner);
	void *clock_owner;
};

int reader_task(struct reader *reader, struct read_task *read);
int reader_match(struct reader *reader, struct read_match *read);
int reader_list(struct reader *reader, struct read_list *read);
int reader_events(struct reader *reader, struct read_events *read);
int reader_output(struct reader *reader, struct read_output *read);
int reader_position(struct reader *reader, struct read_position *read);
int reader_counts(struct reader *reader, struct read_counts *read);
int reader_deliveries(struct reader *reader, struct read_deliveries *read);

#endif
