/* Reads a pod. The words are those of the kubelet (pkg/kubelet/events, /eviction, /images), of the node life cycle
 * controller (NodeLost), of the scheduler, and of the DisruptionTarget condition. */
#include "executor/kubernetes/pod.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/kubernetes/manifest.h"
#include "wrap/report.h"

const char *pod_stage_name(enum pod_stage stage)
{
	static const char *const names[] = {
		[POD_WAITING] = "waiting",
		[POD_PREPARING] = "preparing",
		[POD_STUCK] = "stuck",
		[POD_RUNNING] = "running",
		[POD_SUCCEEDED] = "succeeded",
		[POD_FAILED] = "failed",
	};
	return names[stage];
}

/* ---- reading ---- */

static struct bytes text_of(yyjson_val *object, const char *key)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return yyjson_is_str(value) ? (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) } : BYTES_NONE;
}

static bool is_text(yyjson_val *object, const char *key, const char *wanted)
{
	return yyjson_equals_str(yyjson_obj_get(object, key), wanted);
}

static int64_t time_of(yyjson_val *object, const char *key)
{
	int64_t at_us;
	return clock_parse(text_of(object, key), &at_us) ? at_us : 0;
}

/* What the object has is when the grace period will be over. */
static int64_t deletion_of(yyjson_val *metadata)
{
	int64_t over_us = time_of(metadata, "deletionTimestamp");
	return over_us > 0 ? over_us - yyjson_get_int(yyjson_obj_get(metadata, "deletionGracePeriodSeconds")) * US_PER_S
			   : 0;
}

/* The element of that name; NULL where there is none. */
static yyjson_val *named(yyjson_val *list, const char *key, const char *name)
{
	size_t index, count;
	yyjson_val *element;
	yyjson_arr_foreach(list, index, count, element) if (is_text(element, key, name)) return element;
	return NULL;
}

static yyjson_val *condition_of(yyjson_val *status, const char *type)
{
	return named(yyjson_obj_get(status, "conditions"), "type", type);
}

/* "REASON: MESSAGE", whichever of them there is. */
static void say(struct pod *pod, struct bytes reason, struct bytes message)
{
	snprintf(pod->message, sizeof(pod->message), "%.*s%s%.*s", (int)reason.len, reason.data ? reason.data : "",
		reason.len > 0 && message.len > 0 ? ": " : "", (int)message.len, message.data ? message.data : "");
}

static void say_of(struct pod *pod, yyjson_val *object)
{
	say(pod, text_of(object, "reason"), text_of(object, "message"));
}

/* ---- judging ---- */

struct word {
	const char *word;
	enum task_reason reason;
};

/* REASON_NONE: not one of these. */
static enum task_reason reason_of(struct bytes word, const struct word *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes_is(word, words[i].word))
			return words[i].reason;
	return REASON_NONE;
}

/* Reasons of the condition DisruptionTarget. */
static const struct word disruptions[] = {
	{ "PreemptionByScheduler", REASON_PREEMPTED },
	{ "PreemptionByKubeScheduler", REASON_PREEMPTED }, /* in 1.25 */
	{ "EvictionByEvictionAPI", REASON_EVICTED },
	{ "TerminationByKubelet", REASON_EVICTED },
	{ "DeletionByTaintManager", REASON_NODE_LOST },
	{ "DeletionByPodGC", REASON_NODE_LOST },
};

/* status.reason of a pod. */
static const struct word endings[] = {
	{ "Evicted", REASON_EVICTED },
	{ "Preempting", REASON_PREEMPTED },
	{ "Preempted", REASON_PREEMPTED },
	{ "NodeLost", REASON_NODE_LOST },
	{ "NodeShutdown", REASON_NODE_LOST },
	{ "Shutdown", REASON_NODE_LOST },
	{ "Terminated", REASON_NODE_LOST }, /* by a node that shuts down in order */
	{ "NodeAffinity", REASON_EVICTED }, /* the kubelet would not have it */
	{ "UnexpectedAdmissionError", REASON_EVICTED },
	{ "OutOfcpu", REASON_EVICTED },
	{ "OutOfmemory", REASON_EVICTED },
	{ "OutOfpods", REASON_EVICTED },
	{ "OutOfephemeral-storage", REASON_EVICTED },
};

/* Why a container waits, where waiting hardly helps. */
static const struct word troubles[] = {
	{ "ErrImagePull", REASON_IMAGE_PULL },
	{ "ImagePullBackOff", REASON_IMAGE_PULL },
	{ "InvalidImageName", REASON_IMAGE_PULL },
	{ "ErrImageNeverPull", REASON_IMAGE_PULL },
	{ "ImageInspectError", REASON_IMAGE_PULL },
	{ "RegistryUnavailable", REASON_IMAGE_PULL },
	{ "SignatureValidationFailed", REASON_IMAGE_PULL },
	{ "CreateContainerConfigError", REASON_START_TIMEOUT },
	{ "CreateContainerError", REASON_START_TIMEOUT },
	{ "RunContainerError", REASON_START_TIMEOUT },
	{ "CrashLoopBackOff", REASON_START_TIMEOUT },
};

