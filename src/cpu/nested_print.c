/* The walk over a view: what is shown, and in which order. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "cpu/nested_view.h"
#include "nested_emit.h"
#include "nested_layout.h"

#include <linux/kvm.h>

static const char *const state_flags[16] = {
	[0] = "guest-mode", [1] = "run-pending", [2] = "evmcs", [3] = "mtf-pending", [8] = "gif-set",
};
static const struct nested_names state_flag_names = {state_flags, ARRAY_LEN(state_flags)};

static const char *const smm_flags[] = {"guest-mode", "vmxon"};
static const struct nested_names smm_flag_names = {smm_flags, ARRAY_LEN(smm_flags)};

static const char *const nesting_names[] = {
	[CPU_NESTED_NONE] = "none", [CPU_NESTED_VMX] = "vmx", [CPU_NESTED_SVM] = "svm"};

/* Tables are ours, so their offsets are within a region (a test walks them all). */
static uint64_t load(const uint8_t *bytes, unsigned offset, unsigned width)
{
	switch (width) {
	case 1:
		return bytes[offset];
	case 2:
		return load_le16(bytes + offset);
	case 4:
		return load_le32(bytes + offset);
	default:
		return load_le64(bytes + offset);
	}
}

/* A VMCB packs the upper four bits down (APM 2, 4.7.1 and appendix B). */
static uint64_t attributes_in(const uint8_t *bytes, const struct nested_segment *row)
{
	uint64_t value = load(bytes, row->attributes.offset, row->attributes.width);
	return row->attributes.width == 2 ? (value & 0xff) | (value & 0xf00) << 4 : value;
}

static void emit_region_segments(struct emitter *emitter, const struct nested_group *group,
				 const uint8_t *bytes)
{
	if (!group->segment_count)
		return;
	emit_open(emitter, "segments");
	for (size_t i = 0; i < group->segment_count; i++) {
		const struct nested_segment *row = &group->segments[i];
		struct emitted_segment segment = {
			.has_selector = row->selector.width,
			.has_limit = row->limit.width,
			.has_attributes = row->attributes.width,
		};
		if (row->selector.width)
			segment.selector = load(bytes, row->selector.offset, row->selector.width);
		if (row->base.width)
			segment.base = load(bytes, row->base.offset, row->base.width);
		if (row->limit.width)
			segment.limit = load(bytes, row->limit.offset, row->limit.width);
		if (row->attributes.width)
			segment.attributes = attributes_in(bytes, row);
		emit_segment(emitter, row->name, &segment, true);
	}
	emit_close(emitter);
}

static void emit_region(struct emitter *emitter, const char *name, const struct nested_region *region,
			bool is_vmx)
{
	if (!region->bytes)
		return;
	emit_open(emitter, name);
	if (is_vmx)
		emit_hex(emitter, "revision", region->revision);
	if (!region->layout) {
		emit_bytes(emitter, "raw", region->bytes, NESTED_REGION_BYTES);
		emit_close(emitter);
		return;
	}
	for (size_t g = 0; g < region->layout->group_count; g++) {
		const struct nested_group *group = &region->layout->groups[g];
		emit_open(emitter, group->name);
		for (size_t i = 0; i < group->row_count; i++)
			emit_value(emitter, &group->rows[i],
				   load(region->bytes, group->rows[i].offset, group->rows[i].width), true);
		emit_region_segments(emitter, group, region->bytes);
		emit_close(emitter);
	}
	emit_close(emitter);
}

/* The access rights of a VMCS (SDM 3C, table 25-2), from the parts that KVM tells. */
static uint64_t attributes_of(const struct kvm_segment *s)
{
	return (s->type & 15u) | (s->s & 1u) << 4 | (s->dpl & 3u) << 5 | (s->present & 1u) << 7 |
	       (s->avl & 1u) << 12 | (s->l & 1u) << 13 | (s->db & 1u) << 14 | (s->g & 1u) << 15 |
	       (s->unusable & 1u) << 16;
}

