/* The classes that registry.c lists; whoever else wants one finds it there by name. */
#ifndef AERIE_DEVICES_DEVICES_H
#define AERIE_DEVICES_DEVICES_H

#include "devices/device.h"

extern const struct device_class acpi_pm_class;
extern const struct device_class cmos_class;
extern const struct device_class console_class;
extern const struct device_class debug_class;
extern const struct device_class disk_class;
extern const struct device_class i8042_class;
extern const struct device_class balloon_class;
extern const struct device_class net_class;
extern const struct device_class pmem_class;
extern const struct device_class reset_class;
extern const struct device_class rng_class;
extern const struct device_class uart_class;
extern const struct device_class vhost_user_class;
extern const struct device_class vmgenid_class;
extern const struct device_class vsock_class;

#endif
