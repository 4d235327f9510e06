/* One connection to PostgreSQL on the loop: libpq, asynchronous, in pipeline mode.
 *
 * Work comes as groups: one to a few statements and one Sync, which PostgreSQL runs as one implicit transaction
 * (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html). Groups are answered in the order they came, each exactly once, on the
 * loop's thread, never from within the call that handed it in, and only when its Sync has been answered: before that not even
 * a COMMAND_OK is sure. All that is handed in during one turn of the loop leaves together: with one write where libpq is 17 or newer, with one per
 * group before.
 *
 *   DOWN ─► RESOLVING ─► CONNECTING ─► [SETTING_UP] ─► PREPARING ─► UP ─► (connection lost) ─► BACKOFF ─► RESOLVING …
 *
 * Behind a pooler that gives each transaction to another connection of the server, named statements do not work: the first refusal for that reason (SQLSTATE
 * 26000 or 42P05) makes this connection send all statements with their text from then on, for good, and the groups that were refused are done
 * again by themselves; only then are they overtaken by those that were sent behind them. Nothing else is needed for such a pooler, but LISTEN and
 * settings of a session do not work through it. No startup `options` are sent.
 *
 * A table altered under a prepared statement makes the group POSTGRES_NOT_SENT and the connection be made anew.
 *
 * When the connection is lost, groups that have not been written are POSTGRES_NOT_SENT, those that have are POSTGRES_UNKNOWN. A group handed in
 * while the connection is not UP is POSTGRES_NOT_SENT. The connection is made again with jittered exponential back-off (100 ms to 5 s) for ever.
 * Of several hosts, or several addresses of one, each is tried for connect_timeout (10 s where conninfo names none) before the next; where
 * several hosts are named, one that can be written to is wanted unless target_session_attrs says otherwise. A standby is waited for.
 * Names are resolved by uv_getaddrinfo (libpq's own look-up would block); everything else (TLS, service files, passwords) is libpq's own, save
 * that GSSAPI encryption is off.
 *
 * Parameters and results are in PostgreSQL's binary formats, arrays too. */
#ifndef ASSAY_IO_POSTGRES_H
#define ASSAY_IO_POSTGRES_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/uuid.h"

struct postgres;

#define POSTGRES_GROUP_MAX 6 /* statements */
#define POSTGRES_PARAMETERS_MAX 48
#define POSTGRES_SILENCE_MS 10000

/* Static: prepared under its name by every connection that lists it. */
struct postgres_statement {
	const char *name;
	const char *sql;
	int parameter_count;
};

/* ---- parameters: written one after the other into a group ---- */

enum postgres_outcome {
	POSTGRES_OK,
	POSTGRES_FAILED, /* the server refused a statement and rolled the group back: sqlstate, err */
	POSTGRES_NOT_SENT, /* nothing was written: err says why */
	POSTGRES_UNKNOWN, /* written, but the connection was lost before the answer */
};

struct postgres_call {
	const struct postgres_statement *statement;
	size_t first_parameter, parameter_count; /* within the group's */
};

/* The caller's; embedded or allocated; zeroed before first use. Filled by postgres_group_* and handed in; given back by done. */
struct postgres_group {
	void (*done)(struct postgres_group *group);
	void *owner;
	enum postgres_outcome outcome;
	char sqlstate[6]; /* POSTGRES_FAILED */
	struct err err; /* unless POSTGRES_OK */
	size_t call_count;
	struct postgres_call calls[POSTGRES_GROUP_MAX];
	PGresult *results[POSTGRES_GROUP_MAX]; /* owned; of each statement, when POSTGRES_OK */
	/* The module's: */
	struct buffer values; /* owned: the parameters' bytes */
	size_t parameter_count;
	struct {
		size_t offset;
		int length;
	} parameters[POSTGRES_PARAMETERS_MAX]; /* length -1: NULL */
	size_t answered;
	bool sent_named; /* at least one statement by the name it was prepared under */
	bool stale; /* refused because a table was altered since */
	struct list link;
};

/* Begins a statement; its parameters follow in order. */
void postgres_group_add(struct postgres_group *group, const struct postgres_statement *statement);
void postgres_put_null(struct postgres_group *group);
void postgres_put_bool(struct postgres_group *group, bool value);
void postgres_put_int2(struct postgres_group *group, int16_t value);
void postgres_put_int4(struct postgres_group *group, int32_t value);
void postgres_put_int8(struct postgres_group *group, int64_t value);
void postgres_put_float8(struct postgres_group *group, double value);
void postgres_put_uuid(struct postgres_group *group, const struct uuid *value);
void postgres_put_text(struct postgres_group *group, struct bytes value); /* absent: NULL. Also json and bytea */
void postgres_put_jsonb(struct postgres_group *group, struct bytes value); /* absent: NULL */
void postgres_put_time(struct postgres_group *group, int64_t us); /* timestamptz; 0: NULL */

/* An array parameter: begin, one call per element (in any of the element forms below; xid8 as int8), end. Element
 * types by OID (catalog/pg_type.dat). */
