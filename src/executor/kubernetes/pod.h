/* What a pod's object says about the attempt that runs in it: read from JSON, judged without looking at anything else.
 *
 * Who is at fault is told by the node and the control plane in several places, of which some are not there on older servers and some
 * only for a moment. In the order in which they are believed: the condition DisruptionTarget
 * (kubernetes.io/docs/concepts/workloads/pods/disruptions, from 1.26 on), status.reason (the kubelet's and the node life
 * cycle controller's words), the state of our container, then that of its init container. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_POD_H
#define ASSAY_EXECUTOR_KUBERNETES_POD_H

#include <stdbool.h>
#include <stdint.h>
#include <yyjson.h>

#include "assay/task.h"
#include "base/bytes.h"
#include "base/uuid.h"

enum pod_stage {
	POD_WAITING, /* for a node: capacity, quota of the node, taints. Costs nothing */
	POD_PREPARING, /* has a node: volumes, images, containers are being made */
	POD_STUCK, /* as PREPARING, but by `reason` this will hardly pass by itself: to be given a grace period */
	POD_RUNNING, /* our container has started */
	POD_SUCCEEDED, /* our container exited with 0 */
	POD_FAILED, /* for `reason` */
};

struct pod {
	struct bytes uid, name, node, job_name; /* borrowed from the object; absent where it has none */
	struct uuid task_id; /* nil: not ours */
	int attempt; /* 0: not ours */
	enum pod_stage stage;
	enum task_reason reason; /* STUCK, FAILED */
	/* It is being taken away, for that reason as far as anybody says; REASON_NONE: it is not. The Job's next pod may come before
	 * this one has ended. */
	enum task_reason leaving;
	int exit_code; /* -1: did not exit, or is not known */
	int signal; /* as the runtime told it; 0: none */
	int64_t started_at_us, finished_at_us; /* of our container, by the node's clock; 0: not known */
	int64_t scheduled_at_us;
	int64_t deleted_at_us; /* when somebody asked for its end; 0: nobody has */
	struct bytes report; /* our container's termination message; any bytes; absent: none */
	struct bytes image; /* with its digest where the runtime told it */
	char message[240]; /* for people: why it waits, is stuck or failed; may be empty */
};

/* False: not a pod. */
bool pod_read(yyjson_val *object, struct pod *ret_pod);

const char *pod_stage_name(enum pod_stage stage);

/* Whether what the server says, in a refusal or an Event, is that a quota is used up, or has just been made and its use is not
 * known yet (plugin/pkg/admission/resourcequota). Nothing but the words tells that from what nobody may do. */
bool pod_quota_refuses(struct bytes message);

struct pod_refusal {
	bool is_quota;
	char message[240]; /* of the Job controller's */
};

/* Why a Job has got no pod, by a list of its Events: the newest that says so. False: none does. */
bool pod_refusal_read(yyjson_val *events, struct pod_refusal *ret_refusal);

#endif
