/* Reports of the wrapper: hashes by the standards' vectors, every kind of frame there and back, and a decoder that is fed
 * in pieces, with what is broken, repeated, missing, or another's. */
#include "wrap/report.h"

#include "test.h"

static const uint8_t TASK[16] = "sixteen bytes..";
static const uint8_t OTHER_TASK[16] = "sixteen others.";

static const char *hex(const uint8_t *bytes, size_t len)
{
	static char text[2 * SHA256_SIZE + 1];
	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

static const char *hash_of(const char *data, size_t len, size_t step)
{
	uint8_t digest[SHA256_SIZE];
	struct sha256 hash;
	sha256_init(&hash);
	for (size_t at = 0; at < len; at += step)
		sha256_update(&hash, data + at, len - at < step ? len - at : step);
	sha256_final(&hash, digest);
	return hex(digest, sizeof(digest));
}

/* FIPS 180-4's examples (csrc.nist.gov, SHA256.pdf and SHA2_Additional.pdf). */
TEST(sha256_of_the_standards_examples)
{
	CHECK_STR(hash_of("abc", 3, 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	CHECK_STR(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 56),
		"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	CHECK_STR(hash_of("", 0, 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	char *million = malloc(1000000);
	REQUIRE(million);
	memset(million, 'a', 1000000);
	CHECK_STR(
		hash_of(million, 1000000, 1000000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	CHECK_STR(hash_of(million, 1000000, 37), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	memset(million, 0, 64);
	/* Just below, at and above where the length no longer fits into the last block. */
	CHECK_STR(hash_of(million, 55, 55), "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
	CHECK_STR(hash_of(million, 56, 56), "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
	CHECK_STR(hash_of(million, 64, 64), "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
	free(million);
}

static const char *code_of(const char *key, size_t key_len, const char *data, size_t len)
{
	uint8_t code[SHA256_SIZE];
	struct hmac_sha256 hmac;
	hmac_sha256_init(&hmac, key, key_len);
	hmac_sha256_update(&hmac, data, len);
	hmac_sha256_final(&hmac, code);
	return hex(code, sizeof(code));
}

/* RFC 4231, test cases 1, 2, 3, 6 and 7. */
TEST(hmac_of_the_standards_examples)
{
	char key[131], data[50];
	memset(key, 0x0b, 20);
	CHECK_STR(code_of(key, 20, "Hi There", 8), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	CHECK_STR(code_of("Jefe", 4, "what do ya want for nothing?", 28),
		"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof(key));
	memset(data, 0xdd, sizeof(data));
	CHECK_STR(code_of(key, 20, data, 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	CHECK_STR(code_of(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54),
		"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	static const char long_text[] =
		"This is a test using a larger than block-size key and a larger than block-size "
		"data. The key needs to be hashed before being used by the HMAC algorithm.";
	CHECK_STR(code_of(key, 131, long_text, sizeof(long_text) - 1),
		"9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void key_of(const char *service, uint32_t attempt, uint8_t ret_key[REPORT_KEY_SIZE])
{
	report_attempt_key(service, strlen(service), TASK, attempt, ret_key);
}

static struct report_signer signer_of(const char *service)
{
	struct report_signer signer;
	uint8_t key[REPORT_KEY_SIZE];
	key_of(service, 2, key);
	report_signer_init(&signer, TASK, 2, key);
	return signer;
}

static struct report_decoder decoder_of(const char *service, const char *previous, uint64_t upto)
{
	struct report_decoder decoder;
	uint8_t key[REPORT_KEY_SIZE], other[REPORT_KEY_SIZE];
	key_of(service, 2, key);
	if (previous)
		key_of(previous, 2, other);
	report_decoder_init(&decoder, TASK, 2, key, previous ? other : NULL, upto);
	return decoder;
}

TEST(each_attempt_has_a_key_of_its_own)
{
	uint8_t key[REPORT_KEY_SIZE], other[REPORT_KEY_SIZE];
	key_of("service", 2, key);
	key_of("service", 3, other);
	CHECK(memcmp(key, other, sizeof(key)) != 0);
	report_attempt_key("service", 7, OTHER_TASK, 2, other);
	CHECK(memcmp(key, other, sizeof(key)) != 0);
	key_of("another", 2, other);
	CHECK(memcmp(key, other, sizeof(key)) != 0);
	key_of("service", 2, other);
	CHECK(memcmp(key, other, sizeof(key)) == 0);
}

static const struct report_step STEP = { .run = 7,
	.reason = REPORT_REASON_OUTPUT_LIMIT,
	.exit_code = -1,
	.signal = 9,
	.wall_us = 3600000000,
	.cpu_us = 160,
	.memory_bytes = 1 << 20,
	.ended_ms = 123456,
	.truncated = { false, true },
	.dropped = { true, false } };

static void check_step(const struct report_step *step, const struct report_step *as)
{
	CHECK_INT(step->compile, as->compile);
	CHECK_INT(step->run, as->run);
	CHECK_INT(step->reason, as->reason);
	CHECK_INT(step->exit_code, as->exit_code);
	CHECK_INT(step->signal, as->signal);
	CHECK_INT(step->wall_us, as->wall_us);
	CHECK_INT(step->cpu_us, as->cpu_us);
	CHECK_INT(step->memory_bytes, as->memory_bytes);
	CHECK_INT(step->ended_ms, as->ended_ms);
	for (int i = 0; i < 2; i++) {
		CHECK_INT(step->truncated[i], as->truncated[i]);
		CHECK_INT(step->dropped[i], as->dropped[i]);
	}
}

/* One of each that a wrapper sends, sequences 1 to 5; returns their size. */
static size_t make_all(const struct report_signer *signer, uint8_t *to, size_t room)
{
	uint8_t steps[REPORT_STEP_SIZE * 2];
	struct report_step first = STEP;
	first.compile = true;
	report_step_put(steps, &first);
	report_step_put(steps + REPORT_STEP_SIZE, &STEP);
	struct report_frame frames[] = {
		{ .kind = FRAME_STARTED, .at_us = 1234567890123456, .started = { REPORT_FILTERED, 7 } },
		{ .kind = FRAME_OUTPUT, .output = { true, 0, 2, 99999999999, (const uint8_t *)"some\0bytes", 10 } },
		{ .kind = FRAME_STEP_ENDED, .at_us = 5, .step = STEP },
		{ .kind = FRAME_ASK, .ask_run = 8 },
		{ .kind = FRAME_ENDED, .at_us = 6, .end = { HOW_FAILED, 2, 2, steps, "w\xc3\xb6rds" } },
	};
	size_t size = 0;
	for (size_t i = 0; i < sizeof(frames) / sizeof(*frames); i++) {
		frames[i].sequence = i + 1;
		size_t one = report_encode(signer, &frames[i], to + size, room - size);
		REQUIRE(one > 0);
		size += one;
	}
	return size;
}

static void check_all(struct report_decoder *decoder, const uint8_t *data, size_t size, size_t piece)
{
	int count = 0;
	for (size_t at = 0; at < size;) {
		size_t given = size - at < piece ? size - at : piece, left = given;
		const uint8_t *from = data + at;
		struct report_frame frame;
		enum report_result result;
		while ((result = report_decoder_next(decoder, &from, &left, &frame)) == REPORT_FRAME) {
			CHECK_INT(frame.sequence, (uint64_t)++count);
			switch (count) {
			case 1:
				CHECK_INT(frame.kind, FRAME_STARTED);
				CHECK_INT(frame.at_us, 1234567890123456);
				CHECK_INT(frame.started.flags, REPORT_FILTERED);
				CHECK_INT(frame.started.landlock, 7);
				break;
			case 2:
				CHECK_INT(frame.kind, FRAME_OUTPUT);
				CHECK(frame.output.compile && frame.output.run == 0 && frame.output.stream == 2);
				CHECK_INT(frame.output.offset, 99999999999);
				CHECK_BYTES(((struct bytes){ (const char *)frame.output.data, frame.output.len }),
					((struct bytes){ "some\0bytes", 10 }));
				break;
			case 3:
				CHECK_INT(frame.kind, FRAME_STEP_ENDED);
				check_step(&frame.step, &STEP);
				break;
			case 4:
				CHECK_INT(frame.kind, FRAME_ASK);
				CHECK_INT(frame.ask_run, 8);
				break;
			case 5: {
				struct report_step step;
				CHECK_INT(frame.kind, FRAME_ENDED);
				CHECK_INT(frame.end.how, HOW_FAILED);
				CHECK_INT(frame.end.ended, 2);
				CHECK_INT(frame.end.count, 2);
				CHECK_STR(frame.end.message, "w\xc3\xb6rds");
				report_end_step(&frame.end, 0, &step);
				CHECK(step.compile);
				report_end_step(&frame.end, 1, &step);
				check_step(&step, &STEP);
				break;
			}
			default:
				CHECK(false);
			}
		}
		CHECK_INT(result, REPORT_MORE);
		CHECK_INT(left, 0);
		at += given;
	}
	CHECK_INT(count, 5);
	CHECK(!report_decoder_cut(decoder));
}

TEST(every_frame_comes_out_as_it_went_in_whatever_the_pieces)
{
	uint8_t data[2048];
	struct report_signer signer = signer_of("service");
	size_t size = make_all(&signer, data, sizeof(data));
	for (size_t piece = 1; piece <= size; piece++) {
		struct report_decoder decoder = decoder_of("service", NULL, 0);
		check_all(&decoder, data, size, piece);
		report_decoder_fini(&decoder);
	}
}

TEST(the_service_s_previous_key_still_holds_and_others_do_not)
{
	uint8_t data[2048];
	struct report_signer signer = signer_of("old");
	size_t size = make_all(&signer, data, sizeof(data)), left = size;
	struct report_decoder decoder = decoder_of("new", "old", 0);
	check_all(&decoder, data, size, size);
	report_decoder_fini(&decoder);
	decoder = decoder_of("new", "older", 0);
	const uint8_t *from = data;
	struct report_frame frame;
	CHECK_INT(report_decoder_next(&decoder, &from, &left, &frame), REPORT_BAD);
	CHECK_INT(decoder.fault, REPORT_FAULT_SIGNATURE);
	report_decoder_fini(&decoder);
}

TEST(a_bit_that_is_wrong_anywhere_is_seen)
{
	uint8_t data[2048];
	struct report_signer signer = signer_of("service");
	size_t size = make_all(&signer, data, sizeof(data));
	size_t first = REPORT_OVERHEAD + 16;
	for (size_t bit = 0; bit < first * 8; bit++) {
		uint8_t *wrong = malloc(first); /* exactly, so that reading beyond it is seen */
		REQUIRE(wrong);
		memcpy(wrong, data, first);
		wrong[bit / 8] ^= (uint8_t)(1 << bit % 8);
		struct report_decoder decoder = decoder_of("service", NULL, 0);
		struct report_frame frame;
		const uint8_t *from = wrong;
		size_t left = first;
		/* A length that is wrong within what is allowed waits for more, and is seen then. */
		enum report_result result = report_decoder_next(&decoder, &from, &left, &frame);
		if (result == REPORT_MORE) {
			CHECK(bit / 8 >= 8 && bit / 8 < 12);
			from = data + first;
			left = size - first;
			result = report_decoder_next(&decoder, &from, &left, &frame);
		}
		CHECK(result == REPORT_BAD || (result == REPORT_MORE && report_decoder_cut(&decoder)));
		report_decoder_fini(&decoder);
		free(wrong);
	}
}

static enum report_fault fault_of(const uint8_t *data, size_t size, uint64_t upto)
{
	struct report_decoder decoder = decoder_of("service", NULL, upto);
	struct report_frame frame;
	enum report_result result;
	while ((result = report_decoder_next(&decoder, &data, &size, &frame)) == REPORT_FRAME) {
	}
	enum report_fault fault = decoder.fault;
	CHECK_INT(result == REPORT_BAD, fault != REPORT_FAULT_NONE);
	/* Once bad it stays so. */
	if (result == REPORT_BAD)
		CHECK_INT(report_decoder_next(&decoder, &data, &size, &frame), REPORT_BAD);
	report_decoder_fini(&decoder);
	return fault;
}

static size_t make_one(uint8_t *to, size_t room, struct report_frame frame, uint64_t sequence)
{
	struct report_signer signer = signer_of("service");
	frame.sequence = sequence;
	return report_encode(&signer, &frame, to, room);
}

TEST(only_a_signed_fetch_is_one)
{
	uint8_t data[4096];
	const struct report_frame fetch = { .kind = FRAME_FETCH }, ask = { .kind = FRAME_ASK };
	size_t len = make_one(data, sizeof(data), fetch, 0);
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	CHECK_INT(len, REPORT_OVERHEAD);
	CHECK(report_is_fetch(&decoder, data, len));
	CHECK(!decoder.by_previous);
	CHECK(!report_is_fetch(&decoder, data, len - 1));
	data[len - 1] ^= 1;
	CHECK(!report_is_fetch(&decoder, data, len));
	CHECK(!report_is_fetch(&decoder, data, make_one(data, sizeof(data), ask, 0)));
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), fetch, 1), 0), REPORT_FAULT_FORM);
	report_decoder_fini(&decoder);
	decoder = decoder_of("new", "service", 0);
	CHECK(report_is_fetch(&decoder, data, make_one(data, sizeof(data), fetch, 0)));
	CHECK(decoder.by_previous);
	report_decoder_fini(&decoder);
}

TEST(a_bad_body_keeps_nothing_from_the_next)
{
	uint8_t data[4096];
	const struct report_frame ask = { .kind = FRAME_ASK, .ask_run = 1 };
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	struct report_frame frame;
	const uint8_t *at = data;
	size_t len = make_one(data, sizeof(data), ask, 1);
	data[len - 1] ^= 1;
	size_t left = len;
	CHECK_INT(report_decoder_next(&decoder, &at, &left, &frame), REPORT_BAD);
	report_decoder_cut(&decoder);
	data[len - 1] ^= 1;
	at = data;
	left = len;
	CHECK_INT(report_decoder_next(&decoder, &at, &left, &frame), REPORT_FRAME);
	CHECK_INT(decoder.upto, 1);
	report_decoder_fini(&decoder);
}

TEST(progress_stands_beside_the_sequence)
{
	uint8_t data[4096];
	struct report_frame frame, said = { .kind = FRAME_PROGRESS, .progress = { true, 0, 5000000000, 7, -1 } };
	const struct report_frame ask = { .kind = FRAME_ASK, .ask_run = 1 };
	struct report_decoder decoder = decoder_of("service", NULL, REPORT_UPTO_UNKNOWN);
	size_t left = 0;
	left += make_one(data + left, sizeof(data) - left, said, 0);
	left += make_one(data + left, sizeof(data) - left, ask, 6);
	said.progress.wall_us++;
	left += make_one(data + left, sizeof(data) - left, said, 0);
	left += make_one(data + left, sizeof(data) - left, ask, 7);
	const uint8_t *at = data;
	REQUIRE(report_decoder_next(&decoder, &at, &left, &frame) == REPORT_FRAME);
	CHECK_INT(frame.kind, FRAME_PROGRESS);
	CHECK(frame.progress.compile && frame.progress.run == 0);
	CHECK_INT(frame.progress.wall_us, 5000000000);
	CHECK_INT(frame.progress.cpu_us, 7);
	CHECK_INT(frame.progress.memory_bytes, -1);
	CHECK(decoder.upto == REPORT_UPTO_UNKNOWN);
	CHECK_INT(report_decoder_next(&decoder, &at, &left, &frame), REPORT_FRAME);
	CHECK_INT(decoder.upto, 6);
	REQUIRE(report_decoder_next(&decoder, &at, &left, &frame) == REPORT_FRAME);
	CHECK_INT(frame.progress.wall_us, 5000000001);
	CHECK_INT(decoder.upto, 6);
	CHECK_INT(report_decoder_next(&decoder, &at, &left, &frame), REPORT_FRAME);
	CHECK_INT(decoder.upto, 7);
	CHECK_INT(decoder.repeated, 0);
	CHECK_INT(report_decoder_next(&decoder, &at, &left, &frame), REPORT_MORE);
	report_decoder_fini(&decoder);
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), said, 1), 0), REPORT_FAULT_FORM);
	said.progress.run = REPORT_STEPS_MAX;
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), said, 0), 0), REPORT_FAULT_FORM);
	said.progress = (struct report_progress){ .wall_us = -1 };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), said, 0), 0), REPORT_FAULT_FORM);
	said.progress = (struct report_progress){ .cpu_us = -2 };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), said, 0), 0), REPORT_FAULT_FORM);
	said.progress = (struct report_progress){ .memory_bytes = INT64_MIN };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), said, 0), 0), REPORT_FAULT_FORM);
}

