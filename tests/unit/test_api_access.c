/* Tokens, roles, tenants, anonymous clients, Host and Origin. */
#include "api_world.h"
#include "base/text.h"
#include "test.h"

static char *token_file(void)
{
	static const struct {
		const char *token, *tenant, *role;
	} tokens[] = { { "read-a", "a", "read" }, { "submit-a", "a", "submit" }, { "submit-b", "b", "submit" },
		{ "root", "ops", "admin" } };
	struct buffer text = BUFFER_MAX(0);
	buffer_append_string(&text, "# tokens\n\n");
	for (size_t i = 0; i < 4; i++) {
		uint8_t digest[SHA256_SIZE];
		sha256(bytes_of(tokens[i].token), digest);
		hex_append(&text, (struct bytes){ (const char *)digest, SHA256_SIZE });
		buffer_printf(&text, "  %s\t%s  a name\n", tokens[i].tenant, tokens[i].role);
	}
	buffer_append(&text, "", 1);
	return text.data;
}

#define AUTH(token) "Authorization: Bearer " token "\r\n"

static int status_of(struct world *world, const char *method, const char *path, const char *headers, const char *body)
{
	struct answer answer = request(world, method, path, headers, body);
	int status = answer.status;
	answer_free(&answer);
	return status;
}

static bool answer_names(struct world *world, const char *path, const char *headers, const char *what)
{
	struct answer answer = request(world, "GET", path, headers, NULL);
	bool names = strstr(answer.body, what) != NULL;
	answer_free(&answer);
	return names;
}

TEST(tokens_roles_and_tenants)
{
	char *tokens = token_file();
	struct world *world = world_new(&(struct world_options){ .tokens = tokens, .slots = -1 });
	const char *code = "{\"code\":\"1\",\"eval_id\":\"e\"}";
	struct answer answer = request(world, "POST", "/execute", JSON_TYPE, code);
	CHECK_INT(answer.status, 401);
	CHECK(strstr(answer.head, "WWW-Authenticate: Bearer realm=\"assay\"\r\n") != NULL);
	answer_free(&answer);
	answer = request(world, "POST", "/execute", JSON_TYPE AUTH("nonsense"), code);
	CHECK_INT(answer.status, 401);
	CHECK(strstr(answer.head, "invalid_token") != NULL);
	answer_free(&answer);
	CHECK_INT(status_of(world, "POST", "/execute", JSON_TYPE "Authorization: Basic cmVhZC1h\r\n", code), 401);
	CHECK_INT(status_of(world, "POST", "/execute", JSON_TYPE AUTH("read-a"), code), 403);
	CHECK_INT(status_of(world, "GET", "/health", "", NULL), 200);
	CHECK_INT(status_of(world, "GET", "/readyz", "", NULL), 200);
	CHECK(!answer_names(world, "/readyz", "", "\"store\"") && !answer_names(world, "/readyz", "", "\"checks\""));
	CHECK(!answer_names(world, "/readyz", AUTH("nonsense"), "\"store\""));
	CHECK(answer_names(world, "/readyz", AUTH("read-a"), "\"store\""));
	CHECK_INT(status_of(world, "GET", "/metrics", "", NULL), 401);
	CHECK_INT(status_of(world, "GET", "/metrics", AUTH("read-a"), NULL), 200);
	CHECK_INT(status_of(world, "OPTIONS", "/tasks", "", NULL), 204);

	answer = request(world, "POST", "/execute", JSON_TYPE AUTH("submit-a"), code);
	CHECK_INT(answer.status, 201);
	char id[64], path[160];
	snprintf(id, sizeof(id), "%s", answer_member(&answer, "task_id"));
	answer_free(&answer);
	/* The same key of another tenant is another key. */
	CHECK_INT(
		status_of(world, "POST", "/execute", JSON_TYPE AUTH("submit-b"), "{\"code\":\"2\",\"eval_id\":\"e\"}"),
		201);
	static const char *const reads[] = { "/status/%s", "/tasks/%s", "/tasks/%s/events?kind=queued", "/logs/%s",
		"/tasks/%s/why" };
	for (size_t i = 0; i < 5; i++) {
		char pattern[64];
		snprintf(pattern, sizeof(pattern), "%s", reads[i]);
		char *mark = strstr(pattern, "%s");
		*mark = 0;
		snprintf(path, sizeof(path), "%s%s%s", pattern, id, mark + 2);
		if (i != 2) {
			CHECK_INT(status_of(world, "GET", path, AUTH("read-a"), NULL), 200);
			CHECK_INT(status_of(world, "GET", path, AUTH("root"), NULL), 200);
		}
		CHECK_INT(status_of(world, "GET", path, AUTH("submit-b"), NULL), 404);
	}
	/* Nor by its short forms, nor in lists. */
	snprintf(path, sizeof(path), "/status/%s", id + 28);
	CHECK_INT(status_of(world, "GET", path, AUTH("submit-b"), NULL), 404);
	CHECK_INT(status_of(world, "GET", path, AUTH("read-a"), NULL), 200);
	answer = request(world, "GET", "/tasks", AUTH("submit-b"), NULL);
	CHECK(!strstr(answer.body, id));
	answer_free(&answer);
	answer = request(world, "GET", "/tasks", AUTH("root"), NULL);
	CHECK(answer_has(&answer, id));
	answer_free(&answer);
	snprintf(path, sizeof(path), "/tasks/%s/cancel", id);
	CHECK_INT(status_of(world, "POST", path, AUTH("submit-b"), NULL), 404);
	CHECK_INT(status_of(world, "POST", path, AUTH("read-a"), NULL), 403);
	CHECK_INT(status_of(world, "POST", path, AUTH("root"), NULL), 200);
	/* The ended one is cached by now or after the next: still of its tenant alone. */
	snprintf(path, sizeof(path), "/status/%s", id);
	for (int i = 0; i < 2; i++)
		CHECK_INT(status_of(world, "GET", path, AUTH("read-a"), NULL), 200);
	CHECK_INT(status_of(world, "GET", path, AUTH("submit-b"), NULL), 404);

	/* Read anew: who is not in the file any more is out; a file that is wrong changes nothing. */
	struct err err = { 0 };
	CHECK(api_load_tokens(world->api, BYTES_LITERAL("zz a read\n"), &err) < 0);
	CHECK(strstr(err.message, "line 1") != NULL);
	CHECK_INT(status_of(world, "GET", path, AUTH("read-a"), NULL), 200);
	CHECK_INT(api_load_tokens(world->api, BYTES_LITERAL(""), &err), 0);
	CHECK_INT(status_of(world, "GET", path, AUTH("read-a"), NULL), 401);
	free(tokens);
	world_free(world);
}

