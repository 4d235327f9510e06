/* Text for people out of the API's JSON. Pure. */
#include "cli/view.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/progress.h"

struct outcome outcome_of(yyjson_val *status)
{
	return (struct outcome){
		.status = json_text(status, "status"),
		.phase = json_text(status, "phase"),
		.reason = json_text(status, "reason"),
		.fault = json_text(status, "fault"),
		.exit_code = (int)json_number(status, "exit_code", -1),
		.signal = (int)json_number(status, "signal", 0),
	};
}

bool status_ended(yyjson_val *status)
{
	return json_text(status, "status").data && !bytes_is(json_text(status, "status"), "running");
}

static enum style style_of(yyjson_val *status)
{
	if (!status_ended(status))
		return STYLE_WARN;
	return bytes_is(json_text(status, "status"), "succeeded") ? STYLE_GOOD : STYLE_BAD;
}

void view_mark(struct buffer *to, bool colour, yyjson_val *status)
{
	enum style style = style_of(status);
	style_append(to, colour, style, style == STYLE_GOOD ? "✓" : style == STYLE_BAD ? "✗" : "…");
}

size_t text_width(struct bytes text)
{
	size_t width = 0;
	for (size_t i = 0; i < text.len; i++)
		width += (text.data[i] & 0xc0) != 0x80;
	return width;
}

void text_table_add(struct text_table *table, struct bytes cell, enum style style)
{
	if (table->count == table->room) {
		table->room = table->room ? 2 * table->room : 64;
		table->cells = realloc_array(table->cells, table->room, sizeof(*table->cells));
		table->styles = realloc_array(table->styles, table->room, sizeof(*table->styles));
	}
	struct buffer safe = { 0 };
	safe_line_append(&safe, cell);
	buffer_append_char(&safe, '\0');
	table->cells[table->count] = safe.data;
	table->styles[table->count++] = style;
}

void text_table_append(const struct text_table *table, struct buffer *to, bool colour, bool header)
{
	size_t *widths = alloc_array(table->columns, sizeof(*widths));
	for (size_t i = 0; i < table->count; i++) {
		size_t width = text_width(bytes_of(table->cells[i]));
		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t i = 0; i < table->count; i++) {
		bool last = (i + 1) % table->columns == 0;
		bool bold = header && i < table->columns;
		style_append(to, colour, bold ? STYLE_BOLD : table->styles[i], table->cells[i]);
		size_t fill = widths[i % table->columns] - text_width(bytes_of(table->cells[i])) + 2;
		if (last) {
			while (to->len > 0 && to->data[to->len - 1] == ' ')
				to->len--;
			buffer_append_char(to, '\n');
		} else
			buffer_printf(to, "%*s", (int)fill, "");
	}
	free(widths);
}

void text_table_fini(struct text_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table->styles);
	*table = (struct text_table){ .columns = table->columns };
}

static void line(struct buffer *to, const char *name, struct bytes value)
{
	if (value.len == 0)
		return;
	buffer_printf(to, "  %-10s", name);
	safe_line_append(to, value);
	buffer_append_char(to, '\n');
}

/* "cpu 30 ms, memory 9.1 MiB", as far as it was measured. */
static void append_usage(struct buffer *to, yyjson_val *usage)
{
	double cpu = json_real(usage, "cpu_seconds", -1);
	double memory = json_real(usage, "memory_bytes", -1);
	if (cpu >= 0) {
		buffer_append_string(to, "cpu ");
		duration_append(to, cpu);
	}
	if (memory >= 0) {
		buffer_append_string(to, cpu >= 0 ? ", memory " : "memory ");
		size_append(to, memory);
	}
}

static void append_reason(struct buffer *to, yyjson_val *status)
{
	struct outcome outcome = outcome_of(status);
	struct bytes cause = json_text(status, "cause");
	if (outcome.reason.len == 0)
		return;
	safe_line_append(to, outcome.reason);
	if (cause.len > 0) {
		buffer_append_string(to, " after ");
		safe_line_append(to, cause);
	}
	if (outcome.exit_code > 0 && bytes_is(outcome.reason, "exit_code"))
		buffer_printf(to, " %d", outcome.exit_code);
	/* Of what the service killed itself the signal says nothing. */
	if (outcome.signal > 0 && bytes_is(outcome.reason, "signal")) {
		const char *name = sigabbrev_np(outcome.signal);
		buffer_printf(to, name ? " %d (SIG%s)" : " %d", outcome.signal, name);
	}
}

