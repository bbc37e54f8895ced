/* The driver's loop: keeps `depth` requests in the ring, asks for an interrupt only when there is nothing to
 * do. */
#include "traffic.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR_BYTES = 512, DEPTH_MAX = 256, WARM_UP_PART = 5 };

struct slot {
	uint64_t gpa; /* header, 16 bytes; status; data one page on */
	uint8_t *host;
};

struct run {
	struct target *target;
	const struct load *load;
	struct slot slots[DEPTH_MAX];
	unsigned slot_of_id[VIRTQ_SIZE_MAX];
	uint64_t next; /* sequential: block */
	uint64_t seed;
	uint64_t finished;
};

void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	return (double)loop_now_ns() / 1e9;
}

static uint64_t choose_block(struct run *run)
{
	uint64_t blocks = run->load->disk_bytes / run->load->block_bytes;
	if (run->load->sequential)
		return run->next++ % blocks;
	run->seed = run->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (run->seed >> 20) % blocks;
}

static void send_request(struct run *run, unsigned n)
{
	struct slot *slot = &run->slots[n];
	const struct load *load = run->load;
	const struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {load->write, 0, choose_block(run) * (load->block_bytes / SECTOR_BYTES)};
	memcpy(slot->host, &header, sizeof(header));
	slot->host[16] = 0xff;
	const struct ring_buffer buffers[] = {{slot->gpa, 16, false},
					      {slot->gpa + 4096, load->block_bytes, !load->write},
					      {slot->gpa + 16, 1, true}};
	int id = ring_add(run->target->ring, buffers, 3, true);
	if (id < 0)
		die("ring_add");
	run->slot_of_id[id] = n;
}

static void kick(struct run *run)
{
	ring_publish(run->target->ring);
	if (ring_wants_doorbell(run->target->ring))
		run->target->kick(run->target);
}

static unsigned collect(struct run *run)
{
	struct ring_used used;
	unsigned count = 0;
	while (ring_collect(run->target->ring, &used) > 0) {
		unsigned n = run->slot_of_id[used.id];
		if (run->slots[n].host[16] != 0)
			die("a request failed");
		send_request(run, n);
		count++;
	}
	run->finished += count;
	return count;
}

static void wait_interrupt(struct run *run)
{
	struct pollfd poll_fd = {.fd = run->target->irq_fd, .events = POLLIN};
	uint64_t count; /* a back end may have made the event fd, which is its own too, non-blocking */
	if (poll(&poll_fd, 1, 1000) == 1 && read(poll_fd.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		die("interrupt");
}

static void run_until(struct run *run, double end)
{
	while (now_s() < end) {
		if (collect(run))
			kick(run);
		else if (!ring_enable_interrupt(run->target->ring, 0))
			wait_interrupt(run);
		ring_disable_interrupt(run->target->ring);
	}
}

struct result traffic_run(struct target *target, const struct load *load)
{
	static struct run run;
	run = (struct run){.target = target, .load = load, .seed = 1};
	for (unsigned n = 0; n < load->depth; n++) {
		run.slots[n].gpa = world_alloc(target->world, 4096 + load->block_bytes);
		run.slots[n].host = world_at(target->world, run.slots[n].gpa, 4096 + load->block_bytes);
		memset(run.slots[n].host, 0x5a, 4096 + load->block_bytes);
	}
	for (unsigned n = 0; n < load->depth; n++)
		send_request(&run, n);
	kick(&run);
	double start = now_s();
	run_until(&run, start + load->seconds / WARM_UP_PART);
	uint64_t finished = run.finished;
	double cpu = target->cpu_s(target), begin = now_s();
	run_until(&run, begin + load->seconds);
	double requests = (double)(run.finished - finished);
	return (struct result){.iops = requests / (now_s() - begin),
			       .cpu_us = (target->cpu_s(target) - cpu) / requests * 1e6};
}
