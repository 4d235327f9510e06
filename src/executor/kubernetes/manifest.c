/* A Job is text: what is the same for all is parsed once and copied, what is of one attempt is written, parsed and laid over it. */
#include "executor/kubernetes/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/uuid.h"
#include "base/yaml.h"
#include "executor/kubernetes/overlay.h"
#include "executor/kubernetes/plan.h"
#include "wrap/plan.h"

#define MOUNT_WRAPPER "/assay/bin"
#define MOUNT_PLAN "/assay/plan"
#define WRAPPER_NAME "assay-wrap"
#define WRAPPER_VOLUME_BYTES (16 << 20)
#define BULK_BYTES (256 << 10) /* of input, from where on it counts */
#define PLAN_VOLUME_BYTES (PLAN_SIZE_MAX + (1 << 20))
/* Beside what the code writes, the node keeps what it prints. */
#define LOG_BYTES (INT64_C(16) << 20)
/* Until the kubelet has noticed, and the wrapper has reported. */
#define DEADLINE_SLACK_S 30
/* Of a Secret's data, where the image runs as it is; the first two with a number. */
#define PLAIN_FILE_KEY "file-"
#define PLAIN_ENV_KEY "env-"
#define PLAIN_REDIS_KEY "redis-url"

struct manifest {
	struct manifest_settings settings;
	struct buffer selector; /* owned; terminated */
	/* Owned: the layers that are the same for all, without and with the wrapper's init container; the root of each is a Job. */
	yyjson_mut_doc *bases[2];
};

/* ---- labels ---- */

