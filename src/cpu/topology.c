#include "topology.h"
#include "cpu/boot.h"

/* Bits that number `count` things. */
unsigned topology_bits(uint32_t count)
{
	unsigned bits = 0;
	while ((1u << bits) < count)
		bits++;
	return bits;
}

uint32_t cpu_apic_id(const struct cpus_config *cpus, uint32_t index)
{
	uint32_t thread = index % cpus->threads;
	uint32_t core = index / cpus->threads % cpus->cores;
	uint32_t socket = index / cpus->threads / cpus->cores;
	unsigned thread_bits = topology_bits(cpus->threads);
	unsigned core_bits = topology_bits(cpus->cores);
	return (socket << core_bits | core) << thread_bits | thread;
}
