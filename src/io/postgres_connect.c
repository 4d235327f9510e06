/* From a conninfo to a connection that is UP. The steps:
 *
 *   the hosts that libpq makes of conninfo, environment and service file ─► their names looked up by uv_getaddrinfo, one after the
 *   other ─► a list of targets, each a host with one address ─► PQconnectPoll on one target after the other, each with a deadline (libpq
 *   has none of its own here) ─► setup ─► statements prepared ─► UP
 *
 * Each target is a connection of its own, so that a host that swallows everything costs its deadline and no more. As
 * with libpq, one that refuses the password ends the round: the others would too. libpq still gets `host`, for
 * certificates, Kerberos and password files. */
#include "io/postgres_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/text.h"

#define CONNECT_TIMEOUT_MS 10000
#define USER_TIMEOUT "15000" /* ms: how long the kernel keeps sending what nobody acknowledges */
/* s, s and a number: when the kernel asks whether the other side is there while nothing is sent. */
#define KEEPALIVES_IDLE "10"
#define KEEPALIVES_INTERVAL "5"
#define KEEPALIVES_COUNT "3"
#define TARGETS_MAX 32
#define KEYWORDS_MAX 64 /* libpq knows some 45 */

struct postgres_lookup {
	uv_getaddrinfo_t request;
	struct postgres *postgres; /* borrowed; NULL once nobody waits for it */
};

/* === what to connect to === */

void postgres_targets_free(struct postgres_target **targets, size_t *count)
{
	for (size_t i = 0; i < *count; i++) {
		free((*targets)[i].host);
		free((*targets)[i].address);
		free((*targets)[i].port);
	}
	free(STEAL(*targets));
	*count = 0;
}

static const char *option_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options && options->keyword; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options->val && *options->val ? options->val : NULL;
	return NULL;
}

/* The element at `index` of a list with commas, allocated; NULL where it is empty. A list of one holds for all. */
static char *list_element(const char *list, size_t index)
{
	if (!list)
		return NULL;
	if (!strchr(list, ','))
		return string_copy(list);
	for (; index > 0; index--) {
		list = strchr(list, ',');
		if (!list)
			return NULL;
		list++;
	}
	size_t len = strcspn(list, ",");
	return len > 0 ? bytes_copy_string((struct bytes){ list, len }) : NULL;
}

static size_t list_count(const char *list)
{
	size_t count = 1;
	for (; *list; list++)
		count += *list == ',';
	return count;
}

/* What libpq makes of conninfo, environment, service file and defaults. It tells that of a connection only, and to make
 * one it would look up names; so it is asked for one that it must refuse before that, by an sslmode that there is
 * not. */
static PQconninfoOption *effective_options(const char *conninfo)
{
	const char *const keywords[] = { "dbname", "sslmode", NULL };
	const char *const values[] = { conninfo, "unheard-of", NULL };
	PGconn *conn = PQconnectStartParams(keywords, values, /* expand_dbname= */ 1);
	PQconninfoOption *options = PQconninfo(conn);
	PQfinish(conn);
	return options;
}

static void find_hosts(struct postgres *postgres)
{
	PQconninfoOption *options = effective_options(postgres->options.conninfo);
	const char *host = option_of(options, "host"), *address = option_of(options, "hostaddr");
	const char *timeout = option_of(options, "connect_timeout");
	int64_t seconds = 0;
	size_t count = address ? list_count(address) : host ? list_count(host) : 1;
	postgres_targets_free(&postgres->hosts, &postgres->host_count);
	postgres_targets_free(&postgres->targets, &postgres->target_count);
	count = count > TARGETS_MAX ? TARGETS_MAX : count;
	postgres->hosts = alloc_array(count, sizeof(*postgres->hosts));
	postgres->targets = alloc_array(TARGETS_MAX, sizeof(*postgres->targets));
	postgres->host_count = count;
	for (size_t i = 0; i < count; i++)
		postgres->hosts[i] = (struct postgres_target){
			.host = list_element(host, i),
			.address = list_element(address, i),
			.port = list_element(option_of(options, "port"), i),
		};
	postgres->connect_timeout_ms = CONNECT_TIMEOUT_MS;
	if (timeout && text_to_int(bytes_of(timeout), 1, 3600, &seconds))
		postgres->connect_timeout_ms = (uint64_t)seconds * 1000;
	PQconninfoFree(options);
}

