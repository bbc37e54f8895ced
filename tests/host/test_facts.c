/* Guards: facts come from the tree that was named and from nowhere else, and what is missing is unknown, not
 * no. */
#include "harness.h"
#include "host/facts.h"
#include "scratch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DATA "tests/data/doctor/"

static struct host_facts facts_of(const char *root)
{
	struct host_facts facts;
	struct err err = ERR_INIT;
	ck_assert_msg(host_facts_gather(root, &facts, &err) == 0, "%s", err.text);
	return facts;
}

START_TEST(intel_host_is_read)
{
	struct host_facts facts = facts_of(DATA "intel-shadow-off");
	ck_assert_str_eq(facts.release, "6.1.0-50-cloud-amd64");
	ck_assert_str_eq(facts.cpu.model, "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz");
	ck_assert(facts.cpu.vmx && !facts.cpu.svm);
	ck_assert_int_eq(facts.cpu.shadow_vmcs, HOST_YES);
	ck_assert_int_eq(facts.params.shadow_vmcs, HOST_NO);
	ck_assert_int_eq(facts.params.nested, HOST_YES);
	ck_assert_int_eq(facts.params.npt, HOST_UNKNOWN);
	ck_assert_int_eq(facts.flavour, HOST_FLAVOUR_VMX);
	ck_assert_int_eq(facts.dev.nested_state_bytes, 8320);
	ck_assert_int_eq(facts.dev.offers, HOST_EXTENSION_VMX);
	ck_assert_str_eq(host_facts_module_name(&facts), "kvm_intel");
	ck_assert(host_facts_module(&facts) == &facts.kvm_intel);
	ck_assert(facts.kvm_intel.present && facts.kvm_intel.loadable && facts.kvm_intel.installed);
	ck_assert(!facts.kvm_amd.present && facts.kvm_amd.installed && !facts.kvm_pvm.installed);
	ck_assert_uint_eq(facts.pages_2m.free, 1024);
}
END_TEST

START_TEST(amd_writes_its_parameters_as_numbers)
{
	struct host_facts facts = facts_of(DATA "amd-npt-off");
	ck_assert_int_eq(facts.params.nested, HOST_YES);
	ck_assert_int_eq(facts.params.npt, HOST_NO);
	ck_assert_int_eq(facts.cpu.npt, HOST_YES);
	ck_assert_int_eq(facts.flavour, HOST_FLAVOUR_SVM);
	ck_assert_str_eq(host_facts_module_name(&facts), "kvm_amd");
}
END_TEST

