/* The tables that say where the fields of vmcs12 and vmcb12 are and how they read; nested_view.c walks them.
 */
#ifndef AERIE_CPU_NESTED_LAYOUT_H
#define AERIE_CPU_NESTED_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum { NESTED_REGION_BYTES = 4096 };

enum nested_form {
	NESTED_HEX,
	NESTED_COUNT,	 /* decimal */
	NESTED_BITS,	 /* names of the bits that are set */
	NESTED_NAME,	 /* a name by value */
	NESTED_VMX_EXIT, /* a name by bits 15:0, and whether the entry failed (bit 31) */
	NESTED_SVM_EXIT,
	NESTED_EVENT, /* interruption information (SDM 3C, 25.8.3; APM 2, 15.20): both vendors agree */
	NESTED_EPTP,  /* SDM 3C, table 25-9 */
};

struct nested_names {
	const char *const *names; /* by bit or value; NULL where there is none */
	size_t count;
};

struct nested_row {
	const char *name;
	uint16_t offset; /* bytes */
	uint8_t width;	 /* bytes: 1, 2, 4 or 8 */
	enum nested_form form;
	const struct nested_names *names;
};

/* In vmcs12 a segment's parts lie apart, in a VMCB together. Width 0: the part is not there. */
struct nested_segment {
	const char *name;
	struct {
		uint16_t offset;
		uint8_t width;
	} selector, base, limit, attributes;
};

struct nested_group {
	const char *name;
	const struct nested_row *rows;
	size_t row_count;
	const struct nested_segment *segments;
	size_t segment_count;
};

struct nested_layout {
	const struct nested_group *groups;
	size_t group_count;
};

extern const struct nested_layout nested_vmcs12, nested_vmcb12;

/* What others ask of a region by name. */
enum {
	VMCS12_REVISION = 0x11e57ed0,
	VMCS12_EPT_POINTER = 120,
	VMCS12_GUEST_CR3 = 432,
	VMCS12_HOST_RSP = 664,
	VMCS12_HOST_RIP = 672,
	VMCS12_PROC_CONTROLS = 748,
	VMCS12_PROC2_CONTROLS = 804,
	VMCS12_PROC2_EPT = 1 << 1,
	VMCB12_MISC_CONTROL = 0x90,
	VMCB12_MISC_NPT = 1 << 0,
	VMCB12_NCR3 = 0xb0,
	VMCB12_HV_CONTROL = 0x3e0,
};

#define VMCS12_PROC_SECONDARY UINT32_C(0x80000000)

/* nested_names.c */
extern const struct nested_names nested_exceptions, nested_event_types, nested_vmx_exits, nested_vmx_pin,
	nested_vmx_proc, nested_vmx_proc2, nested_vmx_exit_controls, nested_vmx_entry_controls,
	nested_interruptibility, nested_activity, nested_launch_states;
/* nested_names_svm.c */
extern const struct nested_names nested_svm_cr, nested_svm_dr, nested_svm_word3, nested_svm_word4,
	nested_svm_word5, nested_svm_int_ctl, nested_svm_int_state, nested_svm_misc, nested_svm_misc2,
	nested_svm_hv;

const char *nested_svm_exit(uint64_t code);				   /* NULL: none that we know */
const char *nested_name(const struct nested_names *names, uint64_t value); /* NULL past the end */

#endif
