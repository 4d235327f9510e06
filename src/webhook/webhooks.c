/* When deliveries are claimed, and how many.
 *
 *   (the bus tells of one, one is due, one has ended, the net) ──► wake ──► claim ──► a sending for each
 *
 * One claim is in flight at a time; what comes up meanwhile makes another. Sendings hold a slot until they are settled,
 * so that nothing piles up here while the store is away. One receiver gets a quarter of the slots at most: a slow one
 * leaves the rest to the others. */
#include "webhook/webhooks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/uuid.h"
#include "webhook/internal.h"

#define NET_US (40 * US_PER_S) /* a quarter more or less */
#define AWAY_US (2 * US_PER_S)
#define CONTENDED_US (US_PER_S / 5)
#define STOP_PATIENCE_MS 3000
#define SETTLE_TIME_US (30 * US_PER_S) /* of a lease, beyond the attempt itself */

static void on_wake(uv_timer_t *timer);

int64_t webhooks_jittered(int64_t us)
{
	uint16_t random;
	random_bytes(&random, sizeof(random));
	return us - us / 4 + (int64_t)((double)us / 2 * random / UINT16_MAX);
}

static void wake_in(struct webhooks *webhooks, int64_t us)
{
	if (webhooks->started && !webhooks->stopping)
		uv_timer_start(&webhooks->wake, on_wake, us > 0 ? (uint64_t)(us / US_PER_MS + 1) : 0, 0);
}

static void wake(struct webhooks *webhooks)
{
	webhooks->wanted = true;
	if (!webhooks->claiming)
		wake_in(webhooks, 0);
}

/* ---- claims ---- */

static void maybe_stopped(struct webhooks *webhooks);

static void on_claimed(struct store_operation *operation)
{
	struct webhooks *webhooks = operation->owner;
	struct store_delivery_claim *claim = &webhooks->claim;
	webhooks->claiming = false;
	if (operation->outcome == STORE_OK) {
		if (claim->count_waiting)
			webhooks->figures.waiting = claim->waiting;
		for (size_t i = 0; i < claim->count; i++)
			sending_start(webhooks, &claim->deliveries[i]);
		/* What is due and was not given is being claimed by another replica at this moment. */
		if (webhooks->wanted || (claim->next_due_in_us == 0 && claim->count > 0))
			wake_in(webhooks, 0);
		else if (claim->next_due_in_us == 0)
			wake_in(webhooks, webhooks_jittered(CONTENDED_US));
		else if (claim->next_due_in_us > 0)
			wake_in(webhooks, claim->next_due_in_us);
	} else {
		if (operation->outcome == STORE_FAILED)
			log_event(webhooks->log, LOG_ERROR, "webhooks cannot be claimed", L_ERR(&operation->err));
		wake_in(webhooks, webhooks_jittered(AWAY_US));
	}
	store_operation_fini(operation);
	arena_fini(&webhooks->claim_arena);
	maybe_stopped(webhooks);
}

/* Who is being sent to now, and how many times: copied, since a sending may end before the claim does. */
static struct delivery_origin *origins_of(struct webhooks *webhooks, size_t *ret_count)
{
	struct arena *arena = &webhooks->claim_arena;
	struct delivery_origin *origins = arena_array(arena, webhooks->sending_count + 1, sizeof(origins[0]));
	size_t count = 0;
	LIST_EACH (&webhooks->sendings, link) {
		struct bytes origin = LIST_ENTRY(link, struct sending, link)->delivery.origin;
		size_t i = 0;
		while (i < count && !bytes_equal(origins[i].origin, origin))
			i++;
		if (i == count)
			origins[count++].origin = arena_bytes(arena, origin);
		origins[i].busy++;
	}
	*ret_count = count;
	return origins;
}

static void claim(struct webhooks *webhooks, bool count_waiting)
{
	const struct webhooks_settings *settings = &webhooks->settings;
	size_t busy = webhooks->sending_count, most = (size_t)settings->concurrency;
	if (webhooks->claiming || webhooks->stopping || busy >= most)
		return; /* the claim's end, or that of a sending, comes back here */
	size_t origin_count;
	struct delivery_origin *origins = origins_of(webhooks, &origin_count);
	webhooks->claiming = true;
	webhooks->wanted = false;
	webhooks->claim = (struct store_delivery_claim){
		.operation = { .done = on_claimed, .owner = webhooks },
		.locked_by = bytes_of(webhooks->locked_by),
		.lease_us = settings->timeout_us + SETTLE_TIME_US,
		.limit = most - busy,
		.origin_limit = settings->concurrency > 4 ? settings->concurrency / 4 : 1,
		.origins = origins,
		.origin_count = origin_count,
		.count_waiting = count_waiting,
	};
	webhooks->store->ops->delivery_claim(webhooks->store, &webhooks->claim);
}

static void on_wake(uv_timer_t *timer)
{
	claim(timer->data, false);
}

static void net_start(struct webhooks *webhooks);

static void on_net(uv_timer_t *timer)
{
	struct webhooks *webhooks = timer->data;
	net_start(webhooks);
	claim(webhooks, true);
}

