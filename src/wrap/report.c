/* See report.h. Everything is read through `struct reader`, which knows where its bytes end. */
#include "wrap/report.h"

#include <stdlib.h>
#include <string.h>

enum { STEP_COMPILE_FLAG = 1, STEP_TRUNCATED = 2, STEP_DROPPED = 8, STEP_FLAGS = 31 };
#define NO_EXIT_CODE 0xffff
#define CPU_UNIT_US 16
#define END_HEAD_SIZE 14
static const char TEXT_HEAD[] = "assay1 ";
static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put(uint8_t **at, uint64_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--)
		*(*at)++ = (uint8_t)(value >> (8 * i));
}

struct reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};

static uint64_t take(struct reader *reader, size_t bytes)
{
	uint64_t value = 0;
	if (reader->left < bytes) {
		reader->failed = true;
		return 0;
	}
	reader->left -= bytes;
	while (bytes-- > 0)
		value = value << 8 | *reader->at++;
	return value;
}

/* As far as `most` allows; a negative value is unknown and becomes 0. */
static uint32_t at_most(int64_t value)
{
	return value < 0 ? 0 : value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

void report_attempt_key(
	const void *service_key, size_t len, const uint8_t task[16], uint32_t attempt, uint8_t ret_key[REPORT_KEY_SIZE])
{
	static const char purpose[] = "assay attempt 1"; /* with its NUL */
	uint8_t number[4], *at = number;
	struct hmac_sha256 hmac;
	put(&at, attempt, 4);
	hmac_sha256_init(&hmac, service_key, len);
	hmac_sha256_update(&hmac, purpose, sizeof(purpose));
	hmac_sha256_update(&hmac, task, 16);
	hmac_sha256_update(&hmac, number, sizeof(number));
	hmac_sha256_final(&hmac, ret_key);
}

void report_signer_init(
	struct report_signer *signer, const uint8_t task[16], uint32_t attempt, const uint8_t key[REPORT_KEY_SIZE])
{
	memcpy(signer->task, task, sizeof(signer->task));
	signer->attempt = attempt;
	memcpy(signer->key, key, REPORT_KEY_SIZE);
}

/* ---- making ---- */

void report_step_put(uint8_t to[REPORT_STEP_SIZE], const struct report_step *step)
{
	unsigned flags = step->compile ? STEP_COMPILE_FLAG : 0;
	for (unsigned i = 0; i < 2; i++)
		flags |= (step->truncated[i] ? STEP_TRUNCATED << i : 0) | (step->dropped[i] ? STEP_DROPPED << i : 0);
	put(&to, flags, 1);
	put(&to, step->reason, 1);
	put(&to, (uint8_t)step->signal, 1);
	put(&to, step->exit_code < 0 ? NO_EXIT_CODE : (uint16_t)step->exit_code, 2);
	put(&to, step->run, 4);
	put(&to, at_most(step->wall_us), 4);
	put(&to, at_most(step->cpu_us / CPU_UNIT_US), 4);
	put(&to, at_most(step->memory_bytes / 1024), 4);
	put(&to, at_most(step->ended_ms), 4);
}

static size_t message_length(const struct report_end *end)
{
	return strnlen(end->message, REPORT_MESSAGE_MAX);
}

static size_t payload_size(const struct report_frame *frame)
{
	switch (frame->kind) {
	case FRAME_STARTED:
		return 16;
	case FRAME_OUTPUT:
		return REPORT_OUTPUT_HEAD_SIZE + frame->output.len;
	case FRAME_STEP_ENDED:
		return 8 + REPORT_STEP_SIZE;
	case FRAME_ASK:
		return 4;
	case FRAME_ENDED:
	case FRAME_SUMMARY:
		return END_HEAD_SIZE + message_length(&frame->end) + (size_t)frame->end.count * REPORT_STEP_SIZE;
	case FRAME_ANSWER:
		return 5;
	case FRAME_PROGRESS:
		return REPORT_PROGRESS_SIZE;
	case FRAME_FETCH:
		return 0;
	}
	return SIZE_MAX;
}

static void put_payload(uint8_t *to, const struct report_frame *frame)
{
	size_t len;
	switch (frame->kind) {
	case FRAME_STARTED:
		put(&to, (uint64_t)frame->at_us, 8);
		put(&to, frame->started.flags, 4);
		put(&to, frame->started.landlock, 4);
		break;
	case FRAME_OUTPUT:
		put(&to, frame->output.compile, 1);
		put(&to, (uint64_t)frame->output.stream, 1);
		put(&to, frame->output.run, 4);
		put(&to, frame->output.offset, 8);
		if (frame->output.len > 0 && frame->output.data != to)
			memmove(to, frame->output.data, frame->output.len);
		break;
	case FRAME_STEP_ENDED:
		put(&to, (uint64_t)frame->at_us, 8);
		report_step_put(to, &frame->step);
		break;
	case FRAME_ASK:
		put(&to, frame->ask_run, 4);
		break;
	case FRAME_ENDED:
	case FRAME_SUMMARY:
		len = message_length(&frame->end);
		put(&to, (uint64_t)frame->at_us, 8);
		put(&to, frame->end.how, 1);
		put(&to, len, 1);
		put(&to, frame->end.ended, 2);
		put(&to, frame->end.count, 2);
		memcpy(to, frame->end.message, len);
		if (frame->end.count > 0)
			memcpy(to + len, frame->end.steps, (size_t)frame->end.count * REPORT_STEP_SIZE);
		break;
	case FRAME_ANSWER:
		put(&to, frame->answer.command, 1);
		put(&to, frame->answer.runs, 4);
		break;
	case FRAME_PROGRESS:
		put(&to, frame->progress.compile, 1);
		put(&to, frame->progress.run, 4);
		put(&to, (uint64_t)frame->progress.wall_us, 8);
		put(&to, (uint64_t)frame->progress.cpu_us, 8);
		put(&to, (uint64_t)frame->progress.memory_bytes, 8);
		break;
	case FRAME_FETCH:
		break;
	}
}

static void sign(const struct report_signer *signer, const uint8_t *frame, size_t len, uint8_t code[SHA256_SIZE])
{
	struct hmac_sha256 hmac;
	hmac_sha256_init(&hmac, signer->key, sizeof(signer->key));
	hmac_sha256_update(&hmac, frame, len);
	hmac_sha256_final(&hmac, code);
}

size_t report_encode(const struct report_signer *signer, const struct report_frame *frame, uint8_t *to, size_t room)
{
	size_t payload = payload_size(frame);
	if (payload > REPORT_PAYLOAD_MAX || payload + REPORT_OVERHEAD > room)
		return 0;
	uint8_t *at = to;
	memcpy(at, "AWF", 3);
	at += 3;
	put(&at, REPORT_VERSION, 1);
	put(&at, frame->kind, 1);
	put(&at, 0, 3);
	put(&at, payload, 4);
	put(&at, signer->attempt, 4);
	memcpy(at, signer->task, sizeof(signer->task));
	at += sizeof(signer->task);
	put(&at, frame->sequence, 8);
	put_payload(at, frame);
	sign(signer, to, REPORT_HEAD_SIZE + payload, at + payload);
	return payload + REPORT_OVERHEAD;
}

static size_t base64_put(char *to, const uint8_t *data, size_t len)
{
	char *at = to;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0) |
				(i + 2 < len ? data[i + 2] : 0);
		*at++ = DIGITS[bits >> 18];
		*at++ = DIGITS[bits >> 12 & 63];
		*at++ = i + 1 < len ? DIGITS[bits >> 6 & 63] : '=';
		*at++ = i + 2 < len ? DIGITS[bits & 63] : '=';
	}
	return (size_t)(at - to);
}