/* A root of one file; the caller removes it with forget_tree. */
static void make_tree(char root[static 64], const char *folder, const char *name, const char *text)
{
	char path[96];
	ck_assert_ptr_nonnull(scratch_folder(root, 64, "facts-XXXXXX"));
	(void)snprintf(path, sizeof(path), "%s/%s", root, folder);
	ck_assert(folder[0] == '\0' || mkdir(path, 0755) == 0);
	(void)snprintf(path, sizeof(path), "%s/%s/%s", root, folder, name);
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void forget_tree(const char *root)
{
	char command[64];
	(void)snprintf(command, sizeof(command), "rm -r %s", root);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(flags_are_whole_words)
{
	char root[64];
	make_tree(root, "proc", "cpuinfo",
		  "vendor_id\t: AuthenticAMD\nflags\t\t: fpu x2avic svm_lock vmx\n"
		  "vmx flags\t: ept_ad ept_1gb xvpid\n\nflags\t\t: svm\n");
	struct host_facts facts = facts_of(root);
	ck_assert(facts.cpu.vmx && !facts.cpu.svm);
	ck_assert_int_eq(facts.cpu.avic, HOST_NO);
	ck_assert_int_eq(facts.cpu.ept, HOST_NO);
	ck_assert_int_eq(facts.cpu.vpid, HOST_NO);
	forget_tree(root);
}
END_TEST

START_TEST(before_linux_5_9_shadowing_is_unknown)
{
	struct host_facts facts = facts_of(DATA "intel-no-shadow-param");
	ck_assert_int_eq(facts.cpu.shadow_vmcs, HOST_UNKNOWN);
	ck_assert_int_eq(facts.params.shadow_vmcs, HOST_UNKNOWN);
	ck_assert_int_eq(facts.cpu.ept, HOST_YES);
}
END_TEST

START_TEST(pvm_is_known_by_its_module_and_without_it)
{
	struct host_facts facts = facts_of(DATA "pvm");
	ck_assert(facts.kvm_pvm.present && !facts.kvm_pvm.loadable);
	ck_assert_int_eq(facts.flavour, HOST_FLAVOUR_PVM);
	ck_assert_int_eq(facts.dev.open_error, 0);
	ck_assert_int_eq(facts.outer, HOST_OUTER_KVM);

	char root[64];
	make_tree(root, "", "aerie-facts", "kvm_open=ok\nkvm_api=12\n");
	facts = facts_of(root);
	ck_assert_int_eq(facts.flavour, HOST_FLAVOUR_PVM);
	forget_tree(root);
}
END_TEST

START_TEST(the_last_signature_names_the_hypervisor)
{
	struct host_facts xen = facts_of(DATA "under-xen"), kvm = facts_of(DATA "under-kvm-amd");
	struct host_facts other = facts_of(DATA "under-other"), none = facts_of(DATA "intel-fine");
	ck_assert_str_eq(host_facts_outer_name(&xen), "Xen");
	ck_assert_str_eq(host_facts_outer_name(&kvm), "KVM");
	ck_assert_str_eq(host_facts_outer_name(&other), "SRESRESRESRE");
	ck_assert_ptr_null(host_facts_outer_name(&none));
	struct host_facts pvm = facts_of(DATA "under-pvm");
	ck_assert_str_eq(host_facts_outer_name(&pvm), "PVM");
}
END_TEST

START_TEST(empty_tree_knows_nothing)
{
	struct host_facts facts = facts_of(DATA "nothing");
	ck_assert_str_eq(facts.release, "");
	ck_assert_int_eq(facts.dev.open_error, -ENOENT);
	ck_assert_int_eq(facts.dev.offers, HOST_EXTENSION_UNKNOWN);
	ck_assert_int_eq(facts.cpu.ept, HOST_UNKNOWN);
	ck_assert_int_eq(facts.params.nested, HOST_UNKNOWN);
	ck_assert_int_eq(facts.flavour, HOST_FLAVOUR_NONE);
	ck_assert_ptr_null(host_facts_module_name(&facts));
	ck_assert_ptr_null(host_facts_module(&facts));
}
END_TEST

START_TEST(bad_record_names_file_and_line)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"kvm_open=ok\nkvm_api=twelve\n", "/aerie-facts:2: \"kvm_api=twelve\" is not understood"},
		{"kvm_open=EWHAT\n", "/aerie-facts:1: \"kvm_open=EWHAT\" is not understood"},
		{"colour=blue\n", "/aerie-facts:1: \"colour=blue\" is not understood"},
		{"kvm_open\n", "/aerie-facts:1: \"kvm_open\" is not understood"},
		{"# fine\n\nhypervisor=ThirteenChars\n",
		 "/aerie-facts:3: \"hypervisor=ThirteenChars\" is not understood"},
		{"firmware=\n", "/aerie-facts:1: \"firmware=\" is not understood"},
		{"kvm_nested_state=99999999999\n",
		 "/aerie-facts:1: \"kvm_nested_state=99999999999\" is not understood"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct host_facts facts;
		struct err err = ERR_INIT;
		char root[64];
		make_tree(root, "", "aerie-facts", bad[i].text);
		ck_assert_int_eq(host_facts_gather(root, &facts, &err), -EINVAL);
		ck_assert_msg(strncmp(err.text, root, strlen(root)) == 0, "%s", err.text);
		ck_assert_str_eq(err.text + strlen(root), bad[i].message);
		forget_tree(root);
	}
}
END_TEST

START_TEST(missing_root_is_an_error)
{
	struct host_facts facts;
	struct err err = ERR_INIT;
	ck_assert_int_eq(host_facts_gather("/no/such/folder", &facts, &err), -ENOENT);
	ck_assert_str_eq(err.text, "/no/such/folder: No such file or directory");
}
END_TEST

/* This machine, whatever it is: the facts must agree with each other and with /dev/kvm. */
START_TEST(this_machine_is_consistent)
{
	struct host_facts facts = facts_of(NULL);
	bool opens = access("/dev/kvm", R_OK | W_OK) == 0;
	ck_assert_str_ne(facts.release, "");
	ck_assert_int_ne(facts.cpu.cpuid, HOST_EXTENSION_UNKNOWN);
	if (facts.cpu.vmx)
		ck_assert_int_eq(facts.cpu.cpuid, HOST_EXTENSION_VMX);
	if (facts.cpu.svm)
		ck_assert_int_eq(facts.cpu.cpuid, HOST_EXTENSION_SVM);
	if (opens && facts.dev.open_error == 0)
		ck_assert_int_eq(facts.dev.api, 12);
	if (!opens)
		ck_assert_int_lt(facts.dev.open_error, 0);
}
END_TEST

TEST_MAIN("facts", intel_host_is_read, amd_writes_its_parameters_as_numbers, flags_are_whole_words,
	  before_linux_5_9_shadowing_is_unknown, pvm_is_known_by_its_module_and_without_it,
	  the_last_signature_names_the_hypervisor, empty_tree_knows_nothing, bad_record_names_file_and_line,
	  missing_root_is_an_error, this_machine_is_consistent)
