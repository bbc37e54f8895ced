/*
 * What a request costs in the virtqueue itself: nanoseconds for virtq_pop and for virtq_push with
 * virtq_should_interrupt, one thread, driver and device in turns. The share is that of one core which the
 * queue takes at a million requests a second. The best of REPEATS, since others use the machine too.
 */
#include "../devices/ring.h"
#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 32, ROUNDS = 5000, REPEATS = 20, BUFFERS = 3 };

static uint64_t now_ns(void)
{
	struct timespec at;
	(void)clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * UINT64_C(1000000000) + (uint64_t)at.tv_nsec;
}

static void need(bool good, const char *what)
{
	if (!good) {
		(void)fprintf(stderr, "bench_virtq: %s\n", what);
		exit(EXIT_FAILURE);
	}
}

struct times {
	uint64_t pop, push;
};

/* As a 4 KiB block read looks: header, data, status. */
static void round_of(struct ring *ring, struct virtq *vq, bool indirect, struct times *times)
{
	static struct virtq_chain chains[BATCH];
	static struct iovec iov[BATCH][BUFFERS];
	struct ring_used used;
	for (unsigned i = 0; i < BATCH; i++) {
		uint64_t gpa = (8U << 20) + i * 8192ULL;
		const struct ring_buffer buffers[BUFFERS] = {
			{gpa, 16, false}, {gpa + 4096, 4096, true}, {gpa + 16, 1, true}};
		need(ring_add(ring, buffers, BUFFERS, indirect) >= 0, "the ring is full");
		chains[i] = (struct virtq_chain){.iov = iov[i], .iov_max = BUFFERS};
	}
	ring_publish(ring);
	uint64_t start = now_ns();
	for (unsigned i = 0; i < BATCH; i++)
		need(virtq_pop(vq, &chains[i]) == 1, "no request");
	uint64_t popped = now_ns();
	for (unsigned i = 0; i < BATCH; i++) {
		need(virtq_push(vq, &chains[i], 4097) == 0, "no push");
		(void)virtq_should_interrupt(vq);
	}
	times->push += now_ns() - popped;
	times->pop += popped - start;
	while (ring_collect(ring, &used) == 1)
		continue;
}

static void bench(struct guest_memory *memory, unsigned features)
{
	static struct ring ring;
	static struct virtq vq;
	const struct virtq_setup setup = {.size = 256,
					  .packed = features & 1,
					  .indirect = features & 2,
					  .event_idx = features & 4,
					  .in_order = features & 8};
	struct times best = {UINT64_MAX / 2, UINT64_MAX / 2};
	need(ring_init(&ring, memory, &setup, 1U << 20) == 0, "ring_init");
	need(virtq_init(&vq, memory, &ring.setup, NULL) == 0, "virtq_init");
	for (unsigned repeat = 0; repeat < REPEATS; repeat++) {
		struct times times = {0};
		for (unsigned i = 0; i < ROUNDS; i++)
			round_of(&ring, &vq, setup.indirect, &times);
		if (times.pop + times.push < best.pop + best.push)
			best = times;
	}
	double pop = (double)best.pop / (BATCH * ROUNDS), push = (double)best.push / (BATCH * ROUNDS);
	(void)printf("%-7s %-9s %-10s %-9s %6.1f %6.1f %6.1f %7.1f %%\n", setup.packed ? "packed" : "split",
		     setup.indirect ? "indirect" : "direct", setup.event_idx ? "event_idx" : "-",
		     setup.in_order ? "in_order" : "-", pop, push, pop + push, (pop + push) / 10);
}

int main(void)
{
	static const struct memory_config config = {.size_bytes = 16U << 20, .prealloc = true};
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	need(guest_memory_create(&config, &memory, &err) == 0, err.text);
	(void)printf("ns; chains of %d buffers, %d in flight        pop   push    sum  at 1M/s\n", BUFFERS,
		     BATCH);
	for (unsigned features = 0; features < 16; features++)
		bench(memory, features);
	guest_memory_destroy(memory);
	return 0;
}
