/* Nested-state blobs as KVM makes them, for the tests and the fuzz target of the decoder. */
#ifndef AERIE_TESTS_NESTED_BLOB_H
#define AERIE_TESTS_NESTED_BLOB_H

#include "base/bytes.h"

#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>

enum {
	BLOB_HEADER = 128,
	BLOB_REGION = 4096,
	BLOB_VMX = BLOB_HEADER + 2 * BLOB_REGION,
	BLOB_SVM = BLOB_HEADER + BLOB_REGION
};

static inline void blob_header(uint8_t *blob, uint16_t flags, uint16_t format, uint32_t size)
{
	memset(blob, 0, BLOB_HEADER);
	store_le16(blob, flags);
	store_le16(blob + 2, format);
	store_le32(blob + 4, size);
}

/* L2 runs Linux with EPT, and KVM has a vmcs12 alone. The numbers are those of a lab run. */
static inline void blob_vmx(uint8_t *blob, uint16_t flags)
{
	uint8_t *vmcs = blob + BLOB_HEADER;

	memset(blob, 0, BLOB_VMX);
	blob_header(blob, flags, KVM_STATE_NESTED_FORMAT_VMX, BLOB_HEADER + BLOB_REGION);
	store_le64(blob + 8, 0x1f3c000);
	store_le64(blob + 16, 0x1f44000);
	store_le32(vmcs, 0x11e57ed0);
	store_le32(vmcs + 8, 1);
	store_le64(vmcs + 120, 0x5a0305e);
	store_le64(vmcs + 176, UINT64_MAX);
	store_le64(vmcs + 200, 0xd01);
	store_le64(vmcs + 408, 0x3f80008);
	store_le64(vmcs + 424, 0x80050033);
	store_le64(vmcs + 432, 0x2a3e000);
	store_le64(vmcs + 440, 0x6f0);
	store_le64(vmcs + 536, 0xffffc90000013e58);
	store_le64(vmcs + 544, 0xffffffff81a1c2b3);
	store_le64(vmcs + 552, 0x46);
	store_le64(vmcs + 672, 0xffffffffc0512340);
	store_le32(vmcs + 744, 0x7f);
	store_le32(vmcs + 748, 0xb6a1edfa);
	store_le32(vmcs + 752, 0x60042);
	store_le32(vmcs + 768, 0x36fff);
	store_le32(vmcs + 780, 0x13ff);
	store_le32(vmcs + 788, 0x800000ec);
	store_le32(vmcs + 804, 0x1010ae);
	store_le32(vmcs + 812, 30);
	store_le32(vmcs + 820, 0);
	store_le32(vmcs + 824, 0x80000b0e);
	store_le32(vmcs + 832, 1);
	store_le32(vmcs + 844, 0xffffffff);
	store_le32(vmcs + 884, 0xa09b);
	store_le16(vmcs + 960, 1);
	store_le16(vmcs + 966, 0x10);
	store_le16(vmcs + 984, 0x10);
}

/* L2 runs Linux with NPT. */
static inline void blob_svm(uint8_t *blob)
{
	uint8_t *vmcb = blob + BLOB_HEADER;

	memset(blob, 0, BLOB_SVM);
	blob_header(blob, KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_GIF_SET, KVM_STATE_NESTED_FORMAT_SVM,
		    BLOB_SVM);
	store_le64(blob + 8, 0x3456000);
	store_le32(vmcb, 0x100010);
	store_le32(vmcb + 8, 0x60042);
	store_le32(vmcb + 0xc, 0xbd44801f);
	store_le32(vmcb + 0x10, 0x2e7f);
	store_le64(vmcb + 0x40, 0x1200000);
	store_le64(vmcb + 0x48, 0x1204000);
	store_le64(vmcb + 0x50, 0xfffffff812345678);
	store_le32(vmcb + 0x58, 1);
	store_le32(vmcb + 0x60, 0x1000008);
	store_le64(vmcb + 0x70, 0x7b);
	store_le64(vmcb + 0x78, 0x3f80210);
	store_le64(vmcb + 0x80, 0xffffffff8173f5a1);
	store_le64(vmcb + 0x90, 1);
	store_le64(vmcb + 0xb0, 0x4d2b000);
	store_le32(vmcb + 0xa8, 0x80000b0e);
	store_le32(vmcb + 0xac, 2);
	memcpy(vmcb + 0x410, (const uint8_t[]){0x10, 0, 0x9b, 0x0a, 0xff, 0xff, 0xff, 0xff}, 8);
	store_le64(vmcb + 0x4d0, 0x1d01);
	store_le64(vmcb + 0x548, 0x6f0);
	store_le64(vmcb + 0x550, 0x1e06000);
	store_le64(vmcb + 0x558, 0x80050033);
	store_le64(vmcb + 0x570, 0x2);
	store_le64(vmcb + 0x578, 0xffffffffc04a1234);
	store_le64(vmcb + 0x5d8, 0xffffc9000052bd80);
}

#endif
