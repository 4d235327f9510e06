/* Streams: events and logs, from the beginning, from a cursor, slow clients, ends. */
#include "api_world.h"
#include "test.h"

#define GET_STREAM(client, path, headers) \
	client_sendf(client, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path, headers)

static void submit(struct world *world, const char *body, char name[static 64])
{
	struct answer answer = request(world, "POST", "/execute", JSON_TYPE, body);
	REQUIRE(answer.status == 201);
	snprintf(name, 64, "%s", answer_member(&answer, "job_name"));
	answer_free(&answer);
}

static size_t count_of(const char *text, const char *what)
{
	size_t count = 0;
	while ((text = strstr(text, what))) {
		count++;
		text += strlen(what);
	}
	return count;
}

/* Runs the loop until the last request of another client was answered, and followers read nothing: what was started before has been
 * seen. */
static void settle(struct world *world)
{
	for (int i = 0; i < 2; i++) {
		struct answer answer = request(world, "GET", "/tasks?limit=1", "", NULL);
		answer_free(&answer);
		while (world->reading > 0)
			uv_run(&world->loop, UV_RUN_ONCE);
	}
}

TEST(events_of_a_task_to_its_end)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	char name[64], path[128];
	submit(world, "{\"code\":\"1\"}", name);
	struct job *job = world_job(world, 1);
	snprintf(path, sizeof(path), "/tasks/%s/events", name);
	struct client *client = client_new(world);
	GET_STREAM(client, path, "");
	client_wait(client, "event: queued");
	settle(world);
	job_started(world, job);
	client_wait(client, "event: running");
	job_output(world, job, 1, "live\n", 5);
	client_wait(client, "event: log");
	job_end(world, job, 0);
	client_wait(client, "\r\n0\r\n\r\n");
	const char *text = client_text(client);
	CHECK(strstr(text, "Content-Type: text/event-stream") != NULL);
	CHECK_INT(count_of(text, "event: queued"), 1);
	CHECK_INT(count_of(text, "event: running"), 1);
	CHECK_INT(count_of(text, "event: completed"), 1);
	CHECK(strstr(text, "\"output\":\"live\\n\"") != NULL);
	client_free(client);

	/* All of it again, from the store; then from behind the last event; and only some kinds. */
	struct answer answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "event: queued"));
	CHECK(answer_has(&answer, "event: completed"));
	char *id = strstr(answer.body, "event: completed\nid: ");
	REQUIRE(id);
	char cursor[128], header[160];
	REQUIRE(sscanf(id, "event: completed\nid: %100s", cursor) == 1);
	answer_free(&answer);
	snprintf(header, sizeof(header), "Last-Event-ID: %s\r\n", cursor);
	answer = request(world, "GET", path, header, NULL);
	CHECK_INT(answer.status, 200);
	CHECK_INT(answer.body_len, 0);
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/events?kind=running", name);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "event: running"));
	CHECK(!strstr(answer.body, "event: queued"));
	answer_free(&answer);
	answer = request(world, "HEAD", path, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	world_free(world);
}

