/* The contract of include/assay/bus.h: order, nothing from within a call, copies, subscribing and unsubscribing at any moment. */
#include "bus_suite.h"

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"

static const struct bus_notices bus_notices = { 0 };

#define DEADLINE_MS 20000

struct seen {
	struct bus_subscriber subscriber;
	struct bus *bus;
	uv_loop_t *loop;
	uint32_t sequences[4096];
	size_t events, live;
	char last_data[64], last_live[64], last_eval_id[64];
	bool inside_call; /* set by the test around its calls: no callback may come then */
	size_t leave_after; /* unsubscribes itself after so many events; 0: never */
	struct seen *drop; /* unsubscribed by us at our first event */
	struct seen *invite; /* subscribed by us at our first event */
};

struct scene {
	uv_loop_t loop;
	struct bus *bus;
	uv_timer_t deadline;
	bool late, stopped;
};

static void text_copy(char *to, size_t size, struct bytes from)
{
	size_t length = from.len < size - 1 ? from.len : size - 1;
	if (length)
		memcpy(to, from.data, length);
	to[length] = 0;
}

static void on_events(void *owner, const struct event *events, size_t count)
{
	struct seen *seen = owner;
	CHECK(!seen->inside_call);
	uv_stop(seen->loop); /* whoever waits looks again */
	for (size_t i = 0; i < count; i++) {
		if (seen->events < ARRAY_SIZE(seen->sequences))
			seen->sequences[seen->events] = events[i].sequence;
		seen->events++;
		text_copy(seen->last_data, sizeof(seen->last_data), events[i].data);
		text_copy(seen->last_eval_id, sizeof(seen->last_eval_id), events[i].eval_id);
	}
	if (seen->drop)
		seen->bus->ops->unsubscribe(seen->bus, &STEAL(seen->drop)->subscriber);
	if (seen->invite)
		seen->bus->ops->subscribe(seen->bus, &STEAL(seen->invite)->subscriber);
	if (seen->leave_after && seen->events >= seen->leave_after)
		seen->bus->ops->unsubscribe(seen->bus, &seen->subscriber);
}

static void on_live(void *owner, const struct live_event *events, size_t count)
{
	struct seen *seen = owner;
	CHECK(!seen->inside_call);
	uv_stop(seen->loop); /* whoever waits looks again */
	seen->live += count;
	text_copy(seen->last_live, sizeof(seen->last_live), events[count - 1].data);
}

static void on_deadline(uv_timer_t *timer)
{
	((struct scene *)timer->data)->late = true;
	uv_stop(timer->loop);
}

static struct seen seen_new(struct scene *scene)
{
	return (struct seen){
		.subscriber = { .on_events = on_events, .on_live = on_live }, .bus = scene->bus, .loop = &scene->loop
	};
}

static void follow(struct scene *scene, struct seen *seen)
{
	seen->subscriber.owner = seen;
	seen->inside_call = true;
	scene->bus->ops->subscribe(scene->bus, &seen->subscriber);
	seen->inside_call = false;
}

static void scene_open(struct scene *scene)
{
	struct err err = { 0 };
	*scene = (struct scene){ 0 };
	REQUIRE(uv_loop_init(&scene->loop) == 0);
	scene->bus = bus_fixture.make(&scene->loop);
	REQUIRE(scene->bus->ops->start(scene->bus, &bus_notices, NULL, &err) == 0);
	uv_timer_init(&scene->loop, &scene->deadline);
	scene->deadline.data = scene;
	uv_timer_start(&scene->deadline, on_deadline, DEADLINE_MS, 0);
}

static void on_stopped(void *owner)
{
	struct scene *scene = owner;
	scene->stopped = true;
	uv_stop(&scene->loop);
}

static void scene_close(struct scene *scene)
{
	scene->bus->ops->stop(scene->bus, on_stopped, scene);
	CHECK(!scene->stopped);
	while (!scene->stopped && !scene->late)
		uv_run(&scene->loop, UV_RUN_DEFAULT);
	CHECK(scene->stopped);
	scene->bus->ops->free(scene->bus);
	uv_close((uv_handle_t *)&scene->deadline, NULL);
	uv_run(&scene->loop, UV_RUN_DEFAULT);
	CHECK_INT(uv_loop_close(&scene->loop), 0);
}

static void wait_events(struct scene *scene, const struct seen *seen, size_t count)
{
	while (seen->events < count && !scene->late)
		uv_run(&scene->loop, UV_RUN_DEFAULT);
	CHECK(seen->events >= count);
}

static struct event event_of(uint32_t sequence)
{
	return (struct event){
		.kind = EVENT_RUNNING,
		.task_id = { { 1 } },
		.sequence = sequence,
		.run = 1,
		.attempt = 1,
		.timestamp_us = clock_wall_us(),
		.cursor = { .length = 4, .bytes = { 0, 0, (uint8_t)(sequence >> 8), (uint8_t)sequence } },
		.tenant = BYTES_LITERAL("default"),
		.eval_id = BYTES_LITERAL("eval"),
		.data = BYTES_LITERAL("\"executor\":\"noop\""),
	};
}

