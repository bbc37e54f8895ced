/*
 * The first entry of a vCPU whose L1 has an enlightened VMCS. KVM here does with guest memory what Linux 6.1
 * does: it maps the page that the VP assist page names at the first entry, takes the clean marks away, copies
 * vmcs12 there, and at VMRESUME reads what is not marked clean, or all when it finds another address. What
 * runs a vCPU is compiled in here.
 */
#include "../../src/cpu/vcpus.c"

#include "evmcs_rig.h"
#include "harness.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FAKE_FD = 1000 };

/* ---- KVM ---- */

static struct fake {
	uint8_t blob[NESTED_BYTES];
	uint64_t msr, mapped_gpa; /* 0: nothing is mapped */
	uint16_t l2_cs;		  /* of the VMCS that KVM made for L2 */
	bool pending, refuses_odd, refuses_even, ran, injects, injected;
	int park; /* somebody wants it parked when KVM_RUN is called */
	uint32_t mp_state;
	uint64_t rip, rsp; /* L1's; HOST_RIP and HOST_RSP: it has not run since the exit */
	unsigned asked, puts;
} fake;

static struct vcpus *all;
static struct kvm_run run;

static uint8_t *at(uint64_t gpa)
{
	return rig_at(all->memory, gpa);
}

static uint64_t named(void)
{
	return load_le64(at(ASSIST) + 48);
}

static void map_page(uint64_t gpa)
{
	uint8_t *page = at(gpa & ~0xfffULL);
	fake.mapped_gpa = gpa;
	store_le32(page + E_CLEAN, 0);
}

static bool kick_is_pending(void)
{
	sigset_t set;
	return sigpending(&set) == 0 && sigismember(&set, vcpu_kick_signal());
}

static int fake_run(void)
{
	if (fake.park)
		run.immediate_exit = 1;
	if (run.immediate_exit) {
		errno = EINTR;
		return -1;
	}
	if (fake.mp_state == KVM_MP_STATE_RUNNABLE && fake.pending) {
		if (named() & 1 ? fake.refuses_odd : fake.refuses_even)
			return 0;
		map_page(named());
		uint8_t *page = at(fake.mapped_gpa & ~0xfffULL);
		store_le16(page + E_CS, load_le16(fake.blob + HEADER + V_CS));
		store_le32(page + E_REASON, load_le32(fake.blob + HEADER + V_REASON));
		fake.pending = false;
		fake.injected = fake.injects;
	}
	if (!kick_is_pending()) {
		fake.ran = true;
		return 0;
	}
	errno = EINTR;
	return -1;
}

static int set_nested(const struct kvm_nested_state *state)
{
	memset(fake.blob, 0, sizeof(fake.blob));
	memcpy(fake.blob, state, state->size);
	fake.mapped_gpa = 0;
	fake.l2_cs = 0;
	fake.pending = state->flags & KVM_STATE_NESTED_EVMCS;
	fake.puts++;
	return 0;
}

static int get_nested(void *ret)
{
	if (fake.pending) /* an empty shadow VMCS */
		memset(fake.blob + HEADER, 0, NESTED_BYTES - HEADER);
	memcpy(ret, fake.blob, NESTED_BYTES);
	fake.asked++;
	return 0;
}

static int get_msr(struct kvm_msrs *msrs)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++) {
		ck_assert_uint_eq(msrs->entries[i].index, MSR_HV_VP_ASSIST_PAGE);
		msrs->entries[i].data = fake.msr;
	}
	return (int)msrs->nmsrs;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	ck_assert_int_eq(fd, FAKE_FD);
	switch (request) {
	case KVM_RUN:
		return fake_run();
	case KVM_SET_NESTED_STATE:
		return set_nested(arg);
	case KVM_GET_NESTED_STATE:
		return get_nested(arg);
	case KVM_GET_MSRS:
		return get_msr(arg);
	case KVM_GET_REGS:
		((struct kvm_regs *)arg)->rip = fake.rip;
		((struct kvm_regs *)arg)->rsp = fake.rsp;
		return 0;
	case KVM_GET_MP_STATE:
		((struct kvm_mp_state *)arg)->mp_state = fake.mp_state;
		return 0;
	case KVM_SET_MP_STATE:
		fake.mp_state = ((struct kvm_mp_state *)arg)->mp_state;
		return 0;
	case KVM_GET_VCPU_EVENTS:
		memset(arg, 0, sizeof(struct kvm_vcpu_events));
		((struct kvm_vcpu_events *)arg)->interrupt.injected = fake.injected;
		return 0;
	default:
		return 0;
	}
}

