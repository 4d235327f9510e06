/* The coordinator does what follows of a command (kills, publishes, dispatches); here it is only sent and its outcome
 * waited for. */
#include "api/command.h"

#include "base/clock.h"
#include "coordinator/coordinator.h"

struct sent_command {
	struct store_command command;
	void (*next)(struct call *call, const struct store_command *command);
};

static void on_done(struct store_operation *operation)
{
	struct sent_command *sent = CONTAINER_OF(operation, struct sent_command, command.operation);
	struct call *call = operation->owner;
	if (call_back(call) && call_operation_ok(call, operation))
		sent->next(call, &sent->command);
}

void command_send(struct call *call, enum command_kind kind, const struct uuid *id, const struct uuid *batch_id,
	void (*next)(struct call *call, const struct store_command *command))
{
	struct sent_command *sent = arena_alloc(&call->arena, sizeof(*sent));
	sent->next = next;
	sent->command.kind = kind;
	if (batch_id)
		sent->command.batch_id = *batch_id;
	else {
		sent->command.ids = id;
		sent->command.count = 1;
	}
	sent->command.tenant = principal_scope(&call->who);
	sent->command.at_us = clock_wall_us();
	call_operation(call, &sent->command.operation, on_done);
	call_out(call);
	coordinator_command(call->api->coordinator, &sent->command);
}
