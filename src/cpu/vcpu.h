/* One vCPU, as the files of this room share it. */
#ifndef AERIE_CPU_VCPU_PRIVATE_H
#define AERIE_CPU_VCPU_PRIVATE_H

#include "base/log.h"
#include "cpu/features.h"
#include "cpu/vcpu.h"
#include "msr_filter.h"
#include "nested_evmcs.h"
#include "vcpu_state.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu {
	struct vcpus *all; /* borrowed */
	uint32_t index;
	uint32_t apic_id; /* also KVM's vCPU id */
	int fd;
	struct kvm_run *run; /* shared with the kernel, run_bytes long */
	size_t run_bytes;
	pthread_t thread;
	bool has_thread;
	_Atomic pid_t thread_id; /* 0: it does not run yet */
	bool parked;		 /* under all->lock */
	struct vcpu_state power_on;
	struct nested_evmcs evmcs;    /* put, and not entered since */
	struct cpuid_table *cpuid;    /* as it was set */
	struct msr_filter *msrs;      /* borrowed from all */
	struct log_limit guest_limit; /* for lines that the guest can cause */
	struct kvm_stats *stats;      /* opened when first asked for */
};

struct vcpus {
	int kvm_fd, vm_fd; /* borrowed */
	struct bus *bus;
	struct guest_memory *memory;
	struct vcpu_events events;
	enum cpu_nested nested;
	struct vcpu_layout layout;
	struct msr_filter msrs;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	_Atomic bool run; /* vCPUs should be in KVM_RUN */
	bool quit;	  /* threads should end; under lock */
	uint32_t count;
	struct vcpu vcpu[];
};

/* What the exit table says about an exit that has been handled. */
enum exit_verdict {
	EXIT_RESUME, /* back into KVM_RUN */
	EXIT_PARK,   /* the guest cannot or must not go on until the machine has acted */
};

/* What makes KVM_RUN return. */
int vcpu_kick_signal(void);

/*
 * In the vCPU's thread, before it runs: makes KVM map the enlightened VMCS of what was put (vcpu->evmcs), if
 * there is one; does nothing otherwise. -EINTR, as from KVM_RUN: immediate_exit is set, all is to do again
 * before it runs; another -errno: KVM took it before and does not any more.
 */
int vcpu_enter_evmcs(struct vcpu *vcpu);
/* Its nested state is being saved: nested_evmcs_mark. */
void vcpu_mark_evmcs(const struct vcpu *vcpu, const struct kvm_nested_state *state);

/* Dispatch vcpu->run->exit_reason. */
enum exit_verdict vcpu_exit(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events);

/* KVM_RUN itself failed with `code` (-errno). */
enum exit_verdict vcpu_run_failed(struct vcpu *vcpu, int code, const struct vcpu_events *events);

/* Registers, CPUID and MSRs (vcpu_setup.c). */
int vcpu_put_cpuid(const struct vcpu *vcpu, const struct cpuid_table *table, struct err *err);
int vcpu_setup(struct vcpu *vcpu, const struct cpuid_table *cpuid, const struct cpu_model *model,
	       struct err *err);
int vcpu_boot(struct vcpu *vcpu, const struct cpu_boot *boot, struct err *err);

#endif