TEST(keys_are_read_as_they_are_written)
{
	uint8_t code[SHA256_SIZE], again[SHA256_SIZE];
	char text[2 * SHA256_SIZE + 1];
	for (int i = 0; i < SHA256_SIZE; i++)
		code[i] = (uint8_t)(i * 37);
	sha256_format(code, text);
	CHECK_INT(strlen(text), 64);
	REQUIRE(sha256_parse(text, again));
	CHECK(memcmp(code, again, sizeof(code)) == 0);
	CHECK(!sha256_parse(NULL, again));
	CHECK(!sha256_parse(text + 1, again));
	text[5] = 'g';
	CHECK(!sha256_parse(text, again));
}

TEST(what_is_signed_and_still_not_right_is_refused)
{
	uint8_t data[4096];
	const struct report_frame ask = { .kind = FRAME_ASK, .ask_run = 1 };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), ask, 0), 0), REPORT_FAULT_FORM);
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), ask, 2), 0), REPORT_FAULT_SEQUENCE);
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), ask, 2), 1), REPORT_FAULT_NONE);
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), ask, 77), REPORT_UPTO_UNKNOWN), REPORT_FAULT_NONE);
	CHECK_INT(
		fault_of(data, make_one(data, sizeof(data), ask, UINT64_MAX), REPORT_UPTO_UNKNOWN), REPORT_FAULT_FORM);
	struct report_frame frame = { .kind = FRAME_ANSWER, .answer = { COMMAND_GO_ON, 1 } };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame = (struct report_frame){ .kind = FRAME_SUMMARY, .end = { .how = HOW_COMPLETE } };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame = (struct report_frame){ .kind = FRAME_OUTPUT, .output = { false, 0, 3, 0, data, 0 } };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame = (struct report_frame){ .kind = FRAME_OUTPUT, .output = { false, REPORT_STEPS_MAX, 1, 0, data, 0 } };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame = (struct report_frame){ .kind = FRAME_STEP_ENDED, .step = STEP };
	frame.step.reason = REPORT_REASON_COUNT;
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame.step = STEP;
	frame.step.exit_code = 256;
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame = (struct report_frame){ .kind = FRAME_ENDED, .end = { .how = HOW_COUNT } };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	uint8_t steps[REPORT_STEP_SIZE];
	report_step_put(steps, &STEP);
	frame.end = (struct report_end){ HOW_COMPLETE, 0, 1, steps, "" };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_FORM);
	frame.end = (struct report_end){ HOW_COMPLETE, 1, 1, steps, "" };
	CHECK_INT(fault_of(data, make_one(data, sizeof(data), frame, 1), 0), REPORT_FAULT_NONE);
}

