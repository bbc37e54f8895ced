/*
 * Busy-polling. A wake-up costs more than a short wait; how long to wait is learned, as KVM does for halted
 * vCPUs: the window grows when a sleep turned out short enough to have been polled through, and shrinks when
 * it did not.
 */
#include "loop_impl.h"

enum { WINDOW_START_NS = 4000 };

void loop_set_poll(struct loop *loop, uint64_t most_ns)
{
	loop->poll_most_ns = most_ns;
	loop->poll_ns = most_ns < WINDOW_START_NS ? most_ns : WINDOW_START_NS;
}

void loop_add_poller(struct loop *loop, struct loop_poller *poller)
{
	poller->next = loop->pollers;
	loop->pollers = poller;
}

void loop_remove_poller(struct loop *loop, struct loop_poller *poller)
{
	for (struct loop_poller **at = &loop->pollers; *at; at = &(*at)->next) {
		if (*at == poller) {
			*at = poller->next;
			return;
		}
	}
}

static bool look(struct loop *loop)
{
	bool found = false;
	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next)
		found |= poller->poll(poller);
	loop_reap(loop); /* posts and loop_quit come this way, too */
	return found || loop->ready.first;
}

bool loop_busy_poll(struct loop *loop)
{
	uint64_t end = loop_now_ns() + loop->poll_ns;
	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next)
		poller->begin(poller);
	bool found;
	do {
		__builtin_ia32_pause();
		found = look(loop);
	} while (!found && loop_now_ns() < end);
	for (struct loop_poller *poller = loop->pollers; poller; poller = poller->next)
		found |= poller->end(poller);
	return found;
}

void loop_slept(struct loop *loop, uint64_t ns)
{
	if (ns < loop->poll_most_ns) {
		loop->poll_ns = loop->poll_ns ? loop->poll_ns * 2 : WINDOW_START_NS;
		if (loop->poll_ns > loop->poll_most_ns)
			loop->poll_ns = loop->poll_most_ns;
	} else {
		loop->poll_ns /= 2;
	}
}
