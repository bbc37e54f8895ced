/* The virtio console (VIRTIO 1.3, 5.3) as a driver sees it, with files and sockets behind its ports. */
#include "../../devices/devices.h"
#include "../../devices/virtio/console.h"
#include "base/cleanup.h"
#include "driver.h"
#include "harness.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
	EVENT_DEVICE_READY = 0,
	EVENT_DEVICE_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_RESIZE = 5,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct rig {
	struct world world;
	struct device *device;
	struct driver driver;
	struct console_config config;
	char folder[64], log[96], socket[96];
	uint64_t gpa;
	struct loop_op quit_op;
};

static struct rig rig;

static void quit_done(struct loop_op *op, int res)
{
	(void)op, (void)res;
	loop_quit(rig.world.loop);
}

/* Let the machine's loop, which is this thread's, work for a while. */
static void pump(void)
{
	rig.quit_op.done = quit_done;
	loop_delay(rig.world.loop, &rig.quit_op, 20 * 1000000ULL);
	ck_assert_int_eq(loop_run(rig.world.loop), 0);
}

static void rig_init(uint64_t features)
{
	struct err err = ERR_INIT;
	log_set_level(LOG_ERROR);
	rig = (struct rig){.config = {.port_count = 2}};
	ck_assert_ptr_nonnull(scratch_folder(rig.folder, sizeof(rig.folder), "console-XXXXXX"));
	(void)snprintf(rig.log, sizeof(rig.log), "%s/log", rig.folder);
	(void)snprintf(rig.socket, sizeof(rig.socket), "%s/socket", rig.folder);
	rig.config.ports[0] = (struct chardev_config){.kind = CHARDEV_FILE, .path = rig.log};
	rig.config.ports[1] = (struct chardev_config){.kind = CHARDEV_UNIX, .path = rig.socket};
	world_init(&rig.world, 1);
	ck_assert_msg(console_class.create(&rig.config, 0, &rig.world.services, &rig.device, &err) == 0, "%s",
		      err.text);
	ck_assert_int_eq(driver_init(&rig.driver, &rig.world, VIRTIO_ID_CONSOLE), 0);
	ck_assert_int_eq(driver_start(&rig.driver, &(struct driver_options){.features = features}), 0);
	rig.gpa = world_alloc(&rig.world, 65536);
}

static void rig_finish(void)
{
	driver_finish(&rig.driver);
	console_class.destroy(rig.device);
	world_finish(&rig.world);
	(void)unlink(rig.log);
	(void)unlink(rig.socket);
	(void)rmdir(rig.folder);
}

static const struct console_port *rig_port(unsigned index)
{
	return &container_of(rig.device, struct console, base.device)->ports[index];
}

static void send_control(uint32_t id, uint16_t event, uint16_t value)
{
	const struct control control = {id, event, value};
	memcpy(world_at(&rig.world, rig.gpa, sizeof(control)), &control, sizeof(control));
	const struct ring_buffer buffer = {rig.gpa, sizeof(control), false};
	ck_assert_int_eq(driver_request(&rig.driver, CONSOLE_CONTROL_TX, &buffer, 1), 0);
}

/* The next control message; `more` gets what follows it. */
static struct control next_control(char more[64])
{
	struct control control;
	struct ring_used used;
	const struct ring_buffer buffer = {rig.gpa + 4096, 64, true};
	memset(world_at(&rig.world, rig.gpa + 4096, 64), 0, 64);
	ck_assert_int_ge(driver_submit(&rig.driver, CONSOLE_CONTROL_RX, &buffer, 1), 0);
	ck_assert_int_eq(driver_collect(&rig.driver, CONSOLE_CONTROL_RX, &used), 0);
	memcpy(&control, world_at(&rig.world, rig.gpa + 4096, 64), sizeof(control));
	if (more)
		memcpy(more, (char *)world_at(&rig.world, rig.gpa + 4096, 64) + sizeof(control),
		       64 - sizeof(control));
	return control;
}

static void expect_control(uint32_t id, uint16_t event, uint16_t value)
{
	struct control control = next_control(NULL);
	ck_assert_uint_eq(control.id, id);
	ck_assert_uint_eq(control.event, event);
	ck_assert_uint_eq(control.value, value);
}

