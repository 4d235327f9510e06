/* The schema: its migrations and the check that it is what this program knows, as one transaction of SQL text.
 *
 * The text stands on its own: whatever state the schema is in, it brings it to the newest migration, or says in a
 * sentence why not. An advisory lock lets replicas that start at the same time do it one after the other. */
#include "store/postgres/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define LOCK_TIMEOUT_S 60 /* then it says so, and waits again */

static const struct {
	const char *name, *sql;
} migrations[] = MIGRATIONS;
static const struct postgres_statement checks[] = CHECK_STATEMENTS;

bool postgres_store_schema_valid(const char *schema)
{
	size_t length = strlen(schema);
	for (size_t i = 0; i < length; i++) {
		char c = schema[i];
		if (!((c >= 'a' && c <= 'z') || c == '_' || (i > 0 && c >= '0' && c <= '9')))
			return false;
	}
	return length > 0 && length < 64;
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

void schema_append(struct buffer *sql, const char *text, const char *schema)
{
	static const char word[] = POSTGRES_STORE_SCHEMA_DEFAULT;
	size_t length = sizeof(word) - 1;
	for (const char *at = text; *at;) {
		const char *next = strstr(at, word);
		if (!next) {
			buffer_append_string(sql, at);
			return;
		}
		bool whole = (next == text || !is_word(next[-1])) && !is_word(next[length]);
		buffer_append(sql, at, (size_t)(next - at));
		/* A name that is also a keyword, such as "user", needs quotes. */
		if (whole && next[length] == '.')
			buffer_printf(sql, "\"%s\"", schema);
		else
			buffer_append_string(sql, whole ? schema : word);
		at = next + length;
	}
}

static void append_check(struct buffer *sql, int index, const char *schema)
{
	schema_append(sql, checks[index].sql, schema);
	buffer_append_string(sql, ";\n");
}

static void append_migration(struct buffer *sql, size_t number, const char *schema)
{
	const char *name = migrations[number - 1].name;
	buffer_printf(sql, "DO $do$ BEGIN\nIF EXISTS (SELECT FROM ");
	schema_append(sql, "assay.migrations", schema);
	buffer_printf(sql, " WHERE number = %zu AND name <> '%s') THEN\n", number, name);
	buffer_printf(sql,
		"RAISE EXCEPTION 'migration %zu of schema %s is not the one that this program knows as %s';\n", number,
		schema, name);
	buffer_printf(sql, "ELSIF NOT EXISTS (SELECT FROM ");
	schema_append(sql, "assay.migrations", schema);
	buffer_printf(sql, " WHERE number = %zu) THEN\nEXECUTE $migration$\n", number);
	schema_append(sql, migrations[number - 1].sql, schema);
	buffer_printf(sql, "$migration$;\nINSERT INTO ");
	schema_append(sql, "assay.migrations", schema);
	buffer_printf(sql, " (number, name) VALUES (%zu, '%s');\n", number, name);
	schema_append(sql, checks[CHECK_NOTE_COLUMNS].sql, schema);
	buffer_printf(sql,
		";\nEND IF;\nEXCEPTION WHEN lock_not_available THEN\nRAISE EXCEPTION USING ERRCODE = "
		"'lock_not_available', MESSAGE = 'migration %zu of schema %s has waited %d s for a table that "
		"another session holds';\nEND $do$;\n",
		number, schema, LOCK_TIMEOUT_S);
}

void postgres_store_migration_sql(const char *schema, bool compat_views, struct buffer *sql)
{
	/* The sentence is for a server that speaks any language. */
	buffer_append_string(sql, "BEGIN;\nSET LOCAL client_min_messages = warning;\n");
	append_check(sql, CHECK_VERSION, schema);
	buffer_printf(sql,
		"SET LOCAL lock_timeout = '%ds';\nDO $do$ BEGIN\nPERFORM pg_advisory_xact_lock(%" PRId64 ");\n"
		"EXCEPTION WHEN lock_not_available THEN\nRAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE "
		"= "
		"'another program has held the lock of schema %s for %d s: it is migrating, and is waited for';\n"
		"END $do$;\n",
		LOCK_TIMEOUT_S, row_hash(bytes_of(schema)), schema, LOCK_TIMEOUT_S);
	append_check(sql, CHECK_SCHEMA, schema);
	append_check(sql, CHECK_RECORDED, schema);
	buffer_printf(sql, "DO $do$ BEGIN\nIF (SELECT max(number) FROM ");
	schema_append(sql, "assay.migrations", schema);
	buffer_printf(sql,
		") > %zu THEN\nRAISE EXCEPTION 'schema %s is newer than this program: it has migration %%, the newest "
		"known here is "
		"%zu', (SELECT max(number) FROM ",
		ARRAY_SIZE(migrations), schema, ARRAY_SIZE(migrations));
	schema_append(sql, "assay.migrations", schema);
	buffer_append_string(sql, ");\nEND IF;\nEND $do$;\n");
	for (size_t number = 1; number <= ARRAY_SIZE(migrations); number++)
		append_migration(sql, number, schema);
	append_check(sql, CHECK_COLUMNS, schema);
	append_check(sql, CHECK_RESTORED, schema);
	if (compat_views)
		append_check(sql, CHECK_COMPAT_VIEWS, schema);
	buffer_append_string(sql, "COMMIT;\n");
}

/* ---- assayd migrate ---- */

struct migrating {
	struct postgres *postgres;
	struct err *err;
	int result;
	bool done, stopped;
};

static void on_stopped(void *owner)
{
	((struct migrating *)owner)->stopped = true;
}

static void on_state(void *owner, bool up, bool fatal, const struct err *why_not)
{
	struct migrating *migrating = owner;
	if (migrating->done)
		return;
	migrating->done = true;
	if (!up)
		migrating->result =
			err_set(migrating->err, why_not->code < 0 ? why_not->code : -EIO, "%s", why_not->message);
	postgres_stop(migrating->postgres, 0, on_stopped, migrating);
}

int postgres_store_migrate(const char *url, const char *schema, bool compat_views, struct log *log, struct err *err)
{
	struct migrating migrating = { .err = err };
	struct buffer sql = { 0 };
	uv_loop_t loop;
	postgres_store_migration_sql(schema, compat_views, &sql);
	buffer_append_char(&sql, '\0');
	uv_loop_init(&loop);
	const struct postgres_options options = {
		.loop = &loop,
		.log = log,
		.conninfo = url,
		.purpose = "migrate",
		.setup = sql.data,
		.setup_takes_long = true,
		.on_state = on_state,
		.owner = &migrating,
	};
	migrating.postgres = postgres_new(&options);
	postgres_start(migrating.postgres);
	uv_run(&loop, UV_RUN_DEFAULT);
	postgres_free(migrating.postgres);
	uv_loop_close(&loop);
	buffer_fini(&sql);
	return migrating.result;
}
