/* The debug ports, as QEMU's isa-debug-exit and Bochs's console port behave. */
#include "base/layout.h"
#include "harness.h"
#include "one.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdio.h>

static const struct machine_config only_exit = {.debug = {.exit = true}};
static const struct machine_config only_console = {
	.debug = {.has_console = true, .console = {CHARDEV_NULL, NULL}},
};

static void assert_exit(struct one *one, unsigned size, uint32_t value, int code)
{
	one_out(one, LAYOUT_PORT_DEBUG_EXIT, size, value);
	ck_assert_uint_eq(one_requests(one, MACHINE_EXIT), 1);
	ck_assert_int_eq(one->fake.exit_code, code);
}

START_TEST(exit_code_is_twice_the_value_and_one)
{
	struct one one;
	one_init(&one, "debug", &only_exit);
	assert_exit(&one, 1, 0, 1);
	assert_exit(&one, 1, 0x10, 0x21);
	assert_exit(&one, 2, 0x31, 0x63);
	assert_exit(&one, 4, 0x7f, 0xff);
	one_finish(&one);
}
END_TEST

/* What the parent process will see: 8 bits, and never 0. */
START_TEST(exit_code_wraps_as_the_status_does)
{
	struct one one;
	one_init(&one, "debug", &only_exit);
	assert_exit(&one, 1, 0x80, 1);
	assert_exit(&one, 2, 0x1234, 0x69);
	assert_exit(&one, 4, 0xffffffff, 0xff);
	one_finish(&one);
}
END_TEST

START_TEST(exit_port_reads_zero)
{
	struct one one;
	one_init(&one, "debug", &only_exit);
	ck_assert_uint_eq(one_in(&one, LAYOUT_PORT_DEBUG_EXIT, 1), 0);
	ck_assert_uint_eq(one_in(&one, LAYOUT_PORT_DEBUG_EXIT, 4), 0);
	ck_assert_uint_eq(one_requests(&one, MACHINE_EXIT), 0);
	one_finish(&one);
}
END_TEST

START_TEST(only_what_is_configured_is_there)
{
	struct one one;
	one_init(&one, "debug", &only_exit);
	ck_assert_uint_eq(one_in(&one, LAYOUT_PORT_DEBUG_CONSOLE, 1), 0xff);
	one_finish(&one);
	one_init(&one, "debug", &only_console);
	ck_assert_uint_eq(one_in(&one, LAYOUT_PORT_DEBUG_CONSOLE, 1), 0xe9);
	one_out(&one, LAYOUT_PORT_DEBUG_EXIT, 1, 1);
	ck_assert_uint_eq(one_requests(&one, MACHINE_EXIT), 0);
	const struct machine_config neither = {.name = "neither"};
	ck_assert_ptr_null(one.class->config(&neither, 0));
	ck_assert_ptr_null(one.class->config(&only_exit, 1));
	one_finish(&one);
}
END_TEST

START_TEST(console_writes_to_its_file)
{
	char path[64];
	_cleanup_close_ int fd = scratch_file(path, sizeof(path), "debug-XXXXXX");
	ck_assert_int_ge(fd, 0);
	const struct machine_config config = {
		.debug = {.has_console = true, .console = {CHARDEV_FILE, path}},
	};
	struct one one;
	one_init(&one, "debug", &config);
	for (const char *p = "hello\n"; *p; p++)
		one_out(&one, LAYOUT_PORT_DEBUG_CONSOLE, 1, (uint8_t)*p);
	fake_run(&one.fake, 20);
	one_finish(&one);
	char text[16] = {0};
	_cleanup_close_ int back = open(path, O_RDONLY | O_CLOEXEC); /* the file may be a new one */
	ck_assert_int_eq(read(back, text, sizeof(text) - 1), 6);
	ck_assert_str_eq(text, "hello\n");
	(void)unlink(path);
}
END_TEST

/* A machine that was saved or has moved may be killed at once: its loop never runs again. */
START_TEST(at_rest_the_console_has_nothing_left)
{
	char path[64];
	_cleanup_close_ int fd = scratch_file(path, sizeof(path), "debug-XXXXXX");
	const struct machine_config config = {
		.debug = {.has_console = true, .console = {CHARDEV_FILE, path}},
	};
	struct one one;
	one_init(&one, "debug", &config);
	for (const char *p = "hello\n"; *p; p++)
		one_out(&one, LAYOUT_PORT_DEBUG_CONSOLE, 1, (uint8_t)*p);
	one.class->quiesce(one.device);
	char text[16] = {0};
	ck_assert_int_eq(read(fd, text, sizeof(text) - 1), 6);
	ck_assert_str_eq(text, "hello\n");
	one_finish(&one);
	one_init(&one, "debug", &only_exit);
	one.class->quiesce(one.device); /* there is none */
	one_finish(&one);
	(void)unlink(path);
}
END_TEST

START_TEST(console_that_cannot_open_is_an_error)
{
	const struct machine_config config = {
		.debug = {.has_console = true, .console = {CHARDEV_FILE, "/nowhere/at/all"}},
	};
	struct one one;
	one_init(&one, "debug", &only_exit); /* for its class and fakes */
	struct device *device = NULL;
	int r = one.class->create(one.class->config(&config, 0), 0, &one.fake.services, &device,
				  &one.fake.err);
	ck_assert_int_eq(r, -ENOENT);
	ck_assert_ptr_null(device);
	ck_assert_str_eq(one.fake.err.text, "debug.console: /nowhere/at/all: No such file or directory");
	one_finish(&one);
}
END_TEST

TEST_MAIN("debug", exit_code_is_twice_the_value_and_one, exit_code_wraps_as_the_status_does,
	  exit_port_reads_zero, only_what_is_configured_is_there, console_writes_to_its_file,
	  at_rest_the_console_has_nothing_left, console_that_cannot_open_is_an_error)
