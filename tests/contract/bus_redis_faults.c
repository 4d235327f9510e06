/* What the bus over Redis does beyond the contract of every bus: other replicas, Redis being away in all its ways,
 * protocols, rights, TLS. The record of what arrived is Redis' own: a stream in a file that survives a kill. */
#include <hiredis/hiredis.h>
#include <signal.h>

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "bus/redis.h"
#include "redis_server.h"
#include "task/forms.h"

#define DEADLINE_MS 180000
#define EVENTS_MAX 30000
#define PAGE 200
#define PAGE_BYTES ((size_t)512 << 10) /* of output, as stores give them */
#define DURABLE " --appendonly yes --appendfsync always"

static struct log quiet = { .fd = -1, .level = LOG_ERROR };

/* A replica: its bus, what it published (which the store would have), and what its subscriber was told. */
struct replica {
	struct bus *bus;
	struct world *world;
	const char *name;
	uint32_t published;
	uv_timer_t read;
	bool read_all; /* the listener has read to the end of what there was */
	bool walked; /* and all of it has left */
	size_t resumed; /* asked for more after that */
	size_t read_from;
	int behind, heard_changes;
	bool heard;
	struct bus_subscriber subscriber;
	size_t events, live, gaps;
	struct cursor frontier;
	size_t events_before; /* the frontier was told */
	uint32_t last_sequence;
	struct event last;
	struct arena arena; /* what `last` points to */
	char last_live[64];
	bool stopped;
};

struct world {
	uv_loop_t loop;
	uv_timer_t deadline;
	bool late;
	struct redis_server server;
};

static char output[EVENT_OUTPUT_MAX];
static size_t output_size; /* of every event that is published */

static struct event event_of(const struct replica *replica, uint32_t sequence)
{
	return (struct event){
		.kind = EVENT_COMPLETED,
		.task_id = { { 1, 2, 3 } },
		.sequence = sequence,
		.run = 1,
		.attempt = 2,
		.timestamp_us = 1700000000123456,
		.cursor = { .length = 4,
			.bytes = { 0, (uint8_t)(sequence >> 16), (uint8_t)(sequence >> 8), (uint8_t)sequence } },
		.tenant = BYTES_LITERAL("t\"enant"),
		.eval_id = BYTES_LITERAL("mine"),
		.batch_id = { { 9 } },
		.data = BYTES_LITERAL("\"exit_code\":0"),
		.output = { output, output_size },
		.publisher = bytes_of(replica->name),
	};
}

/* ---- the replica's listener ---- */

static struct bus_status status_of(const struct replica *replica)
{
	struct bus_status status;
	replica->bus->ops->status(replica->bus, &status);
	return status;
}

static void on_read(uv_timer_t *timer)
{
	struct replica *replica = timer->data;
	struct event page[PAGE];
	size_t count = 0;
	while (count < PAGE && count * output_size < PAGE_BYTES && replica->read_from + count < replica->published) {
		page[count] = event_of(replica, (uint32_t)(replica->read_from + count + 1));
		count++;
	}
	replica->read_from += count;
	replica->read_all = replica->read_from == replica->published;
	replica->bus->ops->republish(replica->bus, page, count, replica->read_all);
}

static void on_behind(void *owner)
{
	struct replica *replica = owner;
	replica->behind++;
	/* What it has read to the end, and heard that it left, is not to be sent again. */
	replica->resumed += replica->walked;
	if (!replica->walked || replica->read_from < status_of(replica).left)
		replica->read_from = (size_t)status_of(replica).left;
	replica->walked = false;
	uv_timer_start(&replica->read, on_read, 1, 0);
}

static void on_republished(void *owner)
{
	struct replica *replica = owner;
	replica->walked = replica->read_all;
	if (!replica->read_all)
		uv_timer_start(&replica->read, on_read, 1, 0);
}

static void on_heard(void *owner, bool heard)
{
	struct replica *replica = owner;
	replica->heard = heard;
	replica->heard_changes++;
}

static const struct bus_notices notices = {
	.on_behind = on_behind,
	.on_republished = on_republished,
	.on_heard = on_heard,
};

