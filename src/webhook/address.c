/* See address.h. The list is that of IANA's special-purpose address registries (RFC 6890 and what came after), and
 * addresses at which clouds tell their machines secrets. Ways to write an IPv4 address within an IPv6 one, which a
 * gateway would take apart, are refused whole. */
#include "webhook/address.h"

#include <netinet/in.h>

static const char refused[] =
	"0.0.0.0/8," /* this network; 0.0.0.0 reaches the host itself */
	"10.0.0.0/8,172.16.0.0/12,192.168.0.0/16," /* private, RFC 1918 */
	"100.64.0.0/10," /* carrier-grade NAT; Alibaba's metadata at 100.100.100.200 */
	"127.0.0.0/8,"
	"169.254.0.0/16," /* link-local; metadata of most clouds at 169.254.169.254 */
	"168.63.129.16/32," /* Azure's host */
	"192.0.0.0/24,192.0.2.0/24,192.88.99.0/24,198.18.0.0/15,198.51.100.0/24,203.0.113.0/24,"
	"224.0.0.0/4,240.0.0.0/4," /* multicast, reserved, broadcast */
	"::/127," /* unspecified and loopback */
	"64:ff9b::/96,64:ff9b:1::/48,2001::/32,2002::/16," /* NAT64, Teredo, 6to4: IPv4 within */
	"100::/64,2001:db8::/32,"
	"fc00::/7,fe80::/10,fec0::/10,ff00::/8"; /* unique local (fd00:ec2::254 too), link-local, site-local, multicast */

int webhook_addresses_init(struct webhook_addresses *addresses, struct bytes allowed, struct err *err)
{
	*addresses = (struct webhook_addresses){ 0 };
	int result = networks_parse(bytes_of(refused), &addresses->refused, err);
	return result < 0 ? result : networks_parse(allowed, &addresses->allowed, err);
}

/* ::a.b.c.d, deprecated (RFC 4291, 2.5.5.1): it has the form of ordinary IPv6, and stands in no network of its own that
 * a list could name without naming ::ffff:a.b.c.d too. */
static bool is_compatible(const struct sockaddr *address)
{
	if (address->sa_family != AF_INET6)
		return false;
	static const uint8_t zeros[12];
	return memcmp(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, zeros, sizeof(zeros)) == 0;
}

bool webhook_address_allowed(const struct webhook_addresses *addresses, const struct sockaddr *address)
{
	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return false;
	if (networks_contain(&addresses->allowed, address))
		return true;
	return !is_compatible(address) && !networks_contain(&addresses->refused, address);
}
