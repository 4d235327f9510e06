/* GET /metrics: the text format of Prometheus, version 0.0.4, with its names: base units, `_total` for what only grows. */
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/handlers.h"
#include "api/problem.h"
#include "api/state.h"
#include "base/clock.h"
#include "coordinator/coordinator.h"
#include "task/lifecycle.h"
#include "webhook/webhooks.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

static void head(struct buffer *to, const char *name, const char *type, const char *help)
{
	buffer_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void counter(struct buffer *to, const char *name, const char *help, uint64_t value)
{
	head(to, name, "counter", help);
	buffer_printf(to, "%s %llu\n", name, (unsigned long long)value);
}

static void gauge(struct buffer *to, const char *name, const char *help, double value)
{
	head(to, name, "gauge", help);
	buffer_printf(to, "%s %.17g\n", name, value);
}

/* `buckets` hold each observation once; Prometheus wants them cumulated. */
static void histogram(struct buffer *to, const char *name, const char *help, const double *bounds,
	const uint64_t *buckets, size_t count, double sum)
{
	head(to, name, "histogram", help);
	uint64_t total = 0;
	for (size_t i = 0; i < count; i++) {
		total += buckets[i];
		if (isinf(bounds[i]))
			buffer_printf(to, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)total);
		else
			buffer_printf(to, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[i], (unsigned long long)total);
	}
	buffer_printf(to, "%s_sum %.17g\n%s_count %llu\n", name, sum, name, (unsigned long long)total);
}

/* ---- the parts ---- */

static void write_tasks(struct buffer *to, struct api *api)
{
	const struct coordinator_statistics *s = coordinator_statistics(api->coordinator);
	double oldest_s = 0;
	if (s->oldest_waiting_at_us > 0)
		oldest_s = (double)(clock_wall_us() - s->oldest_waiting_at_us) / 1e6;
	gauge(to, "assay_tasks_waiting", "Tasks that wait, as of the last heartbeat.", (double)s->waiting);
	gauge(to, "assay_tasks_running", "Tasks that this replica runs.", (double)s->running);
	gauge(to, "assay_oldest_waiting_task_age_seconds", "Age of the oldest due task that waits; 0 when none does.",
		oldest_s > 0 ? oldest_s : 0);
	counter(to, "assay_tasks_submitted_total", "Tasks that were created.", s->submitted);
	counter(to, "assay_tasks_claimed_total", "Tasks that were claimed from the queue.", s->claimed);
	counter(to, "assay_tasks_born_running_total", "Tasks that began to run without waiting.", s->born_running);
	counter(to, "assay_tasks_started_total", "Attempts whose code has started.", s->started);
	counter(to, "assay_tasks_handed_back_total", "Attempts that were handed back, uncharged.", s->handed_back);
	counter(to, "assay_tasks_retried_total", "Attempts that ended in a retry.", s->retried);
	counter(to, "assay_tasks_recovered_total", "Tasks that were taken up from a dead replica.", s->recovered);
	counter(to, "assay_settles_refused_total", "Transitions that somebody else had made before.",
		s->refused_settles);
	head(to, "assay_refused_by_limit_total", "counter", "Submissions that were refused, by the limit they met.");
	buffer_printf(to,
		"assay_refused_by_limit_total{limit=\"queue\"} "
		"%llu\nassay_refused_by_limit_total{limit=\"tenant_queue\"} "
		"%llu\nassay_refused_by_limit_total{limit=\"tenant_rate\"} %llu\n",
		(unsigned long long)s->refused_queue, (unsigned long long)s->refused_tenant_queue,
		(unsigned long long)api->refused_rate);
	gauge(to, "assay_replicas", "Replicas that live, as of the last heartbeat.", (double)s->replicas);
	head(to, "assay_tasks_ended_total", "counter", "Tasks that have ended, by reason.");
	for (int i = 0; i < TASK_REASON_COUNT; i++) {
		const char *reason = task_reason_name((enum task_reason)i);
		buffer_printf(to, "assay_tasks_ended_total{reason=\"%s\"} %llu\n", reason ? reason : "completed",
			(unsigned long long)s->ended[i]);
	}
	histogram(to, "assay_queue_wait_seconds", "From the moment a task was due to its claim.",
		coordinator_bucket_bounds, s->queue_wait.buckets, ARRAY_SIZE(s->queue_wait.buckets),
		s->queue_wait.sum_s);
	histogram(to, "assay_attempt_duration_seconds", "From the start of the code to its end.",
		coordinator_bucket_bounds, s->duration.buckets, ARRAY_SIZE(s->duration.buckets), s->duration.sum_s);
	static const char *const operations[] = { "submit", "claim", "settle" };
	head(to, "assay_store_batches_total", "counter", "Transactions, by operation.");
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		buffer_printf(to, "assay_store_batches_total{operation=\"%s\"} %llu\n", operations[i],
			(unsigned long long)s->store_batches[i]);
	head(to, "assay_store_rows_total", "counter", "Rows in those transactions.");
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
	gauge(to, "assay_store_up", "Whether the store can be used.", store.available && !store.schema_wrong);
	gauge(to, "assay_bus_up", "Whether the bus delivers.", bus.healthy);
	gauge(to, "assay_bus_waiting", "Durable events that have not left yet.", (double)(bus.taken - bus.left));
	counter(to, "assay_bus_published_total", "Durable events that this replica gave the bus.", bus.taken);
	counter(to, "assay_bus_heard_total", "Events of other replicas that the bus brought.", bus.heard);
	counter(to, "assay_bus_foreign_total", "Messages on the channels of events that were none.", bus.foreign);
	counter(to, "assay_bus_gaps_total", "Times that events could not leave and were read from the store later.",
		bus.gaps);
	head(to, "assay_executor_up", "gauge", "Whether the executor can be used.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_up{executor=\"%.*s\"} %d\n", (int)status->name.len, status->name.data,
			status->health != EXECUTOR_UNAVAILABLE);
	}
	head(to, "assay_executor_slots", "gauge", "Jobs that the executor can run side by side.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_slots{executor=\"%.*s\"} %d\n", (int)status->name.len,
			status->name.data, status->slots);
	}
	head(to, "assay_executor_busy", "gauge", "Jobs that the executor runs.");
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		buffer_printf(to, "assay_executor_busy{executor=\"%.*s\"} %d\n", (int)status->name.len,
			status->name.data, status->busy);
	}
}

