/* One connection to the file with its prepared statements, used by one thread. */
#ifndef ASSAY_STORE_SQLITE_DATABASE_H
#define ASSAY_STORE_SQLITE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "assay/store.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/uuid.h"

struct database {
	sqlite3 *handle; /* owned */
	sqlite3_stmt **statements; /* owned */
	int statement_count;
	bool writes;
};

struct database_options {
	size_t cache_bytes;
	int busy_ms;
	int64_t max_bytes;
};

/* Opens `path`, made where it is missing, brings it to the newest schema, and prepares the writer's statements. Refuses
 * what is not ours, newer than we are, cut short or damaged as far as that can be told cheaply. */
int database_open_writer(struct database *database, const char *path, const struct database_options *options,
	struct err *err) MUST_CHECK;
/* After the writer has opened it. */
int database_open_reader(struct database *database, const char *path, const struct database_options *options,
	struct err *err) MUST_CHECK;
void database_close(struct database *database);

/* What an SQLite result code means to the store's callers, with the connection's message. */
enum store_outcome database_failure(const struct database *database, int code, struct err *ret_err);

/* The statement, reset and ready to be bound. */
static inline sqlite3_stmt *database_statement(struct database *database, int index)
{
	return database->statements[index];
}
/* Runs a statement that gives no rows; SQLITE_OK or the failure. It is reset in either case. */
int database_run(sqlite3_stmt *statement);
int database_run_simple(struct database *database, int index);

/* Binding never copies: what is bound must live until the statement is reset, or bound anew. */
static inline void bind_text(sqlite3_stmt *statement, int index, struct bytes text)
{
	sqlite3_bind_text64(statement, index, text.data, text.len, SQLITE_STATIC, SQLITE_UTF8);
}
static inline void bind_blob(sqlite3_stmt *statement, int index, struct bytes data)
{
	/* A NULL pointer binds NULL. */
	sqlite3_bind_blob64(statement, index, data.data, data.len, SQLITE_STATIC);
}
static inline void bind_uuid(sqlite3_stmt *statement, int index, const struct uuid *uuid)
{
	sqlite3_bind_blob(statement, index, uuid->bytes, sizeof(uuid->bytes), SQLITE_STATIC);
}
static inline void bind_uuid_or_null(sqlite3_stmt *statement, int index, const struct uuid *uuid)
{
	if (uuid_is_nil(uuid))
		sqlite3_bind_null(statement, index);
	else
		bind_uuid(statement, index, uuid);
}
static inline void bind_int(sqlite3_stmt *statement, int index, int64_t value)
{
	sqlite3_bind_int64(statement, index, value);
}

/* Columns; bytes are borrowed until the next step unless an arena is given. */
struct bytes column_text(sqlite3_stmt *statement, int column);
struct bytes column_blob(sqlite3_stmt *statement, int column);
static inline struct bytes column_text_copy(sqlite3_stmt *statement, int column, struct arena *arena)
{
	return arena_bytes(arena, column_text(statement, column));
}
static inline int64_t column_int(sqlite3_stmt *statement, int column)
{
	return sqlite3_column_int64(statement, column);
}
struct uuid column_uuid(sqlite3_stmt *statement, int column); /* NULL gives nil */

#endif