static bool mentions(struct bytes text, const char *part)
{
	return text.len > 0 && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* The kubelet evicts for two reasons: the node has too little, or this pod took more than it was given. */
static bool took_too_much_disk(struct bytes message)
{
	return mentions(message, "EmptyDir volume") || mentions(message, "exceeds the total limit of containers") ||
	       mentions(message, "exceeded its local ephemeral storage limit");
}

static void failed(struct pod *pod, enum task_reason reason)
{
	pod->stage = POD_FAILED;
	pod->reason = reason;
}

/* What the state of our container alone says. */
static void judge_exit(struct pod *pod, yyjson_val *terminated)
{
	struct bytes reason = text_of(terminated, "reason");
	if (bytes_is(reason, "OOMKilled"))
		failed(pod, REASON_OUT_OF_MEMORY);
	else if (bytes_is(reason, "ContainerStatusUnknown"))
		failed(pod, REASON_NODE_LOST);
	else if (bytes_is(reason, "ContainerCannotRun") || bytes_is(reason, "StartError"))
		failed(pod, REASON_EXECUTOR_LOST); /* not one instruction of it ran */
	else if (pod->exit_code == 0 && pod->signal == 0)
		pod->stage = POD_SUCCEEDED;
	else if (pod->deleted_at_us > 0 && pod->finished_at_us >= pod->deleted_at_us)
		failed(pod, REASON_DELETED); /* it was made to end */
	else if (pod->signal != 0)
		failed(pod, REASON_SIGNAL);
	else
		failed(pod, REASON_EXIT_CODE);
	/* The wrapper's report is for us, and what it says is told in its own words. */
	struct bytes message = text_of(terminated, "message");
	if (pod->stage == POD_FAILED)
		say(pod, reason, report_text_is_ours(message.data, message.len) ? BYTES_NONE : message);
}

/* Why it was chosen to be taken away; REASON_NONE: it was not, or the server does not tell. */
static enum task_reason disruption_of(yyjson_val *status)
{
	yyjson_val *disrupted = condition_of(status, "DisruptionTarget");
	if (!is_text(disrupted, "status", "True"))
		return REASON_NONE;
	enum task_reason reason = reason_of(text_of(disrupted, "reason"), disruptions, ARRAY_SIZE(disruptions));
	return reason ? reason : REASON_EVICTED;
}

/* The node life cycle controller takes the condition Ready from the pods of a node that it does not hear of, without a
 * reason, and what the node told last of their containers stays; kubelet gives one, and takes it from both. */
static bool is_of_lost_node(yyjson_val *status, yyjson_val *own)
{
	yyjson_val *ready = condition_of(status, "Ready");
	return is_text(ready, "status", "False") && text_of(ready, "reason").len == 0 &&
	       yyjson_is_true(yyjson_obj_get(own, "ready")) &&
	       yyjson_obj_get(yyjson_obj_get(own, "state"), "running") != NULL;
}

/* It has ended, and its node or the control plane says why; REASON_NONE: they do not. */
static enum task_reason blamed(struct pod *pod, yyjson_val *status, bool has_started)
{
	enum task_reason disruption = disruption_of(status);
	struct bytes word = text_of(status, "reason"), message = text_of(status, "message");
	if (bytes_is(word, "Evicted") && took_too_much_disk(message)) {
		say_of(pod, status);
		return REASON_DISK_LIMIT;
	}
	if (disruption) {
		say_of(pod, condition_of(status, "DisruptionTarget"));
		return disruption;
	}
	say_of(pod, status);
	if (bytes_is(word, "DeadlineExceeded"))
		return has_started ? REASON_TIMEOUT : REASON_START_TIMEOUT;
	return reason_of(word, endings, ARRAY_SIZE(endings));
}

/* An init container that failed ends the pod. */
static bool judge_init(struct pod *pod, yyjson_val *status)
{
	yyjson_val *init = named(yyjson_obj_get(status, "initContainerStatuses"), "name", MANIFEST_INIT_CONTAINER);
	yyjson_val *state = yyjson_obj_get(init, "state"), *terminated = yyjson_obj_get(state, "terminated");
	yyjson_val *waiting = yyjson_obj_get(state, "waiting");
	enum task_reason reason = reason_of(text_of(waiting, "reason"), troubles, ARRAY_SIZE(troubles));
	if (reason) {
		pod->stage = POD_STUCK;
		pod->reason = reason;
		say_of(pod, waiting);
		return true;
	}
	if (!terminated || yyjson_get_int(yyjson_obj_get(terminated, "exitCode")) == 0)
		return false;
	failed(pod, REASON_EXECUTOR_LOST);
	say_of(pod, terminated);
	return true;
}

static void judge(struct pod *pod, yyjson_val *status, yyjson_val *state)
{
	yyjson_val *terminated = yyjson_obj_get(state, "terminated"), *running = yyjson_obj_get(state, "running");
	yyjson_val *waiting = yyjson_obj_get(state, "waiting");
	bool phase_failed = is_text(status, "phase", "Failed");
	enum task_reason reason;
	pod->stage = pod->scheduled_at_us > 0 || pod->node.len > 0 ? POD_PREPARING : POD_WAITING;
	bool lost = is_text(status, "reason", "NodeLost"); /* its phase is what the node said last */
	if ((phase_failed || lost) && (reason = blamed(pod, status, terminated || running)) != REASON_NONE) {
		failed(pod, reason);
	} else if (terminated) {
		judge_exit(pod, terminated);
	} else if (running) {
		pod->stage = POD_RUNNING;
	} else if (judge_init(pod, status)) {
		return;
	} else if (phase_failed) {
		failed(pod, pod->deleted_at_us > 0 ? REASON_DELETED : REASON_EXECUTOR_LOST);
	} else if (is_text(status, "phase", "Succeeded")) {
		pod->stage = POD_SUCCEEDED;
	} else if ((reason = reason_of(text_of(waiting, "reason"), troubles, ARRAY_SIZE(troubles)))) {
		pod->stage = POD_STUCK;
		pod->reason = reason;
		say_of(pod, waiting);
	} else if (pod->stage == POD_WAITING) {
		say_of(pod, condition_of(status, "PodScheduled"));
	} else {
		say_of(pod, waiting);
	}
}

bool pod_read(yyjson_val *object, struct pod *ret_pod)
{
	yyjson_val *metadata = yyjson_obj_get(object, "metadata"), *labels = yyjson_obj_get(metadata, "labels");
	yyjson_val *status = yyjson_obj_get(object, "status");
	yyjson_val *own = named(yyjson_obj_get(status, "containerStatuses"), "name", MANIFEST_CONTAINER);
	yyjson_val *state = yyjson_obj_get(own, "state"), *terminated = yyjson_obj_get(state, "terminated");
	int64_t attempt;
	*ret_pod = (struct pod){
		.uid = text_of(metadata, "uid"),
		.name = text_of(metadata, "name"),
		.node = text_of(yyjson_obj_get(object, "spec"), "nodeName"),
		.job_name = text_of(labels, "job-name"),
		.exit_code = -1,
		.deleted_at_us = deletion_of(metadata),
		.report = text_of(terminated, "message"),
		.image = text_of(own, "imageID"),
	};
	if (!yyjson_is_obj(metadata) || ret_pod->uid.len == 0)
		return false;
	if (uuid_parse(text_of(labels, LABEL_TASK), &ret_pod->task_id) &&
		text_to_int(text_of(labels, LABEL_ATTEMPT), 1, INT32_MAX, &attempt))
		ret_pod->attempt = (int)attempt;
	else
		ret_pod->task_id = (struct uuid){ 0 };
	yyjson_val *scheduled = condition_of(status, "PodScheduled");
	if (is_text(scheduled, "status", "True"))
		ret_pod->scheduled_at_us = time_of(scheduled, "lastTransitionTime");
	yyjson_val *running = yyjson_obj_get(state, "running");
	ret_pod->started_at_us = time_of(terminated ? terminated : running, "startedAt");
	ret_pod->finished_at_us = time_of(terminated, "finishedAt");
	if (terminated) {
		ret_pod->exit_code = (int)yyjson_get_int(yyjson_obj_get(terminated, "exitCode"));
		ret_pod->signal = (int)yyjson_get_int(yyjson_obj_get(terminated, "signal"));
	}
	ret_pod->leaving = disruption_of(status);
	if (!ret_pod->leaving && is_of_lost_node(status, own))
		ret_pod->leaving = REASON_NODE_LOST;
	else if (!ret_pod->leaving && ret_pod->deleted_at_us > 0)
		ret_pod->leaving = REASON_DELETED;
	judge(ret_pod, status, state);
	return true;
}

bool pod_quota_refuses(struct bytes message)
{
	return mentions(message, "exceeded quota") || mentions(message, "status unknown for quota");
}

bool pod_refusal_read(yyjson_val *events, struct pod_refusal *ret_refusal)
{
	size_t index, count;
	yyjson_val *event, *newest = NULL;
	yyjson_arr_foreach(yyjson_obj_get(events, "items"), index, count, event)
	{
		if (is_text(event, "reason", "FailedCreate") &&
			(!newest || time_of(newest, "lastTimestamp") <= time_of(event, "lastTimestamp")))
			newest = event;
	}
	if (!newest)
		return false;
	struct bytes message = text_of(newest, "message");
	ret_refusal->is_quota = pod_quota_refuses(message);
	snprintf(ret_refusal->message, sizeof(ret_refusal->message), "%.*s", (int)message.len,
		message.data ? message.data : "");
	return true;
}
