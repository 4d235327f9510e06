/* Retention: old tasks go, with all that is theirs, a few at a time.
 *
 * There is no index for it: it walks along the primary key, whose ids are in the order of time, and goes on in the next
 * step where it stood. Nothing that is to be trimmed stands before the floor, where the next walk begins: the first row
 * that the walk before left. A walk is over when a step found nothing old and came to ids that are younger than what is
 * asked for. */
#include <string.h>

#include "base/clock.h"
#include "store/postgres/internal.h"
#include "store/postgres/row.h"

#define TRIMMED_AT_ONCE 1000
#define EXAMINED_AT_ONCE 5000

static struct store_trim *trim_of(const struct errand *errand)
{
	return CONTAINER_OF(errand->operation, struct store_trim, operation);
}

/* The moment in an id of version 7 (RFC 9562, 5.7). */
static int64_t made_at_us(const struct uuid *id)
{
	uint64_t ms = 0;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id->bytes[i];
	return (int64_t)ms * US_PER_MS;
}

static struct uuid before(struct uuid id)
{
	for (int i = 15; i >= 0; i--)
		if (id.bytes[i]-- != 0)
			break;
	return id;
}

static void answered(struct errand *errand)
{
	struct postgres_store *store = errand->store;
	struct store_trim *trim = trim_of(errand);
	const PGresult *result = errand_result(errand);
	int64_t limit = trim->limit > TRIMMED_AT_ONCE ? TRIMMED_AT_ONCE : (int64_t)trim->limit;
	int64_t examined = postgres_get_int(result, 0, 1), old = postgres_get_int(result, 0, 5);
	struct uuid last_old = postgres_get_uuid(result, 0, 2), last = postgres_get_uuid(result, 0, 3),
		    kept = postgres_get_uuid(result, 0, 4);
	bool full = old == limit && limit > 0;
	struct uuid reached = full ? last_old : last;
	trim->deleted = (size_t)postgres_get_int(result, 0, 0);
	if (!store->trim_kept && !uuid_is_nil(&kept) && uuid_compare(&kept, &reached) <= 0) {
		store->trim_kept = true;
		store->trim_floor = before(kept);
	}
	trim->more =
		full || (examined == EXAMINED_AT_ONCE && (old > 0 || made_at_us(&last) < trim->finished_before_us));
	store->trim_walking = trim->more;
	store->trim_at = reached;
	errand_done(errand, STORE_OK);
}

void begin_trim(struct errand *errand)
{
	struct postgres_store *store = errand->store;
	const struct store_trim *trim = trim_of(errand);
	struct postgres_group *group = &errand->group;
	if (!store->trim_walking) {
		store->trim_at = store->trim_floor;
		store->trim_kept = false;
	}
	errand_group(errand);
	errand_planner(errand);
	postgres_group_add(group, &store->write[WRITE_TRIM_LOCK]);
	postgres_put_int8(group, row_hash(bytes_of(store->options.schema)) ^ 2);
	postgres_group_add(group, &store->write[WRITE_FORGET_REPLICAS]);
	postgres_put_time(group, trim->finished_before_us);
	postgres_group_add(group, &store->write[WRITE_FORGET_TURNS]);
	errand_add(errand, &store->write[WRITE_TRIM]);
	postgres_put_time(group, trim->finished_before_us);
	postgres_put_uuid(group, &store->trim_at);
	postgres_put_int8(group, EXAMINED_AT_ONCE);
	postgres_put_int8(group, trim->limit > TRIMMED_AT_ONCE ? TRIMMED_AT_ONCE : (int64_t)trim->limit);
	errand_send(errand, answered);
}
