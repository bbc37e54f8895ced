/* The stdio console on a terminal: one pseudo-terminal is the person, its slave is our standard input and
 * output. */
#include "chardev_bench.h"

#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

static int open_terminal(int *ret_slave)
{
	int master;
	ck_assert_int_eq(openpty(&master, ret_slave, NULL, NULL, NULL), 0);
	(void)fcntl(master, F_SETFL, O_NONBLOCK);
	return master;
}

/* Not memcmp: nobody fills the gaps. */
static bool same_mode(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && a->c_cc[VMIN] == b->c_cc[VMIN] && a->c_cc[VTIME] == b->c_cc[VTIME];
}

static void bench_on_terminal(struct bench *bench, int *master, int *slave)
{
	bench_init(bench);
	*master = open_terminal(slave);
	bench_stdio(*slave, *slave);
	bench_create(bench, CHARDEV_STDIO, NULL);
}

static void finish_on_terminal(struct bench *bench, int master, int slave)
{
	bench_finish(bench);
	close(master);
	close(slave);
}

static void press(struct bench *bench, int master, const char *keys)
{
	struct pollfd arrived = {.fd = STDIN_FILENO, .events = POLLIN};
	ck_assert_int_eq(write(master, keys, strlen(keys)), (ssize_t)strlen(keys));
	ck_assert_int_eq(poll(&arrived, 1, 10000),
			 1); /* a thread of the kernel's brings them, when it has time */
	for (int i = 0; i < 1000 && poll(&arrived, 1, 0) == 1; i++) /* and we take them when we have */
		bench_run(bench, 10);
}

START_TEST(raw_while_it_lives_and_as_before_after)
{
	struct bench bench;
	struct termios before, during, after;
	bench_init(&bench);
	int slave, master = open_terminal(&slave);
	tcgetattr(slave, &before);
	ck_assert(before.c_lflag & ISIG);
	bench_stdio(slave, slave);
	for (int way = 0; way < 2; way++) {
		bench_create(&bench, CHARDEV_STDIO, NULL);
		tcgetattr(slave, &during);
		ck_assert_uint_eq(during.c_lflag & (ECHO | ICANON | ISIG | IEXTEN), 0);
		ck_assert_uint_eq(during.c_iflag & (ICRNL | IXON), 0);
		ck_assert_uint_eq(during.c_oflag & OPOST, before.c_oflag & OPOST);
		if (way == 1) { /* the abnormal end */
			errno = 42;
			chardev_restore_terminal();
			ck_assert_int_eq(errno, 42);
			tcgetattr(slave, &after);
			ck_assert(same_mode(&before, &after));
		}
		bench_destroy_chardev(&bench);
		tcgetattr(slave, &after);
		ck_assert(same_mode(&before, &after));
	}
	chardev_restore_terminal(); /* not raw: nothing */
	finish_on_terminal(&bench, master, slave);
}
END_TEST

START_TEST(every_key_goes_to_the_guest)
{
	struct bench bench;
	int slave, master;
	bench_on_terminal(&bench, &master, &slave);
	press(&bench, master, "ls\r\003\004\032\021\023\177\033[A");
	ck_assert_got(&bench, "ls\r\003\004\032\021\023\177\033[A");
	bench_write(&bench, "out");
	bench_expect(&bench, master, "out");
	finish_on_terminal(&bench, master, slave);
}
END_TEST

START_TEST(ctrl_a_begins_a_key_for_aerie)
{
	struct bench bench;
	int slave, master;
	bench_on_terminal(&bench, &master, &slave);
	static const struct {
		const char *keys;
		enum console_action action;
	} actions[] = {{"\001x", CONSOLE_QUIT}, {"\001p", CONSOLE_POWER_BUTTON}, {"\001r", CONSOLE_RESET}};
	for (unsigned i = 0; i < ARRAY_LEN(actions); i++) {
		press(&bench, master, actions[i].keys);
		ck_assert_uint_eq(bench.fake.actions, i + 1);
		ck_assert_int_eq(bench.fake.action, actions[i].action);
	}
	ck_assert_got(&bench, "");
	press(&bench, master, "\001b");
	ck_assert_uint_eq(bench.breaks, 1);
	press(&bench, master, "a\001ab\001\001c\001zd"); /* z means nothing */
	ck_assert_got(&bench, "a\001b\001cd");
	press(&bench, master, "\001"); /* the two keys come apart */
	press(&bench, master, "x");
	ck_assert_uint_eq(bench.fake.actions, 4);
	press(&bench, master, "\001h");
	char help[1024] = "";
	bench_await(&bench, master);
	ck_assert_int_gt(read(master, help, sizeof(help) - 1), 0);
	ck_assert_ptr_nonnull(strstr(help, "Ctrl-A x"));
	ck_assert_got(&bench, "");
	finish_on_terminal(&bench, master, slave);
}
END_TEST

