/* The exit table: what each KVM_EXIT_* means for us (api.rst 5). */
#include "base/cleanup.h"
#include "base/log.h"
#include "host/kvm.h"
#include "hyperv_vcpu.h"
#include "vcpu.h"

#include <inttypes.h>
#include <string.h>

struct exit_row {
	const char *name;
	enum exit_verdict (*handle)(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events);
};

static enum exit_verdict exit_io(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	(void)events;
	/* String instructions (rep outsb) bring `count` items for one port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(bus, BUS_PIO, run->io.port, data, run->io.size);
		else
			bus_read(bus, BUS_PIO, run->io.port, data, run->io.size);
	}
	return EXIT_RESUME;
}

static enum exit_verdict exit_mmio(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	struct kvm_run *run = vcpu->run;
	(void)events;
	if (run->mmio.is_write)
		bus_write(bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(bus, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	return EXIT_RESUME;
}

/* A signal or immediate_exit: the loop in vcpus.c looks whether it should park. */
static enum exit_verdict exit_nothing(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)vcpu, (void)bus, (void)events;
	return EXIT_RESUME;
}

static enum exit_verdict exit_shutdown(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)bus;
	log_info("vCPU %u: triple fault", vcpu->index);
	events->triple_fault(events->owner);
	return EXIT_PARK;
}

static void report_registers(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	if (kvm_call(vcpu->fd, KVM_GET_REGS, &r) < 0 || kvm_call(vcpu->fd, KVM_GET_SREGS, &s) < 0) {
		log_error("  its registers cannot be read");
		return;
	}
	log_error("  rip %016" PRIx64 " rflags %08" PRIx64 " cs %04x base %" PRIx64 " ss %04x",
		  (uint64_t)r.rip, (uint64_t)r.rflags, s.cs.selector, (uint64_t)s.cs.base, s.ss.selector);
	log_error("  rax %016" PRIx64 " rbx %016" PRIx64 " rcx %016" PRIx64 " rdx %016" PRIx64,
		  (uint64_t)r.rax, (uint64_t)r.rbx, (uint64_t)r.rcx, (uint64_t)r.rdx);
	log_error("  rsi %016" PRIx64 " rdi %016" PRIx64 " rsp %016" PRIx64 " rbp %016" PRIx64,
		  (uint64_t)r.rsi, (uint64_t)r.rdi, (uint64_t)r.rsp, (uint64_t)r.rbp);
	log_error("  r8  %016" PRIx64 " r9  %016" PRIx64 " r10 %016" PRIx64 " r11 %016" PRIx64,
		  (uint64_t)r.r8, (uint64_t)r.r9, (uint64_t)r.r10, (uint64_t)r.r11);
	log_error("  r12 %016" PRIx64 " r13 %016" PRIx64 " r14 %016" PRIx64 " r15 %016" PRIx64,
		  (uint64_t)r.r12, (uint64_t)r.r13, (uint64_t)r.r14, (uint64_t)r.r15);
	log_error("  cr0 %" PRIx64 " cr2 %" PRIx64 " cr3 %" PRIx64 " cr4 %" PRIx64 " efer %" PRIx64,
		  (uint64_t)s.cr0, (uint64_t)s.cr2, (uint64_t)s.cr3, (uint64_t)s.cr4, (uint64_t)s.efer);
}

static enum exit_verdict crash(struct vcpu *vcpu, const struct vcpu_events *events)
{
	report_registers(vcpu);
	events->crashed(events->owner);
	return EXIT_PARK;
}

static enum exit_verdict exit_internal_error(struct vcpu *vcpu, struct bus *bus,
					     const struct vcpu_events *events)
{
	static const char *const suberrors[] = {"unknown", "emulation failed", "simultaneous exceptions",
						"exit while an event was being delivered",
						"unexpected exit reason"};
	const struct kvm_run *run = vcpu->run;
	uint32_t suberror = run->internal.suberror, count = run->internal.ndata;
	(void)bus;
	log_error("vCPU %u: KVM_EXIT_INTERNAL_ERROR: suberror %u (%s)", vcpu->index, suberror,
		  suberror < ARRAY_LEN(suberrors) ? suberrors[suberror] : "?");
	for (uint32_t i = 0; i < count && i < ARRAY_LEN(run->internal.data); i++)
		log_error("  data[%u] %#" PRIx64, i, (uint64_t)run->internal.data[i]);
	return crash(vcpu, events);
}

