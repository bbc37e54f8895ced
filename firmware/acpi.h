/*
 * The ACPI tables of our PC (ACPI 6.5, chapter 5), at LAYOUT_ACPI_GPA with the RSDP first: that is where a
 * kernel that was not told looks (5.2.5.1).
 */
#ifndef AERIE_FIRMWARE_ACPI_H
#define AERIE_FIRMWARE_ACPI_H

#include "base/bytes.h"
#include "base/err.h"
#include "config/config.h"

/*
 * Write all tables to `area`, the LAYOUT_ACPI_BYTES of guest RAM at LAYOUT_ACPI_GPA. They are written anew at
 * each reset: the guest may have changed them, and the FACS is there for it to write. -ENOSPC when they do
 * not fit.
 */
int acpi_write_tables(const struct machine_config *config, uint8_t *area, struct err *err);

/* acpi_dsdt.c: the definition block's terms, without the table header. */
void acpi_write_dsdt_terms(const struct machine_config *config, struct writer *w);

/* acpi_pci.c: the PCI root bridge in the DSDT, and what follows the header in the MCFG. */
void acpi_write_pci_root(const struct machine_config *config, struct writer *w);
void acpi_write_mcfg_body(struct writer *w);

#endif
