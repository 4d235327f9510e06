/* Text from elsewhere made harmless for a terminal.
 *
 * A terminal obeys the bytes it is shown: escape sequences can retitle the window, hide text, answer on standard input.
 * So what comes from the service or from somebody's program is shown with every such character spelled out: C0 and C1
 * controls and DEL, bytes that are not UTF-8, and the invisible characters that reorder a line (U+202A-202E,
 * U+2066-2069), separate lines (U+2028-2029) or tag it (U+E0000-E007F). Works on a stream: a character split over two
 * calls is put together. */
#ifndef ASSAY_CLI_SAFE_TEXT_H
#define ASSAY_CLI_SAFE_TEXT_H

#include <stddef.h>

#include "base/buffer.h"
#include "base/bytes.h"

enum safe_mode {
	SAFE_PROGRAM, /* a program's output: new line, tab and CR LF stay; the rest as \x1b or \u202e */
	SAFE_LINE, /* one line: new line and tab are spelled out too, as \n and \t */
	SAFE_JSON, /* JSON text, stays JSON: what JSON does not escape itself comes as \u009b */
};

struct safe_text { /* zero-initialised but for the mode is valid */
	enum safe_mode mode;
	char pending[4]; /* the begin of a character, or a CR, whose sequel has not come yet */
	size_t pending_len;
};

void safe_text_append(struct safe_text *safe, struct buffer *to, struct bytes text);
void safe_text_finish(struct safe_text *safe, struct buffer *to); /* no more comes: spells out what is pending */
void safe_line_append(struct buffer *to, struct bytes text); /* one whole text in SAFE_LINE */

#endif
