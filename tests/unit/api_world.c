#include "api_world.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assay/bus.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "bus/local.h"
#include "executor/noop.h"
#include "store/sqlite/sqlite_store.h"
#include "task/language.h"

static const struct bus_notices bus_notices = { 0 };

#define PATIENCE_US (60 * US_PER_S)

static void bail(const char *what)
{
	printf("Bail out! waited in vain for %s\n", what);
	exit(1);
}

static void on_patience(uv_timer_t *timer)
{
	bail(timer->data);
}

/* Runs the loop until done(data). A timer gives it an end, so that it never sleeps for ever. */
static void run_until(struct world *world, bool (*done)(void *data), void *data, const char *what)
{
	uv_timer_t patience;
	patience.data = (void *)(uintptr_t)what;
	uv_timer_init(&world->loop, &patience);
	uv_timer_start(&patience, on_patience, PATIENCE_US / 1000, 0);
	while (!done(data))
		uv_run(&world->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&patience, NULL);
	while (uv_is_closing((uv_handle_t *)&patience) && uv_loop_alive(&world->loop)) {
		uv_run(&world->loop, UV_RUN_NOWAIT);
		break;
	}
}

static bool is_set(void *flag)
{
	return *(bool *)flag;
}

void world_run_until(struct world *world, const bool *flag, const char *what)
{
	run_until(world, is_set, (void *)(uintptr_t)flag, what);
}

/* ---- the scripted executor: a fake of the door ---- */

struct script {
	struct executor executor;
	struct executor_status status;
	const struct executor_listener *listener;
	void *owner;
	struct job *jobs[64];
	size_t count;
	uv_idle_t ending; /* reports come from the loop, never from within a call */
	struct job *cancelled[64];
	size_t cancelled_count;
};

static int script_start(
	struct executor *executor, const struct executor_listener *listener, void *owner, struct err *err)
{
	struct script *script = (struct script *)executor;
	script->listener = listener;
	script->owner = owner;
	return 0;
}

struct script_stop {
	uv_timer_t timer;
	struct script *script;
	void (*on_stopped)(void *owner);
	void *owner;
};

static void script_forget(struct script *script, struct job *job)
{
	for (size_t i = 0; i < script->count; i++)
		if (script->jobs[i] == job) {
			script->jobs[i] = script->jobs[--script->count];
			script->status.busy--;
			return;
		}
}

static void script_end(struct script *script, struct job *job, enum task_reason reason)
{
	struct job_end end = { .reason = reason, .at_us = clock_wall_us() };
	script_forget(script, job);
	script->listener->on_ended(script->owner, job, &end);
}

static void on_script_closed(uv_handle_t *handle)
{
	struct script_stop *stop = handle->data;
	stop->on_stopped(stop->owner);
	free(stop);
}

static void on_script_stop(uv_timer_t *timer)
{
	struct script_stop *stop = timer->data;
	while (stop->script->count > 0)
		script_end(stop->script, stop->script->jobs[0], REASON_EXECUTOR_LOST);
	uv_close((uv_handle_t *)timer, on_script_closed);
}

static uv_loop_t *script_loop; /* of the world of this test; one at a time */

static void script_stop(struct executor *executor, void (*on_stopped)(void *owner), void *owner)
{
	struct script_stop *stop = alloc(sizeof(*stop));
	stop->script = (struct script *)executor;
	stop->on_stopped = on_stopped;
	stop->owner = owner;
	stop->timer.data = stop;
	uv_timer_init(script_loop, &stop->timer);
	uv_timer_start(&stop->timer, on_script_stop, 0, 0);
}

static void script_free(struct executor *executor)
{
	free(executor);
}

static const struct executor_status *script_status(const struct executor *executor)
{
	return &((const struct script *)executor)->status;
}

static void script_run(struct executor *executor, struct job *const *jobs, size_t count)
{
	struct script *script = (struct script *)executor;
	for (size_t i = 0; i < count; i++) {
		if (script->count == ARRAY_SIZE(script->jobs))
			bail("room for jobs");
		script->jobs[script->count++] = jobs[i];
		script->status.busy++;
	}
}

static void script_proceed(struct executor *executor, struct job *job, bool go_on)
{
}

struct script_cancel {
	uv_timer_t timer;
	struct script *script;
	struct job *job;
};

static void on_cancel_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_script_cancel(uv_timer_t *timer)
{
	struct script_cancel *cancel = timer->data;
	for (size_t i = 0; i < cancel->script->count; i++)
		if (cancel->script->jobs[i] == cancel->job) {
			script_end(cancel->script, cancel->job, REASON_CANCELLED);
			break;
		}
	uv_close((uv_handle_t *)timer, on_cancel_closed);
}

