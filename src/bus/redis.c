/* Two connections: one that publishes, always; one that is subscribed, while somebody follows. This process's subscribers stand at a local bus within, so that order and turns are the same as there.
 *
 * The publishing side is in one of three states:
 *
 *   CURRENT ──(connection lost with something not answered, or too much waits)──► BEHIND ──(Redis is there)──► CATCHING UP
 *      ▲                                                                            ▲                              │
 *      │                                                                            └─(lost again)─────────────────┤
 *      └──(the listener's last batch has been answered)───────────────────────────────────────────────────────────┘
 *
 * CURRENT: events go to Redis as far as the window allows, the rest waits in the outbox. BEHIND: events are dropped, the store has them.
 * CATCHING UP: the listener's batches go to Redis; what is published meanwhile waits in the outbox and follows the last batch. It was published
 * after the listener was asked, so the batches may hold some of it too: that is sent twice, and never in the wrong order the first time. If it is
 * more than the outbox takes, it is dropped, and the listener is asked again after the last batch: the next gap is as long as
 * it took to close this one. */
#include "bus/redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "bus/local.h"
#include "io/redis.h"
#include "task/forms.h"
#include "task/lifecycle.h"

#define WINDOW ((size_t)1 << 20)
#define OUTBOX_MAX ((size_t)8 << 20)
#define STOP_MS 2000 /* for what is on its way */
#define OWN_NAMES 4
#define SCRATCH_KEPT ((size_t)256 << 10)

enum state { CURRENT, BEHIND, CATCHING_UP };

/* One for each kind of event, and one for those that are for other replicas alone: the world was told by the job itself. */
enum { CHANNEL_ASIDE = EVENT_KIND_COUNT, CHANNEL_COUNT };
#define CHANNEL_ASIDE_NAME "assay:aside"

/* Tags of commands: the number of the event, from 1 on, or one of these. */
#define TAG_NONE UINT64_C(0) /* its answer matters only if it is an error */
#define TAG_BATCH UINT64_MAX /* the last command of a batch of republish() */

/* What waits in the outbox: this, and then the command. */
struct record {
	uint64_t tag;
	uint64_t len;
};

struct mark {
	uint64_t tag; /* 0: none is set */
	struct cursor cursor;
};

struct redis_bus {
	struct bus bus;
	struct bus *local; /* owned */
	uv_loop_t *loop;
	struct log *log;
	struct redis_address address;
	char *stream_head; /* owned: the beginning of the XADD up to the kind; NULL: no stream */
	char *channels[CHANNEL_COUNT]; /* owned */
	char *heads[CHANNEL_COUNT]; /* owned: the beginning of each PUBLISH up to the payload */
	size_t channel_count; /* that are used: all, or all but the last */
	const struct bus_notices *notices;
	void *owner;

	struct redis *publishing;
	enum state state;
	struct buffer outbox; /* records */
	size_t outbox_head; /* where the first of them begins */
	struct buffer payload, command; /* scratch */
	uint64_t taken, left;
	uint64_t asked_at; /* CATCHING UP: what was taken before is in the listener's batches */
	bool overflow; /* CATCHING UP: the outbox was too small */
	bool in_batch, empty_batch,
		last_batch; /* of republish(): on its way; without an answer to come; closes the gap */
	struct mark mark; /* the event whose answer moves the watermark next */
	struct cursor published, latest;
	struct err why; /* code 0: healthy */
	uv_timer_t turn; /* for what must not be told from within a call */

	struct redis *subscribed;
	bool wanted, heard;
	struct cursor frontier, next_frontier; /* asked about, and to be asked about then; length 0: none */
	size_t confirmed; /* channels */
	struct err deaf; /* why not heard though wanted; code 0: nothing is wrong */
	char *own[OWN_NAMES]; /* owned: `"replica":"NAME"`, as it stands in payloads of this process */
	size_t own_next;
	struct buffer own_latest; /* the NAME of the latest */
	uint64_t heard_count, foreign_count, gap_count;