TEST(a_frame_of_another_attempt_is_not_even_hashed)
{
	uint8_t data[256], key[REPORT_KEY_SIZE];
	struct report_signer signer;
	key_of("service", 3, key);
	report_signer_init(&signer, TASK, 3, key);
	const struct report_frame frame = { .kind = FRAME_ASK, .sequence = 1 };
	size_t size = report_encode(&signer, &frame, data, sizeof(data));
	CHECK_INT(fault_of(data, size, 0), REPORT_FAULT_ATTEMPT);
	report_attempt_key("service", 7, OTHER_TASK, 2, key);
	report_signer_init(&signer, OTHER_TASK, 2, key);
	size = report_encode(&signer, &frame, data, sizeof(data));
	CHECK_INT(fault_of(data, size, 0), REPORT_FAULT_ATTEMPT);
}

TEST(no_length_is_believed)
{
	uint8_t data[REPORT_HEAD_SIZE];
	uint8_t whole[256];
	make_one(whole, sizeof(whole), (struct report_frame){ .kind = FRAME_ASK }, 1);
	memcpy(data, whole, sizeof(data));
	memset(data + 8, 0xff, 4);
	CHECK_INT(fault_of(data, sizeof(data), 0), REPORT_FAULT_FORM);
	const uint32_t most = REPORT_PAYLOAD_MAX;
	for (int i = 0; i < 4; i++)
		data[8 + i] = (uint8_t)(most >> (24 - 8 * i));
	CHECK_INT(fault_of(data, sizeof(data), 0), REPORT_FAULT_NONE); /* it waits, and holds one frame at most */
	for (int i = 0; i < 4; i++)
		data[8 + i] = (uint8_t)((most + 1) >> (24 - 8 * i));
	CHECK_INT(fault_of(data, sizeof(data), 0), REPORT_FAULT_FORM);
}

