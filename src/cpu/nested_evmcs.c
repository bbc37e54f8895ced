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

bool nested_evmcs_is_l1s(const struct kvm_nested_state *state, size_t bytes)
{
	return state && state->format == KVM_STATE_NESTED_FORMAT_VMX &&
	       state->flags & KVM_STATE_NESTED_EVMCS && !(state->flags & KVM_STATE_NESTED_GUEST_MODE) &&
	       bytes >= sizeof(*state) + NESTED_REGION_BYTES;
}

int nested_evmcs_put(struct nested_evmcs *evmcs, const struct kvm_nested_state *put, size_t bytes)
{
	nested_evmcs_forget(evmcs);
	if (!nested_evmcs_is_l1s(put, bytes))
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

/*
 * What KVM copies into the page when it maps it, but for what an exit told: offsets in vmcs12 (KVM's layout)
 * and in the page (TLFS 16.5.3), and how many bytes lie alike in both.
 */
static const struct {
	uint16_t vmcs12, page, bytes;
} copied[] = {
	{964, 128, 8 * 2},  /* the guest's selectors: ES, CS, SS, DS, FS, GS, LDTR, TR */
	{840, 144, 10 * 4}, /* their limits, GDTR's and IDTR's */
	{880, 184, 8 * 4},  /* access rights */
	{448, 216, 10 * 8}, /* bases */
	{192, 432, 2 * 8},  /* PAT, EFER */
	{216, 448, 4 * 8},  /* PDPTEs */
	{560, 480, 3 * 8},  /* pending debug exceptions, SYSENTER ESP and EIP */
	{916, 504, 2 * 4},  /* activity state, SYSENTER CS */
	{424, 544, 3 * 8},  /* CR0, CR3, CR4 */
	{528, 568, 8},	    /* DR7 */
	{536, 768, 8},	    /* RSP */
	{552, 776, 8},	    /* RFLAGS */
	{912, 784, 4},	    /* interruptibility */
	{748, 788, 4},	    /* processor-based controls */
	{780, 796, 4},	    /* entry controls */
	{788, 800, 3 * 4},  /* injected event, its error code and length */
	{544, 816, 8},	    /* RIP */
	{248, 896, 8},	    /* BNDCFGS */
};

static bool copy_changes(const uint8_t *page, const uint8_t *vmcs12)
{
	for (size_t i = 0; i < ARRAY_LEN(copied); i++)
		if (memcmp(page + copied[i].page, vmcs12 + copied[i].vmcs12, copied[i].bytes) != 0)
			return true;
	return false;
}

/* The page that is named; NULL: none, or it is no RAM. */
static uint8_t *find_page(const struct guest_memory *memory, uint64_t msr, uint8_t **ret_pointer)
{
	uint8_t *assist = msr & ASSIST_ENABLE ? guest_memory_at(memory, msr & ~PAGE_MASK, PAGE_BYTES) : NULL;
	if (!assist || !assist[ASSIST_ENLIGHTEN_VMENTRY])
		return NULL;
	*ret_pointer = assist + ASSIST_CURRENT_NESTED_VMCS;
	return guest_memory_at(memory, load_le64(*ret_pointer) & ~PAGE_MASK, PAGE_BYTES);
}

/* Hyper-V takes the revision of IA32_VMX_BASIC for the version, and KVM lets it. */
static bool has_version(const uint8_t *page)
{
	uint32_t version = load_le32(page);
	return version == EVMCS_VERSION || version == VMCS12_REVISION;
}

bool nested_evmcs_is_named(const struct nested_evmcs *evmcs, const struct guest_memory *memory, uint64_t msr,
			   const struct kvm_regs *regs, uint8_t **ret_pointer)
{
	const uint8_t *vmcs12 = evmcs->put->data.vmx[0].vmcs12;
	const uint8_t *page = find_page(memory, msr, ret_pointer);
	/* L1 may have cleared the one that was put, and made something else of its page. */
	if (!page || !has_version(page))
		return false;
	if (regs->rip == load_le64(vmcs12 + VMCS12_HOST_RIP) &&
	    regs->rsp == load_le64(vmcs12 + VMCS12_HOST_RSP))
		return true;
	return !copy_changes(page, vmcs12);
}

void nested_evmcs_mark(const struct guest_memory *memory, uint64_t msr)
{
	uint8_t *pointer;
	const uint8_t *page = find_page(memory, msr, &pointer);
	if (page)
		guest_memory_mark(memory, page, PAGE_BYTES);
}