static bool is_alphanumeric(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_label_char(char c)
{
	return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

void manifest_label(struct bytes value, char ret_text[static LABEL_VALUE_MAX + 1])
{
	enum { HASH_CHARS = 8, KEPT_MAX = LABEL_VALUE_MAX - HASH_CHARS - 1 };
	bool fits = value.len <= LABEL_VALUE_MAX;
	for (size_t i = 0; i < value.len && fits; i++)
		fits = i == 0 || i + 1 == value.len ? is_alphanumeric(value.data[i]) : is_label_char(value.data[i]);
	size_t kept = fits ? value.len : value.len < KEPT_MAX ? value.len : KEPT_MAX;
	for (size_t i = 0; i < kept; i++)
		ret_text[i] = is_label_char(value.data[i]) ? value.data[i] : '-';
	ret_text[kept] = '\0';
	if (fits)
		return;
	uint8_t digest[SHA256_SIZE];
	struct buffer hash = { 0 };
	sha256(value, digest);
	hex_append(&hash, (struct bytes){ (const char *)digest, HASH_CHARS / 2 });
	if (kept > 0 && !is_alphanumeric(ret_text[0]))
		ret_text[0] = 'x';
	ret_text[kept] = '-';
	size_t begin = kept > 0 ? kept + 1 : 0;
	memcpy(ret_text + begin, hash.data, HASH_CHARS);
	ret_text[begin + HASH_CHARS] = '\0';
	buffer_fini(&hash);
}

static void member(struct json *json, const char *key, const char *value)
{
	json_member_string(json, key, bytes_of(value));
}

/* Of the Job, of its pod and of its Secret. */
static void put_labels(struct json *json, const struct manifest *manifest, const struct job *job)
{
	char label[LABEL_VALUE_MAX + 1], text[UUID_TEXT_SIZE], attempt[12];
	json_key(json, "labels");
	json_object(json);
	member(json, LABEL_APP, LABEL_APP_VALUE);
	if (job->eval_id.len > 0) {
		manifest_label(job->eval_id, label);
		member(json, LABEL_EVAL_ID, label);
	}
	member(json, LABEL_TASK, uuid_format(&job->task_id, text));
	snprintf(attempt, sizeof(attempt), "%d", job->attempt);
	member(json, LABEL_ATTEMPT, attempt);
	member(json, "app.kubernetes.io/name", LABEL_APP_VALUE);
	member(json, "app.kubernetes.io/managed-by", "assay");
	member(json, "app.kubernetes.io/part-of", "assay");
	manifest_label(bytes_of(manifest->settings.instance), label);
	member(json, LABEL_INSTANCE, label);
	json_object_end(json);
}

static void put_annotations(struct json *json, const struct job *job)
{
	char run[12];
	json_key(json, "annotations");
	json_object(json);
	if (job->eval_id.data)
		json_member_string(json, ANNOTATION_EVAL_ID, job->eval_id);
	if (job->tenant.data)
		json_member_string(json, ANNOTATION_TENANT, job->tenant);
	if (job->traceparent.data)
		json_member_string(json, ANNOTATION_TRACEPARENT, job->traceparent);
	snprintf(run, sizeof(run), "%d", job->run);
	member(json, ANNOTATION_RUN, run);
	json_object_end(json);
}

/* ---- the layers that are the same for all ---- */

static void put_volume(struct json *json, const char *name, const char *mount_path, bool read_only)
{
	json_object(json);
	member(json, "name", name);
	member(json, "mountPath", mount_path);
	if (read_only)
		json_member_bool(json, "readOnly", true);
	json_object_end(json);
}

static void put_restricted(struct json *json)
{
	json_key(json, "securityContext");
	json_object(json);
	json_member_bool(json, "allowPrivilegeEscalation", false);
	json_member_bool(json, "readOnlyRootFilesystem", true);
	json_key(json, "capabilities");
	json_object(json);
	json_key(json, "drop");
	json_array(json);
	json_string(json, BYTES_LITERAL("ALL"));
	json_array_end(json);
	json_object_end(json);
	json_object_end(json);
}

/* Pod security standard "restricted" (kubernetes.io/docs/concepts/security/pod-security-standards). */
static void put_defaults(struct buffer *to, const struct manifest_settings *settings, bool init)
{
	struct json json = JSON_TO(to);
	json_object(&json);
	json_key(&json, "spec");
	json_object(&json);
	json_key(&json, "template");
	json_object(&json);
	json_key(&json, "spec");
	json_object(&json);
	json_member_int(&json, "terminationGracePeriodSeconds", (settings->grace_us + US_PER_S - 1) / US_PER_S);
	json_key(&json, "securityContext");
	json_object(&json);
	json_member_bool(&json, "runAsNonRoot", true);
	json_member_int(&json, "runAsUser", settings->user_id);
	json_member_int(&json, "runAsGroup", settings->user_id);
	json_member_int(&json, "fsGroup", settings->user_id);
	json_key(&json, "seccompProfile");
	json_object(&json);
	member(&json, "type", "RuntimeDefault");
	json_object_end(&json);
	json_object_end(&json);
	json_key(&json, "containers");
	json_array(&json);
	json_object(&json);
	member(&json, "name", MANIFEST_CONTAINER);
	put_restricted(&json);
	json_object_end(&json);
	json_array_end(&json);
	if (init) {
		json_key(&json, "initContainers");
		json_array(&json);
		json_object(&json);
		member(&json, "name", MANIFEST_INIT_CONTAINER);
		put_restricted(&json);
		json_key(&json, "resources");
		json_raw(&json,
			BYTES_LITERAL(
				"{\"limits\":{\"cpu\":\"100m\",\"memory\":\"16Mi\",\"ephemeral-storage\":\"32Mi\"}}"));
		json_object_end(&json);
		json_array_end(&json);
	}
	json_object_end(&json);
	json_object_end(&json);
	json_object_end(&json);
	json_object_end(&json);
}

static int template_read(struct bytes text, yyjson_doc **ret_doc, struct err *err)
{
	if (yaml_read(text, ret_doc, err) < 0) /* JSON is YAML */
		return err_prefix(err, "the Job template");
	yyjson_val *root = yyjson_doc_get_root(*ret_doc), *kind = yyjson_obj_get(root, "kind");
	if (yyjson_is_null(root) || (yyjson_is_obj(root) && (!kind || yyjson_equals_str(kind, "Job"))))
		return 0;
	yyjson_doc_free(*ret_doc);
	*ret_doc = NULL;
	return err_set(err, -EINVAL, "the Job template is to be a Job, or a part of one");
}

/* `template` may be NULL. The caller's; without a root where there was no memory. */
static yyjson_mut_doc *base_make(const struct manifest_settings *settings, bool init, yyjson_val *template)
{
	struct buffer text = { 0 };
	put_defaults(&text, settings, init);
	yyjson_doc *defaults = yyjson_read(text.data, text.len, 0);
	yyjson_mut_doc *base = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = overlay(base, NULL, yyjson_doc_get_root(defaults));
	if (yyjson_is_obj(template))
		root = overlay(base, root, template);
	yyjson_mut_doc_set_root(base, root);
	yyjson_doc_free(defaults);
	buffer_fini(&text);
	return base;
}

static int bases_make(struct manifest *manifest, struct err *err)
{
	const struct manifest_settings *settings = &manifest->settings;
	yyjson_doc *template = NULL;
	bool made = true;
	if (settings->template.len > 0 && template_read(settings->template, &template, err) < 0)
		return err->code;
	for (int i = 0; i < 2; i++) {
		manifest->bases[i] =
			base_make(settings, i > 0 && settings->wrapper_image, yyjson_doc_get_root(template));
		made &= yyjson_mut_doc_get_root(manifest->bases[i]) != NULL;
	}
	yyjson_doc_free(template);
	return made ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int manifest_new(const struct manifest_settings *settings, struct manifest **ret_manifest, struct err *err)
{
	char instance[LABEL_VALUE_MAX + 1];
	struct manifest *manifest = alloc(sizeof(*manifest));
	manifest->settings = *settings;
	manifest_label(bytes_of(settings->instance), instance);
	buffer_printf(&manifest->selector, "%s=%s,%s=%s", LABEL_APP, LABEL_APP_VALUE, LABEL_INSTANCE, instance);
	buffer_append_char(&manifest->selector, '\0');
	if (bases_make(manifest, err) < 0) {
		manifest_free(manifest);
		return err->code;
	}
	*ret_manifest = manifest;
	return 0;
}

void manifest_free(struct manifest *manifest)
{
	if (!manifest)
		return;
	yyjson_mut_doc_free(manifest->bases[0]);
	yyjson_mut_doc_free(manifest->bases[1]);
	buffer_fini(&manifest->selector);
	free(manifest);
}

const char *manifest_selector(const struct manifest *manifest)
{
	return manifest->selector.data;
}

/* ---- what is of one attempt ---- */

static const char *wrapper_path(const struct manifest *manifest)
{
	return manifest->settings.wrapper_image ? MOUNT_WRAPPER "/" WRAPPER_NAME : manifest->settings.wrapper_path;
}

static void put_words(struct json *json, const char *key, const char *const *words)
{
	json_key(json, key);
	json_array(json);
	for (size_t i = 0; words[i]; i++)
		json_string(json, bytes_of(words[i]));
	json_array_end(json);
}

static void put_limits(struct json *json, const struct job *job)
{
	const struct job_limits *limits = &job->limits;
	struct buffer text = { 0 };
	json_key(json, "resources");
	json_object(json);
	json_key(json, "limits");
	json_object(json);
	buffer_printf(&text, "%lldm", (long long)limits->cpu_millis);
	json_member_string(json, "cpu", buffer_bytes(&text));
	/* The wrapper's copy of what is brought to it is not the code's. */
	int64_t bulk = (int64_t)kube_plan_input_size(job);
	bulk = bulk < BULK_BYTES ? 0 : bulk + BULK_BYTES;
	json_member_int(json, "memory", limits->memory_bytes + bulk);
	json_member_int(
		json, "ephemeral-storage", limits->disk_bytes + (int64_t)limits->output_bytes * 2 + LOG_BYTES + bulk);
	json_object_end(json);
	json_object_end(json);
	buffer_fini(&text);
}

/* A variable whose value is in the Secret: command lines can be read by everybody. */
static void put_secret(struct json *json, const struct job *job, struct bytes name, const char *key)
{
	json_object(json);
	json_member_string(json, "name", name);
	json_member_null(json, "value"); /* of a template's */
	json_key(json, "valueFrom");
	json_object(json);
	json_key(json, "secretKeyRef");
	json_object(json);
	json_member_string(json, "name", job->name);
	member(json, "key", key);
	json_object_end(json);
	json_object_end(json);
	json_object_end(json);
}

static void put_wrapped(struct json *json, const struct manifest *manifest, const struct job *job)
{
	const char *const command[] = { wrapper_path(manifest), "run", "--plan", MOUNT_PLAN "/" MANIFEST_PLAN_KEY,
		NULL };
	put_words(json, "command", command);
	put_words(json, "args", (const char *const[]){ NULL });
	json_key(json, "env");
	json_array(json);
	put_secret(json, job, BYTES_LITERAL("ASSAY_WRAP_KEY"), MANIFEST_KEY_KEY);
	json_array_end(json);
	json_key(json, "volumeMounts");
	json_array(json);
	if (manifest->settings.wrapper_image)
		put_volume(json, "assay-wrapper", MOUNT_WRAPPER, true);
	put_volume(json, "assay-plan", MOUNT_PLAN, true);
	put_volume(json, "assay-work", MANIFEST_WORK, false);
	put_volume(json, "assay-temporary", MANIFEST_TEMPORARY, false);
	json_array_end(json);
}

/* As it is: Kubernetes would replace $(NAME) in it, and makes one dollar of two
 * (kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables). */
static void put_literal(struct json *json, struct bytes text)
{
	struct buffer doubled = { 0 };
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] == '$')
			buffer_append_char(&doubled, '$');
		buffer_append_char(&doubled, text.data[i]);
	}
	json_string(json, doubled.len > 0 ? buffer_bytes(&doubled) : BYTES_LITERAL(""));
	buffer_fini(&doubled);
}

