/* Every setting of the service: one table. A setting is an environment variable, a flag and a key of the config
 * file. */
#ifndef ASSAY_SETTINGS_H
#define ASSAY_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

enum setting_log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum setting_authentication { AUTHENTICATION_AUTO, AUTHENTICATION_OFF };
enum setting_anonymous_role { ANONYMOUS_NONE, ANONYMOUS_READ, ANONYMOUS_SUBMIT };
enum setting_unisolated { UNISOLATED_REFUSE, UNISOLATED_RUN };

/* The values, filled by config_read(). Strings live as long as the config. */
struct settings {
	const char *config_file;
	bool help, version;

	const char *listen;
	const char *data_dir;
	const char *replica;
	int log_level; /* enum log_level */
	int log_format;

	struct setting_list executors, images;
	const char *languages_file;
	int64_t sandbox_slots;
	int64_t sandbox_uid_base;
	int unisolated;
	int64_t noop_slots;

	const char *kube_url, *kube_token, *kube_ca_file;
	const char *kubeconfig, *kube_context;
	const char *kube_namespace, *kube_instance;
	int64_t kube_slots, kube_starting;
	int64_t kube_rate, kube_log_streams;
	const char *kube_publish_url, *kube_report_url;
	const char *kube_wrapper_image, *kube_wrapper_path;
	const char *kube_template_file;
	int64_t kube_user_id;
	int64_t attempt_connections;
	int64_t progress_us;
	int64_t start_timeout_us, kube_image_grace_us, kube_grace_us, kube_gone_grace_us, kube_keep_us,
		kube_reconcile_us;
	const char *attempt_listen, *attempt_address, *attempt_fallback;
	const char *attempt_key, *attempt_key_previous;

	int64_t output_kept;
	int64_t disk_bytes;
	int64_t processes;
	int64_t memory_max;
	int64_t cpu_max;
	int64_t timeout_us;
	int64_t timeout_max_us;
	int64_t total_timeout_us;
	int64_t source_max;
	int64_t max_attempts;

	int64_t queue_max;
	int64_t tenant_queue_max;
	int64_t tenant_running_max;
	int64_t tenant_rate_max;
	int64_t tenant_weight;
	const char *tenants_file;
	int64_t retention_us;
	int64_t heartbeat_us;
	int64_t lease_us;
	int64_t retry_base_us;
	int64_t retry_cap;
	int64_t drain_us;

	int64_t body_max;
	int64_t batch_body_max;
	int64_t batch_items_max;
	int64_t connections_max;
	int64_t idle_timeout_us;
	struct setting_list host_names;

	const char *tokens_file;
	int authentication;
	int anonymous_role;
	const char *anonymous_from;
	bool metrics_open;

	int64_t sqlite_cache;

	const char *webhook_secret;
	const char *webhook_allow;
	bool webhook_https_only;
	int64_t webhook_timeout_us;
	int64_t webhook_attempts;
	int64_t webhook_retry_base_us;
	int64_t webhook_concurrency;
	const char *webhook_ca_file;

	const char *database_url, *database_listen_url;
	const char *database_schema;
	const char *postgres_host, *postgres_user, *postgres_password, *postgres_db;
	int64_t postgres_port;
	bool migrate_print, migrate_compat_views;

	const char *redis_url;
	const char *redis_host;
	int64_t redis_port;
	const char *redis_password;
	const char *redis_tls_ca, *redis_tls_cert, *redis_tls_key;
	bool redis_tls_verify;
	const char *redis_prefix;
	const char *redis_stream;
	int64_t redis_stream_max;
};

/* Reads flags, environment and file. `program` errors are err's; help and version are flags like others, and looked at
 * by the caller. */
int settings_read(int argc, char **argv, char **environment, struct settings *settings, struct config **ret_config,
	struct err *err) MUST_CHECK;

#endif
