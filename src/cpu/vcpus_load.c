/*
 * The state of all vCPUs out of a state file; cpu/vcpu.h has the format. Everything is decoded and compared
 * with this host before the first vCPU is touched.
 */
#include "base/cleanup.h"
#include "host/kvm.h"
#include "vcpu_msrs.h"
#include "vcpus_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const properties[] = {
	VCPU_APIC_ID,	VCPU_TSC_KHZ, VCPU_TSC_OFFSET, VCPU_CPUID,  VCPU_MSRS,
	VCPU_MP_STATE,	VCPU_REGS,    VCPU_SREGS,      VCPU_XCRS,   VCPU_XSAVE,
	VCPU_DEBUGREGS, VCPU_LAPIC,   VCPU_NESTED,     VCPU_EVENTS, NULL,
};

/* What all vCPUs are compared with. */
struct host_tables {
	struct cpuid_table supported, own, saved;
};

static void saved_free(struct vcpu_saved *saved)
{
	vcpu_state_finish(&saved->state);
	free(saved->cpuid);
}

void vcpus_state_free(struct vcpus_state *state)
{
	for (uint32_t i = 0; state && i < state->count; i++)
		saved_free(&state->vcpu[i]);
	free(state);
}

/* The table as the file has it. */
static int decode_cpuid(const struct state_file *file, int node, struct cpuid_table *ret, struct err *err)
{
	size_t len;
	const void *cells = state_read_bytes(file, node, VCPU_CPUID, &len, err);
	if (!cells)
		return -EINVAL;
	size_t count = len / (CPUID_CELLS * sizeof(uint32_t));
	if (len % (CPUID_CELLS * sizeof(uint32_t)) || count > CPUID_ENTRIES_MAX)
		return err_set(err, -EINVAL, "%s: %zu bytes are no table of at most %d entries", VCPU_CPUID,
			       len, CPUID_ENTRIES_MAX);
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < count; i++) {
		size_t at = i * CPUID_CELLS;
		ret->entries[i] = (struct kvm_cpuid_entry2){
			.function = state_cell(cells, at),
			.index = state_cell(cells, at + 1),
			.flags = state_cell(cells, at + 2),
			.eax = state_cell(cells, at + 3),
			.ebx = state_cell(cells, at + 4),
			.ecx = state_cell(cells, at + 5),
			.edx = state_cell(cells, at + 6),
		};
	}
	ret->count = (uint32_t)count;
	return 0;
}

static int read_cpuid(const struct vcpu *vcpu, const struct state_file *file, int node,
		      struct host_tables *tables, struct vcpu_saved *saved, struct err *err)
{
	bool same = true;
	int r = decode_cpuid(file, node, &tables->saved, err);
	if (r == 0)
		r = vcpu_match_cpuid(&tables->saved, vcpu->cpuid, &tables->supported, &same, err);
	if (r < 0 || same)
		return r;
	saved->cpuid = malloc(sizeof(*saved->cpuid));
	if (!saved->cpuid)
		return err_sys(err, -ENOMEM, VCPU_CPUID);
	*saved->cpuid = tables->saved;
	return 0;
}

static struct kvm_msr_entry *find_msr(struct kvm_msr_entry *msrs, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (msrs[i].index == index)
			return &msrs[i];
	return NULL;
}

