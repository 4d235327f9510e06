/* The Job and the Secret of an attempt, read back as the API server would. */
#include <errno.h>
#include <yyjson.h>

#include "base/clock.h"
#include "base/err.h"
#include "executor/kubernetes/manifest.h"
#include "executor/kubernetes/overlay.h"
#include "test.h"

static struct manifest_settings settings(void)
{
	return (struct manifest_settings){
		.namespace = "crucible",
		.instance = "main",
		.wrapper_image = "assay:1",
		.wrapper_path = "/usr/bin/assay-wrap",
		.user_id = 10001,
		.start_timeout_us = 300 * US_PER_S,
		.grace_us = 5 * US_PER_S,
		.keep_us = 86400 * US_PER_S,
	};
}

static struct job a_job(void)
{
	struct job job = {
		.run = 1,
		.attempt = 2,
		.name = BYTES_LITERAL("eval-x-2"),
		.tenant = BYTES_LITERAL("physics"),
		.eval_id = BYTES_LITERAL("a b/c"),
		.limits = {
			.memory_bytes = 512 << 20,
			.cpu_millis = 1500,
			.total_timeout_us = 60 * US_PER_S,
			.disk_bytes = 256 << 20,
			.output_bytes = 1 << 20,
		},
	};
	REQUIRE(uuid_parse(BYTES_LITERAL("01934a00-0102-7003-8004-05060708090a"), &job.task_id));
	return job;
}

static yyjson_doc *parsed(struct buffer *text)
{
	REQUIRE(!text->failed);
	yyjson_doc *doc = yyjson_read(text->data, text->len, 0);
	REQUIRE(doc);
	buffer_fini(text);
	return doc;
}

/* The Job that this template makes of it; the caller frees it. */
static yyjson_doc *job_with(const struct manifest_settings *with, const char *template)
{
	struct manifest_settings own = *with;
	struct manifest *manifest = NULL;
	struct err err = { 0 };
	struct job job = a_job();
	struct buffer text = { 0 };
	own.template = bytes_of(template);
	int status = manifest_new(&own, &manifest, &err);
	CHECK_STR(err.message, "");
	REQUIRE(status == 0);
	manifest_job(manifest, &job, BYTES_LITERAL("python:3"), /* plain= */ NULL, /* listeners= */ NULL, &text);
	manifest_free(manifest);
	return parsed(&text);
}

static yyjson_doc *plain_job(const char *template)
{
	const struct manifest_settings usual = settings();
	return job_with(&usual, template);
}

#define POD "/spec/template/spec"
#define OURS POD "/containers/0"

static void check_at(yyjson_doc *doc, const char *pointer, const char *expected)
{
	char *text = yyjson_val_write(yyjson_doc_ptr_get(doc, pointer), 0, NULL);
	CHECK_STR(text ? text : "(nothing)", expected);
	free(text);
}

TEST(a_job_is_one_pod_that_is_not_replaced)
{
	yyjson_doc *doc = plain_job(NULL);
	check_at(doc, "/kind", "\"Job\"");
	check_at(doc, "/metadata/name", "\"eval-x-2\"");
	check_at(doc, "/metadata/namespace", "\"crucible\"");
	check_at(doc, "/spec/backoffLimit", "0");
	check_at(doc, "/spec/ttlSecondsAfterFinished", "86400");
	check_at(doc, "/spec/activeDeadlineSeconds", "(nothing)");
	check_at(doc, POD "/restartPolicy", "\"Never\"");
	check_at(doc, POD "/activeDeadlineSeconds", "395");
	check_at(doc, POD "/automountServiceAccountToken", "false");
	check_at(doc, POD "/enableServiceLinks", "false");
	check_at(doc, POD "/terminationGracePeriodSeconds", "5");
	yyjson_doc_free(doc);
}

