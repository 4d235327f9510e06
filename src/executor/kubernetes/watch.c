/* One call is under way at a time, or the timer runs. What an event asks for (a new list, a pause) is noted while the
 * stream is read, and done when its call has ended. */
#include "executor/kubernetes/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/kubernetes/frames.h"

#define PAGE 250
#define PAGE_MAX ((size_t)32 << 20)
#define EVENT_MAX ((size_t)8 << 20)
#define LIST_DEADLINE_US (30 * US_PER_S)
#define TIMEOUT_US (120 * US_PER_S)
#define SILENCE_US (15 * US_PER_S)
#define PAUSE_US (US_PER_S / 5)
#define PAUSE_MAX_US (30 * US_PER_S)
#define VERSION_BYTES_MAX 1024
#define CONTINUE_BYTES_MAX 16384
#define SHORT_US US_PER_S

enum step { LISTING, WATCHING, RESTING };
enum after { RESUME, RELIST, REST_AND_RESUME, REST_AND_RELIST };

struct kube_watch {
	uv_loop_t *loop; /* borrowed */
	struct kube_client *client; /* borrowed */
	struct kube_watch_listener listener;
	char *path, *selector; /* owned */
	int page, page_wanted;
	size_t page_max;
	int64_t list_deadline_us, list_every_us, timeout_us, silence_us, short_us, pause_us, pause_max_us;
	enum step step;
	struct kube_call call;
	struct buffer url; /* of the call */
	struct kube_frames frames;
	char *version; /* owned: up to where all is known; NULL: a list is needed */
	char *list_version; /* owned: of the list's first page */
	char *next_page; /* owned: its `continue`; NULL: the first page is next */
	uint64_t lists_watched; /* figures.lists when the last watch began */
	int failures; /* in a row */
	int64_t began_us; /* the watch */
	int64_t heard_us; /* the last byte of an answer; monotonic */
	bool mute; /* it did not even begin in time */
	bool brought; /* it raised the version */
	enum after after; /* what its frames ask for … */
	struct err asked; /* … and why, where that is a failure */
	int64_t asked_pause_us;
	bool told, relisting;
	struct err cause; /* last told, while down */
	struct kube_watch_figures figures;
	uv_timer_t timer; /* the next step, or the end */
	bool stopping;
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

static void on_timer(uv_timer_t *timer);

/* ---- the listener ---- */

static void tell_up(struct kube_watch *watch)
{
	if (watch->figures.up || watch->stopping)
		return;
	watch->figures.up = watch->told = true;
	if (watch->listener.on_state)
		watch->listener.on_state(watch->listener.owner, true, NULL);
}

static void tell_down(struct kube_watch *watch, const struct err *cause)
{
	bool news = !watch->told || watch->figures.up || watch->cause.code != cause->code ||
		    strcmp(watch->cause.message, cause->message) != 0;
	watch->told = true;
	watch->figures.up = false;
	watch->cause = *cause;
	if (news && watch->listener.on_state)
		watch->listener.on_state(watch->listener.owner, false, cause);
}

static void tell_listed(struct kube_watch *watch, bool end)
{
	if (!watch->stopping && watch->listener.on_listed)
		watch->listener.on_listed(watch->listener.owner, end);
}

static void tell_object(struct kube_watch *watch, enum kube_change change, yyjson_val *object)
{
	if (!watch->stopping)
		watch->listener.on_object(watch->listener.owner, change, object);
}

/* ---- what is next ---- */

static void next_in(struct kube_watch *watch, int64_t us)
{
	if (!watch->stopping)
		uv_timer_start(&watch->timer, on_timer, us > 0 ? (uint64_t)(us / US_PER_MS + 1) : 0, 0);
}

static int64_t jittered(int64_t us)
{
	uint16_t random;
	random_bytes(&random, sizeof(random));
	return us - us / 4 + (int64_t)((double)us / 2 * random / UINT16_MAX);
}

static void forget_list(struct kube_watch *watch)
{
	free(STEAL(watch->next_page));
	free(STEAL(watch->list_version));
}

static void rest(struct kube_watch *watch, const struct err *cause, int64_t asked_us)
{
	int64_t pause_us = kube_pause_us(++watch->failures, watch->pause_us, watch->pause_max_us);
	watch->step = RESTING;
	watch->figures.failures++;
	/* From within what is told now a stop may be asked for. */
	tell_down(watch, cause);
	next_in(watch, asked_us > pause_us ? asked_us + pause_us / 2 : pause_us);
}

static void go_on(struct kube_watch *watch, enum after after, const struct err *cause, int64_t asked_us)
{
	if (after == RELIST || after == REST_AND_RELIST) {
		free(STEAL(watch->version));
		forget_list(watch);
	}
	if (after == REST_AND_RESUME || after == REST_AND_RELIST)
		rest(watch, cause, asked_us);
	else
		next_in(watch, 0);
}

/* A 410 is in order once; one after the other is a failure. */
static void expired(struct kube_watch *watch, const struct err *cause)
{
	watch->figures.expired++;
	go_on(watch, watch->relisting ? REST_AND_RELIST : RELIST, cause, 0);
	watch->relisting = true;
}

/* ---- LIST ---- */

static const char *metadata_string(yyjson_val *object, const char *key, size_t most)
{
	yyjson_val *value = yyjson_obj_get(yyjson_obj_get(object, "metadata"), key);
	size_t len = yyjson_get_len(value);
	return yyjson_is_str(value) && len > 0 && len <= most ? yyjson_get_str(value) : NULL;
}

/* False: no list at all. */
static bool page_parse(struct kube_watch *watch, struct bytes answer)
{
	yyjson_doc *document = answer.len > 0 ? yyjson_read(answer.data, answer.len, 0) : NULL;
	yyjson_val *root = yyjson_doc_get_root(document), *items = yyjson_obj_get(root, "items"), *item;
	const char *version = metadata_string(root, "resourceVersion", VERSION_BYTES_MAX);
	const char *next = metadata_string(root, "continue", CONTINUE_BYTES_MAX);
	bool good = version && (yyjson_is_arr(items) || yyjson_is_null(items));
	size_t at, count;
	if (good && !watch->list_version)
		watch->list_version = string_copy(version);
	free(watch->next_page);
	watch->next_page = good ? string_copy(next) : NULL;
	if (good) {
		yyjson_arr_foreach(items, at, count, item)
		{
			watch->figures.listed++;
			tell_object(watch, KUBE_ADDED, item);
		}
	}
	yyjson_doc_free(document);
	return good;
}

/* Nothing is missing: changes from here on, or the next list after a while. */
static void listed(struct kube_watch *watch)
{
	watch->page = watch->page_wanted;
	if (watch->list_every_us == 0) {
		watch->version = STEAL(watch->list_version);
		tell_listed(watch, true);
		next_in(watch, 0);
	} else {
		forget_list(watch);
		watch->failures = 0;
		watch->relisting = false;
		tell_listed(watch, true);
		tell_up(watch);
		next_in(watch, jittered(watch->list_every_us));
	}
}

static void on_page(struct kube_watch *watch)
{
	const struct kube_call *call = &watch->call;
	struct err err = call->err;
	if (call->err.code == 0) {
		watch->heard_us = clock_monotonic_us();
		bool good = page_parse(watch, kube_call_answer(call));
		buffer_fini(&watch->call.http.answer); /* megabytes are not kept */
		if (!good) {
			err_set(&err, -EPROTO, "the API server's answer is no list: %s", watch->path);
			go_on(watch, REST_AND_RELIST, &err, 0);
		} else if (watch->next_page) {
			next_in(watch, 0);
		} else {
			listed(watch);
		}
	} else if (call->status == 410) {
		expired(watch, &err);
	} else if (call->err.code == -EMSGSIZE && call->status == 200 && watch->page > 1) {
		/* The same page again, of half as many. */
		buffer_fini(&watch->call.http.answer);
		watch->page /= 2;
		next_in(watch, 0);
	} else {
		err_prefix(&err, "list %s", watch->path);
		go_on(watch, REST_AND_RELIST, &err, call->said.retry_after_us);
	}
}

static void list_start(struct kube_watch *watch)
{
	struct buffer *url = &watch->url;
	bool begins = !watch->list_version;
	buffer_clear(url);
	buffer_printf(url, "%s?limit=%d", watch->path, watch->page);
	if (watch->selector) {
		buffer_append_string(url, "&labelSelector=");
		kube_query_append(url, bytes_of(watch->selector));
	}
	if (watch->next_page) {
		buffer_append_string(url, "&continue=");
		kube_query_append(url, bytes_of(watch->next_page));
	}
	buffer_append_char(url, '\0');
	watch->step = LISTING;
	watch->call.path = url->data;
	watch->call.deadline_us = watch->list_deadline_us;
	watch->call.idle_us = 0;
	watch->call.on_head = NULL;
	watch->call.on_data = NULL;
	kube_client_call(watch->client, &watch->call);
	if (begins) {
		watch->figures.lists++;
		tell_listed(watch, false);
	}
}

/* ---- WATCH ---- */

static void set_version(struct kube_watch *watch, const char *version)
{
	if (strcmp(version, watch->version) == 0)
		return;
	free(watch->version);
	watch->version = string_copy(version);
	watch->brought = true;
}

/* The object of an ERROR is a Status. */
static void on_error_event(struct kube_watch *watch, yyjson_val *status)
{
	int64_t code = yyjson_get_sint(yyjson_obj_get(status, "code"));
	yyjson_val *message = yyjson_obj_get(status, "message"), *details = yyjson_obj_get(status, "details");
	int64_t seconds = yyjson_get_sint(yyjson_obj_get(details, "retryAfterSeconds"));
	bool gone = code == 410 || yyjson_equals_str(yyjson_obj_get(status, "reason"), "Expired");
	/* What the server has too much of passes; what else it may mean, a list is right after. */
	bool passes = code == 429 || code >= 500;
	watch->after = gone ? RELIST : passes ? REST_AND_RESUME : REST_AND_RELIST;
	watch->asked_pause_us = seconds > 0 && seconds <= INT32_MAX ? seconds * US_PER_S : 0;
	err_set(&watch->asked, gone ? -ESTALE : -EIO, "watch %s: the API server ended it with %d: %s", watch->path,
		(int)code, yyjson_is_str(message) ? yyjson_get_str(message) : "it does not say why");
}

/* False: the stream is read no further. */
static bool on_event(struct kube_watch *watch, yyjson_val *event, int64_t arrived_us)
{
	static const char *const changes[] = {
		[KUBE_ADDED] = "ADDED", [KUBE_MODIFIED] = "MODIFIED", [KUBE_DELETED] = "DELETED"
	};
	yyjson_val *type = yyjson_obj_get(event, "type"), *object = yyjson_obj_get(event, "object");
	const char *version = metadata_string(object, "resourceVersion", VERSION_BYTES_MAX);
	if (yyjson_equals_str(type, "ERROR")) {
		on_error_event(watch, object);
		return false;
	}
	size_t change = 0;
	while (change < ARRAY_SIZE(changes) && !yyjson_equals_str(type, changes[change]))
		change++;
	bool bookmark = yyjson_equals_str(type, "BOOKMARK");
	if (!version || (change == ARRAY_SIZE(changes) && !bookmark)) {
		watch->after = REST_AND_RELIST;
		err_set(&watch->asked, -EPROTO, "watch %s: the API server sent what is no event", watch->path);
		return false;
	}
	set_version(watch, version);
	if (bookmark) {
		watch->figures.bookmarks++;
		return true;
	}
	watch->figures.events++;
	tell_object(watch, (enum kube_change)change, object);
	int64_t lag_us = clock_monotonic_us() - arrived_us;
	watch->figures.lag_us += lag_us;
	if (lag_us > watch->figures.lag_max_us)
		watch->figures.lag_max_us = lag_us;
	return !watch->stopping;
}

static void on_head(struct kube_call *call)
{
	struct kube_watch *watch = call->owner;
	if (!watch->stopping)
		uv_timer_stop(&watch->timer);
	watch->heard_us = clock_monotonic_us();
	tell_up(watch);
}

static bool on_data(struct kube_call *call, struct bytes data)
{
	struct kube_watch *watch = call->owner;
	int64_t arrived_us = clock_monotonic_us();
	struct bytes text;
	int result;
	if (watch->stopping)
		return false;
	watch->heard_us = arrived_us;
	kube_frames_feed(&watch->frames, data);
	while ((result = kube_frames_next(&watch->frames, &text)) > 0) {
		yyjson_doc *document = yyjson_read(text.data, text.len, 0);
		bool more = on_event(watch, yyjson_doc_get_root(document), arrived_us);
		yyjson_doc_free(document);
		if (!more)
			return false;
	}
	if (result < 0) {
		watch->after = REST_AND_RESUME;
		err_set(&watch->asked, -EMSGSIZE, "watch %s: an event is larger than %zu bytes", watch->path,
			watch->frames.max);
	}
	return result == 0;
}

static void on_watched(struct kube_watch *watch)
{
	const struct kube_call *call = &watch->call;
	bool streamed = call->status >= 200 && call->status <= 299;
	bool lived = watch->brought || clock_monotonic_us() - watch->began_us >= watch->short_us;
	struct err err = call->err;
	uv_timer_stop(&watch->timer);
	kube_frames_reset(&watch->frames);
	if (watch->mute)
		err_set(&err, -ETIMEDOUT, "no answer within the time allowed");
	if (streamed && lived) {
		watch->relisting = false;
		watch->failures = 0;
	}
	if (streamed && watch->asked.code == -ESTALE) {
		expired(watch, &watch->asked);
	} else if (streamed && watch->asked.code) {
		go_on(watch, watch->after, &watch->asked, watch->asked_pause_us);
	} else if (streamed && lived) {
		go_on(watch, RESUME, NULL, 0);
	} else if (call->status == 410) {
		expired(watch, &err);
	} else {
		if (err.code == 0)
			err_set(&err, -EIO, "the API server ended the watch at once");
		err_prefix(&err, "watch %s", watch->path);
		/* 400: it cannot make anything of the version. */
		go_on(watch, call->status == 400 ? REST_AND_RELIST : REST_AND_RESUME, &err, call->said.retry_after_us);
	}
}

static void watch_start(struct kube_watch *watch)
{
	struct buffer *url = &watch->url;
	int64_t seconds = (jittered(watch->timeout_us) + US_PER_S - 1) / US_PER_S;
	buffer_clear(url);
	buffer_printf(url, "%s?watch=1&allowWatchBookmarks=true&timeoutSeconds=%lld&resourceVersion=", watch->path,
		(long long)seconds);
	kube_query_append(url, bytes_of(watch->version));
	if (watch->selector) {
		buffer_append_string(url, "&labelSelector=");
		kube_query_append(url, bytes_of(watch->selector));
	}
	buffer_append_char(url, '\0');
	watch->step = WATCHING;
	watch->began_us = clock_monotonic_us();
	watch->brought = watch->mute = false;
	watch->after = RESUME;
	watch->asked = (struct err){ 0 };
	watch->asked_pause_us = 0;
	watch->call.path = url->data;
	watch->call.deadline_us = 0;
	watch->call.idle_us = seconds * US_PER_S + watch->silence_us;
	watch->call.on_head = on_head;
	watch->call.on_data = on_data;
	kube_client_call(watch->client, &watch->call);
	/* A stream may be silent for long, but its head comes at once. */
	next_in(watch, watch->list_deadline_us);
}

/* ---- steps ---- */

static void on_closed(uv_handle_t *handle)
{
	struct kube_watch *watch = handle->data;
	void (*on_stopped)(void *owner) = watch->on_stopped;
	void *owner = watch->stop_owner;
	kube_call_fini(&watch->call);
	kube_frames_fini(&watch->frames);
	buffer_fini(&watch->url);
	forget_list(watch);
	free(watch->version);
	free(watch->path);
	free(watch->selector);
	free(watch);
	on_stopped(owner);
}

static void on_timer(uv_timer_t *timer)
{
	struct kube_watch *watch = timer->data;
	if (watch->stopping) {
		uv_close((uv_handle_t *)timer, on_closed);
	} else if (watch->call.request) {
		watch->mute = true;
		kube_client_cancel(&watch->call);
	} else if (watch->version) {
		watch->figures.restarts += watch->figures.lists == watch->lists_watched;
		watch->lists_watched = watch->figures.lists;
		watch_start(watch);
	} else {
		list_start(watch);
	}
}

static void on_called(struct kube_call *call)
{
	struct kube_watch *watch = call->owner;
	if (watch->stopping)
		uv_timer_start(&watch->timer, on_timer, 0, 0);
	else if (watch->step == LISTING)
		on_page(watch);
	else
		on_watched(watch);
}

struct kube_watch *kube_watch_start(const struct kube_watch_options *options)
{
	struct kube_watch *watch = alloc(sizeof(*watch));
	watch->loop = options->loop;
	watch->client = options->client;
	watch->listener = options->listener;
	watch->path = string_copy(options->path);
	watch->selector = string_copy(options->label_selector);
	watch->page = watch->page_wanted = options->page ? options->page : PAGE;
	watch->page_max = options->page_max ? options->page_max : PAGE_MAX;
	watch->list_deadline_us = options->list_deadline_us ? options->list_deadline_us : LIST_DEADLINE_US;
	watch->list_every_us = options->list_every_us;
	watch->timeout_us = options->timeout_us ? options->timeout_us : TIMEOUT_US;
	watch->silence_us = options->silence_us ? options->silence_us : SILENCE_US;
	watch->short_us = options->short_us ? options->short_us : SHORT_US;
	watch->pause_us = options->pause_us ? options->pause_us : PAUSE_US;
	watch->pause_max_us = options->pause_max_us ? options->pause_max_us : PAUSE_MAX_US;
	kube_frames_init(&watch->frames, options->event_max ? options->event_max : EVENT_MAX);
	watch->call = (struct kube_call){
		.method = "GET",
		.again = KUBE_AGAIN_NEVER,
		.urgent = options->list_every_us == 0,
		.answer_max = watch->page_max,
		.done = on_called,
		.owner = watch,
	};
	watch->heard_us = clock_monotonic_us();
	uv_timer_init(watch->loop, &watch->timer);
	watch->timer.data = watch;
	next_in(watch, options->list_every_us > 0 ? jittered(options->list_every_us) : 0);
	return watch;
}

void kube_watch_stop(struct kube_watch *watch, void (*on_stopped)(void *owner), void *owner)
{
	watch->stopping = true;
	watch->on_stopped = on_stopped;
	watch->stop_owner = owner;
	uv_timer_stop(&watch->timer);
	if (watch->call.request)
		kube_client_cancel(&watch->call);
	else
		uv_timer_start(&watch->timer, on_timer, 0, 0);
}

struct kube_watch_figures kube_watch_figures(const struct kube_watch *watch)
{
	struct kube_watch_figures figures = watch->figures;
	figures.silent_us = clock_monotonic_us() - watch->heard_us;
	return figures;
}