static void write_port(unsigned queue, const char *text)
{
	memcpy(world_at(&rig.world, rig.gpa + 8192, 4096), text, strlen(text));
	const struct ring_buffer buffer = {rig.gpa + 8192, (uint32_t)strlen(text), false};
	ck_assert_int_eq(driver_request(&rig.driver, queue, &buffer, 1), 0);
}

/* A thread of the kernel's writes to a file, when it has time. */
static void expect_log(const char *want)
{
	char got[256] = "";
	ssize_t len = 0;
	_cleanup_close_ int fd = open(rig.log, O_RDONLY);
	for (unsigned i = 0; i < 500 && (size_t)len < strlen(want); i++) {
		pump();
		len = pread(fd, got, sizeof(got) - 1, 0);
		ck_assert_int_ge(len, 0);
	}
	ck_assert_str_eq(got, want);
}

static int connect_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig.socket);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

START_TEST(ports_announce_themselves)
{
	char name[64];
	rig_init(CONSOLE_F_MULTIPORT | CONSOLE_F_SIZE);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 4, 4), 2);
	send_control(0, EVENT_DEVICE_READY, 1);
	expect_control(0, EVENT_DEVICE_ADD, 1);
	expect_control(1, EVENT_DEVICE_ADD, 1);
	send_control(0, EVENT_PORT_READY, 1);
	expect_control(0, EVENT_CONSOLE_PORT, 1);
	expect_control(0, EVENT_PORT_OPEN, 1);
	send_control(1, EVENT_PORT_READY, 1);
	ck_assert_uint_eq(next_control(name).event, EVENT_PORT_NAME);
	ck_assert_str_eq(name, "aerie.port.1");
	expect_control(1, EVENT_PORT_OPEN, 1);
	rig_finish();
}
END_TEST

START_TEST(output_reaches_the_stream)
{
	rig_init(0); /* without MULTIPORT there is port 0 and no more */
	write_port(CONSOLE_TX, "hello ");
	write_port(CONSOLE_TX, "from the guest\n");
	driver_config_set(&rig.driver, 8, 4, '!');
	pump();
	expect_log("hello from the guest\n!");
	rig_finish();
}
END_TEST

START_TEST(a_port_takes_input_when_the_guest_has_it_open)
{
	struct ring_used used;
	rig_init(CONSOLE_F_MULTIPORT);
	send_control(1, EVENT_PORT_READY, 1);
	pump();
	_cleanup_close_ int fd = connect_socket();
	pump();
	const struct ring_buffer buffer = {rig.gpa + 12288, 4, true};
	for (int i = 0; i < 3; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 4, &buffer, 1), 0);
	ck_assert_int_eq(send(fd, "abcdefgh", 8, 0), 8);
	pump();
	ck_assert_int_eq(driver_try_collect(&rig.driver, 4, &used), 0);
	send_control(1, EVENT_PORT_OPEN, 1);
	ck_assert_int_eq(driver_collect(&rig.driver, 4, &used), 0);
	ck_assert_uint_eq(used.len, 4);
	ck_assert_int_eq(driver_collect(&rig.driver, 4, &used), 0);
	ck_assert_mem_eq(world_at(&rig.world, rig.gpa + 12288, 4), "efgh", 4);
	write_port(5, "answer");
	pump();
	char answer[16] = "";
	ck_assert_int_eq(recv(fd, answer, sizeof(answer), 0), 6);
	ck_assert_str_eq(answer, "answer");
	rig_finish();
}
END_TEST

