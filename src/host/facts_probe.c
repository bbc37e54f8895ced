/* What no file of /proc or /sys tells: asked of this machine, or read from a record of another. */
#include "base/cleanup.h"
#include "facts_internal.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define CPUID_HYPERVISOR_FIRST 0x40000000U
#define CPUID_HYPERVISOR_LAST  0x40000f00U
#define CPUID_HYPERVISOR_STEP  0x100U
#define CPUID_PVM_EBX	       0x6d7670U  /* "pvm" */
#define CPUID_1_ECX_VMX	       (1U << 5)  /* SDM volume 2, CPUID */
#define CPUID_1_ECX_GUEST      (1U << 31) /* set by every hypervisor that wants to be seen */
#define CPUID_EXT1	       0x80000001U
#define CPUID_EXT1_ECX_SVM     (1U << 2) /* APM volume 3, appendix E */

#define MSR_FEATURE_CONTROL	 0x3a /* SDM volume 4 */
#define MSR_FEATURE_CONTROL_LOCK (1ULL << 0)
#define MSR_FEATURE_CONTROL_VMX	 (1ULL << 2) /* outside SMX */
#define MSR_VM_CR		 0xc0010114  /* APM volume 2, 15.30.1 */
#define MSR_VM_CR_SVMDIS	 (1ULL << 4)

static enum host_extension extension_of(uint32_t leaf1_ecx, uint32_t ext1_ecx)
{
	if (leaf1_ecx & CPUID_1_ECX_VMX)
		return HOST_EXTENSION_VMX;
	return ext1_ecx & CPUID_EXT1_ECX_SVM ? HOST_EXTENSION_SVM : HOST_EXTENSION_NONE;
}

/* A signature is 12 printable bytes, padded with zeros. Leaves that nobody answers repeat others or read as
 * zero. */
static bool read_signature(uint32_t leaf, char signature[13], uint32_t *ret_max_leaf)
{
	uint32_t max_leaf, words[3];
	__cpuid(leaf, max_leaf, words[0], words[1], words[2]);
	*ret_max_leaf = max_leaf;
	memcpy(signature, words, 12);
	signature[12] = '\0';
	for (int i = 0; i < 12 && signature[i]; i++)
		if (signature[i] < ' ' || signature[i] > '~')
			return false;
	return signature[0] != '\0' && max_leaf >= leaf;
}

static void probe_cpuid(struct host_facts *facts)
{
	uint32_t a, b, c, d, ext_c;
	__cpuid(1, a, b, c, d);
	__cpuid(CPUID_EXT1, a, b, ext_c, d);
	facts->cpu.cpuid = extension_of(c, ext_c);
	if (!(c & CPUID_1_ECX_GUEST))
		return;
	for (uint32_t leaf = CPUID_HYPERVISOR_FIRST; leaf <= CPUID_HYPERVISOR_LAST;
	     leaf += CPUID_HYPERVISOR_STEP) {
		char signature[13];
		uint32_t max_leaf;
		if (!read_signature(leaf, signature, &max_leaf))
			continue;
		facts_add_signature(facts, signature);
		if (facts->outer != HOST_OUTER_KVM || max_leaf < leaf + 2)
			continue;
		__cpuid(leaf + 2, a, b, c, d);
		if (b == CPUID_PVM_EBX)
			facts->outer = HOST_OUTER_PVM;
	}
	if (facts->outer == HOST_OUTER_NONE) /* somebody is there and says no name */
		facts_add_signature(facts, "");
}

/* Needs root and the msr driver; without them the answer stays unknown. */
static void probe_firmware(struct host_cpu *cpu)
{
	uint64_t value;
	off_t msr = cpu->vendor == HOST_VENDOR_AMD ? MSR_VM_CR : MSR_FEATURE_CONTROL;
	if (cpu->cpuid != HOST_EXTENSION_VMX && cpu->cpuid != HOST_EXTENSION_SVM)
		return;
	_cleanup_close_ int fd = open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, &value, sizeof(value), msr) != (ssize_t)sizeof(value))
		return;
	bool off = cpu->vendor == HOST_VENDOR_AMD
			   ? value & MSR_VM_CR_SVMDIS
			   : (value & MSR_FEATURE_CONTROL_LOCK) && !(value & MSR_FEATURE_CONTROL_VMX);
	cpu->firmware = off ? HOST_NO : HOST_YES;
}

/* Name of a group by its number, from /etc/group: getgrgid would pull in NSS, which a static binary has not.
 */
static void group_name(gid_t gid, char *name, size_t size)
{
	char line[512];
	FILE *file = fopen("/etc/group", "re");
	(void)snprintf(name, size, "%u", gid);
	while (file && fgets(line, sizeof(line), file)) {
		unsigned number;
		int end = (int)strcspn(line, ":");
		if (sscanf(line + end, ":%*[^:]:%u", &number) == 1 && number == gid)
			(void)snprintf(name, size, "%.*s", end, line);
	}
	if (file)
		(void)fclose(file);
}

static enum host_extension kvm_offers(int fd)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ENTRIES * sizeof(cpuid->entries[0]));
	enum host_extension offers = HOST_EXTENSION_UNKNOWN;
	if (!cpuid)
		return offers;
	cpuid->nent = ENTRIES;
	if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) {
		uint32_t leaf1_ecx = 0, ext1_ecx = 0;
		for (uint32_t i = 0; i < cpuid->nent; i++) {
			if (cpuid->entries[i].function == 1)
				leaf1_ecx = cpuid->entries[i].ecx;
			else if (cpuid->entries[i].function == CPUID_EXT1)
				ext1_ecx = cpuid->entries[i].ecx;
		}
		offers = extension_of(leaf1_ecx, ext1_ecx);
	}
	free(cpuid);
	return offers;
}

