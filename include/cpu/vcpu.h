/*
 * All vCPUs of a machine: one thread each, which does KVM_RUN and bus dispatch and nothing else.
 *
 * The threads start parked. Resume lets them run; pause kicks them out of KVM_RUN, waits until each has
 * finished its pending exit, and parks them again. All functions are called by one thread, the machine's; the
 * events come from vCPU threads and must only leave a note for it.
 */
#ifndef AERIE_CPU_VCPU_H
#define AERIE_CPU_VCPU_H

#include "base/err.h"
#include "bus/bus.h"
#include "config/config.h"
#include "cpu/boot.h"
#include "cpu/cpuid.h"
#include "host/stats.h"
#include "memory/memory.h"
#include "state/file.h"

#include <sys/types.h>

struct vcpus;

struct vcpu_events {
	void (*triple_fault)(void *owner); /* the guest asks for a reset the hard way */
	void (*crashed)(void *owner);	   /* KVM cannot go on; a report was logged, the vCPU has parked */
	void *owner;
};

struct vcpus_spec {
	int kvm_fd, vm_fd; /* borrowed */
	const struct cpus_config *cpus;
	const struct cpu_config *cpu; /* borrowed, must outlive the vCPUs */
	enum nested_mode nested;
	uint64_t ram_end_gpa; /* the processor must be able to address what lies below */
	struct bus *bus;
	struct guest_memory *memory; /* borrowed */
	struct vcpu_events events;
};

/* Makes vCPUs with CPUID and MSRs as at power-on, remembers that state, starts their threads parked. */
int vcpus_create(const struct vcpus_spec *spec, struct vcpus **ret, struct err *err);
void vcpus_destroy(struct vcpus *vcpus); /* pauses and joins; NULL is fine */

/* KVM's figures of vCPU `index`, borrowed, opened when first asked for. -ENOENT: no such vCPU. They may be
 * read while it runs, by one thread at a time. */
int vcpus_stats(struct vcpus *vcpus, uint32_t index, struct kvm_stats **ret, struct err *err);

/* To the log: how often the guest tried MSRs that KVM does not know (info), and which (debug). */
void vcpus_log_msrs(struct vcpus *vcpus);

/* How often the guest tried such MSRs, on all vCPUs; and what else vCPU `index` was refused (Hyper-V:
 * hypercalls that have no receiver; a crash that it tells of). While they run, too; 0: no such vCPU. */
uint64_t vcpus_unknown_msr_count(struct vcpus *vcpus);
uint64_t vcpus_guest_error_count(const struct vcpus *vcpus, uint32_t index);

/* The Linux thread of vCPU `index`, as gettid has it; 0: it has not come to life yet. Any thread. */
pid_t vcpus_thread_id(const struct vcpus *vcpus, uint32_t index);

/* What L1 got. */
enum cpu_nested vcpus_nested(const struct vcpus *vcpus);

/* Registers as a loader hands them over. The vCPUs are parked, in power-on state (new, or after vcpus_reset).
 */
int vcpus_boot(struct vcpus *vcpus, const struct cpu_boot *boot, struct err *err);

/* All vCPUs back to the state at power-on, out of VMX or SVM operation. They are parked. */
int vcpus_reset(struct vcpus *vcpus, struct err *err);

/*
 * State, of parked vCPUs. Saving appends the nodes "vcpus" (one node for each) and "clock" to the open one.
 *
 *	/vcpus/vcpuN	apic-id, tsc-khz	1 cell each
 *			tsc-offset		2 cells: guest TSC minus host TSC; only from Linux 5.16 on
 *			cpuid			7 cells an entry: function, index, flags, eax, ebx, ecx, edx
 *			msrs			3 cells each: index, value (high, low)
 *			mp-state, regs, sregs2, xcrs, debugregs, lapic, events, xsave, nested
 *						KVM's structs as bytes, little-endian (api.rst)
 *	/clock		what kvmclock and vCPU 0's TSC showed when saved, and the host's wall clock then
 *
 * Loading has two steps, so that nothing is touched before all of it was found good: vcpus_state_read decodes
 * and compares it with these vCPUs and this host (other vendor, CPU feature or MSR that is lacking, no nested
 * state); vcpus_state_apply puts it into vCPUs that never ran. Then come the interrupt chips, and then
 * vcpus_state_apply_clock. Why the parts of a vCPU have their order stands in src/cpu/vcpu_state.c.
 */
struct vcpus_state;
enum vcpus_time {
	VCPUS_TIME_STOOD,  /* the guest's clocks go on from where they were (a snapshot) */
	VCPUS_TIME_WENT_ON /* they go on as if they had never stopped (migration) */
};
int vcpus_save(struct vcpus *vcpus, struct state_writer *writer, struct err *err);
int vcpus_state_read(const struct vcpus *vcpus, const struct state_file *file, int node,
		     struct vcpus_state **ret, struct err *err);
/* Before there are vCPUs, by /dev/kvm alone: is this host of the right vendor, with the CPU features that the
 * guest saw and with nested state where it has some? Not all that vcpus_state_read finds, but what is cheap
 * to know early. */
int vcpus_state_check(const struct state_file *file, int node, int kvm_fd, struct err *err);
int vcpus_state_apply(struct vcpus *vcpus, struct vcpus_state *state, enum vcpus_time time, struct err *err);
int vcpus_state_apply_clock(struct vcpus *vcpus, const struct vcpus_state *state, struct err *err);
void vcpus_state_free(struct vcpus_state *state); /* NULL is fine */

void vcpus_resume(struct vcpus *vcpus);
void vcpus_pause(struct vcpus *vcpus);

/* Make every vCPU park as soon as its current exit is finished; vcpus_pause then waits for it. Any thread. */
void vcpus_kick(struct vcpus *vcpus);

#endif
