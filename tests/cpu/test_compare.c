/* Whether a guest may move, between recorded hosts: the relation, its reasons, and what all have in common.
 */
#include "base/cleanup.h"
#include "cpu/compare.h"
#include "harness.h"
#include "recorded.h"

static const struct cpu_config all = {.model = "host"};

/* Names of what is in the way, each followed by a newline. */
struct found {
	char text[65536];
};

static void found_one(const struct cpu_obstacle *obstacle, void *data)
{
	struct found *found = data;
	size_t used = strlen(found->text);
	(void)snprintf(found->text + used, sizeof(found->text) - used, "%s: %s\n", obstacle->name,
		       obstacle->why);
}

static int compare(const struct cpu_host *from, const struct cpu_config *asked, const struct cpu_host *to,
		   struct found *found)
{
	struct err err = ERR_INIT;
	found->text[0] = '\0';
	int n = cpu_compare(from, asked, NESTED_AUTO, to, found_one, found, &err);
	ck_assert_msg(n >= 0, "%s", err.text);
	int lines = 0;
	for (const char *c = found->text; *c; c++)
		lines += *c == '\n';
	ck_assert_int_eq(lines, n);
	return n;
}

static int between(const char *from, const char *to, struct found *found)
{
	_cleanup_free_ struct cpu_host *a = host_named(from), *b = host_named(to);
	return compare(a, &all, b, found);
}

START_TEST(a_guest_runs_where_it_was_made)
{
	static struct hosts hosts;
	static struct found found;
	hosts_load(&hosts);
	for (size_t i = 0; i < hosts.count; i++)
		ck_assert_msg(compare(hosts.host[i], &all, hosts.host[i], &found) == 0, "%s: %s",
			      hosts.names[i], found.text);
	hosts_free(&hosts);
}
END_TEST

/* Cut a copy of `host` down to what changes the relation in one way or another. */
static struct cpu_host *variant(const struct cpu_host *host, int how)
{
	struct cpu_host *copy = malloc(sizeof(*copy));
	*copy = *host;
	for (uint32_t i = 0; i < copy->cpuid.count; i++) {
		struct kvm_cpuid_entry2 *e = &copy->cpuid.entries[i];
		if (how == 1 && e->function == 7 && e->index == 0)
			e->ebx &= ~(1U << 5); /* AVX2 */
		if (how == 2 && e->function == 0x80000008)
			e->eax -= 1; /* one address bit less */
		if (how == 3 && e->function == 0x8000000a)
			e->edx &= ~1U; /* NPT */
	}
	for (uint32_t i = 0; i < copy->msr_count; i++)
		if (how == 4 && copy->msrs[i].index == 0x48b)
			copy->msrs[i].value &= ~(2ULL << 32); /* EPT */
	if (how == 5)
		copy->nested_state_bytes /= 2;
	return copy;
}

START_TEST(what_runs_there_runs_where_that_runs)
{
	static struct hosts hosts;
	static struct found found;
	enum { VARIANTS = 6, MANY = HOSTS_MAX * VARIANTS };
	static struct cpu_host *host[MANY];
	static bool runs[MANY][MANY];
	size_t count = 0, pairs = 0, triples = 0;
	hosts_load(&hosts);
	for (size_t i = 0; i < hosts.count; i++)
		for (int how = 0; how < VARIANTS; how++)
			host[count++] = variant(hosts.host[i], how);
	for (size_t a = 0; a < count; a++)
		for (size_t b = 0; b < count; b++)
			pairs += runs[a][b] = compare(host[a], &all, host[b], &found) == 0;
	for (size_t a = 0; a < count; a++)
		for (size_t b = 0; b < count; b++)
			for (size_t c = 0; runs[a][b] && c < count; c++) {
				if (runs[b][c] && !runs[a][c]) /* no assertion for each of millions */
					ck_abort_msg("%s/%zu, %s/%zu, %s/%zu", hosts.names[a / VARIANTS],
						     a % VARIANTS, hosts.names[b / VARIANTS], b % VARIANTS,
						     hosts.names[c / VARIANTS], c % VARIANTS);
				triples += runs[b][c] && a != b && b != c;
			}
	ck_assert_uint_gt(pairs, count); /* more than each with itself */
	ck_assert_uint_gt(triples, 0);
	while (count)
		free(host[--count]);
	hosts_free(&hosts);
}
END_TEST

