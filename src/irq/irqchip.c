#include "irq/irqchip.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "host/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { IRQ_LINES = 24, CHIPS = 3 };

static const uint32_t chip_ids[CHIPS] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};

struct irqchip {
	struct irq_sink sink;
	int vm_fd;
	pthread_mutex_t lock; /* keeps the order of level changes of one line that several devices share */
	uint32_t levels[IRQ_LINES]; /* a bit for each source that drives the line */
	struct kvm_irqchip power_on[CHIPS];
	struct kvm_pit_state2 pit_power_on;
};

static void irqchip_set(struct irq_sink *sink, const struct irq_line *line, bool level)
{
	struct irqchip *irqchip = container_of(sink, struct irqchip, sink);
	uint32_t bit = 1U << line->source;

	pthread_mutex_lock(&irqchip->lock);
	uint32_t *levels = &irqchip->levels[line->gsi];
	uint32_t before = *levels;
	*levels = level ? before | bit : before & ~bit;
	if (!before != !*levels) {
		struct kvm_irq_level set = {.irq = line->gsi, .level = *levels != 0};
		int r = kvm_call(irqchip->vm_fd, KVM_IRQ_LINE, &set);
		if (r < 0)
			log_error("KVM_IRQ_LINE: GSI %u: %s", line->gsi, strerror(-r));
	}
	pthread_mutex_unlock(&irqchip->lock);
}

static int chip_get(const struct irqchip *irqchip, size_t i, struct kvm_irqchip *ret, struct err *err)
{
	*ret = (struct kvm_irqchip){.chip_id = chip_ids[i]};
	int r = kvm_call(irqchip->vm_fd, KVM_GET_IRQCHIP, ret);
	return r < 0 ? err_sys(err, r, "KVM_GET_IRQCHIP: chip %zu", i) : 0;
}

static int pit_get(const struct irqchip *irqchip, struct kvm_pit_state2 *ret, struct err *err)
{
	int r = kvm_call(irqchip->vm_fd, KVM_GET_PIT2, ret);
	return r < 0 ? err_sys(err, r, "KVM_GET_PIT2") : 0;
}

static int irqchip_remember(struct irqchip *irqchip, struct err *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < CHIPS; i++)
		r = chip_get(irqchip, i, &irqchip->power_on[i], err);
	return r < 0 ? r : pit_get(irqchip, &irqchip->pit_power_on, err);
}

int irqchip_create(int vm_fd, struct irqchip **ret, struct err *err)
{
	/* The speaker port 0x61 is part of the PIT: its channel 2 is how kernels calibrate the TSC. */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int r = kvm_call_value(vm_fd, KVM_CREATE_IRQCHIP, 0);
	if (r < 0)
		return err_sys(err, r, "KVM_CREATE_IRQCHIP");
	r = kvm_call(vm_fd, KVM_CREATE_PIT2, &pit);
	if (r < 0)
		return err_sys(err, r, "KVM_CREATE_PIT2");

	struct irqchip *irqchip = calloc(1, sizeof(*irqchip));
	if (!irqchip)
		return err_sys(err, -ENOMEM, "irqchip");
	irqchip->sink.set = irqchip_set;
	irqchip->vm_fd = vm_fd;
	pthread_mutex_init(&irqchip->lock, NULL);
	r = irqchip_remember(irqchip, err);
	if (r < 0) {
		irqchip_destroy(irqchip);
		return r;
	}
	*ret = irqchip;
	return 0;
}

void irqchip_destroy(struct irqchip *irqchip)
{
	if (!irqchip)
		return;
	pthread_mutex_destroy(&irqchip->lock);
	free(irqchip);
}

struct irq_sink *irqchip_sink(struct irqchip *irqchip)
{
	return &irqchip->sink;
}

/* All lines low, then the chips. The lock is held. */
static int chips_put(struct irqchip *irqchip, struct kvm_irqchip chips[CHIPS], struct kvm_pit_state2 *pit)
{
	int r = 0;
	for (uint32_t gsi = 0; r >= 0 && gsi < IRQ_LINES; gsi++) {
		struct kvm_irq_level low = {.irq = gsi};
		irqchip->levels[gsi] = 0;
		r = kvm_call(irqchip->vm_fd, KVM_IRQ_LINE, &low);
	}
	for (size_t i = 0; r >= 0 && i < CHIPS; i++)
		r = kvm_call(irqchip->vm_fd, KVM_SET_IRQCHIP, &chips[i]);
	return r < 0 ? r : kvm_call(irqchip->vm_fd, KVM_SET_PIT2, pit);
}

int irqchip_reset(struct irqchip *irqchip, struct err *err)
{
	pthread_mutex_lock(&irqchip->lock);
	int r = chips_put(irqchip, irqchip->power_on, &irqchip->pit_power_on);
	pthread_mutex_unlock(&irqchip->lock);
	return r < 0 ? err_sys(err, r, "reset of the interrupt chips") : 0;
}

static const struct state_field fields[] = {
	STATE_ARRAY(struct irqchip_regs, pic_master),
	STATE_ARRAY(struct irqchip_regs, pic_slave),
	STATE_ARRAY(struct irqchip_regs, ioapic),
	STATE_ARRAY(struct irqchip_regs, pit),
};
const struct state_table irqchip_state = STATE_TABLE("irqchip", struct irqchip_regs, fields);

int irqchip_save(struct irqchip *irqchip, struct irqchip_regs *regs, struct err *err)
{
	struct kvm_irqchip chips[CHIPS];
	struct kvm_pit_state2 pit = {0};
	pthread_mutex_lock(&irqchip->lock);
	int r = 0;
	for (size_t i = 0; r == 0 && i < CHIPS; i++)
		r = chip_get(irqchip, i, &chips[i], err);
	if (r == 0)
		r = pit_get(irqchip, &pit, err);
	pthread_mutex_unlock(&irqchip->lock);
	if (r < 0)
		return r;
	memcpy(regs->pic_master, &chips[0].chip.pic, sizeof(regs->pic_master));
	memcpy(regs->pic_slave, &chips[1].chip.pic, sizeof(regs->pic_slave));
	memcpy(regs->ioapic, &chips[2].chip.ioapic, sizeof(regs->ioapic));
	memcpy(regs->pit, &pit, sizeof(regs->pit));
	return 0;
}

int irqchip_restore(struct irqchip *irqchip, const struct irqchip_regs *regs, struct err *err)
{
	struct kvm_irqchip chips[CHIPS] = {0};
	struct kvm_pit_state2 pit;
	for (size_t i = 0; i < CHIPS; i++)
		chips[i].chip_id = chip_ids[i];
	memcpy(&chips[0].chip.pic, regs->pic_master, sizeof(regs->pic_master));
	memcpy(&chips[1].chip.pic, regs->pic_slave, sizeof(regs->pic_slave));
	memcpy(&chips[2].chip.ioapic, regs->ioapic, sizeof(regs->ioapic));
	memcpy(&pit, regs->pit, sizeof(regs->pit));
	pthread_mutex_lock(&irqchip->lock);
	int r = chips_put(irqchip, chips, &pit);
	pthread_mutex_unlock(&irqchip->lock);
	return r < 0 ? err_sys(err, r, "state of the interrupt chips") : 0;
}
