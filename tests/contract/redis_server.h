/* A private redis-server for tests: in a directory of its own, on a unix socket, or on a free TCP port too, without
 * persistence. It dies with the test. */
#ifndef ASSAY_TESTS_CONTRACT_REDIS_SERVER_H
#define ASSAY_TESTS_CONTRACT_REDIS_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "io/redis_address.h"

struct redis_server {
	char directory[64];
	char socket[96];
	uint16_t tls_port; /* 0: none */
	pid_t pid; /* 0: not running */
	char extra[256]; /* further arguments, separated by blanks */
};

/* Makes the directory and starts it; ready when it returns. With TLS: a certificate for localhost by an authority in
 * `directory`/ca.crt. */
void redis_server_start(struct redis_server *server, bool tls);
void redis_server_kill(struct redis_server *server); /* SIGKILL, and its end waited for */
void redis_server_restart(struct redis_server *server); /* after a kill: the same places, nothing kept */
void redis_server_stop(struct redis_server *server); /* and removes the directory */
/* One command over a connection of its own; its answer as one line of text ("OK", "1", "-ERR …", "a b c"). Blocks. */
const char *redis_server_ask(const struct redis_server *server, const char *command);
/* On the unix socket. */
struct redis_address redis_server_address(const struct redis_server *server);

#endif
