/* A loop with one connection of io/postgres and all that it told, for tests. */
#ifndef ASSAY_TESTS_CONTRACT_POSTGRES_WORLD_H
#define ASSAY_TESTS_CONTRACT_POSTGRES_WORLD_H

#include "io/postgres.h"

#include "../unit/test.h"

#define WORLD_DEADLINE_MS 120000

struct world {
	uv_loop_t loop;
	uv_timer_t deadline;
	struct log log;
	struct postgres *postgres;
	struct postgres_options options; /* to be changed between world_open and world_start */
	bool late, stopped, up, fatal;
	int ups, downs, notices, answered;
	struct err why_not;
	char channel[64], payload[64];
	bool own;
	size_t order[4096]; /* the numbers of what was answered */
	void (*on_answer)(struct world *world, size_t number);
};

struct asked {
	struct postgres_group group;
	struct world *world;
	size_t number;
	int times; /* answered */
};

/* Turns the loop until the condition holds; false, and a failed check, at the deadline. */
#define WAIT(world, condition) \
	({ \
		world_deadline(world, WORLD_DEADLINE_MS); \
		while (!(condition) && !(world)->late) \
			uv_run(&(world)->loop, UV_RUN_ONCE); \
		world_deadline(world, 0); \
		CHECK(!(world)->late && "waited for " #condition); \
		!(world)->late; \
	})

void world_deadline(struct world *world, uint64_t ms); /* 0: none any more */
void world_open(struct world *world, const char *conninfo, const struct postgres_statement *const *statements);
void world_start(struct world *world);
void world_on_stopped(void *owner);
void world_close(struct world
		*world); /* stops it if it was not, frees everything; "Bail out!" if anything is left in the loop */

void asked_init(struct asked *asked, struct world *world, size_t number);
void asked_submit(struct asked *asked);

#endif
