/* The virtio console (VIRTIO 1.3, 5.3), for whoever controls the machine. */
#ifndef AERIE_DEVICES_CONSOLE_H
#define AERIE_DEVICES_CONSOLE_H

#include "devices/device.h"

/* SIGWINCH: if `device` is a console with a port on this process's terminal, the guest is told its new size.
 * Any other device: nothing. Any thread but the device's I/O thread. */
void console_window_changed(struct device *device);

#endif
