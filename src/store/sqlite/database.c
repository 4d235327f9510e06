/* One connection to the file with its prepared statements, used by one thread.
 *
 * Opening is the only place that judges the file: what it is, whose it is, how new its schema is. A check of every page
 * would take minutes on a large file, so only what is small is checked whole; damage elsewhere shows when it is
 * read. */
#include "store/sqlite/database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "store/sqlite/sql.h"

#define APPLICATION_ID 0x41737379 /* "Assy" */
#define PAGE_SIZE 4096
#define CHECKPOINT_PAGES 8000
#define WAL_KEPT_BYTES (64 << 20) /* after a burst the file is cut back to this */
#define QUICK_CHECK_BYTES (4 << 20) /* files up to this are checked page by page: some milliseconds */

static const char *const write_statements[] = WRITE_STATEMENTS;
static const char *const read_statements[] = READ_STATEMENTS;
static const struct migration {
	const char *name, *sql;
} migrations[] = MIGRATIONS;

enum store_outcome database_failure(const struct database *database, int code, struct err *ret_err)
{
	int system = database->handle ? sqlite3_system_errno(database->handle) : 0;
	const char *why = sqlite3_errstr(code);
	switch (code & 0xff) {
	case SQLITE_FULL:
		err_set(ret_err, -ENOSPC, "the disk is full, or the database is at its largest size");
		return STORE_AWAY;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		err_set(ret_err, -EIO, "the database's disk fails (%s%s%s)", why, system ? ": " : "",
			system ? strerror(system) : "");
		return STORE_AWAY;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		err_set(ret_err, -EROFS, "the database cannot be written (%s)", why);
		return STORE_AWAY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		err_set(ret_err, -EBUSY, "another program holds the database (%s)", why);
		return STORE_AWAY;
	case SQLITE_NOMEM:
		err_set(ret_err, -ENOMEM, "not enough memory for the database");
		return STORE_AWAY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		err_set(ret_err, -EBADMSG, "the database is damaged (%s)", why);
		return STORE_FAILED;
	default:
		err_set(ret_err, -EPROTO, "the database refuses: %s",
			database->handle ? sqlite3_errmsg(database->handle) : why);
		return STORE_FAILED;
	}
}

int database_run(sqlite3_stmt *statement)
{
	int code;
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		;
	sqlite3_reset(statement);
	return code == SQLITE_DONE ? SQLITE_OK : code;
}

int database_run_simple(struct database *database, int index)
{
	return database_run(database_statement(database, index));
}

struct bytes column_text(sqlite3_stmt *statement, int column)
{
	const unsigned char *text = sqlite3_column_text(statement, column);
	return (struct bytes){ (const char *)text, text ? (size_t)sqlite3_column_bytes(statement, column) : 0 };
}

struct bytes column_blob(sqlite3_stmt *statement, int column)
{
	if (sqlite3_column_type(statement, column) == SQLITE_NULL)
		return BYTES_NONE;
	const void *data = sqlite3_column_blob(statement, column);
	/* SQLite gives NULL for an empty one. */
	return (struct bytes){ data ? data : "", data ? (size_t)sqlite3_column_bytes(statement, column) : 0 };
}

struct uuid column_uuid(sqlite3_stmt *statement, int column)
{
	struct uuid uuid = { { 0 } };
	struct bytes blob = column_blob(statement, column);
	if (blob.len == sizeof(uuid.bytes))
		memcpy(uuid.bytes, blob.data, sizeof(uuid.bytes));
	return uuid;
}

static int refuse(struct database *database, const char *path, int code, struct err *err)
{
	struct err cause;
	database_failure(database, code, &cause);
	return err_set(err, cause.code, "%s: %s", path, cause.message);
}

