/* The model: the plain structs that flow through the house.
 *
 *   submission ──► task (a durable row) ──► job ──► job_end ──► transition ──► event
 *
 * A submission is what the API has checked; a task is the row that came of it; each execution of a task is an
 * attempt; a transition moves the row from one state to another if its guard still holds; an event tells the world
 * of a transition that committed. Strings are `struct bytes`: well-formed UTF-8 without U+0000 unless said otherwise;
 * absent (data == NULL) means "none". Points in time are microseconds since the epoch; 0 means "none". */
#ifndef ASSAY_TASK_H
#define ASSAY_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/uuid.h"

/* Whose all tasks are where the service has no tokens. PostgreSQL's index for the lists of tenants leaves it out by this name. */
#define TENANT_DEFAULT "default"

/* The row's `status`. */
enum task_status { TASK_QUEUED, TASK_RUNNING, TASK_COMPLETED, TASK_FAILED, TASK_RETRY, TASK_CANCELLED };
#define TASK_STATUS_COUNT 6

/* The exact word of the API. Derived, never stored: task_phase_of(). */
enum task_phase {
	PHASE_QUEUED,
	PHASE_STARTING,
	PHASE_RUNNING,
	PHASE_RETRYING,
	PHASE_SUCCEEDED,
	PHASE_FAILED,
	PHASE_TIMED_OUT,
	PHASE_OUT_OF_MEMORY,
	PHASE_CANCELLED,
};

enum task_fault { FAULT_NONE, FAULT_USER, FAULT_INFRASTRUCTURE, FAULT_PLATFORM };

/* Why an attempt or a task ended. Each has one fault: task_reason_fault(). */
enum task_reason {
	REASON_NONE, /* it succeeded, or has not ended */
	/* user */
	REASON_EXIT_CODE,
	REASON_SIGNAL,
	REASON_COMPILE_ERROR,
	REASON_TIMEOUT,
	REASON_OUT_OF_MEMORY,
	REASON_OUTPUT_LIMIT,
	REASON_PROCESS_LIMIT,
	REASON_DISK_LIMIT,
	REASON_TESTS_FAILED,
	/* infrastructure */
	REASON_EVICTED,
	REASON_PREEMPTED,
	REASON_DELETED,
	REASON_NODE_LOST,
	REASON_EXECUTOR_LOST,
	REASON_IMAGE_PULL,
	REASON_START_TIMEOUT,
	REASON_API_ERROR,
	REASON_WORKER_CRASH,
	/* platform */
	REASON_CANCELLED,
	REASON_MAX_ATTEMPTS,
};
#define TASK_REASON_COUNT (REASON_MAX_ATTEMPTS + 1)

struct task_usage {
	int64_t wall_us;
	int64_t cpu_us; /* user and system; -1 where it could not be measured */
	int64_t memory_bytes; /* peak; -1 where it could not be measured */
};

/* What the API hands to admission: parsed, checked, complete. Nothing behind this point sees JSON from a user.
 * All pointers live in the request's arena, which lives until the submission is answered. */
struct submission {
	struct uuid id; /* made by the API: the id of the task if it is created */
	struct bytes tenant;
	struct bytes type; /* "evaluation", "test" */
	struct bytes queue; /* "default" unless told */
	struct bytes executor; /* the one it was routed to */
	struct bytes eval_id; /* idempotency keys of the client, unique within the tenant */
	struct bytes idempotency_key;
	uint8_t digest[33]; /* version byte and SHA-256 of what the client sent: equal keys must have equal digests */
	int priority; /* 0 to 9, larger is sooner */
	int max_attempts;
	double turn; /* of start-time fair queueing; smaller is sooner within a priority. Set by admission */
	int64_t run_after_us;
	struct uuid batch_id; /* nil when it came alone */
	struct bytes description;
	struct bytes domain;
	double drift_score;
	struct bytes params; /* JSON object: for an evaluation its normalised form (task/evaluation.h) */
	struct bytes metadata; /* JSON, the client's own */
	struct bytes callback_url;
	struct bytes traceparent; /* W3C Trace Context, kept with the task */
	struct bytes image; /* container image, where the client chose one */
};

/* What guards every transition of a row: it is made only if all four still hold. */
struct task_guard {
	struct uuid id;
	enum task_status status;
	int attempt; /* numbers executions; raised by every transition into RUNNING, never reset */
	struct bytes locked_by; /* owner: replica name, '#', incarnation; absent for a row that nobody runs */
};

