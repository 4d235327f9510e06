/* The two output streams: whether they are terminals, colours, and what goes to them.
 *
 * On a terminal text from elsewhere is made harmless first (safe_text.h); into a file or a pipe a program's output goes
 * as the very bytes. Colours and the progress line come on a terminal only, colours not with NO_COLOR (no-color.org) or
 * TERM=dumb. */
#ifndef ASSAY_CLI_TERM_H
#define ASSAY_CLI_TERM_H

#include <stdbool.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"
#include "cli/safe_text.h"

enum style { STYLE_PLAIN, STYLE_GOOD, STYLE_BAD, STYLE_WARN, STYLE_DIM, STYLE_BOLD };

struct term {
	bool out_is_terminal, err_is_terminal;
	bool out_colour, err_colour;
	bool raw; /* the user trusts the program: its output goes to a terminal as it is */
	bool line_open; /* a progress line stands on standard error without its end */
	bool failed; /* standard output cannot be written: there is no use in going on */
	bool mid_line; /* a program's output on a terminal did not end its last line */
};

/* Also has SIGPIPE ignored, which a connection that breaks would raise as well; a reader of standard output that goes
 * away still ends this process by it. */
void term_init(struct term *term);
size_t term_columns(const struct term *term); /* of standard error's terminal; 80 where it cannot be told */

/* Appends text in a style, for the stream whose colour setting is given. */
void style_append(struct buffer *to, bool colour, enum style style, const char *text);

/* Writes and flushes; a progress line is taken away before. */
void term_out(struct term *term, struct bytes text);
void term_note(struct term *term, const char *format, ...) PRINTF_LIKE(2, 3); /* a line on standard error */
/* "assay: …" on standard error, in red where there are colours; the text is made safe. */
void term_fail(struct term *term, const char *format, ...) PRINTF_LIKE(2, 3);
/* A piece of a program's output; `safe` belongs to that output alone. data.len == 0 ends it. */
void term_program(struct term *term, FILE *file, struct safe_text *safe, struct bytes data);
/* A JSON document and a line end. */
void term_json(struct term *term, struct bytes json);
/* Replaces the progress line; only where standard error is a terminal. */
void term_progress(struct term *term, struct bytes line);
void term_progress_clear(struct term *term);
/* False when something could not be written. */
bool term_flush(struct term *term);

#endif
