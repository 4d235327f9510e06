/* What stands on a channel of events: either it is none of ours, or it is given out again as it came, as JSON. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "task/forms.h"
#include "task/lifecycle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes text = { (const char *)data, size };
	struct arena arena = { 0 };
	struct buffer again = BUFFER_MAX(0);
	struct event event;
	struct live_event live;
	if (form_event_parse(text, &arena, &event)) {
		must(event.kind < EVENT_KIND_DURABLE_COUNT && event.publisher.len > 0, "a durable event");
		must(event.run >= 0 && event.attempt >= 0 && event.timestamp_us >= 0, "counts");
		must(!form_live_event_parse(text, &arena, &live), "both durable and live");
		form_event(&again, &event);
		must(bytes_equal(buffer_bytes(&again), text), "not as it came");
	} else if (form_live_event_parse(text, &arena, &live)) {
		must(live.kind >= EVENT_KIND_DURABLE_COUNT && live.publisher.len > 0, "a live event");
		form_live_event(&again, &live);
		must(bytes_equal(buffer_bytes(&again), text), "not as it came");
	}
	buffer_fini(&again);
	arena_fini(&arena);
	return 0;
}
