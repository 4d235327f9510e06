/* Asking the service, with one way to report what goes wrong. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/uuid.h"
#include "cli/exit_code.h"
#include "task/job_name.h"

const struct option_spec common_options[] = {
	{ OPTION_URL, 0, "url", "URL",
		"where the service is (else ASSAY_URL, DISPATCHER_SERVICE_URL, " CLIENT_DEFAULT_URL ")" },
	{ OPTION_JSON, 0, "json", NULL, "print JSON for programs instead of text for people" },
	{ OPTION_HELP, 'h', "help", NULL, "this help" },
	{ 0 },
};

struct bytes json_text(yyjson_val *object, const char *key)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return yyjson_is_str(value) ? (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) } : BYTES_NONE;
}

int64_t json_number(yyjson_val *object, const char *key, int64_t otherwise)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return yyjson_is_int(value) ? yyjson_get_sint(value) : otherwise;
}

double json_real(yyjson_val *object, const char *key, double otherwise)
{
	yyjson_val *value = yyjson_obj_get(object, key);
	return yyjson_is_num(value) ? yyjson_get_num(value) : otherwise;
}

int cli_usage(struct cli *cli, const char *command, const char *format, ...)
{
	struct term *term = &cli->term;
	char message[512];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	term_fail(term, "%s", message);
	if (command)
		term_note(term, "       assay help %s tells more.", command);
	else
		term_note(term, "       assay help tells more.");
	return EXIT_USAGE;
}

int cli_report_lost(struct cli *cli, enum transfer_result result, const char *message)
{
	struct client *client = &cli->client;
	if (result == TRANSFER_INTERRUPTED)
		return EXIT_INTERRUPTED;
	if (result == TRANSFER_BROKEN) {
		term_fail(&cli->term, "the connection to %s was lost: %s", client->url, message);
		return EXIT_UNREACHABLE;
	}
	if (client->loopback)
		term_fail(&cli->term,
			"no service answers at %s: start it with ./dev run, or name another with --url or ASSAY_URL",
			client->url);
	else
		term_fail(&cli->term, "no service answers at %s (from %s): %s", client->url, client->url_from, message);
	return EXIT_UNREACHABLE;
}

void problem_append(struct buffer *to, long status, struct bytes body)
{
	yyjson_doc *doc = body.len > 0 ? yyjson_read(body.data, body.len, 0) : NULL;
	yyjson_val *problem = yyjson_doc_get_root(doc);
	struct bytes title = json_text(problem, "title");
	struct bytes detail = json_text(problem, "detail");
	yyjson_val *errors = yyjson_obj_get(problem, "errors");
	if (!detail.data && !title.data) {
		buffer_printf(to, "the service answers HTTP %ld", status);
	} else {
		safe_line_append(to, detail.data ? detail : title);
		buffer_printf(to, " (HTTP %ld)", status);
	}
	size_t index, count;
	yyjson_val *error;
	yyjson_arr_foreach(errors, index, count, error)
	{
		/* What is wrong is a field of the body, a parameter of the query or a header. */
		static const char *const places[] = { "pointer", "parameter", "header" };
		struct bytes place = BYTES_NONE;
		for (size_t i = 0; i < ARRAY_SIZE(places) && place.len == 0; i++)
			place = json_text(error, places[i]);
		buffer_append_string(to, "\n  ");
		safe_line_append(to, place.len > 0 ? place : BYTES_LITERAL("(the whole body)"));
		buffer_append_string(to, ": ");
		safe_line_append(to, json_text(error, "detail"));
	}
	yyjson_doc_free(doc);
}

int cli_report_refusal(struct cli *cli, long status, struct bytes body)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	if (cli->json && body.len > 0 && body.data[0] == '{')
		term_json(&cli->term, body);
	style_append(&text, cli->term.err_colour, STYLE_BAD, "assay:");
	buffer_append_char(&text, ' ');
	problem_append(&text, status, body);
	if (status == 401)
		buffer_append_string(
			&text, "\n  Put the token into ASSAY_TOKEN, or its file's name into ASSAY_TOKEN_FILE.");
	term_note(&cli->term, "%.*s", (int)text.len, text.data);
	return exit_code_of_http(status);
}

int cli_ask_bytes(struct cli *cli, const struct request *request, struct buffer *ret_body)
{
	struct response response;
	int code = EXIT_OK;
	client_request(&cli->client, request, &response);
	if (response.result != TRANSFER_OK)
		code = cli_report_lost(cli, response.result, response.message);
	else if (response.status < 200 || response.status > 299)
		code = cli_report_refusal(cli, response.status, buffer_bytes(&response.body));
	if (code != EXIT_OK) {
		response_fini(&response);
		return code;
	}
	*ret_body = response.body;
	return EXIT_OK;
}

int cli_ask(struct cli *cli, const struct request *request, yyjson_doc **ret_doc)
{
	struct buffer body;
	int code = cli_ask_bytes(cli, request, &body);
	if (code != EXIT_OK)
		return code;
	*ret_doc = body.len > 0 ? yyjson_read(body.data, body.len, 0) : NULL;
	buffer_fini(&body);
	if (!yyjson_is_obj(yyjson_doc_get_root(*ret_doc))) {
		yyjson_doc_free(*ret_doc);
		term_fail(&cli->term, "what answers at %s is not Assay: %s did not give a JSON object", cli->client.url,
			request->path);
		return EXIT_BAD_ANSWER;
	}
	return EXIT_OK;
}

void path_of_job(struct buffer *to, const char *what, const char *id)
{
	struct uuid uuid;
	int attempt;
	if (job_name_parse(bytes_of(id), &uuid, &attempt)) {
		buffer_printf(to, "/%s/", what);
		url_escape_append(to, bytes_of(id));
		return;
	}
	buffer_append_string(to, "/tasks/");
	url_escape_append(to, bytes_of(id));
	buffer_printf(to, "/%s", what);
}

void path_of_task(struct buffer *to, const char *id)
{
	struct uuid uuid;
	int attempt;
	char text[UUID_TEXT_SIZE];
	buffer_append_string(to, "/tasks/");
	if (job_name_parse(bytes_of(id), &uuid, &attempt))
		buffer_append_string(to, uuid_format(&uuid, text));
	else
		url_escape_append(to, bytes_of(id));
}
