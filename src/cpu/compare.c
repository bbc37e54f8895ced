#include "cpu/compare.h"

#include "base/cleanup.h"
#include "feature_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* KVM runs an unscaled TSC this far from the asked frequency (tsc_tolerance_ppm, kvm.ko). */
enum { TSC_TOLERANCE_PPM = 250 };

struct comparison {
	const struct cpu_host *from, *to;
	struct cpu_model model; /* the guest's, as made on `from` */
	struct cpu_report made, there;
	struct cpu_model possible; /* all that `to` can give */
	cpu_obstacle_fn *found;
	void *data;
	int count;
};

__attribute__((format(printf, 3, 4))) static void in_the_way(struct comparison *c, const char *name,
							     const char *fmt, ...)
{
	struct cpu_obstacle obstacle = {.name = name};
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(obstacle.why, sizeof(obstacle.why), fmt, args);
	va_end(args);
	c->count++;
	if (c->found)
		c->found(&obstacle, c->data);
}

static struct kvm_cpuid_entry2 leaf(const struct cpuid_table *table, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return table->entries[i];
	return (struct kvm_cpuid_entry2){.function = function, .index = index};
}

static void compare_vendor(struct comparison *c)
{
	const struct kvm_cpuid_entry2 a = leaf(&c->model.cpuid, 0, 0), b = leaf(&c->to->cpuid, 0, 0);
	const uint32_t from[3] = {a.ebx, a.edx, a.ecx}, to[3] = {b.ebx, b.edx, b.ecx};
	if (memcmp(from, to, sizeof(from)) != 0)
		in_the_way(c, "vendor", "the guest knows its processor as %.12s, there it is %.12s",
			   (const char *)from, (const char *)to);
}

static void compare_features(struct comparison *c)
{
	for (size_t i = 0; i < cpu_feature_count(); i++) {
		enum cpu_fate there = c->there.features[i].fate;
		const char *name = cpu_feature_at(i)->name;
		char reason[160];
		/* Of the other vendor's features the vendor has been said once and for all. */
		if (c->made.features[i].fate != CPU_GIVEN || there == CPU_GIVEN || there == CPU_OTHER_VENDOR)
			continue;
		/* It is there, only not with this wish. */
		if (there == CPU_NOT_IN_MODEL || there == CPU_NOT_WITH_EVMCS)
			continue;
		cpu_report_reason(&c->there, i, reason, sizeof(reason));
		const char *why = strstr(reason, ": "); /* "name: why" */
		in_the_way(c, name, "%s", why ? why + 2 : reason);
	}
}

/*
 * A control that `to` fixes to 1: L1 could leave it 0, or did not know it, and its VMCS says so. The same
 * check is made by KVM_SET_MSRS (vmx_restore_control_msr).
 */
static void compare_fixed(struct comparison *c)
{
	for (int word = 0; word < WORD_COUNT && c->model.nested == CPU_NESTED_VMX; word++) {
		uint64_t fixed = feature_fixed(c->to, (enum feature_word)word) &
				 ~feature_fixed(c->from, (enum feature_word)word);
		for (unsigned bit = 0; bit < 32; bit++)
			if (fixed & UINT64_C(1) << bit)
				in_the_way(c, feature_words[word].label,
					   "control %u has to be 1 there, and was free here", bit);
	}
}

/* A number that the guest was told; `to` has to reach it. */
static void compare_limit(struct comparison *c, const char *name, uint64_t from, uint64_t to)
{
	if (from > to)
		in_the_way(c, name, "the guest was told %" PRIu64 ", there it is %" PRIu64, from, to);
}

static void compare_equal(struct comparison *c, const char *name, uint64_t from, uint64_t to)
{
	if (from != to)
		in_the_way(c, name, "the guest was told 0x%" PRIx64 ", there it is 0x%" PRIx64, from, to);
}

static uint64_t bits(uint64_t value, unsigned low, unsigned count)
{
	return value >> low & ((UINT64_C(1) << count) - 1);
}

static void compare_cpuid_limits(struct comparison *c)
{
	const struct cpuid_table *from = &c->model.cpuid, *to = &c->possible.cpuid;
	uint32_t a = leaf(from, 0x80000008, 0).eax, b = leaf(to, 0x80000008, 0).eax;
	compare_limit(c, "physical address bits", bits(a, 0, 8), bits(b, 0, 8));
	compare_limit(c, "linear address bits", bits(a, 8, 8), bits(b, 8, 8));
	a = leaf(from, 0xa, 0).eax;
	b = leaf(to, 0xa, 0).eax;
	compare_limit(c, "performance monitoring version", bits(a, 0, 8), bits(b, 0, 8));
	compare_limit(c, "performance counters", bits(a, 8, 8), bits(b, 8, 8));
	compare_limit(c, "bits of a performance counter", bits(a, 16, 8), bits(b, 16, 8));
	a = leaf(from, 0xa, 0).edx;
	b = leaf(to, 0xa, 0).edx;
	compare_limit(c, "fixed performance counters", bits(a, 0, 5), bits(b, 0, 5));
	if (c->model.nested == CPU_NESTED_SVM) {
		const struct kvm_cpuid_entry2 svm = leaf(from, 0x8000000a, 0),
					      other = leaf(to, 0x8000000a, 0);
		compare_limit(c, "SVM revision", bits(svm.eax, 0, 8), bits(other.eax, 0, 8));
		compare_limit(c, "ASIDs of L2", svm.ebx, other.ebx);
	}
	/* Save areas are laid out by what components there are; a component that is missing is a fault. */
	const struct kvm_cpuid_entry2 x = leaf(from, 0xd, 0), y = leaf(to, 0xd, 0);
	uint64_t lacks = (((uint64_t)x.edx << 32) | x.eax) & ~(((uint64_t)y.edx << 32) | y.eax);
	if (lacks)
		in_the_way(c, "xsave", "components 0x%" PRIx64 " are not there", lacks);
	compare_limit(c, "AVX10 version", bits(leaf(from, 0x24, 0).ebx, 0, 8),
		      bits(leaf(to, 0x24, 0).ebx, 0, 8));
}

