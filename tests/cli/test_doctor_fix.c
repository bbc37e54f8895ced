/*
 * Guards of --fix: a module in use is never unloaded, a failed load leaves KVM as it was, and what stands in
 * modprobe.d stays. Runs on copies of recorded hosts; modprobe is a fake that changes the copy as the kernel
 * would.
 */
#include "harness.h"
#include "scratch.h"

#include "../../src/cli/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fake {
	char root[64];
	char log[512];	      /* commands, each ended by a newline */
	const char *fails_at; /* the command that fails, or NULL */
	bool loads_without;   /* the load succeeds, but nested stays off */
};

static void write_file(const char *root, const char *path, const char *text)
{
	char full[256];
	(void)snprintf(full, sizeof(full), "%s/%s", root, path);
	FILE *file = fopen(full, "w");
	ck_assert_msg(file != NULL, "%s: %s", full, strerror(errno));
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static const char *read_text(const char *root, const char *path)
{
	static char text[2048];
	char full[256];
	(void)snprintf(full, sizeof(full), "%s/%s", root, path);
	FILE *file = fopen(full, "r");
	size_t used = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
	text[used] = '\0';
	if (file)
		(void)fclose(file);
	return text;
}

static void run_shell(const char *fmt, const char *a, const char *b)
{
	char command[256];
	(void)snprintf(command, sizeof(command), fmt, a, b);
	ck_assert_int_eq(system(command), 0);
}

static int fake_modprobe(void *opaque, const char *const argv[])
{
	struct fake *fake = opaque;
	char command[128] = "";
	for (; *argv; argv++) {
		size_t used = strlen(command);
		(void)snprintf(command + used, sizeof(command) - used, "%s%s", used ? " " : "", *argv);
	}
	size_t logged = strlen(fake->log);
	(void)snprintf(fake->log + logged, sizeof(fake->log) - logged, "%s\n", command);
	if (fake->fails_at && strcmp(command, fake->fails_at) == 0)
		return 1;
	if (strstr(command, "nested=1") && !fake->loads_without) {
		const char *module = strstr(command, "kvm_amd") ? "kvm_amd" : "kvm_intel";
		char path[128];
		run_shell("mkdir -p %s/sys/module/%s/parameters", fake->root, module);
		(void)snprintf(path, sizeof(path), "sys/module/%s/parameters/nested", module);
		write_file(fake->root, path, "Y\n");
	}
	return 0;
}

static struct doctor_case patient_from(const char *name, struct fake *fake)
{
	struct doctor_case patient;
	struct err err = ERR_INIT;
	*fake = (struct fake){0};
	ck_assert_ptr_nonnull(scratch_folder(fake->root, sizeof(fake->root), "doctor-XXXXXX"));
	run_shell("cp -a tests/data/doctor/%s/. %s", name, fake->root);
	patient.root = fake->root;
	ck_assert_int_eq(host_facts_gather(fake->root, &patient.facts, &err), 0);
	return patient;
}

static void fix(struct doctor_case *patient, struct fake *fake, bool persist, struct findings *done)
{
	struct doctor_runner runner = {.run = fake_modprobe, .opaque = fake};
	doctor_fix(patient, &runner, persist, done);
}

static void forget(struct fake *fake)
{
	run_shell("rm -rf %s%s", fake->root, "");
}

static const struct finding *find(const struct findings *findings, const char *id)
{
	for (size_t i = 0; i < findings->count; i++)
		if (strcmp(findings->list[i].id, id) == 0)
			return &findings->list[i];
	ck_abort_msg("no finding %s", id);
	return NULL;
}

START_TEST(intel_is_reloaded_with_nesting_and_shadowing)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log,
			 "modprobe -r kvm_intel\nmodprobe kvm_intel nested=1 enable_shadow_vmcs=1\n");
	ck_assert_uint_eq(findings_with(&done, FINDING_FAIL), 0);
	ck_assert_str_eq(find(&done, "reload")->fact, "kvm_intel now runs with nested=1");
	ck_assert_int_eq(patient.facts.params.nested, HOST_YES);
	ck_assert_str_eq(read_text(fake.root, MODPROBE_OWN_FILE), "");
	forget(&fake);
}
END_TEST

START_TEST(intel_with_nesting_is_reloaded_for_shadowing)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-shadow-off", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log,
			 "modprobe -r kvm_intel\nmodprobe kvm_intel nested=1 enable_shadow_vmcs=1\n");
	forget(&fake);
}
END_TEST

START_TEST(amd_is_reloaded_with_nesting_alone)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("amd-nested-off", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "modprobe -r kvm_amd\nmodprobe kvm_amd nested=1\n");
	forget(&fake);
}
END_TEST

START_TEST(absent_module_is_only_loaded)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("module-not-loaded", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "modprobe kvm_intel nested=1 enable_shadow_vmcs=1\n");
	forget(&fake);
}
END_TEST

