/*
 * vmcs12: the VMCS that L1 keeps for L2, as KVM lays it out (arch/x86/kvm/vmx/vmcs12.h). Not Intel's format
 * and not UAPI, but frozen all the same: KVM's migration depends on it, and a moved field means a new
 * revision.
 *
 *	0	revision	u32, VMCS12_REVISION
 *	4	abort		u32
 *	8	launch state	u32: 0 clear, 1 launched
 *	40	fields of 64 bits
 *	344	fields of natural width, 64 bits each
 *	744	fields of 32 bits
 *	960	fields of 16 bits, up to 998
 *
 * The two last of the 64-bit fields came with Linux 5.15 and are zero before it.
 */
#include "nested_layout.h"

#include "base/cleanup.h"

/* clang-format off */
static const struct nested_row guest[] = {
	{"rip", 544, 8, NESTED_HEX, NULL},
	{"rsp", 536, 8, NESTED_HEX, NULL},
	{"rflags", 552, 8, NESTED_HEX, NULL},
	{"cr0", 424, 8, NESTED_HEX, NULL},
	{"cr3", 432, 8, NESTED_HEX, NULL},
	{"cr4", 440, 8, NESTED_HEX, NULL},
	{"efer", 200, 8, NESTED_HEX, NULL},
	{"activity-state", 916, 4, NESTED_NAME, &nested_activity},
	{"interruptibility", 912, 4, NESTED_BITS, &nested_interruptibility},
	{"pending-debug-exceptions", 560, 8, NESTED_HEX, NULL},
	{"debugctl", 184, 8, NESTED_HEX, NULL},
	{"pat", 192, 8, NESTED_HEX, NULL},
	{"perf-global-ctrl", 208, 8, NESTED_HEX, NULL},
	{"pdptr0", 216, 8, NESTED_HEX, NULL},
	{"pdptr1", 224, 8, NESTED_HEX, NULL},
	{"pdptr2", 232, 8, NESTED_HEX, NULL},
	{"pdptr3", 240, 8, NESTED_HEX, NULL},
	{"bndcfgs", 248, 8, NESTED_HEX, NULL},
	{"dr7", 528, 8, NESTED_HEX, NULL},
	{"sysenter-esp", 568, 8, NESTED_HEX, NULL},
	{"sysenter-eip", 576, 8, NESTED_HEX, NULL},
	{"sysenter-cs", 920, 4, NESTED_HEX, NULL},
	{"interrupt-status", 980, 2, NESTED_HEX, NULL},
};

static const struct nested_row controls[] = {
	{"launch-state", 8, 4, NESTED_NAME, &nested_launch_states},
	{"abort", 4, 4, NESTED_HEX, NULL},
	{"pin-based", 744, 4, NESTED_BITS, &nested_vmx_pin},
	{"processor-based", 748, 4, NESTED_BITS, &nested_vmx_proc},
	{"secondary", 804, 4, NESTED_BITS, &nested_vmx_proc2},
	{"exit-controls", 768, 4, NESTED_BITS, &nested_vmx_exit_controls},
	{"entry-controls", 780, 4, NESTED_BITS, &nested_vmx_entry_controls},
	{"exception-bitmap", 752, 4, NESTED_BITS, &nested_exceptions},
	{"ept-pointer", 120, 8, NESTED_EPTP, NULL},
	{"io-bitmap-a", 40, 8, NESTED_HEX, NULL},
	{"io-bitmap-b", 48, 8, NESTED_HEX, NULL},
	{"msr-bitmap", 56, 8, NESTED_HEX, NULL},
	{"exit-msr-store-address", 64, 8, NESTED_HEX, NULL},
	{"exit-msr-load-address", 72, 8, NESTED_HEX, NULL},
	{"entry-msr-load-address", 80, 8, NESTED_HEX, NULL},
	{"tsc-offset", 88, 8, NESTED_HEX, NULL},
	{"virtual-apic-page-address", 96, 8, NESTED_HEX, NULL},
	{"apic-access-address", 104, 8, NESTED_HEX, NULL},
	{"posted-intr-desc-address", 112, 8, NESTED_HEX, NULL},
	{"eoi-exit-bitmap0", 128, 8, NESTED_HEX, NULL},
	{"eoi-exit-bitmap1", 136, 8, NESTED_HEX, NULL},
	{"eoi-exit-bitmap2", 144, 8, NESTED_HEX, NULL},
	{"eoi-exit-bitmap3", 152, 8, NESTED_HEX, NULL},
	{"xss-exit-bitmap", 160, 8, NESTED_HEX, NULL},
	{"link-pointer", 176, 8, NESTED_HEX, NULL},
	{"vmread-bitmap", 280, 8, NESTED_HEX, NULL},
	{"vmwrite-bitmap", 288, 8, NESTED_HEX, NULL},
	{"function-control", 296, 8, NESTED_HEX, NULL},
	{"eptp-list-address", 304, 8, NESTED_HEX, NULL},
	{"pml-address", 312, 8, NESTED_HEX, NULL},
	{"encls-exiting-bitmap", 320, 8, NESTED_HEX, NULL},
	{"tsc-multiplier", 328, 8, NESTED_HEX, NULL},
	{"cr0-guest-host-mask", 344, 8, NESTED_HEX, NULL},
	{"cr4-guest-host-mask", 352, 8, NESTED_HEX, NULL},
	{"cr0-read-shadow", 360, 8, NESTED_HEX, NULL},
	{"cr4-read-shadow", 368, 8, NESTED_HEX, NULL},
	{"cr3-target-value0", 376, 8, NESTED_HEX, NULL},
	{"cr3-target-value1", 384, 8, NESTED_HEX, NULL},
	{"cr3-target-value2", 392, 8, NESTED_HEX, NULL},
	{"cr3-target-value3", 400, 8, NESTED_HEX, NULL},
	{"page-fault-error-code-mask", 756, 4, NESTED_HEX, NULL},
	{"page-fault-error-code-match", 760, 4, NESTED_HEX, NULL},
	{"cr3-target-count", 764, 4, NESTED_COUNT, NULL},
	{"exit-msr-store-count", 772, 4, NESTED_COUNT, NULL},
	{"exit-msr-load-count", 776, 4, NESTED_COUNT, NULL},
	{"entry-msr-load-count", 784, 4, NESTED_COUNT, NULL},
	{"tpr-threshold", 800, 4, NESTED_COUNT, NULL},
	{"preemption-timer-value", 928, 4, NESTED_COUNT, NULL},
	{"vpid", 960, 2, NESTED_COUNT, NULL},
	{"posted-interrupt-vector", 962, 2, NESTED_HEX, NULL},
	{"pml-index", 996, 2, NESTED_COUNT, NULL},
};

