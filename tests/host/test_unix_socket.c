/* Listening on a UNIX socket: who may connect, what is in the way, and whose file is removed. */
#include "base/cleanup.h"
#include "host/unix_socket.h"

#include "harness.h"
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static char folder[64];

static void in_folder(void)
{
	ck_assert_ptr_nonnull(scratch_folder(folder, sizeof(folder), "socket-XXXXXX"));
	ck_assert_int_eq(chdir(folder), 0);
}

static void remove_folder(void)
{
	(void)unlink("s");
	(void)unlink("other");
	ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(the_file_has_its_mode_from_the_first_moment)
{
	struct unix_listener listener;
	struct stat file;
	struct err err = ERR_INIT;
	in_folder();
	(void)umask(022);
	ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &listener, &err), 0);
	ck_assert_int_eq(stat("s", &file), 0);
	ck_assert_uint_eq(file.st_mode & 07777, 0600);
	unix_socket_unlisten(&listener);
	ck_assert_int_eq(stat("s", &file), -1);
	unix_socket_unlisten(&listener); /* twice is fine */

	ck_assert_int_eq(unix_socket_listen("s", 0777, 1, &listener, &err), 0);
	ck_assert_int_eq(stat("s", &file), 0);
	ck_assert_uint_eq(file.st_mode & 07777, 0755);
	unix_socket_unlisten(&listener);
	remove_folder();
}
END_TEST

START_TEST(a_dead_socket_gives_way_a_live_one_does_not)
{
	struct unix_listener listener, second;
	struct err err = ERR_INIT;
	struct stat file;
	in_folder();
	ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &listener, &err), 0);
	ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &second, &err), -EADDRINUSE);
	ck_assert_str_eq(err.text, "s: another process listens there");
	unix_socket_unlisten(&second);
	ck_assert_int_eq(stat("s", &file), 0); /* the other's file stays */

	listener.fd = close_fd(listener.fd); /* as if killed */
	err = ERR_INIT;
	ck_assert_int_eq(unix_socket_listen("other", 0600, 1, &second, &err), 0);
	ck_assert_int_eq(rename("other", "s"), 0);
	unix_socket_unlisten(&listener); /* not ours any more */
	ck_assert_int_eq(stat("s", &file), 0);
	second.fd = close_fd(second.fd);
	ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &listener, &err), 0);
	unix_socket_unlisten(&listener);
	remove_folder();
}
END_TEST

START_TEST(what_is_no_socket_stays)
{
	struct unix_listener listener;
	struct err err = ERR_INIT;
	char path[200];
	in_folder();
	(void)close_fd(open("s", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &listener, &err), -EADDRINUSE);
	ck_assert_str_eq(err.text, "s: exists and is not a socket");
	unix_socket_unlisten(&listener);
	ck_assert_int_eq(access("s", F_OK), 0);

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	err = ERR_INIT;
	ck_assert_int_eq(unix_socket_listen(path, 0600, 1, &listener, &err), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(err.text, "at most 107 characters"));
	unix_socket_unlisten(&listener);
	remove_folder();
}
END_TEST

/* Until it is welcome, a client finds no file. Ends with 0, or what else it met. */
static void *knock(void *path)
{
	struct sockaddr_un address;
	struct err err = ERR_INIT;
	int r = unix_socket_address(path, &address, &err);
	do {
		_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	} while (r == ENOENT);
	return (void *)(intptr_t)r;
}

START_TEST(who_sees_the_file_is_welcome)
{
	struct unix_listener listener;
	struct err err = ERR_INIT;
	in_folder();
	for (int i = 0; i < 3000; i++) {
		pthread_t client;
		void *met;
		ck_assert_int_eq(pthread_create(&client, NULL, knock, "s"), 0);
		ck_assert_int_eq(unix_socket_listen("s", 0600, 1, &listener, &err), 0);
		ck_assert_int_eq(pthread_join(client, &met), 0);
		ck_assert_int_eq((intptr_t)met, 0);
		unix_socket_unlisten(&listener);
	}
	remove_folder();
}
END_TEST

/* There is no room for another name beside it. */
START_TEST(the_longest_path_works)
{
	struct unix_listener listener;
	struct err err = ERR_INIT;
	char path[108];
	in_folder();
	memset(path, 'x', 107);
	path[107] = '\0';
	ck_assert_msg(unix_socket_listen(path, 0600, 1, &listener, &err) == 0, "%s", err.text);
	ck_assert_ptr_null(knock(path));
	unix_socket_unlisten(&listener);
	ck_assert_int_eq(access(path, F_OK), -1);
	remove_folder();
}
END_TEST

TEST_MAIN("unix socket", who_sees_the_file_is_welcome, the_longest_path_works,
	  the_file_has_its_mode_from_the_first_moment, a_dead_socket_gives_way_a_live_one_does_not,
	  what_is_no_socket_stays)
