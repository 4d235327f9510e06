/* Commands to tasks: cancel and run, of one task or of a whole batch. */
#ifndef ASSAY_API_COMMAND_H
#define ASSAY_API_COMMAND_H

#include "api/call.h"
#include "assay/store.h"

/* Either a task's id or a batch's. Goes on with `next` when it is done, unless the store failed: then the call has been
 * answered. */
void command_send(struct call *call, enum command_kind kind, const struct uuid *id, const struct uuid *batch_id,
	void (*next)(struct call *call, const struct store_command *command));

#endif
