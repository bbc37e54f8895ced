/*
 * The machine as the operator asked for it: const, checked, and the end of JSON. docs/config.md is the
 * reference for people; src/config/schema.c has one row for each key, which drives parsing, checking and the
 * test of that reference.
 *
 * All strings belong to the machine_config and live as long as it does. Paths are absolute or relative to the
 * working directory: the loader has already resolved them against the folder of the config file.
 */
#ifndef AERIE_CONFIG_CONFIG_H
#define AERIE_CONFIG_CONFIG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CONFIG_CPUS_MAX = 1024,
	CONFIG_SERIAL_MAX = 4,	 /* COM1 to COM4 */
	CONFIG_MODULES_MAX = 16, /* boot.modules */
	CONFIG_DEVICES_MAX = 32
};

enum nested_mode { NESTED_AUTO, NESTED_OFF, NESTED_VMX, NESTED_SVM };
enum on_reset { ON_RESET_RESTART, ON_RESET_EXIT };
enum hugepages { HUGEPAGES_OFF, HUGEPAGES_2M, HUGEPAGES_1G };

/* Where bytes of a serial port or of the debug console go. */
enum chardev_kind { CHARDEV_NULL, CHARDEV_STDIO, CHARDEV_STDERR, CHARDEV_FILE, CHARDEV_PTY, CHARDEV_UNIX };

struct chardev_config {
	enum chardev_kind kind;
	const char *path; /* FILE: the file; UNIX: the socket aerie listens on; PTY: optional link to make;
			     else NULL */
};

struct cpus_config {
	uint32_t count; /* = sockets * cores * threads */
	uint32_t sockets;
	uint32_t cores;	  /* for each socket */
	uint32_t threads; /* for each core */
};

enum { CONFIG_CPU_FEATURES_MAX = 512, CONFIG_MSRS_MAX = 64, CONFIG_HYPERV_REQUIRE_MAX = 24 };

/* What a guest gets that touches an MSR which KVM does not know. */
enum msr_unknown { MSR_UNKNOWN_FAULT, MSR_UNKNOWN_IGNORE, MSR_UNKNOWN_LOG };

struct cpu_msr_config {
	enum msr_unknown unknown; /* FAULT: #GP; IGNORE: reads 0, writes vanish; LOG: the same, and say so */
	uint32_t allow[CONFIG_MSRS_MAX]; /* read 0 and swallow writes whatever `unknown` says */
	size_t allow_count;
};

/* The Hyper-V personality, one switch for each enlightenment (TLFS 6.0b, 2.4). All false with `enabled`
 * false. */
struct hyperv_config {
	bool enabled;
	bool relaxed, vapic, vpindex, runtime, crash, reset, time, frequencies, reenlightenment;
	bool synic, stimer, stimer_direct, tlbflush, tlbflush_ext, tlbflush_direct, ipi, xmm_input;
	bool avic; /* AutoEOI is deprecated, so that APICv and AVIC stay on */
	bool evmcs, emsr_bitmap;
	bool no_nonarch_coresharing;
	bool kvm; /* KVM's own leaves stay, at 0x40000100 */
	unsigned
		require[CONFIG_HYPERV_REQUIRE_MAX]; /* switches without which not to start: offsets in here */
	size_t require_count;
	uint32_t spinlock_retries; /* before the guest yields; 0xffffffff: never */
	const char *vendor_id;	   /* at most 12 bytes */
	uint32_t version_build, version_major, version_minor;
};

/* The processor that L1 sees; the names of features and models are those of cpu/features.h. */
struct cpu_config {
	const char *model;
	const char *require[CONFIG_CPU_FEATURES_MAX]; /* refuse to start without */
	size_t require_count;
	const char *prefer[CONFIG_CPU_FEATURES_MAX]; /* beyond the model, where the host has them */
	size_t prefer_count;
	const char *disable[CONFIG_CPU_FEATURES_MAX];
	size_t disable_count;
	struct hyperv_config hyperv;
	uint32_t tsc_khz; /* 0: the host's */
	struct cpu_msr_config msr;
};

struct memory_config {
	uint64_t size_bytes; /* a multiple of the page size that hugepages names */
	enum hugepages hugepages;
	bool prealloc; /* touch every page before the guest runs */
	bool shared;   /* MAP_SHARED: other processes (vhost-user, a local migration) can map the memfd */
};

struct boot_module {
	const char *path;
	const char *cmdline; /* "" when absent */
};

struct boot_config {
	const char *kernel;
	const char *initrd;  /* NULL when absent */
	const char *cmdline; /* "" when absent */
	struct boot_module modules[CONFIG_MODULES_MAX];
	size_t module_count;
};

struct debug_config {
	bool exit;		       /* port 0xf4 ends aerie with (v << 1) | 1, as QEMU's isa-debug-exit */
	bool has_console;	       /* port 0xe9 */
	struct chardev_config console; /* valid with has_console */
};

/* Token bucket limits; 0: none. */
struct rate_config {
	uint64_t bytes_per_second;
	uint32_t ops_per_second;
};

/* What every device on the PCI bus has. */
struct pci_place_config {
	uint32_t slot;	   /* 1 to 31; 0: the first free one */
	uint32_t iothread; /* 0: one is chosen; N: the Nth I/O thread */
};

enum disk_format { DISK_RAW, DISK_QCOW2 };
enum disk_cache { DISK_WRITEBACK, DISK_WRITETHROUGH };
enum disk_on_error { DISK_REPORT, DISK_RETRY };

