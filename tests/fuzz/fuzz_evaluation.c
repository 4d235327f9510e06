/* Bodies of POST /execute: whatever JSON comes is either refused with a fault that has a place, or is read, written,
 * loaded and written again to the same bytes, and the normalised form is itself a body. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "base/clock.h"
#include "base/text.h"
#include "task/evaluation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct evaluation_limits limits = {
	.source_max = 2048,
	.timeout_max_us = 3600 * US_PER_S,
	.memory_max = INT64_C(8) << 30,
	.cpu_max = 4000,
	.max_attempts_max = 25,
	.max_attempts_default = 3,
	.priority_default = 5,
	.timeout_default_us = 300 * US_PER_S,
	.callbacks = CALLBACK_HTTP_TOO,
	.images = (const char *const[]){ "a*", "*[b-z]/?" },
	.image_count = 2,
};

static void must(bool condition, const char *what, struct bytes text)
{
	if (condition)
		return;
	fprintf(stderr, "%s: %.*s\n", what, (int)text.len, text.data);
	abort();
}

static void check_errors(const struct field_errors *errors)
{
	must(errors->count >= 1 && errors->count <= 32, "no fault, or too many", BYTES_NONE);
	for (size_t i = 0; i < errors->count; i++) {
		must(utf8_valid(bytes_of(errors->items[i].pointer)), "pointer", bytes_of(errors->items[i].pointer));
		must(utf8_valid(bytes_of(errors->items[i].detail)), "detail", bytes_of(errors->items[i].detail));
	}
}

static void check_round_trip(const struct evaluation *evaluation)
{
	struct buffer first = BUFFER_MAX(0), second = BUFFER_MAX(0);
	struct arena arena = { 0 };
	struct evaluation loaded;
	struct err err = { 0 };
	evaluation_write(evaluation, &first);
	must(evaluation_load(buffer_bytes(&first), &arena, &loaded, &err) == 0, err.message, buffer_bytes(&first));
	evaluation_write(&loaded, &second);
	must(bytes_equal(buffer_bytes(&first), buffer_bytes(&second)), "not the same again", buffer_bytes(&second));

	yyjson_doc *document = yyjson_read(first.data, first.len, 0);
	struct evaluation_request again;
	struct field_errors errors = { 0 };
	must(evaluation_read(yyjson_doc_get_root(document), "", &limits, &arena, &again, &errors),
		"the normalised form is no body", buffer_bytes(&first));
	yyjson_doc_free(document);
	buffer_fini(&first);
	buffer_fini(&second);
	arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	yyjson_doc *document = yyjson_read((const char *)data, size, 0);
	if (!document)
		return 0;
	struct arena arena = { 0 };
	struct evaluation_request request;
	struct field_errors errors = { 0 };
	if (evaluation_read(yyjson_doc_get_root(document), "", &limits, &arena, &request, &errors)) {
		must(errors.count == 0, "a fault in a good body", BYTES_NONE);
		check_round_trip(&request.evaluation);
		uint8_t digest[EVALUATION_DIGEST_SIZE];
		must(evaluation_digest(yyjson_doc_get_root(document), digest), "no digest of a good body", BYTES_NONE);
	} else {
		check_errors(&errors);
	}
	arena_fini(&arena);
	yyjson_doc_free(document);
	return 0;
}
