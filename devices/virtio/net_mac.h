/* The hardware address of a network card. */
#ifndef AERIE_DEVICES_VIRTIO_NET_MAC_H
#define AERIE_DEVICES_VIRTIO_NET_MAC_H

#include <stdint.h>

enum { NET_MAC_BYTES = 6 };

/*
 * What the operator has set (`set`, "52:54:00:12:34:56"), or NULL: one made from the machine's name (NULL:
 * none) and the card's slot, or its own name when the operator did not choose the slot (0) either. The same
 * on every start, and locally administered.
 */
void net_mac_choose(uint8_t mac[NET_MAC_BYTES], const char *set, const char *machine, uint32_t slot,
		    const char *name);

#endif
