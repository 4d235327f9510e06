/* Submissions: a batch is one insert into tasks, with its events and counts in the same statement.
 *
 *   INSERT ─► all went in: done
 *          ─► some did not: FIND what stands in their way ─► done
 *          ─► none did, where an id is there against expectation: INSERT that minds what is there
 *          ─► a value was refused (class 22, 23, 54): the half of the batch that holds it is parted again, until it is alone
 *
 * Nothing is looked up before the insert. The rows go in the order of their keys, so that two replicas with the same
 * ones wait for each other and do not deadlock. A batch that is parted is several transactions; each of them is whole,
 * and handing it in again does no harm. */
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/row.h"

struct entry { /* an item on its way */
	const struct submission *submission; /* borrowed */
	struct submit_result *result;
	size_t index;
	bool born, added, told_again; /* told again: it was there before, and waits */
};

struct part { /* entries that go in with one statement */
	size_t begin, end;
	bool known; /* something stands in the way of some of them */
	struct part *next;
};

struct submitting {
	struct entry *entries; /* in the order of their keys */
	size_t count;
	struct part *parts; /* still to be done; the first is on its way */
	struct entry **missing; /* that did not go in */
	size_t missing_count;
	int64_t publisher;
};

static void send_part(struct errand *errand);

static struct bytes key_of(const struct submission *s)
{
	return s->eval_id.data ? s->eval_id : s->idempotency_key;
}

static int compare_bytes(struct bytes a, struct bytes b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	int order = compare_bytes(key_of(a->submission), key_of(b->submission));
	if (order == 0 && !key_of(a->submission).data)
		order = uuid_compare(&a->submission->id, &b->submission->id);
	return order ? order : (a->index > b->index) - (a->index < b->index);
}

static bool is_keyed(const struct submission *s)
{
	return s->eval_id.data || s->idempotency_key.data;
}

static struct bytes digest_of(const struct submission *s)
{
	return is_keyed(s) ? (struct bytes){ (const char *)s->digest, sizeof(s->digest) } : BYTES_NONE;
}

/* ---- results ---- */

static void created(struct errand *errand, struct entry *entry, enum task_status status, int64_t at_us)
{
	struct store_submit *submit = CONTAINER_OF(errand->operation, struct store_submit, operation);
	const struct submission *s = entry->submission;
	struct arena *arena = &submit->operation.arena;
	*entry->result = (struct submit_result){
		.status = SUBMIT_CREATED,
		.id = s->id,
		.task_status = status,
		.created_at_us = at_us,
		.event = {
			.kind = EVENT_QUEUED,
			.task_id = s->id,
			.sequence = 1,
			.run = 1,
			.timestamp_us = at_us,
			.tenant = arena_bytes(arena, s->tenant),
			.eval_id = arena_bytes(arena, s->eval_id),
			.batch_id = s->batch_id,
		},
	};
}

/* What the INSERT gave: in the order of the entries, which is looked for again where it should not be. */
static void read_added(struct errand *errand, struct submitting *w)
{
	const PGresult *result = errand_result(errand);
	const struct part *part = w->parts;
	size_t at = part->begin;
	int rows = PQntuples(result);
	int64_t at_us = rows > 0 ? postgres_get_time(result, 0, 1) : 0;
	uint64_t horizon = rows > 0 ? (uint64_t)postgres_get_int(result, 0, 2) : 0;
	for (int i = 0; i < rows; i++) {
		struct uuid id = postgres_get_uuid(result, i, 0);
		for (size_t k = part->begin; k < part->end; k++, at++) {
			if (at == part->end)
				at = part->begin;
			if (!w->entries[at].added && uuid_compare(&w->entries[at].submission->id, &id) == 0)
				break;
		}
		if (at == part->end)
			at = part->begin;
		struct entry *entry = &w->entries[at++];
		entry->added = true;
		entry->born = postgres_get_int(result, i, 3) > 0; /* not where the incarnation is dead */
		created(errand, entry, entry->born ? TASK_RUNNING : TASK_QUEUED, at_us);
		entry->result->event.cursor = cursor_safe(horizon, 0, 1, horizon);
	}
}