static void script_cancel(struct executor *executor, struct job *job)
{
	struct script_cancel *cancel = alloc(sizeof(*cancel));
	cancel->script = (struct script *)executor;
	cancel->job = job;
	cancel->timer.data = cancel;
	uv_timer_init(script_loop, &cancel->timer);
	uv_timer_start(&cancel->timer, on_script_cancel, 0, 0);
}

static const struct executor_ops script_ops = {
	.start = script_start,
	.stop = script_stop,
	.free = script_free,
	.status = script_status,
	.run = script_run,
	.proceed = script_proceed,
	.cancel = script_cancel,
	.adopt = NULL,
};

static const struct executor_language script_languages[] = {
	{ BYTES_LITERAL("python"), true, BYTES_LITERAL("3"), BYTES_NONE },
	{ BYTES_LITERAL("c"), false, BYTES_NONE, BYTES_LITERAL("install gcc") },
};

static struct executor *script_new(int slots)
{
	struct script *script = alloc(sizeof(*script));
	script->executor.ops = &script_ops;
	script->status = (struct executor_status){
		.name = BYTES_LITERAL("script"),
		.health = EXECUTOR_HEALTHY,
		.detail = BYTES_LITERAL("a test says what it does"),
		.isolation = BYTES_LITERAL("none"),
		.slots = slots,
		.languages = script_languages,
		.language_count = ARRAY_SIZE(script_languages),
	};
	return &script->executor;
}

struct job_wait {
	struct script *script;
	size_t count;
};

static bool has_jobs(void *data)
{
	struct job_wait *wait = data;
	return wait->script->count >= wait->count;
}

struct job *world_job(struct world *world, size_t count)
{
	struct job_wait wait = { (struct script *)world->executor, count };
	run_until(world, has_jobs, &wait, "a job");
	return wait.script->jobs[wait.script->count - 1];
}

void job_started(struct world *world, struct job *job)
{
	struct script *script = (struct script *)world->executor;
	struct job_started started = { .at_us = clock_wall_us() };
	script->listener->on_started(script->owner, job, &started);
}

void job_output(struct world *world, struct job *job, int stream, const char *text, size_t len)
{
	struct script *script = (struct script *)world->executor;
	script->listener->on_output(script->owner, job, STEP_RUN, 0, stream, (struct bytes){ text, len });
}

void job_end(struct world *world, struct job *job, int exit_code)
{
	struct script *script = (struct script *)world->executor;
	struct step_end end = {
		.kind = STEP_RUN,
		.reason = exit_code ? REASON_EXIT_CODE : REASON_NONE,
		.exit_code = exit_code,
		.usage = { 1000, 1000, 1 << 20 },
		.at_us = clock_wall_us(),
	};
	script->listener->on_step_ended(script->owner, job, &end);
	script_end(script, job, REASON_NONE);
}

void job_lose(struct world *world, struct job *job, enum task_reason reason)
{
	script_end((struct script *)world->executor, job, reason);
}

/* ---- a store that can be away: a fake of the door before the real one, for what the API reads ---- */

struct fickle {
	struct store store;
	struct world *world;
};

struct refusal {
	uv_timer_t timer;
	struct store_operation *operation;
};

static void on_refusal_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_refusal(uv_timer_t *timer)
{
	struct refusal *refusal = timer->data;
	refusal->operation->outcome = STORE_AWAY;
	uv_close((uv_handle_t *)timer, on_refusal_closed);
	refusal->operation->done(refusal->operation);
}

static void refuse(struct world *world, struct store_operation *operation)
{
	struct refusal *refusal = alloc(sizeof(*refusal));
	refusal->operation = operation;
	refusal->timer.data = refusal;
	uv_timer_init(&world->loop, &refusal->timer);
	uv_timer_start(&refusal->timer, on_refusal, 0, 0);
}

#define FICKLE(operation_kind) \
	static void fickle_##operation_kind(struct store *store, struct operation_kind *operation) \
	{ \
		struct world *world = ((struct fickle *)store)->world; \
		if (world->away) \
			refuse(world, &operation->operation); \
		else \
			world->store->ops->operation_kind(world->store, operation); \
	}
FICKLE(read_task)
FICKLE(read_match)
FICKLE(read_list)
FICKLE(read_output)
FICKLE(read_position)
FICKLE(read_counts)

/* What followers read is counted while it is on its way. */
struct reading {
	struct world *world;
	void (*done)(struct store_operation *operation);
	void *owner;
};

