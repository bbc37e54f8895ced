/* The nested-state blob, taken apart: what KVM writes is shown by name, what nobody should write is refused.
 */
#include "../../src/cpu/nested_layout.h"
#include "base/cleanup.h"
#include "cpu/nested_view.h"
#include "harness.h"
#include "nested_blob.h"

#include <stdio.h>

static const struct kvm_regs regs = {.rip = 0xffffffff81a1c2b3, .rsp = 0xffffc90000013e58, .rflags = 0x246};
static const struct kvm_sregs2 sregs = {
	.cs = {.selector = 0x10, .limit = 0xffffffff, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1},
	.tr = {.selector = 0x40, .base = 0xfffffe0000003000, .limit = 0x4087, .type = 11, .present = 1},
	.ldt = {.unusable = 1},
	.gdt = {.base = 0xfffffe0000001000, .limit = 0x7f},
	.cr0 = 0x80050033,
	.cr2 = 0x7f0000001000,
	.cr3 = 0x2a3e000,
	.cr4 = 0x6f0,
	.efer = 0xd01,
};
static const struct kvm_vcpu_events events = {
	.exception = {.pending = 1, .nr = 14, .has_error_code = 1, .error_code = 2},
	.interrupt = {.injected = 1, .nr = 0xec, .shadow = 1},
	.nmi = {.masked = 1},
};

static struct nested_source source_of(const void *blob, size_t bytes)
{
	return (struct nested_source){.index = 1,
				      .nested = blob,
				      .nested_bytes = bytes,
				      .regs = &regs,
				      .sregs = &sregs,
				      .events = &events};
}

static struct nested_view view_of(const struct nested_source *source)
{
	struct nested_view view;
	struct err err = ERR_INIT;
	ck_assert_msg(nested_view_init(source, &view, &err) == 0, "%s", err.text);
	return view;
}

/* The golden file, or with $GOLDEN_WRITE set, make it. */
static void check_golden(const char *name, char *text)
{
	char path[256], want[65536];
	ck_assert_ptr_nonnull(text);
	(void)snprintf(path, sizeof(path), "tests/golden/nested/%s", name);
	FILE *file = fopen(path, getenv("GOLDEN_WRITE") ? "w+" : "r");
	ck_assert_msg(file, "%s is missing", path);
	if (getenv("GOLDEN_WRITE")) {
		(void)fputs(text, file);
		rewind(file);
	}
	size_t len = fread(want, 1, sizeof(want) - 1, file);
	want[len] = 0;
	(void)fclose(file);
	ck_assert_str_eq(text, want);
	free(text);
}

START_TEST(vmx_reads_as_the_golden_files)
{
	static uint8_t blob[BLOB_VMX];
	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING);
	store_le32(blob + 28, KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE);
	store_le64(blob + 32, 0x123456789a);
	struct nested_source source = source_of(blob, sizeof(blob));
	struct nested_view view = view_of(&source);
	ck_assert(view.runs_l2 && view.kind == CPU_NESTED_VMX && view.vmcs.layout && !view.shadow.bytes);
	check_golden("vmx.txt", nested_view_text(&view));
	check_golden("vmx.json", nested_view_json(&view));
}
END_TEST

START_TEST(svm_reads_as_the_golden_files)
{
	static uint8_t blob[BLOB_SVM];
	blob_svm(blob);
	struct nested_source source = source_of(blob, sizeof(blob));
	struct nested_view view = view_of(&source);
	ck_assert(view.runs_l2 && view.kind == CPU_NESTED_SVM && view.vmcb12_gpa == 0x3456000);
	check_golden("svm.txt", nested_view_text(&view));
	check_golden("svm.json", nested_view_json(&view));
}
END_TEST

static void check_shows(const struct nested_view *view, const char *text, bool shows)
{
	_cleanup_free_ char *json = nested_view_json(view);
	ck_assert_ptr_nonnull(json);
	ck_assert_msg(!!strstr(json, text) == shows, "%s%s in %s", text, shows ? " is not" : " is", json);
}

/* A revision that is not ours has a layout that is not ours: its bytes are shown, nothing is claimed of them.
 */
START_TEST(an_unknown_revision_is_shown_raw)
{
	static uint8_t blob[BLOB_VMX];
	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
	store_le32(blob + BLOB_HEADER, 0x11e57ed1);
	struct nested_source source = source_of(blob, sizeof(blob));
	struct nested_view view = view_of(&source);
	ck_assert_ptr_null(view.vmcs.layout);
	check_shows(&view, "\"vmcs12\": {\"revision\": \"0x11e57ed1\", \"raw\": \"d17ee511", true);
	check_shows(&view, "external-interrupt-exiting", false);
	check_shows(&view, "\"l2\"", false);
}
END_TEST