START_TEST(nothing_to_fix_runs_nothing)
{
	static const char *const hosts[] = {"intel-fine",	  "amd-fine",
					    "intel-no-shadow",	  "intel-no-shadow-param",
					    "under-hyperv-intel", "pvm"};
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct fake fake;
		struct findings done;
		struct doctor_case patient = patient_from(hosts[i], &fake);
		fix(&patient, &fake, false, &done);
		ck_assert_msg(fake.log[0] == '\0', "%s ran %s", hosts[i], fake.log);
		ck_assert_uint_eq(done.count, 1);
		forget(&fake);
	}
}
END_TEST

START_TEST(module_in_use_is_refused_with_its_users)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-in-use", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_int_eq(find(&done, "in-use")->status, FINDING_FAIL);
	ck_assert_str_eq(find(&done, "in-use")->fact,
			 "kvm_intel is in use by qemu-system-x86 (pid 4711), aerie (pid 10022)");
	forget(&fake);
}
END_TEST

START_TEST(users_that_cannot_be_seen_still_refuse)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-in-use", &fake);
	run_shell("rm -rf %s/proc/4711 %s/proc/10022", fake.root, fake.root);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_str_eq(find(&done, "in-use")->fact,
			 "kvm_intel has 3 users; only root sees which processes they are");
	forget(&fake);
}
END_TEST

START_TEST(module_held_by_a_module_is_refused)
{
	struct fake fake;
	struct findings done;
	struct err err = ERR_INIT;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	run_shell("mkdir -p %s/sys/module/kvm_intel/holders/kvmgt%s", fake.root, "");
	ck_assert_int_eq(host_facts_gather(fake.root, &patient.facts, &err), 0);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_str_eq(find(&done, "in-use")->fact, "kvm_intel is in use by the modules kvmgt");
	forget(&fake);
}
END_TEST

START_TEST(built_in_module_is_refused_with_the_command_line)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-built-in", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_str_eq(find(&done, "reload")->remedy, "kvm_intel.nested=1 kvm_intel.enable_shadow_vmcs=1");
	forget(&fake);
}
END_TEST

START_TEST(kernel_that_cannot_unload_is_told_to_persist)
{
	struct fake fake;
	struct findings done;
	struct err err = ERR_INIT;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	run_shell("rm %s/sys/module/kvm_intel/refcnt%s", fake.root, "");
	ck_assert_int_eq(host_facts_gather(fake.root, &patient.facts, &err), 0);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_str_eq(find(&done, "reload")->fact, "this kernel cannot unload modules");
	ck_assert_str_eq(find(&done, "reload")->remedy, "aerie doctor --fix --persist");
	forget(&fake);
}
END_TEST

START_TEST(pvm_is_not_pushed_aside)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("pvm-on-hardware", &fake);
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_str_eq(find(&done, "reload")->fact, "kvm_pvm has taken the place of kvm_intel");
	forget(&fake);
}
END_TEST

START_TEST(failed_unload_stops_there)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	fake.fails_at = "modprobe -r kvm_intel";
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "modprobe -r kvm_intel\n");
	ck_assert_str_eq(find(&done, "run")->fact, "modprobe -r kvm_intel: exit code 1");
	ck_assert_uint_eq(findings_with(&done, FINDING_FAIL), 1);
	forget(&fake);
}
END_TEST

START_TEST(failed_load_puts_the_module_back)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	fake.fails_at = "modprobe kvm_intel nested=1 enable_shadow_vmcs=1";
	fix(&patient, &fake, false, &done);
	ck_assert_str_eq(fake.log, "modprobe -r kvm_intel\nmodprobe kvm_intel nested=1 enable_shadow_vmcs=1\n"
				   "modprobe kvm_intel\n");
	ck_assert_uint_eq(findings_with(&done, FINDING_FAIL), 1);
	forget(&fake);
}
END_TEST

START_TEST(load_that_changed_nothing_is_a_failure)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-nested-off", &fake);
	fake.loads_without = true;
	fix(&patient, &fake, false, &done);
	ck_assert_int_eq(find(&done, "reload")->status, FINDING_FAIL);
	forget(&fake);
}
END_TEST

START_TEST(persist_writes_its_own_file_once)
{
	static const char expected[] =
		"# Written by `aerie doctor --fix --persist`: guests may run guests of their own.\n"
		"options kvm_intel nested=1 enable_shadow_vmcs=1\n";
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-fine", &fake);
	for (int i = 0; i < 3; i++) {
		fix(&patient, &fake, true, &done);
		ck_assert_str_eq(read_text(fake.root, MODPROBE_OWN_FILE), expected);
		ck_assert_str_eq(find(&done, "persist")->fact,
				 i ? MODPROBE_OWN_FILE " says so already" : MODPROBE_OWN_FILE " written");
	}
	forget(&fake);
}
END_TEST

