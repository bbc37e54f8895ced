/*
 * Nested state of an L1 with an enlightened VMCS: which is of that kind, whose fields it brings, and what
 * counts as written when it is saved. tests/cpu/test_vcpu_evmcs.c has the entry.
 */
#include "../../src/cpu/nested_evmcs.h"
#include "../../src/cpu/nested_layout.h"

#include "evmcs_rig.h"
#include "harness.h"
#include "lab/scenarios/evmcs-window/evmcs.h"
#include "memory/dirty.h"

#include <stdbool.h>

static union {
	struct kvm_nested_state state;
	uint8_t bytes[NESTED_BYTES];
} blob;

static void keep(struct nested_evmcs *evmcs, uint16_t flags)
{
	rig_fill(&blob.state, flags);
	ck_assert_int_eq(nested_evmcs_put(evmcs, &blob.state, NESTED_BYTES), 0);
}

#define FIELD(name, field)                                                                                   \
	{                                                                                                    \
		name, offsetof(struct evmcs, field), sizeof(((struct evmcs *)NULL)->field)                   \
	}
#define SEGMENT(name, number)                                                                                \
	FIELD(name ".selector", guest_selector[number]), FIELD(name ".access", guest_access[number]),        \
		FIELD(name ".limit", guest_limit[number]), FIELD(name ".base", guest_base[number])

/* By the names of nested_layout.h, and by the layout that the lab's small L1 uses. */
static const struct {
	const char *name;
	size_t offset, width;
} of_l2[] = {
	FIELD("rip", guest_rip),
	FIELD("rsp", guest_rsp),
	FIELD("rflags", guest_rflags),
	FIELD("cr0", guest_cr0),
	FIELD("cr3", guest_cr3),
	FIELD("cr4", guest_cr4),
	FIELD("dr7", guest_dr7),
	FIELD("efer", guest_efer),
	FIELD("pat", guest_pat),
	FIELD("activity-state", guest_activity),
	FIELD("interruptibility", guest_interruptibility),
	FIELD("pending-debug-exceptions", guest_pending_debug),
	FIELD("pdptr0", guest_pdptr[0]),
	FIELD("pdptr1", guest_pdptr[1]),
	FIELD("pdptr2", guest_pdptr[2]),
	FIELD("pdptr3", guest_pdptr[3]),
	FIELD("sysenter-esp", guest_sysenter_esp),
	FIELD("sysenter-eip", guest_sysenter_eip),
	FIELD("sysenter-cs", guest_sysenter_cs),
	FIELD("processor-based", cpu_controls),
	FIELD("entry-controls", entry_controls),
	FIELD("injection", entry_event),
	FIELD("injection-error-code", entry_event_error),
	FIELD("injection-instruction-bytes", entry_instruction_bytes),
	SEGMENT("es", ES),
	SEGMENT("cs", CS),
	SEGMENT("ss", SS),
	SEGMENT("ds", DS),
	SEGMENT("fs", FS),
	SEGMENT("gs", GS),
	SEGMENT("ldtr", LDTR),
	SEGMENT("tr", TR),
	FIELD("gdtr.limit", guest_limit[GDTR]),
	FIELD("gdtr.base", guest_base[GDTR]),
	FIELD("idtr.limit", guest_limit[IDTR]),
	FIELD("idtr.base", guest_base[IDTR]),
};

static size_t segment_at(const struct nested_segment *segment, const char *part)
{
	if (strcmp(part, "selector") == 0)
		return segment->selector.offset;
	if (strcmp(part, "access") == 0)
		return segment->attributes.offset;
	return strcmp(part, "limit") == 0 ? segment->limit.offset : segment->base.offset;
}

/* Where vmcs12 has it. Host and guest have fields of one name: the first group is the guest's. */
static size_t vmcs12_at(const char *name)
{
	for (size_t g = 0; g < nested_vmcs12.group_count; g++) {
		const struct nested_group *group = &nested_vmcs12.groups[g];
		for (size_t i = 0; i < group->row_count; i++)
			if (strcmp(group->rows[i].name, name) == 0)
				return group->rows[i].offset;
		for (size_t i = 0; i < group->segment_count; i++) {
			size_t length = strlen(group->segments[i].name);
			if (strncmp(group->segments[i].name, name, length) == 0 && name[length] == '.')
				return segment_at(&group->segments[i], name + length + 1);
		}
	}
	ck_abort_msg("%s", name);
}

