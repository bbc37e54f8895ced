/*
 * Standard input and output. When input is a terminal it is put into raw mode, so that every key, Ctrl-C too,
 * goes to the guest; Ctrl-A begins a key for aerie, as in QEMU. When it is not a terminal, bytes pass as they
 * are.
 *
 * In the background (aerie run … &) the terminal belongs to the shell: nothing is set and nothing is read,
 * for either would stop the process (SIGTTOU, SIGTTIN). Once it is brought to the foreground, raw mode begins
 * with the next input.
 */
#include "chardev_impl.h"

#define CTRL_A 0x01

/*
 * The process has one standard input, and a signal handler must be able to put it back without being handed
 * anything: this is the second mutable global of aerie, after the log level. `saved` is written before `raw`
 * is set.
 */
static struct {
	struct termios saved;
	_Atomic bool raw;
} console;

static bool in_foreground(void)
{
	pid_t owner = tcgetpgrp(STDIN_FILENO);
	return owner < 0 /* not the terminal of our session, so no job control */ || owner == getpgrp();
}

static void make_raw(void)
{
	if (atomic_load(&console.raw) || tcgetattr(STDIN_FILENO, &console.saved) < 0)
		return;
	/* Not cfmakeraw: output keeps its processing, since our own messages go there too. */
	struct termios raw = console.saved;
	raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
	raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	atomic_store(&console.raw, true);
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

void chardev_restore_terminal(void)
{
	int saved_errno = errno;
	if (atomic_load(&console.raw) && in_foreground()) {
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &console.saved);
		atomic_store(&console.raw, false);
	}
	errno = saved_errno;
}

static int open_stdio(struct chardev *chardev, const struct chardev_config *config, struct err *err)
{
	(void)config;
	(void)err;
	bool is_terminal = isatty(STDIN_FILENO);
	chardev->terminal.is_terminal = chardev->reads_on = is_terminal;
	if (is_terminal && in_foreground())
		make_raw();
	chardev_input_connect(chardev, STDIN_FILENO);
	chardev_output_connect(chardev, STDOUT_FILENO);
	return 0;
}

static void close_stdio(struct chardev *chardev)
{
	if (chardev->terminal.is_terminal)
		chardev_restore_terminal();
}

static bool may_read(struct chardev *chardev)
{
	if (!chardev->terminal.is_terminal)
		return true;
	if (!in_foreground())
		return false;
	make_raw();
	return true;
}

static void help(struct chardev *chardev)
{
	static const char text[] = "\r\nCtrl-A x  end aerie\r\n"
				   "Ctrl-A p  power button\r\n"
				   "Ctrl-A r  reset\r\n"
				   "Ctrl-A b  break\r\n"
				   "Ctrl-A a  Ctrl-A itself, as does Ctrl-A twice\r\n"
				   "Ctrl-A h  this help\r\n";
	(void)chardev_write(chardev, text, sizeof(text) - 1);
}

static void act(struct chardev *chardev, enum console_action action)
{
	if (chardev->keys.action)
		chardev->keys.action(chardev->keys.owner, action);
}

/* The key after Ctrl-A. True when it stands for a Ctrl-A that the guest shall get. */
static bool escape_key(struct chardev *chardev, uint8_t key)
{
	switch (key) {
	case CTRL_A:
	case 'a':
		return true;
	case 'x':
		act(chardev, CONSOLE_QUIT);
		break;
	case 'p':
		act(chardev, CONSOLE_POWER_BUTTON);
		break;
	case 'r':
		act(chardev, CONSOLE_RESET);
		break;
	case 'b':
		if (chardev->user && chardev->user->send_break)
			chardev->user->send_break(chardev->owner);
		break;
	case 'h':
	case '?':
		help(chardev);
		break;
	default:
		break;
	}
	return false;
}

static size_t take_keys(struct chardev *chardev, uint8_t *data, size_t len)
{
	struct chardev_terminal *terminal = &chardev->terminal;
	size_t kept = 0;
	if (!terminal->is_terminal)
		return len;
	for (size_t i = 0; i < len; i++) {
		uint8_t key = data[i];
		if (terminal->escape) {
			terminal->escape = false;
			if (escape_key(chardev, key))
				data[kept++] = CTRL_A;
		} else if (key == CTRL_A) {
			terminal->escape = true;
		} else {
			data[kept++] = key;
		}
	}
	return kept;
}

const struct chardev_backend chardev_stdio = {
	.open = open_stdio, .close = close_stdio, .may_read = may_read, .filter = take_keys};