static void on_events(void *owner, const struct event *events, size_t count)
{
	struct replica *replica = owner;
	for (size_t i = 0; i < count; i++) {
		replica->events++;
		arena_fini(&replica->arena);
		replica->last = events[i];
		replica->last.tenant = arena_bytes(&replica->arena, events[i].tenant);
		replica->last.eval_id = arena_bytes(&replica->arena, events[i].eval_id);
		replica->last.publisher = arena_bytes(&replica->arena, events[i].publisher);
		replica->last.payload = arena_bytes(&replica->arena, events[i].payload);
		replica->last_sequence = events[i].sequence;
	}
}

static void on_live(void *owner, const struct live_event *events, size_t count)
{
	struct replica *replica = owner;
	replica->live += count;
	snprintf(replica->last_live, sizeof(replica->last_live), "%.*s", (int)events->data.len, events->data.data);
}

static void on_gap(void *owner)
{
	((struct replica *)owner)->gaps++;
}

static void on_frontier(void *owner, const struct cursor *frontier)
{
	struct replica *replica = owner;
	replica->frontier = *frontier;
	replica->events_before = replica->events;
}

/* ---- the world ---- */

static void on_deadline(uv_timer_t *timer)
{
	((struct world *)timer->data)->late = true;
}

static void world_open(struct world *world, const char *extra, bool tls)
{
	*world = (struct world){ 0 };
	output_size = 0;
	snprintf(world->server.extra, sizeof(world->server.extra), "%s", extra);
	redis_server_start(&world->server, tls);
	REQUIRE(uv_loop_init(&world->loop) == 0);
	uv_timer_init(&world->loop, &world->deadline);
	world->deadline.data = world;
	uv_timer_start(&world->deadline, on_deadline, DEADLINE_MS, 0);
}

static void world_close(struct world *world)
{
	CHECK(!world->late);
	uv_close((uv_handle_t *)&world->deadline, NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&world->loop), 0);
	redis_server_stop(&world->server);
}

/* Turns until the condition holds, or the deadline has come. */
#define UNTIL(world, condition) \
	do { \
		while (!(condition) && !(world)->late) \
			uv_run(&(world)->loop, UV_RUN_ONCE); \
		CHECK(condition); \
	} while (0)

static void replica_open(
	struct world *world, struct replica *replica, const char *name, const struct redis_address *address)
{
	struct err err = { 0 };
	const struct redis_bus_options options = {
		.loop = &world->loop,
		.log = &quiet,
		.address = address,
		.prefix = "x:",
		.stream = "evaluation:events",
		.stream_max = 1000000,
	};
	*replica = (struct replica){ .world = world, .name = name };
	replica->bus = redis_bus_new(&options);
	replica->subscriber = (struct bus_subscriber){ .on_events = on_events,
		.on_live = on_live,
		.on_gap = on_gap,
		.on_frontier = on_frontier,
		.owner = replica };
	uv_timer_init(&world->loop, &replica->read);
	replica->read.data = replica;
	REQUIRE(replica->bus->ops->start(replica->bus, &notices, replica, &err) == 0);
	replica->bus->ops->subscribe(replica->bus, &replica->subscriber);
}

static void on_stopped(void *owner)
{
	((struct replica *)owner)->stopped = true;
}

static void replica_close(struct replica *replica)
{
	replica->bus->ops->unsubscribe(replica->bus, &replica->subscriber);
	uv_close((uv_handle_t *)&replica->read, NULL);
	replica->bus->ops->stop(replica->bus, on_stopped, replica);
	CHECK(!replica->stopped);
	UNTIL(replica->world, replica->stopped);
	replica->bus->ops->free(replica->bus);
	arena_fini(&replica->arena);
}

static void world_open_one(struct world *world, struct replica *a, const char *extra)
{
	world_open(world, extra, false);
	const struct redis_address address = redis_server_address(&world->server);
	replica_open(world, a, "a#1", &address);
}

/* Two, of which the second hears what the first one publishes. */
static void world_open_two(struct world *world, struct replica *a, struct replica *b, const char *extra)
{
	world_open_one(world, a, extra);
	const struct redis_address address = redis_server_address(&world->server);
	replica_open(world, b, "b#1", &address);
	b->bus->ops->follow(b->bus, true);
	UNTIL(world, b->heard && status_of(a).healthy);
}

static void world_close_one(struct world *world, struct replica *a)
{
	replica_close(a);
	world_close(world);
}