static void emit_segments(struct emitter *emitter, const struct kvm_sregs2 *sregs)
{
	const struct {
		const char *name;
		const struct kvm_segment *segment;
	} segments[] = {
		{"es", &sregs->es}, {"cs", &sregs->cs}, {"ss", &sregs->ss},    {"ds", &sregs->ds},
		{"fs", &sregs->fs}, {"gs", &sregs->gs}, {"ldtr", &sregs->ldt}, {"tr", &sregs->tr},
	};
	emit_open(emitter, "segments");
	for (size_t i = 0; i < ARRAY_LEN(segments); i++) {
		const struct kvm_segment *s = segments[i].segment;
		emit_segment(emitter, segments[i].name,
			     &(struct emitted_segment){.selector = s->selector,
						       .base = s->base,
						       .limit = s->limit,
						       .attributes = attributes_of(s),
						       .has_selector = true,
						       .has_limit = true,
						       .has_attributes = true},
			     false);
	}
	emit_segment(emitter, "gdtr",
		     &(struct emitted_segment){
			     .base = sregs->gdt.base, .limit = sregs->gdt.limit, .has_limit = true},
		     false);
	emit_segment(emitter, "idtr",
		     &(struct emitted_segment){
			     .base = sregs->idt.base, .limit = sregs->idt.limit, .has_limit = true},
		     false);
	emit_close(emitter);
}

/* The vCPU's registers are those of the level that runs. */
static void emit_registers(struct emitter *emitter, const struct nested_view *view)
{
	const struct kvm_regs *regs = view->source.regs;
	const struct kvm_sregs2 *sregs = view->source.sregs;
	if (!regs && !sregs)
		return;
	emit_open(emitter, "registers");
	if (regs) {
		emit_hex(emitter, "rip", regs->rip);
		emit_hex(emitter, "rsp", regs->rsp);
		emit_hex(emitter, "rflags", regs->rflags);
	}
	if (sregs) {
		emit_hex(emitter, "cr0", sregs->cr0);
		emit_hex(emitter, "cr2", sregs->cr2);
		emit_hex(emitter, "cr3", sregs->cr3);
		emit_hex(emitter, "cr4", sregs->cr4);
		emit_hex(emitter, "efer", sregs->efer);
		emit_segments(emitter, sregs);
	}
	emit_close(emitter);
}

enum { EVENT_EXCEPTION = 3 << 8, EVENT_SOFT = 4 << 8, EVENT_ERROR_CODE = 1 << 11 };
#define EVENT_VALID UINT64_C(0x80000000)

/* What waits for the level that runs, before its next instruction. */
static void emit_events(struct emitter *emitter, const struct kvm_vcpu_events *events)
{
	static const struct nested_row injected = {"exception-injected", 0, 4, NESTED_EVENT, NULL},
				       pending = {"exception-pending", 0, 4, NESTED_EVENT, NULL},
				       interrupt = {"interrupt-injected", 0, 4, NESTED_EVENT, NULL};
	if (!events)
		return;
	uint64_t exception = EVENT_VALID | EVENT_EXCEPTION | events->exception.nr |
			     (events->exception.has_error_code ? EVENT_ERROR_CODE : 0);
	emit_open(emitter, "events");
	emit_value(emitter, &injected, events->exception.injected ? exception : 0, false);
	emit_value(emitter, &pending, events->exception.pending ? exception : 0, false);
	emit_value(emitter, &interrupt,
		   events->interrupt.injected
			   ? EVENT_VALID | (events->interrupt.soft ? EVENT_SOFT : 0) | events->interrupt.nr
			   : 0,
		   false);
	emit_bits(emitter, "interrupt-shadow", &nested_interruptibility, events->interrupt.shadow & 3u);
	emit_bool(emitter, "nmi-injected", events->nmi.injected);
	emit_bool(emitter, "nmi-pending", events->nmi.pending);
	emit_bool(emitter, "nmi-masked", events->nmi.masked);
	emit_bool(emitter, "in-smm", events->smi.smm);
	emit_close(emitter);
}