TEST(the_largest_frame_fits_and_a_larger_one_is_not_made)
{
	static uint8_t data[REPORT_FRAME_MAX + 1], output[REPORT_OUTPUT_MAX + 1];
	memset(output, 'x', sizeof(output));
	struct report_frame frame = { .kind = FRAME_OUTPUT,
		.output = { false, 1000, 1, 0, output, REPORT_OUTPUT_MAX } };
	CHECK_INT(make_one(data, REPORT_FRAME_MAX, frame, 1), REPORT_FRAME_MAX);
	CHECK_INT(fault_of(data, REPORT_FRAME_MAX, 0), REPORT_FAULT_NONE);
	CHECK_INT(make_one(data, REPORT_FRAME_MAX - 1, frame, 1), 0);
	frame.output.len++;
	CHECK_INT(make_one(data, sizeof(data), frame, 1), 0);
}

TEST(what_was_given_out_is_not_given_out_again_but_a_question)
{
	uint8_t data[2048];
	struct report_signer signer = signer_of("service");
	size_t size = make_all(&signer, data, sizeof(data));
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	check_all(&decoder, data, size, 100);
	const uint8_t *from = data;
	size_t left = size;
	struct report_frame frame;
	CHECK_INT(report_decoder_next(&decoder, &from, &left, &frame), REPORT_FRAME);
	CHECK_INT(frame.kind, FRAME_ASK);
	CHECK_INT(report_decoder_next(&decoder, &from, &left, &frame), REPORT_MORE);
	CHECK_INT(decoder.repeated, 5);
	CHECK_INT(decoder.upto, 5);
	report_decoder_fini(&decoder);
}