/* A row as the store gives it. Pointers live in the arena of the operation that read it. */
struct task {
	struct uuid id;
	enum task_status status;
	int run; /* 1, then one more each time an ended task is run again */
	int attempt; /* executions so far, this one included */
	int attempts; /* charged failures */
	int max_attempts; /* the allowance for charged failures */
	int priority;
	uint32_t sequence; /* of its latest event */
	struct bytes locked_by;
	struct bytes tenant, type, queue, executor;
	struct bytes eval_id, idempotency_key;
	struct uuid batch_id;
	struct bytes description, domain;
	double drift_score;
	double turn;
	int64_t created_at_us;
	int64_t updated_at_us;
	int64_t queued_at_us; /* of this run */
	int64_t run_after_us; /* not before; 0: at once */
	int64_t locked_at_us; /* claimed, or born running */
	int64_t started_at_us; /* the executor said that the code of this attempt has started */
	int64_t finished_at_us;
	int64_t cancel_requested_at_us;
	enum task_reason reason;
	enum task_reason cause; /* the last fault, where reason is REASON_MAX_ATTEMPTS */
	struct bytes error; /* for people: one or more sentences */
	struct bytes node, pod, image;
	struct bytes traceparent, metadata, callback_url;
	struct bytes params; /* only where the operation says so */
	struct bytes result; /* ended: JSON, the status object without output, with the route taken */
};

/* The durable kinds come first; the others are told only to who listens at that moment. */
enum event_kind {
	EVENT_QUEUED,
	EVENT_RUNNING,
	EVENT_RETRYING,
	EVENT_TEST,
	EVENT_STAGE,
	EVENT_COMPLETED,
	EVENT_FAILED,
	EVENT_CANCELLED,
	EVENT_LOG,
	EVENT_PROGRESS,
};
#define EVENT_KIND_COUNT 10
#define EVENT_KIND_DURABLE_COUNT 8

/* A place in the stream of events, opaque to all but the store that made it. */
struct cursor {
	uint8_t length; /* 0: before everything */
	uint8_t bytes[23];
};

/* Which place comes first: those that a store tells are in the order of their bytes, but where they are not final (store_status) only
 * those of a frontier. Less than, equal to, or greater than 0, as memcmp(). */
static inline int cursor_compare(const struct cursor *a, const struct cursor *b)
{
	int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
	return order ? order : a->length - b->length;
}

/* One durable event, written in the transaction of its transition. */
struct event {
	enum event_kind kind;
	struct uuid task_id;
	uint32_t sequence; /* 1, 2, 3… within one task */
	int run;
	int attempt;
	int64_t timestamp_us;
	struct cursor cursor;
	struct bytes tenant;
	struct bytes eval_id; /* absent: the task has none */
	struct uuid batch_id; /* nil: none */
	struct bytes data; /* members of a JSON object without the braces, kind-specific, may be empty */
	/* Of terminal events, at most EVENT_OUTPUT_MAX bytes each of the two streams of the last attempt; any bytes.
	 * Never in the event's row: added from the output table. */
	struct bytes output, error;
	bool output_truncated; /* there is more than that: see the logs */
	/* Terminal: a delivery to the task's callback_url was written with it. Set where the store tells of a
	 * transition, not where events are read. */
	bool delivery;
	/* Whom it tells of has published it on the public channels by itself: only subscribers and other replicas are told. Lost where it
	 * is read from the store. */
	bool published;
	struct bytes publisher; /* the incarnation that published it, or was to */
	struct bytes
		payload; /* of one that another replica published: the whole JSON, instead of data, output and error; else absent */
};
#define EVENT_OUTPUT_MAX 65536

/* What runs are told of while they run, not kept: output as it comes, progress. */
struct live_event {
	enum event_kind kind; /* EVENT_LOG or EVENT_PROGRESS */
	struct uuid task_id;
	int run;
	int attempt;
	int64_t timestamp_us;
	struct bytes tenant;
	struct bytes eval_id;
	struct uuid batch_id;
	int stream; /* 1 standard output, 2 standard error; 0 for progress */
	uint64_t offset; /* of `data` within the attempt's output, both streams together */
	struct bytes data; /* LOG: any bytes. PROGRESS: members of a JSON object */
	struct bytes publisher,
		payload; /* as an event's; with a payload, `data` of a LOG is there too if it came whole */
};

/* A piece of what an attempt printed, in the order it was read. */
struct output_chunk {
	struct uuid task_id;
	int attempt;
	int stream; /* 1 standard output, 2 standard error */
	uint64_t offset; /* within both streams together */
	uint64_t stream_offset; /* within its stream */
	struct bytes data; /* any bytes */
};

#endif
