/* Following one evaluation.
 *
 * Waiting reads the task's event stream until a terminal event, following reads its log from the offset reached so far.
 * When either stream ends, for whatever reason, the status object decides whether it is over: only that is asked again
 * after a restart, a retry, or a second run, and only what it says is believed. */
#include "cli/watch.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "cli/exit_code.h"
#include "cli/sse_parser.h"
#include "cli/stream.h"
#include "cli/view.h"

#define EVENT_MAX (8 << 20) /* bytes; a terminal event holds 128 KiB of output, at worst six bytes of JSON for each */

enum standing { STANDING_RUNNING, STANDING_ENDED, STANDING_UNKNOWN, STANDING_GONE };

/* Asks for the status without a word about a service that is away. GONE: *ret_code is the exit code, and it was said
 * why. */
static enum standing ask_standing(struct cli *cli, const char *id, yyjson_doc **ret_status, int *ret_code)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct response response CLEANUP(response_fini) = { 0 };
	path_of_job(&path, "status", id);
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	*ret_status = NULL;
	if (client_request(&cli->client, &request, &response) != TRANSFER_OK || response.status >= 500 ||
		response.status == 429)
		return STANDING_UNKNOWN;
	if (response.status != 200) {
		*ret_code = cli_report_refusal(cli, response.status, buffer_bytes(&response.body));
		return STANDING_GONE;
	}
	*ret_status = yyjson_read(response.body.data, response.body.len, 0);
	if (!*ret_status)
		return STANDING_UNKNOWN;
	return status_ended(yyjson_doc_get_root(*ret_status)) ? STANDING_ENDED : STANDING_RUNNING;
}

/* ---- waiting ---- */
struct waiter {
	struct stream stream;
	struct sse_parser parser;
	const char *id;
	bool terminal_seen, broken;
	yyjson_doc *status; /* owned until handed on; when ended */
};

static void on_event(void *owner, const struct sse_event *event)
{
	struct waiter *waiter = owner;
	if (bytes_is(event->kind, "completed") || bytes_is(event->kind, "failed") || bytes_is(event->kind, "cancelled"))
		waiter->terminal_seen = true;
}

static void on_wait_connect(struct stream *stream, struct buffer *path, struct bytes *ret_last_event_id)
{
	struct waiter *waiter = stream->owner;
	path_of_task(path, waiter->id);
	buffer_append_string(path, "/events");
	*ret_last_event_id = buffer_bytes(&waiter->parser.last_id);
	sse_parser_restart(&waiter->parser);
	waiter->terminal_seen = false;
}

static bool on_wait_data(struct stream *stream, struct bytes data)
{
	struct waiter *waiter = stream->owner;
	waiter->broken = sse_parser_feed(&waiter->parser, data) < 0;
	return !waiter->terminal_seen && !waiter->broken;
}

static enum stream_next on_wait_end(struct stream *stream, bool orderly)
{
	struct waiter *waiter = stream->owner;
	stream->retry_ms = waiter->parser.retry_ms > 0 ? waiter->parser.retry_ms : 0;
	yyjson_doc *status;
	switch (ask_standing(stream->cli, waiter->id, &status, &stream->code)) {
	case STANDING_ENDED:
		waiter->status = status;
		return STREAM_DONE;
	case STANDING_GONE:
		return STREAM_DONE;
	default:
		yyjson_doc_free(status);
		return STREAM_AGAIN;
	}
}

static int wait_for_end(struct cli *cli, const char *id, yyjson_doc **ret_status)
{
	struct waiter waiter = {
		.stream = { .accept = "text/event-stream",
			.on_connect = on_wait_connect,
			.on_data = on_wait_data,
			.on_end = on_wait_end,
			.owner = &waiter,
			.reached = true },
		.id = id,
	};
	sse_parser_init(&waiter.parser, EVENT_MAX, on_event, &waiter);
	struct stream *stream = &waiter.stream;
	int code = stream_run(cli, &stream, 1, NULL, NULL);
	sse_parser_fini(&waiter.parser);
	*ret_status = waiter.status;
	return code;
}

/* ---- logs ---- */
struct follower {
	struct stream stream;
	const char *id;
	const char *name; /* "stdout", "stderr", or NULL for both */
	FILE *file;
	struct safe_text safe;
	int64_t attempt; /* 0: none has begun */
	bool pinned; /* the user chose the attempt */
	uint64_t offset;
};

static void logs_path(
	struct buffer *path, const char *id, const char *name, int64_t attempt, uint64_t offset, bool follow)
{
	path_of_job(path, "logs", id);
	buffer_printf(path, "?offset=%llu", (unsigned long long)offset);
	if (follow)
		buffer_append_string(path, "&follow=1");
	if (name)
		buffer_printf(path, "&stream=%s", name);
	if (attempt > 0)
		buffer_printf(path, "&attempt=%lld", (long long)attempt);
}

static void on_follow_connect(struct stream *stream, struct buffer *path, struct bytes *ret_last_event_id)
{
	struct follower *follower = stream->owner;
	logs_path(path, follower->id, follower->name, follower->attempt, follower->offset, true);
}

static bool on_follow_data(struct stream *stream, struct bytes data)
{
	struct follower *follower = stream->owner;
	term_program(&stream->cli->term, follower->file, &follower->safe, data);
	follower->offset += data.len;
	return true;
}

