/*
 * The machine has come to another port of a switch, which goes on sending its frames to the old one until it
 * sees its address at the new one. We send a frame that says nothing but where the address is: a reverse ARP
 * request (RFC 903), as other machine monitors do. What the guest's IP addresses are only the guest knows, so
 * gratuitous ARP is its part: it is asked for that where its driver can (VIRTIO 1.3, 5.1.6.5.4).
 */
#include "net.h"

#include "base/bytes.h"

#include <string.h>

enum {
	ETHERTYPE_RARP = 0x8035,
	HARDWARE_ETHERNET = 1,
	PROTOCOL_IPV4 = 0x0800,
	IPV4_BYTES = 4,
	REVERSE_REQUEST = 3
};

static void write_be16(struct writer *w, uint16_t value)
{
	write_u8(w, (uint8_t)(value >> 8));
	write_u8(w, (uint8_t)value);
}

/* To all: who is `mac`? The shortest frame that Ethernet carries, without its checksum. */
static void make_rarp(uint8_t frame[NET_RARP_BYTES], const uint8_t *mac)
{
	static const uint8_t everyone[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t unknown[IPV4_BYTES];
	struct writer w = writer_on(frame, NET_RARP_BYTES);
	memset(frame, 0, NET_RARP_BYTES);
	write_bytes(&w, everyone, sizeof(everyone));
	write_bytes(&w, mac, NET_MAC_BYTES);
	write_be16(&w, ETHERTYPE_RARP);
	write_be16(&w, HARDWARE_ETHERNET);
	write_be16(&w, PROTOCOL_IPV4);
	write_u8(&w, NET_MAC_BYTES);
	write_u8(&w, IPV4_BYTES);
	write_be16(&w, REVERSE_REQUEST);
	write_bytes(&w, mac, NET_MAC_BYTES);
	write_bytes(&w, unknown, sizeof(unknown));
	write_bytes(&w, mac, NET_MAC_BYTES);
	write_bytes(&w, unknown, sizeof(unknown));
}

struct net_packet *net_rarp_take(struct net *net)
{
	struct net_rarp *rarp = &net->rarp;
	if (!rarp->due || !net_link(net))
		return NULL;
	rarp->due = false;
	make_rarp(rarp->frame, net->guest.mac);
	rarp->header = (struct net_header){0};
	rarp->iov[0] = (struct iovec){&rarp->header, NET_HEADER_BYTES};
	rarp->iov[1] = (struct iovec){rarp->frame, NET_RARP_BYTES};
	rarp->packet = (struct net_packet){rarp->iov, 2, NET_HEADER_BYTES + NET_RARP_BYTES};
	return &rarp->packet;
}

void net_announce_due(struct net *net)
{
	if (net->rarp.due && (net->features & NET_F_GUEST_ANNOUNCE)) {
		net->guest.announce = true;
		net_tell_status(net);
	}
}

/* A machine that has just been set going may be here before its devices: net_activate sees what is due. */
static void announce_here(struct loop_op *op, int res)
{
	struct net *net = container_of(op, struct net, announce_op);
	(void)res;
	net->rarp.due = true;
	if (!net->active)
		return;
	net_announce_due(net);
	net_tx_run(&net->tx[0]);
}

/* Not waited for: the I/O thread may stand before a page that has not come yet (post-copy). */
void net_announce(struct device *device)
{
	struct net *net = container_of(device, struct net, base.device);
	net->announce_op.done = announce_here;
	loop_post(virtio_loop(net->base.virtio), &net->announce_op);
}
