/* GET /health: the process lives. GET /readyz: may work be sent here. GET /coordinator/health: how are the parts.
 *
 * A durable queue takes work while a bus or an executor is away: that is `degraded`, and ready all the same. */
#include "api/handlers.h"
#include "api/problem.h"
#include "api/state.h"
#include "base/clock.h"
#include "coordinator/coordinator.h"

void handle_health(struct call *call)
{
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "status", BYTES_LITERAL("healthy"));
	json_member_string(&json, "version", BYTES_LITERAL(ASSAY_VERSION));
	json_member_double(&json, "uptime_seconds", (double)(clock_wall_us() - call->api->started_at_us) / 1e6);
	json_object_end(&json);
	call_respond_json(call, 200);
}

/* ---- the parts ---- */

static const char *health_word(enum executor_health health)
{
	switch (health) {
	case EXECUTOR_HEALTHY:
		return "healthy";
	case EXECUTOR_DEGRADED:
		return "degraded";
	case EXECUTOR_UNAVAILABLE:
		break;
	}
	return "unavailable";
}

static const char *phase_word(enum coordinator_phase phase)
{
	static const char *const words[] = {
		[COORDINATOR_STARTING] = "starting",
		[COORDINATOR_RUNNING] = "running",
		[COORDINATOR_CUT_OFF] = "cut_off",
		[COORDINATOR_DRAINING] = "draining",
		[COORDINATOR_STOPPED] = "stopped",
	};
	return words[phase];
}

struct parts {
	struct store_status store;
	struct bus_status bus;
	enum coordinator_phase phase;
	bool serves; /* work is taken */
	bool degraded;
	int usable_executors;
};

static void look(struct api *api, struct parts *parts)
{
	*parts = (struct parts){ 0 };
	api->store->ops->status(api->store, &parts->store);
	api->bus->ops->status(api->bus, &parts->bus);
	parts->phase = coordinator_phase(api->coordinator);
	parts->serves = parts->store.available && !parts->store.schema_wrong && !api->draining &&
			(parts->phase == COORDINATOR_RUNNING || parts->phase == COORDINATOR_CUT_OFF);
	parts->degraded = !parts->bus.healthy || parts->phase == COORDINATOR_CUT_OFF;
	for (size_t i = 0; i < api->executor_count; i++) {
		enum executor_health health = api->executors[i]->ops->status(api->executors[i])->health;
		parts->degraded |= health != EXECUTOR_HEALTHY;
		parts->usable_executors += health != EXECUTOR_UNAVAILABLE;
	}
}

static void write_store(struct json *json, const struct store_status *store)
{
	json_key(json, "store");
	json_object(json);
	json_member_string(json, "kind", bytes_of(store->kind));
	json_member_string(json, "status",
		store->schema_wrong ? BYTES_LITERAL("schema_wrong")
		: store->available  ? BYTES_LITERAL("healthy")
				    : BYTES_LITERAL("away"));
	json_member_string(json, "description", bytes_of(store->description));
	if (!store->available && store->err.code)
		json_member_string(json, "error", bytes_of(store->err.message));
	json_object_end(json);
}

static void write_bus(struct json *json, const struct bus_status *bus)
{
	json_key(json, "bus");
	json_object(json);
	json_member_string(json, "kind", bytes_of(bus->kind));
	json_member_string(json, "status", bus->healthy ? BYTES_LITERAL("healthy") : BYTES_LITERAL("degraded"));
	json_member_string(json, "description", bytes_of(bus->description));
	if (!bus->healthy && bus->err.code)
		json_member_string(json, "error", bytes_of(bus->err.message));
	json_object_end(json);
}

static void write_languages(struct json *json, const struct executor_status *status)
{
	json_key(json, "languages");
	json_array(json);
	for (size_t i = 0; i < status->language_count; i++) {
		const struct executor_language *language = &status->languages[i];
		json_object(json);
		json_member_string(json, "name", language->name);
		json_member_bool(json, "available", language->available);
		json_member_string(json, "version", language->version);
		if (!language->available)
			json_member_string(json, "remedy", language->remedy);
		json_object_end(json);
	}
	json_array_end(json);
}

static void write_executors(struct json *json, const struct api *api)
{
	json_key(json, "executors");
	json_array(json);
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		json_object(json);
		json_member_string(json, "name", status->name);
		json_member_string(json, "status", bytes_of(health_word(status->health)));
		json_member_string(json, "detail", status->detail);
		json_member_string(json, "isolation", status->isolation);
		json_member_int(json, "slots", status->slots);
		json_member_int(json, "busy", status->busy);
		write_languages(json, status);
		json_object_end(json);
	}
	json_array_end(json);
}

