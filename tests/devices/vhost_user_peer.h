/*
 * A vhost-user back end in a thread of the test: a RAM disk over split rings, with a list of ways to be
 * wrong. It is written from the protocol's description and shares nothing with the front end.
 */
#ifndef AERIE_TESTS_DEVICES_VHOST_USER_PEER_H
#define AERIE_TESTS_DEVICES_VHOST_USER_PEER_H

#include "base/bytes.h"
#include "base/cleanup.h"
#include "ring.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { PEER_QUEUES = 4, PEER_REGIONS = 4, PEER_DISK = 1 << 20, PEER_SIZE_MAX = 1024, PEER_SECTOR = 512 };
enum { PEER_INFLIGHT = PEER_QUEUES * PEER_SIZE_MAX };

enum peer_fault {
	PEER_FINE,
	PEER_SILENT,   /* never answers */
	PEER_OTHER,    /* answers another request */
	PEER_SHORT,    /* an answer of one byte less */
	PEER_LONG,     /* one byte more */
	PEER_HUGE,     /* a header that promises 4 GiB */
	PEER_NO_REPLY, /* flags without the reply bit */
	PEER_TWICE,    /* answers twice */
	PEER_CUT,      /* half of an answer, and hangs up */
	PEER_HANG_UP,
	PEER_REFUSE,   /* an acknowledgement of failure */
	PEER_NONSENSE, /* all bits of the payload set */
	PEER_FAULTS
};

struct peer_queue {
	uint32_t size;
	uint16_t last_avail;
	const struct ring_desc *desc;
	const struct ring_avail *avail;
	struct ring_used_ring *used;
	int kick, call;
	bool enabled, started;
};

struct peer {
	char path[64];
	uint64_t features, protocol;
	_Atomic uint32_t fault_request; /* and how it is answered */
	_Atomic unsigned fault;
	const uint8_t *script; /* a fault and a byte of nonsense for each answer; then it is good */
	size_t script_len;
	_Atomic int die_in; /* so many requests from now it dies, before it has answered; -1: lives */
	_Atomic unsigned served, connections;
	_Atomic uint64_t capacity; /* sectors, in the configuration */
	_Atomic uint8_t writeback;
	_Atomic uint64_t got_features;

	/* Of the thread. */
	pthread_t thread;
	bool running;
	int listen_fd, fd, stop_fd;
	_Atomic int channel_fd;
	bool dead;
	struct {
		uint64_t gpa, size, user, mapped_len;
		uint8_t *mapped;
		uint64_t offset;
	} regions[PEER_REGIONS];
	unsigned region_count;
	struct peer_queue queues[PEER_QUEUES];
	bool tracked;	   /* the front end has given us a table of what is in flight */
	uint8_t *inflight; /* a byte for each head of each queue; outlives us */
	uint8_t *disk;	   /* so does it */
};

struct peer_message {
	uint32_t request, flags, size;
	uint8_t payload[512];
	int fds[8];
	unsigned fd_count;
};

static inline void *peer_at(struct peer *peer, uint64_t address, uint64_t len, bool user)
{
	for (unsigned i = 0; i < peer->region_count; i++) {
		uint64_t base = user ? peer->regions[i].user : peer->regions[i].gpa;
		if (address >= base && address - base < peer->regions[i].size &&
		    len <= peer->regions[i].size - (address - base))
			return peer->regions[i].mapped + peer->regions[i].offset + (address - base);
	}
	return NULL;
}

/* ---- the disk ---- */

static inline uint8_t peer_transfer(struct peer *peer, const struct ring_desc *desc, uint64_t *at, bool write)
{
	uint8_t *data = peer_at(peer, desc->addr, desc->len, false);
	if (!data || *at + desc->len > PEER_DISK)
		return 1;
	if (write)
		memcpy(peer->disk + *at, data, desc->len);
	else
		memcpy(data, peer->disk + *at, desc->len);
	*at += desc->len;
	return 0;
}

/* A whole chain: le32 type, le32, le64 sector; data; a byte of status. */
static inline uint32_t peer_serve(struct peer *peer, struct peer_queue *q, uint16_t head)
{
	const struct ring_desc *table = q->desc;
	unsigned at = head;
	uint32_t written = 0, type = UINT32_MAX;
	uint64_t offset = 0;
	uint8_t status = 0;
	if (table[at].split.flags & RING_INDIRECT) {
		table = peer_at(peer, table[at].addr, table[at].len, false);
		at = 0;
	}
	for (unsigned i = 0; i < 64; i++) {
		const struct ring_desc *desc = &table[at];
		bool last = !(desc->split.flags & RING_NEXT);
		if (i == 0) {
			const uint8_t *header = peer_at(peer, desc->addr, 16, false);
			type = load_le32(header);
			offset = load_le64(header + 8) * PEER_SECTOR;
		} else if (last) {
			*(uint8_t *)peer_at(peer, desc->addr, 1, false) = status;
			written++;
		} else {
			status |= peer_transfer(peer, desc, &offset, type == 1);
			written += type == 0 ? desc->len : 0;
		}
		if (last)
			break;
		at = desc->split.next;
	}
	return written;
}

