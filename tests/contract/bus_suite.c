/* The contract of include/assay/bus.h: order, nothing from within a call, copies, subscribing and unsubscribing at any
 * moment. */
#include "bus_suite.h"

#include "../unit/test.h"
#include "base/alloc.h"
#include "base/clock.h"

#define DEADLINE_MS 120000
#define KEPT_MAX 2048

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
	/* What a store would have: all that was published, for a bus that is behind. */
	struct event kept[KEPT_MAX];
	size_t kept_count;
	uv_timer_t read;
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

static void on_read(uv_timer_t *timer)
{
	struct scene *scene = timer->data;
	struct bus_status status;
	scene->bus->ops->status(scene->bus, &status);
	scene->bus->ops->republish(
		scene->bus, scene->kept + status.left, scene->kept_count - (size_t)status.left, /* last= */ true);
}

static void on_behind(void *owner)
{
	struct scene *scene = owner;
	uv_timer_start(&scene->read, on_read, 0, 0);
}

static const struct bus_notices bus_notices = { .on_behind = on_behind };

static void publish(struct scene *scene, const struct event *events, size_t count)
{
	for (size_t i = 0; i < count && scene->kept_count < KEPT_MAX; i++)
		scene->kept[scene->kept_count++] = events[i];
	scene->bus->ops->publish(scene->bus, events, count);
}

static struct bus_status status_of(const struct scene *scene)
{
	struct bus_status status;
	scene->bus->ops->status(scene->bus, &status);
	return status;
}

/* Until all that was published has left. */
static void wait_left(struct scene *scene)
{
	while ((!status_of(scene).healthy || status_of(scene).left < status_of(scene).taken) && !scene->late)
		uv_run(&scene->loop, UV_RUN_ONCE);
	CHECK(status_of(scene).healthy);
	CHECK_INT(status_of(scene).left, status_of(scene).taken);
}

static void scene_open(struct scene *scene)
{
	struct err err = { 0 };
	*scene = (struct scene){ 0 };
	REQUIRE(uv_loop_init(&scene->loop) == 0);
	scene->bus = bus_fixture.make(&scene->loop);
	uv_timer_init(&scene->loop, &scene->read);
	scene->read.data = scene;
	REQUIRE(scene->bus->ops->start(scene->bus, &bus_notices, scene, &err) == 0);
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
	uv_close((uv_handle_t *)&scene->read, NULL);
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
	static struct scene scene;
	scene_open(&scene);
	struct seen a = seen_new(&scene), b = seen_new(&scene);
	follow(&scene, &a);
	follow(&scene, &b);
	for (uint32_t i = 1; i <= 1000; i += 2) {
		const struct event pair[] = { event_of(i), event_of(i + 1) };
		a.inside_call = b.inside_call = true;
		publish(&scene, pair, 2);
		a.inside_call = b.inside_call = false;
	}
	wait_events(&scene, &a, 1000);
	wait_events(&scene, &b, 1000);
	bool ordered = true;
	for (uint32_t i = 0; i < 1000; i++)
		ordered = ordered && a.sequences[i] == i + 1 && b.sequences[i] == i + 1;
	CHECK(ordered);
	wait_left(&scene);
	CHECK_INT(status_of(&scene).taken, 1000);
	CHECK_INT(status_of(&scene).published.bytes[3], 1000 & 255);
	scene.bus->ops->unsubscribe(scene.bus, &a.subscriber);
	scene.bus->ops->unsubscribe(scene.bus, &b.subscriber);
	scene_close(&scene);
}

TEST(what_is_published_is_copied)
{
	static struct scene scene;
	scene_open(&scene);
	struct seen seen = seen_new(&scene);
	follow(&scene, &seen);
	char data[] = "\"a\":1", eval_id[] = "mine";
	struct event event = event_of(1);
	event.data = bytes_of(data);
	event.eval_id = bytes_of(eval_id);
	publish(&scene, &event, 1);
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
	static struct scene scene;
	scene_open(&scene);
	struct seen seen = seen_new(&scene);
	follow(&scene, &seen);
	const struct live_event live = { .kind = EVENT_LOG, .stream = 1, .data = BYTES_LITERAL("printed") };
	const struct event durable = event_of(7);
	scene.bus->ops->publish_live(scene.bus, &live, 1);
	publish(&scene, &durable, 1);
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
	static struct scene scene;
	scene_open(&scene);
	struct seen *leaver = alloc(sizeof(*leaver));
	struct seen stayer = seen_new(&scene);
	*leaver = seen_new(&scene);
	leaver->leave_after = 3;
	follow(&scene, leaver);
	follow(&scene, &stayer);
	for (uint32_t i = 1; i <= 10; i++) {
		const struct event event = event_of(i);
		publish(&scene, &event, 1);
	}
	wait_events(&scene, &stayer, 10);
	CHECK_INT(leaver->events, 3);
	free(leaver);
	scene.bus->ops->unsubscribe(scene.bus, &stayer.subscriber);
	scene_close(&scene);
}

TEST(a_subscriber_may_drop_and_invite_others)
{
	static struct scene scene;
	scene_open(&scene);
	struct seen first = seen_new(&scene), dropped = seen_new(&scene), invited = seen_new(&scene);
	invited.subscriber.owner = &invited;
	first.drop = &dropped;
	first.invite = &invited;
	follow(&scene, &first);
	follow(&scene, &dropped);
	const struct event one = event_of(1), two = event_of(2);
	publish(&scene, &one, 1);
	wait_events(&scene, &first, 1);
	CHECK_INT(dropped.events, 0);
	publish(&scene, &two, 1);
	wait_events(&scene, &first, 2);
	while ((!invited.events || invited.sequences[invited.events - 1] != 2) && !scene.late)
		uv_run(&scene.loop, UV_RUN_DEFAULT);
	CHECK_INT(invited.sequences[invited.events - 1], 2);
	CHECK_INT(dropped.events, 0);
	scene.bus->ops->unsubscribe(scene.bus, &first.subscriber);
	scene.bus->ops->unsubscribe(scene.bus, &invited.subscriber);
	scene_close(&scene);
}

/* What the coordinator reads from the store of others' events is for this process alone. */
TEST(what_is_told_reaches_subscribers_and_moves_no_watermark)
{
	static struct scene scene;
	scene_open(&scene);
	struct seen seen = seen_new(&scene);
	follow(&scene, &seen);
	const struct event event = event_of(3);
	seen.inside_call = true;
	scene.bus->ops->tell(scene.bus, &event, 1);
	seen.inside_call = false;
	wait_events(&scene, &seen, 1);
	CHECK_INT(seen.sequences[0], 3);
	CHECK_INT(status_of(&scene).taken, 0);
	CHECK_INT(status_of(&scene).published.length, 0);
	scene.bus->ops->unsubscribe(scene.bus, &seen.subscriber);
	scene_close(&scene);
}

TEST(publishing_without_subscribers_moves_the_watermark)
{
	static struct scene scene;
	scene_open(&scene);
	const struct event event = event_of(9);
	publish(&scene, &event, 1);
	wait_left(&scene);
	CHECK_INT(status_of(&scene).published.bytes[3], 9);
	scene_close(&scene);
}

TEST_MAIN()
