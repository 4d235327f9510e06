#include "tests/contract/store_postgres_world.h"

#include <stdio.h>
#include <stdlib.h>

struct postgres_server *server;
uv_loop_t *loop;
struct node one;
char own_schema[32];

void open_one(void)
{
	static int number;
	snprintf(own_schema, sizeof(own_schema), "s%d", ++number);
	node_up(&one, loop, postgres_server_conninfo(server), own_schema);
}

const char *query(const char *sql)
{
	static char *text;
	char all[4096];
	int length = snprintf(all, sizeof(all), "SET search_path = %s; %s", own_schema, sql);
	REQUIRE(length < (int)sizeof(all));
	free(text);
	text = postgres_server_query(server, own_schema[0] ? all : sql);
	return text ? text : "";
}

int store_postgres_main(const char *conf, int (*tests)(int argc, char **argv), int argc, char **argv)
{
	if (!postgres_server_programs()) {
		printf("1..0 # SKIP there is no PostgreSQL server here\n");
		return 0;
	}
	loop = uv_default_loop();
	server = postgres_server_start(conf);
	int status = tests(argc, argv);
	postgres_server_stop(server);
	uv_loop_close(loop);
	return status;
}
