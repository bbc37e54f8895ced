/* Character devices whose peer comes and goes: UNIX socket and pty. */
#include "chardev_bench.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	return address;
}

static int dial(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		ck_abort_msg("connect: %s", strerror(errno));
	return fd;
}

static bool hung_up(int fd)
{
	char byte;
	return read(fd, &byte, 1) == 0;
}

/* ---- UNIX socket ---- */

START_TEST(a_client_talks_and_without_one_output_is_dropped)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	bench_write(&bench, "nobody hears this");
	bench_run(&bench, 5);
	int client = dial(path);
	bench_run(&bench, 10);
	bench_write(&bench, "hello");
	bench_expect(&bench, client, "hello");
	ck_assert_int_eq(write(client, "hi there", 8), 8);
	bench_run(&bench, 10);
	ck_assert_got(&bench, "hi there");
	bench_destroy_chardev(&bench);
	ck_assert(hung_up(client));
	ck_assert_int_lt(access(path, F_OK), 0); /* and the file is gone */
	ck_assert_str_eq(bench_log(&bench), "");
	close(client);
	bench_finish(&bench);
}
END_TEST

START_TEST(the_second_client_waits_for_the_first_to_hang_up)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	int first = dial(path);
	bench_run(&bench, 10);
	int second = dial(path);
	bench_write(&bench, "one");
	bench_expect(&bench, first, "one");
	ck_assert_int_lt(read(second, bench.log, 1), 0); /* not yet */
	shutdown(first, SHUT_WR);
	bench_run(&bench, 20);
	ck_assert(hung_up(first)); /* we hang up, too */
	close(first);
	bench_write(&bench, "two");
	bench_expect(&bench, second, "two");
	ck_assert_int_eq(write(second, "x", 1), 1);
	bench_run(&bench, 10);
	ck_assert_got(&bench, "x");
	close(second);
	bench_run(&bench, 10);
	bench_finish(&bench);
}
END_TEST

START_TEST(what_a_client_sent_before_it_left_still_arrives)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench.room = 2;
	bench_create(&bench, CHARDEV_UNIX, path);
	int client = dial(path);
	ck_assert_int_eq(write(client, "abcdef", 6), 6);
	bench_run(&bench, 10);
	close(client);
	bench_run(&bench, 10);
	bench.room = 10;
	chardev_receive_ready(bench.chardev);
	bench_run(&bench, 10);
	ck_assert_got(&bench, "abcdef");
	bench_finish(&bench);
}
END_TEST

/* A guest that does not read must not keep the next one out. */
START_TEST(a_client_that_left_makes_room_for_the_next)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench.room = 1;
	bench_create(&bench, CHARDEV_UNIX, path);
	int first = dial(path);
	ck_assert_int_eq(write(first, "abc", 3), 3);
	bench_run(&bench, 10);
	close(first);
	bench_run(&bench, 10);
	int second = dial(path);
	ck_assert_int_eq(write(second, "def", 3), 3);
	bench_run(&bench, 10);
	bench_write(&bench, "hello");
	bench_expect(&bench, second, "hello");
	bench.room = 10;
	chardev_receive_ready(bench.chardev);
	bench_run(&bench, 10);
	ck_assert_got(&bench, "abcdef");
	close(second);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_slow_client_holds_the_guest_back_and_loses_nothing)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	int client = dial(path);
	bench_run(&bench, 10);
	size_t sent = 0, seen = 0;
	for (int i = 0; i < 200; i++) {
		size_t more = bench_fill(&bench, sent, 1000000);
		sent += more;
		bench_run(&bench, 2);
	}
	ck_assert_uint_lt(bench_fill(&bench, sent, 1), 1); /* full */
	for (int i = 0; i < 2000 && seen < sent; i++) {
		seen += bench_check(client, seen);
		bench_run(&bench, 1);
	}
	ck_assert_uint_eq(seen, sent);
	ck_assert_uint_ge(bench.writable_calls, 1);

	/* Full again, and now it leaves: the guest must not wait for ever. */
	for (int i = 0; i < 200; i++) {
		bench_fill(&bench, 0, 1000000);
		bench_run(&bench, 2);
	}
	unsigned calls = bench.writable_calls;
	close(client);
	bench_run(&bench, 50);
	ck_assert_uint_eq(bench.writable_calls, calls + 1);
	ck_assert_uint_eq(bench_fill(&bench, 0, 200000), 200000);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_stale_socket_file_is_replaced_a_live_one_is_not)
{
	struct bench bench, other;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	struct sockaddr_un address = address_of(path);
	int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
	close(dead); /* as a process that was killed leaves it */
	bench_create(&bench, CHARDEV_UNIX, path);

	char text[256];
	(void)snprintf(text, sizeof(text), "%s: another process listens there", path);
	char path_of_both[128];
	(void)snprintf(path_of_both, sizeof(path_of_both), "%s", path);
	bench_init(&other);
	ck_assert_int_eq(bench_try(&other, CHARDEV_UNIX, path_of_both), -EADDRINUSE);
	ck_assert_str_eq(other.fake.err.text, text);
	bench_finish(&other);

	/* The probe above counts as a client that came and went; a real one is served. */
	bench_run(&bench, 20);
	int client = dial(path_of_both);
	bench_run(&bench, 20);
	bench_write(&bench, "alive");
	bench_expect(&bench, client, "alive");
	close(client);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_socket_that_cannot_be_made_says_why)
{
	struct bench bench;
	bench_init(&bench);
	char path[200];
	(void)snprintf(path, sizeof(path), "%s/file", bench.folder);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ck_assert_int_eq(bench_try(&bench, CHARDEV_UNIX, path), -EADDRINUSE);
	ck_assert_ptr_nonnull(strstr(bench.fake.err.text, "/file: exists and is not a socket"));
	ck_assert_int_eq(access(path, F_OK), 0); /* it is the operator's: it stays */
	unlink(path);

	(void)snprintf(path, sizeof(path), "%s/no/such", bench.folder);
	ck_assert_int_eq(bench_try(&bench, CHARDEV_UNIX, path), -ENOENT);

	memset(path, 'x', 120);
	path[120] = 0;
	ck_assert_int_eq(bench_try(&bench, CHARDEV_UNIX, path), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(bench.fake.err.text, "at most 107 characters"));
	bench_finish(&bench);
}
END_TEST