START_TEST(a_slow_reader_holds_the_output_back_and_loses_nothing)
{
	enum { ROUNDS = 64, BYTES = 16384 };
	struct ring_used used;
	rig_init(CONSOLE_F_MULTIPORT);
	pump();
	_cleanup_close_ int fd = connect_socket();
	pump();
	uint8_t *data = world_at(&rig.world, rig.gpa + 16384, BYTES);
	for (unsigned i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i * 7);
	const struct ring_buffer buffer = {rig.gpa + 16384, BYTES, false};
	unsigned submitted = 0, collected = 0;
	size_t received = 0;
	while (received < (size_t)ROUNDS * BYTES) {
		while (submitted < ROUNDS && driver_submit(&rig.driver, 5, &buffer, 1) >= 0)
			submitted++;
		pump();
		uint8_t got[65536];
		ssize_t len = recv(fd, got, sizeof(got), MSG_DONTWAIT);
		for (ssize_t i = 0; i < len; i++)
			ck_assert_uint_eq(got[i], (uint8_t)((received + (size_t)i) % BYTES * 7));
		received += len > 0 ? (size_t)len : 0;
		while (driver_try_collect(&rig.driver, 5, &used) == 1)
			collected++;
	}
	ck_assert_uint_le(collected, ROUNDS);
	rig_finish();
}
END_TEST

/* Half of a buffer has been taken: wherever the machine goes on, it goes on from there. */
START_TEST(a_pause_neither_loses_nor_doubles_output)
{
	enum { ROUNDS = 28, BYTES = 16001 };
	struct err err = ERR_INIT;
	_cleanup_free_ uint8_t *state = calloc(1, console_class.state->size);
	unsigned submitted = 0, halves = 0;
	size_t received = 0;
	rig_init(CONSOLE_F_MULTIPORT);
	pump();
	_cleanup_close_ int fd = connect_socket();
	pump();
	uint8_t *data = world_at(&rig.world, rig.gpa + 16384, BYTES);
	for (unsigned i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i % 251);
	const struct ring_buffer buffer = {rig.gpa + 16384, BYTES, false};
	while (received < (size_t)ROUNDS * BYTES) {
		uint8_t got[50021];
		while (submitted < ROUNDS && driver_submit(&rig.driver, 5, &buffer, 1) >= 0)
			submitted++;
		console_class.quiesce(rig.device);
		console_class.save(rig.device, state);
		halves += rig_port(1)->output_done > 0;
		ck_assert_msg(console_class.restore(rig.device, state, &err) == 0, "%s", err.text);
		console_class.resume(rig.device);
		console_class.quiesce(rig.device); /* perhaps before the device has looked at its queue */
		console_class.resume(rig.device);
		pump();
		ssize_t len = recv(fd, got, sizeof(got), MSG_DONTWAIT);
		for (ssize_t i = 0; i < len; i++)
			ck_assert_uint_eq(got[i], (uint8_t)((received + (size_t)i) % BYTES % 251));
		received += len > 0 ? (size_t)len : 0;
	}
	ck_assert_uint_gt(halves, 3);
	pump();
	ck_assert_int_eq(recv(fd, data, 1, MSG_DONTWAIT), -1);
	rig_finish();
}
END_TEST

/* What was half taken belongs to a driver that is gone. */
START_TEST(a_reset_begins_the_next_output_at_its_start)
{
	rig_init(CONSOLE_F_MULTIPORT);
	pump();
	_cleanup_close_ int fd = connect_socket(); /* reads nothing */
	pump();
	ck_assert_int_ge(fd, 0);
	const struct ring_buffer buffer = {rig.gpa + 16384, 30011, false};
	for (unsigned i = 0; i < 32; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 5, &buffer, 1), 0);
	pump();
	console_class.quiesce(rig.device);
	ck_assert_uint_gt(rig_port(1)->output_done, 0);
	console_class.resume(rig.device);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	ck_assert_uint_eq(rig_port(1)->output_done, 0);
	rig_finish();
}
END_TEST

/* Nobody is there who reads it: what the host has not taken goes with the queue, the rest comes as it should.
 */
