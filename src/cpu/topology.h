/* How APIC ids are made of socket, core and thread numbers (SDM 3A, 9.9.1; APM 3, appendix E.5). */
#ifndef AERIE_CPU_TOPOLOGY_H
#define AERIE_CPU_TOPOLOGY_H

#include <stdint.h>

/* The number of id bits that `count` threads, cores or sockets take: the base-2 logarithm, rounded up. */
unsigned topology_bits(uint32_t count);

#endif