struct found {
	bool there;
	struct uuid id;
	enum task_status status;
	int64_t created_at_us;
	bool same; /* the digest */
	int attempt;
};

static void why_not(struct errand *errand, struct entry *entry, const struct found found[3], uint64_t horizon)
{
	const struct found *by_id = &found[0], *by_eval_id = &found[1], *by_key = &found[2];
	const struct found *first = by_eval_id->there ? by_eval_id : by_key;
	if (by_id->there && by_id->same) {
		entry->born = by_id->attempt > 0 && entry->born;
		entry->told_again = by_id->status == TASK_QUEUED || by_id->status == TASK_RETRY;
		created(errand, entry, by_id->status, by_id->created_at_us);
		entry->result->event.cursor = cursor_safe(horizon, 0, 1, horizon);
		return;
	}
	if (by_id->there) {
		*entry->result = (struct submit_result){ SUBMIT_INVALID, .error = "its id belongs to another task" };
		return;
	}
	*entry->result = (struct submit_result){
		.status = first->same ? SUBMIT_EXISTS : SUBMIT_CONFLICT,
		.id = first->id,
		.task_status = first->status,
		.created_at_us = first->created_at_us,
	};
	if (by_eval_id->there && by_key->there && uuid_compare(&by_eval_id->id, &by_key->id) != 0) {
		entry->result->status = SUBMIT_DISAGREE;
		entry->result->other_id = by_key->id;
	}
}

static void tell_work(struct errand *errand, const struct submitting *w)
{
	struct postgres_store *store = errand->store;
	bool any = false;
	for (size_t i = 0; i < w->count; i++) {
		const struct entry *entry = &w->entries[i];
		const struct submission *s = entry->submission;
		if (!entry->added && !entry->told_again)
			continue;
		any |= entry->added;
		if (s->run_after_us > 0)
			marks_delayed(store, s->executor);
		if (entry->born)
			continue;
		marks_lower(store, s->executor, s->priority, s->turn);
		notices_work(store, s->executor, s->priority, s->turn);
	}
	if (any)
		notices_events(store);
}

static void finish(struct errand *errand)
{
	tell_work(errand, errand->work);
	errand_done(errand, STORE_OK);
}

/* A row that stood in the way can have gone meanwhile (retention, or its transaction was rolled back): then the item
 * goes in after all. */
static void send_rest(struct errand *errand, struct entry **rest, size_t count)
{
	struct submitting *w = errand->work;
	struct entry *entries = arena_array(&errand->arena, w->count, sizeof(entries[0]));
	size_t kept = 0;
	for (size_t i = 0; i < w->count; i++) {
		bool again = false;
		for (size_t k = 0; k < count; k++)
			again |= rest[k] == &w->entries[i];
		if (!again)
			entries[kept++] = w->entries[i];
	}
	for (size_t k = 0; k < count; k++)
		entries[kept + k] = *rest[k];
	w->entries = entries;
	struct part *part = arena_alloc(&errand->arena, sizeof(*part));
	*part = (struct part){ .begin = kept, .end = kept + count, .known = true };
	w->parts = part;
	w->missing_count = 0;
	send_part(errand);
}

