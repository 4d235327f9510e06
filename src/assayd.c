/* The service's composition root: the one place that knows every part.
 *
 *   settings ─► log ─► languages ─► store, bus, executors ─► coordinator, webhooks, api ─► http server ─► (ready) ─► "listening on …"
 *
 * SIGTERM and SIGINT drain: the server stops accepting and finishes what is in flight, followers are let go, what runs
 * may go on for the drain time; a second signal ends the wait. Then the parts stop in the order of who asks whom:
 * server, api, webhooks, coordinator (executors, store), bus.
 * SIGHUP reads the tokens and the tenants' limits again. The process ends when the loop has nothing left. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "api/api.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "bus/local.h"
#include "bus/redis.h"
#include "coordinator/coordinator.h"
#include "executor/kubernetes/key.h"
#include "executor/kubernetes/kubernetes.h"
#include "executor/noop.h"
#include "executor/sandbox/sandbox.h"
#include "io/http_server.h"
#include "io/redis_secure.h"
#include "settings.h"
#include "store/postgres/postgres_store.h"
#include "store/sqlite/sqlite_store.h"
#include "task/language.h"
#include "webhook/webhooks.h"

#define FILE_MAX (16 << 20)
#define EXECUTORS_MAX 8
#define EXIT_USAGE 2

struct address {
	char host[256];
	uint16_t port;
	bool loopback;
};

struct app {
	uv_loop_t loop;
	struct log log;
	struct settings settings;
	struct config *config;
	struct address listen;
	struct uuid_generator ids;
	struct languages *languages;
	struct tenants *tenants;
	char *database_url; /* owned; NULL: SQLite */
	struct store *store;
	struct bus *bus;
	struct redis_address redis; /* where it has one: has_redis */
	bool has_redis;
	struct redis_address report_redis; /* where it is set */
	struct executor *executors[EXECUTORS_MAX];
	size_t executor_count;
	struct executor *sandbox; /* among the executors, or NULL */
	struct executor *kubernetes; /* likewise */
	struct buffer kube_template; /* owned */
	uint8_t attempt_key[KUBE_KEY_SIZE]; /* where none is set */
	struct address attempt_fallback;
	struct executor *noop; /* runs the smoke test; may be among the executors too */
	struct coordinator *coordinator;
	struct evaluation_limits limits;
	struct webhooks *webhooks; /* NULL: there is no secret */
	struct api *api;
	struct http_server *server;
	uv_signal_t signals[3];
	int draining; /* signals that asked for it */
	uv_timer_t drain_over; /* then connections are closed whose clients take their time */
	int status; /* of the process */
};

static void drain(struct app *app);

/* ---- small readers ---- */

/* "HOST:PORT", "[V6]:PORT", ":PORT" (every address). */
static int address_parse(const char *text, struct address *ret_address, struct err *err)
{
	const char *colon = strrchr(text, ':');
	struct address address = { 0 };
	int64_t port;
	if (!colon || !text_to_int(bytes_of(colon + 1), 0, 65535, &port))
		return err_set(err, -EINVAL, "%s is not of the form HOST:PORT", text);
	size_t length = (size_t)(colon - text);
	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		text++;
		length -= 2;
	}
	if (length >= sizeof(address.host))
		return err_set(err, -EINVAL, "the host is too long");
	memcpy(address.host, text, length);
	if (!length)
		memcpy(address.host, "::", 3);
	address.port = (uint16_t)port;
	address.loopback = strncmp(address.host, "127.", 4) == 0 || strcmp(address.host, "::1") == 0 ||
			   strcmp(address.host, "localhost") == 0;
	*ret_address = address;
	return 0;
}

/* ---- who may do what ---- */

static int access_check(const struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	bool anonymous = settings->anonymous_role != ANONYMOUS_NONE;
	if (app->listen.loopback || settings->tokens_file || settings->authentication == AUTHENTICATION_OFF)
		return 0;
	if (anonymous && settings->anonymous_from)
		return 0;
	return err_set(err, -EACCES,
		"refusing to listen on %.80s without tokens: name a file of them (--tokens), let clients in by network "
		"(--anonymous-role, --anonymous-from), or switch authentication off (--authentication off)",
		settings->listen);
}

