/* NOTIFY and LISTEN: replicas tell each other what cannot wait for the next heartbeat.
 *
 * All notices go by one channel, named as the schema, from the LISTEN connection, after the commit of what they tell
 * of: a NOTIFY holds a lock of the whole database through its commit, so it has no place in a transaction that many
 * wait for, and its own does not wait for the disk. They are gathered for at most 5 ms. They save time, nothing depends
 * on them.
 *
 *   w PRIORITY TURN EXECUTOR   rows of this executor became claimable, from this turn on
 *   e                          events were written
 *   c ID                       a running task is to be cancelled
 *   r ID                       an ended task runs again
 *   o ID                       output of the task was written
 *   f                          somebody follows the events from now on: whoever hears it tells that there are some
 *   F ID                       somebody follows the output of the task */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/postgres/internal.h"

#define PAUSE_MS 5
#define WANTED_LIVE_US (30 * US_PER_S)
#define TEXTS_MOST 4096 /* what is told beyond is lost: nothing depends on it */
#define WORK_MOST 256

static void flush(struct postgres_store *store);

/* ---- sending ---- */

static void on_sent(struct postgres_group *group)
{
	struct postgres_store *store = group->owner;
	postgres_group_reset(group);
	store->notifier.in_flight = false;
	flush(store);
}

static void on_pause_over(uv_timer_t *timer)
{
	flush(timer->data);
}

static bool is_pending(const struct notifier *n)
{
	return n->work_count > 0 || n->text_count > 0 || n->events;
}

static void forget_pending(struct notifier *n)
{
	n->work_count = n->text_count = 0;
	n->events = false;
	arena_fini(&n->arena);
}

static void flush(struct postgres_store *store)
{
	struct notifier *n = &store->notifier;
	if (n->in_flight || uv_is_active((uv_handle_t *)&n->timer) || !is_pending(n))
		return;
	if (!n->up || store->state != STATE_RUNNING) {
		forget_pending(n);
		return;
	}
	struct postgres_group *group = &n->group;
	postgres_group_reset(group);
	group->done = on_sent;
	group->owner = store;
	postgres_group_add(group, &store->write[WRITE_NOTIFY]);
	postgres_put_text(group, bytes_of(store->options.schema));
	struct postgres_array array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < n->work_count; i++) {
		const struct work_notice *work = &n->work[i];
		postgres_array_text(&array, bytes_of(arena_printf(&n->arena, "w %d %.17g %.*s", work->priority,
						    work->turn, (int)work->executor.len, work->executor.data)));
	}
	for (size_t i = 0; i < n->text_count; i++)
		postgres_array_text(&array, bytes_of(n->texts[i]));
	if (n->events)
		postgres_array_text(&array, BYTES_LITERAL("e"));
	postgres_array_end(&array);
	forget_pending(n);
	n->in_flight = true;
	postgres_submit(n->postgres, group);
	uv_timer_start(&n->timer, on_pause_over, PAUSE_MS, 0);
}

static bool is_wanted(const struct postgres_store *store)
{
	return store->state == STATE_RUNNING && store->notifier.up && store->others > 0;
}

void notices_work(struct postgres_store *store, struct bytes executor, int priority, double turn)
{
	struct notifier *n = &store->notifier;
	if (!is_wanted(store))
		return;
	for (size_t i = 0; i < n->work_count; i++) {
		struct work_notice *work = &n->work[i];
		if (work->priority != priority || !bytes_equal(work->executor, executor))
			continue;
		work->turn = turn < work->turn ? turn : work->turn;
		return;
	}
	if (n->work_count == WORK_MOST)
		return;
	if (n->work_count == n->work_capacity) {
		n->work_capacity = n->work_capacity ? n->work_capacity * 2 : 8;
		n->work = realloc_array(n->work, n->work_capacity, sizeof(n->work[0]));
	}
	n->work[n->work_count++] = (struct work_notice){
		.executor = arena_bytes(&n->arena, executor), .priority = priority, .turn = turn
	};
	flush(store);
}

static void add_text(struct postgres_store *store, const char *text)
{
	struct notifier *n = &store->notifier;
	if (n->text_count == TEXTS_MOST)
		return;
	if (n->text_count == n->text_capacity) {
		n->text_capacity = n->text_capacity ? n->text_capacity * 2 : 8;
		n->texts = realloc_array(n->texts, n->text_capacity, sizeof(n->texts[0]));
	}
	snprintf(n->texts[n->text_count++], NOTICE_SIZE, "%s", text);
	flush(store);
}

void notices_events(struct postgres_store *store)
{
	if (!is_wanted(store) || store->followers == 0)
		return;
	store->notifier.events = true;
	flush(store);
}

void notices_about(struct postgres_store *store, char what, const struct uuid *id)
{
	char text[NOTICE_SIZE], digits[UUID_TEXT_SIZE];
	if (!is_wanted(store))
		return;
	snprintf(text, sizeof(text), "%c %s", what, uuid_format(id, digits));
	add_text(store, text);
}

void notices_follow(struct postgres_store *store, bool wanted)
{
	bool begins = wanted && !store->follows;
	store->follows = wanted;
	if (begins && is_wanted(store))
		add_text(store, "f");
}

