/* Gets the plan of an attempt from the attempt listener, where it is too large for a Secret: what the init container does then
 * (report.h says what is sent). It waits for the network, for there is nothing else to do. */
#ifndef ASSAY_WRAP_FETCH_H
#define ASSAY_WRAP_FETCH_H

#include "wrap/report.h"

/* Puts the plan into `directory` as PLAN_FILE. `listeners`: one or two addresses with a comma between them. A listener that is
 * away, or does not know the attempt, is asked again for so many seconds. False: `message` says why not. */
bool fetch_plan(const struct report_signer *signer, const char *listeners, int64_t patience_s, const char *directory,
	char message[REPORT_MESSAGE_MAX]);

#endif