static void put_args(struct json *json, const char *const *args)
{
	json_key(json, "args");
	json_array(json);
	for (; *args; args++)
		put_literal(json, bytes_of(*args));
	json_array_end(json);
}

/* What an image that publishes by itself looks for (seed 003). */
static void put_publisher(struct json *json, const struct job *job)
{
	char id[UUID_TEXT_SIZE];
	json_object(json);
	member(json, "name", "EVAL_ID");
	json_key(json, "value");
	put_literal(json, job->eval_id.len > 0 ? job->eval_id : bytes_of(uuid_format(&job->task_id, id)));
	json_member_null(json, "valueFrom");
	json_object_end(json);
	put_secret(json, job, BYTES_LITERAL("REDIS_URL"), PLAIN_REDIS_KEY);
	put_secret(json, job, BYTES_LITERAL("USER_CODE"), PLAIN_FILE_KEY "0");
}

static bool has_code_volume(const struct job *job, const struct manifest_plain *plain)
{
	return plain && !plain->redis_url && job->file_count > 0;
}

static void put_plain(struct json *json, const struct job *job, const struct manifest_plain *plain)
{
	json_member_null(json, "command");
	if (plain->args[0])
		put_args(json, plain->args);
	else
		json_member_null(json, "args");
	json_key(json, "env");
	json_array(json);
	for (size_t i = 0; plain->env[i]; i++) {
		char key[24];
		snprintf(key, sizeof(key), PLAIN_ENV_KEY "%zu", i);
		put_secret(json, job, (struct bytes){ plain->env[i], strcspn(plain->env[i], "=") }, key);
	}
	if (plain->redis_url)
		put_publisher(json, job);
	json_array_end(json);
	json_key(json, "volumeMounts");
	json_array(json);
	if (has_code_volume(job, plain))
		put_volume(json, "assay-code", MANIFEST_CODE, true);
	put_volume(json, "assay-temporary", MANIFEST_TEMPORARY, false);
	json_array_end(json);
}