static void write_webhooks(struct buffer *to, const struct webhooks *webhooks)
{
	struct webhooks_figures figures = webhooks_figures(webhooks);
	head(to, "assay_webhook_deliveries_total", "counter",
		"Deliveries to callback URLs that came to an end, by outcome.");
	buffer_printf(to, "assay_webhook_deliveries_total{outcome=\"delivered\"} %llu\n",
		(unsigned long long)figures.delivered);
	buffer_printf(to, "assay_webhook_deliveries_total{outcome=\"given_up\"} %llu\n",
		(unsigned long long)figures.given_up);
	counter(to, "assay_webhook_attempts_failed_total", "Attempts that are tried again later.", figures.failed);
	gauge(to, "assay_webhook_attempts_under_way", "Deliveries being sent by this replica.",
		(double)figures.under_way);
	gauge(to, "assay_webhook_deliveries_waiting",
		"Deliveries of all replicas that have not come to an end, counted up to 10000, as of the last look.",
		(double)figures.waiting);
}

static void write_http(struct buffer *to, struct api *api)
{
	if (api->server) {
		struct http_server_statistics s = http_server_statistics(api->server);
		gauge(to, "assay_http_connections", "Open connections.", (double)s.connections);
		counter(to, "assay_http_connections_accepted_total", "Connections accepted.", s.accepted);
		counter(to, "assay_http_requests_refused_total", "Requests that the HTTP server refused by itself.",
			s.refused);
		counter(to, "assay_http_received_bytes_total", "Bytes received.", s.bytes_in);
		counter(to, "assay_http_sent_bytes_total", "Bytes sent.", s.bytes_out);
		gauge(to, "assay_http_body_memory_bytes", "Memory of bodies being received.", (double)s.body_memory);
	}
	head(to, "assay_http_requests_total", "counter", "Requests answered, by route and class of status.");
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
	gauge(to, "assay_followers", "Streams of events and logs, and requests that wait.", (double)hub.followers);
	counter(to, "assay_events_total", "Durable events heard from the bus.", hub.events);
	counter(to, "assay_live_events_total", "Ephemeral events heard from the bus.", hub.live_events);
	struct status_cache_figures cache = status_cache_figures(api->status_cache);
	counter(to, "assay_status_cache_hits_total", "Status answers out of the cache.", cache.hits);
	counter(to, "assay_status_cache_misses_total", "Status answers that the store was asked for.", cache.misses);
	gauge(to, "assay_status_cache_bytes", "Memory of the cache.", (double)cache.bytes);
}

static void write_process(struct buffer *to, struct api *api)
{
	const struct loop_lag_figures *lag = loop_lag_figures(api->loop_lag);
	histogram(to, "assay_loop_lag_seconds",
		"How long each turn of the event loop was busy: what an event may have to wait.", loop_lag_bounds,
		lag->buckets, LOOP_LAG_BUCKETS, lag->sum_s);
	gauge(to, "assay_loop_lag_max_seconds", "The longest turn since the start.", lag->max_s);
	head(to, "assay_build_info", "gauge", "Always 1.");
	buffer_printf(to, "assay_build_info{version=\"%s\"} 1\n", ASSAY_VERSION);

	size_t resident = 0;
	if (uv_resident_set_memory(&resident) == 0)
		gauge(to, "process_resident_memory_bytes", "Resident memory size in bytes.", (double)resident);
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		head(to, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
		buffer_printf(to, "process_cpu_seconds_total %.6f\n",
			(double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	}
	gauge(to, "process_start_time_seconds", "Start time of the process since the epoch in seconds.",
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