static struct api_access access_of(const struct app *app)
{
	const struct settings *settings = &app->settings;
	static const enum api_role roles[] = { ROLE_NONE, ROLE_READ, ROLE_SUBMIT };
	bool closed = settings->tokens_file || settings->anonymous_role != ANONYMOUS_NONE;
	return (struct api_access){
		.open = settings->authentication == AUTHENTICATION_OFF || !closed,
		.loopback = app->listen.loopback,
		.host_names = settings->host_names.items,
		.metrics_open = settings->metrics_open,
		.anonymous_role = roles[settings->anonymous_role],
		.anonymous_from = settings->anonymous_from,
	};
}

static int tokens_load(struct app *app, struct err *err)
{
	if (!app->settings.tokens_file || !app->api)
		return 0;
	struct buffer text = { 0 };
	int result = file_read(app->settings.tokens_file, FILE_MAX, &text, err);
	if (result == 0)
		result = api_load_tokens(app->api, buffer_bytes(&text), err);
	if (result < 0)
		err_prefix(err, "tokens");
	buffer_fini(&text);
	return result;
}

/* What each tenant may have. On an error nothing is changed. */
static int tenants_load(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	const struct tenant_limits defaults = {
		.queued = settings->tenant_queue_max,
		.running = settings->tenant_running_max,
		.rate = (double)settings->tenant_rate_max,
		.weight = (double)settings->tenant_weight,
	};
	const char *path = settings->tenants_file;
	struct buffer text = { 0 };
	struct tenants *tenants = NULL;
	int result = path ? file_read(path, FILE_MAX, &text, err) : 0;
	if (result == 0)
		result = tenants_parse(buffer_bytes(&text), path ? path : "tenants", &defaults, &tenants, err);
	buffer_fini(&text);
	if (result < 0)
		return result;
	if (app->coordinator)
		coordinator_set_tenants(app->coordinator, tenants);
	if (app->api)
		api_set_tenants(app->api, tenants);
	tenants_free(app->tenants);
	app->tenants = tenants;
	return 0;
}

/* ---- the parts ---- */

static int languages_load(struct app *app, struct err *err)
{
	const char *path = app->settings.languages_file;
	if (!path)
		return languages_parse(languages_builtin(), "built-in languages", &app->languages, err);
	struct buffer text = { 0 };
	int result = file_read(path, FILE_MAX, &text, err);
	if (result == 0)
		result = languages_parse(buffer_bytes(&text), path, &app->languages, err);
	buffer_fini(&text);
	return result;
}

/* The launcher stands beside this program. */
static void launcher_path(char path[static PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 32);
	path[length > 0 ? length : 0] = 0;
	char *slash = strrchr(path, '/');
	strncpy(slash ? slash + 1 : path, "assay-launch", 16);
}

static struct executor *sandbox_make(struct app *app, const char *state_dir)
{
	char launcher[PATH_MAX];
	launcher_path(launcher);
	const struct sandbox_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.languages = app->languages,
		.launcher = launcher,
		.state_dir = state_dir,
		.slots = (int)app->settings.sandbox_slots,
		.progress_us = app->settings.progress_us,
		.uid_base = (uint32_t)app->settings.sandbox_uid_base,
		.unisolated = app->settings.unisolated == UNISOLATED_RUN,
	};
	return sandbox_executor_new(&options);
}

/* The one that is set, or else one of our own. */
static int attempt_key_find(struct app *app, struct bytes *ret_key, struct err *err)
{
	const struct settings *settings = &app->settings;
	int result = kube_key_check("attempt_key", settings->attempt_key, err);
	if (result == 0)
		result = kube_key_check("attempt_key_previous", settings->attempt_key_previous, err);
	*ret_key = settings->attempt_key ? bytes_of(settings->attempt_key)
					 : (struct bytes){ (const char *)app->attempt_key, KUBE_KEY_SIZE };
	if (result < 0 || settings->attempt_key)
		return result;
	result = kube_key_keep(settings->data_dir, app->attempt_key, err);
	if (result > 0)
		log_event(&app->log, LOG_WARNING,
			"the key that reports are signed with cannot be kept: what runs in Kubernetes when this "
			"process ends is "
			"run again",
			L_ERR(err));
	return result < 0 ? result : 0;
}

