/* Character devices without a peer that comes and goes: null, file, stderr, stdio on pipes and plain files.
 */
#include "chardev_bench.h"

#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>

START_TEST(null_takes_and_drops_everything)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_NULL, NULL);
	ck_assert_uint_eq(bench_fill(&bench, 0, 200000), 200000);
	ck_assert_ptr_null(chardev_peer(bench.chardev));
	bench_finish(&bench);
	chardev_destroy(NULL);
}
END_TEST

START_TEST(a_file_starts_anew_and_gets_all_bytes_in_order)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "out");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "old", 3), 3);
	bench_create(&bench, CHARDEV_FILE, path);
	struct stat file;
	ck_assert_int_eq(fstat(fd, &file), 0);
	ck_assert_int_eq(file.st_size, 0);
	size_t sent = 0, seen = 0;
	while (sent < 200000) { /* more than the ring holds, so it wraps */
		sent += bench_fill(&bench, sent, 200000 - sent);
		bench_run(&bench, 2);
	}
	bench_destroy_chardev(&bench);
	lseek(fd, 0, SEEK_SET);
	for (size_t got; (got = bench_check(fd, seen));)
		seen += got;
	ck_assert_uint_eq(seen, sent);
	ck_assert_str_eq(bench_log(&bench), "");
	close(fd);
	unlink(path);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_file_of_a_restored_machine_goes_on)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "out");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "before ", 7), 7);
	bench.goes_on = true;
	bench_create(&bench, CHARDEV_FILE, path);
	bench_write(&bench, "after");
	bench_run(&bench, 10);
	lseek(fd, 0, SEEK_SET);
	bench_expect(&bench, fd, "before after");
	close(fd);
	unlink(path);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_is_named)
{
	struct bench bench;
	bench_init(&bench);
	ck_assert_int_eq(bench_try(&bench, CHARDEV_FILE, "/nowhere/out"), -ENOENT);
	ck_assert_str_eq(bench.fake.err.text, "/nowhere/out: No such file or directory");
	ck_assert_int_eq(bench_try(&bench, CHARDEV_FILE, bench.folder), -EISDIR);
	char path[5000];
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = 0;
	for (int kind = CHARDEV_FILE; kind <= CHARDEV_UNIX; kind++)
		ck_assert_int_eq(bench_try(&bench, (enum chardev_kind)kind, path), -ENAMETOOLONG);
	ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0); /* nobody closed what was never opened */
	bench_finish(&bench);
}
END_TEST

START_TEST(a_full_disk_is_told_once_and_the_guest_goes_on)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_FILE, "/dev/full");
	for (int i = 0; i < 5; i++) {
		bench_write(&bench, "hello");
		bench_run(&bench, 10);
	}
	bench_write(&bench, "last!"); /* and in the flush at the end */
	bench_destroy_chardev(&bench);
	ck_assert_uint_eq(bench_log_count(&bench, "/dev/full: No space left on device; output is lost"), 1);
	ck_assert_uint_eq(bench_log_count(&bench, "/dev/full: 30 bytes of output were lost"), 1);
	bench_finish(&bench);
}
END_TEST

START_TEST(a_full_disk_lets_a_waiting_guest_go_on)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_FILE, "/dev/full");
	ck_assert_uint_lt(bench_fill(&bench, 0, 100000), 100000);
	for (int i = 0; i < 200 && bench.writable_calls == 0; i++)
		bench_run(&bench, 10); /* the pace, on a busy host */
	ck_assert_uint_eq(bench.writable_calls, 1);
	bench_write(&bench, "more");
	bench_finish(&bench);
}
END_TEST

START_TEST(a_write_cut_short_is_continued)
{
	struct bench bench;
	bench_init(&bench);
	const char *path = bench_path(&bench, "out");
	(void)signal(SIGXFSZ, SIG_IGN);
	struct rlimit old, small = {.rlim_cur = 1000};
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	bench_create(&bench, CHARDEV_FILE, path);
	ck_assert_uint_eq(bench_fill(&bench, 0, 3000), 3000);
	setrlimit(RLIMIT_FSIZE, &small);
	bench_run(&bench, 30); /* 1000 bytes fit, then EFBIG */
	setrlimit(RLIMIT_FSIZE, &old);
	bench_destroy_chardev(&bench);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_uint_eq(bench_check(fd, 0), 1000);
	ck_assert_uint_eq(bench_log_count(&bench, "File too large"), 1);
	ck_assert_uint_eq(bench_log_count(&bench, "2000 bytes of output were lost"), 1);
	close(fd);
	unlink(path);
	bench_finish(&bench);
}
END_TEST

START_TEST(stderr_is_written_to)
{
	struct bench bench;
	bench_init(&bench);
	bench_create(&bench, CHARDEV_STDERR, NULL);
	bench_write(&bench, "debug console\n");
	bench_run(&bench, 10);
	ck_assert_str_eq(bench_log(&bench), "debug console\n");
	bench_finish(&bench);
}
END_TEST