static inline void peer_use(struct peer *peer, struct peer_queue *q, uint16_t head)
{
	uint32_t written = peer_serve(peer, q, head);
	uint16_t idx = q->used->idx;
	q->used->ring[idx % q->size] = (struct ring_used_elem){head, written};
	__atomic_store_n(&q->used->idx, (uint16_t)(idx + 1), __ATOMIC_RELEASE);
	peer->inflight[(q - peer->queues) * PEER_SIZE_MAX + head] = 0;
	(void)atomic_fetch_add(&peer->served, 1);
}

/* Two are taken before the later one is served: what is in flight at death is not in the ring's order. */
static inline void peer_work(struct peer *peer, struct peer_queue *q)
{
	uint16_t heads[2];
	unsigned held = 0;
	uint8_t *inflight = peer->inflight + (q - peer->queues) * PEER_SIZE_MAX;
	if (!q->started || !q->enabled)
		return;
	while (!peer->dead) {
		if (held < 2 && q->last_avail != __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE)) {
			heads[held] = q->avail->ring[q->last_avail++ % q->size];
			inflight[heads[held++]] = 1;
			int die_in = atomic_load(&peer->die_in);
			if (die_in >= 0)
				atomic_store(&peer->die_in, die_in - 1);
			peer->dead = die_in == 0;
		} else if (held > 0) {
			peer_use(peer, q, heads[--held]);
		} else {
			break;
		}
	}
	if (!peer->dead && q->call >= 0)
		(void)eventfd_write(q->call, 1);
}

/* What the one before us had taken and not done. */
static inline void peer_resubmit(struct peer *peer, struct peer_queue *q)
{
	if (!peer->tracked)
		return;
	uint8_t *inflight = peer->inflight + (q - peer->queues) * PEER_SIZE_MAX;
	uint16_t count = 0;
	for (uint16_t head = 0; head < q->size; head++)
		count = (uint16_t)(count + inflight[head]);
	q->last_avail = (uint16_t)(q->used->idx + count);
	for (uint16_t head = 0; head < q->size; head++)
		if (inflight[head])
			peer_use(peer, q, head);
}

/* ---- the protocol ---- */

static inline void peer_unmap(struct peer *peer)
{
	for (unsigned i = 0; i < peer->region_count; i++)
		(void)munmap(peer->regions[i].mapped, peer->regions[i].mapped_len);
	peer->region_count = 0;
}

static inline void peer_set_memory(struct peer *peer, struct peer_message *m)
{
	peer_unmap(peer);
	unsigned count = load_le32(m->payload);
	for (unsigned i = 0; i < count && i < PEER_REGIONS && i < m->fd_count; i++) {
		const uint8_t *at = m->payload + 8 + 32 * i;
		peer->regions[i].gpa = load_le64(at);
		peer->regions[i].size = load_le64(at + 8);
		peer->regions[i].user = load_le64(at + 16);
		peer->regions[i].offset = load_le64(at + 24);
		peer->regions[i].mapped_len = peer->regions[i].size + peer->regions[i].offset;
		peer->regions[i].mapped = mmap(NULL, peer->regions[i].mapped_len, PROT_READ | PROT_WRITE,
					       MAP_SHARED, m->fds[i], 0);
		if (peer->regions[i].mapped != MAP_FAILED)
			peer->region_count = i + 1;
	}
}

/* One message; false: the front end hung up. */
static inline bool peer_receive(int fd, struct peer_message *m)
{
	_Alignas(8) char control[128];
	uint8_t header[12];
	struct iovec iov = {header, sizeof(header)};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	if (recvmsg(fd, &msg, MSG_WAITALL | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(header))
		return false;
	m->fd_count = 0;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		m->fd_count = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m->fds, CMSG_DATA(cmsg), m->fd_count * sizeof(int));
	}
	m->request = load_le32(header);
	m->flags = load_le32(header + 4);
	m->size = load_le32(header + 8);
	if (m->size > sizeof(m->payload))
		return false;
	return m->size == 0 || recv(fd, m->payload, m->size, MSG_WAITALL) == (ssize_t)m->size;
}

static inline void peer_send(int fd, const void *data, size_t len, int passed)
{
	_Alignas(8) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (passed >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &passed, sizeof(int));
	}
	(void)sendmsg(fd, &msg, MSG_NOSIGNAL);
}