static struct executor *kubernetes_make(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	struct address listen = { 0 };
	bool reports = settings->attempt_listen && settings->attempt_listen[0] && !settings->kube_report_url;
	if (reports && address_parse(settings->attempt_listen, &listen, err) < 0) {
		err_prefix(err, "attempt_listen");
		return NULL;
	}
	if (settings->kube_report_url &&
		redis_address_parse(bytes_of(settings->kube_report_url), &app->report_redis, err) < 0) {
		err_prefix(err, "kube_report_url");
		return NULL;
	}
	if (settings->attempt_fallback && address_parse(settings->attempt_fallback, &app->attempt_fallback, err) < 0) {
		err_prefix(err, "attempt_fallback");
		return NULL;
	}
	if (settings->kube_template_file &&
		file_read(settings->kube_template_file, FILE_MAX, &app->kube_template, err) < 0)
		return NULL;
	struct bytes key;
	if (attempt_key_find(app, &key, err) < 0)
		return NULL;
	const struct kubernetes_executor_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.languages = app->languages,
		.access = { .loop = &app->loop,
			.url = settings->kube_url,
			.token = settings->kube_token,
			.ca_file = settings->kube_ca_file,
			.kubeconfig = settings->kubeconfig,
			.context = settings->kube_context,
			.service_host = getenv("KUBERNETES_SERVICE_HOST"),
			.service_port = getenv("KUBERNETES_SERVICE_PORT") },
		.manifest = { .namespace = settings->kube_namespace,
			.instance = settings->kube_instance,
			.wrapper_image = settings->kube_wrapper_image,
			.wrapper_path = settings->kube_wrapper_path,
			.template = buffer_bytes(&app->kube_template),
			.user_id = settings->kube_user_id,
			.start_timeout_us = settings->start_timeout_us,
			.grace_us = settings->kube_grace_us,
			.keep_us = settings->kube_keep_us },
		.key = key,
		.previous_key = bytes_of(settings->attempt_key_previous),
		.listen_host = reports ? listen.host : NULL,
		.listen_port = listen.port,
		.report_to = settings->attempt_address,
		.fallback_host = settings->attempt_fallback ? app->attempt_fallback.host : NULL,
		.fallback_port = app->attempt_fallback.port,
		.patience_us = MAX(60 * US_PER_S, 2 * settings->lease_us + 30 * US_PER_S),
		.address_connections = (int)settings->attempt_connections,
		.slots = (int)settings->kube_slots,
		.starting_max = (int)settings->kube_starting,
		.progress_us = settings->progress_us,
		.image_grace_us = settings->kube_image_grace_us,
		.gone_grace_us = settings->kube_gone_grace_us,
		.log_streams = (int)settings->kube_log_streams,
		.redis = app->has_redis ? &app->redis : NULL,
		.publish_url = settings->kube_publish_url,
		.report_redis = settings->kube_report_url ? &app->report_redis : NULL,
		.reconcile_us = settings->kube_reconcile_us,
		.rate = (double)settings->kube_rate,
		.burst = (int)settings->kube_rate,
	};
	return kubernetes_executor_new(&options, err);
}

static int executors_make(struct app *app, struct err *err)
{
	app->noop = noop_executor_new(&app->loop, (int)app->settings.noop_slots);
	for (size_t i = 0; i < app->settings.executors.count; i++) {
		const char *name = app->settings.executors.items[i];
		struct executor *executor = NULL;
		if (strcmp(name, "noop") == 0)
			executor = app->noop;
		else if (strcmp(name, "sandbox") == 0)
			executor = app->sandbox ? app->sandbox
						: (app->sandbox = sandbox_make(app, app->settings.data_dir));
		else if (strcmp(name, "kubernetes") == 0)
			executor = app->kubernetes ? app->kubernetes : (app->kubernetes = kubernetes_make(app, err));
		else
			return err_set(err, -EINVAL,
				"executors: there is no executor called %s; sandbox, kubernetes and noop can be had",
				name);
		if (!executor)
			return err->code;
		for (size_t j = 0; j < app->executor_count; j++)
			if (app->executors[j] == executor)
				return err_set(err, -EINVAL, "executors: %s stands there twice", name);
		app->executors[app->executor_count++] = executor;
	}
	return 0;
}

