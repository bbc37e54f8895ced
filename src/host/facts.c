#include "host/facts.h"

#include "base/cleanup.h"
#include "facts_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void cleanup_fclose(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

static void cleanup_closedir(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

/* Files below the root */

static int facts_vpath(const char *root, char path[PATH_MAX], const char *fmt, va_list args)
{
	int used = snprintf(path, PATH_MAX, "%s/", root ? root : "");
	if (used >= PATH_MAX)
		return -ENAMETOOLONG;
	int more = vsnprintf(path + used, (size_t)(PATH_MAX - used), fmt, args);
	return more >= PATH_MAX - used ? -ENAMETOOLONG : 0;
}

static FILE *facts_open(const char *root, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static FILE *facts_open(const char *root, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	va_start(args, fmt);
	int r = facts_vpath(root, path, fmt, args);
	va_end(args);
	return r < 0 ? NULL : fopen(path, "re");
}

int facts_read(const char *root, char *buf, size_t size, const char *fmt, ...)
{
	char path[PATH_MAX];
	va_list args;
	buf[0] = '\0';
	va_start(args, fmt);
	int r = facts_vpath(root, path, fmt, args);
	va_end(args);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t used = 0;
	ssize_t n = 0;
	while (used < size - 1 &&
	       ((n = read(fd, buf + used, size - 1 - used)) > 0 || (n < 0 && errno == EINTR)))
		used += n > 0 ? (size_t)n : 0;
	int error = n < 0 ? errno : 0;
	while (!error && used > 0 && buf[used - 1] == '\n')
		used--;
	buf[error ? 0 : used] = '\0';
	return error ? -error : (int)used;
}

__attribute__((format(printf, 2, 3))) static bool exists(const char *root, const char *fmt, ...)
{
	char path[PATH_MAX];
	struct stat st;
	va_list args;
	va_start(args, fmt);
	int r = facts_vpath(root, path, fmt, args);
	va_end(args);
	return r == 0 && stat(path, &st) == 0;
}

static uint64_t facts_number(const char *root, const char *folder, const char *name)
{
	char text[32];
	(void)facts_read(root, text, sizeof(text), "%s/%s", folder, name);
	return strtoull(text, NULL, 10);
}

/* CPU */

/* Whether `word` stands in a list separated by blanks. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);
	for (const char *at = list; (at = strstr(at, word)); at += len) {
		bool starts = at == list || at[-1] == ' ' || at[-1] == '\t';
		if (starts && strchr(" \t\n", at[len])) /* also true for the terminating 0 */
			return true;
	}
	return false;
}

static enum host_answer answer_of(bool yes)
{
	return yes ? HOST_YES : HOST_NO;
}

static void cpu_take_flags(struct host_cpu *cpu, const char *flags)
{
	cpu->vmx = has_word(flags, "vmx");
	cpu->svm = has_word(flags, "svm");
	cpu->ept = answer_of(has_word(flags, "ept"));
	cpu->vpid = answer_of(has_word(flags, "vpid"));
	cpu->npt = answer_of(has_word(flags, "npt"));
	cpu->avic = answer_of(has_word(flags, "avic"));
}

/* Linux 5.9 and later; before, these stay unknown. */
static void cpu_take_vmx_flags(struct host_cpu *cpu, const char *flags)
{
	cpu->ept = answer_of(has_word(flags, "ept"));
	cpu->vpid = answer_of(has_word(flags, "vpid"));
	cpu->unrestricted_guest = answer_of(has_word(flags, "unrestricted_guest"));
	cpu->shadow_vmcs = answer_of(has_word(flags, "shadow_vmcs"));
	cpu->apicv = answer_of(has_word(flags, "apicv"));
	cpu->posted_intr = answer_of(has_word(flags, "posted_intr"));
}

static void cpu_take_vendor(struct host_cpu *cpu, const char *vendor)
{
	if (strcmp(vendor, "GenuineIntel") == 0)
		cpu->vendor = HOST_VENDOR_INTEL;
	else if (strcmp(vendor, "AuthenticAMD") == 0 || strcmp(vendor, "HygonGenuine") == 0)
		cpu->vendor = HOST_VENDOR_AMD;
}