/* L1's VMRESUME: with which CS does L2 start? */
static uint16_t vmresume(void)
{
	if (fake.mapped_gpa != named())
		map_page(named());
	const uint8_t *page = at(named() & ~0xfffULL);
	if (load_le32(page + E_CLEAN) != ALL_CLEAN)
		fake.l2_cs = load_le16(page + E_CS);
	return fake.l2_cs;
}

/* ---- a vCPU and its guest ---- */

static void on_kick(int signal)
{
	(void)signal;
}

static struct vcpu *make(void)
{
	const struct sigaction action = {.sa_handler = on_kick};
	all = calloc(1, sizeof(*all) + sizeof(all->vcpu[0]));
	ck_assert_ptr_nonnull(all);
	all->memory = rig_memory();
	ck_assert_int_eq(sigaction(vcpu_kick_signal(), &action, NULL), 0);
	all->layout = (struct vcpu_layout){.xsave_bytes = 4096, .nested_bytes = NESTED_BYTES};
	all->vcpu[0] = (struct vcpu){.all = all, .fd = FAKE_FD, .run = &run};
	fake = (struct fake){
		.msr = ASSIST | 1, .mp_state = KVM_MP_STATE_RUNNABLE, .rip = HOST_RIP, .rsp = HOST_RSP};
	run.immediate_exit = 0;
	return &all->vcpu[0];
}

static void unmake(struct vcpu *vcpu)
{
	nested_evmcs_forget(&vcpu->evmcs);
	guest_memory_destroy(all->memory);
	free(all);
}

static void put_flags(struct vcpu *vcpu, uint16_t flags)
{
	static uint8_t bytes[NESTED_BYTES] __attribute__((aligned(8)));
	struct kvm_nested_state *state = (struct kvm_nested_state *)bytes;
	rig_fill(state, flags);
	ck_assert_int_eq(ioctl(FAKE_FD, KVM_SET_NESTED_STATE, state), 0);
	ck_assert_int_eq(nested_evmcs_put(&vcpu->evmcs, state, NESTED_BYTES), 0);
}

static void put(struct vcpu *vcpu)
{
	put_flags(vcpu, KVM_STATE_NESTED_EVMCS);
}

static struct vcpu_state saved(const struct vcpu *vcpu)
{
	struct vcpu_state state;
	struct err err = ERR_INIT;
	ck_assert_int_eq(vcpu_state_init(&state, &all->layout, &err), 0);
	state.nested_put = vcpu->evmcs.put;
	ck_assert_msg(vcpu_state_get(&state, &all->layout, FAKE_FD, &err) == 0, "%s", err.text);
	return state;
}

static uint16_t saved_cs(const struct vcpu *vcpu)
{
	struct vcpu_state state = saved(vcpu);
	uint16_t cs = load_le16(state.nested->data.vmx[0].vmcs12 + V_CS);
	vcpu_state_finish(&state);
	return cs;
}

static void l1_marks_all_clean(uint64_t gpa)
{
	store_le32(at(gpa) + E_CLEAN, ALL_CLEAN);
}

/* ---- tests ---- */

START_TEST(until_it_has_entered_it_is_saved_with_what_was_put)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	for (int i = 0; i < 2; i++)
		ck_assert_uint_eq(saved_cs(vcpu), CS_A);
	ck_assert_uint_eq(fake.asked, 0); /* the question alone does the harm */
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(saved_cs(vcpu), CS_A);
	ck_assert_uint_eq(fake.asked, 1);
	unmake(vcpu);
}
END_TEST

START_TEST(l2_is_entered_whole_where_l1_marks_after_the_first_entry)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert(!fake.ran);
	ck_assert_uint_eq(named(), PAGE_A);
	ck_assert_uint_eq(load_le32(at(PAGE_A) + E_REASON), REASON); /* what L1 reads first */
	l1_marks_all_clean(PAGE_A);
	ck_assert_uint_eq(vmresume(), CS_A);
	l1_marks_all_clean(PAGE_A);
	ck_assert_uint_eq(vmresume(), CS_A);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0); /* the next time there is nothing to do */
	ck_assert_uint_eq(fake.puts, 1);
	unmake(vcpu);
}
END_TEST

/* Or the two before show nothing. */
START_TEST(left_alone_kvm_does_the_harm)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	nested_evmcs_forget(&vcpu->evmcs);
	ck_assert_int_eq(ioctl(FAKE_FD, KVM_RUN, 0), 0);
	l1_marks_all_clean(PAGE_A);
	ck_assert_uint_eq(vmresume(), 0);

	put(vcpu);
	nested_evmcs_forget(&vcpu->evmcs);
	ck_assert_uint_eq(saved_cs(vcpu), 0);

	put(vcpu);
	nested_evmcs_forget(&vcpu->evmcs);
	store_le64(at(ASSIST) + 48, PAGE_B);
	ck_assert_int_eq(ioctl(FAKE_FD, KVM_RUN, 0), 0);
	ck_assert_uint_eq(vmresume(), CS_A);
	unmake(vcpu);
}
END_TEST

