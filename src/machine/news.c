/*
 * What devices have to tell, on its way to the machine's observers.
 *
 * A guest can cause news as fast as it likes (a balloon that it blows up and lets shrink, writes to a full
 * disk), and a device tells on its own thread. So the device keeps a bit for each kind, and observers hear of
 * what came since the last time, once a second at most.
 */
#include "base/cleanup.h"
#include "machine.h"

#define NEWS_APART_NS UINT64_C(1000000000)

void machine_news(void *owner, struct device *device, unsigned news)
{
	struct machine *machine = owner;
	/* Before the post: whoever comes for the bits after it sees them. */
	if ((atomic_fetch_or(&device->news, news) & news) != news)
		loop_post(machine->loop, &machine->news_op);
}

static void pass_on(struct machine *machine)
{
	machine->news_ns = loop_now_ns();
	for (size_t i = 0; i < machine->device_count; i++) {
		unsigned news = atomic_exchange(&machine->devices[i]->news, 0);
		for (struct machine_observer *at = machine->observers, *next; news && at; at = next) {
			next = at->next; /* it may leave */
			if (at->news)
				at->news(at, machine->devices[i], news);
		}
	}
}

static void on_news(struct loop_op *op, int res)
{
	struct machine *machine = container_of(op, struct machine, news_op);
	uint64_t since = loop_now_ns() - machine->news_ns;
	(void)res;
	if (!machine->news_ns || since >= NEWS_APART_NS)
		pass_on(machine);
	else if (!machine->later_op.pending)
		loop_delay(machine->loop, &machine->later_op, NEWS_APART_NS - since);
}

static void on_later(struct loop_op *op, int res)
{
	(void)res;
	pass_on(container_of(op, struct machine, later_op));
}

void machine_news_init(struct machine *machine)
{
	machine->news_op.done = on_news;
	machine->later_op.done = on_later;
}

void machine_news_end(struct machine *machine)
{
	if (!machine->loop)
		return;
	(void)loop_release(machine->loop, &machine->news_op);
	(void)loop_release(machine->loop, &machine->later_op);
}
