#include "executor/kubernetes/publication.h"

#include <string.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/clock.h"

#define EXIT_CODE_MAX 255
#define SIGNAL_MAX 64
#define DURATION_MAX_S 1e6

enum { RUNNING, COMPLETED, FAILED };

static const char *const channels[PUBLICATION_CHANNEL_COUNT] = {
	[RUNNING] = "evaluation:running", [COMPLETED] = "evaluation:completed", [FAILED] = "evaluation:failed"
};

const char *publication_channel(size_t index)
{
	return channels[index];
}

/* Absent or null, or a string. */
static bool read_text(yyjson_val *root, const char *key, struct arena *arena, struct bytes *ret_text)
{
	yyjson_val *value = yyjson_obj_get(root, key);
	if (value && !yyjson_is_null(value) && !yyjson_is_str(value))
		return false;
	*ret_text = arena_bytes(arena, (struct bytes){ yyjson_get_str(value), yyjson_get_len(value) });
	return true;
}

static bool read_exit_code(yyjson_val *root, struct publication *publication)
{
	yyjson_val *value = yyjson_obj_get(root, "exit_code");
	publication->has_exit_code = publication->is_good;
	if (!value || yyjson_is_null(value))
		return true;
	if (!yyjson_is_int(value) || (yyjson_is_uint(value) && yyjson_get_uint(value) > EXIT_CODE_MAX) ||
		(yyjson_is_sint(value) && yyjson_get_sint(value) < -SIGNAL_MAX))
		return false;
	publication->has_exit_code = true;
	publication->exit_code = yyjson_get_int(value);
	return true;
}

static bool read_all(yyjson_val *root, struct arena *arena, struct publication *publication)
{
	double seconds = yyjson_get_num(yyjson_obj_get(root, "duration_seconds"));
	/* Every event of ours names the replica that it came from. */
	if (!yyjson_is_obj(root) || yyjson_obj_get(root, "replica") ||
		!read_text(root, "eval_id", arena, &publication->eval_id) || publication->eval_id.len == 0)
		return false;
	if (!publication->has_ended)
		return true;
	if (seconds > 0 && seconds < DURATION_MAX_S)
		publication->wall_us = (int64_t)(seconds * (double)US_PER_S);
	return read_exit_code(root, publication) && read_text(root, "output", arena, &publication->output) &&
	       read_text(root, "error", arena, &publication->error);
}

bool publication_read(
	struct bytes channel, struct bytes payload, struct arena *arena, struct publication *ret_publication)
{
	size_t index = 0;
	while (index < ARRAY_SIZE(channels) && !bytes_is(channel, channels[index]))
		index++;
	if (index == ARRAY_SIZE(channels) || payload.len == 0)
		return false;
	struct publication publication = { .has_ended = index != RUNNING, .is_good = index == COMPLETED };
	yyjson_doc *doc = yyjson_read(payload.data, payload.len, 0);
	bool is_one = read_all(yyjson_doc_get_root(doc), arena, &publication);
	yyjson_doc_free(doc);
	if (is_one)
		*ret_publication = publication;
	return is_one;
}
