/* What bits and numbers are called: Intel SDM volume 3C, chapters 25 and 26 and appendix C. A feature that L1
 * may have is not a control that it has set, so these are the manual's names, not those of the feature rows.
 */
#include "nested_layout.h"

#include "base/cleanup.h"

#define NAMES(table, list) const struct nested_names table = {list, ARRAY_LEN(list)}

const char *nested_name(const struct nested_names *names, uint64_t value)
{
	return value < names->count ? names->names[value] : NULL;
}

static const char *const exceptions[32] = {
	"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", NULL,  "#TS",
	"#NP", "#SS", "#GP", "#PF", NULL,  "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
	NULL,  NULL,  NULL,  NULL,  NULL,  NULL,  "#HV", "#VC", "#SX", NULL,
};
NAMES(nested_exceptions, exceptions);

static const char *const event_types[] = {
	"external-interrupt", "reserved-event-1",   "nmi",
	"exception",	      "software-interrupt", "privileged-software-exception",
	"software-exception", "other-event",
};
NAMES(nested_event_types, event_types);

static const char *const pin[] = {
	[0] = "external-interrupt-exiting", [3] = "nmi-exiting",       [5] = "virtual-nmis",
	[6] = "preemption-timer",	    [7] = "posted-interrupts",
};
NAMES(nested_vmx_pin, pin);

static const char *const proc[] = {
	[2] = "interrupt-window-exiting",
	[3] = "tsc-offsetting",
	[7] = "hlt-exiting",
	[9] = "invlpg-exiting",
	[10] = "mwait-exiting",
	[11] = "rdpmc-exiting",
	[12] = "rdtsc-exiting",
	[15] = "cr3-load-exiting",
	[16] = "cr3-store-exiting",
	[17] = "tertiary-controls",
	[19] = "cr8-load-exiting",
	[20] = "cr8-store-exiting",
	[21] = "tpr-shadow",
	[22] = "nmi-window-exiting",
	[23] = "mov-dr-exiting",
	[24] = "unconditional-io-exiting",
	[25] = "io-bitmaps",
	[27] = "monitor-trap-flag",
	[28] = "msr-bitmaps",
	[29] = "monitor-exiting",
	[30] = "pause-exiting",
	[31] = "secondary-controls",
};
NAMES(nested_vmx_proc, proc);

static const char *const proc2[] = {
	[0] = "virtualize-apic-accesses",
	[1] = "ept",
	[2] = "descriptor-table-exiting",
	[3] = "rdtscp",
	[4] = "virtualize-x2apic",
	[5] = "vpid",
	[6] = "wbinvd-exiting",
	[7] = "unrestricted-guest",
	[8] = "apic-register-virtualization",
	[9] = "virtual-interrupt-delivery",
	[10] = "pause-loop-exiting",
	[11] = "rdrand-exiting",
	[12] = "invpcid",
	[13] = "vm-functions",
	[14] = "vmcs-shadowing",
	[15] = "encls-exiting",
	[16] = "rdseed-exiting",
	[17] = "pml",
	[18] = "ept-violation-ve",
	[19] = "conceal-vmx-from-pt",
	[20] = "xsaves",
	[21] = "pasid-translation",
	[22] = "mode-based-execute",
	[23] = "sub-page-write",
	[24] = "pt-guest-physical",
	[25] = "tsc-scaling",
	[26] = "user-wait-and-pause",
	[27] = "pconfig",
	[28] = "enclv-exiting",
	[30] = "bus-lock-detection",
	[31] = "instruction-timeout",
};
NAMES(nested_vmx_proc2, proc2);

static const char *const exit_controls[] = {
	[2] = "save-debug-controls",
	[9] = "host-64-bit",
	[12] = "load-perf-global-ctrl",
	[15] = "acknowledge-interrupt",
	[18] = "save-pat",
	[19] = "load-pat",
	[20] = "save-efer",
	[21] = "load-efer",
	[22] = "save-preemption-timer",
	[23] = "clear-bndcfgs",
	[24] = "conceal-vmx-from-pt",
	[25] = "clear-rtit-ctl",
	[28] = "load-cet",
	[29] = "load-pkrs",
	[30] = "save-perf-global-ctrl",
	[31] = "secondary-exit-controls",
};
NAMES(nested_vmx_exit_controls, exit_controls);

static const char *const entry_controls[] = {
	[2] = "load-debug-controls",
	[9] = "guest-64-bit",
	[10] = "smm-entry",
	[11] = "deactivate-dual-monitor",
	[13] = "load-perf-global-ctrl",
	[14] = "load-pat",
	[15] = "load-efer",
	[16] = "load-bndcfgs",
	[17] = "conceal-vmx-from-pt",
	[18] = "load-rtit-ctl",
	[20] = "load-cet",
	[22] = "load-pkrs",
};
NAMES(nested_vmx_entry_controls, entry_controls);

static const char *const interruptibility[] = {"sti", "mov-ss", "smi", "nmi", "enclave"};
NAMES(nested_interruptibility, interruptibility);

static const char *const activity[] = {"active", "hlt", "shutdown", "wait-for-sipi"};
NAMES(nested_activity, activity);

static const char *const launch_states[] = {"clear", "launched"};
NAMES(nested_launch_states, launch_states);

static const char *const vmx_exits[] = {
	[0] = "exception-or-nmi",
	[1] = "external-interrupt",
	[2] = "triple-fault",
	[3] = "init",
	[4] = "sipi",
	[5] = "io-smi",
	[6] = "other-smi",
	[7] = "interrupt-window",
	[8] = "nmi-window",
	[9] = "task-switch",
	[10] = "cpuid",
	[11] = "getsec",
	[12] = "hlt",
	[13] = "invd",
	[14] = "invlpg",
	[15] = "rdpmc",
	[16] = "rdtsc",
	[17] = "rsm",
	[18] = "vmcall",
	[19] = "vmclear",
	[20] = "vmlaunch",
	[21] = "vmptrld",
	[22] = "vmptrst",
	[23] = "vmread",
	[24] = "vmresume",
	[25] = "vmwrite",
	[26] = "vmxoff",
	[27] = "vmxon",
	[28] = "cr-access",
	[29] = "dr-access",
	[30] = "io-instruction",
	[31] = "rdmsr",
	[32] = "wrmsr",
	[33] = "invalid-guest-state",
	[34] = "msr-loading",
	[36] = "mwait",
	[37] = "monitor-trap-flag",
	[39] = "monitor",
	[40] = "pause",
	[41] = "machine-check-during-entry",
	[43] = "tpr-below-threshold",
	[44] = "apic-access",
	[45] = "virtualized-eoi",
	[46] = "gdtr-or-idtr-access",
	[47] = "ldtr-or-tr-access",
	[48] = "ept-violation",
	[49] = "ept-misconfiguration",
	[50] = "invept",
	[51] = "rdtscp",
	[52] = "preemption-timer",
	[53] = "invvpid",
	[54] = "wbinvd",
	[55] = "xsetbv",
	[56] = "apic-write",
	[57] = "rdrand",
	[58] = "invpcid",
	[59] = "vmfunc",
	[60] = "encls",
	[61] = "rdseed",
	[62] = "pml-full",
	[63] = "xsaves",
	[64] = "xrstors",
	[67] = "umwait",
	[68] = "tpause",
	[74] = "bus-lock",
	[75] = "instruction-timeout",
};
NAMES(nested_vmx_exits, vmx_exits);
