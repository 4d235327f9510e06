/* Lists, short ids, commands, batches, why. */
#include "api_world.h"
#include "test.h"

static void submit(struct world *world, const char *body, char id[static 64], char name[static 64])
{
	struct answer answer = request(world, "POST", "/execute", JSON_TYPE, body);
	REQUIRE(answer.status == 201);
	snprintf(id, 64, "%s", answer_member(&answer, "task_id"));
	snprintf(name, 64, "%s", answer_member(&answer, "job_name"));
	answer_free(&answer);
}

TEST(ids_in_all_their_forms)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1 });
	char id[64], name[64], other[64], path[128];
	submit(world, "{\"code\":\"1\"}", id, name);
	submit(world, "{\"code\":\"2\"}", other, name);
	submit(world, "{\"code\":\"1\"}", id, name);
	snprintf(path, sizeof(path), "/tasks/%s/status", id);
	struct answer answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s", id + 28);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "task_id"), id);
	answer_free(&answer);
	/* All begin alike. */
	snprintf(path, sizeof(path), "/tasks/%.5s", id);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 409);
	CHECK(answer_has(&answer, "\"candidates\":[{"));
	CHECK(answer_has(&answer, id));
	CHECK(answer_has(&answer, other));
	CHECK(answer_has(&answer, "\"more\":false"));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%.3s", id);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 404);
	answer_free(&answer);
	world_free(world);
}

TEST(lists_by_pages_and_filters)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1 });
	char ids[5][64], name[64], path[160];
	for (int i = 0; i < 5; i++)
		submit(world, i == 2 ? "{\"code\":\"1\",\"queue\":\"slow\"}" : "{\"code\":\"1\"}", ids[i], name);
	struct answer answer = request(world, "GET", "/tasks?limit=3", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, ids[4]));
	CHECK(answer_has(&answer, ids[2]));
	CHECK(!strstr(answer.body, ids[1]));
	snprintf(path, sizeof(path), "/tasks?limit=3&cursor=%s", answer_member(&answer, "next_cursor"));
	answer_free(&answer);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, ids[1]));
	CHECK(answer_has(&answer, ids[0]));
	CHECK(answer_has(&answer, "\"next_cursor\":null"));
	answer_free(&answer);
	answer = request(world, "GET", "/tasks?queue=slow&status=queued,RUNNING&type=evaluation", "", NULL);
	CHECK(answer_has(&answer, ids[2]));
	CHECK(!strstr(answer.body, ids[3]));
	answer_free(&answer);
	answer = request(world, "GET", "/tasks?status=COMPLETED", "", NULL);
	CHECK(answer_has(&answer, "\"tasks\":[]"));
	answer_free(&answer);
	world_free(world);
}

TEST(cancel_and_run)
{
	struct world *world = world_new(&(struct world_options){ .slots = 1 });
	char running[64], waiting[64], name[64], path[160];
	submit(world, "{\"code\":\"1\"}", running, name);
	struct job *job = world_job(world, 1);
	job_started(world, job);
	submit(world, "{\"code\":\"2\"}", waiting, name);

	snprintf(path, sizeof(path), "/tasks/%s/why", waiting);
	struct answer answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(*answer_member(&answer, "reason"));
	CHECK(answer_has(&answer, "\"position\":1"));
	CHECK(answer_has(&answer, "\"age_seconds\":"));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/run", running);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 409);
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/cancel", waiting);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "state"), "CANCELLED");
	answer_free(&answer);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 409);
	answer_free(&answer);
	snprintf(path, sizeof(path), "/status/%s", waiting);
	answer = request(world, "GET", path, "", NULL);
	CHECK_STR(answer_member(&answer, "phase"), "cancelled");
	CHECK_STR(answer_member(&answer, "reason"), "cancelled");
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/cancel", running);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 202);
	CHECK(answer_has(&answer, "\"cancel_requested\":true"));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/events", running);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "event: cancelled"));
	answer_free(&answer);

	/* Run again: the cached end is forgotten. */
	snprintf(path, sizeof(path), "/status/%s", running);
	answer = request(world, "GET", path, "", NULL);
	CHECK_STR(answer_member(&answer, "phase"), "cancelled");
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/run", running);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "status"), "running");
	answer_free(&answer);
	snprintf(path, sizeof(path), "/status/%s", running);
	answer = request(world, "GET", path, "", NULL);
	CHECK_STR(answer_member(&answer, "status"), "running");
	answer_free(&answer);
	job = world_job(world, 1);
	job_end(world, job, 0);
	snprintf(path, sizeof(path), "/tasks/%s/events", running);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "event: completed"));
	CHECK(answer_has(&answer, "\"run\":2"));
	answer_free(&answer);
	world_free(world);
}

