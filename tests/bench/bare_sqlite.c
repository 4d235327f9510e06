/* The ceiling for submissions: a bare program that writes the same rows with the same schema and statements.
 *
 *	bare-sqlite DIRECTORY BATCH ROWS
 *
 * prints "rows/s" and the median latency of one transaction. It opens DIRECTORY/bare.db, which must not exist. */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/uuid.h"
#include "store/sqlite/sql.h"
#include "tests/bench/bench_rows.h"

static const char *const statements[] = WRITE_STATEMENTS;
static const struct {
	const char *name, *sql;
} migrations[] = MIGRATIONS;

static sqlite3 *db;

static void must(int code, const char *what)
{
	if (code == SQLITE_OK || code == SQLITE_DONE)
		return;
	fprintf(stderr, "bare-sqlite: %s: %s\n", what, sqlite3_errmsg(db));
	exit(1);
}

static sqlite3_stmt *prepare(int index)
{
	sqlite3_stmt *statement;
	must(sqlite3_prepare_v3(db, statements[index], -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL), "prepare");
	return statement;
}

static void run(sqlite3_stmt *statement)
{
	must(sqlite3_step(statement), "step");
	sqlite3_reset(statement);
}

static void text(sqlite3_stmt *statement, int index, const char *value)
{
	sqlite3_bind_text(statement, index, value, (int)strlen(value), SQLITE_STATIC);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
	char path[4096];
	int64_t batch_size, row_count;
	if (argc != 4 || !text_to_int(bytes_of(argv[2]), 1, 100000, &batch_size) ||
		!text_to_int(bytes_of(argv[3]), 1, 100000000, &row_count)) {
		fprintf(stderr, "usage: bare-sqlite DIRECTORY BATCH ROWS\n");
		return 2;
	}
	int batch = (int)batch_size, rows = (int)row_count;
	snprintf(path, sizeof(path), "%s/bare.db", argv[1]);
	must(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL),
		"open");
	must(sqlite3_exec(db,
		     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8000;"
		     "PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY",
		     NULL, NULL, NULL),
		"pragmas");
	for (size_t i = 0; i < sizeof(migrations) / sizeof(migrations[0]); i++)
		must(sqlite3_exec(db, migrations[i].sql, NULL, NULL, NULL), migrations[i].name);
	sqlite3_stmt *begin = prepare(WRITE_BEGIN), *commit = prepare(WRITE_COMMIT);
	sqlite3_stmt *task = prepare(WRITE_INSERT_TASK), *input = prepare(WRITE_INSERT_INPUT);
	sqlite3_stmt *event = prepare(WRITE_INSERT_EVENT), *tenant = prepare(WRITE_ADD_TO_TENANT);
	struct uuid_generator ids = { 0 };
	struct uuid batch_id = uuid_new(&ids);
	int transactions = (rows + batch - 1) / batch;
	double *latencies = calloc((size_t)transactions, sizeof(latencies[0]));
	int64_t position = 0, started = clock_monotonic_us();
	for (int t = 0; t < transactions; t++) {
		int64_t from = clock_monotonic_us();
		run(begin);
		for (int i = 0; i < batch; i++) {
			struct uuid id = uuid_new(&ids);
			sqlite3_bind_blob(task, 1, id.bytes, sizeof(id.bytes), SQLITE_STATIC);
			sqlite3_bind_int(task, 2, 0);
			sqlite3_bind_int(task, 3, 1);
			sqlite3_bind_int(task, 4, 0);
			sqlite3_bind_int(task, 5, 3);
			sqlite3_bind_int(task, 6, 5);
			sqlite3_bind_double(task, 7, (double)position);
			text(task, 8, BENCH_TENANT);
			text(task, 9, BENCH_TYPE);
			text(task, 10, BENCH_QUEUE);
			text(task, 11, BENCH_EXECUTOR);
			sqlite3_bind_int64(task, 12, from);
			sqlite3_bind_int64(task, 13, 0);
			sqlite3_bind_int64(task, 14, 0);
			if (batch > 1)
				sqlite3_bind_blob(task, 19, batch_id.bytes, sizeof(batch_id.bytes), SQLITE_STATIC);
			run(task);
			int64_t row = sqlite3_last_insert_rowid(db);
			sqlite3_bind_int64(input, 1, row);
			sqlite3_bind_double(input, 2, 0);
			text(input, 8, BENCH_PARAMS);
			run(input);
			sqlite3_bind_int64(event, 1, ++position);
			sqlite3_bind_int64(event, 2, row);
			sqlite3_bind_int(event, 3, 0);
			sqlite3_bind_int(event, 4, 1);
			sqlite3_bind_int(event, 5, 1);
			sqlite3_bind_int(event, 6, 0);
			sqlite3_bind_int64(event, 7, from);
			sqlite3_bind_int(event, 8, 1);
			run(event);
		}
		text(tenant, 1, BENCH_TENANT);
		sqlite3_bind_int(tenant, 2, batch);
		for (int i = 3; i < 8; i++)
			sqlite3_bind_int(tenant, i, 0);
		sqlite3_bind_double(tenant, 8, (double)position);
		run(tenant);
		run(commit);
		latencies[t] = (double)(clock_monotonic_us() - from);
	}
	double seconds = (double)(clock_monotonic_us() - started) / 1e6;
	qsort(latencies, (size_t)transactions, sizeof(latencies[0]), compare);
	printf("bare-sqlite batch=%d rows=%d rows/s=%.0f p50_us=%.0f\n", batch, transactions * batch,
		transactions * batch / seconds, latencies[transactions / 2]);
	free(latencies);
	sqlite3_stmt *all[] = { begin, commit, task, input, event, tenant };
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		sqlite3_finalize(all[i]);
	sqlite3_close(db);
	return 0;
}
