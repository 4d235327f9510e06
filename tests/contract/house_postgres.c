/* One server for all tests of a program, a schema for each directory. */
#include "house_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres_server.h"
#include "store/postgres/postgres_store.h"

static struct postgres_server *server;

static void stop_server(void)
{
	postgres_server_stop(server);
}

/* Before the plan of the tests is printed. */
__attribute__((constructor)) static void skip_without_programs(void)
{
	if (postgres_server_programs())
		return;
	printf("1..0 # SKIP there is no PostgreSQL server here\n");
	exit(0);
}

struct store *house_store_new(uv_loop_t *loop, struct log *log, const char *directory)
{
	char schema[64] = "house_";
	if (!server) {
		server = postgres_server_start("fsync = off\n");
		atexit(stop_server);
	}
	/* Two names that differ in capital letters alone would be one schema: as bytes they are not. */
	const char *name = strrchr(directory, '-');
	for (size_t i = 1; name && name[i] && i < 8; i++)
		snprintf(schema + strlen(schema), 3, "%02x", (unsigned char)name[i]);
	const struct postgres_store_options options = {
		.loop = loop,
		.log = log,
		.url = postgres_server_conninfo(server),
		.schema = schema,
	};
	return postgres_store_new(&options);
}

bool house_store_is_embedded(void)
{
	return false;
}
