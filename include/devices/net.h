/* The network device (VIRTIO 1.3, 5.1), for whoever controls the machine. */
#ifndef AERIE_DEVICES_NET_H
#define AERIE_DEVICES_NET_H

#include "devices/device.h"

/* `device` is one of net_class. Both wait for its I/O thread: not from there. */

/* The cable: true, the default, leaves it to the backend. Without it packets both ways are dropped. */
void net_set_link(struct device *device, bool up);

struct net_counts {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t rx_dropped; /* no room in the guest's buffers, or filtered as the guest wishes */
	uint64_t tx_dropped; /* malformed, no link, or the host would not take them */
};

void net_get_counts(struct device *device, struct net_counts *ret);

#endif
