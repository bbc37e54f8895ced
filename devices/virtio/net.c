/*
 * The network device (VIRTIO 1.3, 5.1) as the driver configures it: features, config space, life, state. See
 * net.h for its other parts.
 */
#include "net.h"

#include "../devices.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	PCI_CLASS_ETHERNET = 0x020000,
	CONFIG_BYTES = 17,
	RSS_CONFIG_BYTES = 24,
	SPEED_MBIT = 10000,
	DUPLEX_FULL = 1
};

static_assert(offsetof(struct net_space, mtu) == 10 && offsetof(struct net_space, speed) == 12 &&
		      offsetof(struct net_space, duplex) + 1 == CONFIG_BYTES &&
		      offsetof(struct net_space, rss_max_table) == 18 &&
		      sizeof(struct net_space) == RSS_CONFIG_BYTES,
	      "5.1.4");

struct net_regs {
	struct virtio_regs virtio;
	struct net_guest guest;
	bool cable;
};

#define GUEST(m) STATE_FIELD(struct net_regs, guest.m)
static const struct state_field net_fields[] = {
	VIRTIO_STATE_FIELDS(struct net_regs, virtio),
	GUEST(offloads),
	GUEST(pairs),
	GUEST(unicast_count),
	GUEST(multicast_count),
	GUEST(offloads_set),
	GUEST(announce),
	GUEST(promisc),
	GUEST(allmulti),
	GUEST(alluni),
	GUEST(nomulti),
	GUEST(nouni),
	GUEST(nobcast),
	GUEST(unicast_overflow),
	GUEST(multicast_overflow),
	STATE_ARRAY(struct net_regs, guest.mac),
	STATE_ARRAY(struct net_regs, guest.macs),
	GUEST(rss.on),
	GUEST(rss.hash_types),
	GUEST(rss.table_mask),
	GUEST(rss.unclassified),
	STATE_ARRAY(struct net_regs, guest.rss.table),
	STATE_ARRAY(struct net_regs, guest.rss.key),
	STATE_FIELD_OPTIONAL(struct net_regs, cable),
};

static const struct state_table net_state = STATE_TABLE("net", struct net_regs, net_fields);

static struct net *net_of(struct device *device)
{
	return container_of(device, struct net, base.device);
}

/* ---- features and config space ---- */

static uint64_t net_features(void *device)
{
	const struct net *net = device;
	uint64_t features = NET_F_MAC | NET_F_MRG_RXBUF | NET_F_STATUS | NET_F_CTRL_VQ | NET_F_CTRL_RX |
			    NET_F_CTRL_RX_EXTRA | NET_F_CTRL_MAC_ADDR | NET_F_GUEST_ANNOUNCE |
			    NET_F_SPEED_DUPLEX;
	if (net->offload)
		features |= NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN |
			    NET_GUEST_OFFLOADS | NET_F_CTRL_GUEST_OFFLOADS;
	if (net->config->mtu)
		features |= NET_F_MTU;
	if (net->pair_count > 1)
		features |= NET_F_MQ | NET_F_RSS;
	return features;
}

/* 5.1.3.1: what a feature needs, itself first; a driver that forgets that does not have it. */
static uint64_t usable_features(uint64_t features)
{
	static const struct {
		uint64_t feature, needs;
	} rules[] = {
		{NET_F_GUEST_TSO4, NET_F_GUEST_CSUM},
		{NET_F_GUEST_TSO6, NET_F_GUEST_CSUM},
		{NET_F_HOST_TSO4, NET_F_CSUM},
		{NET_F_HOST_TSO6, NET_F_CSUM},
		{NET_F_CTRL_RX, NET_F_CTRL_VQ},
		{NET_F_CTRL_RX_EXTRA, NET_F_CTRL_RX},
		{NET_F_CTRL_MAC_ADDR, NET_F_CTRL_VQ},
		{NET_F_CTRL_GUEST_OFFLOADS, NET_F_CTRL_VQ},
		{NET_F_GUEST_ANNOUNCE, NET_F_CTRL_VQ | NET_F_STATUS},
		{NET_F_MQ, NET_F_CTRL_VQ},
		{NET_F_RSS, NET_F_CTRL_VQ},
	};
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if ((features & rules[i].needs) != rules[i].needs)
			features &= ~rules[i].feature;
	if (!(features & (NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6)))
		features &= ~NET_F_GUEST_ECN;
	if (!(features & (NET_F_HOST_TSO4 | NET_F_HOST_TSO6)))
		features &= ~NET_F_HOST_ECN;
	return features;
}