static void add_target(struct postgres *postgres, const struct postgres_target *host, const char *address)
{
	if (postgres->target_count == TARGETS_MAX)
		return;
	postgres->targets[postgres->target_count++] = (struct postgres_target){
		.host = string_copy(host->host),
		.address = string_copy(address),
		.port = string_copy(host->port),
	};
}

static bool needs_lookup(const struct postgres_target *host)
{
	return !host->address && host->host && host->host[0] != '/' && host->host[0] != '@';
}

static void next_host(struct postgres *postgres);
static void connect_target(struct postgres *postgres);

static void on_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
	struct postgres_lookup *lookup = request->data;
	struct postgres *postgres = lookup->postgres;
	free(lookup);
	if (!postgres) {
		uv_freeaddrinfo(addresses);
		return;
	}
	const struct postgres_target *host = &postgres->hosts[postgres->host];
	postgres->lookup = NULL;
	if (status < 0)
		err_set(&postgres->last_error, status, "%s: %s", host->host, uv_strerror(status));
	for (const struct addrinfo *at = status < 0 ? NULL : addresses; at; at = at->ai_next) {
		char text[NI_MAXHOST]; /* unlike uv_ip6_name this keeps the scope of a link-local address */
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
			add_target(postgres, host, text);
	}
	uv_freeaddrinfo(addresses);
	postgres->host++;
	next_host(postgres);
}

static void look_up(struct postgres *postgres, const struct postgres_target *host)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct postgres_lookup *lookup = alloc(sizeof(*lookup));
	lookup->request.data = lookup;
	lookup->postgres = postgres;
	postgres->lookup = lookup;
	int result = uv_getaddrinfo(postgres->options.loop, &lookup->request, on_looked_up, host->host, NULL, &hints);
	if (result == 0)
		return;
	/* A name that cannot be one is refused at once. */
	free(lookup);
	postgres->lookup = NULL;
	err_set(&postgres->last_error, result, "%s: %s", host->host, uv_strerror(result));
	postgres->host++;
	next_host(postgres);
}

/* Hosts that need no look-up are taken as they are; returns to the loop for the others. */
static void next_host(struct postgres *postgres)
{
	for (; postgres->host < postgres->host_count; postgres->host++) {
		const struct postgres_target *host = &postgres->hosts[postgres->host];
		if (needs_lookup(host)) {
			look_up(postgres, host);
			return;
		}
		add_target(postgres, host, host->address);
	}
	postgres->target = 0;
	if (postgres->target_count > 0)
		connect_target(postgres);
	else
		postgres_down(postgres, /* fatal= */ false);
}

void postgres_connect(struct postgres *postgres)
{
	postgres_set_state(postgres, POSTGRES_STATE_RESOLVING);
	postgres->setup_is_refused = false;
	find_hosts(postgres);
	postgres->host = 0;
	next_host(postgres);
}

void postgres_connect_abandon(struct postgres *postgres)
{
	if (!postgres->lookup)
		return;
	postgres->lookup->postgres = NULL;
	uv_cancel((uv_req_t *)&postgres->lookup->request); /* where it runs already, its end is awaited by nobody */
	postgres->lookup = NULL;
}

/* === connecting === */

static void on_server_notice(void *owner, const PGresult *result)
{
	struct postgres *postgres = owner;
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	log_event(postgres->options.log, LOG_DEBUG, "postgresql notice", L_STR("purpose", postgres->options.purpose),
		L_STR("message", message ? message : ""));
}

/* This target has failed: on to the next, or down. */
static void target_failed(struct postgres *postgres, bool fatal)
{
	postgres_close(postgres);
	if (!fatal && ++postgres->target < postgres->target_count)
		connect_target(postgres);
	else
		postgres_down(postgres, fatal);
}

static void fail_with_libpq(struct postgres *postgres)
{
	char sqlstate[6];
	const struct postgres_target *target = &postgres->targets[postgres->target];
	postgres_error_text(&postgres->last_error, -ECONNREFUSED,
		postgres->conn ? PQerrorMessage(postgres->conn) : "out of memory", sqlstate);
	bool fatal = postgres_is_fatal(sqlstate) || (postgres->conn && PQconnectionNeedsPassword(postgres->conn));
	if (target->host && !strstr(postgres->last_error.message, target->host))
		err_prefix(&postgres->last_error, "%s", target->host);
	target_failed(postgres, fatal);
}