START_TEST(a_vmcs_named_next_keeps_its_fields)
{
	struct vcpu *vcpu = make();
	uint8_t before[4096];
	put(vcpu);
	fake.rip = HOST_RIP + 3;
	store_le64(at(ASSIST) + 48, PAGE_B);
	memcpy(before, at(PAGE_B), sizeof(before));
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_mem_eq(before, at(PAGE_B), sizeof(before));
	ck_assert_ptr_null(vcpu->evmcs.put);
	struct kvm_nested_state *state = (struct kvm_nested_state *)fake.blob;
	ck_assert_uint_eq(state->flags, 0);
	ck_assert_uint_eq(state->size, HEADER);
	ck_assert_uint_eq(state->hdr.vmx.vmxon_pa, 0x1000);
	ck_assert_uint_eq(state->hdr.vmx.vmcs12_pa, UINT64_MAX);
	ck_assert_int_eq(ioctl(FAKE_FD, KVM_RUN, 0), 0);
	ck_assert_uint_eq(vmresume(), CS_B);
	unmake(vcpu);
}
END_TEST

/* KVM has not written L2's registers into the page yet, and an entry must do it. */
START_TEST(at_its_first_instruction_l1_names_what_it_left)
{
	struct vcpu *vcpu = make();
	store_le16(at(PAGE_A) + E_CS, CS_B); /* of before L2 ran */
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(fake.mapped_gpa, PAGE_A ^ 1);
	ck_assert_uint_eq(load_le32(at(PAGE_A) + E_REASON), REASON);
	ck_assert_uint_eq(load_le16(at(PAGE_A) + E_CS), CS_A);
	unmake(vcpu);
}
END_TEST

START_TEST(in_smm_kvm_keeps_what_it_has)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	vcpu->evmcs.put->hdr.vmx.smm.flags = KVM_STATE_NESTED_SMM_VMXON;
	fake.rip = HOST_RIP + 3;
	store_le64(at(ASSIST) + 48, PAGE_B);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(fake.puts, 1);
	unmake(vcpu);
}
END_TEST

/* KVM's vmcs12 after that, when L1 resumed an L2: without a revision, which KVM would refuse to take. */
START_TEST(vmcs12_is_saved_with_its_revision)
{
	struct vcpu *vcpu = make();
	put_flags(vcpu, KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_GUEST_MODE);
	fake.pending = false;
	store_le32(fake.blob + HEADER, 0);
	struct vcpu_state state = saved(vcpu);
	ck_assert_uint_eq(load_le32(state.nested->data.vmx[0].vmcs12), REVISION);
	vcpu_state_finish(&state);
	((struct kvm_nested_state *)fake.blob)->flags = KVM_STATE_NESTED_GUEST_MODE;
	state = saved(vcpu);
	ck_assert_uint_eq(load_le32(state.nested->data.vmx[0].vmcs12), 0); /* no business of ours */
	vcpu_state_finish(&state);
	unmake(vcpu);
}
END_TEST

START_TEST(a_pause_that_comes_first_is_kept_and_the_entry_made_later)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	fake.park = 1;
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), -EINTR);
	ck_assert_uint_eq(run.immediate_exit, 1);
	ck_assert_uint_eq(named(), PAGE_A);
	ck_assert_uint_eq(saved_cs(vcpu), CS_A);
	ck_assert_uint_eq(fake.asked, 0);
	fake.park = 0;
	run.immediate_exit = 0;
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	l1_marks_all_clean(PAGE_A);
	ck_assert_uint_eq(vmresume(), CS_A);
	unmake(vcpu);
}
END_TEST

static void on_triple_fault(void *owner)
{
	(void)owner;
}

/* A pause and the next resume that both came while the thread was parked: immediate_exit is left of them. */
START_TEST(a_pause_that_was_over_before_keeps_the_vcpu_from_running_without_the_entry)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	all->events.triple_fault = on_triple_fault;
	atomic_store(&all->run, true);
	run.immediate_exit = 1;
	run.exit_reason = KVM_EXIT_SHUTDOWN; /* how it ends */
	vcpu_run(vcpu);
	ck_assert(fake.ran);
	ck_assert_uint_eq(fake.mapped_gpa, PAGE_A ^ 1);
	ck_assert_ptr_null(vcpu->evmcs.put);
	unmake(vcpu);
}
END_TEST

