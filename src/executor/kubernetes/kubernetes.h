/* The executor that makes a Kubernetes Job of each attempt.
 *
 * Two watches, on the Jobs and the pods of this installation, say what becomes of them; nothing is asked again and again. The
 * wrapper in the container reports to the attempt listener, a port of this process.
 *
 * While the API server is away nothing is created, health says so, and what runs goes on: reports come in all the same. Jobs
 * outlive this process: another replica, or the next incarnation, adopts them by their names. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_KUBERNETES_H
#define ASSAY_EXECUTOR_KUBERNETES_KUBERNETES_H

#include <stdint.h>
#include <uv.h>

#include "assay/executor.h"
#include "base/err.h"
#include "base/log.h"
#include "executor/kubernetes/access.h"
#include "executor/kubernetes/manifest.h"
#include "io/redis_address.h"
#include "task/language.h"

struct kubernetes_executor_options {
	uv_loop_t *loop; /* borrowed, as all of these: they outlive the executor */
	struct log *log;
	const struct languages *languages;
	struct kube_access_options access;
	struct manifest_settings manifest; /* its namespace NULL: the access's */
	struct bytes key,
		previous_key; /* what attempts' keys are made of, the same for all replicas; the second may be absent */
	const char *listen_host; /* where the attempt listener listens; NULL: there is none */
	uint16_t listen_port;
	const char *report_to; /* ADDRESS[:PORT] where pods reach it; NULL: the address it listens at */
	/* What leads to the attempt listener of any replica, for pods whose own is gone: a Service. NULL: none. A name is looked
	 * up here, for pods need not have a resolver. */
	const char *fallback_host;
	uint16_t fallback_port;
	int address_connections; /* to the attempt listener, of one address; 0: as many as is sensible */
	int slots; /* attempts side by side */
	int starting_max; /* of them before their code has started */
	int64_t patience_us; /* how long a wrapper looks for a listener that is away: longer than another replica takes to take over */
	int64_t progress_us; /* between two reports of a run's progress; 0: none */
	int64_t image_grace_us; /* that an image which cannot be had is waited for */
	int64_t gone_grace_us; /* that a pod may take beyond its grace period to end */
	int log_streams; /* pods without a wrapper whose logs are followed at a time */
	/* Where images publish that do so by themselves, and the URL by which they find it in their pods; either NULL: there are none
	 * such. */
	const struct redis_address *redis;
	const char *publish_url;
	/* Not NULL: wrappers report over this Redis, which is the same one as pods reach it, instead of to the attempt listener. */
	const struct redis_address *report_redis;
	int64_t reconcile_us; /* between two lists of all Jobs that are compared with what is known; 0: none */
	double rate; /* requests to the API server a second; 0: no limit */
	int burst;
};

/* NULL: *err says why. */
struct executor *kubernetes_executor_new(const struct kubernetes_executor_options *options, struct err *err);

#endif
