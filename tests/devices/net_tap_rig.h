/*
 * The network device on TAP interfaces of a network namespace of our own; the other side is a packet socket.
 * Needs root, or a user namespace.
 */
#ifndef AERIE_TESTS_DEVICES_NET_TAP_RIG_H
#define AERIE_TESTS_DEVICES_NET_TAP_RIG_H

#include "net_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>

enum { ETHERTYPE = 0x88b5 };

static struct rig rig;
static uint8_t frame[RIG_FRAME_MAX], got[RIG_FRAME_MAX];

static const uint64_t offloads =
	NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_GUEST_OFFLOADS | NET_F_MRG_RXBUF;

static inline struct net_config tap_config(const char *name, uint32_t queues)
{
	return (struct net_config){.place = {.slot = 4, .iothread = 1},
				   .backend = NET_TAP,
				   .tap = name,
				   .queues = queues,
				   .offload = true};
}

/* Frames of `protocol` on an interface, from the host's side. */
static inline int open_socket(const char *name, uint16_t protocol, bool vnet_header)
{
	const int one = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(protocol));
	ck_assert_int_ge(fd, 0);
	if (vnet_header)
		ck_assert_int_eq(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_protocol = htons(protocol),
					    .sll_ifindex = (int)if_nametoindex(name)};
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* 0: nothing came. What we sent ourselves is not counted. */
static inline size_t host_receive(int fd, unsigned timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	while (poll(&poll_fd, 1, (int)timeout_ms) > 0) {
		ssize_t len = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &from_len);
		ck_assert_int_gt(len, 0);
		if (from.sll_pkttype != PACKET_OUTGOING)
			return (size_t)len;
	}
	return 0;
}

static inline void start_tap(const struct net_config *config, uint64_t features)
{
	rig_open(&rig);
	nic_create(&rig.a, &rig.world, config, 0);
	nic_start(&rig.a, features);
}

static inline void finish_tap(void)
{
	nic_destroy(&rig.a);
	rig_close(&rig);
}

static inline bool enter_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)close_fd(fd);
	/* No frames but ours. */
	return system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && ip link set lo up && "
		      "ip tuntap add dev probe mode tap && ip link del probe") == 0;
}

/* As TEST_MAIN, in the namespace. */
#define NET_TAP_TEST_MAIN(suite_name, ...)                                                                   \
	int main(void)                                                                                       \
	{                                                                                                    \
		const TTest *const tests[] = {__VA_ARGS__};                                                  \
		if (!enter_namespace()) {                                                                    \
			(void)printf("skipped: no TAP in a network namespace of our own (root, "             \
				     "/dev/net/tun, ip)\n");                                                 \
			return TEST_SKIP;                                                                    \
		}                                                                                            \
		return harness_run(suite_name, tests, ARRAY_LEN(tests));                                     \
	}

#endif