	uv_timer_t stop_timer;
	bool stopping, closing;
	int parts_left;
	void (*on_stopped)(void *owner);
	void *stop_owner;
};

static struct redis_bus *of(const struct bus *bus)
{
	return CONTAINER_OF((struct bus *)bus, struct redis_bus, bus);
}

static void stop_check(struct redis_bus *bus);

/* ---- commands ---- */

/* PUBLISH of the payload that stands in bus->payload; into bus->command. */
static struct bytes format_publish(struct redis_bus *bus, size_t channel)
{
	buffer_clear(&bus->command);
	buffer_append_string(&bus->command, bus->heads[channel]);
	buffer_printf(&bus->command, "$%zu\r\n", bus->payload.len);
	buffer_append_bytes(&bus->command, buffer_bytes(&bus->payload));
	buffer_append(&bus->command, "\r\n", 2);
	return buffer_bytes(&bus->command);
}

static struct bytes format_add(struct redis_bus *bus, enum event_kind kind)
{
	const char *name = event_kind_name(kind);
	buffer_clear(&bus->command);
	buffer_append_string(&bus->command, bus->stream_head);
	buffer_printf(&bus->command, "$%zu\r\n%s\r\n$7\r\npayload\r\n$%zu\r\n", strlen(name), name, bus->payload.len);
	buffer_append_bytes(&bus->command, buffer_bytes(&bus->payload));
	buffer_append(&bus->command, "\r\n", 2);
	return buffer_bytes(&bus->command);
}

/* ---- the outbox ---- */

static size_t outbox_size(const struct redis_bus *bus)
{
	return bus->outbox.len - bus->outbox_head;
}

static void outbox_clear(struct redis_bus *bus)
{
	buffer_fini(&bus->outbox);
	bus->outbox_head = 0;
}

static void outbox_add(struct redis_bus *bus, uint64_t tag, struct bytes command)
{
	const struct record record = { tag, command.len };
	/* What has been sent is forgotten when it is most of it. */
	if (bus->outbox_head > bus->outbox.len / 2) {
		buffer_consume(&bus->outbox, bus->outbox_head);
		bus->outbox_head = 0;
	}
	buffer_append(&bus->outbox, &record, sizeof(record));
	buffer_append_bytes(&bus->outbox, command);
}

static void outbox_send(struct redis_bus *bus)
{
	while (bus->state == CURRENT && outbox_size(bus) && redis_is_up(bus->publishing) &&
		redis_in_flight(bus->publishing) < WINDOW) {
		struct record record;
		memcpy(&record, bus->outbox.data + bus->outbox_head, sizeof(record));
		const char *command = bus->outbox.data + bus->outbox_head + sizeof(record);
		redis_command_formatted(bus->publishing, record.tag, (struct bytes){ command, record.len });
		bus->outbox_head += sizeof(record) + record.len;
	}
	if (!outbox_size(bus) && bus->outbox.len) {
		if (bus->outbox.capacity > SCRATCH_KEPT)
			outbox_clear(bus);
		buffer_clear(&bus->outbox);
		bus->outbox_head = 0;
	}
}

static void bus_send(struct redis_bus *bus, uint64_t tag, struct bytes command)
{
	if (bus->state == CURRENT && !outbox_size(bus) && redis_in_flight(bus->publishing) < WINDOW)
		redis_command_formatted(bus->publishing, tag, command);
	else
		outbox_add(bus, tag, command);
}

/* ---- behind, and catching up ---- */

static void on_turn(uv_timer_t *timer);

static void fall_behind(struct redis_bus *bus)
{
	if (bus->state == CURRENT)
		bus->gap_count++;
	bus->state = BEHIND;
	bus->overflow = bus->in_batch = bus->empty_batch = false;
	outbox_clear(bus);
}

static void ask(struct redis_bus *bus)
{
	bus->state = CATCHING_UP;
	bus->asked_at = bus->taken;
	bus->overflow = false;
	outbox_clear(bus);
	if (bus->notices->on_behind)
		bus->notices->on_behind(bus->owner);
}

