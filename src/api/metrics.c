/* GET /metrics (base/metrics.h). */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/handlers.h"
#include "api/problem.h"
#include "api/state.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "coordinator/coordinator.h"
#include "task/lifecycle.h"
#include "webhook/webhooks.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* ---- the parts ---- */

static void write_tasks(struct buffer *to, struct api *api)
{
	const struct coordinator_statistics *s = coordinator_statistics(api->coordinator);
	double oldest_s = 0;
	if (s->oldest_waiting_at_us > 0)
		oldest_s = (double)(clock_wall_us() - s->oldest_waiting_at_us) / 1e6;
	metric_gauge(to, "assay_tasks_waiting", "Tasks that wait, as of the last heartbeat.", (double)s->waiting);
	metric_gauge(to, "assay_tasks_running", "Tasks that this replica runs.", (double)s->running);
	metric_gauge(to, "assay_oldest_waiting_task_age_seconds",
		"Age of the oldest due task that waits; 0 when none does.", oldest_s > 0 ? oldest_s : 0);
	metric_counter(to, "assay_tasks_submitted_total", "Tasks that were created.", s->submitted);
	metric_counter(to, "assay_tasks_claimed_total", "Tasks that were claimed from the queue.", s->claimed);
	metric_counter(
		to, "assay_tasks_born_running_total", "Tasks that began to run without waiting.", s->born_running);
	metric_counter(to, "assay_tasks_started_total", "Attempts whose code has started.", s->started);
	metric_counter(
		to, "assay_tasks_handed_back_total", "Attempts that were handed back, uncharged.", s->handed_back);
	metric_counter(to, "assay_tasks_retried_total", "Attempts that ended in a retry.", s->retried);
	metric_counter(
		to, "assay_tasks_recovered_total", "Tasks that were taken up from a dead replica.", s->recovered);
	metric_counter(to, "assay_settles_refused_total", "Transitions that somebody else had made before.",
		s->refused_settles);
	metric_head(
		to, "assay_refused_by_limit_total", "counter", "Submissions that were refused, by the limit they met.");
	buffer_printf(to,
		"assay_refused_by_limit_total{limit=\"queue\"} "
		"%llu\nassay_refused_by_limit_total{limit=\"tenant_queue\"} "
		"%llu\nassay_refused_by_limit_total{limit=\"tenant_rate\"} %llu\n",
		(unsigned long long)s->refused_queue, (unsigned long long)s->refused_tenant_queue,
		(unsigned long long)api->refused_rate);
	metric_gauge(to, "assay_replicas", "Replicas that live, as of the last heartbeat.", (double)s->replicas);
	metric_head(to, "assay_tasks_ended_total", "counter", "Tasks that have ended, by reason.");
	for (int i = 0; i < TASK_REASON_COUNT; i++) {
		const char *reason = task_reason_name((enum task_reason)i);
		buffer_printf(to, "assay_tasks_ended_total{reason=\"%s\"} %llu\n", reason ? reason : "completed",
			(unsigned long long)s->ended[i]);
	}
	metric_histogram(to, "assay_queue_wait_seconds", "From the moment a task was due to its claim.",
		coordinator_bucket_bounds, s->queue_wait.buckets, ARRAY_SIZE(s->queue_wait.buckets),
		s->queue_wait.sum_s);
	metric_histogram(to, "assay_attempt_duration_seconds", "From the start of the code to its end.",
		coordinator_bucket_bounds, s->duration.buckets, ARRAY_SIZE(s->duration.buckets), s->duration.sum_s);
	static const char *const operations[] = { "submit", "claim", "settle" };
	metric_head(to, "assay_store_batches_total", "counter", "Transactions, by operation.");
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		buffer_printf(to, "assay_store_batches_total{operation=\"%s\"} %llu\n", operations[i],
			(unsigned long long)s->store_batches[i]);
	metric_head(to, "assay_store_rows_total", "counter", "Rows in those transactions.");
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		buffer_printf(to, "assay_store_rows_total{operation=\"%s\"} %llu\n", operations[i],
			(unsigned long long)s->store_rows[i]);
}

static void write_parts(struct buffer *to, struct api *api)
{
	struct store_status store = { 0 };
	struct bus_status bus = { 0 };
	api->store->ops->status(api->store, &store);
	api->bus->ops->status(api->bus, &bus);
	metric_gauge(to, "assay_store_up", "Whether the store can be used.", store.available && !store.schema_wrong);
	metric_gauge(to, "assay_bus_up", "Whether the bus delivers.", bus.healthy);
	metric_gauge(to, "assay_bus_waiting", "Durable events that have not left yet.", (double)(bus.taken - bus.left));
	metric_counter(to, "assay_bus_published_total", "Durable events that this replica gave the bus.", bus.taken);
	metric_counter(to, "assay_bus_heard_total", "Events of other replicas that the bus brought.", bus.heard);
	metric_counter(
		to, "assay_bus_foreign_total", "Messages on the channels of events that were none.", bus.foreign);
	metric_counter(to, "assay_bus_gaps_total",
		"Times that events could not leave and were read from the store later.", bus.gaps);
	metric_head(to, "assay_executor_up", "gauge", "Whether the executor can be used.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_up{executor=\"%.*s\"} %d\n", (int)status->name.len, status->name.data,
			status->health != EXECUTOR_UNAVAILABLE);
	}
	metric_head(to, "assay_executor_slots", "gauge", "Jobs that the executor can run side by side.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_slots{executor=\"%.*s\"} %d\n", (int)status->name.len,
			status->name.data, status->slots);
	}
	metric_head(to, "assay_executor_busy", "gauge", "Jobs that the executor runs.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_busy{executor=\"%.*s\"} %d\n", (int)status->name.len,
			status->name.data, status->busy);
	}
	for (size_t i = 0; i < api->executor_count; i++)
		if (api->executors[i]->ops->write_metrics)
			api->executors[i]->ops->write_metrics(api->executors[i], to);
}