struct disk_config {
	struct pci_place_config place;
	const char *path;
	enum disk_format format;
	enum disk_cache cache;
	enum disk_on_error on_error; /* RETRY: keep the request until the host can do it (disk full) */
	bool read_only;
	bool direct;	     /* O_DIRECT */
	bool discard;	     /* the guest's discards reach the host (default true) */
	const char *serial;  /* "" when absent; at most 20 bytes */
	uint32_t queues;     /* 0: one for each vCPU, at most 16 */
	uint32_t queue_size; /* a power of two */
	uint32_t block_size; /* logical, bytes: 512 or 4096 */
	struct rate_config rate;
};

enum net_backend { NET_TAP, NET_PASST, NET_UNIX };

struct net_config {
	struct pci_place_config place;
	enum net_backend backend;
	const char *tap;     /* interface name, made when it does not exist; NULL when fd is given */
	uint32_t tap_fd;     /* an inherited descriptor; 0: none */
	const char *passt;   /* its socket */
	const char *socket;  /* UNIX: the socket that two machines share; whoever comes first listens */
	const char *mac;     /* NULL: made from the machine's name and slot */
	uint32_t mtu;	     /* 0: not told to the guest */
	uint32_t queues;     /* pairs; TAP only, else 1 */
	uint32_t queue_size; /* a power of two */
	bool offload;	     /* checksum and segmentation offload (TAP; default true) */
	struct rate_config rate;
};

enum { CONFIG_CONSOLE_PORTS_MAX = 8 };

struct console_config {
	struct pci_place_config place;
	struct chardev_config ports[CONFIG_CONSOLE_PORTS_MAX]; /* [0] is the console (hvc0) */
	size_t port_count;
};

struct rng_config {
	struct pci_place_config place;
	struct rate_config rate;
};

struct balloon_config {
	struct pci_place_config place;
	bool deflate_on_oom;	  /* default true */
	bool free_page_reporting; /* default true */
	uint64_t size_bytes;	  /* what the balloon should hold from the start; 0: nothing */
};

struct vsock_config {
	struct pci_place_config place;
	uint32_t cid;	  /* the guest's, at least 3 */
	const char *path; /* the UNIX socket for host-initiated connections; PATH_PORT for the guest's */
};

struct pmem_config {
	struct pci_place_config place;
	const char *path;
	uint64_t size_bytes; /* 0: the file's */
	bool read_only;
};

enum vhost_user_kind { VHOST_USER_BLK, VHOST_USER_NET, VHOST_USER_FS };

struct vhost_user_config {
	struct pci_place_config place;
	enum vhost_user_kind kind;
	const char *path; /* the back end's socket; needs memory.shared */
	const char *tag;  /* FS: mount tag, at most 36 bytes */
	const char *mac;  /* NET: as above */
	uint32_t queues;
	uint32_t queue_size;
};

enum device_type {
	DEVICE_DISK,
	DEVICE_NET,
	DEVICE_CONSOLE,
	DEVICE_RNG,
	DEVICE_BALLOON,
	DEVICE_VSOCK,
	DEVICE_PMEM,
	DEVICE_VHOST_USER
};

/* One entry of "devices". */
struct device_config {
	enum device_type type;
	union {
		struct disk_config disk;
		struct net_config net;
		struct console_config console;
		struct rng_config rng;
		struct balloon_config balloon;
		struct vsock_config vsock;
		struct pmem_config pmem;
		struct vhost_user_config vhost_user;
	};
};

enum { CONFIG_IO_THREADS_MAX = 16 };

struct io_config {
	uint32_t threads; /* 0: one for each vCPU, at most 4 */
	uint32_t poll_us; /* busy-poll this long before sleeping; 0: never */
};

struct machine_config {
	const char *name;
	const char *vm_generation_id; /* a UUID as text; NULL: random, or as it was saved */
	struct cpus_config cpus;
	struct cpu_config cpu;
	struct memory_config memory;
	struct boot_config boot;
	enum nested_mode nested;
	enum on_reset on_reset; /* what becomes of the machine when its guest resets it */
	struct chardev_config serial[CONFIG_SERIAL_MAX]; /* [0] is COM1 */
	size_t serial_count;
	struct device_config devices[CONFIG_DEVICES_MAX];
	size_t device_count;
	struct io_config io;
	const char *control; /* the control socket; NULL: none */
	struct debug_config debug;
};

/*
 * Read the config file at `path` ("-": standard input, with relative paths from the working directory), apply
 * the `set` overrides ("key.path=value", `set_count` of them, in order), check everything that can be checked
 * without the host. On error the message is one line that names file, key, value and what would be accepted;
 * -EINVAL for the content, or the errno of reading the file.
 */
int config_load(const char *path, const char *const *set, size_t set_count, struct machine_config **ret,
		struct err *err);
/* The same from memory; `path` is only used in messages and to resolve relative paths. */
int config_parse(const char *path, const char *text, size_t len, const char *const *set, size_t set_count,
		 struct machine_config **ret, struct err *err);
void config_free(struct machine_config *config); /* NULL is fine */

/*
 * The whole machine as JSON, defaults and derived values included; config_parse reads the same machine from
 * it. The caller frees the text with free(). NULL when out of memory.
 */
char *config_print(const struct machine_config *config);
/* The same with relative paths behind `folder`, an absolute path without a slash at its end (the working
 * directory): then it means the same wherever it is read. */
char *config_print_in(const struct machine_config *config, const char *folder);

/* Calls `line` for each key there is, with a row of the Markdown table that stands in docs/config.md. */
void config_reference(void (*line)(const char *row, void *data), void *data);

#endif