TEST(tasks_of_both_types)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	struct answer answer =
		request(world, "POST", "/tasks", JSON_TYPE, "{\"type\":\"test\",\"params\":{\"a\":[1]}}");
	CHECK_INT(answer.status, 201);
	char path[128];
	snprintf(path, sizeof(path), "/tasks/%s/events", answer_member(&answer, "task_id"));
	answer_free(&answer);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "event: completed"));
	CHECK(answer_has(&answer, "pong"));
	answer_free(&answer);
	/* The same evaluation by both ways is the same request. */
	answer = request(world, "POST", "/tasks",
		JSON_TYPE "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
		"{\"type\":\"evaluation\",\"params\":{\"code\":\"1\",\"eval_id\":\"x\"}}");
	CHECK_INT(answer.status, 201);
	snprintf(path, sizeof(path), "/tasks/%s", answer_member(&answer, "task_id"));
	answer_free(&answer);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\""));
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"1\",\"eval_id\":\"x\"}");
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	answer = request(world, "POST", "/tasks", JSON_TYPE,
		"{\"type\":\"evaluation\",\"priority\":7,\"params\":{\"code\":\"1\",\"eval_id\":\"x\"}}");
	CHECK_INT(answer.status, 409);
	answer_free(&answer);
	answer = request(world, "POST", "/tasks", JSON_TYPE,
		"{\"type\":\"evaluation\",\"priority\":7,\"description\":\"d\",\"drift_score\":0.5,\"params\":{"
		"\"code\":\"1\"}}");
	CHECK_INT(answer.status, 201);
	snprintf(path, sizeof(path), "/tasks/%s", answer_member(&answer, "task_id"));
	answer_free(&answer);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, "\"priority\":7"));
	CHECK(answer_has(&answer, "\"description\":\"d\""));
	answer_free(&answer);
	world_free(world);
}

