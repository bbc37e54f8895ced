/* The same traffic for every device: a virtio-blk driver's loop over one ring. */
#ifndef AERIE_TESTS_BENCH_BLK_TRAFFIC_H
#define AERIE_TESTS_BENCH_BLK_TRAFFIC_H

#include "../../devices/driver.h"

#include <stdbool.h>
#include <stdint.h>

/* Who works on the ring. */
struct target {
	struct world *world;
	struct ring *ring;
	void (*kick)(struct target *target);
	int irq_fd;				/* an eventfd: the device's interrupt */
	double (*cpu_s)(struct target *target); /* that the device has used, seconds */
	void (*close)(struct target *target);	/* may be NULL */
};

struct load {
	bool write, sequential;
	uint32_t block_bytes, depth;
	double seconds;
	uint64_t disk_bytes;
};

struct result {
	double iops, cpu_us; /* of the device, for each request */
};

/* Aborts when a request fails. */
struct result traffic_run(struct target *target, const struct load *load);

/* traffic targets */
void aerie_open(struct target *target, const char *path, bool direct, unsigned poll_us, bool registered);
void vhost_open(struct target *target, const char *socket_path, int pid);

void die(const char *what) __attribute__((noreturn));

#endif