static void net_config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
	const struct net *net = device;
	memcpy(data, (const char *)&net->space + offset, len);
}

bool net_link(const struct net *net)
{
	return net->backend_link && net->cable;
}

/* While the device is stopped, what the driver has set is not ours to look at. */
void net_tell_status(struct net *net)
{
	const uint16_t status =
		(uint16_t)((net_link(net) ? NET_S_LINK_UP : 0) | (net->guest.announce ? NET_S_ANNOUNCE : 0));
	virtio_config_store(net->base.virtio, &net->space.status, &status, sizeof(status));
}

/* 5.1.2: behind the queues that there could be, or behind the first pair where there is no talk of more. */
unsigned net_control_index(const struct net *net)
{
	return net->features & (NET_F_MQ | NET_F_RSS) ? 2 * net->pair_count : 2;
}

void net_break(struct net *net, const char *why)
{
	net->broken = true;
	virtio_needs_reset(net->base.virtio, why);
}

/* ---- start and stop ---- */

void net_apply_offloads(struct net *net)
{
	static const struct {
		uint64_t feature;
		unsigned offload;
	} bits[] = {
		{NET_F_GUEST_CSUM, NET_OFFLOAD_CSUM},
		{NET_F_GUEST_TSO4, NET_OFFLOAD_TSO4},
		{NET_F_GUEST_TSO6, NET_OFFLOAD_TSO6},
		{NET_F_GUEST_ECN, NET_OFFLOAD_ECN},
	};
	uint64_t features = net->guest.offloads_set ? net->guest.offloads : net->features;
	unsigned offloads = 0;
	for (size_t i = 0; i < ARRAY_LEN(bits); i++)
		offloads |= features & net->features & bits[i].feature ? bits[i].offload : 0;
	int r = net_set_offloads(net->backend, offloads);
	if (r < 0)
		log_warn("%s: offloads %#x: %s", net->name, offloads, strerror(-r));
}

static int net_activate(void *device, uint64_t features)
{
	struct net *net = device;
	net->features = usable_features(features);
	net->broken = false;
	net->active = true;
	net_tell_status(net);
	net_apply_offloads(net);
	net_set_flow(net->backend, true);
	int r = net_set_queues(net->backend, net->guest.pairs);
	for (unsigned i = 0; i < 2 * net->pair_count && r == 0; i++)
		net_queue_start(net, i);
	if (r < 0)
		net->active = false;
	else
		net_announce_due(net);
	return r;
}

static void net_doorbell(void *device, unsigned index)
{
	struct net *net = device;
	struct virtq *vq = virtio_queue(net->base.virtio, index);
	if (!vq || !net->active)
		return;
	if (index == net_control_index(net)) {
		if (net->features & NET_F_CTRL_VQ)
			net_control_run(net, vq, index);
		return;
	}
	if (index >= 2 * net->pair_count)
		return;
	net_queue_start(net, index); /* enabled anew */
	if (index & 1)
		net_tx_run(&net->tx[index / 2]);
	else
		net_rx_run(&net->rx[index / 2]);
}

static void net_stop(void *device)
{
	struct net *net = device;
	net_queues_stop(net);
	net_set_flow(net->backend, false);
	net->active = false;
	virtio_stopped(net->base.virtio);
}

static void net_stop_queue(void *device, unsigned index)
{
	struct net *net = device;
	net_queue_stop(net, index);
	virtio_queue_stopped(net->base.virtio, index);
}

/* Under the transport's lock. */
static void net_forget(void *device)
{
	struct net *net = device;
	net->guest = (struct net_guest){.pairs = 1, .promisc = true}; /* all frames until filters are set */
	memcpy(net->guest.mac, net->mac, sizeof(net->guest.mac));
	memcpy(net->space.mac, net->mac, sizeof(net->space.mac));
	net->space.status &= NET_S_LINK_UP;
	net->rarp.due = false;
}

