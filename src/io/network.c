/* See network.h. */
#include "io/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "base/text.h"

static void map_ipv4(const struct in_addr *from, uint8_t to[static 16])
{
	memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	memcpy(to + 12, from, 4);
}

static bool network_parse(struct bytes text, struct network *ret)
{
	char copy[INET6_ADDRSTRLEN + 8];
	if (text.len == 0 || text.len >= sizeof(copy))
		return false;
	memcpy(copy, text.data, text.len);
	copy[text.len] = 0;

	int64_t bits = -1;
	char *slash = strchr(copy, '/');
	if (slash) {
		*slash = 0;
		if (!text_to_int(bytes_of(slash + 1), 0, 128, &bits))
			return false;
	}
	struct in_addr v4;
	struct in6_addr v6;
	if (inet_pton(AF_INET, copy, &v4) == 1) {
		if (bits > 32)
			return false;
		map_ipv4(&v4, ret->address);
		ret->prefix = 96 + (bits < 0 ? 32 : (int)bits);
		return true;
	}
	if (inet_pton(AF_INET6, copy, &v6) == 1) {
		memcpy(ret->address, &v6, 16);
		ret->prefix = bits < 0 ? 128 : (int)bits;
		return true;
	}
	return false;
}

static bool network_contains(const struct network *network, const uint8_t address[static 16])
{
	int whole = network->prefix / 8, rest = network->prefix % 8;
	if (memcmp(network->address, address, (size_t)whole) != 0)
		return false;
	if (rest == 0)
		return true;
	uint8_t mask = (uint8_t)(0xff << (8 - rest));
	return ((network->address[whole] ^ address[whole]) & mask) == 0;
}

int networks_parse(struct bytes list, struct networks *networks, struct err *err)
{
	while (list.len > 0) {
		const char *comma = memchr(list.data, ',', list.len);
		struct bytes item = { list.data, comma ? (size_t)(comma - list.data) : list.len };
		size_t used = item.len + (comma ? 1 : 0);
		list.data += used;
		list.len -= used;
		item = text_trim(item);
		if (item.len == 0)
			continue;
		if (networks->count == NETWORKS_MAX)
			return err_set(err, -E2BIG, "at most %d networks can be listed", NETWORKS_MAX);
		if (!network_parse(item, &networks->items[networks->count]))
			return err_set(
				err, -EINVAL, "\"%.*s\" is no network like 10.0.0.0/8", (int)item.len, item.data);
		networks->count++;
	}
	return 0;
}

bool networks_contain(const struct networks *networks, const struct sockaddr *peer)
{
	uint8_t address[16];
	if (peer && peer->sa_family == AF_INET)
		map_ipv4(&((const struct sockaddr_in *)(const void *)peer)->sin_addr, address);
	else if (peer && peer->sa_family == AF_INET6)
		memcpy(address, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, 16);
	else
		return false;
	for (size_t i = 0; i < networks->count; i++)
		if (network_contains(&networks->items[i], address))
			return true;
	return false;
}