static void world_close_two(struct world *world, struct replica *a, struct replica *b)
{
	replica_close(a);
	world_close_one(world, b);
}

static void publish(struct replica *replica, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct event event = event_of(replica, ++replica->published);
		replica->bus->ops->publish(replica->bus, &event, 1);
	}
}

/* Live events with so much output in all, at least. */
static void print(struct replica *replica, size_t size)
{
	const struct live_event event = { .kind = EVENT_LOG,
		.task_id = { { 1 } },
		.run = 1,
		.attempt = 1,
		.stream = 1,
		.tenant = BYTES_LITERAL("t"),
		.publisher = bytes_of(replica->name),
		.data = { output, sizeof(output) } };
	memset(output, 'p', sizeof(output));
	for (size_t printed = 0; printed < size; printed += sizeof(output))
		replica->bus->ops->publish_live(replica->bus, &event, 1);
}

static bool all_left(const struct replica *replica)
{
	struct bus_status status = status_of(replica);
	return status.healthy && status.left == status.taken && status.taken == replica->published;
}

/* The stream holds each sequence from 1 on, and each came for the first time behind the one before. Gives how many
 * entries there are. */
static size_t check_stream(const struct world *world, uint32_t published)
{
	redisContext *context = redisConnectUnix(world->server.socket);
	REQUIRE(context && !context->err);
	redisReply *entries = redisCommand(context, "XRANGE x:evaluation:events - +");
	REQUIRE(entries && entries->type == REDIS_REPLY_ARRAY);
	uint32_t next = 1;
	size_t count = entries->elements;
	for (size_t i = 0; i < count; i++) {
		const redisReply *fields = entries->element[i]->element[1];
		struct arena arena = { 0 };
		struct event event = { 0 };
		CHECK_STR(fields->element[1]->str, "completed");
		CHECK(form_event_parse(
			(struct bytes){ fields->element[3]->str, fields->element[3]->len }, &arena, &event));
		if (event.sequence > next)
			CHECK_INT(event.sequence, next);
		next = event.sequence >= next ? event.sequence + 1 : next;
		arena_fini(&arena);
	}
	CHECK_INT(next, published + 1);
	freeReplyObject(entries);
	redisFree(context);
	return count;
}

/* ---- tests ---- */

/* Each hears the other. */
static void world_open_hearing(struct world *world, struct replica *a, struct replica *b, int protocol)
{
	world_open(world, "", false);
	struct redis_address address = redis_server_address(&world->server);
	address.protocol = protocol;
	replica_open(world, a, "a#1", &address);
	replica_open(world, b, "b#1", &address);
	a->bus->ops->follow(a->bus, true);
	b->bus->ops->follow(b->bus, true);
	UNTIL(world, a->heard && b->heard && all_left(a) && b->gaps == 1);
	CHECK_INT(redis_bus_protocol(a->bus), protocol);
}

static void others_hear(int protocol)
{
	struct world world;
	struct replica a, b;
	world_open_hearing(&world, &a, &b, protocol);
	publish(&a, 500);
	UNTIL(&world, b.events == 500 && all_left(&a));
	CHECK_INT(a.behind, 0);
	CHECK_INT(b.last_sequence, 500);
	const struct event sent = event_of(&a, 500);
	CHECK_INT(b.last.kind, sent.kind);
	CHECK_INT(b.last.run, 1);
	CHECK_INT(b.last.attempt, 2);
	CHECK_INT(b.last.timestamp_us, sent.timestamp_us);
	CHECK_INT(uuid_compare(&b.last.task_id, &sent.task_id), 0);
	CHECK_INT(uuid_compare(&b.last.batch_id, &sent.batch_id), 0);
	CHECK_BYTES(b.last.tenant, "t\"enant");
	CHECK_BYTES(b.last.eval_id, "mine");
	CHECK_BYTES(b.last.publisher, "a#1");
	CHECK(memcmp(&b.last.cursor, &sent.cursor, sizeof(sent.cursor)) == 0);
	struct buffer payload = { 0 };
	form_event(&payload, &sent);
	CHECK_BYTES(b.last.payload, buffer_bytes(&payload));
	buffer_fini(&payload);

	/* Live events too, and nobody is told of its own twice. */
	const struct live_event live = { .kind = EVENT_LOG,
		.task_id = { { 1 } },
		.run = 1,
		.attempt = 1,
		.stream = 2,
		.tenant = BYTES_LITERAL("t"),
		.publisher = BYTES_LITERAL("b#1"),
		.data = BYTES_LITERAL("printed") };
	b.bus->ops->publish_live(b.bus, &live, 1);
	publish(&b, 1);
	UNTIL(&world, a.live == 1 && a.events == 501);
	CHECK_STR(a.last_live, "printed");
	publish(&a, 1);
	UNTIL(&world, b.events == 502);
	CHECK_INT(b.live, 1);
	CHECK_INT(status_of(&a).foreign + status_of(&b).foreign, 0);
	CHECK_INT(status_of(&a).heard, 2);
	CHECK_INT(status_of(&b).heard, 501);
	world_close_two(&world, &a, &b);
}

