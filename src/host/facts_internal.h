/* Between the parts of host/facts: files below a root, and the answers that files do not give. */
#ifndef AERIE_SRC_HOST_FACTS_INTERNAL_H
#define AERIE_SRC_HOST_FACTS_INTERNAL_H

#include "host/facts.h"

#include <stddef.h>

/*
 * Read ROOT/path (printf) into buf, cut at size - 1, ended by 0 and without trailing newline. Returns the
 * length or -errno, and then buf is "". Files of /proc say no size, so this reads until the end.
 */
int facts_read(const char *root, char *buf, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* CPUID, MSRs and /dev/kvm of this machine. */
void facts_probe_live(struct host_facts *facts);

/* The same from ROOT/aerie-facts. */
int facts_probe_recorded(const char *root, struct host_facts *facts, struct err *err);

/* Take note of one hypervisor signature (12 bytes and a 0). Called for each, in the order of the leaves. */
void facts_add_signature(struct host_facts *facts, const char *signature);

#endif
