/*
 * The feature model: what a host's KVM can give, what the operator asked for, what L1 gets, and why.
 *
 * A feature is a row {word, bit, name, needs, ...}; a word is a register of a CPUID leaf or one (half of a)
 * capability MSR. Names are QEMU's where QEMU has one. Everything here but cpu_host_read is a pure function
 * of its arguments, so that it is tested from recorded hosts (tests/data/hosts).
 */
#ifndef AERIE_CPU_FEATURES_H
#define AERIE_CPU_FEATURES_H

#include "base/err.h"
#include "config/config.h"
#include "cpu/cpuid.h"
#include "cpu/hyperv.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPU_HOST_MSRS_MAX = 128, CPU_FEATURES_MAX = 1024 };

/* How an MSR of a resolved model comes to its value. */
enum cpu_msr_origin {
	CPU_MSR_HOST,	 /* the host's own value, which a vCPU has anyway */
	CPU_MSR_SET,	 /* aerie writes it */
	CPU_MSR_DERIVED, /* KVM makes it of CPUID or of others; it takes no writes */
};

struct cpu_msr {
	uint32_t index;
	uint64_t value;
	enum cpu_msr_origin origin; /* in a cpu_host always CPU_MSR_HOST */
};

/* What one host's KVM offers, as it answered or as it was recorded. */
struct cpu_host {
	char kernel[64];	  /* its release, for messages */
	struct cpuid_table cpuid; /* KVM_GET_SUPPORTED_CPUID (api.rst 4.46) */
	struct cpuid_table
		hyperv; /* KVM_GET_SUPPORTED_HV_CPUID (4.118), with the enlightened VMCS if there is one */
	uint32_t msr_count; /* KVM_GET_MSR_FEATURE_INDEX_LIST (4.3) and their values on /dev/kvm */
	struct cpu_msr msrs[CPU_HOST_MSRS_MAX];
	uint32_t tsc_khz; /* what a vCPU's TSC runs at unless told otherwise; 0: KVM does not know */
	uint32_t nested_state_bytes; /* KVM_CAP_NESTED_STATE; 0: cannot nest */
	bool tsc_deadline, tsc_control, enlightened_vmcs;
};

/* `kvm_fd`: /dev/kvm. Makes and destroys a VM with a vCPU where KVM answers only there. */
int cpu_host_read(int kvm_fd, struct cpu_host *ret, struct err *err);
/* The same without what takes a VM (tsc_khz is 0): for the start of a machine, which counts microseconds. */
int cpu_host_read_quick(int kvm_fd, struct cpu_host *ret, struct err *err);

/* One row, for lists and messages. */
struct cpu_feature {
	const char *name;  /* unique */
	const char *about; /* one line, without a full stop */
};
size_t cpu_feature_count(void);
const struct cpu_feature *cpu_feature_at(size_t index); /* NULL past the end */
/* "CPUID 7.0 EBX", "MSR IA32_VMX_MISC", and the bit there; for a control MSR, the control's number. */
const char *cpu_feature_word(size_t index, unsigned *ret_bit);
/* -ENOENT with a message that suggests the nearest name. */
int cpu_feature_find(const char *name, size_t *ret_index, struct err *err);

/* The models, in the same form. */
const struct cpu_feature *cpu_model_at(size_t index); /* NULL past the end */

/* Are there such features and such a model? Needs no host. -EINVAL as in cpu_resolve. */
int cpu_names_check(const struct cpu_config *asked, struct err *err);

/* What became of a feature. */
enum cpu_fate {
	CPU_GIVEN,
	CPU_NOT_OFFERED,    /* the host has it not */
	CPU_OTHER_VENDOR,   /* the host cannot have it */
	CPU_NOT_IN_MODEL,   /* the host has it, the model has it not */
	CPU_DISABLED,	    /* "disable", or "nested": "off" */
	CPU_NOT_WITH_EVMCS, /* the enlightened VMCS has no place for it */
	CPU_NEEDS,	    /* another feature, `because`, was not given */
};
struct cpu_report {
	struct {
		enum cpu_fate fate;
		uint16_t because; /* NEEDS: the index of the feature that is lacking */
	} features[CPU_FEATURES_MAX];
};
/* "vmx-pml: needs vmx-ept, which is disabled"; writes at most `bytes` with the end. */
void cpu_report_reason(const struct cpu_report *report, size_t feature, char *text, size_t bytes);

/* What L1 gets: the same for all vCPUs but for ids and topology (cpuid_for_vcpu). */
struct cpu_model {
	enum cpu_nested nested;
	struct cpuid_table cpuid;
	uint32_t
		msr_count; /* the capability MSRs that L1 can read; SET ones go before IA32_FEATURE_CONTROL */
	struct cpu_msr msrs[CPU_HOST_MSRS_MAX];
	struct hyperv_config hyperv; /* the enlightenments that L1 gets; their leaves are in cpuid */
	struct hyperv_report hyperv_report;
};

/*
 * -EINVAL: a name that there is not; -EOPNOTSUPP: a required feature cannot be had (the message lists all of
 * them with their reasons), a model that this host cannot run, nesting of the other vendor, or an
 * enlightenment that is required and cannot be had. `report` may be NULL.
 */
int cpu_resolve(const struct cpu_host *host, const struct cpu_config *asked, enum nested_mode nested,
		struct cpu_model *ret, struct cpu_report *report, struct err *err);

#endif