TEST(others_hear_what_one_publishes)
{
	others_hear(3);
}

TEST(and_over_the_older_protocol)
{
	others_hear(2);
}

static void frontier(struct replica *replica, uint8_t place)
{
	replica->bus->ops->frontier(replica->bus, &(struct cursor){ .length = 1, .bytes = { place } });
}

static void the_frontier_is_told(int protocol)
{
	struct world world;
	struct replica a, b;
	world_open_hearing(&world, &a, &b, protocol);
	publish(&a, 50);
	UNTIL(&world, all_left(&a));
	frontier(&b, 1);
	frontier(&b, 2); /* … and 2 and 3 are one */
	frontier(&b, 3);
	UNTIL(&world, b.frontier.length == 1 && b.frontier.bytes[0] == 3);
	CHECK_INT(b.events_before, 50);
	/* Over a connection that brings nothing, what others publish meanwhile must not seem told. */
	kill(world.server.pid, SIGSTOP);
	frontier(&b, 4);
	UNTIL(&world, !b.heard);
	CHECK_INT(b.frontier.bytes[0], 3);
	/* Not heard, it is of what was read from the store. */
	frontier(&b, 5);
	UNTIL(&world, b.frontier.bytes[0] == 5);
	kill(world.server.pid, SIGCONT);
	UNTIL(&world, b.heard);
	CHECK_INT(b.frontier.bytes[0], 5);
	frontier(&b, 6);
	UNTIL(&world, b.frontier.bytes[0] == 6);
	world_close_two(&world, &a, &b);
}

TEST(the_frontier_is_told_behind_what_others_have_published)
{
	the_frontier_is_told(3);
}

TEST(and_so_it_is_over_the_older_protocol)
{
	the_frontier_is_told(2);
}

TEST(what_is_published_before_there_is_a_connection_leaves_when_there_is)
{
	struct world world;
	struct replica a;
	world_open_one(&world, &a, "");
	CHECK(!status_of(&a).healthy);
	publish(&a, 300);
	UNTIL(&world, all_left(&a));
	CHECK_INT(a.behind, 1);
	CHECK_INT(a.events, 300); /* told here at once, and once */
	check_stream(&world, 300);
	world_close_one(&world, &a);
}

TEST(a_server_that_is_killed_and_comes_back_gets_all_in_order)
{
	struct world world;
	struct replica a, b;
	world_open_two(&world, &a, &b, DURABLE);
	for (int i = 0; i < 300; i++) {
		publish(&a, 20);
		if (i == 100)
			redis_server_kill(&world.server);
		if (i == 200)
			redis_server_restart(&world.server);
		uv_run(&world.loop, UV_RUN_NOWAIT);
		if (i == 150) {
			UNTIL(&world, !b.heard && !status_of(&a).healthy);
			CHECK(status_of(&a).err.message[0]);
			CHECK(status_of(&a).left < status_of(&a).taken);
		}
	}
	UNTIL(&world, all_left(&a));
	CHECK(a.behind >= 1);
	CHECK_INT(a.events, 6000);
	check_stream(&world, 6000);
	/* The other one knows that it missed something, and goes on. */
	UNTIL(&world, b.heard);
	CHECK_INT(b.gaps, 2);
	publish(&a, 1);
	UNTIL(&world, b.last_sequence == 6001);
	world_close_two(&world, &a, &b);
}

