#include "base/cleanup.h"
#include "doctor.h"
#include "host/advisory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KVM_API 12 /* KVM's documentation: refuse to run with any other */

struct finding *findings_add(struct findings *findings, const char *id)
{
	struct finding *finding = &findings->list[findings->count];
	if (findings->count < FINDINGS_MAX - 1)
		findings->count++;
	*finding = (struct finding){.id = id};
	return finding;
}

void finding_say(struct finding *finding, enum finding_status status, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	finding->status = status;
	(void)vsnprintf(finding->fact, sizeof(finding->fact), fmt, args);
	va_end(args);
}

void finding_remedy(struct finding *finding, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(finding->remedy, sizeof(finding->remedy), fmt, args);
	va_end(args);
}

void finding_where(struct finding *finding, const char *where)
{
	(void)snprintf(finding->where, sizeof(finding->where), "%s", where);
}

size_t findings_with(const struct findings *findings, enum finding_status status)
{
	size_t count = 0;
	for (size_t i = 0; i < findings->count; i++)
		count += findings->list[i].status == status;
	return count;
}

bool facts_extension_visible(const struct host_facts *facts)
{
	return facts->cpu.vmx || facts->cpu.svm;
}

/* Straight from the CPU: there, even if Linux hides it because the firmware switched it off. */
static bool extension_in_cpu(const struct host_facts *facts)
{
	return facts->cpu.cpuid == HOST_EXTENSION_VMX || facts->cpu.cpuid == HOST_EXTENSION_SVM;
}

bool facts_kvm_usable(const struct host_facts *facts)
{
	return facts->dev.open_error == 0 && facts->dev.api == KVM_API;
}

/* By vendor, where that is known. */
static const char *extension_name(const struct host_facts *facts)
{
	if (facts->cpu.vmx || (!facts->cpu.svm && facts->cpu.vendor == HOST_VENDOR_INTEL))
		return "VT-x";
	return facts->cpu.svm || facts->cpu.vendor == HOST_VENDOR_AMD ? "SVM" : "VT-x or SVM";
}

static bool runs_on_hardware(const struct host_facts *facts)
{
	return facts->flavour == HOST_FLAVOUR_VMX || facts->flavour == HOST_FLAVOUR_SVM;
}

const char *const *doctor_module_options(const struct host_facts *facts)
{
	static const char *const intel[] = {"nested=1", "enable_shadow_vmcs=1", NULL};
	static const char *const amd[] = {"nested=1", NULL};
	return host_facts_module(facts) == &facts->kvm_intel ? intel : amd;
}

static void append_option(char *list, size_t size, const char *prefix, const char *option)
{
	size_t used = strlen(list);
	(void)snprintf(list + used, size - used, "%s%s%s", used ? " " : "", prefix, option);
}

void finding_remedy_reload(struct finding *finding, const struct host_facts *facts, const char *extra)
{
	char list[192] = "", prefix[32] = "";
	const char *name = host_facts_module_name(facts);
	const struct host_module *module = host_facts_module(facts);
	bool built_in = module->present && !module->loadable;
	if (built_in)
		(void)snprintf(prefix, sizeof(prefix), "%s.", name);
	for (const char *const *option = doctor_module_options(facts); *option; option++)
		append_option(list, sizeof(list), prefix, *option);
	if (extra && !strstr(list, extra))
		append_option(list, sizeof(list), prefix, extra);
	if (built_in) {
		finding_where(finding,
			      "on the kernel's command line, because the module is built in; then reboot");
		finding_remedy(finding, "%s", list);
	} else if (module->present) {
		finding_remedy(finding, "modprobe -r %s && modprobe %s %s", name, name, list);
	} else {
		finding_remedy(finding, "modprobe %s %s", name, list);
	}
}

/* The checks */

static void check_kernel(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	struct advisory advisory;
	enum advisory_verdict verdict = advisory_nested_escape(facts->release, facts->version, &advisory);
	finding_say(finding, verdict == ADVISORY_FIXED ? FINDING_OK : FINDING_WARN, "%s", advisory.text);
	if (verdict != ADVISORY_VULNERABLE)
		return;
	if (strstr(facts->version, "Debian"))
		finding_remedy(finding, "apt-get update && apt-get dist-upgrade && reboot");
	else
		finding_remedy(finding, "install Linux %s or later and boot it", advisory.fixed_in);
}

