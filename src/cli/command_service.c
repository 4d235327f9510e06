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

static int print_checks(struct cli *cli, yyjson_val *checks)
{
	struct text_table table = { .columns = 3 };
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	bool errors = false;
	size_t index, count;
	yyjson_val *check;
	yyjson_arr_foreach(checks, index, count, check)
	{
		struct bytes state = json_text(check, "state");
		bool ok = bytes_is(state, "ok"), warning = bytes_is(state, "warning");
		errors = errors || (!ok && !warning);
		text_table_add(&table,
			bytes_of(ok        ? "✓"
				 : warning ? "!"
					   : "✗"),
			ok        ? STYLE_GOOD
			: warning ? STYLE_WARN
				  : STYLE_BAD);
		text_table_add(&table, json_text(check, "name"), STYLE_PLAIN);
		text_table_add(&table, json_text(check, "detail"), STYLE_PLAIN);
		if (!ok && json_text(check, "remedy").len > 0) {
			struct buffer remedy CLEANUP(buffer_fini) = { 0 };
			buffer_append_string(&remedy, "→ ");
			buffer_append_bytes(&remedy, json_text(check, "remedy"));
			text_table_add(&table, BYTES_NONE, STYLE_PLAIN);
			text_table_add(&table, BYTES_NONE, STYLE_PLAIN);
			text_table_add(&table, buffer_bytes(&remedy), STYLE_BOLD);
		}
	}
	text_table_append(&table, &text, cli->term.out_colour, false);
	text_table_fini(&table);
	term_out(&cli->term, buffer_bytes(&text));
	return errors ? EXIT_FAILED : EXIT_OK;
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
	strcpy(slash + 1, "assayd");
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
	yyjson_val *checks = yyjson_obj_get(yyjson_doc_get_root(doc), "checks");
	if (code != EXIT_OK) {
		if (response.result == TRANSFER_UNREACHABLE && cli->client.loopback)
			(void)ask_assayd(cli);
		code = cli_report_lost(cli, response.result, response.message);
	} else if (!yyjson_is_arr(checks)) {
		code = response.status == 200 ? EXIT_BAD_ANSWER : exit_code_of_http(response.status);
		term_fail(&cli->term, "what answers at %s has no checks to show (HTTP %ld)", cli->client.url,
			response.status);
	} else if (cli->json) {
		term_json(&cli->term, buffer_bytes(&response.body));
	} else {
		code = print_checks(cli, checks);
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