size_t report_text_make(
	const struct report_signer *signer, int64_t at_us, const struct report_end *end, char text[REPORT_TEXT_MAX])
{
	uint8_t bytes[(REPORT_TEXT_MAX - sizeof(TEXT_HEAD)) / 4 * 3];
	struct report_frame frame = { .kind = FRAME_SUMMARY, .at_us = at_us, .end = *end };
	size_t room = (sizeof(bytes) - REPORT_OVERHEAD - END_HEAD_SIZE - message_length(end)) / REPORT_STEP_SIZE;
	if (frame.end.count > room)
		frame.end.count = (uint16_t)room;
	size_t len = report_encode(signer, &frame, bytes, sizeof(bytes));
	memcpy(text, TEXT_HEAD, sizeof(TEXT_HEAD) - 1);
	return sizeof(TEXT_HEAD) - 1 + base64_put(text + sizeof(TEXT_HEAD) - 1, bytes, len);
}

size_t report_line_make(const uint8_t *frame, size_t len, char line[REPORT_LINE_MAX])
{
	memcpy(line, TEXT_HEAD, sizeof(TEXT_HEAD) - 1);
	return sizeof(TEXT_HEAD) - 1 + base64_put(line + sizeof(TEXT_HEAD) - 1, frame, len);
}

