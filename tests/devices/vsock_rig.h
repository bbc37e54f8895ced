/*
 * virtio-vsock between two ends that a test plays itself: a guest of a few functions over the in-process
 * driver, and host programs on UNIX sockets.
 */
#ifndef AERIE_TESTS_DEVICES_VSOCK_RIG_H
#define AERIE_TESTS_DEVICES_VSOCK_RIG_H

#include "../../devices/devices.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "driver.h"
#include "harness.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { RX, TX, EVENT };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { GUEST_CID = 42, HOST_CID = 2, RX_BUFFERS = 128, RX_BYTES = 4096, TX_BYTES = 65536 };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
	uint8_t data[RX_BYTES]; /* not part of the header */
} __attribute__((packed));
enum { HDR_BYTES = 44 };

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	struct vsock_config config;
	char dir[64], path[80];
	uint64_t rx_gpa, tx_gpa, event_gpa;
	uint64_t rx_at[VIRTQ_SIZE_MAX]; /* the buffer of each id */
};

static struct rig rig;

static inline int rig_create(struct err *err)
{
	return vsock_class.create(&rig.config, 0, &rig.world.services, &rig.device, err);
}

static inline void rig_world(void)
{
	log_set_level(LOG_ERROR);
	memset(&rig, 0, sizeof(rig));
	ck_assert_ptr_nonnull(scratch_folder(rig.dir, sizeof(rig.dir), "vsock-XXXXXX"));
	(void)snprintf(rig.path, sizeof(rig.path), "%s/v", rig.dir);
	rig.config = (struct vsock_config){.cid = GUEST_CID, .path = rig.path};
	world_init(&rig.world, 1);
	rig.rx_gpa = world_alloc(&rig.world, RX_BUFFERS * RX_BYTES);
	rig.tx_gpa = world_alloc(&rig.world, TX_BYTES + RX_BYTES);
	rig.event_gpa = world_alloc(&rig.world, 4096);
}

static inline void guest_post(uint64_t gpa, uint32_t len)
{
	int id = driver_submit(&rig.driver, RX, &(struct ring_buffer){gpa, len, true}, 1);
	ck_assert_int_ge(id, 0);
	rig.rx_at[id] = gpa;
}

static inline void guest_post_all(void)
{
	for (uint64_t i = 0; i < RX_BUFFERS; i++)
		guest_post(rig.rx_gpa + i * RX_BYTES, RX_BYTES);
}

static inline void guest_start(uint64_t features)
{
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = features}), 0);
}

static inline void rig_init(uint64_t features, bool buffers)
{
	struct err err = ERR_INIT;
	rig_world();
	ck_assert_msg(rig_create(&err) == 0, "%s", err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_VSOCK), 0);
	guest_start(features);
	if (buffers)
		guest_post_all();
}

static inline void rig_finish(void)
{
	driver_finish(&rig.driver);
	vsock_class.destroy(rig.device);
	world_finish(&rig.world);
	ck_assert_int_eq(access(rig.path, F_OK), -1); /* it cleans up behind itself */
	char command[80];
	(void)snprintf(command, sizeof(command), "rm -rf %s", rig.dir);
	ck_assert_int_eq(system(command), 0);
}

/* ---- guest ---- */

static inline void take_packet(const struct ring_used *used, struct packet *ret)
{
	uint64_t gpa = rig.rx_at[used->id];
	ck_assert_uint_ge(used->len, HDR_BYTES);
	memcpy(ret, world_at(&rig.world, gpa, RX_BYTES), used->len);
	ck_assert_uint_eq(used->len, HDR_BYTES + ret->len);
	ck_assert_uint_eq(ret->dst_cid, GUEST_CID);
	guest_post(gpa, RX_BYTES);
}

static inline struct packet guest_receive(void)
{
	struct ring_used used;
	struct packet packet;
	ck_assert_int_eq(driver_collect(&rig.driver, RX, &used), 0);
	take_packet(&used, &packet);
	return packet;
}

/* The next one, which is of this operation; credit may be told at any time. */
static inline struct packet guest_expect(unsigned op)
{
	struct packet packet = guest_receive();
	while (packet.op == CREDIT_UPDATE && op != CREDIT_UPDATE)
		packet = guest_receive();
	ck_assert_msg(packet.op == op, "operation %u of %u-%u instead of %u", packet.op, packet.src_port,
		      packet.dst_port, op);
	return packet;
}

