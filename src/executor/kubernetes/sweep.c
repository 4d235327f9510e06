/* What events do not tell: whole lists are compared with what is tracked.
 *
 *   a Job that nobody here tracks ──on_found──► the coordinator asks its row ──discard──► it is deleted
 *   a pod that was let live when its Job was deleted ──► it is deleted, and the Job's Secret
 *   an attempt whose Job is in none of two lists of Jobs, or whose pod is not in a list of pods ──► lost
 *   an attempt whose Job has ended by two lists, while we wait for its pod ──► its pod is looked up; by a third: lost
 *
 * Lists come from the watches, whenever they begin anew, and from a slow one of Jobs, the net under everything. Each has a
 * number; an attempt is judged by those that began when its Job or its pod was there already. What is to be deleted waits in line;
 * one that cannot be is found again by the next list, a Secret by its pod. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/kubernetes/internal.h"

#define AT_ONCE 8 /* deletions on their way */
#define DEADLINE_US (30 * US_PER_S)

enum left { LEFT_JOB, LEFT_SECRET, LEFT_POD };

struct leftover {
	struct list link; /* in kubernetes->sweep.waiting, or in none */
	enum left what;
	char *pod; /* owned; LEFT_POD: its name; LEFT_SECRET: what is to be deleted after it, NULL: nothing */
	char name[JOB_NAME_SIZE]; /* of the Job and of its Secret */
};

struct deletion {
	struct kubernetes *kubernetes; /* borrowed */
	struct leftover *leftover; /* owned */
	struct buffer path;
	struct kube_call call;
};

/* ---- what is tracked ---- */

/* The list is whole, and it should have named this one. */
static void judge_job(struct kube_attempt *attempt, bool named)
{
	struct kubernetes *k = attempt->kubernetes;
	if (named && !attempt->finished) {
		attempt->strange = 0;
		return;
	}
	if (named && attempt->exchange)
		return; /* what it is about may tell */
	attempt->strange++;
	if (attempt->strange == 2 && named) {
		kube_attempt_get(attempt);
	} else if (attempt->strange >= (named ? 3 : 2)) {
		k->sweep.lost++;
		kube_attempt_lost(
			attempt, REASON_DELETED, named ? "the Job has ended, and nobody knows how" : "the Job is gone");
	}
}

static void judge_pod(struct kube_attempt *attempt, bool named)
{
	if (named)
		return;
	attempt->kubernetes->sweep.lost++;
	kube_attempt_gone(attempt, "the pod is gone");
}

static void judge(struct kube_attempt *attempt, enum kube_look look)
{
	uint32_t number = attempt->kubernetes->sweep.look[look];
	uint32_t since = look == LOOK_PODS ? attempt->pod_since : attempt->job_since;
	bool named = attempt->seen[look] == number;
	if (!attempt->job || attempt->ended || logs_have_end(attempt) || since == 0 || since > number)
		return;
	if (look == LOOK_PODS)
		judge_pod(attempt, named);
	else
		judge_job(attempt, named);
}

void sweep_listed(struct kubernetes *k, enum kube_look look, bool end)
{
	if (!end) {
		k->sweep.look[look] = ++k->sweep.lists;
		return;
	}
	LIST_EACH (&k->list, link)
		judge(LIST_ENTRY(link, struct kube_attempt, link), look);
}

/* ---- what is there ---- */

bool sweep_has_finished(yyjson_val *job)
{
	yyjson_val *conditions = yyjson_obj_get(yyjson_obj_get(job, "status"), "conditions"), *condition;
	size_t index, count;
	yyjson_arr_foreach(conditions, index, count, condition)
	{
		yyjson_val *type = yyjson_obj_get(condition, "type");
		bool ends = yyjson_equals_str(type, "Complete") || yyjson_equals_str(type, "Failed");
		if (ends && yyjson_equals_str(yyjson_obj_get(condition, "status"), "True"))
			return true;
	}
	return false;
}

static struct bytes text_of(yyjson_val *object, const char *key)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return yyjson_is_str(value) ? (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) } : BYTES_NONE;
}

void sweep_job(struct kubernetes *k, enum kube_look look, yyjson_val *job)
{
	yyjson_val *metadata = yyjson_obj_get(job, "metadata"), *labels = yyjson_obj_get(metadata, "labels");
	struct uuid task_id;
	int64_t number;
	if (!uuid_parse(text_of(labels, LABEL_TASK), &task_id) ||
		!text_to_int(text_of(labels, LABEL_ATTEMPT), 1, INT32_MAX, &number))
		return;
	struct kube_attempt *attempt = kube_attempt_find(k, &task_id, (int)number);
	if (attempt) {
		attempt->seen[look] = k->sweep.look[look];
		attempt->finished = sweep_has_finished(job);
		if (look == LOOK_JOBS) /* not by the watch: nothing is known of its lag */
			attempt->created_at_us = 0;
	} else if (!yyjson_obj_get(metadata, "deletionTimestamp")) {
		k->told->on_found(k->owner, &k->executor, &task_id, (int)number);
	}
}

/* ---- what nobody wants ---- */