TEST(a_batch_answers_each_item)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1, .settings = { .batch_items_max = 6 } });
	const char *items = "[{\"code\":\"1\",\"eval_id\":\"a\"},{\"code\":\"1\",\"eval_id\":\"a\"},{\"code\":\"2\","
			    "\"eval_id\":\"a\"},"
			    "{\"cod\":1},7,{\"code\":\"3\"}]";
	struct answer answer = request(world, "POST", "/execute/batch", JSON_TYPE, items);
	CHECK_INT(answer.status, 200);
	const char *at = strstr(answer.body, "\"results\":[");
	static const char *const wanted[] = { "\"status\":201", "\"status\":200", "\"status\":409", "\"status\":422",
		"\"status\":422", "\"status\":201" };
	for (size_t i = 0; i < 6 && at; i++) {
		at = strstr(at + 1, "\"status\":");
		CHECK(at && strncmp(at, wanted[i], strlen(wanted[i])) == 0);
	}
	CHECK(answer_has(&answer, "\"pointer\":\"/cod\""));
	char batch[64], path[160];
	snprintf(batch, sizeof(batch), "%s", answer_member(&answer, "batch_id"));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks?batch=%s", batch);
	answer = request(world, "GET", path, "", NULL);
	CHECK(answer_has(&answer, batch));
	answer_free(&answer);
	struct client *client = client_new(world);
	client_sendf(client, "GET /events?batch=%s&cursor=0 HTTP/1.1\r\nHost: localhost\r\n\r\n", batch);
	client_wait(client, "event: queued");
	snprintf(path, sizeof(path), "/batches/%s/cancel", batch);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"cancelled\":2"));
	answer_free(&answer);
	client_wait(client, "event: cancelled");
	client_free(client);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"cancelled\":0"));
	answer_free(&answer);

	answer = request(world, "POST", "/execute/batch", "Content-Type: application/x-ndjson\r\n",
		"{\"code\":\"1\"}\r\n\n{oops\n{\"code\":\"2\"}");
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "not JSON"));
	at = strstr(answer.body, "\"results\":[");
	static const char *const lines[] = { "\"status\":201", "\"status\":422", "\"status\":201" };
	for (size_t i = 0; i < 3 && at; i++) {
		at = strstr(at + 1, "\"status\":");
		CHECK(at && strncmp(at, lines[i], strlen(lines[i])) == 0);
	}
	answer_free(&answer);
	answer = request(world, "POST", "/execute/batch", JSON_TYPE, "[1,2,3,4,5,6,7]");
	CHECK_INT(answer.status, 413);
	answer_free(&answer);
	answer = request(world, "POST", "/execute/batch", JSON_TYPE, "{}");
	CHECK_INT(answer.status, 422);
	answer_free(&answer);
	answer = request(world, "POST", "/execute/batch", JSON_TYPE, "[]");
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"results\":[]"));
	answer_free(&answer);
	answer = request(world, "POST", "/execute/batch", JSON_TYPE "Idempotency-Key: x\r\n", "[]");
	CHECK_INT(answer.status, 422);
	answer_free(&answer);
	world_free(world);
}

TEST(a_large_batch)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1 });
	enum { ITEMS = 3000 };
	struct buffer body = BUFFER_MAX(0);
	for (int i = 0; i < ITEMS; i++)
		buffer_printf(&body, "{\"code\":\"print(%d)\"}\n", i);
	struct answer answer = request_bytes(
		world, "POST", "/execute/batch", "Content-Type: application/x-ndjson\r\n", body.data, body.len);
	CHECK_INT(answer.status, 200);
	int created = 0;
	for (const char *at = answer.body; (at = strstr(at, "\"status\":201")); at++)
		created++;
	CHECK_INT(created, ITEMS);
	answer_free(&answer);
	buffer_fini(&body);
	world_free(world);
}

TEST(a_full_queue_is_429)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1, .queue_max = 2 });
	struct answer answer = { 0 };
	for (int i = 0; i < 3; i++) {
		answer_free(&answer);
		answer = request(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"1\"}");
	}
	CHECK_INT(answer.status, 429);
	CHECK(strstr(answer.head, "Retry-After: ") != NULL);
	answer_free(&answer);

	/* What has ended may come to wait again only where there is room; what waits may be hastened, and takes no more
	 * of it. */
	char path[160];
	answer = request(world, "GET", "/tasks", "", NULL);
	snprintf(path, sizeof(path), "/tasks/%s/cancel", answer_member(&answer, "task_id"));
	answer_free(&answer);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"1\"}");
	CHECK_INT(answer.status, 201);
	char waiting[64];
	snprintf(waiting, sizeof(waiting), "%s", answer_member(&answer, "task_id"));
	answer_free(&answer);
	strcpy(strstr(path, "/cancel"), "/run");
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 429);
	CHECK(strstr(answer.head, "Retry-After: 5") != NULL);
	CHECK(answer_has(&answer, "urn:assay:problem:queue-full"));
	answer_free(&answer);
	char other[160];
	snprintf(other, sizeof(other), "/tasks/%s/run", waiting);
	answer = request(world, "POST", other, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	snprintf(other, sizeof(other), "/tasks/%s/cancel", waiting);
	answer = request(world, "POST", other, "", NULL);
	answer_free(&answer);
	answer = request(world, "POST", path, "", NULL);
	CHECK_INT(answer.status, 200);
	answer_free(&answer);
	world_free(world);
}

TEST_MAIN()
