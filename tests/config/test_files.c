/* Which files are taken as a config or as a kernel, and what is said of the others. */
#include "base/cleanup.h"
#include "config/config.h"
#include "harness.h"
#include "scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

static const char smallest[] = "{ \"boot\": { \"kernel\": \"kernel\" } }";

static char folder[64];

static const char *in_folder(const char *name)
{
	static char path[256];
	(void)snprintf(path, sizeof(path), "%s/%s", folder, name); /* no ck_assert: main uses it too */
	return path;
}

/* A file of `size` bytes: `text`, then spaces. */
static const char *make_file(const char *name, const char *text, size_t size)
{
	const char *path = in_folder(name);
	char *padded = malloc(size);
	ck_assert_ptr_nonnull(padded);
	memset(padded, ' ', size);
	memcpy(padded, text, strlen(text));
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, padded, size), (ssize_t)size);
	ck_assert_int_eq(close(fd), 0);
	free(padded);
	return path;
}

static void check_load(const char *path, int rc, const char *message)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	char want[512];
	(void)snprintf(want, sizeof(want), "%s%s%s", rc ? path : "", rc ? ": " : "", message);
	ck_assert_int_eq(config_load(path, NULL, 0, &config, &err), rc);
	ck_assert_str_eq(err.text, want);
	ck_assert_int_eq(!config, rc != 0);
	config_free(config);
}

START_TEST(a_config_is_a_readable_regular_file)
{
	make_file("kernel", "", 0);
	check_load(in_folder("none.json"), -ENOENT, "No such file or directory");
	check_load(folder, -EINVAL, "Is a directory");
	check_load("/dev/null", -EINVAL, "Not a regular file (use - for standard input)");
	ck_assert_int_eq(mkfifo(in_folder("fifo"), 0644), 0);
	check_load(in_folder("fifo"), -EINVAL, "Not a regular file (use - for standard input)");
	check_load(make_file("x.json", smallest, strlen(smallest)), 0, "");
}
END_TEST

START_TEST(a_config_has_at_most_one_mebibyte)
{
	check_load(make_file("full.json", smallest, CONFIG_BYTES_MAX), 0, "");
	check_load(make_file("over.json", smallest, CONFIG_BYTES_MAX + 1), -EFBIG,
		   "larger than 1048576 bytes");
}
END_TEST

/* root reads any file, so this one is looked at as nobody. */
START_TEST(unreadable_files_are_refused)
{
	int root = geteuid() == 0;
	make_file("secret", "", 0);
	ck_assert_int_eq(chmod(in_folder("secret"), 0), 0);
	ck_assert_int_eq(chmod(folder, 0755), 0);
	ck_assert(!root || seteuid(65534) == 0);
	check_load(in_folder("secret"), -EACCES, "Permission denied");
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	char path[256], want[640];
	(void)snprintf(path, sizeof(path), "%s", in_folder("x.json"));
	(void)snprintf(want, sizeof(want), "%s: boot.kernel: %s: Permission denied", path,
		       in_folder("secret"));
	ck_assert_int_eq(config_parse(path, "{\"boot\":{\"kernel\":\"secret\"}}", 28, NULL, 0, &config, &err),
			 -EINVAL);
	ck_assert(!root || seteuid(0) == 0);
	ck_assert_str_eq(err.text, want);
}
END_TEST

struct drip {
	int fd;
	const char *text;
};

/* A pipe gives what it has, here a byte at a time. */
static void *write_slowly(void *data)
{
	const struct drip *drip = data;
	for (const char *p = drip->text; *p; p++)
		if (write(drip->fd, p, 1) != 1)
			break;
	(void)close(drip->fd);
	return NULL;
}

static int load_stdin(const char *text, struct machine_config **ret, struct err *err)
{
	int fds[2], saved = dup(STDIN_FILENO);
	pthread_t thread;
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(dup2(fds[0], STDIN_FILENO), STDIN_FILENO);
	ck_assert_int_eq(close(fds[0]), 0);
	struct drip drip = {.fd = fds[1], .text = text};
	ck_assert_int_eq(pthread_create(&thread, NULL, write_slowly, &drip), 0);
	int rc = config_load("-", NULL, 0, ret, err);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(dup2(saved, STDIN_FILENO), STDIN_FILENO);
	ck_assert_int_eq(close(saved), 0);
	return rc;
}

START_TEST(standard_input_is_read_to_its_end)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(
		load_stdin("{ \"boot\": { \"kernel\": \"tests/golden/config/kernel\" } }", &config, &err), 0);
	ck_assert_str_eq(config->boot.kernel, "tests/golden/config/kernel");
	config_free(config);
	config = NULL;
	ck_assert_int_eq(load_stdin("{ \"boot\":", &config, &err), -EINVAL);
	ck_assert_str_eq(err.text, "<stdin>:1:10: expected a value, found the end");
}
END_TEST

START_TEST(standard_input_that_fails_is_an_error)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	int saved = dup(STDIN_FILENO), fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(dup2(fd, STDIN_FILENO), STDIN_FILENO);
	ck_assert_int_eq(config_load("-", NULL, 0, &config, &err), -EISDIR);
	ck_assert_int_eq(dup2(saved, STDIN_FILENO), STDIN_FILENO);
	ck_assert_str_eq(err.text, "standard input: Is a directory");
	(void)close(fd);
	(void)close(saved);
}
END_TEST

START_TEST(no_descriptor_stays_open)
{
	int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(close(before), 0);
	check_load(folder, -EINVAL, "Is a directory");
	check_load(in_folder("over.json"), -EFBIG, "larger than 1048576 bytes");
	check_load(in_folder("x.json"), 0, "");
	int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(after, before);
	ck_assert_int_eq(close(after), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_config_is_a_readable_regular_file,   a_config_has_at_most_one_mebibyte,
		unreadable_files_are_refused,	       standard_input_is_read_to_its_end,
		standard_input_that_fails_is_an_error, no_descriptor_stays_open};
	if (!scratch_folder(folder, sizeof(folder), "config-XXXXXX"))
		return EXIT_FAILURE;
	int status = harness_run("config/files", tests, ARRAY_LEN(tests));
	static const char *const made[] = {"kernel", "fifo", "x.json", "full.json", "over.json", "secret"};
	for (size_t i = 0; i < ARRAY_LEN(made); i++)
		(void)unlink(in_folder(made[i]));
	return rmdir(folder) == 0 ? status : EXIT_FAILURE;
}
