/* What of VMX the enlightened VMCS has fields for. */
#ifndef AERIE_CPU_HYPERV_EVMCS_H
#define AERIE_CPU_HYPERV_EVMCS_H

#include "feature_table.h"

/*
 * Can L1 use the controls `mask` of `word` with an enlightened VMCS? KVM hides the others from a guest that
 * was given one, whether it uses it or not, so they are no longer features of that guest. `offered`: the
 * host's Hyper-V leaves. True for words that are no VMX controls.
 */
bool hyperv_evmcs_holds(enum feature_word word, uint64_t mask, const struct cpuid_table *offered);

#endif