TEST(events_of_all_with_filters)
{
	struct world *world = world_new(&(struct world_options){ .slots = 4 });
	struct client *all = client_new(world), *one = client_new(world), *kinds = client_new(world);
	GET_STREAM(all, "/events", "");
	GET_STREAM(one, "/api/events?eval_id=wanted%201", "");
	GET_STREAM(kinds, "/events?kind=completed,log", "");
	client_wait(all, "\r\n\r\n");
	client_wait(one, "\r\n\r\n");
	client_wait(kinds, "\r\n\r\n");
	settle(world); /* each knows where it begins: until then live events are not for it */
	char name[64];
	submit(world, "{\"code\":\"1\",\"eval_id\":\"other\"}", name);
	struct job *job = world_job(world, 1);
	job_started(world, job);
	job_output(world, job, 2, "x", 1);
	job_end(world, job, 0);
	client_wait(all, "event: completed");
	submit(world, "{\"code\":\"1\",\"eval_id\":\"wanted 1\"}", name);
	job_end(world, world_job(world, 1), 1);
	client_wait(one, "event: failed");
	client_wait(all, "event: failed");
	CHECK(!strstr(client_text(one), "\"other\""));
	CHECK(strstr(client_text(one), "\"eval_id\":\"wanted 1\"") != NULL);
	client_wait(kinds, "event: log");
	client_wait(kinds, "event: completed");
	CHECK(!strstr(client_text(kinds), "event: failed"));
	CHECK(!strstr(client_text(kinds), "event: queued"));
	/* A second one begins where the world is now. */
	struct client *later = client_new(world);
	GET_STREAM(later, "/events", "");
	client_wait(later, "\r\n\r\n");
	CHECK(!strstr(client_text(later), "event:"));
	/* From the beginning of all things. */
	struct client *before = client_new(world);
	GET_STREAM(before, "/events?cursor=0", "");
	client_wait(before, "event: failed");
	CHECK_INT(count_of(client_text(before), "event: queued"), 2);
	/* HEAD of what never ends does end. */
	struct answer answer = request(world, "HEAD", "/events", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(strstr(answer.head, "Content-Type: text/event-stream") != NULL);
	answer_free(&answer);
	char path[128];
	snprintf(path, sizeof(path), "/logs/%s?follow=1", name);
	answer = request(world, "HEAD", path, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	api_drain(world->api);
	client_wait(all, "\r\n0\r\n\r\n");
	client_wait(before, "\r\n0\r\n\r\n");
	client_free(all);
	client_free(one);
	client_free(kinds);
	client_free(later);
	client_free(before);
	world_free(world);
}

static void on_read(struct store_operation *operation)
{
	*(bool *)operation->owner = true;
}

/* A reader may see what has committed before whoever wrote it has heard of it and publishes it. */
TEST(what_was_read_is_not_told_once_more)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	char name[64];
	bool done = false;
	submit(world, "{\"code\":\"1\"}", name);
	struct client *client = client_new(world);
	GET_STREAM(client, "/events?cursor=0", "");
	client_wait(client, "event: queued");
	settle(world);
	struct read_events read = { .operation = { .done = on_read, .owner = &done }, .limit = 10 };
	world->store->ops->read_events(world->store, &read);
	while (!done)
		uv_run(&world->loop, UV_RUN_ONCE);
	REQUIRE(read.result_count > 0 && read.results[0].kind == EVENT_QUEUED);
	world->bus->ops->publish(world->bus, read.results, 1);
	store_operation_fini(&read.operation);
	submit(world, "{\"code\":\"2\"}", name);
	client_wait(client, name);
	CHECK_INT(count_of(client_text(client), "event: queued"), 2);
	client_free(client);
	world_free(world);
}

TEST(a_slow_follower_loses_no_event)
{
	struct world *world = world_new(&(struct world_options){ .slots = 4 });
	struct client *slow = client_new(world);
	GET_STREAM(slow, "/events", "");
	client_wait(slow, "\r\n\r\n");
	client_pause(slow, true);
	/* More than sockets and the write queue hold: every `completed` bears 60 KB of output. */
	enum { TASKS = 150, SIZE = 60000 };
	char *text = malloc(SIZE), name[64];
	REQUIRE(text);
	memset(text, 'o', SIZE);
	for (int i = 0; i < TASKS; i++) {
		submit(world, "{\"code\":\"1\"}", name);
		struct job *job = world_job(world, 1);
		job_output(world, job, 1, text, SIZE);
		job_end(world, job, 0);
	}
	settle(world);
	size_t before = client_received(slow);
	CHECK(before < (size_t)TASKS * SIZE);
	client_pause(slow, false);
	char last[100];
	snprintf(last, sizeof(last), "event: completed\nid:");
	while (count_of(client_text(slow), last) < TASKS)
		client_wait_more(slow);
	CHECK_INT(count_of(client_text(slow), "event: queued"), TASKS);
	CHECK_INT(count_of(client_text(slow), last), TASKS);
	free(text);
	client_free(slow);
	world_free(world);
}

/* The bytes of a chunked answer's body so far. */
static size_t body_of(struct client *client, char *to, size_t max)
{
	const char *at = strstr(client_text(client), "\r\n\r\n");
	size_t len = 0;
	if (!at)
		return 0;
	for (at += 4; *at;) {
		char *end;
		size_t chunk = strtoul(at, &end, 16);
		if (chunk == 0 || len + chunk > max)
			break;
		memcpy(to + len, end + 2, chunk);
		len += chunk;
		at = end + 2 + chunk + 2;
	}
	return len;
}

/* What of the body comes behind `mark`, and how long the body is. */
static const char *body_behind(struct client *client, size_t mark, size_t *ret_len)
{
	static char body[65536];
	*ret_len = body_of(client, body, sizeof(body) - 1);
	REQUIRE(mark <= *ret_len);
	body[*ret_len] = '\0';
	return body + mark;
}

TEST(live_events_bear_the_frontier)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1, .cursors_not_final = true });
	char name[64], first[128], next[128];
	size_t mark;
	submit(world, "{\"code\":\"1\"}", name);
	struct client *client = client_new(world);
	GET_STREAM(client, "/events", "");
	client_wait(client, "id: ");
	settle(world);
	/* What it starts from, which is no event; and once more when the store has been read up to there. */
	const char *body = body_behind(client, 0, &mark);
	REQUIRE(sscanf(body, "id: %100[0-9a-f]", first) == 1);
	CHECK(strstr(body, "\n\n") == body + strlen("id: ") + strlen(first));
	CHECK(!strstr(body, "event:"));
	submit(world, "{\"code\":\"2\"}", name);
	client_wait(client, "event: queued");
	settle(world);
	body = body_behind(client, mark, &mark);
	snprintf(next, sizeof(next), "id: %s\nevent: queued\ndata: {", first);
	CHECK(strncmp(body, next, strlen(next)) == 0);
	/* Where it could go on from now is not known: the last id stays. */
	submit(world, "{\"code\":\"3\"}", name);
	settle(world);
	body = body_behind(client, mark, &mark);
	CHECK(strncmp(body, "event: queued\ndata: {", 21) == 0);
	CHECK(!strstr(body, "id: "));
	/* The frontier, with the first event that comes behind it, and only once. */
	struct cursor frontier = { .length = 3, .bytes = { 0xfe, 1, 2 } };
	world->bus->ops->frontier(world->bus, &frontier);
	submit(world, "{\"code\":\"4\"}", name);
	submit(world, "{\"code\":\"5\"}", name);
	settle(world);
	body = body_behind(client, mark, &mark);
	CHECK(strncmp(body, "id: fe0102\nevent: queued\ndata: {", 32) == 0);
	CHECK_INT(count_of(body, "event: queued"), 2);
	CHECK_INT(count_of(body, "\nid: "), 0);
	/* What the store has been read up to is never taken back. */
	struct cursor before = { .length = 3, .bytes = { 0 } };
	world->bus->ops->frontier(world->bus, &before);
	submit(world, "{\"code\":\"6\"}", name);
	settle(world);
	body = body_behind(client, mark, &mark);
	CHECK_INT(count_of(body, "event: queued"), 1);
	CHECK(!strstr(body, "id: "));
	client_free(client);
	/* Whoever comes back with the id that was known before the first live event is told of them all. */
	snprintf(next, sizeof(next), "Last-Event-ID: %s\r\n", first);
	client = client_new(world);
	GET_STREAM(client, "/events", next);
	client_wait(client, name);
	CHECK_INT(count_of(body_behind(client, 0, &mark), "event: queued\nid: "), 5);
	client_free(client);
	world_free(world);
}