static const struct virtio_ops net_ops = {
	.features = net_features,
	.config_read = net_config_read,
	.activate = net_activate,
	.doorbell = net_doorbell,
	.stop = net_stop,
	.stop_queue = net_stop_queue,
	.reset = net_forget,
};

/* ---- control ---- */

struct net_call {
	struct net *net;
	bool up;
	struct net_counts *counts;
};

static int set_link_here(void *arg)
{
	const struct net_call *call = arg;
	call->net->cable = call->up;
	net_tell_status(call->net);
	return 0;
}

void net_set_link(struct device *device, bool up)
{
	struct net *net = net_of(device);
	(void)virtio_call(net->base.virtio, set_link_here, &(struct net_call){.net = net, .up = up});
}

static int get_counts_here(void *arg)
{
	const struct net_call *call = arg;
	*call->counts = call->net->counts;
	return 0;
}

void net_get_counts(struct device *device, struct net_counts *ret)
{
	struct net *net = net_of(device);
	(void)virtio_call(net->base.virtio, get_counts_here, &(struct net_call){.net = net, .counts = ret});
}

/* ---- state ---- */

static void net_save(struct device *device, void *state)
{
	struct net *net = net_of(device);
	struct net_regs *regs = state;
	memset(regs, 0, sizeof(*regs));
	virtio_pause(net->base.virtio);
	virtio_save(net->base.virtio, &regs->virtio);
	virtio_config_load(net->base.virtio, &regs->guest, &net->guest, sizeof(regs->guest));
	regs->cable = net->cable;
	virtio_resume(net->base.virtio);
}

/* The device stands still; it tells the status when it goes on. */
static void put_guest(struct net *net, const struct net_guest *guest)
{
	virtio_config_store(net->base.virtio, &net->guest, guest, sizeof(*guest));
	virtio_config_store(net->base.virtio, net->space.mac, guest->mac, sizeof(guest->mac));
}

static int check_guest(const struct net *net, const struct net_guest *guest, struct err *err)
{
	if (guest->pairs < 1 || guest->pairs > net->pair_count)
		return err_set(err, -EINVAL, "guest.pairs: %u (1 to %u)", guest->pairs, net->pair_count);
	if (guest->unicast_count > NET_MACS_MAX ||
	    guest->multicast_count > NET_MACS_MAX - guest->unicast_count)
		return err_set(err, -EINVAL, "guest.multicast_count: %u addresses after %u (at most %d)",
			       guest->multicast_count, guest->unicast_count, NET_MACS_MAX);
	if (!net_rss_check(&guest->rss, (uint16_t)net->pair_count))
		return err_set(err, -EINVAL, "guest.rss: it is not for %u pairs of queues", net->pair_count);
	if (guest->offloads & ~NET_GUEST_OFFLOADS)
		return err_set(err, -EINVAL, "guest.offloads: %#llx has bits that there are not",
			       (unsigned long long)guest->offloads);
	return 0;
}

static int net_restore(struct device *device, const void *state, struct err *err)
{
	struct net *net = net_of(device);
	const struct net_regs *regs = state;
	struct net_guest before;
	int r = check_guest(net, &regs->guest, err);
	if (r < 0)
		return r;
	virtio_pause(net->base.virtio);
	virtio_config_load(net->base.virtio, &before, &net->guest, sizeof(before));
	put_guest(net, &regs->guest);
	r = virtio_restore(net->base.virtio, &regs->virtio, err);
	if (r < 0)
		put_guest(net, &before);
	else
		net->cable = regs->cable;
	virtio_resume(net->base.virtio);
	return r;
}

/* ---- life ---- */

static int leave_loop(void *arg)
{
	struct net *net = arg;
	(void)loop_release(virtio_loop(net->base.virtio), &net->announce_op);
	net_backend_destroy(take_ptr(net->backend));
	return 0;
}