START_TEST(a_reset_of_the_queue_drops_what_the_host_has_not_taken)
{
	enum { BYTES = 32768 };
	struct ring_used used;
	rig_init(CONSOLE_F_MULTIPORT | VIRTIO_F_RING_RESET);
	pump();
	_cleanup_close_ int fd = connect_socket();
	pump();
	memset(world_at(&rig.world, rig.gpa + 16384, BYTES), 'x', BYTES);
	const struct ring_buffer buffer = {rig.gpa + 16384, BYTES, false};
	for (unsigned i = 0; i < 32; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 5, &buffer, 1), 0);
	pump();
	ck_assert_int_eq(driver_reset_queue(&rig.driver, 5), 0);
	ck_assert_int_eq(driver_enable_queue(&rig.driver, 5, 0), 0);
	memcpy(world_at(&rig.world, rig.gpa + 8192, 3), "end", 3);
	const struct ring_buffer last = {rig.gpa + 8192, 3, false};
	int id = driver_submit(&rig.driver, 5, &last, 1);
	ck_assert_int_ge(id, 0);
	uint32_t tail = 0; /* the latest three bytes */
	for (unsigned i = 0; i < 500 && tail != ('e' << 16 | 'n' << 8 | 'd'); i++) {
		char got[65536];
		ssize_t len = recv(fd, got, sizeof(got), MSG_DONTWAIT);
		for (ssize_t at = 0; at < len; at++) {
			ck_assert(strchr("xend", got[at]));
			tail = (tail << 8 | (uint8_t)got[at]) & 0xffffff;
		}
		pump();
	}
	ck_assert_uint_eq(tail, 'e' << 16 | 'n' << 8 | 'd');
	ck_assert_int_eq(driver_collect(&rig.driver, 5, &used), 0);
	ck_assert_uint_eq(used.id, (unsigned)id);
	rig_finish();
}
END_TEST

START_TEST(malformed_control_messages_hurt_nobody)
{
	rig_init(CONSOLE_F_MULTIPORT);
	send_control(99, EVENT_PORT_READY, 1);
	send_control(UINT32_MAX, EVENT_PORT_OPEN, 1);
	send_control(0, 999, 1);
	const struct ring_buffer half = {rig.gpa, 3, false}, wrong = {rig.gpa, 64, true};
	ck_assert_int_eq(driver_request(&rig.driver, CONSOLE_CONTROL_TX, &half, 1), 0);
	ck_assert_int_eq(driver_request(&rig.driver, CONSOLE_CONTROL_TX, &wrong, 1), 0);
	/* More answers than fit: the device waits for buffers, and answers all. */
	struct ring_used used;
	const struct control ready = {0, EVENT_DEVICE_READY, 1};
	memcpy(world_at(&rig.world, rig.gpa, sizeof(ready)), &ready, sizeof(ready));
	const struct ring_buffer buffer = {rig.gpa, sizeof(ready), false};
	for (int i = 0; i < 60; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, CONSOLE_CONTROL_TX, &buffer, 1), 0);
	for (int i = 0; i < 60; i++) {
		expect_control(0, EVENT_DEVICE_ADD, 1);
		expect_control(1, EVENT_DEVICE_ADD, 1);
		ck_assert_int_eq(driver_collect(&rig.driver, CONSOLE_CONTROL_TX, &used), 0);
	}
	ck_assert_int_eq(driver_status(&rig.driver) & DRIVER_NEEDS_RESET, 0);
	rig_finish();
}
END_TEST

START_TEST(a_new_size_is_told)
{
	char more[64];
	rig_init(CONSOLE_F_MULTIPORT | CONSOLE_F_SIZE);
	unsigned before = driver_config_interrupts(&rig.driver);
	console_resize(rig.device, 132, 50);
	ck_assert_int_eq(driver_wait_config_interrupt(&rig.driver, before), 0);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 0, 2), 132);
	ck_assert_uint_eq(driver_config_get(&rig.driver, 2, 2), 50);
	(void)more;
	rig_finish();
}
END_TEST

START_TEST(state_survives_and_a_reset_forgets)
{
	struct err err = ERR_INIT;
	rig_init(CONSOLE_F_MULTIPORT);
	send_control(1, EVENT_PORT_READY, 1);
	send_control(1, EVENT_PORT_OPEN, 1);
	_cleanup_free_ void *first = calloc(1, console_class.state->size);
	_cleanup_free_ void *second = calloc(1, console_class.state->size);
	console_class.save(rig.device, first);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	console_class.save(rig.device, second);
	ck_assert_int_ne(memcmp(first, second, console_class.state->size), 0);
	ck_assert_msg(console_class.restore(rig.device, first, &err) == 0, "%s", err.text);
	console_class.save(rig.device, second);
	ck_assert_mem_eq(first, second, console_class.state->size);
	rig_finish();
}
END_TEST