/* ---- reading ---- */

void report_decoder_init(struct report_decoder *decoder, const uint8_t task[16], uint32_t attempt,
	const uint8_t key[REPORT_KEY_SIZE], const uint8_t *previous_key, uint64_t upto)
{
	*decoder = (struct report_decoder){ .upto = upto };
	report_signer_init(&decoder->signer, task, attempt, key);
	/* Without memory for it, frames that were signed with it are refused, and come again. */
	decoder->previous = previous_key ? malloc(sizeof(*decoder->previous)) : NULL;
	if (decoder->previous)
		report_signer_init(decoder->previous, task, attempt, previous_key);
}

static void forget_partial(struct report_decoder *decoder)
{
	free(decoder->partial);
	decoder->partial = NULL;
	decoder->have = decoder->capacity = 0;
}

void report_decoder_fini(struct report_decoder *decoder)
{
	forget_partial(decoder);
	free(decoder->previous);
	decoder->previous = NULL;
}

bool report_decoder_cut(struct report_decoder *decoder)
{
	bool within = decoder->have > 0 && !decoder->given;
	forget_partial(decoder);
	decoder->given = false;
	decoder->fault = REPORT_FAULT_NONE;
	return within;
}

static enum report_result bad(struct report_decoder *decoder, enum report_fault fault)
{
	decoder->fault = fault;
	return REPORT_BAD;
}

/* What the head says of the whole frame's size, 0 where it cannot be one of this attempt. */
static size_t frame_size(const struct report_decoder *decoder, const uint8_t *head, enum report_fault *ret_fault)
{
	struct reader reader = { head, REPORT_HEAD_SIZE, false };
	*ret_fault = REPORT_FAULT_FORM;
	if (memcmp(head, "AWF", 3) != 0)
		return 0;
	take(&reader, 3);
	if (take(&reader, 1) != REPORT_VERSION)
		return 0;
	uint64_t kind = take(&reader, 1);
	if (kind < FRAME_STARTED || kind > FRAME_PROGRESS || take(&reader, 3) != 0)
		return 0;
	uint64_t payload = take(&reader, 4);
	if (payload > REPORT_PAYLOAD_MAX)
		return 0;
	*ret_fault = REPORT_FAULT_ATTEMPT;
	if (take(&reader, 4) != decoder->signer.attempt ||
		memcmp(reader.at, decoder->signer.task, sizeof(decoder->signer.task)) != 0)
		return 0;
	return (size_t)payload + REPORT_OVERHEAD;
}

/* In time that does not depend on where they differ. */
static bool signed_by(const struct report_signer *signer, const uint8_t *frame, size_t len)
{
	uint8_t code[SHA256_SIZE], difference = 0;
	sign(signer, frame, len - SHA256_SIZE, code);
	for (size_t i = 0; i < SHA256_SIZE; i++)
		difference |= (uint8_t)(code[i] ^ frame[len - SHA256_SIZE + i]);
	return difference == 0;
}

static bool read_step(struct reader *reader, struct report_step *ret_step)
{
	uint64_t flags = take(reader, 1), reason = take(reader, 1), signal = take(reader, 1),
		 exit_code = take(reader, 2);
	*ret_step = (struct report_step){
		.compile = flags & STEP_COMPILE_FLAG,
		.reason = (enum report_reason)reason,
		.signal = (int)signal,
		.exit_code = exit_code == NO_EXIT_CODE ? -1 : (int)exit_code,
	};
	for (unsigned i = 0; i < 2; i++) {
		ret_step->truncated[i] = flags & (STEP_TRUNCATED << i);
		ret_step->dropped[i] = flags & (STEP_DROPPED << i);
	}
	ret_step->run = (uint32_t)take(reader, 4);
	ret_step->wall_us = (int64_t)take(reader, 4);
	ret_step->cpu_us = (int64_t)take(reader, 4) * CPU_UNIT_US;
	ret_step->memory_bytes = (int64_t)take(reader, 4) * 1024;
	ret_step->ended_ms = (int64_t)take(reader, 4);
	return !reader->failed && flags <= STEP_FLAGS && reason < REPORT_REASON_COUNT && signal <= 127 &&
	       (exit_code <= 255 || exit_code == NO_EXIT_CODE) && ret_step->run < REPORT_STEPS_MAX;
}