/* With the fault that this request is to have. */
static inline void peer_answer(struct peer *peer, const struct peer_message *m, const void *payload,
			       uint32_t size, int passed)
{
	uint8_t bytes[12 + 512];
	enum peer_fault fault = m->request == peer->fault_request ? (enum peer_fault)peer->fault : PEER_FINE;
	uint8_t nonsense = 0xff;
	if (peer->script_len >= 2) {
		fault = peer->script[0] % PEER_FAULTS;
		fault = fault == PEER_SILENT ? PEER_FINE : fault;
		nonsense = peer->script[1];
		peer->script += 2;
		peer->script_len -= 2;
	}
	uint32_t sent_size = fault == PEER_SHORT ? size - 1 : fault == PEER_LONG ? size + 1 : size;
	memset(bytes, 0, sizeof(bytes));
	store_le32(bytes, fault == PEER_OTHER ? m->request + 1 : m->request);
	store_le32(bytes + 4, fault == PEER_NO_REPLY ? 1 : 5);
	store_le32(bytes + 8, fault == PEER_HUGE ? UINT32_MAX : sent_size);
	memcpy(bytes + 12, payload, size);
	if (fault == PEER_NONSENSE)
		memset(bytes + 12, nonsense, size);
	if (fault == PEER_REFUSE)
		bytes[12] = 1;
	peer->dead |= fault == PEER_HANG_UP || fault == PEER_CUT;
	if (fault == PEER_SILENT || fault == PEER_HANG_UP)
		return;
	if (fault == PEER_CUT)
		sent_size = 0;
	peer_send(peer->fd, bytes, 12 + sent_size, passed);
	if (fault == PEER_TWICE)
		peer_send(peer->fd, bytes, 12 + sent_size, -1);
}

static inline void peer_answer_u64(struct peer *peer, const struct peer_message *m, uint64_t value)
{
	uint8_t bytes[8];
	store_le64(bytes, value);
	peer_answer(peer, m, bytes, 8, -1);
}

static inline void peer_config(struct peer *peer, struct peer_message *m)
{
	store_le64(m->payload + 12, peer->capacity);
	m->payload[12 + 32] = peer->writeback;
	peer_answer(peer, m, m->payload, m->size, -1);
}

static inline void peer_get_inflight(struct peer *peer, struct peer_message *m)
{
	_cleanup_close_ int fd = memfd_create("peer-inflight", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, PEER_INFLIGHT), 0);
	store_le64(m->payload, PEER_INFLIGHT);
	store_le64(m->payload + 8, 0);
	peer_answer(peer, m, m->payload, m->size, peer->fault == PEER_REFUSE ? -1 : fd);
}

static inline void peer_set_inflight(struct peer *peer, struct peer_message *m)
{
	if (m->fd_count == 0 || load_le64(m->payload) != PEER_INFLIGHT)
		return;
	void *mapped = mmap(NULL, PEER_INFLIGHT, PROT_READ | PROT_WRITE, MAP_SHARED, m->fds[0], 0);
	if (mapped == MAP_FAILED)
		return;
	if (peer->tracked)
		(void)munmap(peer->inflight, PEER_INFLIGHT);
	peer->inflight = mapped;
	peer->tracked = true;
}

/* A vring command. False: it is none. */
static inline bool peer_vring(struct peer *peer, struct peer_message *m)
{
	struct peer_queue *q = &peer->queues[m->payload[0] % PEER_QUEUES];
	uint32_t value = load_le32(m->payload + 4);
	switch (m->request) {
	case 8:
		q->size = value;
		return true;
	case 9:
		q->desc = peer_at(peer, load_le64(m->payload + 8), 16, true);
		q->used = peer_at(peer, load_le64(m->payload + 16), 4, true);
		q->avail = peer_at(peer, load_le64(m->payload + 24), 4, true);
		return true;
	case 10:
		q->last_avail = (uint16_t)value;
		return true;
	case 12:
		q->kick = m->fds[0];
		m->fd_count = 0;
		q->started = q->desc && q->used && q->avail && q->size;
		if (q->started)
			peer_resubmit(peer, q);
		return true;
	case 13:
		q->call = m->fds[0];
		m->fd_count = 0;
		return true;
	case 18:
		q->enabled = value;
		peer_work(peer, q);
		return true;
	default:
		return false;
	}
}

static inline void peer_get_base(struct peer *peer, struct peer_message *m)
{
	struct peer_queue *q = &peer->queues[m->payload[0] % PEER_QUEUES];
	store_le32(m->payload + 4, q->last_avail);
	q->started = q->enabled = false;
	q->kick = close_fd(q->kick);
	q->call = close_fd(q->call);
	peer_answer(peer, m, m->payload, 8, -1);
}

