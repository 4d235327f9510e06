#include "postgres_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"

#define DEADLINE_S 60
#define PROCESSES_MAX 512
#define NOBODY 65534
#define DIRECTORIES_MAX 32

struct postgres_server {
	char *directory; /* owned */
	char *programs; /* owned */
	char *extra_conf; /* owned */
	uint16_t port;
	char conninfo[256], tcp_conninfo[256];
	pid_t pid; /* 0: not running */
};

static void __attribute__((noreturn, format(printf, 1, 2))) bail_out(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	printf("Bail out! ");
	vprintf(format, arguments);
	printf("\n");
	va_end(arguments);
	exit(1);
}

/* === programs and directories === */

const char *postgres_server_programs(void)
{
	static char directory[256];
	glob_t found = { 0 };
	int best = 0;
	if (glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int version = 0;
			if (sscanf(found.gl_pathv[i], "/usr/lib/postgresql/%d/", &version) == 1 && version > best) {
				best = version;
				snprintf(directory, sizeof(directory), "/usr/lib/postgresql/%d/bin", version);
			}
		}
	globfree(&found);
	return best ? directory : NULL;
}

/* What a program leaves that ends early, by "Bail out!" for one, goes with it. */
static char leftovers[DIRECTORIES_MAX][256];
static pid_t leaver;

static void remove_leftovers(void)
{
	for (size_t i = 0; i < DIRECTORIES_MAX && getpid() == leaver; i++)
		if (leftovers[i][0])
			postgres_server_remove_directory(leftovers[i]);
}

static void remember(const char *directory)
{
	if (!leaver)
		atexit(remove_leftovers);
	leaver = getpid();
	for (size_t i = 0; i < DIRECTORIES_MAX; i++)
		if (!leftovers[i][0]) {
			snprintf(leftovers[i], sizeof(leftovers[i]), "%s", directory);
			return;
		}
}

char *postgres_server_make_directory(void)
{
	const char *parent = getenv("TMPDIR");
	char path[256];
	snprintf(path, sizeof(path), "%s/assay-postgres-XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(path))
		bail_out("%s: %s", path, strerror(errno));
	if (geteuid() == 0 && chown(path, NOBODY, NOBODY) < 0)
		bail_out("%s: %s", path, strerror(errno));
	remember(path);
	return string_copy(path);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
	remove(path);
	return 0;
}

void postgres_server_remove_directory(const char *directory)
{
	/* A server that is just dying may add to it meanwhile. */
	for (int attempts = 0; attempts < 100 && access(directory, F_OK) == 0; attempts++)
		nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	for (size_t i = 0; i < DIRECTORIES_MAX; i++)
		if (strcmp(leftovers[i], directory) == 0)
			leftovers[i][0] = '\0';
}

uint16_t postgres_server_free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		bail_out("no free port: %s", strerror(errno));
	close(fd);
	return ntohs(address.sin_port);
}

static void write_file(const char *directory, const char *name, const char *mode, const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, mode);
	if (!file || fputs(text, file) < 0 || fclose(file) != 0)
		bail_out("%s: %s", path, strerror(errno));
}

/* === processes === */

static void __attribute__((noreturn)) become_server(
	const char *directory, const char *log, const char *const arguments[])
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGQUIT);
	umask(077);
	int out = -1, in = open("/dev/null", O_RDONLY);
	if (chdir(directory) == 0)
		out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(126);
	setenv("LC_ALL", "C", 1);
	execv(arguments[0], (char *const *)arguments);
	_exit(127);
}

pid_t postgres_server_spawn(const char *directory, const char *log, const char *const arguments[])
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		bail_out("fork: %s", strerror(errno));
	if (pid == 0)
		become_server(directory, log, arguments);
	return pid;
}

static void show_log(const struct postgres_server *server)
{
	char path[512], line[512];
	snprintf(path, sizeof(path), "%s/log", server->directory);
	FILE *file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		printf("# %s", line);
	if (file)
		fclose(file);
}

static void run(const struct postgres_server *server, const char *const arguments[])
{
	int status = 0;
	pid_t pid = postgres_server_spawn(server->directory, "log", arguments);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (status != 0) {
		show_log(server);
		bail_out("%s ended with status %d", arguments[0], status);
	}
}

/* Every process of the server: the first and its children, which have none. */
static size_t processes(const struct postgres_server *server, pid_t pids[static PROCESSES_MAX])
{
	char path[64];
	size_t count = 0;
	int child;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)server->pid, (int)server->pid);
	pids[count++] = server->pid;
	FILE *file = fopen(path, "r");
	while (file && count < PROCESSES_MAX && fscanf(file, "%d", &child) == 1)
		pids[count++] = child;
	if (file)
		fclose(file);
	return count;
}

static void signal_all(const struct postgres_server *server, int signal_number)
{
	pid_t pids[PROCESSES_MAX];
	size_t count = processes(server, pids);
	for (size_t i = 0; i < count; i++)
		kill(pids[i], signal_number);
}

static void wait_for_end(struct postgres_server *server)
{
	while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	server->pid = 0;
}