/* A pipe in packet mode gives each write back as one read, up to 4096 bytes of it. */
struct packets {
	int fd;
	_Atomic unsigned count;
	size_t bytes;
};

static void *count_packets(void *arg)
{
	struct packets *packets = arg;
	char buf[4096];
	for (ssize_t got; (got = read(packets->fd, buf, sizeof(buf))) > 0; packets->count++)
		packets->bytes += (size_t)got;
	return NULL;
}

static void *write_bytewise(void *arg)
{
	struct bench *bench = arg;
	for (size_t sent = 0; sent < 10000;)
		sent += bench_fill(bench, sent, 10000 - sent);
	loop_quit(bench->fake.services.loop);
	return NULL;
}

START_TEST(ten_thousand_bytes_cost_few_writes)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_DIRECT), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(null_fd, fds[1]);
	close(fds[1]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	struct packets packets = {.fd = fds[0]};
	pthread_t reader, guest;
	pthread_create(&reader, NULL, count_packets, &packets);
	pthread_create(&guest, NULL, write_bytewise, &bench);
	ck_assert_int_eq(loop_run(bench.fake.services.loop), 0);
	pthread_join(guest, NULL);
	bench_run(&bench, 20);
	bench_destroy_chardev(&bench);
	bench_stdio(null_fd, null_fd); /* closes the pipe: the reader ends */
	pthread_join(reader, NULL);
	ck_assert_uint_eq(packets.bytes, 10000);
	ck_assert_uint_lt(packets.count, 50);
	close(fds[0]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

START_TEST(the_first_byte_after_silence_is_written_at_once)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	bench_stdio(fds[0], fds[1]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	bench_run(&bench, 1);
	bench_write(&bench, "x");
	uint64_t before = loop_now_ns();
	bench_run(&bench, 1); /* shorter than the pace */
	/* What it wrote comes back as its own input. */
	if (loop_now_ns() - before < 4000000)
		ck_assert_got(&bench, "x");
	close(fds[0]);
	close(fds[1]);
	bench_finish(&bench);
}
END_TEST

/* A pipe that nobody reads, blocking or not: the guest waits, and gets every byte through in the end. */
static void hold_back(int flags)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(fcntl(fds[1], F_SETFL, flags), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(null_fd, fds[1]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	size_t sent = 0, seen = 0;
	for (int i = 0; i < 20; i++) {
		sent += bench_fill(&bench, sent, 1000000);
		bench_run(&bench, 2);
	}
	ck_assert_uint_le(sent, 65536 + 65536 + 4096); /* a pipe and a ring full, and not a byte more */
	unsigned calls = bench.writable_calls;
	for (int i = 0; i < 50; i++) {
		seen += bench_check(fds[0], seen);
		bench_run(&bench, 5);
	}
	ck_assert_uint_eq(seen, sent);
	ck_assert_uint_eq(bench.writable_calls, calls + 1);
	ck_assert_str_eq(bench_log(&bench), "");
	close(fds[0]);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}

START_TEST(a_slow_reader_holds_the_guest_back)
{
	hold_back(0);
}
END_TEST

START_TEST(a_non_blocking_stdout_is_no_error)
{
	hold_back(O_NONBLOCK);
}
END_TEST

START_TEST(a_reader_that_left_is_told_once)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(null_fd, fds[1]);
	close(fds[0]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	for (int i = 0; i < 3; i++) {
		bench_write(&bench, "hello");
		bench_run(&bench, 10);
	}
	ck_assert_uint_eq(bench_log_count(&bench, "stdio: Broken pipe; output is lost"), 1);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

START_TEST(destroy_writes_what_is_left)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int ran = 0; ran < 2; ran++) { /* the loop never ran, and the pace held it back */
		bench_stdio(null_fd, fds[1]);
		bench_create(&bench, CHARDEV_STDIO, NULL);
		if (ran) {
			bench_write(&bench, "first ");
			bench_run(&bench, 1);
		}
		bench_write(&bench, "last words");
		bench_destroy_chardev(&bench);
		bench_expect(&bench, fds[0], ran ? "first last words" : "last words");
	}
	ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	close(fds[0]);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

START_TEST(destroy_waits_a_second_at_most)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(null_fd, fds[1]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	for (int i = 0; i < 10; i++) {
		bench_fill(&bench, 0, 200000);
		bench_run(&bench, 2);
	}
	uint64_t before = loop_now_ns();
	bench_destroy_chardev(&bench);
	uint64_t took_ms = (loop_now_ns() - before) / 1000000;
	ck_assert_uint_ge(took_ms, 900);
	ck_assert_uint_lt(took_ms, 3000); /* a busy machine */
	ck_assert_uint_eq(bench_log_count(&bench, "bytes of output were lost"), 1);
	close(fds[0]);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

/* A pipe with little room is writable, and yet a large write to it would wait for its reader. */
START_TEST(destroy_waits_no_longer_when_a_little_fits)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	static char page[4096];
	for (int i = 0; i < 15; i++) /* of 16 pages */
		ck_assert_int_eq(write(fds[1], page, sizeof(page)), sizeof(page));
	bench_stdio(null_fd, fds[1]);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	ck_assert_uint_eq(bench_fill(&bench, 0, 20000), 20000);
	uint64_t before = loop_now_ns();
	bench_destroy_chardev(&bench);
	ck_assert_uint_lt((loop_now_ns() - before) / 1000000, 3000);
	ck_assert_uint_eq(bench_log_count(&bench, "15904 bytes of output were lost"), 1);
	close(fds[0]);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

START_TEST(input_comes_as_the_front_end_has_room)
{
	struct bench bench;
	bench_init(&bench);
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(fds[0], null_fd);
	bench.room = 3;
	bench_create(&bench, CHARDEV_STDIO, NULL);
	ck_assert_int_eq(write(fds[1], "a\001xbcdefg", 9),
			 9); /* no terminal: Ctrl-A is a byte as any other */
	bench_run(&bench, 5);
	ck_assert_got(&bench, "a\001x");
	bench_run(&bench, 5);
	ck_assert_got(&bench, "");
	int unread = 0;
	ck_assert_int_eq(ioctl(fds[0], FIONREAD, &unread), 0);
	ck_assert_int_eq(unread, 6); /* for whoever has the pipe next: killed, we would take them with us */
	bench.room = 2;
	chardev_receive_ready(bench.chardev);
	bench_run(&bench, 5);
	ck_assert_got(&bench, "bc");
	bench.room = 100;
	chardev_receive_ready(bench.chardev);
	bench_run(&bench, 5);
	ck_assert_got(&bench, "defg");
	ck_assert_int_eq(write(fds[1], "h", 1), 1);
	bench_run(&bench, 5);
	ck_assert_got(&bench, "h");
	ck_assert_uint_eq(bench.fake.actions, 0);
	close(fds[0]);
	close(fds[1]);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

/* A plain file cannot be polled, and this one is larger than all buffers. */
START_TEST(a_plain_file_as_stdin_is_read_to_its_end)
{
	enum { BYTES = 200000 };
	struct bench bench;
	bench_init(&bench);
	int fd = memfd_create("in", MFD_CLOEXEC), null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < BYTES; i++) {
		uint8_t byte = bench_byte(i);
		ck_assert_int_eq(write(fd, &byte, 1), 1);
	}
	lseek(fd, 0, SEEK_SET);
	bench_stdio(fd, null_fd);
	bench.room = 0;
	bench_create(&bench, CHARDEV_STDIO, NULL);
	bench_run(&bench, 5);
	for (int i = 0; i < 100 && bench.got_count < BYTES; i++) {
		bench.room = 16000;
		chardev_receive_ready(bench.chardev);
		bench_run(&bench, 1);
	}
	ck_assert_uint_eq(bench.got_count, BYTES);
	for (size_t i = 0; i < BYTES; i++)
		ck_assert_uint_eq(bench.got[i], bench_byte(i));
	ck_assert_str_eq(bench_log(&bench), "");
	close(fd);
	close(null_fd);
	bench_finish(&bench);
}
END_TEST

static void silent_stdin(int in_fd)
{
	struct bench bench;
	bench_init(&bench);
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	bench_stdio(in_fd >= 0 ? in_fd : null_fd, null_fd);
	if (in_fd < 0)
		close(STDIN_FILENO);
	bench_create(&bench, CHARDEV_STDIO, NULL);
	struct timespec before, after;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	bench_run(&bench, 300);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	double spent =
		(double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
	ck_assert_msg(spent < 0.1, "an ended stdin took %.3f s of CPU in 0.3 s", spent);
	ck_assert_uint_eq(bench.got_count, 0);
	ck_assert_str_eq(bench_log(&bench), "");
	close(null_fd);
	bench_finish(&bench);
}

START_TEST(the_end_of_stdin_is_no_error_and_does_not_spin)
{
	int fds[2], null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	close(fds[1]);
	silent_stdin(fds[0]);
	silent_stdin(null_fd);
	silent_stdin(-1); /* closed by who started us */
	close(fds[0]);
	close(null_fd);
}
END_TEST

TEST_MAIN("chardev", null_takes_and_drops_everything, a_file_starts_anew_and_gets_all_bytes_in_order,
	  a_file_of_a_restored_machine_goes_on, a_file_that_cannot_be_opened_is_named,
	  a_full_disk_is_told_once_and_the_guest_goes_on, a_full_disk_lets_a_waiting_guest_go_on,
	  a_write_cut_short_is_continued, stderr_is_written_to, ten_thousand_bytes_cost_few_writes,
	  the_first_byte_after_silence_is_written_at_once, a_slow_reader_holds_the_guest_back,
	  a_non_blocking_stdout_is_no_error, a_reader_that_left_is_told_once, destroy_writes_what_is_left,
	  destroy_waits_a_second_at_most, destroy_waits_no_longer_when_a_little_fits,
	  input_comes_as_the_front_end_has_room, a_plain_file_as_stdin_is_read_to_its_end,
	  the_end_of_stdin_is_no_error_and_does_not_spin)