static void limits_fill(struct app *app)
{
	const struct settings *settings = &app->settings;
	app->limits = (struct evaluation_limits){
		.source_max = (size_t)settings->source_max,
		.timeout_max_us = settings->timeout_max_us,
		.memory_max = settings->memory_max,
		.cpu_max = settings->cpu_max,
		.max_attempts_max = 25,
		.max_attempts_default = (int)settings->max_attempts,
		.priority_default = 5,
		.timeout_default_us = settings->timeout_us,
		.callbacks = !settings->webhook_secret      ? CALLBACK_OFF
			     : settings->webhook_https_only ? CALLBACK_HTTPS
							    : CALLBACK_HTTP_TOO,
		.images = settings->images.items,
		.image_count = settings->images.count,
	};
}

static void on_ready(void *owner);

static void on_reopened(void *owner, const struct uuid *id)
{
	struct app *app = owner;
	if (app->api)
		api_reopened(app->api, id);
}

/* No work was taken yet: the kernel frees what was made. */
static void on_failed(void *owner, const struct err *err)
{
	fprintf(stderr, "assayd: the database cannot be used: %s\n", err->message);
	exit(EXIT_FAILURE);
}

static void coordinator_make(struct app *app)
{
	const struct settings *settings = &app->settings;
	const struct coordinator_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.store = app->store,
		.bus = app->bus,
		.executors = app->executors,
		.executor_count = app->executor_count,
		.internal = app->noop,
		.languages = app->languages,
		.tenants = app->tenants,
		.ids = &app->ids,
		.replica = settings->replica,
		.settings = {
			.heartbeat_us = settings->heartbeat_us,
			.lease_us = settings->lease_us,
			.retry = { .base_us = settings->retry_base_us, .cap = (int)settings->retry_cap },
			.queue_max = settings->queue_max,
			.output_kept = (uint64_t)settings->output_kept,
			.retention_us = settings->retention_us,
			.disk_bytes = settings->disk_bytes,
			.processes = settings->processes,
			.total_timeout_us = settings->total_timeout_us,
			.embedded = app->database_url == NULL,
		},
		.on_ready = on_ready,
		.on_reopened = on_reopened,
		.on_failed = on_failed,
		.owner = app,
	};
	app->coordinator = coordinator_new(&options);
}

static int webhooks_make(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	if (!settings->webhook_secret)
		return 0;
	const struct webhooks_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.store = app->store,
		.bus = app->bus,
		.replica = settings->replica,
		.settings = {
			.secrets = settings->webhook_secret,
			.allow = settings->webhook_allow,
			.ca_file = settings->webhook_ca_file,
			.timeout_us = settings->webhook_timeout_us,
			.retry_base_us = settings->webhook_retry_base_us,
			.attempts_max = (int)settings->webhook_attempts,
			.concurrency = (int)settings->webhook_concurrency,
		},
	};
	return webhooks_new(&options, &app->webhooks, err);
}

static int api_make(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	const struct api_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.coordinator = app->coordinator,
		.store = app->store,
		.bus = app->bus,
		.webhooks = app->webhooks,
		.executors = app->executors,
		.executor_count = app->executor_count,
		.ids = &app->ids,
		.evaluation_limits = &app->limits,
		.tenants = app->tenants,
		.settings = {
			.body_max = (size_t)settings->body_max,
			.batch_body_max = (size_t)settings->batch_body_max,
			.batch_items_max = (size_t)settings->batch_items_max,
			.status_age_max_us = app->database_url ? settings->heartbeat_us : 0,
		},
		.access = access_of(app),
	};
	int result = api_new(&options, &app->api, err);
	return result < 0 ? result : tokens_load(app, err);
}

static void server_make(struct app *app)
{
	const struct settings *settings = &app->settings;
	const struct http_server_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.limits = {
			.connections_max = (size_t)settings->connections_max,
			.idle_timeout_ms = (uint64_t)(settings->idle_timeout_us / US_PER_MS),
		},
		.owner = app->api,
		.body_limit = api_body_limit,
		.on_request = api_on_request,
	};
	app->server = http_server_new(&options);
	api_set_http_server(app->api, app->server);
}

/* ---- the bus ---- */