TEST(an_event_that_overtakes_another_of_its_task_waits_for_it)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	char path[128];
	struct answer answer = request(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"1\"}");
	REQUIRE(answer.status == 201);
	struct event ahead = {
		.kind = EVENT_TEST, .sequence = 3, .run = 1, .attempt = 1, .tenant = BYTES_LITERAL("default")
	};
	REQUIRE(uuid_parse(bytes_of(answer_member(&answer, "task_id")), &ahead.task_id));
	snprintf(path, sizeof(path), "/tasks/%s/events", answer_member(&answer, "task_id"));
	answer_free(&answer);
	struct job *job = world_job(world, 1);
	struct client *client = client_new(world);
	GET_STREAM(client, path, "");
	client_wait(client, "event: queued");
	settle(world);
	/* One behind what is to come, of which the store knows nothing. */
	world->bus->ops->tell(world->bus, &ahead, 1);
	settle(world);
	CHECK(!strstr(client_text(client), "event: test"));
	job_started(world, job);
	client_wait(client, "event: running");
	job_end(world, job, 0);
	client_wait(client, "\r\n0\r\n\r\n");
	CHECK(!strstr(client_text(client), "event: test"));
	CHECK_INT(count_of(client_text(client), "event: queued"), 1);
	CHECK_INT(count_of(client_text(client), "event: running\nid: "), 1);
	CHECK_INT(count_of(client_text(client), "event: completed\nid: "), 1);
	client_free(client);
	world_free(world);
}

