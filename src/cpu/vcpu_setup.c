/* A vCPU before its first instruction: CPUID, the MSRs that firmware would have set, a loader's registers. */
#include "base/cleanup.h"
#include "host/kvm.h"
#include "vcpu.h"
#include "vcpu_msrs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* IA32_FEATURE_CONTROL: locked, VMX outside SMX; what firmware does before a hypervisor may start (SDM
 * 3C, 24.7). */
#define FEATURE_CONTROL_LOCKED	    (1U << 0)
#define FEATURE_CONTROL_VMX_OUTSIDE (1U << 2)
#define MISC_ENABLE_FAST_STRINGS    (1U << 0)
/* MTRRs on, everything write-back unless said otherwise (SDM 3A, 12.11.2.1). */
#define MTRR_DEF_TYPE_ENABLE (1U << 11)
#define MTRR_TYPE_WRITE_BACK 6

#define CR0_PE	     (1U << 0)
#define CR0_ET	     (1U << 4)
#define CR0_NE	     (1U << 5)
#define CR0_PG	     (1U << 31)
#define CR4_PAE	     (1U << 5)
#define EFER_LME     (1U << 8)
#define EFER_LMA     (1U << 10)
#define RFLAGS_FIXED 0x2

int vcpu_put_cpuid(const struct vcpu *vcpu, const struct cpuid_table *table, struct err *err)
{
	_cleanup_free_ struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + table->count * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return err_sys(err, -ENOMEM, "KVM_SET_CPUID2");
	cpuid->nent = table->count;
	memcpy(cpuid->entries, table->entries, table->count * sizeof(cpuid->entries[0]));
	int r = kvm_call(vcpu->fd, KVM_SET_CPUID2, cpuid);
	return r < 0 ? err_sys(err, r, "KVM_SET_CPUID2") : 0;
}

static int setup_cpuid(struct vcpu *vcpu, const struct cpuid_table *table, struct err *err)
{
	int r = vcpu_put_cpuid(vcpu, table, err);
	if (r < 0)
		return r;
	/* For a snapshot. What KVM_GET_CPUID2 gives follows what the guest has done. */
	vcpu->cpuid = malloc(sizeof(*table));
	if (!vcpu->cpuid)
		return err_sys(err, -ENOMEM, "CPUID");
	*vcpu->cpuid = *table;
	return 0;
}

/*
 * After CPUID, which decides what MSRs there are and from which KVM takes away what CPUID hides. Capability
 * MSRs come before IA32_FEATURE_CONTROL: with that a guest may enter VMX operation, and then they cannot
 * change.
 */
static int setup_msrs(struct vcpu *vcpu, const struct cpu_model *model, struct err *err)
{
	struct kvm_msr_entry entries[CPU_HOST_MSRS_MAX + 3];
	uint32_t count = 0;
	for (uint32_t i = 0; i < model->msr_count; i++)
		if (model->msrs[i].origin == CPU_MSR_SET)
			entries[count++] = (struct kvm_msr_entry){.index = model->msrs[i].index,
								  .data = model->msrs[i].value};
	entries[count++] = (struct kvm_msr_entry){.index = MSR_MTRR_DEF_TYPE,
						  .data = MTRR_DEF_TYPE_ENABLE | MTRR_TYPE_WRITE_BACK};
	entries[count++] =
		(struct kvm_msr_entry){.index = MSR_IA32_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRINGS};
	if (model->nested == CPU_NESTED_VMX)
		entries[count++] =
			(struct kvm_msr_entry){.index = MSR_IA32_FEATURE_CONTROL,
					       .data = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE};
	return vcpu_msrs_put(entries, count, vcpu->fd, err);
}

int vcpu_setup(struct vcpu *vcpu, const struct cpuid_table *cpuid, const struct cpu_model *model,
	       struct err *err)
{
	int r = setup_cpuid(vcpu, cpuid, err);
	return r < 0 ? r : setup_msrs(vcpu, model, err);
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = long_mode,
		.db = !long_mode,
	};
}

int vcpu_boot(struct vcpu *vcpu, const struct cpu_boot *boot, struct err *err)
{
	bool long_mode = boot->mode == CPU_BOOT_LONG;
	struct kvm_sregs2 sregs = vcpu->power_on.sregs;
	enum { CODE_EXEC_READ_ACCESSED = 0xb, DATA_WRITE_ACCESSED = 0x3, TSS_BUSY = 0xb };

	sregs.cs = flat_segment(boot->code_selector, CODE_EXEC_READ_ACCESSED, long_mode);
	sregs.ds = flat_segment(boot->data_selector, DATA_WRITE_ACCESSED, false);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.tr = (struct kvm_segment){.limit = 0x67, .type = TSS_BUSY, .present = 1};
	sregs.gdt = (struct kvm_dtable){.base = boot->gdt_gpa, .limit = boot->gdt_limit};
	sregs.idt =
		(struct kvm_dtable){0}; /* empty: a fault before the guest has its own is a triple fault */
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = boot->cr3;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	int r = kvm_call(vcpu->fd, KVM_SET_SREGS2, &sregs);
	if (r < 0)
		return err_sys(err, r, "KVM_SET_SREGS2");

	struct kvm_regs regs = {.rip = boot->rip,
				.rsp = boot->rsp,
				.rax = boot->rax,
				.rbx = boot->rbx,
				.rsi = boot->rsi,
				.rflags = RFLAGS_FIXED};
	r = kvm_call(vcpu->fd, KVM_SET_REGS, &regs);
	return r < 0 ? err_sys(err, r, "KVM_SET_REGS") : 0;
}
