/* Sending one evaluation. */
#include "cli/submit.h"

#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/exit_code.h"
#include "cli/stream.h"
#include "cli/view.h"
#include "cli/watch.h"

#define SEND_PATIENCE_US (30 * US_PER_S)

static void sleep_us(int64_t us)
{
	struct timespec left = { .tv_sec = us / US_PER_S, .tv_nsec = us % US_PER_S * 1000 };
	nanosleep(&left, NULL);
}

int submit_send(struct cli *cli, const char *path, struct bytes body, const char *content_type, const char *key,
	bool once, struct buffer *ret_answer)
{
	struct request request = {
		.method = "POST",
		.path = path,
		.body = body,
		.content_type = content_type,
		.idempotency_key = key,
	};
	int64_t began_us = clock_monotonic_us();
	for (unsigned tries = 0;; tries++) {
		struct response response;
		client_request(&cli->client, &request, &response);
		bool good = response.result == TRANSFER_OK && response.status >= 200 && response.status <= 299;
		if (good) {
			*ret_answer = response.body;
			return EXIT_OK;
		}
		bool busy = response.result == TRANSFER_OK && (response.status == 429 || response.status == 503);
		/* Once it was there, a service that does not answer is one that is being started again. */
		bool lost = (response.result == TRANSFER_BROKEN && !once) ||
			    (response.result == TRANSFER_UNREACHABLE && tries > 0);
		uint32_t random;
		random_bytes(&random, sizeof(random));
		int64_t delay_us = stream_backoff_us(tries, busy ? response.retry_after_s * 1000 : 0, random);
		bool again = (busy || lost) && clock_monotonic_us() + delay_us - began_us <= SEND_PATIENCE_US;
		int code = EXIT_OK;
		if (!again && response.result == TRANSFER_OK)
			code = cli_report_refusal(cli, response.status, buffer_bytes(&response.body));
		else if (!again)
			code = cli_report_lost(cli, response.result, response.message);
		response_fini(&response);
		if (!again)
			return code;
		sleep_us(delay_us);
	}
}

void submit_note_interrupted(struct cli *cli, const char *job_name)
{
	term_note(&cli->term, "\nassay: no longer waiting; the evaluation runs on.");
	term_note(&cli->term, "       assay logs -f %s    goes on showing its output", job_name);
	term_note(&cli->term, "       assay cancel %s     ends it", job_name);
}

/* The status object with the output of GET /logs in it, as ?wait would have answered. */
static int print_json_result(struct cli *cli, const char *job_name, yyjson_val *status)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	buffer_printf(&path, "/logs/%s", job_name);
	struct request request;
	yyjson_doc *logs;
	buffer_append_char(&path, '\0');
	request = (struct request){ .path = path.data };
	int code = cli_ask(cli, &request, &logs);
	if (code != EXIT_OK)
		return code;
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_val_mut_copy(doc, status);
	yyjson_mut_doc_set_root(doc, root);
	size_t index, count;
	yyjson_val *key, *value;
	yyjson_obj_foreach(yyjson_doc_get_root(logs), index, count, key, value)
	{
		const char *name = yyjson_get_str(key);
		bool of_logs = strcmp(name, "logs") == 0 || strcmp(name, "offset") == 0 || strcmp(name, "more") == 0;
		if (!of_logs && !yyjson_obj_get(status, name))
			yyjson_mut_obj_add(root, yyjson_val_mut_copy(doc, key), yyjson_val_mut_copy(doc, value));
	}
	size_t len;
	char *text = yyjson_mut_write(doc, 0, &len);
	if (text)
		term_json(&cli->term, (struct bytes){ text, len });
	free(text);
	yyjson_mut_doc_free(doc);
	yyjson_doc_free(logs);
	return EXIT_OK;
}

static int stay(struct cli *cli, const struct submit_mode *mode, const char *job_name)
{
	struct err err;
	if (client_catch_interrupts(&cli->client, &err) < 0) {
		term_fail(&cli->term, "%s", err.message);
		return EXIT_BAD_ANSWER;
	}
	enum watch_output output = cli->json ? WATCH_SILENT : mode->follow ? WATCH_LIVE : WATCH_AT_END;
	yyjson_doc *doc;
	int code = watch_evaluation(cli, job_name, output, &doc);
	if (code == EXIT_INTERRUPTED)
		submit_note_interrupted(cli, job_name);
	if (code != EXIT_OK)
		return code;
	yyjson_val *status = yyjson_doc_get_root(doc);
	struct outcome outcome = outcome_of(status);
	if (cli->json) {
		code = print_json_result(cli, job_name, status);
	} else if (cli->term.err_is_terminal || !bytes_is(outcome.status, "succeeded") ||
		   yyjson_obj_get(status, "tests")) {
		/* A success needs no words where nobody looks: what the program printed is all that is wanted then. */
		struct buffer text CLEANUP(buffer_fini) = { 0 };
		view_tests(&text, cli->term.err_colour, status);
		view_end(&text, cli->term.err_colour, status);
		term_note(&cli->term, "%.*s", (int)text.len, text.data);
	}
	if (code == EXIT_OK)
		code = exit_code_of(&outcome);
	yyjson_doc_free(doc);
	return code;
}

int submit_one(struct cli *cli, const struct submit_mode *mode, struct bytes body, bool named)
{
	struct buffer answer;
	struct buffer key CLEANUP(buffer_fini) = { 0 };
	char random[16];
	if (!named) {
		random_bytes(random, sizeof(random));
		buffer_append_string(&key, "assay-");
		hex_append(&key, (struct bytes){ random, sizeof(random) });
		buffer_append_char(&key, '\0');
	}
	int code = submit_send(cli, "/execute", body, NULL, key.data, false, &answer);
	if (code != EXIT_OK)
		return code;
	yyjson_doc *doc = answer.len > 0 ? yyjson_read(answer.data, answer.len, 0) : NULL;
	char *job_name = bytes_copy_string(json_text(yyjson_doc_get_root(doc), "job_name"));
	yyjson_doc_free(doc);
	if (!job_name) {
		term_fail(&cli->term, "what answers at %s is not Assay: its answer names no job", cli->client.url);
		code = EXIT_BAD_ANSWER;
	} else if (mode->wait) {
		code = stay(cli, mode, job_name);
	} else if (cli->json) {
		term_json(&cli->term, buffer_bytes(&answer));
	} else {
		struct buffer line CLEANUP(buffer_fini) = { 0 };
		safe_line_append(&line, bytes_of(job_name));
		buffer_append_char(&line, '\n');
		term_out(&cli->term, buffer_bytes(&line));
	}
	free(job_name);
	buffer_fini(&answer);
	return code;
}
