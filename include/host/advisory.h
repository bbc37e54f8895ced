/*
 * Is this kernel known to let a nested guest escape to the host?
 *
 * CVE-2026-53359: a guest that runs guests of its own can reach host memory. The answer is worked out from
 * what uname says and from nothing else, so it is a pure function of two strings. A vendor's kernel that
 * carries fixes under a frozen version number (Ubuntu, RHEL, SUSE, ...) gets UNKNOWN: its number cannot be
 * compared.
 */
#ifndef AERIE_HOST_ADVISORY_H
#define AERIE_HOST_ADVISORY_H

#define ADVISORY_CVE "CVE-2026-53359"

enum advisory_verdict {
	ADVISORY_FIXED,
	ADVISORY_VULNERABLE,
	ADVISORY_UNKNOWN,
};

struct advisory {
	enum advisory_verdict verdict;
	char upstream[32]; /* kernel.org version that runs, such as "6.1.176"; "" when unknown */
	char fixed_in[32]; /* first fixed version of the same branch, or of mainline; "" when unknown */
	char text[256];	   /* one sentence for people, no newline; right for a warning and for a finding */
};

/*
 * Judge a kernel by `uname -r` (release) and `uname -v` (version). Debian's release does not name the
 * upstream version but its version string does ("... Debian 6.1.176-1 (2026-05-01)"). Fills *ret in every
 * case; never fails.
 */
enum advisory_verdict advisory_nested_escape(const char *release, const char *version, struct advisory *ret);

/* The same for the kernel that runs now. */
enum advisory_verdict advisory_nested_escape_here(struct advisory *ret);

#endif