/* `claimed` bytes in the header, `len` in the chain after it. */
static inline void guest_send_raw(const struct packet *hdr, const void *data, uint32_t len, uint32_t hdr_len)
{
	uint8_t *at = world_at(&rig.world, rig.tx_gpa, TX_BYTES + HDR_BYTES);
	const struct ring_buffer buffers[] = {{rig.tx_gpa, hdr_len, false},
					      {rig.tx_gpa + HDR_BYTES, len, false}};
	memcpy(at, hdr, HDR_BYTES);
	if (len)
		memcpy(at + HDR_BYTES, data, len);
	ck_assert_int_ge(driver_request(&rig.driver, TX, buffers, len ? 2 : 1), 0);
}

/* An answer to `to`, from the same connection. */
static inline struct packet answer(const struct packet *to, unsigned op)
{
	return (struct packet){.src_cid = GUEST_CID,
			       .dst_cid = HOST_CID,
			       .src_port = to->dst_port,
			       .dst_port = to->src_port,
			       .type = 1,
			       .op = (uint16_t)op,
			       .buf_alloc = 65536};
}

static inline void guest_send(const struct packet *to, unsigned op, const void *data, uint32_t len)
{
	struct packet hdr = answer(to, op);
	hdr.len = len;
	guest_send_raw(&hdr, data, len, HDR_BYTES);
}

static inline void guest_shut(const struct packet *to, uint32_t flags)
{
	struct packet hdr = answer(to, SHUTDOWN);
	hdr.flags = flags;
	guest_send_raw(&hdr, NULL, 0, HDR_BYTES);
}

static inline struct packet peer_of(uint32_t guest_port, uint32_t host_port)
{
	return (struct packet){.dst_port = guest_port, .src_port = host_port};
}

/* ---- host ---- */

static inline struct sockaddr_un host_address(const char *suffix)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s%s", rig.path, suffix);
	return address;
}

static inline int host_open(void)
{
	const struct sockaddr_un address = host_address("");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline int host_listen(const char *suffix, int backlog)
{
	const struct sockaddr_un address = host_address(suffix);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static inline void host_write(int fd, const void *data, size_t len)
{
	ck_assert_int_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void host_read(int fd, void *data, size_t len)
{
	ck_assert_int_eq(recv(fd, data, len, MSG_WAITALL), (ssize_t)len);
}

/* Nothing more comes, ever; an error is an end too. */
static inline void host_expect_end(int fd)
{
	char byte;
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	ck_assert_int_eq(poll(&poll_fd, 1, DRIVER_TIMEOUT_MS), 1);
	ck_assert_int_le(recv(fd, &byte, 1, 0), 0);
}

/* A host program's connection, and the guest's request for it. */
static inline int host_request(unsigned port, struct packet *ret)
{
	char line[32];
	int fd = host_open();
	host_write(fd, line, (size_t)snprintf(line, sizeof(line), "CONNECT %u\n", port));
	*ret = guest_expect(REQUEST);
	ck_assert_uint_eq(ret->dst_port, port);
	ck_assert_uint_eq(ret->src_cid, HOST_CID);
	ck_assert_uint_eq(ret->type, 1);
	ck_assert_uint_gt(ret->buf_alloc, 0);
	return fd;
}

static inline int host_connect(unsigned port, struct packet *ret)
{
	char expected[32], line[32] = "";
	int fd = host_request(port, ret);
	guest_send(ret, RESPONSE, NULL, 0);
	host_read(fd, line, (size_t)snprintf(expected, sizeof(expected), "OK %u\n", ret->src_port));
	ck_assert_str_eq(line, expected);
	return fd;
}

/* The guest connects to `port`, on which `listener` listens. */
static inline int guest_connect(uint32_t guest_port, uint32_t port, int listener, struct packet *ret)
{
	const struct packet peer = peer_of(guest_port, port);
	guest_send(&peer, REQUEST, NULL, 0);
	*ret = guest_expect(RESPONSE);
	ck_assert_uint_eq(ret->src_port, port);
	ck_assert_uint_eq(ret->dst_port, guest_port);
	int fd = accept(listener, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	return fd;
}

#endif