TEST(a_frame_that_a_cut_left_behind_does_no_harm_to_the_next_body)
{
	uint8_t data[2048];
	struct report_signer signer = signer_of("service");
	size_t size = make_all(&signer, data, sizeof(data));
	for (size_t cut = 1; cut < REPORT_OVERHEAD + 16; cut++) {
		struct report_decoder decoder = decoder_of("service", NULL, 0);
		const uint8_t *from = data;
		size_t left = cut;
		struct report_frame frame;
		CHECK_INT(report_decoder_next(&decoder, &from, &left, &frame), REPORT_MORE);
		CHECK(report_decoder_cut(&decoder));
		check_all(&decoder, data, size, 64);
		report_decoder_fini(&decoder);
	}
}

TEST(a_forged_body_does_no_harm_to_the_next)
{
	uint8_t data[2048], forged[2048];
	struct report_signer signer = signer_of("service"), forger = signer_of("another");
	size_t size = make_all(&signer, data, sizeof(data)), forged_size = make_all(&forger, forged, sizeof(forged));
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	const uint8_t *from = forged;
	struct report_frame frame;
	CHECK_INT(report_decoder_next(&decoder, &from, &forged_size, &frame), REPORT_BAD);
	CHECK_INT(decoder.fault, REPORT_FAULT_SIGNATURE);
	report_decoder_cut(&decoder);
	check_all(&decoder, data, size, 64);
	report_decoder_fini(&decoder);
}