/* ---- whose output is followed elsewhere ---- */

static struct output_wanted *find_wanted(struct notifier *n, const struct uuid *id)
{
	struct bytes key = { (const char *)id->bytes, sizeof(id->bytes) };
	struct table_node *node = table_find(&n->wanted, key);
	return node ? CONTAINER_OF(node, struct output_wanted, node) : NULL;
}

static void drop_wanted(struct notifier *n, bool all)
{
	int64_t now_us = clock_monotonic_us();
	struct table_node *node = table_next(&n->wanted, NULL);
	while (node) {
		struct table_node *next = table_next(&n->wanted, node);
		struct output_wanted *wanted = CONTAINER_OF(node, struct output_wanted, node);
		if (all || wanted->until_us < now_us) {
			table_remove(&n->wanted, node);
			free(wanted);
		}
		node = next;
	}
}

/* Gives whether nobody had wanted it until now. */
static bool want_output(struct notifier *n, const struct uuid *id)
{
	struct output_wanted *wanted = find_wanted(n, id);
	bool begins = !wanted || wanted->until_us < clock_monotonic_us();
	if (!wanted && n->wanted.count >= OUTPUT_WANTED_MAX)
		drop_wanted(n, false);
	if (!wanted && n->wanted.count < OUTPUT_WANTED_MAX) {
		wanted = alloc(sizeof(*wanted));
		wanted->id = *id;
		wanted->node.key = (struct bytes){ (const char *)wanted->id.bytes, sizeof(wanted->id.bytes) };
		table_insert(&n->wanted, &wanted->node);
	}
	if (wanted)
		wanted->until_us = clock_monotonic_us() + WANTED_LIVE_US;
	return begins;
}

void notices_output(struct postgres_store *store, const struct store_settle *settle)
{
	struct notifier *n = &store->notifier;
	if (n->wanted.count == 0)
		return;
	for (size_t i = 0; i < settle->chunk_count; i++) {
		const struct uuid *id = &settle->chunks[i].task_id;
		bool told = i > 0 && uuid_compare(id, &settle->chunks[i - 1].task_id) == 0;
		const struct output_wanted *wanted = told ? NULL : find_wanted(n, id);
		if (wanted && wanted->until_us >= clock_monotonic_us())
			notices_about(store, 'o', id);
	}
}

/* ---- hearing ---- */

static void heard_work(struct postgres_store *store, const char *text)
{
	int priority, length = 0;
	double turn;
	if (sscanf(text, "%d %lf %n", &priority, &turn, &length) < 2 || length == 0)
		return;
	marks_lower(store, bytes_of(text + length), priority, turn);
	if (store->notices.on_work)
		store->notices.on_work(store->owner);
}

void notices_on_notice(void *owner, const struct postgres_notice *notice)
{
	struct postgres_store *store = owner;
	const struct store_notices *notices = &store->notices;
	const char *text = notice->payload;
	struct uuid id;
	if (notice->own || store->state != STATE_RUNNING)
		return;
	if (text[0] == 'w' && text[1] == ' ') {
		heard_work(store, text + 2);
	} else if (strcmp(text, "e") == 0) {
		if (notices->on_events)
			notices->on_events(store->owner);
	} else if (strcmp(text, "f") == 0) {
		/* Whoever follows has read the stream up to some point before it was heard of here. */
		store->followers += store->followers == 0;
		store->others += store->others == 0;
		notices_events(store);
	} else if (text[0] && text[1] == ' ' && uuid_parse(bytes_of(text + 2), &id)) {
		if (text[0] == 'c' && notices->on_cancel)
			notices->on_cancel(store->owner, &id);
		else if (text[0] == 'r' && notices->on_reopened)
			notices->on_reopened(store->owner, &id);
		else if (text[0] == 'o' && notices->on_output)
			notices->on_output(store->owner, &id);
		else if (text[0] == 'F') {
			/* Whoever follows has read what was written up to some point before it was heard of here. */
			store->others += store->others == 0;
			if (want_output(&store->notifier, &id))
				notices_about(store, 'o', &id);
			if (notices->on_output_wanted)
				notices->on_output_wanted(store->owner, &id);
		}
	}
}

/* While nobody listened, anything may have been told. */
void notices_on_up(struct postgres_store *store)
{
	static const struct uuid any = { { 0 } };
	const struct store_notices *notices = &store->notices;
	bool again = store->notifier.was_up;
	store->notifier.was_up = true;
	if (!again)
		return;
	marks_drop(store);
	if (store->follows)
		add_text(store, "f");
	if (notices->on_work)
		notices->on_work(store->owner);
	if (notices->on_events)
		notices->on_events(store->owner);
	if (notices->on_reopened)
		notices->on_reopened(store->owner, &any);
}

/* ---- the end ---- */

void notices_stop(struct postgres_store *store)
{
	uv_timer_stop(&store->notifier.timer);
	forget_pending(&store->notifier);
}

void notices_free(struct postgres_store *store)
{
	struct notifier *n = &store->notifier;
	forget_pending(n);
	drop_wanted(n, true);
	table_fini(&n->wanted);
	postgres_group_fini(&n->group);
	free(n->work);
	free(n->texts);
}
