/* Documents of a watch's stream: however the stream is cut into chunks, what comes is what stands between its line
 * feeds, until one is too large. The first byte is the largest document, the second where the cuts are. */
#include "executor/kubernetes/frames.h"

#include <errno.h>
#include <string.h>

#include "fuzz.h"

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 16;
}

/* The next line that is not empty of what is left, or absent. */
static struct bytes next_line(const char **at, const char *end)
{
	while (*at < end) {
		const char *feed = memchr(*at, '\n', (size_t)(end - *at));
		struct bytes line = { *at, (size_t)((feed ? feed : end) - *at) };
		*at = feed ? feed + 1 : end;
		if (!feed)
			return BYTES_NONE;
		if (line.len > 0)
			return line;
	}
	return BYTES_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct kube_frames frames;
	size_t max = data[0];
	uint32_t state = data[1];
	const char *stream = (const char *)data + 2, *at = stream, *end = (const char *)data + size;
	int result = 0;
	kube_frames_init(&frames, max ? max : 1);
	max = frames.max;
	for (size_t done = 0, len = size - 2; done < len && result == 0;) {
		size_t part = state == 0 ? len : next_random(&state) % 9;
		part = part < len - done ? part : len - done;
		char *copy = malloc(part ? part : 1);
		HOLDS(copy != NULL);
		memcpy(copy, stream + done, part);
		struct bytes document;
		kube_frames_feed(&frames, (struct bytes){ copy, part });
		while ((result = kube_frames_next(&frames, &document)) > 0) {
			struct bytes wanted = next_line(&at, end);
			HOLDS(document.len <= max && wanted.data && bytes_equal(document, wanted));
		}
		free(copy);
		done += part;
	}
	/* Nothing is missing; and what is refused is too large, or begins so. */
	struct bytes left = next_line(&at, end);
	const char *last = memrchr(stream, '\n', (size_t)(end - stream));
	size_t unfinished = (size_t)(end - (last ? last + 1 : stream));
	if (result == 0)
		HOLDS(!left.data);
	else
		HOLDS(result == -EMSGSIZE && (left.data ? left.len : unfinished) > max);
	kube_frames_fini(&frames);
	return 0;
}
