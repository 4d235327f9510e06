/* The one place that talks with libpq once a connection is made: take what came, read results until libpq is busy, send
 * what waits, flush, and set the watch. Both directions in every round, which is what keeps two full sockets from
 * waiting for each other.
 *
 * What libpq says in pipeline mode: for each statement one result and then NULL (PGRES_PIPELINE_ABORTED after an
 * error), and for each Sync one PGRES_PIPELINE_SYNC without a NULL. Results are counted, NULLs are not; two NULLs in a
 * row mean that there is nothing.
 *
 * libpq also reads where it wants to write and cannot, and OpenSSL decrypts whole records of up to 16 KiB where libpq
 * asks for the 8 KiB it has room for. In both cases bytes have left the socket, so that no readiness is told any more:
 * results are taken again after sending, and reading goes on while OpenSSL has something. */
#include "io/postgres_internal.h"

#include <assert.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>

#include "base/alloc.h"

#define ENCODED_MAX ((size_t)256 << 10) /* bytes given to libpq between two looks whether the socket takes them */

#define ROUNDS_MAX 16

enum step { STEP_AGAIN, STEP_NOTHING, STEP_LOST, STEP_GONE };

/* === results === */

static struct postgres_group *first_sent(const struct postgres *postgres)
{
	return list_empty(&postgres->sent) ? NULL : LIST_ENTRY(postgres->sent.next, struct postgres_group, link);
}

static void describe_refusal(const PGresult *result, struct err *err, char ret_sqlstate[static 6])
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	snprintf(ret_sqlstate, 6, "%s", sqlstate ? sqlstate : "XX000");
	if (!message)
		message = PQresultErrorMessage(result);
	err_set(err, -EIO, "%s%s%s", message, detail ? ": " : "", detail ? detail : "");
}

/* A table was altered under a prepared statement ("cached plan must not change result type"): only preparing it anew
 * helps. */
static bool is_of_stale_plan(const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
	return sqlstate && function && strcmp(sqlstate, "0A000") == 0 && strcmp(function, "RevalidateCachedQuery") == 0;
}

/* Its Sync was answered: only now is the outcome sure. */
static void answer(struct postgres *postgres, struct postgres_group *group)
{
	bool refused_by_name = group->outcome == POSTGRES_FAILED && group->sent_named;
	list_remove(&group->link);
	if (refused_by_name && postgres_is_of_pooler(group->sqlstate)) {
		/* Named statements do not work through a pooler that changes servers; nothing of the group was kept. It
		 * goes before those that wait, and behind others of its kind. */
		postgres->is_unnamed = true;
		postgres_group_forget_results(group);
		list_push_back(&postgres->again, &group->link);
		return;
	}
	if (refused_by_name && group->stale) {
		struct err why = group->err;
		postgres_group_fail(group, POSTGRES_NOT_SENT, -ESTALE, &why);
	}
	postgres->count--;
	group->done(group);
}

static enum step take_for_group(struct postgres *postgres, struct postgres_group *group, PGresult *result)
{
	switch (PQresultStatus(result)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		if (group->answered == group->call_count)
			break;
		group->results[group->answered++] = result;
		return STEP_AGAIN;
	case PGRES_FATAL_ERROR:
		/* The first counts; one after all statements is of the commit itself (a deferred constraint). */
		if (group->outcome == POSTGRES_OK) {
			group->outcome = POSTGRES_FAILED;
			describe_refusal(result, &group->err, group->sqlstate);
		}
		group->stale |= is_of_stale_plan(result);
		postgres->is_stale |= group->stale;
		PQclear(result);
		group->answered += group->answered < group->call_count;
		return STEP_AGAIN;
	case PGRES_PIPELINE_ABORTED:
		PQclear(result);
		group->answered += group->answered < group->call_count;
		return STEP_AGAIN;
	case PGRES_PIPELINE_SYNC:
		PQclear(result);
		if (group->outcome == POSTGRES_OK && group->answered != group->call_count)
			return STEP_LOST;
		answer(postgres, group);
		return STEP_AGAIN;
	default:
		break;
	}
	PQclear(result);
	return STEP_LOST;
}