TEST(logs_are_followed_without_loss_or_repetition)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	char name[64], path[128];
	submit(world, "{\"code\":\"1\"}", name);
	struct job *job = world_job(world, 1);
	job_started(world, job);
	job_output(world, job, 1, "before\n", 7);
	snprintf(path, sizeof(path), "/logs/%s?follow=1", name);
	struct client *both = client_new(world), *errors = client_new(world), *sse = client_new(world);
	GET_STREAM(both, path, "");
	snprintf(path, sizeof(path), "/logs/%s?follow=1&stream=stderr&offset=2", name);
	GET_STREAM(errors, path, "");
	snprintf(path, sizeof(path), "/logs/%s?follow=1&offset=3", name);
	GET_STREAM(sse, path, "Accept: text/event-stream\r\n");
	client_wait(both, "before");
	char expected[4096], expected_errors[4096];
	size_t len = 7, errors_len = 0;
	memcpy(expected, "before\n", 7);
	for (int i = 0; i < 100; i++) {
		char line[32];
		int line_len = snprintf(line, sizeof(line), "line %d\n", i);
		job_output(world, job, i % 3 ? 1 : 2, line, (size_t)line_len);
		memcpy(expected + len, line, (size_t)line_len);
		len += (size_t)line_len;
		if (i % 3 == 0) {
			memcpy(expected_errors + errors_len, line, (size_t)line_len);
			errors_len += (size_t)line_len;
		}
		if (i % 7 == 0)
			uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	job_end(world, job, 0);
	client_wait(both, "\r\n0\r\n\r\n");
	client_wait(errors, "\r\n0\r\n\r\n");
	client_wait(sse, "\r\n0\r\n\r\n");
	char got[8192];
	size_t got_len = body_of(both, got, sizeof(got));
	CHECK_BYTES(((struct bytes){ got, got_len }), ((struct bytes){ expected, len }));
	got_len = body_of(errors, got, sizeof(got));
	CHECK_BYTES(((struct bytes){ got, got_len }), ((struct bytes){ expected_errors + 2, errors_len - 2 }));
	CHECK(strstr(client_text(sse), "event: log\n") != NULL);
	CHECK(!strstr(client_text(sse), "before"));
	CHECK(strstr(client_text(sse), "ore\\n") != NULL);
	CHECK(strstr(client_text(sse), "line 99") != NULL);
	client_free(both);
	client_free(errors);
	client_free(sse);
	world_free(world);
}