/* MSRs that the file does not have, from an older kernel, stay as at power-on. */
static int read_msrs(const struct vcpu *vcpu, const struct state_file *file, int node,
		     struct vcpu_saved *saved, struct err *err)
{
	size_t len;
	const void *cells = state_read_bytes(file, node, VCPU_MSRS, &len, err);
	if (!cells)
		return -EINVAL;
	if (len % (MSR_CELLS * sizeof(uint32_t)))
		return err_set(err, -EINVAL, "%s: %zu bytes are no list", VCPU_MSRS, len);
	saved->msr_count = vcpu->all->layout.msr_count;
	memcpy(saved->state.msrs, vcpu->power_on.msrs, saved->msr_count * sizeof(saved->state.msrs[0]));
	for (size_t at = 0; at < len / sizeof(uint32_t); at += MSR_CELLS) {
		uint32_t index = state_cell(cells, at);
		uint64_t value = (uint64_t)state_cell(cells, at + 1) << 32 | state_cell(cells, at + 2);
		struct kvm_msr_entry *entry = find_msr(saved->state.msrs, saved->msr_count, index);
		if (!entry)
			return err_set(err, -EOPNOTSUPP,
				       "%s: MSR %#x (%#" PRIx64 ") is unknown to this host's KVM", VCPU_MSRS,
				       index, value);
		entry->data = value;
	}
	return 0;
}

static int read_xsave(const struct vcpu *vcpu, const struct state_file *file, int node,
		      struct vcpu_saved *saved, struct err *err)
{
	size_t len;
	const void *bytes = state_read_bytes(file, node, VCPU_XSAVE, &len, err);
	if (!bytes)
		return -EINVAL;
	if (len < sizeof(struct kvm_xsave) || len > vcpu->all->layout.xsave_bytes)
		return err_set(err, -EOPNOTSUPP, "%s: %zu bytes, this host's KVM has %zu", VCPU_XSAVE, len,
			       vcpu->all->layout.xsave_bytes);
	memcpy(saved->state.xsave, bytes, len); /* what is behind it are components not in use */
	return 0;
}

/* Without a blob, from a host that cannot nest, it is the one of power-on. */
static int read_nested(const struct vcpu *vcpu, const struct state_file *file, int node,
		       struct vcpu_saved *saved, struct err *err)
{
	const struct vcpus *all = vcpu->all;
	size_t len;
	if (!state_has(file, node, VCPU_NESTED)) {
		if (saved->state.nested)
			memcpy(saved->state.nested, vcpu->power_on.nested, all->layout.nested_bytes);
		return 0;
	}
	const void *bytes = state_read_bytes(file, node, VCPU_NESTED, &len, err);
	if (!bytes)
		return -EINVAL;
	struct kvm_nested_state head = {0};
	memcpy(&head, bytes, len < sizeof(head) ? len : sizeof(head));
	int r = vcpu_match_nested(&head, len, all->layout.nested_bytes, all->nested, err);
	if (r == 0 && saved->state.nested)
		memcpy(saved->state.nested, bytes, len);
	return r;
}

#define READ_PART(name, part)                                                                                \
	state_read_exact(file, node, (name), &saved->state.part, sizeof(saved->state.part), err)

static int read_parts(const struct vcpu *vcpu, const struct state_file *file, int node,
		      struct vcpu_saved *saved, struct err *err)
{
	int r = READ_PART(VCPU_MP_STATE, mp_state);
	if (r == 0)
		r = READ_PART(VCPU_REGS, regs);
	if (r == 0)
		r = READ_PART(VCPU_SREGS, sregs);
	if (r == 0)
		r = READ_PART(VCPU_DEBUGREGS, debugregs);
	if (r == 0)
		r = READ_PART(VCPU_LAPIC, lapic);
	if (r == 0)
		r = READ_PART(VCPU_EVENTS, events);
	if (r == 0 && vcpu->all->layout.has_xcrs)
		r = READ_PART(VCPU_XCRS, xcrs);
	else if (r == 0 && state_has(file, node, VCPU_XCRS))
		r = err_set(err, -EOPNOTSUPP, "%s: this host's CPU has no XSAVE", VCPU_XCRS);
	if (r == 0)
		r = read_xsave(vcpu, file, node, saved, err);
	if (r == 0)
		r = read_nested(vcpu, file, node, saved, err);
	return r == 0 ? read_msrs(vcpu, file, node, saved, err) : r;
}

