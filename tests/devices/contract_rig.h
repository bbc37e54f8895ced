/* For the contract of all virtio devices: one of each class with what it needs of the host, its driver,
 * requests of any shape. */
#ifndef AERIE_TESTS_DEVICES_CONTRACT_RIG_H
#define AERIE_TESTS_DEVICES_CONTRACT_RIG_H

#include "../../devices/devices.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/log.h"
#include "driver.h"
#include "harness.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES = 4 << 20, PATH_BYTES = 64, ROUNDS = 40 };

static char folder[PATH_BYTES - 8];
static char disk_path[PATH_BYTES], pmem_path[PATH_BYTES], vsock_path[PATH_BYTES], net_path[PATH_BYTES];

static const struct machine_config everything = {
	.name = "everything",
	.cpus = {.count = 2, .sockets = 1, .cores = 2, .threads = 1},
	.memory = {.size_bytes = WORLD_RAM_MIB << 20, .shared = true},
	.devices = {{.type = DEVICE_DISK,
		     .disk = {.path = disk_path,
			      .discard = true,
			      .serial = "",
			      .queues = 2,
			      .queue_size = 128,
			      .block_size = 512}},
		    {.type = DEVICE_NET,
		     .net = {.backend = NET_UNIX,
			     .socket = net_path,
			     .mac = "52:54:00:00:00:01",
			     .queues = 1,
			     .queue_size = 256}},
		    {.type = DEVICE_CONSOLE, .console = {.port_count = 2}},
		    {.type = DEVICE_RNG},
		    {.type = DEVICE_BALLOON,
		     .balloon = {.deflate_on_oom = true, .free_page_reporting = true}},
		    {.type = DEVICE_VSOCK, .vsock = {.cid = 3, .path = vsock_path}},
		    {.type = DEVICE_PMEM, .pmem = {.path = pmem_path}}},
	.device_count = 7,
};

/* The same sequence on every run (splitmix64). */
static uint64_t seed;

static uint64_t random_u64(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* ---- one device in a world of its own ---- */

struct bench {
	struct world world;
	const struct device_class *class;
	struct device *device;
	struct driver driver;
	uint64_t data_gpa;
};

enum { DATA_BYTES = 1 << 20 };

static struct bench bench;

static void make_device(void)
{
	struct err err = ERR_INIT;
	bench.device = NULL;
	int r = bench.class->create(bench.class->config(&everything, 0), 0, &bench.world.services,
				    &bench.device, &err);
	ck_assert_msg(r == 0, "%s: %s", bench.class->name, err.text);
	ck_assert_ptr_eq(bench.device->class, bench.class);
}

static uint32_t find_slot(void)
{
	for (uint32_t slot = 1; slot < PCI_SLOTS; slot++)
		if (world_config_read(&bench.world, slot, 0, 2) == 0x1af4)
			return slot;
	ck_abort_msg("%s: is not on the PCI bus", bench.class->name);
}

static void bench_finish(void);

static void bench_init(const struct device_class *class)
{
	if (bench.device) /* of a test that failed */
		bench_finish();
	memset(&bench, 0, sizeof(bench));
	bench.class = class;
	world_init(&bench.world, 1);
	make_device();
	ck_assert_msg(driver_init_at(&bench.driver, &bench.world, find_slot()) == 0,
		      "%s: not as VIRTIO has it", class->name);
	bench.data_gpa = world_alloc(&bench.world, DATA_BYTES);
}

static void bench_finish(void)
{
	driver_finish(&bench.driver);
	bench.class->destroy(bench.device);
	bench.device = NULL;
	world_finish(&bench.world);
}

static bool is_virtio(const struct device_class *class)
{
	return class->state && class->state->field_count &&
	       strstr(class->state->fields[0].name, "driver_features");
}

static void for_each_class(void (*test)(void))
{
	log_set_level(LOG_ERROR); /* of the guest's many mistakes we know */
	for (size_t i = 0; device_registry[i]; i++) {
		const struct device_class *class = device_registry[i];
		if (!is_virtio(class) || !class->config(&everything, 0))
			continue;
		seed = 1000 * i;
		bench_init(class);
		test();
		bench_finish();
	}
}

static const uint64_t layouts[] = {
	0, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
	VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC,
	UINT64_MAX, /* all that it offers */
};

static void start(uint64_t features)
{
	int r = driver_start(&bench.driver, &(struct driver_options){.features = features});
	ck_assert_msg(r == 0, "%s: does not start with features %#llx: %d", bench.class->name,
		      (unsigned long long)features, r);
}

/* Still a device that a driver can use. */
static void assert_usable(void)
{
	for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
		start(layouts[i]);
		usleep(200);
		ck_assert_msg(driver_status(&bench.driver) == 15, "%s: status %#x after a reset",
			      bench.class->name, driver_status(&bench.driver));
	}
	ck_assert_int_eq(driver_reset(&bench.driver), 0);
}

/*
 * A guest writes where the device reads, that is its right; ThreadSanitizer shall not tell of it. The
 * device's side is watched as ever.
 */
__attribute__((no_sanitize("thread"))) static void scribble(void *data, unsigned bytes, uint64_t value)
{
	volatile uint8_t *at = data;
	for (unsigned i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * (i % 8));
}

static bool all_are(const uint8_t *data, size_t len, uint8_t value)
{
	return len == 0 || (data[0] == value && memcmp(data, data + 1, len - 1) == 0);
}

/* Requests of random shape with random contents, some in forms that most devices know. */
static void submit_anything(unsigned queue)
{
	struct ring_buffer buffers[6];
	size_t count = 1 + random_u64() % ARRAY_LEN(buffers), readable = random_u64() % (count + 1);
	for (size_t i = 0; i < count; i++) {
		static const uint32_t lens[] = {0, 1, 4, 8, 16, 44, 512, 4096, 65536, UINT32_MAX};
		uint64_t r = random_u64();
		uint32_t len = lens[r % (i ? 9 : 10) % ARRAY_LEN(lens)];
		uint64_t gpa = bench.data_gpa + (r >> 8) % (DATA_BYTES - 65536);
		if (len == UINT32_MAX)
			len = (r >> 40) % 64 ? 16 : len; /* seldom: it breaks the queue */
		buffers[i] = (struct ring_buffer){gpa, len, i >= readable};
		uint8_t *data = world_at(&bench.world, gpa, 64);
		for (unsigned n = 0; n < 8; n++)
			scribble(data + 8 * n, 8, random_u64() >> (random_u64() & 3 ? 60 : 0));
	}
	(void)driver_submit(&bench.driver, queue, buffers, count);
}

static void use(unsigned requests)
{
	for (unsigned i = 0; i < requests && bench.driver.queue_count; i++) {
		submit_anything((unsigned)(random_u64() % bench.driver.queue_count));
		if (random_u64() % 8 == 0)
			driver_config_set(&bench.driver, (uint32_t)(random_u64() % 64),
					  1U << random_u64() % 3, random_u64());
	}
}

/* ---- the files that devices need ---- */

static int make_file(char *path, const char *name)
{
	(void)snprintf(path, PATH_BYTES, "%s/%s", folder, name);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int r = fd < 0 ? -1 : ftruncate(fd, FILE_BYTES);
	close_fd(fd);
	return r;
}

static void remove_files(void)
{
	(void)unlink(disk_path);
	(void)unlink(pmem_path);
	(void)unlink(vsock_path);
	(void)unlink(net_path);
	(void)rmdir(folder);
}

#endif