/* Once L1 has run the page has what vmcs12 has: one that differs anywhere in L2's fields is another. */
START_TEST(any_field_of_l2_tells_another_vmcs)
{
	struct guest_memory *memory = rig_memory();
	struct nested_evmcs evmcs = {0};
	const struct kvm_regs regs = {.rip = HOST_RIP + 3, .rsp = HOST_RSP};
	uint8_t *page = rig_at(memory, PAGE_A), *pointer;
	keep(&evmcs, KVM_STATE_NESTED_EVMCS);
	uint8_t *vmcs12 = evmcs.put->data.vmx[0].vmcs12;
	for (size_t i = 0; i < sizeof(of_l2) / sizeof(of_l2[0]); i++) {
		for (size_t byte = 0; byte < of_l2[i].width; byte++) {
			page[of_l2[i].offset + byte] ^= 0x5a;
			ck_assert_msg(!nested_evmcs_is_named(&evmcs, memory, ASSIST | 1, &regs, &pointer),
				      "%s differs", of_l2[i].name);
			vmcs12[vmcs12_at(of_l2[i].name) + byte] ^= 0x5a;
			ck_assert_msg(nested_evmcs_is_named(&evmcs, memory, ASSIST | 1, &regs, &pointer),
				      "%s agrees", of_l2[i].name);
		}
	}
	nested_evmcs_forget(&evmcs);
	guest_memory_destroy(memory);
}
END_TEST

static bool is_marked(struct dirty_tracker *tracker, uint64_t gpa)
{
	uint64_t count, bitmap[RAM / 4096 / 64] = {0};
	ck_assert_int_eq(dirty_tracker_harvest(tracker, bitmap, &count), 0);
	ck_assert_uint_le(count, 1);
	return bitmap[gpa / 4096 / 64] >> gpa / 4096 % 64 & 1;
}

START_TEST(the_page_that_is_named_counts_as_written)
{
	struct guest_memory *memory = rig_memory();
	struct dirty_tracker *tracker;
	struct err err = ERR_INIT;
	ck_assert_int_eq(guest_memory_attach(memory, -1, &err), 0);
	ck_assert_int_eq(dirty_tracker_create(memory, &tracker, &err), 0);
	nested_evmcs_mark(memory, ASSIST | 1);
	ck_assert(is_marked(tracker, PAGE_A));
	nested_evmcs_mark(memory, RAM | 1);
	ck_assert(!is_marked(tracker, PAGE_A));
	dirty_tracker_destroy(tracker);
	guest_memory_destroy(memory);
}
END_TEST

START_TEST(nothing_else_is_kept)
{
	static const uint16_t flags[] = {0, KVM_STATE_NESTED_GUEST_MODE,
					 KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_GUEST_MODE};
	struct nested_evmcs evmcs = {0};
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		keep(&evmcs, KVM_STATE_NESTED_EVMCS);
		ck_assert_ptr_nonnull(evmcs.put);
		keep(&evmcs, flags[i]); /* and what was is forgotten */
		ck_assert_ptr_null(evmcs.put);
	}
	rig_fill(&blob.state, KVM_STATE_NESTED_EVMCS);
	ck_assert(!nested_evmcs_is_l1s(&blob.state, HEADER)); /* vmcs12 is not in it */
	blob.state.format = KVM_STATE_NESTED_FORMAT_SVM;
	ck_assert(!nested_evmcs_is_l1s(&blob.state, NESTED_BYTES));
	ck_assert(!nested_evmcs_is_l1s(NULL, 0));
	nested_evmcs_forget(&evmcs);
}
END_TEST

TEST_MAIN("nested_evmcs", any_field_of_l2_tells_another_vmcs, the_page_that_is_named_counts_as_written,
	  nothing_else_is_kept)