TEST(a_server_that_stands_still_costs_no_more_memory_than_the_outbox)
{
	struct world world;
	struct replica a;
	world_open_one(&world, &a, "");
	UNTIL(&world, status_of(&a).healthy);
	output_size = 2000;
	memset(output, 'x', output_size);
	kill(world.server.pid, SIGSTOP);
	for (int i = 0; i < 60; i++) {
		publish(&a, 200); /* 12,000 events, 2 × 29 MB as commands */
		uv_run(&world.loop, UV_RUN_NOWAIT);
	}
	CHECK_INT(status_of(&a).gaps, 1);
	kill(world.server.pid, SIGCONT);
	UNTIL(&world, all_left(&a));
	check_stream(&world, 12000);
	world_close_one(&world, &a);
}

/* It is there, and has taken ten events. */
static void world_open_current(struct world *world, struct replica *a)
{
	world_open_one(world, a, "");
	UNTIL(world, status_of(a).healthy);
	publish(a, 10);
	UNTIL(world, all_left(a));
}

/* Live events wait for a server that stands still, and are dropped with the connection. What is durable comes after it. */
TEST(live_events_that_waited_hold_up_nothing_after_the_connection_was_lost)
{
	struct world world;
	struct replica a;
	world_open_current(&world, &a);
	kill(world.server.pid, SIGSTOP);
	print(&a, (size_t)2 << 20); /* twice what may be on its way */
	UNTIL(&world, !status_of(&a).healthy);
	kill(world.server.pid, SIGCONT);
	UNTIL(&world, status_of(&a).healthy);
	publish(&a, 1);
	UNTIL(&world, all_left(&a));
	CHECK_INT(a.behind, 0);
	check_stream(&world, 11);
	world_close_one(&world, &a);
}

/* And goes on from where the listener has read to, or it would never be current where work comes as fast as events
 * leave. */
TEST(a_gap_that_outgrows_the_outbox_is_told_as_left_before_it_is_asked_for_again)
{
	struct world world;
	struct replica a;
	world_open_one(&world, &a, "");
	UNTIL(&world, status_of(&a).healthy);
	output_size = 2000;
	memset(output, 'x', output_size);
	redis_server_kill(&world.server);
	publish(&a, 200);
	UNTIL(&world, !status_of(&a).healthy);
	redis_server_restart(&world.server);
	UNTIL(&world, a.behind == 1);
	publish(&a, 4000); /* 19 MB as commands, while 200 events are caught up with */
	UNTIL(&world, all_left(&a));
	CHECK_INT(a.behind, 2);
	CHECK_INT(a.resumed, 1);
	check_stream(&world, 4200);
	world_close_one(&world, &a);
}

TEST(large_outputs_pass)
{
	struct world world;
	struct replica a, b;
	world_open_two(&world, &a, &b, "");
	output_size = sizeof(output);
	memset(output, 1, output_size); /* six bytes each in JSON */
	publish(&a, 30); /* more than the outbox holds */
	UNTIL(&world, all_left(&a) && b.last_sequence == 30);
	CHECK(b.last.payload.len > 6 * sizeof(output));
	check_stream(&world, 30);
	world_close_two(&world, &a, &b);
}

TEST(stopping_sends_what_is_on_its_way)
{
	struct world world;
	struct replica a;
	world_open_one(&world, &a, "");
	UNTIL(&world, status_of(&a).healthy);
	publish(&a, 3000);
	replica_close(&a);
	CHECK_INT(check_stream(&world, 3000), 3000);
	world_close(&world);
}

TEST(stopping_does_not_wait_for_a_server_that_is_away)
{
	struct world world;
	struct replica a;
	world_open(&world, "", false);
	const struct redis_address address = redis_server_address(&world.server);
	redis_server_kill(&world.server);
	replica_open(&world, &a, "a#1", &address);
	publish(&a, 10);
	UNTIL(&world, a.events == 10);
	CHECK(!status_of(&a).healthy);
	world_close_one(&world, &a);
}

TEST(what_is_none_of_ours_is_counted_and_not_told)
{
	static const char *const garbage[] = {
		"PUBLISH x:evaluation:queued hello",
		"PUBLISH x:evaluation:completed {\"eval_id\":\"1\",\"output\":\"seed\",\"exit_code\":0}",
		"PUBLISH x:evaluation:log []",
		"PUBLISH x:evaluation:log {\"kind\":\"log\"}",
	};
	struct world world;
	struct replica a, b;
	world_open_two(&world, &a, &b, "");
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++)
		CHECK_STR(redis_server_ask(&world.server, garbage[i]), "1");
	publish(&a, 1);
	UNTIL(&world, b.events == 1);
	CHECK_INT(status_of(&b).foreign, ARRAY_SIZE(garbage));
	CHECK_INT(b.live, 0);
	world_close_two(&world, &a, &b);
}