static inline void peer_command(struct peer *peer, struct peer_message *m)
{
	bool answered = true;
	switch (m->request) {
	case 1:
		peer_answer_u64(peer, m, peer->features);
		break;
	case 11:
		peer_get_base(peer, m);
		break;
	case 15:
		peer_answer_u64(peer, m, peer->protocol);
		break;
	case 17:
		peer_answer_u64(peer, m, PEER_QUEUES);
		break;
	case 24:
		peer_config(peer, m);
		break;
	case 31:
		peer_get_inflight(peer, m);
		break;
	default:
		answered = false;
		break;
	}
	if (m->request == 2)
		peer->got_features = load_le64(m->payload);
	if (m->request == 5)
		peer_set_memory(peer, m);
	if (m->request == 25)
		peer->writeback = m->payload[12];
	if (m->request == 32)
		peer_set_inflight(peer, m);
	if (m->request == 21) {
		(void)close_fd(atomic_exchange(&peer->channel_fd, m->fds[0]));
		m->fd_count = 0;
	}
	(void)peer_vring(peer, m);
	if (!answered && (m->flags & 8))
		peer_answer_u64(peer, m, 0);
	for (unsigned i = 0; i < m->fd_count; i++)
		(void)close_fd(m->fds[i]);
}

static inline void peer_turn(struct peer *peer)
{
	struct pollfd fds[3 + PEER_QUEUES] = {{.fd = peer->stop_fd, .events = POLLIN},
					      {.fd = peer->listen_fd, .events = POLLIN},
					      {.fd = peer->fd, .events = POLLIN}};
	struct peer_message m;
	uint64_t count;
	if (peer->fd >= 0)
		fds[1].fd = -1;
	for (unsigned i = 0; i < PEER_QUEUES; i++)
		fds[3 + i] = (struct pollfd){.fd = peer->queues[i].kick, .events = POLLIN};
	(void)poll(fds, 3 + PEER_QUEUES, -1);
	if (fds[0].revents) {
		peer->dead = true;
		return;
	}
	if (fds[1].revents) {
		peer->fd = accept(peer->listen_fd, NULL, NULL);
		(void)atomic_fetch_add(&peer->connections, 1);
	}
	for (unsigned i = 0; i < PEER_QUEUES && !peer->dead; i++)
		if (fds[3 + i].revents & POLLIN) {
			(void)!read(peer->queues[i].kick, &count, sizeof(count));
			peer_work(peer, &peer->queues[i]);
		}
	if (!peer->dead && peer->fd >= 0 && fds[2].revents) {
		if (peer_receive(peer->fd, &m))
			peer_command(peer, &m);
		else
			peer->fd = close_fd(peer->fd);
	}
}

static inline void *peer_run(void *arg)
{
	struct peer *peer = arg;
	peer->fd = -1;
	for (unsigned i = 0; i < PEER_QUEUES; i++)
		peer->queues[i] = (struct peer_queue){.kick = -1, .call = -1};
	while (!peer->dead)
		peer_turn(peer);
	for (unsigned i = 0; i < PEER_QUEUES; i++) {
		(void)close_fd(peer->queues[i].kick);
		(void)close_fd(peer->queues[i].call);
	}
	peer_unmap(peer);
	if (peer->tracked)
		(void)munmap(peer->inflight, PEER_INFLIGHT);
	(void)unlink(peer->path); /* before anybody can see that we are gone */
	(void)close_fd(peer->listen_fd);
	(void)close_fd(peer->fd);
	return NULL;
}

/* A back end appears at `path`; what it is to offer is set. */
static inline void peer_start(struct peer *peer)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static uint8_t untracked[PEER_INFLIGHT];
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", peer->path);
	peer->dead = false;
	atomic_store(&peer->channel_fd, -1);
	peer->tracked = false;
	peer->inflight = untracked;
	peer->stop_fd = eventfd(0, EFD_CLOEXEC);
	peer->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)unlink(peer->path);
	ck_assert_int_eq(bind(peer->listen_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(peer->listen_fd, 4), 0);
	ck_assert_int_eq(pthread_create(&peer->thread, NULL, peer_run, peer), 0);
	peer->running = true;
}

/* It died by itself. */
static inline void peer_join(struct peer *peer)
{
	ck_assert_int_eq(pthread_join(peer->thread, NULL), 0);
	peer->stop_fd = close_fd(peer->stop_fd);
	(void)close_fd(atomic_exchange(&peer->channel_fd, -1));
	peer->running = false;
}

/* It is gone, if it was not already. */
static inline void peer_stop(struct peer *peer)
{
	if (!peer->running)
		return;
	(void)eventfd_write(peer->stop_fd, 1);
	peer_join(peer);
}

#endif
