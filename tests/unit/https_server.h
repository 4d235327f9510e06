/* The servers of https_server.py, whose path is in HTTPS_SERVER, for as long as a test needs them. */
#ifndef ASSAY_TESTS_UNIT_HTTPS_SERVER_H
#define ASSAY_TESTS_UNIT_HTTPS_SERVER_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

struct https_server {
	int plain_port, strict_port; /* strict: it wants a client's certificate */
	char directory[32];
	char ca[64], certificate[64], key[64], locked_key[64]; /* files */
	pid_t child;
	int input; /* its standard input; it goes when that ends */
	FILE *said;
};

static inline int https_remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	return remove(path);
}

static inline void https_server_start(struct https_server *server)
{
	char answer[64] = "";
	int to[2], from[2];
	const char *command = getenv("HTTPS_SERVER");
	snprintf(server->directory, sizeof(server->directory), "/tmp/assay-tls-XXXXXX");
	REQUIRE(command && mkdtemp(server->directory) && pipe(to) == 0 && pipe(from) == 0);
	server->child = fork();
	if (server->child == 0) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		close(to[1]);
		execl(command, command, server->directory, (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	server->input = to[1];
	server->said = fdopen(from[0], "r");
	REQUIRE(server->said && fgets(answer, sizeof(answer), server->said));
	REQUIRE(sscanf(answer, "%d %d", &server->plain_port, &server->strict_port) == 2);
	snprintf(server->ca, sizeof(server->ca), "%s/ca.pem", server->directory);
	snprintf(server->certificate, sizeof(server->certificate), "%s/client.pem", server->directory);
	snprintf(server->key, sizeof(server->key), "%s/client.key", server->directory);
	snprintf(server->locked_key, sizeof(server->locked_key), "%s/client-locked.key", server->directory);
}

static inline void https_server_stop(struct https_server *server)
{
	close(server->input);
	fclose(server->said);
	waitpid(server->child, NULL, 0);
	nftw(server->directory, https_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
