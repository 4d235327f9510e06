/* What the executor says of itself: metrics, and what the doctor looks at. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/metrics.h"
#include "executor/kubernetes/internal.h"

/* ---- metrics ---- */

static const double lag_bounds[KUBE_LAG_BUCKETS] = { .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
	INFINITY };

void kubernetes_lag_observe(struct kubernetes *k, int64_t us)
{
	double seconds = us > 0 ? (double)us / 1e6 : 0;
	size_t bucket = 0;
	while (seconds > lag_bounds[bucket])
		bucket++;
	k->lag.buckets[bucket]++;
	k->lag.sum_s += seconds;
}

struct watched {
	const char *resource;
	struct kube_watch_figures figures;
};

/* Both watches, while they are there. */
static size_t watched(const struct kubernetes *k, struct watched ret_watched[static 2])
{
	size_t count = 0;
	if (k->jobs)
		ret_watched[count++] = (struct watched){ "jobs", kube_watch_figures(k->jobs) };
	if (k->pods)
		ret_watched[count++] = (struct watched){ "pods", kube_watch_figures(k->pods) };
	return count;
}

static void write_watches(struct buffer *to, const struct kubernetes *k)
{
	static const struct {
		const char *name, *type, *help;
	} metrics[] = {
		{ "assay_kubernetes_watch_up", "gauge", "Whether all is known, and changes come." },
		{ "assay_kubernetes_watch_silence_seconds", "gauge",
			"Since the last byte of the watch, events and bookmarks alike." },
		{ "assay_kubernetes_watch_events_total", "counter", "Changes that the watch brought." },
		{ "assay_kubernetes_watch_restarts_total", "counter",
			"Watches begun again where the last one had ended." },
		{ "assay_kubernetes_watch_failures_total", "counter", "Lists and watches that came to no good end." },
		{ "assay_kubernetes_lists_total", "counter", "Lists begun, the first one included." },
		{ "assay_kubernetes_lists_expired_total", "counter",
			"Lists begun because what we knew was too old (410)." },
	};
	struct watched all[2];
	size_t count = watched(k, all);
	for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
		metric_head(to, metrics[i].name, metrics[i].type, metrics[i].help);
		for (size_t j = 0; j < count; j++) {
			const struct kube_watch_figures *figures = &all[j].figures;
			const double values[ARRAY_SIZE(metrics)] = { figures->up, (double)figures->silent_us / 1e6,
				(double)figures->events, (double)figures->restarts, (double)figures->failures,
				(double)figures->lists, (double)figures->expired };
			buffer_printf(to, "%s{resource=\"%s\"} %.17g\n", metrics[i].name, all[j].resource, values[i]);
		}
	}
	metric_head(to, "assay_kubernetes_watch_handling_seconds", "summary",
		"From the last byte of an event to the end of what was done about it.");
	for (size_t j = 0; j < count; j++)
		buffer_printf(to,
			"assay_kubernetes_watch_handling_seconds_sum{resource=\"%s\"} %.6f\n"
			"assay_kubernetes_watch_handling_seconds_count{resource=\"%s\"} %llu\n",
			all[j].resource, (double)all[j].figures.lag_us / 1e6, all[j].resource,
			(unsigned long long)all[j].figures.events);
}

static void write_requests(struct buffer *to, const struct kubernetes *k)
{
	if (!k->client)
		return;
	struct kube_client_figures figures = kube_client_figures(k->client);
	metric_head(to, "assay_kubernetes_requests_total", "counter",
		"Requests to the API server, by the status of their answers; 0: none came.");
	for (size_t i = 0; i < figures.request_count; i++)
		buffer_printf(to, "assay_kubernetes_requests_total{verb=\"%s\",resource=\"%s\",code=\"%d\"} %llu\n",
			figures.requests[i].verb, figures.requests[i].resource, figures.requests[i].status,
			(unsigned long long)figures.requests[i].count);
	metric_counter(to, "assay_kubernetes_requests_repeated_total", "Of them, further tries of the same call.",
		figures.retries);
	metric_counter(to, "assay_kubernetes_requests_throttled_total",
		"Requests that waited for our own limit on their rate.", figures.throttled);
	metric_gauge(to, "assay_kubernetes_requests_waiting", "Requests that wait for it, or for a connection, now.",
		(double)figures.queued);
	metric_gauge(to, "assay_kubernetes_requests_under_way",
		"Calls that have not come to their end, watches included.", (double)figures.open);
}

