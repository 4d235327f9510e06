/* Documents out of a watch's stream: one JSON object after the other, each ended by a line feed, which none has
 * inside (kubernetes.io /docs/reference/using-api/api-concepts/, "Efficient detection of changes"; JSON escapes
 * line feeds in strings, and the API server writes none between tokens).
 *
 * Chunks come in any size. A document that lies within one chunk is given as it lies there; of one that comes in
 * parts the parts are gathered, up to a stated maximum. Empty lines are passed over. What lacks its line feed at
 * the stream's end was cut, and is never given. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_FRAMES_H
#define ASSAY_EXECUTOR_KUBERNETES_FRAMES_H

#include "base/buffer.h"
#include "base/bytes.h"

struct kube_frames {
	struct buffer partial; /* the beginning of a document whose end has not come */
	struct bytes rest; /* borrowed: of the chunk, not looked at yet */
	size_t max; /* bytes of one document */
	bool given; /* `partial` is the document that was given last */
	bool failed; /* a document was too large: nothing more is given */
};

void kube_frames_init(struct kube_frames *frames, size_t max);
/* Forgets what has come: for a new stream. */
void kube_frames_reset(struct kube_frames *frames);
void kube_frames_fini(struct kube_frames *frames);
/* The next chunk, borrowed until kube_frames_next() has given 0 or less; what is left of the last one is lost. */
void kube_frames_feed(struct kube_frames *frames, struct bytes chunk);
/* 1: *ret_document is the next one, borrowed until the next call; without its line feed, never empty. 0: the chunk
 * has no further one. -EMSGSIZE: a document is larger than the maximum (or memory is gone), also again and again. */
int kube_frames_next(struct kube_frames *frames, struct bytes *ret_document);

#endif
