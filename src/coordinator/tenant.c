/* What each tenant has waiting and running, against what it may have.
 *
 * Own rows are counted as they come and go. What other replicas have is learnt from the store's counts with each
 * heartbeat. What a limit has left by a count is shared among the living replicas: until the next one each of them adds
 * its share, rounded up, at most. Who counts later takes what others have not taken for left, and shares it again: a
 * tenant whose work comes to one replica alone has the whole limit by and by, and a limit is overshot by what its holders
 * take of shares that others had taken for left. One replica alone has it at once. */
#include "coordinator/internal.h"

#include <stdlib.h>

#define COUNTS_PASSED_OVER_MAX 12 /* heartbeats */
#define FULL_MAX 1024 /* tenants that one claim passes over */
/* Where a tenant with work waiting may run fewer than there are free slots, one claim takes no more than that (but at
 * least this part of the free slots: or such tenants would be claimed for one at a time), and the next one passes
 * over all such tenants and fills the slots with what others have. */
#define CLAIM_PART 32

/* Of what a limit has left, by the last count: what may be added here until the next one. */
static int64_t share(const struct coordinator *c, int64_t left)
{
	int64_t replicas = c->statistics.replicas > 1 ? c->statistics.replicas : 1;
	return left > 0 ? (left + replicas - 1) / replicas : 0;
}

/* `own`: what runs here and goes on to be this replica's. `arrived`: what came to wait here of which nobody knows
 * whether it is among what was counted. */
static void share_out(const struct coordinator *c, struct tenant_load *load, int64_t own, int64_t arrived)
{
	load->running_share = own + share(c, load->limits->running - own - load->elsewhere);
	int64_t room = share(c, load->limits->queued - load->waiting) - (c->statistics.replicas > 1 ? arrived : 0);
	load->waiting_share = load->waiting + (room > 0 ? room : 0);
}

static struct tenant_load *tenant_load(struct coordinator *c, struct bytes tenant)
{
	struct table_node *node = table_find(&c->tenants.loads, tenant);
	if (node)
		return CONTAINER_OF(node, struct tenant_load, node);
	struct tenant_load *load = alloc(sizeof(*load) + tenant.len + 1);
	if (tenant.len)
		memcpy(load->name, tenant.data, tenant.len);
	load->node.key = (struct bytes){ load->name, tenant.len };
	load->limits = tenants_find(c->tenants.settings, load->node.key);
	share_out(c, load, 0, 0);
	table_insert(&c->tenants.loads, &load->node);
	list_push_back(&c->tenants.all, &load->link);
	return load;
}

static void load_free(struct coordinator *c, struct tenant_load *load)
{
	table_remove(&c->tenants.loads, &load->node);
	list_remove(&load->link);
	free(load);
}

static int64_t running(const struct tenant_load *load)
{
	return load->running + load->promised + load->elsewhere;
}

/* How many more it may run here. */
static int64_t room(const struct tenant_load *load)
{
	if (!load->limits->running)
		return INT64_MAX;
	int64_t left = load->limits->running - running(load);
	int64_t left_here = load->running_share - load->running - load->promised;
	return left < left_here ? left : left_here;
}

void tenant_waiting_add(struct coordinator *c, struct bytes tenant, int64_t rows)
{
	c->tenants.changes++;
	int64_t *waiting = &c->statistics.waiting;
	*waiting = *waiting + rows > 0 ? *waiting + rows : 0;
	struct tenant_load *load = tenant_load(c, tenant);
	load->waiting = load->waiting + rows > 0 ? load->waiting + rows : 0;
	load->arrived += rows > 0 ? rows : 0;
}

void tenant_arriving_add(struct coordinator *c, struct bytes tenant, int64_t rows)
{
	tenant_load(c, tenant)->arriving += rows;
}

void tenant_running_add(struct coordinator *c, struct bytes tenant, int64_t rows)
{
	struct tenant_load *load = tenant_load(c, tenant);
	bool was_full = room(load) <= 0;
	load->running += rows;
	if (was_full && room(load) > 0 && c->phase == COORDINATOR_RUNNING)
		dispatch_work(c, NULL);
}

