/* A proxy between a client and a PostgreSQL server that breaks the connection where it hurts. It listens on a socket in
 * a directory of its own, in a thread of its own, and understands where messages begin and end
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html), so that it can cut between a commit and its
 * answer.
 *
 *	struct cut_proxy *proxy = cut_proxy_start(directory_of_the_server, port);
 *	… connect to cut_proxy_conninfo(proxy) …
 *	cut_proxy_arm(proxy, CUT_AFTER_COMMIT, "claim", 1);
 *	… the next group of the connection with "claim" in its application_name is committed, and its answer lost …
 *	cut_proxy_wait(proxy, 1);
 *
 * Calls are made from one thread, and hold for everything that the proxy has not read yet. */
#ifndef ASSAY_TESTS_CONTRACT_CUT_PROXY_H
#define ASSAY_TESTS_CONTRACT_CUT_PROXY_H

#include <stdbool.h>
#include <stdint.h>

struct cut_proxy;

enum cut {
	CUT_NOT, /* everything passes; what a black hole held passes too */
	CUT_AFTER_COMMIT, /* the group is done by the server, none of its answer passes, and the connection is closed on both sides */
	CUT_BEFORE_SYNC, /* its statements pass, its Sync does not, and the connection is closed: the server rolls it back */
	CUT_BLACK_HOLE, /* nothing passes and nothing is closed, in both directions; also of connections that are made from now on */
	CUT_REFUSE, /* connections are closed, also those that are made from now on */
};

struct cut_proxy *cut_proxy_start(const char *server_directory, uint16_t server_port);
void cut_proxy_stop(struct cut_proxy *proxy);
const char *cut_proxy_conninfo(const struct cut_proxy *proxy); /* user assay, database postgres; borrowed */

/* From now on, until armed anew: `cut` for connections whose application_name contains `application` (NULL: for all).
 * The first two kinds strike once, at the `nth` (from 1) Sync that such connections send together from now on, and then
 * pass everything. */
void cut_proxy_arm(struct cut_proxy *proxy, enum cut cut, const char *application, unsigned nth);
/* Closes all connections now. */
void cut_proxy_cut_all(struct cut_proxy *proxy);
/* Waits until so many of the first two kinds have struck since the start; false after a minute. */
bool cut_proxy_wait(struct cut_proxy *proxy, unsigned count);
unsigned cut_proxy_count(struct cut_proxy *proxy);

#endif
