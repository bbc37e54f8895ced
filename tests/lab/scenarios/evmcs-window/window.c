/*
 * A hypervisor that stops at those places of its work where a save used to be lost, says "window N: ...",
 * waits there for a byte on COM1, goes on, and says "window N ok" or "window N FAILED" and why. What a KVM
 * below believes of an enlightened VMCS after it was saved and restored is told in docs/hyperv.md. Runs on
 * the entry code and linker script of tests/native.
 */
#include "guest.h"
#include "l2.h"
#include "machine.h"

static struct l2 a, b;

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

static void announce(unsigned window, const char *what)
{
	say("window ");
	say_number(window);
	say(": ");
	say(what);
	say("\n");
}

/* Nothing that L2 changed has been marked yet: L0 has written to the eVMCS, L1 only read it. */
static bool before_the_mark(unsigned window)
{
	if (!run(&a, 3) || !l2_enter(&a))
		return false;
	announce(window, "A has exited");
	wait_polling();
	handle_exit(&a);
	return run(&a, 2) && run(&b, 2) && run(&a, 1);
}

/* The next thing that L0 sees of L1 is VMRESUME. */
static bool after_the_mark(unsigned window)
{
	if (!run(&a, 3))
		return false;
	announce(window, "A has exited, and all its fields are marked as known");
	wait_polling();
	return run(&a, 2) && run(&b, 2) && run(&a, 1);
}

/* L0 last ran A and has not heard of the change to B, which it knows, too. */
static bool between_two(unsigned window, const char *what, void (*wait)(void))
{
	if (!run(&a, 3) || !run(&b, 5) || !run(&a, 2))
		return false;
	l2_select(&b);
	announce(window, what);
	wait();
	return run(&b, 2) && run(&a, 2) && run(&b, 1);
}

static bool go_through(unsigned window)
{
	l2_create(&a, 0);
	l2_create(&b, 1);
	switch (window) {
	case 1:
	case 5: /* the host does more to it there */
		return before_the_mark(window);
	case 2:
		return after_the_mark(window);
	case 3:
		return between_two(window, "A has exited, B is to run", wait_polling);
	default:
		return between_two(window, "A has exited, B is to run, L1 is halted", wait_halted);
	}
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
	for (unsigned window = 1; window <= 5; window++) {
		bool ok = go_through(window);
		say("window ");
		say_number(window);
		say(ok ? " ok: " : " FAILED: ");
		say_l2(&a, "A");
		say_l2(&b, ", B");
		say("\n");
	}
	power_off();
}
