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

/* One entry of "devices". No type exists yet, so the list is always empty; each new type adds its own struct
 * here. */
struct device_config {
	unsigned type;
};

struct machine_config {
	const char *name;
	struct cpus_config cpus;
	struct memory_config memory;
	struct boot_config boot;
	enum nested_mode nested;
	enum on_reset on_reset; /* what becomes of the machine when its guest resets it */
	struct chardev_config serial[CONFIG_SERIAL_MAX]; /* [0] is COM1 */
	size_t serial_count;
	struct device_config devices[CONFIG_DEVICES_MAX];
	size_t device_count;
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

/* Calls `line` for each key there is, with a row of the Markdown table that stands in docs/config.md. */
void config_reference(void (*line)(const char *row, void *data), void *data);

#endif
