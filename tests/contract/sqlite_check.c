/* Whether the file of a SQLite store fits together. */
#include "tests/contract/sqlite_check.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>

static int64_t number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;
	int64_t result = -1;
	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
		result = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return result;
}

/* Each counts what must not be. */
int sqlite_check(const char *directory)
{
	static const char *const wrongs[] = {
		"SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
		"SELECT count(*) FROM task WHERE row NOT IN (SELECT task FROM task_input)",
		/* an event if and only if its transition; sequences without gaps; one terminal event per run */
		"SELECT count(*) FROM task t WHERE sequence <> (SELECT count(*) FROM event e WHERE e.task = t.row)",
		"SELECT count(*) FROM task t WHERE sequence <> (SELECT max(sequence) FROM event e WHERE e.task = "
		"t.row)",
		"SELECT count(*) FROM task t WHERE (place = 0) <> "
		"(SELECT count(*) FROM event e WHERE e.task = t.row AND e.run = t.run AND e.kind BETWEEN 5 AND 7)",
		"SELECT count(*) FROM (SELECT 1 FROM event WHERE kind BETWEEN 5 AND 7 GROUP BY task, run HAVING "
		"count(*) > 1)",
		"SELECT count(*) FROM event WHERE task NOT IN (SELECT row FROM task)",
		/* the row's place is its status's; the owner is there while it runs */
		"SELECT count(*) FROM task WHERE (status IN (2, 3, 5)) <> (place = 0) OR (status = 1) <> (place = 3)",
		"SELECT count(*) FROM task WHERE (locked_by IS NOT NULL) <> (place = 3)",
		/* tallies */
		"SELECT count(*) FROM tenant n WHERE queued <> (SELECT count(*) FROM task t WHERE t.tenant = n.tenant "
		"AND "
		"status = 0) OR running <> (SELECT count(*) FROM task t WHERE t.tenant = n.tenant AND status = 1) OR "
		"completed <> (SELECT count(*) FROM task t WHERE t.tenant = n.tenant AND status = 2) OR failed <> "
		"(SELECT count(*) FROM task t WHERE t.tenant = n.tenant AND status = 3) OR retry <> "
		"(SELECT count(*) FROM task t WHERE t.tenant = n.tenant AND status = 4)",
	};
	char path[4096];
	int failed = 0;
	sqlite3 *db;
	snprintf(path, sizeof(path), "%s/assay.db", directory);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		failed++;
	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		int64_t wrong = number(db, wrongs[i]);
		if (wrong == 0)
			continue;
		printf("# %lld: %s\n", (long long)wrong, wrongs[i]);
		failed++;
	}
	sqlite3_close(db);
	return failed;
}
