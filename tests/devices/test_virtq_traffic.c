/*
 * Virtqueues under traffic: random operations on a split and a packed ring at once, which must look alike
 * from both ends; and a driver and a device on threads of their own that sleep whenever the rings say they
 * may.
 */
#include "virtq_rig.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static uint32_t random_below(uint64_t *state, uint32_t bound)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33) % bound;
}

/* ---- split against packed ---- */

enum { CHAIN_BUFFERS_MAX = 6, BUFFER_BYTES_MAX = 512 };

struct side {
	struct rig rig;
	struct virtq_chain chains[VIRTQ_SIZE_MAX]; /* in flight, in the order of their pops */
	struct iovec iov[VIRTQ_SIZE_MAX][CHAIN_BUFFERS_MAX];
	unsigned flying;
	uint32_t serial[VIRTQ_SIZE_MAX]; /* of what the driver added, by id */
	bool asked;			 /* the driver wants an interrupt and has had none since */
	bool new_used;			 /* something became visible since */
};

struct pair {
	struct side sides[2]; /* split, packed */
	uint64_t random;
	uint32_t added;
};

static void do_add(struct pair *pair)
{
	struct ring_buffer buffers[CHAIN_BUFFERS_MAX];
	uint16_t size = pair->sides[0].rig.vq.setup.size;
	bool indirect = pair->sides[0].rig.vq.setup.indirect && random_below(&pair->random, 2);
	size_t count = 1 + random_below(&pair->random,
					indirect || size > CHAIN_BUFFERS_MAX ? CHAIN_BUFFERS_MAX : size);
	size_t reads = random_below(&pair->random, (uint32_t)count + 1);
	for (size_t i = 0; i < count; i++) {
		buffers[i].gpa = RIG_DATA_GPA + random_below(&pair->random, 1 << 20);
		buffers[i].len = random_below(&pair->random, BUFFER_BYTES_MAX);
		buffers[i].write = i >= reads;
	}
	int ids[2];
	for (int s = 0; s < 2; s++) {
		struct side *side = &pair->sides[s];
		ids[s] = ring_add(&side->rig.ring, buffers, count, indirect);
		if (ids[s] >= 0)
			side->serial[ids[s]] = pair->added;
	}
	ck_assert_int_eq(ids[0] < 0, ids[1] < 0);
	pair->added += ids[0] >= 0;
}

static void do_pop(struct pair *pair)
{
	int r[2];
	for (int s = 0; s < 2; s++) {
		struct side *side = &pair->sides[s];
		struct virtq_chain *chain = &side->chains[side->flying];
		*chain = (struct virtq_chain){.iov = side->iov[side->flying], .iov_max = CHAIN_BUFFERS_MAX};
		ck_assert(virtq_has_request(&side->rig.vq) == (virtq_pop(&side->rig.vq, chain) == 1));
		r[s] = side->rig.vq.in_flight == side->flying + 1;
	}
	ck_assert_int_eq(r[0], r[1]);
	if (!r[0])
		return;
	const struct virtq_chain *a = &pair->sides[0].chains[pair->sides[0].flying++];
	const struct virtq_chain *b = &pair->sides[1].chains[pair->sides[1].flying++];
	ck_assert_uint_eq(a->read_count, b->read_count);
	ck_assert_uint_eq(a->write_count, b->write_count);
	ck_assert_uint_eq(a->read_bytes, b->read_bytes);
	ck_assert_uint_eq(a->write_bytes, b->write_bytes);
	ck_assert_uint_eq(a->desc_count, b->desc_count);
	ck_assert_uint_eq(pair->sides[0].serial[a->head], pair->sides[1].serial[b->head]);
	for (int i = 0; i < a->read_count + a->write_count; i++) {
		ck_assert_uint_eq(a->iov[i].iov_len, b->iov[i].iov_len);
		ck_assert_int_eq((uint8_t *)a->iov[i].iov_base -
					 (uint8_t *)guest_memory_at(pair->sides[0].rig.memory, 0, 1),
				 (uint8_t *)b->iov[i].iov_base -
					 (uint8_t *)guest_memory_at(pair->sides[1].rig.memory, 0, 1));
	}
}

/* `which` in the order of pops; the places keep their iov arrays. */
static void forget(struct side *side, unsigned which)
{
	for (side->flying--; which < side->flying; which++) {
		side->chains[which] = side->chains[which + 1];
		memcpy(side->iov[which], side->iov[which + 1], sizeof(side->iov[which]));
		side->chains[which].iov = side->iov[which];
	}
}

