/* The store in PostgreSQL (13 or newer), for any number of replicas without a leader. Everything lives in one schema.
 *
 * A few connections, each with its errand: submissions, claims, settlements and commands, heartbeats, quick reads,
 * reads that may scan, keeping (takes, retention, deliveries), and LISTEN. Each operation is one implicit transaction
 * of pipelined statements; none leaves anything behind in the session, so that a pooler in transaction mode may stand
 * between, but for LISTEN, which goes by `listen_url`.
 *
 * The LISTEN connection comes first: it brings the schema to the newest migration, under an advisory lock, and checks
 * it. The store is available when all connections are up, and away when one that submits, claims, settles or beats is.
 * While one is away its operations are STORE_AWAY (those of the others wait a few seconds for it first), and it is
 * tried again for ever. A read that takes longer than 8 s is STORE_FAILED with -ETIMEDOUT. What no waiting mends is
 * told by on_failed if it shows before the store was available for the first time.
 *
 * Leases, run_after, created_at and all that is due are judged by the database's clock. */
#ifndef ASSAY_STORE_POSTGRES_POSTGRES_STORE_H
#define ASSAY_STORE_POSTGRES_POSTGRES_STORE_H

#include <stdbool.h>
#include <uv.h>

#include "assay/store.h"
#include "base/buffer.h"
#include "base/log.h"

#define POSTGRES_STORE_SCHEMA_DEFAULT "assay"

struct postgres_store_options {
	uv_loop_t *loop; /* borrowed: outlives the store */
	struct log *log; /* borrowed: outlives the store */
	const char *url; /* libpq's conninfo, URI or words; copied */
	const char *listen_url; /* the same past a pooler; NULL: url. Copied */
	const char *schema; /* postgres_store_schema_valid(); NULL: the default. Copied */
};

/* Nothing is opened before store->ops->start(). Free it with store->ops->free() when it was never started or has
 * stopped. */
struct store *postgres_store_new(const struct postgres_store_options *options) __attribute__((returns_nonnull));

/* [a-z_][a-z0-9_]*, at most 63 bytes. */
bool postgres_store_schema_valid(const char *schema);

/* The SQL that brings a schema to the newest migration and checks it, whatever state it is in: several statements, one
 * transaction. */
void postgres_store_migration_sql(const char *schema, bool compat_views, struct buffer *sql);
/* Runs postgres_store_migration_sql() on a loop of its own until it is done or refused, or the server cannot be
 * reached: a negative errno value. */
int postgres_store_migrate(
	const char *url, const char *schema, bool compat_views, struct log *log, struct err *err) MUST_CHECK;

#endif