TEST(an_answer_is_read_by_the_wrapper_alone)
{
	uint8_t data[256];
	struct report_frame frame = { .kind = FRAME_ANSWER, .answer = { COMMAND_GO_ON, 12 } };
	size_t size = make_one(data, sizeof(data), frame, 0);
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	decoder.answers = true;
	const uint8_t *from = data;
	CHECK_INT(report_decoder_next(&decoder, &from, &size, &frame), REPORT_FRAME);
	CHECK_INT(frame.answer.command, COMMAND_GO_ON);
	CHECK_INT(frame.answer.runs, 12);
	report_decoder_fini(&decoder);
}

TEST(what_does_not_fit_is_the_largest_number)
{
	uint8_t bytes[REPORT_STEP_SIZE];
	struct report_step step = STEP, read;
	step.wall_us = step.ended_ms = INT64_MAX;
	step.cpu_us = step.memory_bytes = -1;
	report_step_put(bytes, &step);
	struct report_end end = { .count = 1, .steps = bytes };
	report_end_step(&end, 0, &read);
	CHECK_INT(read.wall_us, UINT32_MAX);
	CHECK_INT(read.ended_ms, UINT32_MAX);
	CHECK_INT(read.cpu_us, 0);
	CHECK_INT(read.memory_bytes, 0);
}

static uint8_t many_steps[REPORT_STEPS_MAX * REPORT_STEP_SIZE];

