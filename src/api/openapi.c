/* GET /openapi.json. The document is a file beside this one, written by hand and held true by
 * tests/unit/test_api_openapi.c. */
#include "api/openapi.h"

#include "api/call.h"
#include "api/handlers.h"

/* Written by base/embed.py. */
extern const char openapi_json[];
extern const size_t openapi_json_size;

struct bytes openapi_text(void)
{
	return (struct bytes){ openapi_json, openapi_json_size };
}

void handle_openapi(struct call *call)
{
	call_respond(call, 200, "application/json", openapi_text(), NULL, 0);
}
