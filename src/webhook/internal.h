/* What the files of this folder share: the claims (webhooks.c) and the single deliveries (sending.c). */
#ifndef ASSAY_WEBHOOK_INTERNAL_H
#define ASSAY_WEBHOOK_INTERNAL_H

#include "base/list.h"
#include "io/http_client.h"
#include "webhook/address.h"
#include "webhook/signature.h"
#include "webhook/webhooks.h"

struct webhooks {
	uv_loop_t *loop; /* borrowed */
	struct log *log; /* borrowed */
	struct store *store; /* borrowed */
	struct bus *bus; /* borrowed */
	struct webhooks_settings settings; /* strings taken out */
	struct webhook_secrets secrets;
	struct webhook_addresses addresses;
	struct http_client *client; /* owned; NULL once it is closed */
	struct bus_subscriber subscriber;
	char locked_by[160]; /* our name on leases, new at each start */
	struct store_delivery_claim claim;
	struct arena claim_arena; /* what the claim points to */
	bool claiming; /* one at a time */
	bool wanted; /* something came up meanwhile */
	bool started, stopping;
	uv_timer_t wake; /* the next claim */
	uv_timer_t net;
	uv_timer_t grace; /* the end of a stop's patience */
	struct list sendings; /* struct sending */
	size_t sending_count;
	struct webhooks_figures figures;
	int open_handles; /* of our own, while stopping */
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

enum sending_step { SENDING_READING, SENDING_POSTING, SENDING_SETTLING };

/* One delivery that is claimed. It goes when its settlement is made, or is no longer to be had. */
struct sending {
	struct list link; /* the webhooks' */
	struct webhooks *webhooks; /* borrowed */
	enum sending_step step;
	struct arena arena; /* owned: what `delivery` points to */
	struct delivery delivery;
	struct read_events read;
	char id[WEBHOOK_ID_SIZE], timestamp[24];
	struct buffer signature, body; /* owned */
	struct http_header headers[5];
	struct http_call call;
	int64_t began_us; /* monotonic */
	struct delivery_outcome outcome;
	char error[256];
	struct store_delivery_settle settle;
	uv_timer_t retry; /* of the settlement */
};

/* Takes over a delivery that was claimed; all is copied. */
void sending_start(struct webhooks *webhooks, const struct delivery *delivery);
/* A stop's patience is over. */
void sending_cut(struct sending *sending);

/* A sending has gone. */
void webhooks_sending_ended(struct webhooks *webhooks);
/* `us` or up to a quarter of it more or less. */
int64_t webhooks_jittered(int64_t us);

#endif
