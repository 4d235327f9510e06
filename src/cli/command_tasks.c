/* Commands about tasks that are there: status, list, cancel, run, why. */
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/progress.h"
#include "cli/view.h"

/* Does one thing for each operand, going on after a failure; returns the last failure's exit code. */
static int for_each(struct cli *cli, const struct parsed_args *args, int (*one)(struct cli *cli, const char *id))
{
	int code = EXIT_OK;
	for (size_t i = 0; i < args->operand_count; i++) {
		int result = one(cli, args->operands[i]);
		if (result == EXIT_UNREACHABLE || result == EXIT_INTERRUPTED)
			return result;
		if (result != EXIT_OK)
			code = result;
	}
	return code;
}

/* Asks for an object; with --json prints it as it came and gives no document. */
static int ask_or_print(struct cli *cli, const struct request *request, yyjson_doc **ret_doc)
{
	*ret_doc = NULL;
	if (!cli->json)
		return cli_ask(cli, request, ret_doc);
	struct buffer body;
	int code = cli_ask_bytes(cli, request, &body);
	if (code != EXIT_OK)
		return code;
	term_json(&cli->term, buffer_bytes(&body));
	buffer_fini(&body);
	return EXIT_OK;
}

static int show_status(struct cli *cli, const char *id)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	path_of_job(&path, "status", id);
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	yyjson_doc *doc;
	int code = ask_or_print(cli, &request, &doc);
	if (code == EXIT_OK && doc) {
		view_status(&text, cli->term.out_colour, yyjson_doc_get_root(doc));
		term_out(&cli->term, buffer_bytes(&text));
	}
	yyjson_doc_free(doc);
	return code;
}

static int run_status(struct cli *cli, const struct parsed_args *args)
{
	return for_each(cli, args, show_status);
}

/* The forms of an id are the same everywhere. */
#define ID_HELP \
	"ID is the name of a job (eval-…), a task's whole id, its last eight digits as `assay list` prints them, or " \
	"four or\n" \
	"more of its first."

const struct command status_command = {
	.name = "status",
	.usage = "ID...",
	.summary = "how an evaluation stands",
	.description = ID_HELP,
	.operands_min = 1,
	.operands_max = SIZE_MAX,
	.run = run_status,
};

static int post(struct cli *cli, const char *id, const char *verb, yyjson_doc **ret_doc)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	path_of_task(&path, id);
	buffer_printf(&path, "/%s", verb);
	buffer_append_char(&path, '\0');
	struct request request = { .method = "POST", .path = path.data };
	return ask_or_print(cli, &request, ret_doc);
}

/* "eval-…  CANCELLED", of what the service answers to a command. */
static void print_state(struct cli *cli, yyjson_val *answer)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	bool requested = yyjson_is_true(yyjson_obj_get(answer, "cancel_requested"));
	safe_line_append(&text, json_text(answer, "job_name"));
	buffer_append_string(&text, "  ");
	safe_line_append(&text, json_text(answer, "state"));
	buffer_append_string(&text, requested ? ", being cancelled\n" : "\n");
	term_out(&cli->term, buffer_bytes(&text));
}

static int cancel_one(struct cli *cli, const char *id)
{
	yyjson_doc *doc;
	int code = post(cli, id, "cancel", &doc);
	if (code == EXIT_OK && doc)
		print_state(cli, yyjson_doc_get_root(doc));
	yyjson_doc_free(doc);
	return code;
}

enum { CANCEL_BATCH = OPTION_OWN };

static int run_cancel(struct cli *cli, const struct parsed_args *args)
{
	const char *batch = NULL;
	for (size_t i = 0; i < args->option_count; i++)
		if (args->options[i].id == CANCEL_BATCH)
			batch = args->options[i].value;
	if (!batch && args->operand_count == 0)
		return cli_usage(cli, "cancel", "cancel needs an ID or --batch");
	if (batch) {
		struct buffer path CLEANUP(buffer_fini) = { 0 };
		buffer_append_string(&path, "/batches/");
		url_escape_append(&path, bytes_of(batch));
		buffer_append_string(&path, "/cancel");
		buffer_append_char(&path, '\0');
		struct request request = { .method = "POST", .path = path.data };
		struct buffer body CLEANUP(buffer_fini) = { 0 };
		int code = cli_ask_bytes(cli, &request, &body);
		if (code == EXIT_OK && cli->json)
			term_json(&cli->term, buffer_bytes(&body));
		if (code != EXIT_OK)
			return code;
	}
	return for_each(cli, args, cancel_one);
}