static int redis_address_make(const struct settings *settings, struct redis_address *address, struct err *err)
{
	if (settings->redis_url) {
		int result = redis_address_parse(bytes_of(settings->redis_url), address, err);
		if (result < 0)
			return err_prefix(err, "redis_url"), result;
	} else {
		*address = (struct redis_address){ .port = (uint16_t)settings->redis_port, .protocol = 3 };
		snprintf(address->host, sizeof(address->host), "%s", settings->redis_host);
		snprintf(address->password, sizeof(address->password), "%s",
			settings->redis_password ? settings->redis_password : "");
	}
	address->tls_unverified = !settings->redis_tls_verify;
	const char *ca = settings->redis_tls_ca, *cert = settings->redis_tls_cert, *key = settings->redis_tls_key;
	snprintf(address->tls_ca, sizeof(address->tls_ca), "%s", ca ? ca : "");
	snprintf(address->tls_cert, sizeof(address->tls_cert), "%s", cert ? cert : "");
	snprintf(address->tls_key, sizeof(address->tls_key), "%s", key ? key : "");
	if (!address->tls_cert[0] != !address->tls_key[0])
		return err_set(err, -EINVAL, "redis_tls_cert and redis_tls_key: one of them is set without the other");
	int result = redis_secure_check(address, err);
	return result < 0 ? err_prefix(err, "redis_tls_cert and redis_tls_key") : 0;
}

static const char *bus_chosen_by(const struct app *app)
{
	if (app->settings.redis_url)
		return config_where(app->config, "redis_url");
	return app->settings.redis_host ? config_where(app->config, "redis_host") : "default: no Redis is named";
}

static int bus_make(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	if (!settings->redis_url && !settings->redis_host) {
		app->bus = local_bus_new(&app->loop);
		return 0;
	}
	int result = redis_address_make(settings, &app->redis, err);
	if (result < 0)
		return result;
	app->has_redis = true;
	const struct redis_bus_options options = {
		.loop = &app->loop,
		.log = &app->log,
		.address = &app->redis,
		.prefix = settings->redis_prefix,
		.stream = settings->redis_stream,
		.stream_max = settings->redis_stream_max,
		.jobs_publish = settings->kube_publish_url != NULL,
	};
	app->bus = redis_bus_new(&options);
	return 0;
}

/* ---- the store ---- */

/* A word of libpq's conninfo: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING */
static void conninfo_word(struct buffer *text, const char *keyword, const char *value)
{
	if (!value)
		return;
	buffer_printf(text, "%s%s='", text->len ? " " : "", keyword);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			buffer_append_char(text, '\\');
		buffer_append_char(text, *value);
	}
	buffer_append_char(text, '\'');
}

/* Sets app->database_url where a database is named. */
static int database_choose(struct app *app, struct err *err)
{
	const struct settings *settings = &app->settings;
	struct buffer text = { 0 };
	char port[8];
	if (!postgres_store_schema_valid(settings->database_schema))
		return err_set(err, -EINVAL, "%s: a schema's name is a to z, 0 to 9 and _, and begins with no digit",
			config_where(app->config, "database_schema"));
	if (settings->database_url) {
		app->database_url = string_copy(settings->database_url);
		return 0;
	}
	if (!settings->postgres_host)
		return 0;
	snprintf(port, sizeof(port), "%d", (int)settings->postgres_port);
	conninfo_word(&text, "host", settings->postgres_host);
	conninfo_word(&text, "port", port);
	conninfo_word(&text, "user", settings->postgres_user);
	conninfo_word(&text, "password", settings->postgres_password);
	conninfo_word(&text, "dbname", settings->postgres_db);
	buffer_append_char(&text, '\0');
	app->database_url = text.data;
	return 0;
}

static const char *store_chosen_by(const struct app *app)
{
	if (app->settings.database_url)
		return config_where(app->config, "database_url");
	return app->settings.postgres_host ? config_where(app->config, "postgres_host")
					   : "default: no database is named";
}

static int store_make(struct app *app, struct err *err)
{
	int result = database_choose(app, err);
	if (result < 0)
		return result;
	if (app->database_url) {
		const struct postgres_store_options options = {
			.loop = &app->loop,
			.log = &app->log,
			.url = app->database_url,
			.listen_url = app->settings.database_listen_url,
			.schema = app->settings.database_schema,
		};
		app->store = postgres_store_new(&options);
		return 0;
	}
	const struct sqlite_store_options options = {
		.directory = app->settings.data_dir,
		.loop = &app->loop,
		.log = &app->log,
		.cache_bytes = (size_t)app->settings.sqlite_cache,
	};
	app->store = sqlite_store_new(&options);
	return 0;
}

