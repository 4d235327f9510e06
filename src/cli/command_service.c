/* Commands about the service itself: health, doctor. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "cli/exit_code.h"
#include "cli/view.h"

/* Asks a route whose answer is an object also when it is a 503. */
static int ask_health(struct cli *cli, const char *path, struct response *ret_response, yyjson_doc **ret_doc)
{
	struct request request = { .path = path, .timeout_ms = 10000 };
	*ret_doc = NULL;
	client_request(&cli->client, &request, ret_response);
	if (ret_response->result != TRANSFER_OK)
		return EXIT_UNREACHABLE;
	*ret_doc = yyjson_read(ret_response->body.data, ret_response->body.len, 0);
	return EXIT_OK;
}

static int run_health(struct cli *cli, const struct parsed_args *args)
{
	struct response response;
	yyjson_doc *doc;
	int code = ask_health(cli, "/readyz", &response, &doc);
	if (code != EXIT_OK) {
		code = cli_report_lost(cli, response.result, response.message);
	} else if (cli->json && yyjson_is_obj(yyjson_doc_get_root(doc))) {
		term_json(&cli->term, buffer_bytes(&response.body));
		code = response.status == 200 ? EXIT_OK : EXIT_FAILED;
	} else if (response.status != 200 && response.status != 503) {
		code = cli_report_refusal(cli, response.status, buffer_bytes(&response.body));
	} else {
		struct buffer text CLEANUP(buffer_fini) = { 0 };
		struct bytes word = json_text(yyjson_doc_get_root(doc), "status");
		bool good = response.status == 200 && !bytes_is(word, "degraded");
		enum style style = good ? STYLE_GOOD : response.status == 200 ? STYLE_WARN : STYLE_BAD;
		style_append(&text, cli->term.out_colour, style, good ? "✓ " : response.status == 200 ? "! " : "✗ ");
		safe_line_append(&text, word.len > 0 ? word : BYTES_LITERAL("not ready"));
		buffer_printf(&text, " at %s\n", cli->client.url);
		term_out(&cli->term, buffer_bytes(&text));
		code = response.status == 200 ? EXIT_OK : EXIT_FAILED;
	}
	yyjson_doc_free(doc);
	response_fini(&response);
	return code;
}

const struct command health_command = {
	.name = "health",
	.usage = "",
	.summary = "whether the service takes work",
	.description = "Ends with 0 when it does (also when a part is degraded: the queue is durable), 1 when it does "
		       "not, 69 when nothing\n"
		       "answers.",
	.run = run_health,
};

enum check_state { CHECK_OK, CHECK_WARNING, CHECK_ERROR };

/* A table of checks: mark, name, detail, and below what does not hold the way to mend it. */
struct checkup {
	struct text_table table;
	bool errors;
};

static void add_check(
	struct checkup *checkup, enum check_state state, struct bytes name, struct bytes detail, struct bytes remedy)
{
	static const char *const marks[] = { "✓", "!", "✗" };
	static const enum style styles[] = { STYLE_GOOD, STYLE_WARN, STYLE_BAD };
	struct text_table *table = &checkup->table;
	checkup->errors |= state == CHECK_ERROR;
	text_table_add(table, bytes_of(marks[state]), styles[state]);
	text_table_add(table, name, STYLE_PLAIN);
	text_table_add(table, detail, STYLE_PLAIN);
	if (state == CHECK_OK || remedy.len == 0)
		return;
	struct buffer line CLEANUP(buffer_fini) = { 0 };
	buffer_append_string(&line, "→ ");
	buffer_append_bytes(&line, remedy);
	text_table_add(table, BYTES_NONE, STYLE_PLAIN);
	text_table_add(table, BYTES_NONE, STYLE_PLAIN);
	text_table_add(table, buffer_bytes(&line), STYLE_BOLD);
}

static enum check_state state_of_word(struct bytes word)
{
	if (bytes_is(word, "ok"))
		return CHECK_OK;
	return bytes_is(word, "warning") ? CHECK_WARNING : CHECK_ERROR;
}

/* The checks of /readyz. */
static int print_checkup(struct cli *cli, yyjson_val *ready)
{
	struct checkup checkup = { .table = { .columns = 3 } };
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	yyjson_val *checks = yyjson_obj_get(ready, "checks");
	size_t index, count;
	yyjson_val *check;
	yyjson_arr_foreach(checks, index, count, check) add_check(&checkup, state_of_word(json_text(check, "state")),
		json_text(check, "name"), json_text(check, "detail"), json_text(check, "remedy"));
	text_table_append(&checkup.table, &text, cli->term.out_colour, false);
	text_table_fini(&checkup.table);
	term_out(&cli->term, buffer_bytes(&text));
	return checkup.errors ? EXIT_FAILED : EXIT_OK;
}

/* Becomes `assayd doctor` of the same directory; returns only when that cannot be. */
static int ask_assayd(struct cli *cli)
{
	char path[4096];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof("assayd"));
	if (len < 0)
		return -1;
	path[len] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash)
		return -1;
	memcpy(slash + 1, "assayd", sizeof("assayd"));
	if (access(path, X_OK) != 0)
		return -1;
	term_note(&cli->term, "assay: no service answers at %s; asking %s itself", cli->client.url, path);
	char *const argv[] = { path, (char *)"doctor", cli->json ? (char *)"--json" : NULL, NULL };
	execv(path, argv);
	return -1;
}

static int run_doctor(struct cli *cli, const struct parsed_args *args)
{
	struct response response;
	yyjson_doc *doc;
	int code = ask_health(cli, "/readyz", &response, &doc);
	yyjson_val *ready = yyjson_doc_get_root(doc);
	bool is_ready = yyjson_is_arr(yyjson_obj_get(ready, "checks"));
	if (code != EXIT_OK) {
		if (response.result == TRANSFER_UNREACHABLE && cli->client.loopback)
			(void)ask_assayd(cli);
		code = cli_report_lost(cli, response.result, response.message);
	} else if (!is_ready) {
		code = response.status == 200 ? EXIT_BAD_ANSWER : exit_code_of_http(response.status);
		term_fail(&cli->term, "what answers at %s does not say how it is (HTTP %ld)", cli->client.url,
			response.status);
	} else if (cli->json) {
		term_json(&cli->term, buffer_bytes(&response.body));
	} else {
		code = print_checkup(cli, ready);
	}
	yyjson_doc_free(doc);
	response_fini(&response);
	return code;
}

const struct command doctor_command = {
	.name = "doctor",
	.usage = "",
	.summary = "what the service has, what it lacks, and how to get it",
	.description = "Shows isolation, cgroups, AppArmor, store and languages. When no service answers on this "
		       "machine, `assayd doctor` of the\n"
		       "same directory is run instead. Ends with 1 when something does not work.",
	.run = run_doctor,
};
