/* What stands on the channels that images publish on: anything at all. The first byte says on which channel. */
#include "executor/kubernetes/publication.h"

#include <string.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena = { 0 };
	struct publication said;
	if (size == 0)
		return 0;
	struct bytes channel = bytes_of(publication_channel(data[0] % PUBLICATION_CHANNEL_COUNT));
	if (publication_read(channel, (struct bytes){ (const char *)data + 1, size - 1 }, &arena, &said)) {
		HOLDS(said.eval_id.len > 0 && said.eval_id.len < size);
		HOLDS(said.has_ended == (data[0] % PUBLICATION_CHANNEL_COUNT > 0));
		HOLDS(said.exit_code >= -64 && said.exit_code <= 255 && said.wall_us >= 0);
		HOLDS(!said.is_good || said.has_exit_code);
		HOLDS(said.output.len < size && said.error.len < size);
	}
	arena_fini(&arena);
	return 0;
}
