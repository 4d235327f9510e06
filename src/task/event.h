/* Events outlive the operation that told of them: their copy. */
#ifndef ASSAY_TASK_EVENT_H
#define ASSAY_TASK_EVENT_H

#include "assay/task.h"
#include "base/arena.h"

/* All that it points to goes into the arena. */
static inline struct event event_copy(struct arena *arena, const struct event *from)
{
	struct event event = *from;
	event.tenant = arena_bytes(arena, from->tenant);
	event.eval_id = arena_bytes(arena, from->eval_id);
	event.data = arena_bytes(arena, from->data);
	event.output = arena_bytes(arena, from->output);
	event.error = arena_bytes(arena, from->error);
	event.publisher = arena_bytes(arena, from->publisher);
	event.payload = arena_bytes(arena, from->payload);
	return event;
}

#endif
