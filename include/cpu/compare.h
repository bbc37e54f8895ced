/*
 * May a guest move? Pure functions over what two or more hosts offer.
 *
 * "Runs on" is a matter of sets and limits, so that it is reflexive and transitive: every feature that the
 * guest was given is there, no control is fixed to 1 that it may have found free, and every number that it
 * was told (address bits, counters, sizes) is no larger than there. The one tolerance is that of KVM for a
 * TSC that is not scaled: 250 parts in a million.
 */
#ifndef AERIE_CPU_COMPARE_H
#define AERIE_CPU_COMPARE_H

#include "cpu/features.h"

/* One thing in the way. */
struct cpu_obstacle {
	const char *name; /* a feature's, or what else it is: "vendor", "tsc", ... */
	char why[192];
};
typedef void cpu_obstacle_fn(const struct cpu_obstacle *obstacle, void *data);

/*
 * Can a guest that was made with `asked` on `from` go on on `to`? Calls `found` (may be NULL) for each thing
 * in the way and returns how many there are. Negative: `from` cannot make such a guest at all (cpu_resolve's
 * message).
 */
int cpu_compare(const struct cpu_host *from, const struct cpu_config *asked, enum nested_mode nested,
		const struct cpu_host *to, cpu_obstacle_fn *found, void *data, struct err *err);

/*
 * The largest processor that all of `hosts` (at least one) can give: a named model, with what lacks as
 * "require" and what is too much as "disable"; "host" where no named model fits. A guest made with it on any
 * of them runs on every other. -EOPNOTSUPP: there is none, and `err` says what is in the way between which of
 * them, by their `names`. What *ret points to is static.
 */
int cpu_baseline(const struct cpu_host *const *hosts, const char *const *names, size_t count,
		 struct cpu_config *ret, struct err *err);

#endif