static int run_text(struct database *database, const char *path, const char *sql, struct err *err)
{
	int code = sqlite3_exec(database->handle, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : refuse(database, path, code, err);
}

static int ask(struct database *database, const char *path, const char *sql, int64_t *ret_value, struct err *err)
{
	sqlite3_stmt *statement;
	int code = sqlite3_prepare_v2(database->handle, sql, -1, &statement, NULL);
	if (code == SQLITE_OK) {
		code = sqlite3_step(statement);
		if (code == SQLITE_ROW)
			*ret_value = column_int(statement, 0);
		sqlite3_finalize(statement);
	}
	return code == SQLITE_ROW ? 0 : refuse(database, path, code, err);
}

static int use_log(struct database *database, const char *path, struct err *err)
{
	sqlite3_stmt *statement;
	int code = sqlite3_prepare_v2(database->handle, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
	bool is_log = false;
	if (code == SQLITE_OK) {
		code = sqlite3_step(statement);
		is_log = code == SQLITE_ROW && bytes_is(column_text(statement, 0), "wal");
		sqlite3_finalize(statement);
	}
	if (code != SQLITE_ROW)
		return refuse(database, path, code, err);
	return is_log ? 0
		      : err_set(err, -ENOTSUP, "%s: its file system cannot hold a write-ahead log (no shared memory)",
				path);
}

/* Whose file it is, and how new its schema. */
static int check_identity(struct database *database, const char *path, int64_t *ret_version, struct err *err)
{
	int64_t application = 0, tables = 0;
	int result = ask(database, path, "PRAGMA user_version", ret_version, err);
	if (result == 0)
		result = ask(database, path, "PRAGMA application_id", &application, err);
	if (result == 0)
		result = ask(database, path, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (result == 0 && application != APPLICATION_ID && (application != 0 || *ret_version != 0 || tables != 0))
		result = err_set(err, -EINVAL, "%s is the database of another program", path);
	if (result == 0 && *ret_version > (int64_t)ARRAY_SIZE(migrations))
		result = err_set(err, -EPROTO,
			"%s was written by a newer assayd (its schema is number %d, this one knows %d): run that one",
			path, (int)*ret_version, (int)ARRAY_SIZE(migrations));
	return result;
}

static int migrate(struct database *database, const char *path, struct err *err)
{
	int64_t version = 0;
	int result = run_text(database, path, "BEGIN IMMEDIATE", err);
	if (result == 0)
		result = check_identity(database, path, &version, err);
	for (size_t i = (size_t)version; result == 0 && i < ARRAY_SIZE(migrations); i++) {
		char pragma[96];
		snprintf(pragma, sizeof(pragma), "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
			(int)i + 1);
		result = run_text(database, path, migrations[i].sql, err);
		if (result == 0)
			result = run_text(database, path, pragma, err);
		if (result < 0)
			err_prefix(err, "migration %s", migrations[i].name);
	}
	if (result == 0)
		result = run_text(database, path, "COMMIT", err);
	if (result < 0)
		sqlite3_exec(database->handle, "ROLLBACK", NULL, NULL, NULL);
	return result;
}

/* Before SQLite sees it: a file that is none of its own, or is shorter than its header says, with no log to mend it. */
static int check_file(const char *path, struct err *err)
{
	char wal[4096], header[100] = "";
	struct stat status, wal_status;
	/* Made here, so that it and the files that SQLite makes after its example are private. */
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		int code = -errno;
		return err_set(err, code, "%s cannot be written: %s", path, strerror(-code));
	}
	ssize_t length = fstat(fd, &status) < 0 ? -1 : pread(fd, header, sizeof(header), 0);
	close(fd);
	if (length < 0)
		return err_set(err, -EIO, "%s cannot be read: %s", path, strerror(errno));
	if (status.st_size == 0)
		return 0;
	if (length < (ssize_t)sizeof(header) || memcmp(header, "SQLite format 3", 16) != 0)
		return err_set(err, -EBADMSG, "%s is damaged: it does not begin as an SQLite database", path);
	const uint8_t *h = (const uint8_t *)header;
	int64_t page = (int64_t)h[16] << 8 | h[17];
	int64_t pages = (int64_t)h[28] << 24 | (int64_t)h[29] << 16 | (int64_t)h[30] << 8 | h[31];
	snprintf(wal, sizeof(wal), "%s-wal", path);
	bool logged = stat(wal, &wal_status) == 0 && wal_status.st_size > 0;
	if (!logged && status.st_size < pages * (page == 1 ? 65536 : page))
		return err_set(err, -EBADMSG, "%s is damaged: it has %lld bytes where its header says %lld pages", path,
			(long long)status.st_size, (long long)pages);
	return 0;
}

static int check_small(struct database *database, const char *path, struct err *err)
{
	struct stat status;
	if (stat(path, &status) < 0 || status.st_size > QUICK_CHECK_BYTES)
		return 0;
	sqlite3_stmt *statement;
	int code = sqlite3_prepare_v2(database->handle, "PRAGMA quick_check(1)", -1, &statement, NULL);
	int result = 0;
	if (code == SQLITE_OK) {
		code = sqlite3_step(statement);
		if (code == SQLITE_ROW && !bytes_is(column_text(statement, 0), "ok"))
			result = err_set(err, -EBADMSG, "%s is damaged: %s", path,
				(const char *)sqlite3_column_text(statement, 0));
		sqlite3_finalize(statement);
	}
	return code == SQLITE_ROW ? result : refuse(database, path, code, err);
}

static int prepare(struct database *database, const char *path, const char *const *sql, int count, struct err *err)
{
	database->statements = alloc_array((size_t)count, sizeof(database->statements[0]));
	database->statement_count = count;
	for (int i = 0; i < count; i++) {
		int code = sqlite3_prepare_v3(
			database->handle, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &database->statements[i], NULL);
		if (code != SQLITE_OK) {
			int result = refuse(database, path, code, err);
			return err_prefix(err, "the schema is not what it should be"), result;
		}
	}
	return 0;
}

static int open_connection(
	struct database *database, const char *path, const struct database_options *options, struct err *err)
{
	char pragmas[256];
	*database = (struct database){ 0 };
	int code = sqlite3_open_v2(
		path, &database->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (code != SQLITE_OK)
		return refuse(database, path, code, err);
	sqlite3_extended_result_codes(database->handle, 1);
	sqlite3_busy_timeout(database->handle, options->busy_ms);
	snprintf(pragmas, sizeof(pragmas),
		"PRAGMA page_size = %d; PRAGMA cache_size = -%lld; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
		"PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF",
		PAGE_SIZE, (long long)(options->cache_bytes / 1024));
	return run_text(database, path, pragmas, err);
}

int database_open_writer(
	struct database *database, const char *path, const struct database_options *options, struct err *err)
{
	char pragmas[256];
	int64_t version;
	int result = check_file(path, err);
	if (result == 0)
		result = open_connection(database, path, options, err);
	else
		*database = (struct database){ 0 };
	/* Before anything is written: the log's mode stands in the file, which may be another program's. */
	if (result == 0)
		result = check_identity(database, path, &version, err);
	if (result == 0)
		result = use_log(database, path, err);
	snprintf(pragmas, sizeof(pragmas), "PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = %d",
		CHECKPOINT_PAGES, WAL_KEPT_BYTES);
	if (result == 0)
		result = run_text(database, path, pragmas, err);
	if (result == 0)
		result = check_small(database, path, err);
	if (result == 0)
		result = migrate(database, path, err);
	if (result == 0 && options->max_bytes > 0) {
		snprintf(pragmas, sizeof(pragmas), "PRAGMA max_page_count = %lld",
			(long long)(options->max_bytes / PAGE_SIZE));
		result = run_text(database, path, pragmas, err);
	}
	if (result == 0)
		result = prepare(database, path, write_statements, WRITE_COUNT, err);
	database->writes = true;
	if (result < 0)
		database_close(database);
	return result;
}

int database_open_reader(
	struct database *database, const char *path, const struct database_options *options, struct err *err)
{
	int result = open_connection(database, path, options, err);
	if (result == 0)
		result = run_text(database, path, "PRAGMA query_only = ON", err);
	if (result == 0)
		result = prepare(database, path, read_statements, READ_COUNT, err);
	if (result < 0)
		database_close(database);
	return result;
}

void database_close(struct database *database)
{
	for (int i = 0; i < database->statement_count; i++)
		sqlite3_finalize(database->statements[i]);
	free(database->statements);
	sqlite3_close(database->handle);
	*database = (struct database){ 0 };
}