/* Once nothing is on its way any more, so that no earlier answer is taken for a later one's. */
static void ask_if_behind(struct redis_bus *bus)
{
	if (bus->state == BEHIND && redis_is_up(bus->publishing) && !redis_in_flight(bus->publishing) && !bus->stopping)
		ask(bus);
}

static void watermark_to(struct redis_bus *bus, uint64_t left)
{
	bus->left = left;
	if (left < bus->mark.tag)
		return;
	bus->published = left == bus->taken ? bus->latest : bus->mark.cursor;
	bus->mark = left == bus->taken ? (struct mark){ 0 } : (struct mark){ bus->taken, bus->latest };
}

static void batch_left(struct redis_bus *bus)
{
	bus->in_batch = bus->empty_batch = false;
	bus->why = (struct err){ 0 };
	bool closed = bus->state == CATCHING_UP && bus->last_batch;
	if (closed && !bus->overflow) {
		bus->state = CURRENT;
		watermark_to(bus, bus->asked_at);
		outbox_send(bus);
	}
	if (bus->notices->on_republished)
		bus->notices->on_republished(bus->owner);
	/* What has left is not to be sent again: the listener goes on from there. */
	if (closed && bus->overflow)
		ask(bus);
}

static void on_turn(uv_timer_t *timer)
{
	struct redis_bus *bus = timer->data;
	if (bus->empty_batch && redis_is_up(bus->publishing))
		batch_left(bus);
	ask_if_behind(bus);
	stop_check(bus);
}

static void turn_soon(struct redis_bus *bus)
{
	if (!bus->closing)
		uv_timer_start(&bus->turn, on_turn, 0, 0);
}

/* ---- the publishing connection ---- */

static void on_publishing_state(void *owner, bool up, const struct err *why_not)
{
	struct redis_bus *bus = owner;
	if (up) {
		/* An error that Redis answered is mended only when it answers otherwise. */
		if (bus->why.code != -EREMOTEIO)
			bus->why = (struct err){ 0 };
		log_event(bus->log, LOG_INFO, "Redis is there", L_INT("protocol", redis_protocol(bus->publishing)));
		ask_if_behind(bus);
		return;
	}
	if (bus->why.code == 0 || strcmp(bus->why.message, why_not->message) != 0)
		log_event(bus->log, LOG_ERROR, "Redis is away: events wait in the store", L_ERR(why_not));
	bus->why = *why_not;
	/* Where every durable event has been answered only live ones wait. They go never, as those that come from now on: left in the outbox
	 * they would hold back what is published after them, until an answer that nobody was asked for. */
	if (bus->state != CURRENT || bus->taken > bus->left || bus->in_batch)
		fall_behind(bus);
	else
		outbox_clear(bus);
	stop_check(bus);
}

static void on_publishing_answer(void *owner, uint64_t tag, struct bytes error)
{
	struct redis_bus *bus = owner;
	if (error.data) {
		struct err why;
		err_set(&why, -EREMOTEIO, "Redis refused an event: %.*s", (int)(error.len < 160 ? error.len : 160),
			error.data);
		redis_fail(bus->publishing, &why);
		return;
	}
	if (bus->why.code)
		bus->why = (struct err){ 0 };
	if (tag == TAG_BATCH)
		batch_left(bus);
	else if (tag)
		watermark_to(bus, tag);
	outbox_send(bus);
	ask_if_behind(bus);
	stop_check(bus);
}

/* ---- publishing ---- */

/* Remembers whom this process publishes as, to know again what comes back by the subscription. */
static void own_note(struct redis_bus *bus, struct bytes publisher)
{
	struct buffer text = { 0 };
	struct json json = JSON_TO(&text);
	if (!publisher.data || bytes_equal(publisher, buffer_bytes(&bus->own_latest)))
		return;
	buffer_clear(&bus->own_latest);
	buffer_append_bytes(&bus->own_latest, publisher);
	json_member_string(&json, "replica", publisher);
	buffer_append_char(&text, 0);
	for (size_t i = 0; i < OWN_NAMES; i++) {
		if (!bus->own[i] || strcmp(bus->own[i], text.data) != 0)
			continue;
		buffer_fini(&text);
		return;
	}
	free(bus->own[bus->own_next]);
	bus->own[bus->own_next] = text.data;
	bus->own_next = (bus->own_next + 1) % OWN_NAMES;
}