START_TEST(l1_runs_and_is_or_is_not_in_vmx_operation)
{
	static uint8_t blob[BLOB_VMX];
	struct nested_source source = source_of(blob, sizeof(blob));

	blob_header(blob, 0, KVM_STATE_NESTED_FORMAT_VMX, BLOB_HEADER);
	store_le64(blob + 8, UINT64_MAX);
	store_le64(blob + 16, UINT64_MAX);
	struct nested_view view = view_of(&source);
	check_shows(&view, "\"runs\": \"L1\", \"flags\": [], \"vmxon\": \"none\", \"vmcs\": \"none\"", true);
	check_shows(&view, "vmcs12", false);

	blob_vmx(blob, 0);
	view = view_of(&source);
	check_shows(&view,
		    "\"runs\": \"L1\", \"flags\": [], \"vmxon\": \"0x1f3c000\", \"vmcs\": \"0x1f44000\"",
		    true);
	check_shows(&view, "\"rip\": \"0xffffffff81a1c2b3\"", true);

	source.nested = NULL;
	view = view_of(&source);
	check_shows(&view, "\"nesting\": \"none\", \"runs\": \"L1\", \"registers\"", true);
}
END_TEST

START_TEST(enlightenment_is_seen)
{
	static uint8_t blob[BLOB_VMX];
	struct nested_source source = source_of(blob, sizeof(blob));

	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
	struct nested_view view = view_of(&source);
	check_shows(&view, "\"enlightened\": false", true);
	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_EVMCS);
	view = view_of(&source);
	check_shows(&view, "\"flags\": [\"guest-mode\", \"evmcs\"]", true);
	check_shows(&view, "\"enlightened\": true", true);

	blob_svm(blob);
	view = view_of(&source);
	check_shows(&view, "\"enlightened\": false", true);
	store_le32(blob + BLOB_HEADER + 0x3e0, 2);
	view = view_of(&source);
	check_shows(&view, "\"enlightened\": true", true);
}
END_TEST

/* Without EPT or NPT, L2's own page tables are the root. */
START_TEST(the_root_is_where_l2s_memory_hangs)
{
	static uint8_t blob[BLOB_VMX];
	struct nested_source source = source_of(blob, sizeof(blob));

	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
	struct nested_view view = view_of(&source);
	check_shows(&view, "\"memory\": \"ept\", \"root\": \"0x5a03000\"", true);
	store_le32(blob + BLOB_HEADER + 804, 0);
	view = view_of(&source);
	check_shows(&view, "\"memory\": \"shadow-paging\", \"root\": \"0x2a3e000\"", true);

	blob_svm(blob);
	view = view_of(&source);
	check_shows(&view, "\"memory\": \"npt\", \"root\": \"0x4d2b000\"", true);
	store_le64(blob + BLOB_HEADER + 0x90, 0);
	view = view_of(&source);
	check_shows(&view, "\"memory\": \"shadow-paging\", \"root\": \"0x2a3e000\"", true);
}
END_TEST

START_TEST(the_shadow_is_a_vmcs12_with_a_mark)
{
	static uint8_t blob[BLOB_VMX];
	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
	store_le32(blob + 4, BLOB_VMX);
	store_le32(blob + BLOB_HEADER + BLOB_REGION, 0x91e57ed0);
	store_le64(blob + BLOB_HEADER + BLOB_REGION + 544, 0x1234);
	struct nested_source source = source_of(blob, sizeof(blob));
	struct nested_view view = view_of(&source);
	ck_assert_ptr_eq(view.shadow.layout, &nested_vmcs12);
	check_shows(&view,
		    "\"shadow-vmcs12\": {\"revision\": \"0x11e57ed0\", \"guest\": {\"rip\": \"0x1234\"",
		    true);
}
END_TEST

static void check_refused(const void *blob, size_t bytes, const char *message)
{
	struct nested_source source = source_of(blob, bytes);
	struct nested_view view;
	struct err err = ERR_INIT;
	ck_assert_int_eq(nested_view_init(&source, &view, &err), -EINVAL);
	ck_assert_str_eq(err.text, message);
}

START_TEST(damage_is_refused_with_a_reason)
{
	static uint8_t blob[BLOB_VMX];

	blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
	check_refused(blob, 127, "nested state of 127 bytes: its header alone has 128");
	check_refused(blob, 4223, "nested state says it has 4224 bytes, there are 4223");
	store_le32(blob + 4, 127);
	check_refused(blob, sizeof(blob), "nested state says it has 127 bytes, there are 8320");
	store_le32(blob + 4, 4223);
	check_refused(blob, sizeof(blob), "nested state says that L2 runs and has no vmcs12");
	store_le16(blob + 2, 2);
	check_refused(blob, sizeof(blob), "nested state of format 2: 0 is VMX, 1 is SVM");
	blob_svm(blob);
	store_le32(blob + 4, 128);
	check_refused(blob, sizeof(blob), "nested state says that L2 runs and has no vmcb12");
}
END_TEST

