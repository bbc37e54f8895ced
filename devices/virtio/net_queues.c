/* A network device's queues start and stop, and what the backend says finds its way to them. */
#include "net.h"

#include <errno.h>
#include <string.h>

/* Receive and transmit queues alternate (5.1.2). */
static bool is_tx(unsigned index)
{
	return index & 1;
}

static bool should_run(const struct net *net, unsigned index)
{
	return index < 2 * net->pair_count && index != net_control_index(net) &&
	       index / 2 < net->guest.pairs && net->active && !net->broken;
}

void net_queue_start(struct net *net, unsigned index)
{
	unsigned pair = index / 2;
	struct virtq *vq = virtio_queue(net->base.virtio, index);
	if (!vq || !should_run(net, index))
		return;
	int r = 0;
	if (is_tx(index) && !net->tx[pair].vq)
		r = net_tx_start(&net->tx[pair], vq);
	else if (!is_tx(index) && !net->rx[pair].vq)
		r = net_rx_start(&net->rx[pair], vq);
	if (r < 0)
		net_break(net, strerror(-r));
}

void net_queue_stop(struct net *net, unsigned index)
{
	unsigned pair = index / 2;
	if (index >= 2 * net->pair_count)
		return;
	if (is_tx(index) && net->tx[pair].vq) {
		net_halt(net->backend, pair, true);
		net_tx_stop(&net->tx[pair]);
	} else if (!is_tx(index) && net->rx[pair].vq) {
		net_halt(net->backend, pair, false);
		net_rx_stop(&net->rx[pair]);
	}
}

void net_queues_stop(struct net *net)
{
	for (unsigned i = 0; i < 2 * net->pair_count; i++)
		net_queue_stop(net, i);
}

/* 5.1.6.5.5: from now on the device uses so many. */
int net_set_pairs(struct net *net, uint16_t pairs)
{
	int r = net_set_queues(net->backend, pairs);
	if (r < 0) {
		log_warn("%s: %u queues: %s", net->name, pairs, strerror(-r));
		return r;
	}
	net->guest.pairs = pairs;
	for (unsigned i = 0; i < 2 * net->pair_count; i++) {
		if (i >= 2U * pairs) {
			net_queue_stop(net, i);
		} else {
			net_queue_start(net, i);
			if (is_tx(i))
				virtio_retry(net->base.virtio, i);
			else
				net_rx_run(&net->rx[i / 2]);
		}
	}
	return 0;
}

/* ---- the backend's calls ---- */

static void on_received(void *owner, unsigned queue)
{
	struct net *net = owner;
	net_rx_received(&net->rx[queue]);
}

static void on_readable(void *owner, unsigned queue)
{
	struct net *net = owner;
	net->rx[queue].state = NET_RX_IDLE;
	net_rx_run(&net->rx[queue]);
}

static void on_sent(void *owner, unsigned queue)
{
	struct net *net = owner;
	net_tx_sent(&net->tx[queue]);
}

static void on_link(void *owner, bool up)
{
	struct net *net = owner;
	net->backend_link = up;
	net_tell_status(net);
}

const struct net_backend_user net_user = {
	.received = on_received,
	.readable = on_readable,
	.sent = on_sent,
	.link = on_link,
};
