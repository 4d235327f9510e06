/* What an image that publishes by itself says on Redis, as the wrapper of seed 003 says it:
 *
 *   evaluation:running     {"eval_id": …, "timestamp": …}
 *   evaluation:completed   {"eval_id": …, "exit_code": 0, "output": …, "error": …, "duration_seconds": …, "timestamp": …}
 *   evaluation:failed      the same with another exit_code; below 0: minus the signal, as Python's subprocess has it
 *
 * Whoever may publish there can say it of any evaluation. What stands there is trusted for nothing but the outcome of evaluations
 * whose image was chosen to be believed. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_PUBLICATION_H
#define ASSAY_EXECUTOR_KUBERNETES_PUBLICATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"

/* "evaluation:running", …; without any prefix, since the images know of none. */
#define PUBLICATION_CHANNEL_COUNT 3
const char *publication_channel(size_t index);

struct publication {
	struct bytes eval_id; /* in the arena, as all that follows */
	bool has_ended; /* else its code has begun */
	bool is_good; /* ended: on "completed" */
	bool has_exit_code; /* ended; a good one always has, 0 where it does not say */
	int exit_code;
	struct bytes output, error; /* ended; may be absent */
	int64_t wall_us; /* ended; 0: it does not say, or nothing sensible */
};

/* False for what is none: another channel, no JSON, no eval_id, a member of another type than it has there, or an event of Assay's
 * own, which stand on the same channels. */
bool publication_read(
	struct bytes channel, struct bytes payload, struct arena *arena, struct publication *ret_publication);

#endif
