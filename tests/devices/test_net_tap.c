/* The network device on TAP interfaces: frames both ways, and interfaces that cannot be used. */
#include "net_tap_rig.h"

#include <linux/if_tun.h>
#include <sys/ioctl.h>

enum { QUIET_MS = 50 };

START_TEST(frames_pass_between_host_and_guest)
{
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, 0);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts) * 2; i++) {
		nic_start(&rig.a, rig_layouts[i / 2] | (i & 1 ? offloads : 0));
		nic_wait_link(&rig.a, true);
		nic_post(&rig.a, RIG_RX, RIG_QUEUE, 2048);
		for (unsigned n = 0; n < 40; n++) {
			size_t len = make_frame(frame, 60 + 30 * n, n);
			nic_send(&rig.a, frame, len);
			ck_assert_uint_eq(host_receive(fd, 2000), len);
			ck_assert_mem_eq(got, frame, len);
			ck_assert_int_eq(send(fd, frame, len, 0), (ssize_t)len);
			ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), len);
			ck_assert_mem_eq(rig.a.frame, frame, len);
		}
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* A burst while the guest has no buffers stays in the interface, and comes in order. */
START_TEST(a_burst_waits_in_the_interface)
{
	enum { FRAMES = 200 };
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, VIRTIO_F_RING_PACKED);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (unsigned n = 0; n < FRAMES; n++)
		ck_assert_int_eq(send(fd, frame, make_frame(frame, 100 + n, n), 0), 100 + (ssize_t)n);
	for (unsigned n = 0; n < FRAMES; n++) {
		if (n % 50 == 0)
			nic_post(&rig.a, RIG_RX, 50, 2048);
		ck_assert_uint_eq(nic_receive(&rig.a, RIG_RX), make_frame(frame, 100 + n, n));
		ck_assert_mem_eq(rig.a.frame, frame, 100 + n);
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

/* ---- what may be wrong ---- */

static void refused(const struct net_config *config, int code, const char *message)
{
	struct err err;
	ck_assert_int_eq(nic_try_create(&rig.b, &rig.world, config, 0, &err), code);
	ck_assert_str_eq(err.text, message);
}

START_TEST(interfaces_that_cannot_be_used_are_refused)
{
	rig_open(&rig);
	struct net_config config = tap_config("lo", 1);
	refused(&config, -EINVAL, "tap: lo: not a TAP interface");
	config = tap_config("lo", 2);
	refused(&config, -EINVAL,
		"tap: lo: not a TAP interface with several queues (ip tuntap add dev lo mode tap multi_queue "
		"makes one)");
	config = tap_config("aerie1", 1);
	nic_create(&rig.a, &rig.world, &config, 0);
	refused(&config, -EBUSY, "tap: aerie1: another program has it open");
	nic_destroy(&rig.a);
	ck_assert_uint_eq(if_nametoindex("aerie1"), 0);
	config = (struct net_config){.backend = NET_TAP, .tap_fd = 0x7fff};
	refused(&config, -EINVAL, "tap_fd: 32767: not a TAP descriptor (Bad file descriptor)");
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	config.tap_fd = (uint32_t)null;
	char message[128];
	(void)snprintf(message, sizeof(message),
		       "tap_fd: %d: not a TAP descriptor (Inappropriate ioctl for device)", null);
	refused(&config, -EINVAL, message);
	(void)close_fd(null);
	rig_close(&rig);
}
END_TEST

static int open_tap_fd(const char *name, short flags)
{
	struct ifreq request = {.ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

START_TEST(an_inherited_descriptor_must_be_a_tap_with_header)
{
	static const struct {
		short flags;
		const char *message;
	} cases[] = {
		{IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, "is not a TAP interface but a TUN"},
		{IFF_TAP | IFF_NO_PI, "was opened without IFF_VNET_HDR"},
	};
	rig_open(&rig);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char message[128];
		int fd = open_tap_fd("aerie2", cases[i].flags);
		const struct net_config config = {.backend = NET_TAP, .tap_fd = (uint32_t)fd};
		(void)snprintf(message, sizeof(message), "tap_fd: %d: aerie2 %s", fd, cases[i].message);
		refused(&config, -EINVAL, message);
		(void)close_fd(fd);
	}
	int fd = open_tap_fd("aerie2", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	const struct net_config config = {
		.place = {.slot = 4}, .backend = NET_TAP, .tap_fd = (uint32_t)fd, .offload = true};
	nic_create(&rig.a, &rig.world, &config, 0);
	(void)close_fd(fd);
	ck_assert_int_eq(system("ip link set aerie2 up"), 0);
	nic_start(&rig.a, 0);
	int host = open_socket("aerie2", ETHERTYPE, false);
	nic_send(&rig.a, frame, make_frame(frame, 99, 1));
	ck_assert_uint_eq(host_receive(host, 2000), 99);
	(void)close_fd(host);
	nic_destroy(&rig.a);
	rig_close(&rig);
}
END_TEST

/* It goes while the guest uses it: nothing worse than silence. */
START_TEST(an_interface_that_is_deleted_is_only_silent)
{
	ck_assert_int_eq(system("ip tuntap add dev aerie3 mode tap && ip link set aerie3 up"), 0);
	const struct net_config config = tap_config("aerie3", 1);
	start_tap(&config, 0);
	nic_post(&rig.a, RIG_RX, 8, 2048);
	ck_assert_int_eq(system("ip link del aerie3"), 0);
	for (unsigned n = 0; n < 5; n++)
		nic_send(&rig.a, frame, make_frame(frame, 99, n));
	rig_sleep_ms(QUIET_MS);
	ck_assert_uint_ge(nic_counts(&rig.a).tx_dropped, 4);
	finish_tap();
}
END_TEST

START_TEST(resets_with_traffic_in_flight)
{
	const struct net_config config = tap_config("aerie0", 1);
	start_tap(&config, 0);
	int fd = open_socket("aerie0", ETHERTYPE, false);
	for (unsigned round = 0; round < 60; round++) {
		nic_start(&rig.a, VIRTIO_F_RING_RESET | rig_layouts[round % 4] | (round & 4 ? offloads : 0));
		nic_post(&rig.a, RIG_RX, 20, 2048);
		for (unsigned n = 0; n < 40; n++) {
			(void)send(fd, frame, make_frame(frame, 700, n), MSG_DONTWAIT);
			if (n < 20)
				ck_assert_int_ge(
					nic_submit(&rig.a, RIG_TX, &(struct net_header){0}, frame, 700), 0);
		}
		if (round % 3 == 0) {
			ck_assert_int_eq(driver_reset_queue(&rig.a.driver, RIG_RX), 0);
			ck_assert_int_eq(driver_reset_queue(&rig.a.driver, RIG_TX), 0);
			ck_assert_int_eq(driver_enable_queue(&rig.a.driver, RIG_RX, 0), 0);
			ck_assert_int_eq(driver_enable_queue(&rig.a.driver, RIG_TX, 0), 0);
			nic_post(&rig.a, RIG_RX, 20, 2048);
			nic_send(&rig.a, frame, 700);
		}
	}
	(void)close_fd(fd);
	finish_tap();
}
END_TEST

NET_TAP_TEST_MAIN("net_tap", frames_pass_between_host_and_guest, a_burst_waits_in_the_interface,
		  interfaces_that_cannot_be_used_are_refused,
		  an_inherited_descriptor_must_be_a_tap_with_header,
		  an_interface_that_is_deleted_is_only_silent, resets_with_traffic_in_flight)
