/* Where a reader of the stream stands: a place and the holes below it (position.h). Everything is in the arena of
 * the errand or of the operation. */
#include "store/postgres/position.h"

#include <string.h>

static bool comes_before(const struct stream_place *a, const struct stream_place *b)
{
	return a->xid != b->xid ? a->xid < b->xid : a->id < b->id;
}

/* ---- as bytes: the place, then the holes ---- */

struct packed {
	uint64_t xid;
	int64_t id;
};

static struct packed pack(const struct stream_place *place)
{
	return (struct packed){ .xid = place->xid, .id = place->id };
}

bool position_read(struct bytes bytes, struct arena *arena, struct position *ret_position)
{
	size_t count = bytes.len / sizeof(struct packed);
	if (count == 0 || bytes.len % sizeof(struct packed) != 0)
		return false;
	struct stream_place *places = arena_array(arena, count, sizeof(places[0]));
	for (size_t i = 0; i < count; i++) {
		struct packed packed;
		memcpy(&packed, bytes.data + i * sizeof(packed), sizeof(packed));
		places[i] = (struct stream_place){ .xid = packed.xid, .id = packed.id };
	}
	*ret_position = (struct position){ .place = places[0], .holes = places + 1, .hole_count = count - 1 };
	return true;
}

struct bytes position_write(const struct position *position, struct arena *arena)
{
	if (position->hole_count == 0)
		return BYTES_NONE;
	struct packed *packed = arena_array(arena, position->hole_count + 1, sizeof(packed[0]));
	packed[0] = pack(&position->place);
	for (size_t i = 0; i < position->hole_count; i++)
		packed[1 + i] = pack(&position->holes[i]);
	return (struct bytes){ (const char *)packed, (position->hole_count + 1) * sizeof(packed[0]) };
}

struct stream_place position_cursor(const struct position *position)
{
	return position->hole_count > 0 ? position->holes[0] : position->place;
}

/* ---- reading on ---- */

void position_read_open(struct bytes text, struct arena *arena, struct position_view *view)
{
	uint64_t *open = arena_array(arena, text.len / 2 + 1, sizeof(open[0]));
	for (size_t i = 0; i < text.len; i++) {
		if (i == 0 || text.data[i - 1] == ' ')
			open[view->open_count++] = 0;
		if (text.data[i] != ' ')
			open[view->open_count - 1] = open[view->open_count - 1] * 10 + (uint64_t)(text.data[i] - '0');
	}
	view->open = open;
}

static bool is_open(const struct position_view *view, uint64_t xid)
{
	for (size_t i = 0; i < view->open_count && view->open[i] <= xid; i++)
		if (view->open[i] == xid)
			return true;
	return false;
}

struct stream_place position_bound(const struct position *before, const struct position_view *view)
{
	if (before->hole_count > 0)
		return before->holes[0];
	for (size_t i = 0; i < view->open_count; i++)
		if (view->open[i] >= before->place.xid)
			return (struct stream_place){ .xid = view->open[i] };
	return (struct stream_place){ .xid = view->next };
}

void position_advance(const struct position *before, const struct position_view *view, struct arena *arena,
	struct position *ret_after)
{
	struct stream_place *holes = arena_array(arena, before->hole_count + view->open_count, sizeof(holes[0]));
	struct position after = { .place = before->place, .holes = holes };
	for (size_t i = 0; i < before->hole_count; i++) {
		struct stream_place hole = before->holes[i];
		bool is_reached = view->late && view->cut && hole.xid == view->reached.xid;
		bool is_left = view->late && view->cut && hole.xid > view->reached.xid;
		if (is_reached)
			hole.id = view->reached.id;
		if (is_reached || is_left || is_open(view, hole.xid))
			holes[after.hole_count++] = hole;
	}
	if (!view->late) {
		after.place = view->cut ? view->reached : (struct stream_place){ .xid = view->next };
		if (comes_before(&after.place, &before->place))
			after.place = before->place;
		/* Those below the former place are in its holes, or were not theirs to be. */
		for (size_t i = 0; i < view->open_count; i++)
			if (view->open[i] >= before->place.xid && view->open[i] < after.place.xid)
				holes[after.hole_count++] = (struct stream_place){ .xid = view->open[i] };
	}
	*ret_after = after;
}
