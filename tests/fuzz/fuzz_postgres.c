/* What a server says of itself: any message becomes one line of text, and an SQLSTATE or none. */
#include <string.h>

#include "io/postgres_internal.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *message = malloc(size + 1);
	char sqlstate[6];
	struct err err = { 0 };
	memcpy(message, data, size);
	message[size] = '\0';
	postgres_error_text(&err, -1, message, sqlstate);
	HOLDS(err.message[0] != '\0' && err.message[0] != ' ');
	HOLDS(!strpbrk(err.message, "\n\t"));
	HOLDS(strlen(sqlstate) == 0 || strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5);
	free(message);
	return 0;
}
