/* The keys of each device type: what may stand in "devices". */
#include "rules.h"
#include "schema.h"

#include <limits.h>
#include <sys/un.h>

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define GIB		(1ULL << 30)
#define TIB		(1ULL << 40)

/* Every device on the bus has these; `m` is its member of struct device_config. */
#define PLACE_KEYS(m)                                                                                        \
	{.name = "slot",                                                                                     \
	 AT_UINT(struct device_config, m.place.slot),                                                        \
	 .min = 1,                                                                                           \
	 .max = 31,                                                                                          \
	 .absent = "the first free one",                                                                     \
	 .doc = "slot on PCI bus 0"},                                                                        \
	{                                                                                                    \
		.name = "iothread", AT_UINT(struct device_config, m.place.iothread), .min = 1,               \
		.max = CONFIG_IO_THREADS_MAX, .absent = "one is chosen",                                     \
		.doc = "the I/O thread that serves it, from 1"                                               \
	}

/* A token bucket; its object is shared, so the struct is rate_config itself. */
static const struct key rate_keys[] = {
	{.name = "bytes",
	 AT_SIZE(struct rate_config, bytes_per_second),
	 .min = 1024,
	 .max = TIB,
	 .absent = "no limit",
	 .doc = "bytes a second, with a burst of as many"},
	{.name = "ops",
	 AT_UINT(struct rate_config, ops_per_second),
	 .min = 1,
	 .max = 1000000000,
	 .absent = "no limit",
	 .doc = "requests or packets a second, with a burst of as many"},
	{.name = NULL},
};
static const struct object rate_object = {.keys = rate_keys};

#define RATE_KEY(m)                                                                                          \
	{                                                                                                    \
		.name = "rate", AT_OBJECT(struct device_config, m.rate, struct rate_config, rate_object),    \
		.doc = "limits"                                                                              \
	}

static const struct choice format_words[] = {{"raw", DISK_RAW}, {"qcow2", DISK_QCOW2}, {NULL, 0}};
static const struct choice cache_words[] = {
	{"writeback", DISK_WRITEBACK}, {"writethrough", DISK_WRITETHROUGH}, {NULL, 0}};
static const struct choice on_error_words[] = {{"report", DISK_REPORT}, {"retry", DISK_RETRY}, {NULL, 0}};

static const struct key disk_keys[] = {
	{.name = "path",
	 AT_PATH(struct device_config, disk.path),
	 .required = true,
	 .max = PATH_MAX - 1,
	 .doc = "image file or block device"},
	{.name = "format",
	 AT_CHOICE(struct device_config, disk.format, format_words),
	 .fallback = "\"raw\"",
	 .doc = "never guessed: a guest could write a header into a raw image"},
	{.name = "cache",
	 AT_CHOICE(struct device_config, disk.cache, cache_words),
	 .fallback = "\"writeback\"",
	 .doc = "is a write done when the host has it, or when the disk has it"},
	{.name = "on_error",
	 AT_CHOICE(struct device_config, disk.on_error, on_error_words),
	 .fallback = "\"report\"",
	 .doc = "tell the guest of a host error, or keep the request until the host can (a full disk)"},
	{.name = "read_only",
	 AT_BOOL(struct device_config, disk.read_only),
	 .fallback = "false",
	 .doc = "the guest cannot write; several machines may share the image"},
	{.name = "direct",
	 AT_BOOL(struct device_config, disk.direct),
	 .fallback = "false",
	 .doc = "past the host's page cache (O_DIRECT)"},
	{.name = "discard",
	 AT_BOOL(struct device_config, disk.discard),
	 .fallback = "true",
	 .doc = "blocks that the guest discards are given back to the host"},
	{.name = "serial",
	 AT_TEXT(struct device_config, disk.serial),
	 .max = 20,
	 .fallback = "\"\"",
	 .doc = "the serial number that the guest reads"},
	{.name = "queues",
	 AT_UINT(struct device_config, disk.queues),
	 .min = 1,
	 .max = 16,
	 .absent = "one for each vCPU, at most 16",
	 .doc = "virtqueues"},
	{.name = "queue_size",
	 AT_UINT(struct device_config, disk.queue_size),
	 .min = 16,
	 .max = 1024,
	 .fallback = "256",
	 .doc = "entries of each virtqueue, a power of two"},
	{.name = "block_size",
	 AT_UINT(struct device_config, disk.block_size),
	 .min = 512,
	 .max = 4096,
	 .fallback = "512",
	 .doc = "logical block, 512 or 4096 bytes"},
	RATE_KEY(disk),
	PLACE_KEYS(disk),
	{.name = NULL},
};
static const struct object disk_object = {.keys = disk_keys, .check = rule_disk};