static void on_read(struct store_operation *operation)
{
	struct reading *reading = operation->owner;
	struct world *world = reading->world;
	operation->done = reading->done;
	operation->owner = reading->owner;
	free(reading);
	operation->done(operation); /* which may begin the next */
	world->reading--;
}

static void fickle_read_events(struct store *store, struct read_events *read)
{
	struct world *world = ((struct fickle *)store)->world;
	if (world->away) {
		refuse(world, &read->operation);
		return;
	}
	struct reading *reading = alloc(sizeof(*reading));
	*reading = (struct reading){ world, read->operation.done, read->operation.owner };
	read->operation.done = on_read;
	read->operation.owner = reading;
	world->reading++;
	world->store->ops->read_events(world->store, read);
}

static void fickle_follow_events(struct store *store, bool wanted)
{
	struct world *world = ((struct fickle *)store)->world;
	world->store->ops->follow_events(world->store, wanted);
}

static void fickle_follow_output(struct store *store, const struct uuid *id)
{
	struct world *world = ((struct fickle *)store)->world;
	world->store->ops->follow_output(world->store, id);
}

static void fickle_status(const struct store *store, struct store_status *ret_status)
{
	struct world *world = ((const struct fickle *)store)->world;
	world->store->ops->status(world->store, ret_status);
	ret_status->cursors_final = !world->cursors_not_final;
	if (world->away) {
		ret_status->available = false;
		err_set(&ret_status->err, -EHOSTDOWN, "it is away");
	}
}

static const struct store_ops fickle_ops = {
	.status = fickle_status,
	.follow_events = fickle_follow_events,
	.follow_output = fickle_follow_output,
	.read_task = fickle_read_task,
	.read_match = fickle_read_match,
	.read_list = fickle_read_list,
	.read_events = fickle_read_events,
	.read_output = fickle_read_output,
	.read_position = fickle_read_position,
	.read_counts = fickle_read_counts,
};

static struct store *fickle_new(struct world *world)
{
	struct fickle *fickle = alloc(sizeof(*fickle));
	fickle->store.ops = &fickle_ops;
	fickle->world = world;
	return &fickle->store;
}

/* ---- the world ---- */

static void on_ready(void *owner)
{
	struct world *world = owner;
	world->ready = true;
}

struct world *world_new(const struct world_options *options)
{
	struct world *world = alloc(sizeof(*world));
	struct err err = { 0 };
	const char *temporary = getenv("TMPDIR");
	snprintf(world->directory, sizeof(world->directory), "%.40s/assay-api-XXXXXX", temporary ? temporary : "/tmp");
	if (!mkdtemp(world->directory))
		bail("a directory");
	uv_loop_init(&world->loop);
	script_loop = &world->loop;
	world->log = (struct log){ .fd = STDERR_FILENO, .level = LOG_WARNING };
	if (languages_parse(languages_builtin(), "built in", &world->languages, &err) < 0)
		bail(err.message);
	static const char *const any_image[] = { "*" };
	world->limits = (struct evaluation_limits){
		.source_max = 2 << 20,
		.timeout_max_us = 3600 * US_PER_S,
		.memory_max = INT64_C(64) << 30,
		.cpu_max = 64000,
		.max_attempts_max = 25,
		.max_attempts_default = 3,
		.priority_default = 5,
		.timeout_default_us = 300 * US_PER_S,
		.images = any_image,
		.image_count = 1,
	};
	world->store = sqlite_store_new(&(struct sqlite_store_options){
		.directory = world->directory, .loop = &world->loop, .log = &world->log });
	world->cursors_not_final = options->cursors_not_final;
	world->reads = fickle_new(world);
	world->bus = local_bus_new(&world->loop);
	world->executor = script_new(options->slots == 0 ? 2 : options->slots < 0 ? 0 : options->slots);
	world->internal = noop_executor_new(&world->loop, 4);
	if (world->bus->ops->start(world->bus, &bus_notices, NULL, &err) < 0)
		bail(err.message);
	world->coordinator = coordinator_new(&(struct coordinator_options){
		.loop = &world->loop,
		.log = &world->log,
		.store = world->store,
		.bus = world->bus,
		.executors = &world->executor,
		.executor_count = 1,
		.internal = world->internal,
		.languages = world->languages,
		.ids = &world->ids,
		.replica = "test",
		.settings = {
			.heartbeat_us = 5 * US_PER_S,
			.lease_us = 15 * US_PER_S,
			.retry = { 1, 10 },
			.queue_max = options->queue_max,
			.output_kept = 1 << 20,
			.disk_bytes = 256 << 20,
			.processes = 64,
			.total_timeout_us = 3600 * US_PER_S,
			.embedded = true,
		},
		.on_ready = on_ready,
		.owner = world,
	});
	struct api_options api_options = {
		.loop = &world->loop,
		.log = &world->log,
		.coordinator = world->coordinator,
		.store = world->reads,
		.bus = world->bus,
		.executors = &world->executor,
		.executor_count = 1,
		.ids = &world->ids,
		.evaluation_limits = &world->limits,
		.settings = options->settings,
		.access = options->access,
	};
	if (!options->tokens && options->access.anonymous_role == ROLE_NONE)
		api_options.access.open = true;
	if (api_new(&api_options, &world->api, &err) < 0)
		bail(err.message);
	if (options->tokens && api_load_tokens(world->api, bytes_of(options->tokens), &err) < 0)
		bail(err.message);
	world->server = http_server_new(&(struct http_server_options){
		.loop = &world->loop,
		.log = &world->log,
		.owner = world->api,
		.body_limit = api_body_limit,
		.on_request = api_on_request,
		.limits = { .write_timeout_ms = 600000 }, /* a test's client may take its time */
	});
	api_set_http_server(world->api, world->server);
	if (coordinator_start(world->coordinator, &err) < 0)
		bail(err.message);
	world_run_until(world, &world->ready, "the coordinator");
	if (http_server_listen(world->server, "127.0.0.1", 0, &world->port, &err) < 0)
		bail(err.message);
	return world;
}