/* What the guest has not had room for: answers to it, and what the host has sent. */
START_TEST(what_waits_for_the_guest_is_saved)
{
	struct err err = ERR_INIT;
	struct ring_used used;
	char name[64];
	rig_init(CONSOLE_F_MULTIPORT);
	_cleanup_free_ uint8_t *state = calloc(1, console_class.state->size);
	struct console_port *port = &container_of(rig.device, struct console, base.device)->ports[1];
	send_control(0, EVENT_DEVICE_READY, 1);
	send_control(1, EVENT_PORT_READY, 1);
	_cleanup_close_ int fd = connect_socket();
	pump();
	ck_assert_int_eq(send(fd, "abcdef", 6, 0), 6);
	pump();
	console_class.quiesce(rig.device);
	ck_assert_int_eq(send(fd, "gh", 2, 0), 2); /* it may be another process that gets the port */
	pump();
	ck_assert_uint_eq(port->input_bytes, 6);
	console_class.save(rig.device, state);
	console_class.reset(rig.device);
	port->input_bytes = 0; /* as in another process */
	ck_assert_msg(console_class.restore(rig.device, state, &err) == 0, "%s", err.text);
	console_class.resume(rig.device);
	expect_control(0, EVENT_DEVICE_ADD, 1);
	expect_control(1, EVENT_DEVICE_ADD, 1);
	ck_assert_uint_eq(next_control(name).event, EVENT_PORT_NAME);
	ck_assert_str_eq(name, "aerie.port.1");
	expect_control(1, EVENT_PORT_OPEN, 1);
	const struct ring_buffer buffer = {rig.gpa + 12288, 6, true};
	for (int i = 0; i < 2; i++)
		ck_assert_int_ge(driver_submit(&rig.driver, 4, &buffer, 1), 0);
	send_control(1, EVENT_PORT_OPEN, 1);
	ck_assert_int_eq(driver_collect(&rig.driver, 4, &used), 0);
	ck_assert_uint_eq(used.len, 6);
	ck_assert_mem_eq(world_at(&rig.world, rig.gpa + 12288, 6), "abcdef", 6);
	pump();
	ck_assert_int_eq(driver_collect(&rig.driver, 4, &used), 0);
	ck_assert_mem_eq(world_at(&rig.world, rig.gpa + 12288, 2), "gh", 2);
	rig_finish();
}
END_TEST

static size_t field_offset(const char *name)
{
	for (size_t i = 0; i < console_class.state->field_count; i++)
		if (strcmp(console_class.state->fields[i].name, name) == 0)
			return console_class.state->fields[i].offset;
	ck_abort_msg("no field %s", name);
}

START_TEST(a_state_with_more_than_there_is_room_for_is_refused)
{
	static const char *const fields[] = {"input_bytes", "message_bytes"};
	rig_init(CONSOLE_F_MULTIPORT);
	_cleanup_free_ uint8_t *state = calloc(1, console_class.state->size);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		struct err err = ERR_INIT;
		console_class.save(rig.device, state);
		memset(state + field_offset(fields[i]), 0xff, 2);
		ck_assert_int_eq(console_class.restore(rig.device, state, &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, i == 0 ? "input-bytes: " : "message-bytes: "));
	}
	rig_finish();
}
END_TEST

TEST_MAIN("console", ports_announce_themselves, output_reaches_the_stream,
	  a_port_takes_input_when_the_guest_has_it_open,
	  a_slow_reader_holds_the_output_back_and_loses_nothing, a_pause_neither_loses_nor_doubles_output,
	  a_reset_begins_the_next_output_at_its_start, malformed_control_messages_hurt_nobody,
	  a_reset_of_the_queue_drops_what_the_host_has_not_taken, a_new_size_is_told,
	  state_survives_and_a_reset_forgets, what_waits_for_the_guest_is_saved,
	  a_state_with_more_than_there_is_room_for_is_refused)
