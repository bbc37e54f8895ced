/*
 * What the machine is made of, for dmidecode and for guests that ask who made them (SMBIOS 3.0, DSP0134), at
 * LAYOUT_SMBIOS_GPA with the 64-bit anchor first: a PC without UEFI is searched there.
 */
#ifndef AERIE_FIRMWARE_SMBIOS_H
#define AERIE_FIRMWARE_SMBIOS_H

#include "base/err.h"
#include "config/config.h"
#include "memory/memory.h"

/*
 * Write the tables to `area`, the LAYOUT_SMBIOS_BYTES of guest RAM at LAYOUT_SMBIOS_GPA. -ENOSPC when they do
 * not fit.
 */
int smbios_write_tables(const struct machine_config *config, const struct guest_memory *memory, uint8_t *area,
			struct err *err);

#endif
