/*
 * What the boot loaders share. A format is a row of the table in firmware.c: how to recognise it, how to load
 * it.
 */
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

/* 1: the kernel is of this format; 0: it is not; negative: it pretends to be, and is refused with a reason.
 */
int bzimage_recognise(struct load *load, struct err *err);
int pvh_recognise(struct load *load, struct err *err);
int multiboot_recognise(struct load *load, struct err *err);

/* Put kernel, initrd, modules and what the protocol hands over into RAM. */
int bzimage_load(struct load *load, struct cpu_boot *ret, struct err *err);
int pvh_load(struct load *load, struct cpu_boot *ret, struct err *err);
int multiboot_load(struct load *load, struct cpu_boot *ret, struct err *err);

/* Read [offset, offset + len) of the kernel to `gpa`, whose place has been taken. */
int load_kernel_bytes(struct load *load, uint64_t offset, uint64_t gpa, uint64_t len, const char *what,
		      struct err *err);

/* Write to a place that has been taken, or to a low structure. */
int load_write(struct load *load, uint64_t gpa, const void *src, uint64_t len, struct err *err);

/* A whole file as high as it fits below `limit_gpa`: the initrd or a module. `what` names it in messages. */
int load_file_high(struct load *load, const char *path, uint64_t limit_gpa, const char *what,
		   uint64_t *ret_gpa, uint64_t *ret_size, struct err *err);

/* The command line to its place in layout.h; `max` bytes are accepted, without the final 0. */
int load_cmdline(struct load *load, uint64_t max, struct err *err);

#endif
