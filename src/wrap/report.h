/* What assay-wrap and the service say to each other about one attempt: frames, made and read here without any I/O. Both
 * sides compile this file.
 *
 * A frame, numbers in network order:
 *
 *   offset  size
 *        0     3  "AWF"
 *        3     1  version: REPORT_VERSION
 *        4     1  kind: enum frame_kind
 *        5     3  zero
 *        8     4  length of the payload, at most REPORT_PAYLOAD_MAX
 *       12     4  attempt
 *       16    16  the task's UUID
 *       32     8  sequence
 *       40     n  payload, by kind: below, beside the structs
 *     40+n    32  HMAC-SHA-256 with the attempt's key over all that stands before
 *
 * The attempt's key is report_attempt_key(): whoever has the service's key can make it, and it signs nothing but what
 * belongs to that attempt. The code that runs beside the wrapper does not have it, so what it sends is dropped.
 *
 * To the listener: POST /attempts/{task}/{attempt}/frames (UUID in its text form, attempt in decimal), one or more
 * whole frames as the body (REPORT_BODY_MAX), the next request after the answer to the last. Sequences are 1, 2, 3… without a gap; a
 * frame is sent until it is answered for, so the listener gets some twice and drops what it has. The answer is 200
 * and one frame of kind FRAME_ANSWER: up to which sequence all has been taken, and what the wrapper shall do.
 * Anything else (another status, a cut, silence, a wrong signature) makes the wrapper come again, with pauses that
 * grow. A body that ends with a FRAME_ASK may be answered when the answer is known, or after REPORT_ASK_HOLD_US with
 * COMMAND_WAIT, upon which the wrapper asks again.
 *
 * A wrapper may come to another replica, or to the next incarnation of one, at any time. It says in the request's query from
 * which sequence on it still has what it sent (?kept=N), as much as fits. Who has heard nothing of the attempt yet and is sent something
 * later answers COMMAND_REPEAT, and gets all of that; what came before N is lost. Who does not know the attempt at all
 * answers 421, and the wrapper looks elsewhere: its plan may name two addresses, one of the replica that began it and one
 * that leads to any of them.
 *
 * A FRAME_PROGRESS stands beside all that: it has the sequence 0, is a body of its own, is sent once or not at all, and does not
 * count as a frame that was taken. What comes of it is the answer, and with it a command for a wrapper that had nothing to say.
 *
 * A plan that is too large for a Secret is fetched before: POST /attempts/{task}/{attempt}/plan, whose body is one
 * FRAME_FETCH with the sequence 0. The answer is 200 and the plan, not zipped, with its HMAC-SHA-256 by the attempt's key, in
 * hexadecimal digits, as header REPORT_PLAN_HEADER.
 *
 * Where the listener has not taken all when the wrapper gives it up, what is kept goes to the container's standard output, a line for
 * each frame (report_line_make()), so that the pod's log has it.
 *
 * As termination message: report_text_make(), one signed FRAME_SUMMARY in base64, since the kubelet wants text. It has
 * the sequence 0. Where the wrapper was killed before the end it is that of the last step that ended (HOW_UNFINISHED),
 * or whatever the code wrote there, which has no signature. */
#ifndef ASSAY_WRAP_REPORT_H
#define ASSAY_WRAP_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wrap/sha256.h"

#define REPORT_VERSION 1
#define REPORT_HEAD_SIZE 40
#define REPORT_KEY_SIZE SHA256_SIZE
#define REPORT_OUTPUT_HEAD_SIZE 14 /* what stands before the bytes in the payload of a FRAME_OUTPUT */
#define REPORT_OUTPUT_MAX 65536 /* bytes of output in one frame */
#define REPORT_PAYLOAD_MAX (REPORT_OUTPUT_HEAD_SIZE + REPORT_OUTPUT_MAX)
#define REPORT_OVERHEAD (REPORT_HEAD_SIZE + SHA256_SIZE)
#define REPORT_FRAME_MAX (REPORT_PAYLOAD_MAX + REPORT_OVERHEAD)
#define REPORT_BODY_MAX (256 << 10) /* bytes of frames in one request */
#define REPORT_STEPS_MAX 1001 /* one compile and 1,000 runs */
#define REPORT_MESSAGE_MAX 160
#define REPORT_ASK_HOLD_US 20000000
#define REPORT_PLAN_HEADER "Assay-Signature"
/* The kubelet takes at most 4,096 bytes of a termination message. */
#define REPORT_TEXT_MAX 4096
#define REPORT_LINE_MAX ((REPORT_FRAME_MAX + 2) / 3 * 4 + 8)

