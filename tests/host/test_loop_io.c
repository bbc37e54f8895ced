/* The event loop: files, sockets, what is registered, busy-polling (include/host/loop.h). */
#include "base/cleanup.h"
#include "harness.h"
#include "loop_bench.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static int new_file(void)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Run until `probe` has its result. */
static int result_of(struct loop *loop, struct probe *probe)
{
	probe->enough = probe->calls + 1;
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert(!probe->op.pending);
	return probe->res;
}

START_TEST(vectors_are_read_and_written)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	char in[2][4] = {"abc", "def"}, out[8] = "";
	struct iovec two[] = {{in[0], 3}, {in[1], 3}}, one[] = {{out, 6}};
	_cleanup_close_ int fd = new_file();
	loop_writev(loop, &probe.op, fd, two, 2, 10, 0);
	ck_assert_int_eq(result_of(loop, &probe), 6);
	loop_readv(loop, &probe.op, fd, one, 1, 10, 0);
	ck_assert_int_eq(result_of(loop, &probe), 6);
	ck_assert_str_eq(out, "abcdef");
	loop_writev(loop, &probe.op, fd, one, 1, 20, RWF_DSYNC);
	ck_assert_int_eq(result_of(loop, &probe), 6);
	memset(in, 0, sizeof(in));
	loop_readv(loop, &probe.op, fd, two, 2, 20, 0);
	ck_assert_int_eq(result_of(loop, &probe), 6);
	ck_assert_int_eq(memcmp(in[1], "def", 3), 0);
	loop_writev(loop, &probe.op, fd, one, 1, 20, 0x40000000); /* no such flag */
	ck_assert_int_lt(result_of(loop, &probe), 0);
	loop_destroy(loop);
}
END_TEST

START_TEST(files_are_synced_and_allocated)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	_cleanup_close_ int fd = new_file();
	struct stat st;
	loop_fallocate(loop, &probe.op, fd, 0, 4096, 8192);
	ck_assert_int_eq(result_of(loop, &probe), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 12288);
	ck_assert_int_eq(st.st_blocks, 16);
	loop_fallocate(loop, &probe.op, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096);
	ck_assert_int_eq(result_of(loop, &probe), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_blocks, 8);
	loop_fsync(loop, &probe.op, fd, true);
	ck_assert_int_eq(result_of(loop, &probe), 0);
	loop_fsync(loop, &probe.op, fd, false);
	ck_assert_int_eq(result_of(loop, &probe), 0);
	loop_fsync(loop, &probe.op, 9999, true);
	ck_assert_int_eq(result_of(loop, &probe), -EBADF);
	loop_destroy(loop);
}
END_TEST

