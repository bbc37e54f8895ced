/*
 * The Hyper-V personality: what of the asked enlightenments L1 gets, and its CPUID leaves.
 *
 * Pure functions, tested without KVM. Leaves and bits are those of the Hypervisor Top-Level Functional
 * Specification 6.0b (TLFS), 2.4; that they can be had is what KVM_GET_SUPPORTED_HV_CPUID says
 * (api.rst 4.118).
 */
#ifndef AERIE_CPU_HYPERV_H
#define AERIE_CPU_HYPERV_H

#include "base/err.h"
#include "config/config.h"
#include "cpu/cpuid.h"

#include <stddef.h>

enum { HYPERV_SWITCHES_MAX = 32 };

enum hyperv_fate {
	HYPERV_OFF, /* not asked for */
	HYPERV_GIVEN,
	HYPERV_NOT_OFFERED, /* this host's KVM has it not */
	HYPERV_VMX_ONLY,    /* it is about VMX, and L1 has none */
	HYPERV_NESTED_ONLY, /* it is about guests of L1, and L1 cannot have any */
	HYPERV_NEEDS,	    /* another one, `because`, was not given */
};

/* What became of each switch, by its place in hyperv_switch_name. */
struct hyperv_report {
	struct {
		enum hyperv_fate fate;
		size_t because;
	} switches[HYPERV_SWITCHES_MAX];
};

size_t hyperv_switch_count(void);
const char *hyperv_switch_name(size_t index); /* as in the config; NULL past the end */

/*
 * `offered`: the host's Hyper-V leaves, with the enlightened VMCS if it has one; `nested`: what L1 was given.
 * A switch in `require` that cannot be had is -EOPNOTSUPP, with a message that lists all of them; others are
 * left out. `report` may be NULL.
 */
int hyperv_resolve(const struct cpuid_table *offered, const struct hyperv_config *asked,
		   enum cpu_nested nested, struct hyperv_config *ret, struct hyperv_report *report,
		   struct err *err);

/* "evmcs: L1 has no VMX; stimer: needs synic, ..." of those left out that the host might have had; "" if
 * none. Writes at most `bytes` with the end. */
void hyperv_left_out(const struct hyperv_report *report, char *text, size_t bytes);

/*
 * Puts the leaves 0x40000000 to 0x4000000A of `given` (from hyperv_resolve; enabled) into `table`, and moves
 * KVM's own to 0x40000100, or takes them away. -E2BIG when the table is full.
 */
int hyperv_cpuid(const struct hyperv_config *given, const struct cpuid_table *offered,
		 struct cpuid_table *table, struct err *err);

#endif