TEST(it_is_found_by_its_labels)
{
	static const char *const where[] = { "/metadata", "/spec/template/metadata" };
	yyjson_doc *doc = plain_job(NULL);
	for (int i = 0; i < 2; i++) {
		char pointer[128];
		const struct {
			const char *key, *value;
		} expected[] = { { "labels/app", "\"evaluation\"" }, { "labels/eval-id", NULL },
			{ "labels/assay.dev~1task", "\"01934a00-0102-7003-8004-05060708090a\"" },
			{ "labels/assay.dev~1attempt", "\"2\"" }, { "labels/app.kubernetes.io~1instance", "\"main\"" },
			{ "annotations/assay.dev~1eval-id", "\"a b/c\"" },
			{ "annotations/assay.dev~1tenant", "\"physics\"" } };
		for (size_t k = 0; k < sizeof(expected) / sizeof(expected[0]); k++) {
			snprintf(pointer, sizeof(pointer), "%s/%s", where[i], expected[k].key);
			if (!expected[k].value) { /* cut and hashed */
				const char *label = yyjson_get_str(yyjson_doc_ptr_get(doc, pointer));
				CHECK(label && strncmp(label, "a-b-c-", 6) == 0 && strlen(label) == 14);
			} else {
				check_at(doc, pointer, expected[k].value);
			}
		}
	}
	yyjson_doc_free(doc);
	struct manifest_settings usual = settings();
	struct manifest *manifest;
	REQUIRE(manifest_new(&usual, &manifest, &(struct err){ 0 }) == 0);
	CHECK_STR(manifest_selector(manifest), "app=evaluation,app.kubernetes.io/instance=main");
	manifest_free(manifest);
}

TEST(it_is_restricted)
{
	yyjson_doc *doc = plain_job(NULL);
	check_at(doc, POD "/securityContext/runAsNonRoot", "true");
	check_at(doc, POD "/securityContext/runAsUser", "10001");
	check_at(doc, POD "/securityContext/seccompProfile/type", "\"RuntimeDefault\"");
	static const char *const both[] = { OURS, POD "/initContainers/0" };
	for (int i = 0; i < 2; i++) {
		char pointer[128];
		snprintf(pointer, sizeof(pointer), "%s/securityContext", both[i]);
		check_at(doc, pointer,
			"{\"allowPrivilegeEscalation\":false,\"readOnlyRootFilesystem\":true,\"capabilities\":{"
			"\"drop\":[\"ALL\"]}}");
	}
	check_at(doc, OURS "/resources/limits",
		"{\"cpu\":\"1500m\",\"memory\":536870912,\"ephemeral-storage\":287309824}");
	yyjson_doc_free(doc);
}

TEST(the_wrapper_is_put_in_or_is_there)
{
	struct manifest_settings with = settings();
	yyjson_doc *doc = job_with(&with, NULL);
	check_at(doc, OURS "/command/0", "\"/assay/bin/assay-wrap\"");
	check_at(doc, OURS "/command", "[\"/assay/bin/assay-wrap\",\"run\",\"--plan\",\"/assay/plan/plan\"]");
	check_at(doc, POD "/initContainers/0/image", "\"assay:1\"");
	check_at(doc, POD "/initContainers/0/command", "[\"/usr/bin/assay-wrap\",\"--install\",\"/assay/bin\"]");
	check_at(doc, OURS "/volumeMounts/0",
		"{\"name\":\"assay-wrapper\",\"mountPath\":\"/assay/bin\",\"readOnly\":true}");
	yyjson_doc_free(doc);
	with.wrapper_image = NULL;
	doc = job_with(&with, NULL);
	check_at(doc, OURS "/command/0", "\"/usr/bin/assay-wrap\"");
	check_at(doc, POD "/initContainers", "(nothing)");
	check_at(doc, OURS "/volumeMounts/0/name", "\"assay-plan\"");
	yyjson_doc_free(doc);
}

TEST(code_and_key_are_in_the_secret_alone)
{
	struct manifest_settings usual = settings();
	struct manifest *manifest;
	struct job job = a_job();
	struct job_file file = { BYTES_LITERAL("main.py"), BYTES_LITERAL("print('top secret')") };
	struct buffer text = { 0 };
	job.files = &file;
	job.file_count = 1;
	REQUIRE(manifest_new(&usual, &manifest, &(struct err){ 0 }) == 0);
	manifest_job(manifest, &job, BYTES_LITERAL("python:3"), /* plain= */ NULL, /* listeners= */ NULL, &text);
	CHECK(!memmem(text.data, text.len, "secret')", 8));
	yyjson_doc *doc = parsed(&text);
	check_at(doc, OURS "/env",
		"[{\"name\":\"ASSAY_WRAP_KEY\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"eval-x-2\",\"key\":\"key\"}}"
		"}]");
	yyjson_doc_free(doc);
	manifest_secret(manifest, &job, BYTES_LITERAL("uid-1"), (struct bytes){ "a\0b", 3 }, BYTES_LITERAL("k"), &text);
	doc = parsed(&text);
	check_at(doc, "/metadata/name", "\"eval-x-2\"");
	check_at(doc, "/metadata/ownerReferences",
		"[{\"apiVersion\":\"batch/v1\",\"kind\":\"Job\",\"name\":\"eval-x-2\",\"uid\":\"uid-1\"}]");
	check_at(doc, "/data", "{\"plan\":\"YQBi\",\"key\":\"aw==\"}");
	yyjson_doc_free(doc);
	manifest_free(manifest);
}

