#include "crossed_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* An operation whose answer comes by way of us. */
struct crossing {
	struct crossed_store *crossed;
	enum crossed_kind kind;
	void (*done)(struct store_operation *operation);
	void *owner;
};

static struct crossed_store *crossed_of(const struct store *store)
{
	return CONTAINER_OF((struct store *)store, struct crossed_store, store);
}

static void on_later(uv_timer_t *timer)
{
	struct crossed_store *self = timer->data;
	struct store_operation *operation;
	while ((operation = self->refused)) {
		self->refused = operation->next;
		operation->done(operation);
	}
}

static void on_done(struct store_operation *operation)
{
	struct crossing *crossing = operation->owner;
	struct crossed_store *self = crossing->crossed;
	if (self->held[crossing->kind]) {
		operation->next = self->waiting;
		self->waiting = operation;
		return;
	}
	if (crossing->kind == CROSSED_HEARTBEAT && operation->outcome == STORE_OK && self->buried) {
		CONTAINER_OF(operation, struct store_heartbeat, operation)->alive = false;
		self->buried = false;
	}
	if (operation->outcome == STORE_OK && self->lost[crossing->kind] > 0) {
		self->lost[crossing->kind]--;
		store_operation_fini(operation);
		operation->outcome = STORE_UNKNOWN;
		err_set(&operation->err, -EPIPE, "as the test says");
	}
	self->answers[crossing->kind]++;
	operation->done = crossing->done;
	operation->owner = crossing->owner;
	free(crossing);
	operation->done(operation);
}

void crossed_release(struct crossed_store *self)
{
	struct store_operation *operation;
	memset(self->held, 0, sizeof(self->held));
	while ((operation = self->waiting)) {
		self->waiting = operation->next;
		on_done(operation);
	}
}

static void refuse(struct crossed_store *self, struct store_operation *operation, enum store_outcome outcome)
{
	operation->outcome = outcome;
	err_set(&operation->err, -EHOSTUNREACH, "as the test says");
	operation->next = self->refused;
	self->refused = operation;
	uv_timer_start(&self->later, on_later, 0, 0);
}

/* False: it was kept from the store. */
static bool cross(const struct store *store, struct store_operation *operation, enum crossed_kind kind)
{
	struct crossed_store *self = crossed_of(store);
	self->calls[kind]++;
	if (self->on_call)
		self->on_call(self->owner, kind, operation);
	if (self->away[kind] > 0) {
		self->away[kind]--;
		self->answers[kind]++;
		refuse(self, operation, STORE_AWAY);
		return false;
	}
	if (kind == CROSSED_SETTLE && self->refuses &&
		self->refuses(self->owner, CONTAINER_OF(operation, struct store_settle, operation))) {
		self->refusals++;
		self->answers[kind]++;
		refuse(self, operation, STORE_FAILED);
		return false;
	}
	struct crossing *crossing = alloc(sizeof(*crossing));
	*crossing = (struct crossing){ self, kind, operation->done, operation->owner };
	operation->done = on_done;
	operation->owner = crossing;
	return true;
}

#define CROSSES(name, type, kind) \
	static void name(struct store *store, struct type *operation) \
	{ \
		if (cross(store, &operation->operation, kind)) \
			crossed_of(store)->inner->ops->name(crossed_of(store)->inner, operation); \
	}
#define READS(name) \
	static void name(struct store *store, struct name *operation) \
	{ \
		crossed_of(store)->inner->ops->name(crossed_of(store)->inner, operation); \
	}

static void submit(struct store *store, struct store_submit *operation)
{
	struct crossed_store *self = crossed_of(store);
	if (!cross(store, &operation->operation, CROSSED_SUBMIT))
		return;
	if (self->keep_submit) {
		self->keep_submit = false;
		self->kept = operation;
		return;
	}
	self->inner->ops->submit(self->inner, operation);
}

void crossed_hand_in(struct crossed_store *self)
{
	struct store_submit *kept = self->kept;
	self->kept = NULL;
	self->inner->ops->submit(self->inner, kept);
}

CROSSES(claim, store_claim, CROSSED_CLAIM)
CROSSES(settle, store_settle, CROSSED_SETTLE)
CROSSES(command, store_command, CROSSED_COMMAND)
CROSSES(heartbeat, store_heartbeat, CROSSED_HEARTBEAT)
CROSSES(take, store_take, CROSSED_TAKE)
CROSSES(trim, store_trim, CROSSED_TRIM)
CROSSES(read_counts, read_counts, CROSSED_COUNTS)
READS(read_task)
READS(read_match)
READS(read_list)
READS(read_events)
READS(read_output)
READS(read_position)

static int start(struct store *store, const struct store_notices *notices, void *owner, struct err *err)
{
	struct store *inner = crossed_of(store)->inner;
	crossed_of(store)->notices = *notices;
	crossed_of(store)->listener = owner;
	return inner->ops->start(inner, notices, owner, err);
}

static void on_closed(uv_handle_t *handle)
{
	struct crossed_store *self = handle->data;
	self->on_stopped(self->stop_owner);
}

static void on_stopped(void *owner)
{
	struct crossed_store *self = owner;
	on_later(&self->later);
	uv_close((uv_handle_t *)&self->later, on_closed);
}

static void stop(struct store *store, void (*stopped)(void *owner), void *owner)
{
	struct crossed_store *self = crossed_of(store);
	self->on_stopped = stopped;
	self->stop_owner = owner;
	self->inner->ops->stop(self->inner, on_stopped, self);
}

static void free_inner(struct store *store)
{
	crossed_of(store)->inner->ops->free(crossed_of(store)->inner);
}

static void status(const struct store *store, struct store_status *ret_status)
{
	crossed_of(store)->inner->ops->status(crossed_of(store)->inner, ret_status);
	if (crossed_of(store)->parallel_submits)
		ret_status->parallel_submits = crossed_of(store)->parallel_submits;
	ret_status->parallel_rows = 1;
}

static void follow_events(struct store *store, bool wanted)
{
	crossed_of(store)->inner->ops->follow_events(crossed_of(store)->inner, wanted);
}

static void follow_output(struct store *store, const struct uuid *id)
{
	crossed_of(store)->follows++;
	crossed_of(store)->inner->ops->follow_output(crossed_of(store)->inner, id);
}

static const struct store_ops ops = {
	.start = start,
	.stop = stop,
	.free = free_inner,
	.status = status,
	.submit = submit,
	.claim = claim,
	.settle = settle,
	.command = command,
	.heartbeat = heartbeat,
	.take = take,
	.trim = trim,
	.follow_events = follow_events,
	.follow_output = follow_output,
	.read_task = read_task,
	.read_match = read_match,
	.read_list = read_list,
	.read_events = read_events,
	.read_output = read_output,
	.read_position = read_position,
	.read_counts = read_counts,
};

void crossed_init(struct crossed_store *self, uv_loop_t *loop, struct store *inner)
{
	*self = (struct crossed_store){ .store.ops = &ops, .inner = inner };
	uv_timer_init(loop, &self->later);
	self->later.data = self;
}
