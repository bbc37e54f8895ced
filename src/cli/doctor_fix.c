#include "base/cleanup.h"
#include "doctor.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* modprobe lives in /sbin, which is not in everybody's PATH. */
static int spawn_and_wait(void *opaque, const char *const argv[])
{
	(void)opaque;
	char path[64];
	pid_t pid;
	int status;
	(void)snprintf(path, sizeof(path), "/sbin/%s", argv[0]);
	int error = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
	if (error == ENOENT)
		error = posix_spawn(&pid, path, NULL, NULL, (char *const *)argv, environ);
	if (error)
		return -error;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

const struct doctor_runner doctor_runner_spawn = {.run = spawn_and_wait};

#define COMMAND_MAX 8

struct command {
	const char *argv[COMMAND_MAX];
};

static struct command command_unload(const char *module)
{
	return (struct command){{"modprobe", "-r", module}};
}

static struct command command_load(const char *module, const char *const *options)
{
	struct command command = {{"modprobe", module}};
	for (size_t i = 2; options && *options && i < COMMAND_MAX - 1; i++)
		command.argv[i] = *options++;
	return command;
}

static void command_print(const struct command *command, char *text, size_t size)
{
	text[0] = '\0';
	for (const char *const *word = command->argv; *word; word++) {
		size_t used = strlen(text);
		(void)snprintf(text + used, size - used, "%s%s", used ? " " : "", *word);
	}
}

/* Runs one command and notes it. Without a runner it notes what would run, and counts as done. */
static bool step(const struct doctor_runner *runner, const struct command *command, struct findings *done)
{
	char text[160];
	struct finding *finding = findings_add(done, "run");
	command_print(command, text, sizeof(text));
	if (!runner) {
		finding_say(finding, FINDING_WARN, "not run, because another root is examined: %s", text);
		return true;
	}
	int r = runner->run(runner->opaque, command->argv);
	if (r == 0)
		finding_say(finding, FINDING_OK, "%s", text);
	else if (r < 0)
		finding_say(finding, FINDING_FAIL, "%s: %s", text, strerror(-r));
	else
		finding_say(finding, FINDING_FAIL, "%s: exit code %d", text, r);
	if (r != 0)
		finding_remedy(finding, "dmesg | grep -i kvm | tail");
	return r == 0;
}

/* Reasons not to touch the module */

static bool nests_already(const struct host_facts *facts)
{
	if (!host_facts_module(facts)->present || facts->params.nested != HOST_YES)
		return false;
	return !facts->cpu.vmx || facts->params.shadow_vmcs != HOST_NO || facts->cpu.shadow_vmcs == HOST_NO;
}

static bool module_in_use(const struct doctor_case *patient, struct findings *done)
{
	const char *name = host_facts_module_name(&patient->facts);
	const struct host_module *module = host_facts_module(&patient->facts);
	char processes[256];
	size_t users = doctor_kvm_users(patient->root, processes, sizeof(processes));
	if (users == 0 && module->refcnt <= 0 && !module->holders[0])
		return false;
	struct finding *finding = findings_add(done, "in-use");
	if (users > 0)
		finding_say(finding, FINDING_FAIL, "%s is in use by %s", name, processes);
	else if (module->holders[0])
		finding_say(finding, FINDING_FAIL, "%s is in use by the modules %s", name, module->holders);
	else
		finding_say(finding, FINDING_FAIL, "%s has %d users; only root sees which processes they are",
			    name, module->refcnt);
	finding_where(finding, "end them, then");
	finding_remedy(finding, "aerie doctor --fix");
	return true;
}

/* Whether the kernel and this user could reload the module at all; else *done says why not. */
static bool can_reload(const struct host_facts *facts, const struct doctor_runner *runner,
		       struct findings *done)
{
	const struct host_module *module = host_facts_module(facts);
	const char *name = host_facts_module_name(facts);
	struct finding *finding = findings_add(done, "reload");
	if (module->present && !module->loadable) {
		finding_say(finding, FINDING_FAIL, "%s is built into the kernel and cannot be reloaded",
			    name);
		finding_remedy_reload(finding, facts, NULL);
	} else if (module->present && module->refcnt < 0) {
		finding_say(finding, FINDING_FAIL, "this kernel cannot unload modules");
		finding_where(finding, "as root; then reboot");
		finding_remedy(finding, "aerie doctor --fix --persist");
	} else if (facts->flavour == HOST_FLAVOUR_PVM) {
		finding_say(finding, FINDING_FAIL, "kvm_pvm has taken the place of %s", name);
		finding_remedy(finding, "modprobe -r kvm_pvm && aerie doctor --fix");
	} else if (runner == &doctor_runner_spawn && geteuid() != 0) {
		finding_say(finding, FINDING_FAIL, "only root may load modules");
		finding_remedy(finding, "aerie doctor --fix");
	} else {
		done->count--; /* nothing to say */
		return true;
	}
	return false;
}

/* True when there is something to reload and nothing against it. */
static bool may_reload(const struct doctor_case *patient, const struct doctor_runner *runner,
		       struct findings *done)
{
	const struct host_facts *facts = &patient->facts;
	if (nests_already(facts)) {
		finding_say(findings_add(done, "reload"), FINDING_OK, "%s runs with %s already",
			    host_facts_module_name(facts),
			    facts->cpu.vmx ? "nested=1 and VMCS shadowing, as far as the CPU has it,"
					   : "nested=1");
		return false;
	}
	if (host_facts_module(facts)->present && module_in_use(patient, done))
		return false;
	return can_reload(facts, runner, done);
}

static void verify(struct doctor_case *patient, struct findings *done)
{
	struct err err = ERR_INIT;
	struct finding *finding = findings_add(done, "reload");
	if (host_facts_gather(patient->root, &patient->facts, &err) < 0) {
		finding_say(finding, FINDING_FAIL, "%s", err.text);
		return;
	}
	bool nests = patient->facts.params.nested == HOST_YES;
	finding_say(finding, nests ? FINDING_OK : FINDING_FAIL, "%s now runs with nested=%d",
		    host_facts_module_name(&patient->facts), nests);
}

static void reload(struct doctor_case *patient, const struct doctor_runner *runner, struct findings *done)
{
	const struct host_facts *facts = &patient->facts;
	const char *name = host_facts_module_name(facts);
	bool loaded = host_facts_module(facts)->present;
	struct command unload = command_unload(name), load = command_load(name, doctor_module_options(facts));
	if (!may_reload(patient, runner, done) || (loaded && !step(runner, &unload, done)))
		return;
	if (!step(runner, &load, done)) {
		struct command as_it_was = command_load(name, NULL);
		if (loaded)
			(void)step(runner, &as_it_was, done); /* rather KVM without nesting than none */
		return;
	}
	if (runner)
		verify(patient, done);
}

/* Modprobe hands over all settings and the last one wins; ours does not stand last in every folder. */
static void warn_of_opposites(const struct doctor_case *patient, const char *module, const char *option,
			      struct findings *done)
{
	char name[64];
	struct modprobe_settings settings;
	(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(option, "="), option);
	if (modprobe_settings_read(patient->root, module, name, &settings) < 0)
		return;
	for (size_t i = 0; i < settings.count; i++) {
		const struct modprobe_setting *setting = &settings.list[i];
		if (setting->on || strcmp(setting->file, MODPROBE_OWN_FILE) == 0)
			continue;
		struct finding *finding = findings_add(done, "persist-conflict");
		finding_say(finding, FINDING_WARN, "%s:%d sets the opposite, %s=0, and %s", setting->file,
			    setting->line, name, settings.list[settings.count - 1].on ? "loses" : "wins");
		finding_remedy(finding, "sed -i 's/\\b%s=[0Nn]/%s=1/' %s", name, name, setting->file);
	}
}

static void make_persistent(const struct doctor_case *patient, struct findings *done)
{
	const char *module = host_facts_module_name(&patient->facts);
	const char *const *options = doctor_module_options(&patient->facts);
	struct err err = ERR_INIT;
	struct finding *finding = findings_add(done, "persist");
	int r = modprobe_own_file_write(patient->root, module, options, &err);
	if (r < 0)
		finding_say(finding, FINDING_FAIL, "%s", err.text);
	else
		finding_say(finding, FINDING_OK, MODPROBE_OWN_FILE " %s", r ? "written" : "says so already");
	if (r == -EACCES || r == -EPERM || r == -EROFS)
		finding_remedy(finding, "aerie doctor --fix --persist");
	for (; *options; options++)
		warn_of_opposites(patient, module, *options, done);
}

void doctor_fix(struct doctor_case *patient, const struct doctor_runner *runner, bool persist,
		struct findings *done)
{
	*done = (struct findings){0};
	if (!facts_extension_visible(&patient->facts)) {
		finding_say(findings_add(done, "reload"), FINDING_FAIL,
			    "nothing to fix here: the CPU shows neither vmx nor svm; see host and cpu");
		return;
	}
	reload(patient, runner, done);
	if (persist)
		make_persistent(patient, done);
}