START_TEST(destroy_leaves_a_successors_socket_alone)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = address_of(path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	bench_destroy_chardev(&bench);
	ck_assert_int_eq(access(path, F_OK), 0);
	unlink(path);
	close(fd);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_client_that_nobody_accepted_is_closed_by_destroy)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	bench_run(&bench, 5);
	int client = dial(path);
	bench_destroy_chardev(&bench);
	char byte;
	ssize_t got = read(client, &byte, 1);
	ck_assert(got == 0 || (got < 0 && errno == ECONNRESET));
	close(client);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_lack_of_descriptors_is_survived)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	int client = dial(path);
	struct rlimit old, none = {.rlim_cur = 0};
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	bench_run(&bench, 500); /* the limit is looked at when the accept is submitted */
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_uint_eq(bench_log_count(&bench, "accept: Too many open files"), 1);
	bench_run(&bench, 300); /* it tries again */
	bench_write(&bench, "late");
	bench_expect(&bench, client, "late");
	close(client);
	bench_finish(&bench);
}
END_TEST

START_TEST(destroy_may_come_between_two_attempts_to_accept)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "com1");
	bench_create(&bench, CHARDEV_UNIX, path);
	int client = dial(path);
	struct rlimit old, none = {.rlim_cur = 0};
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	bench_run(&bench, 50);
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_uint_eq(bench_log_count(&bench, "accept: Too many open files"), 1);
	bench_destroy_chardev(&bench);
	bench_run(&bench, 300); /* nobody accepts for one that is gone */
	close(client);
	bench_finish(&bench);
}
END_TEST

/* ---- pty ---- */

static int open_slave(const char *name)
{
	int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
	return fd;
}

START_TEST(a_pty_talks_while_its_slave_is_open)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_PTY, NULL);
	const char *name = chardev_peer(bench.chardev);
	ck_assert_int_eq(strncmp(name, "/dev/pts/", 9), 0);
	for (int round = 0; round < 2; round++) {
		bench_write(&bench, "nobody hears this");
		bench_run(&bench, 450); /* it looks more than once */
		int slave = open_slave(name);
		bench_run(&bench, 250);
		bench_write(&bench, "login:\r\n");
		bench_expect(&bench, slave, "login:\r\n"); /* raw: nothing is added */
		ck_assert_int_eq(write(slave, "ro\003ot\r", 6), 6);
		bench_run(&bench, 20);
		ck_assert_got(&bench, "ro\003ot\r"); /* once: no echo comes back */
		close(slave);
		bench_run(&bench, 10);
	}
	ck_assert_uint_eq(bench_fill(&bench, 0, 200000), 200000); /* dropped again */
	ck_assert_str_eq(bench_log(&bench), "");
	bench_finish(&bench);
}
END_TEST