/* What an outer hypervisor needs before its guest can nest. vendor OTHER: for every CPU. */
static const struct exposure {
	enum host_outer outer;
	enum host_vendor vendor;
	const char *needs;
	const char *where;
	const char *remedy;
} exposures[] = {
	{HOST_OUTER_HYPERV, HOST_VENDOR_INTEL,
	 "nesting needs VT-x with EPT, Windows Server 2016 or Windows 10 or later, "
	 "VM configuration version 8.0 or later",
	 "in PowerShell on the Hyper-V host, with this VM off",
	 "Set-VMProcessor -VMName <vm> -ExposeVirtualizationExtensions $true"},
	{HOST_OUTER_HYPERV, HOST_VENDOR_AMD,
	 "nesting needs an EPYC or Ryzen, Windows Server 2022 or Windows 11 or later, "
	 "VM configuration version 10.0 or later",
	 "in PowerShell on the Hyper-V host, with this VM off",
	 "Set-VMProcessor -VMName <vm> -ExposeVirtualizationExtensions $true"},
	{HOST_OUTER_VMWARE, HOST_VENDOR_OTHER,
	 "nesting needs hardware-assisted virtualization exposed to the VM",
	 "in this VM's .vmx file, with the VM off", "vhv.enable = \"TRUE\""},
	{HOST_OUTER_XEN, HOST_VENDOR_OTHER, "nesting needs an HVM domain with nested HVM",
	 "in this domain's configuration on dom0, with the domain off", "nestedhvm = 1"},
	{HOST_OUTER_KVM, HOST_VENDOR_INTEL,
	 "nesting needs kvm_intel with nested=1 outside, and a VMM that passes the CPU's vmx bit",
	 "on the outer host; then start this VM with -cpu host (QEMU) or "
	 "<cpu mode='host-passthrough'/> (libvirt)",
	 "modprobe -r kvm_intel && modprobe kvm_intel nested=1"},
	{HOST_OUTER_KVM, HOST_VENDOR_AMD,
	 "nesting needs kvm_amd with nested=1 outside, and a VMM that passes the CPU's svm bit",
	 "on the outer host; then start this VM with -cpu host (QEMU) or "
	 "<cpu mode='host-passthrough'/> (libvirt)",
	 "modprobe -r kvm_amd && modprobe kvm_amd nested=1"},
	{HOST_OUTER_PVM, HOST_VENDOR_OTHER, "PVM itself has none to pass on", "no setting changes that",
	 "move to bare metal, or into a VM whose hypervisor exposes VT-x or SVM"},
};

static const struct exposure *exposure_of(const struct host_facts *facts)
{
	for (size_t i = 0; i < ARRAY_LEN(exposures); i++)
		if (exposures[i].outer == facts->outer &&
		    (exposures[i].vendor == HOST_VENDOR_OTHER || exposures[i].vendor == facts->cpu.vendor))
			return &exposures[i];
	return NULL;
}

static void check_host(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const char *outer = host_facts_outer_name(facts), *extension = extension_name(facts);
	if (!outer) {
		finding_say(finding, FINDING_OK, "not a guest: CPUID names no hypervisor");
		return;
	}
	if (!*outer)
		outer = "a hypervisor without a name";
	if (facts_extension_visible(facts) || extension_in_cpu(facts)) {
		finding_say(finding, FINDING_OK, "guest of %s, which passes %s on", outer, extension);
		return;
	}
	const struct exposure *exposure = exposure_of(facts);
	if (exposure) {
		finding_say(finding, FINDING_FAIL, "guest of %s, which hides %s from it; %s", outer,
			    extension, exposure->needs);
		finding_where(finding, exposure->where);
		finding_remedy(finding, "%s", exposure->remedy);
	} else {
		finding_say(finding, FINDING_FAIL, "guest of %s, which hides %s from it", outer, extension);
		finding_where(finding, "in the settings of this VM");
		finding_remedy(finding, "expose %s (nested virtualization) to the VM", extension);
	}
}

static void check_cpu(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const struct host_cpu *cpu = &facts->cpu;
	const char *extension = extension_name(facts), *model = cpu->model[0] ? cpu->model : "this CPU";
	bool visible = facts_extension_visible(facts);
	if ((!visible && extension_in_cpu(facts)) || cpu->firmware == HOST_NO) {
		finding_say(finding, FINDING_FAIL, "%s has %s, but the firmware has switched it off", model,
			    extension);
		finding_where(finding, "as root; in the setup that comes up enable Virtualization Technology "
				       "(VT-x) or SVM Mode, save, and switch the machine off and on");
		finding_remedy(finding, "systemctl reboot --firmware-setup");
	} else if (visible) {
		finding_say(finding, FINDING_OK, "%s has %s (%s)", model, extension,
			    cpu->vmx ? "vmx" : "svm");
	} else if (facts->outer != HOST_OUTER_NONE) {
		finding_say(finding, FINDING_FAIL, "%s shows neither vmx nor svm; see host", model);
	} else {
		finding_say(finding, FINDING_FAIL, "%s %s neither VT-x nor SVM", model,
			    cpu->cpuid == HOST_EXTENSION_NONE ? "has" : "shows");
		finding_where(finding, "no setting changes that; to see nesting in an emulator");
		finding_remedy(finding, "scripts/demo --host svm");
	}
}

