/*
 * The models, as lists of features.
 *
 * "host" is everything that KVM offers here, with the host's own signature, caches and brand. Every other
 * model is the same on all hosts that can run it, so that a guest moves among them: a feature of it that a
 * host lacks refuses the start rather than vanishing, and what is not a feature comes from model_leaves.c.
 *
 * x86-64-v2 to -v4 are the levels of the x86-64 psABI. What they have beyond (paravirtualization,
 * mitigations, nesting) is taken where a host offers it: such a guest moves where 'aerie cpu compare' says
 * so.
 *
 * The nested baselines name the nested part, too. Intel: what a Skylake client has, without AVX-512, TSX, MPX
 * and APICv, which not all later ones have. AMD: Zen without XSAVES, which the first of them gets wrong.
 * Both: what Linux 6.1 and later offers of it.
 */
#include "feature_table.h"

#include <string.h>

#define LIST static const uint16_t

/* The psABI's baseline and what every 64-bit operating system needs around it. */
LIST base[] = {F_FPU,  F_DE,	  F_PSE, F_TSC,	 F_MSR,	   F_PAE,	 F_MCE,		 F_CX8, F_APIC, F_SEP,
	       F_MTRR, F_PGE,	  F_MCA, F_CMOV, F_PAT,	   F_PSE36,	 F_CLFLUSH,	 F_MMX, F_FXSR, F_SSE,
	       F_SSE2, F_SYSCALL, F_NX,	 F_LM,	 F_X2APIC, F_HYPERVISOR, F_TSC_DEADLINE, F_NONE};
LIST v2[] = {F_CX16, F_LAHF_LM, F_POPCNT, F_PNI, F_SSSE3, F_SSE4_1, F_SSE4_2, F_NONE};
LIST v3[] = {F_XSAVE, F_AVX, F_AVX2, F_BMI1, F_BMI2, F_F16C, F_FMA, F_ABM, F_MOVBE, F_NONE};
LIST v4[] = {F_AVX512F, F_AVX512BW, F_AVX512CD, F_AVX512DQ, F_AVX512VL, F_NONE};

/* What KVM itself gives since Linux 5.10. */
LIST paravirtual[] = {F_KVMCLOCK_OLD,
		      F_KVM_NOPIODELAY,
		      F_KVMCLOCK,
		      F_KVM_ASYNCPF,
		      F_KVM_STEAL_TIME,
		      F_KVM_PV_EOI,
		      F_KVM_PV_UNHALT,
		      F_KVM_PV_TLB_FLUSH,
		      F_KVM_ASYNCPF_VMEXIT,
		      F_KVM_PV_IPI,
		      F_KVM_POLL_CONTROL,
		      F_KVM_PV_SCHED_YIELD,
		      F_KVM_ASYNCPF_INT,
		      F_KVMCLOCK_STABLE_BIT,
		      F_ARAT,
		      F_TSC_ADJUST,
		      F_NONE};
/* Without these a guest on AMD takes cores for threads. */
LIST amd_topology[] = {F_TOPOEXT, F_NONE};
LIST mitigations[] = {F_SPEC_CTRL, F_STIBP, F_SSBD, F_MD_CLEAR, F_IBPB, F_VIRT_SSBD, F_NONE};

/* Skylake and Zen have these in common beyond v3. */
LIST modern[] = {F_AES,	    F_PCLMULQDQ, F_RDRAND,	  F_RDSEED, F_ADX,     F_SMEP,
		 F_SMAP,    F_FSGSBASE,	 F_XSAVEOPT,	  F_XSAVEC, F_XGETBV1, F_CLFLUSHOPT,
		 F_PDPE1GB, F_RDTSCP,	 F_3DNOWPREFETCH, F_NONE};