/* Each length gets memory of exactly that length, so that the sanitizer sees a byte too many. */
START_TEST(every_length_is_safe)
{
	static uint8_t blob[BLOB_VMX];
	for (size_t bytes = 0; bytes <= sizeof(blob); bytes += bytes < 256 ? 1 : 61) {
		blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
		store_le32(blob + 4, (uint32_t)bytes);
		uint8_t *cut = malloc(bytes ? bytes : 1);
		memcpy(cut, blob, bytes);
		struct nested_source source = source_of(cut, bytes);
		struct nested_view view;
		struct err err = ERR_INIT;
		if (nested_view_init(&source, &view, &err) == 0) {
			free(nested_view_text(&view));
			free(nested_view_json(&view));
		} else {
			ck_assert_uint_lt(bytes, BLOB_HEADER + BLOB_REGION);
		}
		free(cut);
	}
}
END_TEST

static void claim(uint8_t *taken, const char *name, unsigned offset, unsigned width)
{
	ck_assert_msg(width == 1 || width == 2 || width == 4 || width == 8, "%s is %u bytes wide", name,
		      width);
	ck_assert_msg(offset + width <= NESTED_REGION_BYTES, "%s is outside", name);
	for (unsigned i = offset; i < offset + width; i++) {
		ck_assert_msg(!taken[i], "%s lies on another field", name);
		taken[i] = 1;
	}
}

/* A typing mistake in an offset puts two fields on one place or leaves a hole. */
static unsigned claim_all(const struct nested_layout *layout)
{
	static uint8_t taken[NESTED_REGION_BYTES];
	unsigned bytes = 0;
	memset(taken, 0, sizeof(taken));
	for (size_t g = 0; g < layout->group_count; g++) {
		const struct nested_group *group = &layout->groups[g];
		for (size_t i = 0; i < group->row_count; i++)
			if (strcmp(group->rows[i].name, "virtual-tpr") != 0) /* part of interrupt-control */
				claim(taken, group->rows[i].name, group->rows[i].offset,
				      group->rows[i].width);
		for (size_t i = 0; i < group->segment_count; i++) {
			const struct nested_segment *s = &group->segments[i];
			if (s->selector.width)
				claim(taken, s->name, s->selector.offset, s->selector.width);
			if (s->base.width)
				claim(taken, s->name, s->base.offset, s->base.width);
			if (s->limit.width)
				claim(taken, s->name, s->limit.offset, s->limit.width);
			if (s->attributes.width)
				claim(taken, s->name, s->attributes.offset, s->attributes.width);
		}
	}
	for (unsigned i = 0; i < NESTED_REGION_BYTES; i++)
		bytes += taken[i];
	return bytes;
}

START_TEST(tables_have_no_holes_and_no_overlaps)
{
	/* From KVM's CHECK_OFFSETs: 37 + 42 fields of 8 bytes, 47 of 4, 19 of 2, and the two words after the
	 * revision. */
	ck_assert_uint_eq(claim_all(&nested_vmcs12), (37 + 42) * 8 + 47 * 4 + 19 * 2 + 8);
	(void)claim_all(&nested_vmcb12);
}
END_TEST

START_TEST(exits_have_their_names)
{
	ck_assert_str_eq(nested_svm_exit(0x10), "cr0-write");
	ck_assert_str_eq(nested_svm_exit(0x4e), "exception-#PF");
	ck_assert_str_eq(nested_svm_exit(0x60), "intr");
	ck_assert_str_eq(nested_svm_exit(0x72), "cpuid");
	ck_assert_str_eq(nested_svm_exit(0x7b), "io");
	ck_assert_str_eq(nested_svm_exit(0x81), "vmmcall");
	ck_assert_str_eq(nested_svm_exit(0x8d), "xsetbv");
	ck_assert_str_eq(nested_svm_exit(0x400), "nested-page-fault");
	ck_assert_str_eq(nested_svm_exit(UINT64_MAX), "invalid-guest-state");
	ck_assert_ptr_null(nested_svm_exit(0x300));
	ck_assert_str_eq(nested_name(&nested_vmx_exits, 48), "ept-violation");
	ck_assert_str_eq(nested_name(&nested_vmx_exits, 10), "cpuid");
	ck_assert_ptr_null(nested_name(&nested_vmx_exits, 35));
	ck_assert_ptr_null(nested_name(&nested_vmx_exits, 1000));
}
END_TEST

TEST_MAIN("nested_view", vmx_reads_as_the_golden_files, svm_reads_as_the_golden_files,
	  an_unknown_revision_is_shown_raw, l1_runs_and_is_or_is_not_in_vmx_operation, enlightenment_is_seen,
	  the_root_is_where_l2s_memory_hangs, the_shadow_is_a_vmcs12_with_a_mark,
	  damage_is_refused_with_a_reason, every_length_is_safe, tables_have_no_holes_and_no_overlaps,
	  exits_have_their_names)