static void do_give_back(struct pair *pair, bool unpop)
{
	unsigned flying = pair->sides[0].flying;
	if (!flying)
		return;
	unsigned which = unpop ? flying - 1 : random_below(&pair->random, flying);
	uint32_t written =
		random_below(&pair->random, 2) ? (uint32_t)pair->sides[0].chains[which].write_bytes : 0;
	int r[2];
	for (int s = 0; s < 2; s++) {
		struct side *side = &pair->sides[s];
		struct virtq_position before = side->rig.vq.at;
		const struct virtq_chain *chain = &side->chains[which];
		r[s] = unpop ? virtq_unpop(&side->rig.vq, chain) : virtq_push(&side->rig.vq, chain, written);
		side->new_used |= before.next_used != side->rig.vq.at.next_used ||
				  before.used_wrap != side->rig.vq.at.used_wrap;
	}
	ck_assert_int_eq(r[0], r[1]);
	if (r[0] == -EINVAL) { /* the latest of all pops was pushed already */
		ck_assert(unpop);
		return;
	}
	ck_assert_int_eq(r[0], 0);
	forget(&pair->sides[0], which);
	forget(&pair->sides[1], which);
}

static void do_collect(struct pair *pair)
{
	struct ring_used used[2];
	int r[2];
	for (int s = 0; s < 2; s++)
		r[s] = ring_collect(&pair->sides[s].rig.ring, &used[s]);
	ck_assert_int_ge(r[0], 0);
	ck_assert_int_eq(r[0], r[1]);
	if (!r[0])
		return;
	ck_assert_uint_eq(used[0].len, used[1].len);
	ck_assert_uint_eq(pair->sides[0].serial[used[0].id], pair->sides[1].serial[used[1].id]);
}

/* An interrupt that was asked for comes; whether others do is up to how far an event can see. */
static void do_notify(struct pair *pair, uint32_t what)
{
	for (int s = 0; s < 2; s++) {
		struct side *side = &pair->sides[s];
		if (what == 0) {
			side->asked =
				!ring_enable_interrupt(&side->rig.ring, 0); /* else the driver goes on */
			side->new_used = false;
		} else if (what == 1) {
			ring_disable_interrupt(&side->rig.ring);
			side->asked = false;
		} else {
			bool wants = virtq_should_interrupt(&side->rig.vq);
			ck_assert(wants || !side->asked || !side->new_used);
			side->asked &=
				!side->new_used || !side->rig.vq.setup.event_idx; /* events go off once */
			side->new_used = false;
		}
	}
}

static void random_traffic(const struct virtq_setup *features, uint16_t size, uint64_t seed)
{
	static struct pair pair;
	pair = (struct pair){.random = seed};
	for (int s = 0; s < 2; s++) {
		struct virtq_setup setup = *features;
		setup.size = size;
		setup.packed = s;
		/* The split index wraps on the way, the packed one all the time. */
		uint16_t start = s ? (uint16_t)(random_below(&pair.random, size)) : 0xff80;
		rig_init_at(&pair.sides[s].rig, &setup, start, random_below(&pair.random, 2));
	}
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t op = random_below(&pair.random, 16);
		if (op < 4)
			do_add(&pair);
		else if (op < 6)
			for (int s = 0; s < 2; s++)
				ring_publish(&pair.sides[s].rig.ring);
		else if (op < 9)
			do_pop(&pair);
		else if (op < 12)
			do_give_back(&pair, op == 9 && i % 4 == 0);
		else if (op < 15)
			do_collect(&pair);
		else
			do_notify(&pair, random_below(&pair.random, 3));
		ck_assert_uint_eq(pair.sides[0].rig.vq.in_flight, pair.sides[1].rig.vq.in_flight);
	}
	ck_assert_uint_gt(pair.added, 500);
	for (int s = 0; s < 2; s++)
		rig_finish(&pair.sides[s].rig);
}

START_TEST(split_and_packed_look_alike)
{
	static const uint16_t sizes[] = {1, 2, 4, 32, 256, 1024};
	for (unsigned features = 0; features < 8; features++) {
		struct virtq_setup setup = {
			.indirect = features & 1, .event_idx = features & 2, .in_order = features & 4};
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			random_traffic(&setup, sizes[i], 1 + features * 100 + i);
	}
}
END_TEST

/* ---- two threads ---- */

enum { REQUESTS = 10000, HOLD = 3, SLOT_BYTES = 64 };

struct duet {
	struct rig rig;
	sem_t doorbell, interrupt;
	unsigned served, doorbells, interrupts;
	_Atomic bool stop;
};

static void sleep_on(sem_t *sem, const char *name, const char *who)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	while (sem_timedwait(sem, &until) < 0)
		if (errno != EINTR) {
			(void)fprintf(stderr, "%s: a lost %s\n", name, who);
			abort(); /* ck_assert is not for other threads */
		}
}

static void answer(struct duet *duet, const struct virtq_chain *chain)
{
	uint64_t value = 0;
	(void)virtq_chain_read(chain, 0, &value, sizeof(value));
	value = ~value;
	(void)virtq_chain_write(chain, 0, &value, sizeof(value));
	if (virtq_push(&duet->rig.vq, chain, sizeof(value)) != 0)
		abort();
	duet->served++;
}