static void payload_clear(struct redis_bus *bus)
{
	if (bus->payload.capacity > SCRATCH_KEPT) {
		buffer_fini(&bus->payload);
		buffer_fini(&bus->command);
	}
	buffer_clear(&bus->payload);
}

static void event_send(struct redis_bus *bus, const struct event *event, uint64_t tag)
{
	payload_clear(bus);
	form_event(&bus->payload, event);
	if (bus->stream_head)
		bus_send(bus, TAG_NONE, format_add(bus, event->kind));
	bool aside = event->published && bus->channel_count == CHANNEL_COUNT;
	bus_send(bus, tag, format_publish(bus, aside ? CHANNEL_ASIDE : (size_t)event->kind));
}

static void redis_bus_publish(struct bus *self, const struct event *events, size_t count)
{
	struct redis_bus *bus = of(self);
	bus->local->ops->publish(bus->local, events, count);
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || events[i].publisher.data != events[i - 1].publisher.data)
			own_note(bus, events[i].publisher);
		bus->taken++;
		bus->latest = events[i].cursor;
		if (!bus->mark.tag)
			bus->mark = (struct mark){ bus->taken, bus->latest };
		if (!redis_is_up(bus->publishing))
			fall_behind(bus);
		if (bus->state == BEHIND || bus->overflow)
			continue;
		event_send(bus, &events[i], bus->taken);
		if (outbox_size(bus) <= OUTBOX_MAX)
			continue;
		if (bus->state == CATCHING_UP) {
			bus->overflow = true;
			outbox_clear(bus);
		} else {
			fall_behind(bus);
			turn_soon(bus);
		}
	}
}

static void redis_bus_publish_live(struct bus *self, const struct live_event *events, size_t count)
{
	struct redis_bus *bus = of(self);
	bus->local->ops->publish_live(bus->local, events, count);
	for (size_t i = 0; i < count; i++) {
		/* They are kept nowhere: what cannot go now goes never. */
		if (!redis_is_up(bus->publishing) || bus->state == BEHIND || bus->overflow ||
			outbox_size(bus) > OUTBOX_MAX / 2)
			continue;
		if (i == 0)
			own_note(bus, events[i].publisher);
		payload_clear(bus);
		form_live_event(&bus->payload, &events[i]);
		bus_send(bus, TAG_NONE, format_publish(bus, events[i].kind));
	}
}

static void redis_bus_republish(struct bus *self, const struct event *events, size_t count, bool last)
{
	struct redis_bus *bus = of(self);
	/* What was not sent is asked for again. */
	if (!redis_is_up(bus->publishing))
		fall_behind(bus);
	if (bus->state == BEHIND)
		return;
	bus->in_batch = true;
	bus->last_batch = last;
	for (size_t i = 0; i < count; i++) {
		payload_clear(bus);
		form_event(&bus->payload, &events[i]);
		if (bus->stream_head)
			redis_command_formatted(bus->publishing, TAG_NONE, format_add(bus, events[i].kind));
		redis_command_formatted(
			bus->publishing, i + 1 == count ? TAG_BATCH : TAG_NONE, format_publish(bus, events[i].kind));
	}
	bus->empty_batch = count == 0;
	if (bus->empty_batch)
		turn_soon(bus);
}

static void redis_bus_tell(struct bus *self, const struct event *events, size_t count)
{
	of(self)->local->ops->tell(of(self)->local, events, count);
}

/* ---- the subscription ---- */

#define TAG_FRONTIER UINT64_MAX

/* Its answer comes behind everything that was published before, and not at all over a connection that brings nothing any more. */
static void frontier_ask(struct redis_bus *bus)
{
	redis_command(bus->subscribed, TAG_FRONTIER, &BYTES_LITERAL("PING"), 1);
}

