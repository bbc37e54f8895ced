/* Hosts made by hand, after what Linux's KVM offers on them: for tests that change one thing. */
#ifndef TESTS_CPU_HOSTS_H
#define TESTS_CPU_HOSTS_H

#include "cpu/features.h"

#include <stdlib.h>
#include <string.h>

#define LEAF1_EDX 0x078bfbffU
#define LEAF1_ECX 0x76fa3203U /* no VMX: SSE3 to AVX, F16C, RDRAND, FMA, MOVBE, AES, XSAVE, PCID, x2APIC */

static inline void host_leaf(struct cpu_host *host, uint32_t function, uint32_t index, uint32_t a, uint32_t b,
			     uint32_t c, uint32_t d)
{
	host->cpuid.entries[host->cpuid.count++] = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = function == 4 || function == 7 || function == 0xd || function == 0x8000001d
				 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX
				 : 0,
		.eax = a,
		.ebx = b,
		.ecx = c,
		.edx = d,
	};
}

static inline void host_msr(struct cpu_host *host, uint32_t index, uint64_t value)
{
	host->msrs[host->msr_count++] = (struct cpu_msr){.index = index, .value = value};
}

static inline struct kvm_cpuid_entry2 *host_entry(struct cpuid_table *table, uint32_t function,
						  uint32_t index)
{
	for (uint32_t i = 0; i < table->count; i++)
		if (table->entries[i].function == function && table->entries[i].index == index)
			return &table->entries[i];
	return NULL;
}

static inline struct cpu_msr *host_msr_of(struct cpu_msr *msrs, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (msrs[i].index == index)
			return &msrs[i];
	return NULL;
}

