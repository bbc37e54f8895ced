/* One device from the registry on fakes of its own: what the tests of a single device begin and end with. */
#ifndef AERIE_TESTS_DEVICES_ONE_H
#define AERIE_TESTS_DEVICES_ONE_H

#include "fake.h"

struct one {
	struct fake fake;
	const struct device_class *class;
	struct device *device;
};

static inline void one_init(struct one *one, const char *name, const struct machine_config *machine)
{
	fake_init(&one->fake);
	one->class = NULL;
	for (size_t i = 0; device_registry[i]; i++)
		if (!strcmp(device_registry[i]->name, name))
			one->class = device_registry[i];
	ck_assert_msg(one->class != NULL, "%s is not in the registry", name);
	const void *config = one->class->config(machine, 0);
	ck_assert_ptr_nonnull(config);
	int r = one->class->create(config, 0, &one->fake.services, &one->device, &one->fake.err);
	ck_assert_msg(r == 0, "%s: %s", name, one->fake.err.text);
}

static inline void one_finish(struct one *one)
{
	one->class->destroy(one->device);
	fake_finish(&one->fake);
}

static inline uint32_t one_in(struct one *one, uint16_t port, unsigned size)
{
	return fake_in(&one->fake, port, size);
}

static inline void one_out(struct one *one, uint16_t port, unsigned size, uint32_t value)
{
	fake_out(&one->fake, port, size, value);
}

/* How often the machine was asked for something since the last question; always for `request`. */
static inline unsigned one_requests(struct one *one, enum machine_request request)
{
	unsigned requests = one->fake.requests;
	ck_assert(requests == 0 || one->fake.request == request);
	one->fake.requests = 0;
	return requests;
}

/* A new device with the saved state of `from`, as after a snapshot. Restoring returns 0. */
static inline void one_init_copy(struct one *copy, const struct one *from,
				 const struct machine_config *machine)
{
	_Alignas(8) uint8_t regs[1024];
	ck_assert_uint_le(from->class->state->size, sizeof(regs));
	from->class->save(from->device, regs);
	one_init(copy, from->class->name, machine);
	ck_assert_int_eq(copy->class->restore(copy->device, regs, &copy->fake.err), 0);
}

#endif
