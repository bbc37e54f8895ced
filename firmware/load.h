/* What the boot loaders share. A format is a row in firmware.c: how to recognise it, how to load it. */
#ifndef AERIE_FIRMWARE_LOAD_H
#define AERIE_FIRMWARE_LOAD_H

#include "base/err.h"
#include "config/config.h"
#include "cpu/boot.h"
#include "e820.h"
#include "image.h"
#include "memory/memory.h"
#include "places.h"

struct load {
	const struct machine_config *config;
	struct guest_memory *memory;
	struct image kernel;
	struct e820 e820;
	struct places places;
};

static inline uint64_t align_up(uint64_t value, uint64_t power_of_two)
{
	return (value + power_of_two - 1) & ~(power_of_two - 1);
}

/* 1: the kernel is of this format; 0: it is not; negative: it pretends to be, and is refused. */
int bzimage_recognise(struct load *load, struct err *err);
int pvh_recognise(struct load *load, struct err *err);
int multiboot_recognise(struct load *load, struct err *err);

/* Put kernel, initrd, modules and what the protocol hands over into RAM. */
int bzimage_load(struct load *load, struct cpu_boot *ret, struct err *err);
int pvh_load(struct load *load, struct cpu_boot *ret, struct err *err);
int multiboot_load(struct load *load, struct cpu_boot *ret, struct err *err);

/* Write to a place that has been taken, or to a low structure. */
int load_write(struct load *load, uint64_t gpa, const void *src, uint64_t len, struct err *err);

/* A file in RAM: the initrd or a module. */
struct load_file {
	uint64_t gpa;
	uint64_t size; /* bytes */
	const char *path;
	const char *cmdline; /* "" when absent */
};

/* Put all of `file->path` into a free place. `what` names it in messages. */
int load_file(struct load *load, struct load_file *file, enum place_end where, uint64_t limit_gpa,
	      const char *what, struct err *err);

/* The initrd, if there is one, then boot.modules in their order. */
struct load_files {
	struct load_file files[1 + CONFIG_MODULES_MAX];
	size_t count;
};
int load_modules(struct load *load, enum place_end where, struct load_files *ret, struct err *err);

/* The command line to its place in layout.h; `max` bytes are accepted, without the final 0. */
int load_cmdline(struct load *load, uint64_t max, struct err *err);

#endif
