/* The words of the Hyper-V CPUID leaves in which enlightenments are bits (TLFS 2.4). */
#ifndef AERIE_CPU_HYPERV_LEAVES_H
#define AERIE_CPU_HYPERV_LEAVES_H

#include "cpu/hyperv.h"

#include <stdint.h>

/* 0x40000003 EAX: the partition's privileges, most of them for MSRs. */
#define FEATURE_VP_RUNTIME	(1U << 0)
#define FEATURE_TIME_REF_COUNT	(1U << 1)
#define FEATURE_SYNIC		(1U << 2)
#define FEATURE_STIMER		(1U << 3)
#define FEATURE_APIC_ACCESS	(1U << 4)
#define FEATURE_HYPERCALL	(1U << 5)
#define FEATURE_VP_INDEX	(1U << 6)
#define FEATURE_RESET		(1U << 7)
#define FEATURE_REFERENCE_TSC	(1U << 9)
#define FEATURE_FREQUENCY_MSRS	(1U << 11)
#define FEATURE_REENLIGHTENMENT (1U << 13)
/* ... EBX: privileges for hypercalls. */
#define FEATURE_EBX_POST_MESSAGES (1U << 4)
#define FEATURE_EBX_SIGNAL_EVENTS (1U << 5)
/* ... EDX */
#define FEATURE_EDX_XMM_INPUT	   (1U << 4)
#define FEATURE_EDX_FREQUENCY_MSRS (1U << 8)
#define FEATURE_EDX_CRASH_MSRS	   (1U << 10)
#define FEATURE_EDX_EXT_GVA_RANGES (1U << 14)
#define FEATURE_EDX_STIMER_DIRECT  (1U << 19)
/* 0x40000004 EAX: what the guest had better do. */
#define RECOMMEND_REMOTE_TLB_FLUSH   (1U << 2)
#define RECOMMEND_APIC_MSRS	     (1U << 3)
#define RECOMMEND_RELAXED_TIMING     (1U << 5)
#define RECOMMEND_DEPRECATE_AUTO_EOI (1U << 9)
#define RECOMMEND_CLUSTER_IPI	     (1U << 10)
#define RECOMMEND_EX_PROCESSOR_MASKS (1U << 11)
#define RECOMMEND_ENLIGHTENED_VMCS   (1U << 14)
#define RECOMMEND_NO_CORE_SHARING    (1U << 18)
/* 0x4000000A EAX: the lower half says which versions of the enlightened VMCS there are. */
#define NESTED_EVMCS_VERSIONS 0xffffU
#define NESTED_DIRECT_FLUSH   (1U << 17)
#define NESTED_MSR_BITMAP     (1U << 19)

struct hyperv_words {
	uint32_t features_eax, features_ebx, features_edx, recommend_eax, nested_eax;
};

void hyperv_words_read(const struct cpuid_table *offered, struct hyperv_words *ret);
void hyperv_words_add(struct hyperv_words *words, const struct hyperv_words *more);
bool hyperv_words_cover(const struct hyperv_words *words, const struct hyperv_words *wanted);

/* All bits of the switches in `given`. */
void hyperv_words_of(const struct hyperv_config *given, struct hyperv_words *ret);

#endif
