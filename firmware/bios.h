/*
 * What little of a BIOS a kernel may lean on that was loaded without one: how much conventional memory there
 * is, and services that answer "error" instead of running into nowhere. Xen asks both before it prints its
 * first line.
 */
#ifndef AERIE_FIRMWARE_BIOS_H
#define AERIE_FIRMWARE_BIOS_H

#include "config/config.h"
#include "memory/memory.h"

/* Interrupt vectors, BIOS data area and extended BIOS data area. -EFAULT when RAM is smaller than that. */
int bios_write(const struct machine_config *config, struct guest_memory *memory);

#endif
