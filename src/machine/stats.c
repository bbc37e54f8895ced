/* KVM's figures of the running machine, and what of them the run log says at its end. */
#include "base/cleanup.h"
#include "base/log.h"
#include "machine.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* Asking KVM for a vCPU's file waits until the vCPU leaves the guest, which one that spins never does: they
 * are all stopped for it, once. Reading needs none of that. */
static int open_vcpu_stats(struct machine *machine, struct err *err)
{
	struct kvm_stats *stats;
	int r = 0;
	vcpus_pause(machine->vcpus);
	for (uint32_t i = 0; r == 0 && i < machine->config->cpus.count; i++)
		r = vcpus_stats(machine->vcpus, i, &stats, err);
	machine_go(machine);
	machine->vcpu_stats_open = r == 0;
	return r;
}

int machine_stats(struct machine *machine, int vcpu, struct kvm_stats **ret, struct err *err)
{
	if (vcpu >= 0) {
		int r = machine->vcpu_stats_open ? 0 : open_vcpu_stats(machine, err);
		return r < 0 ? r : vcpus_stats(machine->vcpus, (uint32_t)vcpu, ret, err);
	}
	int r = machine->stats ? 0 : kvm_stats_open(machine->vm_fd, &machine->stats, err);
	*ret = machine->stats;
	return r;
}

/* How often L1 and its guests left the CPU and why; how much of them was L2; which page sizes KVM used. A
 * kernel that lacks one of them is silent about it. */
static const char *const vcpu_figures[] = {
	"exits",      "nested_run",	  "guest_mode", "io_exits",	     "mmio_exits", "irq_exits",
	"halt_exits", "irq_window_exits", "hypercalls", "request_irq_exits", "pf_taken",   "tlb_flush",
};
static const char *const vm_figures[] = {
	"pages_4k", "pages_2m", "pages_1g", "mmu_shadow_zapped", "mmu_recycled", "nx_lpage_splits",
};

static void log_figures(struct kvm_stats *stats, const char *who, const char *const *names, size_t count)
{
	char line[512];
	size_t used = 0;
	const uint64_t *values = kvm_stats_read(stats);
	for (size_t i = 0; values && i < count; i++) {
		const struct kvm_stat *stat = kvm_stats_find(stats, names[i]);
		if (!stat || used >= sizeof(line))
			continue;
		int n = snprintf(line + used, sizeof(line) - used, "%s%s %" PRIu64, used ? ", " : "",
				 names[i], values[stat->first]);
		used += n > 0 ? (size_t)n : 0;
	}
	if (used)
		log_info("%s: %s", who, line);
}

void machine_log_stats(struct machine *machine)
{
	struct kvm_stats *stats;
	struct err err = ERR_INIT;
	char who[32];
	vcpus_log_msrs(machine->vcpus);
	machine_log_counts(machine);
	if (machine_stats(machine, MACHINE_STATS_VM, &stats, &err) < 0) {
		log_info("%s", err.text);
		return;
	}
	log_figures(stats, "VM", vm_figures, ARRAY_LEN(vm_figures));
	for (uint32_t i = 0; i < machine->config->cpus.count; i++) {
		if (machine_stats(machine, (int)i, &stats, &err) < 0)
			return;
		(void)snprintf(who, sizeof(who), "vCPU %u", i);
		log_figures(stats, who, vcpu_figures, ARRAY_LEN(vcpu_figures));
	}
}