static void on_stopped(void *owner)
{
	struct world *world = owner;
	world->stopped = true;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *ftw)
{
	return remove(path);
}

void world_free(struct world *world)
{
	api_drain(world->api);
	http_server_stop(world->server, on_stopped, world);
	http_server_abort(world->server);
	world_run_until(world, &world->stopped, "the server's end");
	http_server_free(world->server);
	api_set_http_server(world->api, NULL);
	world->stopped = false;
	coordinator_stop(world->coordinator, 0, on_stopped, world);
	world_run_until(world, &world->stopped, "the coordinator's end");
	world->stopped = false;
	api_free(world->api, on_stopped, world);
	world_run_until(world, &world->stopped, "the api's end");
	coordinator_free(world->coordinator);
	world->stopped = false;
	world->bus->ops->stop(world->bus, on_stopped, world);
	world_run_until(world, &world->stopped, "the bus's end");
	world->store->ops->free(world->store);
	free(world->reads);
	world->bus->ops->free(world->bus);
	world->executor->ops->free(world->executor);
	world->internal->ops->free(world->internal);
	languages_free(world->languages);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&world->loop) != 0)
		bail("all handles to be closed");
	nftw(world->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(world);
}

/* ---- clients ---- */

struct client {
	struct world *world;
	uv_tcp_t tcp;
	uv_connect_t connect;
	struct buffer received;
	char slab[65536];
	bool connected, closed, freed;
	size_t had; /* before a wait for more */
	const char *wanted;
};

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *ret_buf)
{
	struct client *client = handle->data;
	*ret_buf = uv_buf_init(client->slab, sizeof(client->slab));
}

static void on_data(uv_stream_t *stream, ssize_t count, const uv_buf_t *buf)
{
	struct client *client = stream->data;
	if (count < 0) {
		client->closed = true;
		uv_read_stop(stream);
		return;
	}
	buffer_append(&client->received, buf->base, (size_t)count);
}

static void on_connected(uv_connect_t *connect, int status)
{
	struct client *client = connect->data;
	if (status < 0)
		bail("a connection");
	client->connected = true;
	uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_data);
}

struct client *client_new(struct world *world)
{
	struct client *client = alloc(sizeof(*client));
	struct sockaddr_in address;
	client->world = world;
	client->tcp.data = client->connect.data = client;
	uv_tcp_init(&world->loop, &client->tcp);
	uv_ip4_addr("127.0.0.1", world->port, &address);
	uv_tcp_connect(&client->connect, &client->tcp, (const struct sockaddr *)&address, on_connected);
	world_run_until(world, &client->connected, "a connection");
	return client;
}

struct written {
	uv_write_t write;
	bool done;
	char *data;
};

static void on_written(uv_write_t *write, int status)
{
	struct written *written = write->data;
	free(written->data);
	free(written);
}

void client_send(struct client *client, const void *data, size_t len)
{
	struct written *written = alloc(sizeof(*written));
	written->data = alloc(len + 1);
	memcpy(written->data, data, len);
	written->write.data = written;
	uv_buf_t buf = uv_buf_init(written->data, (unsigned)len);
	uv_write(&written->write, (uv_stream_t *)&client->tcp, &buf, 1, on_written);
}

