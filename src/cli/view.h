/* Objects of the API as text for people. All text of the service's is made safe. */
#ifndef ASSAY_CLI_VIEW_H
#define ASSAY_CLI_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <yyjson.h>

#include "base/buffer.h"
#include "cli/exit_code.h"
#include "cli/term.h"

struct outcome outcome_of(yyjson_val *status); /* borrowed from the document */
bool status_ended(yyjson_val *status);
/* "✓", "✗" or "…" in its colour, by how it stands. */
void view_mark(struct buffer *to, bool colour, yyjson_val *status);
/* GET /status: several lines. */
void view_status(struct buffer *to, bool colour, yyjson_val *status);
/* "✓ succeeded in 420 ms (cpu 30 ms, memory 9.1 MiB)": one line without its end. */
void view_end(struct buffer *to, bool colour, yyjson_val *status);
/* The table of tests[], a line each, with the diffs of those that failed; nothing where there are none. */
void view_tests(struct buffer *to, bool colour, yyjson_val *status);
/* An event's payload: one line with its end. */
void view_event(struct buffer *to, bool colour, yyjson_val *event);

/* A table of left-aligned columns, each as wide as its widest cell. Cells are made safe. */
struct text_table {
	size_t columns;
	char **cells; /* owned, row by row */
	enum style *styles; /* owned */
	size_t count, room;
};
void text_table_add(struct text_table *table, struct bytes cell, enum style style);
void text_table_append(const struct text_table *table, struct buffer *to, bool colour, bool header);
void text_table_fini(struct text_table *table);
size_t text_width(struct bytes text); /* characters of UTF-8, each taken as one column */

#endif
