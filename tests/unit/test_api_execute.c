/* POST /execute with all that it answers, status, waiting, keys. */
#include "api_world.h"
#include "test.h"

#define CODE "{\"code\":\"print(1)\"}"

TEST(health_needs_nothing)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	struct answer answer = request(world, "GET", "/health", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"status\":\"healthy\""));
	answer_free(&answer);
	answer = request(world, "GET", "/api/readyz", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"status\":\"ready\""));
	CHECK(answer_has(&answer, "\"remedy\":\"install gcc\""));
	answer_free(&answer);
	answer = request(world, "GET", "/coordinator/health", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"status\":\"healthy\""));
	answer_free(&answer);
	answer = request(world, "HEAD", "/health", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_INT(answer.body_len, 0);
	answer_free(&answer);
	answer = request(world, "GET", "/metrics", "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "assay_loop_lag_seconds_bucket{le=\"+Inf\"}"));
	CHECK(answer_has(&answer, "assay_oldest_waiting_task_age_seconds 0\n"));
	CHECK(answer_has(&answer, "assay_http_requests_total{method=\"GET\",route=\"/health\",code=\"2xx\"} 2"));
	answer_free(&answer);
	world_free(world);
}

TEST(an_evaluation_from_submission_to_result)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	struct answer answer =
		request(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"print(1)\",\"eval_id\":\"e 1\"}");
	CHECK_INT(answer.status, 201);
	CHECK_STR(answer_member(&answer, "status"), "queued");
	CHECK_STR(answer_member(&answer, "eval_id"), "e 1");
	char name[64], path[128];
	snprintf(name, sizeof(name), "%s", answer_member(&answer, "job_name"));
	snprintf(path, sizeof(path), "/status/%s", name);
	CHECK(strstr(answer.head, path) != NULL);
	answer_free(&answer);

	struct job *job = world_job(world, 1);
	CHECK_BYTES(job->name, name);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "status"), "running");
	CHECK_STR(answer_member(&answer, "phase"), "starting");
	answer_free(&answer);

	job_started(world, job);
	job_output(world, job, 1, "one\n", 4);
	job_output(world, job, 2, "two\xff\n", 5);
	char logs[128];
	snprintf(logs, sizeof(logs), "/logs/%s", name);
	answer = request(world, "GET", logs, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK(answer_has(&answer, "\"stdout\":\"one\\n\""));
	CHECK(answer_has(&answer, "\"encoding\":\"lossy\""));
	CHECK(answer_has(&answer, "\"offset\":9"));
	answer_free(&answer);
	job_end(world, job, 0);

	snprintf(logs, sizeof(logs), "/tasks/%s/logs?stream=stderr&offset=1", name);
	answer = request(world, "GET", logs, "Accept: text/plain\r\n", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_BYTES(((struct bytes){ answer.body, answer.body_len }), BYTES_LITERAL("wo\xff\n"));
	answer_free(&answer);

	/* Twice: from the store, then from the cache. */
	for (int i = 0; i < 2; i++) {
		do {
			answer_free(&answer);
			answer = request(world, "GET", path, "", NULL);
			CHECK_INT(answer.status, 200);
		} while (strcmp(answer_member(&answer, "status"), "running") == 0);
		CHECK_STR(answer_member(&answer, "status"), "succeeded");
		CHECK(answer_has(&answer, "\"exit_code\":0"));
	}
	answer_free(&answer);
	/* Attempt 1 may be named, attempt 2 was never. */
	snprintf(path, sizeof(path), "/status/%s-2", name);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 404);
	answer_free(&answer);

	snprintf(path, sizeof(path), "/tasks/%s", name);
	answer = request(world, "GET", path, "", NULL);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "state"), "COMPLETED");
	CHECK(answer_has(&answer, "\"params\":{"));
	answer_free(&answer);
	world_free(world);
}