/* The Job and the Secret of an image that runs as it is. */
static void plain_objects(
	const char *template, const struct manifest_plain *plain, yyjson_doc **ret_job, yyjson_doc **ret_secret)
{
	struct manifest_settings usual = settings();
	struct manifest *manifest;
	struct job job = a_job();
	struct job_file files[] = { { BYTES_LITERAL("main.py"), BYTES_LITERAL("print('top secret')") },
		{ BYTES_LITERAL("data/x"), BYTES_LITERAL("") } };
	struct job_run run = { .timeout_us = 7 * US_PER_S };
	struct buffer text = { 0 };
	job.files = files;
	job.file_count = plain->redis_url ? 1 : 2;
	job.runs = &run;
	job.run_count = 1;
	usual.template = bytes_of(template);
	REQUIRE(manifest_new(&usual, &manifest, &(struct err){ 0 }) == 0);
	manifest_job(manifest, &job, BYTES_LITERAL("grader:1"), plain, /* listeners= */ NULL, &text);
	CHECK(!memmem(text.data, text.len, "secret')", 8) && !memmem(text.data, text.len, "hidden", 6));
	*ret_job = parsed(&text);
	manifest_plain_secret(manifest, &job, BYTES_LITERAL("uid-1"), plain, &text);
	*ret_secret = parsed(&text);
	manifest_free(manifest);
}

TEST(an_image_that_runs_as_it_is_keeps_its_entry_point)
{
	static const char *const args[] = { "--file", "/assay/code/main.py", "$(HOME)$", NULL };
	static const char *const env[] = { "A=hidden 1", "B=x=y", "A=hidden 2", NULL };
	const struct manifest_plain plain = { .args = args, .env = env };
	yyjson_doc *job, *secret;
	plain_objects("spec: {template: {spec: {initContainers: [{name: mine, image: i}], "
		      "containers: [{name: evaluation, command: [evil]}]}}}",
		&plain, &job, &secret);
	check_at(job, OURS "/image", "\"grader:1\"");
	check_at(job, OURS "/command", "(nothing)");
	check_at(job, OURS "/args", "[\"--file\",\"/assay/code/main.py\",\"$$(HOME)$$\"]");
	check_at(job, OURS "/env",
		"[{\"name\":\"A\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"eval-x-2\",\"key\":\"env-2\"}}},"
		"{\"name\":\"B\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"eval-x-2\",\"key\":\"env-1\"}}}]");
	check_at(job, OURS "/volumeMounts",
		"[{\"name\":\"assay-code\",\"mountPath\":\"/assay/code\",\"readOnly\":true},"
		"{\"name\":\"assay-temporary\",\"mountPath\":\"/tmp\"}]");
	check_at(job, POD "/volumes/1",
		"{\"name\":\"assay-code\",\"secret\":{\"secretName\":\"eval-x-2\",\"defaultMode\":365,\"items\":["
		"{\"key\":\"file-0\",\"path\":\"main.py\"},{\"key\":\"file-1\",\"path\":\"data/x\"}]}}");
	check_at(job, POD "/initContainers", "[{\"name\":\"mine\",\"image\":\"i\"}]");
	check_at(job, POD "/activeDeadlineSeconds", "342");
	check_at(job, OURS "/securityContext/readOnlyRootFilesystem", "true");
	check_at(secret, "/metadata/ownerReferences/0/uid", "\"uid-1\"");
	check_at(secret, "/data",
		"{\"file-0\":\"cHJpbnQoJ3RvcCBzZWNyZXQnKQ==\",\"file-1\":\"\",\"env-0\":\"aGlkZGVuIDE=\","
		"\"env-1\":\"eD15\",\"env-2\":\"aGlkZGVuIDI=\"}");
	yyjson_doc_free(job);
	yyjson_doc_free(secret);
}

