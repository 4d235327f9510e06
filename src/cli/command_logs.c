/* Commands that read output: logs, events. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/sse_parser.h"
#include "cli/stream.h"
#include "cli/view.h"
#include "cli/watch.h"

enum { LOGS_FOLLOW = OPTION_OWN, LOGS_STREAM, LOGS_ATTEMPT, LOGS_OFFSET, LOGS_RAW };

static int read_log_options(
	struct cli *cli, const struct parsed_args *args, struct log_options *ret_options, bool *ret_follow)
{
	int64_t number;
	for (size_t i = 0; i < args->option_count; i++) {
		const char *value = args->options[i].value;
		switch (args->options[i].id) {
		case LOGS_FOLLOW:
			*ret_follow = true;
			break;
		case LOGS_RAW:
			cli->term.raw = true;
			break;
		case LOGS_STREAM:
			if (strcmp(value, "stdout") != 0 && strcmp(value, "stderr") != 0)
				return cli_usage(cli, "logs", "--stream is stdout or stderr, not \"%s\"", value);
			ret_options->stream = value;
			break;
		case LOGS_ATTEMPT:
			if (!text_to_int(bytes_of(value), 1, INT32_MAX, &ret_options->attempt))
				return cli_usage(cli, "logs", "--attempt is a number from 1, not \"%s\"", value);
			break;
		case LOGS_OFFSET:
			if (!text_to_int(bytes_of(value), 0, INT64_MAX, &number))
				return cli_usage(cli, "logs", "--offset is a number of bytes, not \"%s\"", value);
			ret_options->offset = (uint64_t)number;
			break;
		}
	}
	return EXIT_OK;
}

static int run_logs(struct cli *cli, const struct parsed_args *args)
{
	struct log_options options = { 0 };
	bool follow = false;
	struct err err;
	const char *id = args->operands[0];
	int code = read_log_options(cli, args, &options, &follow);
	if (code != EXIT_OK)
		return code;
	if (follow && cli->json)
		return cli_usage(cli, "logs", "--json cannot be followed: `assay events --kind log` does that");
	if (follow && client_catch_interrupts(&cli->client, &err) < 0) {
		term_fail(&cli->term, "%s", err.message);
		return EXIT_BAD_ANSWER;
	}
	if (follow)
		return logs_follow(cli, id, &options, stdout);
	return cli->json ? logs_print_json(cli, id, &options) : logs_print(cli, id, &options, stdout);
}

static const struct option_spec logs_options[] = {
	{ LOGS_FOLLOW, 'f', "follow", NULL,
		"go on until the evaluation has ended, also over a restart of the service" },
	{ LOGS_STREAM, 0, "stream", "STREAM", "only stdout or stderr; else both in the order they were read" },
	{ LOGS_ATTEMPT, 0, "attempt", "N", "of this attempt; else the last" },
	{ LOGS_OFFSET, 0, "offset", "BYTES", "from here" },
	{ LOGS_RAW, 0, "raw", NULL, "let the output's control characters reach the terminal" },
	{ 0 },
};

const struct command logs_command = {
	.name = "logs",
	.usage = "ID [-f] [options]",
	.summary = "what an evaluation printed",
	.description =
		"Into a file or a pipe go the very bytes. On a terminal control characters other than new line and tab "
		"are spelled\n"
		"out (\\x1b), so that the output of untrusted code cannot steer the terminal; --raw lets them through.",
	.options = logs_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = run_logs,
};

/* ---- events ---- */
enum { EVENTS_EVAL_ID = OPTION_OWN, EVENTS_BATCH, EVENTS_KIND, EVENTS_SINCE };
#define EVENT_MAX (8 << 20)

struct event_reader {
	struct stream stream;
	struct sse_parser parser;
	const char *path; /* with its query */
	const char *since; /* or NULL */
	bool of_task; /* the stream ends with the task */
	bool broken;
};

static void on_event(void *owner, const struct sse_event *event)
{
	struct event_reader *reader = owner;
	struct cli *cli = reader->stream.cli;
	if (bytes_is(event->kind, "gap"))
		term_note(&cli->term,
			"assay: older events are no longer kept; the stream begins with the oldest there is");
	if (cli->json) {
		term_json(&cli->term, event->data);
		return;
	}
	yyjson_doc *doc = yyjson_read(event->data.data, event->data.len, 0);
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	if (yyjson_obj_get(yyjson_doc_get_root(doc), "kind"))
		view_event(&text, cli->term.out_colour, yyjson_doc_get_root(doc));
	if (text.len > 0)
		term_out(&cli->term, buffer_bytes(&text));
	yyjson_doc_free(doc);
}

