/* Webhooks: terminal events on their way to the callback_url of their task, by HTTP POST, at least once.
 *
 *   store (delivery rows) ──claim──► read the event ──► sign ──► POST ──► settle: delivered, again later, given up
 *        ▲ due: told by the bus, by a timer for the next one, by a slow jittered net
 *
 * What is sent is the payload of the event as it goes over the bus, with the headers of Standard Webhooks. The id stays
 * the same over all attempts. 2xx is success, 410 ends it, all else (redirects too) is tried again with growing,
 * jittered pauses, at most so many times. A lease in the store keeps other replicas off while one sends; those of a
 * dead replica are taken up when it is over.
 *
 * While the store is away nothing is claimed, and what was sent is settled when it is back. */
#ifndef ASSAY_WEBHOOK_WEBHOOKS_H
#define ASSAY_WEBHOOK_WEBHOOKS_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "assay/bus.h"
#include "assay/store.h"
#include "base/err.h"
#include "base/log.h"

struct webhooks;

struct webhooks_settings {
	const char *secrets; /* as of webhook_secrets_parse() */
	const char *allow; /* CIDR,… that may be sent to although they are not of the public Internet; NULL: none */
	const char *ca_file; /* PEM; NULL: the system's authorities */
	int64_t timeout_us; /* of an attempt, from the look-up of the name to the end of the answer */
	int64_t retry_base_us; /* the first pause; the others grow from it */
	int attempts_max;
	int concurrency; /* attempts at a time; a quarter of them to one receiver */
};

struct webhooks_options {
	uv_loop_t *loop; /* borrowed, like all that follows: outlives the webhooks */
	struct log *log;
	struct store *store;
	struct bus *bus;
	const char *replica;
	struct webhooks_settings settings; /* its strings are needed during webhooks_new() only */
};

/* An error means that the settings make no sense. */
int webhooks_new(const struct webhooks_options *options, struct webhooks **ret_webhooks, struct err *err) MUST_CHECK;
/* The store can be used. */
void webhooks_start(struct webhooks *webhooks);
/* What is under way has a moment to end, then it is cut short and handed back; on_stopped is called once, never from
 * within. The store and the bus must still be there. */
void webhooks_stop(struct webhooks *webhooks, void (*on_stopped)(void *owner), void *owner);
void webhooks_free(struct webhooks *webhooks); /* after on_stopped; NULL is fine */

struct webhooks_figures {
	uint64_t delivered, given_up; /* deliveries */
	uint64_t failed; /* attempts that are tried again */
	size_t under_way;
	int64_t waiting; /* in the store, for all replicas, as of the last look; counted up to 10,000 */
};
struct webhooks_figures webhooks_figures(const struct webhooks *webhooks);

#define WEBHOOK_ID_SIZE 48
/* The id of a delivery, the same in all its attempts. */
char *webhook_id_format(const struct uuid *task_id, int run, char text[static WEBHOOK_ID_SIZE]);

/* The pause after so many recorded attempts (at least 1), without jitter: 1, 6, 24, 120, 360, 1440 and then always 4320
 * times the base (5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 6 h by default). */
int64_t webhook_pause_us(int64_t base_us, int attempts);

#endif