static void probe_kvm(struct host_kvm *dev)
{
	struct stat st;
	if (stat("/dev/kvm", &st) == 0 && (st.st_mode & 060) == 060)
		group_name(st.st_gid, dev->group, sizeof(dev->group));
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	dev->open_error = fd < 0 ? -errno : 0;
	if (fd < 0)
		return;
	int api = ioctl(fd, KVM_GET_API_VERSION, 0);
	int bytes = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE);
	dev->api = api < 0 ? 0 : api;
	dev->nested_state_bytes = bytes < 0 ? 0 : bytes;
	dev->offers = kvm_offers(fd);
}

void facts_probe_live(struct host_facts *facts)
{
	probe_cpuid(facts);
	probe_firmware(&facts->cpu);
	probe_kvm(&facts->dev);
}

/* The record */

static bool word_index(const char *value, const char *const *words, size_t count, int *ret)
{
	for (size_t i = 0; i < count; i++)
		if (words[i] && strcmp(value, words[i]) == 0) {
			*ret = (int)i;
			return true;
		}
	return false;
}

static bool take_extension(const char *value, enum host_extension *ret)
{
	static const char *const words[] = {
		[HOST_EXTENSION_NONE] = "none",
		[HOST_EXTENSION_VMX] = "vmx",
		[HOST_EXTENSION_SVM] = "svm",
	};
	int index;
	if (!word_index(value, words, ARRAY_LEN(words), &index))
		return false;
	*ret = (enum host_extension)index;
	return true;
}

static bool take_open(const char *value, struct host_facts *facts)
{
	static const int errors[] = {ENOENT, EACCES, EPERM, ENODEV, ENXIO, EBUSY};
	facts->dev.open_error = 0;
	if (strcmp(value, "ok") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (strcmp(value, strerrorname_np(errors[i])) == 0)
			facts->dev.open_error = -errors[i];
	return facts->dev.open_error != 0;
}

static bool take_number(const char *value, int *ret)
{
	char *end;
	errno = 0;
	long number = strtol(value, &end, 10);
	*ret = (int)number;
	return end != value && *end == '\0' && !errno && number >= 0 && number <= INT_MAX;
}

static bool take_group(const char *value, struct host_facts *facts)
{
	return snprintf(facts->dev.group, sizeof(facts->dev.group), "%s", value) <
	       (int)sizeof(facts->dev.group);
}

static bool take_api(const char *value, struct host_facts *facts)
{
	return take_number(value, &facts->dev.api);
}

static bool take_nested_state(const char *value, struct host_facts *facts)
{
	return take_number(value, &facts->dev.nested_state_bytes);
}

static bool take_offers(const char *value, struct host_facts *facts)
{
	return take_extension(value, &facts->dev.offers);
}

static bool take_cpuid(const char *value, struct host_facts *facts)
{
	return take_extension(value, &facts->cpu.cpuid);
}

static bool take_firmware(const char *value, struct host_facts *facts)
{
	static const char *const words[] = {[HOST_NO] = "off", [HOST_YES] = "on"};
	int index;
	if (!word_index(value, words, ARRAY_LEN(words), &index))
		return false;
	facts->cpu.firmware = (enum host_answer)index;
	return true;
}

static bool take_hypervisor(const char *value, struct host_facts *facts)
{
	if (strlen(value) > 12)
		return false;
	facts_add_signature(facts, value);
	return true;
}

static bool take_hypervisor_pvm(const char *value, struct host_facts *facts)
{
	int yes;
	if (!take_number(value, &yes) || yes > 1)
		return false;
	facts->outer = yes ? HOST_OUTER_PVM : facts->outer;
	return true;
}

static const struct {
	const char *key;
	bool (*take)(const char *value, struct host_facts *facts);
} record_keys[] = {
	{"kvm_open", take_open},
	{"kvm_group", take_group},
	{"kvm_api", take_api},
	{"kvm_nested_state", take_nested_state},
	{"kvm_offers", take_offers},
	{"cpuid", take_cpuid},
	{"firmware", take_firmware},
	{"hypervisor", take_hypervisor},
	{"hypervisor_pvm", take_hypervisor_pvm},
};

/* One line without its newline. Returns false when the key or its value is not one that we know. */
static bool take_line(char *line, struct host_facts *facts)
{
	char *value = strchr(line, '=');
	if (line[0] == '#' || line[0] == '\0')
		return true;
	if (!value)
		return false;
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(record_keys); i++)
		if (strcmp(line, record_keys[i].key) == 0)
			return record_keys[i].take(value, facts);
	return false;
}

int facts_probe_recorded(const char *root, struct host_facts *facts, struct err *err)
{
	char text[4096];
	int number = 0, len = facts_read(root, text, sizeof(text), "aerie-facts");
	if (len == -ENOENT)
		return 0;
	if (len < 0)
		return err_sys(err, len, "%s/aerie-facts", root);
	char *rest = text, *line;
	while ((line = strsep(&rest, "\n"))) {
		char shown[64];
		number++;
		(void)snprintf(shown, sizeof(shown), "%s", line);
		if (!take_line(line, facts))
			return err_set(err, -EINVAL, "%s/aerie-facts:%d: \"%s\" is not understood", root,
				       number, shown);
	}
	return 0;
}