/* Holds up to HOLD chains and gives them back in another order; sleeps when the ring is empty. */
static void *device_thread(void *arg)
{
	struct duet *duet = arg;
	struct virtq *vq = &duet->rig.vq;
	struct iovec iov[HOLD][4];
	struct virtq_chain held[HOLD];
	while (!duet->stop) {
		unsigned count = 0;
		int r = 0;
		virtq_disable_doorbell(vq);
		for (; count < HOLD; count++) {
			held[count] = (struct virtq_chain){.iov = iov[count], .iov_max = 4};
			r = virtq_pop(vq, &held[count]);
			if (r != 1)
				break;
		}
		if (r < 0)
			abort();
		for (unsigned i = count; i > 0; i--)
			answer(duet, &held[i - 1]);
		if (virtq_should_interrupt(vq)) {
			duet->interrupts++;
			(void)sem_post(&duet->interrupt);
		}
		if (count == 0 && !virtq_enable_doorbell(vq) && !duet->stop)
			sleep_on(&duet->doorbell, duet->rig.name, "doorbell");
	}
	return NULL;
}

static void check_used(struct duet *duet, const uint64_t *expected, const struct ring_used *used)
{
	uint64_t value;
	uint64_t gpa = RIG_DATA_GPA + (uint64_t)used->id * SLOT_BYTES;
	ck_assert_uint_eq(used->len, sizeof(value));
	memcpy(&value, guest_memory_at(duet->rig.memory, gpa + 8, sizeof(value)), sizeof(value));
	ck_assert_uint_eq(value, ~expected[used->id]);
}

static void drive(struct duet *duet, uint64_t *random)
{
	static uint64_t expected[VIRTQ_SIZE_MAX];
	struct ring *ring = &duet->rig.ring;
	struct ring_used used;
	for (unsigned added = 0, collected = 0; collected < REQUESTS;) {
		unsigned batch = 1 + random_below(random, 8), fresh = 0;
		/* The next id decides where the request lies: the data must be there before it is added. */
		for (; added < REQUESTS && fresh < batch && ring->free_desc >= 2; fresh++, added++) {
			uint64_t value = (uint64_t)added << 32 | random_below(random, 1 << 30);
			uint64_t gpa = RIG_DATA_GPA + (uint64_t)ring->free_head * SLOT_BYTES;
			bool indirect = ring->setup.indirect && added % 2;
			expected[ring->free_head] = value;
			ck_assert_int_eq(guest_memory_write(duet->rig.memory, gpa, &value, 8), 0);
			ck_assert_int_ge(
				ring_add(ring, (struct ring_buffer[]){{gpa, 8, false}, {gpa + 8, 16, true}},
					 2, indirect),
				0);
		}
		ring_publish(ring);
		if (fresh && ring_wants_doorbell(ring)) {
			duet->doorbells++;
			(void)sem_post(&duet->doorbell);
		}
		ring_disable_interrupt(ring);
		int r = 0;
		unsigned before = collected;
		while ((r = ring_collect(ring, &used)) == 1) {
			check_used(duet, expected, &used);
			collected++;
		}
		ck_assert_int_eq(r, 0);
		bool full = ring->free_desc < 2 || added == REQUESTS;
		if (collected == before && full && !ring_enable_interrupt(ring, 0))
			sleep_on(&duet->interrupt, duet->rig.name, "interrupt");
	}
}

static void duet_of(const struct virtq_setup *setup, uint64_t seed)
{
	static struct duet duet;
	pthread_t thread;
	duet.stop = false;
	duet.served = duet.doorbells = duet.interrupts = 0;
	rig_init(&duet.rig, setup);
	ck_assert_int_eq(sem_init(&duet.doorbell, 0, 0), 0);
	ck_assert_int_eq(sem_init(&duet.interrupt, 0, 0), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, device_thread, &duet), 0);
	drive(&duet, &seed);
	duet.stop = true;
	(void)sem_post(&duet.doorbell);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(duet.served, REQUESTS);
	ck_assert_uint_eq(duet.rig.vq.in_flight, 0);
	(void)sem_destroy(&duet.doorbell);
	(void)sem_destroy(&duet.interrupt);
	rig_finish(&duet.rig);
}

START_TEST(no_notification_is_lost_between_threads)
{
	static const uint16_t sizes[] = {2, 4, 256};
	for (unsigned features = 0; features < 16; features++)
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
			duet_of(&(struct virtq_setup){.size = sizes[i],
						      .packed = features & 1,
						      .indirect = features & 2,
						      .event_idx = features & 4,
						      .in_order = features & 8},
				features + 1);
}
END_TEST

TEST_MAIN("virtq_traffic", split_and_packed_look_alike, no_notification_is_lost_between_threads)
