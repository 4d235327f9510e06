/* A batch: one request, then one event stream that tells of all of them.
 *
 * The batch owns its items; the table finds them by the name of their job. An item is taken, or refused at once; a
 * taken one ends once, however often its end is told. When the stream has a gap, the list of the batch's tasks fills
 * it. */
#include "cli/batch.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/table.h"
#include "cli/exit_code.h"
#include "cli/progress.h"
#include "cli/sse_parser.h"
#include "cli/stream.h"
#include "cli/view.h"

#define EVENT_MAX (8 << 20)
#define PAGE 200

struct item {
	struct table_node node; /* keyed by job_name */
	const char *name; /* borrowed: the file's */
	char *job_name; /* owned; NULL: refused */
	bool running, ended;
};

struct batch {
	struct cli *cli;
	char *id; /* owned */
	struct item *items; /* owned */
	size_t count;
	struct table by_job_name;
	struct progress progress;
	size_t refused;
	bool platform_fault; /* one ended by no fault of its own */
	bool gap, broken;
	struct stream stream;
	struct sse_parser parser;
};

static bool all_ended(const struct batch *batch)
{
	return batch->progress.succeeded + batch->progress.failed == batch->count;
}

static void print_item(struct batch *batch, const struct item *item, yyjson_val *status)
{
	struct term *term = &batch->cli->term;
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	if (batch->cli->json) {
		size_t len = 0;
		char *result = yyjson_val_write(status, 0, &len);
		struct json json = JSON_TO(&text);
		json_object(&json);
		json_member_string(&json, "file", bytes_of(item->name));
		json_member_string(&json, "job_name", bytes_of(item->job_name));
		json_member_raw(&json, "result", result ? (struct bytes){ result, len } : BYTES_LITERAL("null"));
		json_object_end(&json);
		free(result);
		term_json(term, buffer_bytes(&text));
		return;
	}
	safe_line_append(&text, bytes_of(item->name));
	buffer_append_string(&text, "  ");
	safe_line_append(&text, bytes_of(item->job_name));
	buffer_append_string(&text, "  ");
	view_end(&text, term->out_colour, status);
	buffer_append_char(&text, '\n');
	term_out(term, buffer_bytes(&text));
}

/* `status` is a terminal event's payload or a status object: they name the same things alike. */
static void on_item_ended(struct batch *batch, struct item *item, yyjson_val *status)
{
	struct outcome outcome = outcome_of(status);
	if (item->ended)
		return;
	item->ended = true;
	if (item->running)
		batch->progress.running--;
	item->running = false;
	if (exit_code_of(&outcome) == EXIT_OK)
		batch->progress.succeeded++;
	else
		batch->progress.failed++;
	batch->platform_fault |= exit_code_of(&outcome) == EXIT_PLATFORM;
	print_item(batch, item, status);
}

static struct item *find_item(struct batch *batch, yyjson_val *object)
{
	struct table_node *node = table_find(&batch->by_job_name, json_text(object, "job_name"));
	return node ? CONTAINER_OF(node, struct item, node) : NULL;
}

static void on_item_running(struct batch *batch, struct item *item, bool running)
{
	if (item->ended || item->running == running)
		return;
	item->running = running;
	batch->progress.running += running ? 1 : -1;
}

static void on_event(void *owner, const struct sse_event *event)
{
	struct batch *batch = owner;
	batch->gap |= bytes_is(event->kind, "gap");
	yyjson_doc *doc = yyjson_read(event->data.data, event->data.len, 0);
	yyjson_val *payload = yyjson_doc_get_root(doc);
	struct item *item = find_item(batch, payload);
	struct bytes kind = json_text(payload, "kind");
	if (item && (bytes_is(kind, "running") || bytes_is(kind, "retrying")))
		on_item_running(batch, item, bytes_is(kind, "running"));
	else if (item && (bytes_is(kind, "completed") || bytes_is(kind, "failed") || bytes_is(kind, "cancelled")))
		on_item_ended(batch, item, payload);
	yyjson_doc_free(doc);
}