static void append_time(struct buffer *to, double seconds, yyjson_val *usage)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	duration_append(to, seconds);
	append_usage(&text, usage);
	if (text.len > 0)
		buffer_printf(to, " (%.*s)", (int)text.len, text.data);
}

static void append_duration(struct buffer *to, yyjson_val *status)
{
	double seconds = json_real(status, "duration_seconds", -1);
	if (seconds >= 0)
		append_time(to, seconds, yyjson_obj_get(status, "usage"));
}

static void append_score(struct buffer *to, yyjson_val *status)
{
	yyjson_val *score = yyjson_obj_get(status, "score");
	if (score)
		buffer_printf(to, "%.6g of %.6g points, %lld of %lld tests", json_real(score, "points", 0),
			json_real(score, "max_points", 0), (long long)json_number(score, "passed", 0),
			(long long)json_number(score, "total", 0));
}

void view_status(struct buffer *to, bool colour, yyjson_val *status)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	safe_line_append(to, json_text(status, "job_name"));
	buffer_append_string(to, "  ");
	view_mark(to, colour, status);
	buffer_append_char(to, ' ');
	safe_line_append(to, json_text(status, "phase"));
	buffer_append_char(to, '\n');
	append_reason(&text, status);
	line(to, "reason", buffer_bytes(&text));
	line(to, "fault", json_text(status, "fault"));
	line(to, "error", json_text(status, "error"));
	line(to, "task", json_text(status, "task_id"));
	if (!bytes_equal(json_text(status, "eval_id"), json_text(status, "task_id")))
		line(to, "eval_id", json_text(status, "eval_id"));
	int64_t attempt = json_number(status, "attempt", 0), charged = json_number(status, "attempts", 0);
	buffer_clear(&text);
	if (attempt > 1 || charged > 0)
		buffer_printf(
			&text, "%lld (%lld failed by no fault of the code)", (long long)attempt, (long long)charged);
	line(to, "attempt", buffer_bytes(&text));
	line(to, "queued", json_text(status, "queued_at"));
	line(to, "started", json_text(status, "started_at"));
	line(to, "finished", json_text(status, "finished_at"));
	buffer_clear(&text);
	append_duration(&text, status);
	line(to, "ran", buffer_bytes(&text));
	buffer_clear(&text);
	append_score(&text, status);
	line(to, "score", buffer_bytes(&text));
	line(to, "executor", json_text(status, "executor"));
	line(to, "node", json_text(status, "node"));
	line(to, "pod", json_text(status, "pod"));
	line(to, "image", json_text(status, "image"));
	view_tests(to, colour, status);
}

void view_end(struct buffer *to, bool colour, yyjson_val *status)
{
	struct buffer text CLEANUP(buffer_fini) = { 0 };
	view_mark(to, colour, status);
	buffer_append_char(to, ' ');
	struct bytes phase = json_text(status, "phase");
	safe_line_append(to, phase);
	/* Every other phase is its own reason. */
	if (bytes_is(phase, "failed"))
		append_reason(&text, status);
	if (text.len > 0)
		buffer_printf(to, ": %.*s", (int)text.len, text.data);
	buffer_clear(&text);
	append_score(&text, status);
	if (text.len > 0)
		buffer_printf(to, ", %.*s", (int)text.len, text.data);
	buffer_clear(&text);
	append_duration(&text, status);
	if (text.len > 0)
		buffer_printf(to, " in %.*s", (int)text.len, text.data);
	struct bytes error = json_text(status, "error");
	if (error.len > 0) {
		buffer_append_string(to, "\n  ");
		safe_line_append(to, error);
	}
}

/* Each line of a diff on its own, made safe and set in. */
static void append_diff(struct buffer *to, bool colour, struct bytes diff)
{
	while (diff.len > 0) {
		const char *end = memchr(diff.data, '\n', diff.len);
		struct bytes part = { diff.data, end ? (size_t)(end - diff.data) : diff.len };
		struct buffer safe CLEANUP(buffer_fini) = { 0 };
		safe_line_append(&safe, part);
		buffer_append_char(&safe, '\0');
		enum style style = part.len && *part.data == '-'   ? STYLE_BAD
				   : part.len && *part.data == '+' ? STYLE_GOOD
								   : STYLE_DIM;
		buffer_append_string(to, "      ");
		style_append(to, colour, style, safe.data);
		buffer_append_char(to, '\n');
		size_t taken = part.len + (end ? 1 : 0);
		diff.data += taken;
		diff.len -= taken;
	}
}

