/* Guards: a kernel with the escape is never called fixed, and a number that cannot be compared is never
 * judged. */
#include "harness.h"
#include "host/advisory.h"

static const char smp[] = "#1 SMP PREEMPT_DYNAMIC";

static void expect(const char *release, const char *version, enum advisory_verdict verdict,
		   const char *upstream, const char *fixed_in)
{
	struct advisory advisory;
	enum advisory_verdict got = advisory_nested_escape(release, version, &advisory);
	ck_assert_msg(got == verdict && advisory.verdict == verdict, "%s, %s: verdict %d, expected %d",
		      release, version, (int)got, (int)verdict);
	ck_assert_str_eq(advisory.upstream, upstream);
	ck_assert_str_eq(advisory.fixed_in, fixed_in);
}

START_TEST(each_branch_is_vulnerable_until_its_fixed_release)
{
	static const struct {
		const char *before, *at, *after;
	} branches[] = {
		{"5.10.259", "5.10.260", "5.10.261"}, {"5.15.210", "5.15.211", "5.15.300"},
		{"6.1.176", "6.1.177", "6.1.178"},    {"6.6.143", "6.6.144", "6.6.145"},
		{"6.12.94", "6.12.95", "6.12.96"},    {"6.18.37", "6.18.38", "6.18.44"},
		{"7.1.2", "7.1.3", "7.1.4"},
	};
	for (size_t i = 0; i < sizeof(branches) / sizeof(branches[0]); i++) {
		const char *fix = branches[i].at;
		expect(branches[i].before, smp, ADVISORY_VULNERABLE, branches[i].before, fix);
		expect(branches[i].at, smp, ADVISORY_FIXED, branches[i].at, fix);
		expect(branches[i].after, smp, ADVISORY_FIXED, branches[i].after, fix);
	}
}
END_TEST

START_TEST(branch_without_a_fixed_release_is_vulnerable_before_mainline)
{
	expect("6.15.4", smp, ADVISORY_VULNERABLE, "6.15.4", "7.1.3");
	expect("6.15.999", smp, ADVISORY_VULNERABLE, "6.15.999", "7.1.3");
	expect("7.0.9", smp, ADVISORY_VULNERABLE, "7.0.9", "7.1.3");
	expect("4.19.325", smp, ADVISORY_VULNERABLE, "4.19.325", "7.1.3");
	expect("7.1.0-rc4", smp, ADVISORY_VULNERABLE, "7.1.0", "7.1.3");
}
END_TEST

START_TEST(later_mainline_is_fixed)
{
	expect("7.2.0", smp, ADVISORY_FIXED, "7.2.0", "7.1.3");
	expect("7.2", smp, ADVISORY_FIXED, "7.2.0", "7.1.3");
	expect("8.0.1", smp, ADVISORY_FIXED, "8.0.1", "7.1.3");
	expect("7.10.0", smp, ADVISORY_FIXED, "7.10.0", "7.1.3");
}
END_TEST

START_TEST(suffix_of_a_home_made_kernel_does_not_matter)
{
	expect("6.18.44-fc-v669", smp, ADVISORY_FIXED, "6.18.44", "6.18.38");
	expect("6.12.94+", smp, ADVISORY_VULNERABLE, "6.12.94", "6.12.95");
	expect("6.9.1-arch1-1", smp, ADVISORY_VULNERABLE, "6.9.1", "7.1.3");
	expect("5.15.153.1-microsoft-standard-WSL2", smp, ADVISORY_VULNERABLE, "5.15.153", "5.15.211");
}
END_TEST

START_TEST(debian_is_judged_by_its_version_string)
{
	expect("6.1.0-49-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-05-30)",
	       ADVISORY_VULNERABLE, "6.1.176", "6.1.177");
	expect("6.1.0-50-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.177-1 (2026-09-12)", ADVISORY_FIXED,
	       "6.1.177", "6.1.177");
	expect("6.12.95+deb12-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.95-1~bpo12+1 (2026-09-12)",
	       ADVISORY_FIXED, "6.12.95", "6.12.95");
	expect("6.1.0-49-amd64", smp, ADVISORY_UNKNOWN, "", "");
}
END_TEST

START_TEST(vendor_numbers_are_not_judged)
{
	expect("6.8.0-31-generic", "#31-Ubuntu SMP PREEMPT_DYNAMIC Sat Apr 20", ADVISORY_UNKNOWN, "", "");
	expect("5.14.0-427.13.1.el9_4.x86_64", smp, ADVISORY_UNKNOWN, "", "");
	expect("4.18.0-553.el8_10.x86_64", smp, ADVISORY_UNKNOWN, "", "");
	expect("5.14.21-150500.55.7-default", smp, ADVISORY_UNKNOWN, "", "");
	expect("6.8.12-4-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-4", ADVISORY_UNKNOWN, "", "");
}
END_TEST

START_TEST(nonsense_is_unknown)
{
	expect("", "", ADVISORY_UNKNOWN, "", "");
	expect("linux", "Debian", ADVISORY_UNKNOWN, "", "");
	expect("7", "", ADVISORY_UNKNOWN, "", "");
	expect("6.x.3", "", ADVISORY_UNKNOWN, "", "");
}
END_TEST

START_TEST(text_says_what_to_run_instead)
{
	struct advisory advisory;
	(void)advisory_nested_escape("6.1.176", smp, &advisory);
	ck_assert_str_eq(advisory.text,
			 "Linux 6.1.176 has CVE-2026-53359: a nested guest can escape to the host "
			 "(fixed in 6.1.177)");
	(void)advisory_nested_escape("6.8.0-31-generic", "#31-Ubuntu SMP", &advisory);
	ck_assert_str_eq(advisory.text,
			 "Linux 6.8.0-31-generic: unknown whether it has the fix of CVE-2026-53359 "
			 "(a nested guest escapes to the host); ask Ubuntu");
}
END_TEST

START_TEST(here_is_what_uname_says)
{
	struct advisory advisory;
	ck_assert_int_eq((int)advisory_nested_escape_here(&advisory), (int)advisory.verdict);
	ck_assert_str_ne(advisory.text, "");
}
END_TEST

TEST_MAIN("advisory", each_branch_is_vulnerable_until_its_fixed_release,
	  branch_without_a_fixed_release_is_vulnerable_before_mainline, later_mainline_is_fixed,
	  suffix_of_a_home_made_kernel_does_not_matter, debian_is_judged_by_its_version_string,
	  vendor_numbers_are_not_judged, nonsense_is_unknown, text_says_what_to_run_instead,
	  here_is_what_uname_says)
