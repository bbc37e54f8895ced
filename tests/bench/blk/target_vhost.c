/* A block device in another process, over vhost-user (the master's side of what QEMU's documents specify). */
#include "traffic.h"

#include "base/cleanup.h"
#include "base/layout.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
};

enum { VERSION = 1, PROTOCOL_CONFIG = 9 };

#define F_PROTOCOL VIRTIO_BIT(30)

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t u64;
		struct {
			uint32_t index, num;
		} state;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} address;
		struct {
			uint32_t count, padding;
			uint64_t gpa, size, user, offset;
		} memory;
	};
} __attribute__((packed));

struct vhost_target {
	struct world world;
	struct ring ring;
	int socket, kick_fd;
	clockid_t clock;
};

static void tell(struct vhost_target *vhost, struct message *message, int fd)
{
	struct iovec iov = {message, 12 + message->size};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	message->flags = VERSION;
	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
	}
	if (sendmsg(vhost->socket, &msg, 0) != (ssize_t)iov.iov_len)
		die("vhost-user: send");
}

static void tell_u64(struct vhost_target *vhost, uint32_t request, uint64_t value, int fd)
{
	struct message message = {.request = request, .size = 8, .u64 = value};
	tell(vhost, &message, fd);
}

static void tell_state(struct vhost_target *vhost, uint32_t request, uint32_t num)
{
	struct message message = {.request = request, .size = 8, .state = {0, num}};
	tell(vhost, &message, -1);
}

static uint64_t ask_u64(struct vhost_target *vhost, uint32_t request)
{
	struct message message = {.request = request};
	tell(vhost, &message, -1);
	if (recv(vhost->socket, &message, 20, MSG_WAITALL) != 20)
		die("vhost-user: receive");
	return message.u64;
}

/* The memfd behind the world's RAM. */
static int ram_fd(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int found = -1;
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		char link[64] = "";
		struct stat st;
		int fd = atoi(entry->d_name);
		if (readlinkat(dirfd(folder), entry->d_name, link, sizeof(link) - 1) > 0 &&
		    strncmp(link, "/memfd:", 7) == 0 && fstat(fd, &st) == 0 &&
		    st.st_size == WORLD_RAM_MIB * (off_t)MIB)
			found = fd;
	}
	(void)closedir(folder);
	return found;
}

static void share_memory(struct vhost_target *vhost)
{
	struct message message = {.request = SET_MEM_TABLE, .size = 40};
	message.memory.count = 1;
	message.memory.size = WORLD_RAM_MIB * MIB;
	message.memory.user = (uint64_t)(uintptr_t)world_at(&vhost->world, 0, 1);
	tell(vhost, &message, ram_fd());
}

static void start_ring(struct vhost_target *vhost, int irq_fd)
{
	uint64_t base = (uint64_t)(uintptr_t)world_at(&vhost->world, 0, 1);
	struct message message = {.request = SET_VRING_ADDR, .size = 40};
	message.address.desc = base + vhost->ring.setup.desc_gpa;
	message.address.avail = base + vhost->ring.setup.driver_gpa;
	message.address.used = base + vhost->ring.setup.device_gpa;
	tell_state(vhost, SET_VRING_NUM, vhost->ring.setup.size);
	tell_state(vhost, SET_VRING_BASE, 0);
	tell(vhost, &message, -1);
	tell_u64(vhost, SET_VRING_CALL, 0, irq_fd);
	tell_u64(vhost, SET_VRING_KICK, 0, vhost->kick_fd);
	tell_state(vhost, SET_VRING_ENABLE, 1);
}

static void kick(struct target *target)
{
	struct vhost_target *vhost = container_of(target->world, struct vhost_target, world);
	uint64_t one = 1;
	if (write(vhost->kick_fd, &one, sizeof(one)) != sizeof(one))
		die("doorbell");
}

static double cpu_s(struct target *target)
{
	struct vhost_target *vhost = container_of(target->world, struct vhost_target, world);
	struct timespec time;
	if (clock_gettime(vhost->clock, &time) < 0)
		die("the back end's clock");
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void vhost_open(struct target *target, const char *path, int pid)
{
	static struct vhost_target vhost;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	world_init(&vhost.world, 1);
	vhost.kick_fd = eventfd(0, EFD_CLOEXEC);
	vhost.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(vhost.socket, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    clock_getcpuclockid(pid, &vhost.clock) != 0)
		die(path);
	const struct virtq_setup setup = {.size = 256, .indirect = true, .event_idx = true};
	uint64_t gpa = world_alloc(&vhost.world, ring_bytes(&setup));
	if (ring_init(&vhost.ring, vhost.world.memory, &setup, gpa) < 0)
		die("ring");
	*target = (struct target){.world = &vhost.world,
				  .ring = &vhost.ring,
				  .kick = kick,
				  .irq_fd = eventfd(0, EFD_CLOEXEC),
				  .cpu_s = cpu_s};
	tell_u64(&vhost, SET_OWNER, 0, -1);
	uint64_t wanted = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | F_PROTOCOL |
			  VIRTIO_BIT(9) /* VIRTIO_BLK_F_FLUSH */;
	uint64_t features = ask_u64(&vhost, GET_FEATURES) & wanted;
	if (features != wanted)
		die("the back end lacks a feature");
	uint64_t protocol = ask_u64(&vhost, GET_PROTOCOL_FEATURES) & VIRTIO_BIT(PROTOCOL_CONFIG);
	tell_u64(&vhost, SET_PROTOCOL_FEATURES, protocol, -1);
	tell_u64(&vhost, SET_FEATURES, features, -1);
	share_memory(&vhost);
	start_ring(&vhost, target->irq_fd);
}