void tenant_promised_add(struct coordinator *c, struct bytes tenant, int64_t rows)
{
	struct tenant_load *load = tenant_load(c, tenant);
	bool was_full = room(load) <= 0;
	load->promised += rows;
	if (was_full && room(load) > 0 && c->phase == COORDINATOR_RUNNING)
		dispatch_work(c, NULL);
}

bool tenant_full(struct coordinator *c, struct bytes tenant)
{
	return room(tenant_load(c, tenant)) <= 0;
}

bool tenant_running(const struct coordinator *c, struct bytes tenant, int64_t *ret_running, int64_t *ret_limit)
{
	struct table_node *node = table_find(&c->tenants.loads, tenant);
	if (!node)
		return false;
	const struct tenant_load *load = CONTAINER_OF(node, struct tenant_load, node);
	*ret_running = running(load);
	*ret_limit = load->limits->running;
	return room(load) <= 0;
}

bool tenant_queue_full(struct coordinator *c, struct bytes tenant)
{
	const struct tenant_load *load = tenant_load(c, tenant);
	return load->limits->queued && (load->waiting >= load->limits->queued || load->waiting >= load->waiting_share);
}

bool tenant_in_line(struct coordinator *c, struct bytes tenant, int64_t *ret_rows)
{
	const struct tenant_load *load = tenant_load(c, tenant);
	/* Those being written may be missing in what was counted: rather twice than not at all, while they are. */
	*ret_rows = load->waiting + load->arriving + load->promised;
	return c->tenants.counted;
}

struct full_tenants {
	struct bytes *names;
	size_t count;
};

static void full_add(struct coordinator *c, struct full_tenants *full, struct tenant_load *load)
{
	if (full->count == FULL_MAX)
		return;
	load->passed = true;
	if (!full->names)
		full->names = arena_array(&c->tenants.full, FULL_MAX, sizeof(*full->names));
	full->names[full->count++] = arena_bytes(&c->tenants.full, load->node.key);
}

static bool is_tight(const struct tenant_load *load, int64_t slots)
{
	return load->waiting && room(load) > 0 && room(load) < slots;
}

void tenants_claim(struct coordinator *c, struct store_claim *claim, struct claim_lane *lanes)
{
	struct full_tenants full = { 0 };
	int64_t slots = 0, least_room = INT64_MAX;
	size_t tight = 0;
	bool others = false;
	for (size_t i = 0; i < claim->lane_count; i++)
		slots = lanes[i].slots > slots ? lanes[i].slots : slots;
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		load->passed = false;
		if (room(load) <= 0)
			full_add(c, &full, load);
		others |= load->waiting && room(load) >= slots;
		if (!is_tight(load, slots))
			continue;
		tight++;
		least_room = room(load) < least_room ? room(load) : least_room;
	}
	c->tenants.passed = tight && others && c->tenants.pass_next && full.count + tight <= FULL_MAX;
	c->tenants.pass_next = tight && !c->tenants.pass_next;
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		if (c->tenants.passed && is_tight(load, slots))
			full_add(c, &full, load);
	}
	claim->tenants_full = full.names;
	claim->tenant_full_count = full.count;
	for (size_t i = 0; i < claim->lane_count && !c->tenants.passed; i++) {
		int64_t part = lanes[i].slots / CLAIM_PART > 1 ? lanes[i].slots / CLAIM_PART : 1;
		int64_t most = least_room > part ? least_room : part;
		if (lanes[i].slots > most)
			lanes[i].slots = (int)most;
	}
}

void tenants_claimed(struct coordinator *c)
{
	arena_fini(&c->tenants.full);
}

/* ---- the store's counts ---- */

