/* What all stores share. */
#include "assay/store.h"

void store_operation_fini(struct store_operation *operation)
{
	arena_fini(&operation->arena);
}