enum frame_kind {
	FRAME_STARTED = 1, /* the first step's program is about to be executed */
	FRAME_OUTPUT = 2,
	FRAME_STEP_ENDED = 3, /* every process of the step is dead */
	FRAME_ASK = 4, /* shall the next run begin? */
	FRAME_ENDED = 5, /* the last frame: all steps once more */
	FRAME_SUMMARY = 6, /* the same, as many steps as fit, in the termination message */
	FRAME_ANSWER = 7, /* from the listener; its sequence is up to where it has all */
	FRAME_FETCH = 8, /* no payload; only in what asks for the plan */
	FRAME_PROGRESS = 9, /* how far a step is that runs; the next one makes it worthless */
};

/* Why a step ended. The numbers stay as they are: two versions may talk to each other. */
enum report_reason {
	REPORT_REASON_NONE = 0, /* exit code 0 */
	REPORT_REASON_EXIT_CODE = 1,
	REPORT_REASON_SIGNAL = 2,
	REPORT_REASON_COMPILE_ERROR = 3,
	REPORT_REASON_TIMEOUT = 4,
	REPORT_REASON_OUT_OF_MEMORY = 5,
	REPORT_REASON_OUTPUT_LIMIT = 6,
	REPORT_REASON_DISK_LIMIT = 7,
	REPORT_REASON_STOPPED =
		8, /* told to end from outside, or the listener said COMMAND_ABORT: no fault of the code */
	REPORT_REASON_PROCESS_LIMIT = 9,
};
#define REPORT_REASON_COUNT 10

/* How the whole ended. */
enum report_how {
	HOW_UNFINISHED = 0, /* not yet; only in a FRAME_SUMMARY */
	HOW_COMPLETE = 1, /* all steps that were to run have ended */
	HOW_STOPPED = 2, /* as the listener said */
	HOW_TERMINATED = 3, /* told to end from outside the container */
	HOW_FAILED = 4, /* the wrapper could not do its work; the message says what */
	HOW_UNANSWERED = 5, /* the listener did not say whether to go on */
};
#define HOW_COUNT 6

enum report_command {
	COMMAND_WAIT = 0, /* nothing to say; ask again */
	COMMAND_GO_ON = 1, /* runs below `runs` may begin */
	COMMAND_STOP = 2, /* no further run */
	COMMAND_ABORT = 3, /* end what runs, at once */
	COMMAND_REPEAT = 4, /* nothing was taken: send all that is kept */
};
#define COMMAND_COUNT 5

/* 25 bytes: flags (1 compile, 2 stdout truncated, 4 stderr truncated, 8 stdout dropped, 16 stderr dropped), reason,
 * signal (1 each), exit code (2, 0xffff: none), run (4), wall (4, µs), cpu (4, in units of 16 µs), memory (4, KiB),
 * milliseconds since the start (4). What does not fit is the largest number. */
#define REPORT_STEP_SIZE 25
struct report_step {
	bool compile; /* else a run */
	uint32_t run; /* index, 0 for the compile */
	enum report_reason reason;
	int exit_code; /* -1: it did not exit */
	int signal; /* 0: none killed it */
	int64_t wall_us, cpu_us; /* cpu: user and system, of all processes that were waited for */
	int64_t memory_bytes; /* the largest resident size of any one process */
	int64_t ended_ms; /* after the first step's start */
	bool truncated[2]; /* stdout, stderr: more than the limit was printed */
	bool dropped[2]; /* some of what was within the limit was not sent, for want of a listener */
};