TEST(a_server_that_refuses_to_write_counts_as_away)
{
	struct world world;
	struct replica a;
	world_open_current(&world, &a);
	CHECK_STR(redis_server_ask(&world.server, "CONFIG SET min-replicas-to-write 1"), "OK");
	publish(&a, 10);
	UNTIL(&world, !status_of(&a).healthy && strstr(status_of(&a).err.message, "NOREPLICAS"));
	publish(&a, 10);
	UNTIL(&world, a.behind >= 2);
	CHECK(!status_of(&a).healthy);
	CHECK_STR(redis_server_ask(&world.server, "CONFIG SET min-replicas-to-write 0"), "OK");
	UNTIL(&world, all_left(&a));
	check_stream(&world, 30);
	world_close_one(&world, &a);
}

TEST(a_wrong_password_is_said_and_a_right_one_mends_it)
{
	struct world world;
	struct replica a, old;
	world_open(&world, "--requirepass secret", false);
	struct redis_address address = redis_server_address(&world.server);
	snprintf(address.password, sizeof(address.password), "wrong");
	replica_open(&world, &a, "a#1", &address);
	UNTIL(&world, strstr(status_of(&a).err.message, "WRONGPASS"));
	CHECK(!status_of(&a).healthy);
	CHECK(strstr(status_of(&a).err.message, "login"));
	publish(&a, 5);
	/* Who has logged in stays in: the password is changed by one who has. */
	redisContext *context = redisConnectUnix(world.server.socket);
	freeReplyObject(redisCommand(context, "AUTH secret"));
	freeReplyObject(redisCommand(context, "CONFIG SET requirepass wrong"));
	redisFree(context);
	UNTIL(&world, all_left(&a));
	/* Without one, by the older protocol: said too. */
	address.password[0] = 0;
	address.protocol = 2;
	replica_open(&world, &old, "b#1", &address);
	UNTIL(&world, strstr(status_of(&old).err.message, "NOAUTH"));
	replica_close(&old);
	world_close_one(&world, &a);
}

TEST(a_user_that_may_only_publish_and_subscribe_is_enough)
{
	struct world world;
	struct replica a, b;
	world_open(&world, "", false);
	CHECK_STR(
		redis_server_ask(&world.server,
			"ACL SETUSER bus on >pw resetchannels &x:evaluation:* ~x:evaluation:events +publish +subscribe "
			"+xadd"),
		"OK");
	CHECK_STR(redis_server_ask(&world.server, "ACL SETUSER default off"), "OK");
	struct redis_address address = redis_server_address(&world.server);
	snprintf(address.user, sizeof(address.user), "bus");
	snprintf(address.password, sizeof(address.password), "pw");
	replica_open(&world, &a, "a#1", &address);
	address.protocol = 2;
	replica_open(&world, &b, "b#1", &address);
	b.bus->ops->follow(b.bus, true);
	UNTIL(&world, b.heard && status_of(&a).healthy && status_of(&b).healthy);
	publish(&a, 10);
	UNTIL(&world, b.events == 10 && all_left(&a));
	world_close_two(&world, &a, &b);
}

TEST(missing_rights_are_said)
{
	struct world world;
	struct replica a;
	world_open(&world, "", false);
	CHECK_STR(redis_server_ask(&world.server, "ACL SETUSER deaf on >pw resetchannels +publish +xadd allkeys &x:*"),
		"OK");
	struct redis_address address = redis_server_address(&world.server);
	snprintf(address.user, sizeof(address.user), "deaf");
	snprintf(address.password, sizeof(address.password), "pw");
	replica_open(&world, &a, "a#1", &address);
	UNTIL(&world, status_of(&a).healthy);
	a.bus->ops->follow(a.bus, true);
	UNTIL(&world, strstr(status_of(&a).err.message, "subscription: NOPERM"));
	CHECK(!a.heard);
	CHECK_STR(redis_server_ask(&world.server, "ACL SETUSER deaf +subscribe -publish"), "OK");
	UNTIL(&world, a.heard);
	publish(&a, 1);
	UNTIL(&world, strstr(status_of(&a).err.message, "event: NOPERM"));
	CHECK_STR(redis_server_ask(&world.server, "ACL SETUSER deaf +publish"), "OK");
	UNTIL(&world, all_left(&a));
	world_close_one(&world, &a);
}