TEST(waiting_gives_the_full_result_or_202)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	struct answer answer = request(world, "POST", "/execute?wait=0.05", JSON_TYPE, CODE);
	CHECK_INT(answer.status, 202);
	CHECK_STR(answer_member(&answer, "status"), "running");
	answer_free(&answer);

	struct client *client = client_new(world);
	client_sendf(client,
		"POST /execute?wait=60 HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE "Content-Length: %zu\r\n\r\n%s",
		strlen(CODE), CODE);
	struct job *job = world_job(world, 2);
	job_started(world, job);
	job_output(world, job, 1, "hello\n", 6);
	job_end(world, job, 3);
	client_wait(client, "\"truncated\":");
	CHECK(strstr(client_text(client), "HTTP/1.1 200 OK") != NULL);
	CHECK(strstr(client_text(client), "\"stdout\":\"hello\\n\"") != NULL);
	CHECK(strstr(client_text(client), "\"reason\":\"exit_code\"") != NULL);
	CHECK(strstr(client_text(client), "\"exit_code\":3") != NULL);
	client_free(client);

	/* One that goes away while it waits harms nobody. */
	client = client_new(world);
	client_sendf(client,
		"POST /execute?wait=60 HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE "Content-Length: %zu\r\n\r\n%s",
		strlen(CODE), CODE);
	job = world_job(world, 2);
	client_free(client);
	job_end(world, job, 0);

	/* The drain answers who waits. */
	client = client_new(world);
	client_sendf(client,
		"POST /execute?wait=60 HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE "Content-Length: %zu\r\n\r\n%s",
		strlen(CODE), CODE);
	world_job(world, 2);
	answer = request(world, "GET", "/health", "", NULL); /* so that the loop has turned */
	answer_free(&answer);
	api_drain(world->api);
	client_wait(client, "\"phase\":");
	CHECK(strstr(client_text(client), "HTTP/1.1 202 Accepted") != NULL);
	client_free(client);
	answer = request(world, "POST", "/execute", JSON_TYPE, CODE);
	CHECK_INT(answer.status, 503);
	CHECK(strstr(answer.head, "Retry-After: ") != NULL);
	answer_free(&answer);
	world_free(world);
}

TEST(keys_make_a_request_repeatable)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1 });
	const char *first = "{\"eval_id\":\"a\",\"code\":\"1\"}", *same = "{ \"code\" : \"1\", \"eval_id\":\"a\" }",
		   *other = "{\"eval_id\":\"a\",\"code\":\"2\"}", *second = "{\"eval_id\":\"b\",\"code\":\"1\"}";
	struct answer answer = request(world, "POST", "/execute", JSON_TYPE "Idempotency-Key: k1\r\n", first);
	CHECK_INT(answer.status, 201);
	char name[64];
	snprintf(name, sizeof(name), "%s", answer_member(&answer, "job_name"));
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE, same);
	CHECK_INT(answer.status, 200);
	CHECK_STR(answer_member(&answer, "job_name"), name);
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE, other);
	CHECK_INT(answer.status, 409);
	CHECK(strstr(answer.head, "application/problem+json") != NULL);
	CHECK_STR(answer_member(&answer, "job_name"), name);
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE "Idempotency-Key: k2\r\n", second);
	CHECK_INT(answer.status, 201);
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE "Idempotency-Key: k2\r\n", first);
	CHECK_INT(answer.status, 422);
	CHECK(answer_has(&answer, "urn:assay:problem:keys-disagree"));
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE "Idempotency-Key: \x01\r\n", first);
	CHECK(answer.status == 422 || answer.status == 400);
	answer_free(&answer);
	world_free(world);
}