/* By a claim under way: any of them may be any tenant's that it does not pass over. */
static int64_t slots_asked(const struct coordinator *c, const struct tenant_load *load)
{
	int64_t slots = 0;
	for (size_t i = 0; c->dispatch.in_flight && !load->passed && i < c->dispatch.claim.lane_count; i++)
		slots += c->dispatch.lanes[i].slots;
	return slots;
}

void tenants_counting(struct coordinator *c)
{
	c->tenants.changes_at_count = c->tenants.changes;
	c->tenants.moving_at_count = admission_in_flight(c) || c->dispatch.in_flight;
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		load->running_at_count = load->running + load->promised + slots_asked(c, load);
		load->arrived = load->arriving;
	}
}

/* Of our own rows nobody knows which had been counted: rather too many are taken for ours, a claim under way included,
 * than a tenant held up by its own. */
static int64_t own_at_most(const struct coordinator *c, const struct tenant_load *load)
{
	int64_t own = load->running + load->promised + slots_asked(c, load);
	return own > load->running_at_count ? own : load->running_at_count;
}

/* Of what was counted as running, that which is not ours. */
static int64_t elsewhere(const struct coordinator *c, const struct tenant_load *load, int64_t counted)
{
	int64_t own = own_at_most(c, load);
	return counted > own ? counted - own : 0;
}

/* What ends and what takes its place are one: between the two, or while a claim is under way, a replica keeps what it
 * had. It is no more than it was allowed. */
static void share_anew(const struct coordinator *c, struct tenant_load *load)
{
	int64_t own = load->running + load->promised, most = own_at_most(c, load);
	int64_t allowed = load->running_share < load->limits->running ? load->running_share : load->limits->running;
	most = most < allowed ? most : allowed;
	share_out(c, load, own > most ? own : most, load->arrived);
}

void tenants_counted(struct coordinator *c, const struct read_counts *counts)
{
	/* Rows came or went while they were counted, so that nobody knows which of them were: where no other replica
	 * changes them our own count is the better one, for a while. */
	bool moving = c->tenants.changes != c->tenants.changes_at_count || c->tenants.moving_at_count ||
		      admission_in_flight(c) || c->dispatch.in_flight;
	bool passed_over =
		moving && c->statistics.replicas <= 1 && c->tenants.counts_passed_over++ < COUNTS_PASSED_OVER_MAX;
	bool freed = false;
	if (!passed_over) {
		c->tenants.counts_passed_over = 0;
		c->tenants.counted = true;
		c->statistics.waiting = counts->by_status[TASK_QUEUED] + counts->by_status[TASK_RETRY];
	}
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		load->was_full = room(load) <= 0;
		load->elsewhere = 0;
		if (!passed_over)
			load->waiting = 0;
	}
	for (size_t i = 0; i < counts->tenant_count; i++) {
		struct tenant_load *load = tenant_load(c, counts->tenants[i].tenant);
		if (!passed_over)
			load->waiting = counts->tenants[i].waiting;
		load->elsewhere = elsewhere(c, load, counts->tenants[i].running);
	}
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		share_anew(c, load);
		freed |= load->was_full && room(load) > 0;
		if (load->waiting || load->arriving || running(load))
			continue;
		load_free(c, load);
	}
	if (freed && c->phase == COORDINATOR_RUNNING)
		dispatch_work(c, NULL);
}

/* ---- life ---- */

void tenants_init(struct coordinator *c)
{
	list_init(&c->tenants.all);
	c->tenants.settings = c->options.tenants;
}

void coordinator_set_tenants(struct coordinator *c, const struct tenants *settings)
{
	c->tenants.settings = settings;
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		load->limits = tenants_find(settings, load->node.key);
		share_out(c, load, load->running + load->promised, 0);
	}
	if (c->phase == COORDINATOR_RUNNING)
		dispatch_work(c, NULL);
}

void tenants_dispose(struct coordinator *c)
{
	LIST_EACH (&c->tenants.all, link) {
		struct tenant_load *load = LIST_ENTRY(link, struct tenant_load, link);
		load_free(c, load);
	}
	table_fini(&c->tenants.loads);
	arena_fini(&c->tenants.full);
}
