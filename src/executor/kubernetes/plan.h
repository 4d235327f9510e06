/* The plan of an attempt: what assay-wrap does in the container, zipped, for the Secret (wrap/plan.h says what is in it). */
#ifndef ASSAY_EXECUTOR_KUBERNETES_PLAN_H
#define ASSAY_EXECUTOR_KUBERNETES_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/executor.h"
#include "base/buffer.h"
#include "base/err.h"
#include "task/language.h"

/* A Secret holds 1 MiB (kubernetes.io/docs/concepts/configuration/secret), the rest of it included. */
#define KUBE_PLAN_MAX (900 << 10)
#define KUBE_PLAN_INPUT_MAX \
	(KUBE_PLAN_MAX / 16 * 15) /* bytes of input that fit, zipped or not, with all that is said of them */
#define KUBE_FETCH_MAX (8 << 20) /* bytes of input in a plan that is fetched: it is put together on the loop */

struct kube_plan_options {
	const char *listener; /* ADDRESS:PORT; NULL: none, then output goes to the pod's log */
	const char *channel; /* the listener is a Redis: what PLAN_CHANNEL says; else NULL */
	const char *fallback; /* where it is looked for when it is not there; NULL or empty: nowhere */
	const char *box; /* the directory in the container that the code works in */
	const char *temporary; /* another that it may write to */
	bool own_users; /* the pod is to have a user namespace */
	int64_t grace_us;
	int64_t patience_us; /* how long the listener may be away */
	int64_t progress_us; /* between two reports of progress; 0: none */
};

/* Appends it to `to`, zipped. Errors: -E2BIG, beyond KUBE_PLAN_MAX. */
int kube_plan_write(const struct kube_plan_options *options, const struct language *language, const struct job *job,
	struct buffer *to, struct err *err) MUST_CHECK;
/* The same, not zipped, and as large as a plan may be. */
int kube_plan_write_plain(const struct kube_plan_options *options, const struct language *language,
	const struct job *job, struct buffer *to, struct err *err) MUST_CHECK;
size_t kube_plan_input_size(const struct job *job); /* bytes of files and standard input */
bool kube_plan_is_large(const struct job *job); /* it may be too large for a Secret */

#endif