TEST(what_is_wrong_is_named)
{
	struct world *world = world_new(&(struct world_options){ .slots = -1 });
	const struct {
		const char *method, *path, *headers, *body;
		int status;
		const char *says;
	} cases[] = {
		{ "POST", "/execute", JSON_TYPE, "{", 400, "at byte" },
		{ "POST", "/execute", JSON_TYPE, "", 400, "not JSON" },
		{ "POST", "/execute", JSON_TYPE, "[]", 422, "\"pointer\":\"\"" },
		{ "POST", "/execute", JSON_TYPE, "{\"cod\":\"1\"}", 422, "\"pointer\":\"/cod\"" },
		{ "POST", "/execute", JSON_TYPE, "{\"code\":\"1\",\"language\":\"c\"}", 422, "install gcc" },
		{ "POST", "/execute", JSON_TYPE, "{\"code\":\"1\",\"language\":\"klingon\"}", 422,
			"\"pointer\":\"/language\"" },
		{ "POST", "/execute", JSON_TYPE, "{\"code\":\"1\",\"executor\":\"x\"}", 422,
			"\"pointer\":\"/executor\"" },
		{ "POST", "/execute", "", CODE, 415, "without a Content-Type" },
		{ "POST", "/execute", "Content-Type: application/x-www-form-urlencoded\r\n", CODE, 415,
			"application/json" },
		{ "POST", "/execute?wait=301", JSON_TYPE, CODE, 422, "\"parameter\":\"wait\"" },
		{ "POST", "/execute?wait=x", JSON_TYPE, CODE, 422, "\"parameter\":\"wait\"" },
		{ "POST", "/execute?wiat=1", JSON_TYPE, CODE, 422, "\"parameter\":\"wiat\"" },
		{ "POST", "/execute?wait=1&wait=2", JSON_TYPE, CODE, 422, "given twice" },
		{ "POST", "/execute?wait=%zz", JSON_TYPE, CODE, 400, "malformed" },
		{ "GET", "/execute", "", NULL, 405, "POST, OPTIONS" },
		{ "GET", "/nowhere", "", NULL, 404, "openapi.json" },
		{ "GET", "/status/", "", NULL, 404, "problem" },
		{ "GET", "/status/eval-aaaaaaaaaaaaaaaaaaaaaaaaaa", "", NULL, 404, "problem" },
		{ "GET", "/status/zz", "", NULL, 404, "problem" },
		{ "GET", "/status/abcdef", "", NULL, 404, "problem" },
		{ "GET", "/tasks?status=WAITING", "", NULL, 422, "\"parameter\":\"status\"" },
		{ "GET", "/tasks?limit=0", "", NULL, 422, "\"parameter\":\"limit\"" },
		{ "GET", "/tasks?cursor=x", "", NULL, 422, "\"parameter\":\"cursor\"" },
		{ "GET", "/tasks?batch=x", "", NULL, 422, "\"parameter\":\"batch\"" },
		{ "GET", "/events?kind=x", "", NULL, 422, "\"parameter\":\"kind\"" },
		{ "GET", "/events", "Last-Event-ID: zz\r\n", NULL, 422, "\"header\":\"Last-Event-ID\"" },
		{ "POST", "/tasks", JSON_TYPE, "{\"type\":\"student_testing\"}", 422, "\"pointer\":\"/type\"" },
		{ "POST", "/tasks", JSON_TYPE, "{}", 422, "\"pointer\":\"/type\"" },
		{ "POST", "/tasks", JSON_TYPE, "{\"type\":\"evaluation\",\"params\":{\"x\":1}}", 422,
			"\"pointer\":\"/params/x\"" },
		{ "POST", "/tasks", JSON_TYPE,
			"{\"type\":\"evaluation\",\"priority\":1,\"params\":{\"code\":\"\",\"priority\":1}}", 422,
			"\"pointer\":\"/params/priority\"" },
		{ "POST", "/tasks", JSON_TYPE, "{\"type\":\"test\",\"priority\":10}", 422,
			"\"pointer\":\"/priority\"" },
		{ "POST", "/tasks", JSON_TYPE, "{\"type\":\"test\",\"params\":[]}", 422, "\"pointer\":\"/params\"" },
		{ "POST", "/batches/x/cancel", "", NULL, 404, "batch" },
		{ "POST", "/batches/019ab000-0000-7000-8000-000000000000/cancel", "", NULL, 404, "batch" },
		{ "DELETE", "/tasks", "", NULL, 405, "GET, HEAD, POST, OPTIONS" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct answer answer = request(world, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
		if (!CHECK_INT(answer.status, cases[i].status) || !CHECK(answer_has(&answer, cases[i].says)))
			printf("# %s %s %s\n", cases[i].method, cases[i].path, cases[i].body ? cases[i].body : "");
		CHECK(strstr(answer.head, "application/problem+json") != NULL);
		if (answer.status == 405)
			CHECK(strstr(answer.head, "Allow: ") != NULL);
		answer_free(&answer);
	}
	struct answer answer = request(world, "OPTIONS", "/api/tasks", "", NULL);
	CHECK_INT(answer.status, 204);
	CHECK(strstr(answer.head, "Allow: GET, HEAD, POST, OPTIONS") != NULL);
	answer_free(&answer);
	world_free(world);
}

TEST(a_large_body_goes_through_the_thread_pool)
{
	struct world *world = world_new(&(struct world_options){ 0 });
	size_t len = 1 << 20;
	struct buffer text = BUFFER_MAX(0);
	buffer_append_string(&text, "{\"code\":\"");
	memset(buffer_reserve(&text, len), 'x', len);
	text.len += len;
	buffer_append_string(&text, "\"}");
	struct answer answer = request_bytes(world, "POST", "/execute", JSON_TYPE, text.data, text.len);
	CHECK_INT(answer.status, 201);
	answer_free(&answer);
	struct job *job = world_job(world, 1);
	CHECK_INT(job->file_count, 1);
	CHECK_INT(job->files[0].content.len, len);
	job_end(world, job, 0);
	/* The client may go while the thread works. */
	for (int i = 0; i < 5; i++) {
		struct client *client = client_new(world);
		client_sendf(client,
			"POST /execute HTTP/1.1\r\nHost: localhost\r\n" JSON_TYPE "Content-Length: %zu\r\n\r\n",
			text.len);
		client_send(client, text.data, text.len);
		uv_run(&world->loop, UV_RUN_ONCE);
		uv_run(&world->loop, UV_RUN_NOWAIT);
		client_free(client);
	}
	buffer_fini(&text);
	world_free(world);
}

TEST_MAIN()
