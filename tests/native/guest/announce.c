/*
 * A driver for virtio-net that does nothing but announce itself when it is asked to (VIRTIO 1.3, 5.1.6.5.4):
 * says that it was asked, acknowledges by the control queue, says what the device thinks of that. Counts
 * meanwhile.
 */
#include "guest.h"

enum {
	ECAM = 0xe0000000,
	SLOT = 5,
	COMMAND = 0x04,
	REGISTERS_BAR = 0x20,
	REGISTERS_HIGH = 0x24,
	BASE = 0xd0000000
};
enum {
	DEVICE = 0x2000,
	NOTIFY = 0x3000,
	DRIVER_FEATURE_SELECT = 8,
	DRIVER_FEATURE = 12,
	DEVICE_STATUS = 20,
	QUEUE_SELECT = 22,
	QUEUE_SIZE = 24,
	QUEUE_ENABLE = 28,
	QUEUE_DESC = 32,
	QUEUE_DRIVER = 40,
	QUEUE_DEVICE = 48
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { F_MAC = 1 << 5, F_STATUS = 1 << 16, F_CTRL_VQ = 1 << 17, F_GUEST_ANNOUNCE = 1 << 21, F_VERSION_1 = 1 };
enum { CONFIG_STATUS = 6, S_ANNOUNCE = 2, CLASS_ANNOUNCE = 3, QUEUES = 3, CONTROL = 2, SIZE = 8 };
enum { DESC_NEXT = 1, DESC_WRITE = 2, PAUSE = 20000 };

struct desc {
	uint64_t address;
	uint32_t len;
	uint16_t flags, next;
};

static struct {
	struct desc desc[SIZE];
	volatile uint16_t avail[2 + SIZE + 1]; /* flags, index, ring */
	volatile uint16_t used[2 + 4 * SIZE + 1] __attribute__((aligned(4)));
} queues[QUEUES] __attribute__((aligned(4096)));

static uint8_t command[2] = {CLASS_ANNOUNCE, 0};
static volatile uint8_t answer;

static void put32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(BASE + offset) = value;
}

static void put16(uint32_t offset, uint16_t value)
{
	*(volatile uint16_t *)(BASE + offset) = value;
}

static void put8(uint32_t offset, uint8_t value)
{
	*(volatile uint8_t *)(BASE + offset) = value;
}

static void put_address(uint32_t offset, volatile void *address)
{
	put32(offset, (uint32_t)address);
	put32(offset + 4, 0);
}

static void start(void)
{
	volatile uint32_t *conf = (volatile uint32_t *)(ECAM + (SLOT << 15));
	conf[REGISTERS_BAR / 4] = BASE;
	conf[REGISTERS_HIGH / 4] = 0;
	conf[COMMAND / 4] = 6;
	put8(DEVICE_STATUS, 0);
	put8(DEVICE_STATUS, ACKNOWLEDGE | DRIVER);
	put32(DRIVER_FEATURE_SELECT, 0);
	put32(DRIVER_FEATURE, F_MAC | F_STATUS | F_CTRL_VQ | F_GUEST_ANNOUNCE);
	put32(DRIVER_FEATURE_SELECT, 1);
	put32(DRIVER_FEATURE, F_VERSION_1);
	put8(DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
	for (uint16_t i = 0; i < QUEUES; i++) {
		put16(QUEUE_SELECT, i);
		put16(QUEUE_SIZE, SIZE);
		put_address(QUEUE_DESC, queues[i].desc);
		put_address(QUEUE_DRIVER, queues[i].avail);
		put_address(QUEUE_DEVICE, queues[i].used);
		put16(QUEUE_ENABLE, 1);
	}
	put8(DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void acknowledge(void)
{
	static uint16_t done;
	answer = 0xee;
	queues[CONTROL].desc[0] = (struct desc){(uint32_t)command, sizeof(command), DESC_NEXT, 1};
	queues[CONTROL].desc[1] = (struct desc){(uint32_t)&answer, 1, DESC_WRITE, 0};
	queues[CONTROL].avail[2 + done % SIZE] = 0;
	queues[CONTROL].avail[1] = ++done;
	put16(NOTIFY + 4 * CONTROL, CONTROL);
	while (queues[CONTROL].used[1] != done)
		;
	print_hex("answer ", answer);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	start();
	for (uint32_t i = 0;; i++) {
		if (*(volatile uint16_t *)(BASE + DEVICE + CONFIG_STATUS) & S_ANNOUNCE) {
			print("asked\n");
			acknowledge();
		}
		print_hex("", i);
		for (volatile int pause = 0; pause < PAUSE; pause++)
			;
	}
}