static const struct key net_keys[] = {
	{.name = "tap",
	 AT_TEXT(struct device_config, net.tap),
	 .min = 1,
	 .max = 15,
	 .absent = "one of these four",
	 .doc = "TAP interface, made when it does not exist"},
	{.name = "tap_fd",
	 AT_UINT(struct device_config, net.tap_fd),
	 .min = 3,
	 .max = 1000000,
	 .absent = "one of these four",
	 .doc = "an open TAP descriptor that aerie inherits"},
	{.name = "passt",
	 AT_PATH(struct device_config, net.passt),
	 .max = SOCKET_PATH_MAX,
	 .absent = "one of these four",
	 .doc = "socket of passt, which gives a network without privilege"},
	{.name = "socket",
	 AT_PATH(struct device_config, net.socket),
	 .max = SOCKET_PATH_MAX,
	 .absent = "one of these four",
	 .doc = "a socket that two machines share as their cable; the first listens"},
	{.name = "mac",
	 AT_TEXT(struct device_config, net.mac),
	 .min = 17,
	 .max = 17,
	 .absent = "made from the machine's name and the slot",
	 .doc = "hardware address, such as \"52:54:00:12:34:56\""},
	{.name = "mtu",
	 AT_UINT(struct device_config, net.mtu),
	 .min = 68,
	 .max = 65535,
	 .absent = "not told",
	 .doc = "largest packet that the guest is told to send, in bytes"},
	{.name = "queues",
	 AT_UINT(struct device_config, net.queues),
	 .min = 1,
	 .max = 16,
	 .fallback = "1",
	 .doc = "pairs of virtqueues; more than one needs TAP"},
	{.name = "queue_size",
	 AT_UINT(struct device_config, net.queue_size),
	 .min = 16,
	 .max = 1024,
	 .fallback = "256",
	 .doc = "entries of each virtqueue, a power of two"},
	{.name = "offload",
	 AT_BOOL(struct device_config, net.offload),
	 .fallback = "true",
	 .doc = "checksums and segmentation are left to the host (TAP)"},
	RATE_KEY(net),
	PLACE_KEYS(net),
	{.name = NULL},
};
static const struct object net_object = {.keys = net_keys, .check = rule_net};

static const struct key console_keys[] = {
	{.name = "ports",
	 AT_LIST(struct device_config, console.ports, console.port_count, port_item),
	 .fallback = "[\"null\"]",
	 .doc = "the first is the console, hvc0"},
	PLACE_KEYS(console),
	{.name = NULL},
};
static const struct object console_object = {.keys = console_keys};

static const struct key rng_keys[] = {RATE_KEY(rng), PLACE_KEYS(rng), {.name = NULL}};
static const struct object rng_object = {.keys = rng_keys};

static const struct key balloon_keys[] = {
	{.name = "size",
	 AT_SIZE(struct device_config, balloon.size_bytes),
	 .max = 4 * TIB,
	 .fallback = "\"0K\"",
	 .doc = "what the guest should give back from the start"},
	{.name = "deflate_on_oom",
	 AT_BOOL(struct device_config, balloon.deflate_on_oom),
	 .fallback = "true",
	 .doc = "the guest may take pages back when it runs out of memory"},
	{.name = "free_page_reporting",
	 AT_BOOL(struct device_config, balloon.free_page_reporting),
	 .fallback = "true",
	 .doc = "the guest reports free pages, and the host gets them"},
	PLACE_KEYS(balloon),
	{.name = NULL},
};
static const struct object balloon_object = {.keys = balloon_keys};