static void on_connect(struct stream *stream, struct buffer *path, struct bytes *ret_last_event_id)
{
	struct event_reader *reader = stream->owner;
	buffer_append_string(path, reader->path);
	*ret_last_event_id = buffer_bytes(&reader->parser.last_id);
	if (ret_last_event_id->len == 0 && reader->since)
		*ret_last_event_id = bytes_of(reader->since);
	sse_parser_restart(&reader->parser);
}

static bool on_data(struct stream *stream, struct bytes data)
{
	struct event_reader *reader = stream->owner;
	reader->broken = sse_parser_feed(&reader->parser, data) < 0;
	return !reader->broken;
}

static enum stream_next on_end(struct stream *stream, bool orderly)
{
	struct event_reader *reader = stream->owner;
	stream->retry_ms = reader->parser.retry_ms > 0 ? reader->parser.retry_ms : 0;
	if (reader->broken) {
		term_fail(&stream->cli->term, "an event is larger than %d bytes", EVENT_MAX);
		stream->code = EXIT_BAD_ANSWER;
		return STREAM_DONE;
	}
	return orderly && reader->of_task ? STREAM_DONE : STREAM_AGAIN;
}

static int read_events(struct cli *cli, struct event_reader *reader)
{
	struct err err;
	if (client_catch_interrupts(&cli->client, &err) < 0) {
		term_fail(&cli->term, "%s", err.message);
		return EXIT_BAD_ANSWER;
	}
	reader->stream = (struct stream){ .accept = "text/event-stream",
		.on_connect = on_connect,
		.on_data = on_data,
		.on_end = on_end,
		.owner = reader };
	sse_parser_init(&reader->parser, EVENT_MAX, on_event, reader);
	struct stream *stream = &reader->stream;
	int code = stream_run(cli, &stream, 1, NULL, NULL);
	sse_parser_fini(&reader->parser);
	return code;
}

static int run_events(struct cli *cli, const struct parsed_args *args)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct event_reader reader = { .of_task = args->operand_count > 0 };
	char separator = '?';
	if (reader.of_task)
		path_of_task(&path, args->operands[0]);
	buffer_append_string(&path, "/events");
	for (size_t i = 0; i < args->option_count; i++) {
		const struct parsed_option *option = &args->options[i];
		const char *key = option->id == EVENTS_EVAL_ID ? "eval_id"
				  : option->id == EVENTS_BATCH ? "batch"
							       : "kind";
		if (option->id == EVENTS_SINCE) {
			reader.since = option->value;
			continue;
		}
		if (option->id < EVENTS_EVAL_ID)
			continue;
		if (reader.of_task && option->id != EVENTS_KIND)
			return cli_usage(cli, "events", "one task's events are named by its ID alone");
		buffer_printf(&path, "%c%s=", separator, key);
		url_escape_append(&path, bytes_of(option->value));
		separator = '&';
	}
	buffer_append_char(&path, '\0');
	reader.path = path.data;
	return read_events(cli, &reader);
}

static const struct option_spec events_options[] = {
	{ EVENTS_EVAL_ID, 0, "eval-id", "EVAL_ID", "only those of this evaluation" },
	{ EVENTS_BATCH, 0, "batch", "BATCH", "only those of this batch" },
	{ EVENTS_KIND, 0, "kind", "KIND",
		"only queued, running, retrying, test, stage, completed, failed, cancelled, log, progress; "
		"several with commas" },
	{ EVENTS_SINCE, 0, "since", "CURSOR", "from behind this place in the stream; 0: from the oldest that is kept" },
	{ 0 },
};

const struct command events_command = {
	.name = "events",
	.usage = "[ID] [options]",
	.summary = "what happens, as it happens",
	.description = "With an ID: all events of that task from its first, ending with it. Without: those of all "
		       "tasks from now on, until\n"
		       "interrupted. A lost connection is taken up where it broke off; an event may then come twice. "
		       "With --json each\n"
		       "event is one line.",
	.options = events_options,
	.operands_max = 1,
	.run = run_events,
};
