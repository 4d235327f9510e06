/* Low-water marks of the claim's index: of each executor and priority the turn before which nothing is due.
 *
 * A claim need not walk over the entries of rows that are long gone, of which there are many while some other session
 * holds an old snapshot and nothing can be cleaned up. A mark rises to the first row that a claim found, and falls when
 * a row is known to have come in before it: by this replica's own writing, or by notice of another's. Claims that pass
 * over tenants that run as many as they may, or name their queues, have further marks of their own, of each such set
 * the turn before which all is passed over. What nobody told of is found when all marks are dropped, every 20 to 30
 * s; but only as often as the claim that then walks over everything takes a hundredth of the time. */
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/text.h"
#include "store/postgres/internal.h"

#define MARKS_LIVE_US (20 * US_PER_S)
#define MARKS_JITTER_US (10 * US_PER_S)
#define MARKS_PER_WALK 100

static void forget(struct queue_marks *marks)
{
	for (int i = 0; i < PRIORITY_COUNT; i++)
		marks->marks[i] = marks->lowered[i] = -INFINITY;
	memset(marks->passed, 0, sizeof(marks->passed));
	marks->none_delayed = false;
}

static struct queue_marks *find(struct postgres_store *store, struct bytes executor)
{
	LIST_EACH (&store->marks, link) {
		struct queue_marks *marks = LIST_ENTRY(link, struct queue_marks, link);
		if (bytes_equal(marks->executor, executor))
			return marks;
	}
	return NULL;
}

struct queue_marks *marks_of(struct postgres_store *store, struct bytes executor)
{
	struct queue_marks *marks = find(store, executor);
	if (marks)
		return marks;
	marks = alloc(sizeof(*marks) + executor.len + 1);
	char *name = (char *)(marks + 1);
	if (executor.len)
		memcpy(name, executor.data, executor.len);
	marks->executor = (struct bytes){ name, executor.len };
	forget(marks);
	list_push_back(&store->marks, &marks->link);
	return marks;
}

void marks_begin(struct postgres_store *store)
{
	int64_t now_us = clock_monotonic_us();
	if (now_us >= store->marks_until_us)
		marks_drop(store);
	store->marks_begun_us = now_us;
	LIST_EACH (&store->marks, link) {
		struct queue_marks *marks = LIST_ENTRY(link, struct queue_marks, link);
		for (int i = 0; i < PRIORITY_COUNT; i++)
			marks->lowered[i] = INFINITY;
	}
}

void marks_raise(struct queue_marks *marks, int priority, double turn)
{
	if (priority < 0 || priority >= PRIORITY_COUNT)
		return;
	int i = PRIORITY_COUNT - 1 - priority;
	marks->marks[i] = turn < marks->lowered[i] ? turn : marks->lowered[i];
}

static struct passed_marks *find_passed(struct queue_marks *marks, uint64_t filter)
{
	for (size_t i = 0; i < PASSED_MOST; i++)
		if (marks->passed[i].filter == filter)
			return &marks->passed[i];
	return NULL;
}

struct passed_marks *marks_passed(struct queue_marks *marks, uint64_t filter)
{
	struct passed_marks *passed = find_passed(marks, filter);
	if (passed)
		return passed;
	passed = &marks->passed[marks->passed_next++ % PASSED_MOST];
	passed->filter = filter;
	for (int i = 0; i < PRIORITY_COUNT; i++)
		passed->marks[i] = -INFINITY;
	return passed;
}

void marks_pass(struct queue_marks *marks, uint64_t filter, int priority, double turn)
{
	struct passed_marks *passed = find_passed(marks, filter);
	if (!passed || priority < 0 || priority >= PRIORITY_COUNT)
		return; /* all was dropped meanwhile */
	int i = PRIORITY_COUNT - 1 - priority;
	passed->marks[i] = turn < marks->lowered[i] ? turn : marks->lowered[i];
}

void marks_lower(struct postgres_store *store, struct bytes executor, int priority, double turn)
{
	struct queue_marks *marks = find(store, executor);
	if (!marks || priority < 0 || priority >= PRIORITY_COUNT)
		return;
	int i = PRIORITY_COUNT - 1 - priority;
	if (turn < marks->marks[i])
		marks->marks[i] = turn;
	for (size_t k = 0; k < PASSED_MOST; k++)
		if (turn < marks->passed[k].marks[i])
			marks->passed[k].marks[i] = turn;
	if (turn < marks->lowered[i])
		marks->lowered[i] = turn;
}

void marks_delayed(struct postgres_store *store, struct bytes executor)
{
	struct queue_marks *marks = find(store, executor);
	if (marks)
		marks->none_delayed = false;
}

void marks_claimed(struct postgres_store *store)
{
	int64_t now_us = clock_monotonic_us();
	int64_t walk_us = (now_us - store->marks_begun_us) * MARKS_PER_WALK;
	if (store->marks_dropped && now_us + walk_us > store->marks_until_us)
		store->marks_until_us = now_us + walk_us;
	store->marks_dropped = false;
}

void marks_drop(struct postgres_store *store)
{
	uint16_t jitter;
	random_bytes(&jitter, sizeof(jitter));
	store->marks_until_us = clock_monotonic_us() + MARKS_LIVE_US + MARKS_JITTER_US * jitter / UINT16_MAX;
	store->marks_dropped = true;
	LIST_EACH (&store->marks, link)
		forget(LIST_ENTRY(link, struct queue_marks, link));
}

void marks_free(struct postgres_store *store)
{
	for (struct list *link; (link = list_pop_front(&store->marks));)
		free(LIST_ENTRY(link, struct queue_marks, link));
}