static int parts_make(struct app *app, struct err *err)
{
	int result = languages_load(app, err);
	if (result == 0)
		result = tenants_load(app, err);
	if (result == 0)
		result = store_make(app, err);
	if (result < 0)
		return result;
	limits_fill(app);
	result = bus_make(app, err);
	if (result == 0)
		result = executors_make(app, err);
	if (result < 0)
		return result;
	coordinator_make(app);
	result = app->bus->ops->start(app->bus, &coordinator_bus_notices, app->coordinator, err);
	if (result < 0)
		return result;
	result = webhooks_make(app, err);
	return result < 0 ? result : api_make(app, err);
}

/* ---- start ---- */

/* Before anything is started: who waits is to know for what. */
static void log_choices(struct app *app)
{
	struct store_status store;
	struct bus_status bus;
	app->store->ops->status(app->store, &store);
	app->bus->ops->status(app->bus, &bus);
	log_event(&app->log, LOG_INFO, "store chosen", L_STR("kind", store.kind), L_STR("at", store.description),
		L_STR("by", store_chosen_by(app)));
	log_event(&app->log, LOG_INFO, "bus chosen", L_STR("kind", bus.kind), L_STR("at", bus.description),
		L_STR("by", bus_chosen_by(app)));
	if (access_of(app).open && !app->listen.loopback)
		log_event(&app->log, LOG_WARNING, "authentication is off: whoever reaches this address may run code");
}

static void log_executors(struct app *app)
{
	for (size_t i = 0; i < app->executor_count; i++) {
		const struct executor_status *status = app->executors[i]->ops->status(app->executors[i]);
		log_event(&app->log, status->health == EXECUTOR_UNAVAILABLE ? LOG_WARNING : LOG_INFO, "executor chosen",
			L_BYTES("name", status->name), L_STR("by", config_where(app->config, "executors")),
			L_INT("slots", status->slots), L_BYTES("isolation", status->isolation),
			L_BYTES("detail", status->detail));
	}
}

/* From here on /health tells that we live, and /readyz what we wait for: who watches must not take a service for dead
 * that waits for its database. */
static int listen_early(struct app *app, struct err *err)
{
	server_make(app);
	int result = http_server_listen(app->server, app->listen.host, app->listen.port, &app->listen.port, err);
	if (result < 0)
		err_prefix(err, "cannot listen");
	return result;
}

/* The store is there and what was lost has been recovered: the line says that work is taken. */
static void on_ready(void *owner)
{
	struct app *app = owner;
	log_executors(app);
	if (app->webhooks)
		webhooks_start(app->webhooks);
	bool v6 = strchr(app->listen.host, ':') != NULL;
	fprintf(stderr, "listening on http://%s%s%s:%u\n", v6 ? "[" : "", app->listen.host, v6 ? "]" : "",
		app->listen.port);
}

/* ---- end ---- */

static void on_bus_stopped(void *owner)
{
}

static void on_coordinator_stopped(void *owner)
{
	struct app *app = owner;
	app->bus->ops->stop(app->bus, on_bus_stopped, app);
	uv_close((uv_handle_t *)&app->drain_over, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(app->signals); i++)
		uv_close((uv_handle_t *)&app->signals[i], NULL);
}

static void on_webhooks_stopped(void *owner)
{
	struct app *app = owner;
	app->api = NULL;
	coordinator_stop(app->coordinator, app->settings.drain_us, on_coordinator_stopped, app);
}

/* What ends while the coordinator drains is sent after the next start, or by another replica. */
static void on_api_freed(void *owner)
{
	struct app *app = owner;
	if (app->webhooks)
		webhooks_stop(app->webhooks, on_webhooks_stopped, app);
	else
		on_webhooks_stopped(app);
}

/* Calls that were on their way when their connection ended still ask the store: it stops after them. */
static void on_server_stopped(void *owner)
{
	struct app *app = owner;
	api_set_http_server(app->api, NULL);
	api_free(app->api, on_api_freed, app);
}

static void on_drain_over(uv_timer_t *timer)
{
	struct app *app = timer->data;
	if (app->server)
		http_server_abort(app->server);
}

