/* GET /openapi.json. The document is a file beside this one, written by hand and held true by tests/unit/test_api_openapi.c; the assembler
 * puts its bytes into the program. */
#include "api/openapi.h"

#include "api/call.h"
#include "api/handlers.h"

__asm__(".pushsection .rodata\n"
	".type openapi_begin, @object\n"
	"openapi_begin: .incbin \"" OPENAPI_FILE "\"\n"
	".type openapi_end, @object\n"
	"openapi_end: .byte 0\n"
	".popsection\n");

extern const char openapi_begin[] __attribute__((visibility("hidden")));
extern const char openapi_end[] __attribute__((visibility("hidden")));

struct bytes openapi_text(void)
{
	return (struct bytes){ openapi_begin, (size_t)(openapi_end - openapi_begin) };
}

void handle_openapi(struct call *call)
{
	call_respond(call, 200, "application/json", openapi_text(), NULL, 0);
}
