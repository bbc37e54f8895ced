#include "host/advisory.h"

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

struct kernel_version {
	unsigned major, minor, patch;
};

/* First fixed release of each stable branch, newest last; the last row is where mainline got the fix. */
static const struct kernel_version fixed[] = {
	{5, 10, 260}, {5, 15, 211}, {6, 1, 177}, {6, 6, 144}, {6, 12, 95}, {6, 18, 38}, {7, 1, 3},
};

/*
 * Marks in either string of vendors whose number stands still while fixes are backported. Most need none,
 * because their names are ABI names (below); these have a patch level that looks like kernel.org's.
 */
static const struct {
	const char *mark;
	const char *vendor;
} vendors[] = {
	{"ubuntu", "Ubuntu"},
	{"-pve", "Proxmox"}, /* 6.8.12-4-pve: Ubuntu's kernel below */
	{"-150", "SUSE"},    /* 5.14.21-150500.55.7-default */
};

static int version_compare(struct kernel_version a, struct kernel_version b)
{
	if (a.major != b.major)
		return a.major < b.major ? -1 : 1;
	if (a.minor != b.minor)
		return a.minor < b.minor ? -1 : 1;
	return a.patch < b.patch ? -1 : a.patch > b.patch;
}

/* Reads "6.1.176" or "7.2"; *ret_rest is what follows. Field widths keep the numbers inside an unsigned. */
static bool version_parse(const char *text, struct kernel_version *ret, const char **ret_rest)
{
	int used = 0;
	*ret = (struct kernel_version){0};
	if (sscanf(text, "%4u.%4u%n", &ret->major, &ret->minor, &used) != 2)
		return false;
	int patch = 0;
	if (sscanf(text + used, ".%5u%n", &ret->patch, &patch) == 1)
		used += patch;
	*ret_rest = text + used;
	return true;
}

static const char *frozen_vendor(const char *release, const char *version)
{
	for (size_t i = 0; i < ARRAY_LEN(vendors); i++)
		if (strcasestr(release, vendors[i].mark) || strcasestr(version, vendors[i].mark))
			return vendors[i].vendor;
	return NULL;
}

/*
 * "6.1.0-44-amd64": patch level 0 with a build number behind it is a distribution's ABI name, not a
 * kernel.org version (Debian, Ubuntu, SUSE and RHEL all do so). "7.1.0-rc4" and "7.1.0-mine" are what they
 * say.
 */
static bool is_abi_name(struct kernel_version v, const char *rest)
{
	return v.patch == 0 && rest[0] == '-' && rest[1] >= '0' && rest[1] <= '9';
}

/* The kernel.org version that runs; false, with *ret_vendor who would know, when the strings do not tell it.
 */
static bool upstream_version(const char *release, const char *version, struct kernel_version *ret,
			     const char **ret_vendor)
{
	static const char debian_mark[] = "Debian ";
	const char *rest;
	*ret_vendor = frozen_vendor(release, version);
	if (*ret_vendor)
		return false;
	*ret_vendor = "its vendor";
	const char *debian = strstr(version, debian_mark);
	if (debian && version_parse(debian + strlen(debian_mark), ret, &rest))
		return true;
	return version_parse(release, ret, &rest) && !is_abi_name(*ret, rest);
}

/* First release with the fix for somebody who runs v: of its own branch where that got one, else of mainline.
 */
static struct kernel_version first_fixed(struct kernel_version v)
{
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (fixed[i].major == v.major && fixed[i].minor == v.minor)
			return fixed[i];
	return fixed[ARRAY_LEN(fixed) - 1];
}

enum advisory_verdict advisory_nested_escape(const char *release, const char *version, struct advisory *ret)
{
	struct kernel_version v;
	const char *vendor;
	*ret = (struct advisory){.verdict = ADVISORY_UNKNOWN};
	if (!upstream_version(release, version, &v, &vendor)) {
		(void)snprintf(ret->text, sizeof(ret->text),
			       "Linux %.64s: unknown whether it has the fix of " ADVISORY_CVE
			       " (a nested guest escapes to the host); ask %s",
			       *release ? release : "without a version", vendor);
		return ret->verdict;
	}
	struct kernel_version fix = first_fixed(v);
	(void)snprintf(ret->upstream, sizeof(ret->upstream), "%u.%u.%u", v.major, v.minor, v.patch);
	(void)snprintf(ret->fixed_in, sizeof(ret->fixed_in), "%u.%u.%u", fix.major, fix.minor, fix.patch);
	ret->verdict = version_compare(v, fix) >= 0 ? ADVISORY_FIXED : ADVISORY_VULNERABLE;
	if (ret->verdict == ADVISORY_FIXED)
		(void)snprintf(ret->text, sizeof(ret->text), "Linux %s has the fix of " ADVISORY_CVE,
			       ret->upstream);
	else
		(void)snprintf(ret->text, sizeof(ret->text),
			       "Linux %s has " ADVISORY_CVE
			       ": a nested guest can escape to the host (fixed in %s)",
			       ret->upstream, ret->fixed_in);
	return ret->verdict;
}

enum advisory_verdict advisory_nested_escape_here(struct advisory *ret)
{
	struct utsname name;
	if (uname(&name) < 0)
		name.release[0] = name.version[0] = '\0';
	return advisory_nested_escape(name.release, name.version, ret);
}
