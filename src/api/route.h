/* The table of routes. A path is matched by its parts; `{id}` stands for any one part that is not empty. */
#ifndef ASSAY_API_ROUTE_H
#define ASSAY_API_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/api.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "io/http_server.h"

#define ROUTE_PARTS_MAX 4
#define ROUTE_QUERY_MAX 8
#define ROUTE_COUNT_MAX 32

struct call;

enum route_body { BODY_NONE, BODY_SMALL, BODY_ORDINARY, BODY_BATCH };

struct route {
	enum http_method method; /* GET (which serves HEAD too) or POST */
	const char *pattern; /* as in openapi.json: "/tasks/{id}/run" */
	const char *parts[ROUTE_PARTS_MAX]; /* the pattern's; "" for `{id}`, NULL behind the last */
	enum api_role role; /* needed; ROLE_NONE: anybody */
	enum route_body body;
	bool work; /* brings new work: refused while draining */
	const char *query[ROUTE_QUERY_MAX + 1]; /* known query parameters, NULL behind the last */
	void (*handle)(struct call *call);
};

extern const struct route routes[];
extern const size_t route_count;

struct route_match {
	const struct route *route; /* NULL: none */
	struct bytes argument; /* raw: what stands for `{id}` */
	unsigned methods; /* 1 << enum http_method of all routes of that path; 0: no such path */
};
/* `path` raw, with or without the leading /api. */
struct route_match route_find(enum http_method method, struct bytes path);
/* The place of a route in the table. */
size_t route_index(const struct route *route);
/* "GET, HEAD, OPTIONS" */
const char *route_allow(unsigned methods);

/* Undoes percent-encoding, in a query also '+' for a space. Absent when it is malformed. Points into `text` where there
 * is nothing to undo. */
struct bytes percent_decode(struct arena *arena, struct bytes text, bool query);

#endif
