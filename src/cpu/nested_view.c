/* The frame of KVM's nested-state blob (api.rst 4.114), checked; what is in it stays where it is. */
#include "cpu/nested_view.h"

#include "base/bytes.h"
#include "nested_layout.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/*
 * Byte offsets in the blob: flags u16, format u16, size u32, then 120 bytes by format, then the regions.
 * static_asserts tie them to the kernel's struct, which is not laid over foreign bytes.
 */
enum {
	AT_FLAGS = 0,
	AT_FORMAT = 2,
	AT_SIZE = 4,
	AT_VMXON = 8,
	AT_VMCS12 = 16,
	AT_SMM = 24,
	AT_VMX_FLAGS = 28,
	AT_DEADLINE = 32,
	AT_VMCB12 = 8,
	HEADER_BYTES = 128,
};

_Static_assert(sizeof(struct kvm_nested_state) == HEADER_BYTES, "the header of the blob");
_Static_assert(offsetof(struct kvm_nested_state, format) == AT_FORMAT, "format");
_Static_assert(offsetof(struct kvm_nested_state, size) == AT_SIZE, "size");
_Static_assert(offsetof(struct kvm_nested_state, hdr.vmx.vmxon_pa) == AT_VMXON, "vmxon_pa");
_Static_assert(offsetof(struct kvm_nested_state, hdr.vmx.vmcs12_pa) == AT_VMCS12, "vmcs12_pa");
_Static_assert(offsetof(struct kvm_nested_state, hdr.vmx.smm.flags) == AT_SMM, "smm");
_Static_assert(offsetof(struct kvm_nested_state, hdr.vmx.flags) == AT_VMX_FLAGS, "vmx flags");
_Static_assert(offsetof(struct kvm_nested_state, hdr.vmx.preemption_timer_deadline) == AT_DEADLINE,
	       "deadline");
_Static_assert(offsetof(struct kvm_nested_state, hdr.svm.vmcb_pa) == AT_VMCB12, "vmcb_pa");

/* Region `number` of a blob that says it has `size` bytes. */
static const uint8_t *region_at(const uint8_t *blob, size_t size, size_t number)
{
	size_t at = HEADER_BYTES + number * NESTED_REGION_BYTES;
	return size >= at + NESTED_REGION_BYTES ? blob + at : NULL;
}

/* Bit 31 of the first word marks a shadow VMCS (SDM 3C, 25.2) and is no part of the revision. */
static void find_vmcs12(struct nested_region *region, const uint8_t *bytes)
{
	region->bytes = bytes;
	if (!bytes)
		return;
	region->revision = load_le32(bytes) & 0x7fffffff;
	region->layout = region->revision == VMCS12_REVISION ? &nested_vmcs12 : NULL;
}

static void view_vmx(struct nested_view *view, const uint8_t *blob, size_t size)
{
	view->kind = CPU_NESTED_VMX;
	view->vmxon_gpa = load_le64(blob + AT_VMXON);
	view->vmcs12_gpa = load_le64(blob + AT_VMCS12);
	view->smm_flags = load_le16(blob + AT_SMM);
	view->has_deadline = load_le32(blob + AT_VMX_FLAGS) & KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE;
	view->deadline_tsc = load_le64(blob + AT_DEADLINE);
	find_vmcs12(&view->vmcs, region_at(blob, size, 0));
	find_vmcs12(&view->shadow, region_at(blob, size, 1));
}

static void view_svm(struct nested_view *view, const uint8_t *blob, size_t size)
{
	view->kind = CPU_NESTED_SVM;
	view->vmcb12_gpa = load_le64(blob + AT_VMCB12);
	view->vmcs.bytes = region_at(blob, size, 0);
	view->vmcs.layout = &nested_vmcb12;
}

int nested_view_init(const struct nested_source *source, struct nested_view *ret, struct err *err)
{
	const uint8_t *blob = source->nested;

	*ret = (struct nested_view){.source = *source};
	if (!blob)
		return 0;
	if (source->nested_bytes < HEADER_BYTES)
		return err_set(err, -EINVAL, "nested state of %zu bytes: its header alone has %d",
			       source->nested_bytes, HEADER_BYTES);
	uint32_t size = load_le32(blob + AT_SIZE);
	if (size < HEADER_BYTES || size > source->nested_bytes)
		return err_set(err, -EINVAL, "nested state says it has %" PRIu32 " bytes, there are %zu",
			       size, source->nested_bytes);
	uint16_t format = load_le16(blob + AT_FORMAT);
	if (format != KVM_STATE_NESTED_FORMAT_VMX && format != KVM_STATE_NESTED_FORMAT_SVM)
		return err_set(err, -EINVAL, "nested state of format %u: 0 is VMX, 1 is SVM", format);

	ret->flags = load_le16(blob + AT_FLAGS);
	ret->runs_l2 = ret->flags & KVM_STATE_NESTED_GUEST_MODE;
	if (format == KVM_STATE_NESTED_FORMAT_VMX)
		view_vmx(ret, blob, size);
	else
		view_svm(ret, blob, size);
	if (ret->runs_l2 && !ret->vmcs.bytes)
		return err_set(err, -EINVAL, "nested state says that L2 runs and has no %s",
			       ret->kind == CPU_NESTED_VMX ? "vmcs12" : "vmcb12");
	return 0;
}