TEST(every_subscriber_gets_everything_in_order)
{
	struct scene scene;
	scene_open(&scene);
	struct seen a = seen_new(&scene), b = seen_new(&scene);
	follow(&scene, &a);
	follow(&scene, &b);
	for (uint32_t i = 1; i <= 1000; i += 2) {
		const struct event pair[] = { event_of(i), event_of(i + 1) };
		a.inside_call = b.inside_call = true;
		scene.bus->ops->publish(scene.bus, pair, 2);
		a.inside_call = b.inside_call = false;
	}
	wait_events(&scene, &a, 1000);
	wait_events(&scene, &b, 1000);
	bool ordered = true;
	for (uint32_t i = 0; i < 1000; i++)
		ordered = ordered && a.sequences[i] == i + 1 && b.sequences[i] == i + 1;
	CHECK(ordered);
	struct bus_status status;
	scene.bus->ops->status(scene.bus, &status);
	CHECK(status.healthy);
	CHECK_INT(status.published.bytes[3], 1000 & 255);
	scene.bus->ops->unsubscribe(scene.bus, &a.subscriber);
	scene.bus->ops->unsubscribe(scene.bus, &b.subscriber);
	scene_close(&scene);
}

TEST(what_is_published_is_copied)
{
	struct scene scene;
	scene_open(&scene);
	struct seen seen = seen_new(&scene);
	follow(&scene, &seen);
	char data[] = "\"a\":1", eval_id[] = "mine";
	struct event event = event_of(1);
	event.data = bytes_of(data);
	event.eval_id = bytes_of(eval_id);
	scene.bus->ops->publish(scene.bus, &event, 1);
	memset(data, 'x', sizeof(data) - 1);
	memset(eval_id, 'x', sizeof(eval_id) - 1);
	wait_events(&scene, &seen, 1);
	CHECK_STR(seen.last_data, "\"a\":1");
	CHECK_STR(seen.last_eval_id, "mine");
	scene.bus->ops->unsubscribe(scene.bus, &seen.subscriber);
	scene_close(&scene);
}

TEST(live_events_arrive_with_their_bytes)
{
	struct scene scene;
	scene_open(&scene);
	struct seen seen = seen_new(&scene);
	follow(&scene, &seen);
	const struct live_event live = { .kind = EVENT_LOG, .stream = 1, .data = BYTES_LITERAL("printed") };
	const struct event durable = event_of(7);
	scene.bus->ops->publish_live(scene.bus, &live, 1);
	scene.bus->ops->publish(scene.bus, &durable, 1);
	wait_events(&scene, &seen, 1);
	while (!seen.live && !scene.late)
		uv_run(&scene.loop, UV_RUN_DEFAULT);
	CHECK_INT(seen.live, 1);
	CHECK_STR(seen.last_live, "printed");
	scene.bus->ops->unsubscribe(scene.bus, &seen.subscriber);
	scene_close(&scene);
}

TEST(a_subscriber_may_leave_from_within_its_callback)
{
	struct scene scene;
	scene_open(&scene);
	struct seen *leaver = alloc(sizeof(*leaver));
	struct seen stayer = seen_new(&scene);
	*leaver = seen_new(&scene);
	leaver->leave_after = 3;
	follow(&scene, leaver);
	follow(&scene, &stayer);
	for (uint32_t i = 1; i <= 10; i++) {
		const struct event event = event_of(i);
		scene.bus->ops->publish(scene.bus, &event, 1);
	}
	wait_events(&scene, &stayer, 10);
	CHECK_INT(leaver->events, 3);
	free(leaver);
	scene.bus->ops->unsubscribe(scene.bus, &stayer.subscriber);
	scene_close(&scene);
}

TEST(a_subscriber_may_drop_and_invite_others)
{
	struct scene scene;
	scene_open(&scene);
	struct seen first = seen_new(&scene), dropped = seen_new(&scene), invited = seen_new(&scene);
	invited.subscriber.owner = &invited;
	first.drop = &dropped;
	first.invite = &invited;
	follow(&scene, &first);
	follow(&scene, &dropped);
	const struct event one = event_of(1), two = event_of(2);
	scene.bus->ops->publish(scene.bus, &one, 1);
	wait_events(&scene, &first, 1);
	CHECK_INT(dropped.events, 0);
	scene.bus->ops->publish(scene.bus, &two, 1);
	wait_events(&scene, &first, 2);
	while ((!invited.events || invited.sequences[invited.events - 1] != 2) && !scene.late)
		uv_run(&scene.loop, UV_RUN_DEFAULT);
	CHECK_INT(invited.sequences[invited.events - 1], 2);
	CHECK_INT(dropped.events, 0);
	scene.bus->ops->unsubscribe(scene.bus, &first.subscriber);
	scene.bus->ops->unsubscribe(scene.bus, &invited.subscriber);
	scene_close(&scene);
}

TEST(publishing_without_subscribers_moves_the_watermark)
{
	struct scene scene;
	scene_open(&scene);
	const struct event event = event_of(9);
	scene.bus->ops->publish(scene.bus, &event, 1);
	struct bus_status status;
	do {
		uv_run(&scene.loop, UV_RUN_NOWAIT);
		scene.bus->ops->status(scene.bus, &status);
	} while (!status.published.length && !scene.late);
	CHECK_INT(status.published.bytes[3], 9);
	scene_close(&scene);
}

TEST_MAIN()