TEST(logs_of_a_task_that_has_not_begun_and_is_tried_again)
{
	struct world *world = world_new(&(struct world_options){ .slots = 1 });
	char blocker[64], name[64], path[128];
	submit(world, "{\"code\":\"1\"}", blocker);
	struct job *job = world_job(world, 1);
	submit(world, "{\"code\":\"2\"}", name);
	struct client *client = client_new(world);
	snprintf(path, sizeof(path), "/logs/%s?follow=1", name);
	GET_STREAM(client, path, "");
	client_wait(client, "\r\n\r\n");
	settle(world);
	job_end(world, job, 0);
	job = world_job(world, 1);
	REQUIRE(strncmp(job->name.data, name, strlen(name)) == 0);
	job_started(world, job);
	job_output(world, job, 1, "first try\n", 10);
	client_wait(client, "first try");
	job_lose(world, job, REASON_EVICTED);
	job = world_job(world, 1);
	CHECK_INT(job->attempt, 2);
	job_started(world, job);
	job_output(world, job, 1, "second try\n", 11);
	client_wait(client, "second try");
	job_end(world, job, 0);
	client_wait(client, "\r\n0\r\n\r\n");
	char got[256];
	size_t got_len = body_of(client, got, sizeof(got));
	CHECK_BYTES(((struct bytes){ got, got_len }), "first try\nsecond try\n");
	client_free(client);
	/* An attempt by its number, and by the job's name. */
	snprintf(path, sizeof(path), "/logs/%s?attempt=1", name);
	struct answer answer = request(world, "GET", path, "Accept: text/plain\r\n", NULL);
	CHECK_STR(answer.body, "first try\n");
	answer_free(&answer);
	snprintf(path, sizeof(path), "/logs/%s-2", name);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "\"logs\":\"second try\\n\""));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/logs/%s?attempt=3", name);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 404);
	answer_free(&answer);
	world_free(world);
}

TEST(a_slow_reader_of_logs_gets_every_byte)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	char name[64], path[128];
	submit(world, "{\"code\":\"1\"}", name);
	struct job *job = world_job(world, 1);
	job_started(world, job);
	struct client *slow = client_new(world);
	snprintf(path, sizeof(path), "/logs/%s?follow=1", name);
	GET_STREAM(slow, path, "");
	client_wait(slow, "\r\n\r\n");
	client_pause(slow, true);
	enum { SIZE = 1000000 };
	char *text = malloc(SIZE), *got = malloc(SIZE + 1);
	REQUIRE(text && got);
	for (size_t i = 0; i < SIZE; i++)
		text[i] = (char)('a' + i / 1000 % 26);
	for (size_t i = 0; i < SIZE; i += 10000) {
		job_output(world, job, 1, text + i, 10000);
		uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	job_end(world, job, 0);
	settle(world);
	client_pause(slow, false);
	client_wait(slow, "\r\n0\r\n\r\n");
	size_t len = body_of(slow, got, SIZE + 1);
	CHECK_INT(len, SIZE);
	CHECK(memcmp(got, text, SIZE) == 0);
	/* The same at once, as bytes. */
	snprintf(path, sizeof(path), "/logs/%s", name);
	struct answer answer = request(world, "GET", path, "Accept: text/plain\r\n", NULL);
	CHECK_INT(answer.body_len, SIZE);
	CHECK(answer.body_len == SIZE && memcmp(answer.body, text, SIZE) == 0);
	answer_free(&answer);
	free(text);
	free(got);
	client_free(slow);
	world_free(world);
}

TEST(idle_streams_are_kept_open)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1, .settings = { .keepalive_us = 20000 } });
	struct client *client = client_new(world);
	GET_STREAM(client, "/events", "");
	client_wait(client, ": still here\n\n");
	client_free(client);
	world_free(world);
}

/* Clients that come and go at any moment, with every kind of stream and wait: what is left over would be found by the
 * sanitizers, or by the loop that does not close. */
