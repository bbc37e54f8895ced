/* What an operator may do to a disk while the machine runs. */
#ifndef AERIE_DEVICES_DISK_H
#define AERIE_DEVICES_DISK_H

#include "devices/device.h"

/*
 * Make the image `bytes` large, or with 0 look how large it has become (a block device that has grown), and
 * tell the guest. `device` is one of disk_class. Waits for the requests in flight; not on an I/O thread.
 * -EOPNOTSUPP, -EROFS, -EINVAL with a message that says why: nothing has changed then.
 */
int disk_resize(struct device *device, uint64_t bytes, struct err *err);

/* What the guest sees, in bytes. Any thread. */
uint64_t disk_size(struct device *device);

/* The same, also of a disk whose image is still another machine's: what it would be. Not an I/O thread. */
int disk_look(struct device *device, uint64_t *ret_bytes, struct err *err);

/* Is it a disk? */
bool device_is_disk(const struct device *device);

#endif
