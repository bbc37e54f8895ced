/* A host's offer as JSON: `aerie cpu dump` writes it, the comparing commands and the tests read it. */
#ifndef AERIE_CPU_RECORD_H
#define AERIE_CPU_RECORD_H

#include "config/json.h"
#include "cpu/features.h"

/* Its parts, for others that print such things; NULL when out of memory. */
cJSON *cpu_record_table(const struct cpuid_table *table);
cJSON *cpu_record_msrs(const struct cpu_msr *msrs, uint32_t count);

/* The text, ending in a newline; the caller frees it with free(). NULL when out of memory. */
char *cpu_record_print(const struct cpu_host *host);

/*
 * Read what cpu_record_print wrote, or what somebody claims that it wrote: every value is checked. `name`
 * stands in messages, which name the place ("name: cpuid.0x00000001.2: ..."). -EINVAL, -ENOMEM.
 */
int cpu_record_parse(const char *name, const char *text, size_t len, struct cpu_host *ret, struct err *err);

#endif
