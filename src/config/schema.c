#include "schema.h"

#include "rules.h"

#include <limits.h>
#include <string.h>
#include <sys/un.h>

#define MIB (1ULL << 20)
#define TIB (1ULL << 40)

enum { CMDLINE_BYTES_MAX = 4095, NAME_BYTES_MAX = 64 };

static const struct choice nested_words[] = {
	{"auto", NESTED_AUTO}, {"off", NESTED_OFF}, {"vmx", NESTED_VMX}, {"svm", NESTED_SVM}, {NULL, 0},
};

static const struct choice on_reset_words[] = {
	{"restart", ON_RESET_RESTART},
	{"exit", ON_RESET_EXIT},
	{NULL, 0},
};

static const struct choice hugepages_words[] = {
	{"off", HUGEPAGES_OFF},
	{"2M", HUGEPAGES_2M},
	{"1G", HUGEPAGES_1G},
	{NULL, 0},
};

const struct chardev_form chardev_forms[] = {
	{.word = "null", .kind = CHARDEV_NULL, .bare = true},
	{.word = "stdio", .kind = CHARDEV_STDIO, .bare = true},
	{.word = "stderr", .kind = CHARDEV_STDERR, .bare = true},
	{.word = "pty", .kind = CHARDEV_PTY, .bare = true, .with_path = true, .path_max = PATH_MAX - 1},
	{.word = "file", .kind = CHARDEV_FILE, .with_path = true, .path_max = PATH_MAX - 1},
	{.word = "unix",
	 .kind = CHARDEV_UNIX,
	 .with_path = true,
	 .path_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1},
	{.word = NULL},
};

static const struct key cpus_keys[] = {
	{.name = "count",
	 AT_UINT(struct cpus_config, count),
	 .min = 1,
	 .max = CONFIG_CPUS_MAX,
	 .absent = "sockets × cores × threads",
	 .doc = "vCPUs of the machine"},
	{.name = "sockets",
	 AT_UINT(struct cpus_config, sockets),
	 .min = 1,
	 .max = CONFIG_CPUS_MAX,
	 .absent = "derived, else 1",
	 .doc = "CPU packages"},
	{.name = "cores",
	 AT_UINT(struct cpus_config, cores),
	 .min = 1,
	 .max = CONFIG_CPUS_MAX,
	 .absent = "derived, else 1",
	 .doc = "cores of each socket"},
	{.name = "threads",
	 AT_UINT(struct cpus_config, threads),
	 .min = 1,
	 .max = CONFIG_CPUS_MAX,
	 .absent = "derived, else 1",
	 .doc = "hardware threads of each core"},
	{.name = NULL},
};
static const struct object cpus_object = {.keys = cpus_keys, .check = rule_cpus};

static const struct key memory_keys[] = {
	{.name = "size",
	 AT_SIZE(struct memory_config, size_bytes),
	 .min = 2 * MIB, /* the first MiB is a PC's low memory; a kernel goes above it */
	 .max = 4 * TIB, /* a KVM memory slot holds less than 8 TiB */
	 .fallback = "\"512M\"",
	 .doc = "RAM of the machine, a multiple of the page size"},
	{.name = "hugepages",
	 AT_CHOICE(struct memory_config, hugepages, hugepages_words),
	 .fallback = "\"off\"",
	 .doc = "back RAM with pages of this size from the host's hugetlb pool"},
	{.name = "prealloc",
	 AT_BOOL(struct memory_config, prealloc),
	 .fallback = "false",
	 .doc = "touch every page before the guest runs"},
	{.name = "shared",
	 AT_BOOL(struct memory_config, shared),
	 .fallback = "false",
	 .doc = "map RAM shared, so that other processes can map it too"},
	{.name = NULL},
};
static const struct object memory_object = {.keys = memory_keys, .check = rule_memory};

static const struct key module_keys[] = {
	{.name = "path", AT_FILE(struct boot_module, path), .required = true, .doc = "the module's file"},
	{.name = "cmdline",
	 AT_TEXT(struct boot_module, cmdline),
	 .max = CMDLINE_BYTES_MAX,
	 .fallback = "\"\"",
	 .doc = "the module's own command line"},
	{.name = NULL},
};
static const struct object module_object = {.keys = module_keys};
static const struct key module_item = {.type = KEY_OBJECT, .object = &module_object, .doc = "one module"};