static size_t make_text(uint16_t count, const char *message, char text[REPORT_TEXT_MAX])
{
	struct report_signer signer = signer_of("service");
	for (uint16_t i = 0; i < count; i++) {
		struct report_step step = STEP;
		step.run = i;
		report_step_put(many_steps + (size_t)i * REPORT_STEP_SIZE, &step);
	}
	struct report_end end = { HOW_COMPLETE, count, count, many_steps, "" };
	snprintf(end.message, sizeof(end.message), "%s", message);
	return report_text_make(&signer, 42, &end, text);
}

TEST(a_termination_message_tells_what_fits)
{
	char text[REPORT_TEXT_MAX], message[REPORT_MESSAGE_MAX + 1];
	uint8_t scratch[REPORT_TEXT_MAX];
	struct report_frame frame;
	struct report_step step;
	struct report_decoder decoder = decoder_of("service", NULL, 0);
	memset(message, 'm', REPORT_MESSAGE_MAX);
	message[REPORT_MESSAGE_MAX] = 0;
	for (uint16_t count = 0; count <= REPORT_STEPS_MAX; count += count < 10 || count == 1000 ? 1 : 90) {
		for (int with = 0; with < 2; with++) {
			size_t len = make_text(count, with ? message : "", text);
			REQUIRE(len <= REPORT_TEXT_MAX);
			REQUIRE(report_text_parse(&decoder, text, len, scratch, &frame));
			CHECK_INT(frame.end.ended, count);
			CHECK_INT(frame.at_us, 42);
			CHECK_STR(frame.end.message, with ? message : "");
			CHECK(frame.end.count == count || frame.end.count > 110);
			for (uint16_t i = 0; i < frame.end.count; i++) {
				report_end_step(&frame.end, i, &step);
				CHECK_INT(step.run, i);
			}
		}
	}
	report_decoder_fini(&decoder);
}

TEST(a_frame_goes_through_a_log_as_a_line)
{
	static uint8_t frame[REPORT_FRAME_MAX], taken[REPORT_FRAME_MAX];
	static char line[REPORT_LINE_MAX];
	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 31 + i / 256);
	const size_t sizes[] = { 1, 2, 3, REPORT_OVERHEAD, REPORT_FRAME_MAX - 1, REPORT_FRAME_MAX };
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t len = report_line_make(frame, sizes[i], line);
		REQUIRE(len <= sizeof(line));
		CHECK(!memchr(line, '\n', len));
		CHECK_INT(report_line_take(line, len, taken), sizes[i]);
		CHECK(memcmp(frame, taken, sizes[i]) == 0);
		CHECK_INT(report_line_take(line, len - 1, taken), 0);
	}
	CHECK_INT(report_line_take("", 0, taken), 0);
	CHECK_INT(report_line_take("assay1 ", 7, taken), 0);
	CHECK_INT(report_line_take("assay1 AAA!", 11, taken), 0);
	CHECK_INT(report_line_take("what the code says", 18, taken), 0);
	/* Longer than any frame. */
	char *longer = malloc(REPORT_LINE_MAX + 4);
	REQUIRE(longer);
	memset(longer, 'A', REPORT_LINE_MAX + 4);
	memcpy(longer, "assay1 ", 7);
	CHECK_INT(report_line_take(longer, REPORT_LINE_MAX + 3, taken), 0);
	free(longer);
}

TEST(a_termination_message_that_is_not_the_wrappers_is_none)
{
	char text[REPORT_TEXT_MAX];
	uint8_t scratch[REPORT_TEXT_MAX];
	struct report_frame frame;
	struct report_decoder decoder = decoder_of("service", NULL, 0), other = decoder_of("another", NULL, 0);
	size_t len = make_text(3, "", text);
	CHECK(!report_text_parse(&other, text, len, scratch, &frame));
	for (size_t i = 0; i < len; i++) {
		CHECK(!report_text_parse(&decoder, text, i, scratch, &frame));
		char was = text[i];
		text[i] = was == 'A' ? 'B' : 'A';
		CHECK(!report_text_parse(&decoder, text, len, scratch, &frame));
		text[i] = was;
	}
	CHECK(report_text_parse(&decoder, text, len, scratch, &frame));
	CHECK(!report_text_parse(&decoder, "Error: the code's own words", 27, scratch, &frame));
	report_decoder_fini(&decoder);
	report_decoder_fini(&other);
}

TEST_MAIN()
