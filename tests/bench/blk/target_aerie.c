/* aerie's block device in this process, without a guest. */
#include "../../../devices/devices.h"
#include "traffic.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

struct aerie_target {
	struct target *target;
	struct world world;
	struct driver driver;
	struct disk_config config;
	struct device *device;
	uint64_t poll_ns;
};

/* In a machine this is KVM's irqfd. */
static int interrupt_fd;

static void signal_interrupt(struct msi_sink *sink, uint64_t address, uint32_t data)
{
	uint64_t one = 1;
	(void)sink, (void)address, (void)data;
	if (write(interrupt_fd, &one, sizeof(one)) != sizeof(one))
		die("interrupt");
}

static void kick(struct target *target)
{
	struct aerie_target *aerie = container_of(target->world, struct aerie_target, world);
	driver_ring_doorbell(&aerie->driver, 0);
}

static double seconds(const struct rusage *usage)
{
	return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
	       (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e6;
}

/* All of this process but the driver's own thread. */
static double cpu_s(struct target *target)
{
	struct rusage all, driver;
	(void)target;
	(void)getrusage(RUSAGE_SELF, &all);
	(void)getrusage(RUSAGE_THREAD, &driver);
	return seconds(&all) - seconds(&driver);
}

static void close_device(struct target *target)
{
	struct aerie_target *aerie = container_of(target->world, struct aerie_target, world);
	driver_finish(&aerie->driver);
	disk_class.destroy(aerie->device);
	world_finish(&aerie->world);
}

static int set_poll(void *arg)
{
	loop_set_poll(iothread_loop(((struct aerie_target *)arg)->world.threads[0]),
		      ((struct aerie_target *)arg)->poll_ns);
	return 0;
}

/* As a machine with memory.prealloc and without a balloon does it. */
static int register_memory(void *arg)
{
	const struct aerie_target *aerie = arg;
	const struct guest_region *ram;
	(void)guest_memory_regions(aerie->world.memory, &ram);
	return loop_register_memory(iothread_loop(aerie->world.threads[0]),
				    &(struct iovec){ram->host, ram->size}, 1);
}

void aerie_open(struct target *target, const char *path, bool direct, unsigned poll_us, bool registered)
{
	static struct aerie_target aerie;
	struct err err = ERR_INIT;
	world_init(&aerie.world, 1);
	aerie.poll_ns = poll_us * UINT64_C(1000);
	(void)iothread_call(aerie.world.threads[0], set_poll, &aerie);
	if (registered && iothread_call(aerie.world.threads[0], register_memory, &aerie) < 0)
		die("registering memory (ulimit -l)");
	interrupt_fd = eventfd(0, EFD_CLOEXEC);
	aerie.world.msi.signal = signal_interrupt;
	aerie.config = (struct disk_config){.path = path,
					    .direct = direct,
					    .discard = true,
					    .serial = "",
					    .queues = 1,
					    .queue_size = 256,
					    .block_size = 512};
	const struct driver_options options = {.features = ~VIRTIO_F_RING_PACKED};
	if (disk_class.create(&aerie.config, 0, &aerie.world.services, &aerie.device, &err) < 0 ||
	    driver_init(&aerie.driver, &aerie.world, VIRTIO_ID_BLOCK) < 0 ||
	    driver_start(&aerie.driver, &options) < 0) {
		(void)fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	*target = (struct target){.world = &aerie.world,
				  .ring = &aerie.driver.queues[0]->ring,
				  .kick = kick,
				  .irq_fd = interrupt_fd,
				  .cpu_s = cpu_s,
				  .close = close_device};
}