enum postgres_type {
	POSTGRES_BOOL = 16,
	POSTGRES_BYTEA = 17,
	POSTGRES_INT8 = 20,
	POSTGRES_INT2 = 21,
	POSTGRES_INT4 = 23,
	POSTGRES_TEXT = 25,
	POSTGRES_JSON = 114,
	POSTGRES_FLOAT8 = 701,
	POSTGRES_TIMESTAMPTZ = 1184,
	POSTGRES_UUID = 2950,
	POSTGRES_JSONB = 3802,
	POSTGRES_XID8 = 5069,
};
struct postgres_array {
	struct postgres_group *group;
	size_t start; /* of its head in group->values */
	enum postgres_type type;
	int32_t count;
	bool has_null, has_value;
};
struct postgres_array postgres_array_begin(struct postgres_group *group, enum postgres_type type);
void postgres_array_null(struct postgres_array *array);
void postgres_array_bool(struct postgres_array *array, bool value);
void postgres_array_int2(struct postgres_array *array, int16_t value);
void postgres_array_int4(struct postgres_array *array, int32_t value);
void postgres_array_int8(struct postgres_array *array, int64_t value);
void postgres_array_float8(struct postgres_array *array, double value);
void postgres_array_uuid(struct postgres_array *array, const struct uuid *value); /* nil: NULL */
void postgres_array_text(struct postgres_array *array, struct bytes value); /* text, json, jsonb, bytea; absent: NULL */
void postgres_array_time(struct postgres_array *array, int64_t us); /* 0: NULL */
void postgres_array_end(struct postgres_array *array);
/* Where no element has a value, NULL is sent for the array: to unnest() beside longer arrays it is the same. */
void postgres_array_end_sparse(struct postgres_array *array);

/* ---- results, binary; a NULL reads as 0, false, nil, absent ---- */
bool postgres_get_null(const PGresult *result, int row, int column);
bool postgres_get_bool(const PGresult *result, int row, int column);
int64_t postgres_get_int(const PGresult *result, int row, int column); /* int2, int4, int8, xid8 */
double postgres_get_float8(const PGresult *result, int row, int column);
struct uuid postgres_get_uuid(const PGresult *result, int row, int column);
struct bytes postgres_get_text(const PGresult *result, int row,
	int column); /* text, json, jsonb (its version byte skipped), bytea; borrowed from the result */
int64_t postgres_get_time(const PGresult *result, int row, int column); /* microseconds since 1970 */

/* Hands it in. What an earlier round left in it (results, outcome) is dropped: a group that was given back may be handed in again as it is. Parameters
 * that came to more than PostgreSQL takes (1 GiB) make it POSTGRES_FAILED with SQLSTATE 54000. */
void postgres_submit(struct postgres *postgres, struct postgres_group *group);
/* Frees parameters and results; done, owner and nothing else stay, so that it can be filled again. */
void postgres_group_fini(struct postgres_group *group);
/* The same, but keeps the parameters' memory for the next round. */
void postgres_group_reset(struct postgres_group *group);

/* ---- the connection ---- */

/* For options.setup, before whatever else it holds, where no pooler stands between. A group whose Sync was lost with the network keeps its locks for as
 * long as the server believes in the connection, which by default is two hours; with this, half a minute. (A Unix socket ignores it.) And from
 * PostgreSQL 14 on a statement that runs when the connection is closed is cancelled within 5 s. */
#define POSTGRES_SETUP_KEEPALIVE \
	"set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; set " \
	"tcp_user_timeout = 20000; select set_config(name, '5000', false) from pg_settings where name = " \
	"'client_connection_check_interval';"

struct postgres_notice { /* NOTIFY received; borrowed for the call */
	const char *channel, *payload;
	bool own; /* sent by this very connection */
};

struct postgres_options {
	uv_loop_t *loop; /* borrowed, as all of these */
	struct log *log;
	const char *conninfo; /* a URI or key=value words, as libpq takes them; copied */
	const char *purpose; /* "admission", …: application_name is "assay purpose" unless conninfo names one */
	const struct postgres_statement *const *statements; /* prepared at each connect; NULL-terminated; NULL: none */
	const char *
		setup; /* SQL sent before anything else at each connect, not in pipeline mode: may be several statements; NULL: none */
	bool setup_may_fail; /* a server, or what stands before it, that refuses setup is used without */
	bool setup_takes_long; /* setup has no deadline but what the network says: it may wait for locks */
	/* Told at each change, never from within a call: UP, or not and why. `fatal`: no waiting mends it (SQLSTATE class 28, 3D, 42, 0A; setup was
	 * refused); it is tried again all the same. */
	void (*on_state)(void *owner, bool up, bool fatal, const struct err *why_not);
	void (*on_notice)(void *owner, const struct postgres_notice *notice); /* may be NULL */
	void *owner;
	/* How long the server may send nothing while it owes an answer before the connection is given up; 0: POSTGRES_SILENCE_MS. So no
	 * statement may run longer than this. Where nothing was asked for as long, an empty group is, so that a connection that is only
	 * listened on is missed too when it is cut. */
	int silence_ms;
};

struct postgres *postgres_new(const struct postgres_options *options);
void postgres_start(struct postgres *postgres); /* connects */
/* Answers what it has (POSTGRES_NOT_SENT where not written, else waits for it until `drain_ms` are over, then POSTGRES_UNKNOWN), then calls on_stopped once. */
void postgres_stop(struct postgres *postgres, uint64_t drain_ms, void (*on_stopped)(void *owner), void *owner);
void postgres_free(struct postgres *postgres); /* after on_stopped, or never started */
/* Another silence_ms from now on. */
void postgres_set_silence(struct postgres *postgres, int silence_ms);
bool postgres_is_up(const struct postgres *postgres);
/* Is it down because the server, once it had let us in, refused `setup` for good? Not: for a password, a rule of access, the network. */
bool postgres_setup_is_refused(const struct postgres *postgres);
int postgres_server_version(const struct postgres *postgres); /* 150018; 0: never connected */
/* Groups handed in and not answered. */
size_t postgres_in_flight(const struct postgres *postgres);

#endif