LIST skylake[] = {F_PCID, F_INVPCID, F_ERMS, F_XSAVES, F_SPEC_CTRL, F_STIBP, F_SSBD, F_MD_CLEAR, F_NONE};
LIST intel_nested[] = {F_VMX,
		       F_VMX_INS_OUTS,
		       F_VMX_TRUE_CTLS,
		       F_VMX_STORE_LMA,
		       F_VMX_ACTIVITY_HLT,
		       F_VMX_ACTIVITY_WAIT_SIPI,
		       F_VMX_VMWRITE_VMEXIT_FIELDS,
		       F_VMX_INTR_EXIT,
		       F_VMX_NMI_EXIT,
		       F_VMX_VNMI,
		       F_VMX_PREEMPTION_TIMER,
		       F_VMX_VINTR_PENDING,
		       F_VMX_TSC_OFFSET,
		       F_VMX_HLT_EXIT,
		       F_VMX_INVLPG_EXIT,
		       F_VMX_MWAIT_EXIT,
		       F_VMX_RDPMC_EXIT,
		       F_VMX_RDTSC_EXIT,
		       F_VMX_CR3_LOAD_NOEXIT,
		       F_VMX_CR3_STORE_NOEXIT,
		       F_VMX_CR8_LOAD_EXIT,
		       F_VMX_CR8_STORE_EXIT,
		       F_VMX_FLEXPRIORITY,
		       F_VMX_VNMI_PENDING,
		       F_VMX_MOVDR_EXIT,
		       F_VMX_IO_EXIT,
		       F_VMX_IO_BITMAP,
		       F_VMX_MTF,
		       F_VMX_MSR_BITMAP,
		       F_VMX_MONITOR_EXIT,
		       F_VMX_PAUSE_EXIT,
		       F_VMX_SECONDARY_CTLS,
		       F_VMX_APICV_XAPIC,
		       F_VMX_EPT,
		       F_VMX_DESC_EXIT,
		       F_VMX_RDTSCP_EXIT,
		       F_VMX_VPID,
		       F_VMX_WBINVD_EXIT,
		       F_VMX_UNRESTRICTED_GUEST,
		       F_VMX_RDRAND_EXIT,
		       F_VMX_INVPCID_EXIT,
		       F_VMX_VMFUNC,
		       F_VMX_SHADOW_VMCS,
		       F_VMX_RDSEED_EXIT,
		       F_VMX_PML,
		       F_VMX_XSAVES,
		       F_VMX_EXIT_NOSAVE_DEBUGCTL,
		       F_VMX_EXIT_HOST_ADDR_SPACE_SIZE,
		       F_VMX_EXIT_ACK_INTR,
		       F_VMX_EXIT_SAVE_PAT,
		       F_VMX_EXIT_LOAD_PAT,
		       F_VMX_EXIT_SAVE_EFER,
		       F_VMX_EXIT_LOAD_EFER,
		       F_VMX_EXIT_SAVE_PREEMPTION_TIMER,
		       F_VMX_ENTRY_NOLOAD_DEBUGCTL,
		       F_VMX_ENTRY_IA32E_MODE,
		       F_VMX_ENTRY_LOAD_PAT,
		       F_VMX_ENTRY_LOAD_EFER,
		       F_VMX_EPT_EXECONLY,
		       F_VMX_PAGE_WALK_4,
		       F_VMX_EPT_WB,
		       F_VMX_EPT_2MB,
		       F_VMX_EPT_1GB,
		       F_VMX_INVEPT,
		       F_VMX_EPTAD,
		       F_VMX_INVEPT_SINGLE_CONTEXT,
		       F_VMX_INVEPT_ALL_CONTEXT,
		       F_VMX_INVVPID,
		       F_VMX_INVVPID_SINGLE_ADDR,
		       F_VMX_INVVPID_SINGLE_CONTEXT,
		       F_VMX_INVVPID_ALL_CONTEXT,
		       F_VMX_INVVPID_SINGLE_CONTEXT_NOGLOBALS,
		       F_VMX_EPTP_SWITCHING,
		       F_NONE};

LIST zen[] = {F_MMXEXT, F_FXSR_OPT, F_CR8LEGACY,  F_SSE4A, F_MISALIGNSSE, F_TOPOEXT,
	      F_SHA_NI, F_CLZERO,   F_XSAVEERPTR, F_IBPB,  F_VIRT_SSBD,	  F_NONE};
LIST amd_nested[] = {F_SVM,	     F_NPT,	    F_LBRV, F_NRIP_SAVE,       F_TSC_SCALE,	F_VMCB_CLEAN,
		     F_PAUSE_FILTER, F_PFTHRESHOLD, F_VGIF, F_V_VMSAVE_VMLOAD, F_SVME_ADDR_CHK, F_NONE};

#define LISTS static const uint16_t *const
LISTS level2[] = {base, v2, NULL};
LISTS level3[] = {base, v2, v3, NULL};
LISTS level4[] = {base, v2, v3, v4, NULL};
LISTS level_extras[] = {paravirtual, mitigations, amd_topology, intel_nested, amd_nested, NULL};
LISTS intel[] = {base, v2, v3, modern, skylake, paravirtual, intel_nested, NULL};
LISTS amd[] = {base, v2, v3, modern, zen, paravirtual, amd_nested, NULL};

static const struct model models[] = {
	{.is = {"host", "everything that this host's KVM offers"}, .passes_host = true},
	{.is = {"x86-64-v2", "the psABI's second level, up to SSE4.2"}, .must = level2, .may = level_extras},
	{.is = {"x86-64-v3", "the psABI's third level, with AVX2"}, .must = level3, .may = level_extras},
	{.is = {"x86-64-v4", "the psABI's fourth level, with AVX-512"}, .must = level4, .may = level_extras},
	{.is = {"baseline-intel", "nested, on Intel's Skylake and later"},
	 .vendor = VENDOR_INTEL,
	 .must = intel},
	{.is = {"baseline-amd", "nested, on AMD's Zen and later"}, .vendor = VENDOR_AMD, .must = amd},
};

const struct cpu_feature *cpu_model_at(size_t index)
{
	return index < sizeof(models) / sizeof(models[0]) ? &models[index].is : NULL;
}

const struct model *model_find(const char *name)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		if (strcmp(models[i].is.name, name) == 0)
			return &models[i];
	return NULL;
}