static const struct option_spec cancel_options[] = {
	{ CANCEL_BATCH, 0, "batch", "BATCH", "cancel all of a batch that has not ended" },
	{ 0 },
};

const struct command cancel_command = {
	.name = "cancel",
	.usage = "[ID...] [--batch BATCH]",
	.summary = "end evaluations, whether they wait or run",
	.description = "What waits ends at once; what runs is killed and ends as cancelled when that is confirmed. "
		       "Cancelling what has\n"
		       "ended is refused.",
	.options = cancel_options,
	.operands_max = SIZE_MAX,
	.run = run_cancel,
};

static int rerun_one(struct cli *cli, const char *id)
{
	yyjson_doc *doc;
	int code = post(cli, id, "run", &doc);
	if (code == EXIT_OK && doc)
		print_state(cli, yyjson_doc_get_root(doc));
	yyjson_doc_free(doc);
	return code;
}

static int run_run(struct cli *cli, const struct parsed_args *args)
{
	return for_each(cli, args, rerun_one);
}

const struct command run_command = {
	.name = "run",
	.usage = "ID...",
	.summary = "run now what waits for its time, or again what has ended",
	.description = "Running what runs already is refused.",
	.operands_min = 1,
	.operands_max = SIZE_MAX,
	.run = run_run,
};

static int why_one(struct cli *cli, const char *id)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	path_of_task(&path, id);
	buffer_append_string(&path, "/why");
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	yyjson_doc *doc;
	int code = ask_or_print(cli, &request, &doc);
	if (code == EXIT_OK && doc) {
		yyjson_val *why = yyjson_doc_get_root(doc);
		double age = json_real(why, "age_seconds", -1);
		safe_line_append(&text, json_text(why, "reason"));
		buffer_append_string(&text, ": ");
		safe_line_append(&text, json_text(why, "detail"));
		if (age >= 0) {
			buffer_append_string(&text, " (");
			duration_append(&text, age);
			buffer_append_string(&text, " old)");
		}
		buffer_append_char(&text, '\n');
		term_out(&cli->term, buffer_bytes(&text));
	}
	yyjson_doc_free(doc);
	return code;
}

static int run_why(struct cli *cli, const struct parsed_args *args)
{
	return for_each(cli, args, why_one);
}

const struct command why_command = {
	.name = "why",
	.usage = "ID...",
	.summary = "why an evaluation has not started",
	.operands_min = 1,
	.operands_max = SIZE_MAX,
	.run = run_why,
};

/* ---- list ---- */
enum { LIST_STATUS = OPTION_OWN, LIST_TYPE, LIST_QUEUE, LIST_BATCH, LIST_EVAL_ID, LIST_LIMIT, LIST_ALL };
#define PAGE 200

struct listing {
	struct buffer filters; /* "&status=QUEUED", owned */
	int64_t limit; /* rows wanted */
	int64_t given;
	struct text_table table;
};

static void add_filter(struct buffer *filters, const char *key, const char *value)
{
	buffer_printf(filters, "&%s=", key);
	url_escape_append(filters, bytes_of(value));
}

static void add_row(struct listing *listing, yyjson_val *task)
{
	struct bytes id = json_text(task, "task_id");
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	int64_t queued_us;
	struct text_table *table = &listing->table;
	if (!id.data)
		id = json_text(task, "id");
	text_table_add(table, id.len > 8 ? (struct bytes){ id.data + id.len - 8, 8 } : id, STYLE_PLAIN);
	text_table_add(table, json_text(task, "job_name"), STYLE_PLAIN);
	struct bytes phase = json_text(task, "phase");
	bool ended = status_ended(task);
	enum style style = bytes_is(phase, "succeeded") ? STYLE_GOOD : ended ? STYLE_BAD : STYLE_WARN;
	text_table_add(table, phase, style);
	text_table_add(table, json_text(task, "queue"), STYLE_PLAIN);
	if (clock_parse(json_text(task, "queued_at"), &queued_us))
		duration_append(&text, (double)(clock_wall_us() - queued_us) / (double)US_PER_S);
	text_table_add(table, buffer_bytes(&text), STYLE_DIM);
	buffer_clear(&text);
	if (json_real(task, "duration_seconds", -1) >= 0)
		duration_append(&text, json_real(task, "duration_seconds", -1));
	text_table_add(table, buffer_bytes(&text), STYLE_PLAIN);
	struct bytes eval_id = json_text(task, "eval_id");
	text_table_add(table, bytes_equal(eval_id, json_text(task, "task_id")) ? BYTES_NONE : eval_id, STYLE_PLAIN);
}