static const struct nested_row entry[] = {
	{"injection", 788, 4, NESTED_EVENT, NULL},
	{"injection-error-code", 792, 4, NESTED_HEX, NULL},
	{"injection-instruction-bytes", 796, 4, NESTED_COUNT, NULL},
};

static const struct nested_row exit_information[] = {
	{"reason", 812, 4, NESTED_VMX_EXIT, &nested_vmx_exits},
	{"qualification", 408, 8, NESTED_HEX, NULL},
	{"linear-address", 416, 8, NESTED_HEX, NULL},
	{"physical-address", 168, 8, NESTED_HEX, NULL},
	{"interruption", 816, 4, NESTED_EVENT, NULL},
	{"interruption-error-code", 820, 4, NESTED_HEX, NULL},
	{"idt-vectoring", 824, 4, NESTED_EVENT, NULL},
	{"idt-vectoring-error-code", 828, 4, NESTED_HEX, NULL},
	{"instruction-bytes", 832, 4, NESTED_COUNT, NULL},
	{"instruction-info", 836, 4, NESTED_HEX, NULL},
	{"instruction-error", 808, 4, NESTED_COUNT, NULL},
};

static const struct nested_row host[] = {
	{"rip", 672, 8, NESTED_HEX, NULL},
	{"rsp", 664, 8, NESTED_HEX, NULL},
	{"cr0", 584, 8, NESTED_HEX, NULL},
	{"cr3", 592, 8, NESTED_HEX, NULL},
	{"cr4", 600, 8, NESTED_HEX, NULL},
	{"efer", 264, 8, NESTED_HEX, NULL},
	{"pat", 256, 8, NESTED_HEX, NULL},
	{"perf-global-ctrl", 272, 8, NESTED_HEX, NULL},
	{"sysenter-esp", 648, 8, NESTED_HEX, NULL},
	{"sysenter-eip", 656, 8, NESTED_HEX, NULL},
	{"sysenter-cs", 924, 4, NESTED_HEX, NULL},
};

static const struct nested_segment guest_segments[] = {
	{"es", {964, 2}, {448, 8}, {840, 4}, {880, 4}},
	{"cs", {966, 2}, {456, 8}, {844, 4}, {884, 4}},
	{"ss", {968, 2}, {464, 8}, {848, 4}, {888, 4}},
	{"ds", {970, 2}, {472, 8}, {852, 4}, {892, 4}},
	{"fs", {972, 2}, {480, 8}, {856, 4}, {896, 4}},
	{"gs", {974, 2}, {488, 8}, {860, 4}, {900, 4}},
	{"ldtr", {976, 2}, {496, 8}, {864, 4}, {904, 4}},
	{"tr", {978, 2}, {504, 8}, {868, 4}, {908, 4}},
	{"gdtr", {0, 0}, {512, 8}, {872, 4}, {0, 0}},
	{"idtr", {0, 0}, {520, 8}, {876, 4}, {0, 0}},
};
static const struct nested_segment host_segments[] = {
	{"es", {982, 2}, {0, 0}, {0, 0}, {0, 0}},
	{"cs", {984, 2}, {0, 0}, {0, 0}, {0, 0}},
	{"ss", {986, 2}, {0, 0}, {0, 0}, {0, 0}},
	{"ds", {988, 2}, {0, 0}, {0, 0}, {0, 0}},
	{"fs", {990, 2}, {608, 8}, {0, 0}, {0, 0}},
	{"gs", {992, 2}, {616, 8}, {0, 0}, {0, 0}},
	{"tr", {994, 2}, {624, 8}, {0, 0}, {0, 0}},
	{"gdtr", {0, 0}, {632, 8}, {0, 0}, {0, 0}},
	{"idtr", {0, 0}, {640, 8}, {0, 0}, {0, 0}},
};
/* clang-format on */

static const struct nested_group groups[] = {
	{"guest", guest, ARRAY_LEN(guest), guest_segments, ARRAY_LEN(guest_segments)},
	{"entry", entry, ARRAY_LEN(entry), NULL, 0},
	{"exit", exit_information, ARRAY_LEN(exit_information), NULL, 0},
	{"controls", controls, ARRAY_LEN(controls), NULL, 0},
	{"host", host, ARRAY_LEN(host), host_segments, ARRAY_LEN(host_segments)},
};

const struct nested_layout nested_vmcs12 = {groups, ARRAY_LEN(groups)};
