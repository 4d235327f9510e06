/* The objects that an attempt is in Kubernetes: a Job, and a Secret with what it runs.
 *
 * Three layers, each laid over the last (overlay.h): what we choose unless told otherwise (security context, grace
 * period, time to live, where the wrapper comes from), the operator's template, and what the executor depends on
 * (names, labels, one pod that is not replaced, our container with its command, its limits and its mounts). The first two are
 * made one when the manifest is made.
 *
 * The code is never in the Job. It and the attempt's key come in a Secret of the same name, which is created once the Job has a
 * UID and is owned by it: the pod waits for it, and whoever deletes the Job deletes it. So the Job can be listed and watched by those who
 * may not read code.
 *
 * Written to Job v1 and Pod v1 (kubernetes.io/docs/reference/kubernetes-api/workload-resources); nothing is used that Kubernetes
 * 1.20 does not have. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_MANIFEST_H
#define ASSAY_EXECUTOR_KUBERNETES_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/executor.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"

/* Labels and annotations of a Job and its pods. The first two are what clients select by. */
#define LABEL_APP "app"
#define LABEL_APP_VALUE "evaluation"
#define LABEL_EVAL_ID "eval-id" /* in a form that a label can have; whole in the annotation */
#define LABEL_TASK "assay.dev/task"
#define LABEL_ATTEMPT "assay.dev/attempt"
#define LABEL_INSTANCE "app.kubernetes.io/instance"
#define ANNOTATION_EVAL_ID "assay.dev/eval-id"
#define ANNOTATION_TENANT "assay.dev/tenant"
#define ANNOTATION_RUN "assay.dev/run"
#define ANNOTATION_TRACEPARENT "assay.dev/traceparent"

#define MANIFEST_CONTAINER "evaluation" /* the container that the code runs in */
#define MANIFEST_INIT_CONTAINER "wrapper"
#define MANIFEST_PLAN_KEY "plan" /* of the Secret's data: what the wrapper does */
#define MANIFEST_KEY_KEY "key" /* … and what it signs with */
/* Where the code works, and what else it may write to: empty volumes. */
#define MANIFEST_WORK "/work"
#define MANIFEST_TEMPORARY "/tmp"
#define MANIFEST_CODE "/assay/code" /* where an image that runs as it is finds the files, read-only */
#define LABEL_VALUE_MAX 63

struct manifest_settings {
	const char *namespace;
	const char *instance; /* which installation's these are, where several share a namespace */
	const char *wrapper_image; /* has the wrapper; NULL: the image of each evaluation has it, at the same path */
	const char *wrapper_path; /* there: absolute */
	struct bytes template; /* the operator's, JSON or YAML: a Job or a part of one; absent: none */
	int64_t user_id; /* that the code runs under, where neither template nor image say otherwise; above 0 */
	int64_t start_timeout_us; /* from being scheduled to the first program */
	int64_t grace_us; /* between being asked to end and being killed */
	int64_t patience_us; /* that a plan which is to be fetched is tried to be had */
	int64_t keep_us; /* how long Kubernetes keeps an ended Job that nobody has deleted */
};

/* What the container of an image gets that runs as it is: its entry point is left alone, and there is no wrapper. */
struct manifest_plain {
	const char *const *args; /* of the entry point, NULL-terminated; none: those that the image has */
	const char *const
		*env; /* NAME=value, NULL-terminated; of equal names the last. The values are in the Secret alone */
	/* Not NULL: it publishes there by itself (seed 003), and gets the code by USER_CODE instead of in a directory. */
	const char *redis_url;
};

struct manifest;

/* Borrows the settings' strings. Errors: -EINVAL, of the template. */
int manifest_new(const struct manifest_settings *settings, struct manifest **ret_manifest, struct err *err) MUST_CHECK;
void manifest_free(struct manifest *manifest); /* may be NULL */

/* The Job of this attempt, as JSON. `image`: what it runs in; `plain`: how, NULL: by the wrapper. `listeners`: where its init
 * container gets the plan from (wrap/fetch.h), since that is too large for the Secret; NULL: the Secret has it. */
void manifest_job(const struct manifest *manifest, const struct job *job, struct bytes image,
	const struct manifest_plain *plain, const char *listeners, struct buffer *to);
/* The Secret that the Job of this UID owns, as JSON. Both contents may be any bytes; an absent plan is fetched. */
void manifest_secret(const struct manifest *manifest, const struct job *job, struct bytes job_uid, struct bytes plan,
	struct bytes key, struct buffer *to);
/* The same for an image that runs as it is: its files and what is in its environment. */
void manifest_plain_secret(const struct manifest *manifest, const struct job *job, struct bytes job_uid,
	const struct manifest_plain *plain, struct buffer *to);
bool manifest_own_users(const struct manifest *manifest); /* its pods are to have a user namespace each */
/* Matches the Jobs and pods of this installation and no others, for lists and watches; not escaped for a URL. Owned by the
 * manifest. */
const char *manifest_selector(const struct manifest *manifest);

/* A value that a label can have (at most 63 of [A-Za-z0-9_.-], a letter or digit at both ends). One that had to be changed ends in a
 * hash of the whole, so that different values stay different. Empty stays empty. */
void manifest_label(struct bytes value, char ret_text[static LABEL_VALUE_MAX + 1]);

#endif