static uint64_t model_msr(const struct cpu_model *model, uint32_t index)
{
	for (uint32_t i = 0; i < model->msr_count; i++)
		if (model->msrs[i].index == index)
			return model->msrs[i].value;
	return 0;
}

/* The numbers in capability MSRs (SDM 3D, A.1, A.6, A.9, and what vmx_restore_vmx_misc checks). */
static void compare_vmx_limits(struct comparison *c)
{
	if (c->model.nested != CPU_NESTED_VMX)
		return;
	uint64_t a = model_msr(&c->model, 0x480), b = model_msr(&c->possible, 0x480);
	compare_equal(c, "VMCS revision", bits(a, 0, 31), bits(b, 0, 31));
	compare_equal(c, "VMCS size", bits(a, 32, 13), bits(b, 32, 13));
	compare_equal(c, "VMCS memory type", bits(a, 50, 4), bits(b, 50, 4));
	a = model_msr(&c->model, 0x485);
	b = model_msr(&c->possible, 0x485);
	compare_equal(c, "VMX preemption timer rate", bits(a, 0, 5), bits(b, 0, 5));
	compare_limit(c, "CR3 targets", bits(a, 16, 9), bits(b, 16, 9));
	compare_limit(c, "VMX MSR list", bits(a, 25, 3), bits(b, 25, 3));
	compare_equal(c, "MSEG revision", bits(a, 32, 32), bits(b, 32, 32));
	compare_limit(c, "VMCS fields", bits(model_msr(&c->model, 0x48a), 1, 9),
		      bits(model_msr(&c->possible, 0x48a), 1, 9));
}

static void compare_clock(struct comparison *c, const struct cpu_config *asked)
{
	uint32_t from = asked->tsc_khz ? asked->tsc_khz : c->from->tsc_khz, to = c->to->tsc_khz;
	uint64_t apart = from > to ? from - to : to - from;
	/* A frequency that KVM does not know cannot be compared. */
	if (from && to && !c->to->tsc_control && apart * 1000000 > (uint64_t)from * TSC_TOLERANCE_PPM)
		in_the_way(c, "tsc", "the guest's runs at %u kHz, there it is %u kHz and cannot be scaled",
			   from, to);
	if (c->model.nested != CPU_NESTED_NONE)
		compare_limit(c, "bytes of nested state", c->from->nested_state_bytes,
			      c->to->nested_state_bytes);
}

/* The enlightenments that the guest was given, by what `to` can give of the same wish. */
static void compare_hyperv(struct comparison *c)
{
	for (size_t i = 0; c->model.hyperv.enabled && i < hyperv_switch_count(); i++)
		if (c->model.hyperv_report.switches[i].fate == HYPERV_GIVEN &&
		    c->possible.hyperv_report.switches[i].fate != HYPERV_GIVEN)
			in_the_way(c, "hyperv", "%s cannot be given there", hyperv_switch_name(i));
}

int cpu_compare(const struct cpu_host *from, const struct cpu_config *asked, enum nested_mode nested,
		const struct cpu_host *to, cpu_obstacle_fn *found, void *data, struct err *err)
{
	struct cpu_config all = {.model = "host", .hyperv = asked->hyperv};
	_cleanup_free_ struct comparison *c = calloc(1, sizeof(*c));
	if (!c)
		return err_sys(err, -ENOMEM, "comparing hosts");
	*c = (struct comparison){.from = from, .to = to, .found = found, .data = data};
	all.hyperv.require_count = 0; /* what is not there shall be said, not refused */
	int rc = cpu_resolve(from, asked, nested, &c->model, &c->made, err);
	rc = rc ? rc : cpu_resolve(to, &all, NESTED_AUTO, &c->possible, &c->there, err);
	if (rc)
		return rc;
	compare_vendor(c);
	compare_features(c);
	compare_fixed(c);
	compare_cpuid_limits(c);
	compare_vmx_limits(c);
	compare_clock(c, asked);
	compare_hyperv(c);
	return c->count;
}