/* What is dropped because the connection has just been lost is told anew with what comes later. */
static void redis_bus_frontier(struct bus *self, const struct cursor *frontier)
{
	struct redis_bus *bus = of(self);
	if (!bus->heard) {
		bus->local->ops->frontier(bus->local, frontier);
	} else if (bus->frontier.length > 0) {
		bus->next_frontier = *frontier;
	} else if (redis_is_up(bus->subscribed)) {
		bus->frontier = *frontier;
		frontier_ask(bus);
	}
}

static void frontier_forget(struct redis_bus *bus)
{
	bus->frontier.length = bus->next_frontier.length = 0;
}

static void frontier_answered(struct redis_bus *bus)
{
	bus->local->ops->frontier(bus->local, &bus->frontier);
	bus->frontier = bus->next_frontier;
	bus->next_frontier.length = 0;
	if (bus->frontier.length > 0)
		frontier_ask(bus);
}

static void tell_heard(struct redis_bus *bus, bool heard)
{
	/* What was published before is in the store. */
	if (heard)
		local_bus_gap(bus->local);
	bus->heard = heard;
	if (bus->notices->on_heard)
		bus->notices->on_heard(bus->owner, heard);
}

static void on_subscribed_state(void *owner, bool up, const struct err *why_not)
{
	struct redis_bus *bus = owner;
	bus->confirmed = 0;
	frontier_forget(bus);
	if (!up) {
		bus->deaf = *why_not;
		tell_heard(bus, false);
		return;
	}
	for (size_t i = 0; i < bus->channel_count; i++)
		redis_command(bus->subscribed, i,
			(struct bytes[]){ BYTES_LITERAL("SUBSCRIBE"), bytes_of(bus->channels[i]) }, 2);
}

static void on_subscribed_answer(void *owner, uint64_t tag, struct bytes error)
{
	struct redis_bus *bus = owner;
	if (tag == TAG_FRONTIER) { /* refused or not */
		frontier_answered(bus);
		return;
	}
	if (error.data) {
		struct err why;
		err_set(&why, -EACCES, "Redis refused a subscription: %.*s", (int)(error.len < 160 ? error.len : 160),
			error.data);
		redis_fail(bus->subscribed, &why);
		return;
	}
	if (++bus->confirmed < bus->channel_count)
		return;
	bus->deaf = (struct err){ 0 };
	tell_heard(bus, true);
}

static bool is_own(const struct redis_bus *bus, struct bytes payload)
{
	/* Quotes within strings are escaped, so what is found can only be a member. */
	for (size_t i = 0; i < OWN_NAMES; i++)
		if (bus->own[i] && memmem(payload.data, payload.len, bus->own[i], strlen(bus->own[i])))
			return true;
	return false;
}

static void on_message(void *owner, struct bytes channel, struct bytes payload)
{
	struct redis_bus *bus = owner;
	struct arena arena = { 0 };
	struct event event;
	struct live_event live;
	size_t kind = 0;
	while (kind < bus->channel_count && !bytes_is(channel, bus->channels[kind]))
		kind++;
	if (kind == bus->channel_count || is_own(bus, payload))
		return;
	bool is_durable = kind < EVENT_KIND_DURABLE_COUNT || kind == CHANNEL_ASIDE;
	if (is_durable && form_event_parse(payload, &arena, &event) && (event.kind == kind || kind == CHANNEL_ASIDE)) {
		bus->local->ops->tell(bus->local, &event, 1);
		bus->heard_count++;
	} else if (!is_durable && form_live_event_parse(payload, &arena, &live) && live.kind == kind) {
		bus->local->ops->publish_live(bus->local, &live, 1);
		bus->heard_count++;
	} else {
		bus->foreign_count++;
	}
	arena_fini(&arena);
}

static void redis_bus_follow(struct bus *self, bool wanted)
{
	struct redis_bus *bus = of(self);
	if (wanted == bus->wanted || bus->stopping)
		return;
	bus->wanted = wanted;
	if (wanted) {
		redis_open(bus->subscribed);
		return;
	}
	redis_close(bus->subscribed);
	frontier_forget(bus);
	bus->deaf = (struct err){ 0 };
	bus->heard = false;
}

