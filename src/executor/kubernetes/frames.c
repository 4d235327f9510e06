#include "executor/kubernetes/frames.h"

#include <errno.h>

#define KEPT 65536 /* bytes of memory that stay for the next document in parts */

void kube_frames_init(struct kube_frames *frames, size_t max)
{
	*frames = (struct kube_frames){ .partial = BUFFER_MAX(max), .max = max };
}

/* The memory of a large document goes with it. */
static void partial_clear(struct kube_frames *frames)
{
	frames->given = false;
	if (frames->partial.capacity > KEPT)
		buffer_fini(&frames->partial);
	else
		buffer_clear(&frames->partial);
}

void kube_frames_reset(struct kube_frames *frames)
{
	partial_clear(frames);
	frames->rest = BYTES_NONE;
	frames->failed = false;
}

void kube_frames_fini(struct kube_frames *frames)
{
	buffer_fini(&frames->partial);
}

void kube_frames_feed(struct kube_frames *frames, struct bytes chunk)
{
	frames->rest = chunk;
}

static int fail(struct kube_frames *frames)
{
	partial_clear(frames);
	frames->failed = true;
	return -EMSGSIZE;
}

/* Everything up to the next line feed, or the whole rest where there is none. */
static bool take_line(struct kube_frames *frames, struct bytes *ret_line)
{
	struct bytes rest = frames->rest;
	const char *end = rest.len > 0 ? memchr(rest.data, '\n', rest.len) : NULL;
	size_t len = end ? (size_t)(end - rest.data) : rest.len;
	size_t used = len + (end ? 1 : 0);
	*ret_line = (struct bytes){ rest.data, len };
	frames->rest = used < rest.len ? (struct bytes){ rest.data + used, rest.len - used } : BYTES_NONE;
	return end != NULL;
}

int kube_frames_next(struct kube_frames *frames, struct bytes *ret_document)
{
	if (frames->given)
		partial_clear(frames);
	if (frames->failed)
		return -EMSGSIZE;
	while (frames->rest.len > 0) {
		struct bytes line;
		bool whole = take_line(frames, &line);
		if (line.len > frames->max - frames->partial.len)
			return fail(frames);
		if (whole && frames->partial.len == 0) {
			if (line.len == 0)
				continue;
			*ret_document = line;
			return 1;
		}
		buffer_append_bytes(&frames->partial, line);
		if (frames->partial.failed)
			return fail(frames);
		if (whole) {
			frames->given = true;
			*ret_document = buffer_bytes(&frames->partial);
			return 1;
		}
	}
	return 0;
}