/* The first CPU speaks for all: KVM does not load where CPUs differ in what it needs. */
static void gather_cpu(const char *root, struct host_cpu *cpu)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t len;
	__attribute__((cleanup(cleanup_fclose))) FILE *file = facts_open(root, "proc/cpuinfo");
	while (file && (len = getline(&line, &size, file)) > 1) { /* an empty line ends the first CPU */
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		char *value = strchr(line, ':');
		if (!value)
			continue;
		value += value[1] == ' ' ? 2 : 1;
		line[strcspn(line, "\t:")] = '\0';
		if (strcmp(line, "vendor_id") == 0)
			cpu_take_vendor(cpu, value);
		else if (strcmp(line, "model name") == 0)
			(void)snprintf(cpu->model, sizeof(cpu->model), "%s", value);
		else if (strcmp(line, "flags") == 0)
			cpu_take_flags(cpu, value);
		else if (strcmp(line, "vmx flags") == 0)
			cpu_take_vmx_flags(cpu, value);
	}
}

/* Modules */

static void append_name(char *list, size_t size, const char *name)
{
	size_t used = strlen(list);
	(void)snprintf(list + used, size - used, "%s%s", used ? ", " : "", name);
}

static void gather_holders(const char *root, const char *name, struct host_module *module)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s/sys/module/%s/holders", root ? root : "", name);
	__attribute__((cleanup(cleanup_closedir))) DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			append_name(module->holders, sizeof(module->holders), entry->d_name);
}

/* Module files are named with dashes or underscores, and may be compressed: ".../kvm-intel.ko.xz: ...". */
static bool module_installed(const char *root, const char *release, const char *name)
{
	char file_name[64];
	(void)snprintf(file_name, sizeof(file_name), "/%s.ko", name);
	for (char *c = file_name; *c; c++)
		*c = *c == '_' ? '-' : *c;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	__attribute__((cleanup(cleanup_fclose))) FILE *file =
		facts_open(root, "lib/modules/%s/modules.dep", release);
	while (file && getline(&line, &size, file) > 0) {
		line[strcspn(line, ":\n")] = '\0';
		if (strstr(line, file_name))
			return true;
	}
	return false;
}

static void gather_module(const char *root, const char *release, const char *name, struct host_module *module)
{
	char text[32];
	module->present = exists(root, "sys/module/%s", name);
	module->loadable = exists(root, "sys/module/%s/initstate", name);
	module->installed = module_installed(root, release, name);
	int len = facts_read(root, text, sizeof(text), "sys/module/%s/refcnt", name);
	module->refcnt = len > 0 ? atoi(text) : -1;
	gather_holders(root, name, module);
}

/* Boolean parameters read Y or N; those that were once int read 1 or 0. Anything else, as `auto`, is unknown.
 */
static enum host_answer param(const char *root, const char *module, const char *name)
{
	char text[16];
	(void)facts_read(root, text, sizeof(text), "sys/module/%s/parameters/%s", module, name);
	if (strcmp(text, "Y") == 0 || strcmp(text, "1") == 0)
		return HOST_YES;
	if (strcmp(text, "N") == 0 || strcmp(text, "0") == 0)
		return HOST_NO;
	return HOST_UNKNOWN;
}

static void gather_params(const char *root, const char *module, struct host_params *params)
{
	params->nested = param(root, module, "nested");
	params->ept = param(root, module, "ept");
	params->vpid = param(root, module, "vpid");
	params->unrestricted_guest = param(root, module, "unrestricted_guest");
	params->shadow_vmcs = param(root, module, "enable_shadow_vmcs");
	params->apicv = param(root, module, "enable_apicv");
	params->posted_intr = params->apicv;
	params->npt = param(root, module, "npt");
	params->avic = param(root, module, "avic");
}

const char *host_facts_module_name(const struct host_facts *facts)
{
	if (facts->cpu.vmx)
		return "kvm_intel"; /* also for the vendors that licensed VMX */
	if (facts->cpu.svm)
		return "kvm_amd";
	if (facts->cpu.vendor == HOST_VENDOR_INTEL)
		return "kvm_intel";
	return facts->cpu.vendor == HOST_VENDOR_AMD ? "kvm_amd" : NULL;
}

const struct host_module *host_facts_module(const struct host_facts *facts)
{
	const char *name = host_facts_module_name(facts);
	if (!name)
		return NULL;
	return strcmp(name, "kvm_intel") == 0 ? &facts->kvm_intel : &facts->kvm_amd;
}

/*
 * PVM drives /dev/kvm on a CPU that shows neither VT-x nor SVM. It is known by its module; where that has no
 * folder in /sys, a KVM that works on such a CPU can be nothing else.
 */