static void on_connect(struct stream *stream, struct buffer *path, struct bytes *ret_last_event_id)
{
	struct batch *batch = stream->owner;
	buffer_append_string(path, "/events?batch=");
	url_escape_append(path, bytes_of(batch->id));
	*ret_last_event_id = buffer_bytes(&batch->parser.last_id);
	if (ret_last_event_id->len == 0)
		*ret_last_event_id = BYTES_LITERAL("0");
	sse_parser_restart(&batch->parser);
}

static bool on_data(struct stream *stream, struct bytes data)
{
	struct batch *batch = stream->owner;
	batch->broken = sse_parser_feed(&batch->parser, data) < 0;
	return !batch->broken && !batch->gap && !all_ended(batch);
}

/* Takes the ends of tasks from the list of the batch. */
static void fill_gap(struct batch *batch)
{
	char *cursor = NULL;
	do {
		struct buffer path CLEANUP(buffer_fini) = { 0 };
		struct response response CLEANUP(response_fini) = { 0 };
		buffer_printf(&path, "/tasks?limit=%d&batch=", PAGE);
		url_escape_append(&path, bytes_of(batch->id));
		if (cursor) {
			buffer_append_string(&path, "&cursor=");
			url_escape_append(&path, bytes_of(cursor));
		}
		buffer_append_char(&path, '\0');
		free(STEAL(cursor));
		struct request request = { .path = path.data };
		if (client_request(&batch->cli->client, &request, &response) != TRANSFER_OK || response.status != 200)
			return;
		yyjson_doc *doc = yyjson_read(response.body.data, response.body.len, 0);
		size_t index, count;
		yyjson_val *task;
		yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "tasks"), index, count, task)
		{
			struct item *item = find_item(batch, task);
			if (item && status_ended(task))
				on_item_ended(batch, item, task);
		}
		cursor = bytes_copy_string(json_text(yyjson_doc_get_root(doc), "next_cursor"));
		yyjson_doc_free(doc);
	} while (cursor);
	batch->gap = false;
}

static enum stream_next on_end(struct stream *stream, bool orderly)
{
	struct batch *batch = stream->owner;
	if (batch->broken) {
		term_fail(&batch->cli->term, "an event is larger than %d bytes", EVENT_MAX);
		stream->code = EXIT_BAD_ANSWER;
		return STREAM_DONE;
	}
	if (batch->gap)
		fill_gap(batch);
	return all_ended(batch) ? STREAM_DONE : STREAM_AGAIN;
}

static void on_tick(void *owner)
{
	struct batch *batch = owner;
	struct buffer line CLEANUP(buffer_fini) = { 0 };
	if (!batch->cli->term.err_is_terminal)
		return;
	progress_render(&batch->progress, clock_monotonic_us(), term_columns(&batch->cli->term) - 1, &line);
	term_progress(&batch->cli->term, buffer_bytes(&line));
}

static void print_refusal(struct batch *batch, const char *name, yyjson_val *answer)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	size_t len = 0;
	char *json = yyjson_val_write(answer, 0, &len);
	safe_line_append(&text, bytes_of(name));
	buffer_append_string(&text, ": ");
	problem_append(&text, (long)json_number(answer, "status", 0), (struct bytes){ json, json ? len : 0 });
	term_note(&batch->cli->term, "%.*s", (int)text.len, text.data);
	free(json);
}

/* Reads the answer: which were taken and which not. */
static int read_answer(struct batch *batch, const char *const *names, yyjson_val *answer, bool print)
{
	yyjson_val *items = yyjson_obj_get(answer, "results");
	batch->id = bytes_copy_string(json_text(answer, "batch_id"));
	if (yyjson_arr_size(items) != batch->count || !batch->id) {
		term_fail(&batch->cli->term, "what answers at %s is not Assay: it does not answer each of %zu items",
			batch->cli->client.url, batch->count);
		return EXIT_BAD_ANSWER;
	}
	size_t index, count;
	yyjson_val *answered;
	yyjson_arr_foreach(items, index, count, answered)
	{
		struct item *item = &batch->items[index];
		item->name = names[index];
		/* A conflict names a job too: the one that has the key. */
		if (json_number(answered, "status", 0) < 300)
			item->job_name = bytes_copy_string(json_text(answered, "job_name"));
		if (!item->job_name) {
			batch->refused++;
			batch->progress.failed++;
			item->ended = true;
			print_refusal(batch, item->name, answered);
			continue;
		}
		item->node.key = bytes_of(item->job_name);
		if (!table_find(&batch->by_job_name, item->node.key))
			table_insert(&batch->by_job_name, &item->node);
		if (print) {
			struct buffer line CLEANUP(buffer_fini) = { 0 };
			safe_line_append(&line, item->node.key);
			buffer_append_string(&line, "  ");
			safe_line_append(&line, bytes_of(item->name));
			buffer_append_char(&line, '\n');
			term_out(&batch->cli->term, buffer_bytes(&line));
		}
	}
	return EXIT_OK;
}