static void drain(struct app *app)
{
	bool first = app->draining++ == 0;
	int64_t wait_us = first ? app->settings.drain_us : 0;
	/* Before the coordinator's own: what it gives up then nobody is to be told of. */
	if (!uv_is_closing((uv_handle_t *)&app->drain_over))
		uv_timer_start(&app->drain_over, on_drain_over, (uint64_t)(wait_us / US_PER_MS), 0);
	coordinator_drain(app->coordinator, wait_us);
	if (first)
		api_drain(app->api);
	if (first && app->server)
		http_server_stop(app->server, on_server_stopped, app);
	else if (first)
		on_server_stopped(app);
	log_event(&app->log, LOG_INFO, first ? "draining" : "draining no longer", L_SECONDS("seconds", wait_us));
}

static void on_signal(uv_signal_t *handle, int signal)
{
	struct app *app = handle->data;
	struct err err = { 0 };
	if (signal != SIGHUP) {
		drain(app);
		return;
	}
	if (tokens_load(app, &err) < 0)
		log_event(&app->log, LOG_ERROR, "tokens were not read again, the old ones hold", L_ERR(&err));
	else
		log_event(&app->log, LOG_INFO, "tokens were read again");
	if (tenants_load(app, &err) < 0)
		log_event(
			&app->log, LOG_ERROR, "limits of tenants were not read again, the old ones hold", L_ERR(&err));
	else
		log_event(&app->log, LOG_INFO, "limits of tenants were read again");
}

static void signals_start(struct app *app)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	signal(SIGPIPE, SIG_IGN);
	uv_timer_init(&app->loop, &app->drain_over);
	app->drain_over.data = app;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uv_signal_init(&app->loop, &app->signals[i]);
		app->signals[i].data = app;
		uv_signal_start(&app->signals[i], on_signal, numbers[i]);
		uv_unref((uv_handle_t *)&app->signals[i]);
	}
}

static void parts_free(struct app *app)
{
	http_server_free(app->server);
	webhooks_free(app->webhooks);
	coordinator_free(app->coordinator);
	for (size_t i = 0; i < app->executor_count; i++)
		if (app->executors[i] != app->noop)
			app->executors[i]->ops->free(app->executors[i]);
	if (app->noop)
		app->noop->ops->free(app->noop);
	if (app->bus)
		app->bus->ops->free(app->bus);
	if (app->store)
		app->store->ops->free(app->store);
	languages_free(app->languages);
	tenants_free(app->tenants);
	buffer_fini(&app->kube_template);
	free(app->database_url);
}

static int serve(struct app *app)
{
	struct err err = { 0 };
	int result = access_check(app, &err);
	if (result == 0)
		result = parts_make(app, &err);
	if (result == 0) {
		log_choices(app);
		result = coordinator_start(app->coordinator, &err);
	}
	if (result == 0)
		result = listen_early(app, &err);
	if (result < 0) {
		fprintf(stderr, "assayd: %s\n", err.message);
		exit(EXIT_FAILURE); /* nothing has begun: the kernel frees what was made */
	}
	signals_start(app);
	uv_run(&app->loop, UV_RUN_DEFAULT);
	parts_free(app);
	return app->status;
}

/* ---- the other commands ---- */

static void on_doctor_stopped(void *owner)
{
}

static const struct executor_listener doctor_listener = { 0 };

