/*
 * Packets through a TAP interface: aerie's device, driven in this process without a guest, against the limit,
 * a thread that does nothing but readv or writev on the same interface. Root, or a user namespace; both are
 * measured in turn, ROUNDS times, and the medians printed: packets in a second, and what a packet takes of
 * the thread that reads or writes the interface (aerie's I/O thread; the driver has a thread of its own),
 * which a busy machine disturbs less.
 *
 *	build/tests/bench/net/bench_net
 *
 * To the host: packets sent in a second. From the host: the interface's queue is filled first, and then the
 * time is taken that it needs to drain, so that no third thread makes packets meanwhile.
 */
#include "../../../devices/devices.h"
#include "../../../devices/virtio/net.h"
#include "../../devices/driver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

enum { ROUNDS = 5, QUEUE_SIZE = 1024, QUEUE_BYTES = 64 << 20, QUEUE_PACKETS = 8000, HEADERS = 54 };

#define SEND_NS UINT64_C(400000000)

static const char name[] = "bench0";

struct load {
	const char *what;
	size_t frame_bytes;
	bool segments; /* one packet of many TCP segments */
};

struct bench {
	struct world world;
	struct net_config config;
	struct device *device;
	struct driver driver;
	uint64_t packet_gpa, buffers_gpa;
	uint8_t packet[NET_PACKET_MAX];
	size_t packet_bytes;
	int tap_fd, socket_fd;
};

static struct bench bench;

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static void check(bool good, const char *what)
{
	if (!good)
		die(what);
}

struct result {
	double pps, cpu_ns; /* packets in a second, CPU time of a packet */
};

static int read_cpu_time(void *arg)
{
	struct timespec *time = arg;
	return clock_gettime(CLOCK_THREAD_CPUTIME_ID, time);
}