TEST(an_image_that_publishes_gets_what_seed_003_gives_it)
{
	static const char *const args[] = { NULL }, *const env[] = { "EVAL_ID=forged", NULL };
	const struct manifest_plain plain = { .args = args, .env = env, .redis_url = "redis://u:hidden@r" };
	yyjson_doc *job, *secret;
	plain_objects(NULL, &plain, &job, &secret);
	check_at(job, OURS "/args", "(nothing)");
	check_at(job, OURS "/env",
		"[{\"name\":\"EVAL_ID\",\"value\":\"a b/c\"},"
		"{\"name\":\"REDIS_URL\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"eval-x-2\",\"key\":\"redis-url\"}}"
		"},"
		"{\"name\":\"USER_CODE\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"eval-x-2\",\"key\":\"file-0\"}}}"
		"]");
	check_at(job, OURS "/volumeMounts", "[{\"name\":\"assay-temporary\",\"mountPath\":\"/tmp\"}]");
	check_at(secret, "/data/redis-url", "\"cmVkaXM6Ly91OmhpZGRlbkBy\"");
	yyjson_doc_free(job);
	yyjson_doc_free(secret);
}

TEST(what_is_too_large_for_a_secret_is_fetched)
{
	struct manifest_settings usual = settings();
	struct manifest *manifest;
	struct job job = a_job();
	struct buffer text = { 0 };
	REQUIRE(manifest_new(&usual, &manifest, &(struct err){ 0 }) == 0);
	manifest_job(manifest, &job, BYTES_LITERAL("python:3"), NULL, "10.0.0.1:8091,10.0.0.2:8091", &text);
	yyjson_doc *doc = parsed(&text);
	check_at(doc, POD "/initContainers/0/command",
		"[\"/usr/bin/assay-wrap\",\"--install\",\"/assay/bin\",\"--fetch\",\"/assay/plan\"]");
	check_at(doc, POD "/initContainers/0/env/0/name", "\"ASSAY_WRAP_KEY\"");
	check_at(doc, POD "/initContainers/0/env/1/value", "\"01934a00-0102-7003-8004-05060708090a/2\"");
	check_at(doc, POD "/initContainers/0/env/2/value", "\"10.0.0.1:8091,10.0.0.2:8091\"");
	check_at(doc, POD "/initContainers/0/volumeMounts/1/name", "\"assay-plan\"");
	check_at(doc, POD "/initContainers/0/volumeMounts/1/readOnly", "(nothing)");
	check_at(doc, OURS "/volumeMounts/1/readOnly", "true");
	check_at(doc, POD "/volumes/3/secret", "(nothing)");
	yyjson_doc_free(doc);
	manifest_secret(manifest, &job, BYTES_LITERAL("uid-1"), BYTES_NONE, BYTES_LITERAL("k"), &text);
	doc = parsed(&text);
	check_at(doc, "/data", "{\"key\":\"aw==\"}");
	yyjson_doc_free(doc);
	manifest_free(manifest);
}

