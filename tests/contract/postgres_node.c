/* A replica's PostgreSQL store and all that it told. */
#include "tests/contract/postgres_node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_work(void *owner)
{
	((struct node *)owner)->works = true;
}

static void on_cancel(void *owner, const struct uuid *id)
{
	struct node *node = owner;
	node->cancels = true;
	node->about = *id;
}

static void on_events(void *owner)
{
	((struct node *)owner)->events = true;
}

static void on_output(void *owner, const struct uuid *id)
{
	struct node *node = owner;
	node->outputs = true;
	node->about = *id;
}

static void on_output_wanted(void *owner, const struct uuid *id)
{
	struct node *node = owner;
	node->outputs_wanted = true;
	node->about = *id;
}

static void on_reopened(void *owner, const struct uuid *id)
{
	struct node *node = owner;
	node->reopens = true;
	node->about = id ? *id : (struct uuid){ { 0 } };
}

static void on_failed(void *owner, const struct err *err)
{
	struct node *node = owner;
	node->failed = true;
	node->why = *err;
}

static void on_available(void *owner, bool available, const struct err *why_not)
{
	struct node *node = owner;
	node->harness.available = available;
	node->harness.availables++;
}

static const struct store_notices notices = {
	.on_work = on_work,
	.on_cancel = on_cancel,
	.on_events = on_events,
	.on_output = on_output,
	.on_output_wanted = on_output_wanted,
	.on_reopened = on_reopened,
	.on_failed = on_failed,
	.on_available = on_available,
};

void node_open(struct node *node, uv_loop_t *loop, const char *url, const char *schema)
{
	struct uuid_generator ids = node->harness.ids;
	struct err err;
	*node = (struct node){ .log = { .level = LOG_ERROR } };
	node->log.fd = open("/dev/null", O_WRONLY | O_CLOEXEC); /* failures are what is tested */
	node->fixture = (struct store_suite_fixture){ .loop = loop, .reconnects = true };
	node->harness.fixture = &node->fixture;
	node->harness.ids = ids;
	const struct postgres_store_options options = { .loop = loop, .log = &node->log, .url = url, .schema = schema };
	node->harness.store = postgres_store_new(&options);
	if (node->harness.store->ops->start(node->harness.store, &notices, node, &err) < 0) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
}

void node_wait(struct node *node, const bool *flag)
{
	harness_wait(&node->harness, flag);
}

void node_up(struct node *node, uv_loop_t *loop, const char *url, const char *schema)
{
	node_open(node, loop, url, schema);
	node_wait(node, &node->harness.available);
}

static void on_stopped(void *owner)
{
	*(bool *)owner = true;
}

void node_close(struct node *node)
{
	node->harness.store->ops->stop(node->harness.store, on_stopped, &node->stopped);
	node_wait(node, &node->stopped);
	node->harness.store->ops->free(node->harness.store);
	close(node->log.fd);
}
