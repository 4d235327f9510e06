/* Writing to standard output and standard error. */
#include "cli/term.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

void term_init(struct term *term)
{
	const char *no_colour = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	bool colours = !(no_colour && *no_colour) && !(kind && strcmp(kind, "dumb") == 0);
	*term = (struct term){
		.out_is_terminal = isatty(STDOUT_FILENO) == 1,
		.err_is_terminal = isatty(STDERR_FILENO) == 1,
	};
	signal(SIGPIPE, SIG_IGN);
	term->out_colour = term->out_is_terminal && colours;
	term->err_colour = term->err_is_terminal && colours;
}

static void flush(struct term *term, FILE *file)
{
	if (fflush(file) == 0 && !ferror(file))
		return;
	if (file == stdout && errno == EPIPE) {
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	term->failed |= file == stdout;
}

size_t term_columns(const struct term *term)
{
	struct winsize size;
	if (term->err_is_terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	return 80;
}

void style_append(struct buffer *to, bool colour, enum style style, const char *text)
{
	static const char *const codes[] = {
		[STYLE_PLAIN] = "",
		[STYLE_GOOD] = "\x1b[32m",
		[STYLE_BAD] = "\x1b[31m",
		[STYLE_WARN] = "\x1b[33m",
		[STYLE_DIM] = "\x1b[2m",
		[STYLE_BOLD] = "\x1b[1m",
	};
	bool styled = colour && style != STYLE_PLAIN;
	if (styled)
		buffer_append_string(to, codes[style]);
	buffer_append_string(to, text);
	if (styled)
		buffer_append_string(to, "\x1b[0m");
}

void term_progress_clear(struct term *term)
{
	if (!term->line_open)
		return;
	fputs("\r\x1b[K", stderr);
	fflush(stderr);
	term->line_open = false;
}

void term_progress(struct term *term, struct bytes line)
{
	if (!term->err_is_terminal)
		return;
	fprintf(stderr, "\r%.*s\x1b[K", (int)line.len, line.data);
	fflush(stderr);
	term->line_open = true;
}

void term_out(struct term *term, struct bytes text)
{
	term_progress_clear(term);
	if (text.len > 0)
		fwrite(text.data, 1, text.len, stdout);
	flush(term, stdout);
}

void term_note(struct term *term, const char *format, ...)
{
	term_progress_clear(term);
	if (term->mid_line)
		fputc('\n', stderr);
	term->mid_line = false;
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

void term_fail(struct term *term, const char *format, ...)
{
	char *text;
	va_list args;
	va_start(args, format);
	int len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		return;
	struct buffer line = { 0 };
	style_append(&line, term->err_colour, STYLE_BAD, "assay:");
	buffer_append_char(&line, ' ');
	safe_line_append(&line, (struct bytes){ text, (size_t)len });
	free(text);
	term_note(term, "%.*s", (int)line.len, line.data);
	buffer_fini(&line);
}

void term_program(struct term *term, FILE *file, struct safe_text *safe, struct bytes data)
{
	bool terminal = file == stdout ? term->out_is_terminal : term->err_is_terminal;
	term_progress_clear(term);
	if (!terminal || term->raw) {
		if (data.len > 0)
			fwrite(data.data, 1, data.len, file);
	} else {
		struct buffer text = { 0 };
		if (data.len > 0)
			safe_text_append(safe, &text, data);
		else
			safe_text_finish(safe, &text);
		if (text.len > 0)
			fwrite(text.data, 1, text.len, file);
		buffer_fini(&text);
	}
	flush(term, file);
	if (data.len > 0)
		term->mid_line = terminal && data.data[data.len - 1] != '\n';
}

void term_json(struct term *term, struct bytes json)
{
	while (json.len > 0 && (json.data[json.len - 1] == '\n' || json.data[json.len - 1] == ' '))
		json.len--;
	struct buffer text = { 0 };
	if (term->out_is_terminal) {
		struct safe_text safe = { .mode = SAFE_JSON };
		safe_text_append(&safe, &text, json);
		safe_text_finish(&safe, &text);
	} else {
		buffer_append_bytes(&text, json);
	}
	buffer_append_char(&text, '\n');
	term_out(term, buffer_bytes(&text));
	buffer_fini(&text);
}

bool term_flush(struct term *term)
{
	term_progress_clear(term);
	flush(term, stdout);
	return !term->failed;
}
