/* What the connections of a server share: the limits, the deadlines and their one timer, spare memory for requests,
 * and the list of those that have something to do in the next turn of the loop. */
#include "io/http_connection.h"

#define SPARE_MAX 64
#define LINGER_MS 2000
#define OR_DEFAULT(value, otherwise) ((value) ? (value) : (otherwise))

static size_t default_body_limit(void *owner, const struct http_request *request)
{
	return 4 << 20;
}

void http_core_init(
	struct http_core *core, const struct http_transport *transport, const struct http_server_options *options)
{
	const struct http_limits *limits = &options->limits;
	*core = (struct http_core){ .transport = transport,
		.log = options->log,
		.limits = { .head_max = OR_DEFAULT(limits->head_max, 16 << 10),
			.header_count_max = OR_DEFAULT(limits->header_count_max, 64),
			.connections_max = OR_DEFAULT(limits->connections_max, 10000),
			.connections_per_peer_max = limits->connections_per_peer_max,
			.body_memory_max = OR_DEFAULT(limits->body_memory_max, 256 << 20),
			.write_queue_max = OR_DEFAULT(limits->write_queue_max, 64 << 10),
			.head_timeout_ms = OR_DEFAULT(limits->head_timeout_ms, 10000),
			.body_timeout_ms = OR_DEFAULT(limits->body_timeout_ms, 30000),
			.idle_timeout_ms = OR_DEFAULT(limits->idle_timeout_ms, 75000),
			.write_timeout_ms = OR_DEFAULT(limits->write_timeout_ms, 30000) },
		.owner = options->owner,
		.body_limit = options->body_limit ? options->body_limit : default_body_limit,
		.on_request = options->on_request,
		.timer_due = UINT64_MAX };
	list_init(&core->connections);
	list_init(&core->deferred);
	const uint64_t lengths[HTTP_TIMEOUT_KINDS] = { [HTTP_TIMEOUT_IDLE] = core->limits.idle_timeout_ms,
		[HTTP_TIMEOUT_HEAD] = core->limits.head_timeout_ms,
		[HTTP_TIMEOUT_BODY] = core->limits.body_timeout_ms,
		[HTTP_TIMEOUT_WRITE] = core->limits.write_timeout_ms,
		[HTTP_TIMEOUT_LINGER] = LINGER_MS };
	http_timeouts_init(&core->timeouts, lengths);
}

void http_core_fini(struct http_core *core)
{
	while (core->spare) {
		struct http_message *message = core->spare;
		core->spare = message->next;
		http_message_free(message);
	}
	buffer_fini(&core->out);
	buffer_fini(&core->scratch);
}

struct http_message *http_core_take_message(struct http_core *core)
{
	struct http_message *message = core->spare;
	if (!message)
		return http_message_new(&core->limits);
	core->spare = message->next;
	core->spare_count--;
	return message;
}

void http_core_give_message(struct http_core *core, struct http_message *message)
{
	if (core->spare_count == SPARE_MAX) {
		http_message_free(message);
		return;
	}
	http_message_reset(message);
	message->next = core->spare;
	core->spare = message;
	core->spare_count++;
}

void http_core_defer(struct http_connection *connection)
{
	struct http_core *core = connection->core;
	if (list_linked(&connection->deferred))
		return;
	bool is_first = list_empty(&core->deferred);
	list_push_back(&core->deferred, &connection->deferred);
	if (is_first)
		core->transport->wake(core);
}

void http_core_update_timer(struct http_core *core)
{
	uint64_t due = http_timeouts_due(&core->timeouts);
	/* A deadline that moved away is found out when the timer fires: cheaper than moving the timer each time. */
	if (due < core->timer_due || (due == UINT64_MAX && core->timer_due != UINT64_MAX)) {
		core->timer_due = due;
		core->transport->set_timer(core, due);
	}
}

void http_core_run_deferred(struct http_core *core)
{
	/* Only those that are in the list now: who has more to do comes again in the next turn of the loop. */
	struct list now;
	list_init(&now);
	list_splice_back(&now, &core->deferred);
	while (!list_empty(&now)) {
		struct http_connection *connection = LIST_ENTRY(list_pop_front(&now), struct http_connection, deferred);
		if (connection->broken)
			http_connection_failed(connection);
		else
			http_connection_resume(connection);
	}
}

void http_core_run_timeouts(struct http_core *core)
{
	uint64_t now = core->transport->now(core);
	struct http_timeout *timeout;
	enum http_timeout_kind kind;
	core->timer_due = UINT64_MAX;
	while ((timeout = http_timeouts_expired(&core->timeouts, now, &kind)))
		http_connection_timed_out(CONTAINER_OF(timeout, struct http_connection, timeout), kind);
	http_core_update_timer(core);
}

void http_core_stop(struct http_core *core)
{
	core->stopping = true;
	LIST_EACH (&core->connections, node)
		http_connection_stop(LIST_ENTRY(node, struct http_connection, node));
}

void http_core_abort(struct http_core *core)
{
	LIST_EACH (&core->connections, node)
		http_connection_failed(LIST_ENTRY(node, struct http_connection, node));
}
