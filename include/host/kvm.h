/*
 * /dev/kvm: its ioctls as -errno, and what this host's KVM can do.
 *
 * Section numbers are those of the kernel's Documentation/virt/kvm/api.rst.
 */
#ifndef AERIE_HOST_KVM_H
#define AERIE_HOST_KVM_H

#include "base/err.h"

#include <linux/kvm.h>
#include <stdint.h>

/* One ioctl with a pointer or with a number: its result (>= 0), or -errno. A signal (EINTR) restarts it;
 * KVM_RUN is not called through here, since there the signal is what we wait for. */
int kvm_call(int fd, unsigned long request, void *arg);
int kvm_call_value(int fd, unsigned long request, unsigned long arg);

/* The capability's value, 0 when absent (4.4). `fd` is /dev/kvm or a VM. */
int kvm_capability(int fd, unsigned capability);

/* KVM_ENABLE_CAP on a VM or vCPU (4.37). */
int kvm_enable(int fd, unsigned capability, uint64_t arg0);

/*
 * Opens /dev/kvm and checks its API version (4.1) and the capabilities without which aerie cannot run at all.
 * The message says what to do: load a module, join a group, turn on virtualization in the firmware; more is
 * known by `aerie doctor`. Returns the fd.
 */
int kvm_open(struct err *err);

#endif