START_TEST(sockets_connect_and_talk)
{
	struct loop *loop = new_loop();
	struct probe accepted = probe_on(loop, 0), probe = probe_on(loop, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "aerie-test-loop-%d", getpid());
	_cleanup_close_ int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	_cleanup_close_ int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct sockaddr *name = (const struct sockaddr *)&address;
	loop_connect(loop, &probe.op, client, name, sizeof(address));
	ck_assert_int_eq(result_of(loop, &probe), -ECONNREFUSED);
	ck_assert_int_eq(bind(listener, name, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	loop_accept(loop, &accepted.op, listener);
	loop_connect(loop, &probe.op, client, name, sizeof(address));
	ck_assert_int_eq(result_of(loop, &probe), 0);
	_cleanup_close_ int server = accepted.op.pending ? result_of(loop, &accepted) : accepted.res;
	ck_assert_int_ge(server, 0);

	char buf[8] = "";
	struct probe receiver = probe_on(loop, 0);
	loop_recv(loop, &receiver.op, server, buf, sizeof(buf), 0); /* waits, though nothing has come */
	run_ms(loop, 5);
	ck_assert(receiver.op.pending);
	loop_send(loop, &probe.op, client, "hello", 5, MSG_NOSIGNAL);
	ck_assert_int_eq(result_of(loop, &probe), 5);
	ck_assert_int_eq(receiver.op.pending ? result_of(loop, &receiver) : receiver.res, 5);
	ck_assert_str_eq(buf, "hello");
	loop_recv(loop, &receiver.op, server, buf, sizeof(buf), MSG_DONTWAIT);
	ck_assert_int_eq(result_of(loop, &receiver), -EAGAIN);

	struct iovec iov = {buf, 8};
	struct msghdr out = {.msg_iov = &iov, .msg_iovlen = 1}, in = out;
	loop_sendmsg(loop, &probe.op, server, &out, MSG_NOSIGNAL);
	ck_assert_int_eq(result_of(loop, &probe), 8);
	memset(buf, 0, sizeof(buf));
	loop_recvmsg(loop, &receiver.op, client, &in, 0);
	ck_assert_int_eq(result_of(loop, &receiver), 8);
	ck_assert_str_eq(buf, "hello");
	loop_destroy(loop);
}
END_TEST

START_TEST(a_deferred_result_comes_on_the_next_round)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	loop_defer(loop, &probe.op, -EIO);
	ck_assert_uint_eq(probe.calls, 0);
	ck_assert(probe.op.pending);
	ck_assert_int_eq(result_of(loop, &probe), -EIO);
	loop_defer(loop, &probe.op, -ENOSPC);
	ck_assert_int_eq(loop_release(loop, &probe.op), -ENOSPC);
	run_ms(loop, 2);
	ck_assert_uint_eq(probe.calls, 1);
	loop_destroy(loop);
}
END_TEST

/* ---- many at once ---- */

struct sends {
	struct probe probes[64];
	int peer;
	unsigned told, sent_at_first; /* how many of them the kernel had done when the first was told */
};

static void send_done(struct loop_op *op, int res)
{
	struct probe *probe = container_of(op, struct probe, op);
	struct sends *sends = (struct sends *)(void *)(probe - probe->enough);
	char buf[128];
	ck_assert_int_eq(res, 1);
	ck_assert_uint_eq(sends->told++, probe->enough); /* in order */
	if (sends->told == 1)
		sends->sent_at_first = (unsigned)recv(sends->peer, buf, sizeof(buf), MSG_DONTWAIT);
}

static unsigned sent_when_the_first_is_told(unsigned count)
{
	struct loop *loop = new_loop();
	struct sends sends = {.peer = -1};
	int pair[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	sends.peer = pair[1];
	for (unsigned i = 0; i < count; i++) {
		sends.probes[i] = (struct probe){.op.done = send_done, .enough = i};
		loop_send(loop, &sends.probes[i].op, pair[0], "x", 1, MSG_NOSIGNAL);
	}
	run_ms(loop, 5);
	ck_assert_uint_eq(sends.told, count);
	close_fd(pair[0]);
	close_fd(pair[1]);
	loop_destroy(loop);
	return sends.sent_at_first;
}

START_TEST(the_first_half_of_many_is_told_before_the_second_is_done)
{
	ck_assert_uint_eq(sent_when_the_first_is_told(8), 8); /* few: not worth a system call more */
	unsigned half = sent_when_the_first_is_told(64);
	ck_assert(half >= 24 && half <= 40); /* the loop has ops of its own in the queue */
}
END_TEST

/* ---- registered ---- */

START_TEST(a_registered_file_works_as_before)
{
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	char buf[8] = "";
	_cleanup_close_ int fd = new_file();
	ck_assert_int_eq(loop_register_file(loop, -1), -EBADF);
	for (unsigned round = 0; round < 3; round++) {
		ck_assert_int_eq(loop_register_file(loop, fd), 0);
		loop_write(loop, &probe.op, fd, "abc", 3, round);
		ck_assert_int_eq(result_of(loop, &probe), 3);
		loop_unregister_file(loop, fd);
		loop_unregister_file(loop, fd);
		loop_read(loop, &probe.op, fd, buf, 3, round);
		ck_assert_int_eq(result_of(loop, &probe), 3);
		ck_assert_str_eq(buf, "abc");
	}
	/* That it is the registered file that is used shows when the descriptor is another by now. */
	_cleanup_close_ int other = new_file();
	ck_assert_int_eq(loop_register_file(loop, fd), 0);
	ck_assert_int_eq(dup2(other, fd), fd);
	loop_read(loop, &probe.op, fd, buf, 3, 0);
	ck_assert_int_eq(result_of(loop, &probe), 3);
	loop_unregister_file(loop, fd);
	loop_read(loop, &probe.op, fd, buf, 3, 0);
	ck_assert_int_eq(result_of(loop, &probe), 0);
	loop_destroy(loop);
}
END_TEST

static int with_few_files(void)
{
	struct rlimit limit = {40, 40};
	char buf[4];
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1;
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	int fd = new_file();
	int high = fcntl(fd, F_DUPFD, 39);
	limit.rlim_cur = limit.rlim_max = 20; /* a table for 20 descriptors, and one of 39 */
	if (high != 39 || setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 2;
	if (loop_register_file(loop, fd) != 0 || loop_register_file(loop, high) != -EMFILE)
		return 3;
	loop_write(loop, &probe.op, high, "abc", 3, 0);
	if (result_of(loop, &probe) != 3)
		return 4;
	loop_read(loop, &probe.op, fd, buf, 3, 0);
	return result_of(loop, &probe) == 3 ? 0 : 5;
}

START_TEST(files_beyond_the_limit_work_unregistered)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(with_few_files());
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(registered_memory_is_used)
{
	enum { BYTES = 1 << 20 };
	struct loop *loop = new_loop();
	struct probe probe = probe_on(loop, 0);
	char *memory = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	const struct iovec regions[] = {{memory, 4096}, {memory + BYTES, BYTES}};
	_cleanup_close_ int fd = new_file();
	ck_assert_int_eq(loop_register_memory(loop, regions, 2), 0);
	static const size_t at[] = {0, 4090, 8192, BYTES - 2, BYTES, 2 * BYTES - 4}; /* in, across, out */
	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		memcpy(memory + at[i], "wxyz", 4);
		struct iovec iov = {memory + at[i], 4};
		loop_writev(loop, &probe.op, fd, &iov, 1, i * 10, RWF_DSYNC);
		ck_assert_int_eq(result_of(loop, &probe), 4);
		memset(memory + at[i], 0, 4);
		loop_read(loop, &probe.op, fd, memory + at[i], 4, i * 10);
		ck_assert_int_eq(result_of(loop, &probe), 4);
		ck_assert_int_eq(memcmp(memory + at[i], "wxyz", 4), 0);
	}
	ck_assert_int_eq(loop_register_memory(loop, regions, 1), 0); /* again, and less */
	loop_read(loop, &probe.op, fd, memory + BYTES, 4, 0);
	ck_assert_int_eq(result_of(loop, &probe), 4);
	ck_assert_int_eq(loop_register_memory(loop, NULL, 0), 0);
	const struct iovec nowhere = {(void *)(uintptr_t)4096, 4096};
	ck_assert_int_eq(loop_register_memory(loop, &nowhere, 1), -EFAULT);
	loop_read(loop, &probe.op, fd, memory, 4, 0);
	ck_assert_int_eq(result_of(loop, &probe), 4);
	loop_destroy(loop);
	munmap(memory, 2 * BYTES);
}
END_TEST

/* ---- busy-polling ---- */

/* A queue in memory that another thread fills; it would ring the doorbell only when that is on. */
struct queue {
	struct loop_poller poller;
	struct loop *loop;
	_Atomic unsigned work;
	unsigned done, begins, polls, ends;
	unsigned enough;
	_Atomic bool doorbells;
	struct loop_op doorbell;
	unsigned rung;
};

static bool do_work(struct queue *queue)
{
	unsigned work = atomic_exchange(&queue->work, 0);
	queue->done += work;
	if (work && queue->done >= queue->enough)
		loop_quit(queue->loop);
	return work;
}

static void queue_begin(struct loop_poller *poller)
{
	struct queue *queue = container_of(poller, struct queue, poller);
	ck_assert(queue->doorbells);
	queue->doorbells = false;
	queue->begins++;
}

static bool queue_poll(struct loop_poller *poller)
{
	struct queue *queue = container_of(poller, struct queue, poller);
	ck_assert(!queue->doorbells);
	queue->polls++;
	return do_work(queue);
}

static bool queue_end(struct loop_poller *poller)
{
	struct queue *queue = container_of(poller, struct queue, poller);
	ck_assert(!queue->doorbells);
	queue->doorbells = true;
	queue->ends++;
	return do_work(queue);
}

static void doorbell_rung(struct loop_op *op, int res)
{
	struct queue *queue = container_of(op, struct queue, doorbell);
	(void)res;
	queue->rung++;
	(void)do_work(queue);
}

static struct queue queue_on(struct loop *loop, unsigned enough)
{
	return (struct queue){.poller = {.begin = queue_begin, .poll = queue_poll, .end = queue_end},
			      .loop = loop,
			      .enough = enough,
			      .doorbells = true,
			      .doorbell.done = doorbell_rung};
}

START_TEST(nothing_is_polled_unless_asked)
{
	struct loop *loop = new_loop();
	struct queue queue = queue_on(loop, 1);
	loop_add_poller(loop, &queue.poller);
	run_ms(loop, 5);
	ck_assert_uint_eq(queue.begins, 0);
	loop_remove_poller(loop, &queue.poller);
	loop_remove_poller(loop, &queue.poller);
	loop_destroy(loop);
}
END_TEST

static void *feed(void *arg)
{
	struct queue *queue = arg;
	usleep(100);
	atomic_store(&queue->work, 1);
	if (atomic_load(&queue->doorbells))
		loop_post(queue->loop, &queue->doorbell);
	return NULL;
}

START_TEST(work_is_found_without_a_doorbell)
{
	struct loop *loop = new_loop();
	struct queue first = queue_on(loop, 1), second = queue_on(loop, 1);
	loop_add_poller(loop, &first.poller);
	loop_add_poller(loop, &second.poller);
	loop_set_poll(loop, UINT64_C(1000000000));
	/* Short sleeps make the window grow until it is long enough for the feeder; on a busy host not at
	 * once. */
	unsigned tries = 0;
	do {
		pthread_t thread;
		ck_assert_uint_lt(++tries, 1000);
		first.done = first.rung = 0;
		run_ms(loop, 2);
		pthread_create(&thread, NULL, feed, &first);
		ck_assert_int_eq(loop_run(loop), 0);
		pthread_join(thread, NULL);
		ck_assert_uint_eq(first.done, 1);
		(void)loop_release(loop, &first.doorbell); /* a doorbell that was too late */
	} while (first.rung);
	ck_assert_uint_gt(second.polls, 0);
	ck_assert_uint_eq(first.begins, first.ends);
	loop_remove_poller(loop, &second.poller);
	loop_remove_poller(loop, &first.poller);
	loop_destroy(loop);
}
END_TEST

/* Sleeps long, again and again, and remembers how often was polled until the last 10 times. */
struct sleeper {
	struct loop_op op;
	struct loop *loop;
	struct queue *queue;
	unsigned left, begins;
};

static void sleep_again(struct loop_op *op, int res)
{
	struct sleeper *sleeper = container_of(op, struct sleeper, op);
	(void)res;
	if (sleeper->left == 10)
		sleeper->begins = sleeper->queue->begins;
	if (sleeper->left-- == 0)
		loop_quit(sleeper->loop);
	else
		loop_delay(sleeper->loop, op, 1000000);
}

/* Timers, posts and quits are seen while the loop polls, and a window that finds nothing goes away. */
START_TEST(polling_ends_for_events_and_for_idleness)
{
	struct loop *loop = new_loop();
	struct queue queue = queue_on(loop, 1);
	loop_add_poller(loop, &queue.poller);
	loop_set_poll(loop, 100000);
	struct probe probe = probe_on(loop, 1);
	for (unsigned i = 0; i < 50; i++) {
		probe.enough = probe.calls + 1;
		loop_post(loop, &probe.op);
		ck_assert_int_eq(loop_run(loop), 0);
	}
	struct sleeper sleeper = {.op.done = sleep_again, .loop = loop, .queue = &queue, .left = 40};
	loop_delay(loop, &sleeper.op, 1);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_gt(sleeper.begins, 0);
	ck_assert_uint_eq(queue.begins, sleeper.begins);
	loop_remove_poller(loop, &queue.poller);
	loop_destroy(loop);
}
END_TEST

/* What the last look finds is begun before the loop sleeps. */
struct late {
	struct loop_poller poller;
	struct probe probe;
	int fd;
	unsigned ends;
};

static void late_begin(struct loop_poller *poller)
{
	(void)poller;
}

static bool late_poll(struct loop_poller *poller)
{
	(void)poller;
	return false;
}

static bool late_end(struct loop_poller *poller)
{
	struct late *late = container_of(poller, struct late, poller);
	if (late->ends++)
		return false;
	loop_write(late->probe.loop, &late->probe.op, late->fd, "x", 1, 0);
	return true;
}

START_TEST(work_found_at_the_end_is_not_left)
{
	struct loop *loop = new_loop();
	_cleanup_close_ int fd = new_file();
	struct late late = {.poller = {.begin = late_begin, .poll = late_poll, .end = late_end},
			    .probe = probe_on(loop, 1),
			    .fd = fd};
	loop_add_poller(loop, &late.poller);
	loop_set_poll(loop, 100000);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(late.probe.res, 1);
	loop_remove_poller(loop, &late.poller);
	loop_destroy(loop);
}
END_TEST

TEST_MAIN("loop_io", work_found_at_the_end_is_not_left, vectors_are_read_and_written,
	  files_are_synced_and_allocated, sockets_connect_and_talk, a_deferred_result_comes_on_the_next_round,
	  the_first_half_of_many_is_told_before_the_second_is_done, a_registered_file_works_as_before,
	  files_beyond_the_limit_work_unregistered, registered_memory_is_used, nothing_is_polled_unless_asked,
	  work_is_found_without_a_doorbell, polling_ends_for_events_and_for_idleness)
