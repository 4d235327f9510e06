/* The text that shows a difference, for compare.c: bounded, well-formed UTF-8. */
#ifndef ASSAY_TASK_COMPARE_DIFF_H
#define ASSAY_TASK_COMPARE_DIFF_H

#include "task/compare.h"

/* Appends formatted ASCII; what does not fit is left out. */
void diff_printf(struct comparison *comparison, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends at most max bytes' worth of `text`, made printable; "…" marks a cut. */
void diff_text(struct comparison *comparison, struct bytes text, size_t max);
/* The line that position `at` of `text` is in, without its line end. */
struct bytes diff_line_at(struct bytes text, size_t at);
/* Line number (from 1) of position `at`; behind the text, that of the line after its last. */
size_t diff_line_number(struct bytes text, size_t at);
/* "first difference at line L, column C", two lines before it, and the line of each text. Positions are of the first
 * byte that differs; the text's length where it ends too early, and one more where it has one line less. */
void diff_lines(struct comparison *comparison, struct bytes expected, size_t expected_at, struct bytes actual,
	size_t actual_at);

#endif