START_TEST(where_kvm_wants_the_right_address_it_maps_and_forgets)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	fake.refuses_odd = true;
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert(!fake.pending && !fake.ran);
	ck_assert_uint_eq(fake.mapped_gpa, 0);
	ck_assert_uint_eq(named(), PAGE_A);
	ck_assert_ptr_null(vcpu->evmcs.put);
	ck_assert_uint_eq(load_le32(at(PAGE_A) + E_REASON), REASON);
	l1_marks_all_clean(PAGE_A);
	ck_assert_uint_eq(vmresume(), CS_A);
	unmake(vcpu);
}
END_TEST

START_TEST(where_kvm_does_not_enter_it_gets_what_it_had)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	fake.refuses_odd = fake.refuses_even = true;
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert(fake.pending && !fake.ran);
	ck_assert_uint_eq(named(), PAGE_A);
	ck_assert_ptr_null(vcpu->evmcs.put);
	unmake(vcpu);
}
END_TEST

START_TEST(a_halted_vcpu_sleeps_on_unless_something_woke_it)
{
	struct vcpu *vcpu = make();
	fake.mp_state = KVM_MP_STATE_HALTED;
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(fake.mp_state, KVM_MP_STATE_HALTED);
	ck_assert_uint_ne(fake.mapped_gpa, 0);

	fake.injects = true;
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(fake.mp_state, KVM_MP_STATE_RUNNABLE);
	unmake(vcpu);
}
END_TEST

static void check_hostile(struct vcpu *vcpu)
{
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_ptr_null(vcpu->evmcs.put);
	ck_assert(!fake.ran);
	ck_assert_uint_eq(((struct kvm_nested_state *)fake.blob)->flags, 0);
	ck_assert_uint_eq(((struct kvm_nested_state *)fake.blob)->hdr.vmx.vmxon_pa, 0x1000);
}

/* KVM would end the machine over some of it. */
START_TEST(a_guest_that_names_nothing_is_in_vmx_operation_alone)
{
	static const uint64_t msrs[] = {0, ASSIST, RAM | 1, 0xfffffffffffff001};
	static const uint64_t pointers[] = {RAM, RAM - 1 + 4096, UINT64_MAX, UINT64_MAX - 4095};
	struct vcpu *vcpu = make();
	for (size_t i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
		fake.msr = msrs[i];
		check_hostile(vcpu);
	}
	fake.msr = ASSIST | 1;
	for (size_t i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++) {
		store_le64(at(ASSIST) + 48, pointers[i]);
		check_hostile(vcpu);
	}
	store_le64(at(ASSIST) + 48, PAGE_A);
	at(ASSIST)[40] = 0;
	check_hostile(vcpu);
	unmake(vcpu);
}
END_TEST

/* KVM refuses to enter with such a page. */
START_TEST(a_page_that_is_no_vmcs_does_not_end_the_machine)
{
	struct vcpu *vcpu = make();
	put(vcpu);
	store_le32(at(PAGE_A), 2);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_ptr_null(vcpu->evmcs.put);
	ck_assert_uint_eq(((struct kvm_nested_state *)fake.blob)->flags, 0);
	ck_assert_uint_eq(((struct kvm_nested_state *)fake.blob)->hdr.vmx.vmxon_pa, 0x1000);
	unmake(vcpu);
}
END_TEST

START_TEST(the_page_of_the_assist_page_is_a_page_as_any)
{
	struct vcpu *vcpu = make();
	store_le64(at(ASSIST) + 48, ASSIST + 7);
	store_le32(at(ASSIST), REVISION);
	put(vcpu);
	ck_assert_int_eq(vcpu_enter_evmcs(vcpu), 0);
	ck_assert_uint_eq(named(), ASSIST + 7);
	unmake(vcpu);
}
END_TEST

TEST_MAIN("vcpu_evmcs", until_it_has_entered_it_is_saved_with_what_was_put,
	  l2_is_entered_whole_where_l1_marks_after_the_first_entry, left_alone_kvm_does_the_harm,
	  a_vmcs_named_next_keeps_its_fields, at_its_first_instruction_l1_names_what_it_left,
	  in_smm_kvm_keeps_what_it_has, vmcs12_is_saved_with_its_revision,
	  a_pause_that_comes_first_is_kept_and_the_entry_made_later,
	  a_pause_that_was_over_before_keeps_the_vcpu_from_running_without_the_entry,
	  where_kvm_wants_the_right_address_it_maps_and_forgets, where_kvm_does_not_enter_it_gets_what_it_had,
	  a_halted_vcpu_sleeps_on_unless_something_woke_it,
	  a_guest_that_names_nothing_is_in_vmx_operation_alone,
	  a_page_that_is_no_vmcs_does_not_end_the_machine, the_page_of_the_assist_page_is_a_page_as_any)