/* FRAME_STARTED, payload: at_us (8), flags (4), Landlock ABI (4). */
enum { REPORT_FILTERED = 1 /* the seccomp filter holds */ };
struct report_started {
	uint32_t flags, landlock; /* 0: the kernel has none, or it was not asked for */
};

/* FRAME_OUTPUT, payload: flags (1: compile), stream (1), run (4), offset (8), then the bytes. */
struct report_output {
	bool compile;
	uint32_t run;
	int stream; /* 1 stdout, 2 stderr */
	uint64_t offset; /* within this stream of this step */
	const uint8_t *data; /* borrowed */
	size_t len;
};

/* FRAME_ENDED, FRAME_SUMMARY, payload: at_us (8), how (1), length of the message (1), steps that ended (2), steps that
 * follow (2), message, steps: the first ones, of a FRAME_SUMMARY those that fit. */
struct report_end {
	enum report_how how;
	uint16_t ended; /* so many steps have ended */
	uint16_t count; /* steps that are told: report_end_step() */
	const uint8_t *steps; /* borrowed */
	char message[REPORT_MESSAGE_MAX + 1]; /* for people, UTF-8 as far as the wrapper knew */
};

/* FRAME_PROGRESS, payload: flags (1: compile), run (4), wall (8, µs), cpu (8, µs), memory (8, bytes); all bits set: not known. */
#define REPORT_PROGRESS_SIZE 29
struct report_progress {
	bool compile;
	uint32_t run;
	int64_t wall_us; /* since the step began */
	int64_t cpu_us; /* of all its processes, as far as can be seen; -1: not known */
	int64_t memory_bytes; /* that the container has in use; -1: not known */
};

/* FRAME_ANSWER, payload: command (1), runs (4). */
struct report_answer {
	enum report_command command;
	uint32_t runs; /* GO_ON: how many may begin, in all */
};

struct report_frame {
	enum frame_kind kind;
	uint64_t sequence;
	int64_t at_us; /* since the epoch, by the node's clock; STARTED, STEP_ENDED, ENDED, SUMMARY */
	union {
		struct report_started started;
		struct report_output output;
		struct report_step step; /* STEP_ENDED, payload: at_us (8), a step */
		uint32_t ask_run; /* ASK, payload: the run that would be next (4) */
		struct report_progress progress;
		struct report_end end; /* ENDED, SUMMARY */
		struct report_answer answer;
	};
};

/* An attempt and the key it signs with. */
struct report_signer {
	uint8_t task[16];
	uint32_t attempt;
	uint8_t key[REPORT_KEY_SIZE];
};

/* HMAC-SHA-256 of "assay attempt 1", a zero byte, the task's 16 bytes and the attempt (4) with the service's key. */
void report_attempt_key(const void *service_key, size_t len, const uint8_t task[16], uint32_t attempt,
	uint8_t ret_key[REPORT_KEY_SIZE]);
void report_signer_init(
	struct report_signer *signer, const uint8_t task[16], uint32_t attempt, const uint8_t key[REPORT_KEY_SIZE]);

/* ---- making ---- */

/* Writes a frame and returns its size, or 0 where it does not fit into `room`. The bytes of an output may stand at
 * to + REPORT_HEAD_SIZE + REPORT_OUTPUT_HEAD_SIZE already. */
size_t report_encode(const struct report_signer *signer, const struct report_frame *frame, uint8_t *to, size_t room);
/* A step as it stands in the payload of an end. */
void report_step_put(uint8_t to[REPORT_STEP_SIZE], const struct report_step *step);
/* Writes the termination message (no terminating zero; at most REPORT_TEXT_MAX bytes) and returns its length. `end` has
 * all steps that ended; those that do not fit are left out. */
size_t report_text_make(
	const struct report_signer *signer, int64_t at_us, const struct report_end *end, char text[REPORT_TEXT_MAX]);

