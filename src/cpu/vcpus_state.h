/* A saved state of all vCPUs, decoded, as the files that read and apply it share it. */
#ifndef AERIE_CPU_VCPUS_STATE_H
#define AERIE_CPU_VCPUS_STATE_H

#include "cpu/cpuid.h"
#include "vcpu.h"

/* Names of properties, of the writer and the reader. */
#define VCPU_APIC_ID	"apic-id"
#define VCPU_TSC_KHZ	"tsc-khz"
#define VCPU_TSC_OFFSET "tsc-offset"
#define VCPU_CPUID	"cpuid"
#define VCPU_MSRS	"msrs"
#define VCPU_MP_STATE	"mp-state"
#define VCPU_REGS	"regs"
#define VCPU_SREGS	"sregs2"
#define VCPU_XCRS	"xcrs"
#define VCPU_XSAVE	"xsave"
#define VCPU_DEBUGREGS	"debugregs"
#define VCPU_LAPIC	"lapic"
#define VCPU_NESTED	"nested"
#define VCPU_EVENTS	"events"

enum { CPUID_CELLS = 7, MSR_CELLS = 3 };

struct vcpu_saved {
	struct vcpu_state state;
	uint32_t msr_count;	   /* of state.msrs: all that this host's layout has */
	struct cpuid_table *cpuid; /* owned; NULL: as this machine's vCPU has it already */
	uint32_t tsc_khz;	   /* 0: KVM did not know */
	bool has_tsc_offset;
	uint64_t tsc_offset; /* only differences between vCPUs mean anything elsewhere */
};

struct vcpus_clock {
	uint64_t clock_ns;    /* kvmclock */
	uint64_t realtime_ns; /* the host's wall clock at that moment (CLOCK_REALTIME) */
	uint64_t tsc;	      /* vCPU 0's, at that moment */
};
extern const struct state_table vcpus_clock_table;

struct vcpus_state {
	struct vcpus_clock clock;
	/* By vcpus_state_apply: what the clocks were set to, and when. */
	uint64_t applied_clock_ns, applied_at_ns; /* the latter CLOCK_MONOTONIC */
	uint32_t count;
	struct vcpu_saved vcpu[];
};

/* vcpus_tsc.c */
int vcpu_get_tsc_khz(const struct vcpu *vcpu, uint32_t *ret); /* 0: KVM does not know */
int vcpu_put_tsc_khz(const struct vcpu *vcpu, uint32_t khz, struct err *err);
/* -errno where KVM has no such attribute. */
int vcpu_get_tsc_offset(const struct vcpu *vcpu, uint64_t *ret);
/* Just before it is applied: the TSCs to what they should show now. */
void vcpus_state_advance(struct vcpus_state *state, enum vcpus_time time);
int vcpus_tsc_break(const struct vcpus *vcpus, const struct vcpus_state *state, struct err *err);
int vcpus_clock_get(const struct vcpus *vcpus, struct vcpus_clock *ret, struct err *err);

/* vcpus_match.c: may a guest that saw `saved` go on on this vCPU? */
int vcpu_match_cpuid(const struct cpuid_table *saved, const struct cpuid_table *own,
		     const struct cpuid_table *supported, bool *ret_same, struct err *err);
int vcpu_match_nested(const struct kvm_nested_state *saved, size_t bytes, uint32_t own_bytes,
		      enum cpu_nested own, struct err *err);

#endif
