/* What becomes of the objects of one resource: LIST, then WATCH (kubernetes.io /docs/reference/using-api/api-concepts/:
 * "Efficient detection of changes", "Watch bookmarks", "Retrieving large results sets in chunks", "410 Gone responses",
 * "Resource versions").
 *
 *   LISTING ──all pages──► WATCHING ──ended, cut, silent──► WATCHING, from the version last seen
 *     ▲  ▲                   │   ▲
 *     │  └──410, as HTTP or──┤   └──┐
 *     │     as an event      │      │ a pause that doubles, is jittered, and is as long as the server asks for
 *     └──── RESTING ◄────────┴─any failure
 *
 * The list is consistent: the newest version, in pages, and every change since it follows. Of an object that vanished
 * while we were not watching no DELETED comes after a new list: on_listed(begin) and (end) let the owner find out whom
 * the list did not name. A begin may be followed by another: the list then began anew.
 * A watch is asked to end after a time of `timeout_us`, so that one that died silently is known soon: what lasts
 * `silence_us` longer without a byte is given up. Bookmarks keep the version young where nothing changes.
 * Resuming after a cut repeats nothing and loses nothing; all the same an object is to be taken as news by its uid and
 * resourceVersion only, since a list repeats what was known. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_WATCH_H
#define ASSAY_EXECUTOR_KUBERNETES_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include <yyjson.h>

#include "executor/kubernetes/client.h"

struct kube_watch;

enum kube_change { KUBE_ADDED, KUBE_MODIFIED, KUBE_DELETED };

/* Called on the loop's thread, never from within kube_watch_start(). Any of them may call kube_watch_stop() and
 * hand calls to the client. */
struct kube_watch_listener {
	/* `object` is borrowed for the call. Objects of a list come as KUBE_ADDED between the two on_listed. */
	void (*on_object)(void *owner, enum kube_change change, yyjson_val *object);
	/* A list begins; with `end` it is whole: what was not named since the last begin no longer is. */
	void (*on_listed)(void *owner, bool end);
	/* Up: listed, and the server sends changes (or, where it only lists, the last list came to its end). Down: why, fit to show; again where the cause has changed. A
	 * cut that is mended at the first try is not told. */
	void (*on_state)(void *owner, bool up, const struct err *cause);
	void *owner; /* borrowed */
};

struct kube_watch_options {
	uv_loop_t *loop; /* borrowed: outlives it */
	struct kube_client *client; /* borrowed: outlives it */
	const char *path; /* of the collection: "/apis/batch/v1/namespaces/NAME/jobs"; copied */
	const char *label_selector; /* as kubectl takes it, not encoded; NULL: all; copied */
	int page; /* objects of one page of a list; 0: 250 */
	size_t page_max; /* bytes of a page; one that is larger is asked for again with half the objects. 0: 32 MiB */
	size_t event_max; /* bytes of one event; 0: 8 MiB */
	int64_t list_deadline_us; /* of one page; 0: 30 s */
	/* 0: it watches. Else it never does, but lists: so long after its start, and so long after each list, a quarter more or
	 * less. Then it lets others of the client go first. */
	int64_t list_every_us;
	int64_t timeout_us; /* of one watch, a quarter more or less; 0: 2 minutes */
	int64_t silence_us; /* 0: 15 s */
	int64_t short_us; /* a watch that ends sooner, and brought nothing, is no success; 0: 1 s */
	int64_t pause_us, pause_max_us; /* after failures, the first and the longest; 0: 200 ms, 30 s */
	struct kube_watch_listener listener;
};

struct kube_watch *kube_watch_start(const struct kube_watch_options *options);
/* Ends what is under way; no callback is called any more but on_stopped, once, never from within this call; then it is
 * gone. */
void kube_watch_stop(struct kube_watch *watch, void (*on_stopped)(void *owner), void *owner);

/* For metrics, since the start. */
struct kube_watch_figures {
	bool up;
	uint64_t events; /* ADDED, MODIFIED and DELETED of watches */
	uint64_t listed; /* objects of lists */
	uint64_t bookmarks;
	uint64_t lists; /* begun, the first included */
	uint64_t expired; /* lists that a 410 made necessary */
	uint64_t restarts; /* watches begun beyond the first, from the version last seen */
	uint64_t failures;
	/* From the arrival of an event's last byte to the end of its callback: of all events together, and the
	 * longest. */
	int64_t lag_us, lag_max_us;
	int64_t silent_us; /* since the last byte of an answer; since the start where there was none */
};
struct kube_watch_figures kube_watch_figures(const struct kube_watch *watch);

#endif