START_TEST(persist_keeps_every_line_that_was_there)
{
	static const char before[] = "# mine\noptions kvm_intel nested=0 ept=1\noptions vfio enable=1";
	char after[256];
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-fine", &fake);
	run_shell("mkdir -p %s/etc/modprobe.d%s", fake.root, "");
	write_file(fake.root, MODPROBE_OWN_FILE, before);
	(void)snprintf(after, sizeof(after), "%s\noptions kvm_intel nested=1 enable_shadow_vmcs=1\n", before);
	for (int i = 0; i < 2; i++) {
		fix(&patient, &fake, true, &done);
		ck_assert_str_eq(read_text(fake.root, MODPROBE_OWN_FILE), after);
	}
	forget(&fake);
}
END_TEST

START_TEST(persist_names_files_that_say_the_opposite)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("modprobe-off", &fake);
	fix(&patient, &fake, true, &done);
	const struct finding *conflict = find(&done, "persist-conflict");
	ck_assert_int_eq(conflict->status, FINDING_WARN);
	ck_assert_str_eq(conflict->fact, "/etc/modprobe.d/kvm.conf:4 sets the opposite, nested=0, and wins");
	ck_assert_str_eq(
		read_text(fake.root, "etc/modprobe.d/kvm.conf"),
		"# set by hand\noptions kvm ignore_msrs=0\noptions kvm-intel ept=1 \\\n\tnested=0\n");
	write_file(fake.root, "etc/modprobe.d/kvm.conf", "options kvm_intel nested=1\n");
	write_file(fake.root, "etc/modprobe.d/a.conf", "options kvm_intel nested=N enable-shadow-vmcs=off\n");
	fix(&patient, &fake, true, &done);
	ck_assert_uint_eq(findings_with(&done, FINDING_WARN), 2);
	ck_assert_str_eq(find(&done, "persist-conflict")->fact,
			 "/etc/modprobe.d/a.conf:1 sets the opposite, nested=0, and loses");
	forget(&fake);
}
END_TEST

START_TEST(persist_happens_also_when_the_module_is_in_use)
{
	struct fake fake;
	struct findings done;
	struct doctor_case patient = patient_from("intel-in-use", &fake);
	fix(&patient, &fake, true, &done);
	ck_assert_str_eq(fake.log, "");
	ck_assert_ptr_nonnull(strstr(read_text(fake.root, MODPROBE_OWN_FILE), "nested=1"));
	forget(&fake);
}
END_TEST

START_TEST(settings_come_in_the_order_that_modprobe_takes)
{
	struct fake fake;
	struct modprobe_settings settings;
	(void)patient_from("modprobe-off", &fake);
	write_file(fake.root, "etc/modprobe.d/ignored.txt", "options kvm_intel nested=1\n");
	write_file(fake.root, "usr/lib/modprobe.d/zz.conf",
		   "options kvm_amd nested=1\n\noptions\tkvm-intel nested\n");
	ck_assert_int_eq(modprobe_settings_read(fake.root, "kvm_intel", "nested", &settings), 0);
	ck_assert_uint_eq(settings.count, 2); /* /etc hides the kvm.conf of /usr/lib */
	ck_assert_str_eq(settings.list[0].file, "/etc/modprobe.d/kvm.conf");
	ck_assert(!settings.list[0].on);
	ck_assert_str_eq(settings.list[1].file, "/usr/lib/modprobe.d/zz.conf");
	ck_assert_int_eq(settings.list[1].line, 3);
	ck_assert(settings.list[1].on);
	forget(&fake);
}
END_TEST

START_TEST(spawned_program_gives_its_exit_code)
{
	const struct doctor_runner *spawn = &doctor_runner_spawn;
	ck_assert_int_eq(spawn->run(NULL, (const char *const[]){"true", NULL}), 0);
	ck_assert_int_eq(spawn->run(NULL, (const char *const[]){"sh", "-c", "exit 7", NULL}), 7);
	ck_assert_int_eq(spawn->run(NULL, (const char *const[]){"sh", "-c", "kill -9 $$", NULL}), -EINTR);
	ck_assert_int_eq(spawn->run(NULL, (const char *const[]){"no-such-program", NULL}), -ENOENT);
}
END_TEST

TEST_MAIN("doctor_fix", intel_is_reloaded_with_nesting_and_shadowing,
	  intel_with_nesting_is_reloaded_for_shadowing, amd_is_reloaded_with_nesting_alone,
	  absent_module_is_only_loaded, nothing_to_fix_runs_nothing, module_in_use_is_refused_with_its_users,
	  users_that_cannot_be_seen_still_refuse, module_held_by_a_module_is_refused,
	  built_in_module_is_refused_with_the_command_line, kernel_that_cannot_unload_is_told_to_persist,
	  pvm_is_not_pushed_aside, failed_unload_stops_there, failed_load_puts_the_module_back,
	  load_that_changed_nothing_is_a_failure, persist_writes_its_own_file_once,
	  persist_keeps_every_line_that_was_there, persist_names_files_that_say_the_opposite,
	  persist_happens_also_when_the_module_is_in_use, settings_come_in_the_order_that_modprobe_takes,
	  spawned_program_gives_its_exit_code)
