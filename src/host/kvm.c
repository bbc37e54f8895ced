#include "host/kvm.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define KVM_DEVICE "/dev/kvm"

int kvm_call(int fd, unsigned long request, void *arg)
{
	int r;
	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_call_value(int fd, unsigned long request, unsigned long arg)
{
	return kvm_call(fd, request,
			(void *)arg); /* NOLINT(performance-no-int-to-ptr): the kernel takes a number */
}

int kvm_capability(int fd, unsigned capability)
{
	int r = kvm_call_value(fd, KVM_CHECK_EXTENSION, capability);
	return r < 0 ? 0 : r;
}

int kvm_enable(int fd, unsigned capability, uint64_t arg0)
{
	struct kvm_enable_cap cap = {.cap = capability, .args = {arg0}};
	return kvm_call(fd, KVM_ENABLE_CAP, &cap);
}

struct needed_capability {
	unsigned capability;
	const char *name;
};

/* All of them are in every KVM since Linux 5.14; what is younger is asked for where it is used. */
static const struct needed_capability needed[] = {
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
	{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
	{KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
	{KVM_CAP_XCRS, "KVM_CAP_XCRS"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

static int kvm_check(int fd, struct err *err)
{
	int version = kvm_call_value(fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return err_sys(err, version, KVM_DEVICE ": is this KVM?");
	if (version != KVM_API_VERSION)
		return err_set(err, -EPROTO, KVM_DEVICE ": API version %d, aerie speaks %d", version,
			       KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (!kvm_capability(fd, needed[i].capability))
			return err_set(err, -ENOSYS, KVM_DEVICE ": this kernel lacks %s", needed[i].name);
	return 0;
}

static const char *open_remedy(int code)
{
	switch (code) {
	case -ENOENT:
		return "load kvm-intel or kvm-amd";
	case -EACCES:
	case -EPERM:
		return "join the group kvm: usermod -aG kvm $USER";
	case -ENODEV:
	case -ENXIO:
		return "turn on VT-x or SVM in the firmware";
	default:
		return "ask 'aerie doctor'";
	}
}

int kvm_open(struct err *err)
{
	_cleanup_close_ int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		int code = -errno;
		(void)err_sys(err, code, KVM_DEVICE);
		size_t used = strlen(err->text);
		(void)snprintf(err->text + used, sizeof(err->text) - used, " (%s)", open_remedy(code));
		return code;
	}
	int r = kvm_check(fd, err);
	return r < 0 ? r : take_fd(&fd);
}
