/*
 * What a vCPU that has not run since is saved with. KVM here does what Linux does when it is asked for the
 * state of an L1 whose enlightened VMCS it has not mapped yet: it forgets L2's registers.
 */
#include "../../src/cpu/nested_kept.h"
#include "../../src/cpu/vcpu_state.h"

#include "base/bytes.h"
#include "harness.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FAKE_FD = 1000, NESTED_BYTES = 8320, L2_RIP = 0x42 };

/* ---- KVM ---- */

static struct fake {
	uint8_t blob[NESTED_BYTES];
	bool mapped;
	unsigned asked;
} fake;

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	ck_assert_int_eq(fd, FAKE_FD);
	if (request == KVM_SET_NESTED_STATE) {
		memcpy(fake.blob, arg, sizeof(fake.blob));
		fake.mapped = false;
	}
	if (request == KVM_GET_NESTED_STATE) {
		if (!fake.mapped)
			memset(fake.blob + sizeof(struct kvm_nested_state), 0,
			       sizeof(fake.blob) - sizeof(struct kvm_nested_state));
		memcpy(arg, fake.blob, sizeof(fake.blob));
		fake.asked++;
	}
	return 0;
}

/* ---- its figures of the vCPU: one, "exits" (host/stats.h) ---- */

enum { NAME = 16, IDS = 24, DESCRIPTORS = IDS + NAME, DATA = 128, FILE_BYTES = 136 };

static int stats_file;

static void set_exits(uint64_t exits)
{
	uint8_t bytes[8];
	store_le64(bytes, exits);
	ck_assert_int_eq(pwrite(stats_file, bytes, sizeof(bytes), DATA), sizeof(bytes));
}

static struct kvm_stats *open_stats(void)
{
	uint8_t file[FILE_BYTES] = {0};
	const uint32_t header[] = {0, NAME, 1, IDS, DESCRIPTORS, DATA};
	struct kvm_stats *stats = NULL;
	struct err err = ERR_INIT;
	memcpy(file, header, sizeof(header));
	strcpy((char *)file + IDS, "kvm-1/vcpu-0");
	store_le16(file + DESCRIPTORS + 6, 1);
	strcpy((char *)file + DESCRIPTORS + 16, "exits");
	stats_file = memfd_create("stats", MFD_CLOEXEC);
	ck_assert_int_eq(write(stats_file, file, sizeof(file)), sizeof(file));
	ck_assert_msg(kvm_stats_open_file(dup(stats_file), &stats, &err) == 0, "%s", err.text);
	return stats;
}

/* ---- */

static const struct vcpu_layout layout = {.xsave_bytes = 4096, .nested_bytes = NESTED_BYTES};

static void fill(struct vcpu_state *state, uint16_t flags)
{
	struct err err = ERR_INIT;
	ck_assert_int_eq(vcpu_state_init(state, &layout, &err), 0);
	state->nested->format = KVM_STATE_NESTED_FORMAT_VMX;
	state->nested->flags = flags;
	state->nested->size = NESTED_BYTES;
	state->nested->data.vmx[0].vmcs12[0] = L2_RIP;
}

static uint8_t saved_rip(const struct kvm_nested_state *kept)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	ck_assert_int_eq(vcpu_state_init(&state, &layout, &err), 0);
	state.nested_kept = kept;
	ck_assert_msg(vcpu_state_get(&state, &layout, FAKE_FD, &err) == 0, "%s", err.text);
	uint8_t rip = state.nested->data.vmx[0].vmcs12[0];
	vcpu_state_finish(&state);
	return rip;
}

START_TEST(until_it_has_run_it_is_saved_with_what_was_put)
{
	struct nested_kept kept = {0};
	struct vcpu_state state;
	struct err err = ERR_INIT;
	struct kvm_stats *stats = open_stats();
	fill(&state, KVM_STATE_NESTED_EVMCS);
	set_exits(7);
	fake = (struct fake){0};
	ck_assert_int_eq(vcpu_state_put(&state, &layout, FAKE_FD, &err), 0);
	ck_assert_int_eq(nested_kept_set(&kept, state.nested, NESTED_BYTES, stats), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_uint_eq(saved_rip(nested_kept_get(&kept, stats)), L2_RIP);
	ck_assert_uint_eq(fake.asked, 0); /* the question alone does the harm */

	fake.mapped = true;
	set_exits(8);
	ck_assert_ptr_null(nested_kept_get(&kept, stats));
	ck_assert_uint_eq(saved_rip(nested_kept_get(&kept, stats)), L2_RIP);
	ck_assert_uint_eq(fake.asked, 1);
	nested_kept_drop(&kept);
	kvm_stats_close(stats);
	(void)close(stats_file);
	vcpu_state_finish(&state);
}
END_TEST

/* Or this test shows nothing. */
START_TEST(kvm_asked_too_early_forgets_l2)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	fill(&state, KVM_STATE_NESTED_EVMCS);
	fake = (struct fake){0};
	ck_assert_int_eq(vcpu_state_put(&state, &layout, FAKE_FD, &err), 0);
	ck_assert_uint_eq(saved_rip(NULL), 0);
	vcpu_state_finish(&state);
}
END_TEST

START_TEST(all_else_is_asked_for)
{
	static const uint16_t flags[] = {0, KVM_STATE_NESTED_GUEST_MODE,
					 KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_GUEST_MODE};
	struct kvm_stats *stats = open_stats();
	struct nested_kept kept = {0};
	struct vcpu_state state;
	fill(&state, KVM_STATE_NESTED_EVMCS);
	ck_assert_int_eq(nested_kept_set(&kept, state.nested, NESTED_BYTES, NULL), 0);
	ck_assert_ptr_null(nested_kept_get(&kept, stats)); /* a kernel without figures */
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		state.nested->flags = KVM_STATE_NESTED_EVMCS;
		ck_assert_int_eq(nested_kept_set(&kept, state.nested, NESTED_BYTES, stats), 0);
		ck_assert_ptr_nonnull(nested_kept_get(&kept, stats));
		state.nested->flags = flags[i];
		ck_assert_int_eq(nested_kept_set(&kept, state.nested, NESTED_BYTES, stats), 0);
		ck_assert_ptr_null(nested_kept_get(&kept, stats));
	}
	state.nested->flags = KVM_STATE_NESTED_EVMCS;
	state.nested->format = KVM_STATE_NESTED_FORMAT_SVM;
	ck_assert_int_eq(nested_kept_set(&kept, state.nested, NESTED_BYTES, stats), 0);
	ck_assert_ptr_null(nested_kept_get(&kept, stats));
	ck_assert_int_eq(nested_kept_set(&kept, NULL, 0, stats), 0);
	ck_assert_ptr_null(nested_kept_get(&kept, stats));
	kvm_stats_close(stats);
	(void)close(stats_file);
	vcpu_state_finish(&state);
}
END_TEST

TEST_MAIN("nested_kept", until_it_has_run_it_is_saved_with_what_was_put, kvm_asked_too_early_forgets_l2,
	  all_else_is_asked_for)
