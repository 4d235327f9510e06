/* SQL text for a schema of any name. */
#ifndef ASSAY_STORE_POSTGRES_SCHEMA_H
#define ASSAY_STORE_POSTGRES_SCHEMA_H

#include "base/buffer.h"

/* Appends `text`, which calls the schema "assay", with its name in place of that. */
void schema_append(struct buffer *sql, const char *text, const char *schema);

#endif