static void found_answered(struct errand *errand)
{
	struct submitting *w = errand->work;
	const PGresult *result = errand_result(errand);
	struct found(*found)[3] = arena_array(&errand->arena, w->missing_count, sizeof(*found));
	uint64_t horizon = (uint64_t)postgres_get_int(errand->group.results[errand->main + 1], 0, 0);
	for (int i = 0; i < PQntuples(result); i++) {
		size_t number = (size_t)postgres_get_int(result, i, 0) - 1;
		struct bytes digest = postgres_get_text(result, i, 5);
		const struct submission *s = w->missing[number]->submission;
		found[number][postgres_get_int(result, i, 1)] = (struct found){
			.there = true,
			.id = postgres_get_uuid(result, i, 2),
			.status = row_status(result, i, 3),
			.created_at_us = postgres_get_time(result, i, 4),
			/* Only rows with a key keep their digest. */
			.same = !digest.data ||
				(digest.len == sizeof(s->digest) && memcmp(digest.data, s->digest, digest.len) == 0),
			.attempt = (int)postgres_get_int(result, i, 6),
		};
	}
	size_t rest = 0;
	for (size_t i = 0; i < w->missing_count; i++) {
		if (found[i][0].there || found[i][1].there || found[i][2].there)
			why_not(errand, w->missing[i], found[i], horizon);
		else
			w->missing[rest++] = w->missing[i];
	}
	if (rest > 0)
		send_rest(errand, w->missing, rest);
	else
		finish(errand);
}

static void send_find(struct errand *errand)
{
	struct submitting *w = errand->work;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_planner(errand);
	errand_add(errand, &errand->store->write[WRITE_SUBMIT_FOUND]);
	struct postgres_array array = postgres_array_begin(group, POSTGRES_UUID);
	for (size_t i = 0; i < w->missing_count; i++)
		postgres_array_uuid(&array, &w->missing[i]->submission->id);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < w->missing_count; i++)
		postgres_array_text(&array, w->missing[i]->submission->tenant);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < w->missing_count; i++)
		postgres_array_text(&array, w->missing[i]->submission->eval_id);
	postgres_array_end(&array);
	array = postgres_array_begin(group, POSTGRES_TEXT);
	for (size_t i = 0; i < w->missing_count; i++)
		postgres_array_text(&array, w->missing[i]->submission->idempotency_key);
	postgres_array_end(&array);
	postgres_group_add(group, &errand->store->write[WRITE_HORIZON]);
	errand_send(errand, found_answered);
}

/* ---- the insert ---- */

static void next_part(struct errand *errand)
{
	struct submitting *w = errand->work;
	w->parts = w->parts->next;
	if (w->parts) {
		send_part(errand);
		return;
	}
	w->missing_count = 0;
	for (size_t i = 0; i < w->count; i++)
		if (!w->entries[i].added && w->entries[i].result->status != SUBMIT_INVALID &&
			uuid_is_nil(&w->entries[i].result->id))
			w->missing[w->missing_count++] = &w->entries[i];
	if (w->missing_count > 0)
		send_find(errand);
	else
		finish(errand);
}

static void part_answered(struct errand *errand)
{
	read_added(errand, errand->work);
	errand->unknown_before = true; /* of what is parted, this much is done */
	next_part(errand);
}

/* As far as can be told before: ids without a key are there only when the same was written before, and its answer lost. */
static bool is_new(const struct submitting *w, const struct part *part)
{
	for (size_t i = part->begin; i < part->end; i++)
		if (is_keyed(w->entries[i].submission))
			return false;
	return !part->known;
}

/* The server refused a value. */
static void part_refused(struct errand *errand)
{
	struct submitting *w = errand->work;
	struct part *part = w->parts;
	const char *sqlstate = errand->group.sqlstate;
	if (memcmp(sqlstate, "23505", 5) == 0 && is_new(w, part)) {
		part->known = true;
		send_part(errand);
		return;
	}
	bool is_data =
		memcmp(sqlstate, "22", 2) == 0 || memcmp(sqlstate, "23", 2) == 0 || memcmp(sqlstate, "54", 2) == 0;
	if (!is_data) {
		errand_fail(errand);
		return;
	}
	if (part->end - part->begin == 1) {
		struct entry *entry = &w->entries[part->begin];
		*entry->result = (struct submit_result){
			SUBMIT_INVALID,
			.error = arena_string(&errand->operation->arena, errand->group.err.message),
		};
		next_part(errand);
		return;
	}
	struct part *rest = arena_alloc(&errand->arena, sizeof(*rest));
	size_t middle = part->begin + (part->end - part->begin) / 2;
	*rest = (struct part){ .begin = middle, .end = part->end, .known = part->known, .next = part->next };
	part->end = middle;
	part->next = rest;
	send_part(errand);
}