static enum exit_verdict exit_fail_entry(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)bus;
	log_error("vCPU %u: KVM_EXIT_FAIL_ENTRY: hardware reason %#" PRIx64, vcpu->index,
		  (uint64_t)vcpu->run->fail_entry.hardware_entry_failure_reason);
	return crash(vcpu, events);
}

static enum exit_verdict exit_msr(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)bus, (void)events;
	msr_filter_access(vcpu->msrs, vcpu->index, vcpu->run);
	return EXIT_RESUME;
}

static enum exit_verdict exit_hyperv(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)bus, (void)events;
	hyperv_vcpu_exit(vcpu->run, &vcpu->guest_limit);
	return EXIT_RESUME;
}

static const char *exit_name(uint32_t reason); /* by the table below; never NULL */

static enum exit_verdict exit_unexpected(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	(void)bus;
	log_error("vCPU %u: %s (%u) was not expected", vcpu->index, exit_name(vcpu->run->exit_reason),
		  vcpu->run->exit_reason);
	return crash(vcpu, events);
}

/* What a Hyper-V guest asks for by MSR: HV_X64_MSR_RESET, and a word about its crash, after which it goes on.
 */
static enum exit_verdict exit_system_event(struct vcpu *vcpu, struct bus *bus,
					   const struct vcpu_events *events)
{
	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_RESET:
		log_info("vCPU %u: reset by MSR", vcpu->index);
		events->triple_fault(events->owner); /* what follows is the same */
		return EXIT_PARK;
	case KVM_SYSTEM_EVENT_CRASH:
		hyperv_vcpu_crash(vcpu->fd, vcpu->index, &vcpu->guest_limit);
		return EXIT_RESUME;
	default:
		return exit_unexpected(vcpu, bus, events);
	}
}

/* Those without a handler of their own need something that aerie never turns on, or another architecture. */
#define ROW(reason, handler) [KVM_EXIT_##reason] = {"KVM_EXIT_" #reason, handler}

static const struct exit_row exit_rows[] = {
	ROW(IO, exit_io),
	ROW(MMIO, exit_mmio),
	ROW(INTR, exit_nothing),
	ROW(SHUTDOWN, exit_shutdown),
	ROW(INTERNAL_ERROR, exit_internal_error),
	ROW(FAIL_ENTRY, exit_fail_entry),
	ROW(UNKNOWN, exit_unexpected),
	ROW(EXCEPTION, exit_unexpected),
	ROW(HYPERCALL, exit_unexpected),
	ROW(DEBUG, exit_unexpected),
	ROW(HLT, exit_unexpected), /* the in-kernel APIC halts by itself */
	ROW(IRQ_WINDOW_OPEN, exit_unexpected),
	ROW(SET_TPR, exit_unexpected),
	ROW(TPR_ACCESS, exit_unexpected),
	ROW(NMI, exit_unexpected),
	ROW(SYSTEM_EVENT, exit_system_event),
	ROW(IOAPIC_EOI, exit_unexpected),
	ROW(HYPERV, exit_hyperv),
	ROW(X86_RDMSR, exit_msr),
	ROW(X86_WRMSR, exit_msr),
	ROW(DIRTY_RING_FULL, exit_unexpected),
	ROW(X86_BUS_LOCK, exit_unexpected),
	ROW(NOTIFY, exit_unexpected),
};

static const char *exit_name(uint32_t reason)
{
	const char *name = reason < ARRAY_LEN(exit_rows) ? exit_rows[reason].name : NULL;
	return name ? name : "an exit that aerie does not know";
}

enum exit_verdict vcpu_exit(struct vcpu *vcpu, struct bus *bus, const struct vcpu_events *events)
{
	uint32_t reason = vcpu->run->exit_reason;
	if (reason < ARRAY_LEN(exit_rows) && exit_rows[reason].handle)
		return exit_rows[reason].handle(vcpu, bus, events);
	return exit_unexpected(vcpu, bus, events);
}

enum exit_verdict vcpu_run_failed(struct vcpu *vcpu, int code, const struct vcpu_events *events)
{
	log_error("vCPU %u: KVM_RUN: %s", vcpu->index, strerror(-code));
	return crash(vcpu, events);
}