static void check_module_pvm(const struct host_facts *facts, struct finding *finding)
{
	const char *name = host_facts_module_name(facts);
	const struct host_module *module = host_facts_module(facts);
	finding_say(finding, FINDING_FAIL,
		    "KVM is PVM%s: it runs guests in software and has no VT-x or SVM to give them",
		    facts->kvm_pvm.present ? " (kvm_pvm)" : "");
	if (facts_extension_visible(facts) && facts->kvm_pvm.loadable && module->installed) {
		finding_remedy(finding, "modprobe -r kvm_pvm && modprobe %s nested=1", name);
	} else if (facts_extension_visible(facts)) {
		finding_remedy(finding, "boot a kernel with %s", name);
	} else {
		finding_where(finding, "on a host with VT-x or SVM, nested=1 and a kernel with kvm_intel or "
				       "kvm_amd; or here, "
				       "where only an emulator can nest");
		finding_remedy(finding, "scripts/demo --host svm");
	}
}

static void check_module(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const char *name = host_facts_module_name(facts);
	const struct host_module *module = host_facts_module(facts);
	if (runs_on_hardware(facts) && !module->present) {
		finding_say(finding, FINDING_WARN, "KVM works, but /sys/module does not show %s", name);
	} else if (runs_on_hardware(facts)) {
		finding_say(finding, FINDING_OK, "%s is %s", name,
			    module->loadable ? "loaded" : "built into the kernel");
	} else if (facts->flavour == HOST_FLAVOUR_PVM) {
		check_module_pvm(facts, finding);
	} else if (!facts_extension_visible(facts)) {
		finding_say(finding, FINDING_FAIL, "no KVM drives this CPU; see cpu");
	} else if (!module->installed) {
		finding_say(finding, FINDING_FAIL,
			    "Linux %s has no %s, neither loaded nor below /lib/modules", facts->release,
			    name);
		finding_remedy(finding, "install and boot a kernel with %s (CONFIG_%s)", name,
			       facts->cpu.vmx ? "KVM_INTEL" : "KVM_AMD");
	} else {
		finding_say(finding, FINDING_FAIL,
			    "%s is not loaded%s; if loading says \"Operation not supported\", the firmware "
			    "has switched "
			    "%s off",
			    name, facts->kvm.present ? ", though kvm is" : "", extension_name(facts));
		finding_remedy_reload(finding, facts, NULL);
	}
}

/* Without the right group the node is root's alone, as devtmpfs makes it before udev comes. */
static void check_device_denied(const struct host_kvm *dev, struct finding *finding)
{
	finding_say(finding, FINDING_FAIL, "/dev/kvm does not open for this user: %s",
		    strerror(-dev->open_error));
	if (dev->group[0] && strcmp(dev->group, "root") != 0) {
		finding_where(finding, "as root; then log in again");
		finding_remedy(finding, "usermod -aG %s <user>", dev->group);
	} else {
		finding_where(finding, "as root; then add the user to the group: usermod -aG kvm <user>");
		finding_remedy(finding, "chgrp kvm /dev/kvm && chmod 660 /dev/kvm");
	}
}

static void check_device(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const struct host_kvm *dev = &facts->dev;
	if (facts_kvm_usable(facts)) {
		finding_say(finding, FINDING_OK, "/dev/kvm opens and speaks API version %d", dev->api);
	} else if (!dev->open_error) {
		finding_say(finding, FINDING_FAIL, "/dev/kvm speaks API version %d, not %d", dev->api,
			    KVM_API);
		finding_remedy(finding, "boot a kernel of Linux 2.6.22 or later");
	} else if (dev->open_error == -EACCES || dev->open_error == -EPERM) {
		check_device_denied(dev, finding);
	} else if (runs_on_hardware(facts) && dev->open_error == -ENOENT) {
		finding_say(finding, FINDING_FAIL, "/dev/kvm is missing, though %s is there",
			    host_facts_module_name(facts));
		finding_where(finding,
			      "as root; in a container have it passed in (docker run --device /dev/kvm)");
		finding_remedy(finding, "mknod -m 660 /dev/kvm c 10 232 && chgrp kvm /dev/kvm");
	} else if (runs_on_hardware(facts)) {
		finding_say(finding, FINDING_FAIL, "/dev/kvm does not open: %s", strerror(-dev->open_error));
		finding_remedy(finding, "dmesg | grep -i kvm");
	} else {
		finding_say(finding, FINDING_FAIL, "/dev/kvm does not open: %s; see module",
			    strerror(-dev->open_error));
	}
}