TEST(the_operators_template_adds_and_chooses)
{
	yyjson_doc *doc = plain_job(
		"spec:\n"
		"  ttlSecondsAfterFinished: 99\n"
		"  template:\n"
		"    metadata: {labels: {team: a, app: other}}\n"
		"    spec:\n"
		"      nodeSelector: {gpu: yes}\n"
		"      tolerations: [{operator: Exists}]\n"
		"      runtimeClassName: gvisor\n"
		"      restartPolicy: Always\n"
		"      securityContext: {runAsUser: 7, fsGroup: null}\n"
		"      imagePullSecrets: [{name: mine}]\n"
		"      volumes: [{name: data, emptyDir: {}}, {name: assay-work, emptyDir: {medium: Memory}}]\n"
		"      containers:\n"
		"      - name: evaluation\n"
		"        image: evil\n"
		"        resources: {limits: {nvidia.com/gpu: 1, memory: 1}, requests: {cpu: 100m}}\n"
		"        env: [{name: A, value: b}, {name: ASSAY_WRAP_KEY, value: forged}]\n"
		"        volumeMounts: [{name: data, mountPath: /data}]\n"
		"      - {name: sidecar, image: s}\n");
	check_at(doc, "/spec/ttlSecondsAfterFinished", "86400");
	check_at(doc, "/spec/template/metadata/labels/team", "\"a\"");
	check_at(doc, "/spec/template/metadata/labels/app", "\"evaluation\"");
	check_at(doc, POD "/nodeSelector/gpu", "\"yes\"");
	check_at(doc, POD "/tolerations", "[{\"operator\":\"Exists\"}]");
	check_at(doc, POD "/runtimeClassName", "\"gvisor\"");
	check_at(doc, POD "/securityContext/runAsUser", "7");
	check_at(doc, POD "/securityContext/runAsGroup", "10001");
	check_at(doc, POD "/securityContext/fsGroup", "(nothing)");
	check_at(doc, POD "/imagePullSecrets", "[{\"name\":\"mine\"}]");
	check_at(doc, OURS "/resources/requests", "{\"cpu\":\"100m\"}");
	check_at(doc, OURS "/resources/limits/nvidia.com~1gpu", "1");
	check_at(doc, OURS "/env/0", "{\"name\":\"A\",\"value\":\"b\"}");
	check_at(doc, OURS "/volumeMounts/0", "{\"name\":\"data\",\"mountPath\":\"/data\"}");
	check_at(doc, POD "/containers/1/name", "\"sidecar\"");
	check_at(doc, POD "/volumes/0/name", "\"data\"");
	check_at(doc, POD "/volumes/1/emptyDir/medium", "\"Memory\"");
	/* What the executor depends on it does not get to choose. */
	check_at(doc, POD "/restartPolicy", "\"Never\"");
	check_at(doc, OURS "/image", "\"python:3\"");
	check_at(doc, OURS "/resources/limits/memory", "536870912");
	check_at(doc, OURS "/env/1/valueFrom/secretKeyRef/key", "\"key\"");
	check_at(doc, OURS "/env/1/value", "(nothing)");
	check_at(doc, POD "/volumes/1/emptyDir/sizeLimit", "268435456");
	yyjson_doc_free(doc);
}

TEST(a_template_may_give_each_pod_user_ids_of_its_own)
{
	static const struct {
		const char *template;
		bool own;
	} cases[] = {
		{ "", false },
		{ "spec: {template: {spec: {hostUsers: true}}}", false },
		{ "spec: {template: {spec: {hostUsers: false}}}", true },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct manifest_settings own = settings();
		struct manifest *manifest;
		struct err err = { 0 };
		own.template = bytes_of(cases[i].template);
		REQUIRE(manifest_new(&own, &manifest, &err) == 0);
		CHECK_INT(manifest_own_users(manifest), cases[i].own);
		manifest_free(manifest);
	}
}

TEST(a_template_that_is_no_job_is_refused)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "[]", "the Job template is to be a Job, or a part of one" },
		{ "kind: Pod", "the Job template is to be a Job, or a part of one" },
		{ "spec: [", "the Job template: line " },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct manifest_settings own = settings();
		struct manifest *manifest = NULL;
		struct err err = { 0 };
		own.template = bytes_of(cases[i].text);
		CHECK_INT(manifest_new(&own, &manifest, &err), -EINVAL);
		CHECK(!manifest);
		CHECK(strncmp(err.message, cases[i].message, strlen(cases[i].message)) == 0);
	}
}

TEST(labels_take_any_value_and_stay_apart)
{
	char label[LABEL_VALUE_MAX + 1], other[LABEL_VALUE_MAX + 1], long_text[200];
	static const char *const kept[] = { "", "a", "a-b_c.9" };
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		manifest_label(bytes_of(kept[i]), label);
		CHECK_STR(label, kept[i]);
	}
	memset(long_text, 'x', sizeof(long_text));
	const struct bytes changed[] = { BYTES_LITERAL("-"), BYTES_LITERAL("a-"), BYTES_LITERAL(".a"),
		BYTES_LITERAL("grüße"), { long_text, sizeof(long_text) }, { long_text, 64 } };
	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
		manifest_label(changed[i], label);
		size_t len = strlen(label);
		CHECK(len >= 1 && len <= LABEL_VALUE_MAX);
		CHECK(label[0] != '-' && label[0] != '.' && label[len - 1] != '-');
		for (size_t k = 0; k < len; k++)
			CHECK(strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", label[k]));
		for (size_t k = 0; k < i; k++) {
			manifest_label(changed[k], other);
			CHECK(strcmp(label, other) != 0);
		}
	}
}

TEST_MAIN()
