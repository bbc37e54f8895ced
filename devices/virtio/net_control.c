/*
 * The control queue (VIRTIO 1.3, 5.1.6.5): a class, a command, its data, and a byte for our answer. A command
 * that is not as it should be is answered with an error and changes nothing.
 */
#include "net.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

enum { ACK_OK = 0, ACK_ERR = 1, HEADER_BYTES = 2 };

enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_ANNOUNCE = 3, CLASS_MQ = 4, CLASS_GUEST_OFFLOADS = 5, CLASSES };

enum { RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { MQ_PAIRS_SET, MQ_RSS_CONFIG };

/* A command's data in the guest's buffers: read from the front, each byte once. */
struct command {
	const struct virtq_chain *chain;
	size_t at;
	uint8_t number;
};

static size_t left(const struct command *command)
{
	return command->chain->read_bytes - command->at;
}

static bool take(struct command *command, void *dst, size_t len)
{
	if (left(command) < len)
		return false;
	command->at += virtq_chain_read(command->chain, command->at, dst, len);
	return true;
}

/* All of the data, and no more. */
static bool take_all(struct command *command, void *dst, size_t len)
{
	return left(command) == len && take(command, dst, len);
}

/* ---- commands; false: refused ---- */

static bool set_rx_mode(struct net *net, struct command *command)
{
	bool *const modes[] = {
		[RX_PROMISC] = &net->guest.promisc, [RX_ALLMULTI] = &net->guest.allmulti,
		[RX_ALLUNI] = &net->guest.alluni,   [RX_NOMULTI] = &net->guest.nomulti,
		[RX_NOUNI] = &net->guest.nouni,	    [RX_NOBCAST] = &net->guest.nobcast,
	};
	uint64_t needs = command->number <= RX_ALLMULTI ? NET_F_CTRL_RX : NET_F_CTRL_RX_EXTRA;
	uint8_t on;
	if (command->number >= ARRAY_LEN(modes) || !(net->features & needs) || !take_all(command, &on, 1))
		return false;
	*modes[command->number] = on;
	return true;
}

/* One of the two tables: a count and so many addresses. Those that do not fit are skipped. */
static bool take_table(struct command *command, struct net_guest *guest, uint16_t *count, bool *overflow)
{
	uint8_t raw[4];
	if (!take(command, raw, sizeof(raw)))
		return false;
	uint32_t entries = load_le32(raw);
	size_t bytes = (size_t)entries * NET_MAC_BYTES;
	unsigned first = guest->unicast_count; /* 0 for the first table */
	*overflow = entries > NET_MACS_MAX - first;
	if (left(command) < bytes)
		return false;
	if (*overflow) {
		command->at += bytes;
		return true;
	}
	(void)take(command, guest->macs + (size_t)first * NET_MAC_BYTES, bytes);
	*count = (uint16_t)entries;
	return true;
}

static bool set_mac_table(struct net *net, struct command *command)
{
	struct net_guest guest = net->guest;
	memset(guest.macs, 0, sizeof(guest.macs));
	guest.unicast_count = guest.multicast_count = 0;
	uint16_t unicast = 0, multicast = 0;
	if (!take_table(command, &guest, &unicast, &guest.unicast_overflow))
		return false;
	guest.unicast_count = unicast;
	if (!take_table(command, &guest, &multicast, &guest.multicast_overflow) || left(command))
		return false;
	guest.multicast_count = multicast;
	net->guest = guest;
	return true;
}

static bool set_mac(struct net *net, struct command *command)
{
	uint8_t mac[NET_MAC_BYTES];
	if (command->number == MAC_TABLE_SET)
		return (net->features & NET_F_CTRL_RX) && set_mac_table(net, command);
	if (command->number != MAC_ADDR_SET || !(net->features & NET_F_CTRL_MAC_ADDR) ||
	    !take_all(command, mac, sizeof(mac)))
		return false;
	memcpy(net->guest.mac, mac, sizeof(mac));
	virtio_config_store(net->base.virtio, net->space.mac, mac, sizeof(mac));
	return true;
}

static bool acknowledge_announce(struct net *net, struct command *command)
{
	if (command->number != 0 || !(net->features & NET_F_GUEST_ANNOUNCE))
		return false;
	net->guest.announce = false;
	net_tell_status(net);
	return true;
}

/* 5.1.6.5.7: all of it is looked at before any of it holds. */
static bool set_rss(struct net *net, struct command *command)
{
	uint8_t raw[NET_RSS_CONFIG_BYTES];
	struct net_rss rss;
	uint16_t pairs;
	size_t len = left(command);
	if (!(net->features & NET_F_RSS) || len > sizeof(raw) || !take_all(command, raw, len) ||
	    !net_rss_parse(raw, len, (uint16_t)net->pair_count, &rss, &pairs) ||
	    net_set_pairs(net, pairs) < 0)
		return false;
	net->guest.rss = rss;
	return true;
}

/* 5.1.6.5.6: so many, and the backend chooses among them. */
static bool set_pairs(struct net *net, struct command *command)
{
	uint8_t raw[2];
	if (command->number == MQ_RSS_CONFIG)
		return set_rss(net, command);
	if (command->number != MQ_PAIRS_SET || !(net->features & NET_F_MQ) ||
	    !take_all(command, raw, sizeof(raw)))
		return false;
	uint16_t pairs = load_le16(raw);
	if (pairs < 1 || pairs > net->pair_count || net_set_pairs(net, pairs) < 0)
		return false;
	net->guest.rss.on = false;
	return true;
}

/* 5.1.6.5.6.2: only what was negotiated, and segments need checksums. */
static bool set_offloads(struct net *net, struct command *command)
{
	uint8_t raw[8];
	if (command->number != 0 || !(net->features & NET_F_CTRL_GUEST_OFFLOADS) ||
	    !take_all(command, raw, sizeof(raw)))
		return false;
	uint64_t offloads = load_le64(raw);
	if (offloads & ~(net->features & NET_GUEST_OFFLOADS))
		return false;
	if ((offloads & ~NET_F_GUEST_CSUM) && !(offloads & NET_F_GUEST_CSUM))
		return false;
	net->guest.offloads = offloads;
	net->guest.offloads_set = true;
	net_apply_offloads(net);
	return true;
}

/* ---- the queue ---- */

static bool execute(struct net *net, const struct virtq_chain *chain)
{
	static bool (*const commands[CLASSES])(struct net * net, struct command * command) = {
		[CLASS_RX] = set_rx_mode,
		[CLASS_MAC] = set_mac,
		[CLASS_ANNOUNCE] = acknowledge_announce,
		[CLASS_MQ] = set_pairs,
		[CLASS_GUEST_OFFLOADS] = set_offloads,
	};
	uint8_t header[HEADER_BYTES];
	struct command command = {.chain = chain};
	if (!take(&command, header, sizeof(header)))
		return false;
	command.number = header[1];
	return header[0] < CLASSES && commands[header[0]] && commands[header[0]](net, &command);
}

void net_control_run(struct net *net, struct virtq *vq, unsigned index)
{
	struct virtq_chain chain = {.iov = net->control_iov, .iov_max = VIRTQ_SIZE_MAX};
	int got;
	while (!net->broken && (got = virtq_pop(vq, &chain)) != 0) {
		if (got < 0) {
			net_break(net, vq->why);
			return;
		}
		if (chain.write_bytes == 0) {
			(void)virtq_push(vq, &chain, 0);
			net_break(net, "a command without room for its answer");
			return;
		}
		const uint8_t ack = execute(net, &chain) ? ACK_OK : ACK_ERR;
		if (ack != ACK_OK)
			(void)log_guest(&net->base.device.counts.guest_errors,
					"%s: a command that is refused", net->name);
		(void)virtq_chain_write(&chain, 0, &ack, sizeof(ack));
		(void)virtq_push(vq, &chain, sizeof(ack));
	}
	virtio_interrupt(net->base.virtio, index);
}
