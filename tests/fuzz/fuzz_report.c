/* What comes to the attempt listener: anything at all. The first byte says in which pieces it comes; where it is odd, the
 * frames are signed again, so that what lies behind the signature is reached too. Whatever the pieces are, the same must
 * come out. */
#include "fuzz.h"

#include <stdbool.h>
#include <string.h>

#include "wrap/report.h"

static const uint8_t TASK[16] = "sixteen bytes..";
static const uint8_t KEY[REPORT_KEY_SIZE] = "thirty-two bytes of a known key.";

struct seen {
	size_t frames;
	uint64_t sum; /* of all that was given out */
	enum report_fault fault;
};

static void look(struct seen *seen, const struct report_frame *frame)
{
	struct report_step step;
	seen->frames++;
	seen->sum = seen->sum * 31 + frame->kind + frame->sequence;
	switch (frame->kind) {
	case FRAME_OUTPUT:
		HOLDS(frame->output.len <= REPORT_OUTPUT_MAX);
		HOLDS(frame->output.stream == 1 || frame->output.stream == 2);
		for (size_t i = 0; i < frame->output.len; i++)
			seen->sum = seen->sum * 31 + frame->output.data[i];
		break;
	case FRAME_STEP_ENDED:
		HOLDS(frame->step.run < REPORT_STEPS_MAX && frame->step.reason < REPORT_REASON_COUNT);
		break;
	case FRAME_ENDED:
		HOLDS(frame->end.count <= frame->end.ended && frame->end.how < HOW_COUNT);
		HOLDS(memchr(frame->end.message, 0, sizeof(frame->end.message)));
		for (size_t i = 0; i < frame->end.count; i++) {
			report_end_step(&frame->end, i, &step);
			HOLDS(step.run < REPORT_STEPS_MAX && step.reason < REPORT_REASON_COUNT);
		}
		break;
	case FRAME_PROGRESS:
		HOLDS(frame->sequence == 0 && frame->progress.run < REPORT_STEPS_MAX && frame->progress.wall_us >= 0);
		break;
	case FRAME_STARTED:
	case FRAME_ASK:
		break;
	case FRAME_SUMMARY:
	case FRAME_ANSWER:
	case FRAME_FETCH:
		abort();
	}
}

static struct seen feed(const uint8_t *data, size_t size, size_t piece)
{
	struct seen seen = { 0 };
	struct report_decoder decoder;
	report_decoder_init(&decoder, TASK, 2, KEY, NULL, REPORT_UPTO_UNKNOWN);
	for (size_t at = 0; at < size;) {
		size_t given = size - at < piece ? size - at : piece, left = given;
		/* A copy of its own, so that reading beyond it is seen. */
		uint8_t *copy = malloc(given);
		HOLDS(copy);
		memcpy(copy, data + at, given);
		const uint8_t *from = copy;
		struct report_frame frame;
		enum report_result result;
		while ((result = report_decoder_next(&decoder, &from, &left, &frame)) == REPORT_FRAME)
			look(&seen, &frame);
		free(copy);
		HOLDS(decoder.capacity <= REPORT_FRAME_MAX);
		if (result == REPORT_BAD)
			break;
		HOLDS(left == 0);
		at += given;
	}
	seen.fault = decoder.fault;
	report_decoder_fini(&decoder);
	return seen;
}

/* Puts right what a mutation cannot guess: heads and codes of as many frames as there are. */
static void sign_all(uint8_t *data, size_t size)
{
	struct report_signer signer;
	report_signer_init(&signer, TASK, 2, KEY);
	while (size >= REPORT_OVERHEAD) {
		size_t payload = (size_t)data[10] << 8 | data[11];
		if (payload > size - REPORT_OVERHEAD)
			payload = size - REPORT_OVERHEAD;
		memcpy(data, "AWF\1", 4);
		memset(data + 5, 0, 5);
		data[10] = (uint8_t)(payload >> 8);
		data[11] = (uint8_t)payload;
		memcpy(data + 12, "\0\0\0\2", 4);
		memcpy(data + 16, TASK, sizeof(TASK));
		struct hmac_sha256 hmac;
		hmac_sha256_init(&hmac, signer.key, sizeof(signer.key));
		hmac_sha256_update(&hmac, data, REPORT_HEAD_SIZE + payload);
		hmac_sha256_final(&hmac, data + REPORT_HEAD_SIZE + payload);
		data += REPORT_OVERHEAD + payload;
		size -= REPORT_OVERHEAD + payload;
	}
}

/* As a line of a pod's log, and as a frame that becomes one. */
static void look_at_lines(const uint8_t *bytes, size_t size)
{
	static char line[REPORT_LINE_MAX];
	static uint8_t taken[REPORT_FRAME_MAX];
	size_t len = report_line_take((const char *)bytes, size, taken);
	HOLDS(len <= REPORT_FRAME_MAX);
	if (len > 0)
		HOLDS(report_line_make(taken, len, line) == size);
	if (size == 0 || size > REPORT_FRAME_MAX)
		return;
	len = report_line_make(bytes, size, line);
	HOLDS(report_line_take(line, len, taken) == size && memcmp(bytes, taken, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	uint8_t *bytes = malloc(size - 1);
	HOLDS(bytes);
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & 1)
		sign_all(bytes, size - 1);
	struct seen whole = feed(bytes, size - 1, size), pieces = feed(bytes, size - 1, (size_t)data[0] / 2 + 1);
	HOLDS(whole.frames == pieces.frames && whole.sum == pieces.sum && whole.fault == pieces.fault);
	struct report_decoder decoder;
	struct report_frame frame;
	static uint8_t scratch[REPORT_TEXT_MAX];
	report_decoder_init(&decoder, TASK, 2, KEY, NULL, 0);
	if (report_text_parse(&decoder, (const char *)bytes, size - 1, scratch, &frame))
		HOLDS(frame.kind == FRAME_SUMMARY && frame.end.count <= frame.end.ended);
	report_decoder_fini(&decoder);
	look_at_lines(bytes, size - 1);
	free(bytes);
	return 0;
}
