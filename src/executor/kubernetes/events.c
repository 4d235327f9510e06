/* Why a Job has no pod, the one thing that neither watch tells: the Job controller says it in Events of the Job alone, where a
 * quota is used up, or a policy or a webhook refuses the pod. They are read of a Job that has been without a pod for some
 * seconds, one at a time, and again, ever more rarely, until they say something. Whatever that is, the attempt waits: it may
 * be mended any time, and the controller tries again by itself. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "executor/kubernetes/internal.h"
#include "executor/kubernetes/pod.h"

#define FIRST_LOOK_US (4 * US_PER_S)
#define LOOKS_DOUBLED 6 /* so often the pause doubles: up to four minutes */
#define CALL_DEADLINE_US (10 * US_PER_S)
#define EVENTS_MAX 50

static void on_look(uv_timer_t *timer);

static void look_next(struct kubernetes *k)
{
	if (k->state != STATE_RUNNING || k->events.call.request)
		return;
	if (list_empty(&k->events.podless)) {
		uv_timer_stop(&k->events.timer);
		return;
	}
	int64_t in_us = LIST_ENTRY(k->events.podless.next, struct kube_attempt, podless_link)->look_at_us -
			clock_monotonic_us();
	uv_timer_start(&k->events.timer, on_look, in_us > 0 ? (uint64_t)(in_us / US_PER_MS + 1) : 0, 0);
}

void events_await_pod(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	int doubled = attempt->looks < LOOKS_DOUBLED ? attempt->looks : LOOKS_DOUBLED;
	struct list *before = k->events.podless.prev;
	if (attempt->pod_uid || attempt->ended || list_linked(&attempt->podless_link))
		return;
	attempt->look_at_us = clock_monotonic_us() + (FIRST_LOOK_US << doubled);
	/* Nearly always the last of all. */
	while (before != &k->events.podless &&
		LIST_ENTRY(before, struct kube_attempt, podless_link)->look_at_us > attempt->look_at_us)
		before = before->prev;
	list_push_front(before, &attempt->podless_link);
	look_next(k);
}

void events_forget(struct kube_attempt *attempt)
{
	struct kubernetes *k = attempt->kubernetes;
	if (list_linked(&attempt->podless_link) || k->events.attempt == attempt)
		free(STEAL(attempt->job_uid));
	list_remove(&attempt->podless_link);
	if (k->events.attempt == attempt)
		k->events.attempt = NULL;
}

static void on_events(struct kube_call *call)
{
	struct kubernetes *k = call->owner;
	struct kube_attempt *attempt = STEAL(k->events.attempt);
	struct bytes answer = kube_call_answer(call);
	yyjson_doc *doc = call->err.code == 0 ? yyjson_read(answer.data, answer.len, 0) : NULL;
	struct pod_refusal refusal;
	if (attempt && pod_refusal_read(yyjson_doc_get_root(doc), &refusal)) {
		kube_attempt_waits(attempt, refusal.is_quota ? JOB_WAIT_QUOTA : JOB_WAIT_NONE, refusal.message);
	} else if (attempt) {
		attempt->looks++;
		events_await_pod(attempt);
	}
	yyjson_doc_free(doc);
	kube_call_fini(call);
	look_next(k);
}

static void on_look(uv_timer_t *timer)
{
	struct kubernetes *k = timer->data;
	struct list *first = list_pop_front(&k->events.podless);
	struct buffer *path = &k->events.path, selector = { 0 };
	if (!first)
		return;
	k->events.attempt = LIST_ENTRY(first, struct kube_attempt, podless_link);
	buffer_clear(path);
	buffer_printf(path, "/api/v1/namespaces/%s/events?limit=%d&fieldSelector=", k->namespace, EVENTS_MAX);
	buffer_printf(&selector, "involvedObject.uid=%s", k->events.attempt->job_uid);
	kube_query_append(path, buffer_bytes(&selector));
	buffer_append_char(path, '\0');
	buffer_fini(&selector);
	k->events.call = (struct kube_call){
		.method = "GET", .path = path->data, .deadline_us = CALL_DEADLINE_US, .done = on_events, .owner = k
	};
	kube_client_call(k->client, &k->events.call);
}