static void append_test_name(struct buffer *to, yyjson_val *test)
{
	if (json_text(test, "name").len > 0)
		safe_line_append(to, json_text(test, "name"));
	else
		buffer_printf(to, "test %lld", (long long)json_number(test, "index", 0) + 1);
}

void view_tests(struct buffer *to, bool colour, yyjson_val *status)
{
	yyjson_val *tests = yyjson_obj_get(status, "tests");
	size_t index, count;
	yyjson_val *test;
	yyjson_arr_foreach(tests, index, count, test)
	{
		bool passed = bytes_is(json_text(test, "status"), "passed");
		double seconds = json_real(test, "wall_seconds", -1);
		buffer_append_string(to, "  ");
		style_append(to, colour, passed ? STYLE_GOOD : STYLE_BAD, passed ? "✓" : "✗");
		buffer_append_char(to, ' ');
		append_test_name(to, test);
		buffer_append_string(to, "  ");
		safe_line_append(to, json_text(test, "status"));
		if (json_text(test, "reason").len > 0) {
			buffer_append_string(to, " (");
			safe_line_append(to, json_text(test, "reason"));
			buffer_append_char(to, ')');
		}
		buffer_printf(
			to, "  %.6g of %.6g points", json_real(test, "points", 0), json_real(test, "max_points", 0));
		if (seconds >= 0) {
			buffer_append_string(to, "  ");
			duration_append(to, seconds);
		}
		buffer_append_char(to, '\n');
		append_diff(to, colour, json_text(test, "diff"));
	}
}

/* "run 1  7.5 s (cpu 7.0 s, memory 41 MiB)" */
static void append_progress(struct buffer *to, yyjson_val *event)
{
	safe_line_append(to, json_text(event, "step"));
	if (yyjson_obj_get(event, "run_index"))
		buffer_printf(to, " %lld", (long long)json_number(event, "run_index", 0) + 1);
	buffer_append_string(to, "  ");
	append_time(to, json_real(event, "wall_seconds", 0), event);
}

void view_event(struct buffer *to, bool colour, yyjson_val *event)
{
	char time[CLOCK_TEXT_SIZE];
	double timestamp = json_real(event, "timestamp", 0);
	struct bytes kind = json_text(event, "kind");
	bool bad = bytes_is(kind, "failed") || bytes_is(kind, "cancelled") || bytes_is(kind, "retrying");
	struct buffer padded CLEANUP(buffer_fini) = { 0 };
	safe_line_append(&padded, kind);
	buffer_printf(&padded, "%*s", padded.len < 9 ? (int)(9 - padded.len) : 0, "");
	buffer_append_char(&padded, '\0');
	buffer_printf(to, "%s  ", clock_format((int64_t)(timestamp * 1e6), time));
	style_append(to, colour, bad ? STYLE_BAD : bytes_is(kind, "completed") ? STYLE_GOOD : STYLE_PLAIN, padded.data);
	buffer_append_string(to, "  ");
	safe_line_append(to, json_text(event, "job_name"));
	if (!bytes_equal(json_text(event, "eval_id"), json_text(event, "task_id"))) {
		buffer_append_string(to, "  ");
		safe_line_append(to, json_text(event, "eval_id"));
	}
	buffer_append_string(to, "  ");
	struct buffer reason CLEANUP(buffer_fini) = { 0 };
	append_reason(&reason, event);
	buffer_append(to, reason.data, reason.len);
	yyjson_val *test = yyjson_obj_get(event, "test");
	if (test) {
		append_test_name(to, test);
		buffer_append_char(to, ' ');
		safe_line_append(to, json_text(test, "status"));
	}
	if (bytes_is(kind, "log"))
		safe_line_append(to, json_text(event, "data"));
	if (bytes_is(kind, "progress"))
		append_progress(to, event);
	while (to->len > 0 && to->data[to->len - 1] == ' ')
		to->len--;
	buffer_append_char(to, '\n');
}
