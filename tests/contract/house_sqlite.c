#include "house_store.h"

#include "store/sqlite/sqlite_store.h"

struct store *house_store_new(uv_loop_t *loop, struct log *log, const char *directory)
{
	const struct sqlite_store_options options = { .directory = directory, .loop = loop, .log = log };
	return sqlite_store_new(&options);
}

bool house_store_is_embedded(void)
{
	return true;
}
