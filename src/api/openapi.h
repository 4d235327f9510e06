/* src/api/openapi.json, as it was when the program was built. */
#ifndef ASSAY_API_OPENAPI_H
#define ASSAY_API_OPENAPI_H

#include "base/bytes.h"

struct bytes openapi_text(void);

#endif