static void net_destroy(struct device *device)
{
	if (!device)
		return;
	struct net *net = net_of(device);
	if (net->base.virtio) {
		virtio_reset(net->base.virtio); /* no doorbell may come to a backend that has gone */
		(void)virtio_call(net->base.virtio, leave_loop, net);
	}
	virtio_destroy(net->base.virtio);
	net_backend_destroy(net->backend);
	free(net->rx);
	free(net->tx);
	free(net->control_iov);
	free(net);
}

static int start_here(void *arg)
{
	struct net *net = arg;
	net_backend_start(net->backend, virtio_loop(net->base.virtio), &net_user, net);
	return 0;
}

static int make_queues(struct net *net, struct err *err)
{
	net->rx = calloc(net->pair_count, sizeof(*net->rx));
	net->tx = calloc(net->pair_count, sizeof(*net->tx));
	net->control_iov = calloc(VIRTQ_SIZE_MAX, sizeof(*net->control_iov));
	if (!net->rx || !net->tx || !net->control_iov)
		return err_sys(err, -ENOMEM, "%s", net->name);
	for (unsigned i = 0; i < net->pair_count; i++) {
		net->rx[i] = (struct net_rx){.net = net, .pair = i};
		net->tx[i] = (struct net_tx){.net = net, .pair = i};
	}
	return 0;
}

static int build(struct net *net, const struct device_services *services, struct err *err)
{
	const struct net_config *config = net->config;
	struct virtio_spec spec = {.name = net->name,
				   .id = VIRTIO_ID_NET,
				   .class_code = PCI_CLASS_ETHERNET,
				   .queue_count = 2 * net->pair_count + 1,
				   .config_len = net->pair_count > 1 ? RSS_CONFIG_BYTES : CONFIG_BYTES,
				   .place = config->place,
				   .ops = &net_ops,
				   .device = net,
				   .counts = &net->base.device.counts};
	if (net->pair_count > NET_PAIRS_MAX)
		return err_set(err, -EINVAL, "queues: %u (1 to %d)", net->pair_count, NET_PAIRS_MAX);
	int r = make_queues(net, err);
	if (r < 0)
		return r;
	r = net_backend_create(config, net->name, &net->backend, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < spec.queue_count; i++)
		spec.queue_size_max[i] = (uint16_t)config->queue_size;
	net_mac_choose(net->mac, net->config->mac, services->machine_name, net->config->place.slot,
		       net->name);
	net->space = (struct net_space){.max_virtqueue_pairs = (uint16_t)net->pair_count,
					.mtu = (uint16_t)config->mtu,
					.speed = SPEED_MBIT,
					.duplex = DUPLEX_FULL,
					.rss_max_key_size = NET_RSS_KEY_BYTES,
					.rss_max_table = NET_RSS_TABLE_MAX,
					.hash_types = NET_HASH_ALL};
	net_forget(net);
	r = virtio_create(&spec, services, &net->base.virtio, err);
	return r < 0 ? r : virtio_call(net->base.virtio, start_here, net);
}

static int net_create(const void *config, size_t index, const struct device_services *services,
		      struct device **ret, struct err *err)
{
	struct net *net = calloc(1, sizeof(*net));
	if (!net)
		return err_sys(err, -ENOMEM, "net%zu", index);
	net->base.device.class = &net_class;
	net->config = config;
	net->cable = true;
	net->pair_count = net->config->queues ? net->config->queues : 1;
	net->offload = net->config->backend == NET_TAP && net->config->offload;
	(void)snprintf(net->name, sizeof(net->name), "net%zu", index);
	int r = build(net, services, err);
	if (r < 0) {
		net_destroy(&net->base.device);
		return r;
	}
	*ret = &net->base.device;
	return 0;
}

static const void *net_config_at(const struct machine_config *machine, size_t index)
{
	return virtio_device_config(machine, DEVICE_NET, index);
}

const struct device_class net_class = {
	.name = "net",
	.state = &net_state,
	.config = net_config_at,
	.create = net_create,
	.destroy = net_destroy,
	.reset = virtio_device_reset,
	.save = net_save,
	.restore = net_restore,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.announce = net_announce,
};