static void write_attempts(struct buffer *to, const struct kubernetes *k)
{
	static const char *const stages[KUBE_STAGE_COUNT] = {
		[KUBE_STARTING] = "starting", [KUBE_RUNNING] = "running", [KUBE_ENDING] = "ending"
	};
	metric_head(to, "assay_kubernetes_attempts", "gauge",
		"Attempts of this replica: before their code has started, while it runs, until their Job is deleted.");
	for (size_t i = 0; i < KUBE_STAGE_COUNT; i++)
		buffer_printf(to, "assay_kubernetes_attempts{stage=\"%s\"} %d\n", stages[i], k->staged[i]);
	metric_counter(to, "assay_kubernetes_reports_forged_total",
		"Reports to the attempt listener whose signature was not that of their attempt.", k->forged);
	if (k->server)
		metric_counter(to, "assay_kubernetes_reports_crowded_total",
			"Connections to the attempt listener that were refused, since their address had as many as it "
			"may.",
			http_server_statistics(k->server).crowded);
	metric_counter(to, "assay_kubernetes_jobs_swept_total",
		"Jobs that were deleted because no row wanted them any more.", k->sweep.deleted);
	metric_counter(to, "assay_kubernetes_attempts_missed_total",
		"Attempts of which a list showed that their Job or pod had gone, or ended, unheard.", k->sweep.lost);
}

void kubernetes_write_metrics(const struct executor *executor, struct buffer *to)
{
	const struct kubernetes *k = CONTAINER_OF((struct executor *)executor, struct kubernetes, executor);
	metric_histogram(to, "assay_kubernetes_watch_lag_seconds",
		"From the API server's answer that a Job was made to the watch's telling of it; 0 where the watch was "
		"first.",
		lag_bounds, k->lag.buckets, KUBE_LAG_BUCKETS, k->lag.sum_s);
	write_watches(to, k);
	write_requests(to, k);
	write_attempts(to, k);
}

/* ---- what the doctor looks at ---- */

static void check(struct kubernetes *k, const char *what, enum executor_check_state state, const char *remedy,
	const char *format, ...) PRINTF_LIKE(5, 6);

static void check(struct kubernetes *k, const char *what, enum executor_check_state state, const char *remedy,
	const char *format, ...)
{
	struct executor_check *made = &k->checks[k->status.check_count++];
	va_list arguments;
	*made = (struct executor_check){ .state = state };
	snprintf(made->what, sizeof(made->what), "%s", what);
	snprintf(made->remedy, sizeof(made->remedy), "%s", state == EXECUTOR_CHECK_OK ? "" : remedy);
	va_start(arguments, format);
	vsnprintf(made->detail, sizeof(made->detail), format, arguments);
	va_end(arguments);
}

static bool is_about_rights(const struct err *err)
{
	return err->code == -EACCES || err->code == -EPERM;
}

static void check_server(struct kubernetes *k, const struct err *why)
{
	bool reached = !why || is_about_rights(why);
	check(k, "Kubernetes API", reached ? EXECUTOR_CHECK_OK : EXECUTOR_CHECK_MISSING,
		"look at ASSAY_KUBE_URL, ASSAY_KUBECONFIG or the pod's service account", "%s",
		reached ? kube_access_description(kube_client_access(k->client)) : why->message);
	if (!reached)
		return;
	bool refused = why || k->is_refused;
	check(k, "Kubernetes rights", refused ? EXECUTOR_CHECK_MISSING : EXECUTOR_CHECK_OK,
		"give the service account the rights that docs/OPERATIONS.md lists", "%s",
		why             ? why->message
		: k->is_refused ? k->detail
				: "nothing has been refused");
}

static void check_address(struct kubernetes *k)
{
	const char *address = kube_client_local_address(k->client);
	if (address[0] == '\0')
		check(k, "attempt listener", EXECUTOR_CHECK_OK, "",
			"pods will report to the address that the API server is reached from");
	else
		check(k, "attempt listener", EXECUTOR_CHECK_MISSING,
			"set ASSAY_ATTEMPT_ADDRESS to an IP address of this machine that pods reach",
			"the API server is reached from %s, where pods do not reach us", address);
}

void kubernetes_check(struct kubernetes *k, const struct err *why)
{
	const struct manifest_settings *manifest = &k->options.manifest;
	k->status.checks = k->checks;
	k->status.check_count = 0;
	check_server(k, why);
	if (k->reports)
		check(k, "attempt reports", k->reports_away ? EXECUTOR_CHECK_WARNING : EXECUTOR_CHECK_OK,
			"look at REDIS_URL: what pods report waits with them meanwhile",
			"pods report over the Redis at %s%s", k->listener, k->reports_away ? ", which is away" : "");
	else if (!k->server)
		check(k, "attempt listener", EXECUTOR_CHECK_WARNING,
			"set ASSAY_ATTEMPT_LISTEN, or what runs reports nothing but its end", "there is none");
	else if (listener_is_unknown(k))
		check_address(k);
	else
		check(k, "attempt listener", EXECUTOR_CHECK_OK, "", "pods report to %s", k->listener);
	check(k, "wrapper", EXECUTOR_CHECK_OK, "", "%s, of %s", manifest->wrapper_path,
		manifest->wrapper_image ? manifest->wrapper_image : "each evaluation's own image");
	check(k, "Job template", EXECUTOR_CHECK_OK, "", "%s",
		manifest->template.len > 0 ? "merged into each Job" : "none");
}