static int read_vcpu(const struct vcpu *vcpu, const struct state_file *file, int node,
		     struct host_tables *tables, struct vcpu_saved *saved, struct err *err)
{
	uint32_t apic_id = 0;
	int r = state_check_properties(file, node, properties, err);
	if (r == 0)
		r = state_read_u32(file, node, VCPU_APIC_ID, &apic_id, err);
	if (r < 0)
		return r;
	if (apic_id != vcpu->apic_id)
		return err_set(err, -EINVAL, "%s: %u, and %u in this machine", VCPU_APIC_ID, apic_id,
			       vcpu->apic_id);
	r = state_read_u32(file, node, VCPU_TSC_KHZ, &saved->tsc_khz, err);
	saved->has_tsc_offset = state_has(file, node, VCPU_TSC_OFFSET);
	if (r == 0 && saved->has_tsc_offset)
		r = state_read_u64(file, node, VCPU_TSC_OFFSET, &saved->tsc_offset, err);
	if (r == 0)
		r = read_cpuid(vcpu, file, node, tables, saved, err);
	return r == 0 ? read_parts(vcpu, file, node, saved, err) : r;
}

static int read_all(const struct vcpus *vcpus, const struct state_file *file, int parent,
		    struct vcpus_state *state, struct err *err)
{
	_cleanup_free_ struct host_tables *tables = calloc(1, sizeof(*tables));
	if (!tables)
		return err_sys(err, -ENOMEM, "CPUID");
	int r = cpuid_supported(vcpus->kvm_fd, &tables->supported, err);
	int node = state_node(file, parent, "vcpus", err);
	if (r == 0 && node >= 0)
		r = state_check_nodes(file, node, vcpus->count, err);
	if (r < 0 || node < 0)
		return r < 0 ? r : node;
	for (uint32_t i = 0; r == 0 && i < vcpus->count; i++) {
		const struct vcpu *vcpu = &vcpus->vcpu[i];
		int unit = state_node_numbered(file, node, "vcpu", i, err);
		if (unit < 0)
			return unit;
		r = vcpu_state_init(&state->vcpu[i].state, &vcpus->layout, err);
		state->count = i + 1;
		if (r == 0)
			r = read_vcpu(vcpu, file, unit, tables, &state->vcpu[i], err);
		if (r < 0)
			(void)err_prepend(err, "vcpu%u", i);
	}
	return r;
}

int vcpus_state_read(const struct vcpus *vcpus, const struct state_file *file, int node,
		     struct vcpus_state **ret, struct err *err)
{
	struct vcpus_state *state = calloc(1, sizeof(*state) + vcpus->count * sizeof(state->vcpu[0]));
	if (!state)
		return err_sys(err, -ENOMEM, "vCPU state");
	int r = read_all(vcpus, file, node, state, err);
	int clock = r == 0 ? state_node(file, node, "clock", err) : -1;
	if (r == 0)
		r = clock < 0 ? clock
			      : state_decode(&vcpus_clock_table, &state->clock, file->fdt, clock, err);
	if (r < 0) {
		vcpus_state_free(state);
		return r;
	}
	*ret = state;
	return 0;
}

static int put_state(struct vcpu *vcpu, struct vcpu_saved *saved, struct err *err)
{
	const struct vcpu_layout *layout = &vcpu->all->layout;
	nested_evmcs_forget(&vcpu->evmcs);
	int r = vcpu_state_put(&saved->state, layout, vcpu->fd, err);
	if (r < 0)
		return r;
	r = nested_evmcs_put(&vcpu->evmcs, saved->state.nested, layout->nested_bytes);
	return r < 0 ? err_sys(err, r, VCPU_NESTED) : 0;
}