/* One page. With --json each task is a line of its own. *cursor (owned) is the next page's, NULL at the end. */
static int list_page(struct cli *cli, struct listing *listing, char **cursor)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	int64_t want = listing->limit - listing->given < PAGE ? listing->limit - listing->given : PAGE;
	buffer_printf(&path, "/tasks?limit=%lld", (long long)want);
	if (*cursor)
		add_filter(&path, "cursor", *cursor);
	buffer_append_bytes(&path, buffer_bytes(&listing->filters));
	buffer_append_char(&path, '\0');
	struct request request = { .path = path.data };
	yyjson_doc *doc;
	int code = cli_ask(cli, &request, &doc);
	if (code != EXIT_OK)
		return code;
	size_t index, count;
	yyjson_val *task;
	yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "tasks"), index, count, task)
	{
		size_t len = 0;
		char *json = cli->json ? yyjson_val_write(task, 0, &len) : NULL;
		if (json)
			term_json(&cli->term, (struct bytes){ json, len });
		else
			add_row(listing, task);
		free(json);
		listing->given++;
	}
	free(*cursor);
	*cursor = bytes_copy_string(json_text(yyjson_doc_get_root(doc), "next_cursor"));
	yyjson_doc_free(doc);
	return EXIT_OK;
}

static int run_list(struct cli *cli, const struct parsed_args *args)
{
	struct listing listing = { .limit = 20, .table = { .columns = 7 } };
	static const char *const headers[] = { "ID", "JOB", "PHASE", "QUEUE", "AGE", "RAN", "EVAL_ID" };
	static const struct {
		int id;
		const char *key;
	} filters[] = { { LIST_STATUS, "status" }, { LIST_TYPE, "type" }, { LIST_QUEUE, "queue" },
		{ LIST_BATCH, "batch" }, { LIST_EVAL_ID, "eval_id" } };
	int code = EXIT_OK;
	for (size_t i = 0; i < args->option_count; i++) {
		const struct parsed_option *option = &args->options[i];
		for (size_t j = 0; j < ARRAY_SIZE(filters); j++)
			if (filters[j].id == option->id)
				add_filter(&listing.filters, filters[j].key, option->value);
		if (option->id == LIST_ALL)
			listing.limit = INT64_MAX;
		if (option->id == LIST_LIMIT && !text_to_int(bytes_of(option->value), 1, INT64_MAX, &listing.limit))
			code = cli_usage(cli, "list", "--limit is a number from 1, not \"%s\"", option->value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		text_table_add(&listing.table, bytes_of(headers[i]), STYLE_BOLD);
	char *cursor = NULL;
	do
		code = code == EXIT_OK ? list_page(cli, &listing, &cursor) : code;
	while (code == EXIT_OK && cursor && listing.given < listing.limit);
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	if (code == EXIT_OK && !cli->json) {
		text_table_append(&listing.table, &text, cli->term.out_colour, true);
		term_out(&cli->term, buffer_bytes(&text));
		if (cursor)
			term_note(&cli->term, "There are more: --all, or --limit N.");
	}
	free(cursor);
	buffer_fini(&listing.filters);
	text_table_fini(&listing.table);
	return code;
}

static const struct option_spec list_options[] = {
	{ LIST_STATUS, 0, "status", "STATUS",
		"only QUEUED, RUNNING, COMPLETED, FAILED, RETRY or CANCELLED; several with commas" },
	{ LIST_TYPE, 0, "type", "TYPE", "only tasks of this type" },
	{ LIST_QUEUE, 0, "queue", "QUEUE", "only tasks of this queue" },
	{ LIST_BATCH, 0, "batch", "BATCH", "only tasks of this batch" },
	{ LIST_EVAL_ID, 0, "eval-id", "EVAL_ID", "only the task with this eval_id" },
	{ LIST_LIMIT, 'n', "limit", "N", "how many at most (default 20)" },
	{ LIST_ALL, 'a', "all", NULL, "all of them" },
	{ 0 },
};

const struct command list_command = {
	.name = "list",
	.usage = "[options]",
	.summary = "tasks, the newest first",
	.description = "With --json each task is one line.",
	.options = list_options,
	.run = run_list,
};