/* Of this thread, or of the device's. */
static double cpu_ns(bool device)
{
	struct timespec time = {0};
	if (device)
		(void)iothread_call(bench.world.threads[0], read_cpu_time, &time);
	else
		(void)read_cpu_time(&time);
	return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static struct result result_of(uint64_t count, uint64_t from_ns, double from_cpu_ns, bool device)
{
	double ns = (double)(loop_now_ns() - from_ns);
	return (struct result){.pps = (double)count * 1e9 / ns,
			       .cpu_ns = (cpu_ns(device) - from_cpu_ns) / (double)count};
}

/* ---- the packet ---- */

static void make_packet(const struct load *load)
{
	struct net_header header = {0};
	size_t ip_bytes = load->frame_bytes - ETH_HLEN;
	const uint8_t headers[HEADERS] = {0x52,
					  0x54,
					  0,
					  1,
					  2,
					  3,
					  0x52,
					  0x54,
					  0,
					  4,
					  5,
					  6,
					  8,
					  0,
					  0x45,
					  0,
					  (uint8_t)(ip_bytes >> 8),
					  (uint8_t)ip_bytes,
					  0,
					  1,
					  0x40,
					  0,
					  64,
					  6,
					  0,
					  0,
					  10,
					  0,
					  0,
					  1,
					  10,
					  0,
					  0,
					  2};
	if (load->segments)
		header = (struct net_header){.flags = 1,
					     .gso_type = 1,
					     .hdr_len = HEADERS,
					     .gso_size = 1448,
					     .csum_start = 34,
					     .csum_offset = 16};
	memset(bench.packet, 0, sizeof(bench.packet));
	memcpy(bench.packet, &header, sizeof(header));
	memcpy(bench.packet + NET_HEADER_BYTES, headers, sizeof(headers));
	bench.packet[NET_HEADER_BYTES + 46] = 0x50; /* TCP's header is 20 bytes */
	bench.packet_bytes = NET_HEADER_BYTES + load->frame_bytes;
	memcpy(world_at(&bench.world, bench.packet_gpa, NET_PACKET_MAX), bench.packet, sizeof(bench.packet));
}

static unsigned queue_packets(const struct load *load)
{
	size_t count = QUEUE_BYTES / load->frame_bytes;
	return count < QUEUE_PACKETS ? (unsigned)count : QUEUE_PACKETS;
}

/* The host sends into the interface; nobody reads yet. */
static void fill_queue(unsigned count)
{
	static uint8_t packet[NET_PACKET_MAX];
	size_t bytes = bench.packet_bytes - 2; /* the kernel's header has no num_buffers */
	memcpy(packet, bench.packet, 10);
	memcpy(packet + 10, bench.packet + NET_HEADER_BYTES, bench.packet_bytes - NET_HEADER_BYTES);
	for (unsigned i = 0; i < count; i++)
		check(send(bench.socket_fd, packet, bytes, 0) == (ssize_t)bytes, "send");
}

static void open_socket(void)
{
	const int one = 1, bytes = 512 << 20;
	const struct sockaddr_ll address = {.sll_family = AF_PACKET,
					    .sll_ifindex = (int)if_nametoindex(name)};
	bench.socket_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	check(bench.socket_fd >= 0, "socket");
	check(setsockopt(bench.socket_fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) == 0, "vnet");
	(void)setsockopt(bench.socket_fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	(void)setsockopt(bench.socket_fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	check(bind(bench.socket_fd, (const struct sockaddr *)&address, sizeof(address)) == 0, "bind");
}

/* ---- the limit ---- */

static void plain_open(void)
{
	int size = NET_HEADER_BYTES;
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	bench.tap_fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	check(bench.tap_fd >= 0 && ioctl(bench.tap_fd, TUNSETIFF, &request) == 0 &&
		      ioctl(bench.tap_fd, TUNSETVNETHDRSZ, &size) == 0 &&
		      ioctl(bench.tap_fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0,
	      "tap");
	open_socket();
}

static void plain_close(void)
{
	close(bench.socket_fd);
	close(bench.tap_fd);
}

static struct result plain_send(void)
{
	struct iovec iov[] = {{bench.packet, NET_HEADER_BYTES},
			      {bench.packet + NET_HEADER_BYTES, bench.packet_bytes - NET_HEADER_BYTES}};
	double cpu = cpu_ns(false);
	uint64_t count = 0, from = loop_now_ns(), now = from;
	for (; now - from < SEND_NS; now = loop_now_ns())
		for (unsigned i = 0; i < 64; i++, count++)
			check(writev(bench.tap_fd, iov, 2) == (ssize_t)bench.packet_bytes, "writev");
	return result_of(count, from, cpu, false);
}

static struct result plain_receive(unsigned count)
{
	static uint8_t data[NET_PACKET_MAX];
	fill_queue(count);
	double cpu = cpu_ns(false);
	uint64_t from = loop_now_ns();
	for (unsigned i = 0; i < count; i++)
		check(read(bench.tap_fd, data, sizeof(data)) == (ssize_t)bench.packet_bytes, "read");
	return result_of(count, from, cpu, false);
}

/* ---- aerie ---- */

static void aerie_open(void)
{
	const struct driver_options options = {.features = NET_F_CSUM | NET_F_HOST_TSO4 | NET_GUEST_OFFLOADS |
							   NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX |
							   VIRTIO_F_RING_PACKED};
	struct err err = ERR_INIT;
	bench.config = (struct net_config){
		.backend = NET_TAP, .tap = name, .queues = 1, .queue_size = QUEUE_SIZE, .offload = true};
	if (net_class.create(&bench.config, 0, &bench.world.services, &bench.device, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		exit(EXIT_FAILURE);
	}
	check(driver_init(&bench.driver, &bench.world, VIRTIO_ID_NET) == 0, "driver");
	check(driver_start(&bench.driver, &options) == 0, "driver");
	open_socket();
}

static void aerie_close(void)
{
	close(bench.socket_fd);
	driver_finish(&bench.driver);
	net_class.destroy(bench.device);
}

/* The driver polls, as a busy one does: there are no interrupts. A doorbell for many packets. */
static unsigned collect(unsigned queue)
{
	struct ring_used used;
	unsigned count = 0;
	while (driver_try_collect(&bench.driver, queue, &used) == 1)
		count++;
	return count;
}

static struct result aerie_send(void)
{
	const struct ring_buffer buffers[] = {{bench.packet_gpa, NET_HEADER_BYTES, false},
					      {bench.packet_gpa + NET_HEADER_BYTES,
					       (uint32_t)(bench.packet_bytes - NET_HEADER_BYTES), false}};
	struct ring *ring = &bench.driver.queues[1]->ring;
	double cpu = cpu_ns(true);
	uint64_t count = 0, sent = 0, from = loop_now_ns(), now = from;
	ring_disable_interrupt(ring);
	for (; now - from < SEND_NS; now = loop_now_ns()) {
		unsigned added = 0;
		while (added < 64 && ring_add(ring, buffers, 2, false) >= 0)
			added++;
		sent += added;
		if (added)
			driver_kick(&bench.driver, 1);
		count += collect(1);
	}
	while (count < sent)
		count += collect(1);
	return result_of(count, from, cpu, true);
}

static struct result aerie_receive(unsigned count)
{
	struct ring *ring = &bench.driver.queues[0]->ring;
	unsigned posted = 0, done = 0;
	uint32_t len = bench.packet_bytes > 2048 ? NET_PACKET_MAX : 2048;
	fill_queue(count);
	ring_disable_interrupt(ring);
	double cpu = cpu_ns(true);
	uint64_t from = loop_now_ns();
	while (done < count) {
		struct ring_buffer buffer = {bench.buffers_gpa, len, true};
		unsigned added = 0;
		for (; posted < count && added < 64; added++, posted++) {
			buffer.gpa = bench.buffers_gpa + posted % 256 * (uint64_t)len;
			if (ring_add(ring, &buffer, 1, false) < 0)
				break;
		}
		if (added)
			driver_kick(&bench.driver, 0);
		done += collect(0);
	}
	return result_of(count, from, cpu, true);
}

/* ---- the table ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

static struct result medians(const struct result *results)
{
	double pps[ROUNDS], cpu[ROUNDS];
	for (unsigned i = 0; i < ROUNDS; i++) {
		pps[i] = results[i].pps;
		cpu[i] = results[i].cpu_ns;
	}
	return (struct result){.pps = median(pps), .cpu_ns = median(cpu)};
}

static void print_row(const char *what, const char *direction, const struct result *plain,
		      const struct result *aerie, size_t bytes)
{
	struct result limit = medians(plain), ours = medians(aerie);
	double gbit = 8e-9 * (double)bytes;
	printf("| %-15s | %-9s | %9.0f | %9.0f | %6.2f | %6.2f | %3.0f %% | %6.0f | %6.0f | %3.0f %% |\n",
	       what, direction, limit.pps, ours.pps, limit.pps * gbit, ours.pps * gbit,
	       100 * ours.pps / limit.pps, limit.cpu_ns, ours.cpu_ns, 100 * limit.cpu_ns / ours.cpu_ns);
}

static void measure(const struct load *load)
{
	struct result plain_tx[ROUNDS], plain_rx[ROUNDS], aerie_tx[ROUNDS], aerie_rx[ROUNDS];
	unsigned count = queue_packets(load);
	make_packet(load);
	for (unsigned i = 0; i < ROUNDS; i++) {
		plain_open();
		plain_tx[i] = plain_send();
		plain_rx[i] = plain_receive(count);
		plain_close();
		aerie_open();
		aerie_tx[i] = aerie_send();
		aerie_rx[i] = aerie_receive(count);
		aerie_close();
	}
	print_row(load->what, "to host", plain_tx, aerie_tx, load->frame_bytes);
	print_row(load->what, "from host", plain_rx, aerie_rx, load->frame_bytes);
}

int main(void)
{
	static const struct load loads[] = {
		{"64 bytes", 64, false}, {"1514 bytes", 1514, false}, {"65226, segments", 65226, true}};
	if ((unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) ||
	    system("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6 && "
		   "ip tuntap add dev bench0 mode tap && ip link set bench0 txqueuelen 10000 up") != 0) {
		(void)fprintf(stderr, "skipped: no TAP in a network namespace of our own\n");
		return 77;
	}
	world_init(&bench.world, 1);
	bench.packet_gpa = world_alloc(&bench.world, NET_PACKET_MAX);
	bench.buffers_gpa = world_alloc(&bench.world, UINT64_C(256) * NET_PACKET_MAX);
	printf("| frame           | direction | limit pps | aerie pps |  limit |  aerie | ratio |  limit |  "
	       "aerie | "
	       "ratio |\n"
	       "|                 |           |           |           | Gbit/s | Gbit/s |       | CPU ns | "
	       "CPU ns | "
	       "      |\n"
	       "|-----------------|-----------|----------:|----------:|-------:|-------:|------:|-------:|---"
	       "----:|"
	       "------:|\n");
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++)
		measure(&loads[i]);
	world_finish(&bench.world);
	return 0;
}
