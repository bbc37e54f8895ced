/* Output only: nothing, standard error, a file. */
#include "chardev_impl.h"

#include <fcntl.h>

static int open_null(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	(void)chardev; /* stays disconnected: takes and drops everything */
	(void)config;
	(void)err;
	return 0;
}

static int open_stderr(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	(void)config;
	(void)err;
	chardev_output_connect(chardev, STDERR_FILENO);
	return 0;
}

/* A machine that starts begins it anew, as QEMU's file back end does. One that is restored, or arrives, goes
 * on with it: what the guest wrote before would be lost, and where the machine comes from another aerie on
 * this host, that one still writes to it. A FIFO works when its reader is there. */
static int open_file(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	int anew = chardev->goes_on ? O_APPEND : O_TRUNC;
	int fd = open(config->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | anew, 0644);
	if (fd < 0)
		return err_sys(err, -errno, "%s", config->path);
	chardev_output_connect(chardev, fd);
	return 0;
}

static void close_file(struct chardev *chardev)
{
	chardev->out_fd = close_fd(chardev->out_fd);
}

const struct chardev_backend chardev_null = {.open = open_null};
const struct chardev_backend chardev_stderr = {.open = open_stderr};
const struct chardev_backend chardev_file = {.open = open_file, .close = close_file};