static void write_webhooks(struct buffer *to, const struct webhooks *webhooks)
{
	struct webhooks_figures figures = webhooks_figures(webhooks);
	metric_head(to, "assay_webhook_deliveries_total", "counter",
		"Deliveries to callback URLs that came to an end, by outcome.");
	buffer_printf(to, "assay_webhook_deliveries_total{outcome=\"delivered\"} %llu\n",
		(unsigned long long)figures.delivered);
	buffer_printf(to, "assay_webhook_deliveries_total{outcome=\"given_up\"} %llu\n",
		(unsigned long long)figures.given_up);
	metric_counter(
		to, "assay_webhook_attempts_failed_total", "Attempts that are tried again later.", figures.failed);
	metric_gauge(to, "assay_webhook_attempts_under_way", "Deliveries being sent by this replica.",
		(double)figures.under_way);
	metric_gauge(to, "assay_webhook_deliveries_waiting",
		"Deliveries of all replicas that have not come to an end, counted up to 10000, as of the last look.",
		(double)figures.waiting);
}

static void write_http(struct buffer *to, struct api *api)
{
	if (api->server) {
		struct http_server_statistics s = http_server_statistics(api->server);
		metric_gauge(to, "assay_http_connections", "Open connections.", (double)s.connections);
		metric_counter(to, "assay_http_connections_accepted_total", "Connections accepted.", s.accepted);
		metric_counter(to, "assay_http_requests_refused_total",
			"Requests that the HTTP server refused by itself.", s.refused);
		metric_counter(to, "assay_http_received_bytes_total", "Bytes received.", s.bytes_in);
		metric_counter(to, "assay_http_sent_bytes_total", "Bytes sent.", s.bytes_out);
		metric_gauge(
			to, "assay_http_body_memory_bytes", "Memory of bodies being received.", (double)s.body_memory);
	}
	metric_head(to, "assay_http_requests_total", "counter", "Requests answered, by route and class of status.");
	for (size_t i = 0; i <= ROUTE_COUNT_MAX; i++) {
		bool known = i < route_count;
		for (int class = 1; class < 6; class ++)
			if (api->answers[i][class] > 0)
				buffer_printf(to,
					"assay_http_requests_total{method=\"%s\",route=\"%s\",code=\"%dxx\"} %llu\n",
					!known                                 ? ""
					: routes[i].method == HTTP_METHOD_POST ? "POST"
									       : "GET",
					known ? routes[i].pattern : "", class,
					(unsigned long long)api->answers[i][class]);
	}
	struct hub_figures hub = hub_figures(api->hub);
	metric_gauge(
		to, "assay_followers", "Streams of events and logs, and requests that wait.", (double)hub.followers);
	metric_counter(to, "assay_events_total", "Durable events heard from the bus.", hub.events);
	metric_counter(to, "assay_live_events_total", "Ephemeral events heard from the bus.", hub.live_events);
	struct status_cache_figures cache = status_cache_figures(api->status_cache);
	metric_counter(to, "assay_status_cache_hits_total", "Status answers out of the cache.", cache.hits);
	metric_counter(
		to, "assay_status_cache_misses_total", "Status answers that the store was asked for.", cache.misses);
	metric_gauge(to, "assay_status_cache_bytes", "Memory of the cache.", (double)cache.bytes);
}

static void write_process(struct buffer *to, struct api *api)
{
	const struct loop_lag_figures *lag = loop_lag_figures(api->loop_lag);
	metric_histogram(to, "assay_loop_lag_seconds",
		"How long each turn of the event loop was busy: what an event may have to wait.", loop_lag_bounds,
		lag->buckets, LOOP_LAG_BUCKETS, lag->sum_s);
	metric_gauge(to, "assay_loop_lag_max_seconds", "The longest turn since the start.", lag->max_s);
	metric_head(to, "assay_build_info", "gauge", "Always 1.");
	buffer_printf(to, "assay_build_info{version=\"%s\"} 1\n", ASSAY_VERSION);

	size_t resident = 0;
	if (uv_resident_set_memory(&resident) == 0)
		metric_gauge(to, "process_resident_memory_bytes", "Resident memory size in bytes.", (double)resident);
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		metric_head(
			to, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
		buffer_printf(to, "process_cpu_seconds_total %.6f\n",
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	}
	metric_gauge(to, "process_start_time_seconds", "Start time of the process since the epoch in seconds.",
		(double)api->started_at_us / 1e6);
}

void handle_metrics(struct call *call)
{
	struct buffer *buffer = call_buffer(call);
	write_tasks(buffer, call->api);
	write_parts(buffer, call->api);
	if (call->api->webhooks)
		write_webhooks(buffer, call->api->webhooks);
	write_http(buffer, call->api);
	write_process(buffer, call->api);
	if (buffer->failed)
		problem(call, 500, "internal", "there is not enough memory for the answer");
	else
		call_respond(call, 200, METRICS_CONTENT_TYPE, buffer_bytes(buffer), NULL, 0);
}