static bool read_end(struct reader *reader, struct report_frame *frame)
{
	uint64_t how = take(reader, 1), message = take(reader, 1), ended = take(reader, 2), count = take(reader, 2);
	if (reader->failed || how >= HOW_COUNT || message > REPORT_MESSAGE_MAX || message > reader->left ||
		ended > REPORT_STEPS_MAX || count > ended || reader->left - message != count * REPORT_STEP_SIZE)
		return false;
	frame->end = (struct report_end){ .how = (enum report_how)how,
		.ended = (uint16_t)ended,
		.count = (uint16_t)count,
		.steps = reader->at + message };
	memcpy(frame->end.message, reader->at, (size_t)message);
	for (size_t i = 0; i < count; i++) {
		struct reader one = { frame->end.steps + i * REPORT_STEP_SIZE, REPORT_STEP_SIZE, false };
		struct report_step step;
		if (!read_step(&one, &step))
			return false;
	}
	reader->left = 0;
	return true;
}

static bool read_progress(struct reader *reader, struct report_progress *ret_progress)
{
	uint64_t compile = take(reader, 1);
	*ret_progress = (struct report_progress){ .compile = compile, .run = (uint32_t)take(reader, 4) };
	ret_progress->wall_us = (int64_t)take(reader, 8);
	ret_progress->cpu_us = (int64_t)take(reader, 8);
	ret_progress->memory_bytes = (int64_t)take(reader, 8);
	return compile <= 1 && ret_progress->run < REPORT_STEPS_MAX && ret_progress->wall_us >= 0 &&
	       ret_progress->cpu_us >= -1 && ret_progress->memory_bytes >= -1;
}

static bool read_payload(struct reader *reader, struct report_frame *frame)
{
	uint64_t compile, stream, command;
	switch (frame->kind) {
	case FRAME_STARTED:
		frame->at_us = (int64_t)take(reader, 8);
		frame->started.flags = (uint32_t)take(reader, 4);
		frame->started.landlock = (uint32_t)take(reader, 4);
		break;
	case FRAME_OUTPUT:
		compile = take(reader, 1);
		stream = take(reader, 1);
		frame->output = (struct report_output){ .compile = compile, .stream = (int)stream };
		frame->output.run = (uint32_t)take(reader, 4);
		frame->output.offset = take(reader, 8);
		frame->output.data = reader->at;
		frame->output.len = reader->left;
		reader->left = 0;
		if (compile > 1 || stream < 1 || stream > 2 || frame->output.run >= REPORT_STEPS_MAX)
			return false;
		break;
	case FRAME_STEP_ENDED:
		frame->at_us = (int64_t)take(reader, 8);
		if (!read_step(reader, &frame->step))
			return false;
		break;
	case FRAME_ASK:
		frame->ask_run = (uint32_t)take(reader, 4);
		break;
	case FRAME_ENDED:
	case FRAME_SUMMARY:
		frame->at_us = (int64_t)take(reader, 8);
		if (!read_end(reader, frame))
			return false;
		break;
	case FRAME_ANSWER:
		command = take(reader, 1);
		frame->answer = (struct report_answer){ .command = (enum report_command)command };
		frame->answer.runs = (uint32_t)take(reader, 4);
		if (command >= COMMAND_COUNT)
			return false;
		break;
	case FRAME_PROGRESS:
		if (!read_progress(reader, &frame->progress))
			return false;
		break;
	case FRAME_FETCH:
		break;
	}
	return !reader->failed && reader->left == 0;
}