/* True once it accepts connections; false when it has ended instead. */
static bool wait_until_ready(struct postgres_server *server)
{
	for (int left = DEADLINE_S * 100; left > 0; left--) {
		int status;
		if (PQping(server->conninfo) == PQPING_OK)
			return true;
		if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
			server->pid = 0;
			return false;
		}
		poll(NULL, 0, 10); /* it tells nobody */
	}
	bail_out("PostgreSQL was not ready within %d s", DEADLINE_S);
}

static bool launch(struct postgres_server *server)
{
	char program[300], data[300];
	snprintf(program, sizeof(program), "%s/postgres", server->programs);
	snprintf(data, sizeof(data), "%s/data", server->directory);
	const char *const arguments[] = { program, "-D", data, NULL };
	server->pid = postgres_server_spawn(server->directory, "log", arguments);
	return wait_until_ready(server);
}

/* === the server === */

static void initialise(struct postgres_server *server)
{
	char program[300], data[300];
	snprintf(program, sizeof(program), "%s/initdb", server->programs);
	snprintf(data, sizeof(data), "%s/data", server->directory);
	const char *const arguments[] = { program, "-D", data, "-U", "assay", "-A", "trust", "--no-sync",
		"--no-instructions", "-E", "UTF8", "--locale=C", NULL };
	run(server, arguments);
	write_file(data, "pg_hba.conf", "w",
		"local all guarded scram-sha-256\n"
		"host all guarded all scram-sha-256\n"
		"local all all trust\n"
		"host all all all trust\n");
}

static void configure(struct postgres_server *server)
{
	char data[300], text[4096];
	snprintf(data, sizeof(data), "%s/data", server->directory);
	snprintf(text, sizeof(text),
		"unix_socket_directories = '%s'\nunix_socket_permissions = 0777\nlisten_addresses = '127.0.0.1'\nport "
		"= %u\n"
		"max_connections = 60\nshared_buffers = 32MB\n%s\n",
		server->directory, server->port, server->extra_conf ? server->extra_conf : "");
	write_file(data, "postgresql.conf", "a", text);
	snprintf(server->conninfo, sizeof(server->conninfo), "host=%s port=%u user=assay dbname=postgres",
		server->directory, server->port);
	snprintf(server->tcp_conninfo, sizeof(server->tcp_conninfo),
		"host=127.0.0.1 port=%u user=assay dbname=postgres sslmode=disable", server->port);
}

struct postgres_server *postgres_server_start(const char *extra_conf)
{
	const char *programs = postgres_server_programs();
	if (!programs)
		bail_out("there is no PostgreSQL under /usr/lib/postgresql");
	struct postgres_server *server = alloc(sizeof(*server));
	server->programs = string_copy(programs);
	server->extra_conf = string_copy(extra_conf);
	server->directory = postgres_server_make_directory();
	initialise(server);
	/* Another program may take the port between our asking and the server's. */
	for (int attempts = 0; attempts < 5; attempts++) {
		server->port = postgres_server_free_port();
		configure(server);
		if (launch(server)) {
			free(postgres_server_query(server, "create role guarded login password 'secret'"));
			return server;
		}
	}
	show_log(server);
	bail_out("PostgreSQL did not start");
}

void postgres_server_stop(struct postgres_server *server)
{
	if (!server)
		return;
	if (server->pid) {
		signal_all(server, SIGCONT);
		kill(server->pid, SIGQUIT);
		wait_for_end(server);
	}
	postgres_server_remove_directory(server->directory);
	free(server->directory);
	free(server->programs);
	free(server->extra_conf);
	free(server);
}

void postgres_server_kill(struct postgres_server *server)
{
	/* The first is stopped before the others are looked for, so that it starts none meanwhile. */
	kill(server->pid, SIGSTOP);
	signal_all(server, SIGKILL);
	wait_for_end(server);
}

void postgres_server_shut_down(struct postgres_server *server)
{
	kill(server->pid, SIGINT);
	wait_for_end(server);
}

void postgres_server_restart(struct postgres_server *server)
{
	for (int attempts = 0; attempts < 20; attempts++) {
		if (launch(server))
			return;
		poll(NULL, 0, 100); /* what was killed has not quite gone */
	}
	show_log(server);
	bail_out("PostgreSQL did not start again");
}

void postgres_server_freeze(struct postgres_server *server)
{
	signal_all(server, SIGSTOP);
}

void postgres_server_thaw(struct postgres_server *server)
{
	signal_all(server, SIGCONT);
}

const char *postgres_server_conninfo(const struct postgres_server *server)
{
	return server->conninfo;
}

const char *postgres_server_tcp_conninfo(const struct postgres_server *server)
{
	return server->tcp_conninfo;
}

const char *postgres_server_directory(const struct postgres_server *server)
{
	return server->directory;
}

uint16_t postgres_server_port(const struct postgres_server *server)
{
	return server->port;
}

char *postgres_server_query(const struct postgres_server *server, const char *sql)
{
	PGconn *conn = PQconnectdb(server->conninfo);
	PGresult *result = PQexec(conn, sql);
	ExecStatusType status = PQresultStatus(result);
	char *value = NULL;
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		bail_out("%s: %s", sql, PQerrorMessage(conn));
	if (PQntuples(result) > 0 && PQnfields(result) > 0 && !PQgetisnull(result, 0, 0))
		value = string_copy(PQgetvalue(result, 0, 0));
	PQclear(result);
	PQfinish(conn);
	return value;
}