START_TEST(a_dead_guest_does_not_stop_ctrl_a_x)
{
	struct bench bench;
	int slave, master;
	bench_on_terminal(&bench, &master, &slave);
	bench.room = 0;
	char keys[1001];
	memset(keys, 'k', sizeof(keys) - 1);
	keys[sizeof(keys) - 1] = 0;
	for (int i = 0; i < 70; i++) /* more than the buffer holds */
		press(&bench, master, keys);
	press(&bench, master, "\001x");
	ck_assert_uint_eq(bench.fake.actions, 1);
	bench.room = SIZE_MAX; /* and what was typed ahead is still there, as far as it fits */
	chardev_receive_ready(bench.chardev);
	bench_run(&bench, 10);
	ck_assert_uint_eq(bench.got_count, 65536);
	press(&bench, master, "z");
	ck_assert_uint_eq(bench.got_count, 65537);
	finish_on_terminal(&bench, master, slave);
}
END_TEST

START_TEST(keys_before_anyone_is_attached_are_kept)
{
	struct bench bench;
	int slave, master;
	bench_on_terminal(&bench, &master, &slave);
	chardev_attach(bench.chardev, NULL, NULL);
	press(&bench, master, "early\001p");
	ck_assert_uint_eq(bench.fake.actions, 1);
	press(&bench, master, "\001b"); /* to nobody */
	chardev_attach(bench.chardev, &bench_user, &bench);
	bench_run(&bench, 10);
	ck_assert_got(&bench, "early");
	ck_assert_uint_eq(bench.breaks, 0);
	finish_on_terminal(&bench, master, slave);
}
END_TEST

START_TEST(a_terminal_that_hangs_up_is_the_end_of_input)
{
	struct bench bench;
	int slave, master;
	bench_on_terminal(&bench, &master, &slave);
	close(master);
	bench_run(&bench, 20);
	ck_assert_uint_eq(bench.got_count, 0);
	bench_write(&bench, "to nobody");
	for (int i = 0; i < 1000 && !bench_log_count(&bench, "output is lost"); i++)
		bench_run(&bench, 10);
	ck_assert_uint_eq(bench_log_count(&bench, "output is lost"), 1);
	bench_finish(&bench);
	close(slave);
}
END_TEST

/*
 * The child is aerie, started with & by a shell: the terminal is its own, but another process group is in the
 * foreground. It must neither be stopped nor touch the terminal; brought to the foreground, it takes over.
 */
static int background_child(int slave)
{
	struct bench bench;
	struct termios before, during;
	setsid();
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return 10;
	pid_t shell = fork();
	if (shell == 0) {
		setpgid(0, 0);
		pause();
		_exit(0);
	}
	setpgid(shell, shell);
	(void)signal(SIGTTOU, SIG_IGN);
	if (tcsetpgrp(slave, shell) < 0)
		return 11;
	(void)signal(SIGTTOU, SIG_DFL);

	bench_init(&bench);
	tcgetattr(slave, &before);
	bench_stdio(slave, slave);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	bench_run(&bench, 50); /* the parent types meanwhile */
	tcgetattr(slave, &during);
	int res = bench.got_count ? 12 : !same_mode(&before, &during) ? 13 : 0;
	chardev_restore_terminal();

	(void)signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(slave, getpgrp());
	(void)signal(SIGTTOU, SIG_DFL);
	for (int i = 0; i < 100 && !bench.got_count; i++)
		bench_run(&bench, 10);
	tcgetattr(slave, &during);
	if (res == 0 && (!bench.got_count || (during.c_lflag & ICANON)))
		res = 14;
	bench_finish(&bench);
	kill(shell, SIGKILL);
	return res;
}

START_TEST(in_the_background_the_terminal_is_left_alone)
{
	int slave, master = open_terminal(&slave), status = 0;
	pid_t child = fork();
	if (child == 0)
		_exit(background_child(slave));
	pid_t done = 0;
	for (int i = 0; i < 2000 && done == 0; i++) { /* lines, since it is not raw yet */
		ck_assert_int_ge(write(master, "x\n", 2), -1);
		usleep(10000);
		done = waitpid(child, &status, WNOHANG | WUNTRACED);
	}
	ck_assert_int_eq(done, child);
	ck_assert_msg(!WIFSTOPPED(status), "the terminal stopped it");
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	close(master);
	close(slave);
}
END_TEST

TEST_MAIN("chardev terminal", raw_while_it_lives_and_as_before_after, every_key_goes_to_the_guest,
	  ctrl_a_begins_a_key_for_aerie, a_dead_guest_does_not_stop_ctrl_a_x,
	  keys_before_anyone_is_attached_are_kept, a_terminal_that_hangs_up_is_the_end_of_input,
	  in_the_background_the_terminal_is_left_alone)