/* An attempt that was lost is followed by another, whose output begins anew. */
static void on_attempt(struct follower *follower, int64_t attempt)
{
	if (follower->pinned || attempt <= follower->attempt)
		return;
	/* Where several attempts have come and gone on one connection, nobody knows which of them the offset counts:
	 * better twice than not at all. */
	if (follower->attempt > 0 || attempt > 1) {
		if (follower->offset > 0)
			term_note(&follower->stream.cli->term, "assay: attempt %lld begins anew", (long long)attempt);
		follower->offset = 0;
	}
	follower->attempt = attempt;
}

static enum stream_next on_follow_end(struct stream *stream, bool orderly)
{
	struct follower *follower = stream->owner;
	yyjson_doc *status;
	enum standing standing = ask_standing(stream->cli, follower->id, &status, &stream->code);
	int64_t attempt = json_number(yyjson_doc_get_root(status), "attempt", 0);
	yyjson_doc_free(status);
	if (standing == STANDING_GONE)
		return STREAM_DONE;
	bool newer = attempt > follower->attempt;
	on_attempt(follower, attempt);
	/* An answer that broke off may have lost its tail even though the evaluation has ended; one that ended while
	 * the evaluation runs on was ended by a service that stops. */
	if (!orderly || (newer && !follower->pinned))
		return STREAM_AGAIN;
	return standing == STANDING_ENDED || newer ? STREAM_DONE : STREAM_AGAIN;
}

static struct follower follower_of(const char *id, const struct log_options *options, int64_t attempt, FILE *file)
{
	return (struct follower){
		.stream = { .accept = "text/plain",
			.on_connect = on_follow_connect,
			.on_data = on_follow_data,
			.on_end = on_follow_end,
			.reached = true },
		.id = id,
		.name = options->stream,
		.file = file,
		.attempt = attempt,
		.pinned = options->attempt > 0,
		.offset = options->offset,
	};
}

static int follow(struct cli *cli, struct follower *followers, size_t count)
{
	struct stream *streams[2];
	for (size_t i = 0; i < count; i++) {
		followers[i].stream.owner = &followers[i];
		streams[i] = &followers[i].stream;
	}
	int code = stream_run(cli, streams, count, NULL, NULL);
	for (size_t i = 0; i < count; i++)
		term_program(&cli->term, followers[i].file, &followers[i].safe, BYTES_NONE);
	return code;
}

/* The attempt to begin with, and whether there is such a task at all. */
static int current_attempt(struct cli *cli, const char *id, int64_t *ret_attempt)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	path_of_job(&path, "status", id);
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	yyjson_doc *status;
	int code = cli_ask(cli, &request, &status);
	if (code != EXIT_OK)
		return code;
	*ret_attempt = json_number(yyjson_doc_get_root(status), "attempt", 0);
	yyjson_doc_free(status);
	return EXIT_OK;
}

int logs_follow(struct cli *cli, const char *id, const struct log_options *options, FILE *file)
{
	int64_t attempt = 0;
	int code = current_attempt(cli, id, &attempt);
	if (code != EXIT_OK)
		return code;
	struct follower follower = follower_of(id, options, options->attempt > 0 ? options->attempt : attempt, file);
	return follow(cli, &follower, 1);
}

int logs_follow_both(struct cli *cli, const char *id)
{
	int64_t attempt = 0;
	int code = current_attempt(cli, id, &attempt);
	if (code != EXIT_OK)
		return code;
	struct follower followers[2] = {
		follower_of(id, &(struct log_options){ .stream = "stdout" }, attempt, stdout),
		follower_of(id, &(struct log_options){ .stream = "stderr" }, attempt, stderr),
	};
	return follow(cli, followers, 2);
}

int logs_print(struct cli *cli, const char *id, const struct log_options *options, FILE *file)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct buffer body;
	logs_path(&path, id, options->stream, options->attempt, options->offset, false);
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data, .accept = "text/plain" };
	int code = cli_ask_bytes(cli, &request, &body);
	if (code != EXIT_OK)
		return code;
	struct safe_text safe = { .mode = SAFE_PROGRAM };
	if (body.len > 0)
		term_program(&cli->term, file, &safe, buffer_bytes(&body));
	term_program(&cli->term, file, &safe, BYTES_NONE);
	buffer_fini(&body);
	return EXIT_OK;
}

int logs_print_json(struct cli *cli, const char *id, const struct log_options *options)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct buffer body;
	logs_path(&path, id, options->stream, options->attempt, options->offset, false);
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	int code = cli_ask_bytes(cli, &request, &body);
	if (code != EXIT_OK)
		return code;
	term_json(&cli->term, buffer_bytes(&body));
	buffer_fini(&body);
	return EXIT_OK;
}

int watch_evaluation(struct cli *cli, const char *id, enum watch_output output, yyjson_doc **ret_status)
{
	*ret_status = NULL;
	int code = output == WATCH_LIVE ? logs_follow_both(cli, id) : EXIT_OK;
	if (code == EXIT_OK)
		code = wait_for_end(cli, id, ret_status);
	/* What has ended is followed to its end like anything else, so that here too nothing is lost with a
	 * connection. */
	if (code == EXIT_OK && output == WATCH_AT_END)
		code = logs_follow_both(cli, id);
	if (code != EXIT_OK) {
		yyjson_doc_free(*ret_status);
		*ret_status = NULL;
	}
	return code;
}
