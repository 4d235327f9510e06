/* The JSON that the world sees: status objects and event payloads, from the plain structs. One writer for HTTP, SSE,
 * Redis and the row's `result`, so that they cannot differ. */
#ifndef ASSAY_TASK_FORMS_H
#define ASSAY_TASK_FORMS_H

#include "assay/task.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/json.h"

/* What one attempt has come to, as far as it is known; kept while it runs and written into `result` when it ends. */
struct attempt_record {
	enum task_status status; /* TASK_RUNNING while it runs */
	enum task_reason reason, cause;
	int exit_code; /* -1: none */
	int signal; /* 0: none */
	struct task_usage usage;
	bool stdout_truncated, stderr_truncated;
	bool has_score;
	double score, max_score;
	int tests_passed, tests_total;
	struct bytes tests; /* JSON array of test results, or absent */
	struct bytes error; /* for people */
	int64_t started_at_us, finished_at_us;
	struct bytes node, pod, image;
	struct bytes extra; /* further members of the status object, as JSON without braces; or absent */
};

/* The status object of an ended attempt, for the row's `result`: everything of GET /status but output, and but for members that are null.
 * `task` gives ids, times and the route. */
void form_result(struct json *json, const struct task *task, const struct attempt_record *record);
/* The members (without braces) of a terminal event's data. */
void form_terminal_data(struct buffer *buffer, const struct task *task, const struct attempt_record *record);

/* GET /status: from the row, and for an ended task what its `result` keeps. */
void form_status(struct json *json, const struct task *task);
/* GET /tasks/{id} and an element of GET /tasks: the status object plus the seed's columns. */
void form_task(struct json *json, const struct task *task);
/* The payload of an event: what goes over Redis and into `data:` of an SSE event. */
void form_event(struct buffer *buffer, const struct event *event);
void form_live_event(struct buffer *buffer, const struct live_event *event);
/* The way back, for what another replica published: whoever may write to the channel wrote it. False where it is none
 * of ours. The event is copied into the arena; its text becomes its `payload`, so that it is given out as it came. */
bool form_event_parse(struct bytes text, struct arena *arena, struct event *ret_event);
bool form_live_event_parse(struct bytes text, struct arena *arena, struct live_event *ret_event);

/* Cursors as clients see them: hex; "0" for the empty one. */
#define CURSOR_TEXT_SIZE 48
char *cursor_format(const struct cursor *cursor, char text[static CURSOR_TEXT_SIZE]);
bool cursor_parse(struct bytes text, struct cursor *ret_cursor);

#endif