static void redis_bus_subscribe(struct bus *self, struct bus_subscriber *subscriber)
{
	of(self)->local->ops->subscribe(of(self)->local, subscriber);
}

static void redis_bus_unsubscribe(struct bus *self, struct bus_subscriber *subscriber)
{
	of(self)->local->ops->unsubscribe(of(self)->local, subscriber);
}

/* ---- life ---- */

static void redis_bus_status(const struct bus *self, struct bus_status *ret_status)
{
	const struct redis_bus *bus = of(self);
	char address[REDIS_ADDRESS_TEXT_SIZE];
	struct err err = bus->why.code ? bus->why : bus->wanted ? bus->deaf : (struct err){ 0 };
	*ret_status = (struct bus_status){
		.kind = "redis",
		.healthy = err.code == 0,
		.remote = true,
		.err = err,
		.published = bus->published,
		.taken = bus->taken,
		.left = bus->left,
		.heard = bus->heard_count,
		.foreign = bus->foreign_count,
		.gaps = bus->gap_count,
	};
	snprintf(ret_status->description, sizeof(ret_status->description), "%s",
		redis_address_format(&bus->address, address));
}

int redis_bus_protocol(const struct bus *self)
{
	return redis_protocol(of(self)->publishing);
}

static int redis_bus_start(struct bus *self, const struct bus_notices *notices, void *owner, struct err *err)
{
	struct redis_bus *bus = of(self);
	bus->notices = notices;
	bus->owner = owner;
	redis_open(bus->publishing);
	return bus->local->ops->start(bus->local, notices, owner, err);
}

static void part_closed(struct redis_bus *bus)
{
	if (--bus->parts_left == 0)
		bus->on_stopped(bus->stop_owner);
}

static void on_part_closed(void *owner)
{
	part_closed(owner);
}

static void on_handle_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

/* Ends when all that was published has left, or cannot leave now, or the time is up. */
static void stop_now(struct redis_bus *bus)
{
	uv_timer_t *timers[] = { &bus->turn, &bus->stop_timer };
	bus->closing = true;
	bus->parts_left = 2 + 1 + (int)ARRAY_SIZE(timers);
	for (size_t i = 0; i < ARRAY_SIZE(timers); i++)
		uv_close((uv_handle_t *)timers[i], on_handle_closed);
	redis_free(bus->publishing, on_part_closed, bus);
	redis_free(bus->subscribed, on_part_closed, bus);
	bus->local->ops->stop(bus->local, on_part_closed, bus);
}

static void stop_check(struct redis_bus *bus)
{
	bool on_its_way = redis_is_up(bus->publishing) && bus->state != BEHIND &&
			  (redis_in_flight(bus->publishing) || (bus->state == CURRENT && outbox_size(bus)));
	if (bus->stopping && !bus->closing && !on_its_way)
		stop_now(bus);
}

static void on_stop_over(uv_timer_t *timer)
{
	struct redis_bus *bus = timer->data;
	if (!bus->closing)
		stop_now(bus);
}

static void redis_bus_stop(struct bus *self, void (*on_stopped)(void *owner), void *owner)
{
	struct redis_bus *bus = of(self);
	bus->stopping = true;
	bus->on_stopped = on_stopped;
	bus->stop_owner = owner;
	uv_update_time(bus->loop); /* of what was published in this turn the time is not taken away */
	uv_timer_start(&bus->stop_timer, on_stop_over, STOP_MS, 0);
	turn_soon(bus);
}

static void redis_bus_free(struct bus *self)
{
	struct redis_bus *bus = of(self);
	bus->local->ops->free(bus->local);
	for (size_t i = 0; i < CHANNEL_COUNT; i++) {
		free(bus->channels[i]);
		free(bus->heads[i]);
	}
	for (size_t i = 0; i < OWN_NAMES; i++)
		free(bus->own[i]);
	free(bus->stream_head);
	buffer_fini(&bus->outbox);
	buffer_fini(&bus->payload);
	buffer_fini(&bus->command);
	buffer_fini(&bus->own_latest);
	free(bus);
}

