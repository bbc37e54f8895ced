/* A guest in memory whose L1 has two enlightened VMCSes, A, which it names, and B; and vmcs12 of A. */
#ifndef AERIE_TESTS_EVMCS_RIG_H
#define AERIE_TESTS_EVMCS_RIG_H

#include "base/bytes.h"
#include "memory/memory.h"

#include <check.h>
#include <linux/kvm.h>
#include <string.h>

enum { HEADER = 128, NESTED_BYTES = 8320, REVISION = 0x11e57ed0 };
enum { ASSIST = 0x5000, PAGE_A = 0x6000, PAGE_B = 0x8000, RAM = 2 << 20 };
/* Of the enlightened VMCS, and of vmcs12: where an exit leads, a group of L2's fields that KVM reads by
 * marks, what an exit told, the marks. */
enum { E_HOST_RIP = 80, E_CS = 130, E_HOST_RSP = 616, E_REASON = 692, E_CLEAN = 824 };
enum { V_HOST_RSP = 664, V_HOST_RIP = 672, V_REASON = 812, V_CS = 966, HOST_RIP = 0x401000 };
#define HOST_RSP UINT64_C(0xffff888000001000)
enum { CS_A = 0x10, CS_B = 0x18, REASON = 30, ALL_CLEAN = 0xffff };

static inline uint8_t *rig_at(const struct guest_memory *memory, uint64_t gpa)
{
	uint8_t *host = guest_memory_at(memory, gpa, 4096);
	ck_assert_ptr_nonnull(host);
	return host;
}

static inline void rig_write_evmcs(uint8_t *page, uint16_t cs)
{
	store_le32(page, 1);
	store_le64(page + E_HOST_RSP, HOST_RSP);
	store_le64(page + E_HOST_RIP, HOST_RIP);
	store_le16(page + E_CS, cs);
	store_le32(page + E_CLEAN, ALL_CLEAN);
}

static inline struct guest_memory *rig_memory(void)
{
	const struct memory_config config = {.size_bytes = RAM};
	struct guest_memory *memory;
	struct err err = ERR_INIT;
	ck_assert_msg(guest_memory_create(&config, &memory, &err) == 0, "%s", err.text);
	rig_at(memory, ASSIST)[40] = 1;
	store_le64(rig_at(memory, ASSIST) + 48, PAGE_A);
	rig_write_evmcs(rig_at(memory, PAGE_A), CS_A);
	rig_write_evmcs(rig_at(memory, PAGE_B), CS_B);
	return memory;
}

/* What belongs to A, after an exit of its L2 for REASON that the page does not tell of yet. */
static inline void rig_fill(struct kvm_nested_state *state, uint16_t flags)
{
	uint8_t *vmcs12 = (uint8_t *)state + HEADER;
	memset(state, 0, NESTED_BYTES);
	state->format = KVM_STATE_NESTED_FORMAT_VMX;
	state->flags = flags;
	state->size = HEADER + 4096;
	state->hdr.vmx.vmxon_pa = 0x1000;
	state->hdr.vmx.vmcs12_pa = UINT64_MAX;
	store_le32(vmcs12, REVISION);
	store_le64(vmcs12 + V_HOST_RSP, HOST_RSP);
	store_le64(vmcs12 + V_HOST_RIP, HOST_RIP);
	store_le16(vmcs12 + V_CS, CS_A);
	store_le32(vmcs12 + V_REASON, REASON);
}

#endif