static void write_check(
	struct json *json, const char *name, const char *state, struct bytes detail, struct bytes remedy)
{
	json_object(json);
	json_member_string(json, "name", bytes_of(name));
	json_member_string(json, "state", bytes_of(state));
	json_member_string(json, "detail", detail);
	if (remedy.len)
		json_member_string(json, "remedy", remedy);
	json_object_end(json);
}

/* What `assay doctor` shows: the store, the bus, and what each executor has looked at. */
static void write_checks(struct json *json, const struct api *api, const struct parts *parts)
{
	static const char *const states[] = { "ok", "warning", "error" };
	bool store_serves = parts->store.available && !parts->store.schema_wrong;
	json_key(json, "checks");
	json_array(json);
	write_check(json, "store", store_serves ? "ok" : "error",
		bytes_of(store_serves ? parts->store.description : parts->store.err.message), BYTES_NONE);
	write_check(json, "bus", parts->bus.healthy ? "ok" : "warning",
		bytes_of(parts->bus.healthy ? parts->bus.description : parts->bus.err.message), BYTES_NONE);
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		for (size_t j = 0; j < status->check_count; j++) {
			const struct executor_check *check = &status->checks[j];
			/* A language that is not installed is no error of the service. */
			const char *state = check->language && check->state == EXECUTOR_CHECK_MISSING
						    ? "warning"
						    : states[check->state];
			write_check(json, check->what, state, bytes_of(check->detail), bytes_of(check->remedy));
		}
	}
	json_array_end(json);
}

/* The names of what does not serve as it should. */
static void write_degraded(struct json *json, const struct api *api, const struct parts *parts)
{
	json_key(json, "degraded");
	json_array(json);
	if (!parts->store.available || parts->store.schema_wrong)
		json_string(json, BYTES_LITERAL("store"));
	if (!parts->bus.healthy)
		json_string(json, BYTES_LITERAL("bus"));
	if (parts->phase == COORDINATOR_CUT_OFF)
		json_string(json, BYTES_LITERAL("coordinator"));
	for (size_t i = 0; i < api->executor_count; i++) {
		const struct executor_status *status = api->executors[i]->ops->status(api->executors[i]);
		if (status->health != EXECUTOR_HEALTHY)
			json_string(json, status->name);
	}
	json_array_end(json);
}

void handle_ready(struct call *call)
{
	struct api *api = call->api;
	struct parts parts;
	look(api, &parts);
	const char *status = api->draining || parts.phase == COORDINATOR_DRAINING ? "draining"
			     : !parts.serves                                      ? "unavailable"
			     : parts.degraded                                     ? "degraded"
										  : "ready";
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "status", bytes_of(status));
	write_degraded(&json, api, &parts);
	/* Anybody may ask whether; how, with paths, programs and causes, is told to whom the service knows. */
	if (access_identify(api->access, call->request, &call->who) == ACCESS_KNOWN) {
		write_store(&json, &parts.store);
		write_bus(&json, &parts.bus);
		write_executors(&json, api);
		write_checks(&json, api, &parts);
	}
	json_object_end(&json);
	call_respond_json(call, parts.serves ? 200 : 503);
}

void handle_coordinator_health(struct call *call)
{
	struct api *api = call->api;
	struct parts parts;
	look(api, &parts);
	bool can_run = parts.serves && parts.usable_executors > 0;
	const struct coordinator_statistics *statistics = coordinator_statistics(api->coordinator);
	struct buffer *buffer = call_buffer(call);
	struct json json = JSON_TO(buffer);
	json_object(&json);
	json_member_string(&json, "status",
		!can_run         ? BYTES_LITERAL("unhealthy")
		: parts.degraded ? BYTES_LITERAL("degraded")
				 : BYTES_LITERAL("healthy"));
	write_degraded(&json, api, &parts);
	json_key(&json, "coordinator");
	json_object(&json);
	json_member_string(&json, "phase", bytes_of(phase_word(parts.phase)));
	json_member_string(&json, "replica", bytes_of(coordinator_locked_by(api->coordinator)));
	json_member_time(&json, "heartbeat_at", statistics->heartbeat_at_us);
	json_member_int(&json, "waiting", statistics->waiting);
	json_member_int(&json, "running", statistics->running);
	json_member_time(&json, "oldest_waiting_at", statistics->oldest_waiting_at_us);
	json_object_end(&json);
	write_store(&json, &parts.store);
	write_bus(&json, &parts.bus);
	write_executors(&json, api);
	json_object_end(&json);
	call_respond_json(call, can_run ? 200 : 503);
}
