/* The keys of "cpu": what the guest sees of its processor. */
#include "rules.h"
#include "schema.h"

enum { CPU_NAME_BYTES_MAX = 40 };

/* An enlightenment that "on" turns on, and one that does not work without others: rule_hyperv decides those.
 */
#define HYPERV_ON(m, says)                                                                                   \
	{                                                                                                    \
		.name = #m, AT_BOOL(struct hyperv_config, m), .fallback = "true", .doc = says                \
	}
#define HYPERV_WITH(m, needs, says)                                                                          \
	{                                                                                                    \
		.name = #m, AT_BOOL(struct hyperv_config, m), .absent = "true with " needs, .doc = says      \
	}

#define HYPERV_WORD(m)                                                                                       \
	{                                                                                                    \
#m, offsetof(struct hyperv_config, m)                                                        \
	}
static const struct choice hyperv_words[] = {
	HYPERV_WORD(relaxed),  HYPERV_WORD(vapic),	  HYPERV_WORD(vpindex),
	HYPERV_WORD(runtime),  HYPERV_WORD(crash),	  HYPERV_WORD(reset),
	HYPERV_WORD(time),     HYPERV_WORD(frequencies),  HYPERV_WORD(reenlightenment),
	HYPERV_WORD(synic),    HYPERV_WORD(stimer),	  HYPERV_WORD(stimer_direct),
	HYPERV_WORD(tlbflush), HYPERV_WORD(tlbflush_ext), HYPERV_WORD(tlbflush_direct),
	HYPERV_WORD(ipi),      HYPERV_WORD(xmm_input),	  HYPERV_WORD(avic),
	HYPERV_WORD(evmcs),    HYPERV_WORD(emsr_bitmap),  {NULL, 0},
};
static const struct key hyperv_required = {
	.type = KEY_CHOICE, .choices = hyperv_words, .doc = "a switch of this object"};

static const struct key hyperv_keys[] = {
	HYPERV_ON(relaxed, "the guest's watchdogs do not count time in which it did not run"),
	HYPERV_ON(vapic, "EOI, ICR and TPR as MSRs, and the VP assist page"),
	HYPERV_ON(vpindex, "a number for each vCPU, by which hypercalls name it"),
	HYPERV_ON(runtime, "how long a vCPU has run, as an MSR"),
	HYPERV_ON(crash, "the guest's crash parameters reach aerie's log"),
	HYPERV_ON(reset, "the guest can reset itself by an MSR"),
	HYPERV_ON(time, "reference counter and the reference TSC page"),
	HYPERV_ON(frequencies, "frequencies of TSC and APIC timer as MSRs"),
	HYPERV_ON(reenlightenment, "the guest is told when its TSC's frequency changes"),
	HYPERV_WITH(synic, "vpindex", "interrupts and messages by the synthetic interrupt controller"),
	HYPERV_WITH(stimer, "synic and time", "synthetic timers"),
	HYPERV_WITH(stimer_direct, "stimer",
		    "timers that interrupt without a message; a nested Hyper-V uses no other"),
	HYPERV_WITH(tlbflush, "vpindex", "TLB flushes of other vCPUs by hypercall"),
	HYPERV_WITH(tlbflush_ext, "tlbflush", "flushes of ranges, with their list in XMM registers"),
	HYPERV_WITH(tlbflush_direct, "tlbflush and vapic", "L2's flush hypercalls go to L0 at once"),
	HYPERV_WITH(ipi, "vpindex", "interrupts to many vCPUs by one hypercall"),
	HYPERV_ON(xmm_input, "hypercalls take their input in XMM registers"),
	HYPERV_ON(avic, "AutoEOI is deprecated, so that APICv and AVIC stay on"),
	HYPERV_WITH(evmcs, "vapic", "enlightened VMCS: L1 writes L2's VMCS as memory (Intel)"),
	HYPERV_ON(emsr_bitmap, "L1 says when it changed L2's MSR bitmap (on Intel with evmcs)"),
	{.name = "no_nonarch_coresharing",
	 AT_BOOL(struct hyperv_config, no_nonarch_coresharing),
	 .fallback = "false",
	 .doc = "promises that vCPUs of different cores never share a host core"},
	HYPERV_ON(kvm, "the guest finds KVM too, at CPUID 0x40000100; Linux then prefers it to Hyper-V"),
	{.name = "require",
	 AT_LIST(struct hyperv_config, require, require_count, hyperv_required),
	 .fallback = "[]",
	 .doc = "enlightenments without which the machine does not start; others are left out where the host "
		"lacks "
		"them"},
	{.name = "spinlock_retries",
	 AT_UINT(struct hyperv_config, spinlock_retries),
	 .min = 0,
	 .max = UINT32_MAX,
	 .fallback = "8191",
	 .doc = "spins before the guest says that it waits; 4294967295: it never does"},
	{.name = "vendor_id",
	 AT_TEXT(struct hyperv_config, vendor_id),
	 .min = 1,
	 .max = 12,
	 .fallback = "\"Microsoft Hv\"",
	 .doc = "who made the hypervisor, in CPUID 0x40000000"},
	{.name = "version_build",
	 AT_UINT(struct hyperv_config, version_build),
	 .max = UINT32_MAX,
	 .fallback = "14393",
	 .doc = "the hypervisor's build number, in CPUID 0x40000002"},
	{.name = "version_major",
	 AT_UINT(struct hyperv_config, version_major),
	 .max = UINT16_MAX,
	 .fallback = "10",
	 .doc = "its major version"},
	{.name = "version_minor",
	 AT_UINT(struct hyperv_config, version_minor),
	 .max = UINT16_MAX,
	 .fallback = "0",
	 .doc = "its minor version"},
	{.name = NULL},
};
static const struct object hyperv_object = {.keys = hyperv_keys, .check = rule_hyperv};

