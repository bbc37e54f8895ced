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

/*
 * What L1 alone writes, and gives each of its VMCSes values of their own. KVM reads them again when it is
 * asked for the state, or L1 has not run since they were read: in both cases they agree with the page.
 */
static const struct {
	uint16_t vmcs12, enlightened; /* offsets in bytes: of KVM's layout, and of TLFS 16.5.3 */
	uint8_t width;
} own[] = {
	{56, 120, 8},  /* MSR bitmap */
	{88, 400, 8},  /* TSC offset */
	{96, 408, 8},  /* virtual-APIC page */
	{120, 624, 8}, /* EPT pointer */
	{592, 48, 8},  /* host CR3 */
	{608, 576, 8}, /* host FS base */
	{664, 616, 8}, /* host RSP */
	{960, 632, 2}, /* VPID */
};

static bool is_of(const uint8_t *page, const uint8_t *vmcs12)
{
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (memcmp(page + own[i].enlightened, vmcs12 + own[i].vmcs12, own[i].width) != 0)
			return false;
	return true;
}

enum evmcs_named nested_evmcs_named(const struct nested_evmcs *evmcs, const struct guest_memory *memory,
				    uint64_t msr, uint8_t **ret_pointer)
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
	return is_of(page, evmcs->put->data.vmx[0].vmcs12) ? EVMCS_SAME : EVMCS_OTHER;
}