START_TEST(what_is_in_the_way_is_named)
{
	static struct found found;
	/* Up: the older part has TSX, which the newer has not. */
	ck_assert_int_gt(between("intel-skylake-server-6.1", "intel-sapphire-rapids-6.12", &found), 0);
	ck_assert_ptr_nonnull(strstr(found.text, "rtm: not offered by this host\n"));
	ck_assert_ptr_null(strstr(found.text, "tsc:")); /* that one can scale */
	ck_assert_int_gt(between("intel-sapphire-rapids-6.12", "intel-skylake-server-6.1", &found), 0);
	ck_assert_ptr_nonnull(strstr(found.text, "amx-tile: not offered by this host\n"));
	ck_assert_ptr_nonnull(strstr(found.text, "vmx-page-walk-5: not offered by this host\n"));
	ck_assert_ptr_nonnull(
		strstr(found.text, "physical address bits: the guest was told 52, there it is 46\n"));
	ck_assert_ptr_nonnull(strstr(found.text, "xsave: components 0x60000 are not there\n"));
	ck_assert_int_gt(between("intel-skylake-server-6.1", "intel-penryn-4.19", &found), 0);
	ck_assert_ptr_nonnull(strstr(found.text, "vmx-ept: not offered by this host\n"));
	ck_assert_ptr_nonnull(
		strstr(found.text, "bytes of nested state: the guest was told 8320, there it is 0\n"));
	ck_assert_ptr_nonnull(
		strstr(found.text, "tsc: the guest's runs at 2400000 kHz, there it is 2666000 kHz"));
	ck_assert_int_gt(between("amd-zen4-6.12", "amd-zen1-6.1", &found), 0);
	ck_assert_ptr_nonnull(strstr(found.text, "vnmi: not offered by this host\n"));
}
END_TEST

START_TEST(of_another_vendor_the_vendor_is_said_and_no_feature_of_it)
{
	static struct found found;
	ck_assert_int_gt(between("intel-skylake-server-6.1", "amd-zen4-6.12", &found), 0);
	ck_assert_ptr_nonnull(strstr(found.text, "vendor: the guest knows its processor as GenuineIntel, "
						 "there it is AuthenticAMD\n"));
	ck_assert_ptr_null(strstr(found.text, "vmx-"));
}
END_TEST

/* A control that the other host's KVM fixes to 1: the guest's VMCS may have it 0. */
START_TEST(a_fixed_control_is_in_the_way)
{
	static struct found found;
	_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"), *b = variant(a, 0);
	for (uint32_t i = 0; i < b->msr_count; i++)
		if (b->msrs[i].index == 0x48e)
			b->msrs[i].value |= 1 << 7; /* HLT exiting */
	ck_assert_int_eq(compare(a, &all, b, &found), 1);
	ck_assert_str_eq(found.text,
			 "MSR IA32_VMX_TRUE_PROCBASED_CTLS: control 7 has to be 1 there, and was free "
			 "here\n");
	ck_assert_int_eq(compare(b, &all, a, &found), 0);
}
END_TEST

/* The numbers of VMX's capability MSRs, one changed at a time. */
START_TEST(numbers_are_in_the_way)
{
	static const struct {
		uint32_t msr;
		uint64_t flip;
		const char *name;
	} cases[] = {
		{0x480, 1, "VMCS revision"},
		{0x480, 1ULL << 33, "VMCS size"},
		{0x480, 1ULL << 50, "VMCS memory type"},
		{0x485, 1, "VMX preemption timer rate"},
		{0x485, 1ULL << 40, "MSEG revision"},
	};
	static struct found found;
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"),
					       *b = variant(a, 0);
		for (uint32_t i = 0; i < b->msr_count; i++)
			if (b->msrs[i].index == cases[k].msr)
				b->msrs[i].value ^= cases[k].flip;
		ck_assert_int_eq(compare(a, &all, b, &found), 1);
		ck_assert_int_eq(strncmp(found.text, cases[k].name, strlen(cases[k].name)), 0);
		ck_assert_int_eq(compare(b, &all, a, &found), 1);
	}
}
END_TEST

/* Less was given, so less is in the way. */
START_TEST(a_model_moves_where_the_host_would_not)
{
	static struct found found;
	_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"),
				       *b = host_named("intel-sapphire-rapids-6.12");
	const struct cpu_config model = {.model = "baseline-intel", .tsc_khz = 2400000};
	ck_assert_msg(compare(a, &model, b, &found) == 0, "%s", found.text);
	ck_assert_msg(compare(b, &model, a, &found) == 0, "%s", found.text);
	_cleanup_free_ struct cpu_host *c = host_named("amd-zen1-6.1"), *d = host_named("amd-zen4-6.12");
	const struct cpu_config amd = {.model = "baseline-amd", .tsc_khz = 2200000};
	ck_assert_msg(compare(c, &amd, d, &found) == 0, "%s", found.text);
	ck_assert_msg(compare(d, &amd, c, &found) == 0, "%s", found.text);
}
END_TEST

/* Enlightenments are part of what the guest was told; the other host gives what it can of the same wish. */
START_TEST(an_enlightenment_is_in_the_way)
{
	static struct found found;
	const struct cpu_config asked = {.model = "host",
					 .hyperv = {.enabled = true,
						    .vendor_id = "Microsoft Hv",
						    .vpindex = true,
						    .time = true,
						    .synic = true}};
	_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"), *b = variant(a, 0);
	ck_assert_msg(compare(a, &asked, b, &found) == 0, "%s", found.text);
	for (uint32_t i = 0; i < b->hyperv.count; i++)
		if (b->hyperv.entries[i].function == 0x40000003)
			b->hyperv.entries[i].eax &= ~4U; /* SynIC MSRs */
	ck_assert_int_eq(compare(a, &asked, b, &found), 1);
	ck_assert_str_eq(found.text, "hyperv: synic cannot be given there\n");
	ck_assert_int_eq(compare(b, &asked, a, &found), 0);
	ck_assert_int_eq(compare(a, &all, b, &found), 0); /* without Hyper-V it does not matter */
}
END_TEST

