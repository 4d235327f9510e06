/* What attempts print: kept up to a bound per stream, written to the store with the settle batches, told live to who
 * listens.
 *
 * A chunk lives in its attempt's list until a settle batch takes it; it is freed when that batch has been committed. */
#include "coordinator/internal.h"

#include <stdlib.h>

#include "base/clock.h"

/* Small pieces join the chunk before them, so that a program that prints byte by byte does not make a row of each. */
#define CHUNK_TARGET 16384
#define CHUNK_FIRST 64 /* room of a new one: a program may change its stream with each byte */

/* The last chunk with room for more; it may move. NULL: it is full, or there is no memory. */
static struct pending_chunk *chunk_with_room(struct attempt *attempt, int stream, size_t more)
{
	struct list *last = attempt->chunks.prev;
	if (last == &attempt->chunks)
		return NULL;
	struct pending_chunk *chunk = LIST_ENTRY(last, struct pending_chunk, link);
	size_t needed = chunk->chunk.data.len + more;
	bool follows = chunk->chunk.offset + chunk->chunk.data.len == attempt->offset; /* nothing was lost in between */
	if (chunk->chunk.stream != stream || needed > CHUNK_TARGET || !follows)
		return NULL;
	if (needed <= chunk->capacity)
		return chunk;
	size_t capacity = chunk->capacity * 2 > needed ? chunk->capacity * 2 : needed;
	list_remove(last);
	struct pending_chunk *grown = realloc(chunk, sizeof(*chunk) + capacity);
	if (grown) {
		chunk = grown;
		chunk->capacity = capacity;
		chunk->chunk.data.data = chunk->data;
	}
	list_push_back(&attempt->chunks, &chunk->link);
	return grown;
}

static struct pending_chunk *chunk_extend(struct attempt *attempt, int stream, struct bytes data)
{
	struct pending_chunk *chunk = chunk_with_room(attempt, stream, data.len);
	if (chunk) {
		memcpy(chunk->data + chunk->chunk.data.len, data.data, data.len);
		chunk->chunk.data.len += data.len;
		return chunk;
	}
	size_t capacity = data.len > CHUNK_FIRST ? data.len : CHUNK_FIRST;
	chunk = malloc(sizeof(*chunk) + capacity);
	if (!chunk)
		return NULL;
	chunk->capacity = capacity;
	attempt->chunk_bytes += sizeof(*chunk);
	chunk->link = (struct list){ 0 };
	chunk->chunk = (struct output_chunk){
		.task_id = attempt->task.id,
		.attempt = attempt->task.attempt,
		.stream = stream,
		.offset = attempt->offset,
		.stream_offset = attempt->stream_offset[stream - 1],
		.data = { chunk->data, data.len },
	};
	memcpy(chunk->data, data.data, data.len);
	list_push_back(&attempt->chunks, &chunk->link);
	return chunk;
}

static void publish_log(struct attempt *attempt, int stream, struct bytes data)
{
	while (data.len) {
		size_t piece = data.len < EVENT_OUTPUT_MAX ? data.len : EVENT_OUTPUT_MAX;
		attempt_tell_live(attempt, (struct live_event){ .kind = EVENT_LOG,
						   .stream = stream,
						   .offset = attempt->offset,
						   .data = { data.data, piece } });
		attempt->offset += piece;
		data.data += piece;
		data.len -= piece;
	}
}

static void keep_head(struct attempt *attempt, int stream, struct bytes data)
{
	struct buffer *head = &attempt->head[stream - 1];
	size_t room = head->max - head->len;
	buffer_append(head, data.data, data.len < room ? data.len : room);
}

/* Past what is stored and was told. */
static struct bytes skip_stored(struct attempt *attempt, int stream, struct bytes data)
{
	uint64_t again = attempt->offset_stored > attempt->offset ? attempt->offset_stored - attempt->offset : 0;
	size_t skipped = again < data.len ? (size_t)again : data.len;
	keep_head(attempt, stream, (struct bytes){ data.data, skipped });
	attempt->offset += skipped;
	attempt->stream_offset[stream - 1] += skipped;
	return (struct bytes){ data.data + skipped, data.len - skipped };
}

void output_append(struct attempt *attempt, int stream, struct bytes data)
{
	uint64_t kept = attempt->coordinator->options.settings.output_kept;
	uint64_t *stream_offset = &attempt->stream_offset[stream - 1];
	if (data.len > kept - *stream_offset) {
		data.len = kept - *stream_offset;
		attempt->truncated[stream - 1] = true;
	}
	data = skip_stored(attempt, stream, data);
	if (!data.len)
		return;
	if (!chunk_extend(attempt, stream, data)) {
		attempt->truncated[stream - 1] = true;
		return;
	}
	keep_head(attempt, stream, data);
	if (!attempt->output_began_at_us)
		attempt->output_began_at_us = clock_monotonic_us();
	*stream_offset += data.len;
	attempt->chunk_bytes += data.len;
	publish_log(attempt, stream, data);
	settle_output_due(attempt);
}

void output_skip(struct attempt *attempt, int stream, uint64_t bytes)
{
	uint64_t *stream_offset = &attempt->stream_offset[stream - 1];
	uint64_t room = attempt->coordinator->options.settings.output_kept - *stream_offset;
	uint64_t skipped = bytes < room ? bytes : room;
	attempt->truncated[stream - 1] = true;
	*stream_offset += skipped;
	attempt->offset += skipped;
}

void output_take_chunks(struct attempt *attempt)
{
	list_splice_back(&attempt->chunks_in_flight, &attempt->chunks);
	attempt->chunk_bytes = 0;
	attempt->output_saved_at_us = clock_monotonic_us();
	attempt->output_followed = false;
	list_remove(&attempt->output_link);
}

int64_t output_due_at(const struct attempt *attempt)
{
	if (attempt->output_followed || attempt->chunk_bytes >= OUTPUT_PENDING_MAX ||
		attempt->output_wanted_until_us > clock_monotonic_us())
		return 0;
	int64_t quiet_until = attempt->output_began_at_us + OUTPUT_QUIET_US;
	int64_t next = attempt->output_saved_at_us + OUTPUT_INTERVAL_US;
	return quiet_until > next ? quiet_until : next;
}

void output_dispose(struct attempt *attempt)
{
	while (!list_empty(&attempt->chunks))
		free(LIST_ENTRY(list_pop_front(&attempt->chunks), struct pending_chunk, link));
	list_remove(&attempt->output_link);
}