void client_sendf(struct client *client, const char *format, ...)
{
	char text[8192];
	va_list arguments;
	va_start(arguments, format);
	int len = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	client_send(client, text, (size_t)len);
}

const char *client_text(struct client *client)
{
	buffer_append(&client->received, "", 1);
	client->received.len--;
	return client->received.data;
}

size_t client_received(const struct client *client)
{
	return client->received.len;
}

static bool has_text(void *data)
{
	struct client *client = data;
	if (memmem(client_text(client), client->received.len, client->wanted, strlen(client->wanted)))
		return true;
	if (client->closed) {
		printf("# received: %.2000s\n", client_text(client));
		bail(client->wanted);
	}
	return false;
}

void client_wait(struct client *client, const char *text)
{
	client->wanted = text;
	run_until(client->world, has_text, client, text);
}

static bool has_more(void *data)
{
	struct client *client = data;
	return client->received.len > client->had || client->closed;
}

void client_wait_more(struct client *client)
{
	client->had = client->received.len;
	run_until(client->world, has_more, client, "more from a connection");
	if (client->received.len == client->had)
		bail("a connection that is not closed");
}

void client_wait_closed(struct client *client)
{
	world_run_until(client->world, &client->closed, "the end of a connection");
}

void client_pause(struct client *client, bool pause)
{
	if (pause)
		uv_read_stop((uv_stream_t *)&client->tcp);
	else
		uv_read_start((uv_stream_t *)&client->tcp, on_alloc, on_data);
}

static void on_client_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;
	client->freed = true;
}

void client_free(struct client *client)
{
	uv_close((uv_handle_t *)&client->tcp, on_client_closed);
	world_run_until(client->world, &client->freed, "the end of a client");
	buffer_fini(&client->received);
	free(client);
}

/* ---- one request ---- */

static struct answer answer_parse(struct client *client, bool head_request)
{
	struct answer answer = { 0 };
	char *text = string_copy(client_text(client));
	char *end = memmem(client->received.data, client->received.len, "\r\n\r\n", 4);
	if (!end || sscanf(text, "HTTP/1.1 %d", &answer.status) != 1)
		bail("an answer");
	free(text);
	size_t head_len = (size_t)(end - client->received.data) + 4;
	answer.head = alloc(head_len + 1);
	memcpy(answer.head, client->received.data, head_len);
	struct buffer body = BUFFER_MAX(0);
	const char *at = client->received.data + head_len, *last = client->received.data + client->received.len;
	if (strcasestr(answer.head, "Transfer-Encoding: chunked") && !head_request) {
		while (at < last) {
			char *line_end;
			size_t len = strtoul(at, &line_end, 16);
			at = line_end + 2;
			if (len == 0)
				break;
			buffer_append(&body, at, len);
			at += len + 2;
		}
	} else {
		buffer_append(&body, at, (size_t)(last - at));
	}
	answer.body_len = body.len;
	buffer_append(&body, "", 1);
	answer.body = body.data;
	return answer;
}

struct answer request_bytes(
	struct world *world, const char *method, const char *path, const char *headers, const char *body, size_t len)
{
	struct client *client = client_new(world);
	client_sendf(client, "%s %s HTTP/1.1\r\n%s%sConnection: close\r\n", method, path,
		strcasestr(headers, "host:") ? "" : "Host: localhost\r\n", headers);
	if (body)
		client_sendf(client, "Content-Length: %zu\r\n", len);
	client_send(client, "\r\n", 2);
	if (body)
		client_send(client, body, len);
	client_wait_closed(client);
	struct answer answer = answer_parse(client, strcmp(method, "HEAD") == 0);
	client_free(client);
	return answer;
}

struct answer request(struct world *world, const char *method, const char *path, const char *headers, const char *body)
{
	return request_bytes(world, method, path, headers, body, body ? strlen(body) : 0);
}

void answer_free(struct answer *answer)
{
	free(answer->head);
	free(answer->body);
	*answer = (struct answer){ 0 };
}

bool answer_has(const struct answer *answer, const char *text)
{
	if (memmem(answer->body, answer->body_len, text, strlen(text)))
		return true;
	printf("# status %d, body: %.1500s\n", answer->status, answer->body);
	return false;
}

const char *answer_member(const struct answer *answer, const char *name)
{
	static char values[8][512];
	static int turn;
	char key[80];
	char *value = values[turn++ % 8];
	snprintf(key, sizeof(key), "\"%s\":\"", name);
	const char *at = strstr(answer->body, key);
	*value = 0;
	if (at)
		sscanf(at + strlen(key), "%511[^\"]", value);
	return value;
}