/* What this machine can isolate and run, without a service. */
static int doctor(struct app *app)
{
	static const char *const marks[] = { "ok     ", "warning", "missing" };
	struct err err = { 0 };
	char state_dir[PATH_MAX];
	int worst = 0;
	if (languages_load(app, &err) < 0) {
		fprintf(stderr, "assayd: %s\n", err.message);
		return EXIT_FAILURE;
	}
	/* Another name than the service's: what a running service has started is none of our business. */
	snprintf(state_dir, sizeof(state_dir), "%s/doctor", app->settings.data_dir);
	app->sandbox = sandbox_make(app, state_dir);
	app->log.level = LOG_ERROR;
	if (app->sandbox->ops->start(app->sandbox, &doctor_listener, app, &err) < 0) {
		fprintf(stderr, "assayd: %s\n", err.message);
		exit(EXIT_FAILURE);
	}
	const struct executor_status *status = app->sandbox->ops->status(app->sandbox);
	for (size_t i = 0; i < status->check_count; i++) {
		const struct executor_check *check = &status->checks[i];
		printf("%s  %-22s %s\n", marks[check->state], check->what, check->detail);
		if (check->remedy[0])
			printf("         %-22s → %s\n", "", check->remedy);
		if (!check->language && (int)check->state > worst)
			worst = (int)check->state;
	}
	app->sandbox->ops->stop(app->sandbox, on_doctor_stopped, app);
	uv_run(&app->loop, UV_RUN_DEFAULT);
	app->sandbox->ops->free(app->sandbox);
	languages_free(app->languages);
	return worst == EXECUTOR_CHECK_MISSING ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Brings the database's schema to what this program needs, without a service. */
static int migrate(struct app *app)
{
	const struct settings *settings = &app->settings;
	struct err err = { 0 };
	struct buffer sql = { 0 };
	int result = database_choose(app, &err);
	if (result == 0 && settings->migrate_print) {
		postgres_store_migration_sql(settings->database_schema, settings->migrate_compat_views, &sql);
		if (fwrite(sql.data, 1, sql.len, stdout) != sql.len || fflush(stdout) != 0)
			result = err_set(&err, -errno, "the SQL could not be written: %s", strerror(errno));
		buffer_fini(&sql);
	} else if (result == 0 && !app->database_url) {
		result = err_set(&err, -EINVAL, "no database is named: set ASSAY_DATABASE_URL or POSTGRES_HOST");
	} else if (result == 0) {
		app->log.level = LOG_WARNING;
		result = postgres_store_migrate(
			settings->database_listen_url ? settings->database_listen_url : app->database_url,
			settings->database_schema, settings->migrate_compat_views, &app->log, &err);
		if (result == 0)
			printf("schema %s is up to date\n", settings->database_schema);
	}
	if (result < 0)
		fprintf(stderr, "assayd: %s\n", err.message);
	free(app->database_url);
	return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int help(const struct app *app)
{
	printf("Usage: assayd [FLAG…] [COMMAND]\n\n"
	       "Takes code evaluations over HTTP, keeps them in a durable queue and runs them in sandboxes.\n\n"
	       "Commands:\n"
	       "  (none)   run the service\n"
	       "  config   show the effective settings, and where each came from\n"
	       "  doctor   show what this machine can isolate and run, and what is missing\n"
	       "  migrate  bring the schema in PostgreSQL to what this version needs\n\n");
	config_print_help(app->config, stdout);
	return EXIT_SUCCESS;
}

static int command_run(struct app *app)
{
	size_t count;
	const char *const *arguments = config_arguments(app->config, &count);
	struct err err = { 0 };
	if (app->settings.help)
		return help(app);
	if (app->settings.version)
		return printf("assayd %s\n", ASSAY_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	if (address_parse(app->settings.listen, &app->listen, &err) < 0) {
		err_prefix(&err, "listen");
		fprintf(stderr, "assayd: %s\n", err.message);
		return EXIT_USAGE;
	}
	if (count == 0)
		return serve(app);
	if (count == 1 && strcmp(arguments[0], "config") == 0) {
		config_print_effective(app->config, stdout);
		return EXIT_SUCCESS;
	}
	if (count == 1 && strcmp(arguments[0], "doctor") == 0)
		return doctor(app);
	if (count == 1 && strcmp(arguments[0], "migrate") == 0)
		return migrate(app);
	fprintf(stderr, "assayd: %s is not a command; see assayd --help\n", arguments[count == 1 ? 0 : 1]);
	return EXIT_USAGE;
}

/* As many descriptors as the operator's hard limit allows: each connection takes one, each sandbox a few. */
static void descriptors_raise(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	/* io_uring of libuv before 1.49 loses track of descriptors that are closed while they are polled. */
	setenv("UV_USE_IO_URING", "0", 0);
	umask(077);
	descriptors_raise();
	struct app *app = alloc(sizeof(*app));
	struct err err = { 0 };
	extern char **environ;
	int status = settings_read(argc, argv, environ, &app->settings, &app->config, &err);
	if (status < 0) {
		fprintf(stderr, "assayd: %s\n", err.message);
		free(app);
		return EXIT_USAGE;
	}
	app->log = (struct log){ .fd = STDERR_FILENO,
		.level = (enum log_level)app->settings.log_level,
		.json = app->settings.log_format == LOG_FORMAT_JSON };
	uv_loop_init(&app->loop);
	status = command_run(app);
	if (uv_loop_close(&app->loop) < 0) {
		log_event(&app->log, LOG_ERROR, "the loop still had handles at the end");
		status = EXIT_FAILURE;
	}
	config_free(app->config);
	free(app);
	return status;
}