void postgres_connect_late(struct postgres *postgres)
{
	const struct postgres_target *target = &postgres->targets[postgres->target];
	err_set(&postgres->last_error, -ETIMEDOUT, "%s: no connection within %d s",
		target->host ? target->host : "server", (int)(postgres->connect_timeout_ms / 1000));
	target_failed(postgres, /* fatal= */ false);
}

struct settings {
	const char *keywords[KEYWORDS_MAX], *values[KEYWORDS_MAX];
	size_t count;
};

static void settings_add(struct settings *settings, const char *keyword, const char *value)
{
	if (!value || settings->count + 1 >= KEYWORDS_MAX)
		return;
	settings->keywords[settings->count] = keyword;
	settings->values[settings->count++] = value;
}

static bool is_set(const PQconninfoOption *options, const char *keyword)
{
	return option_of(options, keyword);
}

/* Later words count for more in libpq. */
static PGconn *connect_start(struct postgres *postgres, const PQconninfoOption *options)
{
	const struct postgres_target *target = &postgres->targets[postgres->target];
	struct settings settings = { 0 };
	char name[64];
	snprintf(name, sizeof(name), "assay %s", postgres->options.purpose);
	settings_add(&settings, "fallback_application_name", name);
	/* GSSAPI asks its servers without minding that we must not wait, and hides from us what it has decrypted
	 * already. */
	if (!is_set(options, "gssencmode"))
		settings_add(&settings, "gssencmode", "disable");
	settings_add(&settings, "tcp_user_timeout", USER_TIMEOUT);
	settings_add(&settings, "keepalives_idle", KEEPALIVES_IDLE);
	settings_add(&settings, "keepalives_interval", KEEPALIVES_INTERVAL);
	settings_add(&settings, "keepalives_count", KEEPALIVES_COUNT);
	/* Of several servers all but one are standbys. */
	if (postgres->host_count > 1)
		settings_add(&settings, "target_session_attrs", "read-write");
	for (const PQconninfoOption *option = options; option->keyword; option++)
		if (strcmp(option->keyword, "host") != 0 && strcmp(option->keyword, "hostaddr") != 0 &&
			strcmp(option->keyword, "port") != 0)
			settings_add(&settings, option->keyword, option->val);
	settings_add(&settings, "client_encoding", "UTF8");
	settings_add(&settings, "host", target->host);
	settings_add(&settings, "hostaddr", target->address);
	settings_add(&settings, "port", target->port);
	return PQconnectStartParams(settings.keywords, settings.values, /* expand_dbname= */ 0);
}

/* libpq quotes what it does not understand, and that may be part of a password. */
static void hide_quotations(char *message)
{
	char *to = message;
	for (const char *at = message; *at; at++) {
		const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
		*to++ = *at;
		if (!end)
			continue;
		/* "=" is what it misses. */
		if (end - at == 2 && at[1] == '=')
			*to++ = '=';
		*to++ = '"';
		at = end;
	}
	*to = '\0';
}

static void connect_target(struct postgres *postgres)
{
	char *complaint = NULL;
	char sqlstate[6];
	PQconninfoOption *options = PQconninfoParse(postgres->options.conninfo, &complaint);
	if (!options) {
		postgres_error_text(&postgres->last_error, -EINVAL, complaint ? complaint : "out of memory", sqlstate);
		hide_quotations(postgres->last_error.message);
		err_prefix(&postgres->last_error, "the connection string is not understood");
		PQfreemem(complaint);
		postgres_down(postgres, /* fatal= */ true);
		return;
	}
	postgres_set_state(postgres, POSTGRES_STATE_CONNECTING);
	postgres->conn = connect_start(postgres, options);
	PQconninfoFree(options);
	if (!postgres->conn || PQstatus(postgres->conn) == CONNECTION_BAD) {
		fail_with_libpq(postgres);
		return;
	}
	PQsetNoticeReceiver(postgres->conn, on_server_notice, postgres);
	/* So that a refusal tells its SQLSTATE, which libpq does not give otherwise while connecting. */
	PQsetErrorVerbosity(postgres->conn, PQERRORS_VERBOSE);
	if (!postgres_watch(postgres, UV_WRITABLE))
		target_failed(postgres, /* fatal= */ false);
}