TEST(clients_that_go_away_at_any_moment)
{
	struct world *world = world_new(&(struct world_options){ .slots = 4, .settings = { .keepalive_us = 1000 } });
	struct client *clients[12] = { 0 };
	char name[64], path[160];
	unsigned seed = 1;
	for (int round = 0; round < 150; round++) {
		submit(world, "{\"code\":\"1\"}", name);
		struct job *job = world_job(world, 1);
		for (size_t i = 0; i < 12; i++) {
			seed = seed * 1103515245 + 12345;
			unsigned choice = seed >> 16;
			if (clients[i] && choice % 3 == 0) {
				client_free(clients[i]);
				clients[i] = NULL;
			}
			if (clients[i])
				continue;
			clients[i] = client_new(world);
			static const char *const patterns[] = { "/tasks/", "/logs/", "/status/", "/events?eval_id=x",
				"/tasks/", "/logs/" };
			static const char *const ends[] = { "/events", "?follow=1", "", "", "/why", "" };
			unsigned kind = choice / 3 % 7;
			if (kind == 6) {
				client_sendf(clients[i],
					"POST /execute?wait=30 HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE
					"Content-Length: 12\r\n\r\n{\"code\":\"1\"}");
				continue;
			}
			snprintf(path, sizeof(path), "%s%s%s", patterns[kind], kind == 3 ? "" : name, ends[kind]);
			GET_STREAM(clients[i], path, "");
			if (choice % 2)
				uv_run(&world->loop, UV_RUN_NOWAIT);
		}
		if (round % 3)
			job_started(world, job);
		job_output(world, job, 1, "some\n", 5);
		uv_run(&world->loop, UV_RUN_NOWAIT);
		if (round % 5 == 0)
			job_lose(world, job, REASON_EVICTED);
		else
			job_end(world, job, round % 2);
	}
	for (size_t i = 0; i < 12; i++)
		if (clients[i])
			client_free(clients[i]);
	world_free(world);
}

TEST(streams_outlive_a_store_that_is_away)
{
	struct world *world = world_new(&(struct world_options){ .slots = 2, .settings = { .keepalive_us = 20000 } });
	char name[64], path[160];
	submit(world, "{\"code\":\"1\"}", name);
	struct job *job = world_job(world, 1);
	job_started(world, job);
	job_output(world, job, 1, "kept\n", 5);
	settle(world);
	struct client *events = client_new(world), *logs = client_new(world), *waiter = client_new(world);
	client_sendf(waiter, "POST /execute?wait=30 HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE
			     "Content-Length: 12\r\n\r\n{\"code\":\"2\"}");
	struct job *waited = world_job(world, 2);
	snprintf(path, sizeof(path), "/tasks/%s/events", name);
	GET_STREAM(events, path, "");
	snprintf(path, sizeof(path), "/logs/%s?follow=1", name);
	GET_STREAM(logs, path, "");
	client_wait(events, "\r\n\r\n");
	client_wait(logs, "\r\n\r\n");
	world->away = true;
	snprintf(path, sizeof(path), "/tasks/%s", name);
	struct answer answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 503);
	CHECK(strstr(answer.head, "Retry-After: ") != NULL);
	answer_free(&answer);
	answer = request(world, "GET", "/readyz", "", NULL);
	CHECK_INT(answer.status, 503);
	CHECK(answer_has(&answer, "\"degraded\":[\"store\"]"));
	answer_free(&answer);
	answer = request(world, "GET", "/health", "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	job_end(world, job, 0);
	/* It was accepted: that much is known, and told. */
	job_end(world, waited, 0);
	client_wait(waiter, "\"status\":\"running\"");
	CHECK(strstr(client_text(waiter), "HTTP/1.1 202 ") != NULL);
	world->away = false;
	client_wait(events, "event: completed");
	client_wait(events, "\r\n0\r\n\r\n");
	client_wait(logs, "\r\n0\r\n\r\n");
	CHECK(strstr(client_text(logs), "kept\n") != NULL);
	client_free(events);
	client_free(logs);
	client_free(waiter);
	world_free(world);
}

TEST_MAIN()