static const struct key vsock_keys[] = {
	{.name = "cid",
	 AT_UINT(struct device_config, vsock.cid),
	 .min = 3,
	 .max = UINT32_MAX - 1,
	 .required = true,
	 .doc = "the guest's context id"},
	{.name = "path",
	 AT_PATH(struct device_config, vsock.path),
	 .required = true,
	 .max = SOCKET_PATH_MAX - 11, /* the guest's own connections go to PATH_PORT */
	 .doc = "socket that takes \"CONNECT port\" from the host; the guest's connections go to path_port"},
	PLACE_KEYS(vsock),
	{.name = NULL},
};
static const struct object vsock_object = {.keys = vsock_keys};

static const struct key pmem_keys[] = {
	{.name = "path",
	 AT_PATH(struct device_config, pmem.path),
	 .required = true,
	 .max = PATH_MAX - 1,
	 .doc = "file that is the memory"},
	{.name = "size",
	 AT_SIZE(struct device_config, pmem.size_bytes),
	 .min = 2ULL * 1024 * 1024,
	 .max = 4 * TIB,
	 .absent = "the file's",
	 .doc = "makes the file this long"},
	{.name = "read_only",
	 AT_BOOL(struct device_config, pmem.read_only),
	 .fallback = "false",
	 .doc = "the guest's writes stay its own and are lost at the end"},
	PLACE_KEYS(pmem),
	{.name = NULL},
};
static const struct object pmem_object = {.keys = pmem_keys};

static const struct choice vhost_user_words[] = {
	{"blk", VHOST_USER_BLK}, {"net", VHOST_USER_NET}, {"fs", VHOST_USER_FS}, {NULL, 0}};

static const struct key vhost_user_keys[] = {
	{.name = "kind",
	 AT_CHOICE(struct device_config, vhost_user.kind, vhost_user_words),
	 .required = true,
	 .doc = "what the back end is"},
	{.name = "path",
	 AT_PATH(struct device_config, vhost_user.path),
	 .required = true,
	 .max = SOCKET_PATH_MAX,
	 .doc = "socket of the back end; memory.shared must be true"},
	{.name = "tag",
	 AT_TEXT(struct device_config, vhost_user.tag),
	 .min = 1,
	 .max = 36,
	 .absent = "required for fs",
	 .doc = "the name by which the guest mounts it (fs)"},
	{.name = "mac",
	 AT_TEXT(struct device_config, vhost_user.mac),
	 .min = 17,
	 .max = 17,
	 .absent = "made from the machine's name and the slot",
	 .doc = "hardware address (net)"},
	{.name = "queues",
	 AT_UINT(struct device_config, vhost_user.queues),
	 .min = 1,
	 .max = 16,
	 .fallback = "1",
	 .doc = "virtqueues, or pairs of them (net)"},
	{.name = "queue_size",
	 AT_UINT(struct device_config, vhost_user.queue_size),
	 .min = 16,
	 .max = 1024,
	 .fallback = "256",
	 .doc = "entries of each virtqueue, a power of two"},
	PLACE_KEYS(vhost_user),
	{.name = NULL},
};
static const struct object vhost_user_object = {.keys = vhost_user_keys, .check = rule_vhost_user};

static const struct tag device_tags[] = {
	{"disk", DEVICE_DISK, &disk_object},
	{"net", DEVICE_NET, &net_object},
	{"console", DEVICE_CONSOLE, &console_object},
	{"rng", DEVICE_RNG, &rng_object},
	{"balloon", DEVICE_BALLOON, &balloon_object},
	{"vsock", DEVICE_VSOCK, &vsock_object},
	{"pmem", DEVICE_PMEM, &pmem_object},
	{"vhost-user", DEVICE_VHOST_USER, &vhost_user_object},
	{.word = NULL},
};

const struct key device_item = {
	.type = KEY_TAGGED, .tags = device_tags, .doc = "one device, by its \"type\""};
