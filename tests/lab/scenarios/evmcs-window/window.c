/*
 * A hypervisor that stops at those places of its work where a save used to be lost, says "window N: ...",
 * waits there for a byte on COM1, goes on, and says "window N ok" or "window N FAILED" and why. What a KVM
 * below believes of an enlightened VMCS after it was saved and restored is told in docs/hyperv.md. Runs on
 * the entry code and linker script of tests/native.
 */
#include "guest.h"
#include "l2.h"
#include "machine.h"

struct window {
	const char *what;
	bool (*go)(void);   /* there */
	void (*stop)(void); /* NULL: go() does it */
	bool (*on)(void);   /* from there */
};

static struct l2 a, b;
static const struct window *current;
static unsigned current_number;

/* What a hypervisor does between an exit and the next entry, when it does not stop. */
static void handle_exit(struct l2 *l2)
{
	l2_mark_clean(l2);
	l2_skip(l2);
}

/* Some turns of one L2. */
static bool run(struct l2 *l2, unsigned turns)
{
	l2_select(l2);
	for (unsigned i = 0; i < turns; i++) {
		if (!l2_enter(l2))
			return false;
		handle_exit(l2);
	}
	return true;
}

static void announce(void)
{
	say("window ");
	say_number(current_number);
	say(": ");
	say(current->what);
	say("\n");
}

static void stop_polling(void)
{
	announce();
	wait_polling();
}

static void stop_halted(void)
{
	announce();
	wait_halted();
}

/* L0 has written to the eVMCS, L1 only read it. */
static bool go_exited(void)
{
	return run(&a, 3) && l2_enter(&a);
}

static bool on_exited(void)
{
	handle_exit(&a);
	return run(&a, 2) && run(&b, 2) && run(&a, 1);
}

/* The next thing that L0 sees of L1 is VMRESUME. */
static bool go_marked(void)
{
	return run(&a, 3);
}

static bool on_marked(void)
{
	return run(&a, 2) && run(&b, 2) && run(&a, 1);
}

/* L0 last ran A, and B before; it has not heard that B is to be next. */
static bool go_between(void)
{
	if (!run(&a, 3) || !run(&b, 5) || !run(&a, 2))
		return false;
	l2_select(&b);
	return true;
}

static bool on_between(void)
{
	return run(&b, 2) && run(&a, 2) && run(&b, 1);
}

/* L0 has never seen B. */
static bool go_first(void)
{
	if (!run(&a, 3))
		return false;
	l2_select(&b);
	return true;
}

/* L0 knows of an eVMCS in the assist page, and it is none of its business. */
static bool go_cleared(void)
{
	if (!run(&a, 3))
		return false;
	l2_clear(&a);
	return true;
}

/* What L1 wrote is in its memory only. */
static bool go_changed(void)
{
	if (!run(&b, 3) || !run(&a, 3))
		return false;
	l2_change(&a);
	l2_change(&b);
	return true;
}

/* L2 itself stops: its ports are L0's. */
static bool go_running(void)
{
	if (!run(&b, 2) || !run(&a, 2))
		return false;
	a.errand = stop_polling;
	return run(&a, 1);
}

/* Nobody stops: whoever saves or moves this meets L1, L2 and L0 wherever they are. */
static bool go_working(void)
{
	bool ok = true;
	l2_give_work(&a);
	l2_give_work(&b);
	announce();
	timer_start();
	for (unsigned turn = 1; ok; turn++) {
		struct l2 *l2 = turn % 5 < 3 ? &a : &b;
		l2_select(l2);
		ok = l2_work(l2);
		if (turn % 64 == 0 && byte_came())
			break;
	}
	timer_stop();
	return ok;
}

static bool on_working(void)
{
	l2_select(&a);
	return l2_work(&a);
}

static const struct window windows[] = {
	{"A has exited", go_exited, stop_polling, on_exited},
	{"A has exited, and its fields are marked as clean", go_marked, stop_polling, on_marked},
	{"A has exited, B is to run", go_between, stop_polling, on_between},
	{"A has exited, B is to run, L1 is halted", go_between, stop_halted, on_between},
	{"A has exited; saved twice", go_exited, stop_polling, on_exited},
	{"A has exited, B is to run for the first time", go_first, stop_polling, on_between},
	{"A is cleared", go_cleared, stop_polling, on_marked},
	{"A and B are changed", go_changed, stop_polling, on_marked},
	{"A runs", go_running, NULL, on_marked},
	{"A has exited, L1 is halted", go_exited, stop_halted, on_exited},
	{"A and B work", go_working, NULL, on_working},
};

enum { WINDOWS = sizeof(windows) / sizeof(windows[0]) };

/* Each window has two new L2s, so that none suffers from what another found. */
static bool go_through(const struct window *window, unsigned number)
{
	current = window;
	current_number = number;
	l2_create(&a, 0);
	l2_create(&b, 1);
	if (!window->go())
		return false;
	if (window->stop)
		window->stop();
	return window->on();
}

static void say_l2(const struct l2 *l2, const char *name)
{
	say(name);
	say(" counts ");
	say_number(l2->count);
	if (!l2->wrong)
		return;
	say(", then ");
	say(l2->wrong);
	say(" ");
	say_hex(l2->value);
	say(" at RIP ");
	say_hex((uint32_t)l2->evmcs->guest_rip);
}

uint8_t payload(uint32_t magic, uint32_t info)
{
	(void)magic, (void)info;
	machine_set_up();
	if (!vmx_on())
		power_off();
	for (unsigned i = 0; i < WINDOWS; i++) {
		bool ok = go_through(&windows[i], i + 1);
		say("window ");
		say_number(i + 1);
		say(ok ? " ok: " : " FAILED: ");
		say_l2(&a, "A");
		say_l2(&b, ", B");
		say("\n");
	}
	power_off();
}