static void check_nested(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const char *name = host_facts_module_name(facts);
	if (facts->params.nested == HOST_YES) {
		finding_say(finding, FINDING_OK, "%s runs with nested=1", name);
	} else if (facts->params.nested == HOST_NO) {
		finding_say(finding, FINDING_FAIL, "%s runs with nested=0", name);
		finding_remedy_reload(finding, facts, NULL);
	} else {
		finding_say(finding, FINDING_WARN, "/sys/module/%s/parameters/nested cannot be read", name);
	}
}

/* What KVM itself answers: stronger than any parameter, and to be had only where /dev/kvm opens. */
static void check_offer(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_facts *facts = &patient->facts;
	const struct host_kvm *dev = &facts->dev;
	const char *offered = dev->offers == HOST_EXTENSION_VMX ? "VMX" : "SVM";
	if (dev->offers == HOST_EXTENSION_NONE) {
		finding_say(finding, FINDING_FAIL, "KVM offers its guests neither VMX nor SVM; see %s",
			    runs_on_hardware(facts) ? "nested" : "module");
	} else if (dev->nested_state_bytes == 0) {
		finding_say(finding, FINDING_FAIL,
			    "KVM cannot save nested state (KVM_CAP_NESTED_STATE is 0)");
		finding_remedy(finding, "boot a kernel of Linux %s or later",
			       facts->cpu.svm ? "5.8" : "4.20");
	} else if (dev->offers == HOST_EXTENSION_UNKNOWN) {
		finding_say(finding, FINDING_WARN, "KVM does not say which CPU features it offers to guests");
	} else {
		finding_say(finding, FINDING_OK, "KVM offers its guests %s; nested state takes %d bytes",
			    offered, dev->nested_state_bytes);
	}
}

static void check_hugepages(const struct doctor_case *patient, struct finding *finding)
{
	const struct host_pages *small = &patient->facts.pages_2m, *large = &patient->facts.pages_1g;
	finding_say(finding, small->free || large->free ? FINDING_OK : FINDING_WARN,
		    "%llu of %llu huge pages of 2 MiB and %llu of %llu of 1 GiB are free%s",
		    (unsigned long long)small->free, (unsigned long long)small->total,
		    (unsigned long long)large->free, (unsigned long long)large->total,
		    small->free || large->free
			    ? ""
			    : "; guests with \"hugepages\" may not start, others run slower");
	if (finding->status == FINDING_OK)
		return;
	finding_where(finding, "for 2 GiB of guest memory");
	finding_remedy(finding, "sysctl vm.nr_hugepages=%llu", (unsigned long long)small->total + 1024);
}

static void check_modprobe(const struct doctor_case *patient, struct finding *finding)
{
	const char *name = host_facts_module_name(&patient->facts);
	struct modprobe_settings settings;
	int r = modprobe_settings_read(patient->root, name, "nested", &settings);
	if (r < 0) {
		finding_say(finding, FINDING_WARN, "modprobe.d cannot be read: %s", strerror(-r));
	} else if (settings.count == 0) {
		finding_say(finding, FINDING_OK,
			    "modprobe.d leaves nested of %s to the kernel's default, which is on%s", name,
			    patient->facts.cpu.vmx ? " since Linux 4.20" : "");
	} else {
		const struct modprobe_setting *last = &settings.list[settings.count - 1];
		finding_say(finding, last->on ? FINDING_OK : FINDING_WARN,
			    "%s:%d sets nested=%d for the next load of %s", last->file, last->line, last->on,
			    name);
		if (!last->on)
			finding_remedy(finding, "sed -i 's/\\bnested=[0Nn]/nested=1/' %s", last->file);
	}
}

/* When to ask. A check whose subject is missing would only repeat the finding that says so. */

static bool always(const struct host_facts *facts)
{
	(void)facts;
	return true;
}

static bool has_parameters(const struct host_facts *facts)
{
	return runs_on_hardware(facts) && host_facts_module(facts)->present;
}

static bool kvm_opens(const struct host_facts *facts)
{
	return facts->dev.open_error == 0;
}

static const struct check {
	const char *id;
	bool (*applies)(const struct host_facts *facts);
	void (*run)(const struct doctor_case *patient, struct finding *finding);
} checks[] = {
	{"kernel", always, check_kernel},
	{"host", always, check_host},
	{"cpu", always, check_cpu},
	{"module", always, check_module},
	{"device", always, check_device},
	{"nested", has_parameters, check_nested},
	{"offer", kvm_opens, check_offer},
	{"modprobe", facts_extension_visible, check_modprobe},
	{"hugepages", always, check_hugepages},
};

void doctor_examine(const struct doctor_case *patient, struct findings *findings)
{
	*findings = (struct findings){0};
	for (size_t i = 0; i < ARRAY_LEN(checks); i++)
		if (checks[i].applies(&patient->facts))
			checks[i].run(patient, findings_add(findings, checks[i].id));
	if (has_parameters(&patient->facts))
		doctor_examine_features(&patient->facts, findings);
}
