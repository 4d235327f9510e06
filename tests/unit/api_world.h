/* A whole service on one loop, for tests of the API: the real HTTP server on a free port, the real coordinator, SQLite
 * store and bus, and an executor that does what the test says. Everything is driven from the test: each call runs the
 * loop until what it waits for is there, or ends the program after a generous time. */
#ifndef ASSAY_TESTS_UNIT_API_WORLD_H
#define ASSAY_TESTS_UNIT_API_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "api/api.h"
#include "assay/executor.h"
#include "base/buffer.h"
#include "coordinator/coordinator.h"

struct world_options {
	struct api_access access; /* zeroed: open */
	struct api_settings settings;
	const char *tokens; /* the file's text; NULL: none */
	int slots; /* of the executor; 0: 2. Negative: none free */
	int64_t queue_max;
	int64_t coordinator_queue_max;
	bool cursors_not_final; /* as of a store with several writers, as far as the API knows */
};

struct world {
	uv_loop_t loop;
	char directory[64];
	struct log log;
	struct uuid_generator ids;
	struct languages *languages;
	struct evaluation_limits limits;
	struct store *store;
	int reading; /* reads of events that are on their way */
	struct store *reads; /* what the API reads from: the store, or a fake of one that is away while `away` */
	bool away;
	bool cursors_not_final;
	struct bus *bus;
	struct executor *executor; /* scripted */
	struct executor *internal;
	struct coordinator *coordinator;
	struct api *api;
	struct http_server *server;
	uint16_t port;
	bool ready, stopped;
};

struct world *world_new(const struct world_options *options);
void world_free(struct world *world);
/* Runs the loop until *flag, or ends the program. */
void world_run_until(struct world *world, const bool *flag, const char *what);

/* ---- the scripted executor ---- */
/* Runs the loop until the executor has `count` jobs, and gives the last of them. */
struct job *world_job(struct world *world, size_t count);
void job_started(struct world *world, struct job *job);
void job_output(struct world *world, struct job *job, int stream, const char *text, size_t len);
/* Ends its one run and the job. */
void job_end(struct world *world, struct job *job, int exit_code);
/* The attempt is lost. */
void job_lose(struct world *world, struct job *job, enum task_reason reason);

/* ---- clients ---- */
struct client; /* one connection */
struct client *client_new(struct world *world);
void client_send(struct client *client, const void *data, size_t len);
void client_sendf(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Everything that came so far on this connection, raw, terminated. */
const char *client_text(struct client *client);
size_t client_received(const struct client *client);
/* Runs the loop until `text` has come. */
void client_wait(struct client *client, const char *text);
/* Runs the loop until more was received. */
void client_wait_more(struct client *client);
/* Runs the loop until the connection is closed by the server. */
void client_wait_closed(struct client *client);
void client_pause(struct client *client, bool pause); /* does not read */
void client_free(struct client *client);

/* One request on a connection of its own. */
struct answer {
	int status;
	char *head; /* terminated */
	char *body; /* terminated, chunks put together */
	size_t body_len;
};
/* `headers` are lines that end in \r\n, or "". body NULL: none. */
struct answer request(struct world *world, const char *method, const char *path, const char *headers, const char *body);
struct answer request_bytes(
	struct world *world, const char *method, const char *path, const char *headers, const char *body, size_t len);
void answer_free(struct answer *answer);
bool answer_has(const struct answer *answer, const char *text); /* in the body */
/* The string value of the first member of that name in the body; in a static buffer of 8 in turn. */
const char *answer_member(const struct answer *answer, const char *name);

#define JSON_TYPE "Content-Type: application/json\r\n"

#endif
