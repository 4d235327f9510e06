/* What a callback_url may be: an absolute URL of http or https (RFC 3986, 3), short and plain. Whether its host may be
 * reached is looked at when a connection is made (webhook/address.h): what a name means can change. */
#ifndef ASSAY_TASK_CALLBACK_H
#define ASSAY_TASK_CALLBACK_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"

#define CALLBACK_URL_MAX 2048

/* NULL for one that may be taken, else what is wrong with it, for a sentence that begins with its name. https_only:
 * http is refused. */
const char *callback_fault(struct bytes url, bool https_only);

/* Scheme, host and port as written, in lower case: "https://example.org:8443". What is limited and counted apart for
 * each receiver. */
struct bytes callback_origin(struct bytes url, struct arena *arena);

#endif
