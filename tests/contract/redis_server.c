#include "redis_server.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_S 60
#define STARTS_MAX 5
#define ARGUMENTS_MAX 48

static void fail(const char *what)
{
	printf("Bail out! redis-server: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
	char command[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(command, sizeof(command), format, arguments);
	va_end(arguments);
	if (system(command) != 0)
		fail(command);
}

static uint16_t free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 ||
		getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		fail("free port");
	close(fd);
	return ntohs(address.sin_port);
}

/* An authority, and a certificate by it for the name localhost. */
static void certificates_make(const struct redis_server *server)
{
	const char *d = server->directory;
	shell("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out "
	      "ca.crt "
	      "2>/dev/null && openssl req -newkey rsa:2048 -nodes -subj /CN=redis -keyout server.key -out server.csr "
	      "2>/dev/null && printf 'subjectAltName=DNS:localhost' >names && openssl x509 -req -in server.csr "
	      "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt 2>/dev/null",
		d);
}

static void __attribute__((format(printf, 3, 4))) add(char **arguments, size_t *count, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	if (vasprintf(&arguments[(*count)++], format, values) < 0)
		fail("arguments");
	va_end(values);
}

static void run(const struct redis_server *server)
{
	char *arguments[ARGUMENTS_MAX] = { 0 }, extra[sizeof(server->extra)];
	size_t count = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	add(arguments, &count, "redis-server");
	add(arguments, &count, "--port");
	add(arguments, &count, "0");
	add(arguments, &count, "--unixsocket");
	add(arguments, &count, "%s", server->socket);
	add(arguments, &count, "--dir");
	add(arguments, &count, "%s", server->directory);
	add(arguments, &count, "--save");
	add(arguments, &count, "%s", "");
	add(arguments, &count, "--logfile");
	add(arguments, &count, "%s/log", server->directory);
	if (server->tls_port) {
		add(arguments, &count, "--tls-port");
		add(arguments, &count, "%u", server->tls_port);
		add(arguments, &count, "--tls-auth-clients");
		add(arguments, &count, "no");
		add(arguments, &count, "--tls-ca-cert-file");
		add(arguments, &count, "%s/ca.crt", server->directory);
		add(arguments, &count, "--tls-cert-file");
		add(arguments, &count, "%s/server.crt", server->directory);
		add(arguments, &count, "--tls-key-file");
		add(arguments, &count, "%s/server.key", server->directory);
	}
	snprintf(extra, sizeof(extra), "%s", server->extra);
	char *rest = NULL;
	for (char *word = strtok_r(extra, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		add(arguments, &count, "%s", word);
	execvp(arguments[0], arguments);
	/* The same program, and it is the one by the name that it is given. So no package is needed that starts a server. */
	execvp("redis-check-rdb", arguments);
	_exit(127);
}

const char *redis_server_ask(const struct redis_server *server, const char *command)
{
	static char answer[4096];
	redisContext *context = redisConnectUnix(server->socket);
	answer[0] = 0;
	if (context && !context->err) {
		redisReply *reply = redisCommand(context, command);
		if (reply && reply->type == REDIS_REPLY_INTEGER)
			snprintf(answer, sizeof(answer), "%lld", reply->integer);
		else if (reply && reply->str)
			snprintf(answer, sizeof(answer), "%s%s", reply->type == REDIS_REPLY_ERROR ? "-" : "",
				reply->str);
		freeReplyObject(reply);
	}
	redisFree(context);
	return answer;
}

/* Whether it took its port, which another may have taken meanwhile. */
static bool launch(struct redis_server *server)
{
	server->pid = fork();
	if (server->pid < 0)
		fail("fork");
	if (server->pid == 0)
		run(server);
	const struct timespec pause = { .tv_nsec = 10000000 };
	for (int i = 0; i < READY_S * 100; i++) {
		const char *answer = redis_server_ask(server, "PING");
		if (strcmp(answer, "PONG") == 0 || strncmp(answer, "-NOAUTH", 7) == 0)
			return true;
		if (waitpid(server->pid, NULL, WNOHANG) == server->pid)
			return false;
		nanosleep(&pause, NULL);
	}
	errno = ETIMEDOUT;
	fail("it does not get ready");
	return false;
}

void redis_server_start(struct redis_server *server, bool tls)
{
	signal(SIGPIPE, SIG_IGN); /* as the service does */
	snprintf(server->directory, sizeof(server->directory), "/tmp/assay-redis-XXXXXX");
	if (!mkdtemp(server->directory))
		fail("directory");
	snprintf(server->socket, sizeof(server->socket), "%s/socket", server->directory);
	if (tls)
		certificates_make(server);
	for (int i = 0; i < STARTS_MAX; i++) {
		server->tls_port = tls ? free_port() : 0;
		if (launch(server))
			return;
	}
	errno = ECHILD;
	fail("it ended at once");
}

void redis_server_kill(struct redis_server *server)
{
	if (!server->pid)
		return;
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	server->pid = 0;
	unlink(server->socket);
}

void redis_server_restart(struct redis_server *server)
{
	if (launch(server))
		return;
	errno = ECHILD;
	fail("it ended at once");
}

void redis_server_stop(struct redis_server *server)
{
	redis_server_kill(server);
	shell("rm -rf %s", server->directory);
}

struct redis_address redis_server_address(const struct redis_server *server)
{
	struct redis_address address = { .protocol = 3 };
	snprintf(address.path, sizeof(address.path), "%s", server->socket);
	return address;
}
