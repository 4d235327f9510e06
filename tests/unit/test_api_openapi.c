/* The OpenAPI document and the table of routes say the same, both ways: paths, methods, query parameters; and every
 * reference in the document leads somewhere. */
#include <yyjson.h>

#include "api/openapi.h"
#include "api/route.h"
#include "test.h"

static yyjson_doc *parse(void)
{
	struct bytes text = openapi_text();
	yyjson_doc *document = yyjson_read(text.data, text.len, 0);
	REQUIRE(document);
	return document;
}

static const char *method_name(const struct route *route)
{
	return route->method == HTTP_METHOD_POST ? "post" : "get";
}

/* A value, or what its $ref leads to. */
static yyjson_val *resolve(yyjson_doc *document, yyjson_val *value)
{
	const char *to = yyjson_get_str(yyjson_obj_get(value, "$ref"));
	if (!to)
		return value;
	yyjson_val *found = *to == '#' ? yyjson_doc_ptr_get(document, to + 1) : NULL;
	if (!found)
		printf("# %s leads nowhere\n", to);
	return found;
}

static bool documented(yyjson_doc *document, yyjson_val *operation, const char *name)
{
	size_t i, count;
	yyjson_val *parameter;
	yyjson_arr_foreach(yyjson_obj_get(operation, "parameters"), i, count, parameter)
	{
		yyjson_val *resolved = resolve(document, parameter);
		if (yyjson_equals_str(yyjson_obj_get(resolved, "in"), "query") &&
			yyjson_equals_str(yyjson_obj_get(resolved, "name"), name))
			return true;
	}
	return false;
}

TEST(every_route_is_documented)
{
	yyjson_doc *document = parse();
	yyjson_val *paths = yyjson_obj_get(yyjson_doc_get_root(document), "paths");
	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &routes[i];
		yyjson_val *operation = yyjson_obj_get(yyjson_obj_get(paths, route->pattern), method_name(route));
		if (!CHECK(operation != NULL)) {
			printf("# %s %s\n", method_name(route), route->pattern);
			continue;
		}
		for (size_t j = 0; route->query[j]; j++)
			if (!CHECK(documented(document, operation, route->query[j])))
				printf("# %s: %s\n", route->pattern, route->query[j]);
		/* A body is documented where one is taken, and nowhere else. */
		bool takes_body = route->body == BODY_ORDINARY || route->body == BODY_BATCH;
		CHECK_INT(yyjson_obj_get(operation, "requestBody") != NULL, takes_body);
		/* Who needs no token is told so, and who does gets 401. */
		CHECK_INT(yyjson_obj_get(yyjson_obj_get(operation, "responses"), "401") != NULL,
			route->role != ROLE_NONE);
	}
	yyjson_doc_free(document);
}

static const struct route *find(const char *pattern, const char *method)
{
	for (size_t i = 0; i < route_count; i++)
		if (strcmp(routes[i].pattern, pattern) == 0 && strcmp(method_name(&routes[i]), method) == 0)
			return &routes[i];
	return NULL;
}

static bool knows_query(const struct route *route, const char *name)
{
	for (size_t i = 0; route->query[i]; i++)
		if (strcmp(route->query[i], name) == 0)
			return true;
	return false;
}

static void check_operation(yyjson_doc *document, const struct route *route, yyjson_val *operation)
{
	size_t i, count;
	yyjson_val *parameter;
	bool has_id = false;
	yyjson_arr_foreach(yyjson_obj_get(operation, "parameters"), i, count, parameter)
	{
		yyjson_val *resolved = resolve(document, parameter);
		const char *in = yyjson_get_str(yyjson_obj_get(resolved, "in"));
		const char *name = yyjson_get_str(yyjson_obj_get(resolved, "name"));
		REQUIRE(in && name);
		if (strcmp(in, "query") == 0 && !CHECK(knows_query(route, name)))
			printf("# %s: %s\n", route->pattern, name);
		has_id |= strcmp(in, "path") == 0;
	}
	CHECK_INT(has_id, strstr(route->pattern, "{id}") != NULL);
	CHECK(yyjson_obj_size(yyjson_obj_get(operation, "responses")) > 0);
	CHECK(yyjson_is_str(yyjson_obj_get(operation, "operationId")));
}

TEST(everything_documented_is_a_route)
{
	yyjson_doc *document = parse();
	yyjson_val *paths = yyjson_obj_get(yyjson_doc_get_root(document), "paths");
	size_t i, j, count, method_count;
	yyjson_val *path, *methods, *method, *operation;
	yyjson_obj_foreach(paths, i, count, path, methods)
	{
		yyjson_obj_foreach(methods, j, method_count, method, operation)
		{
			const struct route *route = find(yyjson_get_str(path), yyjson_get_str(method));
			if (CHECK(route != NULL))
				check_operation(document, route, operation);
			else
				printf("# %s %s\n", yyjson_get_str(method), yyjson_get_str(path));
		}
	}
	yyjson_doc_free(document);
}

static void check_references(yyjson_doc *document, yyjson_val *value)
{
	size_t i, count;
	yyjson_val *key, *item;
	if (yyjson_is_arr(value)) {
		yyjson_arr_foreach(value, i, count, item) check_references(document, item);
	} else if (yyjson_is_obj(value)) {
		CHECK(resolve(document, value) != NULL);
		yyjson_obj_foreach(value, i, count, key, item) check_references(document, item);
	}
}

TEST(every_reference_leads_somewhere)
{
	yyjson_doc *document = parse();
	CHECK(yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(document), "openapi"), "3.1.0"));
	check_references(document, yyjson_doc_get_root(document));
	yyjson_doc_free(document);
}

TEST(patterns_match_themselves)
{
	for (size_t i = 0; i < route_count; i++) {
		char path[128] = "/api", *to = path + 4;
		for (const char *from = routes[i].pattern; *from;) {
			if (strncmp(from, "{id}", 4) == 0) {
				*to++ = 'x';
				from += 4;
			} else {
				*to++ = *from++;
			}
		}
		*to = 0;
		for (int prefix = 0; prefix < 2; prefix++) {
			struct route_match match = route_find(routes[i].method, bytes_of(prefix ? path : path + 4));
			CHECK(match.route == &routes[i]);
			CHECK_BYTES(
				match.argument, strstr(routes[i].pattern, "{id}") ? BYTES_LITERAL("x") : BYTES_NONE);
		}
	}
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("/")).route);
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("/api")).route);
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("/api/api/health")).route);
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("//health")).route);
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("/health/")).route);
	CHECK(!route_find(HTTP_METHOD_GET, BYTES_LITERAL("/tasks/a/b/c/d")).route);
	CHECK(route_find(HTTP_METHOD_HEAD, BYTES_LITERAL("/health")).route != NULL);
}

TEST_MAIN()