static const struct choice msr_unknown_words[] = {
	{"fault", MSR_UNKNOWN_FAULT},
	{"ignore", MSR_UNKNOWN_IGNORE},
	{"log", MSR_UNKNOWN_LOG},
	{NULL, 0},
};

static const struct key msr_index = {
	.type = KEY_HEX, .max = UINT32_MAX, .doc = "an MSR that reads 0 and swallows writes in any case"};

static const struct key msr_keys[] = {
	{.name = "unknown",
	 AT_CHOICE(struct cpu_msr_config, unknown, msr_unknown_words),
	 .fallback = "\"fault\"",
	 .doc = "what the guest gets: #GP; or 0, writes vanish; or the same and a line in the log"},
	{.name = "allow",
	 AT_LIST(struct cpu_msr_config, allow, allow_count, msr_index),
	 .fallback = "[]",
	 .doc = "unknown MSRs that never fault"},
	{.name = NULL},
};
static const struct object msr_object = {.keys = msr_keys};

static const struct key feature_name = {
	.type = KEY_TEXT, .min = 1, .max = CPU_NAME_BYTES_MAX, .doc = "a name that `aerie cpu list` knows"};

static const struct key cpu_keys[] = {
	{.name = "model",
	 AT_TEXT(struct cpu_config, model),
	 .min = 1,
	 .max = CPU_NAME_BYTES_MAX,
	 .fallback = "\"host\"",
	 .doc = "what the guest's processor has; `host` is all that this host can give"},
	{.name = "require",
	 AT_LIST(struct cpu_config, require, require_count, feature_name),
	 .fallback = "[]",
	 .doc = "features without which the machine does not start"},
	{.name = "prefer",
	 AT_LIST(struct cpu_config, prefer, prefer_count, feature_name),
	 .fallback = "[]",
	 .doc = "features beyond the model, where the host has them"},
	{.name = "disable",
	 AT_LIST(struct cpu_config, disable, disable_count, feature_name),
	 .fallback = "[]",
	 .doc = "features that the guest shall not have, and with them what needs them"},
	{.name = "hyperv",
	 AT_SWITCH(struct cpu_config, hyperv, struct hyperv_config, hyperv_object, enabled),
	 .fallback = "\"off\"",
	 .doc = "the guest sees Hyper-V"},
	{.name = "tsc_khz",
	 AT_UINT(struct cpu_config, tsc_khz),
	 .min = 1000,
	 .max = 100000000,
	 .absent = "the host's",
	 .doc = "frequency of the guest's TSC in kHz"},
	{.name = "msr",
	 AT_OBJECT(struct cpu_config, msr, struct cpu_msr_config, msr_object),
	 .doc = "MSRs that KVM does not know"},
	{.name = NULL},
};
const struct object cpu_object = {.keys = cpu_keys, .check = rule_cpu};
