#include "postgres_world.h"

#include "base/alloc.h"

static void on_deadline(uv_timer_t *timer)
{
	((struct world *)timer->data)->late = true;
}

void world_deadline(struct world *world, uint64_t ms)
{
	world->late = false;
	uv_update_time(&world->loop);
	if (ms)
		uv_timer_start(&world->deadline, on_deadline, ms, 0);
	else
		uv_timer_stop(&world->deadline);
}

static void on_state(void *owner, bool up, bool fatal, const struct err *why_not)
{
	struct world *world = owner;
	world->up = up;
	world->fatal = fatal;
	world->ups += up;
	world->downs += !up;
	world->why_not = why_not ? *why_not : (struct err){ 0 };
}

static void on_notice(void *owner, const struct postgres_notice *notice)
{
	struct world *world = owner;
	world->notices++;
	world->own = notice->own;
	snprintf(world->channel, sizeof(world->channel), "%s", notice->channel);
	snprintf(world->payload, sizeof(world->payload), "%s", notice->payload);
}

void world_open(struct world *world, const char *conninfo, const struct postgres_statement *const *statements)
{
	memset(world, 0, sizeof(*world));
	uv_loop_init(&world->loop);
	uv_timer_init(&world->loop, &world->deadline);
	world->deadline.data = world;
	world->log = (struct log){ .fd = -1, .level = LOG_ERROR };
	world->options = (struct postgres_options){
		.loop = &world->loop,
		.log = &world->log,
		.conninfo = conninfo,
		.purpose = "test",
		.statements = statements,
		.on_state = on_state,
		.on_notice = on_notice,
		.owner = world,
	};
}

void world_start(struct world *world)
{
	world->postgres = postgres_new(&world->options);
	postgres_start(world->postgres);
}

void world_on_stopped(void *owner)
{
	((struct world *)owner)->stopped = true;
}

void world_close(struct world *world)
{
	if (!world->stopped) {
		postgres_stop(world->postgres, WORLD_DEADLINE_MS, world_on_stopped, world);
		REQUIRE(WAIT(world, world->stopped));
	}
	postgres_free(world->postgres);
	uv_close((uv_handle_t *)&world->deadline, NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	REQUIRE(uv_loop_close(&world->loop) == 0);
}

static void on_done(struct postgres_group *group)
{
	struct asked *asked = group->owner;
	struct world *world = asked->world;
	asked->times++;
	if ((size_t)world->answered < ARRAY_SIZE(world->order))
		world->order[world->answered] = asked->number;
	world->answered++;
	if (world->on_answer)
		world->on_answer(world, asked->number);
}

void asked_init(struct asked *asked, struct world *world, size_t number)
{
	memset(asked, 0, sizeof(*asked));
	asked->world = world;
	asked->number = number;
	asked->group.done = on_done;
	asked->group.owner = asked;
}

void asked_submit(struct asked *asked)
{
	postgres_submit(asked->world->postgres, &asked->group);
}