/* SETTING_UP, PREPARING. */
static enum step take_for_setup(struct postgres *postgres, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_FATAL_ERROR && !postgres->refused_sqlstate[0])
		describe_refusal(result, &postgres->last_error, postgres->refused_sqlstate);
	PQclear(result);
	switch (status) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
	case PGRES_FATAL_ERROR:
	case PGRES_PIPELINE_ABORTED:
		return STEP_AGAIN;
	case PGRES_PIPELINE_SYNC:
		if (postgres->state != POSTGRES_STATE_PREPARING)
			return STEP_LOST;
		postgres_setup_done(postgres);
		return STEP_GONE;
	default:
		return STEP_LOST; /* COPY, for one */
	}
}

static enum step take_one(struct postgres *postgres, bool *was_null)
{
	PGresult *result = PQgetResult(postgres->conn);
	if (!result) {
		if (postgres->state == POSTGRES_STATE_SETTING_UP && PQstatus(postgres->conn) == CONNECTION_OK) {
			postgres_setup_done(postgres);
			return STEP_GONE;
		}
		bool is_second = *was_null;
		*was_null = true;
		return is_second ? STEP_NOTHING : STEP_AGAIN;
	}
	*was_null = false;
	if (postgres->state != POSTGRES_STATE_UP)
		return take_for_setup(postgres, result);
	struct postgres_group *group = first_sent(postgres);
	if (group)
		return take_for_group(postgres, group, result);
	PQclear(result);
	return STEP_LOST; /* an answer that nobody asked for */
}

static bool expects_results(const struct postgres *postgres)
{
	return postgres->state != POSTGRES_STATE_UP || !list_empty(&postgres->sent);
}

/* STEP_GONE: another state than before, and somebody else has gone on with it. */
static enum step take_results(struct postgres *postgres)
{
	bool was_null = false;
	while (expects_results(postgres) && !PQisBusy(postgres->conn)) {
		enum step step = take_one(postgres, &was_null);
		if (step != STEP_AGAIN)
			return step;
	}
	return STEP_NOTHING;
}

static void take_notices(struct postgres *postgres)
{
	PGnotify *notify;
	while ((notify = PQnotifies(postgres->conn))) {
		const struct postgres_notice notice = {
			.channel = notify->relname,
			.payload = notify->extra,
			.own = notify->be_pid == PQbackendPID(postgres->conn),
		};
		if (postgres->options.on_notice && !postgres->is_stopping)
			postgres->options.on_notice(postgres->options.owner, &notice);
		PQfreemem(notify);
	}
}

/* === sending === */

/* The name it was prepared under, or NULL. */
static const char *wire_name(const struct postgres *postgres, const struct postgres_statement *statement)
{
	for (size_t i = 0; i < postgres->statement_count && !postgres->is_unnamed; i++)
		if (postgres->options.statements[i] == statement)
			return postgres->wire_names[i];
	return NULL;
}

static bool send_call(struct postgres *postgres, struct postgres_group *group, const struct postgres_call *call)
{
	const char *values[POSTGRES_PARAMETERS_MAX];
	int lengths[POSTGRES_PARAMETERS_MAX], formats[POSTGRES_PARAMETERS_MAX];
	const char *name = wire_name(postgres, call->statement);
	int count = (int)call->parameter_count;
	assert(count == call->statement->parameter_count);
	for (int i = 0; i < count; i++) {
		size_t k = call->first_parameter + (size_t)i;
		int length = group->parameters[k].length;
		values[i] = length < 0 ? NULL : group->values.data + group->parameters[k].offset;
		lengths[i] = length < 0 ? 0 : length;
		formats[i] = 1;
	}
	group->sent_named |= name != NULL;
	if (name)
		return PQsendQueryPrepared(postgres->conn, name, count, values, lengths, formats, /* result: */ 1);
	return PQsendQueryParams(
		postgres->conn, call->statement->sql, count, NULL, values, lengths, formats, /* result: */ 1);
}

static bool send_sync(PGconn *conn)
{
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
	return PQsendPipelineSync(conn);
#else
	return PQpipelineSync(conn); /* writes at once */
#endif
}

static bool send_group(struct postgres *postgres, struct postgres_group *group)
{
	bool sent = true;
	group->sent_named = false;
	for (size_t i = 0; sent && i < group->call_count; i++)
		sent = send_call(postgres, group, &group->calls[i]);
	return sent && send_sync(postgres->conn);
}