static inline void host_kvm(struct cpu_host *host)
{
	host_leaf(host, 0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	host_leaf(host, 0x40000001, 0, 0x01007efb, 0, 0, 0);
	host->tsc_deadline = host->tsc_control = true;
	(void)strcpy(host->kernel, "6.12.0-test");
}

static inline void host_xsave(struct cpu_host *host, bool avx512, bool pku)
{
	uint32_t xcr0 = 7 | (avx512 ? 0xe0U : 0) | (pku ? 0x200U : 0);
	uint32_t size = pku ? 0xa88 : avx512 ? 0xa80 : 0x340;
	host_leaf(host, 0xd, 0, xcr0, size, size, 0);
	host_leaf(host, 0xd, 1, 0xf, 576 + 256 + (avx512 ? 64 + 512 + 1024 : 0U) + (pku ? 8 : 0U), 0, 0);
	host_leaf(host, 0xd, 2, 256, 576, 0, 0);
	if (avx512) {
		host_leaf(host, 0xd, 5, 64, 0x440, 0, 0);
		host_leaf(host, 0xd, 6, 512, 0x480, 0, 0);
		host_leaf(host, 0xd, 7, 1024, 0x680, 0, 0);
	}
	if (pku)
		host_leaf(host, 0xd, 9, 8, 0xa80, 0, 0);
}

/* The VMX capability MSRs of Linux 6.12 on a processor with all of VMX but MPX's and trace's. */
static inline void host_vmx(struct cpu_host *host)
{
	host_msr(host, 0x480, 0x00d8100011e57ed0);
	host_msr(host, 0x485, 0x0000000020000165);
	host_msr(host, 0x486, 0x80000021);
	host_msr(host, 0x487, 0xffffffff);
	host_msr(host, 0x488, 0x2000);
	host_msr(host, 0x489, 0x00772fff);
	host_msr(host, 0x48a, 0x32);
	host_msr(host, 0x48d, 0x000000ff00000016);
	host_msr(host, 0x48e, 0xfff9fffe04006172);
	host_msr(host, 0x48f, 0x007fffff00036dfb);
	host_msr(host, 0x490, 0x0000f3ff000011fb);
	host_msr(host, 0x48b, 0x02137bff00000000);
	host_msr(host, 0x48c, 0x00000f0106734141);
	host_msr(host, 0x491, 1);
	host_msr(host, 0x481, 0x000000ff00000016);
	host_msr(host, 0x482, 0xfff9fffe0401e172);
	host_msr(host, 0x483, 0x007fffff00036dff);
	host_msr(host, 0x484, 0x0000f3ff000011ff);
}

/* A Skylake server with AVX-512, under Linux 6.12 with nested=1. free() it. */
static inline struct cpu_host *host_intel(bool vmx)
{
	struct cpu_host *host = calloc(1, sizeof(*host));
	host_leaf(host, 0, 0, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69);
	host_leaf(host, 1, 0, 0x00050654, 0x00100800, LEAF1_ECX | 1U << 15 | (vmx ? 1U << 5 : 0),
		  LEAF1_EDX | 1U << 27);
	host_leaf(host, 4, 0, 0x1c004121, 0x01c0003f, 0x3f, 0);
	host_leaf(host, 4, 1, 0, 0, 0, 0);
	host_leaf(host, 6, 0, 4, 0, 0, 0);
	host_leaf(host, 7, 0, 2, 0xd19f07ab, 0x0000000c, 0xbc000400);
	host_leaf(host, 7, 1, 0, 0, 0, 0);
	host_leaf(host, 7, 2, 0, 0, 0, 0);
	host_leaf(host, 0xa, 0, 0x08300802, 0, 0, 0x8603);
	host_xsave(host, true, true);
	host_kvm(host);
	host_leaf(host, 0x80000000, 0, 0x80000008, 0, 0, 0);
	host_leaf(host, 0x80000001, 0, 0, 0, 0x121, 0x2c100800);
	host_leaf(host, 0x80000007, 0, 0, 0, 0, 0x100);
	host_leaf(host, 0x80000008, 0, 0x302e, 0x0100d000, 0, 0);
	host_msr(host, 0x10a, 0x6c);
	host_msr(host, 0x345, 0x2005);
	host_msr(host, 0x8b, 0x100000000);
	if (vmx)
		host_vmx(host);
	host->nested_state_bytes = vmx ? 8320 : 0;
	host->enlightened_vmcs = vmx;
	return host;
}

/* A first Zen, under Linux 6.12 with nested=1. free() it. */
static inline struct cpu_host *host_amd(bool svm)
{
	struct cpu_host *host = calloc(1, sizeof(*host));
	host_leaf(host, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65);
	host_leaf(host, 1, 0, 0x00800f12, 0x00100800, LEAF1_ECX & ~(1U << 17), LEAF1_EDX);
	host_leaf(host, 6, 0, 4, 0, 0, 0);
	host_leaf(host, 7, 0, 0, 0x209c01ab, 0, 0x20000000);
	host_xsave(host, false, false);
	host_entry(&host->cpuid, 0xd, 1)->eax = 7;
	host_kvm(host);
	host_leaf(host, 0x80000000, 0, 0x80000021, 0x68747541, 0x444d4163, 0x69746e65);
	host_leaf(host, 0x80000001, 0, 0x00800f12, 0x20000000, 0x004001f3 | (svm ? 1U << 2 : 0), 0x2fd3fbff);
	host_leaf(host, 0x80000007, 0, 0, 0, 0, 0x100);
	host_leaf(host, 0x80000008, 0, 0x3030, 0x02001005, 0, 0);
	host_leaf(host, 0x8000000a, 0, svm ? 1 : 0, svm ? 8 : 0, 0, svm ? 0x1001947b : 0);
	host_leaf(host, 0x8000001d, 0, 0x4121, 0x01c0003f, 0x3f, 0);
	host_leaf(host, 0x8000001d, 1, 0, 0, 0, 0);
	host_leaf(host, 0x8000001e, 0, 0, 0, 0, 0);
	host_leaf(host, 0x8000001f, 0, 0x1010f, 0x16f, 0xf, 1);
	host_leaf(host, 0x80000021, 0, 0x204, 0, 0, 0);
	host_msr(host, 0x10a, 0);
	host_msr(host, 0xc0011029, 2);
	host->nested_state_bytes = svm ? 4224 : 0;
	return host;
}

#endif
