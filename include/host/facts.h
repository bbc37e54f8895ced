/*
 * What this host is, as far as running hypervisors in guests is concerned. Gathering only reads, needs
 * neither root nor KVM, and draws no conclusions: those are `aerie doctor`'s.
 *
 * Everything is looked up below a root folder, so that a recorded tree stands for a machine. What no file of
 * /proc or /sys can tell (opening /dev/kvm, its ioctls, CPUID, MSRs) comes from ROOT/aerie-facts then, never
 * from the machine that the recorded tree is read on. That file has one `key=value` a line, `#` for
 * comments, every key optional:
 *
 *	kvm_open=ok           or the name of the errno: ENOENT (default), EACCES, EPERM, ENODEV, ENXIO, EBUSY
 *	kvm_group=kvm         group that may read and write /dev/kvm; absent when its mode gives the
 *	                      group nothing
 *	kvm_api=12            KVM_GET_API_VERSION
 *	kvm_nested_state=8320 KVM_CHECK_EXTENSION(KVM_CAP_NESTED_STATE), bytes
 *	kvm_offers=vmx        KVM_GET_SUPPORTED_CPUID has the bit of: vmx, svm, none
 *	cpuid=vmx             the CPU's own CPUID has the bit of: vmx, svm, none
 *	firmware=off          IA32_FEATURE_CONTROL or VM_CR forbids VMX or SVM: off; allows it: on
 *	hypervisor=KVMKVMKVM  signature in CPUID 0x40000000, repeated for 0x40000100 and so on
 *	hypervisor_pvm=1      CPUID 0x40000002 says that this KVM is PVM
 */
#ifndef AERIE_HOST_FACTS_H
#define AERIE_HOST_FACTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* A question that may have no answer, because nothing readable tells. */
enum host_answer { HOST_UNKNOWN, HOST_NO, HOST_YES };

enum host_vendor { HOST_VENDOR_OTHER, HOST_VENDOR_INTEL, HOST_VENDOR_AMD };

/* Which extension a CPU has, or KVM offers to its guests. */
enum host_extension { HOST_EXTENSION_UNKNOWN, HOST_EXTENSION_NONE, HOST_EXTENSION_VMX, HOST_EXTENSION_SVM };

/* How the running KVM runs its guests. PVM: in software, on a CPU that shows neither VT-x nor SVM. */
enum host_flavour { HOST_FLAVOUR_NONE, HOST_FLAVOUR_VMX, HOST_FLAVOUR_SVM, HOST_FLAVOUR_PVM };

/* Whose guest the host itself is. */
enum host_outer {
	HOST_OUTER_NONE,
	HOST_OUTER_KVM,
	HOST_OUTER_PVM,
	HOST_OUTER_HYPERV,
	HOST_OUTER_VMWARE,
	HOST_OUTER_XEN,
	HOST_OUTER_OTHER,
};

struct host_module {
	bool present;	   /* /sys/module/NAME exists */
	bool loadable;	   /* ... as a module that could be unloaded, not built into the kernel */
	bool installed;	   /* there is a NAME.ko for the running kernel */
	int refcnt;	   /* users; -1 when it cannot be read */
	char holders[128]; /* names of the modules that use it, separated by ", " */
};

struct host_cpu {
	enum host_vendor vendor;
	char model[80];
	bool vmx, svm;		   /* flags in /proc/cpuinfo: present and not hidden by the kernel */
	enum host_extension cpuid; /* the same straight from the CPU */
	enum host_answer firmware; /* firmware allows the extension */
	enum host_answer ept, vpid, unrestricted_guest, shadow_vmcs, apicv,
		posted_intr;	    /* Intel; unknown before Linux 5.9 */
	enum host_answer npt, avic; /* AMD */
};

/* Parameters of kvm_intel or kvm_amd, whichever runs. Unknown when the module is not there or too old to have
 * it. */
struct host_params {
	enum host_answer nested;
	enum host_answer ept, vpid, unrestricted_guest, shadow_vmcs, apicv;
	enum host_answer posted_intr; /* no parameter of its own: KVM turns APICv off without them */
	enum host_answer npt, avic;
};

struct host_kvm {
	int open_error;		/* 0, or the -errno of opening /dev/kvm for reading and writing */
	char group[32];		/* group that may use the node, "" if none */
	int api;		/* KVM_GET_API_VERSION, 12 for every KVM since 2007; 0 when not open */
	int nested_state_bytes; /* 0: this KVM cannot save nested state */
	enum host_extension offers;
};

struct host_pages {
	uint64_t total, free;
};

struct host_facts {
	char release[65], version[65]; /* as uname -r and -v */
	struct host_cpu cpu;
	struct host_module kvm, kvm_intel, kvm_amd, kvm_pvm;
	struct host_params params;
	struct host_kvm dev;
	enum host_flavour flavour;
	enum host_outer outer;
	char outer_signature[16]; /* as CPUID gave it, for an `OTHER` */
	struct host_pages pages_2m, pages_1g;
};

/*
 * Fill *ret. root NULL: this machine. What is missing is unknown, not an error; the errors are a root that
 * cannot be opened (-errno) and an aerie-facts that does not parse (-EINVAL, with file and line).
 */
int host_facts_gather(const char *root, struct host_facts *ret, struct err *err);

/* The module that drives, or would drive, this CPU: "kvm_intel", "kvm_amd" or NULL. */
const char *host_facts_module_name(const struct host_facts *facts);
const struct host_module *host_facts_module(const struct host_facts *facts);

/* "KVM", "Hyper-V", ...; the raw signature for an unknown one; NULL on bare metal. Borrowed from facts. */
const char *host_facts_outer_name(const struct host_facts *facts);

#endif