int vcpus_state_apply(struct vcpus *vcpus, struct vcpus_state *state, enum vcpus_time time, struct err *err)
{
	int r = 0;
	/* Timers are scaled by the rate, and CPUID says which MSRs there are: both before all else. */
	for (uint32_t i = 0; r == 0 && i < state->count; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		r = vcpu_put_tsc_khz(vcpu, state->vcpu[i].tsc_khz, err);
		if (r == 0 && state->vcpu[i].cpuid)
			r = vcpu_put_cpuid(vcpu, state->vcpu[i].cpuid, err);
		if (r == 0 && state->vcpu[i].cpuid)
			*vcpu->cpuid = *state->vcpu[i].cpuid; /* for the next snapshot */
	}
	if (r == 0)
		r = vcpus_tsc_break(vcpus, state, err);
	vcpus_state_advance(state, time);
	for (uint32_t i = 0; r == 0 && i < state->count; i++) {
		r = put_state(&vcpus->vcpu[i], &state->vcpu[i], err);
		if (r < 0)
			(void)err_prepend(err, "vcpu%u", i);
	}
	return r;
}

/* ---- before there are vCPUs ---- */

/*
 * What aerie gives without KVM listing it: the hypervisor bit, what old kernels keep quiet about (TSC
 * deadline, x2APIC), and what says that there are several CPUs.
 */
static void add_own_bits(struct cpuid_table *table)
{
	struct kvm_cpuid_entry2 *leaf = cpuid_find(table, 1, 0), *ext = cpuid_find(table, 0x80000001, 0);
	if (leaf) {
		leaf->ecx |= 1U << 31 | 1U << 24 | 1U << 21;
		leaf->edx |= 1U << 28;
	}
	if (ext)
		ext->ecx |= 1U << 22 | 1U << 1;
}

/* SDM 2A, CPUID, leaf 1, ECX; APM 3, E.4.2 */
static enum cpu_nested offered_nested(struct cpuid_table *supported)
{
	const struct kvm_cpuid_entry2 *intel = cpuid_find(supported, 1, 0);
	const struct kvm_cpuid_entry2 *amd = cpuid_find(supported, 0x80000001, 0);
	if (intel && intel->ecx & 1U << 5)
		return CPU_NESTED_VMX;
	return amd && amd->ecx & 1U << 2 ? CPU_NESTED_SVM : CPU_NESTED_NONE;
}

static int check_vcpu(const struct state_file *file, int node, struct host_tables *tables,
		      uint32_t nested_bytes, struct err *err)
{
	struct kvm_nested_state head = {0};
	bool same;
	size_t len;
	int r = decode_cpuid(file, node, &tables->saved, err);
	if (r == 0)
		r = vcpu_match_cpuid(&tables->saved, &tables->own, &tables->supported, &same, err);
	if (r < 0 || !state_has(file, node, VCPU_NESTED))
		return r;
	const void *bytes = state_read_bytes(file, node, VCPU_NESTED, &len, err);
	if (!bytes)
		return -EINVAL;
	memcpy(&head, bytes, len < sizeof(head) ? len : sizeof(head));
	return vcpu_match_nested(&head, len, nested_bytes, offered_nested(&tables->supported), err);
}

int vcpus_state_check(const struct state_file *file, int node, int kvm_fd, struct err *err)
{
	_cleanup_free_ struct host_tables *tables = calloc(1, sizeof(*tables));
	if (!tables)
		return err_sys(err, -ENOMEM, "CPUID");
	int r = cpuid_supported(kvm_fd, &tables->supported, err);
	int parent = state_node(file, node, "vcpus", err);
	if (r < 0 || parent < 0)
		return r < 0 ? r : parent;
	int nested = kvm_capability(kvm_fd, KVM_CAP_NESTED_STATE);
	tables->own = tables->supported;
	add_own_bits(&tables->own);
	uint32_t count = state_node_count(file, parent);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		int unit = state_node_numbered(file, parent, "vcpu", i, err);
		r = unit < 0 ? unit : check_vcpu(file, unit, tables, nested > 0 ? (uint32_t)nested : 0, err);
		if (r < 0)
			(void)err_prepend(err, "vcpu%u", i);
	}
	return r;
}