static void put_container(struct json *json, const struct manifest *manifest, const struct job *job, struct bytes image,
	const struct manifest_plain *plain)
{
	json_object(json);
	member(json, "name", MANIFEST_CONTAINER);
	json_member_string(json, "image", image);
	member(json, "terminationMessagePath", "/dev/termination-log");
	member(json, "terminationMessagePolicy", "File");
	put_limits(json, job);
	if (plain)
		put_plain(json, job, plain);
	else
		put_wrapped(json, manifest, job);
	json_object_end(json);
}

static void put_variable(struct json *json, const char *name, const char *value)
{
	json_object(json);
	member(json, "name", name);
	member(json, "value", value);
	json_object_end(json);
}

/* What it needs to get the plan. */
static void put_fetch(struct json *json, const struct job *job, const char *listeners, int64_t patience_us)
{
	char task[UUID_TEXT_SIZE], attempt[UUID_TEXT_SIZE + 12], patience[24];
	snprintf(attempt, sizeof(attempt), "%s/%d", uuid_format(&job->task_id, task), job->attempt);
	json_key(json, "env");
	json_array(json);
	put_secret(json, job, BYTES_LITERAL("ASSAY_WRAP_KEY"), MANIFEST_KEY_KEY);
	put_variable(json, "ASSAY_WRAP_ATTEMPT", attempt);
	put_variable(json, "ASSAY_WRAP_LISTENERS", listeners);
	snprintf(patience, sizeof(patience), "%lld", (long long)(patience_us / US_PER_S));
	put_variable(json, "ASSAY_WRAP_PATIENCE", patience);
	json_array_end(json);
}