static void prepare_statements(struct postgres *postgres);

static void connected(struct postgres *postgres)
{
	PGconn *conn = postgres->conn;
	PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
	postgres->server_version = PQserverVersion(conn);
	if (PQsetnonblocking(conn, 1) != 0) {
		fail_with_libpq(postgres);
		return;
	}
	if (PQgssEncInUse(conn)) {
		err_set(&postgres->last_error, -ENOTSUP, "encryption by GSSAPI is not supported; use TLS");
		postgres_down(postgres, /* fatal= */ true);
		return;
	}
	postgres->refused_sqlstate[0] = '\0';
	if (!postgres->options.setup) {
		prepare_statements(postgres);
	} else {
		postgres_set_state(postgres, POSTGRES_STATE_SETTING_UP);
		if (PQsendQuery(conn, postgres->options.setup))
			postgres_pump(postgres, /* read= */ false);
		else
			fail_with_libpq(postgres);
	}
}

/* libpq may close its socket and open another inside PQconnectPoll: the watch goes before and comes after. */
void postgres_connect_step(struct postgres *postgres)
{
	postgres_unwatch(postgres);
	int events = 0;
	switch (PQconnectPoll(postgres->conn)) {
	case PGRES_POLLING_READING:
		events = UV_READABLE;
		break;
	case PGRES_POLLING_WRITING:
		events = UV_WRITABLE;
		break;
	case PGRES_POLLING_OK:
		connected(postgres);
		return;
	default:
		fail_with_libpq(postgres);
		return;
	}
	if (!postgres_watch(postgres, events))
		target_failed(postgres, /* fatal= */ false);
}

/* === after connecting === */

static void prepare_statements(struct postgres *postgres)
{
	PGconn *conn = postgres->conn;
	const struct postgres_statement *const *statements = postgres->options.statements;
	postgres_set_state(postgres, POSTGRES_STATE_PREPARING);
	bool sent = PQenterPipelineMode(conn) == 1;
	for (size_t i = 0; sent && !postgres->is_unnamed && i < postgres->statement_count; i++)
		sent = PQsendPrepare(conn, postgres->wire_names[i], statements[i]->sql, 0, NULL) == 1;
	if (sent)
		sent = PQpipelineSync(conn) == 1;
	if (sent)
		postgres_pump(postgres, /* read= */ false);
	else
		fail_with_libpq(postgres);
}

/* Not the one's fault who asked: 57 (shut down), 53 (no resources), 08 (connection), 40 (deadlock), 55 (lock), and a
 * standby, which may be promoted. */
static bool passes(const char *sqlstate)
{
	static const char *const classes[] = { "57", "53", "08", "40", "55", "25006" };
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (strncmp(sqlstate, classes[i], strlen(classes[i])) == 0)
			return true;
	return false;
}

void postgres_setup_done(struct postgres *postgres)
{
	const char *sqlstate = postgres->refused_sqlstate;
	if (postgres->state == POSTGRES_STATE_PREPARING && postgres_is_of_pooler(sqlstate)) {
		postgres->is_unnamed = true;
		postgres->refused_sqlstate[0] = '\0';
	}
	bool passing = passes(sqlstate);
	if (postgres->state == POSTGRES_STATE_SETTING_UP && postgres->options.setup_may_fail && sqlstate[0] &&
		!passing) {
		log_event(postgres->options.log, LOG_DEBUG, "postgresql refused the settings of the connection",
			L_STR("purpose", postgres->options.purpose), L_ERR(&postgres->last_error));
		postgres->refused_sqlstate[0] = '\0';
	}
	if (sqlstate[0]) {
		postgres->setup_is_refused = postgres->state == POSTGRES_STATE_SETTING_UP && !passing;
		postgres_down(postgres, !passing);
	} else if (postgres->state == POSTGRES_STATE_SETTING_UP) {
		prepare_statements(postgres);
	} else {
		postgres->failures = 0;
		postgres_set_state(postgres, POSTGRES_STATE_UP);
		postgres_wake(postgres); /* what libpq has read already is told of by nobody else */
		postgres_tell(postgres, /* up= */ true, /* fatal= */ false);
	}
}