/* A whole frame whose head was looked at. */
static enum report_fault read_frame(const struct report_decoder *decoder, const uint8_t *frame, size_t len,
	struct report_frame *ret_frame, bool *ret_by_previous)
{
	bool by_current = signed_by(&decoder->signer, frame, len);
	*ret_by_previous = !by_current && decoder->previous && signed_by(decoder->previous, frame, len);
	if (!by_current && !*ret_by_previous)
		return REPORT_FAULT_SIGNATURE;
	struct reader sequence = { frame + 32, 8, false };
	struct reader payload = { frame + REPORT_HEAD_SIZE, len - REPORT_OVERHEAD, false };
	*ret_frame = (struct report_frame){ .kind = (enum frame_kind)frame[4] };
	ret_frame->sequence = take(&sequence, 8);
	return read_payload(&payload, ret_frame) ? REPORT_FAULT_NONE : REPORT_FAULT_FORM;
}

static bool reserve(struct report_decoder *decoder, size_t need)
{
	if (need <= decoder->capacity)
		return true;
	uint8_t *partial = realloc(decoder->partial, need);
	if (!partial)
		return false;
	decoder->partial = partial;
	decoder->capacity = need;
	return true;
}

/* Moves up to `upto` bytes of the frame from the data into `partial`; true when they are there. */
static bool gather(struct report_decoder *decoder, const uint8_t **data, size_t *len, size_t upto)
{
	size_t part = upto - decoder->have < *len ? upto - decoder->have : *len;
	if (part > 0)
		memcpy(decoder->partial + decoder->have, *data, part);
	decoder->have += part;
	*data += part;
	*len -= part;
	return decoder->have == upto;
}

/* The next whole frame, in the data where it stands there whole, else in `partial`. */
static enum report_result next_whole(
	struct report_decoder *decoder, const uint8_t **data, size_t *len, const uint8_t **ret_frame, size_t *ret_size)
{
	enum report_fault fault;
	if (decoder->given) {
		decoder->have = 0;
		decoder->given = false;
	}
	if (decoder->have == 0 && *len >= REPORT_HEAD_SIZE) {
		size_t size = frame_size(decoder, *data, &fault);
		if (size == 0)
			return bad(decoder, fault);
		if (size <= *len) {
			*ret_frame = *data;
			*ret_size = size;
			*data += size;
			*len -= size;
			return REPORT_FRAME;
		}
	}
	if (!reserve(decoder, REPORT_HEAD_SIZE))
		return bad(decoder, REPORT_FAULT_MEMORY);
	if (decoder->have < REPORT_HEAD_SIZE && !gather(decoder, data, len, REPORT_HEAD_SIZE))
		return REPORT_MORE;
	size_t size = frame_size(decoder, decoder->partial, &fault);
	if (size == 0)
		return bad(decoder, fault);
	if (!reserve(decoder, size))
		return bad(decoder, REPORT_FAULT_MEMORY);
	if (!gather(decoder, data, len, size))
		return REPORT_MORE;
	decoder->given = true;
	*ret_frame = decoder->partial;
	*ret_size = size;
	return REPORT_FRAME;
}

enum report_result report_decoder_next(
	struct report_decoder *decoder, const uint8_t **data, size_t *len, struct report_frame *ret_frame)
{
	for (;;) {
		const uint8_t *frame;
		size_t size;
		if (decoder->fault != REPORT_FAULT_NONE)
			return REPORT_BAD;
		enum report_result result = next_whole(decoder, data, len, &frame, &size);
		if (result != REPORT_FRAME)
			return result;
		bool by_previous;
		enum report_fault fault = read_frame(decoder, frame, size, ret_frame, &by_previous);
		if (fault != REPORT_FAULT_NONE)
			return bad(decoder, fault);
		decoder->by_previous = by_previous;
		/* Two have no number of their own; a summary belongs into the termination message, a fetch elsewhere. */
		if ((ret_frame->kind == FRAME_ANSWER && decoder->answers) ||
			(ret_frame->kind == FRAME_PROGRESS && ret_frame->sequence == 0))
			return REPORT_FRAME;
		if (ret_frame->kind == FRAME_ANSWER || ret_frame->kind == FRAME_SUMMARY ||
			ret_frame->kind == FRAME_FETCH || ret_frame->kind == FRAME_PROGRESS ||
			ret_frame->sequence == 0 || ret_frame->sequence == REPORT_UPTO_UNKNOWN)
			return bad(decoder, REPORT_FAULT_FORM);
		if (decoder->upto == REPORT_UPTO_UNKNOWN)
			decoder->upto = ret_frame->sequence - 1;
		if (ret_frame->sequence <= decoder->upto) {
			decoder->repeated++;
			if (ret_frame->kind == FRAME_ASK)
				return REPORT_FRAME;
			continue;
		}
		if (ret_frame->sequence != decoder->upto + 1)
			return bad(decoder, REPORT_FAULT_SEQUENCE);
		decoder->upto++;
		return REPORT_FRAME;
	}
}