static void put_init_container(
	struct json *json, const struct manifest *manifest, const struct job *job, const char *listeners)
{
	const char *const command[] = { manifest->settings.wrapper_path, "--install", MOUNT_WRAPPER,
		listeners ? "--fetch" : NULL, MOUNT_PLAN, NULL };
	json_object(json);
	member(json, "name", MANIFEST_INIT_CONTAINER);
	member(json, "image", manifest->settings.wrapper_image);
	put_words(json, "command", command);
	member(json, "terminationMessagePolicy", "FallbackToLogsOnError");
	if (listeners)
		put_fetch(json, job, listeners, manifest->settings.patience_us);
	json_key(json, "volumeMounts");
	json_array(json);
	put_volume(json, "assay-wrapper", MOUNT_WRAPPER, false);
	if (listeners)
		put_volume(json, "assay-plan", MOUNT_PLAN, false);
	json_array_end(json);
	json_object_end(json);
}

static void put_directory(struct json *json, const char *name, int64_t bytes)
{
	json_object(json);
	member(json, "name", name);
	json_key(json, "emptyDir");
	json_object(json);
	json_member_int(json, "sizeLimit", bytes);
	json_object_end(json);
	json_object_end(json);
}

static void put_code_volume(struct json *json, const struct job *job)
{
	char key[24];
	json_object(json);
	member(json, "name", "assay-code");
	json_key(json, "secret");
	json_object(json);
	json_member_string(json, "secretName", job->name);
	json_member_int(json, "defaultMode", 0555); /* the image chooses who reads it */
	json_key(json, "items");
	json_array(json);
	for (size_t i = 0; i < job->file_count; i++) {
		snprintf(key, sizeof(key), PLAIN_FILE_KEY "%zu", i);
		json_object(json);
		member(json, "key", key);
		json_member_string(json, "path", job->files[i].path);
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
	json_object_end(json);
}

static void put_plan_volume(struct json *json, const struct job *job)
{
	json_object(json);
	member(json, "name", "assay-plan");
	json_key(json, "secret");
	json_object(json);
	json_member_string(json, "secretName", job->name);
	json_member_int(json, "defaultMode", 0440);
	json_key(json, "items"); /* not the key: it comes in the environment of the wrapper alone */
	json_raw(json, BYTES_LITERAL("[{\"key\":\"" MANIFEST_PLAN_KEY "\",\"path\":\"" MANIFEST_PLAN_KEY "\"}]"));
	json_object_end(json);
	json_object_end(json);
}

static void put_volumes(struct json *json, const struct manifest *manifest, const struct job *job,
	const struct manifest_plain *plain, bool is_fetched)
{
	json_key(json, "volumes");
	json_array(json);
	if (!plain && manifest->settings.wrapper_image)
		put_directory(json, "assay-wrapper", WRAPPER_VOLUME_BYTES);
	if (!plain)
		put_directory(json, "assay-work", job->limits.disk_bytes);
	put_directory(json, "assay-temporary", job->limits.disk_bytes);
	if (has_code_volume(job, plain))
		put_code_volume(json, job);
	if (is_fetched)
		put_directory(json, "assay-plan", PLAN_VOLUME_BYTES);
	else if (!plain)
		put_plan_volume(json, job);
	json_array_end(json);
}

static void put_metadata(struct json *json, const struct manifest *manifest, const struct job *job)
{
	json_key(json, "metadata");
	json_object(json);
	json_member_string(json, "name", job->name);
	member(json, "namespace", manifest->settings.namespace);
	put_labels(json, manifest, job);
	put_annotations(json, job);
	json_object_end(json);
}

/* Without the wrapper the one run may last no longer than it may itself. */
static int64_t run_time_us(const struct job *job, const struct manifest_plain *plain)
{
	int64_t total_us = job->limits.total_timeout_us;
	return plain && job->run_count > 0 && job->runs[0].timeout_us < total_us ? job->runs[0].timeout_us : total_us;
}

static void put_attempt(struct buffer *to, const struct manifest *manifest, const struct job *job, struct bytes image,
	const struct manifest_plain *plain, const char *listeners)
{
	const struct manifest_settings *settings = &manifest->settings;
	int64_t most_us = settings->start_timeout_us + run_time_us(job, plain) + settings->grace_us;
	struct json json = JSON_TO(to);
	json_object(&json);
	member(&json, "apiVersion", "batch/v1");
	member(&json, "kind", "Job");
	put_metadata(&json, manifest, job);
	json_key(&json, "spec");
	json_object(&json);
	/* One pod, once: what failed is a new attempt with a Job of its own. */
	json_member_int(&json, "backoffLimit", 0);
	json_member_int(&json, "completions", 1);
	json_member_int(&json, "parallelism", 1);
	/* The Job's own deadline would have the pod deleted, and what it printed with it. */
	json_member_null(&json, "activeDeadlineSeconds");
	/* The net only: a Job that goes sooner may take with it what was not read yet. */
	json_member_int(&json, "ttlSecondsAfterFinished", settings->keep_us / US_PER_S);
	json_key(&json, "template");
	json_object(&json);
	json_key(&json, "metadata");
	json_object(&json);
	put_labels(&json, manifest, job);
	put_annotations(&json, job);
	json_object_end(&json);
	json_key(&json, "spec");
	json_object(&json);
	member(&json, "restartPolicy", "Never");
	json_member_int(&json, "activeDeadlineSeconds", most_us / US_PER_S + DEADLINE_SLACK_S);
	json_member_bool(&json, "automountServiceAccountToken", false);
	json_member_bool(&json, "enableServiceLinks", false);
	json_member_bool(&json, "shareProcessNamespace", false);
	if (!plain && settings->wrapper_image) {
		json_key(&json, "initContainers");
		json_array(&json);
		put_init_container(&json, manifest, job, listeners);
		json_array_end(&json);
	}
	json_key(&json, "containers");
	json_array(&json);
	put_container(&json, manifest, job, image, plain);
	json_array_end(&json);
	put_volumes(&json, manifest, job, plain, listeners != NULL);
	json_object_end(&json);
	json_object_end(&json);
	json_object_end(&json);
	json_object_end(&json);
}

bool manifest_own_users(const struct manifest *manifest)
{
	return yyjson_mut_is_false(yyjson_mut_doc_ptr_get(manifest->bases[1], "/spec/template/spec/hostUsers"));
}

void manifest_job(const struct manifest *manifest, const struct job *job, struct bytes image,
	const struct manifest_plain *plain, const char *listeners, struct buffer *to)
{
	struct buffer text = { 0 };
	put_attempt(&text, manifest, job, image, plain, listeners);
	yyjson_doc *attempt = yyjson_read(text.data, text.len, 0);
	yyjson_mut_doc *doc = yyjson_mut_doc_mut_copy(manifest->bases[!plain], NULL);
	yyjson_mut_val *root = overlay(doc, yyjson_mut_doc_get_root(doc), yyjson_doc_get_root(attempt));
	size_t len = 0;
	char *written = yyjson_mut_val_write(root, 0, &len);
	if (written)
		buffer_append(to, written, len);
	else
		to->failed = true;
	free(written);
	yyjson_mut_doc_free(doc);
	yyjson_doc_free(attempt);
	buffer_fini(&text);
}

/* ---- the Secret ---- */

static void put_base64(struct json *json, const char *key, struct bytes data)
{
	struct buffer text = { 0 };
	base64_append(&text, data);
	json_member_string(json, key, text.data ? buffer_bytes(&text) : BYTES_LITERAL(""));
	buffer_fini(&text);
}

/* Up to its data, which the caller writes and ends, as the Secret itself. */
static void secret_begin(
	struct json *json, const struct manifest *manifest, const struct job *job, struct bytes job_uid)
{
	json_object(json);
	member(json, "apiVersion", "v1");
	member(json, "kind", "Secret");
	json_key(json, "metadata");
	json_object(json);
	json_member_string(json, "name", job->name);
	member(json, "namespace", manifest->settings.namespace);
	put_labels(json, manifest, job);
	json_key(json, "ownerReferences");
	json_array(json);
	json_object(json);
	member(json, "apiVersion", "batch/v1");
	member(json, "kind", "Job");
	json_member_string(json, "name", job->name);
	json_member_string(json, "uid", job_uid);
	json_object_end(json);
	json_array_end(json);
	json_object_end(json);
	json_member_bool(json, "immutable", true);
	member(json, "type", "Opaque");
	json_key(json, "data");
	json_object(json);
}

void manifest_secret(const struct manifest *manifest, const struct job *job, struct bytes job_uid, struct bytes plan,
	struct bytes key, struct buffer *to)
{
	struct json json = JSON_TO(to);
	secret_begin(&json, manifest, job, job_uid);
	if (plan.data)
		put_base64(&json, MANIFEST_PLAN_KEY, plan);
	put_base64(&json, MANIFEST_KEY_KEY, key);
	json_object_end(&json);
	json_object_end(&json);
}

void manifest_plain_secret(const struct manifest *manifest, const struct job *job, struct bytes job_uid,
	const struct manifest_plain *plain, struct buffer *to)
{
	struct json json = JSON_TO(to);
	char key[24];
	secret_begin(&json, manifest, job, job_uid);
	for (size_t i = 0; i < job->file_count; i++) {
		snprintf(key, sizeof(key), PLAIN_FILE_KEY "%zu", i);
		put_base64(&json, key, job->files[i].content);
	}
	for (size_t i = 0; plain->env[i]; i++) {
		snprintf(key, sizeof(key), PLAIN_ENV_KEY "%zu", i);
		put_base64(&json, key, bytes_of(strchr(plain->env[i], '=') + 1));
	}
	if (plain->redis_url)
		put_base64(&json, PLAIN_REDIS_KEY, bytes_of(plain->redis_url));
	json_object_end(&json);
	json_object_end(&json);
}
