/* What the tests of the PostgreSQL store beyond the contract share: a program has one server, started before its first
 * test, and each test that asks for one a schema of its own. */
#ifndef ASSAY_TESTS_CONTRACT_STORE_POSTGRES_WORLD_H
#define ASSAY_TESTS_CONTRACT_STORE_POSTGRES_WORLD_H

#include "tests/contract/postgres_node.h"
#include "tests/contract/postgres_server.h"
#include "tests/unit/test.h"

extern struct postgres_server *server;
extern uv_loop_t *loop;
extern struct node one;
extern char own_schema[32]; /* of the node that was opened last, empty before */

void open_one(void); /* in a fresh schema, and available */
/* What postgres_server_query() gives, within the schema, or "" for NULL; until the next call. */
const char *query(const char *sql);

int store_postgres_main(const char *conf, int (*tests)(int argc, char **argv), int argc, char **argv);

/* The program's main(); `conf`: lines for postgresql.conf. */
#define STORE_POSTGRES_MAIN(conf) \
	int main(int argc, char **argv) \
	{ \
		return store_postgres_main((conf), test_main, argc, argv); \
	}

#endif