bool report_is_fetch(struct report_decoder *decoder, const uint8_t *data, size_t len)
{
	struct report_frame frame;
	enum report_fault fault;
	bool by_previous;
	if (len < REPORT_HEAD_SIZE || frame_size(decoder, data, &fault) != len ||
		read_frame(decoder, data, len, &frame, &by_previous) != REPORT_FAULT_NONE || frame.kind != FRAME_FETCH)
		return false;
	decoder->by_previous = by_previous;
	return true;
}

void report_sign_plan(const struct report_signer *signer, const void *plan, size_t len, uint8_t ret_code[SHA256_SIZE])
{
	sign(signer, plan, len, ret_code);
}

void report_end_step(const struct report_end *end, size_t index, struct report_step *ret_step)
{
	struct reader reader = { end->steps + index * REPORT_STEP_SIZE, REPORT_STEP_SIZE, false };
	read_step(&reader, ret_step);
}

/* Four characters become three bytes; returns how many, or 0 where they are no base64. */
static size_t base64_take(const char *from, uint8_t to[3])
{
	uint32_t bits = 0;
	size_t bytes = from[3] != '=' ? 3 : from[2] != '=' ? 2 : 1;
	for (size_t i = 0; i < 4; i++) {
		const char *digit = i <= bytes ? memchr(DIGITS, from[i], sizeof(DIGITS) - 1) : DIGITS;
		if (!digit || (i > bytes && from[i] != '='))
			return 0;
		bits = bits << 6 | (uint32_t)(digit - DIGITS);
	}
	for (size_t i = 0; i < bytes; i++)
		to[i] = (uint8_t)(bits >> (16 - 8 * i));
	return bytes;
}

_Static_assert(REPORT_FRAME_MAX % 3 == 0, "the largest frame is whole groups of base64");

/* What follows the head, of a text of at most `most` characters. 0: it is none. */
static size_t text_take(const char *text, size_t len, size_t most, uint8_t *to)
{
	const size_t head = sizeof(TEXT_HEAD) - 1;
	size_t size = 0;
	if (len <= head || len > most || memcmp(text, TEXT_HEAD, head) != 0 || (len - head) % 4 != 0)
		return 0;
	for (size_t at = head; at < len; at += 4) {
		size_t bytes = base64_take(text + at, to + size);
		if (bytes == 0 || (bytes < 3 && at + 4 < len))
			return 0;
		size += bytes;
	}
	return size;
}

size_t report_line_take(const char *line, size_t len, uint8_t frame[REPORT_FRAME_MAX])
{
	return text_take(line, len, sizeof(TEXT_HEAD) - 1 + REPORT_FRAME_MAX / 3 * 4, frame);
}

bool report_text_is_ours(const char *text, size_t len)
{
	return len >= sizeof(TEXT_HEAD) - 1 && memcmp(text, TEXT_HEAD, sizeof(TEXT_HEAD) - 1) == 0;
}

bool report_text_parse(const struct report_decoder *decoder, const char *text, size_t len,
	uint8_t scratch[REPORT_TEXT_MAX], struct report_frame *ret_frame)
{
	enum report_fault fault;
	size_t size = text_take(text, len, REPORT_TEXT_MAX, scratch);
	bool by_previous;
	if (size < REPORT_HEAD_SIZE || frame_size(decoder, scratch, &fault) != size)
		return false;
	return read_frame(decoder, scratch, size, ret_frame, &by_previous) == REPORT_FAULT_NONE &&
	       ret_frame->kind == FRAME_SUMMARY;
}
