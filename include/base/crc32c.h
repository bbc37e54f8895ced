/*
 * CRC-32C (Castagnoli; RFC 3720, appendix B.4): polynomial 0x1edc6f41, reflected, as in iSCSI and NVMe. It
 * finds damage, not malice.
 */
#ifndef AERIE_BASE_CRC32C_H
#define AERIE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what `crc` was the checksum of (0: nothing) with `len` bytes at `data` behind it. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
