/*
 * A UNIX socket that aerie listens on. One client at a time: others wait in the backlog until it hangs up.
 * Without a client output is dropped; a client that reads slowly holds the guest's transmitter back, as a
 * wire would.
 */
#include "chardev_impl.h"

#define ACCEPT_AGAIN_NS 200000000ULL

static void accept_next(struct chardev *chardev)
{
	loop_accept(chardev->loop, &chardev->socket.accept, chardev->socket.listener.fd);
}

static void accepted(struct loop_op *op, int res)
{
	struct chardev *chardev = container_of(op, struct chardev, socket.accept);
	if (res < 0) {
		/* The client was gone before we came (ECONNABORTED), or descriptors are short (EMFILE). */
		if (!chardev->complained)
			log_warn("%s: accept: %s; trying again", chardev->path, strerror(-res));
		chardev->complained = true;
		loop_delay(chardev->loop, &chardev->socket.again, ACCEPT_AGAIN_NS);
		return;
	}
	chardev->complained = false;
	chardev->socket.client_fd = res;
	chardev_output_connect(chardev, res);
	chardev_input_connect(chardev, res);
}

static void accept_again(struct loop_op *op, int res)
{
	(void)res;
	accept_next(container_of(op, struct chardev, socket.again));
}

static void client_gone(struct chardev *chardev, int code)
{
	(void)code; /* the end of its stream, EPIPE, ECONNRESET: all the same to us */
	chardev_input_disconnect(chardev);
	chardev_output_disconnect(chardev);
	chardev->socket.client_fd = close_fd(chardev->socket.client_fd);
	accept_next(chardev);
}

static int open_unix(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	struct chardev_unix *unix_socket = &chardev->socket;
	unix_socket->accept.done = accepted;
	unix_socket->again.done = accept_again;
	unix_socket->client_fd = -1;
	int r = unix_socket_listen(config->path, 0777, 1, &unix_socket->listener, err);
	if (r < 0)
		return r;
	accept_next(chardev);
	return 0;
}

static void close_unix(struct chardev *chardev)
{
	struct chardev_unix *unix_socket = &chardev->socket;
	int fd = loop_release(chardev->loop, &unix_socket->accept);
	if (fd > 0) /* it came in just now */
		close_fd(fd);
	loop_release(chardev->loop, &unix_socket->again);
	close_fd(unix_socket->client_fd);
	unix_socket_unlisten(&unix_socket->listener);
}

const struct chardev_backend chardev_unix = {.open = open_unix, .close = close_unix, .hung_up = client_gone};
