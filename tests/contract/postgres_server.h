/* A PostgreSQL server of the test's own: made with the distribution's programs in a temporary directory, heard on a
 * socket in it and on a free port of 127.0.0.1, gone at the end. Run by root it runs as nobody, since PostgreSQL
 * refuses root. Calls wait until what they say has happened; what cannot be done ends the program with "Bail out!". A
 * server dies with the thread that started it.
 *
 *	struct postgres_server *server = postgres_server_start("fsync = off\n");
 *	… postgres_server_conninfo(server) …
 *	postgres_server_stop(server);
 */
#ifndef ASSAY_TESTS_CONTRACT_POSTGRES_SERVER_H
#define ASSAY_TESTS_CONTRACT_POSTGRES_SERVER_H

#include <stdint.h>
#include <sys/types.h>

struct postgres_server;

/* Is there a PostgreSQL on this machine to start? Tests skip themselves where there is none. */
const char *postgres_server_programs(void); /* the directory of initdb and postgres, or NULL */

/* `extra_conf`: lines for postgresql.conf, NULL for none. Without them the settings are the distribution's defaults, so
 * fsync is on. The superuser is `assay`, let in without a password; so is everybody else but `guarded` (password
 * "secret"), which must give one by SCRAM. The database is `postgres`. */
struct postgres_server *postgres_server_start(const char *extra_conf);
void postgres_server_stop(struct postgres_server *server); /* and removes it; NULL does nothing */

const char *postgres_server_conninfo(const struct postgres_server *server); /* by the socket; borrowed */
const char *postgres_server_tcp_conninfo(const struct postgres_server *server); /* by the port; borrowed */
const char *postgres_server_directory(
	const struct postgres_server *server); /* the server's, its socket is in it; borrowed */
uint16_t postgres_server_port(const struct postgres_server *server);

void postgres_server_kill(struct postgres_server *server); /* kill -9 of all its processes at once */
void postgres_server_shut_down(struct postgres_server *server); /* "fast": connections are told and closed */
void postgres_server_restart(struct postgres_server *server); /* after one of the above */
void postgres_server_freeze(struct postgres_server *server); /* SIGSTOP to all its processes */
void postgres_server_thaw(struct postgres_server *server);

/* Runs one statement over a connection of its own and waits for it; what it returns in its first row and column, to be
 * freed, or NULL. */
char *postgres_server_query(const struct postgres_server *server, const char *sql);

/* A port of 127.0.0.1 that nobody listens on just now. */
uint16_t postgres_server_free_port(void);
/* Starts a program in `directory` as the user that servers run as, its output going to `log` there; dies with its
 * starter. */
pid_t postgres_server_spawn(const char *directory, const char *log, const char *const arguments[]);
/* A temporary directory that this user may write to, allocated; and its removal with all that is in it. */
char *postgres_server_make_directory(void);
void postgres_server_remove_directory(const char *directory);

#endif
