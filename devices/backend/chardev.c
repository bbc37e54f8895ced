/* Character devices: what the front end sees of them. */
#include "chardev_impl.h"

static const struct chardev_backend *const kinds[] = {
	[CHARDEV_NULL] = &chardev_null, [CHARDEV_STDIO] = &chardev_stdio, [CHARDEV_STDERR] = &chardev_stderr,
	[CHARDEV_FILE] = &chardev_file, [CHARDEV_PTY] = &chardev_pty,	  [CHARDEV_UNIX] = &chardev_unix,
};

static const char *const kind_names[] = {
	[CHARDEV_NULL] = "null", [CHARDEV_STDIO] = "stdio", [CHARDEV_STDERR] = "stderr",
	[CHARDEV_FILE] = "file", [CHARDEV_PTY] = "pty",	    [CHARDEV_UNIX] = "unix socket",
};

int chardev_create(const struct chardev_config *config, struct loop *loop, const struct console_keys *keys,
		   bool goes_on, struct chardev **ret, struct err *err)
{
	struct chardev *chardev = calloc(1, sizeof(*chardev));
	if (!chardev)
		return err_sys(err, -ENOMEM, "%s", kind_names[config->kind]);
	chardev->kind = kinds[config->kind];
	chardev->loop = loop;
	chardev->goes_on = goes_on;
	chardev->in_fd = chardev->out_fd = -1;
	if (keys)
		chardev->keys = *keys;
	chardev_output_init(chardev);
	chardev_input_init(chardev);
	/* Pages that no byte touches cost nothing. */
	chardev->out = malloc(CHARDEV_OUTPUT_BYTES);
	chardev->in = malloc(CHARDEV_INPUT_BYTES);

	int res = 0;
	const char *path = config->path ? config->path : kind_names[config->kind];
	if (!chardev->out || !chardev->in)
		res = err_sys(err, -ENOMEM, "%s", path);
	else if (strlen(path) >= sizeof(chardev->path))
		res = err_sys(err, -ENAMETOOLONG, "%s", path);
	else
		memcpy(chardev->path, path, strlen(path) + 1);
	if (res == 0) {
		chardev->opened = true;
		res = chardev->kind->open(chardev, config, err);
	}
	if (res < 0) {
		chardev_destroy(chardev);
		return res;
	}
	*ret = chardev;
	return 0;
}

void chardev_destroy(struct chardev *chardev)
{
	if (!chardev)
		return;
	chardev->user = NULL;
	chardev_input_disconnect(chardev);
	loop_release(chardev->loop, &chardev->resume_op);
	chardev_output_finish(chardev);
	if (chardev->opened && chardev->kind->close)
		chardev->kind->close(chardev);
	if (chardev->lost)
		log_warn("%s: %llu bytes of output were lost", chardev->path,
			 (unsigned long long)chardev->lost);
	pthread_mutex_destroy(&chardev->lock);
	free(chardev->out);
	free(chardev->in);
	free(chardev);
}

void chardev_attach(struct chardev *chardev, const struct chardev_user *user, void *owner)
{
	chardev->user = user;
	chardev->owner = owner;
	if (user)
		loop_post(chardev->loop, &chardev->resume_op); /* for input that came before */
}

const char *chardev_peer(const struct chardev *chardev)
{
	return chardev->kind == &chardev_pty ? chardev->pty.name : NULL;
}