/* A frame as a line of text, without its end, for the pod's log. Returns its length. */
size_t report_line_make(const uint8_t *frame, size_t len, char line[REPORT_LINE_MAX]);

/* ---- reading ---- */

enum report_result {
	REPORT_MORE, /* all was taken in; no frame is complete */
	REPORT_FRAME,
	REPORT_BAD, /* what came is not of this attempt: nothing more of this body is taken, see report_decoder.fault */
};

enum report_fault {
	REPORT_FAULT_NONE,
	REPORT_FAULT_FORM, /* not a frame, too long, or of another version */
	REPORT_FAULT_ATTEMPT, /* of another task or attempt */
	REPORT_FAULT_SIGNATURE,
	REPORT_FAULT_SEQUENCE, /* signed, but something before it is missing */
	REPORT_FAULT_MEMORY,
};

#define REPORT_UPTO_UNKNOWN UINT64_MAX

/* Reads the frames of one attempt out of pieces of any size. Believes nothing before the signature was checked, and
 * no length at all: it keeps at most one frame, of at most REPORT_FRAME_MAX bytes. At the end of each body a truncated
 * frame, and what was wrong with it, is forgotten with report_decoder_cut(). */
struct report_decoder {
	struct report_signer signer;
	struct report_signer *previous; /* owned; with the service's key before it was changed; NULL: there is none */
	bool answers; /* set by the wrapper, which reads answers; nobody else takes them */
	bool by_previous; /* the last frame was signed with the previous key: so is what answers it */
	enum report_fault fault;
	uint64_t upto; /* all up to this sequence has been given out; REPORT_UPTO_UNKNOWN: the first to come sets it */
	uint64_t repeated; /* frames that had been given out before */
	uint8_t *partial; /* owned */
	size_t have, capacity;
	bool given; /* the frame in `partial` was given out: its room is free */
};

/* `previous_key` may be NULL. `upto`: what other bodies of this attempt brought, or REPORT_UPTO_UNKNOWN. */
void report_decoder_init(struct report_decoder *decoder, const uint8_t task[16], uint32_t attempt,
	const uint8_t key[REPORT_KEY_SIZE], const uint8_t *previous_key, uint64_t upto);
/* Takes from *data and moves it on. A frame's pointers hold until the next call, and as long as the data. A frame that
 * was given out before is counted and left out, except a FRAME_ASK: to ask again is how the wrapper waits. */
enum report_result report_decoder_next(
	struct report_decoder *decoder, const uint8_t **data, size_t *len, struct report_frame *ret_frame);
/* The body is over, or its connection was cut: true where it ended within a frame, which is forgotten, and so is what was wrong with
 * it: anybody may send a body, and the wrapper's next one counts all the same. No memory is kept but the decoder itself. */
bool report_decoder_cut(struct report_decoder *decoder);
void report_decoder_fini(struct report_decoder *decoder);

/* Whether these bytes are one FRAME_FETCH of this attempt; sets by_previous. */
bool report_is_fetch(struct report_decoder *decoder, const uint8_t *data, size_t len);
void report_sign_plan(const struct report_signer *signer, const void *plan, size_t len, uint8_t ret_code[SHA256_SIZE]);

/* The index-th step that is told in an end; index < end->count. */
void report_end_step(const struct report_end *end, size_t index, struct report_step *ret_step);
/* What such a line holds, for a decoder; returns its size, 0 for what is none. */
size_t report_line_take(const char *line, size_t len, uint8_t frame[REPORT_FRAME_MAX]);
/* It begins as a termination message of the wrapper's does, whoever wrote it. */
bool report_text_is_ours(const char *text, size_t len);
/* Reads a termination message. False for anything that is not the signed summary of this attempt. `scratch` is where
 * the frame's pointers lead. */
bool report_text_parse(const struct report_decoder *decoder, const char *text, size_t len,
	uint8_t scratch[REPORT_TEXT_MAX], struct report_frame *ret_frame);

#endif