static enum host_flavour flavour_of(const struct host_facts *facts)
{
	bool opens = facts->dev.open_error == 0;
	if (facts->cpu.vmx && facts->kvm_intel.present)
		return HOST_FLAVOUR_VMX;
	if (facts->cpu.svm && facts->kvm_amd.present)
		return HOST_FLAVOUR_SVM;
	if (facts->kvm_pvm.present)
		return HOST_FLAVOUR_PVM;
	if (!opens)
		return HOST_FLAVOUR_NONE;
	if (facts->cpu.vmx) /* a container may hide /sys/module */
		return HOST_FLAVOUR_VMX;
	return facts->cpu.svm ? HOST_FLAVOUR_SVM : HOST_FLAVOUR_PVM;
}

/* Whose guest */

static const struct {
	const char *signature;
	enum host_outer outer;
	const char *name;
} outers[] = {
	{"KVMKVMKVM", HOST_OUTER_KVM, "KVM"},
	{"Microsoft Hv", HOST_OUTER_HYPERV, "Hyper-V"},
	{"VMwareVMware", HOST_OUTER_VMWARE, "VMware"},
	{"XenVMMXenVMM", HOST_OUTER_XEN, "Xen"},
	{"TCGTCGTCGTCG", HOST_OUTER_OTHER, "QEMU without KVM (TCG)"},
	{"VBoxVBoxVBox", HOST_OUTER_OTHER, "VirtualBox"},
	{"bhyve bhyve ", HOST_OUTER_OTHER, "bhyve"},
	{" lrpepyh  vr", HOST_OUTER_OTHER, "Parallels"},
};

/* KVM, Xen and others put Hyper-V's signature first when they imitate it, and their own behind: the last one
 * is true. */
void facts_add_signature(struct host_facts *facts, const char *signature)
{
	facts->outer = HOST_OUTER_OTHER;
	for (size_t i = 0; i < ARRAY_LEN(outers); i++)
		if (strcmp(signature, outers[i].signature) == 0)
			facts->outer = outers[i].outer;
	(void)snprintf(facts->outer_signature, sizeof(facts->outer_signature), "%s", signature);
}

const char *host_facts_outer_name(const struct host_facts *facts)
{
	if (facts->outer == HOST_OUTER_NONE)
		return NULL;
	if (facts->outer == HOST_OUTER_PVM)
		return "PVM";
	for (size_t i = 0; i < ARRAY_LEN(outers); i++)
		if (strcmp(facts->outer_signature, outers[i].signature) == 0)
			return outers[i].name;
	return facts->outer_signature;
}

/* A paravirtualized Xen domain runs CPUID untrapped; there only this file tells. */
static void gather_xen(const char *root, struct host_facts *facts)
{
	char type[16];
	(void)facts_read(root, type, sizeof(type), "sys/hypervisor/type");
	if (facts->outer == HOST_OUTER_NONE && strcmp(type, "xen") == 0)
		facts_add_signature(facts, "XenVMMXenVMM");
}

/* Memory */

static void gather_pages(const char *root, uint64_t size_kib, struct host_pages *pages)
{
	char folder[64];
	(void)snprintf(folder, sizeof(folder), "sys/kernel/mm/hugepages/hugepages-%llukB",
		       (unsigned long long)size_kib);
	pages->total = facts_number(root, folder, "nr_hugepages");
	pages->free = facts_number(root, folder, "free_hugepages");
}

int host_facts_gather(const char *root, struct host_facts *ret, struct err *err)
{
	*ret = (struct host_facts){.dev.open_error = -ENOENT};
	if (root) {
		_cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return err_sys(err, -errno, "%s", root);
	}
	(void)facts_read(root, ret->release, sizeof(ret->release), "proc/sys/kernel/osrelease");
	(void)facts_read(root, ret->version, sizeof(ret->version), "proc/sys/kernel/version");
	gather_cpu(root, &ret->cpu);
	gather_module(root, ret->release, "kvm", &ret->kvm);
	gather_module(root, ret->release, "kvm_intel", &ret->kvm_intel);
	gather_module(root, ret->release, "kvm_amd", &ret->kvm_amd);
	gather_module(root, ret->release, "kvm_pvm", &ret->kvm_pvm);
	const char *module = host_facts_module_name(ret);
	if (module)
		gather_params(root, module, &ret->params);
	gather_pages(root, 2048, &ret->pages_2m);
	gather_pages(root, 1048576, &ret->pages_1g);
	if (!root)
		facts_probe_live(ret);
	else if (facts_probe_recorded(root, ret, err) < 0)
		return err->code;
	gather_xen(root, ret);
	ret->flavour = flavour_of(ret);
	return 0;
}
