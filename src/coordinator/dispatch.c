/* Keeps executors full. A claim goes out when a slot is free and there may be work: after a submission that was
 * queued, a notice of the store, the due time of a waiting row, a reconnect; a jittered claim every 10 to 30 s is the
 * net under lost notices.
 *
 * One claim is in flight at a time. It goes out when the callbacks of a turn of the loop are done, so that jobs which
 * end together are followed by one claim, and not by one for the first and one for all others. It asks for all lanes
 * with free slots, and those slots are reserved while it is away. */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "base/text.h"

#define NET_MIN_US (10 * US_PER_S)
#define NET_SPREAD_US (20 * US_PER_S)
#define RETRY_MS_MIN 200
#define RETRY_MS_MAX 10000

static void on_timer(uv_timer_t *timer);

static int64_t jittered(int64_t spread_us)
{
	uint32_t random;
	random_bytes(&random, sizeof(random));
	return (int64_t)((double)spread_us * random / UINT32_MAX);
}

static void release_slots(struct coordinator *c)
{
	for (size_t i = 0; i < c->dispatch.claim.lane_count; i++)
		c->dispatch.asked[i]->reserved -= c->dispatch.lanes[i].slots;
}

static void count_wait(struct coordinator *c, const struct task *task)
{
	int64_t due = task->run_after_us > task->queued_at_us ? task->run_after_us : task->queued_at_us;
	duration_observe(&c->statistics.queue_wait, task->locked_at_us - due);
}

