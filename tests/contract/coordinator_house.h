/* The coordinator on real doors, for its tests: a store, the local bus, the noop executor and one that does what the
 * test says. */
#ifndef ASSAY_TESTS_CONTRACT_COORDINATOR_HOUSE_H
#define ASSAY_TESTS_CONTRACT_COORDINATOR_HOUSE_H

#include <ftw.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "bus/local.h"
#include "coordinator/coordinator.h"
#include "crossed_store.h"
#include "executor/noop.h"
#include "house_store.h"
#include "scripted_executor.h"
#include "task/forms.h"

#define DEADLINE_MS 100000

struct house {
	char directory[64];
	uv_loop_t loop;
	struct log log;
	struct uuid_generator ids;
	struct languages *languages;
	struct store *store;
	struct bus *bus; /* the local one unless the test has put another there before */
	struct executor *noop;
	struct scripted_executor scripted;
	struct crossed_store crossed; /* what the coordinator has for its store */
	struct executor *executors[2];
	struct coordinator *coordinator;
	struct bus_subscriber subscriber;
	uv_timer_t deadline;
	bool replicated; /* one of several, as far as it knows */
	int parallel_submits; /* 0: as the store says */
	const struct tenants *tenants;
	bool ready, stopped, late;
	size_t events[EVENT_KIND_COUNT];
	size_t flushed;
	struct uuid last_ended;
};

static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	return remove(path);
}

static inline void on_events(void *owner, const struct event *events, size_t count)
{
	struct house *house = owner;
	for (size_t i = 0; i < count; i++) {
		house->events[events[i].kind]++;
		if (events[i].kind >= EVENT_COMPLETED)
			house->last_ended = events[i].task_id;
	}
	uv_stop(&house->loop);
}

static inline void on_ready(void *owner)
{
	struct house *house = owner;
	house->ready = true;
	uv_stop(&house->loop);
}

static inline void on_deadline(uv_timer_t *timer)
{
	((struct house *)timer->data)->late = true;
	uv_stop(timer->loop);
}

#define WAIT(house, condition) \
	do { \
		while (!(condition) && !(house)->late) \
			uv_run(&(house)->loop, UV_RUN_DEFAULT); \
		REQUIRE(condition); \
	} while (0)

/* All but the wait until it is ready. */
static inline void house_begin(struct house *house, int noop_slots, struct coordinator_settings settings)
{
	struct err err = { 0 };
	if (!house->bus)
		uv_loop_init(&house->loop);
	house->log = (struct log){ .fd = STDERR_FILENO, .level = LOG_ERROR };
	house->ready = house->stopped = house->late = false;
	REQUIRE(languages_parse(languages_builtin(), "built-in", &house->languages, &err) == 0);
	house->store = &house->crossed.store;
	crossed_init(&house->crossed, &house->loop, house_store_new(&house->loop, &house->log, house->directory));
	house->crossed.parallel_submits = house->parallel_submits;
	if (!house->bus)
		house->bus = local_bus_new(&house->loop);
	house->noop = noop_executor_new(&house->loop, noop_slots);
	scripted_init(&house->scripted, &house->loop, 2);
	house->executors[0] = house->noop;
	house->executors[1] = &house->scripted.executor;
	if (!settings.heartbeat_us)
		settings.heartbeat_us = 5 * US_PER_S;
	if (!settings.lease_us)
		settings.lease_us = 3 * settings.heartbeat_us;
	if (!settings.retry.cap)
		settings.retry = (struct retry_policy){ .base_us = 30 * US_PER_S, .cap = 10 };
	settings.output_kept = 1 << 20;
	settings.embedded = house_store_is_embedded() && !house->replicated;
	const struct coordinator_options options = {
		.loop = &house->loop,
		.log = &house->log,
		.store = house->store,
		.bus = house->bus,
		.executors = house->executors,
		.executor_count = 2,
		.internal = house->noop,
		.languages = house->languages,
		.tenants = house->tenants,
		.ids = &house->ids,
		.replica = "test",
		.settings = settings,
		.on_ready = on_ready,
		.owner = house,
	};
	house->coordinator = coordinator_new(&options);
	uv_timer_init(&house->loop, &house->deadline);
	house->deadline.data = house;
	uv_timer_start(&house->deadline, on_deadline, DEADLINE_MS, 0);
	house->subscriber = (struct bus_subscriber){ .on_events = on_events, .owner = house };
	house->bus->ops->subscribe(house->bus, &house->subscriber);
	REQUIRE(coordinator_start(house->coordinator, &err) == 0);
}

static inline void house_open(struct house *house, int noop_slots, struct coordinator_settings settings)
{
	house_begin(house, noop_slots, settings);
	WAIT(house, house->ready);
}

static inline void on_stopped(void *owner)
{
	struct house *house = owner;
	house->stopped = true;
	uv_stop(&house->loop);
}

static inline void house_stopped(struct house *house)
{
	WAIT(house, house->stopped);
	house->bus->ops->unsubscribe(house->bus, &house->subscriber);
	house->bus->ops->stop(house->bus, on_stopped, house);
	uv_close((uv_handle_t *)&house->deadline, NULL);
	uv_run(&house->loop, UV_RUN_DEFAULT);
	uv_run(&house->loop, UV_RUN_DEFAULT);
	coordinator_free(house->coordinator);
	house->noop->ops->free(house->noop);
	house->bus->ops->free(house->bus);
	house->bus = NULL;
	house->store->ops->free(house->store);
	languages_free(house->languages);
	CHECK_INT(uv_loop_close(&house->loop), 0);
}

