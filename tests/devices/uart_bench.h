/*
 * A UART on a bench: its character device is replaced by one that the test holds in its hands. The functions
 * below take the place of those in devices/backend: one program, one file.
 */
#ifndef AERIE_TESTS_DEVICES_UART_BENCH_H
#define AERIE_TESTS_DEVICES_UART_BENCH_H

#include "../../devices/devices.h"
#include "fake.h"
#include "harness.h"

#include <errno.h>
#include <string.h>

/* ---- the other end of the wire ---- */

struct chardev {
	const struct chardev_user *user;
	void *owner;
	uint8_t sent[4096];
	size_t sent_count;
	size_t takes; /* how many bytes it still takes */
	_Atomic unsigned ready_calls;
	unsigned write_calls, flushes;
	bool alive;
};

static struct chardev wire;
static int refuse_create;

int chardev_create(const struct chardev_config *config, struct loop *loop, const struct console_keys *keys,
		   bool goes_on, struct chardev **ret, struct err *err)
{
	(void)config;
	(void)loop;
	(void)keys;
	(void)goes_on;
	if (refuse_create)
		return err_sys(err, refuse_create, "wire");
	wire = (struct chardev){.takes = SIZE_MAX, .alive = true};
	*ret = &wire;
	return 0;
}

void chardev_destroy(struct chardev *chardev)
{
	if (chardev)
		chardev->alive = false;
}

void chardev_attach(struct chardev *chardev, const struct chardev_user *user, void *owner)
{
	chardev->user = user;
	chardev->owner = owner;
}

size_t chardev_write(struct chardev *chardev, const void *data, size_t len)
{
	size_t taken = len < chardev->takes ? len : chardev->takes;
	chardev->write_calls++;
	ck_assert_uint_le(chardev->sent_count + taken, sizeof(chardev->sent));
	memcpy(chardev->sent + chardev->sent_count, data, taken);
	chardev->sent_count += taken;
	chardev->takes -= taken;
	return taken;
}

void chardev_flush(struct chardev *chardev)
{
	chardev->flushes++;
}

void chardev_receive_ready(struct chardev *chardev)
{
	chardev->ready_calls++;
}

const char *chardev_peer(const struct chardev *chardev)
{
	(void)chardev;
	return NULL;
}

static inline size_t type(const char *text)
{
	size_t room = wire.user->room(wire.owner), len = strlen(text);
	if (len > room)
		len = room;
	if (len)
		wire.user->receive(wire.owner, (const uint8_t *)text, len);
	return len;
}

/* ---- the guest ---- */

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, THR = RBR, FCR = IIR };
enum { COM1 = 0x3f8, GSI = 4 };

struct bench {
	struct fake fake;
	struct device *device;
};

static inline void bench_init(struct bench *bench)
{
	static const struct chardev_config config = {.kind = CHARDEV_NULL};
	fake_init(&bench->fake);
	refuse_create = 0;
	int res = uart_class.create(&config, 0, &bench->fake.services, &bench->device, &bench->fake.err);
	ck_assert_msg(res == 0, "%s", bench->fake.err.text);
}

static inline void bench_finish(struct bench *bench)
{
	uart_class.destroy(bench->device);
	ck_assert(!wire.alive);
	fake_finish(&bench->fake);
}

static inline uint8_t in(struct bench *bench, unsigned reg)
{
	return (uint8_t)fake_in(&bench->fake, (uint16_t)(COM1 + reg), 1);
}

static inline void out(struct bench *bench, unsigned reg, uint8_t value)
{
	fake_out(&bench->fake, (uint16_t)(COM1 + reg), 1, value);
}

static inline bool irq(struct bench *bench)
{
	return fake_irq_level(&bench->fake, GSI);
}

static inline unsigned rises(struct bench *bench)
{
	return fake_irq_rises(&bench->fake, GSI);
}

#define ck_assert_sent(text)                                                                                 \
	do {                                                                                                 \
		ck_assert_uint_eq(wire.sent_count, strlen(text));                                            \
		ck_assert_mem_eq(wire.sent, text, wire.sent_count);                                          \
	} while (0)

#endif