static void claimed_run(struct coordinator *c, struct lane *lane, struct attempt **attempts, size_t count)
{
	if (reaper_may_start(c)) {
		attempts_run(c, lane, attempts, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		attempt_return(attempts[i]);
}

/* Rows of one lane come together or not; either way each lane's jobs are handed over as one batch. */
static void rows_claimed(struct coordinator *c)
{
	struct store_claim *claim = &c->dispatch.claim;
	struct attempt **attempts = alloc_array(claim->count ? claim->count : 1, sizeof(*attempts));
	c->statistics.store_rows[1] += claim->count;
	for (size_t i = 0; i < claim->count; i++) {
		struct task *task = &claim->tasks[i];
		struct err err = { 0 };
		tenant_waiting_add(c, task->tenant, -1);
		fair_served(c, task->executor, task->priority, task->turn);
		count_wait(c, task);
		/* A row that is ours already is none that a claim can give. */
		attempts[i] = attempt_known(c, task) ? NULL : attempt_new(c, task, &err);
		c->statistics.claimed++;
	}
	struct attempt **batch = alloc_array(claim->count ? claim->count : 1, sizeof(*batch));
	for (size_t l = 0; l < claim->lane_count; l++) {
		size_t count = 0;
		for (size_t i = 0; i < claim->count; i++)
			if (attempts[i] && attempts[i]->lane == c->dispatch.asked[l])
				batch[count++] = attempts[i];
		if (count)
			claimed_run(c, c->dispatch.asked[l], batch, count);
	}
	free(attempts);
	free(batch);
}

static void lanes_learn(struct coordinator *c)
{
	struct store_claim *claim = &c->dispatch.claim;
	for (size_t i = 0; i < claim->lane_count; i++) {
		struct lane *lane = c->dispatch.asked[i];
		/* Tenants that were passed over although they are not full have work still. */
		lane->queue_empty = claim->exhausted[i] && !lane->work_heard && !c->tenants.passed;
		lane->next_due_us = claim->next_due_us;
	}
}

static void on_claimed(struct store_operation *operation)
{
	struct coordinator *c = operation->owner;
	c->dispatch.in_flight = false;
	release_slots(c);
	tenants_claimed(c);
	if (operation->outcome == STORE_OK) {
		c->dispatch.retry_ms = 0;
		c->dispatch.retry_at_us = 0;
		lanes_learn(c);
		if (coordinator_is_own_name(c, c->dispatch.claim.locked_by))
			rows_claimed(c);
	} else {
		uint64_t *delay = &c->dispatch.retry_ms;
		*delay = *delay ? (*delay * 2 < RETRY_MS_MAX ? *delay * 2 : RETRY_MS_MAX) : RETRY_MS_MIN;
		c->dispatch.retry_at_us =
			clock_wall_us() + (int64_t)*delay * US_PER_MS / 2 + jittered((int64_t)*delay * US_PER_MS / 2);
		for (size_t i = 0; i < c->lane_count; i++)
			c->lanes[i].queue_empty = false;
		c->reaper.take_own |= operation->outcome == STORE_UNKNOWN;
		log_event(c->log, LOG_WARNING, "no work could be claimed", L_ERR(&operation->err));
	}
	store_operation_fini(operation);
	reaper_slots_released(c);
	dispatch_pump(c);
	coordinator_drained_check(c);
}

/* Wakes for what comes due, where a slot is free for it, and for the net. */
static void arm_timer(struct coordinator *c)
{
	if (c->phase != COORDINATOR_RUNNING) {
		uv_timer_stop(&c->dispatch.timer);
		return;
	}
	int64_t now = clock_wall_us();
	int64_t at = c->dispatch.net_at_us;
	if (c->dispatch.retry_at_us && c->dispatch.retry_at_us < at)
		at = c->dispatch.retry_at_us;
	for (size_t i = 0; i < c->lane_count; i++) {
		const struct lane *lane = &c->lanes[i];
		if (lane->next_due_us && lane->next_due_us < at && lane_free_slots(lane) > 0)
			at = lane->next_due_us;
	}
	uint64_t wait_ms = at > now ? (uint64_t)((at - now) / US_PER_MS + 1) : 1;
	if (uv_is_active((uv_handle_t *)&c->dispatch.timer) && uv_timer_get_due_in(&c->dispatch.timer) == wait_ms)
		return;
	uv_timer_start(&c->dispatch.timer, on_timer, wait_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct coordinator *c = timer->data;
	int64_t now = clock_wall_us();
	bool net = c->dispatch.net_at_us <= now;
	if (net)
		c->dispatch.net_at_us = now + NET_MIN_US + jittered(NET_SPREAD_US);
	for (size_t i = 0; i < c->lane_count; i++) {
		struct lane *lane = &c->lanes[i];
		if (net || (lane->next_due_us && lane->next_due_us <= now)) {
			lane->queue_empty = false;
			lane->next_due_us = 0;
		}
	}
	dispatch_pump(c);
}

void dispatch_pump(struct coordinator *c)
{
	coordinator_at_turn_end(c, /* settle= */ false);
}

void dispatch_claim(struct coordinator *c)
{
	if (c->dispatch.in_flight || !reaper_may_start(c) || c->reaper.taking || c->reaper.take_own ||
		!c->store_available || settle_behind(c))
		return;
	struct store_claim *claim = &c->dispatch.claim;
	claim->lane_count = 0;
	if (c->dispatch.retry_at_us <= clock_wall_us()) {
		for (size_t i = 0; i < c->lane_count && claim->lane_count < CLAIM_LANES_MAX; i++) {
			struct lane *lane = &c->lanes[i];
			int slots = lane_free_slots(lane);
			if (slots <= 0 || lane->queue_empty)
				continue;
			struct bytes name = lane->executor->ops->status(lane->executor)->name;
			c->dispatch.asked[claim->lane_count] = lane;
			c->dispatch.lanes[claim->lane_count++] =
				(struct claim_lane){ .executor = name, .slots = slots };
			lane->work_heard = false;
		}
	}
	if (!claim->lane_count) {
		arm_timer(c);
		return;
	}
	tenants_claim(c, claim, c->dispatch.lanes);
	for (size_t i = 0; i < claim->lane_count; i++)
		c->dispatch.asked[i]->reserved += c->dispatch.lanes[i].slots;
	claim->lanes = c->dispatch.lanes;
	claim->locked_by = bytes_of(c->locked_by);
	c->dispatch.in_flight = true;
	c->statistics.store_batches[1]++;
	c->options.store->ops->claim(c->options.store, claim);
}

void dispatch_work(struct coordinator *c, struct lane *lane)
{
	for (size_t i = 0; i < c->lane_count; i++)
		if (!lane || lane == &c->lanes[i]) {
			c->lanes[i].queue_empty = false;
			c->lanes[i].work_heard = true;
		}
	dispatch_pump(c);
}

void dispatch_init(struct coordinator *c)
{
	c->dispatch.claim.operation.done = on_claimed;
	c->dispatch.claim.operation.owner = c;
	c->dispatch.net_at_us = clock_wall_us() + NET_MIN_US + jittered(NET_SPREAD_US);
	uv_timer_init(c->options.loop, &c->dispatch.timer);
	c->dispatch.timer.data = c;
	uv_timer_start(&c->dispatch.timer, on_timer, NET_MIN_US / US_PER_MS, 0);
}

void dispatch_dispose(struct coordinator *c)
{
	store_operation_fini(&c->dispatch.claim.operation);
}
