#include "nested_evmcs.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "nested_layout.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 4096, EVMCS_VERSION = 1 };
#define PAGE_MASK UINT64_C(0xfff)

/* HV_X64_MSR_VP_ASSIST_PAGE and HV_VP_ASSIST_PAGE (TLFS 7.8.7), offsets in bytes */
#define ASSIST_ENABLE UINT64_C(1)
enum { ASSIST_ENLIGHTEN_VMENTRY = 40, ASSIST_CURRENT_NESTED_VMCS = 48 };

static bool is_pending(const struct kvm_nested_state *put, size_t bytes)
{
	return put && put->format == KVM_STATE_NESTED_FORMAT_VMX && put->flags & KVM_STATE_NESTED_EVMCS &&
	       !(put->flags & KVM_STATE_NESTED_GUEST_MODE) && bytes >= sizeof(*put) + NESTED_REGION_BYTES;
}

int nested_evmcs_put(struct nested_evmcs *evmcs, const struct kvm_nested_state *put, size_t bytes)
{
	nested_evmcs_forget(evmcs);
	if (!is_pending(put, bytes))
		return 0;
	evmcs->put = malloc(bytes);
	if (!evmcs->put)
		return -ENOMEM;
	memcpy(evmcs->put, put, bytes);
	return 0;
}

void nested_evmcs_forget(struct nested_evmcs *evmcs)
{
	free(evmcs->put);
	evmcs->put = NULL;
}

struct same_bytes {
	uint16_t vmcs12, enlightened; /* offsets in bytes: of KVM's layout, and of TLFS 16.5.3 */
	uint8_t width;
};

/*
 * What L1 alone writes. KVM reads it again when it is asked for the state, or L1 has not run since it was
 * read: in both cases it agrees with the page. Many an L1 gives each of its VMCSes values of their own.
 */
static const struct same_bytes of_l1[] = {
	{56, 120, 8},  /* MSR bitmap */
	{88, 400, 8},  /* TSC offset */
	{96, 408, 8},  /* virtual-APIC page */
	{120, 624, 8}, /* EPT pointer */
	{592, 48, 8},  /* host CR3 */
	{608, 576, 8}, /* host FS base */
	{664, 616, 8}, /* host RSP */
	{672, 80, 8},  /* host RIP */
	{960, 632, 2}, /* VPID */
};

/* L2's registers. KVM writes them into the page after an exit, before L1 runs; then they agree, too. */
static const struct same_bytes of_l2[] = {
	{424, 544, 24}, /* CR0, CR3, CR4 */
	{448, 216, 80}, /* bases: ES to GS, LDTR, TR, GDTR, IDTR */
	{528, 568, 8},	/* DR7 */
	{536, 768, 8},	/* RSP */
	{544, 816, 8},	/* RIP */
	{552, 776, 8},	/* RFLAGS */
	{568, 488, 16}, /* SYSENTER_ESP, SYSENTER_EIP */
	{840, 144, 40}, /* limits, in the order of the bases */
	{880, 184, 32}, /* access rights */
	{964, 128, 16}, /* selectors */
};

enum { VMCS12_HOST_RIP = 672 };

static bool agree(const struct same_bytes *rows, size_t count, const uint8_t *page, const uint8_t *vmcs12)
{
	for (size_t i = 0; i < count; i++)
		if (memcmp(page + rows[i].enlightened, vmcs12 + rows[i].vmcs12, rows[i].width) != 0)
			return false;
	return true;
}

/*
 * Where L1 stands at its first instruction after an exit, KVM may not have written L2's registers yet; then
 * L1 had no time either to name another VMCS. Else a page with other registers is another VMCS, however
 * alike the two are.
 */
static bool is_of(const uint8_t *page, const uint8_t *vmcs12, uint64_t rip)
{
	return agree(of_l1, ARRAY_LEN(of_l1), page, vmcs12) &&
	       (rip == load_le64(vmcs12 + VMCS12_HOST_RIP) || agree(of_l2, ARRAY_LEN(of_l2), page, vmcs12));
}

enum evmcs_named nested_evmcs_named(const struct nested_evmcs *evmcs, const struct guest_memory *memory,
				    uint64_t msr, uint64_t rip, uint8_t **ret_pointer)
{
	uint8_t *assist = msr & ASSIST_ENABLE ? guest_memory_at(memory, msr & ~PAGE_MASK, PAGE_BYTES) : NULL;
	if (!assist || !assist[ASSIST_ENLIGHTEN_VMENTRY])
		return EVMCS_NONE;
	uint64_t gpa = load_le64(assist + ASSIST_CURRENT_NESTED_VMCS);
	const uint8_t *page = guest_memory_at(memory, gpa & ~PAGE_MASK, PAGE_BYTES);
	if (!page)
		return EVMCS_NONE;
	/* Hyper-V takes the revision of IA32_VMX_BASIC for the version, and KVM lets it. */
	uint32_t version = load_le32(page);
	if (version != EVMCS_VERSION && version != VMCS12_REVISION)
		return EVMCS_NONE;
	*ret_pointer = assist + ASSIST_CURRENT_NESTED_VMCS;
	return is_of(page, evmcs->put->data.vmx[0].vmcs12, rip) ? EVMCS_SAME : EVMCS_OTHER;
}