/* The set of features that each host gives with `config`. */
static size_t given(const struct cpu_host *host, const struct cpu_config *config, bool *flags)
{
	static struct cpu_model model;
	static struct cpu_report report;
	struct err err = ERR_INIT;
	size_t count = 0;
	ck_assert_msg(cpu_resolve(host, config, NESTED_AUTO, &model, &report, &err) == 0, "%s", err.text);
	for (size_t i = 0; i < cpu_feature_count(); i++)
		count += flags[i] = report.features[i].fate == CPU_GIVEN;
	return count;
}

/* For every pair: the baseline is what both have in common, gives the same on both, and runs on both. */
START_TEST(a_baseline_runs_on_all_and_leaves_nothing_out)
{
	static struct hosts hosts;
	static struct found found;
	static struct cpu_config config;
	size_t good = 0, refused = 0;
	hosts_load(&hosts);
	for (size_t a = 0; a < hosts.count; a++) {
		for (size_t b = a; b < hosts.count; b++) {
			const struct cpu_host *pair[] = {hosts.host[a], hosts.host[b]};
			const char *names[] = {hosts.names[a], hosts.names[b]};
			static bool on_a[CPU_FEATURES_MAX], on_b[CPU_FEATURES_MAX], all_a[CPU_FEATURES_MAX],
				all_b[CPU_FEATURES_MAX];
			struct err err = ERR_INIT;
			if (cpu_baseline(pair, names, 2, &config, &err)) {
				ck_assert_int_eq(err.code, -EOPNOTSUPP);
				ck_assert_ptr_nonnull(
					strstr(err.text, "no processor is common to all: from "));
				refused++;
				continue;
			}
			ck_assert_uint_eq(given(pair[0], &config, on_a), given(pair[1], &config, on_b));
			(void)given(pair[0], &all, all_a);
			(void)given(pair[1], &all, all_b);
			for (size_t i = 0; i < cpu_feature_count(); i++)
				ck_assert_msg(on_a[i] == (all_a[i] && all_b[i]) && on_a[i] == on_b[i],
					      "%s, %s: %s", names[0], names[1], cpu_feature_at(i)->name);
			ck_assert_msg(compare(pair[0], &config, pair[1], &found) == 0, "%s", found.text);
			ck_assert_msg(compare(pair[1], &config, pair[0], &found) == 0, "%s", found.text);
			good++;
		}
	}
	ck_assert_uint_gt(good, hosts.count);
	ck_assert_uint_gt(refused, 0); /* those of different vendors */
	hosts_free(&hosts);
}
END_TEST

START_TEST(a_baseline_of_different_vendors_says_so)
{
	_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"),
				       *b = host_named("amd-zen1-6.1");
	const struct cpu_host *pair[] = {a, b};
	const char *names[] = {"x.json", "y.json"};
	static struct cpu_config config;
	struct err err = ERR_INIT;
	ck_assert_int_eq(cpu_baseline(pair, names, 2, &config, &err), -EOPNOTSUPP);
	ck_assert_str_eq(err.text,
			 "no processor is common to all: from x.json to y.json: vendor: the guest knows its "
			 "processor as GenuineIntel, there it is AuthenticAMD");
}
END_TEST

START_TEST(a_baseline_fixes_the_tsc_where_rates_differ)
{
	_cleanup_free_ struct cpu_host *a = host_named("intel-skylake-server-6.1"),
				       *b = host_named("intel-sapphire-rapids-6.12");
	const struct cpu_host *pair[] = {a, b};
	const char *names[] = {"x", "y"};
	static struct cpu_config config;
	struct err err = ERR_INIT;
	ck_assert_int_eq(cpu_baseline(pair, names, 2, &config, &err), 0);
	ck_assert_uint_eq(config.tsc_khz, 2000000);
	a->tsc_control = false; /* then its own rate it is */
	ck_assert_int_eq(cpu_baseline(pair, names, 2, &config, &err), 0);
	ck_assert_uint_eq(config.tsc_khz, 2400000);
	b->tsc_control = false;
	ck_assert_int_eq(cpu_baseline(pair, names, 2, &config, &err), -EOPNOTSUPP);
	ck_assert_ptr_nonnull(strstr(err.text, "tsc: "));
}
END_TEST

TEST_MAIN("cpu/compare", a_guest_runs_where_it_was_made, what_runs_there_runs_where_that_runs,
	  what_is_in_the_way_is_named, of_another_vendor_the_vendor_is_said_and_no_feature_of_it,
	  a_fixed_control_is_in_the_way, numbers_are_in_the_way, a_model_moves_where_the_host_would_not,
	  an_enlightenment_is_in_the_way, a_baseline_runs_on_all_and_leaves_nothing_out,
	  a_baseline_of_different_vendors_says_so, a_baseline_fixes_the_tsc_where_rates_differ)
