/* The state of all vCPUs into nodes of a state file; cpu/vcpu.h has the format. */
#include "base/cleanup.h"
#include "vcpu_msrs.h"
#include "vcpus_state.h"

#include <errno.h>
#include <stdlib.h>

static int save_cpuid(const struct vcpu *vcpu, struct state_writer *writer, struct err *err)
{
	const struct cpuid_table *table = vcpu->cpuid;
	_cleanup_free_ uint32_t *cells = calloc(CPUID_ENTRIES_MAX, CPUID_CELLS * sizeof(*cells));
	if (!cells)
		return err_sys(err, -ENOMEM, "CPUID");
	for (uint32_t i = 0; i < table->count; i++) {
		const struct kvm_cpuid_entry2 *entry = &table->entries[i];
		uint32_t *cell = cells + (size_t)i * CPUID_CELLS;
		*cell++ = entry->function;
		*cell++ = entry->index;
		*cell++ = entry->flags;
		*cell++ = entry->eax;
		*cell++ = entry->ebx;
		*cell++ = entry->ecx;
		*cell++ = entry->edx;
	}
	state_write_cells(writer, VCPU_CPUID, cells, (size_t)table->count * CPUID_CELLS);
	return 0;
}

static int save_msrs(const struct vcpu_state *state, uint32_t count, struct state_writer *writer,
		     struct err *err)
{
	_cleanup_free_ uint32_t *cells = calloc(count ? count : 1, MSR_CELLS * sizeof(*cells));
	if (!cells)
		return err_sys(err, -ENOMEM, "MSRs");
	for (uint32_t i = 0; i < count; i++) {
		cells[i * MSR_CELLS] = state->msrs[i].index;
		cells[i * MSR_CELLS + 1] = (uint32_t)(state->msrs[i].data >> 32);
		cells[i * MSR_CELLS + 2] = (uint32_t)state->msrs[i].data;
	}
	state_write_cells(writer, VCPU_MSRS, cells, (size_t)count * MSR_CELLS);
	return 0;
}

#define WRITE_PART(writer, name, part) state_write_bytes((writer), (name), &(part), sizeof(part))

static int save_state(const struct vcpu *vcpu, const struct vcpu_state *state, struct state_writer *writer,
		      struct err *err)
{
	const struct vcpu_layout *layout = &vcpu->all->layout;
	WRITE_PART(writer, VCPU_MP_STATE, state->mp_state);
	WRITE_PART(writer, VCPU_REGS, state->regs);
	WRITE_PART(writer, VCPU_SREGS, state->sregs);
	if (layout->has_xcrs)
		WRITE_PART(writer, VCPU_XCRS, state->xcrs);
	WRITE_PART(writer, VCPU_DEBUGREGS, state->debugregs);
	WRITE_PART(writer, VCPU_LAPIC, state->lapic);
	WRITE_PART(writer, VCPU_EVENTS, state->events);
	state_write_bytes(writer, VCPU_XSAVE, state->xsave, layout->xsave_bytes);
	if (state->nested && state->nested->size <= layout->nested_bytes)
		state_write_bytes(writer, VCPU_NESTED, state->nested, state->nested->size);
	return save_msrs(state, layout->msr_count, writer, err);
}

static int save_vcpu(struct vcpu *vcpu, struct state_writer *writer, struct err *err)
{
	struct vcpu_state state;
	uint32_t khz;
	uint64_t offset;
	int r = vcpu_state_init(&state, &vcpu->all->layout, err);
	if (r < 0)
		return r;
	state.nested_put = vcpu->evmcs.put;
	r = vcpu_state_get(&state, &vcpu->all->layout, vcpu->fd, err);
	if (r == 0)
		vcpu_mark_evmcs(vcpu, state.nested);
	state_begin_numbered(writer, "vcpu", vcpu->index);
	state_write_u32(writer, VCPU_APIC_ID, vcpu->apic_id);
	if (r == 0)
		r = vcpu_get_tsc_khz(vcpu, &khz);
	if (r == 0)
		state_write_u32(writer, VCPU_TSC_KHZ, khz);
	if (r == 0 && vcpu_get_tsc_offset(vcpu, &offset) == 0)
		state_write_u64(writer, VCPU_TSC_OFFSET, offset);
	if (r == 0)
		r = save_cpuid(vcpu, writer, err);
	if (r == 0)
		r = save_state(vcpu, &state, writer, err);
	state_end(writer);
	vcpu_state_finish(&state);
	return r;
}

int vcpus_save(struct vcpus *vcpus, struct state_writer *writer, struct err *err)
{
	struct vcpus_clock clock = {0};
	int r = 0;
	state_begin(writer, "vcpus");
	for (uint32_t i = 0; r == 0 && i < vcpus->count; i++) {
		r = save_vcpu(&vcpus->vcpu[i], writer, err);
		if (r < 0)
			(void)err_prepend(err, "vcpu%u", i);
	}
	state_end(writer);
	if (r == 0)
		r = vcpus_clock_get(vcpus, &clock, err);
	state_begin(writer, "clock");
	state_write_table(writer, &vcpus_clock_table, &clock);
	state_end(writer);
	return r;
}
