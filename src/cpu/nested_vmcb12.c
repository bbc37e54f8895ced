/*
 * vmcb12: the VMCB of L2 as KVM keeps it (APM volume 2, appendix B: control area at 0, save area at 0x400).
 * KVM fills the control area from what L1 wrote, and the save area with L1's own registers, to which L2's
 * #VMEXIT returns; L2's registers are those of the vCPU.
 */
#include "nested_layout.h"

#include "base/cleanup.h"

/* clang-format off */
static const struct nested_row controls[] = {
	{"cr-intercepts", 0x000, 4, NESTED_BITS, &nested_svm_cr},
	{"dr-intercepts", 0x004, 4, NESTED_BITS, &nested_svm_dr},
	{"exception-intercepts", 0x008, 4, NESTED_BITS, &nested_exceptions},
	{"intercepts-3", 0x00c, 4, NESTED_BITS, &nested_svm_word3},
	{"intercepts-4", 0x010, 4, NESTED_BITS, &nested_svm_word4},
	{"intercepts-5", 0x014, 4, NESTED_BITS, &nested_svm_word5},
	{"misc-control", 0x090, 8, NESTED_BITS, &nested_svm_misc},
	{"misc-control-2", 0x0b8, 8, NESTED_BITS, &nested_svm_misc2},
	{"nested-cr3", 0x0b0, 8, NESTED_HEX, NULL},
	{"asid", 0x058, 4, NESTED_COUNT, NULL},
	{"tlb-control", 0x05c, 1, NESTED_COUNT, NULL},
	{"tsc-offset", 0x050, 8, NESTED_HEX, NULL},
	{"iopm-base", 0x040, 8, NESTED_HEX, NULL},
	{"msrpm-base", 0x048, 8, NESTED_HEX, NULL},
	{"pause-filter-threshold", 0x03c, 2, NESTED_COUNT, NULL},
	{"pause-filter-count", 0x03e, 2, NESTED_COUNT, NULL},
	{"interrupt-control", 0x060, 4, NESTED_BITS, &nested_svm_int_ctl},
	{"virtual-tpr", 0x060, 1, NESTED_COUNT, NULL},
	{"virtual-interrupt-vector", 0x064, 1, NESTED_HEX, NULL},
	{"interrupt-state", 0x068, 8, NESTED_BITS, &nested_svm_int_state},
	{"avic-bar", 0x098, 8, NESTED_HEX, NULL},
	{"avic-backing-page", 0x0e0, 8, NESTED_HEX, NULL},
	{"avic-logical-table", 0x0f0, 8, NESTED_HEX, NULL},
	{"avic-physical-table", 0x0f8, 8, NESTED_HEX, NULL},
	{"ghcb", 0x0a0, 8, NESTED_HEX, NULL},
	{"vmsa", 0x108, 8, NESTED_HEX, NULL},
	{"clean-bits", 0x0c0, 4, NESTED_HEX, NULL},
	/* Hyper-V's enlightenments live in the bytes that the APM leaves to software (TLFS, nested virtualization). */
	{"hyperv-enlightenments", VMCB12_HV_CONTROL, 4, NESTED_BITS, &nested_svm_hv},
	{"hyperv-vp-id", 0x3e4, 4, NESTED_HEX, NULL},
	{"hyperv-vm-id", 0x3e8, 8, NESTED_HEX, NULL},
	{"hyperv-assist-page", 0x3f0, 8, NESTED_HEX, NULL},
};

static const struct nested_row entry[] = {
	{"injection", 0x0a8, 4, NESTED_EVENT, NULL},
	{"injection-error-code", 0x0ac, 4, NESTED_HEX, NULL},
};

static const struct nested_row exit_information[] = {
	{"code", 0x070, 8, NESTED_SVM_EXIT, NULL},
	{"info-1", 0x078, 8, NESTED_HEX, NULL},
	{"info-2", 0x080, 8, NESTED_HEX, NULL},
	{"interruption", 0x088, 4, NESTED_EVENT, NULL},
	{"interruption-error-code", 0x08c, 4, NESTED_HEX, NULL},
	{"next-rip", 0x0c8, 8, NESTED_HEX, NULL},
	{"instruction-bytes", 0x0d0, 1, NESTED_COUNT, NULL},
};

static const struct nested_row l1[] = {
	{"rip", 0x578, 8, NESTED_HEX, NULL},
	{"rsp", 0x5d8, 8, NESTED_HEX, NULL},
	{"rflags", 0x570, 8, NESTED_HEX, NULL},
	{"cr0", 0x558, 8, NESTED_HEX, NULL},
	{"cr3", 0x550, 8, NESTED_HEX, NULL},
	{"cr4", 0x548, 8, NESTED_HEX, NULL},
	{"efer", 0x4d0, 8, NESTED_HEX, NULL},
	{"cpl", 0x4cb, 1, NESTED_COUNT, NULL},
	{"rax", 0x5f8, 8, NESTED_HEX, NULL},
	{"cr2", 0x640, 8, NESTED_HEX, NULL},
	{"dr6", 0x568, 8, NESTED_HEX, NULL},
	{"dr7", 0x560, 8, NESTED_HEX, NULL},
	{"pat", 0x668, 8, NESTED_HEX, NULL},
	{"debugctl", 0x670, 8, NESTED_HEX, NULL},
	{"star", 0x600, 8, NESTED_HEX, NULL},
	{"lstar", 0x608, 8, NESTED_HEX, NULL},
	{"cstar", 0x610, 8, NESTED_HEX, NULL},
	{"sfmask", 0x618, 8, NESTED_HEX, NULL},
	{"kernel-gs-base", 0x620, 8, NESTED_HEX, NULL},
	{"sysenter-cs", 0x628, 8, NESTED_HEX, NULL},
	{"sysenter-esp", 0x630, 8, NESTED_HEX, NULL},
	{"sysenter-eip", 0x638, 8, NESTED_HEX, NULL},
};

#define SEGMENT(name, at) {name, {(at), 2}, {(at) + 8, 8}, {(at) + 4, 4}, {(at) + 2, 2}}
static const struct nested_segment segments[] = {
	SEGMENT("es", 0x400), SEGMENT("cs", 0x410), SEGMENT("ss", 0x420), SEGMENT("ds", 0x430), SEGMENT("fs", 0x440),
	SEGMENT("gs", 0x450), SEGMENT("gdtr", 0x460), SEGMENT("ldtr", 0x470), SEGMENT("idtr", 0x480), SEGMENT("tr", 0x490),
};
/* clang-format on */

static const struct nested_group groups[] = {
	{"entry", entry, ARRAY_LEN(entry), NULL, 0},
	{"exit", exit_information, ARRAY_LEN(exit_information), NULL, 0},
	{"controls", controls, ARRAY_LEN(controls), NULL, 0},
	{"l1", l1, ARRAY_LEN(l1), segments, ARRAY_LEN(segments)},
};

const struct nested_layout nested_vmcb12 = {groups, ARRAY_LEN(groups)};