TEST(tls_checks_the_server)
{
	struct world world;
	struct replica a, b, wrong;
	char url[64];
	struct err err = { 0 };
	world_open(&world, "", true);
	struct redis_address address;
	snprintf(url, sizeof(url), "rediss://localhost:%u", world.server.tls_port);
	REQUIRE(redis_address_parse(bytes_of(url), &address, &err) == 0);
	/* Whom nobody has vouched for. */
	replica_open(&world, &wrong, "w#1", &address);
	UNTIL(&world, strstr(status_of(&wrong).err.message, "certificate"));
	replica_close(&wrong);
	/* Somebody else's name. */
	snprintf(address.tls_ca, sizeof(address.tls_ca), "%s/ca.crt", world.server.directory);
	snprintf(address.host, sizeof(address.host), "127.0.0.1");
	replica_open(&world, &wrong, "w#1", &address);
	UNTIL(&world, strstr(status_of(&wrong).err.message, "certificate"));
	replica_close(&wrong);
	/* Unless that is not to be looked at. */
	address.tls_unverified = true;
	replica_open(&world, &b, "b#1", &address);
	address.tls_unverified = false;
	snprintf(address.host, sizeof(address.host), "localhost");
	replica_open(&world, &a, "a#1", &address);
	b.bus->ops->follow(b.bus, true);
	UNTIL(&world, b.heard && status_of(&a).healthy);
	output_size = sizeof(output);
	memset(output, 'y', output_size);
	publish(&a, 50);
	UNTIL(&world, b.last_sequence == 50 && all_left(&a));
	/* A plain port does not answer to TLS, and says so in time. */
	world_close_two(&world, &a, &b);
}

/* As Redis does unless told otherwise. */
TEST(tls_shows_the_server_a_certificate_that_it_asks_for)
{
	struct world world;
	struct replica a, b;
	char url[64];
	struct err err = { 0 };
	world_open(&world, "--tls-auth-clients yes", true);
	struct redis_address address;
	snprintf(url, sizeof(url), "rediss://localhost:%u", world.server.tls_port);
	REQUIRE(redis_address_parse(bytes_of(url), &address, &err) == 0);
	snprintf(address.tls_ca, sizeof(address.tls_ca), "%s/ca.crt", world.server.directory);
	replica_open(&world, &a, "a#1", &address);
	UNTIL(&world, strstr(status_of(&a).err.message, "lost")); /* without one the server hangs up */
	replica_close(&a);
	snprintf(address.tls_cert, sizeof(address.tls_cert), "%s/server.crt", world.server.directory);
	snprintf(address.tls_key, sizeof(address.tls_key), "%s/server.key", world.server.directory);
	replica_open(&world, &a, "a#1", &address);
	replica_open(&world, &b, "b#1", &address);
	b.bus->ops->follow(b.bus, true);
	UNTIL(&world, b.heard && status_of(&a).healthy);
	publish(&a, 10);
	UNTIL(&world, b.last_sequence == 10 && all_left(&a));
	world_close_two(&world, &a, &b);
}

TEST(a_place_where_nobody_listens_is_said)
{
	struct world world;
	struct replica a;
	struct redis_address address;
	struct err err = { 0 };
	world_open(&world, "", false);
	REQUIRE(redis_address_parse(BYTES_LITERAL("redis://no-such-host.invalid"), &address, &err) == 0);
	replica_open(&world, &a, "a#1", &address);
	UNTIL(&world, strstr(status_of(&a).err.message, "no-such-host.invalid"));
	replica_close(&a);
	REQUIRE(redis_address_parse(BYTES_LITERAL("redis://127.0.0.1:1"), &address, &err) == 0);
	replica_open(&world, &a, "a#1", &address);
	UNTIL(&world, strstr(status_of(&a).err.message, "refused"));
	world_close_one(&world, &a);
}

TEST_MAIN()
