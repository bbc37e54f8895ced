/* The list of all devices. The order is that of building and of saving. */
#include "devices.h"

const struct device_class *const device_registry[] = {
	&cmos_class,  &reset_class,	 &i8042_class,	 &acpi_pm_class, &uart_class, &debug_class,
	&disk_class,  &balloon_class,	 &rng_class,	 &pmem_class,	 &net_class,  &console_class,
	&vsock_class, &vhost_user_class, &vmgenid_class, NULL,
};
