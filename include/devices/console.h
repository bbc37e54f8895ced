/* The virtio console (VIRTIO 1.3, 5.3), for whoever controls the machine. */
#ifndef AERIE_DEVICES_CONSOLE_H
#define AERIE_DEVICES_CONSOLE_H

#include "devices/device.h"

/* The guest is told that its console has this size, in characters. Any thread but the device's I/O thread. */
void console_resize(struct device *console, uint16_t columns, uint16_t rows);

/* SIGWINCH: if `device` is a console with a port on this process's terminal, the guest is told its new size.
 * Any other device: nothing. */
void console_window_changed(struct device *device);

#endif
