/* Documents out of a stream, however it is cut into chunks. */
#include "executor/kubernetes/frames.h"

#include <errno.h>

#include "base/alloc.h"
#include "test.h"

#define MAX 100

static const char stream[] = "{\"a\":1}\n\n{\"b\":\"two\"}\r\n{}\n{\"c\":[1,2,3]}\n{\"cut";
static const char *const documents[] = { "{\"a\":1}", "{\"b\":\"two\"}\r", "{}", "{\"c\":[1,2,3]}" };

/* Feeds a copy that ends where the chunk does, so that AddressSanitizer sees what is read beyond; checks what comes. */
static void feed(struct kube_frames *frames, const char *from, size_t len, size_t *count)
{
	char *copy = malloc(len ? len : 1);
	struct bytes document;
	REQUIRE(copy);
	memcpy(copy, from, len);
	kube_frames_feed(frames, (struct bytes){ copy, len });
	while (kube_frames_next(frames, &document) > 0) {
		REQUIRE(*count < ARRAY_SIZE(documents));
		CHECK_BYTES(document, documents[*count]);
		(*count)++;
	}
	CHECK_INT(kube_frames_next(frames, &document), 0);
	free(copy);
}

TEST(every_pair_of_cuts)
{
	size_t len = sizeof(stream) - 1;
	for (size_t i = 0; i <= len; i++) {
		for (size_t j = i; j <= len; j++) {
			struct kube_frames frames;
			size_t count = 0;
			kube_frames_init(&frames, MAX);
			feed(&frames, stream, i, &count);
			feed(&frames, stream + i, j - i, &count);
			feed(&frames, stream + j, len - j, &count);
			CHECK_INT(count, ARRAY_SIZE(documents));
			kube_frames_fini(&frames);
		}
	}
}

TEST(byte_by_byte)
{
	struct kube_frames frames;
	size_t count = 0;
	kube_frames_init(&frames, MAX);
	for (size_t i = 0; i < sizeof(stream) - 1; i++)
		feed(&frames, stream + i, 1, &count);
	CHECK_INT(count, ARRAY_SIZE(documents));
	kube_frames_fini(&frames);
}

TEST(a_document_within_a_chunk_is_not_copied)
{
	struct kube_frames frames;
	struct bytes document;
	const char *chunk = "part\n{\"a\":1}\n";
	kube_frames_init(&frames, MAX);
	kube_frames_feed(&frames, bytes_of("first "));
	CHECK_INT(kube_frames_next(&frames, &document), 0);
	kube_frames_feed(&frames, bytes_of(chunk));
	CHECK_INT(kube_frames_next(&frames, &document), 1);
	CHECK_BYTES(document, "first part");
	CHECK_INT(kube_frames_next(&frames, &document), 1);
	CHECK(document.data == chunk + 5);
	CHECK_INT(document.len, 7);
	kube_frames_fini(&frames);
}

TEST(the_largest_and_one_more)
{
	char text[2 * MAX + 2];
	for (size_t cut = 0; cut <= MAX; cut += MAX / 2) {
		for (size_t len = MAX; len <= MAX + 1; len++) {
			struct kube_frames frames;
			struct bytes document;
			int wanted = len == MAX ? 1 : -EMSGSIZE, result;
			memset(text, 'x', len);
			text[len] = '\n';
			kube_frames_init(&frames, MAX);
			kube_frames_feed(&frames, (struct bytes){ text, cut });
			CHECK_INT(kube_frames_next(&frames, &document), 0);
			kube_frames_feed(&frames, (struct bytes){ text + cut, len + 1 - cut });
			result = kube_frames_next(&frames, &document);
			CHECK_INT(result, wanted);
			if (result == 1)
				CHECK_INT(document.len, MAX);
			CHECK_INT(kube_frames_next(&frames, &document), wanted == 1 ? 0 : -EMSGSIZE);
			kube_frames_reset(&frames);
			kube_frames_feed(&frames, BYTES_LITERAL("{}\n"));
			CHECK_INT(kube_frames_next(&frames, &document), 1);
			kube_frames_fini(&frames);
		}
	}
}

TEST(megabytes_come_in_parts_and_their_memory_goes)
{
	size_t len = (5 << 20) + 17;
	char *text = alloc(len + 1);
	struct kube_frames frames;
	struct bytes document = BYTES_NONE;
	int result = 0;
	memset(text, 'y', len);
	text[len] = '\n';
	kube_frames_init(&frames, 8 << 20);
	for (size_t at = 0; at < len + 1; at += 16384) {
		CHECK_INT(result, 0);
		kube_frames_feed(&frames, (struct bytes){ text + at, len + 1 - at < 16384 ? len + 1 - at : 16384 });
		result = kube_frames_next(&frames, &document);
	}
	CHECK_INT(result, 1);
	CHECK_BYTES(document, ((struct bytes){ text, len }));
	CHECK_INT(kube_frames_next(&frames, &document), 0);
	CHECK_INT(frames.partial.capacity, 0);
	kube_frames_fini(&frames);
	free(text);
}

TEST(a_reset_forgets_what_was_cut)
{
	struct kube_frames frames;
	struct bytes document;
	kube_frames_init(&frames, MAX);
	kube_frames_feed(&frames, BYTES_LITERAL("{\"cut"));
	CHECK_INT(kube_frames_next(&frames, &document), 0);
	kube_frames_reset(&frames);
	kube_frames_feed(&frames, BYTES_LITERAL("{}\n"));
	CHECK_INT(kube_frames_next(&frames, &document), 1);
	CHECK_BYTES(document, "{}");
	kube_frames_fini(&frames);
}

TEST_MAIN()