static const struct key boot_keys[] = {
	{.name = "kernel",
	 AT_FILE(struct boot_config, kernel),
	 .required = true,
	 .doc = "bzImage, PVH or multiboot ELF; recognised by its content"},
	{.name = "initrd", AT_FILE(struct boot_config, initrd), .absent = "none", .doc = "initial RAM disk"},
	{.name = "cmdline",
	 AT_TEXT(struct boot_config, cmdline),
	 .max = CMDLINE_BYTES_MAX,
	 .fallback = "\"\"",
	 .doc = "the kernel's command line"},
	{.name = "modules",
	 AT_LIST(struct boot_config, modules, module_count, module_item),
	 .fallback = "[]",
	 .doc = "files for a kernel that takes modules (PVH, multiboot), in order"},
	{.name = NULL},
};
static const struct object boot_object = {.keys = boot_keys};

static const struct key debug_keys[] = {
	{.name = "exit",
	 AT_BOOL(struct debug_config, exit),
	 .fallback = "false",
	 .doc = "port 0xf4 ends aerie: the guest writes v, the exit status is (v << 1) \\| 1"},
	{.name = "console",
	 AT_CHARDEV(struct debug_config, console),
	 FLAG(struct debug_config, has_console),
	 .absent = "no port 0xe9",
	 .doc = "where bytes written to port 0xe9 go"},
	{.name = NULL},
};
static const struct object debug_object = {.keys = debug_keys};

const struct key port_item = {.type = KEY_CHARDEV, .doc = "where the bytes of the port come from and go"};

static const struct key io_keys[] = {
	{.name = "threads",
	 AT_UINT(struct io_config, threads),
	 .min = 1,
	 .max = CONFIG_IO_THREADS_MAX,
	 .absent = "one for each vCPU, at most 4",
	 .doc = "threads that serve the devices, each with an io_uring of its own"},
	{.name = "poll_us",
	 AT_UINT(struct io_config, poll_us),
	 .max = 10000,
	 .fallback = "0",
	 .doc = "how long a thread keeps looking for work before it sleeps, in microseconds"},
	{.name = NULL},
};
static const struct object io_object = {.keys = io_keys};

static const struct key machine_keys[] = {
	{.name = "name",
	 AT_TEXT(struct machine_config, name),
	 .min = 1,
	 .max = NAME_BYTES_MAX,
	 .fallback = "\"aerie\"",
	 .doc = "what messages call this machine"},
	{.name = "vm_generation_id",
	 AT_TEXT(struct machine_config, vm_generation_id),
	 .min = 36,
	 .max = 36,
	 .absent = "random; of a restored machine, what it was",
	 .doc = "UUID that tells the guest when it has become another machine: give each clone of a snapshot "
		"its own"},
	{.name = "cpus",
	 AT_OBJECT(struct machine_config, cpus, struct cpus_config, cpus_object),
	 .doc = "processors"},
	{.name = "cpu",
	 AT_OBJECT(struct machine_config, cpu, struct cpu_config, cpu_object),
	 .doc = "the processor that the guest sees (see nested.md)"},
	{.name = "memory",
	 AT_OBJECT(struct machine_config, memory, struct memory_config, memory_object),
	 .doc = "guest RAM"},
	{.name = "boot",
	 AT_OBJECT(struct machine_config, boot, struct boot_config, boot_object),
	 .doc = "what runs first"},
	{.name = "nested",
	 AT_CHOICE(struct machine_config, nested, nested_words),
	 .fallback = "\"auto\"",
	 .doc = "the virtualization that the guest sees; auto is what the host offers"},
	{.name = "on_reset",
	 AT_CHOICE(struct machine_config, on_reset, on_reset_words),
	 .fallback = "\"restart\"",
	 .doc = "when the guest resets the machine: boot again, or end aerie with exit code 0"},
	{.name = "serial",
	 AT_LIST(struct machine_config, serial, serial_count, port_item),
	 .fallback = "[\"stdio\"]",
	 .doc = "COM1 to COM4, in order"},
	{.name = "devices",
	 AT_LIST(struct machine_config, devices, device_count, device_item),
	 .fallback = "[]",
	 .doc = "devices on the PCI bus"},
	{.name = "io",
	 AT_OBJECT(struct machine_config, io, struct io_config, io_object),
	 .doc = "how the devices are served"},
	{.name = "control",
	 AT_PATH(struct machine_config, control),
	 .max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1,
	 .absent = "none",
	 .doc = "the UNIX socket of `aerie ctl` and QMP clients (see control.md); `--control` replaces it"},
	{.name = "debug",
	 AT_OBJECT(struct machine_config, debug, struct debug_config, debug_object),
	 .doc = "for test programs and early consoles"},
	{.name = NULL},
};
const struct object machine_object = {.keys = machine_keys, .check = rule_machine};

const struct key *key_find(const struct object *object, const char *name, size_t len)
{
	for (const struct key *key = object->keys; key->name; key++)
		if (strlen(key->name) == len && memcmp(key->name, name, len) == 0)
			return key;
	return NULL;
}