/* What vmcs12 or vmcb12 says of L2's memory, and whether L1 and KVM talk as Hyper-V's interface wants it. */
static void emit_l2(struct emitter *emitter, const struct nested_view *view)
{
	const uint8_t *bytes = view->vmcs.bytes;
	bool two_dimensional, enlightened;
	uint64_t root;

	if (!bytes || !view->vmcs.layout)
		return;
	if (view->kind == CPU_NESTED_VMX) {
		two_dimensional = load_le32(bytes + VMCS12_PROC_CONTROLS) & VMCS12_PROC_SECONDARY &&
				  load_le32(bytes + VMCS12_PROC2_CONTROLS) & VMCS12_PROC2_EPT;
		root = two_dimensional ? load_le64(bytes + VMCS12_EPT_POINTER) & ~UINT64_C(0xfff)
				       : load_le64(bytes + VMCS12_GUEST_CR3);
		enlightened = view->flags & KVM_STATE_NESTED_EVMCS;
	} else {
		two_dimensional = load_le32(bytes + VMCB12_MISC_CONTROL) & VMCB12_MISC_NPT;
		root = two_dimensional	    ? load_le64(bytes + VMCB12_NCR3)
		       : view->source.sregs ? view->source.sregs->cr3
					    : 0;
		enlightened = load_le32(bytes + VMCB12_HV_CONTROL);
	}
	emit_open(emitter, "l2");
	emit_bool(emitter, "enlightened", enlightened);
	emit_string(emitter, "memory",
		    !two_dimensional		   ? "shadow-paging"
		    : view->kind == CPU_NESTED_VMX ? "ept"
						   : "npt");
	emit_hex(emitter, "root", root);
	emit_close(emitter);
}

/* ~0 is KVM's "none". */
static void emit_pointer(struct emitter *emitter, const char *name, uint64_t gpa)
{
	if (gpa == UINT64_MAX)
		emit_string(emitter, name, "none");
	else
		emit_hex(emitter, name, gpa);
}

static void emit_view(struct emitter *emitter, const struct nested_view *view)
{
	static const struct nested_row index = {"vcpu", 0, 4, NESTED_COUNT, NULL};
	bool is_vmx = view->kind == CPU_NESTED_VMX;

	emit_value(emitter, &index, view->source.index, false);
	emit_string(emitter, "nesting", nesting_names[view->kind]);
	emit_string(emitter, "runs", view->runs_l2 ? "L2" : "L1");
	if (view->kind != CPU_NESTED_NONE)
		emit_bits(emitter, "flags", &state_flag_names, view->flags);
	if (is_vmx) {
		emit_pointer(emitter, "vmxon", view->vmxon_gpa);
		emit_pointer(emitter, "vmcs", view->vmcs12_gpa);
		emit_bits(emitter, "smm", &smm_flag_names, view->smm_flags);
		if (view->has_deadline)
			emit_hex(emitter, "preemption-timer-tsc", view->deadline_tsc);
	} else if (view->kind == CPU_NESTED_SVM) {
		emit_pointer(emitter, "vmcb", view->runs_l2 ? view->vmcb12_gpa : UINT64_MAX);
	}
	emit_registers(emitter, view);
	emit_events(emitter, view->source.events);
	emit_l2(emitter, view);
	emit_region(emitter, is_vmx ? "vmcs12" : "vmcb12", &view->vmcs, is_vmx);
	emit_region(emitter, "shadow-vmcs12", &view->shadow, is_vmx);
}

static char *finish(struct emitter *emitter)
{
	if (!emitter->failed)
		return emitter->text;
	free(emitter->text);
	return NULL;
}

char *nested_view_text(const struct nested_view *view)
{
	struct emitter emitter = {.json = false};
	emit_view(&emitter, view);
	return finish(&emitter);
}

char *nested_view_json(const struct nested_view *view)
{
	struct emitter emitter = {.json = true};
	emit_open(&emitter, NULL);
	emit_view(&emitter, view);
	emit_close(&emitter);
	return finish(&emitter);
}