static inline void house_close(struct house *house)
{
	coordinator_stop(house->coordinator, 0, on_stopped, house);
	CHECK(!house->stopped);
	house_stopped(house);
}

static inline struct house *house_new(int noop_slots, struct coordinator_settings settings)
{
	struct house *house = alloc(sizeof(*house));
	snprintf(house->directory, sizeof(house->directory), "/tmp/assay-test-XXXXXX");
	REQUIRE(mkdtemp(house->directory));
	house_open(house, noop_slots, settings);
	return house;
}

static inline void house_free(struct house *house)
{
	house_close(house);
	nftw(house->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(house);
}

static inline struct bytes normal_params(struct arena *arena)
{
	static const char file_content[] = "print(1)";
	struct buffer text = { 0 };
	const struct job_file file = { .path = BYTES_LITERAL(""),
		.content = { file_content, sizeof(file_content) - 1 } };
	const struct evaluation evaluation = {
		.language = BYTES_LITERAL("python"),
		.files = &file,
		.file_count = 1,
		.timeout_us = 10 * US_PER_S,
		.memory_bytes = 64 << 20,
		.cpu_millis = 500,
	};
	evaluation_write(&evaluation, &text);
	struct bytes kept = arena_bytes(arena, buffer_bytes(&text));
	buffer_fini(&text);
	return kept;
}

static inline struct submission submission_of(struct house *house, struct arena *arena)
{
	return (struct submission){
		.id = uuid_new(&house->ids),
		.tenant = BYTES_LITERAL("default"),
		.type = BYTES_LITERAL("evaluation"),
		.queue = BYTES_LITERAL("default"),
		.executor = BYTES_LITERAL("noop"),
		.priority = 5,
		.max_attempts = 3,
		.params = normal_params(arena),
	};
}

struct answer {
	struct admission admission;
	struct house *house;
	bool done;
};

static inline void on_admitted(struct admission *admission)
{
	struct answer *answer = admission->owner;
	answer->done = true;
	uv_stop(&answer->house->loop);
}

/* Hands submissions in and waits for the answer. */
static inline void admit(
	struct house *house, struct submission *submissions, struct admission_result *results, size_t count)
{
	struct answer answer = {
		.admission = { .submissions = submissions, .count = count, .results = results, .done = on_admitted },
		.house = house,
	};
	answer.admission.owner = &answer;
	coordinator_admit(house->coordinator, &answer.admission);
	CHECK(!answer.done);
	WAIT(house, answer.done);
	admission_fini(&answer.admission);
}

static inline void on_operation(struct store_operation *operation)
{
	uv_stop(operation->owner);
	operation->kind = -1;
}

static inline enum task_status row_status(struct house *house, const struct uuid *id)
{
	struct read_task read = { .operation = { .done = on_operation, .owner = &house->loop }, .ids = id, .count = 1 };
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.operation.outcome == STORE_OK && read.results[0]);
	enum task_status status = read.results[0]->status;
	store_operation_fini(&read.operation);
	return status;
}

static inline enum command_status command(struct house *house, enum command_kind kind, const struct uuid *id)
{
	struct store_command command = {
		.operation = { .done = on_operation, .owner = &house->loop },
		.kind = kind,
		.ids = id,
		.count = 1,
		.at_us = clock_wall_us(),
	};
	coordinator_command(house->coordinator, &command);
	WAIT(house, command.operation.kind == -1);
	REQUIRE(command.operation.outcome == STORE_OK && command.result_count == 1);
	enum command_status status = command.results[0].status;
	store_operation_fini(&command.operation);
	return status;
}

static inline struct uuid admit_scripted(struct house *house, struct arena *arena, struct bytes task_params)
{
	struct submission submission = submission_of(house, arena);
	struct admission_result result;
	submission.executor = BYTES_LITERAL("scripted");
	if (task_params.data)
		submission.params = task_params;
	admit(house, &submission, &result, 1);
	REQUIRE(result.status == ADMISSION_CREATED);
	return result.id;
}

/* Own rows are looked for from now on: as after an outage. */
static inline void look_for_own_rows(struct house *house)
{
	house->crossed.notices.on_available(house->crossed.listener, true, NULL);
}

/* White space between the parts of JSON is the store's own. */
static inline struct bytes json_squeezed(struct arena *arena, struct bytes json)
{
	char *to = arena_alloc(arena, json.len + 1);
	size_t length = 0;
	bool quoted = false;
	for (size_t i = 0; i < json.len; i++) {
		if (json.data[i] == '"' && (i == 0 || json.data[i - 1] != '\\'))
			quoted = !quoted;
		if (quoted || json.data[i] != ' ')
			to[length++] = json.data[i];
	}
	return (struct bytes){ json.data ? to : NULL, length };
}

static inline struct bytes row_form(struct house *house, const struct uuid *id, struct arena *arena)
{
	struct read_task read = { .operation = { .done = on_operation, .owner = &house->loop }, .ids = id, .count = 1 };
	house->store->ops->read_task(house->store, &read);
	WAIT(house, read.operation.kind == -1);
	REQUIRE(read.results[0]);
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	form_status(&json, read.results[0]);
	struct bytes status = arena_bytes(arena, buffer_bytes(&text));
	buffer_fini(&text);
	store_operation_fini(&read.operation);
	return status;
}

static inline bool holds(struct bytes text, const char *part)
{
	bool found = text.data && memmem(text.data, text.len, part, strlen(part));
	if (!found)
		printf("# %s is not in %.*s\n", part, (int)text.len, text.data ? text.data : "");
	return found;
}

#endif