START_TEST(a_pty_without_slave_does_not_spin)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_PTY, NULL);
	int slave = open_slave(chardev_peer(bench.chardev));
	bench_run(&bench, 250);
	close(slave);
	struct timespec before, after;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	bench_run(&bench, 500);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	double spent =
		(double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	ck_assert_msg(spent < 0.1, "%.3f s of CPU in 0.5 s", spent);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_reader_of_the_pty_that_stops_holds_the_guest_back)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_PTY, NULL);
	int slave = open_slave(chardev_peer(bench.chardev));
	bench_run(&bench, 250);
	size_t sent = 0, seen = 0;
	for (int i = 0; i < 50; i++) {
		sent += bench_fill(&bench, sent, 1000000);
		bench_run(&bench, 2);
	}
	ck_assert_uint_lt(sent, 200000);
	for (int i = 0; i < 5000 && seen < sent; i++) {
		seen += bench_check(slave, seen);
		bench_run(&bench, 1);
	}
	ck_assert_uint_eq(seen, sent);
	close(slave);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_link_leads_to_the_pty_and_replaces_an_older_link)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "tty");
	ck_assert_int_eq(symlink("/dev/pts/old", path), 0);
	bench_create(&bench, CHARDEV_PTY, path);
	char target[64] = "";
	ck_assert_int_gt(readlink(path, target, sizeof(target) - 1), 0);
	ck_assert_str_eq(target, chardev_peer(bench.chardev));
	bench_destroy_chardev(&bench);
	ck_assert_int_lt(readlink(path, target, sizeof(target)), 0);

	/* Another aerie has taken the link: it stays. */
	bench_create(&bench, CHARDEV_PTY, path);
	unlink(path);
	ck_assert_int_eq(symlink("/dev/pts/other", path), 0);
	bench_destroy_chardev(&bench);
	ck_assert_int_gt(readlink(path, target, sizeof(target)), 0);
	unlink(path);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_link_never_replaces_a_file)
{
	struct bench bench;
	bench_init(&bench);
	char path[200];
	(void)snprintf(path, sizeof(path), "%s/file", bench.folder);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ck_assert_int_eq(bench_try(&bench, CHARDEV_PTY, path), -EEXIST);
	ck_assert_ptr_nonnull(strstr(bench.fake.err.text, "/file: exists and is not a symbolic link"));
	struct stat file;
	ck_assert_int_eq(lstat(path, &file), 0);
	ck_assert(S_ISREG(file.st_mode));
	unlink(path);
	(void)snprintf(path, sizeof(path), "%s/no/such", bench.folder);
	ck_assert_int_eq(bench_try(&bench, CHARDEV_PTY, path), -ENOENT);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_pty_that_cannot_be_had_says_why)
{
	struct bench bench;
	bench_init(&bench);
	struct rlimit old, none = {.rlim_cur = 0};
	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	int pty = bench_try(&bench, CHARDEV_PTY, NULL),
	    socket = bench_try(&bench, CHARDEV_UNIX, "/nowhere/x");
	setrlimit(RLIMIT_NOFILE, &old);
	ck_assert_int_eq(pty, -EMFILE);
	ck_assert_int_eq(socket, -EMFILE);
	ck_assert_str_eq(bench.fake.err.text, "/nowhere/x: Too many open files");
	bench_finish(&bench);
}
END_TEST

TEST_MAIN("chardev peers", a_client_talks_and_without_one_output_is_dropped,
	  the_second_client_waits_for_the_first_to_hang_up, what_a_client_sent_before_it_left_still_arrives,
	  a_client_that_left_makes_room_for_the_next, a_slow_client_holds_the_guest_back_and_loses_nothing,
	  a_stale_socket_file_is_replaced_a_live_one_is_not, a_socket_that_cannot_be_made_says_why,
	  destroy_leaves_a_successors_socket_alone, a_client_that_nobody_accepted_is_closed_by_destroy,
	  a_lack_of_descriptors_is_survived, destroy_may_come_between_two_attempts_to_accept,
	  a_pty_talks_while_its_slave_is_open, a_pty_without_slave_does_not_spin,
	  a_reader_of_the_pty_that_stops_holds_the_guest_back,
	  a_link_leads_to_the_pty_and_replaces_an_older_link, a_link_never_replaces_a_file,
	  a_pty_that_cannot_be_had_says_why)