/* One array parameter: `put` puts the member of each entry. */
#define PUT_ARRAY(type, put, ...) \
	do { \
		struct postgres_array array_ = postgres_array_begin(group, (type)); \
		for (size_t i_ = part->begin; i_ < part->end; i_++) { \
			const struct entry *e = &w->entries[i_]; \
			const struct submission *s = e->submission; \
			(void)e; \
			(void)s; \
			put(&array_, __VA_ARGS__); \
		} \
		postgres_array_end_sparse(&array_); \
	} while (0)

static void send_part(struct errand *errand)
{
	struct store_submit *submit = CONTAINER_OF(errand->operation, struct store_submit, operation);
	const struct submitting *w = errand->work;
	const struct part *part = w->parts;
	struct postgres_group *group = &errand->group;
	errand_group(errand);
	errand_register(errand, submit->locked_by);
	errand_add(errand, &errand->store->write[is_new(w, part) ? WRITE_SUBMIT_NEW : WRITE_SUBMIT]);
	postgres_put_text(group, submit->locked_by);
	postgres_put_int8(group, w->publisher);
	PUT_ARRAY(POSTGRES_UUID, postgres_array_uuid, &s->id);
	PUT_ARRAY(POSTGRES_BOOL, postgres_array_bool, e->born);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->tenant);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->type);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->queue);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->executor);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->eval_id);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->idempotency_key);
	PUT_ARRAY(POSTGRES_BYTEA, postgres_array_text, digest_of(s));
	PUT_ARRAY(POSTGRES_INT2, postgres_array_int2, (int16_t)s->priority);
	PUT_ARRAY(POSTGRES_INT4, postgres_array_int4, s->max_attempts);
	PUT_ARRAY(POSTGRES_FLOAT8, postgres_array_float8, s->turn);
	PUT_ARRAY(POSTGRES_TIMESTAMPTZ, postgres_array_time, s->run_after_us);
	PUT_ARRAY(POSTGRES_UUID, postgres_array_uuid, &s->batch_id);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->description);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->domain);
	PUT_ARRAY(POSTGRES_FLOAT8, postgres_array_float8, s->drift_score);
	PUT_ARRAY(POSTGRES_JSONB, postgres_array_text, s->params);
	PUT_ARRAY(POSTGRES_JSON, postgres_array_text, s->metadata);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->callback_url);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->traceparent);
	PUT_ARRAY(POSTGRES_TEXT, postgres_array_text, s->image);
	errand->refused = part_refused;
	errand_send(errand, part_answered);
}

void begin_submit(struct errand *errand)
{
	struct store_submit *submit = CONTAINER_OF(errand->operation, struct store_submit, operation);
	struct submitting *w = arena_alloc(&errand->arena, sizeof(*w));
	submit->results = arena_array(&submit->operation.arena, submit->count, sizeof(submit->results[0]));
	w->entries = arena_array(&errand->arena, submit->count, sizeof(w->entries[0]));
	w->missing = arena_array(&errand->arena, submit->count, sizeof(w->missing[0]));
	w->publisher = row_hash(submit->locked_by);
	for (size_t i = 0; i < submit->count; i++) {
		const struct submission *s = submit->items[i].submission;
		if (s->turn != s->turn || s->drift_score != s->drift_score) {
			submit->results[i] = (struct submit_result){ SUBMIT_INVALID,
				.error = "turn and drift_score must be numbers" };
			continue;
		}
		w->entries[w->count++] = (struct entry){
			.submission = s,
			.result = &submit->results[i],
			.index = i,
			.born = submit->items[i].born_running,
		};
	}
	qsort(w->entries, w->count, sizeof(w->entries[0]), compare);
	w->parts = arena_alloc(&errand->arena, sizeof(*w->parts));
	*w->parts = (struct part){ .end = w->count };
	errand->work = w;
	send_part(errand);
}