static int stay(struct batch *batch)
{
	struct cli *cli = batch->cli;
	struct err err;
	if (client_catch_interrupts(&cli->client, &err) < 0) {
		term_fail(&cli->term, "%s", err.message);
		return EXIT_BAD_ANSWER;
	}
	batch->stream = (struct stream){ .accept = "text/event-stream",
		.on_connect = on_connect,
		.on_data = on_data,
		.on_end = on_end,
		.owner = batch,
		.reached = true };
	sse_parser_init(&batch->parser, EVENT_MAX, on_event, batch);
	struct stream *stream = &batch->stream;
	int code = all_ended(batch) ? EXIT_OK : stream_run(cli, &stream, 1, on_tick, batch);
	sse_parser_fini(&batch->parser);
	if (code == EXIT_INTERRUPTED)
		term_note(
			&cli->term, "\nassay: no longer waiting; the batch runs on: assay list --batch %s", batch->id);
	if (code != EXIT_OK)
		return code;
	struct buffer took CLEANUP(buffer_fini) = { 0 };
	duration_append(&took, (double)(clock_monotonic_us() - batch->progress.began_us) / (double)US_PER_S);
	if (!cli->json)
		term_note(&cli->term, "%zu evaluations: %zu succeeded, %zu failed in %.*s", batch->count,
			batch->progress.succeeded, batch->progress.failed, (int)took.len, took.data);
	return batch->platform_fault ? EXIT_PLATFORM : batch->progress.failed > 0 ? EXIT_FAILED : EXIT_OK;
}

static void write_body(struct buffer *to, const struct buffer *bodies, size_t count)
{
	buffer_append_char(to, '[');
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			buffer_append_char(to, ',');
		buffer_append_bytes(to, buffer_bytes(&bodies[i]));
	}
	buffer_append_char(to, ']');
}

static int send_batch(
	struct batch *batch, const struct submit_mode *mode, const char *const *names, const struct buffer *bodies)
{
	struct cli *cli = batch->cli;
	struct buffer body CLEANUP(buffer_fini) = { 0 };
	struct buffer answer CLEANUP(buffer_fini) = { 0 };
	write_body(&body, bodies, batch->count);
	/* The items have no keys of their own: what may have been taken must not be sent again. */
	int code = submit_send(cli, "/execute/batch", buffer_bytes(&body), NULL, NULL, true, &answer);
	if (code != EXIT_OK)
		return code;
	bool print = !mode->wait && !cli->json;
	yyjson_doc *doc = answer.len > 0 ? yyjson_read(answer.data, answer.len, 0) : NULL;
	code = read_answer(batch, names, yyjson_doc_get_root(doc), print);
	yyjson_doc_free(doc);
	if (code != EXIT_OK)
		return code;
	if (mode->wait)
		return stay(batch);
	if (cli->json)
		term_json(&cli->term, buffer_bytes(&answer));
	else
		term_note(&cli->term, "batch %s: %zu taken, %zu refused", batch->id, batch->count - batch->refused,
			batch->refused);
	return batch->refused > 0 ? EXIT_FAILED : EXIT_OK;
}

int submit_batch(struct cli *cli, const struct submit_mode *mode, const char *const *names, const struct buffer *bodies,
	size_t count)
{
	struct batch batch = {
		.cli = cli,
		.items = alloc_array(count, sizeof(*batch.items)),
		.count = count,
		.progress = { .total = count, .began_us = clock_monotonic_us() },
	};
	int code = send_batch(&batch, mode, names, bodies);
	table_fini(&batch.by_job_name);
	for (size_t i = 0; i < count; i++)
		free(batch.items[i].job_name);
	free(batch.items);
	free(batch.id);
	return code;
}