static void net_start(struct webhooks *webhooks)
{
	uv_timer_start(&webhooks->net, on_net, (uint64_t)(webhooks_jittered(NET_US) / US_PER_MS), 0);
}

static void on_events(void *owner, const struct event *events, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (events[i].delivery) {
			wake(owner);
			return;
		}
	}
}

/* ---- life ---- */

static bool allow_peer(void *owner, const struct sockaddr *address)
{
	const struct webhooks *webhooks = owner;
	return webhook_address_allowed(&webhooks->addresses, address);
}

int webhooks_new(const struct webhooks_options *options, struct webhooks **ret_webhooks, struct err *err)
{
	struct webhooks *webhooks = alloc(sizeof(*webhooks));
	struct uuid_generator ids = { 0 };
	struct uuid incarnation = uuid_new(&ids);
	char text[UUID_TEXT_SIZE];
	webhooks->loop = options->loop;
	webhooks->log = options->log;
	webhooks->store = options->store;
	webhooks->bus = options->bus;
	webhooks->settings = options->settings;
	webhooks->settings.secrets = webhooks->settings.allow = webhooks->settings.ca_file = NULL;
	webhooks->subscriber.on_events = on_events;
	webhooks->subscriber.owner = webhooks;
	list_init(&webhooks->sendings);
	snprintf(webhooks->locked_by, sizeof(webhooks->locked_by), "%.100s#%s", options->replica,
		uuid_format(&incarnation, text));
	int result = webhook_secrets_parse(bytes_of(options->settings.secrets), &webhooks->secrets, err);
	if (result == 0)
		result = webhook_addresses_init(&webhooks->addresses, bytes_of(options->settings.allow), err);
	if (result == 0) {
		const struct http_client_options client = {
			.loop = options->loop,
			.tls = { .ca_file = options->settings.ca_file },
			.idle_connections_max = (size_t)options->settings.concurrency,
			.allow_peer = allow_peer,
			.owner = webhooks,
		};
		webhooks->client = http_client_new(&client, err);
		result = webhooks->client ? 0 : -ENOTSUP;
	}
	if (result < 0) {
		err_prefix(err, "webhooks");
		free(webhooks);
		return result;
	}
	uv_timer_init(webhooks->loop, &webhooks->wake);
	uv_timer_init(webhooks->loop, &webhooks->net);
	uv_timer_init(webhooks->loop, &webhooks->grace);
	webhooks->wake.data = webhooks->net.data = webhooks->grace.data = webhooks;
	*ret_webhooks = webhooks;
	return 0;
}

void webhooks_start(struct webhooks *webhooks)
{
	webhooks->started = true;
	webhooks->bus->ops->subscribe(webhooks->bus, &webhooks->subscriber);
	net_start(webhooks);
	claim(webhooks, true);
}

void webhooks_sending_ended(struct webhooks *webhooks)
{
	webhooks->sending_count--;
	wake(webhooks);
	maybe_stopped(webhooks);
}

static void on_closed(uv_handle_t *handle)
{
	struct webhooks *webhooks = handle->data;
	if (--webhooks->open_handles == 0)
		webhooks->on_stopped(webhooks->stop_owner);
}

static void on_client_closed(void *owner)
{
	struct webhooks *webhooks = owner;
	webhooks->open_handles = 3;
	uv_close((uv_handle_t *)&webhooks->wake, on_closed);
	uv_close((uv_handle_t *)&webhooks->net, on_closed);
	uv_close((uv_handle_t *)&webhooks->grace, on_closed);
}

static void maybe_stopped(struct webhooks *webhooks)
{
	if (webhooks->stopping && !webhooks->claiming && webhooks->sending_count == 0 && webhooks->client)
		http_client_close(STEAL(webhooks->client), on_client_closed, webhooks);
}

static void on_grace(uv_timer_t *timer)
{
	struct webhooks *webhooks = timer->data;
	LIST_EACH (&webhooks->sendings, link)
		sending_cut(LIST_ENTRY(link, struct sending, link));
}

void webhooks_stop(struct webhooks *webhooks, void (*on_stopped)(void *owner), void *owner)
{
	webhooks->on_stopped = on_stopped;
	webhooks->stop_owner = owner;
	webhooks->stopping = true;
	if (webhooks->started)
		webhooks->bus->ops->unsubscribe(webhooks->bus, &webhooks->subscriber);
	uv_timer_stop(&webhooks->wake);
	uv_timer_stop(&webhooks->net);
	uv_timer_start(&webhooks->grace, on_grace, STOP_PATIENCE_MS, 0);
	maybe_stopped(webhooks);
}

void webhooks_free(struct webhooks *webhooks)
{
	if (!webhooks)
		return;
	explicit_bzero(&webhooks->secrets, sizeof(webhooks->secrets));
	free(webhooks);
}

struct webhooks_figures webhooks_figures(const struct webhooks *webhooks)
{
	struct webhooks_figures figures = webhooks->figures;
	figures.under_way = webhooks->sending_count;
	return figures;
}