static void leftover_free(struct leftover *leftover)
{
	list_remove(&leftover->link);
	free(leftover->pod);
	free(leftover);
}

static void forget_waiting(struct kubernetes *k, enum left what)
{
	LIST_EACH (&k->sweep.waiting, link) {
		struct leftover *leftover = LIST_ENTRY(link, struct leftover, link);
		if (leftover->what == what)
			leftover_free(leftover);
	}
}

/* `pod` becomes the list's. */
static void leave(struct kubernetes *k, enum left what, const char *name, char *pod)
{
	struct leftover *leftover = alloc(sizeof(*leftover));
	leftover->what = what;
	leftover->pod = pod;
	snprintf(leftover->name, sizeof(leftover->name), "%s", name);
	list_push_back(&k->sweep.waiting, &leftover->link);
}

static void delete_next(struct kubernetes *k);

static void on_deleted(struct kube_call *call)
{
	struct deletion *deletion = call->owner;
	struct kubernetes *k = deletion->kubernetes;
	struct leftover *leftover = deletion->leftover;
	int code = call->err.code;
	bool gone = code == 0 || code == -ENOENT;
	k->sweep.deleting--;
	k->sweep.deleted += leftover->what == LEFT_JOB && code == 0;
	if (!gone && code != -ECANCELED) {
		log_event(k->options.log, LOG_WARNING, "what nobody wants any more could not be deleted",
			L_ERR(&call->err));
		forget_waiting(k, leftover->what);
	}
	/* The pod is what a Secret is found again by; but whoever may not delete Secrets still ends what runs. */
	if (leftover->what == LEFT_SECRET && leftover->pod && (gone || code == -EPERM))
		leave(k, LEFT_POD, leftover->name, STEAL(leftover->pod));
	leftover_free(leftover);
	kube_call_fini(&deletion->call);
	buffer_fini(&deletion->path);
	free(deletion);
	if (k->state == STATE_RUNNING)
		delete_next(k);
}

static void put_path(struct buffer *to, const struct kubernetes *k, const struct leftover *leftover)
{
	if (leftover->what == LEFT_JOB)
		buffer_printf(to, "/apis/batch/v1/namespaces/%s/jobs/%s", k->namespace, leftover->name);
	else if (leftover->what == LEFT_SECRET)
		buffer_printf(to, "/api/v1/namespaces/%s/secrets/%s", k->namespace, leftover->name);
	else
		buffer_printf(to, "/api/v1/namespaces/%s/pods/%s", k->namespace, leftover->pod);
	buffer_append_char(to, '\0');
}

static void delete_next(struct kubernetes *k)
{
	while (k->sweep.deleting < AT_ONCE && !list_empty(&k->sweep.waiting)) {
		struct deletion *deletion = alloc(sizeof(*deletion));
		deletion->kubernetes = k;
		deletion->leftover = LIST_ENTRY(list_pop_front(&k->sweep.waiting), struct leftover, link);
		list_init(&deletion->leftover->link);
		put_path(&deletion->path, k, deletion->leftover);
		deletion->call = (struct kube_call){ .method = "DELETE",
			.path = deletion->path.data,
			.body = deletion->leftover->what == LEFT_JOB ? BYTES_LITERAL(DELETE_OPTIONS) : BYTES_NONE,
			.deadline_us = DEADLINE_US,
			.done = on_deleted,
			.owner = deletion };
		k->sweep.deleting++;
		kube_client_call(k->client, &deletion->call);
	}
}

void sweep_discard(struct kubernetes *k, const struct uuid *task_id, int attempt)
{
	if (k->state != STATE_RUNNING || kube_attempt_find(k, task_id, attempt))
		return;
	char name[JOB_NAME_SIZE];
	job_name_format(task_id, attempt, name);
	log_event(k->options.log, LOG_INFO, "a Job that nobody wants any more is deleted", L_STR("job", name));
	leave(k, LEFT_JOB, name, NULL);
	delete_next(k);
}

void sweep_owned(struct kubernetes *k, const char *job, const char *pod)
{
	leave(k, LEFT_SECRET, job, string_copy(pod));
	delete_next(k);
}

void sweep_orphan(struct kubernetes *k, const struct pod *pod, yyjson_val *object)
{
	yyjson_val *metadata = yyjson_obj_get(object, "metadata");
	const char *name = yyjson_get_str(yyjson_obj_get(metadata, "name"));
	char job[JOB_NAME_SIZE];
	if (k->state != STATE_RUNNING || !name || yyjson_arr_size(yyjson_obj_get(metadata, "ownerReferences")) > 0 ||
		pod->deleted_at_us > 0)
		return;
	log_event(k->options.log, LOG_INFO, "a pod whose Job was deleted without it is deleted", L_STR("pod", name));
	sweep_owned(k, job_name_format(&pod->task_id, pod->attempt, job), name);
}

void sweep_init(struct kubernetes *k)
{
	list_init(&k->sweep.waiting);
}

void sweep_fini(struct kubernetes *k)
{
	for (enum left what = LEFT_JOB; what <= LEFT_POD; what++)
		forget_waiting(k, what);
}