static const struct bus_ops ops = {
	.start = redis_bus_start,
	.stop = redis_bus_stop,
	.free = redis_bus_free,
	.status = redis_bus_status,
	.publish = redis_bus_publish,
	.publish_live = redis_bus_publish_live,
	.republish = redis_bus_republish,
	.tell = redis_bus_tell,
	.frontier = redis_bus_frontier,
	.follow = redis_bus_follow,
	.subscribe = redis_bus_subscribe,
	.unsubscribe = redis_bus_unsubscribe,
};

/* The text of a buffer, terminated; the caller's. */
static char *buffer_take(struct buffer *buffer)
{
	buffer_append_char(buffer, 0);
	return buffer->data;
}

static void channels_make(struct redis_bus *bus, const char *prefix)
{
	for (size_t i = 0; i < bus->channel_count; i++) {
		struct buffer channel = { 0 }, head = { 0 };
		if (i == CHANNEL_ASIDE)
			buffer_append_string(&channel, CHANNEL_ASIDE_NAME);
		else
			buffer_printf(&channel, "%sevaluation:%s", prefix, event_kind_name((enum event_kind)i));
		bus->channels[i] = buffer_take(&channel);
		buffer_printf(
			&head, "*3\r\n$7\r\nPUBLISH\r\n$%zu\r\n%s\r\n", strlen(bus->channels[i]), bus->channels[i]);
		bus->heads[i] = buffer_take(&head);
	}
}

/* XADD key MAXLEN ~ number * kind KIND payload PAYLOAD, up to the value of kind. */
static void stream_make(struct redis_bus *bus, const char *prefix, const char *stream, int64_t max)
{
	struct buffer head = { 0 }, key = { 0 };
	char number[24];
	if (!stream)
		return;
	snprintf(number, sizeof(number), "%lld", (long long)max);
	buffer_printf(&key, "%s%s", prefix, stream);
	buffer_printf(&head,
		"*10\r\n$4\r\nXADD\r\n$%zu\r\n%.*s\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$%zu\r\n%s\r\n$1\r\n*\r\n"
		"$4\r\nkind\r\n",
		key.len, (int)key.len, key.data, strlen(number), number);
	buffer_fini(&key);
	bus->stream_head = buffer_take(&head);
}

static void timer_make(struct redis_bus *bus, uv_timer_t *timer)
{
	uv_timer_init(bus->loop, timer);
	timer->data = bus;
}

struct bus *redis_bus_new(const struct redis_bus_options *options)
{
	struct redis_bus *bus = alloc(sizeof(*bus));
	const char *prefix = options->prefix ? options->prefix : "";
	bus->bus.ops = &ops;
	bus->loop = options->loop;
	bus->log = options->log;
	bus->address = *options->address;
	err_set(&bus->why, -ENOTCONN, "it is being connected to");
	bus->local = local_bus_new(options->loop);
	bus->channel_count = options->jobs_publish && !*prefix ? CHANNEL_COUNT : EVENT_KIND_COUNT;
	channels_make(bus, prefix);
	stream_make(bus, prefix, options->stream, options->stream_max);
	timer_make(bus, &bus->turn);
	timer_make(bus, &bus->stop_timer);
	const struct redis_options publishing = {
		.loop = options->loop,
		.log = options->log,
		.address = &bus->address,
		.purpose = "publish",
		.on_state = on_publishing_state,
		.on_answer = on_publishing_answer,
		.owner = bus,
	};
	const struct redis_options subscribed = {
		.loop = options->loop,
		.log = options->log,
		.address = &bus->address,
		.purpose = "subscribe",
		.on_state = on_subscribed_state,
		.on_answer = on_subscribed_answer,
		.on_message = on_message,
		.owner = bus,
	};
	bus->publishing = redis_new(&publishing);
	bus->subscribed = redis_new(&subscribed);
	return &bus->bus;
}
