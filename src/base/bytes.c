#include "base/bytes.h"

#include <openssl/crypto.h>

bool bytes_equal_constant_time(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.data, b.data, a.len) == 0);
}
