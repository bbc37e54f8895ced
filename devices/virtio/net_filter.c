/* Which frames the guest wants to see (VIRTIO 1.3, 5.1.6.5.1 and 5.1.6.5.2). */
#include "net.h"

#include <string.h>

static bool in_table(const struct net_guest *guest, unsigned first, unsigned count, const uint8_t *mac)
{
	for (unsigned i = first; i < first + count; i++)
		if (memcmp(guest->macs + (size_t)i * NET_MAC_BYTES, mac, NET_MAC_BYTES) == 0)
			return true;
	return false;
}

bool net_filter_passes(const struct net *net, const uint8_t *mac)
{
	static const uint8_t broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct net_guest *guest = &net->guest;
	if (guest->promisc)
		return true;
	if (memcmp(mac, broadcast, NET_MAC_BYTES) == 0)
		return !guest->nobcast;
	if (mac[0] & 1) { /* a group */
		if (guest->nomulti)
			return false;
		return guest->allmulti || guest->multicast_overflow ||
		       in_table(guest, guest->unicast_count, guest->multicast_count, mac);
	}
	if (guest->nouni)
		return false;
	return guest->alluni || guest->unicast_overflow || memcmp(mac, guest->mac, NET_MAC_BYTES) == 0 ||
	       in_table(guest, 0, guest->unicast_count, mac);
}