static bool flush(struct postgres *postgres)
{
	int left = PQflush(postgres->conn);
	postgres->blocked = left > 0;
	return left >= 0;
}

/* Gives libpq what waits, for as long as the socket takes it: so what is in no buffer yet can be said not to have been
 * sent. */
static bool send_waiting(struct postgres *postgres)
{
	size_t encoded = 0;
	list_splice_back(&postgres->again, &postgres->waiting);
	list_splice_back(&postgres->waiting, &postgres->again);
	if (!flush(postgres))
		return false;
	while (!list_empty(&postgres->waiting) && !postgres->blocked && !postgres->is_stale) {
		struct postgres_group *group =
			LIST_ENTRY(list_pop_front(&postgres->waiting), struct postgres_group, link);
		if (list_empty(&postgres->sent))
			postgres->quiet = 0;
		list_push_back(&postgres->sent, &group->link);
		if (!send_group(postgres, group))
			return false;
		encoded += group->values.len;
		if (encoded >= ENCODED_MAX) {
			encoded = 0;
			if (!flush(postgres))
				return false;
		}
	}
	return flush(postgres);
}

/* === the pump === */

static bool tls_has_more(PGconn *conn)
{
	SSL *ssl = PQsslStruct(conn, "OpenSSL");
	return ssl && SSL_pending(ssl) > 0;
}

/* libpq closes its socket when it finds the connection broken, and whoever is called next may open another of that
 * number. */
static void unwatch_if_closed(struct postgres *postgres)
{
	if (PQsocket(postgres->conn) < 0)
		postgres_unwatch(postgres);
}

/* Where libpq has no complaint, what came was not the protocol. */
static void lost(struct postgres *postgres, bool is_protocol)
{
	char sqlstate[6];
	const char *message = is_protocol ? "the server broke the protocol" : PQerrorMessage(postgres->conn);
	const struct postgres_group *group = first_sent(postgres);
	/* What the server said last tells more than that it closed the connection. */
	if (group && group->outcome == POSTGRES_FAILED)
		message = group->err.message;
	if (postgres->state == POSTGRES_STATE_UP || !postgres->refused_sqlstate[0])
		postgres_error_text(&postgres->last_error, -ECONNRESET, message, sqlstate);
	postgres_down(postgres, /* fatal= */ false);
}

static void settle(struct postgres *postgres)
{
	int events = UV_READABLE | (postgres->blocked ? UV_WRITABLE : 0);
	if (postgres->is_stale && list_empty(&postgres->sent)) {
		err_set(&postgres->last_error, -ESTALE, "a table was altered: statements are prepared anew");
		postgres_down(postgres, /* fatal= */ false);
	} else if (!postgres_watch(postgres, events)) {
		postgres_down(postgres, /* fatal= */ false);
	} else if (!list_empty(&postgres->again)) {
		postgres_wake(postgres);
	} else {
		postgres_finish_if_drained(postgres);
	}
}

void postgres_pump(struct postgres *postgres, bool read)
{
	PGconn *conn = postgres->conn;
	bool is_sound = true;
	for (int round = 0; is_sound && (round == 0 || tls_has_more(conn)); round++) {
		if (round == ROUNDS_MAX) {
			postgres_wake(postgres); /* the others of the loop first */
			break;
		}
		if (read || tls_has_more(conn))
			is_sound = PQconsumeInput(conn) == 1;
		unwatch_if_closed(postgres);
		enum step step = take_results(postgres);
		if (step == STEP_GONE)
			return;
		take_notices(postgres);
		if (is_sound && step != STEP_LOST)
			is_sound = postgres->state == POSTGRES_STATE_UP ? send_waiting(postgres) : flush(postgres);
		unwatch_if_closed(postgres);
		/* Where the socket was full libpq has read, and only libpq knows what. */
		if (is_sound && step != STEP_LOST)
			step = take_results(postgres);
		if (step == STEP_GONE)
			return;
		is_sound = is_sound && PQstatus(conn) == CONNECTION_OK;
		if (step == STEP_LOST || !is_sound) {
			lost(postgres, is_sound);
			return;
		}
	}
	settle(postgres);
}