TEST(events_stay_in_the_tenant)
{
	char *tokens = token_file();
	struct world *world = world_new(&(struct world_options){ .tokens = tokens, .slots = -1 });
	struct client *a = client_new(world), *b = client_new(world), *root = client_new(world);
	client_sendf(a, "GET /events HTTP/1.1\r\nHost: x\r\n" AUTH("read-a") "\r\n");
	client_sendf(b, "GET /events?eval_id=e HTTP/1.1\r\nHost: x\r\n" AUTH("submit-b") "\r\n");
	client_sendf(root, "GET /events HTTP/1.1\r\nHost: x\r\n" AUTH("root") "\r\n");
	client_wait(a, "\r\n\r\n");
	client_wait(b, "\r\n\r\n");
	client_wait(root, "\r\n\r\n");
	CHECK_INT(
		status_of(world, "POST", "/execute", JSON_TYPE AUTH("submit-a"), "{\"code\":\"1\",\"eval_id\":\"e\"}"),
		201);
	client_wait(a, "event: queued");
	client_wait(root, "event: queued");
	CHECK_INT(
		status_of(world, "POST", "/execute", JSON_TYPE AUTH("submit-b"), "{\"code\":\"1\",\"eval_id\":\"e\"}"),
		201);
	client_wait(b, "event: queued");
	char *first = strstr((char *)(uintptr_t)client_text(b), "event: queued");
	CHECK(first && !strstr(first + 1, "event: queued"));
	client_free(a);
	client_free(b);
	client_free(root);
	free(tokens);
	world_free(world);
}

TEST(anonymous_clients_by_network)
{
	char *tokens = token_file();
	struct world *world = world_new(&(struct world_options){ .tokens = tokens,
		.slots = -1,
		.access = { .anonymous_role = ROLE_SUBMIT, .anonymous_from = "10.0.0.0/8, 127.0.0.0/8,::1" } });
	CHECK_INT(status_of(world, "POST", "/execute", JSON_TYPE, "{\"code\":\"1\"}"), 201);
	CHECK_INT(status_of(world, "GET", "/tasks", AUTH("wrong"), NULL), 401);
	world_free(world);
	world = world_new(&(struct world_options){ .tokens = tokens,
		.slots = -1,
		.access = { .anonymous_role = ROLE_READ, .anonymous_from = "10.0.0.0/8,127.0.0.2" } });
	CHECK_INT(status_of(world, "GET", "/tasks", "", NULL), 401);
	world_free(world);
	free(tokens);
}

TEST(foreign_hosts_are_refused_on_loopback)
{
	static const char *const names[] = { "assay.test", NULL };
	struct world *world =
		world_new(&(struct world_options){ .slots = -1, .access = { .loopback = true, .host_names = names } });
	static const struct {
		const char *headers;
		int status;
	} cases[] = {
		{ "Host: localhost:8090\r\n", 200 },
		{ "Host: LOCALHOST\r\n", 200 },
		{ "Host: 127.0.0.1:1\r\n", 200 },
		{ "Host: [::1]:8090\r\n", 200 },
		{ "Host: [::1]\r\n", 200 },
		{ "Host: assay.test:80\r\n", 200 },
		{ "Host: evil.example\r\n", 403 },
		{ "Host: localhost.evil.example\r\n", 403 },
		{ "Host: 127.0.0.1.evil.example\r\n", 403 },
		{ "Host: localhost\r\nOrigin: http://localhost:3000\r\n", 200 },
		{ "Host: localhost\r\nOrigin: https://evil.example\r\n", 403 },
		{ "Host: localhost\r\nOrigin: null\r\n", 403 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!CHECK_INT(status_of(world, "GET", "/health", cases[i].headers, NULL), cases[i].status))
			printf("# %s", cases[i].headers);
	world_free(world);
}

TEST_MAIN()
